package studio

import (
	"context"

	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

// resume says which of the jobs that a worker came back with are still its own.
// Those are its session's from now on: one that it names in its heartbeat goes
// on, the outcome of any other is awaited for ReclaimGrace.
func (h *hub) resume(ctx context.Context, s *session, f protocol.Resume) error {
	var answer protocol.Resumed
	var known []*job
	for _, id := range f.JobIDs {
		j := h.job(id)
		if j == nil {
			answer.Drop = append(answer.Drop, id)
			continue
		}
		kept, err := h.keep(ctx, s, j)
		switch {
		case err != nil:
			return err
		case kept:
			answer.Keep = append(answer.Keep, id)
		default:
			answer.Drop = append(answer.Drop, id)
		}
		known = append(known, j)
	}
	h.log.Info("a worker resumes", "worker_id", s.worker, "kept", len(answer.Keep), "dropped", len(answer.Drop))
	if err := s.send(answer); err != nil {
		return err
	}
	for _, j := range known {
		h.stop(ctx, s, j.now())
	}
	return nil
}

// keep makes the session the one that speaks about the job, unless it is
// another's or has ended otherwise than by this worker.
func (h *hub) keep(ctx context.Context, s *session, j *job) (bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	rec := j.now()
	switch {
	case rec.State == store.Done && rec.WorkerID == s.worker: // the answer got lost
	case rec.State.Final(), j.holder != nil && j.holder != s, rec.State.Claimed() && rec.WorkerID != s.worker:
		return false, nil
	case rec.State == store.Running:
	default: // given up already: it is the worker's again
		h.mu.Lock()
		reserved := rec.State == store.Queued && !j.queued
		h.dequeueLocked(j)
		h.mu.Unlock()
		if reserved { // for another, who is about to be offered it
			return false, nil
		}
		if err := h.start(ctx, s, j, ""); err != nil {
			h.enqueue(ctx, j)
			return false, err
		}
		j.holder = nil
		h.abandon(ctx, s.worker, j, "")
	}
	j.last = s.id
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.kept == nil {
		s.kept = map[string]bool{}
	}
	s.kept[j.id] = true
	return true, nil
}
