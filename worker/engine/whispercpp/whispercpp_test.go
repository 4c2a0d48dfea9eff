package whispercpp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"studioworker/worker/engine"
	"studioworker/worker/engine/media"
	"studioworker/worker/engine/program"
	"studioworker/worker/engine/supply"
)

// What makes the test binary a whisper-cli. The names are ones that the
// allow-list of the environment lets through.
const (
	fakeMode  = "XDG_TEST_FAKE_WHISPER"
	fakeTrace = "XDG_TEST_FAKE_WHISPER_TRACE"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(fakeMode); mode != "" {
		// Not os.Exit: with the race detector that takes a second.
		syscall.Exit(fake(mode, os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// spoken is what the program writes for a sentence in two stretches. A character
// is split over two tokens, and a control character is in a string.
const spoken = `{"result":{"language":"de"},"transcription":[
{"timestamps":{"from":"00:00:00,000","to":"00:00:01,500"},"offsets":{"from":0,"to":1500},"text":" Guten Tag,","tokens":[
{"text":"[_BEG_]","offsets":{"from":0,"to":0},"id":50364,"p":0.99,"t_dtw":-1},
{"text":" Gut","offsets":{"from":10,"to":400},"p":0.9},{"text":"en","offsets":{"from":400,"to":700},"p":0.8},
{"text":" Tag","offsets":{"from":700,"to":1400},"p":0.95},{"text":",","offsets":{"from":1400,"to":1500},"p":0.7}]},
{"offsets":{"from":1500,"to":2750},"text":" gr` + "\xc3\xbc" + `n` + "\x01" + `\"e","tokens":[
{"text":" gr` + "\xc3" + `","offsets":{"from":1500,"to":1700},"p":0.6},{"text":"` + "\xbc" + `n","offsets":{"from":1700,"to":2750},"p":0.5}]}]}`

func fake(mode string, args []string) int {
	if slices.Equal(args, []string{"--help"}) {
		fmt.Println("usage: whisper-cli [options] file0")
		return 0
	}
	if trace := os.Getenv(fakeTrace); trace != "" {
		file, err := os.OpenFile(trace, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return 70
		}
		fmt.Fprintln(file, strings.Join(args, "|"))
		if err := file.Close(); err != nil {
			return 70
		}
	}
	value := func(flag string) string {
		if i := slices.Index(args, flag); i >= 0 && i+1 < len(args) {
			return args[i+1]
		}
		return ""
	}
	write := func(text string) int {
		if err := os.WriteFile(value("-of")+".json", []byte(text), 0o600); err != nil {
			return 70
		}
		return 0
	}
	switch mode {
	case "unreadable":
		fmt.Fprintln(os.Stderr, "error: failed to read audio data")
		return 0
	case "language":
		fmt.Fprintln(os.Stderr, "error: unknown language 'xx'")
		fmt.Println("usage: whisper-cli [options]")
		return 0
	case "nothing":
		return 0
	case "bad json":
		return write(`{"result":`)
	case "decode":
		fmt.Fprintln(os.Stderr, "whisper-cli: failed to process audio")
		return 10
	case "bad model":
		data, err := os.ReadFile(value("-m"))
		if err != nil || string(data) == "bad" {
			fmt.Fprintln(os.Stderr, "error: failed to initialize whisper context")
			return 3
		}
		return write(spoken)
	case "memory":
		fmt.Fprintln(os.Stderr, "loading")
		return 137
	case "hang":
		fmt.Fprintln(os.Stderr, "whisper_print_progress_callback: progress =   5%")
		time.Sleep(time.Hour)
		return 0
	case "silence":
		return write(`{"result":{"language":"en"},"transcription":[]}`)
	default:
		fmt.Fprintln(os.Stderr, "whisper_print_progress_callback: progress =  35%")
		fmt.Fprintln(os.Stderr, "whisper_print_progress_callback: progress = 272%")
		return write(spoken)
	}
}

// shelf is a models folder.
type shelf struct {
	dir   string
	doubt func(path string) (bool, error)
}

func (s shelf) Ensure(_ context.Context, set supply.Set, _ func(engine.Progress)) (*supply.Held, error) {
	if set.Folder != "stt" {
		return nil, fmt.Errorf("folder %q", set.Folder)
	}
	held := &supply.Held{Set: set, Release: func() {}}
	for _, f := range set.Files {
		held.Paths = append(held.Paths, filepath.Join(s.dir, f.Filename))
	}
	if s.doubt != nil {
		held.Doubt = func(context.Context) (bool, error) { return s.doubt(held.Paths[0]) }
	}
	return held, nil
}

// tape is where sounds come from.
type tape map[string][]byte

func (tape) Image(context.Context, string, string, string) (string, error) {
	return "", errors.New("a sound is no picture")
}

func (s tape) Audio(_ context.Context, url, dir, base string) (string, error) {
	data, ok := s[url]
	if !ok {
		return "", engine.BadInput("GET " + url + " -> 404")
	}
	path := filepath.Join(dir, base+".wav")
	return path, os.WriteFile(path, data, 0o600)
}

// newEngine is an engine over the fake, without ffmpeg.
func newEngine(t *testing.T, mode, trace string) (*Engine, shelf) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := shelf{dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(s.dir, "ggml-base.bin"), []byte("bad"), 0o600); err != nil {
		t.Fatal(err)
	}
	return New(Config{
		Tool: &program.Tool{
			Places: program.Places{Environ: append(os.Environ(), fakeMode+"="+mode, fakeTrace+"="+trace)}, Ask: []string{"--help"}, Version: VersionOf,
			Query: func() program.Query { return program.Query{Name: "whisper-cli", Variable: self} },
		},
		Models: s, Sound: media.FFmpeg{Tool: &program.Tool{Query: func() program.Query { return program.Query{Name: "ffmpeg"} }}},
		Inputs: tape{
			"https://sounds.example/a.wav": media.WAV(8000, make([]float32, 22000)), "https://sounds.example/empty.wav": media.WAV(8000, nil),
			"https://sounds.example/a.mp3": []byte("ID3 not a WAV"),
		},
	}), s
}

func job(t *testing.T) engine.Request {
	t.Helper()
	return engine.Request{
		JobID: "j1", Kind: engine.KindSTT, Model: "base", Dir: t.TempDir(), STT: &engine.STT{InputURL: "https://sounds.example/a.wav"},
		Source: engine.Source{Engine: ID, Files: []engine.File{{Role: "model", Filename: "ggml-base.bin", URL: "https://models.example/ggml-base.bin"}}},
	}
}

// run does one job through a router, as the worker does.
func run(ctx context.Context, t *testing.T, e *Engine, req engine.Request, progress func(engine.Progress)) (string, error) {
	t.Helper()
	r, err := engine.NewRouter(slog.New(slog.DiscardHandler), e)
	if err != nil {
		t.Fatal(err)
	}
	res, err := r.Run(ctx, req, progress)
	entries, dirErr := os.ReadDir(req.Dir)
	if err != nil {
		if dirErr != nil || len(entries) != 0 {
			t.Errorf("left %v, %v", entries, dirErr)
		}
		return "", err
	}
	if dirErr != nil || len(entries) != 0 || res.File != "" || res.Ext != "json" {
		t.Fatalf("folder holds %v, %v; result %+v", entries, dirErr, res)
	}
	return res.JSON, nil
}

func TestResult(t *testing.T) {
	const segments = `"segments":[{"id":0,"start":0,"end":1.5,"text":"Guten Tag,"},{"id":1,"start":1.5,"end":2.75,"text":"grün \"e"}]`
	for timestamps, want := range map[string]string{
		"":        `{"text":"Guten Tag, grün \"e","language":"de","duration":2.75}`,
		"segment": `{"text":"Guten Tag, grün \"e","language":"de","duration":2.75,` + segments + `}`,
		"word": `{"text":"Guten Tag, grün \"e","language":"de","duration":2.75,` + segments + `,"words":[` +
			`{"word":"Guten","start":0.01,"end":0.7,"probability":0.8},{"word":"Tag,","start":0.7,"end":1.5,"probability":0.7},` +
			`{"word":"grün","start":1.5,"end":2.75,"probability":0.5}]}`,
	} {
		t.Run(timestamps, func(t *testing.T) {
			e, _ := newEngine(t, "speech", "")
			req := job(t)
			req.STT.Timestamps = timestamps
			var got []engine.Progress
			text, err := run(t.Context(), t, e, req, func(p engine.Progress) { got = append(got, p) })
			if err != nil || text != want {
				t.Errorf("got %s, %v\nwant %s", text, err, want)
			}
			if want := []engine.Progress{
				{Total: 100, Text: "fetching the sound"}, {Total: 100, Text: "listening"}, {Step: 35, Total: 100, Text: "listening"}, {Step: 100, Total: 100, Text: "listening"},
			}; !slices.Equal(got, want) {
				t.Errorf("progress %+v", got)
			}
		})
	}
	t.Run("silence", func(t *testing.T) {
		e, _ := newEngine(t, "silence", "")
		req := job(t)
		req.STT.Timestamps = "word"
		if text, err := run(t.Context(), t, e, req, nil); err != nil || text != `{"text":"","language":"en","duration":2.75,"segments":[],"words":[]}` {
			t.Errorf("got %s, %v", text, err)
		}
	})
}

func TestArguments(t *testing.T) {
	for name, c := range map[string]struct {
		change func(e *Engine, req *engine.Request)
		want   string // MODELS, WORK and T stand for the folders and the threads
	}{
		"plain":       {func(*Engine, *engine.Request) {}, "-m|MODELS/ggml-base.bin|-f|WORK/speech.wav|-l|en|-oj|-of|WORK/speech|-np|-pp|-t|T"},
		"auto":        {func(_ *Engine, r *engine.Request) { r.STT.Language = "auto" }, "-m|MODELS/ggml-base.bin|-f|WORK/speech.wav|-l|auto|-oj|-of|WORK/speech|-np|-pp|-t|T"},
		"with region": {func(_ *Engine, r *engine.Request) { r.STT.Language = "pt-BR" }, "-m|MODELS/ggml-base.bin|-f|WORK/speech.wav|-l|pt|-oj|-of|WORK/speech|-np|-pp|-t|T"},
		"everything": {func(e *Engine, r *engine.Request) {
			*r.STT = engine.STT{InputURL: r.STT.InputURL, Language: "de", Translate: true, Prompt: "-x ships", VAD: true, Timestamps: "word"}
			r.Source.Files = append(r.Source.Files, engine.File{Role: "model", Filename: "silero-v6.bin"})
			e.cfg.CPU = func() bool { return true }
		}, "-m|MODELS/ggml-base.bin|-f|WORK/speech.wav|-l|de|-ojf|-of|WORK/speech|-np|-pp|-t|T|-tr|--prompt|-x ships|--vad|-vm|MODELS/silero-v6.bin|-ng"},
		"an English model": {func(_ *Engine, r *engine.Request) {
			r.Source.Files[0].Filename = "ggml-tiny.en.bin"
			r.STT.Language, r.STT.Translate, r.STT.VAD = "de", true, true
		}, "-m|MODELS/ggml-tiny.en.bin|-f|WORK/speech.wav|-l|en|-oj|-of|WORK/speech|-np|-pp|-t|T"},
	} {
		t.Run(name, func(t *testing.T) {
			trace := filepath.Join(t.TempDir(), "trace")
			e, s := newEngine(t, "speech", trace)
			req := job(t)
			c.change(e, &req)
			if _, err := run(t.Context(), t, e, req, nil); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(trace)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Split(strings.NewReplacer(s.dir, "MODELS", filepath.Join(req.Dir, "work"), "WORK").Replace(strings.TrimSpace(string(data))), "|")
			if i := slices.Index(got, "-t"); i > 0 {
				got[i+1] = "T"
			}
			if want := strings.Split(c.want, "|"); !slices.Equal(got, want) {
				t.Errorf("arguments\n%q\nwant\n%q", got, want)
			}
		})
	}
}

func TestVADFolder(t *testing.T) {
	dir := t.TempDir()
	e, s := newEngine(t, "speech", "")
	e.cfg.VAD = func() string { return dir }
	held, err := s.Ensure(t.Context(), supply.Set{Folder: "stt", Files: job(t).Source.Files}, nil)
	if err != nil || e.vad(held) != "" {
		t.Fatalf("found %q in an empty folder, %v", e.vad(held), err)
	}
	path := filepath.Join(dir, "ggml-silero.bin")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := e.vad(held); got != path {
		t.Errorf("found %q, want %q", got, path)
	}
}

func TestBadInput(t *testing.T) {
	for name, c := range map[string]struct {
		mode   string
		change func(req *engine.Request)
		want   string
	}{
		"language":    {"", func(r *engine.Request) { r.STT.Language = "--help" }, "the language is not one that whisper knows; use a code like en, or auto"},
		"timestamps":  {"", func(r *engine.Request) { r.STT.Timestamps = "letter" }, `timestamps must be "segment" or "word"`},
		"prompt":      {"", func(r *engine.Request) { r.STT.Prompt = strings.Repeat("x", 5000) }, "the prompt is longer than 4096 bytes or holds a zero byte"},
		"no model":    {"", func(r *engine.Request) { r.Source.Files[0].Filename = "silero-vad.bin" }, "the model has no file of role model that ends in .bin; it must be published anew"},
		"gone":        {"", func(r *engine.Request) { r.STT.InputURL = "https://sounds.example/gone" }, "GET https://sounds.example/gone -> 404"},
		"empty sound": {"", func(r *engine.Request) { r.STT.InputURL = "https://sounds.example/empty.wav" }, "the sound is empty"},
		"no WAV": {
			"", func(r *engine.Request) { r.STT.InputURL = "https://sounds.example/a.mp3" },
			"the sound is not a WAV with 16- or 32-bit samples; other formats need ffmpeg on this worker",
		},
		"unreadable":       {"unreadable", func(*engine.Request) {}, "whisper-cli wrote no text: failed to read audio data"},
		"unknown language": {"language", func(*engine.Request) {}, "whisper-cli wrote no text: unknown language 'xx'"},
	} {
		t.Run(name, func(t *testing.T) {
			e, _ := newEngine(t, c.mode+" ", "")
			if c.mode != "" {
				e, _ = newEngine(t, c.mode, "")
			}
			req := job(t)
			c.change(&req)
			_, err := run(t.Context(), t, e, req, nil)
			if err == nil || err.Error() != "whisper-cpp: "+c.want || engine.Retryable(err) {
				t.Errorf("err = %v, want %q", err, c.want)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	for mode, c := range map[string]struct {
		class engine.Class
		want  string
	}{
		"nothing":   {engine.ClassEngineCrash, "ended well but wrote no text"},
		"bad json":  {engine.ClassEngineCrash, "what whisper-cli wrote cannot be read"},
		"decode":    {engine.ClassEngineCrash, "ended with code 10: whisper-cli: failed to process audio"},
		"memory":    {engine.ClassOutOfMemory, "killed, most likely for memory"},
		"bad model": {engine.ClassModelCorrupt, "the model cannot be loaded: "},
	} {
		t.Run(mode, func(t *testing.T) {
			e, _ := newEngine(t, mode, "")
			_, err := run(t.Context(), t, e, job(t), nil)
			failed, ok := errors.AsType[*engine.Error](err)
			if !ok || failed.Class != c.class || !strings.Contains(err.Error(), c.want) || engine.Retryable(err) != (c.class != engine.ClassModelCorrupt) {
				t.Errorf("err = %v (%+v)", err, failed)
			}
		})
	}
	t.Run("a bad model is fetched once", func(t *testing.T) {
		e, s := newEngine(t, "bad model", "")
		asked := 0
		s.doubt = func(path string) (bool, error) {
			asked++
			return true, os.WriteFile(path, []byte("good"), 0o600)
		}
		e.cfg.Models = s
		if _, err := run(t.Context(), t, e, job(t), nil); err != nil || asked != 1 {
			t.Errorf("err = %v after %d looks", err, asked)
		}
	})
	t.Run("not installed", func(t *testing.T) {
		e := New(Config{Tool: &program.Tool{Query: func() program.Query { return program.Query{Name: "whisper-cli"} }, Fix: "install it"}})
		if got := e.Models(); len(got) != 0 {
			t.Errorf("advertises %v", got)
		}
		if _, err := run(t.Context(), t, e, job(t), nil); err == nil || err.Error() != "whisper-cpp: whisper-cli is not installed; install it" || !engine.Retryable(err) {
			t.Errorf("err = %v", err)
		}
	})
}

func TestCancel(t *testing.T) {
	cause := errors.New("the person pressed stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	e, _ := newEngine(t, "hang", "")
	_, err := run(ctx, t, e, job(t), func(p engine.Progress) {
		if p.Step > 0 {
			cancel(cause)
		}
	})
	if !errors.Is(err, cause) || !engine.Retryable(err) {
		t.Errorf("err = %v, want the cause", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(spoken))
	f.Add([]byte("{\"transcription\":[{\"text\":\"\xc3\x28\\\\\"}]}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := parse(data)
		if err != nil {
			return
		}
		r := got.result("word", time.Second)
		encoded, err := json.Marshal(r)
		if err != nil {
			t.Fatalf("encode %+v: %v", r, err)
		}
		var again result
		if err := json.Unmarshal(encoded, &again); err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%+v came back as %+v, %v", r, again, err)
		}
	})
}
