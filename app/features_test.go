//go:build !windows

package app

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"

	"studioworker/studio"
	"studioworker/studio/client"
	"studioworker/worker/observe"
	"studioworker/worker/protocol"
)

// TestResume drops the connection while a job runs: the engine runs once, the
// studio keeps the claim, and the result goes over the next session.
func TestResume(t *testing.T) {
	for _, kind := range []protocol.TaskKind{protocol.KindLLM, protocol.KindTTS} {
		t.Run(string(kind), func(t *testing.T) {
			l := newLab(t, nil)
			id := l.queue(t, kind)
			l.engine.await(t, id)
			l.awaitState(t, id, client.Running)
			var states []client.State
			seen := make(chan struct{})
			go func() { // ends with the job
				defer close(seen)
				for event, err := range l.operator.Events(t.Context(), id) {
					if err != nil {
						return
					}
					states = append(states, event.Job.State)
				}
			}()
			for range 3 {
				l.reconnect(t)
			}
			l.engine.release(id)
			job := l.awaitState(t, id, client.Done)
			l.result(t, job)
			if n := l.engine.ran(id); n != 1 || job.Attempts != 1 {
				t.Errorf("the engine ran %d times in %d attempts", n, job.Attempts)
			}
			<-seen
			if slices.Contains(states, client.Queued) || slices.Contains(states, client.Offered) {
				t.Errorf("the job went through %v", states)
			}
		})
	}
}

// TestResumeAfterTheEngine cuts the line before the engine ends: what it made
// while there was no session is delivered by the next, without a new offer.
func TestResumeAfterTheEngine(t *testing.T) {
	for _, kind := range []protocol.TaskKind{protocol.KindLLM, protocol.KindTTS} {
		t.Run(string(kind), func(t *testing.T) {
			l := newLab(t, nil)
			id := l.queue(t, kind)
			l.engine.await(t, id)
			l.awaitState(t, id, client.Running)
			l.stopStudio(t)
			l.awaitSession(t, observe.SessionReconnecting)
			l.engine.release(id)
			await(t, &l.seen.Outbox, func(o observe.Outbox) bool { return o.Count == 1 })
			l.http.CloseIdleConnections()
			l.startStudio(t)
			l.worker.Reload()
			job := l.awaitState(t, id, client.Done)
			l.result(t, job)
			if n := l.engine.ran(id); n != 1 || job.Attempts != 1 {
				t.Errorf("the engine ran %d times in %d attempts", n, job.Attempts)
			}
			await(t, &l.seen.Outbox, func(o observe.Outbox) bool { return o.Count == 0 })
		})
	}
}

func await[T any](tb testing.TB, slot *observe.Slot[T], fits func(T) bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	for v := range slot.Watch(ctx) {
		if fits(v) {
			return
		}
	}
	tb.Fatalf("still %+v", slot.Get())
}

// TestCancel cancels a job in each state.
func TestCancel(t *testing.T) {
	l := newLab(t, nil)
	running, queued := l.queue(t, protocol.KindTTS), l.queue(t, protocol.KindLLM)
	l.engine.await(t, running)
	l.awaitState(t, running, client.Running)
	if job, err := l.operator.Cancel(t.Context(), queued); err != nil || job.State != client.Cancelled {
		t.Errorf("a queued job is %s, %v", job.State, err)
	}
	if job, err := l.operator.Cancel(t.Context(), running); err != nil || job.State != client.Running && job.State != client.Cancelled {
		t.Errorf("a running job is %s, %v", job.State, err)
	}
	job := l.awaitState(t, running, client.Cancelled)
	if !strings.Contains(job.Error, "operator") || job.FinishedAt.IsZero() {
		t.Errorf("it ended as %+v", job)
	}
	await(t, &l.seen.CurrentJob, func(j observe.CurrentJob) bool { return j.ID == "" })
	for _, id := range []string{queued, running} {
		status, body := l.call(t, http.MethodPost, "/api/v1/jobs/"+id+"/cancel", l.token, nil)
		wantError(t, status, body, http.StatusConflict, "conflict")
	}
	next := l.queue(t, protocol.KindLLM) // the worker is free again
	l.engine.release(next)
	l.awaitState(t, next, client.Done)
	if _, err := l.operator.Cancel(t.Context(), next); err == nil {
		t.Error("a done job was cancelled")
	}
	status, body := l.call(t, http.MethodPost, "/api/v1/jobs/none/cancel", l.token, nil)
	wantError(t, status, body, http.StatusNotFound, "not_found")
	if l.engine.ran(queued) != 0 || l.engine.ran(running) != 1 {
		t.Errorf("the engine ran %d and %d times", l.engine.ran(queued), l.engine.ran(running))
	}
}

// TestCancelWhileAway cancels a job whose worker has finished it and is not
// there: its result is forgotten.
func TestCancelWhileAway(t *testing.T) {
	for _, kind := range []protocol.TaskKind{protocol.KindLLM, protocol.KindTTS} {
		t.Run(string(kind), func(t *testing.T) {
			l := newLab(t, nil)
			id := l.queue(t, kind)
			l.engine.await(t, id)
			l.awaitState(t, id, client.Running)
			l.line.hold(true)
			l.line.cut()
			l.engine.release(id)
			await(t, &l.seen.Outbox, func(o observe.Outbox) bool { return o.Count == 1 })
			await(t, &l.seen.CurrentJob, func(j observe.CurrentJob) bool { return j.ID == "" })
			l.awaitState(t, id, client.Running)
			if _, err := l.operator.Cancel(t.Context(), id); err != nil {
				t.Error(err)
			}
			l.awaitState(t, id, client.Cancelled)
			l.line.hold(false)
			l.worker.Reload()
			await(t, &l.seen.Outbox, func(o observe.Outbox) bool { return o.Count == 0 })
		})
	}
}

// TestRemovedWorker removes a worker in the middle of a job: it is told so, its
// job is queued, and a reset of its registration brings it back.
func TestRemovedWorker(t *testing.T) {
	l := newLab(t, func(c *studio.Config) { c.MaxAttempts = 1 }) // what the operator does costs no attempt
	id := l.queue(t, protocol.KindTTS)
	l.engine.await(t, id)
	worker := l.awaitState(t, id, client.Running).WorkerID
	if status, body := l.call(t, http.MethodDelete, "/api/v1/workers/"+worker, l.token, nil); status != http.StatusNoContent {
		t.Fatalf("the removal answered %d %s", status, body)
	}
	if s := l.awaitSession(t, observe.SessionFatal); !strings.Contains(s.Reason, "the operator removed this worker") {
		t.Errorf("the worker says %q", s.Reason)
	}
	l.awaitState(t, id, client.Queued)
	status, body := l.call(t, http.MethodDelete, "/api/v1/workers/"+worker, l.token, nil)
	wantError(t, status, body, http.StatusNotFound, "not_found")
	if _, body := l.call(t, http.MethodGet, "/api/v1/workers", l.token, nil); string(body) != "{\"workers\":[]}\n" {
		t.Errorf("the studio's workers: %s", body)
	}
	if err := l.worker.ResetRegistration(); err != nil {
		t.Fatal(err)
	}
	l.awaitSession(t, observe.SessionConnected)
	l.engine.release(id)
	if job := l.awaitState(t, id, client.Done); job.WorkerID == worker || l.engine.ran(id) != 1 {
		t.Errorf("it was done by %s, in %d runs", job.WorkerID, l.engine.ran(id))
	}
}

// TestStream follows the words of an llm job, from the start and from the
// middle, over a reconnect.
func TestStream(t *testing.T) {
	l := newLab(t, nil)
	words := []string{"the ", "harbour ", "is ", "quiet ", "tonight"}
	more := make(chan []string)
	l.engine.tell(more)
	id := l.queue(t, protocol.KindLLM)
	l.engine.await(t, id)
	more <- words[:2]
	read := func(want string) { // as one who comes late
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		text := ""
		for event, err := range l.operator.Events(ctx, id) {
			if err != nil {
				t.Fatal(err)
			}
			if event.Delta == nil {
				continue
			}
			if event.Job.State != client.Running {
				t.Errorf("text comes while the job is %s", event.Job.State)
			}
			if text += event.Delta.Text; text == want {
				return
			}
		}
		t.Fatalf("the text ended as %q, want %q", text, want)
	}
	read("the harbour ")
	l.reconnect(t)
	more <- words[2:]
	close(more)
	read(strings.Join(words, ""))
	l.engine.release(id)
	job := l.awaitState(t, id, client.Done)
	if data := l.result(t, job); !strings.Contains(string(data), "[synthetic] reply") {
		t.Errorf("the result is %s", data)
	}
}

// TestPrint prints the text of an llm job, and its path beside it.
func TestPrint(t *testing.T) {
	h, f := newHome(t), newStudio(t)
	h.write(t, f.url, "")
	w := h.start(t, "--config", h.config, "run")
	w.await(t, 1, "server welcomed")
	args := []string{"submit", "--studio", f.url, "--token-file", tokenFile(f.data), "--kind", "llm"}
	p := h.start(t, append(args, "--print", "name this town")...)
	if code := p.wait(t); code != 0 || !strings.HasPrefix(p.out.String(), "[synthetic] reply to prompt #") || strings.Count(p.out.String(), "\n") != 1 {
		t.Errorf("it ended with %d and printed %q", code, p.out)
	}
	if !strings.Contains(p.err.String(), ".json\n") {
		t.Errorf("it says %q, without the path", p.err)
	}
	h.wantRefusal(t, exitUsage, append(args[:5:5], "--kind", "image", "--print", "x"), "--kind llm")
	w.stop(t)
	f.stop(t)
}

// TestInterruptedSubmit cancels its job.
func TestInterruptedSubmit(t *testing.T) {
	h, f := newHome(t), newStudio(t) // nobody works here
	p := h.start(t, "submit", "--studio", f.url, "--token-file", tokenFile(f.data), "--kind", "llm", "name this town")
	p.await(t, 1, "queued")
	p.signal(t, syscall.SIGINT)
	if code := p.wait(t); code != exitFail || !strings.Contains(p.err.String(), "is cancelled") {
		t.Errorf("it ended with %d: %s", code, p.err)
	}
	id, _, _ := strings.Cut(strings.TrimPrefix(p.err.String(), "job "), " ")
	if job, err := f.operator.Get(t.Context(), id); err != nil || job.State != client.Cancelled {
		t.Errorf("job %s is %s, %v", id, job.State, err)
	}
	f.stop(t)
	if p = h.start(t, "submit", "--studio", f.url, "--token-file", tokenFile(f.data), "x"); p.wait(t) == 0 {
		t.Errorf("a studio that is gone took a job: %s", p.out)
	}
}
