package job

import (
	"context"
	"sync"
	"time"

	"studioworker/worker/observe"
)

// gate is the one slot that a job must hold (§7.7). The zero gate is free.
type gate struct {
	mu         sync.Mutex
	held       bool
	delivering bool // the holder only waits for the studio: it is about to be free
	free       observe.Slot[bool]
}

// reserve takes the slot, or says false when it is held.
func (g *gate) reserve() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held {
		return false
	}
	g.held, g.delivering = true, false
	g.free.Set(false)
	return true
}

// deliver says that the holder's work is done and only the delivery is left.
func (g *gate) deliver() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.delivering = true
}

func (g *gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held, g.delivering = false, false
	g.free.Set(true)
}

func (g *gate) settling() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held && g.delivering
}

func (g *gate) taken() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held
}

// settle is how long an offer waits for a holder that is about to be free. The
// studio offers the next job as soon as it has stored a result, which may reach
// us before the answer to the upload does.
const settle = 2 * time.Second

// reserveSoon takes the slot; when its holder only waits for the studio, it
// waits a moment.
func (g *gate) reserveSoon(ctx context.Context) bool {
	if g.reserve() {
		return true
	}
	if !g.settling() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	for range g.free.Watch(ctx) {
		if g.reserve() {
			return true
		}
	}
	return false
}

// wait returns when the slot is free or ctx ends.
func (g *gate) wait(ctx context.Context) {
	for range g.free.Watch(ctx) {
		if !g.taken() {
			return
		}
	}
}
