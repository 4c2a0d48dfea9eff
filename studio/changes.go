package studio

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"
)

// Parts of the studio that change. The dashboard's pages name them.
const (
	changedJobs          = "jobs"
	changedWorkers       = "workers"
	changedRegistrations = "registrations"
	changedModels        = "models"
	changedKeys          = "keys"
	changedWebhooks      = "webhooks"
	changedAudit         = "audit"
	changedLogs          = "logs"
)

// changes tells watchers when parts of the studio have changed. What changes
// while a watcher is busy is told as one.
type changes struct {
	begun uint64 // the generation at the start: what is older is from an earlier life

	mu       sync.Mutex
	now      uint64 // generation: grows with each change
	last     map[string]uint64
	watchers map[chan struct{}][]string
}

func newChanges() *changes {
	begun := uint64(time.Now().UnixNano())
	return &changes{begun: begun, now: begun, last: map[string]uint64{}, watchers: map[chan struct{}][]string{}}
}

// generation numbers the state of the studio.
func (c *changes) generation() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// touch says that a part has changed. It never waits.
func (c *changes) touch(part string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now++
	c.last[part] = c.now
	for wake, parts := range c.watchers {
		if slices.Contains(parts, part) {
			tell(wake)
		}
	}
}

func tell(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default: // it is told already
	}
}

// watch yields when one of the parts has changed since a generation, and each
// time that one changes after that, until ctx ends.
func (c *changes) watch(ctx context.Context, since uint64, parts []string) iter.Seq[struct{}] {
	return func(yield func(struct{}) bool) {
		wake := make(chan struct{}, 1)
		c.mu.Lock()
		c.watchers[wake] = parts
		if since < c.begun || slices.ContainsFunc(parts, func(p string) bool { return c.last[p] > since }) {
			tell(wake)
		}
		c.mu.Unlock()
		defer func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			delete(c.watchers, wake)
		}()
		for {
			select {
			case <-wake:
			case <-ctx.Done():
				return
			}
			if !yield(struct{}{}) {
				return
			}
		}
	}
}
