package session

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"studioworker/worker/observe"
	"studioworker/worker/protocol"
	"studioworker/worker/session/sessiontest"
)

// TestRow31RetryAfterOfAnUpgrade: a studio that sheds load is left alone for as
// long as it says and a tenth more at most, up to a quarter of an hour.
func TestRow31RetryAfterOfAnUpgrade(t *testing.T) {
	for _, tc := range []struct {
		name, value string
		status      int
		least, most time.Duration // of the wait; a most of 0: it is the worker's own
	}{
		{"503", "36", http.StatusServiceUnavailable, 36 * time.Second, 39600 * time.Millisecond},
		{"429", "120", http.StatusTooManyRequests, 120 * time.Second, 132 * time.Second},
		{"a date", time.Now().Add(5 * time.Minute).UTC().Format(http.TimeFormat), http.StatusServiceUnavailable, 4*time.Minute + 30*time.Second, 330 * time.Second},
		{"a day", "86400", http.StatusServiceUnavailable, 15 * time.Minute, 990 * time.Second},
		{"at once", "0", http.StatusServiceUnavailable, 0, 0},
		{"nonsense", "soon", http.StatusServiceUnavailable, 0, 0},
		{"another status", "36", http.StatusBadGateway, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := setup(t)
			f.studio.Upgrade = func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Retry-After", tc.value)
				w.WriteHeader(tc.status)
				return false
			}
			before := time.Now()
			f.start(t)
			s := f.state(t, observe.SessionReconnecting)
			wait := s.RetryAt.Sub(before)
			slack := time.Since(before) // RetryAt is counted from the refusal
			if tc.most == 0 {
				if wait > backoffBase+slack {
					t.Errorf("waits %v, want its own wait", wait)
				}
				return
			}
			if wait < tc.least || wait > tc.most+slack {
				t.Errorf("waits %v, want %v to %v", wait, tc.least, tc.most)
			}
		})
	}
}

// TestRow31TheWaitIsKept: the next try comes when the studio asked for it.
func TestRow31TheWaitIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLoop(LoopConfig{
			Session:     Config{Observers: observe.New(), Log: slog.New(slog.DiscardHandler)},
			Credentials: func() (Credentials, error) { return Credentials{}, nil },
		})
		ctx, cancel := context.WithCancel(t.Context())
		const after = 40 * time.Second
		n, last := 0, time.Now()
		l.open = func(context.Context, Credentials) (time.Duration, error) {
			if n++; n == 20 {
				cancel()
			}
			if waited := time.Since(last); n > 1 && (waited < after || waited > after+after/10) {
				t.Errorf("try %d came after %v, want %v and a tenth at most", n, waited, after)
			}
			last = time.Now()
			return 0, &laterError{errors.New("upgrade refused with status 503"), after, false}
		}
		if err := l.Run(ctx); err != nil || n != 20 {
			t.Errorf("ended after %d tries with %v", n, err)
		}
	})
}

// TestFault36SleepEndsTheWait: a wait is over when the clock on the wall says so,
// even if the computer slept through it.
func TestFault36SleepEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var wall wallClock
		l := NewLoop(LoopConfig{Session: Config{Wall: wall.now, Observers: observe.New(), Log: slog.New(slog.DiscardHandler)}})
		done := make(chan struct{})
		start := time.Now()
		go func() { defer close(done); l.wait(t.Context(), authRetry) }()
		time.Sleep(7 * time.Second)
		wall.ahead.Store(int64(8 * time.Hour))
		<-done
		if waited := time.Since(start); waited > 7*time.Second+wallPeriod {
			t.Errorf("waited %v", waited)
		}
	})
}

// TestFault36SleepIsNoticedBetweenHeartbeats: the clock is looked at each second.
func TestFault36SleepIsNoticedBetweenHeartbeats(t *testing.T) {
	f := setup(t)
	var wall wallClock
	f.cfg.Session.Wall, f.cfg.Session.Heartbeat = wall.now, time.Hour
	f.start(t)
	c := f.studio.Welcome(t)
	sessiontest.Await[protocol.Heartbeat](t, c, nil)
	f.state(t, observe.SessionConnected)
	f.logs.Restore([]protocol.LogEntry{{TS: "t", Level: protocol.LevelInfo, Category: "ws", Message: "a line"}})
	sessiontest.Await[protocol.LogBatch](t, c, nil) // a period has begun
	wall.ahead.Store(int64(8 * time.Hour))
	f.studio.Welcome(t)
	if !strings.Contains(f.text.String(), "connecting anew after sleep") {
		t.Errorf("log:\n%s", f.text)
	}
}

// TestTheDateOfTheUpgradeIsHeard: from a studio that lets us in and from one that
// does not. It stands in for a welcome that does not tell the time.
func TestTheDateOfTheUpgradeIsHeard(t *testing.T) {
	f := setup(t)
	theirs := time.Now().Add(-2 * time.Hour)
	heard := make(chan time.Time, 8)
	f.cfg.Session.Heard = func(host string, at time.Time) {
		if host != f.studio.Base(t).Host() {
			t.Errorf("heard of %s", host)
		}
		heard <- at
	}
	refused := false
	f.studio.Upgrade = func(w http.ResponseWriter, _ *http.Request) bool {
		if refused {
			return true
		}
		refused = true
		w.Header().Set("Date", theirs.UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusBadGateway)
		return false
	}
	l := f.start(t)
	if at := <-heard; at.Sub(theirs).Abs() > time.Second {
		t.Errorf("heard %v, want %v", at, theirs)
	}
	l.Kick()
	c := f.studio.Accept(t)
	sessiontest.Await[protocol.Hello](t, c, nil)
	c.Send(t, protocol.Welcome{WorkerID: "wk-20", ServerTime: "tea time"})
	f.state(t, observe.SessionConnected)

	s := newSession(f.cfg.Session, nil)
	s.date = theirs
	if skew := s.skew("tea time"); (skew + 2*time.Hour).Abs() > sessiontest.Patience {
		t.Errorf("the skew by the upgrade is %v", skew)
	}
	if skew := s.skew(time.Now().UTC().Format(time.RFC3339)); skew.Abs() > sessiontest.Patience {
		t.Errorf("the welcome's time does not come first: %v", skew)
	}
}
