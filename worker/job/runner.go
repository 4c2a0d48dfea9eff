package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"studioworker/worker/engine"
	"studioworker/worker/observe"
	"studioworker/worker/outbox"
	"studioworker/worker/protocol"
)

// Why a running job was stopped.
var (
	ErrStopping  = errors.New("the worker is stopping")
	ErrCancelled = errors.New("stopped by the person at the worker")
)

// errDelivered: the offer of a job crossed the delivery of its result.
var errDelivered = errors.New("the result was delivered while the job was offered")

// Limits of a job.
const (
	progressPeriod = 500 * time.Millisecond // between two progress frames
	replyLimit     = 10 * time.Second       // to hand the studio an answer after the job was stopped
)

// Link is the way back to the studio for one offer.
type Link interface {
	Send(ctx context.Context, frame protocol.WorkerFrame) error
	Has(feature string) bool
}

// engines runs a request on the engine that it names.
type engines interface {
	Run(ctx context.Context, req engine.Request, progress func(engine.Progress)) (engine.Result, error)
}

// refuser says whether an offer may be taken now.
type refuser interface {
	Refusal() (reason string, code protocol.RejectCode, refused bool)
}

// Config is what a runner needs.
type Config struct {
	Engines      engines
	Availability refuser
	// Misfit returns the reject of one offer, asked while no job is in flight. Nil
	// takes every one.
	Misfit func(ctx context.Context, claim protocol.Claim) (reason string, code protocol.RejectCode, refused bool)
	Outbox *outbox.Outbox
	// Deliver tries at once to deliver a result that is bytes.
	Deliver   func(ctx context.Context, e outbox.Entry) (outbox.Outcome, error)
	Origin    func() (studioURL, workerID string) // of the studio that offers
	Observers *observe.WorkerObservers
	Log       *slog.Logger
}

// Runner answers offers and runs jobs. Its methods are safe for concurrent use.
type Runner struct {
	cfg   Config
	gate  gate
	moved chan struct{}       // room for one: the job in flight has another link
	work  chan protocol.Claim // accepted offers; room for one: only the holder of the gate sends

	moving sync.WaitGroup // moves of acknowledged results

	mu      sync.Mutex
	local   local                   // job of a program on this computer
	jobID   string                  // of the job in flight, from accept to outcome
	link    Link                    // where its outcome goes; its session may be over
	studio  string                  // that offered it
	owed    []owed                  // failures that could not be said
	cancel  context.CancelCauseFunc // of the job in flight; nil = it has not begun
	stopped error                   // why the job in flight was stopped; nil = it was not
}

// New returns a runner. Accepted jobs are run by Run.
func New(cfg Config) *Runner {
	return &Runner{cfg: cfg, moved: make(chan struct{}, 1), work: make(chan protocol.Claim, 1)}
}

// Run runs accepted jobs, one at a time, until ctx ends, which also stops the
// job in flight.
func (r *Runner) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case claim := <-r.work:
			r.run(ctx, claim)
		}
	}
}

// Offer answers an offer: reject, or accept and start (§8.1). The accept is on
// the wire before the job starts; when it cannot be sent the job is not run.
func (r *Runner) Offer(ctx context.Context, claim protocol.Claim, link Link) {
	log := r.cfg.Log.With("job_id", claim.JobID)
	reason, code, refused := r.cfg.Availability.Refusal()
	if !refused && !r.gate.reserveSoon(ctx) {
		reason, code, refused = "worker already has an in-flight job", protocol.RejectBusy, true
	} else if !refused && r.cfg.Misfit != nil {
		if reason, code, refused = r.cfg.Misfit(ctx, claim); refused {
			r.gate.release()
		}
	}
	if refused {
		log.Info("rejecting offer", "reason", reason)
		if err := link.Send(ctx, protocol.Reject{JobID: claim.JobID, Reason: reason, Code: code}); err != nil {
			log.Error("answer was not sent", "error", err)
		}
		return
	}
	r.setJob(claim.JobID, link)
	if err := link.Send(ctx, protocol.Accept{JobID: claim.JobID}); err != nil {
		_, _ = r.end() // it has not begun
		r.gate.release()
		log.Error("answer was not sent", "error", err)
		return
	}
	r.work <- claim
}

// CurrentJobID is the job in flight, from its accept until its outcome is
// recorded; empty = none (§3.8 rule 10).
func (r *Runner) CurrentJobID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.jobID
}

func (r *Runner) setJob(id string, link Link) {
	studio, _ := r.cfg.Origin()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.jobID, r.link, r.studio, r.cancel, r.stopped = id, link, studio, nil, nil
}

// end forgets the job in flight: from here on Cancel does not find it. It returns
// where its outcome goes, and why it was stopped, if it was.
func (r *Runner) end() (link Link, stopped error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	link, stopped = r.link, r.stopped
	r.jobID, r.link, r.cancel, r.stopped = "", nil, nil, nil
	return link, stopped
}

// begin says how the job in flight is stopped from now on.
func (r *Runner) begin(cancel context.CancelCauseFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cancel = cancel
	if r.stopped != nil {
		cancel(r.stopped)
	}
}

// Cancel stops the job in flight, if it is that one, and says whether it was.
// The studio may offer it again.
func (r *Runner) Cancel(jobID string, why error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if jobID == "" || r.jobID != jobID {
		if jobID != "" && r.local.id == jobID {
			r.local.cancel(why)
			return true
		}
		return false
	}
	if !errors.Is(r.stopped, ErrRevoked) { // what the studio wants of a result outranks the rest
		r.stopped = why
	}
	if r.cancel != nil { // else it was accepted, but has not begun
		r.cancel(why)
	}
	return true
}

// Idle waits until no job is in flight, or ctx ends, and stops nothing.
func (r *Runner) Idle(ctx context.Context) { r.gate.wait(ctx) }

// Busy says whether a job is in flight.
func (r *Runner) Busy() bool { return r.gate.taken() }

// Drain waits until no job is in flight. When ctx ends first, it stops the job
// and waits for that. Nothing new may be offered meanwhile.
func (r *Runner) Drain(ctx context.Context) {
	r.gate.wait(ctx)
	if id := r.CurrentJobID(); ctx.Err() != nil && (id != "" && r.Cancel(id, ErrStopping) || r.cancelLocal(ErrStopping)) {
		stopped, cancel := context.WithTimeout(context.WithoutCancel(ctx), replyLimit)
		defer cancel()
		r.gate.wait(stopped)
	}
}

// run takes one accepted job to its outcome. It never panics, and always frees
// the gate.
func (r *Runner) run(ctx context.Context, claim protocol.Claim) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.begin(cancel)
	start := time.Now()
	log := r.cfg.Log.With("job_id", claim.JobID)
	current := observe.CurrentJob{
		ID: claim.JobID, Kind: string(claim.Task.Kind), Model: claim.Model,
		Preview: observe.Preview(claim.Task.Prompt()), Prompt: observe.Prompt(claim.Task.Prompt()), Started: start,
	}
	r.cfg.Observers.CurrentJob.Set(current)
	stored := false
	defer func() {
		r.cfg.Observers.CurrentJob.Set(observe.CurrentJob{})
		link, why := r.end()
		switch { // it was stopped too late to stop the engine
		case stored && errors.Is(why, ErrRevoked):
			r.discard(ctx, claim.JobID, link, log)
		case stored && errors.Is(why, errDropped):
			r.setAside(claim.JobID, log)
		}
		r.gate.release()
	}()
	entry, err := r.result(ctx, claim, current, log)
	if errors.Is(err, errDelivered) {
		log.Info("the studio has the result already")
		return
	}
	if err != nil {
		r.fail(ctx, current, err, log)
		return
	}
	stored = true
	log.Info("job dispatched", "elapsed_ms", time.Since(start).Milliseconds(), "ext", entry.Ext, "bytes", entry.Size)
	r.deliver(ctx, entry, log)
}

// result returns the job's stored result: from the outbox when the job was
// finished before, else by running the engine.
func (r *Runner) result(ctx context.Context, claim protocol.Claim, current observe.CurrentJob, log *slog.Logger) (e outbox.Entry, err error) {
	if e, ok := r.cfg.Outbox.Find(claim.JobID); ok {
		log.Info("answering from the outbox", "attempt", e.Attempt)
		r.finished(current, e.Path(), e.Ext, e.Created.Sub(e.Started))
		r.lies(e, r.readable(e))
		return e, nil
	}
	if r.cfg.Outbox.Acknowledged(claim.JobID) {
		return e, errDelivered
	}
	draft, err := r.cfg.Outbox.Begin(claim.JobID, claim.Attempt)
	if err != nil {
		return e, err
	}
	defer func() {
		if err != nil {
			if discardErr := draft.Discard(); discardErr != nil {
				log.Warn("unfinished result was not removed", "error", discardErr)
			}
		}
	}()
	made, err := r.compute(ctx, claim, draft.Dir())
	if err != nil {
		return e, err
	}
	// From the commit on the result may be delivered, and the next job offered,
	// before we get to say anything about this one.
	r.finished(current, filepath.Join(draft.Dir(), made.File), made.Ext, time.Since(current.Started))
	studio, worker := r.cfg.Origin()
	e, err = draft.Commit(outbox.Result{
		File: made.File, Data: made.JSON, Kind: string(claim.Task.Kind), Ext: made.Ext, Model: claim.Model,
		Prompt: claim.Task.Prompt(), StudioURL: studio, WorkerID: worker, Started: current.Started,
	})
	if err != nil {
		return e, err
	}
	r.lies(e, e.Path()) // a short one is with the studio before anybody looks
	return e, nil
}

// lies records where people find the result of a job while it waits.
func (r *Runner) lies(e outbox.Entry, path string) {
	r.update(e.JobID, func(job observe.RecentJob) observe.RecentJob {
		job.ResultPath = path
		return job
	})
}

// readable returns where people find the result of a job that waits; empty when
// it does not, or there is no room to show it.
func (r *Runner) readable(e outbox.Entry) string {
	path, err := r.cfg.Outbox.Readable(e)
	if err != nil && !errors.Is(err, outbox.ErrNotFound) {
		r.cfg.Log.Warn("waiting result cannot be shown", "job_id", e.JobID, "error", err)
	}
	return path
}

// finished records a job whose result is about to wait for the studio, and
// lets an offer of the next job wait for that.
func (r *Runner) finished(job observe.CurrentJob, path, ext string, took time.Duration) {
	r.gate.deliver()
	row := observe.RecentJob{
		ID: job.ID, Kind: job.Kind, Model: job.Model, Preview: job.Preview, Prompt: job.Prompt, Started: job.Started, Duration: took,
		Outcome: observe.OutcomeKept, ResultExt: ext, Thumbnail: picture(job.Kind, path),
	}
	// A job that was finished before is in the list already.
	if !r.update(job.ID, func(observe.RecentJob) observe.RecentJob { return row }) {
		r.cfg.Observers.RecentJobs.Add(row)
	}
}

// update changes the row of a job that waits for the studio, if there is one.
func (r *Runner) update(jobID string, change func(observe.RecentJob) observe.RecentJob) bool {
	waits := func(job observe.RecentJob) bool { return job.ID == jobID && job.Outcome == observe.OutcomeKept }
	return r.cfg.Observers.RecentJobs.Update(waits, change)
}

// picture makes the thumbnail of a result; what is no picture, or cannot be
// read, just has none.
func picture(kind, path string) []byte {
	if kind != string(protocol.KindImage) && kind != string(protocol.KindVideo) {
		return nil
	}
	small, err := thumbnail(path)
	if err != nil {
		return nil
	}
	return small
}

// compute runs the engine and tells everyone how far it is.
func (r *Runner) compute(ctx context.Context, claim protocol.Claim, dir string) (engine.Result, error) {
	last := newest{at: make(chan engine.Progress, 1)}
	running, stop := context.WithCancel(ctx)
	var telling sync.WaitGroup
	telling.Go(func() { r.tell(running, claim, last.at) })
	req := request(claim, dir)
	if req.Kind == engine.KindLLM {
		text := newPieces()
		req.Delta = text.add
		telling.Go(func() { r.recite(ctx, running, claim, text) })
	}
	made, err := r.cfg.Engines.Run(ctx, req, func(p engine.Progress) {
		r.cfg.Observers.CurrentJob.Update(func(job observe.CurrentJob) observe.CurrentJob {
			job.Progress = observe.Progress{Step: p.Step, Total: p.Total, Text: p.Text}
			return job
		})
		last.put(p)
	})
	stop()
	telling.Wait()
	return made, err
}

// newest hands over progress; a slow reader gets the newest only.
type newest struct {
	mu sync.Mutex
	at chan engine.Progress
}

func (n *newest) put(p engine.Progress) {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.at:
	default:
	}
	n.at <- p
}

// tell sends progress frames, at most one each period, to a studio that wants
// them, until ctx ends.
func (r *Runner) tell(ctx context.Context, claim protocol.Claim, progress <-chan engine.Progress) {
	pause := time.NewTimer(progressPeriod)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-progress:
			link := r.current()
			if !link.Has(protocol.FeatureProgress) {
				continue
			}
			frame := protocol.Progress{JobID: claim.JobID, Step: max(0, p.Step), Total: max(0, p.Total), Message: p.Text}
			if err := link.Send(ctx, frame); err != nil {
				continue // the session is over; the job goes on, perhaps on another
			}
			pause.Reset(progressPeriod) // counted from this frame
		}
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
}

// deliver hands a stored result to the studio. What cannot be delivered now
// waits in the outbox.
func (r *Runner) deliver(ctx context.Context, e outbox.Entry, log *slog.Logger) {
	if !e.JSON() {
		// The outcome is recorded by Delivered, whoever delivers.
		switch out, err := r.cfg.Deliver(ctx, e); {
		case err == nil:
		case out.State == outbox.StateRefused: // damaged, or never to be taken: the studio must not wait for it
			r.answerFail(ctx, e.JobID, r.current(), cleanText(err), true, log)
		default:
			log.Warn("result waits for the studio", "error", err)
		}
		return
	}
	err := r.sendJSON(ctx, e, r.send)
	if errors.Is(err, errUnreadable) {
		r.fail(ctx, observe.CurrentJob{
			ID: e.JobID, Kind: e.Kind, Model: e.Model, Preview: observe.Preview(e.Prompt), Prompt: observe.Prompt(e.Prompt), Started: e.Started,
		}, err, log)
		return
	}
	if err != nil {
		log.Error("answer was not sent", "error", err)
		r.lies(e, r.readable(e))
		return
	}
	log.Info("json result sent", "bytes", e.Size)
}

// errUnreadable says that a stored result cannot be had.
var errUnreadable = errors.New("the stored result cannot be read")

// sendJSON sends a stored JSON result.
func (r *Runner) sendJSON(ctx context.Context, e outbox.Entry, send func(context.Context, protocol.WorkerFrame) error) error {
	value, err := r.cfg.Outbox.ReadJSON(e)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return send(ctx, protocol.CompleteJSON{JobID: e.JobID, Result: json.RawMessage(value), Prompt: &e.Prompt})
}

// Acknowledged says that the studio has stored the JSON result of a job. The
// file is moved afterwards: the caller reads the studio's next frame.
func (r *Runner) Acknowledged(jobID string) {
	e, ok := r.cfg.Outbox.Find(jobID)
	if !ok || !e.JSON() {
		return
	}
	finish, err := r.cfg.Outbox.Accepted(e)
	if err != nil {
		r.cfg.Log.Error("delivered result was not moved out of the outbox", "job_id", jobID, "error", err)
		return
	}
	r.moving.Go(func() {
		path, err := finish()
		if err != nil {
			r.cfg.Log.Error("delivered result was not moved out of the outbox", "job_id", jobID, "error", err)
			return
		}
		r.Delivered(e, path)
	})
}

// Settle waits until the results that the studio acknowledged are where they
// belong. No session may be open any more.
func (r *Runner) Settle() { r.moving.Wait() }

// Delivered records that the studio has a result, which now lies at path.
func (r *Runner) Delivered(e outbox.Entry, path string) {
	known := r.update(e.JobID, func(job observe.RecentJob) observe.RecentJob {
		job.Outcome, job.ResultPath, job.Error = observe.OutcomeCompleted, path, ""
		return job
	})
	if known {
		return
	}
	r.cfg.Observers.RecentJobs.Add(observe.RecentJob{ // finished by an earlier process
		ID: e.JobID, Kind: e.Kind, Model: e.Model, Preview: observe.Preview(e.Prompt), Prompt: observe.Prompt(e.Prompt), Started: e.Started,
		Duration: e.Created.Sub(e.Started), Outcome: observe.OutcomeCompleted, ResultPath: path, ResultExt: e.Ext,
		Thumbnail: picture(e.Kind, path),
	})
}

// NotDelivered records why the studio did not take a result. One that is still
// in the outbox may be asked for again; any other is lost to the studio.
func (r *Runner) NotDelivered(e outbox.Entry, reason error) {
	now, kept := r.cfg.Outbox.Find(e.JobID)
	path := ""
	if kept {
		path = r.readable(now)
	}
	r.update(e.JobID, func(job observe.RecentJob) observe.RecentJob {
		job.Error, job.ResultPath = cleanText(reason), path
		if !kept {
			job.Outcome = observe.OutcomeFailed
		}
		return job
	})
}

// fail tells the studio and the person that a job failed (§8.3).
func (r *Runner) fail(ctx context.Context, job observe.CurrentJob, err error, log *slog.Logger) {
	text := cleanText(err)
	outcome := observe.OutcomeFailed
	retryable := engine.Retryable(err)
	cause := context.Cause(ctx)
	if cause != nil {
		outcome, retryable, text = observe.OutcomeCancelled, true, cleanText(cause)
	}
	switch {
	case errors.Is(cause, errDropped): // it is not ours to answer for
	case errors.Is(cause, ErrRevoked):
		r.answerFail(ctx, job.ID, r.current(), revokedText, false, log)
	default:
		r.answerFail(ctx, job.ID, r.current(), text, retryable, log)
	}
	class := ""
	if e, ok := errors.AsType[*engine.Error](err); ok && outcome == observe.OutcomeFailed {
		class = string(e.Class)
	}
	failed := func(row observe.RecentJob) observe.RecentJob {
		row.Outcome, row.Error, row.Class, row.ResultPath = outcome, text, class, ""
		return row
	}
	if !r.update(job.ID, failed) { // it had no result yet
		r.cfg.Observers.RecentJobs.Add(failed(observe.RecentJob{
			ID: job.ID, Kind: job.Kind, Model: job.Model, Preview: job.Preview, Prompt: job.Prompt, Started: job.Started,
			Duration: time.Since(job.Started),
		}))
	}
}

// cleanText is an error's whole chain in one line of bounded length, without
// the folders of this computer, which errors of the outbox name (§8.3).
func cleanText(err error) string {
	if _, clean := errors.AsType[*engine.Error](err); !clean {
		err = &engine.Error{Class: engine.ClassInternal, Err: err}
	}
	return err.Error()
}
