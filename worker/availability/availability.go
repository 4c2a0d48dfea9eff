// Package availability is the one place that answers "may this machine take a
// job now, and why not".
//
// The answer is in the Availability slot; whoever must act on a change watches
// that slot. Every question is answered from the settings and the clock of that
// moment; [Controller.Run] only looks at what changes by itself: the end of a
// pause, the weekly hours, the person, the battery, the disk. A pause lasts as
// long as the process at most (§7.5 of the protocol specification): it is never
// saved.
package availability

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"studioworker/worker/availability/hours"
	"studioworker/worker/observe"
	"studioworker/worker/protocol"
)

// IdleAfter is how long a computer is without input before nobody is at it
// (§7.6).
const IdleAfter = 2 * time.Minute

// Settings are the person's wishes.
type Settings struct {
	OnlyWhenIdle   bool
	PauseOnBattery bool
	WeeklyHours    []string // as package hours reads them; none = always
	ThresholdGB    float64  // the largest estimate that is taken, in GiB
}

func (s Settings) equal(t Settings) bool {
	return s.OnlyWhenIdle == t.OnlyWhenIdle && s.PauseOnBattery == t.PauseOnBattery &&
		slices.Equal(s.WeeklyHours, t.WeeklyHours)
}

// idleReader says how long nobody has touched the computer.
type idleReader interface {
	IdleFor(ctx context.Context) (time.Duration, error)
}

// powerReader says whether the computer runs on its battery.
type powerReader interface {
	OnBattery(ctx context.Context) (bool, error)
}

// Config is what a controller needs. A source that is nil knows nothing.
type Config struct {
	Slot     *observe.Slot[observe.Availability]
	Settings func() Settings // read afresh for each answer
	Presence idleReader
	Power    powerReader
	// FreeDisk returns the bytes of room where results are kept.
	FreeDisk func() (uint64, error)
	// Waiting returns the bytes of the results that wait for the studio.
	Waiting func() int64
	// GPUMemory returns the GPU memory of this computer, and how much of it is
	// free, in GiB. Total 0 means unknown. It looks afresh unless it has seen
	// moments ago that need is free.
	GPUMemory func(ctx context.Context, need float64) (total, free float64)
	// Warm says whether a model is in memory already; nil = none ever is.
	Warm func(model string) bool
	// MakeRoom gives GPU memory back that only waits for a job, and says whether
	// there was any. Nil means that there never is.
	MakeRoom func(ctx context.Context) bool
	// Stored says whether the result of a job is here already.
	Stored func(jobID string) bool
	Log    *slog.Logger
}

// Controller decides. It is safe for concurrent use.
type Controller struct {
	cfg  Config
	wake chan struct{} // room for one: something changed for Run

	mu           sync.Mutex
	stopping     bool
	paused       bool
	pausedUntil  time.Time // wall clock; zero = until resumed
	presence     protocol.Presence
	presenceLost bool // it was looked for in vain
	onBattery    bool
	asked        time.Time // when somebody last asked for the presence
	settings     Settings  // as of the last answer
	week         hours.Week
	weekOf       []string // the entries that week was read from
	diskUnknown  bool
}

// New returns a controller. It looks at nothing yet.
func New(cfg Config) *Controller { return &Controller{cfg: cfg, wake: make(chan struct{}, 1)} }

// Pause stops taking jobs until Resume. A running job goes on.
func (c *Controller) Pause() { c.PauseUntil(time.Time{}) }

// PauseUntil stops taking jobs until Resume, or until the clock on the wall shows
// until; zero means until Resume alone. A running job goes on. A time that is
// over changes nothing.
func (c *Controller) PauseUntil(until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	until = until.Round(0) // the wall clock: the other one stands still during sleep
	if !until.IsZero() && !until.After(time.Now()) {
		return
	}
	was := c.paused
	c.paused, c.pausedUntil = true, until
	if !was { // a new end of the same pause is no news (§13 #54)
		c.cfg.Log.Info("claiming paused by operator")
	}
	c.answer()
	c.nudge()
}

// Resume takes jobs again.
func (c *Controller) Resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resume()
	c.answer()
	c.nudge()
}

func (c *Controller) resume() {
	if c.paused {
		c.paused, c.pausedUntil = false, time.Time{}
		c.cfg.Log.Info("claiming resumed by operator")
	}
}

// Stop takes no job any more: the program is about to end.
func (c *Controller) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopping {
		c.stopping = true
		c.cfg.Log.Info("taking no more jobs before the end")
	}
	c.answer()
}

// Refresh takes up settings that were changed.
func (c *Controller) Refresh() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer()
	c.nudge()
}

// Presence says whether a person is at the computer, as heartbeats tell it. It is
// known from soon after the first question on, while questions come.
func (c *Controller) Presence() protocol.Presence {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.asked
	c.asked = time.Now()
	if c.asked.Sub(before) > askWindow {
		c.nudge()
	}
	return c.presence
}

// AutoEnabled says whether the worker takes jobs, as heartbeats tell it. A person
// at the computer does not count: the studio judges that by the presence.
func (c *Controller) AutoEnabled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answer().autoEnabled
}

// nudge lets Run look again.
func (c *Controller) nudge() {
	select {
	case c.wake <- struct{}{}:
	default: // it is about to
	}
}
