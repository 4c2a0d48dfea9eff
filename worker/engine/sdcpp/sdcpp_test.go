package sdcpp

import (
	"bytes"
	"context"
	"errors"
	"image"
	_ "image/jpeg"
	"image/png"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	_ "golang.org/x/image/bmp"
	_ "golang.org/x/image/webp"

	"studioworker/worker/engine"
	"studioworker/worker/engine/program"
	"studioworker/worker/engine/sdcpp/fakesd"
	"studioworker/worker/engine/supply"
)

func TestMain(m *testing.M) {
	if os.Getenv(fakesd.Variable) != "" {
		// Not os.Exit: with the race detector that takes a second.
		syscall.Exit(fakesd.Main(os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// shelf is a models folder whose files are all there.
type shelf struct {
	t     testing.TB
	dir   string
	doubt func(path string) (bool, error)

	mu   sync.Mutex
	held int
}

func newShelf(tb testing.TB) *shelf {
	tb.Helper()
	s := &shelf{t: tb, dir: tb.TempDir()}
	tb.Cleanup(func() {
		if s.held != 0 {
			tb.Errorf("%d sets of files are still held", s.held)
		}
	})
	return s
}

func (s *shelf) Ensure(_ context.Context, set supply.Set, _ func(engine.Progress)) (*supply.Held, error) {
	held := &supply.Held{Set: set, Release: func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.held--
	}}
	for _, file := range set.Files {
		path := filepath.Join(s.dir, file.Filename)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			if err := os.WriteFile(path, []byte("good\n"), 0o600); err != nil {
				return nil, err
			}
		}
		held.Paths = append(held.Paths, path)
	}
	if s.doubt != nil {
		held.Doubt = func(context.Context) (bool, error) { return s.doubt(held.Paths[0]) }
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held++
	return held, nil
}

// album is where pictures come from.
type album map[string][]byte

func (a album) Image(_ context.Context, url, dir, base string) (string, error) {
	data, ok := a[url]
	if !ok {
		return "", engine.BadInput("GET " + url + " -> 404")
	}
	path := filepath.Join(dir, base+"."+format(data))
	return path, os.WriteFile(path, data, 0o600)
}

func (a album) Audio(context.Context, string, string, string) (string, error) {
	return "", errors.New("a picture has no sound")
}

func picture(tb testing.TB, shade uint8) []byte {
	tb.Helper()
	img := image.NewGray(image.Rect(0, 0, 64, 64))
	for i := range img.Pix {
		img.Pix[i] = shade
	}
	var buf bytes.Buffer
	if err := png.Encode(&buf, img); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// bench is an engine over the fake, and what it works with.
type bench struct {
	*Engine
	shelf *shelf
	trace string
	log   bytes.Buffer
}

func newBench(tb testing.TB, mode string) *bench {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	b := &bench{shelf: newShelf(tb), trace: filepath.Join(tb.TempDir(), "trace")}
	b.Engine = New(Config{
		Log: slog.New(slog.NewTextHandler(&b.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Tool: &program.Tool{
			Places:  program.Places{Environ: append(os.Environ(), fakesd.Variable+"="+mode, fakesd.Trace+"="+b.trace)},
			Query:   func() program.Query { return program.Query{Name: "sd-cli", Variable: self} },
			Ask:     []string{"--version"},
			Version: VersionOf,
		},
		Models: b.shelf,
		Inputs: album{"https://pictures.example/a": picture(tb, 10), "https://pictures.example/b": picture(tb, 20), "https://pictures.example/m": picture(tb, 255)},
	})
	return b
}

// runs are the arguments of all runs so far.
func (b *bench) runs(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile(b.trace)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
}

// job is a small picture from one file.
func job(tb testing.TB) engine.Request {
	tb.Helper()
	return engine.Request{
		JobID: "j1", Kind: engine.KindImage, Model: "tiny",
		Source: engine.Source{
			Engine: ID, Files: []engine.File{{Role: "diffusion-model", Filename: "tiny.gguf", URL: "https://models.example/tiny.gguf"}},
			Defaults: engine.Defaults{CFGScale: 1, Steps: 4, Width: 512, Height: 512},
		},
		Dir:   tb.TempDir(),
		Image: &engine.Image{Prompt: "a lighthouse", Width: 64, Height: 72, Steps: 3, Ext: "png"},
	}
}

// run does one job through a router, as the worker does.
func (b *bench) run(ctx context.Context, t *testing.T, req engine.Request, progress func(engine.Progress)) (engine.Result, error) {
	t.Helper()
	r, err := engine.NewRouter(slog.New(slog.DiscardHandler), b.Engine)
	if err != nil {
		t.Fatal(err)
	}
	return r.Run(ctx, req, progress)
}

// alone wants nothing but the result in the job's folder, and returns its bytes.
func alone(t *testing.T, req engine.Request, res engine.Result) []byte {
	t.Helper()
	entries, err := os.ReadDir(req.Dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != res.File {
		t.Fatalf("folder holds %v, %v; want only %q", entries, err, res.File)
	}
	data, err := os.ReadFile(filepath.Join(req.Dir, res.File))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestFormats(t *testing.T) {
	for wish, want := range map[string]string{
		"png": "png", " PNG ": "png", "jpg": "jpg", "jpeg": "jpg", "webp": "webp", "bmp": "bmp", "": "webp", "tiff": "webp",
	} {
		for _, mode := range []string{fakesd.Paint, fakesd.Metadata, fakesd.Old} {
			t.Run(wish+" "+mode, func(t *testing.T) {
				req := job(t)
				req.Image.Ext = wish
				res, err := newBench(t, mode).run(t.Context(), t, req, nil)
				if err != nil {
					t.Fatal(err)
				}
				data := alone(t, req, res)
				size, name, err := image.DecodeConfig(bytes.NewReader(data))
				if name == "jpeg" {
					name = "jpg"
				}
				if err != nil || res.Ext != want || name != want || size.Width != 64 || size.Height != 72 {
					t.Errorf("result %+v is %s, %v by %v, %v", res, name, size.Width, size.Height, err)
				}
				if _, _, err := image.Decode(bytes.NewReader(data)); err != nil {
					t.Errorf("decode: %v", err)
				}
				if bytes.Contains(data, []byte("lighthouse")) {
					t.Error("the prompt is in the picture")
				}
			})
		}
	}
}

func TestArguments(t *testing.T) {
	file := func(role, name string) engine.File {
		return engine.File{Role: role, Filename: name, URL: "https://models.example/" + name}
	}
	all := func(req *engine.Request) {
		req.Source.Files = []engine.File{
			file("vae", "vae.gguf"), file("diffusion-model", "d.gguf"), file("model", "m.gguf"), file("text-encoder", "llm.gguf"),
			file("text-encoder-vision", "vision.gguf"), file("lora", "style.safetensors"), file("model-card", "card.txt"),
		}
		req.Source.Defaults = engine.Defaults{
			CFGScale: 2.5, Steps: 9, Width: 640, Height: 320, SamplingMethod: "euler", FlowShift: new(3.0), ZeroCondT: true, OffloadToCPU: true,
			MMap: true, MaxVRAMGiB: 7.5,
		}
	}
	for name, c := range map[string]struct {
		mode   string
		change func(req *engine.Request)
		want   string // MODELS and WORK stand for the folders
	}{
		"plain": {
			fakesd.Paint, func(*engine.Request) {},
			"--diffusion-model|MODELS/tiny.gguf|-p|a lighthouse|--cfg-scale|1|--steps|3|-W|64|-H|72|-o|WORK/result.png|--seed|7|--diffusion-fa|--disable-image-metadata",
		},
		"single file": {
			fakesd.Old, func(req *engine.Request) { req.Source.Files[0].Role = "model" },
			"--model|MODELS/tiny.gguf|-p|a lighthouse|--cfg-scale|1|--steps|3|-W|64|-H|72|-o|WORK/result.png|--seed|7|--diffusion-fa",
		},
		"everything": {fakesd.Paint, func(req *engine.Request) {
			all(req)
			req.Image = &engine.Image{
				Prompt: "-x", NegativePrompt: "blur", InitImageURL: "https://pictures.example/a", MaskURL: "https://pictures.example/m",
				Denoise: new(0.55), Seed: new(uint64(7)), Steps: 20, Ext: "jpg", CFGScale: 7.5, SamplingMethod: "dpm2",
			}
		}, "--diffusion-model|MODELS/d.gguf|--vae|MODELS/vae.gguf|--llm|MODELS/llm.gguf|--llm_vision|MODELS/vision.gguf|-p|-x|--negative-prompt|blur|" +
			"--init-img|WORK/init.png|--strength|0.55|--mask|WORK/mask.png|--cfg-scale|7.5|--steps|9|-W|640|-H|320|-o|WORK/result.jpg|--seed|7|" +
			"--sampling-method|dpm2|--flow-shift|3|--model-args|qwen_image_zero_cond_t=true|--offload-to-cpu|--mmap|--max-vram|7.5|" +
			"--lora-model-dir|WORK/lora|--diffusion-fa|--disable-image-metadata"},
		"older build": {
			fakesd.Old, all,
			"--diffusion-model|MODELS/d.gguf|--vae|MODELS/vae.gguf|--llm|MODELS/llm.gguf|--llm_vision|MODELS/vision.gguf|-p|a lighthouse|--cfg-scale|2.5|--steps|3|" +
				"-W|64|-H|72|-o|WORK/result.png|--seed|7|--sampling-method|euler|--flow-shift|3|--qwen-image-zero-cond-t|--offload-to-cpu|--mmap|--max-vram|7.5|" +
				"--lora-model-dir|WORK/lora|--diffusion-fa",
		},
		"a reference wins": {fakesd.Paint, func(req *engine.Request) {
			req.Image.InitImageURL, req.Image.RefImageURL, req.Image.MaskURL = "https://pictures.example/a", "https://pictures.example/b", "https://pictures.example/m"
		}, "--diffusion-model|MODELS/tiny.gguf|-p|a lighthouse|-r|WORK/reference.png|--mask|WORK/mask.png|--cfg-scale|1|--steps|3|-W|64|-H|72|-o|WORK/result.png|--seed|7|--diffusion-fa|--disable-image-metadata"},
		"a mask of nothing": {
			fakesd.Paint, func(req *engine.Request) { req.Image.MaskURL = "https://pictures.example/gone" },
			"--diffusion-model|MODELS/tiny.gguf|-p|a lighthouse|--cfg-scale|1|--steps|3|-W|64|-H|72|-o|WORK/result.png|--seed|7|--diffusion-fa|--disable-image-metadata",
		},
		"default strength": {
			fakesd.Paint, func(req *engine.Request) { req.Image.InitImageURL = "https://pictures.example/a" },
			"--diffusion-model|MODELS/tiny.gguf|-p|a lighthouse|--init-img|WORK/init.png|--strength|0.75|--cfg-scale|1|--steps|3|-W|64|-H|72|-o|WORK/result.png|--seed|7|--diffusion-fa|--disable-image-metadata",
		},
		"numbers of the model": {
			fakesd.Paint, func(req *engine.Request) { req.Image.Width, req.Image.Height, req.Image.Steps = 0, 0, 0 },
			"--diffusion-model|MODELS/tiny.gguf|-p|a lighthouse|--cfg-scale|1|--steps|4|-W|512|-H|512|-o|WORK/result.png|--seed|7|--diffusion-fa|--disable-image-metadata",
		},
		"out of bounds": {fakesd.Paint, func(req *engine.Request) {
			req.Source.Defaults = engine.Defaults{}
			req.Image.Width, req.Image.Height, req.Image.Steps, req.Image.CFGScale = 1, 99, 1000, -3
		}, "--diffusion-model|MODELS/tiny.gguf|-p|a lighthouse|--cfg-scale|1|--steps|150|-W|64|-H|96|-o|WORK/result.png|--seed|7|--diffusion-fa|--disable-image-metadata"},
		"a long prompt": {fakesd.Paint, func(req *engine.Request) {
			req.Image.Prompt, req.Image.NegativePrompt = strings.Repeat("sea ", 4000), strings.Repeat("fog ", 4000)
		}, "--diffusion-model|MODELS/tiny.gguf|--prompt-file|WORK/prompt.txt|--negative-prompt-file|WORK/negative.txt|--cfg-scale|1|--steps|3|-W|64|-H|72|-o|WORK/result.png|--seed|7|--diffusion-fa|--disable-image-metadata"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, c.mode)
			req := job(t)
			req.Image.Seed = new(uint64(7))
			c.change(&req)
			if _, err := b.run(t.Context(), t, req, nil); err != nil {
				t.Fatal(err)
			}
			want := strings.NewReplacer("MODELS", b.shelf.dir, "WORK", filepath.Join(req.Dir, "work")).Replace(c.want)
			if got := b.runs(t); !slices.Equal(got, []string{want}) {
				t.Errorf("arguments\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// Spec §13 #116.
func TestSpec116StepsOfTheModel(t *testing.T) {
	for name, c := range map[string]struct{ job, model, want uint32 }{
		"not chosen":        {20, 9, 9},
		"chosen":            {21, 9, 21},
		"few":               {1, 9, 1},
		"none":              {0, 9, 9},
		"neither":           {20, 0, 8},
		"the model says 20": {20, 20, 20},
	} {
		t.Run(name, func(t *testing.T) {
			req := job(t)
			req.Image.Steps, req.Source.Defaults.Steps = c.job, c.model
			if p, err := newPlan(req); err != nil || p.steps != c.want {
				t.Errorf("steps = %d, %v, want %d", p.steps, err, c.want)
			}
		})
	}
}

func TestSeed(t *testing.T) {
	b := newBench(t, fakesd.Paint)
	var pictures [][]byte
	for range 3 {
		req := job(t)
		res, err := b.run(t.Context(), t, req, nil)
		if err != nil {
			t.Fatal(err)
		}
		pictures = append(pictures, alone(t, req, res))
	}
	if bytes.Equal(pictures[0], pictures[1]) && bytes.Equal(pictures[1], pictures[2]) {
		t.Error("three jobs without a seed gave the same picture")
	}
	for _, run := range b.runs(t) {
		_, rest, _ := strings.Cut(run, "--seed|")
		seed, _, _ := strings.Cut(rest, "|")
		if seed == "" || !strings.Contains(b.log.String(), "seed="+seed) {
			t.Errorf("seed %q is not in the log", seed)
		}
	}
	same := func() []byte {
		req := job(t)
		req.Image.Seed = new(uint64(1) << 40)
		res, err := b.run(t.Context(), t, req, nil)
		if err != nil {
			t.Fatal(err)
		}
		return alone(t, req, res)
	}
	if !bytes.Equal(same(), same()) {
		t.Error("two jobs with one seed gave different pictures")
	}
	if strings.Contains(strings.ReplaceAll(b.log.String(), "engine output", ""), "a lighthouse") {
		t.Error("the prompt is in the log")
	}
}

func TestProgress(t *testing.T) {
	for _, mode := range []string{fakesd.Paint, fakesd.Tiles} {
		t.Run(mode, func(t *testing.T) {
			req := job(t)
			req.Image.InitImageURL, req.Image.Denoise, req.Image.Steps = "https://pictures.example/a", new(0.5), 8
			var got []engine.Progress
			if _, err := newBench(t, mode).run(t.Context(), t, req, func(p engine.Progress) { got = append(got, p) }); err != nil {
				t.Fatal(err)
			}
			want := []engine.Progress{
				{Step: 0, Total: 8, Text: "loading the model"},
				{Step: 0, Total: 8, Text: "reading the prompt"},
				{Step: 0, Total: 8, Text: "painting"},
				{Step: 1, Total: 4, Text: "painting, 0.25 s a step, 1s left"},
				{Step: 2, Total: 4, Text: "painting, 0.25 s a step, 1s left"},
				{Step: 3, Total: 4, Text: "painting, 0.25 s a step"},
				{Step: 4, Total: 4, Text: "painting, 0.25 s a step"},
				{Step: 4, Total: 4, Text: "decoding"},
				{Step: 4, Total: 4, Text: "saving"},
			}
			if !slices.Equal(got, want) {
				t.Errorf("progress\n%+v\nwant\n%+v", got, want)
			}
		})
	}
}

func TestBadInput(t *testing.T) {
	for name, c := range map[string]struct {
		change func(req *engine.Request)
		want   string
	}{
		"strength": {
			func(req *engine.Request) {
				req.Image.InitImageURL, req.Image.Denoise = "https://pictures.example/a", new(1.5)
			},
			"sd-cpp: denoise is 1.5; it must lie between 0 and 1",
		},
		"no model":    {func(req *engine.Request) { req.Source.Files[0].Role = "vae" }, "sd-cpp: the model has no file of role diffusion-model or model; it must be published anew"},
		"zero byte":   {func(req *engine.Request) { req.Image.Prompt = "a\x00b" }, "sd-cpp: the prompt holds a zero byte"},
		"other kind":  {func(req *engine.Request) { req.Kind, req.TTS = engine.KindTTS, &engine.TTS{} }, "sd-cpp engine cannot serve audio_tts tasks"},
		"no video":    {func(req *engine.Request) { req.Kind, req.Video = engine.KindVideo, &engine.Video{} }, "sd-cpp engine cannot serve video tasks"},
		"gone":        {func(req *engine.Request) { req.Image.InitImageURL = "https://pictures.example/gone" }, "sd-cpp: init picture: GET https://pictures.example/gone -> 404"},
		"gone, a ref": {func(req *engine.Request) { req.Image.RefImageURL = "https://pictures.example/gone" }, "sd-cpp: reference picture: GET https://pictures.example/gone -> 404"},
	} {
		t.Run(name, func(t *testing.T) {
			req := job(t)
			c.change(&req)
			b := newBench(t, fakesd.Paint)
			_, err := b.run(t.Context(), t, req, nil)
			if err == nil || err.Error() != c.want || engine.Retryable(err) {
				t.Errorf("err = %v, want %q", err, c.want)
			}
			if _, err := os.Stat(b.trace); err == nil {
				t.Error("the program ran")
			}
			if entries, err := os.ReadDir(req.Dir); err != nil || len(entries) != 0 {
				t.Errorf("left %v, %v", entries, err)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	for mode, c := range map[string]struct {
		class     engine.Class
		retryable bool
		want      string // part of the text
	}{
		fakesd.OutOfMemory:   {engine.ClassOutOfMemory, true, "not enough memory on the graphics card: sd-cli exited with 1: [ERROR]"},
		fakesd.LoadFail:      {engine.ClassModelCorrupt, false, "the model cannot be loaded: sd-cli exited with 1: [INFO ] stable-diffusion.cpp:1 - new_sd_ctx_t failed"},
		fakesd.BadImage:      {engine.ClassBadInput, false, "load image from 'init.png' failed"},
		fakesd.NoFile:        {engine.ClassEngineCrash, true, "ended well but wrote no picture"},
		fakesd.Truncated:     {engine.ClassEngineCrash, true, "ended well but wrote no picture"},
		fakesd.WrongFormat:   {engine.ClassEngineCrash, true, "sd-cli wrote no valid png"},
		fakesd.NoLibrary:     {engine.ClassEngineMissing, true, "the Vulkan loader is missing; install libvulkan1, mesa-vulkan-drivers"},
		fakesd.OldSystem:     {engine.ClassEngineMissing, true, "this system is too old for this build; "},
		fakesd.DeviceLost:    {engine.ClassGPURuntime, true, "the graphics card cannot be used: sd-cli exited with 134: what():"},
		fakesd.NoBackend:     {engine.ClassGPURuntime, true, "failed to initialize Vulkan backend"},
		fakesd.UnknownFlag:   {engine.ClassEngineMissing, true, "this build of sd-cli does not know our options: sd-cli exited with 1: [ERROR]"},
		fakesd.GenerateFails: {engine.ClassEngineCrash, true, "sampling failed"},
	} {
		t.Run(mode, func(t *testing.T) { wantFailure(t, mode, c.class, c.retryable, c.want) })
	}
	t.Run(fakesd.Crash, func(t *testing.T) {
		if runtime.GOOS == "windows" {
			t.Skip("the fake crashes by a signal, which Windows has not")
		}
		wantFailure(t, fakesd.Crash, engine.ClassEngineCrash, true, "sd-cli crashed (segmentation fault): ")
	})
}

func wantFailure(t *testing.T, mode string, class engine.Class, retryable bool, want string) {
	t.Helper()
	req := job(t)
	req.Image.InitImageURL = "https://pictures.example/a"
	_, err := newBench(t, mode).run(t.Context(), t, req, nil)
	failed, ok := errors.AsType[*engine.Error](err)
	if !ok || failed.Class != class || engine.Retryable(err) != retryable || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), req.Dir) {
		t.Errorf("err = %v (%+v), want %s, %v, %q", err, failed, class, retryable, want)
	}
	if entries, err := os.ReadDir(req.Dir); err != nil || len(entries) != 0 {
		t.Errorf("left %v, %v", entries, err)
	}
}

// Fault row 23: the card is lost in the middle of a job.
func TestRow23TheCardIsLost(t *testing.T) {
	b := newBench(t, fakesd.DeviceLost)
	if got := b.Models()[engine.KindImage]; !slices.Equal(got, []string{"sd-cpp:*"}) {
		t.Fatalf("advertises %q before", got)
	}
	_, err := b.run(t.Context(), t, job(t), nil)
	if err == nil || !engine.Retryable(err) {
		t.Errorf("err = %v, want one to retry", err)
	}
	if got := b.Models(); len(got) != 0 || !strings.Contains(b.Problem(), "ErrorDeviceLost") {
		t.Errorf("advertises %v afterwards, problem %q", got, b.Problem())
	}
}

func TestADriverThatDoesNotStart(t *testing.T) {
	b := newBench(t, fakesd.NoBackend)
	for n := range 3 {
		if len(b.Models()) == 0 {
			t.Fatalf("withdrawn after %d failures", n)
		}
		if _, err := b.run(t.Context(), t, job(t), nil); err == nil {
			t.Fatal("no error")
		}
	}
	if got := b.Models(); len(got) != 0 {
		t.Errorf("advertises %v after three failures", got)
	}
}

func TestABadModelIsFetchedOnce(t *testing.T) {
	for name, c := range map[string]struct {
		mend bool
		runs int
		want string // part of the error; empty for none
	}{
		"it helps":       {true, 2, ""},
		"it was as sold": {false, 1, "the model cannot be loaded"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, fakesd.BadModel)
			if err := os.WriteFile(filepath.Join(b.shelf.dir, "tiny.gguf"), []byte("bad\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			b.shelf.doubt = func(path string) (bool, error) {
				if !c.mend {
					return false, nil
				}
				return true, os.WriteFile(path, []byte("good\n"), 0o600)
			}
			_, err := b.run(t.Context(), t, job(t), nil)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || engine.Retryable(err)) {
				t.Errorf("err = %v, want %q", err, c.want)
			}
			if got := len(b.runs(t)); got != c.runs {
				t.Errorf("the program ran %d times, want %d", got, c.runs)
			}
		})
	}
}

func TestCancel(t *testing.T) {
	cause := errors.New("the person pressed stop")
	for _, mode := range []string{fakesd.Hang, fakesd.IgnoreTerm} {
		t.Run(mode, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			req := job(t)
			req.Image.Steps = 1
			req.Source.Defaults.Steps = 1000
			_, err := newBench(t, mode).run(ctx, t, req, func(p engine.Progress) {
				if p.Step > 0 {
					cancel(cause)
				}
			})
			if !errors.Is(err, cause) || !engine.Retryable(err) {
				t.Errorf("err = %v, want the cause", err)
			}
			if entries, err := os.ReadDir(req.Dir); err != nil || len(entries) != 0 {
				t.Errorf("left %v, %v", entries, err)
			}
		})
	}
}

func TestNotInstalled(t *testing.T) {
	e := New(Config{Tool: &program.Tool{Query: func() program.Query { return program.Query{Name: "sd-cli"} }, Fix: "set STUDIO_WORKER_SD_CLI"}})
	if got := e.Models(); len(got) != 0 {
		t.Errorf("advertises %v", got)
	}
	_, err := e.Run(t.Context(), job(t), func(engine.Progress) {})
	if err == nil || err.Error() != "sd-cli is not installed; set STUDIO_WORKER_SD_CLI" || !engine.Retryable(err) {
		t.Errorf("err = %v", err)
	}
	e.cfg.Fetchable = func() bool { return true }
	if got := e.Models()[engine.KindImage]; !slices.Equal(got, []string{"sd-cpp:*"}) {
		t.Errorf("advertises %v although it can be fetched", got)
	}
}

func TestVersion(t *testing.T) {
	version := VersionOf("noise\n" + fakesd.Version + "\n")
	if version != "master-920-2f88688, commit 2f88688" {
		t.Errorf("version = %q", version)
	}
	for commit, want := range map[string]bool{"2f88688": true, "2F88688ab12": true, "2f8868": false, "2f88689": false, "": false} {
		if got := IsCommit(version, commit); got != want {
			t.Errorf("commit %q: %v, want %v", commit, got, want)
		}
	}
	if IsCommit("unknown, commit unknown", "2f88688") || IsCommit("master", "2f88688") {
		t.Error("a build that names no commit counts as the pinned one")
	}
}

func FuzzWithoutMetadata(f *testing.F) {
	f.Add([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x00tEXt\x00\x00\x00\x00"))
	f.Add([]byte("\xff\xd8\xff\xe1\x00\x04ab\xff\xda\x00\x00"))
	f.Add([]byte("RIFF\x0c\x00\x00\x00WEBPEXIF\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		ext := format(data)
		if ext == "" {
			return
		}
		clean := withoutMetadata(data, ext)
		if len(clean) > len(data) || format(clean) != ext && len(clean) >= 12 {
			t.Errorf("%d bytes of %s became %d of %q", len(data), ext, len(clean), format(clean))
		}
		if again := withoutMetadata(clean, ext); format(clean) == ext && !bytes.Equal(again, clean) {
			t.Error("cleaned twice it is another picture")
		}
	})
}

func FuzzProgress(f *testing.F) {
	f.Add("sampling using Euler\n  |=====>        | 3/8 - 1.23it/s\nsampling completed\n  |==| 9/9 - 0.00s/it")
	f.Fuzz(func(t *testing.T, text string) {
		r := reader{steps: 8, progress: func(p engine.Progress) {
			if p.Step < 0 || p.Step > p.Total {
				t.Errorf("progress %+v", p)
			}
		}}
		for line := range strings.SplitSeq(text, "\n") {
			r.line(line)
		}
	})
}
