//go:build !windows

package app

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"studioworker/gpu"
	"studioworker/studio"
	"studioworker/studio/client"
	"studioworker/worker"
	"studioworker/worker/config"
	"studioworker/worker/engine"
	"studioworker/worker/engine/synthetic"
	"studioworker/worker/logs"
	"studioworker/worker/observe"
	"studioworker/worker/protocol"
)

// lab is a studio and a worker in this process, over a line that can be cut.
type lab struct {
	*farm
	line   *line
	engine *labEngine
	log    *slog.Logger
	text   *tail

	studioConfig studio.Config
	stopStudio   func(testing.TB)

	store      *config.Store
	worker     *worker.Worker
	seen       *observe.WorkerObservers
	stopWorker func(testing.TB)
}

// newLab starts both and waits until they are connected.
func newLab(tb testing.TB, change func(*studio.Config)) *lab {
	tb.Helper()
	l := &lab{engine: newLabEngine(), text: &tail{}, farm: new(farm)}
	l.log = slog.New(slog.NewTextHandler(l.text, &slog.HandlerOptions{Level: slog.LevelDebug}))
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("the end of the log:\n%s", l.text)
		}
	})
	l.studioConfig = studio.Config{
		Data: filepath.Join(tb.TempDir(), "studio"), Listen: "127.0.0.1:0", AutoApprove: true, Log: l.log.With("side", "studio"),
	}
	if change != nil {
		change(&l.studioConfig)
	}
	token := l.startStudio(tb)
	tb.Cleanup(func() { l.stopStudio(tb) })
	l.meet(tb, "http://"+l.studioConfig.Listen, token)
	l.line = newLine(tb, l.studioConfig.Listen)

	first := config.Default()
	first.APIBaseURL = "http://" + l.line.listener.Addr().String()
	var err error
	if l.store, err = config.New(filepath.Join(tb.TempDir(), "config.toml"), first, l.log); err != nil {
		tb.Fatal(err)
	}
	if err := l.store.Update(func(*config.Config) {}); err != nil { // a studio was chosen
		tb.Fatal(err)
	}
	tb.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections) // the worker's
	l.startWorker(tb)
	tb.Cleanup(func() { l.stopWorker(tb) })
	l.awaitSession(tb, observe.SessionConnected)
	return l
}

// startStudio runs a studio at the place of the one before, and returns its
// operator's token.
func (l *lab) startStudio(tb testing.TB) string {
	tb.Helper()
	s, err := studio.New(l.studioConfig)
	if err != nil {
		tb.Fatal(err)
	}
	l.studioConfig.Listen = s.Addr()[len("http://"):]
	l.stopStudio = inBackground(tb, s.Run)
	return s.OperatorToken()
}

// startWorker runs a worker of the config.
func (l *lab) startWorker(tb testing.TB) {
	tb.Helper()
	log := l.log.With("side", "worker")
	router, err := engine.NewRouter(log, l.engine)
	if err != nil {
		tb.Fatal(err)
	}
	l.seen = observe.New()
	l.worker, err = worker.New(worker.Config{
		Store: l.store, Observers: l.seen, Logs: new(logs.Queue), Log: log, Router: router, Version: Version,
		GPUs: func(context.Context) ([]gpu.Device, error) { return nil, nil }, Heartbeat: 25 * time.Millisecond,
	})
	if err != nil {
		tb.Fatal(err)
	}
	w := l.worker
	stop := inBackground(tb, w.Run)
	l.stopWorker = func(tb testing.TB) {
		tb.Helper()
		w.StopNow() // it does not wait for its job
		stop(tb)
	}
}

// inBackground runs f; the function it returns ends that.
func inBackground(tb testing.TB, f func(context.Context) error) func(testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	var once sync.Once
	return func(tb testing.TB) {
		tb.Helper()
		once.Do(func() {
			cancel()
			select {
			case err := <-ended:
				if err != nil {
					tb.Errorf("ended with %v", err)
				}
			case <-time.After(patience):
				tb.Error("did not end")
			}
		})
	}
}

// awaitSession waits until the worker is in the state.
func (l *lab) awaitSession(tb testing.TB, state observe.SessionState) observe.Session {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	for s := range l.seen.Session.Watch(ctx) {
		if s.State == state {
			return s
		}
	}
	tb.Fatalf("the worker is %+v, want %q", l.seen.Session.Get(), state)
	return observe.Session{}
}

// drop cuts the connection, and makes the worker connect again at once.
func (l *lab) drop() {
	l.line.cut()
	l.worker.Reload()
}

// reconnect is drop, and waits until the worker is back.
func (l *lab) reconnect(tb testing.TB) {
	tb.Helper()
	before := l.line.sessions()
	l.drop()
	l.line.awaitSessions(tb, before+1)
}

// queue submits a job for the lab's engine.
func (l *lab) queue(tb testing.TB, kind protocol.TaskKind) string {
	tb.Helper()
	job := client.Job{Model: "lab", Task: protocol.Task{Kind: kind}, ModelSource: &protocol.ModelSource{Engine: labID, Files: []protocol.ModelFile{}}}
	switch kind {
	case protocol.KindLLM:
		job.Task.LLM = &protocol.LLMTask{Messages: []protocol.Message{{Role: "user", Content: "name this town"}}, MaxTokens: 16}
	default:
		job.Task.TTS = &protocol.TTSTask{Text: "we sail at dawn", Voice: "default", Ext: "wav"}
	}
	queued, err := l.operator.Submit(tb.Context(), job)
	if err != nil {
		tb.Fatal(err)
	}
	return queued.ID
}

const labID = "lab"

// labEngine makes synthetic results, each when the test says so.
type labEngine struct {
	synthetic *synthetic.Engine
	started   chan string // ids, as they start; what nobody reads is lost

	mu    sync.Mutex
	gates map[string]chan struct{} // closed: the job may end
	runs  map[string]int
	more  <-chan []string // what llm jobs say before they wait
}

func newLabEngine() *labEngine {
	return &labEngine{
		synthetic: synthetic.New(), started: make(chan string, 64), gates: map[string]chan struct{}{}, runs: map[string]int{},
	}
}

func (*labEngine) ID() engine.ID { return labID }

func (*labEngine) Models() map[engine.Kind][]string {
	return map[engine.Kind][]string{engine.KindLLM: {"lab"}, engine.KindTTS: {"lab"}}
}

func (e *labEngine) Run(ctx context.Context, req engine.Request, progress func(engine.Progress)) (engine.Result, error) {
	e.mu.Lock()
	e.runs[req.JobID]++
	more := e.more
	e.mu.Unlock()
	select {
	case e.started <- req.JobID:
	default:
	}
	if req.Delta != nil && more != nil {
		for text := range more {
			for _, word := range text {
				req.Delta(word)
			}
		}
	}
	select {
	case <-e.gate(req.JobID):
	case <-ctx.Done():
		return engine.Result{}, context.Cause(ctx)
	}
	if more != nil {
		req.Delta = nil // it has said what the test wanted
	}
	return e.synthetic.Run(ctx, req, progress)
}

// tell makes llm jobs say what comes over the channel, until it is closed.
func (e *labEngine) tell(more <-chan []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.more = more
}

func (e *labEngine) gate(id string) chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gates[id] == nil {
		e.gates[id] = make(chan struct{})
	}
	return e.gates[id]
}

// release lets the job end, now and in later runs.
func (e *labEngine) release(id string) {
	gate := e.gate(id)
	select {
	case <-gate:
	default:
		close(gate)
	}
}

// ran says how often the engine ran the job.
func (e *labEngine) ran(id string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.runs[id]
}

// await returns when the engine has begun the job.
func (e *labEngine) await(tb testing.TB, id string) {
	tb.Helper()
	limit := time.After(patience)
	for {
		select {
		case got := <-e.started:
			if got == id {
				return
			}
		case <-limit:
			tb.Fatalf("the engine did not begin job %s", id)
		}
	}
}

// line forwards connections to a studio until it is cut.
type line struct {
	listener net.Listener
	target   string
	done     sync.WaitGroup

	mu      sync.Mutex
	conns   map[net.Conn]bool
	holding bool          // nothing goes through
	opened  int           // WebSocket sessions that were welcomed
	changed chan struct{} // closed at each, and made anew
}

func newLine(tb testing.TB, target string) *line {
	tb.Helper()
	listener, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	l := &line{listener: listener, target: target, conns: map[net.Conn]bool{}, changed: make(chan struct{})}
	l.done.Go(l.serve)
	tb.Cleanup(func() {
		_ = listener.Close()
		l.cut()
		l.done.Wait()
	})
	return l
}

func (l *line) serve() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		if l.held() {
			_ = near.Close()
			continue
		}
		far, err := new(net.Dialer).DialContext(context.Background(), "tcp", l.target)
		if err != nil { // the studio is away
			_ = near.Close()
			continue
		}
		l.mu.Lock()
		l.conns[near], l.conns[far] = true, true
		l.mu.Unlock()
		l.done.Go(func() { l.forward(far, near) })
		l.done.Go(func() { l.forward(near, &watched{Reader: far, seen: l.welcomed}) })
	}
}

// forward copies until either end is closed, and closes both.
func (l *line) forward(to net.Conn, from io.Reader) {
	_, _ = io.Copy(to, from) // a cut line is what it is for
	_ = to.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, to)
}

// hold keeps new connections from going through.
func (l *line) hold(hold bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holding = hold
}

func (l *line) held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holding
}

// cut closes all connections.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Close()
	}
}

func (l *line) welcomed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opened++
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *line) sessions() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.opened
}

// awaitSessions returns when n sessions were welcomed.
func (l *line) awaitSessions(tb testing.TB, n int) {
	tb.Helper()
	limit := time.After(patience)
	for {
		l.mu.Lock()
		opened, changed := l.opened, l.changed
		l.mu.Unlock()
		if opened >= n {
			return
		}
		select {
		case <-changed:
		case <-limit:
			tb.Fatalf("%d sessions, want %d", opened, n)
		}
	}
}

// watched tells when a studio's first heartbeatAck passes: from then on the
// worker is at work.
type watched struct {
	io.Reader
	seen func()
	past bool
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if !w.past && bytes.Contains(p[:n], []byte(`"heartbeatAck"`)) {
		w.past = true
		w.seen()
	}
	return n, err
}

// tail keeps the end of a log.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailBytes = 64 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if len(t.text) > 2*tailBytes {
		t.text = bytes.Clone(t.text[len(t.text)-tailBytes:])
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text[max(0, len(t.text)-tailBytes):])
}
