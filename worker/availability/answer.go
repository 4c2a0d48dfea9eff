package availability

import (
	"fmt"
	"math"
	"slices"
	"time"

	"studioworker/worker/availability/hours"
	"studioworker/worker/observe"
	"studioworker/worker/protocol"
)

// minFree is the room that a result must find on the disk, in bytes.
const minFree = 1 << 30

const gib = 1 << 30

// verdict is what follows from all reasons together.
type verdict struct {
	observe.Availability
	autoEnabled bool
}

// answer looks at every reason and publishes what follows. c.mu is held.
func (c *Controller) answer() verdict {
	now := time.Now()
	set := c.cfg.Settings()
	if !set.equal(c.settings) {
		c.settings = set
		c.nudge()
	}
	if c.paused && !c.pausedUntil.IsZero() && !now.Before(c.pausedUntil) {
		c.resume()
	}
	out := verdict{autoEnabled: true}
	for _, reason := range c.reasons(now, set) { // the first one counts
		if out.Block == observe.BlockNone {
			out.Availability = reason
		}
		// The studio judges the person's presence by itself (§3.13).
		out.autoEnabled = out.autoEnabled && reason.Block == observe.BlockUserActive
	}
	c.publish(out.Availability, now)
	return out
}

// reasons lists all that is against a job now, in the order of their weight.
func (c *Controller) reasons(now time.Time, set Settings) []observe.Availability {
	var list []observe.Availability
	add := func(holds bool, a observe.Availability) {
		if holds {
			list = append(list, a)
		}
	}
	add(c.stopping, observe.Availability{Block: observe.BlockStopping})
	add(c.paused, observe.Availability{Block: observe.BlockPaused, Until: c.pausedUntil})
	if free, full := c.diskFull(); full {
		add(true, observe.Availability{
			Block: observe.BlockDiskFull, Detail: fmt.Sprintf("%s free, %s needed", gb(free/gib), gb(minFree/gib)),
			Why: observe.Why{Reason: observe.ReasonDiskFull}, FreeGB: tenths(free / gib), NeedGB: tenths(minFree / gib),
		})
	}
	opens, closed := c.outsideHours(now, set)
	add(closed, observe.Availability{Block: observe.BlockHours, Until: opens})
	add(set.PauseOnBattery && c.onBattery, observe.Availability{Block: observe.BlockBattery})
	person := observe.Availability{Block: observe.BlockUserActive}
	if c.presenceLost {
		person.Detail = "this computer does not tell whether you are using it"
		person.Why = observe.Why{Reason: observe.ReasonNoPresence}
	}
	add(set.OnlyWhenIdle && c.presence != protocol.PresenceIdle, person) // unknown counts as active (§3.9)
	return list
}

// diskFull says whether there is too little room for a result, and the bytes of
// room. A disk that cannot be asked is said once and counts as having room: the
// job would fail with the reason.
func (c *Controller) diskFull() (free float64, full bool) {
	if c.cfg.FreeDisk == nil {
		return 0, false
	}
	n, err := c.cfg.FreeDisk()
	if err != nil && !c.diskUnknown {
		c.cfg.Log.Warn("the free space of the disk is not known", "error", err)
	}
	c.diskUnknown = err != nil
	return float64(n), err == nil && n < minFree
}

// outsideHours says whether the weekly plan keeps the worker closed, and until
// when. Entries that cannot be read, which the config refuses, change nothing.
func (c *Controller) outsideHours(now time.Time, set Settings) (opens time.Time, closed bool) {
	if !slices.Equal(set.WeeklyHours, c.weekOf) {
		c.weekOf = slices.Clone(set.WeeklyHours)
		if week, err := hours.Parse(set.WeeklyHours); err != nil {
			c.cfg.Log.Error("weekly hours cannot be used", "error", err)
		} else {
			c.week = week
		}
	}
	if c.week.Open(now) {
		return time.Time{}, false
	}
	opens, _ = c.week.Next(now)
	return opens, true
}

func (c *Controller) publish(a observe.Availability, now time.Time) {
	before := c.cfg.Slot.Get()
	if a == before {
		return
	}
	c.cfg.Slot.Set(a)
	// The person's own doing is said where it is done.
	own := func(b observe.Block) bool { return b == observe.BlockPaused || b == observe.BlockStopping }
	if a.Block == before.Block || own(a.Block) || a.Block == observe.BlockNone && own(before.Block) {
		return
	}
	c.cfg.Log.Info("availability changed", "reason", observe.Sentence(a, now))
}

// Refusal returns the reject of any offer that came now (§3.9), or false when
// offers may be taken.
func (c *Controller) Refusal() (reason string, code protocol.RejectCode, refused bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.answer()
	switch now.Block {
	case observe.BlockNone:
		return "", "", false
	case observe.BlockStopping, observe.BlockPaused:
		reason = "worker paused by operator"
	case observe.BlockUserActive:
		reason = "only when idle: the person is using this computer"
	case observe.BlockHours:
		reason = "worker paused: outside its weekly hours"
	case observe.BlockBattery:
		reason = "worker paused: on battery power"
	case observe.BlockDiskFull:
		return "worker busy: its disk is almost full: " + now.Detail, protocol.RejectBusy, true
	}
	return reason, protocol.RejectPaused, true
}

// gb words an amount of GiB with at most one decimal.
func gb(n float64) string { return fmt.Sprintf("%v GB", tenths(n)) }

// tenths rounds down to one decimal, so that what is too little never looks like
// enough.
func tenths(n float64) float64 { return math.Floor(n*10) / 10 }
