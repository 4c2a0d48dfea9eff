package studio

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"studioworker/studio/client"
	"studioworker/worker/protocol"
)

func TestUpgradeIsRefused(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	for name, c := range map[string]struct {
		id, token string
		protocols []string
		want      int
	}{
		"wrong token":     {w.id, "wrong", []string{protocol.Version}, http.StatusUnauthorized},
		"no token":        {w.id, "", []string{protocol.Version}, http.StatusUnauthorized},
		"unknown worker":  {"wk-none", w.token, []string{protocol.Version}, http.StatusUnauthorized},
		"no sub-protocol": {w.id, w.token, nil, http.StatusUpgradeRequired},
	} {
		if got := (&fake{farm: f, id: c.id}).upgradeStatus(t, c.token, c.protocols...); got != c.want {
			t.Errorf("%s: status %d, want %d", name, got, c.want)
		}
	}
	status, data := f.call(t, http.MethodGet, workers+w.id+"/connect", w.token, nil)
	wantError(t, status, data, http.StatusUpgradeRequired, "upgrade_required")
}

func TestHelloIsChecked(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	t.Run("token", func(t *testing.T) {
		l := w.dial(t)
		l.send(t, protocol.Hello{AuthToken: "wrong", Capabilities: w.caps})
		expectEnd(t, l, protocol.ErrorAuthFailed, protocol.CloseAuthFailed)
	})
	t.Run("order", func(t *testing.T) {
		l := w.dial(t)
		l.beat(t, "")
		expectEnd(t, l, protocol.ErrorViolation, protocol.CloseViolation)
	})
	t.Run("shape", func(t *testing.T) {
		l := w.dial(t)
		if err := l.conn.WriteMessage(websocket.TextMessage, []byte(`{"type":"hello"}`)); err != nil {
			t.Fatal(err)
		}
		expectEnd(t, l, protocol.ErrorViolation, protocol.CloseViolation)
	})
	t.Run("size", func(t *testing.T) {
		l := w.dial(t)
		caps := w.caps
		caps.Username = strings.Repeat("x", protocol.MaxFrameBeforeHello)
		l.send(t, protocol.Hello{AuthToken: w.token, Capabilities: caps})
		expectEnd(t, l, "", protocol.CloseTooBig)
	})
	t.Run("twice", func(t *testing.T) {
		l := w.connect(t, "")
		l.send(t, protocol.Hello{AuthToken: w.token, Capabilities: w.caps})
		expectEnd(t, l, protocol.ErrorViolation, protocol.CloseViolation)
	})
}

func TestFramesAboutJobsOfOthers(t *testing.T) {
	f := newFarm(t, nil)
	holder := f.worker(t).connect(t, "")
	job := f.submit(t, llmJob)
	holder.take(t)
	f.await(t, job.ID, in(client.Running))
	w := f.worker(t)
	for name, frame := range map[string]protocol.WorkerFrame{
		"accept of another's job":       protocol.Accept{JobID: job.ID},
		"completeJson of another's job": protocol.CompleteJSON{JobID: job.ID, Result: json.RawMessage(`1`)},
		"fail of another's job":         protocol.Fail{JobID: job.ID, Error: "x"},
		"accept of no job":              protocol.Accept{JobID: "none"},
		"completeJson of no job":        protocol.CompleteJSON{JobID: "none", Result: json.RawMessage(`1`)},
		"fail of no job":                protocol.Fail{JobID: "none", Error: "x"},
	} {
		t.Run(name, func(t *testing.T) {
			l := w.connect(t, "")
			l.send(t, frame)
			expectEnd(t, l, protocol.ErrorViolation, protocol.CloseViolation)
		})
	}
	holder.send(t, protocol.CompleteJSON{JobID: job.ID, Result: json.RawMessage(`{"text":"x"}`)})
	expect[protocol.CompleteAck](t, holder)
	t.Run("completeJson of another's finished job", func(t *testing.T) {
		l := w.connect(t, "")
		l.send(t, protocol.CompleteJSON{JobID: job.ID, Result: json.RawMessage(`1`)})
		expectEnd(t, l, protocol.ErrorViolation, protocol.CloseViolation)
	})
}

func TestDamagedFrames(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	for name, c := range map[string]struct {
		kind int
		data string
		ends bool
	}{
		"unknown type":         {websocket.TextMessage, `{"type":"dance"}`, false},
		"field is missing":     {websocket.TextMessage, `{"type":"accept"}`, false},
		"not JSON":             {websocket.TextMessage, `{"type":`, true},
		"binary":               {websocket.BinaryMessage, `{"type":"readyForMore"}`, true},
		"nothing to answer":    {websocket.TextMessage, `{"type":"readyForMore"}`, false},
		"reject of no job":     {websocket.TextMessage, `{"type":"reject","jobId":"none","reason":"x"}`, false},
		"progress without job": {websocket.TextMessage, `{"type":"progress","jobId":"none","step":1,"total":2}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := w.connect(t, "")
			expect[protocol.HeartbeatAck](t, l)
			if err := l.conn.WriteMessage(c.kind, []byte(c.data)); err != nil {
				t.Fatal(err)
			}
			if c.ends {
				expectEnd(t, l, protocol.ErrorViolation, protocol.CloseViolation)
				return
			}
			l.beat(t, "")
			expect[protocol.HeartbeatAck](t, l)
		})
	}
}

func TestNewerConnectionTakesOver(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	old := w.connect(t, "")
	job := f.submit(t, imageJob)
	old.take(t)
	f.await(t, job.ID, in(client.Running))
	current := w.connect(t, job.ID)
	expectEnd(t, old, protocol.ErrorDuplicate, protocol.CloseDuplicate)
	expect[protocol.HeartbeatAck](t, current)
	w.deliver(t, job.ID, []byte("bytes"))
	if got := f.job(t, job.ID); got.State != client.Done || got.Attempts != 1 {
		t.Errorf("job is %+v", got)
	}
	next := f.submit(t, imageJob)
	if claim := current.take(t); claim.JobID != next.ID {
		t.Errorf("offered %s", claim.JobID)
	}
}

func TestNewerConnectionWithoutTheJob(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	old := w.connect(t, "")
	job := f.submit(t, imageJob)
	old.take(t)
	f.await(t, job.ID, in(client.Running))
	if claim := w.connect(t, "").take(t); claim.JobID != job.ID {
		t.Errorf("offered %s", claim.JobID)
	}
}

func TestLogsOfAWorkerAreKept(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	l := w.connect(t, "")
	entry := protocol.LogEntry{TS: "2026-03-02T08:15:30.120Z", Level: protocol.LevelInfo, Category: "ws", Message: "binary upload ok", JobID: "job-31"}
	l.send(t, protocol.LogBatch{})
	l.send(t, protocol.LogBatch{Entries: []protocol.LogEntry{entry}})
	flood := protocol.LogBatch{}
	for range maxLogEntries {
		flood.Entries = append(flood.Entries, protocol.LogEntry{TS: entry.TS, Level: protocol.LevelWarn, Message: strings.Repeat("x", 2*maxLogText)})
	}
	l.send(t, flood)
	l.send(t, protocol.LogBatch{Entries: []protocol.LogEntry{entry}})
	expect[protocol.HeartbeatAck](t, l)
	l.beat(t, "")
	expect[protocol.HeartbeatAck](t, l)
	_, data := f.call(t, http.MethodGet, "/api/v1/workers/"+w.id+"/logs", f.token, nil)
	var logs struct{ Entries []protocol.LogEntry }
	if err := json.Unmarshal(data, &logs); err != nil {
		t.Fatal(err)
	}
	if n := len(logs.Entries); n != maxLogEntries || logs.Entries[n-1] != entry || len(logs.Entries[0].Message) > maxLogText+len("…") {
		t.Errorf("%d entries, the last %+v", n, logs.Entries[n-1])
	}
}

func TestShutdownClosesSessions(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	l := w.connect(t, "")
	job := f.submit(t, imageJob)
	l.take(t)
	f.await(t, job.ID, in(client.Running))
	silent := w.farm.worker(t).dial(t) // never says hello
	ended := make(chan struct{})
	go func() { defer close(ended); f.stop() }()
	expectEnd(t, l, "", protocol.CloseGoingAway)
	expectEnd(t, silent, "", protocol.CloseGoingAway)
	<-ended
}

// TestAnotherWorkersJob: whatever a worker says of a job that another runs, on
// either route, the job does not hear of it.
func TestAnotherWorkersJob(t *testing.T) {
	f := newFarm(t, nil)
	holder, other := f.worker(t), f.worker(t)
	holder.caps.Features, other.caps.Features = protocol.Features(), protocol.Features()
	l := holder.connect(t, "")
	job := f.submit(t, imageJob)
	l.take(t)
	f.await(t, job.ID, in(client.Running))
	before, err := f.studio.store.Jobs.Get(t.Context(), job.ID)
	if err != nil {
		t.Fatal(err)
	}

	strange := other.connect(t, "")
	expect[protocol.HeartbeatAck](t, strange)
	for _, frame := range []protocol.WorkerFrame{
		protocol.Progress{JobID: job.ID, Step: 7, Total: 9},
		protocol.Delta{JobID: job.ID, Seq: 0, Text: "forged"},
		protocol.Reject{JobID: job.ID, Reason: "busy", Code: protocol.RejectBusy},
	} {
		strange.send(t, frame)
	}
	strange.send(t, protocol.Resume{JobIDs: []string{job.ID, "none"}})
	if got := expect[protocol.Resumed](t, strange); len(got.Keep) > 0 || len(got.Drop) != 2 {
		t.Errorf("resumed %+v", got)
	}
	strange.beat(t, job.ID) // as if it ran it
	expect[protocol.HeartbeatAck](t, strange)

	thief := &fake{farm: f, id: holder.id, token: other.token}
	status, body := thief.upload(t, job.ID, "webp", []byte("forged"))
	wantError(t, status, body, http.StatusUnauthorized, "auth_failed")
	status, body = other.upload(t, job.ID, "webp", []byte("forged"), "Idempotency-Key", job.ID)
	wantError(t, status, body, http.StatusConflict, "conflict")
	for _, id := range []string{"none", "..", "%2e%2e%2f" + job.ID, job.ID + "%00"} {
		if status, body := other.upload(t, id, "webp", []byte("forged")); status/100 != 4 && status/100 != 3 {
			t.Errorf("a result of the job %q is answered %d %s", id, status, body)
		}
	}

	after, err := f.studio.store.Jobs.Get(t.Context(), job.ID)
	if got := f.job(t, job.ID); err != nil || after.Revision != before.Revision || got.Progress != nil || got.WorkerID != holder.id {
		t.Errorf("the job is %+v, %v", got, err)
	}
	holder.deliver(t, job.ID, []byte("whole"))
	if got, _ := f.fetch(t, job.ID); string(got) != "whole" {
		t.Errorf("the result is %q", got)
	}
}

// TestReplays: what a worker says twice, on either route, counts once, and the
// first word stands.
func TestReplays(t *testing.T) {
	f := newFarm(t, nil)
	w, other := f.worker(t), f.worker(t)
	l := w.connect(t, "")
	ended := func(id string, state client.State, attempts int) func() {
		t.Helper()
		f.await(t, id, in(state))
		before, err := f.studio.store.Jobs.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return func() {
			t.Helper()
			after, err := f.studio.store.Jobs.Get(t.Context(), id)
			if err != nil || after.Revision != before.Revision || after.Value.Attempts != attempts {
				t.Errorf("the record was written again: %+v, %v", after.Value, err)
			}
		}
	}

	done := f.submit(t, llmJob)
	l.take(t)
	l.send(t, protocol.CompleteJSON{JobID: done.ID, Result: json.RawMessage(`"first"`)})
	expect[protocol.CompleteAck](t, l)
	same := ended(done.ID, client.Done, 1)
	for range 2 {
		l.send(t, protocol.CompleteJSON{JobID: done.ID, Result: json.RawMessage(`"second"`)})
		expect[protocol.CompleteAck](t, l)
	}
	l.send(t, protocol.Accept{JobID: done.ID})
	l.send(t, protocol.Fail{JobID: done.ID, Error: "after all", Retryable: true})
	expect[protocol.FailAck](t, l)
	l.send(t, protocol.Reject{JobID: done.ID, Reason: "busy", Code: protocol.RejectBusy})
	l.beat(t, done.ID) // it has not heard yet
	expect[protocol.HeartbeatAck](t, l)
	same()
	if got, _ := f.fetch(t, done.ID); string(got) != `"first"` {
		t.Errorf("the result is %s", got)
	}
	l.beat(t, "")

	failed := f.submit(t, llmJob)
	l.take(t)
	l.send(t, protocol.Fail{JobID: failed.ID, Error: "first", Retryable: false})
	expect[protocol.FailAck](t, l)
	same = ended(failed.ID, client.Failed, 1)
	l.send(t, protocol.Fail{JobID: failed.ID, Error: "second", Retryable: true})
	expect[protocol.FailAck](t, l)
	l.send(t, protocol.CompleteJSON{JobID: failed.ID, Result: json.RawMessage(`"late"`)})
	expect[protocol.CompleteAck](t, l)
	same()
	if got := f.job(t, failed.ID); got.Error != "first" || got.Result != nil {
		t.Errorf("the job is %+v", got)
	}
	l.beat(t, "")

	picture := f.submit(t, imageJob)
	l.take(t)
	key := []string{"Idempotency-Key", picture.ID + "/1/abc"}
	if status, body := w.upload(t, picture.ID, "webp", []byte("first"), key...); status != http.StatusOK {
		t.Fatalf("the upload is answered %d %s", status, body)
	}
	same = ended(picture.ID, client.Done, 1)
	if status, body := w.upload(t, picture.ID, "webp", []byte("second"), key...); status != http.StatusOK {
		t.Errorf("the same upload is answered %d %s", status, body)
	}
	status, body := other.upload(t, picture.ID, "webp", []byte("stolen"), key...)
	wantError(t, status, body, http.StatusConflict, "conflict")
	status, body = w.upload(t, picture.ID, "webp", []byte("third"), "Idempotency-Key", "another")
	wantError(t, status, body, http.StatusConflict, "conflict")
	l.send(t, protocol.CompleteJSON{JobID: picture.ID, Result: json.RawMessage(`"by the other route"`)})
	expect[protocol.CompleteAck](t, l)
	same()
	if got, _ := f.fetch(t, picture.ID); string(got) != "first" {
		t.Errorf("the result is %q", got)
	}
}
