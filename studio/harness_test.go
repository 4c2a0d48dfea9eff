package studio

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"studioworker/studio/client"
	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

// childFolder makes the test binary run as a studio on that folder.
const (
	childFolder = "STUDIO_TEST_FOLDER"
	childListen = "STUDIO_TEST_LISTEN"
	childTLS    = "STUDIO_TEST_TLS" // folder with cert.pem and key.pem
)

func TestMain(m *testing.M) {
	if options := os.Getenv(childNATS); options != "" {
		os.Exit(serveNATS(options))
	}
	if what := os.Getenv(childBare); what != "" {
		os.Exit(serveBare(what))
	}
	if dir := os.Getenv(childFolder); dir != "" {
		os.Exit(child(dir, os.Getenv(childListen)))
	}
	// nats.go v1.55.0 leaves this goroutine behind when it is first scheduled after
	// the Put that started it has ended: it then waits on a channel that is nil.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"))
}

func child(dir, listen string) int {
	cfg := Config{Data: dir, Listen: listen, AutoApprove: true, Log: slog.New(slog.DiscardHandler)}
	if addresses := os.Getenv(childCluster); addresses != "" {
		cfg.Cluster = &store.Cluster{URL: addresses}
	}
	if certs := os.Getenv(childTLS); certs != "" {
		cfg.TLSCert, cfg.TLSKey = filepath.Join(certs, "cert.pem"), filepath.Join(certs, "key.pem")
	}
	if os.Getenv("STUDIO_TEST_LOG") != "" {
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	s, err := New(cfg)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(s.Addr())
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := s.Run(ctx); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

const patience = time.Minute // how long a test waits for what must come

// farm is a running studio with its operator.
type farm struct {
	url      string
	token    string
	operator *client.Client
	studio   *Studio // nil for a studio in another process
	stop     func()
}

func newFarm(tb testing.TB, change func(*Config)) *farm {
	tb.Helper()
	cfg := Config{Data: tb.TempDir(), Listen: "127.0.0.1:0", AutoApprove: true, Version: "1.2.3", Log: testLog(tb)}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return runFarm(tb, s)
}

// runFarm runs the studio until the test ends.
func runFarm(tb testing.TB, s *Studio) *farm {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stopped := false
	f := farmAt(tb, s.Addr(), s.OperatorToken())
	f.studio = s
	f.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				tb.Errorf("Run ended with %v", err)
			}
		case <-time.After(patience):
			tb.Error("Run did not end")
		}
	}
	tb.Cleanup(f.stop)
	return f
}

func farmAt(tb testing.TB, url, token string) *farm {
	tb.Helper()
	transport := &http.Transport{}
	tb.Cleanup(transport.CloseIdleConnections)
	c, err := client.New(url, token, &http.Client{Transport: transport})
	if err != nil {
		tb.Fatal(err)
	}
	return &farm{url: url, token: token, operator: c}
}

// testLog shows the studio's log when the test fails or is verbose.
func testLog(tb testing.TB) *slog.Logger {
	tb.Helper()
	return slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// call makes a request and returns status and body.
func (f *farm) call(tb testing.TB, method, path, token string, body io.Reader, header ...string) (int, []byte) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, f.url+path, body)
	if err != nil {
		tb.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return resp.StatusCode, data
}

// wantError checks an error answer.
func wantError(tb testing.TB, status int, body []byte, wantStatus int, wantCode string) {
	tb.Helper()
	var e client.Error
	if err := json.Unmarshal(body, &e); err != nil || status != wantStatus || e.Code != wantCode || e.Message == "" {
		tb.Errorf("answer %d %s, want %d with error %q and a message", status, body, wantStatus, wantCode)
	}
}

func (f *farm) submit(tb testing.TB, body string) client.Submitted {
	tb.Helper()
	status, data := f.call(tb, http.MethodPost, "/api/v1/jobs", f.token, strings.NewReader(body))
	var out client.Submitted
	if err := json.Unmarshal(data, &out); err != nil || status != http.StatusCreated || out.ID == "" {
		tb.Fatalf("submit answered %d %s", status, data)
	}
	return out
}

const (
	imageJob = `{"model":"synthetic-image","task":{"kind":"image","prompt":"a lighthouse in fog"}}`
	llmJob   = `{"model":"synthetic-llm","task":{"kind":"llm","messages":[{"role":"user","content":"name this town"}]}}`
	voiceJob = `{"model":"espeak-ng","task":{"kind":"audio_tts","text":"we sail at dawn"}}`
)

func (f *farm) job(tb testing.TB, id string) client.JobStatus {
	tb.Helper()
	status, err := f.operator.Get(tb.Context(), id)
	if err != nil {
		tb.Fatal(err)
	}
	return status
}

// await follows the job until ok, and returns it.
func (f *farm) await(tb testing.TB, id string, ok func(client.JobStatus) bool) client.JobStatus {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	var last client.JobStatus
	for event, err := range f.operator.Events(ctx, id) {
		if err != nil {
			tb.Fatalf("job %s, last %+v: %v", id, last, err)
		}
		if last = event.Job; ok(last) {
			return last
		}
	}
	tb.Fatalf("job %s ended as %+v", id, last)
	return last
}

func in(state client.State) func(client.JobStatus) bool {
	return func(s client.JobStatus) bool { return s.State == state }
}

// fake is a worker as the reference plays it.
type fake struct {
	farm      *farm
	id, token string
	caps      protocol.Capabilities
}

func capabilities() protocol.Capabilities {
	yes, no := true, false
	return protocol.Capabilities{
		MachineName: "attic-pc", Username: "sam", AgentVersion: "0.4.15", Engine: "multi", VRAMTotalGB: 16, VRAMThresholdGB: 12,
		AutoEnabled: true, AutoStart: true, AutoUpdate: &yes, StartMinimised: &yes, OnlyWhenIdle: &no,
		SupportedModels: []string{"synthetic"}, TaskKinds: protocol.TaskKinds(),
		SupportedModelsPerKind: map[string][]string{"image": {"synthetic"}},
	}
}

const secret = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func registration(install, secret string) string {
	data, err := json.Marshal(protocol.RegisterRequest{
		InstallID: install, RegistrationSecretHash: hashed(secret), Capabilities: capabilities(), UserAgent: "studio-worker/0.4.15",
	})
	if err != nil {
		panic(err)
	}
	return string(data)
}

const workers = protocol.Prefix + "/workers/"

// register asks to be let in and returns the request's id.
func (f *farm) register(tb testing.TB, install, secret string) string {
	tb.Helper()
	status, data := f.call(tb, http.MethodPost, workers+"register-request", "", strings.NewReader(registration(install, secret)))
	answer, err := protocol.DecodeRegisterResponse(data)
	if err != nil || status != http.StatusCreated {
		tb.Fatalf("register-request answered %d %s", status, data)
	}
	return answer.RequestID
}

func (f *farm) poll(tb testing.TB, request, secret string) protocol.PollResponse {
	tb.Helper()
	status, data := f.call(tb, http.MethodGet, workers+"register-requests/"+request, secret, nil)
	answer, err := protocol.DecodePollResponse(data)
	if err != nil || status != http.StatusOK {
		tb.Fatalf("poll answered %d %s", status, data)
	}
	return answer
}

// worker returns an approved worker of a farm that approves by itself.
func (f *farm) worker(tb testing.TB) *fake {
	tb.Helper()
	answer := f.poll(tb, f.register(tb, newID(""), secret), secret)
	if answer.Status != protocol.StatusApproved {
		tb.Fatalf("poll says %q", answer.Status)
	}
	return &fake{farm: f, id: answer.WorkerID, token: answer.AuthToken, caps: capabilities()}
}

// enlist returns an approved worker that did not have to ask: of more than a few
// the studio would not take the requests of one address.
func (f *farm) enlist(tb testing.TB) *fake {
	tb.Helper()
	rec := store.Worker{ID: newID("wk-"), InstallID: newID(""), Name: "attic-pc", TokenHash: hashed(secret), CreatedAt: time.Now().UTC()}
	revision, err := f.studio.store.Workers.Create(tb.Context(), rec.ID, rec)
	if err != nil {
		tb.Fatal(err)
	}
	people := f.studio.people
	people.mu.Lock()
	defer people.mu.Unlock()
	people.workers[rec.ID] = store.Entry[store.Worker]{Value: rec, Revision: revision}
	return &fake{farm: f, id: rec.ID, token: secret, caps: capabilities()}
}

// hangUp cuts the connection without a word.
func (l *line) hangUp(tb testing.TB) {
	tb.Helper()
	if err := l.conn.Close(); err != nil {
		tb.Fatal(err)
	}
}

// line is one session of a fake worker.
type line struct {
	w    *fake
	conn *websocket.Conn
}

func (w *fake) dial(tb testing.TB) *line {
	tb.Helper()
	conn, resp, err := w.upgrade(tb.Context(), tb, w.token, protocol.Version)
	if err != nil {
		tb.Fatal(err)
	}
	resp.Body.Close()
	if conn.Subprotocol() != protocol.Version {
		tb.Errorf("sub-protocol %q", conn.Subprotocol())
	}
	tb.Cleanup(func() { _ = conn.Close() }) // it may be closed already
	return &line{w: w, conn: conn}
}

func (w *fake) upgrade(ctx context.Context, tb testing.TB, token string, protocols ...string) (*websocket.Conn, *http.Response, error) {
	tb.Helper()
	base, err := protocol.ParseBase(w.farm.url)
	if err != nil {
		tb.Fatal(err)
	}
	dialer := websocket.Dialer{Subprotocols: protocols, HandshakeTimeout: patience}
	return dialer.DialContext(ctx, base.ConnectURL(w.id), http.Header{"Authorization": {"Bearer " + token}})
}

// upgradeStatus returns the status that an upgrade is refused with, 101 when it
// is not.
func (w *fake) upgradeStatus(tb testing.TB, token string, protocols ...string) int {
	tb.Helper()
	conn, resp, err := w.upgrade(tb.Context(), tb, token, protocols...)
	if resp == nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	if err == nil {
		tb.Cleanup(func() { _ = conn.Close() }) // it may be closed already
	}
	return resp.StatusCode
}

// connect opens a session and sends the first heartbeat.
func (w *fake) connect(tb testing.TB, current string) *line {
	tb.Helper()
	l := w.dial(tb)
	l.send(tb, protocol.Hello{AuthToken: w.token, Capabilities: w.caps})
	welcome := expect[protocol.Welcome](tb, l)
	if welcome.WorkerID != w.id || !slices.Equal(welcome.Features, protocol.Features()) {
		tb.Errorf("welcome is %+v", welcome)
	}
	l.beat(tb, current)
	return l
}

func (l *line) send(tb testing.TB, f protocol.Frame) {
	tb.Helper()
	data, err := protocol.Encode(f)
	if err != nil {
		tb.Fatal(err)
	}
	if err := l.conn.WriteMessage(websocket.TextMessage, data); err != nil {
		tb.Fatalf("send %s: %v", f.Type(), err)
	}
}

// beat sends a heartbeat; its answer is skipped by expect.
func (l *line) beat(tb testing.TB, current string) {
	tb.Helper()
	l.send(tb, protocol.Heartbeat{Capabilities: l.w.caps, CurrentJobID: current})
}

func (l *line) read(tb testing.TB) (protocol.StudioFrame, error) {
	tb.Helper()
	if err := l.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	_, data, err := l.conn.ReadMessage()
	if err != nil {
		return nil, err
	}
	f, err := protocol.DecodeStudioFrame(data)
	if err != nil {
		tb.Fatalf("frame %s: %v", data, err)
	}
	return f, nil
}

// expect reads the next frame that is not a heartbeat's answer, unless that is
// what is wanted.
func expect[T protocol.StudioFrame](tb testing.TB, l *line) T {
	tb.Helper()
	for {
		f, err := l.read(tb)
		if err != nil {
			tb.Fatalf("waiting for %T: %v", *new(T), err)
		}
		if want, ok := f.(T); ok {
			return want
		}
		if _, ok := f.(protocol.HeartbeatAck); !ok {
			tb.Fatalf("got %+v, want %T", f, *new(T))
		}
	}
}

// expectEnd reads until the studio closes and checks the error frame and the
// close code. No code means no error frame.
func expectEnd(tb testing.TB, l *line, code protocol.ErrorCode, closing protocol.CloseCode) {
	tb.Helper()
	var got protocol.ErrorCode
	for {
		f, err := l.read(tb)
		if err != nil {
			if !websocket.IsCloseError(err, int(closing)) || got != code {
				tb.Fatalf("session ended with error %q and %v, want %q and %d", got, err, code, closing)
			}
			return
		}
		if e, ok := f.(protocol.Error); ok {
			got = e.Code
		}
	}
}

// take accepts the next offer and says so in a heartbeat.
func (l *line) take(tb testing.TB) protocol.Claim {
	tb.Helper()
	claim := expect[protocol.Offer](tb, l).Claim
	l.send(tb, protocol.Accept{JobID: claim.JobID})
	l.beat(tb, claim.JobID)
	return claim
}

// upload delivers bytes as the reference does.
func (w *fake) upload(tb testing.TB, job, ext string, data []byte, header ...string) (int, []byte) {
	tb.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for name, value := range map[string]string{protocol.PartPrompt: "a lighthouse in fog", protocol.PartExt: ext} {
		if err := form.WriteField(name, value); err != nil {
			tb.Fatal(err)
		}
	}
	part, err := form.CreateFormFile(protocol.PartFile, job+"."+ext)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := part.Write(data); err != nil {
		tb.Fatal(err)
	}
	if err := form.Close(); err != nil {
		tb.Fatal(err)
	}
	return w.farm.call(tb, http.MethodPost, workers+w.id+"/jobs/"+job+"/complete", w.token, &body,
		append(header, "Content-Type", form.FormDataContentType())...)
}

func (w *fake) deliver(tb testing.TB, job string, data []byte) {
	tb.Helper()
	if status, body := w.upload(tb, job, "webp", data); status != http.StatusOK {
		tb.Fatalf("complete answered %d %s", status, body)
	}
}

// fetch reads a result as the operator.
func (f *farm) fetch(tb testing.TB, id string) ([]byte, string) {
	tb.Helper()
	body, kind, err := f.operator.Result(tb.Context(), id)
	if err != nil {
		tb.Fatal(err)
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err != nil {
		tb.Fatal(err)
	}
	return data, kind
}
