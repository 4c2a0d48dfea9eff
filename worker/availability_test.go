package worker

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"studioworker/gpu"
	"studioworker/worker/config"
	"studioworker/worker/observe"
	"studioworker/worker/protocol"
	"studioworker/worker/session/sessiontest"
)

// idleFor is a person who left that long ago.
type idleFor time.Duration

func (d idleFor) IdleFor(context.Context) (time.Duration, error) { return time.Duration(d), nil }

// person is one who comes and goes.
type person struct{ away atomic.Bool }

func (p *person) IdleFor(context.Context) (time.Duration, error) {
	if p.away.Load() {
		return time.Hour, nil
	}
	return 0, nil
}

// The person leaves: the heartbeat that says so does not wait for its period, and
// the next offer is accepted.
func TestSpec056PresenceTurnsIdle(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	p := &person{}
	f := prepare(t, func(c *config.Config) { approved(s)(c); c.OnlyWhenIdle = true }, answers, func(c *Config) {
		c.Presence, c.Heartbeat = p, time.Hour
	}).start(t)
	c := s.Welcome(t)
	until(t, &f.seen.Availability, func(a observe.Availability) bool { return a.Block == observe.BlockUserActive })
	c.Send(t, llmOffer("early", "test"))
	sessiontest.Await(t, c, func(r protocol.Reject) bool { return r.JobID == "early" && r.Code == protocol.RejectPaused })
	p.away.Store(true)
	beat := sessiontest.Await(t, c, func(h protocol.Heartbeat) bool { return h.Capabilities.UserPresence == protocol.PresenceIdle })
	if on := beat.Capabilities.OnlyWhenIdle; on == nil || !*on || !beat.Capabilities.AutoEnabled {
		t.Errorf("got %+v", beat.Capabilities)
	}
	c.Send(t, llmOffer("late", "test"))
	sessiontest.Await(t, c, accepted("late"))
}

func TestPauseUntil(t *testing.T) {
	t.Parallel()
	f := prepare(t, nil, answers)
	end := time.Now().Add(time.Hour)
	f.PauseUntil(end)
	if got := f.seen.Availability.Get(); got.Block != observe.BlockPaused || !got.Until.Equal(end) {
		t.Errorf("got %+v", got)
	}
	f.Resume()
	if got := f.seen.Availability.Get(); got != (observe.Availability{}) {
		t.Errorf("after resuming: %+v", got)
	}
}

// A change of the file by a command is taken up at once.
func TestHoursAreTakenUp(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	f := prepare(t, approved(s), answers).start(t)
	sessiontest.Await(t, s.Welcome(t), func(h protocol.Heartbeat) bool { return h.Capabilities.AutoEnabled })
	day := time.Now().Add(72 * time.Hour).Format("Mon")
	if err := f.store.Update(func(c *config.Config) { c.WeeklyHours = []string{day + " 12:00-12:01"} }); err != nil {
		t.Fatal(err)
	}
	f.Reload()
	if a := f.seen.Availability.Get(); a.Block != observe.BlockHours || time.Until(a.Until) < 24*time.Hour {
		t.Errorf("shown: %+v", a)
	}
	c := s.Welcome(t) // the session begins anew
	sessiontest.Await(t, c, func(h protocol.Heartbeat) bool { return !h.Capabilities.AutoEnabled })
	c.Send(t, llmOffer("j", "test"))
	got := sessiontest.Await[protocol.Reject](t, c, nil)
	if got.Code != protocol.RejectPaused || got.Reason != "worker paused: outside its weekly hours" {
		t.Errorf("got %+v", got)
	}
}

func TestOffersThatDoNotFit(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	var free atomic.Uint64
	free.Store(8 << 30)
	prepare(t, approved(s), answers, func(c *Config) {
		c.GPUs = func(context.Context) ([]gpu.Device, error) {
			return []gpu.Device{{Name: "one", TotalBytes: 10 << 30, FreeBytes: free.Load()}, {Name: "unknown"}}, nil
		}
	}).start(t)
	c := s.Welcome(t)
	for _, tc := range []struct {
		id     string
		need   float64
		free   uint64 // GiB
		code   protocol.RejectCode
		reason string // empty = accepted
	}{
		{"threshold", 13, 8, "", "too large: the job needs 13 GB of GPU memory, this worker takes at most 12 GB"},
		{"cards", 9.5, 8, "", "too large: the job needs 9.5 GB of GPU memory and 1 GB to spare, this computer has 10 GB"},
		{"free", 8, 6, protocol.RejectBusy, "worker busy: not enough free GPU memory: the job needs 8 GB and 1 GB to spare, 6 GB are free"},
		{"free again", 8, 9, "", ""},
	} {
		free.Store(tc.free << 30)
		offer := llmOffer(tc.id, "test")
		offer.Claim.VRAMGBEstimate = tc.need
		c.Send(t, offer)
		if tc.reason == "" {
			sessiontest.Await(t, c, accepted(tc.id))
			continue
		}
		got := sessiontest.Await(t, c, func(r protocol.Reject) bool { return r.JobID == tc.id })
		if got.Code != tc.code || got.Reason != tc.reason {
			t.Errorf("got %q, %q; want %q, %q", got.Code, got.Reason, tc.code, tc.reason)
		}
	}
}
