package job

import (
	"context"
	"errors"
	"time"

	"studioworker/worker/engine"
	"studioworker/worker/observe"
)

// ErrBusy says that another job is in flight.
var ErrBusy = errors.New("another job is running")

// local is the job of a program on this computer that is in flight.
type local struct {
	id     string
	cancel context.CancelCauseFunc
}

// RunLocal runs a job of a program on this computer. It takes the one slot that
// studio jobs take, too, and waits for it until ctx ends or patience is over:
// then it returns ErrBusy. People see the job and can stop it; the studio hears
// nothing of it. prompt is what people see of it.
func (r *Runner) RunLocal(ctx context.Context, patience time.Duration, prompt string, req engine.Request, progress func(engine.Progress)) (engine.Result, error) {
	if err := r.reserveLocal(ctx, patience); err != nil {
		return engine.Result{}, err
	}
	defer r.gate.release()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.setLocal(local{req.JobID, cancel})
	defer r.setLocal(local{})
	job := observe.CurrentJob{
		ID: req.JobID, Kind: string(req.Kind), Model: req.Model, Preview: observe.Preview(prompt), Prompt: observe.Prompt(prompt), Started: time.Now(),
	}
	r.cfg.Observers.CurrentJob.Set(job)
	defer r.cfg.Observers.CurrentJob.Set(observe.CurrentJob{})
	made, err := r.cfg.Engines.Run(ctx, req, func(p engine.Progress) {
		r.cfg.Observers.CurrentJob.Update(func(job observe.CurrentJob) observe.CurrentJob {
			job.Progress = observe.Progress{Step: p.Step, Total: p.Total, Text: p.Text}
			return job
		})
		progress(p)
	})
	row := observe.RecentJob{
		ID: job.ID, Kind: job.Kind, Model: job.Model, Preview: job.Preview, Prompt: job.Prompt, Started: job.Started,
		Duration: time.Since(job.Started), Outcome: observe.OutcomeCompleted, ResultExt: made.Ext,
	}
	log := r.cfg.Log.With("job_id", job.ID, "kind", job.Kind, "model", job.Model, "elapsed_ms", row.Duration.Milliseconds())
	switch {
	case err == nil:
		log.Info("local job is done")
	case ctx.Err() != nil:
		row.Outcome, row.Error = observe.OutcomeCancelled, cleanText(context.Cause(ctx))
		log.Info("local job was stopped", "reason", row.Error)
	default:
		row.Outcome, row.Error = observe.OutcomeFailed, cleanText(err)
		log.Warn("local job failed", "error", err)
	}
	r.cfg.Observers.RecentJobs.Add(row)
	return made, err
}

// reserveLocal waits for the slot.
func (r *Runner) reserveLocal(ctx context.Context, patience time.Duration) error {
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if r.gate.reserve() {
			return nil
		}
		if waiting.Err() != nil {
			return ErrBusy
		}
		r.gate.wait(waiting)
	}
}

func (r *Runner) setLocal(l local) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.local = l
}

// cancelLocal stops the local job in flight and says whether there was one.
func (r *Runner) cancelLocal(why error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.local.cancel == nil {
		return false
	}
	r.local.cancel(why)
	return true
}
