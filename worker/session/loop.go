package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"studioworker/worker/observe"
)

// Waiting times between sessions. Full jitter spreads the workers of a studio
// that comes back; the numbers are those of the reliability guide, §4.2.
const (
	backoffBase = 2 * time.Second
	backoffCap  = 60 * time.Second
	healthy     = 60 * time.Second // a session that lived so long starts the backoff anew
	authRetry   = 15 * time.Minute // the studio may have been restored
	maxLater    = 15 * time.Minute // a studio cannot send a worker away for longer
	laterSpread = 10               // a tenth of that time is added at most
	wallPeriod  = 5 * time.Second  // a wait looks at the clock again: timers stand still during sleep
)

// LoopConfig says which sessions to keep open.
type LoopConfig struct {
	Session     Config
	Credentials func() (Credentials, error) // read afresh for each session
	MaxAttempts uint32                      // consecutive failures to reach welcome; 0 = for ever
}

// Loop keeps one session open.
type Loop struct {
	cfg  LoopConfig
	open func(context.Context, Credentials) (up time.Duration, err error)
	kick chan struct{}
}

// NewLoop returns a loop; nothing is opened before Run.
func NewLoop(cfg LoopConfig) *Loop {
	l := &Loop{cfg: cfg, kick: make(chan struct{}, 1)}
	l.open = l.session
	return l
}

// Kick ends the waiting that the loop is in: try now.
func (l *Loop) Kick() {
	select {
	case l.kick <- struct{}{}:
	default: // one is on its way
	}
}

// Run keeps a session open until ctx ends, which returns nil, or until the
// attempts are spent. While the studio refuses this worker for good, Run says
// so in the Session slot and waits: for Kick, or for a slow retry after a
// failed authentication.
func (l *Loop) Run(ctx context.Context) error {
	log := l.cfg.Session.Log
	failures, level := 0, 0
	for ctx.Err() == nil {
		l.set(observe.Session{State: observe.SessionConnecting})
		up, err := l.try(ctx)
		if ctx.Err() != nil {
			break
		}
		state, wait := verdict(err)
		if state != observe.SessionReconnecting {
			if state == observe.SessionAuthFailed {
				log.Error("auth failed: if this lasts, register anew with `register --reset`", "error", err)
			} else {
				log.Error("the studio refused this worker for good", "error", err)
			}
			l.set(observe.Session{State: state, Reason: err.Error(), Why: observe.WhyOf(err), RetryAt: at(wait)})
			l.wait(ctx, wait)
			failures, level = 0, 0
			continue
		}
		if up > 0 {
			failures = 0 // only failures to reach welcome count (§7.2)
		}
		if up >= healthy {
			level = 0
		}
		if errors.Is(err, errSlept) {
			log.Info("connecting anew after sleep", "error", err)
			failures, level = 0, 0
			continue
		}
		failures++
		level++
		if limit := l.cfg.MaxAttempts; limit > 0 && failures > int(limit) {
			log.Error("giving up", "attempts", limit, "error", err)
			l.set(observe.Session{State: observe.SessionFatal, Reason: err.Error(), Why: observe.WhyOf(err)})
			return fmt.Errorf("no session after %d attempts: %w", limit, err)
		}
		wait = 1 + rand.N(ceiling(level)) // #nosec G404 -- spreading load needs no secret
		if later, ok := errors.AsType[*laterError](err); ok {
			wait = later.wait()
		}
		if errors.Is(err, errClosed) {
			log.Warn("disconnected, will reconnect", "attempt", failures, "delay_ms", wait.Milliseconds())
		} else {
			log.Warn("session error, will reconnect", "error", err, "attempt", failures, "delay_ms", wait.Milliseconds())
		}
		l.set(observe.Session{State: observe.SessionReconnecting, Attempt: failures, RetryAt: at(wait), Reason: err.Error(), Why: observe.WhyOf(err)})
		l.wait(ctx, wait)
	}
	l.set(observe.Session{State: observe.SessionStopped})
	return nil //nolint:nilerr // an orderly end, whatever the last session ended with
}

// verdict is the one place that decides what follows the end of a session
// (§3.7, §7.4). A wait of 0 is for ever.
func verdict(err error) (state observe.SessionState, wait time.Duration) {
	switch {
	case errors.Is(err, ErrAuthFailed):
		return observe.SessionAuthFailed, authRetry
	case errors.Is(err, ErrDuplicate), errors.Is(err, ErrDeleted):
		return observe.SessionFatal, 0
	}
	// A protocol violation is somebody's bug and may be one frame's: go on.
	return observe.SessionReconnecting, 0
}

// ceiling is the longest wait before the n-th try in a row, n from 1.
func ceiling(n int) time.Duration {
	wait := backoffBase
	for i := 1; i < n && wait < backoffCap; i++ {
		wait *= 2
	}
	return min(wait, backoffCap)
}

func at(wait time.Duration) time.Time {
	if wait == 0 {
		return time.Time{}
	}
	return time.Now().Add(wait)
}

func (l *Loop) set(s observe.Session) { l.cfg.Session.Observers.Session.Set(s) }

// wait returns when the time is over by either clock, Kick was called or ctx
// ended. 0 waits for ever.
func (l *Loop) wait(ctx context.Context, d time.Duration) {
	wall := l.cfg.Session.Wall
	if wall == nil {
		wall = time.Now
	}
	began, until := time.Now(), wall().Round(0).Add(d)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		left := d - time.Since(began)
		if d > 0 && (left <= 0 || !wall().Round(0).Before(until)) {
			return
		}
		if d > 0 {
			timer.Reset(min(left, wallPeriod))
		}
		select {
		case <-ctx.Done():
			return
		case <-l.kick:
			return
		case <-timer.C:
		}
	}
}

func (l *Loop) try(ctx context.Context) (up time.Duration, err error) {
	credentials, err := l.cfg.Credentials()
	if err != nil {
		return 0, err
	}
	return l.open(ctx, credentials)
}

func (l *Loop) session(ctx context.Context, c Credentials) (up time.Duration, err error) {
	l.cfg.Session.Log.Info("connecting", "url", c.Base.ConnectURL(c.WorkerID))
	conn, date, err := dial(ctx, c, l.cfg.Session.Dial)
	if host := c.Base.Host(); !date.IsZero() && l.cfg.Session.Heard != nil {
		l.cfg.Session.Heard(host, date)
	}
	if err != nil {
		return 0, err
	}
	boundWrites(conn.NetConn())
	s := newSession(l.cfg.Session, conn)
	s.date = date
	s.extend()
	return s.run(ctx, c.Token)
}
