package studio

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

// What the other side is told.
const (
	cancelledText = "cancelled by the operator"
	removedText   = "the operator removed this worker"
)

// cancelJob ends a job without a result. The answer is 200 when it is cancelled,
// and 202 while a worker is stopping it.
func (s *Studio) cancelJob(w http.ResponseWriter, r *http.Request, who caller) {
	drain(w, r)
	j := s.find(w, r, who)
	if j == nil {
		return
	}
	err := s.hub.cancel(r.Context(), j, cancelledText)
	now := j.status()
	switch {
	case errors.Is(err, errFinished):
		writeError(w, http.StatusConflict, "conflict", "the job is "+string(now.State)+" already, so it cannot be cancelled")
	case err != nil:
		s.internal(w, err)
	case now.State.Final():
		writeJSON(w, http.StatusOK, now)
	default:
		writeJSON(w, http.StatusAccepted, now)
	}
}

// removeWorker makes a worker a stranger again.
func (s *Studio) removeWorker(w http.ResponseWriter, r *http.Request) {
	drain(w, r)
	id := r.PathValue("id")
	switch err := s.people.remove(r.Context(), id); {
	case errors.Is(err, errNoWorker):
		writeError(w, http.StatusNotFound, "not_found", err.Error())
	case err != nil:
		s.internal(w, err)
	default:
		s.hub.dismiss(r.Context(), id)
		w.WriteHeader(http.StatusNoContent)
	}
}

// cancelled makes the record that of a cancelled job.
func cancelled(rec *store.Job, why string) {
	if rec.Cancelling { // it was said when that was asked for
		why = rec.Error
	}
	rec.State, rec.Error, rec.Cancelling, rec.FinishedAt = store.Cancelled, why, false, time.Now().UTC()
}

// cancel ends a job without a result. One that a connected worker has, which can
// stop it, is cancelled when that worker has answered, or after CancelLimit; any
// other at once. A job that has ended is errFinished.
func (h *hub) cancel(ctx context.Context, j *job, why string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	patient := false
	err := h.change(ctx, j, func(rec *store.Job) error {
		patient = rec.State.Claimed() && h.canStop(j, *rec)
		switch {
		case rec.State.Final():
			return errFinished
		case patient && rec.Cancelling:
			return errStale // asked twice
		case patient:
			rec.Cancelling, rec.Error = true, why
		default:
			cancelled(rec, why)
		}
		return nil
	})
	switch {
	case errors.Is(err, errStale):
		return nil
	case err != nil:
		return err
	case patient:
		if j.holder != nil { // else the studio that has it hears of it
			h.stop(ctx, j.holder, j.now())
		}
		h.after(ctx, h.cfg.CancelLimit, func(ctx context.Context) { h.giveUp(ctx, j) })
	default:
		h.release(j)
	}
	h.log.Info("a job is cancelled", "job_id", j.id, "at_worker", patient)
	return nil
}

// canStop says whether somebody can be asked to stop the claimed job: a worker
// here that knows how, or the studio it is connected to. The caller holds j.mu.
func (h *hub) canStop(j *job, rec store.Job) bool {
	if j.holder != nil {
		return j.holder.has(protocol.FeatureCancel)
	}
	return processOf(rec.Session) != h.process && h.lives(rec.Session)
}

// giveUp cancels a job whose worker did not answer in time.
func (h *hub) giveUp(ctx context.Context, j *job) {
	j.mu.Lock()
	defer j.mu.Unlock()
	err := h.change(ctx, j, func(rec *store.Job) error {
		if !rec.Cancelling {
			return errStale
		}
		cancelled(rec, cancelledText)
		return nil
	})
	switch {
	case err == nil:
		h.log.Warn("a worker did not say that it stopped a job", "job_id", j.id, "worker_id", j.now().WorkerID)
		h.release(j)
	case !errors.Is(err, errStale):
		h.log.Error("a job could not be cancelled, trying again", "job_id", j.id, "error", err)
		h.after(ctx, storeRetry, func(ctx context.Context) { h.giveUp(ctx, j) })
	}
}

// release lets go of a job that has just been cancelled. Its worker may still be
// at it, so it gets no other before it says that it is not. The caller holds
// j.mu.
func (h *hub) release(j *job) {
	s := j.holder
	j.holder = nil
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dequeueLocked(j)
	if s != nil && s.held == j {
		s.held, s.busyWith = nil, j.id
	}
}

// stop asks the session's worker to stop a job that is cancelled, or about to
// be; with any other job, and for a worker that cannot, it does nothing.
func (h *hub) stop(ctx context.Context, s *session, rec store.Job) {
	if (rec.State != store.Cancelled && !rec.Cancelling) || !s.has(protocol.FeatureCancel) {
		return
	}
	h.spawn(ctx, func(context.Context) {
		if err := s.send(protocol.Cancel{JobID: rec.ID, Reason: cancelledText}); err != nil {
			h.log.Debug("a worker was not told to stop", "job_id", rec.ID, "worker_id", s.worker, "error", err)
		}
	})
}

// cancels says whether the worker is connected and knows of cancelled jobs.
func (h *hub) cancels(worker string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.current[worker]; s != nil {
		return s.hasLocked(protocol.FeatureCancel)
	}
	return slices.Contains(h.elsewhere[worker].Caps.Features, protocol.FeatureCancel)
}

// answersCancel says whether the session's worker was asked to stop the job, on
// this session or an earlier one. The caller holds j.mu.
func answersCancel(s *session, j *job) bool {
	rec := j.now()
	return (rec.State == store.Cancelled || rec.Cancelling) && rec.WorkerID == s.worker && s.has(protocol.FeatureCancel)
}

// dismiss ends the session of a worker that was removed, and queues its jobs
// again.
func (h *hub) dismiss(ctx context.Context, worker string) {
	h.mu.Lock()
	s := h.current[worker]
	orphans := slices.Clone(h.orphans[worker])
	for _, o := range orphans {
		h.dropOrphanLocked(o.job)
	}
	delete(h.elsewhere, worker)
	var held *job
	if s != nil {
		held = h.removeLocked(s)
	}
	h.mu.Unlock()
	h.logs.forget(worker)
	if s != nil {
		h.spawn(ctx, func(context.Context) {
			s.end(protocol.CloseDeleted, removedText, &protocol.Error{Code: protocol.ErrorDeleted, Message: removedText})
		})
	}
	if held != nil {
		h.putBack(ctx, s, held, release{why: removedText})
	}
	for _, o := range orphans {
		h.putBack(ctx, nil, o.job, release{why: removedText, claim: o.claim})
	}
}
