package job

import (
	"context"
	"errors"
	"testing"
	"time"

	"studioworker/worker/engine"
	"studioworker/worker/observe"
	"studioworker/worker/protocol"
)

// blocks is an engine that says when it runs, and waits for open.
func blocks(begun chan<- string, open <-chan struct{}) runs {
	return func(ctx context.Context, req engine.Request, progress func(engine.Progress)) (engine.Result, error) {
		progress(engine.Progress{Step: 1, Total: 2, Text: "half"})
		begun <- req.JobID
		select {
		case <-open:
			return leave(req, "json", `{"a":1}`)
		case <-ctx.Done():
			return engine.Result{}, context.Cause(ctx)
		}
	}
}

func localJob(t *testing.T, id string) engine.Request {
	t.Helper()
	return engine.Request{JobID: id, Kind: engine.KindLLM, Model: "m", Dir: t.TempDir(), LLM: &engine.LLM{}}
}

// A local job and those of the studio take turns.
func TestLocalJobsTakeTurnsWithTheStudio(t *testing.T) {
	begun, open := make(chan string, 1), make(chan struct{})
	f := setup(t, blocks(begun, open), nil)
	ended := make(chan error, 1)
	run := func(id string) {
		_, err := f.RunLocal(t.Context(), patience, "a secret question", localJob(t, id), func(engine.Progress) {})
		ended <- err
	}
	go run("local-1")
	<-begun
	now := f.seen.CurrentJob.Get()
	if now.ID != "local-1" || now.Preview != "a secret question" || now.Progress.Step != 1 || f.CurrentJobID() != "" {
		t.Errorf("shown %+v; the studio is told of %q", now, f.CurrentJobID())
	}
	l := newLink()
	f.Offer(t.Context(), llm("j", "hello"), l)
	if reject := next[protocol.Reject](t, l); reject.Code != protocol.RejectBusy {
		t.Errorf("the studio's job: %+v", reject)
	}
	if _, err := f.RunLocal(t.Context(), time.Millisecond, "", localJob(t, "local-2"), func(engine.Progress) {}); !errors.Is(err, ErrBusy) {
		t.Errorf("another local job: %v", err)
	}
	go run("local-3") // it waits
	open <- struct{}{}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if id := <-begun; id != "local-3" {
		t.Errorf("%s came next", id)
	}
	if !f.Cancel("local-3", ErrCancelled) || f.Cancel("local-1", ErrCancelled) || f.Cancel("", ErrCancelled) {
		t.Error("the wrong job was stopped")
	}
	if err := <-ended; !errors.Is(err, ErrCancelled) {
		t.Errorf("stopped with %v", err)
	}
	f.idle(t)
	rows := f.recent(t, 2)
	if rows[0].Outcome != observe.OutcomeCompleted || rows[0].ResultExt != "json" || rows[1].Outcome != observe.OutcomeCancelled || rows[1].Error == "" {
		t.Errorf("recent %+v", rows)
	}
	f.Offer(t.Context(), llm("j", "hello"), l)
	next[protocol.Accept](t, l)
	<-begun
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the caller left")
	cancel(why)
	if _, err := f.RunLocal(ctx, patience, "", localJob(t, "local-4"), func(engine.Progress) {}); !errors.Is(err, why) {
		t.Errorf("a caller that left: %v", err)
	}
	close(open)
	f.idle(t)
}

// A worker that stops does not wait for ever for a local job.
func TestDrainStopsALocalJob(t *testing.T) {
	begun := make(chan string, 1)
	f := setup(t, blocks(begun, nil), nil)
	ended := make(chan error, 1)
	go func() {
		_, err := f.RunLocal(t.Context(), patience, "", localJob(t, "local-1"), func(engine.Progress) {})
		ended <- err
	}()
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f.Drain(ctx)
	if err := <-ended; !errors.Is(err, ErrStopping) {
		t.Errorf("stopped with %v", err)
	}
	f.idle(t)
}

func TestALocalJobThatFails(t *testing.T) {
	f := setup(t, runs(func(context.Context, engine.Request, func(engine.Progress)) (engine.Result, error) {
		return engine.Result{}, &engine.Error{Class: engine.ClassOutOfMemory, Err: errors.New("out of memory")}
	}), nil)
	if _, err := f.RunLocal(t.Context(), patience, "", localJob(t, "local-1"), func(engine.Progress) {}); err == nil {
		t.Error("no error")
	}
	if rows := f.recent(t, 1); rows[0].Outcome != observe.OutcomeFailed || rows[0].Error != "out of memory" {
		t.Errorf("recent %+v", rows)
	}
}
