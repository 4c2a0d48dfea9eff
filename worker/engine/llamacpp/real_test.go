package llamacpp

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"studioworker/worker/engine"
	"studioworker/worker/engine/enginetest"
	"studioworker/worker/engine/program"
)

// newReal makes an engine over the real program, whose model tiny is a real one.
// file, when it is not nil, changes the model's file.
func newReal(tb testing.TB, file func(path string)) (*Engine, string) {
	tb.Helper()
	server := enginetest.Program(tb, "STUDIO_WORKER_LLAMA_SERVER", "llama-server")
	model := enginetest.File(tb, "STUDIO_WORKER_TEST_LLM")
	root := tb.TempDir()
	if err := os.Mkdir(filepath.Join(root, Folder), 0o700); err != nil {
		tb.Fatal(err)
	}
	target := filepath.Join(root, Folder, "tiny.gguf")
	if err := os.Symlink(model, target); err != nil {
		tb.Fatal(err)
	}
	if file != nil {
		file(target)
	}
	e := New(Config{
		Tool: NewTool(program.Places{Environ: os.Environ()}, server, func() []string { return nil }),
		Root: func() string { return root }, Threads: 1,
	})
	tb.Cleanup(e.Close)
	return e, target
}

func askReal(tb testing.TB, e *Engine, req engine.Request) (result, error) {
	tb.Helper()
	made, err := e.Run(tb.Context(), req, func(engine.Progress) {})
	if err != nil {
		return result{}, err
	}
	var r result
	if err := json.Unmarshal([]byte(made.JSON), &r); err != nil {
		tb.Fatal(err)
	}
	return r, nil
}

const capital = "What is the capital of France? Answer in one short sentence."

// TestReal asks a real model on one real server: all its jobs are on one process.
func TestReal(t *testing.T) {
	e, _ := newReal(t, nil)
	greedy := func(question string) engine.Request {
		req := job(t, question)
		req.LLM.Temperature, req.LLM.MaxTokens = 0, 48
		return req
	}
	pid := 0
	one := func(t *testing.T) {
		t.Helper()
		for _, r := range e.loaded {
			if pid == 0 {
				pid = r.server.pid
			}
			if r.server.pid != pid {
				t.Errorf("process %d answered, before it was %d", r.server.pid, pid)
			}
		}
		if len(e.loaded) != 1 {
			t.Errorf("%d servers", len(e.loaded))
		}
	}
	t.Run("a question with a known answer, in pieces", func(t *testing.T) {
		req := greedy(capital)
		var told strings.Builder
		pieces := 0
		req.Delta = func(text string) { told.WriteString(text); pieces++ }
		r, err := askReal(t, e, req)
		if err != nil {
			t.Fatal(err)
		}
		content := r.Choices[0].Message.Content
		if !strings.Contains(content, "Paris") || r.Choices[0].Finish != "stop" || r.Usage.Prompt == 0 || r.Usage.Completion < 3 || r.Usage.Total != r.Usage.Prompt+r.Usage.Completion {
			t.Errorf("%+v", r)
		}
		if strings.TrimSpace(told.String()) != content || pieces < 3 {
			t.Errorf("told %q in %d pieces, the whole is %q", told.String(), pieces, content)
		}
		one(t)
	})
	t.Run("JSON by a schema", func(t *testing.T) {
		req := greedy("Describe a person.")
		req.LLM.MaxTokens = 200
		req.LLM.JSONSchema = json.RawMessage(`{"type":"object","properties":{"name":{"type":"string","maxLength":20},"age":{"type":"integer","minimum":0,"maximum":99},"kind":{"enum":["a","b"]}},"required":["name","age","kind"],"additionalProperties":false}`)
		r, err := askReal(t, e, req)
		if err != nil {
			t.Fatal(err)
		}
		var person struct {
			Name *string `json:"name"`
			Age  *int    `json:"age"`
			Kind *string `json:"kind"`
		}
		decoder := json.NewDecoder(strings.NewReader(r.Choices[0].Message.Content))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&person); err != nil || person.Name == nil || person.Age == nil || *person.Age > 99 || person.Kind == nil || (*person.Kind != "a" && *person.Kind != "b") {
			t.Errorf("%q: %v", r.Choices[0].Message.Content, err)
		}
		one(t)
	})
	t.Run("a schema that makes no sense", func(t *testing.T) {
		req := greedy("x")
		req.LLM.JSONSchema = json.RawMessage(`{"type":"nonsense"}`)
		if _, err := askReal(t, e, req); class(err) != engine.ClassBadInput || engine.Retryable(err) {
			t.Errorf("err = %v", err)
		}
		one(t)
	})
	t.Run("a budget, and a stop string", func(t *testing.T) {
		req := greedy("Count from one to twenty, in words.")
		req.LLM.MaxTokens = 4
		if r, err := askReal(t, e, req); err != nil || r.Choices[0].Finish != "length" || r.Usage.Completion != 4 {
			t.Errorf("%+v, %v", r, err)
		}
		req = greedy(capital)
		req.LLM.Stop = []string{"Paris"}
		var told strings.Builder
		req.Delta = func(text string) { told.WriteString(text) }
		r, err := askReal(t, e, req)
		if err != nil || strings.Contains(r.Choices[0].Message.Content, "Par") || strings.Contains(told.String(), "Par") || r.Choices[0].Finish != "stop" {
			t.Errorf("%+v, %v; told %q", r, err, told.String())
		}
		one(t)
	})
	t.Run("a prompt beyond the context", func(t *testing.T) {
		req := greedy(strings.Repeat("word and ", 6000))
		if _, err := askReal(t, e, req); class(err) != engine.ClassBadInput || !strings.Contains(err.Error(), "but the context holds 8192; raise contextSize or shorten the prompt") {
			t.Errorf("err = %v", err)
		}
		one(t)
	})
	t.Run("a stop in the middle", func(t *testing.T) {
		req := greedy("Write a very long story.")
		req.LLM.MaxTokens = 1500
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("the person pressed stop")
		var at time.Time
		req.Delta = func(string) {
			if at.IsZero() {
				at = time.Now()
				cancel(why)
			}
		}
		_, err := e.Run(ctx, req, func(engine.Progress) {})
		t.Logf("stopped after %v", time.Since(at))
		if !errors.Is(err, why) {
			t.Errorf("err = %v", err)
		}
		// The slot is free: the next job does not wait for 1500 tokens.
		if r, err := askReal(t, e, greedy(capital)); err != nil || !strings.Contains(r.Choices[0].Message.Content, "Paris") {
			t.Errorf("%+v, %v", r, err)
		}
		one(t)
	})
	t.Run("twenty jobs on one process", func(t *testing.T) {
		first := ""
		for i := range 20 {
			req := greedy(capital)
			req.LLM.Temperature, req.LLM.MaxTokens = 0.7, 8
			r, err := askReal(t, e, req)
			if err != nil {
				t.Fatalf("job %d: %v", i, err)
			}
			if content := r.Choices[0].Message.Content; first == "" {
				first = content
			} else if content != first {
				t.Logf("job %d answers %q, the first was %q", i, content, first) // the prompt cache can change low bits
			}
		}
		one(t)
	})
	t.Run("a killed server", func(t *testing.T) {
		for _, r := range e.loaded {
			process, err := os.FindProcess(r.server.pid)
			if err != nil || process.Kill() != nil {
				t.Fatal(err)
			}
		}
		if r, err := askReal(t, e, greedy(capital)); err != nil || !strings.Contains(r.Choices[0].Message.Content, "Paris") {
			t.Errorf("%+v, %v", r, err)
		}
	})
	t.Run("gone in the end", func(t *testing.T) {
		begun := time.Now()
		if err := e.Unload(t.Context(), "tiny"); err != nil || len(e.loaded) != 0 {
			t.Errorf("%v, %d servers", err, len(e.loaded))
		}
		t.Logf("unloaded in %v", time.Since(begun))
	})
}

// The words of the real program about files that it cannot load are those that we
// know.
func TestRealDamagedModels(t *testing.T) {
	e, _ := newReal(t, func(path string) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Remove(path), os.WriteFile(path, data[:len(data)/2], 0o600)); err != nil {
			t.Fatal(err)
		}
	})
	_, err := askReal(t, e, job(t, "x"))
	if class(err) != engine.ClassModelCorrupt {
		t.Errorf("a file that is cut off: %v", err)
	}
	t.Log(err)
}

// Options that the real program does not know would keep it from starting.
func TestRealKnowsOurOptions(t *testing.T) {
	e, _ := newReal(t, nil)
	help, err := e.cfg.Tool.Says(t.Context(), e.cfg.Tool.Query().Variable, "--help")
	if err != nil {
		t.Fatal(err)
	}
	got := options(help, true, 1)
	t.Log(strings.Join(got, " "))
	for _, must := range []string{"--jinja", "--offline", "--no-webui", "--reasoning-format"} {
		if !knows(help, must) {
			t.Errorf("%s is not known", must)
		}
	}
	if _, err := strconv.Atoi(got[3]); err != nil {
		t.Errorf("layers %q", got[3])
	}
}
