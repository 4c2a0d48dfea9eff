package studio

import (
	"context"
	"testing"
	"testing/synctest"
)

// TestChanges: a watcher hears of its parts only, of several changes as one, and
// of what changed between drawing a page and watching it.
func TestChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChanges()
		ctx, cancel := context.WithCancel(t.Context())
		heard := 0
		watch := func(since uint64, parts ...string) {
			go func() {
				for range c.watch(ctx, since, parts) {
					heard++
				}
			}()
			synctest.Wait()
		}
		drawn := c.generation()
		watch(drawn, changedJobs, changedKeys)
		if heard != 0 {
			t.Errorf("heard %d before anything changed", heard)
		}
		c.touch(changedAudit)
		synctest.Wait()
		if heard != 0 {
			t.Errorf("heard %d of another part", heard)
		}
		c.touch(changedJobs)
		synctest.Wait()
		if heard != 1 {
			t.Errorf("heard %d, want 1", heard)
		}
		watch(drawn, changedJobs) // the change came before the watcher
		if heard != 2 {
			t.Errorf("heard %d, want 2", heard)
		}
		watch(c.generation(), changedJobs)
		watch(drawn-1, changedModels) // drawn by an earlier life of the studio
		if heard != 3 {
			t.Errorf("heard %d, want 3", heard)
		}
		cancel()
		synctest.Wait()
		if len(c.watchers) != 0 {
			t.Errorf("%d watchers stay", len(c.watchers))
		}
	})
}
