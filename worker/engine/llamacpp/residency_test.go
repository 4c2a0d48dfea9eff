package llamacpp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"studioworker/worker/engine"
)

func (l *lab) load(model string) error {
	l.t.Helper()
	return l.Load(l.t.Context(), model, engine.Source{Engine: ID}, func(engine.Progress) {})
}

// wantFile checks what is remembered.
func wantFile(t *testing.T, path, want string) {
	t.Helper()
	if data, err := os.ReadFile(path); err != nil || string(data) != want {
		t.Errorf("the file holds %q, want %q: %v", data, want, err)
	}
}

// What Load asked for is there again after a restart, and what Unload took is not.
func TestResidentsSurviveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), ResidencyFile)
	first := newLab(t, "", func(c *Config) { c.Residency = path })
	first.put("other.gguf", modelHead("llama", 512, true))
	first.put("third.gguf", modelHead("llama", 512, true))
	for _, model := range []string{"tiny", "other", "third"} {
		if err := first.load(model); err != nil {
			t.Fatal(err)
		}
	}
	wantFile(t, path, `{"version":1,"resident":["other","third","tiny"]}`+"\n")
	if err := first.Unload(t.Context(), "third"); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, `{"version":1,"resident":["other","tiny"]}`+"\n")
	if err := errors.Join(first.Unload(t.Context(), "tiny"), first.Unload(t.Context(), "other")); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, `{"version":1,"resident":[]}`+"\n")
	if err := errors.Join(first.load("tiny"), first.load("other")); err != nil {
		t.Fatal(err)
	}
	if err := first.load("nothing"); class(err) != engine.ClassModelUnavailable {
		t.Errorf("a model that nobody knows: %v", err)
	}
	if !first.Release() || len(first.Loaded()) != 0 { // the memory was asked for: that is no Unload
		t.Errorf("loaded %q", first.Loaded())
	}
	wantFile(t, path, `{"version":1,"resident":["other","tiny"]}`+"\n")
	first.Close()

	next := newLab(t, "", func(c *Config) { c.Residency = path })
	next.put("third.gguf", modelHead("llama", 512, true))
	next.Restore(t.Context())
	if got := next.Loaded(); !slices.Equal(got, []string{"tiny"}) {
		t.Errorf("loaded %q", got)
	}
	if log := next.log.String(); !strings.Contains(log, "not known here") || !strings.Contains(log, "model=other") {
		t.Errorf("the log does not say what became of the other: %s", log)
	}
	for _, r := range next.loaded {
		if !r.keep.Load() {
			t.Error("a model that was restored goes when it idles")
		}
	}
	wantFile(t, path, `{"version":1,"resident":["other","tiny"]}`+"\n") // the other may come back
	stopped, stop := context.WithCancel(t.Context())
	stop()
	next.Release()
	next.Restore(stopped)
	if len(next.Loaded()) != 0 {
		t.Error("models are loaded after the end")
	}
}

// A job does not push out what somebody asked for, but what is only warm.
func TestAJobLeavesResidents(t *testing.T) {
	var l *lab
	l = newLab(t, "", func(c *Config) {
		c.Free = func(context.Context, bool) (uint64, bool) {
			free := uint64(4 << 30)
			if l.Engine != nil {
				free -= uint64(len(l.Loaded())) << 30
			}
			return free, true
		}
	})
	l.put("other.gguf", modelHead("llama", 512, true))
	l.put("third.gguf", modelHead("llama", 512, true))
	if err := l.load("tiny"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.ask(of(job(t, "x"), "other", 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.ask(of(job(t, "x"), "third", 2)); err != nil { // fits without the warm one
		t.Fatal(err)
	}
	if got := l.Loaded(); !slices.Equal(got, []string{"third", "tiny"}) {
		t.Errorf("loaded %q", got)
	}
	if _, err := l.ask(of(job(t, "x"), "other", 3)); class(err) != engine.ClassInsufficientMemory {
		t.Errorf("err = %v", err)
	}
	if got := l.Loaded(); !slices.Contains(got, "tiny") {
		t.Errorf("loaded %q: a job pushed out what somebody asked for", got)
	}
}

// of makes a job one of another model, with an estimate of its memory.
func of(req engine.Request, model string, gb float64) engine.Request {
	req.Model, req.MemoryGB = model, gb
	return req
}

func TestResidencyOfABadFile(t *testing.T) {
	many, err := json.Marshal(residencyRecord{Version: 1, Resident: slices.Repeat([]string{"a"}, maxResidents+1)})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"no JSON":            `{"version":1,`,
		"empty":              ``,
		"another version":    `{"version":2,"resident":[]}`,
		"no version":         `{"resident":["a"]}`,
		"an unknown field":   `{"version":1,"resident":[],"pinned":[]}`,
		"something after it": `{"version":1,"resident":[]}{}`,
		"a name too long":    fmt.Sprintf(`{"version":1,"resident":[%q]}`, strings.Repeat("a", maxResidentID+1)),
		"an empty name":      `{"version":1,"resident":[""]}`,
		"too many":           string(many),
		"too long":           strings.Repeat(" ", maxResidency+1),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), ResidencyFile)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			r := residency{path: path, log: slog.New(slog.NewTextHandler(&log, nil))}
			if got := r.all(); len(got) != 0 {
				t.Errorf("it names %q", got)
			}
			aside, err := filepath.Glob(path + ".corrupt-*")
			if err != nil || len(aside) != 1 || !strings.Contains(log.String(), "was set aside") {
				t.Fatalf("set aside as %q, %v: %s", aside, err, log.String())
			}
			wantFile(t, aside[0], text)
			r.set("b", true)
			wantFile(t, path, `{"version":1,"resident":["b"]}`+"\n")
		})
	}
}

// What cannot be read is never written, and what cannot be written is said.
func TestResidencyWithoutItsFile(t *testing.T) {
	var log bytes.Buffer
	path := filepath.Join(t.TempDir(), ResidencyFile)
	if err := os.Mkdir(path, 0o700); err != nil { // reads fail on it
		t.Fatal(err)
	}
	r := residency{path: path, log: slog.New(slog.NewTextHandler(&log, nil))}
	r.set("a", true)
	if !r.has("a") || !strings.Contains(log.String(), "cannot be read") {
		t.Errorf("%q, %s", r.all(), log.String())
	}
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		t.Errorf("it was overwritten: %v", err)
	}

	log.Reset()
	path = filepath.Join(t.TempDir(), "none", ResidencyFile)
	r = residency{path: path, log: slog.New(slog.NewTextHandler(&log, nil))}
	r.set("a", true)
	if _, err := os.Stat(path); !r.has("a") || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(log.String(), "not remembered over a restart") {
		t.Errorf("%q, %v, %s", r.all(), err, log.String())
	}

	log.Reset()
	r = residency{log: slog.New(slog.NewTextHandler(&log, nil))}
	for i := range maxResidents + 1 {
		r.set(fmt.Sprint("model ", i), true)
	}
	r.set(strings.Repeat("x", maxResidentID+1), true)
	if len(r.all()) != maxResidents || strings.Count(log.String(), "too many") != 2 {
		t.Errorf("%d models, %s", len(r.all()), log.String())
	}
}

func FuzzResidency(f *testing.F) {
	f.Add([]byte(`{"version":1,"resident":["a","b"]}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		ids, err := decodeResidency(data)
		if err != nil {
			return
		}
		again, err := json.Marshal(residencyRecord{Version: residencyVersion, Resident: ids})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeResidency(again); err != nil && len(again) <= maxResidency || err == nil && !slices.Equal(got, ids) {
			t.Errorf("%q became %q: %v", ids, got, err)
		}
	})
}
