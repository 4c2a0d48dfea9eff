package engine_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"studioworker/worker/engine"
	"studioworker/worker/engine/synthetic"
)

// custom is an engine made of functions.
type custom struct {
	id     engine.ID
	models map[engine.Kind][]string
	run    func(context.Context, engine.Request, func(engine.Progress)) (engine.Result, error)
}

func (c custom) ID() engine.ID                    { return c.id }
func (c custom) Models() map[engine.Kind][]string { return c.models }
func (c custom) Run(ctx context.Context, req engine.Request, progress func(engine.Progress)) (engine.Result, error) {
	return c.run(ctx, req, progress)
}

// writes is an engine whose run leaves data in a file.
func writes(id engine.ID, file, ext, data string) custom {
	return custom{id: id, run: func(_ context.Context, req engine.Request, _ func(engine.Progress)) (engine.Result, error) {
		err := os.WriteFile(filepath.Join(req.Dir, filepath.Base(file)), []byte(data), 0o600)
		return engine.Result{File: file, Ext: ext}, err
	}}
}

func fails(id engine.ID, err error) custom {
	return custom{id: id, run: func(context.Context, engine.Request, func(engine.Progress)) (engine.Result, error) {
		return engine.Result{}, err
	}}
}

func newRouter(t *testing.T, engines ...engine.Engine) *engine.Router {
	t.Helper()
	r, err := engine.NewRouter(slog.New(slog.DiscardHandler), engines...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// llmJob is a text job for an engine.
func llmJob(t *testing.T, id engine.ID) engine.Request {
	t.Helper()
	return engine.Request{
		JobID: "j1", Kind: engine.KindLLM, Model: "town-namer", Source: engine.Source{Engine: id},
		Dir: t.TempDir(), LLM: &engine.LLM{Messages: []engine.Message{{Role: "user", Content: "hi"}}},
	}
}

func imageJob(t *testing.T, id engine.ID) engine.Request {
	t.Helper()
	return engine.Request{
		JobID: "j2", Kind: engine.KindImage, Model: "painter", Source: engine.Source{Engine: id},
		Dir: t.TempDir(), Image: &engine.Image{Prompt: "x", Width: 64, Height: 64, Ext: "png"},
	}
}

// class returns the class of an error of the router.
func class(t *testing.T, err error) engine.Class {
	t.Helper()
	e, ok := errors.AsType[*engine.Error](err)
	if !ok {
		t.Fatalf("err = %v, want an *engine.Error", err)
	}
	return e.Class
}

func TestSpecRouting(t *testing.T) {
	t.Run("#108 an absent engine is named and never replaced", func(t *testing.T) {
		req := llmJob(t, "llama-cpp")
		_, err := newRouter(t, synthetic.New()).Run(t.Context(), req, nil)
		if class(t, err) != engine.ClassEngineMissing || !engine.Retryable(err) {
			t.Errorf("class %s, retryable %v", class(t, err), engine.Retryable(err))
		}
		if want := `llama-cpp engine is not in this build; model "town-namer" needs a worker that has it`; err.Error() != want {
			t.Errorf("text = %q, want %q", err, want)
		}
		if entries, err := os.ReadDir(req.Dir); err != nil || len(entries) != 0 {
			t.Errorf("something ran: %v, %v", entries, err)
		}
	})
	t.Run("#109 a model that no engine lists is refused", func(t *testing.T) {
		_, err := newRouter(t, synthetic.New()).Run(t.Context(), llmJob(t, ""), nil)
		if want := `no engine on this worker can serve model "town-namer"`; err == nil || err.Error() != want {
			t.Errorf("err = %v, want %q", err, want)
		}
	})
	t.Run("#110 the source's engine decides, whatever it lists", func(t *testing.T) {
		bare := writes("bare", "r.json", "json", `{"by":"bare"}`)
		req := llmJob(t, "bare")
		req.Model = "synthetic"
		res, err := newRouter(t, synthetic.New(), bare).Run(t.Context(), req, nil)
		if err != nil || res != (engine.Result{File: "r.json", Ext: "json"}) {
			t.Errorf("got %+v, %v", res, err)
		}
	})
	t.Run("#111 a wrapped unsupported kind stays final", func(t *testing.T) {
		inner := fmt.Errorf("prepare: %w", engine.UnsupportedKind("picky", engine.KindLLM))
		_, err := newRouter(t, fails("picky", inner)).Run(t.Context(), llmJob(t, "picky"), nil)
		err = fmt.Errorf("run job: %w", err)
		if engine.Retryable(err) || class(t, err) != engine.ClassUnsupportedKind {
			t.Errorf("err = %v, retryable %v", err, engine.Retryable(err))
		}
		if want := "run job: picky: prepare: picky engine cannot serve llm tasks"; err.Error() != want {
			t.Errorf("text = %q, want %q", err, want)
		}
	})
	t.Run("#112 the roster is logged once", func(t *testing.T) {
		var buf bytes.Buffer
		r, err := engine.NewRouter(slog.New(slog.NewJSONHandler(&buf, nil)), fails("espeak-ng", nil), synthetic.New())
		if err != nil {
			t.Fatal(err)
		}
		r.Models()
		var line struct {
			Level, Msg, Engines string
			Count               int `json:"engine_count"`
		}
		if err := json.Unmarshal(buf.Bytes(), &line); err != nil {
			t.Fatalf("%q: %v", buf.String(), err)
		}
		if line.Level != "INFO" || line.Engines != "espeak-ng,synthetic" || line.Count != 2 {
			t.Errorf("logged %+v", line)
		}
	})
}

func TestNewRouterRefuses(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for name, build := range map[string]func() (*engine.Router, error){
		"no engines": func() (*engine.Router, error) { return engine.NewRouter(log) },
		"no logger":  func() (*engine.Router, error) { return engine.NewRouter(nil, synthetic.New()) },
		"same id":    func() (*engine.Router, error) { return engine.NewRouter(log, synthetic.New(), synthetic.New()) },
		"empty id":   func() (*engine.Router, error) { return engine.NewRouter(log, fails("", nil)) },
	} {
		if _, err := build(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRouterModels(t *testing.T) {
	own := map[engine.Kind][]string{engine.KindTTS: {"z", "a", "synthetic"}}
	r := newRouter(t, custom{id: "one", models: own}, custom{id: "two"}, synthetic.New())
	got := r.Models()
	if want := []string{"a", "synthetic", "synthetic-tts", "z"}; !reflect.DeepEqual(got[engine.KindTTS], want) {
		t.Errorf("audio_tts = %q, want %q", got[engine.KindTTS], want)
	}
	if len(got) != len(engine.Kinds()) || !reflect.DeepEqual(own[engine.KindTTS], []string{"z", "a", "synthetic"}) {
		t.Errorf("got %v; the engine's own list is %v", got, own)
	}
}

func TestRouterRunsEveryKind(t *testing.T) {
	r := newRouter(t, synthetic.New())
	for _, kind := range engine.Kinds() {
		req := engine.Request{
			Kind: kind, Source: engine.Source{Engine: synthetic.ID}, Dir: t.TempDir(),
			Image: &engine.Image{}, LLM: &engine.LLM{}, STT: &engine.STT{}, TTS: &engine.TTS{}, Video: &engine.Video{},
		}
		if res, err := r.Run(t.Context(), req, func(engine.Progress) {}); err != nil || res.File != "result."+res.Ext && (res.File != "" || res.JSON == "") {
			t.Errorf("%s: %+v, %v", kind, res, err)
		}
		req.Image, req.LLM, req.STT, req.TTS, req.Video = nil, nil, nil, nil, nil
		if _, err := r.Run(t.Context(), req, nil); err == nil || class(t, err) != engine.ClassBadInput || engine.Retryable(err) {
			t.Errorf("%s without parameters: %v", kind, err)
		}
	}
	_, err := r.Run(t.Context(), engine.Request{Kind: "dance", Source: engine.Source{Engine: synthetic.ID}}, nil)
	if err == nil || engine.Retryable(err) {
		t.Errorf("unknown kind: %v", err)
	}
}

func TestRouterRecoversPanic(t *testing.T) {
	bad := custom{id: "bad", run: func(context.Context, engine.Request, func(engine.Progress)) (engine.Result, error) {
		panic("index out of range")
	}}
	_, err := newRouter(t, bad).Run(t.Context(), llmJob(t, "bad"), nil)
	if class(t, err) != engine.ClassInternal || !engine.Retryable(err) || err.Error() != "bad engine panicked: index out of range" {
		t.Errorf("err = %v", err)
	}
}

func TestRouterCancelled(t *testing.T) {
	cause := errors.New("the worker shuts down")
	t.Run("before", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		_, err := newRouter(t, synthetic.New()).Run(ctx, llmJob(t, synthetic.ID), nil)
		if !errors.Is(err, cause) || class(t, err) != engine.ClassCancelled || !engine.Retryable(err) {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("while it runs", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		waits := custom{id: "waits", run: func(ctx context.Context, _ engine.Request, p func(engine.Progress)) (engine.Result, error) {
			p(engine.Progress{})
			<-ctx.Done()
			return engine.Result{}, errors.New("pipe closed")
		}}
		_, err := newRouter(t, waits).Run(ctx, llmJob(t, "waits"), func(engine.Progress) { cancel(cause) })
		if !errors.Is(err, cause) || err.Error() != "waits: cancelled: the worker shuts down" {
			t.Errorf("err = %v", err)
		}
	})
}

func TestRouterClampsProgress(t *testing.T) {
	loud := custom{id: "loud", run: func(ctx context.Context, req engine.Request, p func(engine.Progress)) (engine.Result, error) {
		p(engine.Progress{Step: 272, Total: 100, Text: "a\r\nb  c"})
		p(engine.Progress{Step: -1, Total: -1, Text: strings.Repeat("é", 300)})
		p(engine.Progress{Step: 7})
		return writes("", "r.json", "json", "{}").run(ctx, req, nil)
	}}
	var got []engine.Progress
	_, err := newRouter(t, loud).Run(t.Context(), llmJob(t, "loud"), func(p engine.Progress) { got = append(got, p) })
	want := []engine.Progress{{Step: 100, Total: 100, Text: "a b c"}, {Text: strings.Repeat("é", 199) + "…"}, {Step: 7}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// says is an engine that has its result in memory.
func says(text, ext string) custom {
	return custom{id: "e", run: func(context.Context, engine.Request, func(engine.Progress)) (engine.Result, error) {
		return engine.Result{JSON: text, Ext: ext}, nil
	}}
}

// Fault rows 21 and 22: no result, an empty one, a wrong one.
func TestRouterChecksResult(t *testing.T) {
	png := "\x89PNG\r\n\x1a\n and more"
	for name, c := range map[string]struct {
		engine custom
		kind   engine.Kind
		want   string // part of the error; empty for none
	}{
		"good png":       {writes("e", "r.png", "png", png), engine.KindImage, ""},
		"good webp":      {writes("e", "r.webp", "webp", "RIFF\x04\x00\x00\x00WEBPVP8L"), engine.KindImage, ""},
		"good jpg":       {writes("e", "r.jpg", "jpg", "\xff\xd8\xff\xe0\x00\x10JFIF"), engine.KindImage, ""},
		"good bmp":       {writes("e", "r.bmp", "bmp", "BM\x00\x00"), engine.KindImage, ""},
		"good gif":       {writes("e", "r.gif", "gif", "GIF89a"), engine.KindImage, ""},
		"good mp4":       {writes("e", "r.mp4", "mp4", "\x00\x00\x00\x20ftypisom"), engine.KindImage, ""},
		"good webm":      {writes("e", "r.webm", "webm", "\x1a\x45\xdf\xa3"), engine.KindImage, ""},
		"mp3 with a tag": {writes("e", "r.mp3", "mp3", "ID3\x03"), engine.KindImage, ""},
		"bare mp3":       {writes("e", "r.mp3", "mp3", "\xff\xfb\x90"), engine.KindImage, ""},
		"good ogg":       {writes("e", "r.ogg", "ogg", "OggS\x00"), engine.KindImage, ""},
		"good flac":      {writes("e", "r.flac", "flac", "fLaC\x00"), engine.KindImage, ""},
		"png as jpg":     {writes("e", "r.jpg", "jpg", png), engine.KindImage, "not in jpg format"},
		"short mp4":      {writes("e", "r.mp4", "mp4", "ftyp"), engine.KindImage, "not in mp4 format"},
		"half an mp3":    {writes("e", "r.mp3", "mp3", "\xff"), engine.KindImage, "not in mp3 format"},
		"good json":      {writes("e", "r.json", "json", `{"a":1}`), engine.KindLLM, ""},
		"empty":          {writes("e", "r.png", "png", ""), engine.KindImage, "result r.png is empty"},
		"wrong type":     {writes("e", "r.webp", "webp", png), engine.KindImage, "not in webp format"},
		"wav as webp":    {writes("e", "r.webp", "webp", "RIFF\x04\x00\x00\x00WAVEfmt "), engine.KindImage, "not in webp format"},
		"webp as wav":    {writes("e", "r.wav", "wav", "RIFF\x04\x00\x00\x00WEBPVP8L"), engine.KindImage, "not in wav format"},
		"one byte":       {writes("e", "r.png", "png", "\x89"), engine.KindImage, "not in png format"},
		"unknown format": {writes("e", "r.xyz", "xyz", "data"), engine.KindImage, "not one this worker knows"},
		"json image":     {writes("e", "r.json", "json", "{}"), engine.KindImage, "cannot be"},
		"png text":       {writes("e", "r.png", "png", png), engine.KindLLM, "cannot be"},
		"bad json":       {writes("e", "r.json", "json", `{"a":`), engine.KindLLM, "not a JSON object"},
		"json null":      {writes("e", "r.json", "json", `null`), engine.KindLLM, "not a JSON object"},
		"huge json":      {writes("e", "r.json", "json", `{"a":"`+strings.Repeat("x", 15<<20)+`"}`), engine.KindLLM, "longer than"},
		"outside":        {writes("e", "../r.png", "png", png), engine.KindImage, "not a plain name"},
		"backslash":      {writes("e", `a\r.png`, "png", png), engine.KindImage, "not a plain name"},
		"no name": {custom{id: "e", run: func(context.Context, engine.Request, func(engine.Progress)) (engine.Result, error) {
			return engine.Result{Ext: "png"}, nil
		}}, engine.KindImage, "not a plain name"},
		"missing": {custom{id: "e", run: func(context.Context, engine.Request, func(engine.Progress)) (engine.Result, error) {
			return engine.Result{File: "r.png", Ext: "png"}, nil
		}}, engine.KindImage, "left no result"},
		"folder": {custom{id: "e", run: func(_ context.Context, req engine.Request, _ func(engine.Progress)) (engine.Result, error) {
			return engine.Result{File: "r.png", Ext: "png"}, os.Mkdir(filepath.Join(req.Dir, "r.png"), 0o700)
		}}, engine.KindImage, "not a regular file"},
		"link": {custom{id: "e", run: func(_ context.Context, req engine.Request, _ func(engine.Progress)) (engine.Result, error) {
			return engine.Result{File: "r.png", Ext: "png"}, os.Symlink("/etc/hostname", filepath.Join(req.Dir, "r.png"))
		}}, engine.KindImage, "not a regular file"},
		"text":              {says(`{"a":1}`, "json"), engine.KindLLM, ""},
		"text after blanks": {says(" \n\t{}", "json"), engine.KindLLM, ""},
		"text, an array":    {says(`[{}]`, "json"), engine.KindLLM, "not a JSON object"},
		"text, two objects": {says(`{}{}`, "json"), engine.KindLLM, "not a JSON object"},
		"text, huge":        {says(`{"a":"`+strings.Repeat("x", 15<<20)+`"}`, "json"), engine.KindLLM, "longer than"},
		"text, a picture":   {says(`{"a":1}`, "png"), engine.KindImage, "must be a file"},
		"text and a file": {custom{id: "e", run: func(context.Context, engine.Request, func(engine.Progress)) (engine.Result, error) {
			return engine.Result{File: "r.json", JSON: "{}", Ext: "json"}, nil
		}}, engine.KindLLM, "both file"},
	} {
		t.Run(name, func(t *testing.T) {
			req := imageJob(t, "e")
			if c.kind == engine.KindLLM {
				req = llmJob(t, "e")
			}
			_, err := newRouter(t, c.engine).Run(t.Context(), req, nil)
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !engine.Retryable(err) {
				t.Errorf("err = %v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), req.Dir) {
				t.Errorf("text shows the folder: %q", err)
			}
		})
	}
	t.Run("no folder", func(t *testing.T) {
		req := imageJob(t, "e")
		none := custom{id: "e", run: func(_ context.Context, req engine.Request, _ func(engine.Progress)) (engine.Result, error) {
			return engine.Result{File: "r.png", Ext: "png"}, os.Remove(req.Dir)
		}}
		if _, err := newRouter(t, none).Run(t.Context(), req, nil); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("err = %v", err)
		}
	})
}
