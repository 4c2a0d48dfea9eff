package studio

import (
	"context"
	"errors"
	"slices"
	"time"

	"studioworker/studio/store"
)

// voidKeys is how long a key is listed after its end.
const voidKeys = 30 * 24 * time.Hour

// housekeep removes what is no longer wanted, now and then, until ctx ends.
func (s *Studio) housekeep(ctx context.Context) {
	tick := time.NewTicker(s.cfg.SweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now().UTC()
		s.webhooks.recover()
		for _, chore := range []struct {
			what string
			do   func() (int, error)
		}{
			{"inputs", func() (int, error) { return s.sweepInputs(ctx, now) }},
			{"keys", func() (int, error) { return s.keys.sweep(ctx, now, voidKeys) }},
			{"jobs", func() (int, error) { return s.hub.retire(ctx, now) }},
		} {
			n, err := chore.do()
			if err != nil && ctx.Err() == nil {
				s.cfg.Log.Error("what is old could not be removed, trying again later", "what", chore.what, "error", err)
			}
			if n > 0 {
				s.cfg.Log.Info("what is old was removed", "what", chore.what, "count", n)
			}
		}
	}
}

// outdated returns the jobs that are kept no longer: those that ended long ago,
// and of the others the oldest, as long as there are too many or their results
// take too much room. A job that still has something to tell is kept.
func (h *hub) outdated(now time.Time) []*job {
	h.mu.Lock()
	ended := slices.DeleteFunc(slices.Clone(h.order), func(j *job) bool { return !j.brief().state.Final() })
	h.mu.Unlock()
	slices.SortStableFunc(ended, func(a, b *job) int { return b.brief().finished.Compare(a.brief().finished) }) // newest first
	var out []*job
	kept, bytes := 0, int64(0)
	for _, j := range ended {
		b := j.brief()
		kept++
		bytes += b.bytes
		old := now.Sub(b.finished) > h.cfg.KeepFor || kept > h.cfg.KeepJobs || bytes > h.cfg.KeepBytes
		if old && !b.telling {
			out = append(out, j)
		}
	}
	return out
}

// retire removes outdated jobs with their results, and says how many.
func (h *hub) retire(ctx context.Context, now time.Time) (int, error) {
	return h.discard(ctx, h.outdated(now))
}

// discard removes jobs that have ended, with their results, and says how many. One
// that goes on is left. The record goes first: without it a result does not exist,
// and what a crash leaves of it is swept at the next start.
func (h *hub) discard(ctx context.Context, jobs []*job) (int, error) {
	gone := map[string]bool{}
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		for id := range gone {
			delete(h.jobs, id)
		}
		if len(gone) > 0 {
			h.order = slices.DeleteFunc(h.order, func(j *job) bool { return gone[j.id] })
			h.changes.touch(changedJobs)
		}
	}()
	for _, j := range jobs {
		if ctx.Err() != nil {
			return len(gone), ctx.Err()
		}
		result, err := h.retireOne(ctx, j)
		if errors.Is(err, errStale) {
			continue
		}
		if err != nil {
			return len(gone), err
		}
		gone[j.id] = true
		if result == nil {
			continue
		}
		if err := h.store.Discard(ctx, *result); err != nil {
			return len(gone), err
		}
	}
	return len(gone), nil
}

// retireOne removes the record of a job, unless it has changed meanwhile.
func (h *hub) retireOne(ctx context.Context, j *job) (*store.Result, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e, err := j.entry()
	if err != nil || !e.Value.State.Final() { // what cannot be read stays as it is
		return nil, errStale
	}
	err = h.store.Jobs.Delete(context.WithoutCancel(ctx), j.id, e.Revision)
	if errors.Is(err, store.ErrConflict) {
		return nil, errStale
	}
	return e.Value.Result, err
}
