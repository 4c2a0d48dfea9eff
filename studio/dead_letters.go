package studio

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"studioworker/studio/client"
	"studioworker/studio/store"
)

// Jobs that had all their attempts are dead letters: they stay as failed until
// somebody queues them again, discards them, or they are too old.

// maxBatch is how many jobs one call queues again or discards: each is a synced
// write, and the answer must come within requestLimit.
const maxBatch = 1000

// discardJob removes a job that has ended, with its result.
func (s *Studio) discardJob(w http.ResponseWriter, r *http.Request, who caller) {
	drain(w, r)
	j := s.find(w, r, who)
	if j == nil {
		return
	}
	n, err := s.hub.discard(context.WithoutCancel(r.Context()), []*job{j})
	switch {
	case err != nil:
		s.internal(w, err)
	case n == 0:
		writeError(w, http.StatusConflict, "conflict", "the job is "+string(j.now().State)+", so it cannot be discarded; cancel it first")
	default:
		s.cfg.Log.Info("a job was discarded", "job_id", j.id)
		w.WriteHeader(http.StatusNoContent)
	}
}

// failed returns the caller's dead letters, the newest first: at most maxBatch, and
// how many more there are.
func (s *Studio) failed(who caller) (some []*job, more int) {
	for _, j := range slices.Backward(s.hub.all()) {
		switch {
		case j.brief().state != store.Failed || !who.sees(j):
		case len(some) == maxBatch:
			more++
		default:
			some = append(some, j)
		}
	}
	return some, more
}

// retryFailed queues the caller's dead letters again, as many as one call may and
// the queue takes.
func (s *Studio) retryFailed(w http.ResponseWriter, r *http.Request, who caller) {
	drain(w, r)
	some, more := s.failed(who)
	out := client.Batch{Left: more}
	for i, j := range some {
		err := s.hub.full(who.key)
		if err == nil {
			err = s.hub.retry(r.Context(), j)
		}
		if errors.Is(err, errNotFailed) || errors.Is(err, store.ErrNotFound) { // somebody else was faster
			continue
		}
		if err != nil && out.Jobs == 0 {
			s.refuse(w, err)
			return
		}
		if err != nil || r.Context().Err() != nil { // what was done is told, and the rest is left
			out.Left += len(some) - i
			break
		}
		out.Jobs++
	}
	writeJSON(w, http.StatusOK, out)
}

// discardFailed removes the caller's dead letters, as many as one call may.
func (s *Studio) discardFailed(w http.ResponseWriter, r *http.Request, who caller) {
	drain(w, r)
	some, more := s.failed(who)
	n, err := s.hub.discard(r.Context(), some)
	if err != nil && n == 0 {
		s.internal(w, err)
		return
	}
	s.cfg.Log.Info("failed jobs were discarded", "count", n)
	writeJSON(w, http.StatusOK, client.Batch{Jobs: n, Left: more + len(some) - n})
}
