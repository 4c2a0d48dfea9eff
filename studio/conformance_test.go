package studio

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"studioworker/studio/client"
	"studioworker/worker/protocol"
)

// say sends text as it is.
func (l *line) say(tb testing.TB, kind int, text string) {
	tb.Helper()
	if err := l.conn.WriteMessage(kind, []byte(text)); err != nil {
		tb.Fatal(err)
	}
}

// TestConformance prints, by their number, the behaviours of the specification's
// §13 that are the studio's duty as well.
func TestConformance(t *testing.T) {
	f := newFarm(t, nil)
	t.Run("#3 and #4 heartbeats of old workers", func(t *testing.T) {
		l := f.worker(t).connect(t, "")
		expect[protocol.HeartbeatAck](t, l)
		old := `{"machineName":"m","username":"u","agentVersion":"0","engine":"e","vramTotalGb":0,"vramThresholdGb":12,` +
			`"autoEnabled":false,"autoStart":false,"supportedModels":[]}`
		for _, text := range []string{
			`{"type":"heartbeat","capabilities":` + old + `}`,
			`{"type":"heartbeat","capabilities":` + old + `,"currentJobId":null}`,
		} {
			l.say(t, websocket.TextMessage, text)
			expect[protocol.HeartbeatAck](t, l)
		}
	})
	t.Run("#13, #14 and #15 cost nothing", func(t *testing.T) {
		l := f.worker(t).connect(t, "")
		expect[protocol.HeartbeatAck](t, l)
		for _, text := range []string{`{"type":"logBatch","entries":[]}`, `{"type":"readyForMore"}`, `{"type":"dance"}`} {
			l.say(t, websocket.TextMessage, text)
		}
		l.beat(t, "")
		expect[protocol.HeartbeatAck](t, l)
	})
	t.Run("#29 and #33 the upgrade", func(t *testing.T) {
		w := f.worker(t)
		if got := w.upgradeStatus(t, "wrong", protocol.Version); got != http.StatusUnauthorized {
			t.Errorf("a wrong token: %d", got)
		}
		if got := w.upgradeStatus(t, w.token, protocol.Version); got != http.StatusSwitchingProtocols {
			t.Errorf("the right one: %d", got)
		}
	})
	t.Run("#25 and #38 a wrong token in hello", func(t *testing.T) {
		w := f.worker(t)
		l := w.dial(t)
		l.send(t, protocol.Hello{AuthToken: "wrong", Capabilities: w.caps})
		expectEnd(t, l, protocol.ErrorAuthFailed, protocol.CloseAuthFailed)
	})
	t.Run("#40 a binary frame", func(t *testing.T) {
		l := f.worker(t).connect(t, "")
		l.say(t, websocket.BinaryMessage, `{"type":"readyForMore"}`)
		expectEnd(t, l, protocol.ErrorViolation, protocol.CloseViolation)
	})
	t.Run("#41 text that is not JSON", func(t *testing.T) {
		l := f.worker(t).connect(t, "")
		l.say(t, websocket.TextMessage, `{"type":`)
		expectEnd(t, l, protocol.ErrorViolation, protocol.CloseViolation)
	})
	t.Run("#47 nothing before hello", func(t *testing.T) {
		l := f.worker(t).dial(t)
		l.beat(t, "")
		expectEnd(t, l, protocol.ErrorViolation, protocol.CloseViolation)
	})
}

// TestConformanceOfJobs is TestConformance for offers and results.
func TestConformanceOfJobs(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	l := w.connect(t, "")
	t.Run("#10, #11, #21 and #48 two JSON jobs", func(t *testing.T) {
		for _, result := range []string{`{"a":1}`, `[1]`} {
			job := f.submit(t, llmJob)
			if claim := l.take(t); claim.JobID != job.ID {
				t.Fatalf("offered %s", claim.JobID)
			}
			l.send(t, protocol.CompleteJSON{JobID: job.ID, Result: []byte(result)}) // without a prompt
			if ack := expect[protocol.CompleteAck](t, l); ack.JobID != job.ID {
				t.Errorf("acknowledged %s", ack.JobID)
			}
			f.await(t, job.ID, in(client.Done))
			if data, _ := f.fetch(t, job.ID); string(data) != result {
				t.Errorf("the result is %s", data)
			}
		}
	})
	t.Run("#12 and #21 a failure", func(t *testing.T) {
		job := f.submit(t, llmJob)
		l.take(t)
		l.send(t, protocol.Fail{JobID: job.ID, Error: "no such engine", Retryable: false})
		if ack := expect[protocol.FailAck](t, l); ack.JobID != job.ID {
			t.Errorf("acknowledged %s", ack.JobID)
		}
		if got := f.await(t, job.ID, in(client.Failed)); got.Error != "no such engine" {
			t.Errorf("job is %+v", got)
		}
	})
	t.Run("#73, #74 and #80 an upload", func(t *testing.T) {
		job := f.submit(t, imageJob)
		l.take(t)
		f.await(t, job.ID, in(client.Running))
		thief := &fake{farm: f, id: w.id, token: "wrong"}
		if status, data := thief.upload(t, job.ID, "png", []byte("bytes")); status != http.StatusUnauthorized {
			t.Errorf("a wrong token is answered %d %s", status, data)
		}
		if status, data := w.upload(t, job.ID, "png", []byte("bytes")); status != http.StatusOK {
			t.Fatalf("the worker is answered %d %s", status, data)
		}
		if data, kind := f.fetch(t, job.ID); string(data) != "bytes" || kind != "image/png" {
			t.Errorf("the result is %s of type %s", data, kind)
		}
		if status, data := f.worker(t).upload(t, job.ID, "png", []byte("others")); status != http.StatusConflict {
			t.Errorf("another worker's result of the finished job is answered %d %s", status, data)
		}
	})
}

// TestConformanceOfRegistration is TestConformance for people and their requests.
func TestConformanceOfRegistration(t *testing.T) {
	f := newFarm(t, manual)
	decide := func(t *testing.T, request, word, body string) {
		t.Helper()
		if status, data := f.call(t, http.MethodPost, "/api/v1/registrations/"+request+"/"+word, f.token, strings.NewReader(body)); status != http.StatusOK {
			t.Fatalf("%s answered %d %s", word, status, data)
		}
	}
	t.Run("#83, #84, #86 and #94 until approved", func(t *testing.T) {
		request := f.register(t, "install-1", secret)
		for range 2 {
			if got := f.poll(t, request, secret); got.Status != protocol.StatusPending {
				t.Errorf("before the decision: %+v", got)
			}
		}
		decide(t, request, "approve", "")
		got := f.poll(t, request, secret)
		if got.Status != protocol.StatusApproved || got.WorkerID == "" || got.AuthToken == "" {
			t.Errorf("after it: %+v", got)
		}
	})
	t.Run("#87 a rejection and its reason", func(t *testing.T) {
		request := f.register(t, "install-2", secret)
		decide(t, request, "reject", `{"reason":"not one of ours"}`)
		if got := f.poll(t, request, secret); got.Status != protocol.StatusRejected || got.Reason != "not one of ours" {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("#88 a request or a secret that nobody knows", func(t *testing.T) {
		request := f.register(t, "install-3", secret)
		for name, c := range map[string]struct{ request, secret string }{
			"request": {"rr-none", secret}, "secret": {request, otherSecret}, "hash of the secret": {request, hashed(secret)},
		} {
			status, data := f.call(t, http.MethodGet, workers+"register-requests/"+c.request, c.secret, nil)
			if wantError(t, status, data, http.StatusNotFound, "not_found"); t.Failed() {
				t.Errorf("for an unknown %s", name)
			}
		}
	})
	t.Run("#92 the same install and secret get the same request", func(t *testing.T) {
		if first, again := f.register(t, "install-4", secret), f.register(t, "install-4", secret); first != again {
			t.Errorf("%s, then %s", first, again)
		}
	})
	t.Run("#93 too many requests", func(t *testing.T) {
		for range requestsPerMinute {
			status, data := f.call(t, http.MethodPost, workers+"register-request", "", strings.NewReader(registration("install-5", secret)))
			if status == http.StatusCreated {
				continue
			}
			wantError(t, status, data, http.StatusTooManyRequests, "too_many_requests")
			return
		}
		t.Error("nobody was refused")
	})
}

// TestConformanceToTheReferenceWorker is TestConformance for what the reference's
// worker is sent, and for what its heartbeats ask for. It names no features.
func TestConformanceToTheReferenceWorker(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	l := w.dial(t)
	read := func(t *testing.T, want ...string) map[string]json.RawMessage {
		t.Helper()
		if err := l.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		_, data, err := l.conn.ReadMessage()
		var got map[string]json.RawMessage
		if err = errors.Join(err, json.Unmarshal(data, &got)); err != nil {
			t.Fatal(err)
		}
		if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, want) {
			t.Errorf("the frame %s has %q, want %q", data, keys, want)
		}
		return got
	}
	t.Run("#16 the welcome", func(t *testing.T) {
		l.send(t, protocol.Hello{AuthToken: w.token, Capabilities: w.caps})
		got := read(t, "features", "serverTime", "type", "workerId")
		var at time.Time
		if err := json.Unmarshal(got["serverTime"], &at); err != nil || string(got["workerId"]) != `"`+w.id+`"` {
			t.Errorf("the welcome is %s", got)
		}
	})
	t.Run("#20 the answer to a heartbeat", func(t *testing.T) {
		l.beat(t, "")
		read(t, "type")
	})
	t.Run("#42 a ping is answered", func(t *testing.T) {
		pong := make(chan string, 1)
		l.conn.SetPongHandler(func(text string) error { pong <- text; return nil })
		if err := l.conn.WriteControl(websocket.PingMessage, []byte("here?"), time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		l.beat(t, "")
		read(t, "type") // the pong comes before it
		if got := <-pong; got != "here?" {
			t.Errorf("the pong says %q", got)
		}
	})
	t.Run("#17, #18, #19 and #21 offers and acknowledgements", func(t *testing.T) {
		for kind, body := range map[string]string{"image": imageJob, "llm": llmJob} {
			job := f.submit(t, body)
			var claim map[string]json.RawMessage
			if err := json.Unmarshal(read(t, "claim", "type")["claim"], &claim); err != nil {
				t.Fatal(err)
			}
			want := []string{"assetName", "gameId", "jobId", "model", "modelSource", "task", "vramGbEstimate"}
			if keys := slices.Sorted(maps.Keys(claim)); !slices.Equal(keys, want) {
				t.Errorf("the claim of a job %s has %q, want %q", kind, keys, want)
			}
			l.send(t, protocol.Accept{JobID: job.ID})
			l.send(t, protocol.Fail{JobID: job.ID, Error: "no"})
			read(t, "jobId", "type")
			l.beat(t, "")
			read(t, "type")
		}
	})
	t.Run("#51 a changed threshold counts at once", func(t *testing.T) {
		const big = `{"model":"synthetic-image","vramGbEstimate":14,"task":{"kind":"image","prompt":"a lighthouse"}}`
		job := f.submit(t, big)
		l.beat(t, "")
		read(t, "type")
		if got := f.job(t, job.ID); got.State != client.Queued {
			t.Fatalf("above the threshold: %+v", got)
		}
		w.caps.VRAMThresholdGB = 14
		l.beat(t, "")
		if claim := l.take(t); claim.JobID != job.ID {
			t.Errorf("offered %s", claim.JobID)
		}
		w.deliver(t, job.ID, []byte("pixels"))
		l.beat(t, "")
		expect[protocol.HeartbeatAck](t, l)
	})
	t.Run("#55 and #56 only when nobody is there", func(t *testing.T) {
		yes := true
		w.caps.OnlyWhenIdle, w.caps.UserPresence = &yes, protocol.PresenceActive
		l.beat(t, "")
		for range 2 { // one may still be on its way
			l.beat(t, "")
			expect[protocol.HeartbeatAck](t, l)
		}
		job := f.submit(t, llmJob)
		l.beat(t, "")
		expect[protocol.HeartbeatAck](t, l)
		if got := f.job(t, job.ID); got.State != client.Queued {
			t.Fatalf("while somebody is there: %+v", got)
		}
		w.caps.UserPresence = protocol.PresenceIdle
		l.beat(t, "")
		if claim := l.take(t); claim.JobID != job.ID {
			t.Errorf("offered %s", claim.JobID)
		}
		l.send(t, protocol.CompleteJSON{JobID: job.ID, Result: []byte(`1`)})
		expect[protocol.CompleteAck](t, l)
	})
	t.Run("#78 types of results", func(t *testing.T) {
		l.beat(t, "")
		for ext, want := range map[string]string{"mp3": "audio/mpeg", "mp4": "video/mp4", "xyz": "application/octet-stream"} {
			job := f.submit(t, imageJob)
			l.take(t)
			f.await(t, job.ID, in(client.Running))
			if status, data := w.upload(t, job.ID, ext, []byte("bytes")); status != http.StatusOK {
				t.Fatalf("the upload of %s is answered %d %s", ext, status, data)
			}
			if _, kind := f.fetch(t, job.ID); kind != want {
				t.Errorf("a result %s has type %s, want %s", ext, kind, want)
			}
			l.beat(t, "")
		}
	})
}
