package worker

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"studioworker/gpu"
	"studioworker/worker/config"
	"studioworker/worker/engine"
	"studioworker/worker/observe"
	"studioworker/worker/protocol"
	"studioworker/worker/session"
	"studioworker/worker/session/sessiontest"
)

// through is the config of a worker that reaches its studio by way of the proxy.
func through(p *sessiontest.Proxy) func(*config.Config) {
	return func(c *config.Config) {
		c.APIBaseURL, c.InstallID, c.WorkerID, c.AuthToken = p.URL(), "i", "wk-20", "tok-0"
	}
}

// impatient makes the worker's sessions live ten times as fast: a studio that
// says nothing for 2 s, instead of 20, is left.
func (f *fixture) impatient() *fixture {
	f.loop = session.NewLoop(session.LoopConfig{
		Session: session.Config{
			Capabilities: f.capabilities, Jobs: offers{f.runner}, Logs: f.cfg.Logs, Observers: f.seen, Log: f.cfg.Log,
			Welcomed: f.deliverer.Kick, Heartbeat: protocol.HeartbeatInterval / 10, IdleLimit: protocol.IdleLimit / 10, Dial: f.network.Dial,
		},
		Credentials: f.credentials,
	})
	return f
}

// held is an engine that counts its runs and waits in each.
type held struct {
	runs    atomic.Int32
	release chan struct{}
	stopped chan error // why a run was stopped
}

func newHeld() *held { return &held{release: make(chan struct{}), stopped: make(chan error, 1)} }

func (h *held) run(ctx context.Context, req engine.Request) (engine.Result, error) {
	n := h.runs.Add(1)
	select {
	case <-h.release:
		return leave(req, `{"run":`+strconv.Itoa(int(n))+`}`)
	case <-ctx.Done():
		h.stopped <- context.Cause(ctx)
		return engine.Result{}, context.Cause(ctx)
	}
}

// TestRow11CredentialsRemoved: somebody takes the credentials out of the config of
// a running worker. It says so, registers anew when its session ends, and works
// on: every job is run once, and every result delivered.
func TestRow11CredentialsRemoved(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	f := prepare(t, approved(s), answers).start(t)
	work := func(c *sessiontest.Conn, id string) {
		c.Send(t, llmOffer(id, "test"))
		sessiontest.Await(t, c, func(done protocol.CompleteJSON) bool { return done.JobID == id })
		c.Send(t, protocol.CompleteAck{JobID: id})
		f.job(t, id, observe.OutcomeCompleted)
	}
	c := s.Welcome(t)
	work(c, "before")
	elsewhere, err := config.Open(f.store.Path(), f.cfg.Log)
	if err != nil {
		t.Fatal(err)
	}
	if err := elsewhere.Update(func(c *config.Config) { c.WorkerID, c.AuthToken = "", "" }); err != nil {
		t.Fatal(err)
	}
	work(c, "meanwhile") // the session is as good as it was
	if err := c.WS.NetConn().Close(); err != nil {
		t.Fatal(err)
	}
	c = s.Welcome(t)
	if got := c.Request.Header.Get("Authorization"); got != "Bearer tok-1" || len(s.registered()) != 1 {
		t.Errorf("came back with %q after %d requests", got, len(s.registered()))
	}
	if said := f.lines("the credentials are gone from the config: registering anew"); len(said) != 1 {
		t.Errorf("said %q", said)
	}
	if note, why := f.note(); note == "" || why.Reason != observe.ReasonGone {
		t.Errorf("asks anew for %q, %+v", note, why)
	}
	work(c, "after")
	f.counts(t, 3, 3)
}

// TestRow39FramesNobodyUnderstands: unknown frames and fields and wrong types cost
// themselves. Each is said once, and the session and its job go on.
func TestRow39FramesNobodyUnderstands(t *testing.T) {
	t.Parallel()
	s, h := newStudio(t), newHeld()
	f := prepare(t, approved(s), h.run).start(t)
	c := s.Welcome(t)
	c.Send(t, llmOffer("j", "test"))
	sessiontest.Await(t, c, accepted("j"))
	odd := []string{
		`{"type":"tea","when":"now"}`, `{"type":7}`, `{}`, `[]`, `null`, `"offer"`, `{"type":"completeAck"}`,
		`{"type":"completeAck","jobId":7}`, `{"type":"offer","claim":[]}`, `{"type":"error","code":"tea_time","message":"x"}`,
		`{"type":"resumed","keep":"j"}`, strings.Repeat("[", 200) + strings.Repeat("]", 200),
	}
	for range 3 {
		for _, text := range odd {
			c.SendText(t, text)
		}
	}
	c.SendText(t, `{"type":"heartbeatAck","mood":"good"}`) // only a field is unknown
	close(h.release)
	got := sessiontest.Await[protocol.CompleteJSON](t, c, nil)
	c.SendText(t, `{"type":"completeAck","jobId":"j","thanks":true}`)
	f.job(t, "j", observe.OutcomeCompleted)
	if string(got.Result) != `{"run":1}` {
		t.Errorf("the result is %s", got.Result)
	}
	if said := f.lines("frame was dropped"); len(said) > len(odd) || len(said) < len(odd)/2 {
		t.Errorf("said %d times of %d frames:\n%s", len(said), 3*len(odd), strings.Join(said, "\n"))
	}
	if now := f.seen.Session.Get(); now.State != observe.SessionConnected {
		t.Errorf("the session is %+v", now)
	}
	f.counts(t, 1, 1)
}

// TestRow26And27TheLineGoesBad: the connection neither works nor ends. The worker
// leaves it, comes back, and its job goes on meanwhile: one run of the engine,
// one result.
func TestRow26And27TheLineGoesBad(t *testing.T) {
	t.Parallel()
	if protocol.IdleLimit > 20*time.Second {
		t.Errorf("a silent studio is left after %v, want at most 20 s", protocol.IdleLimit)
	}
	for name, spoil := range map[string]func(*sessiontest.Proxy){
		"row 26: black hole": func(p *sessiontest.Proxy) { p.BlackHole() },
		"row 26: half-close": func(p *sessiontest.Proxy) { p.HalfClose() },
		// A byte each second, ten times as fast.
		"row 27: one byte a second": func(p *sessiontest.Proxy) { p.Drip(time.Second / 10) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, h := newStudio(t), newHeld()
			p := sessiontest.NewProxy(t, s.Server.URL)
			f := prepare(t, through(p), h.run).impatient().start(t)
			c := s.Welcome(t, protocol.FeatureResume)
			c.Send(t, llmOffer("j", "test"))
			sessiontest.Await(t, c, accepted("j"))
			spoil(p)
			lost := until(t, &f.seen.Session, func(s observe.Session) bool { return s.State == observe.SessionReconnecting })
			if want := "no sign of life"; !strings.Contains(name, "half") && !strings.Contains(lost.Reason, want) {
				t.Errorf("the session was left with %q, want %q", lost.Reason, want)
			}
			again := s.Welcome(t, protocol.FeatureResume)
			if got := sessiontest.Await[protocol.Resume](t, again, nil); len(got.JobIDs) != 1 || got.JobIDs[0] != "j" {
				t.Errorf("the worker came back with %+v", got)
			}
			sessiontest.Await(t, again, func(b protocol.Heartbeat) bool { return b.CurrentJobID == "j" })
			again.Send(t, protocol.Resumed{Keep: []string{"j"}})
			close(h.release)
			if got := sessiontest.Await[protocol.CompleteJSON](t, again, nil); got.JobID != "j" || string(got.Result) != `{"run":1}` {
				t.Errorf("got %+v", got)
			}
			again.Send(t, protocol.CompleteAck{JobID: "j"})
			f.job(t, "j", observe.OutcomeCompleted)
			f.counts(t, 1, 1)
		})
	}
}

// TestRow25OneByteAtATime: how the bytes come does not matter.
func TestRow25OneByteAtATime(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	p := sessiontest.NewProxy(t, s.Server.URL)
	p.ByteForByte()
	f := prepare(t, through(p), answers).start(t)
	c := s.Welcome(t)
	c.Send(t, llmOffer("j", "test"))
	sessiontest.Await(t, c, accepted("j"))
	if got := sessiontest.Await[protocol.CompleteJSON](t, c, nil); !json.Valid(got.Result) {
		t.Errorf("got %q", got.Result)
	}
	c.Send(t, protocol.CompleteAck{JobID: "j"})
	f.job(t, "j", observe.OutcomeCompleted)
	f.counts(t, 1, 1)
}

// TestRow24MemoryTakenByAnother: the card is looked at when the offer comes, and
// nothing is started that does not fit.
func TestRow24MemoryTakenByAnother(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	var free atomic.Uint64
	free.Store(2 << 30)
	f := prepare(t, approved(s), answers, func(c *Config) {
		c.GPUs = func(context.Context) ([]gpu.Device, error) {
			return []gpu.Device{{Name: "one", TotalBytes: 16 << 30, FreeBytes: free.Load()}}, nil
		}
	}).start(t)
	c := s.Welcome(t)
	offer := llmOffer("j", "test")
	offer.Claim.VRAMGBEstimate = 8
	c.Send(t, offer)
	want := protocol.Reject{
		JobID: "j", Code: protocol.RejectBusy,
		Reason: "worker busy: not enough free GPU memory: the job needs 8 GB and 1 GB to spare, 2 GB are free",
	}
	if got := sessiontest.Await[protocol.Reject](t, c, nil); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	f.counts(t, 0, 0)
	free.Store(10 << 30) // the other program ended
	c.Send(t, offer)
	sessiontest.Await(t, c, accepted("j"))
	sessiontest.Await[protocol.CompleteJSON](t, c, nil)
	c.Send(t, protocol.CompleteAck{JobID: "j"})
	f.job(t, "j", observe.OutcomeCompleted)
	f.counts(t, 1, 1)
}

// TestRow42AnAcceptThatCameTooLate: another worker has the job. The studio ends
// the session, and the job with it; the worker stops the engine, says nothing of
// the job, and takes the next one.
func TestRow42AnAcceptThatCameTooLate(t *testing.T) {
	t.Parallel()
	s, h := newStudio(t), newHeld()
	f := prepare(t, approved(s), h.run).start(t)
	c := s.Welcome(t, protocol.FeatureResume)
	c.Send(t, llmOffer("late", "test"))
	sessiontest.Await(t, c, accepted("late"))
	until(t, &f.seen.CurrentJob, func(j observe.CurrentJob) bool { return j.ID == "late" })
	// The worker closes at the error frame, before any close of the studio's.
	c.Send(t, protocol.Error{Code: protocol.ErrorViolation, Message: "accept: this worker does not hold the job late"})

	again := s.Welcome(t, protocol.FeatureResume)
	if got := sessiontest.Await[protocol.Resume](t, again, nil); len(got.JobIDs) != 1 || got.JobIDs[0] != "late" {
		t.Errorf("the worker came back with %+v", got)
	}
	again.Send(t, protocol.Resumed{Drop: []string{"late"}})
	f.job(t, "late", observe.OutcomeCancelled)
	until(t, &f.seen.CurrentJob, func(j observe.CurrentJob) bool { return j.ID == "" })
	if h.runs.Load() == 1 && len(h.stopped) != 1 {
		t.Error("the engine was not stopped")
	}
	close(h.release)
	again.Send(t, llmOffer("next", "test"))
	sessiontest.Await(t, again, accepted("next"))
	for done := false; !done; {
		switch frame := again.Next(t).(type) {
		case protocol.CompleteJSON:
			if done = true; frame.JobID != "next" {
				t.Errorf("got %+v", frame)
			}
		case protocol.Fail, nil:
			t.Fatalf("got %+v", frame)
		}
	}
	again.Send(t, protocol.CompleteAck{JobID: "next"})
	f.job(t, "next", observe.OutcomeCompleted)
	if _, kept := f.outbox.Find("late"); kept {
		t.Error("something is left of the job")
	}
	f.counts(t, int(h.runs.Load()), 1) // the late job may end before its engine starts
}

// TestRow33ACaptivePortal: who answers the upgrade with a web page is no studio.
// The worker says so, keeps its credentials, and is there when the network is.
func TestRow33ACaptivePortal(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	portal := true
	s.Upgrade = func(w http.ResponseWriter, _ *http.Request) bool {
		if !portal {
			return true
		}
		portal = false
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<html>Welcome to our hotel</html>")) // the worker may hang up
		return false
	}
	f := prepare(t, approved(s), answers).start(t)
	shown := until(t, &f.seen.Session, func(s observe.Session) bool { return s.State == observe.SessionReconnecting })
	if want := "upgrade refused with status 200: <html>Welcome to our hotel</html>"; !strings.Contains(shown.Reason, want) {
		t.Errorf("shown: %q, want %q", shown.Reason, want)
	}
	s.Welcome(t)
	if c := f.store.Get(); c.WorkerID != "wk-20" || c.AuthToken.Reveal() != "tok-0" {
		t.Error("the credentials are gone")
	}
	if n := s.called(); n != 0 {
		t.Errorf("%d calls beside the session", n)
	}
	f.counts(t, 0, 0)
}
