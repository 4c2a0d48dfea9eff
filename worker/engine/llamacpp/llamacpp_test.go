package llamacpp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"studioworker/worker/engine"
	"studioworker/worker/engine/program"
	"studioworker/worker/engine/supply"
)

// lab is an engine over the fake program and a folder with one model.
type lab struct {
	*Engine
	t     *testing.T
	root  string
	notes string
	log   *diary
}

// diary is a log that several goroutines write.
type diary struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (d *diary) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text.Write(p)
}

func (d *diary) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text.String()
}

// newLab makes an engine whose program behaves as mode says.
func newLab(t *testing.T, mode string, change func(*Config)) *lab {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, root: t.TempDir(), notes: t.TempDir(), log: &diary{}}
	environ := append(os.Environ(), fakeMode+"="+mode, fakeNotes+"="+l.notes)
	cfg := Config{
		Tool: NewTool(program.Places{Environ: environ}, self, func() []string { return nil }),
		Root: func() string { return l.root }, Log: slog.New(slog.NewTextHandler(l.log, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	l.put("tiny.gguf", modelHead("llama", 4096, true))
	l.Engine = New(cfg)
	t.Cleanup(l.Close)
	return l
}

func (l *lab) put(name string, data []byte) {
	l.t.Helper()
	path := filepath.Join(l.root, Folder, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		l.t.Fatal(err)
	}
}

// noted returns the lines of a note of the fake.
func (l *lab) noted(name string) []string {
	data, err := os.ReadFile(filepath.Join(l.notes, name))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

// job is a question to the model tiny.
func job(t *testing.T, question string) engine.Request {
	t.Helper()
	return engine.Request{
		JobID: "j", Kind: engine.KindLLM, Model: "tiny", Dir: t.TempDir(), Source: engine.Source{Engine: ID},
		LLM: &engine.LLM{Messages: []engine.Message{{Role: "user", Content: question}}, MaxTokens: 100, Temperature: 0.7},
	}
}

func (l *lab) ask(req engine.Request) (result, error) {
	l.t.Helper()
	return l.askIn(l.t.Context(), req)
}

func (l *lab) askIn(ctx context.Context, req engine.Request) (result, error) {
	l.t.Helper()
	made, err := l.Run(ctx, req, func(engine.Progress) {})
	if err != nil {
		return result{}, err
	}
	if made.File != "" || made.Ext != "json" {
		l.t.Fatalf("made %+v", made)
	}
	var r result
	if err := json.Unmarshal([]byte(made.JSON), &r); err != nil {
		l.t.Fatal(err)
	}
	return r, nil
}

func class(err error) engine.Class {
	if e, ok := errors.AsType[*engine.Error](err); ok {
		return e.Class
	}
	return ""
}

func TestOneServerForManyJobs(t *testing.T) {
	l := newLab(t, "", nil)
	for i := range 20 {
		r, err := l.ask(job(t, "hello "+strconv.Itoa(i)))
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Choices[0].Message.Content; got != "hello "+strconv.Itoa(i) {
			t.Errorf("answer %q", got)
		}
	}
	starts := l.noted("starts")
	if len(starts) != 1 {
		t.Fatalf("%d servers were started", len(starts))
	}
	want := "-m " + filepath.Join(l.root, Folder, "tiny.gguf") + " --alias tiny -c 4096 -np 1 -ngl 0 --jinja --reasoning-format deepseek --no-webui --offline"
	if _, args, _ := strings.Cut(starts[0], " -m "); "-m "+args != want || !strings.HasPrefix(starts[0], "--host 127.0.0.1 --port ") {
		t.Errorf("arguments\n%s\nwant\n… %s", starts[0], want)
	}
	if got := l.Loaded(); !slices.Equal(got, []string{"tiny"}) || !l.Holds("tiny") || l.Holds("other") {
		t.Errorf("loaded %q", got)
	}
	if strings.Contains(l.log.String(), "hello 3") {
		t.Error("a prompt is in the log")
	}
}

func TestSpecTheResultHasTheReferencesShape(t *testing.T) {
	l := newLab(t, "", nil)
	req := job(t, "fine, thanks")
	made, err := l.Run(t.Context(), req, func(engine.Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(made.JSON), &got); err != nil {
		t.Fatal(err)
	}
	if elapsed, ok := got["elapsed_ms"].(float64); !ok || elapsed < 0 {
		t.Errorf("elapsed_ms is %v", got["elapsed_ms"])
	}
	delete(got, "elapsed_ms")
	again, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"choices":[{"finish_reason":"stop","index":0,"message":{"content":"fine, thanks","role":"assistant"}}],"model":"tiny","object":"chat.completion","usage":{"completion_tokens":7,"prompt_tokens":41,"total_tokens":48}}`
	if string(again) != want {
		t.Errorf("result\n%s\nwant\n%s", again, want)
	}
	if entries, err := os.ReadDir(req.Dir); err != nil || len(entries) != 0 {
		t.Errorf("%d files, %v", len(entries), err)
	}
}

func TestSpec113And114Budgets(t *testing.T) {
	for name, c := range map[string]struct {
		context, trained uint32
		want             string
	}{
		"the configured size": {1024, 4096, "-c 1024"}, "capped by training": {8192, 4096, "-c 4096"}, "8192 by default": {0, 100_000, "-c 8192"},
		"training unknown": {16_384, 0, "-c 16384"},
	} {
		l := newLab(t, "", nil)
		l.put("tiny.gguf", modelHead("llama", c.trained, true))
		req := job(t, "x")
		req.Source.Defaults.ContextSize = c.context
		req.LLM.MaxTokens = 0 // counts as 1
		r, err := l.ask(req)
		if err != nil || r.Choices[0].Finish != "length" {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		if got := l.noted("starts"); len(got) != 1 || !strings.Contains(got[0], " "+c.want+" ") {
			t.Errorf("%s: %q, want %s", name, got, c.want)
		}
		if got := l.noted("requests"); !strings.Contains(got[0], `"max_tokens":1,`) {
			t.Errorf("%s: asked %s", name, got[0])
		}
	}
	l := newLab(t, "overflow", nil)
	_, err := l.ask(job(t, "long"))
	if class(err) != engine.ClassBadInput || err.Error() != "prompt is 928 tokens but the context holds 512; raise contextSize or shorten the prompt" {
		t.Errorf("a prompt that fills the context: %v", err)
	}
}

func TestSpec115ThoughtsAndStops(t *testing.T) {
	for mode, want := range map[string]message{
		"":               {Role: "assistant", Content: "Saltmere"},
		"thought apart":  {Role: "assistant", Content: "Saltmere", Reasoning: "short names work"},
		"thought inside": {Role: "assistant", Content: "Saltmere", Reasoning: "short names work"},
	} {
		l := newLab(t, mode, nil)
		req := job(t, "Saltmere ")
		var told strings.Builder
		req.Delta = func(text string) { told.WriteString(text) }
		r, err := l.ask(req)
		if err != nil || r.Choices[0].Message != want || strings.TrimSpace(told.String()) != want.Content {
			t.Errorf("%q: %+v, %v; told %q", mode, r.Choices, err, told.String())
		}
	}
	for name, c := range map[string]struct {
		pieces []string
		stops  []string
		kept   string
	}{
		"in one piece":            {[]string{"one STOP two"}, []string{"STOP"}, "one "},
		"over three pieces":       {[]string{"one S", "TO", "P two"}, []string{"STOP"}, "one "},
		"begun but not finished":  {[]string{"one STO"}, []string{"STOP"}, "one STO"},
		"begun and gone on":       {[]string{"one STO", "NE"}, []string{"STOP"}, "one STONE"},
		"the earlier of two":      {[]string{"a b ", "c d"}, []string{"d", "c"}, "a b "},
		"at the very begin":       {[]string{"#"}, []string{"#"}, ""},
		"letters of many bytes":   {[]string{"gr\xc3", "\xbc\xc3\x9fe"}, []string{"zz"}, "grüße"},
		"overlapping with itself": {[]string{"aa", "ab"}, []string{"aab"}, "a"},
		"thought, then a stop":    {[]string{"<thi", "nk>x END</think>", "hi END"}, []string{"NOPE"}, "hi END"},
		"almost a thought":        {[]string{"<thin", " ice"}, nil, "<thin ice"},
	} {
		var told strings.Builder
		s := newSieve(c.stops, func(text string) {
			for _, stop := range c.stops {
				if strings.Contains(told.String()+text, stop) {
					t.Errorf("%s: %q was told", name, told.String()+text)
				}
			}
			told.WriteString(text)
		})
		for _, piece := range c.pieces {
			s.add(piece)
		}
		s.end()
		if kept := strings.TrimPrefix(s.kept, "<think>x END</think>"); told.String() != c.kept || kept != c.kept {
			t.Errorf("%s: told %q, kept %q, want %q", name, told.String(), s.kept, c.kept)
		}
	}
}

func TestRequestOfAJob(t *testing.T) {
	topP := 0.9
	r, err := newRequest("m", &engine.LLM{
		System: "be short", Messages: []engine.Message{{Role: "user", Content: "hi"}}, MaxTokens: 5, Temperature: -1, TopP: &topP, Stop: []string{"", "x"},
		JSONSchema: json.RawMessage(`{"type":"object"}`), Reasoning: "low", ChatTemplateKwargs: json.RawMessage(`{"a":2}`),
	}, json.RawMessage(`{"a":1,"b":true}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"model":"m","messages":[{"role":"system","content":"be short"},{"role":"user","content":"hi"}],"max_tokens":5,"temperature":0,"top_p":0.9,"top_k":0,"min_p":0,"samplers":["top_p","temperature"],"seed":1234,"stop":["x"],"chat_template_kwargs":{"a":2,"b":true},"cache_prompt":true,"response_format":{"type":"json_schema","json_schema":{"name":"out","strict":true,"schema":{"type":"object"}}},"reasoning_effort":"low","stream":true,"stream_options":{"include_usage":true}}`
	if string(got) != want {
		t.Errorf("request\n%s\nwant\n%s", got, want)
	}
	if r, err := newRequest("m", &engine.LLM{Reasoning: "a lot", JSONSchema: json.RawMessage("null")}, nil); err != nil || r.Effort != "" || r.ResponseFormat != nil || len(r.Samplers) != 1 {
		t.Errorf("nothing chosen: %+v, %v", r, err)
	}
	for name, bad := range map[string]*engine.LLM{
		"a schema that is a list":   {JSONSchema: json.RawMessage(`[1]`)},
		"a schema that is no JSON":  {JSONSchema: json.RawMessage(`{`)},
		"variables that are a list": {ChatTemplateKwargs: json.RawMessage(`[1]`)},
	} {
		if _, err := newRequest("m", bad, nil); class(err) != engine.ClassBadInput {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStartsAndTheirFailures(t *testing.T) {
	for mode, want := range map[string]struct {
		class  engine.Class
		text   string
		starts int
	}{
		"slow to load":     {"", "", 1},
		"port taken twice": {"", "", 3},
		"corrupt":          {engine.ClassModelCorrupt, "model is corrupted or incomplete", 1},
		"memory":           {engine.ClassOutOfMemory, "failed to allocate", 1},
		"architecture":     {engine.ClassEngineMissing, "too old", 1},
		"gpu":              {engine.ClassGPURuntime, "ErrorDeviceLost", 1},
		"no library":       {engine.ClassEngineMissing, "libggml.so", 1},
	} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t, mode, nil)
			_, err := l.ask(job(t, "x"))
			if class(err) != want.class || err != nil && !strings.Contains(err.Error(), want.text) || err == nil && want.text != "" {
				t.Errorf("err = %v, want %s with %q", err, want.class, want.text)
			}
			if got := len(l.noted("starts")); got != want.starts {
				t.Errorf("%d starts, want %d", got, want.starts)
			}
		})
	}
}

// Fault row 23: the graphics card is lost. The engine is not offered work any
// more.
func TestRow23ALostCardWithdrawsTheEngine(t *testing.T) {
	l := newLab(t, "gpu", nil)
	if got := l.Models()[engine.KindLLM]; !slices.Equal(got, []string{"tiny", "llama-cpp:*"}) {
		t.Errorf("models %q", got)
	}
	if _, err := l.ask(job(t, "x")); class(err) != engine.ClassGPURuntime || !engine.Retryable(err) {
		t.Errorf("err = %v", err)
	}
	if got := l.Models(); len(got) != 0 || !strings.Contains(l.Problem(), "ErrorDeviceLost") {
		t.Errorf("models %q, problem %q", got, l.Problem())
	}
}

func TestRefusedRequests(t *testing.T) {
	for mode, want := range map[string]engine.Class{
		"schema": engine.ClassBadInput, "five hundred": engine.ClassInternal, "error in the stream": engine.ClassOutOfMemory, "garbage": "", "endless line": "",
	} {
		l := newLab(t, mode, nil)
		if _, err := l.ask(job(t, "x")); err == nil || class(err) != want {
			t.Errorf("%s: %v, want %s", mode, err, want)
		}
	}
}

// Fault row 17 for a server that stays: it is started once more, and what was
// told of the answer is not told twice.
func TestRow17ACrashedServerIsStartedOnceMore(t *testing.T) {
	for mode, want := range map[string]struct{ told, content string }{
		"crash once":     {"one two three", "one two three"},
		"another answer": {"one two ", "nothing like it"},
	} {
		l := newLab(t, mode, nil)
		req := job(t, "one two three")
		var told strings.Builder
		req.Delta = func(text string) { told.WriteString(text) }
		r, err := l.ask(req)
		if err != nil || r.Choices[0].Message.Content != want.content || told.String() != want.told {
			t.Errorf("%s: %+v, %v; told %q", mode, r, err, told.String())
		}
		if got := len(l.noted("starts")); got != 2 {
			t.Errorf("%s: %d starts", mode, got)
		}
	}
	l := newLab(t, "crash", nil)
	_, err := l.ask(job(t, "x"))
	if class(err) != engine.ClassEngineCrash || !strings.Contains(err.Error(), "GGML_ASSERT") || !engine.Retryable(err) {
		t.Errorf("it crashes always: %v", err)
	}
	if got := len(l.noted("starts")); got != 2 || len(l.Loaded()) != 0 {
		t.Errorf("%d starts, loaded %q", got, l.Loaded())
	}
}

// A server that ended while it idled is started anew, without a word.
func TestAServerThatEndedIsStartedAnew(t *testing.T) {
	l := newLab(t, "", nil)
	if _, err := l.ask(job(t, "x")); err != nil {
		t.Fatal(err)
	}
	for _, r := range l.loaded {
		if err := syscall.Kill(r.server.pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-r.server.ended
	}
	if _, err := l.ask(job(t, "x")); err != nil {
		t.Fatal(err)
	}
	if got := len(l.noted("starts")); got != 2 {
		t.Errorf("%d starts", got)
	}
}

func TestCancelClosesTheRequest(t *testing.T) {
	l := newLab(t, "hang", nil)
	for i := range 2 {
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("the person pressed stop")
		req := job(t, "x")
		req.Delta = func(string) { cancel(why) }
		if _, err := l.askIn(ctx, req); !errors.Is(err, why) {
			t.Errorf("%d: %v", i, err)
		}
	}
	for len(l.noted("cancelled")) < 2 {
		time.Sleep(time.Millisecond) // the other process notes it
	}
	if got := len(l.noted("starts")); got != 1 {
		t.Errorf("%d starts: the server did not stay", got)
	}
}

// A server that ignores SIGTERM is gone within two seconds.
func TestAStubbornServerIsGoneInTime(t *testing.T) {
	l := newLab(t, "stubborn", nil)
	ctx, cancel := context.WithCancel(t.Context())
	req := job(t, "x")
	req.Delta = func(string) { cancel() }
	if _, err := l.askIn(ctx, req); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	pid := 0
	for _, r := range l.loaded {
		pid = r.server.pid
	}
	begun := time.Now()
	if err := l.Unload(t.Context(), "tiny"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	if err := syscall.Kill(pid, 0); pid == 0 || !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d: %v", pid, err)
	}
}

func TestLoadUnloadAndRelease(t *testing.T) {
	l := newLab(t, "", nil)
	if err := l.Load(t.Context(), "tiny", engine.Source{Engine: ID}, func(engine.Progress) {}); err != nil {
		t.Fatal(err)
	}
	if l.States()["tiny"] != StateLoaded {
		t.Errorf("states %v", l.States())
	}
	if _, err := l.ask(job(t, "x")); err != nil || len(l.noted("starts")) != 1 {
		t.Errorf("%v, %d starts", err, len(l.noted("starts")))
	}
	for range 2 { // the second time there is nothing to do
		if err := l.Unload(t.Context(), "tiny"); err != nil || len(l.States()) != 0 {
			t.Errorf("%v, states %v", err, l.States())
		}
	}
	if l.Release() {
		t.Error("released nothing, and says otherwise")
	}
	if _, err := l.ask(job(t, "x")); err != nil || !l.Release() || len(l.Loaded()) != 0 {
		t.Errorf("%v, loaded %q", err, l.Loaded())
	}
	if err := l.Load(t.Context(), "nothing", engine.Source{Engine: ID}, func(engine.Progress) {}); class(err) != engine.ClassModelUnavailable {
		t.Errorf("a model that is not there: %v", err)
	}
	if err := l.Load(t.Context(), "../tiny", engine.Source{Engine: ID}, func(engine.Progress) {}); class(err) != engine.ClassModelUnavailable {
		t.Errorf("a model outside: %v", err)
	}
}

func TestUnloadStopsItsJob(t *testing.T) {
	l := newLab(t, "hang", nil)
	ended := make(chan error, 1)
	begun := make(chan struct{})
	req := job(t, "x")
	req.Delta = func(string) { close(begun) }
	go func() { _, err := l.askIn(context.Background(), req); ended <- err }() //nolint:usetesting // Unload ends it
	<-begun
	if l.Release() {
		t.Error("a model in use was released")
	}
	if err := l.Unload(t.Context(), "tiny"); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; class(err) != engine.ClassCancelled || !strings.Contains(err.Error(), "the model is unloading") {
		t.Errorf("the job ended with %v", err)
	}
}

// awaitUnload returns when no model is loaded any more and the log says why, which it
// does a moment later.
func (l *lab) awaitUnload(t *testing.T, why string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); len(l.Loaded()) > 0 || !strings.Contains(l.log.String(), why); {
		if time.Now().After(deadline) {
			t.Fatalf("loaded %v, and no %q in the log %s", l.Loaded(), why, l.log)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestIdleModelsGo(t *testing.T) {
	l := newLab(t, "", func(c *Config) { c.Keep = 50 * time.Millisecond })
	if _, err := l.ask(job(t, "x")); err != nil {
		t.Fatal(err)
	}
	l.awaitUnload(t, "it was idle")
}

func TestMemoryPressureUnloads(t *testing.T) {
	var mu sync.Mutex
	free := uint64(8 << 30)
	l := newLab(t, "", func(c *Config) {
		c.Keep = 50 * time.Millisecond
		c.Free = func(context.Context, bool) (uint64, bool) { mu.Lock(); defer mu.Unlock(); return free, true }
	})
	if err := l.Load(t.Context(), "tiny", engine.Source{Engine: ID}, func(engine.Progress) {}); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	free = 100 << 20
	mu.Unlock()
	l.awaitUnload(t, "memory is short")
}

func TestAdmission(t *testing.T) {
	free := uint64(3 << 30)
	var l *lab
	l = newLab(t, "", func(c *Config) {
		c.Free = func(context.Context, bool) (uint64, bool) {
			if l.Engine != nil && len(l.Loaded()) > 0 {
				return free - 1<<30, true // a loaded model takes one GiB
			}
			return free, true
		}
	})
	req := job(t, "x")
	req.MemoryGB = 2.5
	_, err := l.ask(req)
	want := "insufficient memory: needs 2.50 GiB, 3.00 GiB free (1.00 GiB kept in reserve)"
	if class(err) != engine.ClassInsufficientMemory || err.Error() != want || !engine.Retryable(err) {
		t.Errorf("err = %v, want %s", err, want)
	}
	if len(l.noted("starts")) != 0 {
		t.Error("it was started all the same")
	}
	req = job(t, "x")
	req.MemoryGB = 2
	if _, err := l.ask(req); err != nil {
		t.Fatal(err)
	}
	l.put("other.gguf", modelHead("llama", 512, true))
	req = job(t, "x")
	req.Model, req.MemoryGB = "other", 2 // fits only without the first
	if _, err := l.ask(req); err != nil {
		t.Fatal(err)
	}
	if got := l.Loaded(); !slices.Equal(got, []string{"other"}) {
		t.Errorf("loaded %q", got)
	}
}

func TestALeakingServerIsReplaced(t *testing.T) {
	own := uint64(100 << 20)
	l := newLab(t, "", func(c *Config) {
		c.Own = func(pid int) (uint64, error) {
			if pid == 0 {
				t.Error("no process")
			}
			return own, nil
		}
	})
	for i := range 5 {
		if i == 4 {
			own = 2 << 30
		}
		if _, err := l.ask(job(t, "x")); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.Loaded()) != 0 || !strings.Contains(l.log.String(), "keeps more and more memory") {
		t.Errorf("loaded %q", l.Loaded())
	}
	if _, err := l.ask(job(t, "x")); err != nil || len(l.noted("starts")) != 2 {
		t.Errorf("%v, %d starts", err, len(l.noted("starts")))
	}
}

// shelf gives the files of models as a test wants.
type shelf struct {
	path    string
	doubts  int
	changed bool
	held    int
}

func (s *shelf) Ensure(_ context.Context, set supply.Set, _ func(engine.Progress)) (*supply.Held, error) {
	s.held++
	paths := make([]string, len(set.Files))
	for i := range paths {
		paths[i] = s.path
	}
	return &supply.Held{
		Set: set, Paths: paths, Release: func() { s.held-- },
		Doubt: func(context.Context) (bool, error) { s.doubts++; return s.changed, nil },
	}, nil
}

func TestDamagedModelsAreFetchedOnceMore(t *testing.T) {
	source := engine.Source{Engine: ID, Files: []engine.File{{Role: "model", Filename: "far.GGUF"}}}
	for name, c := range map[string]struct {
		mode    string
		changed bool
		want    engine.Class
		starts  int
	}{
		"bad, then good":     {"corrupt once", true, "", 2},
		"bad, and bad again": {"corrupt", true, engine.ClassModelCorrupt, 2},
		"bad as it was sent": {"corrupt", false, engine.ClassModelCorrupt, 1},
	} {
		s := &shelf{changed: c.changed}
		l := newLab(t, c.mode, func(cfg *Config) { cfg.Models = s })
		s.path = filepath.Join(l.root, Folder, "tiny.gguf")
		req := job(t, "x")
		req.Source = source
		if _, err := l.ask(req); class(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
		if got := len(l.noted("starts")); got != c.starts || s.doubts != 1 {
			t.Errorf("%s: %d starts, %d doubts", name, got, s.doubts)
		}
		l.Close()
		if s.held != 0 {
			t.Errorf("%s: %d sets are still held", name, s.held)
		}
	}
}

func TestModelsThatCannotBeLoaded(t *testing.T) {
	l := newLab(t, "", nil)
	l.put("plain.gguf", modelHead("llama", 1, false))
	l.put("html.gguf", []byte("<html>not found</html>"))
	for model, want := range map[string]engine.Class{"plain": engine.ClassBadInput, "html": engine.ClassModelCorrupt, "missing": engine.ClassModelUnavailable} {
		req := job(t, "x")
		req.Model = model
		if _, err := l.ask(req); class(err) != want {
			t.Errorf("%s: %v, want %s", model, err, want)
		}
	}
	s := &shelf{path: filepath.Join(l.root, Folder, "tiny.gguf")}
	l.cfg.Models = s
	req := job(t, "x")
	req.Source.Files = []engine.File{{Role: "vae", Filename: "x.safetensors"}}
	if _, err := l.ask(req); class(err) != engine.ClassBadInput || s.held != 0 {
		t.Errorf("a model without .gguf: %v", err)
	}
	req = job(t, "x")
	req.Kind = engine.KindImage
	if _, err := l.ask(req); class(err) != engine.ClassUnsupportedKind || engine.Retryable(err) {
		t.Errorf("a picture: %v", err)
	}
	if len(l.noted("starts")) != 0 {
		t.Error("the program was started")
	}
}

func TestWithoutTheProgram(t *testing.T) {
	l := newLab(t, "", func(c *Config) { c.Tool = NewTool(program.Places{}, "", func() []string { return nil }) })
	if got := l.Models(); len(got) != 0 {
		t.Errorf("models %q", got)
	}
	if _, err := l.ask(job(t, "x")); class(err) != engine.ClassEngineMissing || !strings.Contains(err.Error(), "STUDIO_WORKER_LLAMA_SERVER") {
		t.Errorf("err = %v", err)
	}
	l.cfg.Fetchable = func() bool { return true }
	if got := l.Models()[engine.KindLLM]; !slices.Contains(got, "llama-cpp:*") {
		t.Errorf("models %q", got)
	}
}

// A load that is stopped leaves nothing.
func TestStoppingALoad(t *testing.T) {
	l := newLab(t, "never ready", nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the worker is stopping")
	go func() {
		for len(l.noted("starts")) == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel(why)
	}()
	if _, err := l.askIn(ctx, job(t, "x")); !errors.Is(err, why) || len(l.States()) != 0 {
		t.Errorf("%v, states %v", err, l.States())
	}
}

func TestHeaders(t *testing.T) {
	h, err := decodeHeader(bytes.NewReader(modelHead("qwen2", 32_768, true)))
	if err != nil || h != (header{Architecture: "qwen2", Context: 32_768, Template: true}) {
		t.Errorf("%+v, %v", h, err)
	}
	whole := modelHead("llama", 1, true)
	for n := range whole {
		if _, err := decodeHeader(bytes.NewReader(whole[:n])); !errors.Is(err, errNotGGUF) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	for name, change := range map[string]func([]byte){
		"version 1":       func(b []byte) { b[4] = 1 },
		"too many pairs":  func(b []byte) { b[18] = 0xff },
		"a huge key":      func(b []byte) { b[30] = 0xff },
		"an unknown type": func(b []byte) { b[24+8+20] = 99 },
	} {
		bad := slices.Clone(whole)
		change(bad)
		if h, err := decodeHeader(bytes.NewReader(bad)); !errors.Is(err, errNotGGUF) {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
}

// The head of a file is read once, and again when the file is another.
func TestHeadsAreRemembered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.gguf")
	write := func(data []byte, age time.Duration) {
		t.Helper()
		when := time.Now().Add(-age)
		if err := errors.Join(os.WriteFile(path, data, 0o600), os.Chtimes(path, when, when)); err != nil {
			t.Fatal(err)
		}
	}
	var k heads
	want := func(context uint64) {
		t.Helper()
		if h, err := k.of(path); err != nil || h.Context != context {
			t.Errorf("%+v, %v; want context %d", h, err, context)
		}
	}
	write(modelHead("llama", 1000, true), 2*time.Hour)
	want(1000)
	want(1000)
	write(modelHead("llama", 2000, true), time.Hour) // as long as before, but younger
	want(2000)
	write([]byte("damaged"), time.Minute)
	if _, err := k.of(path); !errors.Is(err, errNotGGUF) {
		t.Errorf("err = %v", err)
	}
	write(modelHead("llama", 3000, true), 0)
	want(3000)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := k.of(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("err = %v", err)
	}
}

func TestVersionOf(t *testing.T) {
	if got := VersionOf("version: 0.1.0-dev (build 1, commit 7e4c0a9)\nbuilt with GNU 11.4.0"); got != "0.1.0-dev (build 1, commit 7e4c0a9)" {
		t.Errorf("version %q", got)
	}
	if got := VersionOf("x"); got != "" {
		t.Errorf("version %q", got)
	}
}

func FuzzHeader(f *testing.F) {
	f.Add(modelHead("llama", 4096, true))
	f.Add([]byte("GGUF"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if h, err := decodeHeader(bytes.NewReader(data)); err == nil && len(h.Architecture) > maxKey {
			t.Errorf("%+v", h)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add("data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n", "a")
	f.Add("error: {\"code\":500}\n", "")
	f.Fuzz(func(t *testing.T, stream, stop string) {
		var told strings.Builder
		stops := []string{}
		if stop != "" {
			stops = append(stops, stop)
		}
		a := &answer{}
		if err := a.read(strings.NewReader(stream), newSieve(stops, func(text string) { told.WriteString(text) }), nil); err != nil {
			return
		}
		r := a.result("m", time.Second)
		if stop != "" && strings.Contains(a.content.String(), stop) {
			t.Errorf("%q holds the stop %q", a.content.String(), stop)
		}
		if _, err := json.Marshal(r); err != nil {
			t.Error(err)
		}
	})
}
