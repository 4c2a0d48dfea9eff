package session

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"studioworker/worker/observe"
	"studioworker/worker/protocol"
	"studioworker/worker/session/sessiontest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a loop over a studio of the test.
type fixture struct {
	studio *sessiontest.Studio
	jobs   *fakeJobs
	logs   *fakeLogs
	text   *logText
	seen   *observe.WorkerObservers
	cfg    LoopConfig
	stop   context.CancelFunc
	ended  chan error
}

// fakeJobs takes every offer and answers JSON jobs at once.
type fakeJobs struct {
	mu    sync.Mutex
	acked []string
	job   string

	unfinished []string
}

func (f *fakeJobs) Offer(ctx context.Context, c protocol.Claim, link Link) {
	if link.Send(ctx, protocol.Accept{JobID: c.JobID}) == nil {
		_ = link.Send(ctx, protocol.CompleteJSON{JobID: c.JobID, Result: []byte("1")})
	}
}

func (f *fakeJobs) Acknowledged(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acked = append(f.acked, id)
}

func (f *fakeJobs) Unfinished() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.unfinished
}

func (f *fakeJobs) Resumed(ctx context.Context, keep, drop []string, link Link) {
	for _, id := range keep {
		_ = link.Send(ctx, protocol.CompleteJSON{JobID: id, Result: []byte(`"kept"`)})
	}
	for _, id := range drop {
		_ = link.Send(ctx, protocol.Fail{JobID: id, Error: "dropped"})
	}
}

func (f *fakeJobs) Revoke(ctx context.Context, id, reason string, link Link) {
	_ = link.Send(ctx, protocol.Fail{JobID: id, Error: reason})
}

func (f *fakeJobs) CurrentJobID() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.job
}

type fakeLogs struct {
	mu      sync.Mutex
	entries []protocol.LogEntry
	ready   chan struct{}
}

func (f *fakeLogs) Take() []protocol.LogEntry {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := min(len(f.entries), protocol.MaxLogBatchEntries)
	batch := f.entries[:n:n]
	f.entries = f.entries[n:]
	return batch
}

func (f *fakeLogs) Ready() <-chan struct{} { return f.ready }

func (f *fakeLogs) Restore(batch []protocol.LogEntry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entries = append(batch, f.entries...)
}

type logText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func setup(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{
		studio: sessiontest.New(t), jobs: &fakeJobs{}, logs: &fakeLogs{}, text: &logText{}, seen: observe.New(),
		ended: make(chan error, 1),
	}
	caps := func() protocol.Capabilities {
		return protocol.Capabilities{
			Engine: "multi", AutoEnabled: f.seen.Availability.Get().Block == observe.BlockNone,
			TaskKinds: []protocol.TaskKind{protocol.KindLLM}, SupportedModels: []string{"synthetic-llm"},
		}
	}
	f.cfg = LoopConfig{
		Session: Config{Capabilities: caps, Jobs: f.jobs, Logs: f.logs, Observers: f.seen, Log: slog.New(slog.NewTextHandler(f.text, nil))},
		Credentials: func() (Credentials, error) {
			return Credentials{Base: f.studio.Base(t), WorkerID: "wk/20", Token: "tok-secret"}, nil
		},
	}
	return f
}

// start runs the loop until the test ends.
func (f *fixture) start(t *testing.T) *Loop {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f.stop = cancel
	l := NewLoop(f.cfg)
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.ended <- l.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return l
}

// state waits until the session slot has the state.
func (f *fixture) state(t *testing.T, want observe.SessionState) observe.Session {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), sessiontest.Patience)
	defer cancel()
	for s := range f.seen.Session.Watch(ctx) {
		if s.State == want {
			return s
		}
	}
	t.Fatalf("session is %+v, want %s\n%s", f.seen.Session.Get(), want, f.text)
	return observe.Session{}
}

func offer(id string) protocol.Offer {
	return protocol.Offer{Claim: protocol.Claim{
		JobID: id, Model: "synthetic-llm", Task: protocol.Task{Kind: protocol.KindLLM, LLM: &protocol.LLMTask{}},
		ModelSource: protocol.ModelSource{Engine: protocol.EngineSynthetic},
	}}
}

func TestSpec029And047UpgradeAndHelloComeFirst(t *testing.T) {
	f := setup(t)
	f.start(t)
	c := f.studio.Accept(t)
	if c.Request.Header.Get("Authorization") != "Bearer tok-secret" || c.Request.Header.Get("Sec-WebSocket-Protocol") != "studio-worker-v1" ||
		c.Request.URL.EscapedPath() != "/graphics/api/workers/wk%2F20/connect" {
		t.Errorf("upgrade: %v %v", c.Request.URL, c.Request.Header)
	}
	if hello, ok := c.Next(t).(protocol.Hello); !ok || hello.AuthToken != "tok-secret" {
		t.Fatalf("first frame: %#v", hello)
	}
	// Frames before welcome are dropped, and nothing is answered to them.
	c.Send(t, offer("too-early"))
	c.Send(t, protocol.HeartbeatAck{})
	c.Send(t, protocol.Welcome{WorkerID: "wk-20", ServerTime: "now"})
	if beat, ok := c.Next(t).(protocol.Heartbeat); !ok || beat.CurrentJobID != "" {
		t.Fatalf("after welcome: %#v, want a heartbeat at once", beat)
	}
	f.state(t, observe.SessionConnected)
	for _, want := range []string{"advertising", "kinds=llm", "auto_enabled=true", "worker_id=wk-20 server_time=now", "frame before welcome was dropped"} {
		if !strings.Contains(f.text.String(), want) { // spec #50, #67
			t.Errorf("the log lacks %q:\n%s", want, f.text)
		}
	}
	if strings.Contains(f.text.String(), "tok-secret") {
		t.Error("the token reached the log")
	}
}

func TestSpec048OffersAreAnsweredInOrder(t *testing.T) {
	f := setup(t)
	f.start(t)
	c := f.studio.Welcome(t)
	for _, id := range []string{"job-1", "job-2"} {
		c.Send(t, offer(id))
		sessiontest.Await(t, c, func(a protocol.Accept) bool { return a.JobID == id })
		sessiontest.Await(t, c, func(d protocol.CompleteJSON) bool { return d.JobID == id })
		c.Send(t, protocol.CompleteAck{JobID: id})
	}
	c.Close(t, protocol.CloseNormal, "")
	f.state(t, observe.SessionReconnecting)
	f.jobs.mu.Lock()
	defer f.jobs.mu.Unlock()
	if len(f.jobs.acked) != 2 || f.jobs.acked[1] != "job-2" {
		t.Errorf("acknowledged: %v", f.jobs.acked)
	}
	if !strings.Contains(f.text.String(), `"disconnected, will reconnect" attempt=1`) { // spec #39, #60
		t.Errorf("log:\n%s", f.text)
	}
}

func TestABadOfferCostsOnlyItself(t *testing.T) {
	f := setup(t)
	f.start(t)
	c := f.studio.Welcome(t)
	c.SendRaw(t, websocket.TextMessage, `{"type":"offer","claim":{"jobId":"bad"}}`)
	sessiontest.Await(t, c, func(a protocol.Accept) bool { return a.JobID == "bad" })
	fail := sessiontest.Await(t, c, func(x protocol.Fail) bool { return x.JobID == "bad" })
	if fail.Retryable {
		t.Error("an offer that cannot be read is to be tried again")
	}
	c.SendRaw(t, websocket.TextMessage, `{"type":"from-tomorrow"}`)
	c.SendRaw(t, websocket.TextMessage, `{"type":"error","code":"tired","message":""}`)
	if err := c.WS.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second)); err != nil { // spec #42
		t.Fatal(err)
	}
	c.Send(t, offer("good"))
	sessiontest.Await(t, c, func(a protocol.Accept) bool { return a.JobID == "good" })
}

func TestSpec053And055PauseSendsAHeartbeatAtOnce(t *testing.T) {
	f := setup(t)
	f.cfg.Session.Heartbeat = time.Hour
	f.cfg.Session.IdleLimit = time.Hour
	f.start(t)
	c := f.studio.Welcome(t)
	sessiontest.Await(t, c, func(b protocol.Heartbeat) bool { return b.Capabilities.AutoEnabled })
	f.seen.Availability.Set(observe.Availability{Block: observe.BlockPaused})
	sessiontest.Await(t, c, func(b protocol.Heartbeat) bool { return !b.Capabilities.AutoEnabled })
	f.seen.Availability.Set(observe.Availability{})
	sessiontest.Await(t, c, func(b protocol.Heartbeat) bool { return b.Capabilities.AutoEnabled })
}

func TestLogsAreShippedAndFlushedAtTheEnd(t *testing.T) {
	f := setup(t)
	f.logs.Restore([]protocol.LogEntry{{TS: "t", Level: "info", Category: "ws", Message: "early"}})
	f.start(t)
	c := f.studio.Welcome(t)
	sessiontest.Await(t, c, func(b protocol.LogBatch) bool { return b.Entries[0].Message == "early" })
	f.logs.Restore([]protocol.LogEntry{{TS: "t", Level: "info", Category: "ws", Message: "last words"}})
	f.stop()
	sessiontest.Await(t, c, func(b protocol.LogBatch) bool { return b.Entries[0].Message == "last words" })
	if err := <-f.ended; err != nil {
		t.Errorf("an orderly end is %v", err)
	}
	f.ended <- nil
	if got := f.seen.Session.Get().State; got != observe.SessionStopped {
		t.Errorf("state %s", got)
	}
}

func TestTerminalAnswers(t *testing.T) {
	for _, tc := range []struct {
		name  string
		end   func(*testing.T, *sessiontest.Conn)
		state observe.SessionState
		says  string
		why   observe.Why
	}{
		{"038 close 4001", func(t *testing.T, c *sessiontest.Conn) { t.Helper(); c.Close(t, 4001, "gone") }, observe.SessionAuthFailed, "gone", observe.Why{Reason: observe.ReasonToken, Said: "gone"}},
		{"auth_failed", func(t *testing.T, c *sessiontest.Conn) {
			t.Helper()
			c.Send(t, protocol.Error{Code: protocol.ErrorAuthFailed, Message: "unknown token"})
		}, observe.SessionAuthFailed, "unknown token", observe.Why{Reason: observe.ReasonToken, Said: "unknown token"}},
		{"bare 4003", func(t *testing.T, c *sessiontest.Conn) { t.Helper(); c.Close(t, 4003, "") }, observe.SessionFatal, "another computer", observe.Why{Reason: observe.ReasonDuplicate}},
		{"bare 4004", func(t *testing.T, c *sessiontest.Conn) { t.Helper(); c.Close(t, 4004, "") }, observe.SessionFatal, "removed", observe.Why{Reason: observe.ReasonDeleted}},
		{"duplicate_worker", func(t *testing.T, c *sessiontest.Conn) {
			t.Helper()
			c.Send(t, protocol.Error{Code: protocol.ErrorDuplicate, Message: "m"})
		}, observe.SessionFatal, "another computer", observe.Why{Reason: observe.ReasonDuplicate, Said: "m"}},
		{"internal_error", func(t *testing.T, c *sessiontest.Conn) {
			t.Helper()
			c.Send(t, protocol.Error{Code: protocol.ErrorInternal, Message: "oops"})
		}, observe.SessionReconnecting, "oops", observe.Why{Reason: observe.ReasonStudioSays, Said: "oops"}},
		{"4002", func(t *testing.T, c *sessiontest.Conn) { t.Helper(); c.Close(t, 4002, "what") }, observe.SessionReconnecting, "what", observe.Why{Reason: observe.ReasonViolation, Said: "what"}},
		{"040 binary frame", func(t *testing.T, c *sessiontest.Conn) {
			t.Helper()
			c.SendRaw(t, websocket.BinaryMessage, "{}")
		}, observe.SessionReconnecting, "binary", observe.Why{Reason: observe.ReasonViolation, Said: "a binary frame"}},
		{"041 not JSON", func(t *testing.T, c *sessiontest.Conn) { t.Helper(); c.SendRaw(t, websocket.TextMessage, "hello") }, observe.SessionReconnecting, "JSON", observe.Why{Reason: observe.ReasonViolation, Said: "not JSON"}},
		{"043 no close frame", func(t *testing.T, c *sessiontest.Conn) {
			t.Helper()
			if err := c.WS.NetConn().Close(); err != nil {
				t.Fatal(err)
			}
		}, observe.SessionReconnecting, "closed", observe.Why{Reason: observe.ReasonCut}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := setup(t)
			f.start(t)
			tc.end(t, f.studio.Welcome(t))
			if s := f.state(t, tc.state); !strings.Contains(s.Reason, tc.says) || s.Why != tc.why {
				t.Errorf("reason %q, %+v; want it to say %q, %+v", s.Reason, s.Why, tc.says, tc.why)
			}
		})
	}
}

func TestAfterATerminalEndAKickTriesAgain(t *testing.T) {
	f := setup(t)
	l := f.start(t)
	f.studio.Welcome(t).Close(t, 4004, "")
	f.state(t, observe.SessionFatal)
	l.Kick()
	f.studio.Welcome(t)
	f.state(t, observe.SessionConnected)
}

func TestSpec052ASilentStudioIsLeft(t *testing.T) {
	f := setup(t)
	f.cfg.Session.IdleLimit = 200 * time.Millisecond
	f.cfg.MaxAttempts = 1
	f.studio.Upgrade = nil
	f.start(t)
	c := f.studio.Welcome(t)
	c.Silence()
	again := f.studio.Accept(t) // never welcomed
	again.Silence()
	if err := <-f.ended; err == nil || !strings.Contains(err.Error(), "no sign of life") {
		t.Errorf("ended with %v", err)
	}
	f.ended <- nil
	if !strings.Contains(f.text.String(), "will reconnect") {
		t.Errorf("log:\n%s", f.text)
	}
}

func TestUpgradeAnswers(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status int
		body   string
		says   string
		auth   bool
	}{
		{"033 401", 401, "whatever", "token", true},
		{"034 500", 500, "reference id 7f3a", "status 500: reference id 7f3a", false},
		{"035 blank body", 503, " \n", "status 503", false},
		{"036 long body", 502, strings.Repeat("x", 5000), "…", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := setup(t)
			f.studio.Upgrade = func(w http.ResponseWriter, _ *http.Request) bool {
				w.WriteHeader(tc.status)
				_, _ = w.Write([]byte(tc.body)) // the worker may hang up
				return false
			}
			credentials, err := f.cfg.Credentials()
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = dial(t.Context(), credentials, nil)
			if err == nil || errors.Is(err, ErrAuthFailed) != tc.auth || !strings.Contains(err.Error(), tc.says) || strings.HasSuffix(err.Error(), ":") || len(err.Error()) > 400 {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestSpec037APeerThatNeverAnswers(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed below
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	base, err := protocol.ParseBase("http://" + listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, _, err := dial(ctx, Credentials{Base: base, WorkerID: "w"}, nil); err == nil || !strings.Contains(err.Error(), "connect") {
		t.Errorf("got %v", err)
	}
}

func TestSpec045SendingAfterTheEndIsAnError(t *testing.T) {
	f := setup(t)
	links := make(chan Link, 1)
	f.cfg.Session.Jobs = linkKeeper{f.jobs, links}
	f.start(t)
	c := f.studio.Welcome(t, protocol.FeatureProgress)
	c.Send(t, offer("j"))
	link := <-links
	if !link.Has(protocol.FeatureProgress) || link.Has("sing") {
		t.Error("features are not those of the welcome")
	}
	c.Close(t, protocol.CloseNormal, "")
	f.state(t, observe.SessionReconnecting)
	if err := link.Send(t.Context(), protocol.Accept{JobID: "j"}); !errors.Is(err, ErrOver) || !strings.Contains(err.Error(), "accept") { // spec #46
		t.Errorf("got %v", err)
	}
}

type linkKeeper struct {
	*fakeJobs
	links chan Link
}

func (k linkKeeper) Offer(_ context.Context, _ protocol.Claim, link Link) { k.links <- link }

func TestSpec057CeilingDoublesToTheCap(t *testing.T) {
	for n, seconds := range map[int]int{1: 2, 2: 4, 3: 8, 4: 16, 5: 32, 6: 60, 7: 60, 10_000: 60} {
		if want := time.Duration(seconds) * time.Second; ceiling(n) != want {
			t.Errorf("ceiling(%d) = %v, want %v", n, ceiling(n), want)
		}
	}
}

// The loop's own rules, in fake time.
func TestSpec058And059AttemptsAndBackoff(t *testing.T) {
	loop := func(t *testing.T, limit uint32, open func(n int) (time.Duration, error)) (*Loop, *observe.WorkerObservers) {
		t.Helper()
		seen := observe.New()
		l := NewLoop(LoopConfig{
			Session:     Config{Observers: seen, Log: slog.New(slog.DiscardHandler)},
			Credentials: func() (Credentials, error) { return Credentials{}, nil }, MaxAttempts: limit,
		})
		n := 0
		l.open = func(context.Context, Credentials) (time.Duration, error) {
			n++
			return open(n)
		}
		return l, seen
	}
	failure := errors.New("refused")
	t.Run("a limit of 5 ends at attempt 6", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			tries := 0
			l, seen := loop(t, 5, func(n int) (time.Duration, error) { tries = n; return 0, failure })
			if err := l.Run(t.Context()); !errors.Is(err, failure) || tries != 6 {
				t.Errorf("ended after %d tries with %v", tries, err)
			}
			if s := seen.Session.Get(); s.State != observe.SessionFatal {
				t.Errorf("state %+v", s)
			}
		})
	})
	t.Run("no limit never gives up, waits at most a minute, and a welcome starts the count anew", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			last, start := time.Now(), time.Now()
			l, _ := loop(t, 0, func(n int) (time.Duration, error) {
				if wait := time.Since(last); n > 1 && wait > ceiling(n-1) {
					t.Errorf("try %d came after %v", n, wait)
				}
				last = time.Now()
				switch n {
				case 500:
					return time.Millisecond, errClosed
				case 501:
					cancel()
				}
				return 0, failure
			})
			if err := l.Run(ctx); err != nil {
				t.Error(err)
			}
			if took := time.Since(start); took < time.Hour { // 500 waits of 30 s on average
				t.Errorf("500 tries took %v: the waits are too short", took)
			}
		})
	})
	t.Run("a failed authentication is tried again after a quarter of an hour", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			start := time.Now()
			l, _ := loop(t, 0, func(n int) (time.Duration, error) {
				if n == 2 {
					cancel()
				}
				return 0, ErrAuthFailed
			})
			if err := l.Run(ctx); err != nil || time.Since(start) != authRetry {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		})
	})
}

// TestRestartOfTheStudioIsSpread: a worker comes back when the studio that
// restarts told it to.
func TestRestartOfTheStudioIsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLoop(LoopConfig{
			Session:     Config{Observers: observe.New(), Log: slog.New(slog.DiscardHandler)},
			Credentials: func() (Credentials, error) { return Credentials{}, nil },
		})
		ctx, cancel := context.WithCancel(t.Context())
		const after = 17 * time.Second
		n, last := 0, time.Now()
		l.open = func(context.Context, Credentials) (time.Duration, error) {
			if n++; n == 3 {
				cancel()
			}
			if waited := time.Since(last); n > 1 && waited != after {
				t.Errorf("try %d came after %v, want %v", n, waited, after)
			}
			last = time.Now()
			return time.Second, closeError(&websocket.CloseError{Code: int(protocol.CloseGoingAway), Text: protocol.RestartReason(after)})
		}
		if err := l.Run(ctx); err != nil || n != 3 {
			t.Errorf("ended after %d tries with %v", n, err)
		}
	})
}
