package studio

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"studioworker/studio/client"
	"studioworker/worker/protocol"
)

// modern is a worker of ours.
func (f *farm) modern(tb testing.TB) *fake {
	tb.Helper()
	w := f.worker(tb)
	w.caps.Features = protocol.Features()
	return w
}

// resume opens a session that names jobs, and returns the studio's answer. The
// first heartbeat names current.
func (w *fake) resume(tb testing.TB, current string, jobs ...string) (*line, protocol.Resumed) {
	tb.Helper()
	l := w.dial(tb)
	l.send(tb, protocol.Hello{AuthToken: w.token, Capabilities: w.caps})
	expect[protocol.Welcome](tb, l)
	l.send(tb, protocol.Resume{JobIDs: jobs})
	answer := expect[protocol.Resumed](tb, l)
	l.beat(tb, current)
	return l, answer
}

func (f *farm) cancel(tb testing.TB, id string, want client.State) {
	tb.Helper()
	if job, err := f.operator.Cancel(tb.Context(), id); err != nil || job.State != want {
		tb.Fatalf("cancelled, job %s is %s, %v, want %s", id, job.State, err, want)
	}
}

// TestCancelAtAReferenceWorker: it is told nothing, and what it says later is
// answered as the protocol wants, and thrown away.
func TestCancelAtAReferenceWorker(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	l := w.connect(t, "")
	for name, answer := range map[string]func(id string){
		"completeJson": func(id string) {
			l.send(t, protocol.CompleteJSON{JobID: id, Result: []byte(`{}`)})
			expect[protocol.CompleteAck](t, l)
		},
		"fail": func(id string) {
			l.send(t, protocol.Fail{JobID: id, Error: "out of memory", Retryable: true})
			expect[protocol.FailAck](t, l)
		},
		"upload": func(id string) {
			if status, body := w.upload(t, id, "webp", []byte("late")); status != http.StatusConflict {
				t.Errorf("the upload answered %d %s", status, body)
			}
			l.beat(t, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			id := f.submit(t, imageJob).ID
			if claim := l.take(t); claim.JobID != id {
				t.Fatalf("took %s", claim.JobID)
			}
			f.await(t, id, in(client.Running))
			f.cancel(t, id, client.Cancelled)
			next := f.submit(t, imageJob).ID // not offered before the worker has said its last word
			answer(id)
			if claim := l.take(t); claim.JobID != next {
				t.Errorf("took %s, want %s", claim.JobID, next)
			}
			w.deliver(t, next, []byte("picture"))
			if job := f.job(t, id); job.State != client.Cancelled || job.Result != nil {
				t.Errorf("the cancelled job is %+v", job)
			}
		})
	}
}

// TestCancelIsAnswered: the job is cancelled when the worker says that it
// stopped.
func TestCancelIsAnswered(t *testing.T) {
	f := newFarm(t, func(c *Config) { c.CancelLimit = patience })
	w := f.modern(t)
	l := w.connect(t, "")
	id := f.submit(t, imageJob).ID
	l.take(t)
	f.await(t, id, in(client.Running))
	f.cancel(t, id, client.Running)
	if c := expect[protocol.Cancel](t, l); c.JobID != id || c.Reason == "" {
		t.Errorf("told %+v", c)
	}
	f.cancel(t, id, client.Running) // again: nothing changes
	l.send(t, protocol.Fail{JobID: id, Error: "cancelled"})
	expect[protocol.FailAck](t, l)
	f.await(t, id, in(client.Cancelled))
	status, body := f.call(t, http.MethodPost, "/api/v1/jobs/"+id+"/cancel", f.token, nil)
	wantError(t, status, body, http.StatusConflict, "conflict")
}

// TestCancelIsNotAnswered: after the limit the job is cancelled all the same; a
// late result is not wanted, and the worker may forget it.
func TestCancelIsNotAnswered(t *testing.T) {
	f := newFarm(t, func(c *Config) { c.CancelLimit = 20 * time.Millisecond })
	w := f.modern(t)
	l := w.connect(t, "")
	id := f.submit(t, imageJob).ID
	l.take(t)
	f.await(t, id, in(client.Running))
	f.cancel(t, id, client.Running)
	f.await(t, id, in(client.Cancelled))
	if status, body := w.upload(t, id, "webp", []byte("late")); status != http.StatusGone {
		t.Errorf("the upload answered %d %s", status, body)
	}
}

// TestCancelIsRemembered: a wish that a restart interrupted is fulfilled by it.
func TestCancelIsRemembered(t *testing.T) {
	dir := t.TempDir()
	f := newFarm(t, func(c *Config) { c.Data, c.CancelLimit = dir, patience })
	w := f.modern(t)
	l := w.connect(t, "")
	id := f.submit(t, imageJob).ID
	l.take(t)
	f.await(t, id, in(client.Running))
	f.cancel(t, id, client.Running)
	f.stop()
	f = newFarm(t, func(c *Config) { c.Data = dir })
	if job := f.job(t, id); job.State != client.Cancelled {
		t.Errorf("the job is %+v", job)
	}
	w.farm = f
	l, answer := w.resume(t, id, id)
	if !slices.Equal(answer.Drop, []string{id}) || len(answer.Keep) > 0 {
		t.Errorf("resumed %+v", answer)
	}
	if c := expect[protocol.Cancel](t, l); c.JobID != id {
		t.Errorf("told %+v", c)
	}
	l.send(t, protocol.Fail{JobID: id, Error: "cancelled"})
	for { // the heartbeat named the job, so the cancel may have come twice
		frame, err := l.read(t)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := frame.(protocol.FailAck); ok {
			return
		}
	}
}

// TestClaimOutlivesTheConnection: for the grace, and not longer.
func TestClaimOutlivesTheConnection(t *testing.T) {
	f := newFarm(t, func(c *Config) { c.ReclaimGrace = 300 * time.Millisecond })
	w := f.modern(t)
	l := w.connect(t, "")
	id := f.submit(t, llmJob).ID
	l.take(t)
	f.await(t, id, in(client.Running))
	l.hangUp(t)
	other := f.modern(t)
	idle := other.connect(t, "") // it would take the job

	l, answer := w.resume(t, "", id, "unknown")
	if !slices.Equal(answer.Keep, []string{id}) || !slices.Equal(answer.Drop, []string{"unknown"}) {
		t.Errorf("resumed %+v", answer)
	}
	if job := f.job(t, id); job.State != client.Running || job.Attempts != 1 || job.WorkerID != w.id {
		t.Errorf("the job is %+v", job)
	}
	l.hangUp(t)
	if claim := expect[protocol.Offer](t, idle).Claim; claim.JobID != id || claim.Attempt != 2 { // the grace is over
		t.Errorf("offered %+v", claim)
	}
	idle.send(t, protocol.Accept{JobID: id})
	f.await(t, id, in(client.Running))
	if _, answer = w.resume(t, "", id); !slices.Equal(answer.Drop, []string{id}) || len(answer.Keep) > 0 {
		t.Errorf("a job of another was resumed: %+v", answer)
	}
}

// TestKeptJobEndsOnTheNewSession: a result or a failure needs no new offer, and
// one that was said before is said again.
func TestKeptJobEndsOnTheNewSession(t *testing.T) {
	for name, end := range map[string]struct {
		frame protocol.WorkerFrame
		state client.State
	}{
		"result":  {protocol.CompleteJSON{Result: []byte(`{"n":1}`)}, client.Done},
		"failure": {protocol.Fail{Error: "out of memory"}, client.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFarm(t, nil)
			w := f.modern(t)
			l := w.connect(t, "")
			id := f.submit(t, llmJob).ID
			l.take(t)
			f.await(t, id, in(client.Running))
			l.hangUp(t)
			for range 2 {
				l, answer := w.resume(t, "", id)
				if kept := slices.Contains(answer.Keep, id); kept != (f.job(t, id).State != client.Failed) {
					t.Errorf("resumed %+v", answer)
				} else if !kept {
					return
				}
				switch frame := end.frame.(type) {
				case protocol.CompleteJSON:
					frame.JobID = id
					l.send(t, frame)
					expect[protocol.CompleteAck](t, l)
				case protocol.Fail:
					frame.JobID = id
					l.send(t, frame)
					expect[protocol.FailAck](t, l)
				}
				if job := f.await(t, id, in(end.state)); job.Attempts != 1 {
					t.Errorf("the job is %+v", job)
				}
			}
		})
	}
}

// TestDeltas: repetitions, gaps and what is too much do no harm.
func TestDeltas(t *testing.T) {
	f := newFarm(t, nil)
	l := f.modern(t).connect(t, "")
	read := func(id, want string) {
		t.Helper()
		text := ""
		f.await(t, id, in(client.Running))
		for event, err := range f.operator.Events(t.Context(), id) {
			if err != nil {
				t.Fatal(err)
			}
			if event.Delta != nil {
				text += event.Delta.Text
			}
			if text == want {
				return
			}
		}
		t.Fatalf("the text ended as %q, want %q", text, want)
	}
	id := f.submit(t, llmJob).ID
	l.take(t)
	for _, d := range []struct {
		seq  int
		text string
	}{{0, "the "}, {1, "harbour "}, {0, "the "}, {1, "harbour is "}, {2, "is"}, {9, "lost"}, {3, " quiet"}} {
		l.send(t, protocol.Delta{JobID: id, Seq: d.seq, Text: d.text})
	}
	read(id, "the harbour is")
	l.send(t, protocol.Delta{JobID: "unknown", Text: "x"})
	l.send(t, protocol.CompleteJSON{JobID: id, Result: []byte(`{}`)})
	expect[protocol.CompleteAck](t, l)

	id = f.submit(t, llmJob).ID
	l.take(t)
	piece := strings.Repeat("<", protocol.MaxDelta)
	for seq := range maxText/protocol.MaxDelta + 2 {
		l.send(t, protocol.Delta{JobID: id, Seq: seq, Text: piece})
	}
	read(id, strings.Repeat("<", maxText))
}

// TestFeaturesAreNotForStrangers: what a worker did not name is without effect.
func TestFeaturesAreNotForStrangers(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	l := w.connect(t, "")
	id := f.submit(t, llmJob).ID
	l.take(t)
	f.await(t, id, in(client.Running))
	l.send(t, protocol.Resume{JobIDs: []string{id}})
	l.send(t, protocol.Delta{JobID: id, Text: "the harbour"})
	l.send(t, protocol.CompleteJSON{JobID: id, Result: []byte(`{}`)})
	expect[protocol.CompleteAck](t, l) // and no answer to resume
}

// TestALateHello: the connection that was opened last stays, whichever hello is
// read first.
func TestALateHello(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	old := w.dial(t)
	l := w.connect(t, "")
	old.send(t, protocol.Hello{AuthToken: w.token, Capabilities: w.caps})
	expectEnd(t, old, protocol.ErrorDuplicate, protocol.CloseDuplicate)
	id := f.submit(t, imageJob).ID
	if claim := l.take(t); claim.JobID != id {
		t.Errorf("took %s", claim.JobID)
	}
}

// hello greets as a program of the worker does, and returns its session.
func (w *fake) hello(t *testing.T, instance string) *line {
	t.Helper()
	l := w.dial(t)
	caps := w.caps
	caps.Instance = instance
	l.send(t, protocol.Hello{AuthToken: w.token, Capabilities: caps})
	return l
}

// TestRow38ASecondProgramWithOneIdentity: it is refused while the first answers.
// The same program, or one that names no instance, takes over from itself, and so
// does one whose predecessor is silent.
func TestRow38ASecondProgramWithOneIdentity(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	first := w.hello(t, "one")
	expect[protocol.Welcome](t, first)
	first.beat(t, "")
	alive := make(chan error, 1)
	var id string
	go func() { // answers pings, too
		for {
			frame, err := first.read(t)
			if offer, ok := frame.(protocol.Offer); ok && offer.Claim.JobID != "" {
				err = errors.New("offered " + offer.Claim.JobID)
			}
			if err != nil {
				alive <- err
				return
			}
		}
	}()
	for range 3 {
		expectEnd(t, w.hello(t, "two"), protocol.ErrorDuplicate, protocol.CloseDuplicate)
	}
	id = f.submit(t, imageJob).ID
	if err := <-alive; err.Error() != "offered "+id { // the first was not disturbed
		t.Fatal(err)
	}

	again := w.hello(t, "one") // reconnects
	expect[protocol.Welcome](t, again)
	older := w.hello(t, "") // a reference worker
	expect[protocol.Welcome](t, older)
	silent := w.hello(t, "three") // against one without an instance
	expect[protocol.Welcome](t, silent)
	next := w.hello(t, "four") // silent reads nothing, so it answers no ping
	expect[protocol.Welcome](t, next)
	expectEnd(t, silent, protocol.ErrorDuplicate, protocol.CloseDuplicate)
}

// TestAStrangersResultIsNotTaken: only who has run a job can end it.
func TestAStrangersResultIsNotTaken(t *testing.T) {
	f := newFarm(t, nil)
	w, stranger := f.worker(t), f.worker(t)
	l := w.connect(t, "")
	id := f.submit(t, imageJob).ID
	if status, body := stranger.upload(t, id, "webp", []byte("forged")); status != http.StatusConflict {
		t.Errorf("before the job runs: %d %s", status, body)
	}
	l.take(t)
	f.await(t, id, in(client.Running))
	if status, body := stranger.upload(t, id, "webp", []byte("forged")); status != http.StatusConflict {
		t.Errorf("while it runs: %d %s", status, body)
	}
	w.deliver(t, id, []byte("whole"))
	if got, _ := f.fetch(t, id); string(got) != "whole" {
		t.Errorf("the result is %q", got)
	}
}

// TestRemoveWorker: it is told, its token is void, and its job is queued.
func TestRemoveWorker(t *testing.T) {
	f := newFarm(t, nil)
	answer := f.poll(t, f.register(t, "attic", secret), secret)
	w := &fake{farm: f, id: answer.WorkerID, token: answer.AuthToken, caps: capabilities()}
	l := w.connect(t, "")
	id := f.submit(t, imageJob).ID
	l.take(t)
	f.await(t, id, in(client.Running))
	if status, body := f.call(t, http.MethodDelete, "/api/v1/workers/"+w.id, f.token, nil); status != http.StatusNoContent {
		t.Fatalf("the removal answered %d %s", status, body)
	}
	expectEnd(t, l, protocol.ErrorDeleted, protocol.CloseDeleted)
	if job := f.await(t, id, in(client.Queued)); job.Attempts != 0 {
		t.Errorf("the job is %+v", job)
	}
	if status := w.upgradeStatus(t, w.token, protocol.Version); status != http.StatusUnauthorized {
		t.Errorf("the token still works: %d", status)
	}
	status, body := f.call(t, http.MethodDelete, "/api/v1/workers/"+w.id, f.token, nil)
	wantError(t, status, body, http.StatusNotFound, "not_found")
	if again := f.poll(t, f.register(t, "attic", secret), secret); again.WorkerID == w.id || again.Status != protocol.StatusApproved {
		t.Errorf("asking again answers %+v", again)
	}
}
