package availability

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"studioworker/worker/observe"
	"studioworker/worker/protocol"
)

// computer is the machine and the person, as a test wants them.
type computer struct {
	mu        sync.Mutex
	settings  Settings
	lastInput time.Time
	inputErr  error
	battery   bool
	powerErr  error
	free      uint64
	diskErr   error
	samples   int // of the presence
	powers    int // of the power
}

func (m *computer) set(change func(*computer)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(m)
}

func (m *computer) wishes() Settings {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.settings
}

func (m *computer) IdleFor(context.Context) (time.Duration, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.samples++
	return time.Since(m.lastInput), m.inputErr
}

func (m *computer) OnBattery(context.Context) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.powers++
	return m.battery, m.powerErr
}

func (m *computer) room() (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.free, m.diskErr
}

// fixture is a controller of such a machine.
type fixture struct {
	*Controller
	computer

	t    *testing.T // of the bubble
	slot observe.Slot[observe.Availability]
	log  bytes.Buffer
}

func prepare() *fixture {
	f := &fixture{}
	f.lastInput, f.free, f.computer.settings.ThresholdGB = time.Now(), 100*gib, 12
	f.Controller = New(Config{
		Slot: &f.slot, Settings: f.wishes, Presence: &f.computer, Power: &f.computer, FreeDisk: f.room,
		Log: slog.New(slog.NewTextHandler(&f.log, nil)),
	})
	return f
}

// run runs the controller in a bubble until test returns.
func run(t *testing.T, test func(f *fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := prepare()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- f.Run(ctx) }()
		synctest.Wait()
		f.t = t
		test(f)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// wait lets time pass, and everything happen that happens then.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// sees checks the slot without asking the controller, which would look afresh.
func (f *fixture) sees(t *testing.T, block observe.Block) {
	t.Helper()
	if got := f.slot.Get(); got.Block != block {
		t.Errorf("after %v: block %q, want %q", time.Since(midnight()), got.Block, block)
	}
}

func (f *fixture) says(t *testing.T, text string, times int) {
	t.Helper()
	if n := strings.Count(f.log.String(), text); n != times {
		t.Errorf("%q was said %d times, want %d:\n%s", text, n, times, f.log.String())
	}
}

// midnight is when a bubble begins: a Saturday.
func midnight() time.Time { return time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC) }

// TestEveryCombination goes through all sets of reasons. The one that weighs most
// gives the sentence and the reject; any but the person's presence turns
// autoEnabled off.
func TestEveryCombination(t *testing.T) {
	reasons := []struct {
		name     string
		bring    func(*fixture)
		block    observe.Block
		sentence string
		code     protocol.RejectCode
		reject   string
	}{
		{
			"stopping", func(f *fixture) { f.Stop() }, observe.BlockStopping,
			"Stopping: no new jobs", protocol.RejectPaused, "worker paused by operator",
		},
		{
			"paused", func(f *fixture) { f.PauseUntil(midnight().Add(90 * time.Minute)) }, observe.BlockPaused,
			"Paused by you until 01:30", protocol.RejectPaused, "worker paused by operator",
		},
		{
			"disk", func(f *fixture) { f.free = 4 * gib / 10 }, observe.BlockDiskFull,
			"Disk almost full: 0.3 GB free, 1 GB needed", protocol.RejectBusy, "worker busy: its disk is almost full: 0.3 GB free, 1 GB needed",
		},
		{
			"hours", func(f *fixture) { f.computer.settings.WeeklyHours = []string{"mon 18:00-19:00"} }, observe.BlockHours,
			"Outside your hours: next at Mon 18:00", protocol.RejectPaused, "worker paused: outside its weekly hours",
		},
		{
			"battery", func(f *fixture) { f.computer.settings.PauseOnBattery, f.onBattery = true, true }, observe.BlockBattery,
			"On battery: waiting for mains power", protocol.RejectPaused, "worker paused: on battery power",
		},
		{
			"person", func(f *fixture) { f.computer.settings.OnlyWhenIdle, f.presence = true, protocol.PresenceActive }, observe.BlockUserActive,
			"Waiting: you are using this computer", protocol.RejectPaused, "only when idle: the person is using this computer",
		},
	}
	for set := range 1 << len(reasons) {
		name, first, enabled := "none", -1, true
		for i, r := range reasons {
			if set&(1<<i) == 0 {
				continue
			}
			enabled = enabled && r.block == observe.BlockUserActive
			if first < 0 {
				first, name = i, r.name
			} else {
				name += " " + r.name
			}
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := prepare()
				for i, r := range reasons {
					if set&(1<<i) != 0 {
						r.bring(f)
					}
				}
				reject, code, refused := f.Refusal()
				got := f.slot.Get()
				sentence := observe.Sentence(got, time.Now())
				if f.AutoEnabled() != enabled || refused != (first >= 0) {
					t.Errorf("enabled %v, refused %v", f.AutoEnabled(), refused)
				}
				if first < 0 {
					if got != (observe.Availability{}) || sentence != "Ready for jobs" || reject != "" || code != "" {
						t.Errorf("got %+v, %q, %q, %q", got, sentence, reject, code)
					}
					return
				}
				if r := reasons[first]; got.Block != r.block || sentence != r.sentence || code != r.code || reject != r.reject {
					t.Errorf("got %q, %q, %q, %q; want %q, %q, %q, %q", got.Block, sentence, code, reject, r.block, r.sentence, r.code, r.reject)
				}
			})
		})
	}
}

func TestPause(t *testing.T) {
	run(t, func(f *fixture) {
		t := f.t
		f.Pause()
		f.Pause()
		f.sees(t, observe.BlockPaused)
		wait(1000 * time.Hour)
		f.sees(t, observe.BlockPaused)
		f.Resume()
		f.Resume()
		f.sees(t, observe.BlockNone)
		f.says(t, "claiming paused by operator", 1) // spec #53, #54
		f.says(t, "claiming resumed by operator", 1)
		f.says(t, "availability changed", 0)
	})
}

func TestPauseForATimeEndsByItself(t *testing.T) {
	run(t, func(f *fixture) {
		t := f.t
		f.PauseUntil(time.Now().Add(time.Hour))
		wait(time.Hour - time.Nanosecond)
		f.sees(t, observe.BlockPaused)
		wait(time.Nanosecond)
		f.sees(t, observe.BlockNone)
		f.says(t, "claiming paused by operator", 1)
		f.says(t, "claiming resumed by operator", 1)

		f.PauseUntil(time.Now().Add(time.Hour))
		f.PauseUntil(time.Now().Add(2 * time.Hour)) // longer
		wait(time.Hour)
		f.sees(t, observe.BlockPaused)
		f.PauseUntil(time.Now().Add(time.Minute)) // shorter
		wait(time.Minute)
		f.sees(t, observe.BlockNone)

		f.PauseUntil(time.Now().Add(time.Hour))
		f.Pause() // and now for ever
		wait(2 * time.Hour)
		f.sees(t, observe.BlockPaused)
		f.PauseUntil(time.Now().Add(-time.Second)) // over already
		f.sees(t, observe.BlockPaused)
		f.Resume()
		f.says(t, "claiming resumed by operator", 3)
	})
}

// A timer that fires late, as after a sleep, costs nothing: each question looks
// at the clock.
func TestAnOfferAfterTheEndOfAPauseNeedsNoTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := prepare() // Run does not run
		f.PauseUntil(time.Now().Add(time.Hour))
		time.Sleep(time.Hour)
		if reason, _, refused := f.Refusal(); refused {
			t.Errorf("refused: %q", reason)
		}
		f.sees(t, observe.BlockNone)
	})
}

func TestSpec055And056OnlyWhenIdle(t *testing.T) {
	run(t, func(f *fixture) {
		t := f.t
		f.set(func(m *computer) { m.settings.OnlyWhenIdle = true })
		f.Refresh()
		wait(0)
		f.sees(t, observe.BlockUserActive)
		if _, code, refused := f.Refusal(); !refused || code != protocol.RejectPaused || f.Presence() != protocol.PresenceActive || !f.AutoEnabled() {
			t.Errorf("active: refused %v, code %q, presence %q, enabled %v", refused, code, f.Presence(), f.AutoEnabled())
		}
		wait(IdleAfter - time.Second)
		f.sees(t, observe.BlockUserActive)
		wait(time.Second)
		f.sees(t, observe.BlockNone)
		if reason, _, refused := f.Refusal(); refused || f.Presence() != protocol.PresenceIdle {
			t.Errorf("idle: %q, presence %q", reason, f.Presence())
		}
		f.set(func(m *computer) { m.lastInput = time.Now() })
		wait(presencePeriod)
		f.sees(t, observe.BlockUserActive)
		f.says(t, "you are using this computer", 2)
		f.says(t, `reason="Ready for jobs"`, 1)
	})
}

func TestAPresenceThatCannotBeReadCountsAsActive(t *testing.T) {
	run(t, func(f *fixture) {
		t := f.t
		f.set(func(m *computer) {
			m.settings.OnlyWhenIdle, m.inputErr, m.lastInput = true, errors.New("no display"), time.Now().Add(-time.Hour)
		})
		f.Refresh()
		wait(time.Minute)
		f.sees(t, observe.BlockUserActive)
		if f.Presence() != protocol.PresenceUnknown || f.slot.Get().Detail == "" || f.slot.Get().Why.Reason != observe.ReasonNoPresence {
			t.Errorf("presence %q, %+v", f.Presence(), f.slot.Get())
		}
		f.says(t, "no display", 1)
		f.set(func(m *computer) { m.inputErr = nil })
		wait(presencePeriod)
		f.sees(t, observe.BlockNone)
	})
}

// The computer is asked while the setting is on or somebody wants to know, and
// never otherwise.
func TestPresenceIsSampledOnlyWhenWanted(t *testing.T) {
	run(t, func(f *fixture) {
		t := f.t
		sampled := func(want int) {
			t.Helper()
			f.set(func(m *computer) {
				if m.samples != want {
					t.Errorf("%d samples, want %d", m.samples, want)
				}
				m.samples = 0
			})
		}
		wait(time.Hour)
		sampled(0)
		if p := f.Presence(); p != protocol.PresenceUnknown {
			t.Errorf("first answer %q", p)
		}
		wait(0)
		sampled(1) // for the next heartbeat
		for range 12 {
			wait(5 * time.Second)
			if p := f.Presence(); p != protocol.PresenceIdle {
				t.Errorf("asked again: %q", p)
			}
		}
		sampled(12)
		wait(time.Hour)
		sampled(2) // the session is over
		if p := f.Presence(); p != protocol.PresenceUnknown {
			t.Errorf("an old answer: %q", p)
		}
		f.set(func(m *computer) { m.settings.OnlyWhenIdle = true })
		if !f.AutoEnabled() { // a heartbeat takes up a change, too
			t.Error("not enabled")
		}
		wait(time.Minute)
		sampled(13)
	})
}

func TestWeeklyHours(t *testing.T) {
	run(t, func(f *fixture) {
		t := f.t
		f.set(func(m *computer) { m.settings.WeeklyHours = []string{"sat 01:30-03:00", "sun 23:00-01:00"} })
		f.Refresh()
		f.sees(t, observe.BlockHours)
		check := func(at time.Duration, block observe.Block) {
			t.Helper()
			wait(time.Until(midnight().Add(at)) - time.Nanosecond)
			if f.slot.Get().Block == block {
				t.Errorf("%q before %v", block, at)
			}
			wait(time.Nanosecond)
			f.sees(t, block)
		}
		check(90*time.Minute, observe.BlockNone)
		check(3*time.Hour, observe.BlockHours)
		check(47*time.Hour, observe.BlockNone)
		check(49*time.Hour, observe.BlockHours)
		check(7*24*time.Hour+90*time.Minute, observe.BlockNone)
		f.set(func(m *computer) { m.settings.WeeklyHours = nil })
		f.Refresh()
		wait(1000 * time.Hour)
		f.sees(t, observe.BlockNone)
		f.set(func(m *computer) { m.settings.WeeklyHours = []string{"never"} })
		f.Refresh()
		f.Refresh()
		f.sees(t, observe.BlockNone)
		f.says(t, "weekly hours cannot be used", 1)
	})
}

func TestBattery(t *testing.T) {
	run(t, func(f *fixture) {
		t := f.t
		f.set(func(m *computer) { m.battery = true })
		wait(time.Hour)
		f.sees(t, observe.BlockNone)
		f.set(func(m *computer) {
			if m.powers != 0 {
				t.Errorf("looked %d times although nobody wants to know", m.powers)
			}
			m.settings.PauseOnBattery = true
		})
		f.Refresh()
		wait(0)
		f.sees(t, observe.BlockBattery)
		f.set(func(m *computer) { m.battery = false })
		wait(powerPeriod)
		f.sees(t, observe.BlockNone)
		f.set(func(m *computer) { m.battery, m.powerErr = true, errors.New("no such bus") })
		wait(time.Hour)
		f.sees(t, observe.BlockNone)
		f.says(t, "no such bus", 1)
		f.set(func(m *computer) { m.powerErr = nil })
		wait(powerPeriod)
		f.sees(t, observe.BlockBattery)
		f.set(func(m *computer) { m.settings.PauseOnBattery = false })
		f.Refresh()
		f.sees(t, observe.BlockNone)
	})
}

func TestDisk(t *testing.T) {
	run(t, func(f *fixture) {
		t := f.t
		f.set(func(m *computer) { m.free = minFree })
		if _, _, refused := f.Refusal(); refused {
			t.Error("just enough is refused")
		}
		f.set(func(m *computer) { m.free = minFree - 1 })
		reason, code, refused := f.Refusal()
		if !refused || code != protocol.RejectBusy || !strings.HasSuffix(reason, "0.9 GB free, 1 GB needed") || f.AutoEnabled() {
			t.Errorf("refused %v, %q, %q, enabled %v", refused, code, reason, f.AutoEnabled())
		}
		f.Refresh()
		f.set(func(m *computer) { m.free = 2 * minFree })
		wait(diskPeriod) // nobody asks, and still it is seen
		f.sees(t, observe.BlockNone)
		f.set(func(m *computer) { m.free, m.diskErr = 0, errors.New("stale handle") })
		for range 3 {
			if _, _, refused := f.Refusal(); refused {
				t.Error("a disk that cannot be asked is refused")
			}
		}
		f.says(t, "stale handle", 1)
	})
}

func TestStopIsForEver(t *testing.T) {
	run(t, func(f *fixture) {
		t := f.t
		f.Stop()
		f.Stop()
		f.Pause()
		f.Resume()
		f.sees(t, observe.BlockStopping)
		f.says(t, "taking no more jobs before the end", 1)
	})
}

// A watcher is woken by news alone.
func TestTheSlotIsSetWhenSomethingChanged(t *testing.T) {
	run(t, func(f *fixture) {
		t := f.t
		ctx, cancel := context.WithCancel(t.Context())
		seen := make(chan int, 1)
		go func() {
			n := 0
			for range f.slot.Watch(ctx) {
				n++
			}
			seen <- n
		}()
		f.set(func(m *computer) { m.settings.OnlyWhenIdle = true })
		wait(0)
		f.Refresh()
		wait(time.Hour)
		for range 10 {
			f.Refusal()
			f.AutoEnabled()
			f.Refresh()
		}
		wait(0)
		cancel()
		// What was there, then nobody can tell or active, and idle.
		if n := <-seen; n < 3 || n > 4 {
			t.Errorf("woken %d times", n)
		}
	})
}

func TestNothingIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slot observe.Slot[observe.Availability]
		set := Settings{PauseOnBattery: true}
		c := New(Config{Slot: &slot, Settings: func() Settings { return set }, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		wait(time.Hour)
		if reason, _, refused := c.Refusal(); refused {
			t.Errorf("refused: %q", reason)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		set.OnlyWhenIdle = true
		if _, _, refused := c.Refusal(); !refused {
			t.Error("only when idle, and nobody can tell")
		}
	})
}

func TestOffers(t *testing.T) {
	type memory struct{ total, free float64 }
	known := func(total, free float64) *memory { return &memory{total, free} }
	for _, tc := range []struct {
		name   string
		need   float64
		gpus   *memory
		code   protocol.RejectCode
		reason string // empty = taken
	}{
		{"no need", 0, known(8, 0), "", ""},
		{"nobody can tell", 9.5, known(0, 0), "", ""},
		{"no source", 9.5, nil, "", ""},
		{"as much as the person allows", 12, known(24, 20), "", ""},
		{"more than the person allows", 12.01, known(24, 20), "", "too large: the job needs 12.1 GB of GPU memory, this worker takes at most 12 GB"},
		{"just free", 9.5, known(24, 10.5), "", ""},
		{"not free", 9.5, known(24, 6.19), protocol.RejectBusy, "worker busy: not enough free GPU memory: the job needs 9.5 GB and 1 GB to spare, 6.1 GB are free"},
		{"more than there is", 9.5, known(8, 8), "", "too large: the job needs 9.5 GB of GPU memory and 1 GB to spare, this computer has 8 GB"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := prepare()
			if tc.gpus != nil {
				f.cfg.GPUMemory = func(_ context.Context, need float64) (total, free float64) {
					if need != tc.need+reserve {
						t.Errorf("asked for %v", need)
					}
					return tc.gpus.total, tc.gpus.free
				}
			}
			f.cfg.Stored = func(jobID string) bool { return jobID == "done" }
			reason, code, refused := f.RefusalOf(t.Context(), protocol.Claim{JobID: "job-31", VRAMGBEstimate: tc.need})
			if reason != tc.reason || code != tc.code || refused != (tc.reason != "") {
				t.Errorf("got %v, %q, %q", refused, code, reason)
			}
			if reason, _, refused := f.RefusalOf(t.Context(), protocol.Claim{JobID: "done", VRAMGBEstimate: tc.need}); refused {
				t.Errorf("its result is here, and still: %q", reason)
			}
			// A reject without a code is judged by its words (§3.9).
			for _, word := range []string{"busy", "paused", "in-flight"} {
				if code == "" && strings.Contains(reason, word) {
					t.Errorf("%q would be taken for %s", reason, word)
				}
			}
		})
	}
}

// A model in memory needs no more of it, and models that only wait for a job make
// room for another, but not for one that never fits.
// TestOffersAndTheDisk: an offer is only taken when its result will find room, and
// more of it for a video than for a text.
func TestOffersAndTheDisk(t *testing.T) {
	for _, tc := range []struct {
		name    string
		kind    protocol.TaskKind
		free    uint64 // MiB
		waiting int64  // bytes
		err     error
		reason  string // empty = taken
	}{
		{"room for a text", protocol.KindLLM, 1056, 0, nil, ""},
		{"no room for a text", protocol.KindLLM, 1055, 0, nil, "worker busy: not enough free disk: a job of kind llm may need 0.1 GB and 1 GB to spare, 1 GB are free"},
		{"room for a picture", protocol.KindImage, 1152, 0, nil, ""},
		{"no room for a voice", protocol.KindTTS, 1151, 0, nil, "worker busy: not enough free disk: a job of kind audio_tts may need 0.2 GB and 1 GB to spare, 1.1 GB are free"},
		{"room for a video", protocol.KindVideo, 2048, 0, nil, ""},
		{"no room for a video", protocol.KindVideo, 2047, 0, nil, "worker busy: not enough free disk: a job of kind video may need 1 GB and 1 GB to spare, 1.9 GB are free"},
		{"a disk that cannot be asked", protocol.KindVideo, 0, 0, errors.New("no such disk"), ""},
		{"much waits", protocol.KindLLM, 4096, maxWaiting - 1, nil, ""},
		{"too much waits", protocol.KindLLM, 4096, maxWaiting + gib/2, nil, "worker busy: 10.5 GB of results wait for the studio, and at most 10 GB may"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := prepare()
			f.cfg.FreeDisk = func() (uint64, error) { return tc.free << 20, tc.err }
			f.cfg.Waiting = func() int64 { return tc.waiting }
			f.cfg.Stored = func(jobID string) bool { return jobID == "done" }
			claim := protocol.Claim{JobID: "job-31", Task: protocol.Task{Kind: tc.kind}}
			reason, code, refused := f.RefusalOf(t.Context(), claim)
			if reason != tc.reason || refused != (tc.reason != "") || refused && code != protocol.RejectBusy {
				t.Errorf("got %v, %q, %q", refused, code, reason)
			}
			claim.JobID = "done"
			if reason, _, refused := f.RefusalOf(t.Context(), claim); refused {
				t.Errorf("its result is here, and still: %q", reason)
			}
		})
	}
}

func TestOffersAndWarmModels(t *testing.T) {
	f := prepare()
	free, released := 2.0, 0
	f.cfg.GPUMemory = func(context.Context, float64) (float64, float64) { return 16, free }
	f.cfg.Warm = func(model string) bool { return model == "warm" }
	f.cfg.MakeRoom = func(context.Context) bool {
		released++
		free = 12
		return true
	}
	offer := func(model string, need float64) bool {
		_, _, refused := f.RefusalOf(t.Context(), protocol.Claim{JobID: "j", Model: model, VRAMGBEstimate: need})
		return !refused
	}
	if !offer("warm", 8) || released != 0 {
		t.Errorf("a warm model was refused, or %d were released", released)
	}
	if offer("huge", 15.5) || released != 0 {
		t.Errorf("what never fits was taken, or %d were released", released)
	}
	if !offer("cold", 8) || released != 1 {
		t.Errorf("refused although there is room; %d were released", released)
	}
	f.cfg.MakeRoom = func(context.Context) bool { return false }
	free = 2
	if offer("cold", 8) {
		t.Error("taken although nothing could be released")
	}
}

func ExampleController_PauseUntil() {
	var slot observe.Slot[observe.Availability]
	c := New(Config{Slot: &slot, Settings: func() Settings { return Settings{} }, Log: slog.New(slog.DiscardHandler)})
	now := time.Now()
	c.PauseUntil(time.Date(now.Year()+1, time.March, 15, 8, 0, 0, 0, time.UTC))
	fmt.Println(slot.Get().Block, c.AutoEnabled())
	// Output: paused false
}
