package program

import (
	"sync"
	"time"
)

// When an engine whose machine fails is not offered work any more.
const (
	strikes = 3                // failures in a row
	rest    = 10 * time.Minute // until another try
)

// Health remembers whether the machine under an engine fails: a lost graphics
// card, a driver that does not start. The zero Health is well. It is safe for
// concurrent use.
type Health struct {
	mu     sync.Mutex
	failed int
	reason string
	since  time.Time
}

// Fail records a failure. lost withdraws the engine at once, anything else after
// three in a row (engines spec §5.4).
func (h *Health) Fail(reason string, lost bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed++
	if lost {
		h.failed = max(h.failed, strikes)
	}
	h.reason, h.since = reason, time.Now()
}

// Well records that a job went well.
func (h *Health) Well() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed, h.reason = 0, ""
}

// Withdrawn says why the engine is not offered work now. After ten minutes it may
// try again; the next failure withdraws it at once.
func (h *Health) Withdrawn() (reason string, withdrawn bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed < strikes || time.Since(h.since) >= rest {
		return "", false
	}
	return h.reason, true
}
