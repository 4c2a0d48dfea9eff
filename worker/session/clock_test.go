package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"studioworker/worker/observe"
	"studioworker/worker/protocol"
	"studioworker/worker/session/sessiontest"
)

// wallClock is a clock that can be set.
type wallClock struct{ ahead atomic.Int64 }

func (w *wallClock) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

// TestFault36SleepEndsTheSessionAtOnce: eight hours that nobody lived end the
// session, and the next one begins without waiting.
func TestFault36SleepEndsTheSessionAtOnce(t *testing.T) {
	f := setup(t)
	var wall wallClock
	f.cfg.Session.Wall, f.cfg.Session.Heartbeat = wall.now, 20*time.Millisecond
	f.start(t)
	c := f.studio.Welcome(t)
	sessiontest.Await[protocol.Heartbeat](t, c, nil)
	for _, small := range []time.Duration{9 * time.Second, -time.Hour} { // set by hand, or by the time service
		wall.ahead.Store(int64(small))
		for range 3 {
			sessiontest.Await[protocol.Heartbeat](t, c, nil)
		}
	}
	wall.ahead.Store(int64(7 * time.Hour)) // eight more
	again := f.studio.Welcome(t)
	sessiontest.Await[protocol.Heartbeat](t, again, nil)
	f.state(t, observe.SessionConnected)
	text := f.text.String()
	if !strings.Contains(text, "connecting anew after sleep") || !strings.Contains(text, "slept for 8h0m0s") || strings.Contains(text, "will reconnect") {
		t.Errorf("log:\n%s", text)
	}
}

// TestFault36NoBackoffAfterSleep: the tries after a sleep start from the shortest
// wait, and none of them counts towards the limit from before.
func TestFault36NoBackoffAfterSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLoop(LoopConfig{
			Session:     Config{Observers: observe.New(), Log: slog.New(slog.DiscardHandler)},
			Credentials: func() (Credentials, error) { return Credentials{}, nil },
		})
		ctx, cancel := context.WithCancel(t.Context())
		n, last := 0, time.Now()
		l.open = func(context.Context, Credentials) (time.Duration, error) {
			n++
			waited := time.Since(last)
			last = time.Now()
			switch {
			case n <= 10:
				return 0, errors.New("no network")
			case n == 11:
				return time.Minute / 2, fmt.Errorf("%w for 8h", errSlept)
			case n == 12 && waited != 0:
				t.Errorf("waited %v after the sleep", waited)
			case n == 13:
				if waited > backoffBase {
					t.Errorf("waited %v after the first failure", waited)
				}
				if got := l.cfg.Session.Observers.Session.Get(); got.Attempt != 0 {
					t.Errorf("connecting as %+v", got)
				}
				cancel()
			}
			return 0, errors.New("no network yet")
		}
		if err := l.Run(ctx); err != nil || n != 13 {
			t.Errorf("ended with %v after %d tries", err, n)
		}
	})
}

// TestClockSkewIsShownAndStopsNothing (fault row 35): a clock that is wrong by two
// years is said, once, and the session goes on with the right intervals.
func TestClockSkewIsShownAndStopsNothing(t *testing.T) {
	const twoYears = 2 * 365 * 24 * time.Hour
	for name, tc := range map[string]struct {
		serverTime func() string
		want       time.Duration
		said       bool
	}{
		"two years behind": {func() string { return time.Now().Add(twoYears).Format(time.RFC3339Nano) }, twoYears, true},
		"a minute ahead":   {func() string { return time.Now().Add(-time.Minute).Format(time.RFC3339Nano) }, -time.Minute, true},
		"right":            {func() string { return time.Now().Format(time.RFC3339Nano) }, 0, false},
		"any text":         {func() string { return "tea time" }, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := setup(t)
			f.cfg.Session.Heartbeat = 20 * time.Millisecond
			f.start(t)
			c := f.studio.Accept(t)
			sessiontest.Await[protocol.Hello](t, c, nil)
			c.Send(t, protocol.Welcome{WorkerID: "wk-20", ServerTime: tc.serverTime()})
			s := f.state(t, observe.SessionConnected)
			if d := (s.Skew - tc.want).Abs(); d > sessiontest.Patience {
				t.Errorf("skew %v, want %v", s.Skew, tc.want)
			}
			for range 3 {
				sessiontest.Await[protocol.Heartbeat](t, c, nil)
			}
			if beat := f.seen.Heartbeat.Get(); beat.Err != "" || beat.RoundTrip < 0 || beat.RoundTrip > sessiontest.Patience {
				t.Errorf("heartbeat %+v", beat)
			}
			if said := strings.Count(f.text.String(), "the studio's differ"); (said == 1) != tc.said {
				t.Errorf("said %d times:\n%s", said, f.text)
			}
		})
	}
}
