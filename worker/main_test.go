package worker

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"studioworker/gpu"
	"studioworker/worker/config"
	"studioworker/worker/engine"
	"studioworker/worker/engine/synthetic"
	"studioworker/worker/logs"
	"studioworker/worker/observe"
	"studioworker/worker/protocol"
	"studioworker/worker/session/sessiontest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runs is the engine "test", made of a function.
type runs func(ctx context.Context, req engine.Request) (engine.Result, error)

func (r runs) ID() engine.ID { return "test" }
func (r runs) Models() map[engine.Kind][]string {
	return map[engine.Kind][]string{engine.KindLLM: {"test-llm"}}
}

func (r runs) Run(ctx context.Context, req engine.Request, _ func(engine.Progress)) (engine.Result, error) {
	return r(ctx, req)
}

// counting is an engine that counts its runs.
type counting struct {
	engine.Engine
	n *atomic.Int32
}

func (c counting) Run(ctx context.Context, req engine.Request, progress func(engine.Progress)) (engine.Result, error) {
	c.n.Add(1)
	return c.Engine.Run(ctx, req, progress)
}

func leave(req engine.Request, data string) (engine.Result, error) {
	err := os.WriteFile(filepath.Join(req.Dir, "made.json"), []byte(data), 0o600)
	return engine.Result{File: "made.json", Ext: "json"}, err
}

// answers is an engine that answers at once.
func answers(_ context.Context, req engine.Request) (engine.Result, error) {
	return leave(req, `{"text":"done"}`)
}

// untilStopped is an engine that works until it is stopped.
func untilStopped(ctx context.Context, _ engine.Request) (engine.Result, error) {
	<-ctx.Done()
	return engine.Result{}, context.Cause(ctx)
}

// upload is a delivery of bytes as the studio saw it.
type upload struct {
	path, bearer, key, file string
	parts                   map[string]string
}

// studio is a studio of the test: the session is the test's own, the HTTP side
// answers by itself.
type studio struct {
	*sessiontest.Studio

	mu       sync.Mutex
	decision func(n int) protocol.PollResponse             // for the n-th request, from 1
	refuse   func(http.ResponseWriter, *http.Request) bool // an upload; returns whether it did
	requests []protocol.RegisterRequest
	uploads  []upload
	calls    int
}

// approve lets everybody in, with another token for each request.
func approve(n int) protocol.PollResponse {
	return protocol.PollResponse{Status: protocol.StatusApproved, WorkerID: "wk-20", AuthToken: "tok-" + strconv.Itoa(n)}
}

func newStudio(tb testing.TB) *studio {
	tb.Helper()
	s := &studio{Studio: sessiontest.New(tb), decision: approve}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /graphics/api/workers/register-request", s.register)
	mux.HandleFunc("GET /graphics/api/workers/register-requests/{id}", s.poll)
	mux.HandleFunc("POST /graphics/api/workers/{worker}/jobs/{job}/complete", s.complete)
	s.HTTP = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.calls++
		s.mu.Unlock()
		mux.ServeHTTP(w, r)
	})
	return s
}

func (s *studio) register(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	body, decodeErr := protocol.DecodeRegisterRequest(data)
	if err != nil || decodeErr != nil {
		http.Error(w, "not a request", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.requests = append(s.requests, body)
	n := len(s.requests)
	s.mu.Unlock()
	reply(w, protocol.RegisterResponse{RequestID: strconv.Itoa(n), Status: "pending"})
}

func (s *studio) poll(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("id"))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	s.mu.Lock()
	decide := s.decision
	s.mu.Unlock()
	reply(w, decide(n))
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the worker may hang up
}

func (s *studio) complete(w http.ResponseWriter, r *http.Request) {
	u := upload{path: r.URL.Path, bearer: r.Header.Get("Authorization"), key: r.Header.Get("Idempotency-Key"), parts: map[string]string{}}
	form, err := r.MultipartReader()
	for err == nil {
		var p *multipart.Part
		if p, err = form.NextPart(); err == nil {
			var data []byte
			data, err = io.ReadAll(p)
			u.parts[p.FormName()] = string(data)
			u.file += p.FileName()
		}
	}
	s.mu.Lock()
	refuse := s.refuse
	if errors.Is(err, io.EOF) {
		s.uploads = append(s.uploads, u)
	}
	s.mu.Unlock()
	if refuse == nil || !refuse(w, r) {
		reply(w, map[string]bool{"ok": true})
	}
}

// decides sets what the operator says.
func (s *studio) decides(decision func(n int) protocol.PollResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.decision = decision
}

// refuses sets what happens to uploads after they were received; nil takes them.
func (s *studio) refuses(refuse func(http.ResponseWriter, *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = refuse
}

func (s *studio) received() []upload {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.uploads)
}

func (s *studio) registered() []protocol.RegisterRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

func (s *studio) called() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// fixture is a worker with the engines "test" and "synthetic".
type fixture struct {
	*Worker

	dir   string
	store *config.Store
	seen  *observe.WorkerObservers
	stop  context.CancelFunc
	ended chan error
	ran   atomic.Int32 // how often an engine was started
}

// prepare makes a worker whose config is what change makes of the default; nil
// leaves it without a config file.
func prepare(tb testing.TB, change func(*config.Config), run runs, tune ...func(*Config)) *fixture {
	tb.Helper()
	f := &fixture{dir: tb.TempDir(), seen: observe.New(), ended: make(chan error, 1)}
	queue := new(logs.Queue)
	log := slog.New(logs.NewHandler(f.seen.Logs, queue))
	var err error
	first := config.Default()
	first.APIBaseURL = "http://127.0.0.1:9" // nothing of a test ever leaves this machine
	if f.store, err = config.New(filepath.Join(f.dir, "config.toml"), first, log); err != nil {
		tb.Fatal(err)
	}
	if change != nil {
		if err := f.store.Update(change); err != nil {
			tb.Fatal(err)
		}
	}
	router, err := engine.NewRouter(log, counting{run, &f.ran}, counting{synthetic.New(), &f.ran})
	if err != nil {
		tb.Fatal(err)
	}
	cfg := Config{
		Store: f.store, Observers: f.seen, Logs: queue, Log: log, Router: router, Version: "1.2.3",
		GPUs: func(context.Context) ([]gpu.Device, error) {
			return []gpu.Device{{Name: "one", TotalBytes: 6 << 30}, {Name: "two", TotalBytes: 2 << 30, FreeBytes: 1 << 30}}, nil
		},
	}
	for _, c := range tune {
		c(&cfg)
	}
	if f.Worker, err = New(cfg); err != nil {
		tb.Fatal(err)
	}
	return f
}

// start runs the worker until the test ends.
func (f *fixture) start(tb testing.TB) *fixture {
	tb.Helper()
	var ctx context.Context
	ctx, f.stop = context.WithCancel(tb.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.ended <- f.Run(ctx)
	}()
	tb.Cleanup(func() {
		f.stop()
		f.StopNow()
		<-done
	})
	return f
}

// end waits for the end of Run.
func (f *fixture) end(t *testing.T) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), sessiontest.Patience)
	defer cancel()
	select {
	case err := <-f.ended:
		return err
	case <-ctx.Done():
		t.Fatal("Run did not end")
		return nil
	}
}

// approved is the config of a worker that the studio knows.
func approved(s *studio) func(*config.Config) {
	return func(c *config.Config) {
		c.APIBaseURL, c.InstallID, c.WorkerID, c.AuthToken = s.Server.URL, "i", "wk-20", "tok-0"
	}
}

// unknown is the config of a worker that the studio does not know yet.
func unknown(s *studio) func(*config.Config) {
	return func(c *config.Config) { c.APIBaseURL = s.Server.URL }
}

// until waits for a value that fits.
func until[T any](tb testing.TB, slot *observe.Slot[T], fits func(T) bool) T {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), sessiontest.Patience)
	defer cancel()
	for v := range slot.Watch(ctx) {
		if fits(v) {
			return v
		}
	}
	tb.Fatalf("still %+v", slot.Get())
	panic("unreachable")
}

// job waits until the list of finished jobs has that job in that outcome.
func (f *fixture) job(t *testing.T, id string, outcome observe.Outcome) observe.RecentJob {
	t.Helper()
	var found observe.RecentJob
	until(t, &f.seen.RecentJobs.Newest, func(uint64) bool {
		rows, _ := f.seen.RecentJobs.Since(0)
		for _, row := range rows {
			if row.ID == id && row.Outcome == outcome {
				found = row
				return true
			}
		}
		return false
	})
	return found
}

// counts checks how often an engine ran, and how many results the studio has taken.
func (f *fixture) counts(t *testing.T, ran, delivered int) {
	t.Helper()
	rows, _ := f.seen.RecentJobs.Since(0)
	taken := 0
	for _, row := range rows {
		if row.Outcome == observe.OutcomeCompleted {
			taken++
		}
	}
	t.Logf("engine runs: %d, results delivered: %d", f.ran.Load(), taken)
	if int(f.ran.Load()) != ran || taken != delivered {
		t.Errorf("want %d engine runs and %d results delivered", ran, delivered)
	}
}

// lines are the log lines that hold text.
func (f *fixture) lines(text string) []string {
	entries, _ := f.seen.Logs.Since(0)
	var found []string
	for _, e := range entries {
		if strings.Contains(e.Message, text) {
			found = append(found, e.Message)
		}
	}
	return found
}

// ended reads what is left of a session.
func ended(t *testing.T, c *sessiontest.Conn) {
	t.Helper()
	for frame := c.Next(t); frame != nil; frame = c.Next(t) {
		t.Logf("at the end: %s", frame.Type())
	}
}

func llmOffer(id, name string) protocol.Offer {
	return protocol.Offer{Claim: protocol.Claim{
		JobID: id, GameID: "g", AssetName: "g/c/n", Model: "synthetic-llm", ModelSource: protocol.ModelSource{Engine: protocol.Engine(name)},
		Task: protocol.Task{Kind: protocol.KindLLM, LLM: &protocol.LLMTask{Messages: []protocol.Message{{Role: "user", Content: "name this town"}}}},
	}}
}

func ttsOffer(id string) protocol.Offer {
	return protocol.Offer{Claim: protocol.Claim{
		JobID: id, GameID: "g", AssetName: "g/c/n", Model: "synthetic-tts", ModelSource: protocol.ModelSource{Engine: protocol.EngineSynthetic},
		Task: protocol.Task{Kind: protocol.KindTTS, TTS: &protocol.TTSTask{Text: "we sail at dawn", Voice: "default", Ext: "mp3"}},
	}}
}

func accepted(id string) func(protocol.Accept) bool {
	return func(a protocol.Accept) bool { return a.JobID == id }
}
