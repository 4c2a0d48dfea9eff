package studio

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"studioworker/studio/client"
	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

// batch makes a call that does something to all dead letters.
func (f *farm) batch(tb testing.TB, path, token string) client.Batch {
	tb.Helper()
	status, data := f.call(tb, http.MethodPost, path, token, nil)
	var out client.Batch
	if err := json.Unmarshal(data, &out); err != nil || status != http.StatusOK {
		tb.Fatalf("%s answered %d %s", path, status, data)
	}
	return out
}

// die makes a job fail for good.
func (l *line) die(tb testing.TB, why string) string {
	tb.Helper()
	id := l.take(tb).JobID
	l.send(tb, protocol.Fail{JobID: id, Error: why})
	expect[protocol.FailAck](tb, l)
	l.beat(tb, "")
	return id
}

// TestDeadLetters: jobs that failed for good are queued again or discarded, one or
// all, by whoever may see them.
func TestDeadLetters(t *testing.T) {
	f := newFarm(t, nil)
	key := f.key(t, client.KeyRequest{Name: "x"})
	l := f.modern(t).connect(t, "")
	mine := f.submit(t, imageJob).ID
	l.die(t, "out of memory")
	f.submit(t, imageJob)
	other := l.die(t, "out of memory")
	status, data := f.call(t, http.MethodPost, "/api/v1/jobs", key.Text, strings.NewReader(llmJob))
	var theirs client.Submitted
	if err := json.Unmarshal(data, &theirs); err != nil || status != http.StatusCreated {
		t.Fatalf("%d %s", status, data)
	}
	l.die(t, "no such model")

	if got := f.batch(t, "/api/v1/jobs/retry-failed", key.Text); got != (client.Batch{Jobs: 1}) {
		t.Errorf("the key queued %+v again", got)
	}
	if id := l.die(t, "no such model"); id != theirs.ID {
		t.Errorf("offered %s", id)
	}
	for _, id := range []string{mine, other} {
		if got := f.job(t, id).State; got != client.Failed {
			t.Errorf("another's job is %s", got)
		}
		status, data := f.call(t, http.MethodDelete, "/api/v1/jobs/"+id, key.Text, nil)
		wantError(t, status, data, http.StatusNotFound, "not_found")
	}
	if status, data := f.call(t, http.MethodDelete, "/api/v1/jobs/"+mine, f.token, nil); status != http.StatusNoContent {
		t.Errorf("discarding answered %d %s", status, data)
	}
	status, data = f.call(t, http.MethodGet, "/api/v1/jobs/"+mine, f.token, nil)
	wantError(t, status, data, http.StatusNotFound, "not_found")
	if _, err := f.studio.store.Jobs.Get(t.Context(), mine); err == nil {
		t.Error("the record is still there")
	}
	if got := f.batch(t, "/api/v1/jobs/retry-failed", f.token); got != (client.Batch{Jobs: 2}) {
		t.Errorf("queued %+v again", got)
	}
	waiting := l.take(t).JobID
	status, data = f.call(t, http.MethodDelete, "/api/v1/jobs/"+waiting, f.token, nil)
	wantError(t, status, data, http.StatusConflict, "conflict")
	l.send(t, protocol.Fail{JobID: waiting, Error: "once more"})
	expect[protocol.FailAck](t, l)
	l.beat(t, "")
	l.die(t, "once more")
	if got := f.batch(t, "/api/v1/jobs/discard-failed", f.token); got != (client.Batch{Jobs: 2}) {
		t.Errorf("discarded %+v", got)
	}
	if got := f.batch(t, "/api/v1/jobs/discard-failed", f.token); got != (client.Batch{}) {
		t.Errorf("discarded %+v of none", got)
	}
	if left := f.studio.hub.all(); len(left) != 0 {
		t.Errorf("%d jobs are left", len(left))
	}
}

// TestDeadLettersComeInBatches: one call does no more than can be answered in time, and
// none fills a queue beyond its limit.
func TestDeadLettersComeInBatches(t *testing.T) {
	f := newFarm(t, func(c *Config) { c.MaxQueued = 3 })
	l := f.modern(t).connect(t, "")
	for range 5 {
		f.submit(t, imageJob)
		l.die(t, "out of memory")
	}
	l.w.caps.AutoEnabled = false
	l.beat(t, "")
	f.awaitWorkers(t, func(w workerView) bool { return w.Capabilities != nil && !w.Capabilities.AutoEnabled })
	if got := f.batch(t, "/api/v1/jobs/retry-failed", f.token); got != (client.Batch{Jobs: 3, Left: 2}) {
		t.Errorf("queued %+v again", got)
	}
	status, data := f.call(t, http.MethodPost, "/api/v1/jobs/retry-failed", f.token, nil)
	wantError(t, status, data, http.StatusServiceUnavailable, "queue_full")
}

// awaitWorkers waits until all workers are as wanted.
func (f *farm) awaitWorkers(tb testing.TB, ok func(workerView) bool) {
	tb.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) { // a heartbeat is answered before it is settled
		var list struct {
			Workers []workerView `json:"workers"`
		}
		status, data := f.call(tb, http.MethodGet, "/api/v1/workers", f.token, nil)
		if err := json.Unmarshal(data, &list); err != nil || status != http.StatusOK {
			tb.Fatalf("%d %s", status, data)
		}
		all := true
		for _, w := range list.Workers {
			all = all && ok(w)
		}
		if all {
			return
		}
	}
	tb.Fatal("the workers are not as wanted")
}

// TestAttemptsAreTold: a job tells what became of each attempt, also after a restart
// and when it is queued again; one that led to a result is the record itself.
func TestAttemptsAreTold(t *testing.T) {
	dir := t.TempDir()
	set := func(c *Config) { c.Data, c.MaxAttempts, c.RetryPause = dir, 2, time.Millisecond }
	f := newFarm(t, set)
	w := f.modern(t)
	l := w.connect(t, "")
	id := f.submit(t, llmJob).ID
	for n := range 2 {
		claim := l.take(t)
		l.send(t, protocol.Fail{JobID: claim.JobID, Error: fmt.Sprintf("trouble %d", n+1), Retryable: true})
		expect[protocol.FailAck](t, l)
		l.beat(t, "")
	}
	f.await(t, id, in(client.Failed))
	check := func(want int) {
		t.Helper()
		past := f.job(t, id).Past
		if len(past) != want {
			t.Fatalf("the job tells of %+v", past)
		}
		for i, a := range past {
			if a.Number != i+1 || a.WorkerID != w.id || a.Error != fmt.Sprintf("trouble %d", i+1) || a.StartedAt.IsZero() || a.EndedAt.Before(a.StartedAt) {
				t.Errorf("attempt %d is %+v", i+1, a)
			}
		}
	}
	check(2)
	f.stop()
	f = newFarm(t, set)
	w.farm = f
	check(2)
	l = w.connect(t, "")
	if _, err := f.operator.Retry(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	claim := l.take(t)
	l.send(t, protocol.Delta{JobID: id, Text: "Salt"})
	l.send(t, protocol.Delta{JobID: id, Seq: 1, Text: "mere"})
	for end := time.Now().Add(patience); f.job(t, id).Text != "Saltmere"; time.Sleep(time.Millisecond) { // a text has no event of its own in the API
		if time.Now().After(end) {
			t.Fatalf("the text so far is %q", f.job(t, id).Text)
		}
	}
	l.answerChat(t, claim.JobID, "Saltmere")
	f.await(t, id, in(client.Done))
	check(2)
	if f.job(t, id).Text != "" {
		t.Error("a job that is done still has a text so far")
	}
}

// TestPastIsBounded: a job that is queued again and again keeps the last attempts.
func TestPastIsBounded(t *testing.T) {
	rec := store.Job{State: store.Running}
	for n := range 3 * store.MaxPast {
		next := rec
		rec.Attempts = n + 1
		next.Attempts, next.State = n+1, store.Queued
		noteAttempt(rec, &next)
		rec.Past = next.Past
	}
	if len(rec.Past) != store.MaxPast || rec.Past[0].Number != 2*store.MaxPast+1 {
		t.Errorf("kept %+v", rec.Past)
	}
	done := rec
	done.State = store.Done
	if noteAttempt(rec, &done); len(done.Past) != store.MaxPast || done.Past[0].Number != 2*store.MaxPast+1 {
		t.Errorf("a result became %+v", done.Past)
	}
}

// TestListsWithPrompts: a list says what each job was asked when that is wanted, on
// one line and not at length.
func TestListsWithPrompts(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	l := w.connect(t, "")
	ask := func(task string) {
		t.Helper()
		f.submit(t, `{"model":"m","modelSource":{"engine":"synthetic","files":[],"cliDefaults":{"cfgScale":1,"steps":1,"width":64,"height":64}},"task":`+task+`}`)
	}
	done := f.submit(t, imageJob).ID
	l.take(t)
	w.deliver(t, done, []byte("picture"))
	f.await(t, done, in(client.Done))
	ask(`{"kind":"llm","messages":[{"role":"user","content":"first"},{"role":"assistant","content":"yes"},{"role":"user","content":"  two\n\tlines \u0000 of it"}]}`)
	ask(`{"kind":"audio_tts","text":"` + strings.Repeat("schön ", 100) + `"}`)
	ask(`{"kind":"video","prompt":"waves"}`)
	ask(`{"kind":"audio_stt","inputUrl":"https://recordings.example/a.wav"}`)
	want := []string{
		"https://recordings.example/a.wav", "waves", strings.Repeat("schön ", 33) + "sc…", "two lines of it", "a lighthouse in fog",
	}
	for query, prompts := range map[string]bool{"": false, "?prompts=false": false, "?prompts=true": true, "?prompts=1": true} {
		var list client.JobList
		status, data := f.call(t, http.MethodGet, "/api/v1/jobs"+query, f.token, nil)
		if err := json.Unmarshal(data, &list); err != nil || status != http.StatusOK || len(list.Jobs) != len(want) {
			t.Fatalf("%s: %d %s", query, status, data)
		}
		for i, j := range list.Jobs {
			if (prompts && j.Prompt != want[i]) || (!prompts && j.Prompt != "") {
				t.Errorf("%s: job %d has the prompt %q, want %q", query, i, j.Prompt, want[i])
			}
		}
	}
	status, data := f.call(t, http.MethodGet, "/api/v1/jobs?prompts=maybe", f.token, nil)
	wantError(t, status, data, http.StatusBadRequest, "bad_request")
}

// TestWebhookDeliveries: the list says how the messages went, and a test message shows
// at once whether one arrives.
func TestWebhookDeliveries(t *testing.T) {
	f := newFarm(t, loopbackAllowed)
	f.studio.webhooks.pauses = nil // one attempt
	good, gone := newReceiver(t), newReceiver(t, http.StatusGone, http.StatusTeapot)
	first, second := f.webhook(t, good.url, true), f.webhook(t, gone.url, true)
	w := f.worker(t)
	l := w.connect(t, "")
	id := f.submit(t, imageJob).ID
	l.take(t)
	w.deliver(t, id, []byte("picture"))
	good.next(t)
	gone.next(t)
	f.awaitHooks(t, id, allDone)
	list, err := f.operator.Webhooks(t.Context())
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	for i, want := range []client.Deliveries{{Delivered: 1, LastJob: id}, {Failed: 1, LastJob: id, LastError: "the receiver answered 410: it wants no more"}} {
		got := *list[i].Deliveries
		if got.LastAt.IsZero() {
			t.Errorf("webhook %d: no time", i)
		}
		if got.LastAt = (time.Time{}); got != want {
			t.Errorf("webhook %d: %+v, want %+v", i, got, want)
		}
	}
	for id, want := range map[string]client.Tested{first.ID: {Delivered: true}, second.ID: {Error: "the receiver answered 418"}} {
		status, data := f.call(t, http.MethodPost, "/api/v1/webhooks/"+id+"/test", f.token, nil)
		var got client.Tested
		if err := json.Unmarshal(data, &got); err != nil || status != http.StatusOK || got != want {
			t.Errorf("the test answered %d %s", status, data)
		}
	}
	m := good.next(t)
	if sign := "v1," + signature(first.Secret, m.header.Get("Webhook-Id"), m.header.Get("Webhook-Timestamp"), m.body); m.notice.Type != "webhook.test" || m.header.Get("Webhook-Signature") != sign {
		t.Errorf("told %v %s", m.header, m.body)
	}
	status, data := f.call(t, http.MethodPost, "/api/v1/webhooks/none/test", f.token, nil)
	wantError(t, status, data, http.StatusNotFound, "not_found")
}
