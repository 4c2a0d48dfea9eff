package job

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"studioworker/worker/observe"
	"studioworker/worker/outbox"
	"studioworker/worker/protocol"
)

// Why the studio's word ends a job.
var (
	ErrRevoked = errors.New("the studio cancelled the job")
	errDropped = errors.New("the studio gave the job to another worker, or has ended it")
)

// revokedText is what a worker answers to a cancel frame.
const revokedText = "cancelled"

// maxOwed bounds the failures that wait for a session. The studio queues a job
// again whose worker says nothing.
const maxOwed = 64

// owed is a failure that could not be said before the session ended.
type owed struct {
	studio string
	frame  protocol.Fail
}

// current is where the outcome of the job in flight goes.
func (r *Runner) current() Link {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.link
}

// send sends a frame about the job in flight. When the session ends meanwhile
// and the job has moved to the next one, it goes there.
func (r *Runner) send(ctx context.Context, frame protocol.WorkerFrame) error {
	for link := r.current(); ; {
		err := link.Send(ctx, frame)
		now := r.current()
		if err == nil || ctx.Err() != nil || now == link {
			return err
		}
		link = now
	}
}

// answerFail sends the fail frame. A job that was stopped still owes the studio
// its answer, so ctx may be over. To a studio that resumes jobs it is said on the
// next session, if this one is over.
func (r *Runner) answerFail(ctx context.Context, jobID string, link Link, text string, retryable bool, log *slog.Logger) {
	log.Warn("job failed", "error", text, "retryable", retryable)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), replyLimit)
	defer cancel()
	studio, _ := r.cfg.Origin()
	frame := protocol.Fail{JobID: jobID, Error: text, Retryable: retryable}
	for {
		err := link.Send(ctx, frame)
		if err == nil {
			return
		}
		r.mu.Lock()
		moved := r.jobID == jobID && r.link != link
		switch {
		case moved:
			link = r.link
		case link.Has(protocol.FeatureResume):
			r.owed = append(r.owed, owed{studio, frame})
			r.owed = r.owed[max(0, len(r.owed)-maxOwed):]
		}
		r.mu.Unlock()
		if !moved {
			log.Error("answer was not sent", "error", err)
			return
		}
	}
}

// Unfinished lists the jobs of the present studio whose outcome it does not
// have: the one in flight, those that failed, and results in the outbox, oldest
// first, at most protocol.MaxResume.
func (r *Runner) Unfinished() []string {
	studio, _ := r.cfg.Origin()
	var ids []string
	r.mu.Lock()
	if r.jobID != "" && r.studio == studio {
		ids = append(ids, r.jobID)
	}
	for _, o := range r.owed {
		if o.studio == studio {
			ids = append(ids, o.frame.JobID)
		}
	}
	r.mu.Unlock()
	for _, e := range r.cfg.Outbox.Entries() {
		if e.StudioURL == studio && !slices.Contains(ids, e.JobID) {
			ids = append(ids, e.JobID)
		}
	}
	return ids[:min(len(ids), protocol.MaxResume)]
}

// Resumed says which of the unfinished jobs the studio still wants from this
// worker. What it keeps is answered on link from now on, and a JSON result of
// theirs is sent at once. What it drops is stopped; its result waits in kept/.
func (r *Runner) Resumed(ctx context.Context, keep, drop []string, link Link) {
	r.cfg.Log.Info("studio resumed jobs", "kept", len(keep), "dropped", len(drop))
	r.mu.Lock()
	if slices.Contains(keep, r.jobID) {
		r.link = link
		select {
		case r.moved <- struct{}{}:
		default: // it is about to be looked at
		}
	}
	var say []protocol.Fail
	r.owed = slices.DeleteFunc(r.owed, func(o owed) bool {
		if slices.Contains(keep, o.frame.JobID) {
			say = append(say, o.frame)
			return true
		}
		return slices.Contains(drop, o.frame.JobID)
	})
	r.mu.Unlock()
	for _, f := range say {
		r.answerFail(ctx, f.JobID, link, f.Error, f.Retryable, r.cfg.Log.With("job_id", f.JobID))
	}
	for _, id := range keep {
		r.redeliver(ctx, id, link)
	}
	for _, id := range drop {
		if !r.Cancel(id, errDropped) {
			r.setAside(id, r.cfg.Log.With("job_id", id))
		}
	}
}

// setAside moves the stored result of a job to kept/, if there is one: the studio
// has no use for it now.
func (r *Runner) setAside(jobID string, log *slog.Logger) {
	e, ok := r.cfg.Outbox.Find(jobID)
	if !ok {
		return
	}
	if err := r.cfg.Outbox.Keep(e); err != nil && !errors.Is(err, outbox.ErrNotFound) {
		log.Error("result was not set aside", "error", err)
	}
	r.NotDelivered(e, errDropped)
}

// redeliver sends the stored JSON result of a job, if there is one. Results that
// are bytes are delivered by the outbox.
func (r *Runner) redeliver(ctx context.Context, jobID string, link Link) {
	e, ok := r.cfg.Outbox.Find(jobID)
	if !ok || !e.JSON() {
		return
	}
	log := r.cfg.Log.With("job_id", jobID)
	switch err := r.sendJSON(ctx, e, link.Send); {
	case errors.Is(err, errUnreadable):
		r.NotDelivered(e, err)
		r.answerFail(ctx, jobID, link, cleanText(err), true, log)
	case err != nil:
		log.Warn("result waits for the studio", "error", err)
	default:
		log.Info("json result sent", "bytes", e.Size)
	}
}

// Revoke stops a job because the studio cancelled it. A result that waits for
// delivery is removed. A job that is not here any more is only logged.
func (r *Runner) Revoke(ctx context.Context, jobID, reason string, link Link) {
	log := r.cfg.Log.With("job_id", jobID)
	log.Info("studio cancels a job", "reason", reason)
	if !r.Cancel(jobID, ErrRevoked) && !r.discard(ctx, jobID, link, log) {
		log.Info("cancelled job is not here")
	}
}

// discard removes the stored results of a job that the studio cancelled, and
// answers on link. It says whether there were any.
func (r *Runner) discard(ctx context.Context, jobID string, link Link, log *slog.Logger) bool {
	studio, _ := r.cfg.Origin()
	found := false
	for {
		e, ok := r.cfg.Outbox.Find(jobID)
		if !ok || e.StudioURL != studio {
			break
		}
		found = true
		if err := r.cfg.Outbox.Drop(e); err != nil && !errors.Is(err, outbox.ErrNotFound) {
			log.Error("result of a cancelled job was not removed", "error", err)
			break
		}
	}
	if found {
		r.update(jobID, func(row observe.RecentJob) observe.RecentJob {
			row.Outcome, row.Error, row.ResultPath = observe.OutcomeCancelled, cleanText(ErrRevoked), ""
			return row
		})
		r.answerFail(ctx, jobID, link, revokedText, false, log)
	}
	return found
}
