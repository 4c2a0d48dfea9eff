package studio

import (
	"context"
	"iter"
	"sync"
)

// Parts of the studio that change. The names are those of the dashboard's pages.
const (
	changedJobs          = "jobs"
	changedWorkers       = "workers"
	changedRegistrations = "registrations"
	changedModels        = "models"
	changedKeys          = "keys"
	changedAudit         = "audit"
	changedLogs          = "logs"
)

// changes tells watchers which parts of the studio have changed. What changes
// while a watcher is busy is told as one.
type changes struct {
	mu       sync.Mutex
	watchers map[*watcher]struct{}
}

type watcher struct {
	parts map[string]bool // guarded by changes.mu
	wake  chan struct{}   // has room for one
}

func newChanges() *changes { return &changes{watchers: map[*watcher]struct{}{}} }

// touch says that a part has changed. It never waits.
func (c *changes) touch(part string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.watchers {
		w.parts[part] = true
		select {
		case w.wake <- struct{}{}:
		default: // it is told already
		}
	}
}

// watch yields the parts that have changed since the last time, until ctx ends.
func (c *changes) watch(ctx context.Context) iter.Seq[map[string]bool] {
	return func(yield func(map[string]bool) bool) {
		w := &watcher{parts: map[string]bool{}, wake: make(chan struct{}, 1)}
		c.mu.Lock()
		c.watchers[w] = struct{}{}
		c.mu.Unlock()
		defer func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			delete(c.watchers, w)
		}()
		for {
			select {
			case <-w.wake:
			case <-ctx.Done():
				return
			}
			c.mu.Lock()
			parts := w.parts
			w.parts = map[string]bool{}
			c.mu.Unlock()
			if !yield(parts) {
				return
			}
		}
	}
}
