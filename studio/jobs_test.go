package studio

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"studioworker/studio/client"
	"studioworker/worker/protocol"
)

func TestBinaryJobFromSubmitToResult(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	l := w.connect(t, "")
	job := f.submit(t, `{"model":"synthetic-image","gameId":"harbour","assetName":"harbour/places/lighthouse","vramGbEstimate":2.5,
		"task":{"kind":"image","prompt":"a lighthouse in fog","width":768}}`)
	claim := l.take(t)
	if claim.JobID != job.ID || claim.GameID != "harbour" || claim.AssetName != "harbour/places/lighthouse" || claim.Model != "synthetic-image" ||
		claim.VRAMGBEstimate != 2.5 || claim.Task.Image.Width != 768 || claim.ModelSource.Engine != protocol.EngineSynthetic || claim.Attempt != 0 {
		t.Errorf("claim is %+v", claim)
	}
	running := f.await(t, job.ID, in(client.Running))
	if running.WorkerID != w.id || running.Attempts != 1 || running.StartedAt.IsZero() {
		t.Errorf("running job is %+v", running)
	}
	if status, body := f.call(t, http.MethodGet, "/api/v1/jobs/"+job.ID+"/result", f.token, nil); status != http.StatusConflict {
		t.Errorf("result of a running job: %d %s", status, body)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 100_000) // several chunks
	w.deliver(t, job.ID, data)
	done := f.await(t, job.ID, in(client.Done))
	sum := sha256.Sum256(data)
	want := client.Result{Ext: "webp", ContentType: "image/webp", Bytes: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
	if done.Result == nil || *done.Result != want || done.FinishedAt.IsZero() {
		t.Errorf("done job is %+v, result %+v", done, done.Result)
	}
	if got, kind := f.fetch(t, job.ID); !bytes.Equal(got, data) || kind != "image/webp" {
		t.Errorf("result has %d bytes of %q", len(got), kind)
	}
	if got := f.job(t, job.ID); got.Task == nil || got.Task.Image == nil || got.Task.Image.Prompt != "a lighthouse in fog" {
		t.Errorf("task of the finished job is %+v", got.Task)
	}
}

func TestJSONJobsFollowEachOther(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	w.caps.Features = []string{protocol.FeatureAttempt, protocol.FeatureProgress}
	l := w.connect(t, "")
	first, second := f.submit(t, llmJob), f.submit(t, llmJob)
	for _, id := range []string{first.ID, second.ID} {
		claim := l.take(t)
		if claim.JobID != id || claim.Attempt != 1 {
			t.Fatalf("offered %s attempt %d, want %s", claim.JobID, claim.Attempt, id)
		}
		l.send(t, protocol.Progress{JobID: id, Step: 3, Total: 8, Message: "thinking"})
		f.await(t, id, func(s client.JobStatus) bool {
			return s.Progress != nil && *s.Progress == client.Progress{Step: 3, Total: 8, Message: "thinking"}
		})
		l.send(t, protocol.CompleteJSON{JobID: id, Result: json.RawMessage(`[{"object":"chat.completion"}]`)})
		if ack := expect[protocol.CompleteAck](t, l); ack.JobID != id {
			t.Errorf("ack of %s", ack.JobID)
		}
		if got, kind := f.fetch(t, id); string(got) != `[{"object":"chat.completion"}]` || kind != "application/json" {
			t.Errorf("result is %s of %q", got, kind)
		}
	}
	// Said again, it is acknowledged again and stored once.
	l.send(t, protocol.CompleteJSON{JobID: second.ID, Result: json.RawMessage(`{}`)})
	expect[protocol.CompleteAck](t, l)
	if got, _ := f.fetch(t, second.ID); string(got) != `[{"object":"chat.completion"}]` {
		t.Errorf("result was replaced by %s", got)
	}
}

func TestProgressNeedsTheFeature(t *testing.T) {
	f := newFarm(t, nil)
	l := f.worker(t).connect(t, "")
	job := f.submit(t, llmJob)
	l.take(t)
	l.send(t, protocol.Progress{JobID: job.ID, Step: 3, Total: 8})
	l.send(t, protocol.Fail{JobID: job.ID, Error: "out of memory", Retryable: false})
	expect[protocol.FailAck](t, l)
	for event, err := range f.operator.Events(t.Context(), job.ID) {
		if err != nil || event.Job.Progress != nil || event.Job.State != client.Failed || event.Job.Error != "out of memory" {
			t.Errorf("event %+v, %v", event, err)
		}
	}
}

func TestFailures(t *testing.T) {
	f := newFarm(t, nil)
	l := f.worker(t).connect(t, "")
	job := f.submit(t, imageJob)
	for range 3 {
		claim := l.take(t)
		if claim.JobID != job.ID {
			t.Fatalf("offered %s", claim.JobID)
		}
		l.send(t, protocol.Fail{JobID: job.ID, Error: "out of memory while loading", Retryable: true})
		if ack := expect[protocol.FailAck](t, l); ack.JobID != job.ID {
			t.Errorf("ack of %s", ack.JobID)
		}
	}
	got := f.await(t, job.ID, in(client.Failed))
	if got.Attempts != 3 || got.Error != "out of memory while loading" {
		t.Errorf("job is %+v", got)
	}
	if status, body := f.call(t, http.MethodGet, "/api/v1/jobs/"+job.ID+"/result", f.token, nil); status != http.StatusConflict {
		t.Errorf("result of a failed job: %d %s", status, body)
	}
}

func TestPausedAndBusyRejectsPutTheJobBack(t *testing.T) {
	for name, reject := range map[string]protocol.Reject{
		"paused":   {Reason: "worker paused by operator", Code: protocol.RejectPaused},
		"busy":     {Reason: "worker already has an in-flight job", Code: protocol.RejectBusy},
		"old busy": {Reason: "worker already has an in-flight job"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFarm(t, nil)
			w := f.worker(t)
			l := w.connect(t, "")
			f.await(t, f.submit(t, imageJob).ID, in(client.Offered))
			first := expect[protocol.Offer](t, l).Claim.JobID
			reject.JobID = first
			l.send(t, reject)
			f.await(t, first, in(client.Queued))
			w.caps.AutoEnabled = false
			l.beat(t, "")
			expect[protocol.HeartbeatAck](t, l)
			if second := f.submit(t, imageJob); second.State != client.Queued {
				t.Errorf("the next job is %s at a worker that takes none", second.State)
			}
			w.caps.AutoEnabled = true
			l.beat(t, "")
			if claim := l.take(t); claim.JobID != first {
				t.Errorf("offered %s after resuming, want the first", claim.JobID)
			}
			if got := f.await(t, first, in(client.Running)); got.Attempts != 1 {
				t.Errorf("a %s reject counted: %d attempts", name, got.Attempts)
			}
		})
	}
}

func TestOtherRejectGoesElsewhere(t *testing.T) {
	f := newFarm(t, nil)
	first, second := f.worker(t).connect(t, ""), f.worker(t).connect(t, "")
	expect[protocol.HeartbeatAck](t, first)
	expect[protocol.HeartbeatAck](t, second)
	job := f.submit(t, imageJob)
	claim := expect[protocol.Offer](t, first).Claim
	first.send(t, protocol.Reject{JobID: claim.JobID, Reason: "the model folder is read-only"})
	if claim := second.take(t); claim.JobID != job.ID {
		t.Errorf("offered %s", claim.JobID)
	}
	f.await(t, job.ID, func(s client.JobStatus) bool {
		return s.State == client.Running && s.WorkerID == second.w.id && s.Attempts == 1
	})
}

func TestWhoIsOfferedWhat(t *testing.T) {
	yes := true
	for name, c := range map[string]struct {
		job    string
		change func(*protocol.Capabilities)
		mend   func(*protocol.Capabilities)
	}{
		"kind": {
			imageJob,
			func(c *protocol.Capabilities) { c.TaskKinds = []protocol.TaskKind{protocol.KindLLM} },
			func(c *protocol.Capabilities) { c.TaskKinds = protocol.TaskKinds() },
		},
		"memory": {
			`{"model":"synthetic-image","vramGbEstimate":8,"task":{"kind":"image","prompt":"x"}}`,
			func(c *protocol.Capabilities) { c.VRAMThresholdGB = 7.5 },
			func(c *protocol.Capabilities) { c.VRAMThresholdGB = 8 },
		},
		"presence": {
			imageJob,
			func(c *protocol.Capabilities) { c.OnlyWhenIdle, c.UserPresence = &yes, protocol.PresenceActive },
			func(c *protocol.Capabilities) { c.UserPresence = protocol.PresenceIdle },
		},
		"unknown presence": {
			imageJob,
			func(c *protocol.Capabilities) { c.OnlyWhenIdle = &yes },
			func(c *protocol.Capabilities) { c.UserPresence = protocol.PresenceIdle },
		},
		"engine beyond the reference": {
			voiceJob,
			func(*protocol.Capabilities) {},
			func(c *protocol.Capabilities) {
				c.SupportedModelsPerKind = map[string][]string{"audio_tts": {"espeak-ng:*"}}
			},
		},
		"pause": {
			imageJob,
			func(c *protocol.Capabilities) { c.AutoEnabled = false },
			func(c *protocol.Capabilities) { c.AutoEnabled = true },
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFarm(t, nil)
			w := f.worker(t)
			c.change(&w.caps)
			l := w.connect(t, "")
			expect[protocol.HeartbeatAck](t, l)
			l.beat(t, "") // its answer comes after the first was settled
			expect[protocol.HeartbeatAck](t, l)
			job := f.submit(t, c.job)
			if job.State != client.Queued {
				t.Fatalf("the job is %s", job.State)
			}
			c.mend(&w.caps)
			l.beat(t, "")
			if claim := expect[protocol.Offer](t, l).Claim; claim.JobID != job.ID {
				t.Errorf("offered %s", claim.JobID)
			}
		})
	}
}

func TestNoOfferBeforeTheFirstHeartbeat(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	l := w.dial(t)
	l.send(t, protocol.Hello{AuthToken: w.token, Capabilities: w.caps})
	expect[protocol.Welcome](t, l)
	if job := f.submit(t, imageJob); job.State != client.Queued {
		t.Errorf("the job is %s before the worker said what it does", job.State)
	}
	l.beat(t, "")
	expect[protocol.Offer](t, l)
}

func TestEarliestConnectedFirst(t *testing.T) {
	f := newFarm(t, nil)
	w1, w2 := f.worker(t), f.worker(t)
	second := w2.connect(t, "")
	expect[protocol.HeartbeatAck](t, second)
	first := w1.connect(t, "")
	expect[protocol.HeartbeatAck](t, first)
	f.submit(t, imageJob)
	job := f.submit(t, imageJob)
	expect[protocol.Offer](t, second)
	if claim := expect[protocol.Offer](t, first).Claim; claim.JobID != job.ID {
		t.Errorf("offered %s, want the later job", claim.JobID)
	}
}

func TestUnansweredOfferIsTakenBack(t *testing.T) {
	f := newFarm(t, func(c *Config) { c.OfferExpiry = 50 * time.Millisecond })
	l := f.worker(t).connect(t, "")
	job := f.submit(t, imageJob)
	expect[protocol.Offer](t, l)
	f.await(t, job.ID, in(client.Queued))
	// Late, but nobody else has it: it may still be accepted.
	l.send(t, protocol.Accept{JobID: job.ID})
	if got := f.await(t, job.ID, in(client.Running)); got.Attempts != 1 {
		t.Errorf("job is %+v", got)
	}
}

func TestLostConnection(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	job := f.submit(t, imageJob)
	for attempt := range 3 {
		l := w.connect(t, "")
		l.take(t)
		if got := f.await(t, job.ID, in(client.Running)); got.Attempts != attempt+1 {
			t.Errorf("attempt %d is counted as %d", attempt+1, got.Attempts)
		}
		l.hangUp(t)
		if attempt < 2 {
			f.await(t, job.ID, in(client.Queued))
		}
	}
	if got := f.await(t, job.ID, in(client.Failed)); got.Error == "" {
		t.Errorf("job is %+v", got)
	}
}

func TestWorkerComesBackWithItsJob(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	l := w.connect(t, "")
	job := f.submit(t, llmJob)
	l.take(t)
	f.await(t, job.ID, in(client.Running))
	l.hangUp(t)
	f.await(t, job.ID, in(client.Queued))
	w.caps.AutoEnabled = false // it does not matter for the job it has
	l = w.connect(t, job.ID)
	if got := f.await(t, job.ID, in(client.Running)); got.Attempts != 1 || got.WorkerID != w.id {
		t.Errorf("job is %+v", got)
	}
	l.send(t, protocol.CompleteJSON{JobID: job.ID, Result: json.RawMessage(`{"text":"x"}`)})
	expect[protocol.CompleteAck](t, l)
}

func TestRow59LateUploadOfAnUnfinishedJob(t *testing.T) {
	f := newFarm(t, nil)
	late, other := f.worker(t), f.worker(t)
	l := late.connect(t, "")
	job := f.submit(t, imageJob)
	l.take(t)
	f.await(t, job.ID, in(client.Running))
	l.hangUp(t)
	f.await(t, job.ID, in(client.Queued))
	o := other.connect(t, "")
	o.take(t)
	f.await(t, job.ID, in(client.Running))

	late.deliver(t, job.ID, []byte("late, and whole"))
	if got := f.await(t, job.ID, in(client.Done)); got.WorkerID != late.id || got.Error != "" {
		t.Errorf("job is %+v", got)
	}
	status, body := other.upload(t, job.ID, "webp", []byte("too late"))
	wantError(t, status, body, http.StatusConflict, "conflict")
	if got, _ := f.fetch(t, job.ID); string(got) != "late, and whole" {
		t.Errorf("result is %q", got)
	}
	// The other still held the job: what it says of it is no violation.
	next := f.submit(t, imageJob)
	o.send(t, protocol.Fail{JobID: job.ID, Error: "complete failed: 409", Retryable: true})
	expect[protocol.FailAck](t, o)
	o.beat(t, "")
	if claim := o.take(t); claim.JobID != next.ID {
		t.Errorf("offered %s", claim.JobID)
	}
}

func TestJobThatHeartbeatsStopNamingIsOfferedAgain(t *testing.T) {
	f := newFarm(t, func(c *Config) { c.LostAfter = time.Nanosecond })
	l := f.worker(t).connect(t, "")
	job := f.submit(t, imageJob)
	l.take(t)
	f.await(t, job.ID, in(client.Running))
	l.beat(t, "") // the first that does not name it
	l.beat(t, "")
	if claim := l.take(t); claim.JobID != job.ID {
		t.Errorf("offered %s", claim.JobID)
	}
	if got := f.await(t, job.ID, in(client.Running)); got.Attempts != 1 {
		t.Errorf("it counted: %d attempts", got.Attempts)
	}
}

func TestSilentWorkerIsDropped(t *testing.T) {
	f := newFarm(t, func(c *Config) { c.HeartbeatTooOld, c.CheckEvery = 50*time.Millisecond, 10*time.Millisecond })
	l := f.worker(t).connect(t, "")
	job := f.submit(t, imageJob)
	expect[protocol.Offer](t, l)
	expectEnd(t, l, "", protocol.CloseNormal)
	f.await(t, job.ID, in(client.Queued))
}

func TestUploadIsIdempotent(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	l := w.connect(t, "")
	job := f.submit(t, imageJob)
	l.take(t)
	key := job.ID + "/1/abc"
	for range 2 {
		if status, body := w.upload(t, job.ID, "png", []byte("bytes"), "Idempotency-Key", key); status != http.StatusOK || string(body) != "{\"ok\":true}\n" {
			t.Errorf("complete answered %d %s", status, body)
		}
	}
	status, body := w.upload(t, job.ID, "png", []byte("bytes"), "Idempotency-Key", "another")
	wantError(t, status, body, http.StatusConflict, "conflict")
	status, body = w.upload(t, job.ID, "png", []byte("bytes"))
	wantError(t, status, body, http.StatusConflict, "conflict")
}

func TestNextOfferFollowsTheUpload(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	l := w.connect(t, "")
	first, second := f.submit(t, imageJob), f.submit(t, imageJob)
	l.take(t)
	w.deliver(t, first.ID, []byte("bytes"))
	if claim := expect[protocol.Offer](t, l).Claim; claim.JobID != second.ID {
		t.Errorf("offered %s", claim.JobID)
	}
}
