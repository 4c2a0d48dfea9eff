package piper

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"studioworker/worker/engine"
	"studioworker/worker/engine/enginetest"
	"studioworker/worker/engine/espeak"
	"studioworker/worker/engine/media"
	"studioworker/worker/engine/onnx/runtime"
	"studioworker/worker/engine/onnx/testgraph"
	"studioworker/worker/engine/program"
	"studioworker/worker/engine/supply"
)

const (
	helperWord = "engine-host"
	// fakeMode makes the test binary a piper. Its name is one that the allow-list of
	// the environment lets through.
	fakeMode = "XDG_TEST_FAKE_PIPER"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == helperWord {
		if err := runtime.Serve(context.Background(), os.Args[2:], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if mode := os.Getenv(fakeMode); mode != "" {
		os.Exit(fake(mode, os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// fake is the program: "python" or "c++". It puts its arguments and its text after
// the samples.
func fake(mode string, args []string) int {
	if slices.Contains(args, "--help") {
		if mode == "python" {
			fmt.Println("usage: piper -m MODEL [-i INPUT] [--input-file INPUT]")
		} else {
			fmt.Fprintln(os.Stderr, "usage: piper --model FILE --output_file FILE")
		}
		return 0
	}
	value := func(flag string) string {
		if i := slices.Index(args, flag); i >= 0 && i+1 < len(args) {
			return args[i+1]
		}
		return ""
	}
	input, out := value("-i"), value("-f")
	if mode != "python" {
		input, out = "/dev/stdin", value("--output_file")
	}
	text, err := os.ReadFile(input)
	if err != nil || mode == "fails" {
		fmt.Fprintln(os.Stderr, "cannot load the voice")
		return 1
	}
	data := append(media.WAV(22050, make([]float32, 100)), "\n"+strings.Join(args, "|")+"\n"...)
	if err := os.WriteFile(out, append(data, text...), 0o600); err != nil {
		return 1
	}
	return 0
}

// voiceConfig is the config of a voice of three speakers.
const voiceConfig = `{"audio":{"sample_rate":16000},"espeak":{"voice":"en-us"},"inference":{"noise_scale":0.5,"length_scale":1.2,"noise_w":0.8},
"phoneme_type":"espeak","phoneme_id_map":{"_":[0],"^":[1],"$":[2]," ":[3],",":[8],".":[10],"h":[20],"ə":[59],"l":[24],"ˈ":[120],"o":[27],"ʊ":[100],
"w":[35],"ɜ":[62],"ː":[122],"d":[17],"?":[13]},"num_speakers":3,"speaker_id_map":{"ann":1,"bob":2,"odd":9}}`

// shelf holds a voice.
type shelf string

func (s shelf) Ensure(_ context.Context, set supply.Set, _ func(engine.Progress)) (*supply.Held, error) {
	held := &supply.Held{Set: set, Release: func() {}}
	for _, f := range set.Files {
		held.Paths = append(held.Paths, filepath.Join(string(s), f.Filename))
	}
	return held, nil
}

func newShelf(t *testing.T, model []byte, settings string) shelf {
	t.Helper()
	dir := t.TempDir()
	for name, data := range map[string][]byte{"v.onnx": model, "v.onnx.json": []byte(settings)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return shelf(dir)
}

// voice runs no model, and notes what it was given.
type voice struct {
	asked *[][]runtime.Tensor
	state program.State
	err   error
	none  bool
}

func (v voice) State(context.Context) (program.State, error) { return v.state, nil }

func (v voice) Run(_ context.Context, _ string, inputs []runtime.Tensor, _ ...string) ([]runtime.Tensor, error) {
	if v.err != nil {
		return nil, v.err
	}
	if v.asked != nil {
		*v.asked = append(*v.asked, inputs)
	}
	if v.none {
		return []runtime.Tensor{{}}, nil
	}
	return []runtime.Tensor{{Floats: []float32{0.1, -0.2, 0.05}}}, nil
}

// speech knows how two words are spoken.
type speech struct{}

func (speech) Found() bool { return true }
func (speech) Phonemes(_ context.Context, voice, text, _ string) ([]string, error) {
	if voice != "en-us" {
		return nil, fmt.Errorf("voice %q", voice)
	}
	var lines []string
	for _, clause := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(",.?", r) }) {
		lines = append(lines, strings.NewReplacer("Hello", "həlˈoʊ", "world", "wˈɜːld", "game", "(en)d(de)").Replace(strings.TrimSpace(clause)))
	}
	return lines, nil
}

// plain leaves every sound as it is.
type plain struct{}

func (plain) Sound(_ context.Context, _, wav, _ string) (engine.Result, error) {
	return engine.Result{File: wav, Ext: "wav"}, nil
}

var running = program.State{Found: program.Found{Path: "lib"}}

func tool(t *testing.T, mode string) *program.Tool {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if mode == "" {
		self = ""
	}
	return &program.Tool{
		Places: program.Places{Environ: append(os.Environ(), fakeMode+"="+mode)}, Ask: []string{"--help"}, Fix: "install espeak-ng",
		Query: func() program.Query { return program.Query{Name: "piper", Variable: self} },
	}
}

func job(t *testing.T, tts engine.TTS) engine.Request {
	t.Helper()
	return engine.Request{
		JobID: "j1", Kind: engine.KindTTS, Model: "v", Dir: t.TempDir(), TTS: &tts,
		Source: engine.Source{Engine: ID, Files: []engine.File{
			{Role: "model", Filename: "v.onnx.json", URL: "https://models.example/v.onnx.json"}, {Role: "model", Filename: "v.onnx", URL: "https://models.example/v.onnx"},
		}},
	}
}

// run does one job through a router, as the worker does.
func run(ctx context.Context, t *testing.T, e *Engine, req engine.Request) ([]byte, error) {
	t.Helper()
	r, err := engine.NewRouter(slog.New(slog.DiscardHandler), e)
	if err != nil {
		t.Fatal(err)
	}
	res, err := r.Run(ctx, req, nil)
	entries, dirErr := os.ReadDir(req.Dir)
	if err != nil {
		if dirErr != nil || len(entries) != 0 {
			t.Errorf("left %v, %v", entries, dirErr)
		}
		return nil, err
	}
	if dirErr != nil || len(entries) != 1 {
		t.Errorf("folder holds %v, %v", entries, dirErr)
	}
	data, err := os.ReadFile(filepath.Join(req.Dir, res.File))
	if err != nil {
		t.Fatal(err)
	}
	return data, nil
}

func TestOwnVoice(t *testing.T) {
	var asked [][]runtime.Tensor
	e := New(Config{
		Run: voice{asked: &asked, state: running}, Speech: speech{}, Tool: tool(t, ""), Sound: plain{}, Models: newShelf(t, nil, voiceConfig),
	})
	data, err := run(t.Context(), t, e, job(t, engine.TTS{Text: "Hello world.\nHello, game? ---", Voice: "v#bob", Speed: 2}))
	if err != nil {
		t.Fatal(err)
	}
	if len(asked) != 2 {
		t.Fatalf("%d sentences were spoken", len(asked))
	}
	first := []int64{1, 20, 0, 59, 0, 24, 0, 120, 0, 27, 0, 100, 0, 3, 0, 35, 0, 120, 0, 62, 0, 122, 0, 24, 0, 17, 0, 10, 0, 2}
	second := []int64{1, 20, 0, 59, 0, 24, 0, 120, 0, 27, 0, 100, 0, 8, 0, 3, 0, 17, 0, 13, 0, 2}
	for i, ids := range [][]int64{first, second} {
		want := []runtime.Tensor{
			{Name: "input", Shape: []int64{1, int64(len(ids))}, Ints: ids},
			{Name: "input_lengths", Shape: []int64{1}, Ints: []int64{int64(len(ids))}},
			{Name: "scales", Shape: []int64{3}, Floats: []float32{0.5, 0.6, 0.8}},
			{Name: "sid", Shape: []int64{1}, Ints: []int64{2}},
		}
		if !reflect.DeepEqual(asked[i], want) {
			t.Errorf("sentence %d\n%+v\nwant\n%+v", i, asked[i], want)
		}
	}
	const pauseSamples = 3200
	samples := data[44:]
	if len(samples) != 2*(3+pauseSamples+3) || binary.LittleEndian.Uint32(data[24:]) != 16000 {
		t.Fatalf("%d bytes of samples", len(samples))
	}
	at := func(i int) int16 { return int16(binary.LittleEndian.Uint16(samples[2*i:])) }
	if at(0) != math.MaxInt16/2+1 || at(1) != -math.MaxInt16 || at(3) != 0 || at(3+pauseSamples+1) != -math.MaxInt16 {
		t.Errorf("samples %d, %d, %d, %d", at(0), at(1), at(3), at(3+pauseSamples+1))
	}
}

func TestSpeaker(t *testing.T) {
	c, err := parseConfig([]byte(voiceConfig))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int64{"default": 0, "": 0, "ann": 1, "v#bob": 2, "v#2": 2, "v#3": 0, "v#-1": 0, "2": 0, "odd": 0} {
		if got := c.speaker(name); got != want {
			t.Errorf("%q is speaker %d, want %d", name, got, want)
		}
	}
}

func TestSentences(t *testing.T) {
	for text, want := range map[string][]sentence{
		"":                       nil,
		" ... !":                 nil,
		"One":                    {{"One", nil}},
		"One, two. Three?":       {{"One, two.", []string{",", "."}}, {"Three?", []string{"?"}}},
		"It is 3.5 and v1.2.3":   {{"It is 3.5 and v1.2.3", nil}},
		"A title\n\nA paragraph": {{"A title", nil}, {"A paragraph", nil}},
		"你好。再见！":                 {{"你好。", []string{"."}}, {"再见！", []string{"!"}}},
	} {
		if got := sentences(text); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	long := sentences(strings.Repeat("one two three, ", 200))
	for _, s := range long {
		if len(s.text) > longSentence+20 {
			t.Errorf("a sentence has %d characters", len(s.text))
		}
	}
	s := sentence{"Mr. Bean, hello.", []string{".", ",", "."}}
	if got := s.punctuate([]string{"a", "b"}); got != "a b." {
		t.Errorf("other clauses: %q", got)
	}
}

func TestProgram(t *testing.T) {
	tts := engine.TTS{Text: "Hello, world.\nAnd -x you!", Voice: "ann", Speed: 2, Ext: "wav"}
	for mode, want := range map[string]string{
		"python": "-m|V/v.onnx|-c|V/v.onnx.json|-i|W/text.txt|-f|D/result.wav|-s|1|--noise-scale|0.5|--length-scale|0.6|--noise-w-scale|0.8\nHello, world.\nAnd -x you!\n",
		"c++":    "--model|V/v.onnx|--config|V/v.onnx.json|--output_file|D/result.wav|--speaker|1|--noise_scale|0.5|--length_scale|0.6|--noise_w|0.8|--quiet\nHello, world. And -x you!\n",
	} {
		t.Run(mode, func(t *testing.T) {
			s := newShelf(t, nil, voiceConfig)
			e := New(Config{Run: voice{}, Speech: speech{}, Tool: tool(t, mode), Sound: plain{}, Models: s})
			if got := e.Models()[engine.KindTTS]; !slices.Equal(got, []string{"piper:*"}) {
				t.Errorf("advertises %q", got)
			}
			req := job(t, tts)
			data, err := run(t.Context(), t, e, req)
			if err != nil {
				t.Fatal(err)
			}
			_, got, _ := strings.Cut(string(data[44+200:]), "\n")
			got = strings.NewReplacer(string(s), "V", filepath.Join(req.Dir, "work"), "W", req.Dir, "D").Replace(got)
			if got != want {
				t.Errorf("ran with\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	good := newShelf(t, nil, voiceConfig)
	for name, c := range map[string]struct {
		text      string
		run       voice
		mode      string
		shelf     shelf
		want      string
		retryable bool
	}{
		"empty":         {"", voice{state: running}, "", good, "there is nothing to speak in the text", false},
		"only marks":    {" -- ?!\x00", voice{state: running}, "", good, "there is nothing to speak in the text", false},
		"overlong":      {strings.Repeat("x", textLimit+1), voice{state: running}, "", good, "the text is longer than 20000 characters", false},
		"not installed": {"x", voice{}, "", good, "piper is not installed; install espeak-ng", true},
		"bad config":    {"x", voice{state: running}, "", newShelf(t, nil, "{"), "the config of the voice cannot be read: ", false},
		"no sound":      {"x", voice{state: running, none: true}, "", good, "the voice made no sound", false},
		"crash":         {"x", voice{state: running, err: errors.New("helper crashed")}, "", good, "helper crashed", true},
		"program fails": {"x", voice{}, "fails", good, "ended with code 1: cannot load the voice", true},
	} {
		t.Run(name, func(t *testing.T) {
			e := New(Config{Run: c.run, Speech: speech{}, Tool: tool(t, c.mode), Sound: plain{}, Models: c.shelf})
			_, err := run(t.Context(), t, e, job(t, engine.TTS{Text: c.text}))
			if err == nil || !strings.Contains(err.Error(), c.want) || engine.Retryable(err) != c.retryable {
				t.Errorf("err = %v, want %q", err, c.want)
			}
		})
	}
	t.Run("no voice", func(t *testing.T) {
		req := job(t, engine.TTS{Text: "x"})
		req.Source.Files = req.Source.Files[:1]
		e := New(Config{Run: voice{state: running}, Speech: speech{}, Tool: tool(t, ""), Sound: plain{}, Models: good})
		if _, err := run(t.Context(), t, e, req); err == nil || engine.Retryable(err) || !strings.Contains(err.Error(), "ends in .onnx;") {
			t.Errorf("err = %v", err)
		}
		req.Kind, req.Video = engine.KindVideo, &engine.Video{}
		if _, err := run(t.Context(), t, e, req); err == nil || err.Error() != "piper engine cannot serve video tasks" {
			t.Errorf("err = %v", err)
		}
	})
}

func TestConfigBounds(t *testing.T) {
	for name, change := range map[string][2]string{
		"rate": {"16000", "1"}, "no start": {`"^":[1],`, ""}, "scale": {"1.2", "11"}, "speakers": {`"num_speakers":3`, `"num_speakers":-1`},
		"type": {`"espeak",`, `"pinyin",`}, "many ids": {"[59]", "[" + strings.Repeat("1,", 20) + "1]"}, "no JSON": {"{", "["},
	} {
		text := strings.Replace(voiceConfig, change[0], change[1], 1)
		if _, err := parseConfig([]byte(text)); err == nil || text == voiceConfig {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := parseConfig(make([]byte, maxConfig+1)); err == nil {
		t.Error("too long: no error")
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(voiceConfig), "həlˈoʊ")
	f.Fuzz(func(t *testing.T, data []byte, phonemes string) {
		c, err := parseConfig(data)
		if err != nil {
			return
		}
		ids, missing := c.ids(phonemes)
		if len(ids) < 2 || missing < 0 || c.speaker(phonemes) < 0 {
			t.Errorf("%d ids, %d missing", len(ids), missing)
		}
	})
}

func FuzzSentences(f *testing.F) {
	f.Add("One, two. Three?\n\nFour")
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range sentences(clean(text)) {
			if strings.TrimSpace(s.text) == "" {
				t.Error("an empty sentence")
			}
		}
	})
}

// realEngine is an engine over the real ONNX Runtime and the real espeak-ng.
func realEngine(t *testing.T, models supply.Models) *Engine {
	t.Helper()
	library := enginetest.File(t, "ORT_DYLIB_PATH")
	if !runtime.Built {
		t.Skip("this build cannot load the library: it has no C code")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	host := runtime.NewHost(runtime.Config{
		Path: self, Args: []string{helperWord}, Library: func() string { return library }, Places: program.Places{Environ: os.Environ()},
	})
	t.Cleanup(host.Close)
	return New(Config{
		Run: host, Speech: espeak.New(espeak.Config{Variable: enginetest.Program(t, "STUDIO_WORKER_ESPEAK", "espeak-ng"), Environ: os.Environ()}),
		Tool: tool(t, ""), Sound: plain{}, Models: models,
	})
}

func TestRealRuntime(t *testing.T) {
	settings := strings.Replace(voiceConfig, `"num_speakers":3`, `"num_speakers":1`, 1)
	e := realEngine(t, newShelf(t, testgraph.Voice(), settings))
	data, err := run(t.Context(), t, e, job(t, engine.TTS{Text: "Hello world"}))
	if err != nil {
		t.Fatal(err)
	}
	// 12 of the 13 sounds are in the map of the voice, or all of them: each has a pad.
	if ids := (len(data) - 44) / 2 / testgraph.VoicePeriod; ids < 24 || ids > 28 {
		t.Errorf("%d phonemes were spoken", ids)
	}
}

func TestRealVoice(t *testing.T) {
	model := enginetest.File(t, "STUDIO_WORKER_TEST_VOICE")
	e := realEngine(t, shelf(filepath.Dir(model)))
	length := func(speed float64) time.Duration {
		t.Helper()
		req := job(t, engine.TTS{Text: "The lighthouse keeper counts the ships that pass at dawn. Then he sleeps.", Speed: speed})
		req.Source.Files = []engine.File{{Role: "model", Filename: filepath.Base(model)}}
		data, err := run(t.Context(), t, e, req)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "a.wav")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := media.Duration(path)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	natural := length(1)
	if natural < 3*time.Second || natural > 8*time.Second {
		t.Errorf("natural speech takes %v", natural)
	}
	if fast := length(2); fast > natural*7/10 {
		t.Errorf("double speed takes %v, natural %v", fast, natural)
	}
}
