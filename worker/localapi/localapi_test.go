package localapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"studioworker/worker/engine"
	"studioworker/worker/engine/synthetic"
	"studioworker/worker/observe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "0123456789abcdef"

var errBusy = errors.New("busy")

// talker is an engine of language models that says what a test wants.
type talker struct {
	mu     sync.Mutex
	loaded []string
}

func (*talker) ID() engine.ID { return "talker" }
func (*talker) Models() map[engine.Kind][]string {
	return map[engine.Kind][]string{engine.KindLLM: {"parrot", "talker:*"}}
}

func (*talker) Run(ctx context.Context, req engine.Request, _ func(engine.Progress)) (engine.Result, error) {
	if req.Kind != engine.KindLLM {
		return engine.Result{}, engine.UnsupportedKind("talker", req.Kind)
	}
	said := req.LLM.Messages[len(req.LLM.Messages)-1].Content
	switch said {
	case "too large":
		return engine.Result{}, &engine.Error{Class: engine.ClassInsufficientMemory, Err: &engine.MemoryError{Needed: 9.5, Free: 3, Margin: 1}}
	case "hang":
		if req.Delta != nil {
			req.Delta("begun")
		}
		<-ctx.Done()
		return engine.Result{}, context.Cause(ctx)
	case "break":
		req.Delta("one ")
		return engine.Result{}, &engine.Error{Class: engine.ClassEngineCrash, Err: errors.New("talker crashed")}
	case "schema":
		said = string(req.LLM.JSONSchema)
	}
	if req.Delta != nil {
		for _, piece := range strings.SplitAfter(said, " ") {
			req.Delta(piece)
		}
	}
	text, err := json.Marshal(said)
	return engine.Result{Ext: "json", JSON: `{"object":"chat.completion","model":"` + req.Model + `","choices":[{"index":0,"message":{"role":"assistant","content":` +
		string(text) + `,"reasoning_content":"hm"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3},"elapsed_ms":4}`}, err
}

func (l *talker) Load(_ context.Context, model string, _ engine.Source, _ func(engine.Progress)) error {
	if model != "parrot" {
		return &engine.Error{Class: engine.ClassModelUnavailable, Err: errors.New("no such model")}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loaded = []string{model}
	return nil
}

func (l *talker) Unload(context.Context, string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loaded = nil
	return nil
}

func (l *talker) Loaded() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.loaded
}

// listener is an engine that tells what it was given to hear.
type listener struct{ inputs *shelf }

func (listener) ID() engine.ID { return "listener" }
func (listener) Models() map[engine.Kind][]string {
	return map[engine.Kind][]string{engine.KindSTT: {"ear"}}
}

func (l listener) Run(_ context.Context, req engine.Request, _ func(engine.Progress)) (engine.Result, error) {
	path := l.inputs.at(req.STT.InputURL)
	data, err := os.ReadFile(path)
	return engine.Result{Ext: "json", JSON: fmt.Sprintf(`{"text":%q,"file":%q}`, data, filepath.Base(path))}, err
}

type shelf struct {
	mu    sync.Mutex
	files map[string]string
}

func (s *shelf) Offer(path string) (string, func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	address := fmt.Sprintf("input-%d", len(s.files))
	s.files[address] = path
	return address, func() {}
}

func (s *shelf) at(address string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[address]
}

// gate runs jobs as the worker does: one at a time.
type gate struct {
	router *engine.Router
	turn   chan struct{}

	mu     sync.Mutex
	id     string
	cancel context.CancelCauseFunc
}

var errCancelled = errors.New("stopped by the person at the worker")

func (g *gate) RunLocal(ctx context.Context, _ time.Duration, _ string, req engine.Request, progress func(engine.Progress)) (engine.Result, error) {
	select {
	case g.turn <- struct{}{}:
		defer func() { <-g.turn }()
	default:
		return engine.Result{}, errBusy
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	g.mu.Lock()
	g.id, g.cancel = req.JobID, cancel
	g.mu.Unlock()
	return g.router.Run(ctx, req, progress)
}

func (g *gate) CancelJob(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cancel == nil || id != g.id {
		return false
	}
	g.cancel(errCancelled)
	return true
}

func (g *gate) running() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.id
}

type fixture struct {
	*Server
	t         *testing.T
	gate      *gate
	observers *observe.WorkerObservers
	discovery string
}

func serve(t *testing.T) *fixture {
	t.Helper()
	files := &shelf{files: map[string]string{}}
	voice := &talker{}
	router, err := engine.NewRouter(slog.New(slog.DiscardHandler), voice, listener{files}, synthetic.New())
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, gate: &gate{router: router, turn: make(chan struct{}, 1)}, observers: observe.New(), discovery: filepath.Join(t.TempDir(), FileName)}
	anyPort := uint16(0)
	f.Server, err = New(t.Context(), Config{
		Port: &anyPort, Token: token, Discovery: f.discovery, Version: "1.2.3", Jobs: f.gate, Engines: router, Models: voice, Inputs: files,
		Observers: f.observers, Busy: errBusy, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background()) //nolint:usetesting // it ends before the test does
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
		if _, err := os.Stat(f.discovery); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the discovery file stays: %v", err)
		}
	})
	for range 5000 {
		if _, err := os.Stat(f.discovery); err == nil {
			return f
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("the server does not begin")
	return nil
}

func (f *fixture) do(method, path, body string, change func(*http.Request)) *http.Response {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.t.Context(), method, f.URL()+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if change != nil {
		change(r)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	return answer
}

func (f *fixture) ask(method, path, body string) (int, string, http.Header) {
	f.t.Helper()
	answer := f.do(method, path, body, nil)
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return answer.StatusCode, string(data), answer.Header
}

// codeOf reads an error in OpenAI's shape.
func codeOf(t *testing.T, body string) string {
	t.Helper()
	var told struct {
		Error struct {
			Message, Type, Code string
			Param               *string
		}
	}
	if err := json.Unmarshal([]byte(body), &told); err != nil || told.Error.Message == "" || told.Error.Type == "" {
		t.Errorf("%q is no error", body)
	}
	return told.Error.Code
}

func TestGuards(t *testing.T) {
	f := serve(t)
	for name, c := range map[string]struct {
		change func(*http.Request)
		path   string
		status int
		code   string
	}{
		"as it should be":          {func(*http.Request) {}, "/jobs", 200, ""},
		"no token":                 {func(r *http.Request) { r.Header.Del("Authorization") }, "/jobs", 401, "invalid_api_key"},
		"another token":            {func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token+"x") }, "/jobs", 401, "invalid_api_key"},
		"another scheme":           {func(r *http.Request) { r.Header.Set("Authorization", "Basic "+token) }, "/jobs", 401, "invalid_api_key"},
		"health without token":     {func(r *http.Request) { r.Header.Del("Authorization") }, "/healthz", 200, ""},
		"health by another name":   {func(r *http.Request) { r.Host = "rebinding.example" }, "/healthz", 403, "bad_host"},
		"by another port":          {func(r *http.Request) { r.Host = "127.0.0.1:1" }, "/jobs", 403, "bad_host"},
		"by localhost":             {func(r *http.Request) { r.Host = "localhost:" + strings.Split(r.Host, ":")[1] }, "/jobs", 200, ""},
		"from a page of elsewhere": {func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, "/jobs", 403, "bad_origin"},
		"from a page of null":      {func(r *http.Request) { r.Header.Set("Origin", "null") }, "/jobs", 403, "bad_origin"},
		"from a page of ours":      {func(r *http.Request) { r.Header.Set("Origin", "http://localhost:3000") }, "/jobs", 200, ""},
		"across sites":             {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, "/jobs", 403, "bad_origin"},
		"a path that is not there": {func(*http.Request) {}, "/admin", 404, "not_found"},
	} {
		answer := f.do(http.MethodGet, c.path, "", c.change)
		data, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != c.status || c.code != "" && codeOf(t, string(data)) != c.code {
			t.Errorf("%s: %d %s, %v; want %d %s", name, answer.StatusCode, data, err, c.status, c.code)
		}
		if answer.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: other pages may read the answer", name)
		}
	}
}

func TestDiscovery(t *testing.T) {
	f := serve(t)
	data, err := os.ReadFile(f.discovery)
	if err != nil {
		t.Fatal(err)
	}
	var d discovery
	if err := json.Unmarshal(data, &d); err != nil || d.URL != f.URL() || d.Token != token || d.PID != os.Getpid() || d.Version != "1.2.3" {
		t.Errorf("%s: %v", data, err)
	}
	if info, err := os.Stat(f.discovery); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if got := DiscoveryPath(filepath.Join("a", "config.toml")); got != filepath.Join("a", FileName) {
		t.Errorf("beside the config: %s", got)
	}
	if _, err := New(t.Context(), Config{Token: "short"}); err == nil {
		t.Error("a short token was taken")
	}
	address, ok := f.listener.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal("no TCP")
	}
	busy := uint16(address.Port)
	if _, err := New(t.Context(), Config{Token: token, Port: &busy}); err == nil || !strings.Contains(err.Error(), "local_api_port") {
		t.Errorf("a port that is taken: %v", err)
	}
}

const hello = `{"model":"parrot","messages":[{"role":"user","content":"hello there you"}]`

func TestChat(t *testing.T) {
	f := serve(t)
	status, body, header := f.ask(http.MethodPost, "/v1/chat/completions", hello+`}`)
	want := `{"object":"chat.completion","model":"parrot","choices":[{"index":0,"message":{"role":"assistant","content":"hello there you","reasoning_content":"hm"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3},"elapsed_ms":4}`
	if status != http.StatusOK || body != want || header.Get("Content-Type") != contentJSON {
		t.Errorf("%d %s", status, body)
	}
	status, body, header = f.ask(http.MethodPost, "/v1/chat/completions", hello+`,"stream":true}`)
	var frames []string
	for line := range strings.Lines(body) {
		if line = strings.TrimSpace(line); line != "" {
			frames = append(frames, strings.TrimPrefix(line, "data: "))
		}
	}
	content := ""
	for i, frame := range frames {
		if i == len(frames)-1 {
			if frame != "[DONE]" {
				t.Errorf("the last frame is %s", frame)
			}
			continue
		}
		var c struct {
			Object  string
			Choices []struct {
				Delta  map[string]string
				Finish *string `json:"finish_reason"`
			}
			Usage map[string]int
		}
		if err := json.Unmarshal([]byte(frame), &c); err != nil || c.Object != "chat.completion.chunk" || len(c.Choices) != 1 {
			t.Fatalf("frame %s: %v", frame, err)
		}
		content += c.Choices[0].Delta["content"]
		if last := i == len(frames)-2; last != (c.Choices[0].Finish != nil) || last != (c.Usage != nil) || last && (*c.Choices[0].Finish != "stop" || c.Usage["total_tokens"] != 3 || len(c.Choices[0].Delta) != 0) {
			t.Errorf("frame %d is %s", i, frame)
		}
	}
	if status != http.StatusOK || content != "hello there you" || header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%d, content %q", status, content)
	}
}

func TestChatThatIsRefused(t *testing.T) {
	f := serve(t)
	say := func(text string) string {
		return `{"model":"parrot","messages":[{"role":"user","content":"` + text + `"}]`
	}
	for name, c := range map[string]struct {
		body   string
		status int
		code   string
	}{
		"no JSON":                {`{`, 400, "invalid_value"},
		"two values":             {hello + `}{}`, 400, "invalid_value"},
		"no model":               {`{"messages":[{"role":"user","content":"x"}]}`, 400, "invalid_value"},
		"a model nobody has":     {`{"model":"gpt-9","messages":[{"role":"user","content":"x"}]}`, 404, "model_not_found"},
		"a wildcard":             {`{"model":"talker:*","messages":[{"role":"user","content":"x"}]}`, 404, "model_not_found"},
		"an engine nobody has":   {hello + `,"modelSource":{"engine":"none","files":[]}}`, 503, "engine_missing"},
		"no messages":            {`{"model":"parrot","messages":[]}`, 400, "invalid_value"},
		"no role":                {`{"model":"parrot","messages":[{"content":"x"}]}`, 400, "invalid_value"},
		"a picture":              {`{"model":"parrot","messages":[{"role":"user","content":[{"type":"image_url"}]}]}`, 400, "invalid_value"},
		"a number":               {`{"model":"parrot","messages":[{"role":"user","content":5}]}`, 400, "invalid_value"},
		"stops that are numbers": {hello + `,"stop":[1]}`, 400, "invalid_value"},
		"too many stops":         {hello + `,"stop":["` + strings.Repeat(`x","`, 17) + `"]}`, 400, "invalid_value"},
		"another format":         {hello + `,"response_format":{"type":"xml"}}`, 400, "invalid_value"},
		"no schema":              {hello + `,"response_format":{"type":"json_schema"}}`, 400, "invalid_value"},
		"a negative deadline":    {hello + `,"deadline_ms":-1}`, 400, "invalid_value"},
		"no room":                {say("too large") + `}`, 409, "insufficient_memory"},
		"a deadline that passes": {say("hang") + `,"deadline_ms":20}`, 504, "deadline"},
	} {
		if status, body, _ := f.ask(http.MethodPost, "/v1/chat/completions", c.body); status != c.status || codeOf(t, body) != c.code {
			t.Errorf("%s: %d %s, want %d %s", name, status, body, c.status, c.code)
		}
	}
	if _, body, _ := f.ask(http.MethodPost, "/v1/chat/completions", say("too large")+`}`); !strings.Contains(body, `"freeGib":3`) || !strings.Contains(body, `"marginGib":1`) || !strings.Contains(body, `"neededGib":9.5`) {
		t.Errorf("no room: %s", body)
	}
	if _, body, _ := f.ask(http.MethodPost, "/v1/chat/completions", say("break")+`,"stream":true}`); !strings.Contains(body, `"content":"one "`) || !strings.Contains(body, "talker crashed") || strings.Contains(body, "[DONE]") {
		t.Errorf("an error in the stream: %s", body)
	}
	for format, want := range map[string]string{`{"type":"json_object"}`: `{\"type\":\"object\"}`, `{"type":"json_schema","json_schema":{"schema":{"a":1}}}`: `{\"a\":1}`} {
		if _, body, _ := f.ask(http.MethodPost, "/v1/chat/completions", say("schema")+`,"response_format":`+format+`}`); !strings.Contains(body, want) {
			t.Errorf("%s: %s", format, body)
		}
	}
	parts := `{"model":"parrot","max_tokens":3,"max_completion_tokens":4,"stop":"x","messages":[{"role":"user","content":[{"type":"text","text":"a "},{"type":"text","text":"b"}]}]}`
	if status, body, _ := f.ask(http.MethodPost, "/v1/chat/completions", parts); status != 200 || !strings.Contains(body, `"a b"`) {
		t.Errorf("parts: %d %s", status, body)
	}
}

func TestOneGateAndCancel(t *testing.T) {
	f := serve(t)
	hang := `{"model":"parrot","stream":true,"messages":[{"role":"user","content":"hang"}]}`
	answer := f.do(http.MethodPost, "/v1/chat/completions", hang, nil)
	lines := bufio.NewReader(answer.Body)
	if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, "begun") {
		t.Fatalf("%q, %v", line, err)
	}
	if status, body, header := f.ask(http.MethodPost, "/v1/chat/completions", hello+`}`); status != http.StatusTooManyRequests || codeOf(t, body) != "busy" || header.Get("Retry-After") == "" {
		t.Errorf("a second job: %d %s", status, body)
	}
	if status, body, _ := f.ask(http.MethodPost, "/jobs/other/cancel", ""); status != http.StatusNotFound {
		t.Errorf("another job: %d %s", status, body)
	}
	if status, body, _ := f.ask(http.MethodPost, "/jobs/"+f.gate.running()+"/cancel", ""); status != http.StatusOK {
		t.Errorf("cancel: %d %s", status, body)
	}
	rest, err := io.ReadAll(lines)
	answer.Body.Close()
	if err != nil || !strings.Contains(string(rest), "stopped by the person") {
		t.Errorf("%s, %v", rest, err)
	}
	// A caller that leaves takes its job along.
	ctx, leave := context.WithCancel(t.Context())
	answer = f.do(http.MethodPost, "/v1/chat/completions", hang, func(r *http.Request) { *r = *r.WithContext(ctx) })
	if _, err := bufio.NewReader(answer.Body).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	leave()
	answer.Body.Close()
	f.gate.turn <- struct{}{} // free at last
	<-f.gate.turn
}

func TestPicturesSpeechVideoAndHearing(t *testing.T) {
	f := serve(t)
	sound := "data:audio/wav;base64," + base64.StdEncoding.EncodeToString([]byte("RIFF sound"))
	for name, c := range map[string]struct {
		path, body string
		status     int
		want       string // content type, or code
	}{
		"a picture":                  {"/image", `{"model":"synthetic-image","prompt":"a town","ext":"png"}`, 200, "image/png"},
		"a picture as it likes":      {"/image", `{"model":"synthetic-image","prompt":"a town"}`, 200, "image/webp"},
		"a picture without a prompt": {"/image", `{"model":"synthetic-image"}`, 400, "invalid_value"},
		"a picture of an address":    {"/image", `{"model":"synthetic-image","prompt":"x","initImage":"https://example.org/x.png"}`, 400, "invalid_value"},
		"a picture of a file":        {"/image", `{"model":"synthetic-image","prompt":"x","mask":"file:///etc/passwd"}`, 400, "invalid_value"},
		"a picture of data":          {"/image", `{"model":"synthetic-image","prompt":"x","refImage":"data:image/png;base64,AAAA"}`, 200, "image/webp"},
		"a picture by a talker":      {"/image", `{"model":"x","prompt":"x","modelSource":{"engine":"talker"}}`, 400, "unsupported_kind"},
		"speech":                     {"/tts", `{"model":"synthetic-tts","text":"hello"}`, 200, "audio/wav"},
		"speech of nothing":          {"/tts", `{"model":"synthetic-tts","text":" "}`, 400, "invalid_value"},
		"a video":                    {"/video", `{"model":"synthetic-video","prompt":"waves"}`, 200, "image/webp"},
		"a video without a prompt":   {"/video", `{"model":"synthetic-video"}`, 400, "invalid_value"},
		"a video of an address":      {"/video", `{"model":"synthetic-video","prompt":"x","initImage":"http://127.0.0.1/"}`, 400, "invalid_value"},
		"a sound":                    {"/stt", `{"model":"ear","audio":"` + sound + `"}`, 200, contentJSON},
		"a sound at an address":      {"/stt", `{"model":"ear","audio":"https://example.org/a.wav"}`, 400, "invalid_value"},
		"a sound that is no base64":  {"/stt", `{"model":"ear","audio":"data:audio/wav;base64,%%"}`, 400, "invalid_value"},
		"an empty sound":             {"/stt", `{"model":"ear","audio":"data:audio/wav;base64,"}`, 400, "invalid_value"},
		"timestamps of another sort": {"/stt", `{"model":"ear","audio":"` + sound + `","timestamps":"hour"}`, 400, "invalid_value"},
		"no JSON for a picture":      {"/image", `x`, 400, "invalid_value"},
	} {
		status, body, header := f.ask(http.MethodPost, c.path, c.body)
		if status != c.status || status == 200 && header.Get("Content-Type") != c.want || status != 200 && codeOf(t, body) != c.want {
			t.Errorf("%s: %d %s %.200s, want %d %s", name, status, header.Get("Content-Type"), body, c.status, c.want)
		}
		if c.path == "/stt" && status == 200 && body != `{"text":"RIFF sound","file":"sound.wav"}` {
			t.Errorf("%s: %s", name, body)
		}
	}
}

func TestModelsAndJobs(t *testing.T) {
	f := serve(t)
	list := func() map[string]model {
		_, body, _ := f.ask(http.MethodGet, "/v1/models", "")
		var told struct {
			Object string
			Data   []model
		}
		if err := json.Unmarshal([]byte(body), &told); err != nil || told.Object != "list" {
			t.Fatalf("%s: %v", body, err)
		}
		models := map[string]model{}
		for _, m := range told.Data {
			models[m.ID] = m
		}
		return models
	}
	if m := list(); m["parrot"] != (model{"parrot", "model", "llm", "talker", true, false}) || m["ear"].Loadable || slices.Contains([]string{m["talker:*"].ID}, "talker:*") {
		t.Errorf("models %v", m)
	}
	for _, c := range []struct {
		path, body string
		status     int
		loaded     bool
	}{
		{"/models/load", `{"model":"parrot"}`, 200, true},
		{"/models/load", `{"model":"other"}`, 503, true},
		{"/models/load", `{}`, 400, true},
		{"/models/unload", `{"model":"parrot"}`, 200, false},
		{"/models/unload", `[`, 400, false},
		{"/models/load", `[`, 400, false},
		{"/models/load", `{"model":"parrot","modelSource":{"engine":"talker","files":[{"role":"model","url":"https://m.example/a","filename":"a.gguf"}]}}`, 200, true},
	} {
		if status, body, _ := f.ask(http.MethodPost, c.path, c.body); status != c.status || list()["parrot"].Loaded != c.loaded {
			t.Errorf("%s %s: %d %s", c.path, c.body, status, body)
		}
	}
	f.observers.RecentJobs.Add(observe.RecentJob{ID: "old", Kind: "llm", Model: "m", Outcome: observe.OutcomeFailed, Error: "it broke", Prompt: "secret prompt", Duration: time.Second})
	f.observers.RecentJobs.Add(observe.RecentJob{ID: "new", Kind: "llm", Model: "m", Outcome: observe.OutcomeCompleted})
	f.observers.CurrentJob.Set(observe.CurrentJob{ID: "now", Kind: "image", Started: time.Now(), Progress: observe.Progress{Step: 3, Total: 8, Text: "sampling"}})
	_, body, _ := f.ask(http.MethodGet, "/jobs", "")
	var told struct{ Jobs []jobRow }
	if err := json.Unmarshal([]byte(body), &told); err != nil || len(told.Jobs) != 3 || told.Jobs[0].ID != "now" || told.Jobs[0].Step != 3 || told.Jobs[1].ID != "new" || told.Jobs[2].Error != "it broke" {
		t.Errorf("jobs %s: %v", body, err)
	}
	if strings.Contains(body, "secret") {
		t.Error("a prompt is told")
	}
	if _, body, _ := f.ask(http.MethodGet, "/healthz", ""); body != `{"busy":true,"ok":true,"version":"1.2.3"}`+"\n" {
		t.Errorf("health %s", body)
	}
}

func TestLargeBodies(t *testing.T) {
	f := serve(t)
	answer := f.do(http.MethodPost, "/image", "", func(r *http.Request) {
		r.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"prompt":"`), io.LimitReader(zeros{}, maxBody), strings.NewReader(`"}`)))
		r.ContentLength = -1
	})
	defer answer.Body.Close()
	if data, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("%d %s, %v", answer.StatusCode, data, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	copy(p, bytes.Repeat([]byte("0"), len(p)))
	return len(p), nil
}

// The client that programs use: completion, streaming, models and errors.
func TestTheOpenAIClient(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the client is installed by a shell script")
	}
	install := exec.CommandContext(t.Context(), filepath.Join("..", "..", "scripts", "clients"))
	var problem bytes.Buffer
	install.Stderr = &problem
	out, err := install.Output()
	if err != nil {
		t.Fatalf("OpenAI's clients cannot be installed; scripts/setup says what they need: %v\n%s", err, problem.Bytes())
	}
	f := serve(t)
	check := exec.CommandContext(t.Context(), "node", filepath.Join("testdata", "openai", "check.mjs"), strings.TrimSpace(string(out)), f.URL()+"/v1", token)
	if out, err := check.CombinedOutput(); err != nil || !strings.Contains(string(out), "all is well") {
		t.Errorf("%v\n%s", err, out)
	}
}

func FuzzChatRequest(f *testing.F) {
	f.Add([]byte(hello + `,"stop":["a"],"response_format":{"type":"json_object"}}`))
	f.Add([]byte(`{"messages":[{"role":"user","content":[{"type":"text","text":"x"}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c chatRequest
		if json.Unmarshal(data, &c) != nil {
			return
		}
		if job, err := c.job(); err == nil && (len(job.Messages) == 0 || len(job.Stop) > maxStops) {
			t.Errorf("%+v", job)
		}
	})
}
