package availability

import (
	"context"
	"time"

	"studioworker/worker/observe"
	"studioworker/worker/protocol"
)

// Periods of what has to be looked at again and again.
const (
	presencePeriod = 5 * time.Second // §7.6
	powerPeriod    = 30 * time.Second
	diskPeriod     = 30 * time.Second // only while the disk is too full
	// askWindow is how long a question for the presence keeps it sampled: longer
	// than a few heartbeats are apart.
	askWindow = 15 * time.Second
	// wallPeriod bounds a wait for a time on the wall: timers stand still while the
	// computer sleeps, and clocks are set.
	wallPeriod = time.Minute
)

// watch is what Run knows between two looks.
type watch struct {
	presenceAt, powerAt       time.Time // when to look next; zero = at once
	presenceBroken, powerLost bool      // said already
}

// Run keeps the answer true as time passes, until ctx ends, and returns nil. It
// sleeps as long as nothing can change by itself.
func (c *Controller) Run(ctx context.Context) error {
	var w watch
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		case <-timer.C:
		}
		timer.Stop()
		if wait, more := c.look(ctx, &w); more {
			timer.Reset(wait)
		}
	}
}

// look samples what is due, publishes the answer, and says how long nothing has
// to be looked at; false when nothing has to before the next nudge.
func (c *Controller) look(ctx context.Context, w *watch) (wait time.Duration, more bool) {
	set := c.cfg.Settings()
	c.mu.Lock()
	asked := c.asked
	c.mu.Unlock()
	person := set.OnlyWhenIdle || !asked.IsZero() && time.Since(asked) < askWindow
	c.lookForPerson(ctx, w, person)
	c.lookForPower(ctx, w, set.PauseOnBattery)

	c.mu.Lock()
	defer c.mu.Unlock()
	block := c.answer().Block
	now := time.Now()
	until := func(t time.Time, most time.Duration) {
		d := min(max(t.Sub(now), 0), most)
		if !more || d < wait {
			wait, more = d, true
		}
	}
	if person {
		until(w.presenceAt, presencePeriod)
	}
	if set.PauseOnBattery {
		until(w.powerAt, powerPeriod)
	}
	if block == observe.BlockDiskFull {
		until(now.Add(diskPeriod), diskPeriod)
	}
	if c.paused && !c.pausedUntil.IsZero() {
		until(c.pausedUntil, wallPeriod)
	}
	if next, ok := c.week.Next(now); ok {
		until(next, wallPeriod)
	}
	return wait, more
}

// lookForPerson samples the presence when it is due. One that nobody wants to
// know is forgotten, so that it is never told when it is old.
func (c *Controller) lookForPerson(ctx context.Context, w *watch, wanted bool) {
	switch {
	case !wanted:
		w.presenceAt = time.Time{}
		c.setPresence(protocol.PresenceUnknown, false)
		return
	case time.Now().Before(w.presenceAt):
		return
	case c.cfg.Presence == nil:
		w.presenceAt = time.Now().Add(presencePeriod)
		c.setPresence(protocol.PresenceUnknown, true)
		return
	}
	idle, err := c.cfg.Presence.IdleFor(ctx)
	w.presenceAt = time.Now().Add(presencePeriod)
	if ctx.Err() != nil {
		return
	}
	if err != nil && !w.presenceBroken {
		c.cfg.Log.Info("nobody can tell whether a person uses this computer", "error", err)
	}
	w.presenceBroken = err != nil
	switch {
	case err != nil:
		c.setPresence(protocol.PresenceUnknown, true)
	case idle >= IdleAfter:
		c.setPresence(protocol.PresenceIdle, false)
	default:
		c.setPresence(protocol.PresenceActive, false)
	}
}

func (c *Controller) setPresence(p protocol.Presence, lost bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.presence, c.presenceLost = p, lost
}

// lookForPower samples the source of power when it is due. One that cannot be
// read counts as mains: it is no reason to stand still for ever.
func (c *Controller) lookForPower(ctx context.Context, w *watch, wanted bool) {
	if !wanted {
		w.powerAt = time.Time{}
		c.setOnBattery(false)
		return
	}
	if time.Now().Before(w.powerAt) {
		return
	}
	w.powerAt = time.Now().Add(powerPeriod)
	if c.cfg.Power == nil {
		return
	}
	on, err := c.cfg.Power.OnBattery(ctx)
	if ctx.Err() != nil {
		return
	}
	if err != nil && !w.powerLost {
		c.cfg.Log.Warn("the source of power is not known", "error", err)
	}
	w.powerLost = err != nil
	c.setOnBattery(on && err == nil)
}

func (c *Controller) setOnBattery(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onBattery = on
}
