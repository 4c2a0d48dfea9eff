// Package availability is the one place that answers "may this machine take a
// job now, and why not".
//
// The answer is in the Availability slot; whoever must act on a change watches
// that slot. A pause lasts as long as the process (§7.5 of the protocol
// specification): it is never saved.
package availability

import (
	"log/slog"
	"sync"

	"studioworker/worker/observe"
	"studioworker/worker/protocol"
)

// Controller decides. It is safe for concurrent use.
type Controller struct {
	log          *slog.Logger
	slot         *observe.Slot[observe.Availability]
	onlyWhenIdle func() bool

	mu       sync.Mutex
	paused   bool
	stopping bool
}

// New returns a controller that writes its answer to slot. onlyWhenIdle is the
// setting of that name, read afresh for each offer.
func New(slot *observe.Slot[observe.Availability], onlyWhenIdle func() bool, log *slog.Logger) *Controller {
	return &Controller{log: log, slot: slot, onlyWhenIdle: onlyWhenIdle}
}

// Presence says whether a person is at the computer. No way to tell is known
// yet, and unknown counts as active (§3.9).
func (c *Controller) Presence() protocol.Presence { return protocol.PresenceUnknown }

// Pause stops taking jobs until Resume. A running job goes on.
func (c *Controller) Pause() {
	if c.set(&c.paused, true) {
		c.log.Info("claiming paused by operator")
	}
}

// Resume takes jobs again.
func (c *Controller) Resume() {
	if c.set(&c.paused, false) {
		c.log.Info("claiming resumed by operator")
	}
}

// Stop takes no job any more: the program is about to end.
func (c *Controller) Stop() {
	if c.set(&c.stopping, true) {
		c.log.Info("taking no more jobs before the end")
	}
}

// set changes a switch. It returns false when it stood there already: then
// nothing is said (§13 #54).
func (c *Controller) set(value *bool, to bool) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if *value == to {
		return false
	}
	*value = to
	c.publish()
	return true
}

func (c *Controller) publish() {
	var now observe.Availability
	switch {
	case c.stopping:
		now.Block = observe.BlockStopping
	case c.paused:
		now.Block = observe.BlockPaused
	}
	c.slot.Set(now)
}

// AutoEnabled says whether the worker takes jobs, as heartbeats tell it.
func (c *Controller) AutoEnabled() bool { return c.slot.Get().Block == observe.BlockNone }

// Refusal returns the reject of an offer that may not be taken now (§3.9), or
// false when it may.
func (c *Controller) Refusal() (reason string, code protocol.RejectCode, refused bool) {
	switch {
	case !c.AutoEnabled():
		return "worker paused by operator", protocol.RejectPaused, true
	case c.onlyWhenIdle() && c.Presence() != protocol.PresenceIdle:
		return "only when idle: the person is using this computer", protocol.RejectPaused, true
	}
	return "", "", false
}
