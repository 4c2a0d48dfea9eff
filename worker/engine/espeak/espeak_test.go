package espeak

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"studioworker/worker/engine"
)

// fakeMode makes the test binary a fake espeak-ng. Its name is one that the
// allow-list of the environment lets through.
const fakeMode = "XDG_TEST_FAKE_ESPEAK"

// fakeCount names a file to which the fake adds a line for each --voices.
const fakeCount = "XDG_TEST_FAKE_COUNT"

func TestMain(m *testing.M) {
	if mode := os.Getenv(fakeMode); mode != "" {
		os.Exit(fake(mode, os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// fake behaves as the real program does in one respect.
func fake(mode string, args []string) int {
	if slices.Equal(args, []string{"--voices"}) {
		switch mode {
		case "broken list":
			fmt.Fprintln(os.Stderr, "cannot read data")
			return 1
		case "empty list":
			return 0
		}
		if count := os.Getenv(fakeCount); count != "" {
			if file, err := os.OpenFile(count, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
				fmt.Fprintln(file, "asked")
				_ = file.Close()
			}
		}
		fmt.Println(heading + "\n 2  en-gb  --/M  English_(Great_Britain)  gmw/en  (en 2)")
		return 0
	}
	switch mode {
	case "arguments": // tells what it was asked, and its input
		text, err := os.ReadFile("text.txt")
		if err != nil {
			return 1
		}
		fmt.Println(strings.Join(args, "|"))
		if err := os.WriteFile("result.wav", text, 0o600); err != nil {
			return 1
		}
		return 0
	case "no voice":
		fmt.Fprintln(os.Stderr, "Error: The specified espeak-ng voice does not exist.")
		return 1
	case "full disk":
		fmt.Fprintln(os.Stderr, "could not write the file")
		return 1
	case "no result":
		return 0
	case "no library":
		fmt.Fprintln(os.Stderr, "espeak-ng: error while loading shared libraries: libespeak-ng.so.1: cannot open")
		return 127
	case "hang":
		fmt.Println("hanging")
		time.Sleep(time.Hour)
		return 0
	default:
		return 99
	}
}

// faked is an engine over the fake.
func faked(t *testing.T, mode string, log *slog.Logger) *Engine {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return New(Config{Log: log, Variable: self, Environ: append(os.Environ(), fakeMode+"="+mode)})
}

// installed is an engine over the program of this machine.
func installed(t *testing.T) *Engine {
	t.Helper()
	e := New(Config{Path: os.Getenv("PATH"), Variable: os.Getenv("STUDIO_WORKER_ESPEAK"), Environ: os.Environ()})
	if len(e.Models()) == 0 {
		t.Fatal("espeak-ng is not installed; the setup of this repository installs it")
	}
	return e
}

func job(t *testing.T, tts engine.TTS) engine.Request {
	t.Helper()
	return engine.Request{
		JobID: "j1", Kind: engine.KindTTS, Model: string(ID), Source: engine.Source{Engine: ID}, Dir: t.TempDir(), TTS: &tts,
	}
}

// run does one job through a router, as the worker does.
func run(ctx context.Context, t *testing.T, e *Engine, req engine.Request) (engine.Result, error) {
	t.Helper()
	r, err := engine.NewRouter(slog.New(slog.DiscardHandler), e)
	if err != nil {
		t.Fatal(err)
	}
	return r.Run(ctx, req, func(engine.Progress) {})
}

// seconds runs a job and returns the length of its sound, after a look at the
// header.
func seconds(t *testing.T, e *Engine, tts engine.TTS) float64 {
	t.Helper()
	req := job(t, tts)
	res, err := run(t.Context(), t, e, req)
	if err != nil {
		t.Fatal(err)
	}
	if res != (engine.Result{File: "result.wav", Ext: "wav"}) {
		t.Errorf("result = %+v", res)
	}
	entries, err := os.ReadDir(req.Dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("folder holds %v, %v; want only the result", entries, err)
	}
	data, err := os.ReadFile(filepath.Join(req.Dir, res.File))
	if err != nil {
		t.Fatal(err)
	}
	if len(data) < 44 || string(data[:4]) != "RIFF" || string(data[8:16]) != "WAVEfmt " ||
		binary.LittleEndian.Uint16(data[22:]) != 1 || binary.LittleEndian.Uint32(data[24:]) != 22050 ||
		binary.LittleEndian.Uint16(data[34:]) != 16 {
		t.Fatalf("%d bytes, header %q", len(data), data[:min(44, len(data))])
	}
	return float64(len(data)-44) / 2 / 22050
}

func TestReal(t *testing.T) {
	e := installed(t)
	const sentence = "The lighthouse keeper counts the ships that pass at dawn."
	natural := seconds(t, e, engine.TTS{Text: sentence, Voice: "default", Ext: "mp3"})
	if natural < 2 || natural > 6 {
		t.Errorf("natural speech takes %.2f s", natural)
	}
	if fast := seconds(t, e, engine.TTS{Text: sentence, Speed: 2}); fast > natural*0.7 {
		t.Errorf("double speed takes %.2f s, natural %.2f s", fast, natural)
	}
	if slow := seconds(t, e, engine.TTS{Text: sentence, Speed: 0.5}); slow < natural*1.5 {
		t.Errorf("half speed takes %.2f s, natural %.2f s", slow, natural)
	}
	for name, tts := range map[string]engine.TTS{
		"unknown voice":        {Text: "hello", Voice: "nobody"},
		"unknown language":     {Text: "hello", Language: "xx"},
		"language":             {Text: "bonjour", Language: "fr"},
		"voice by name":        {Text: "hello", Voice: "English (America)"},
		"voice by listed name": {Text: "hello", Voice: "English_(America)"},
		"voice by file":        {Text: "hello", Voice: "gmw/en-US"},
		"other case":           {Text: "hello", Voice: "EN-us"},
		"starts with a dash":   {Text: "--voices"},
		"phonemes":             {Text: "see [[ and [[["},
		"other letters":        {Text: "grüße, señor; 東京"},
		"NUL":                  {Text: "one\x00two"},
	} {
		t.Run(name, func(t *testing.T) {
			if took := seconds(t, e, tts); took < 0.2 {
				t.Errorf("speech takes %.2f s", took)
			}
		})
	}
	t.Run("a long text", func(t *testing.T) {
		if took := seconds(t, e, engine.TTS{Text: strings.Repeat("sea ", textLimit/4), Speed: 4}); took < 60 {
			t.Errorf("speech takes %.2f s", took)
		}
	})
}

func TestBadInput(t *testing.T) {
	e := faked(t, "arguments", nil)
	for name, c := range map[string]struct{ text, want string }{
		"empty":    {"", "espeak-ng: the text is empty"},
		"blank":    {" \n\t\x00\x01", "espeak-ng: the text is empty"},
		"overlong": {strings.Repeat("é", textLimit+1), "espeak-ng: the text is longer than 20000 characters"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := run(t.Context(), t, e, job(t, engine.TTS{Text: c.text}))
			if err == nil || err.Error() != c.want || engine.Retryable(err) {
				t.Errorf("err = %v, want %q", err, c.want)
			}
		})
	}
	t.Run("other kind", func(t *testing.T) {
		req := job(t, engine.TTS{})
		req.Kind, req.Video = engine.KindVideo, &engine.Video{}
		_, err := run(t.Context(), t, e, req)
		if err == nil || err.Error() != "espeak-ng engine cannot serve video tasks" || engine.Retryable(err) {
			t.Errorf("err = %v", err)
		}
	})
}

func TestArguments(t *testing.T) {
	var buf bytes.Buffer
	e := faked(t, "arguments", slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{Level: slog.LevelDebug})))
	req := job(t, engine.TTS{Text: " -x [[a]] \x01+10S", Voice: "en", Speed: 1.5})
	res, err := e.Run(t.Context(), req, func(engine.Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	if want := "-v|en|-s|263|-f|text.txt|-w|result.wav"; !strings.Contains(buf.String(), want) {
		t.Errorf("logged %q, want %q in it", buf.String(), want)
	}
	got, err := os.ReadFile(filepath.Join(req.Dir, res.File))
	if err != nil || string(got) != "-x [ [a]] +10S\n" {
		t.Errorf("text = %q, %v", got, err)
	}
}

func TestFailures(t *testing.T) {
	for mode, c := range map[string]struct {
		class engine.Class
		want  string // part of the text
	}{
		"no voice":    {engine.ClassBadInput, "voice does not exist."},
		"full disk":   {engine.ClassEngineCrash, "ended with code 1: could not write the file"},
		"no result":   {engine.ClassInternal, "left no result"},
		"no library":  {engine.ClassEngineMissing, "lacks a library"},
		"broken list": {engine.ClassEngineCrash, "list voices: "},
		"empty list":  {engine.ClassInternal, "lists no voices"},
	} {
		t.Run(mode, func(t *testing.T) {
			req := job(t, engine.TTS{Text: "hello"})
			_, err := run(t.Context(), t, faked(t, mode, nil), req)
			failed, ok := errors.AsType[*engine.Error](err)
			if !ok || failed.Class != c.class || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), req.Dir) {
				t.Errorf("err = %v", err)
			}
			if entries, err := os.ReadDir(req.Dir); err != nil || len(entries) != 0 {
				t.Errorf("left %v, %v", entries, err)
			}
		})
	}
}

func TestCancel(t *testing.T) {
	cause := errors.New("the person pressed stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	e := faked(t, "hang", slog.New(stopper{cancel: func() { cancel(cause) }}))
	req := job(t, engine.TTS{Text: "hello"})
	_, err := run(ctx, t, e, req)
	if !errors.Is(err, cause) || !engine.Retryable(err) {
		t.Errorf("err = %v, want the cause", err)
	}
	if entries, err := os.ReadDir(req.Dir); err != nil || len(entries) != 0 {
		t.Errorf("left %v, %v", entries, err)
	}
}

// stopper is a log handler that cancels at the first line.
type stopper struct {
	slog.Handler
	cancel func()
}

func (stopper) Enabled(context.Context, slog.Level) bool { return true }
func (s stopper) Handle(context.Context, slog.Record) error {
	s.cancel()
	return nil
}

func TestFind(t *testing.T) {
	folder := func(mode os.FileMode) (dir, program string) {
		dir = t.TempDir()
		program = filepath.Join(dir, "espeak-ng")
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
		return dir, program
	}
	onPath, pathProgram := folder(0o700)
	noProgram, _ := folder(0o600)
	home := t.TempDir()
	local := filepath.Join(home, ".local", "bin")
	if err := os.MkdirAll(local, 0o700); err != nil {
		t.Fatal(err)
	}
	homeProgram := filepath.Join(local, "espeak-ng")
	if err := os.WriteFile(homeProgram, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, named := folder(0o700)
	list := strings.Join([]string{noProgram, "relative", onPath}, string(filepath.ListSeparator))
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"variable first":      {Config{Variable: named, Home: home, Path: list}, named},
		"variable no file":    {Config{Variable: home, Home: home, Path: list}, homeProgram},
		"home before path":    {Config{Home: home, Path: list}, homeProgram},
		"path":                {Config{Home: noProgram, Path: list}, pathProgram},
		"not executable":      {Config{Path: noProgram}, ""},
		"nothing":             {Config{}, ""},
		"variable is missing": {Config{Variable: filepath.Join(home, "none")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			e := New(c.cfg)
			if got := e.find(); got != c.want {
				t.Errorf("found %q, want %q", got, c.want)
			}
			names := e.Models()[engine.KindTTS]
			if (c.want != "") != slices.Equal(names, []string{"espeak-ng"}) {
				t.Errorf("advertises %q", names)
			}
		})
	}
	t.Run("a job without the program", func(t *testing.T) {
		_, err := run(t.Context(), t, New(Config{}), job(t, engine.TTS{Text: "hello"}))
		if err == nil || err.Error() != "espeak-ng is not installed on this worker" || !engine.Retryable(err) {
			t.Errorf("err = %v", err)
		}
	})
}
