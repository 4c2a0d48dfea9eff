package model

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"studioworker/ui/words"
	"studioworker/worker/observe"
)

// en words the tests in English.
var en = words.New(words.English)

var now = time.Date(2026, time.March, 12, 14, 2, 30, 0, time.FixedZone("test", 3600))

func TestAgo(t *testing.T) {
	for _, tc := range []struct {
		name string
		at   time.Time
		want string
	}{
		{"the clock went back", now.Add(time.Minute), "just now"},
		{"this second", now.Add(-900 * time.Millisecond), "just now"},
		{"seconds", now.Add(-2 * time.Second), "2 s ago"},
		{"minutes", now.Add(-59*time.Minute - 59*time.Second), "59 min ago"},
		{"an hour", now.Add(-time.Hour), "13:02"},
		{"midnight of today", now.Add(-14*time.Hour - 150*time.Second), "00:00"},
		{"just before midnight", now.Add(-14*time.Hour - 151*time.Second), "yesterday 23:59"},
		{"two days", now.AddDate(0, 0, -2), "10 Mar 14:02"},
		{"another year", now.AddDate(-1, 0, 0), "12 Mar 2025 14:02"},
		{"another zone", now.Add(-2 * time.Hour).UTC(), "12:02"},
	} {
		if got := Ago(en, tc.at, now); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestDurationsAndSizes(t *testing.T) {
	for _, tc := range []struct{ got, want string }{
		{Span(en, -time.Second), "0 s"},
		{Span(en, 59*time.Second), "59 s"},
		{Span(en, 3*time.Hour), "3 h"},
		{Span(en, 25*time.Hour), "1 day"},
		{Span(en, 49*time.Hour), "2 days"},
		{Elapsed(14 * time.Second), "0:14"},
		{Elapsed(time.Hour + 2*time.Minute + 3*time.Second), "1:02:03"},
		{Took(en, -time.Second), "under 0.1 s"},
		{Took(en, 399*time.Millisecond), "0.3 s"},
		{Took(en, 9990*time.Millisecond), "9.9 s"},
		{Took(en, 42*time.Second), "42 s"},
		{Took(en, 125*time.Second), "2 min 5 s"},
		{Took(en, 63*time.Minute), "1 h 3 min"},
		{Bytes(en, -1), "0 bytes"},
		{Bytes(en, 1), "1 byte"},
		{Bytes(en, 999), "999 bytes"},
		{Bytes(en, 3_200_000), "3.2 MB"},
		{Bytes(en, 14_000_000), "14 MB"},
		{Bytes(en, 999_999), "1.0 MB"},
		{Bytes(en, 5_000_000_000_000_000), "5,000 TB"},
	} {
		if tc.got != tc.want {
			t.Errorf("got %q, want %q", tc.got, tc.want)
		}
	}
}

func TestParseThreshold(t *testing.T) {
	for text, want := range map[string]float64{"10": 10, " 10,5 ": 10.5, "8 GB": 8, "12.25gb": 12.25, "0": 0, "4096": 4096} {
		if got, err := ParseThreshold(en, text); err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "GB", "ten", "-1", "NaN", "Inf", "1e9", "1,000.5", "4097"} {
		if got, err := ParseThreshold(en, text); err == nil {
			t.Errorf("%q was taken as %v", text, got)
		}
	}
}

func FuzzParseThreshold(f *testing.F) {
	f.Add("10,5 GB")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := ParseThreshold(en, text)
		if err != nil {
			return
		}
		if again, err := ParseThreshold(en, Threshold(v)); err != nil || again != v {
			t.Errorf("%q gave %v, which comes back as %v, %v", text, v, again, err)
		}
	})
}

func TestShortPath(t *testing.T) {
	for _, tc := range []struct{ path, home, want string }{
		{"/home/mo/r/a.wav", "/home/mo", "~/r/a.wav"},
		{"/home/mo/r/a.wav", "/home/mo/", "~/r/a.wav"},
		{"/home/mona/a.wav", "/home/mo", "/home/mona/a.wav"},
		{"/home/mo", "/home/mo", "/home/mo"},
		{"/srv/a.wav", "", "/srv/a.wav"},
		{"/srv/a.wav", "/", "/srv/a.wav"},
		{`C:\Users\mo\a.wav`, `C:\Users\mo`, `~\a.wav`},
		{"", "/home/mo", ""},
	} {
		if got := ShortPath(tc.path, tc.home); got != tc.want {
			t.Errorf("%s below %s: got %q, want %q", tc.path, tc.home, got, tc.want)
		}
	}
}

// connected is a worker that is let in, connected and idle.
func connected() Snapshot {
	return Snapshot{
		Settings:     observe.Settings{StudioURL: "https://studio.example.org/x", Version: "0.1.0", VRAMThresholdGB: 10, Serves: []string{"image", "audio_tts"}},
		Registration: observe.Registration{State: observe.RegistrationApproved, WorkerID: "w-7"},
		Session:      observe.Session{State: observe.SessionConnected, Since: now.Add(-3 * time.Hour)},
		Heartbeat:    observe.Heartbeat{At: now.Add(-2 * time.Second), RoundTrip: 18 * time.Millisecond},
	}
}

func with(change func(*Snapshot)) Snapshot {
	s := connected()
	change(&s)
	return s
}

func running(s *Snapshot) {
	s.Job = observe.CurrentJob{
		ID: "j1", Kind: "image", Model: "sd-turbo", Preview: "a lighthouse", Started: now.Add(-14 * time.Second),
		Progress: observe.Progress{Step: 12, Total: 20},
	}
}

func TestHead(t *testing.T) {
	paused := func(s *Snapshot) { s.Availability.Block = observe.BlockPaused }
	for _, tc := range []struct {
		name string
		s    Snapshot
		want Header
	}{
		{"first start", Snapshot{}, Header{StateAttention, "Not set up", "Choose where the jobs come from", ActionNone}},
		{"idle", connected(), Header{StateIdle, "Idle", "Ready for jobs", ActionPause}},
		{"working", with(running), Header{StateBusy, "Working", "image · sd-turbo · step 12 of 20 · 0:14", ActionPause}},
		{"working, then paused", with(func(s *Snapshot) { running(s); paused(s) }), Header{StateBusy, "Working", "image · sd-turbo · step 12 of 20 · 0:14 · no new jobs · paused by you until you resume", ActionResume}},
		{"working without a connection", with(func(s *Snapshot) {
			running(s)
			s.Session = observe.Session{State: observe.SessionReconnecting}
			s.Job.Progress = observe.Progress{Text: "loading\nthe model"}
		}), Header{StateBusy, "Working", "image · sd-turbo · loading the model · 0:14", ActionPause}},
		{"paused", with(paused), Header{StatePaused, "Paused", "Paused by you until you resume", ActionResume}},
		{"paused and out of reach", with(func(s *Snapshot) {
			paused(s)
			s.Session = observe.Session{State: observe.SessionReconnecting}
		}), Header{StatePaused, "Paused", "Paused by you until you resume", ActionResume}},
		{"disk full", with(func(s *Snapshot) {
			s.Availability = observe.Availability{Block: observe.BlockDiskFull, Detail: "0.4 GB free, 1 GB needed"}
		}), Header{StateAttention, "Disk full", "Disk almost full: 0.4 GB free, 1 GB needed", ActionPause}},
		{"stopping", with(func(s *Snapshot) { s.Availability.Block = observe.BlockStopping }), Header{StatePaused, "Stopping", "Stopping: no new jobs", ActionNone}},
		{"stopping with a job", with(func(s *Snapshot) { running(s); s.Availability.Block = observe.BlockStopping }), Header{StateBusy, "Stopping", "Giving the running job a moment to finish", ActionNone}},
		{"declined", with(func(s *Snapshot) {
			s.Registration = observe.Registration{State: observe.RegistrationRejected, Reason: "unknown computer"}
			paused(s)
		}), Header{StateAttention, "Declined", "The studio declined this computer: unknown computer", ActionAskAgain}},
		{"signed out", with(func(s *Snapshot) { s.Session = observe.Session{State: observe.SessionAuthFailed, Reason: "revoked"} }), Header{StateAttention, "Signed out", "The studio does not accept this computer any more: revoked", ActionAskAgain}},
		{"fatal", with(func(s *Snapshot) { s.Session = observe.Session{State: observe.SessionFatal, Reason: "version 9"} }), Header{StateAttention, "Cannot connect", "Given up: version 9", ActionNone}},
		{"pending", with(func(s *Snapshot) {
			s.Registration = observe.Registration{State: observe.RegistrationPending}
			s.Session = observe.Session{State: observe.SessionWaiting}
		}), Header{StateDisconnected, "Waiting", "Waiting for the studio's approval", ActionPause}},
		{"the studio did not answer yet", with(func(s *Snapshot) {
			s.Registration = observe.Registration{State: observe.RegistrationPristine, Reason: "no route"}
			s.Session = observe.Session{}
		}), Header{StateDisconnected, "Starting", "Asking the studio to let this computer in: no route", ActionPause}},
		{"connecting", with(func(s *Snapshot) { s.Session = observe.Session{State: observe.SessionConnecting} }), Header{StateDisconnected, "Connecting", "Calling the studio", ActionPause}},
		{"reconnecting", with(func(s *Snapshot) {
			s.Session = observe.Session{State: observe.SessionReconnecting, Attempt: 2, RetryAt: now.Add(12 * time.Second), Reason: "refused"}
		}), Header{StateDisconnected, "Reconnecting", "Trying again in 12 s: refused", ActionPause}},
		{"stopped", with(func(s *Snapshot) { s.Session = observe.Session{State: observe.SessionStopped} }), Header{StateDisconnected, "Stopped", "Not connected to the studio", ActionPause}},
	} {
		if got := Head(en, tc.s, now); got != tc.want {
			t.Errorf("%s:\n got %+v\nwant %+v", tc.name, got, tc.want)
		}
	}
}

func TestEveryStateHasATone(t *testing.T) {
	seen := map[Tone]State{}
	for _, s := range []State{StateIdle, StateBusy, StatePaused, StateDisconnected, StateAttention} {
		if other, dup := seen[s.Tone()]; dup {
			t.Errorf("%s and %s have one tone", s, other)
		}
		seen[s.Tone()] = s
	}
	if State("new").Tone() != ToneMuted {
		t.Error("an unknown state shouts")
	}
}

func TestStatus(t *testing.T) {
	st := NewStatus(en, connected(), now)
	for _, tc := range []struct{ what, got, want string }{
		{"serves", st.Serves, "image, speech"},
		{"studio", st.Studio, "studio.example.org"},
		{"registration", st.Registration, "Approved"},
		{"worker", st.WorkerID, "w-7"},
		{"connection", st.Connection, "Connected for 3 h"},
		{"heartbeat", st.Heartbeat, "2 s ago, 18 ms"},
		{"threshold", st.Threshold, "10"},
		{"waiting", st.Waiting, "Nothing"},
		{"bar", st.Bar, "studio.example.org · connected for 3 h · heartbeat 2 s ago, 18 ms"},
		{"version", st.Version, "v0.1.0"},
		{"gpu", st.GPUNote, "Looking for graphics cards"},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.what, tc.got, tc.want)
		}
	}
}

func TestStatusOfTrouble(t *testing.T) {
	s := Snapshot{
		Settings:     observe.Settings{StudioURL: "http://127.0.0.1:1", PrivateStudio: true, VRAMThresholdGB: 10.5},
		Registration: observe.Registration{State: observe.RegistrationPending, RequestID: "r-1", Since: now.Add(-2 * time.Hour)},
		Session:      observe.Session{State: observe.SessionReconnecting, Attempt: 3, RetryAt: now.Add(5 * time.Second), Reason: "refused"},
		Heartbeat:    observe.Heartbeat{At: now.Add(-5 * time.Second), Err: "connection reset."},
		Outbox:       observe.Outbox{Count: 2, Bytes: 14_000_000, Oldest: now.Add(-3 * time.Minute)},
		GPUs:         observe.GPUs{At: now},
	}
	st := NewStatus(en, s, now)
	for _, tc := range []struct{ what, got, want string }{
		{"serves", st.Serves, "No kind of job yet"},
		{"studio", st.Studio, "Private studio on this computer"},
		{"registration", st.Registration, "Waiting for approval since 12:02"},
		{"request", st.RequestID, "r-1"},
		{"connection", st.Connection, "Trying again in 5 s, try 4"},
		{"heartbeat", st.Heartbeat, "Failed 5 s ago: connection reset"},
		{"threshold", st.Threshold, "10.5"},
		{"waiting", st.Waiting, "2 results (14 MB)"},
		{"note", st.WaitingNote, "Sent when the studio is back. The oldest is from 3 min ago"},
		{"bar", st.Bar, "Private studio on this computer · trying again in 5 s, try 4 · results waiting: 2"},
		{"gpu", st.GPUNote, "No graphics card found: jobs run on the processor"},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.what, tc.got, tc.want)
		}
	}
	if st.HeartbeatTone != ToneBad || st.WaitingTone != ToneBusy || st.RegistrationTone != ToneBusy {
		t.Errorf("tones = %v %v %v", st.HeartbeatTone, st.WaitingTone, st.RegistrationTone)
	}
	s.Outbox.LastError = "409"
	if st = NewStatus(en, s, now); st.WaitingNote != "The last try did not work: 409" || st.WaitingTone != ToneBad {
		t.Errorf("waiting = %q, %v", st.WaitingNote, st.WaitingTone)
	}
	s.Outbox.Why = observe.Why{Reason: observe.ReasonStatus, Said: "502"}
	if st = NewStatus(words.New(words.German), s, now); st.WaitingNote != "Der letzte Versuch ging schief: die Gegenseite meldet Fehler 502" {
		t.Errorf("waiting = %q", st.WaitingNote)
	}
}

func TestWordsOfEachState(t *testing.T) {
	for _, tc := range []struct {
		r    observe.Registration
		want string
	}{
		{observe.Registration{}, "Not asked yet"},
		{observe.Registration{State: observe.RegistrationPristine, Reason: "no route"}, "Not asked yet, trying again: no route"},
		{observe.Registration{State: observe.RegistrationPending}, "Waiting for approval"},
		{observe.Registration{State: observe.RegistrationRejected, Reason: "no"}, "Declined: no"},
	} {
		if got, _ := registration(en, tc.r, now); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
	for _, tc := range []struct {
		s    observe.Session
		want string
	}{
		{observe.Session{}, "Not connected"},
		{observe.Session{State: observe.SessionConnecting}, "Connecting"},
		{observe.Session{State: observe.SessionConnected}, "Connected"},
		{observe.Session{State: observe.SessionReconnecting}, "Trying again now, try 1"},
		{observe.Session{State: observe.SessionAuthFailed}, "Signed out by the studio"},
		{observe.Session{State: observe.SessionFatal, Reason: "4003"}, "Given up: 4003"},
		{observe.Session{State: observe.SessionStopped}, "Stopped"},
	} {
		if got := connection(en, tc.s, now); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
	for _, tc := range []struct {
		h    observe.Heartbeat
		want string
	}{
		{observe.Heartbeat{}, "None yet"},
		{observe.Heartbeat{At: now}, "just now"},
		{observe.Heartbeat{At: now, RoundTrip: time.Microsecond}, "just now, under 1 ms"},
	} {
		if got, _ := heartbeat(en, tc.h, now); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}

func TestGPUs(t *testing.T) {
	const gb = 1 << 30
	rows, note := gpus(en, observe.GPUs{At: now, List: []observe.GPU{
		{Name: "RTX 4070", Total: 12 * gb, Free: 9 * gb},
		{Name: "", Total: 8 * gb, FreeUnknown: true},
		{Name: "odd", Total: 8 * gb, Free: 9 * gb},
		{Name: "Arc"},
		{Name: "full", Total: 8 * gb},
		{Name: "lost", Note: "GPU is lost"},
		{Name: "GB10", Note: "shares the computer's memory", Why: observe.Why{Reason: observe.ReasonUnified}},
	}}, now)
	want := []GPU{
		{"RTX 4070", "3.0 of 12.0 GB used", 0.25, true},
		{"Unknown card", "8.0 GB, free memory unknown", 0, false},
		{"odd", "8.0 GB, free memory unknown", 0, false},
		{"Arc", "memory unknown", 0, false},
		{"full", "8.0 of 8.0 GB used", 1, true},
		{"lost", "memory unknown: GPU is lost", 0, false},
		{"GB10", "memory unknown: shares the computer's memory", 0, false},
	}
	if !slices.Equal(rows, want) || note != "" {
		t.Errorf("got %+v, %q", rows, note)
	}
}

func TestRunning(t *testing.T) {
	if got := NewRunning(en, connected(), false, now); got.Active || got.Title != "Nothing is running" {
		t.Errorf("idle: %+v", got)
	}
	if got := NewRunning(en, with(func(s *Snapshot) { s.Availability.Block = observe.BlockPaused }), false, now); got.Facts != "Paused by you until you resume" {
		t.Errorf("paused: %+v", got)
	}
	got := NewRunning(en, with(func(s *Snapshot) { running(s); s.Job.Progress.Text = "sampling" }), false, now)
	want := Running{
		Active: true, ID: got.ID, Kind: "image", Title: "a lighthouse", Facts: "Image · sd-turbo", Progress: "step 12 of 20 · sampling",
		Elapsed: "0:14", Fraction: 0.6, Measured: true,
	}
	if got != want || got.ID == "" {
		t.Errorf("got %+v", got)
	}
	for _, p := range []observe.Progress{{Step: 30, Total: 20}, {Step: -1, Total: 20}} {
		got := NewRunning(en, with(func(s *Snapshot) { running(s); s.Job.Progress = p }), false, now)
		if got.Fraction < 0 || got.Fraction > 1 {
			t.Errorf("%+v gave %v", p, got.Fraction)
		}
	}
	if got := NewRunning(en, with(func(s *Snapshot) { running(s); s.Job.Progress = observe.Progress{} }), false, now); got.Measured || got.Progress != "Working" {
		t.Errorf("no progress: %+v", got)
	}
}

func TestKindHints(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range []string{"image", "llm", "audio_stt", "audio_tts", "video", "other"} {
		if seen[KindHint(en, k)] {
			t.Errorf("%s has the hint of another kind", k)
		}
		seen[KindHint(en, k)] = true
	}
}

func TestLogLevelsWiden(t *testing.T) {
	levels := LogLevels(en)
	if levels[0].Min != slog.LevelDebug || !slices.IsSortedFunc(levels, func(a, b LogLevel) int { return int(a.Min - b.Min) }) {
		t.Errorf("got %v", levels)
	}
}

func TestTakeReadsEverySlot(t *testing.T) {
	o := observe.New()
	o.Settings.Set(observe.Settings{StudioURL: "u"})
	o.Registration.Set(observe.Registration{WorkerID: "w"})
	o.Session.Set(observe.Session{Attempt: 1})
	o.Heartbeat.Set(observe.Heartbeat{Err: "e"})
	o.Availability.Set(observe.Availability{Block: observe.BlockPaused})
	o.CurrentJob.Set(observe.CurrentJob{ID: "j"})
	o.Outbox.Set(observe.Outbox{Count: 1})
	o.GPUs.Set(observe.GPUs{At: now})
	s := Take(o)
	if s.Settings.StudioURL != "u" || s.Registration.WorkerID != "w" || s.Session.Attempt != 1 || s.Heartbeat.Err != "e" ||
		!s.Paused() || s.Stopping() || s.Job.ID != "j" || s.Outbox.Count != 1 || s.GPUs.At != now {
		t.Errorf("got %+v", s)
	}
}
