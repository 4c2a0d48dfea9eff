package session

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"studioworker/worker/observe"
	"studioworker/worker/protocol"
)

// watchAvailability tells the heartbeat that the worker begins or stops to take
// jobs.
func (s *Session) watchAvailability(ctx context.Context, changes chan<- struct{}) error {
	for range s.cfg.Observers.Availability.Watch(ctx) {
		select {
		case changes <- struct{}{}:
		default: // one is on its way
		}
	}
	return ctx.Err()
}

// heartbeat sends one at once, then one each period, and one at once after a
// change: the studio must not offer to a paused worker, nor wait to offer to one
// that is back (§7.5).
func (s *Session) heartbeat(ctx context.Context, changes <-chan struct{}) error {
	ticker := time.NewTicker(s.cfg.Heartbeat) // missed ticks are skipped (§7.1)
	defer ticker.Stop()
	sent, err := s.beat(ctx)
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			if err := s.slept(); err != nil {
				return err
			}
		case <-changes:
			if taking(s.cfg.Capabilities()) == sent {
				continue // nothing that the studio would see
			}
		}
		if sent, err = s.beat(ctx); err != nil {
			return err
		}
	}
}

// wakefulness is what both clocks said at the last look.
type wakefulness struct {
	mu    sync.Mutex
	wall  time.Time
	lived time.Duration
}

// slept returns an error when the wall clock has gone on for longer than this
// session lived since the last look. Each period that a session has looks.
func (s *Session) slept() error {
	s.awake.mu.Lock()
	defer s.awake.mu.Unlock()
	wall, lived := s.clocks()
	asleep := wall.Sub(s.awake.wall) - (lived - s.awake.lived)
	first := s.awake.wall.IsZero()
	s.awake.wall, s.awake.lived = wall, lived
	if !first && asleep > sleepSlack {
		return fmt.Errorf("%w for %v", errSlept, asleep.Round(time.Second))
	}
	return nil
}

// clocks returns what the wall clock says, and how long this session has lived.
// The second stands still while the computer sleeps, and nobody sets it.
func (s *Session) clocks() (wall time.Time, lived time.Duration) {
	return s.cfg.Wall().Round(0), time.Since(s.began)
}

// skew is how far the studio's clock is ahead of this computer's, by its welcome or
// else by its answer to the upgrade; 0 when neither can be read. A wrong clock is said and stops nothing.
func (s *Session) skew(serverTime string) time.Duration {
	theirs, err := time.Parse(time.RFC3339, serverTime)
	if err != nil { // any text is allowed there (§3.8)
		theirs = s.date
	}
	if theirs.IsZero() {
		return 0
	}
	skew := theirs.Sub(s.cfg.Wall().Round(0))
	if skew.Abs() > clockSlack {
		s.cfg.Log.Warn("this computer's clock and the studio's differ",
			"server_time", theirs.UTC().Format(time.RFC3339), "skew_seconds", int64(skew.Seconds()))
	}
	return skew
}

// taking says whether the studio may offer to a worker of these capabilities
// (§3.13).
func taking(c protocol.Capabilities) bool {
	onlyWhenIdle := c.OnlyWhenIdle != nil && *c.OnlyWhenIdle
	return c.AutoEnabled && (!onlyWhenIdle || c.UserPresence == protocol.PresenceIdle)
}

// beat sends one heartbeat and returns whether it said that jobs are taken.
func (s *Session) beat(ctx context.Context) (takes bool, err error) {
	caps := s.cfg.Capabilities()
	s.beatAt.Store(int64(time.Since(s.began)))
	if err := s.Send(ctx, protocol.Heartbeat{Capabilities: caps, CurrentJobID: s.cfg.Jobs.CurrentJobID()}); err != nil {
		s.cfg.Observers.Heartbeat.Set(observe.Heartbeat{At: time.Now(), Err: err.Error(), Why: observe.WhyOf(err)})
		return false, err
	}
	return taking(caps), nil
}

// acknowledged notes the studio's answer to the last heartbeat.
func (s *Session) acknowledged() {
	now := observe.Heartbeat{At: time.Now()}
	if sent := s.beatAt.Swap(0); sent != 0 {
		now.RoundTrip = time.Since(s.began) - time.Duration(sent)
	}
	s.cfg.Observers.Heartbeat.Set(now)
}

// pump ships the logs (§3.12): at once, then each second if there are any, and as
// soon as a whole batch waits; each time until there are none left.
func (s *Session) pump(ctx context.Context) error {
	ticker := time.NewTicker(logPeriod)
	defer ticker.Stop()
	for {
		for more := true; more; {
			var err error
			if more, err = s.ship(ctx); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			if err := s.slept(); err != nil { // noticed within a second
				return err
			}
		case <-s.cfg.Logs.Ready():
		}
	}
}

// ship sends one batch and says whether there was any.
func (s *Session) ship(ctx context.Context) (shipped bool, err error) {
	batch := s.cfg.Logs.Take()
	if len(batch) == 0 {
		return false, nil
	}
	if err := s.Send(ctx, protocol.LogBatch{Entries: batch}); err != nil {
		s.cfg.Logs.Restore(batch)
		return false, err
	}
	return true, nil
}

// flush ships what is left at an orderly end, within flushLimit. What remains
// stays queued: it is only lost with the process.
func (s *Session) flush() {
	ctx, cancel := context.WithTimeout(context.Background(), flushLimit)
	defer cancel()
	for more := true; more; {
		var err error
		if more, err = s.ship(ctx); err != nil {
			return
		}
	}
}

// banner says once per session what the worker offers, and warns of a threshold
// that the cards cannot hold (§9).
func (s *Session) banner(c protocol.Capabilities) {
	kinds := make([]string, len(c.TaskKinds))
	for i, kind := range c.TaskKinds {
		kinds[i] = string(kind)
	}
	s.cfg.Log.Info("advertising", "engine", c.Engine,
		"vram_total", fmt.Sprintf("%.1f", c.VRAMTotalGB), "vram_threshold", fmt.Sprintf("%.1f", c.VRAMThresholdGB),
		"auto_enabled", c.AutoEnabled, "kinds", strings.Join(kinds, ", "),
		"model_count", len(c.SupportedModels), "models", strings.Join(c.SupportedModels, ", "))
	if c.VRAMTotalGB > 0 && c.VRAMThresholdGB > c.VRAMTotalGB {
		s.cfg.Log.Warn("vram_threshold_gb is more than this computer has: lower it",
			"vram_threshold_gb", fmt.Sprintf("%.1f", c.VRAMThresholdGB), "vram_total_gb", fmt.Sprintf("%.1f", c.VRAMTotalGB))
	}
}
