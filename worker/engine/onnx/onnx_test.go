package onnx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	_ "golang.org/x/image/webp"

	"studioworker/worker/engine"
	"studioworker/worker/engine/enginetest"
	"studioworker/worker/engine/onnx/runtime"
	"studioworker/worker/engine/onnx/testgraph"
	"studioworker/worker/engine/program"
	"studioworker/worker/engine/supply"
)

const helperWord = "engine-host"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == helperWord {
		if err := runtime.Serve(context.Background(), os.Args[2:], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// made answers as testgraph.LaMa does.
type made struct {
	scale float32
	err   error
	short bool
	state program.State
}

func (m made) State(context.Context) (program.State, error) { return m.state, nil }

func (m made) Run(_ context.Context, _ string, in []runtime.Tensor, _ ...string) ([]runtime.Tensor, error) {
	if m.err != nil {
		return nil, m.err
	}
	out := runtime.Tensor{Shape: in[0].Shape, Floats: make([]float32, len(in[0].Floats))}
	plane := len(in[1].Floats)
	for i, v := range in[0].Floats {
		hole := in[1].Floats[i%plane]
		out.Floats[i] = (v*(1-hole) + 0.5*hole) * m.scale
	}
	if m.short {
		out.Floats = out.Floats[:plane]
	}
	return []runtime.Tensor{out}, nil
}

// shelf holds one model.
type shelf string

func (s shelf) Ensure(_ context.Context, set supply.Set, _ func(engine.Progress)) (*supply.Held, error) {
	held := &supply.Held{Set: set, Release: func() {}}
	for range set.Files {
		held.Paths = append(held.Paths, string(s))
	}
	return held, nil
}

// album is where pictures come from.
type album map[string]image.Image

func (a album) Image(_ context.Context, url, dir, base string) (string, error) {
	img, ok := a[url]
	if !ok {
		return "", engine.BadInput("GET " + url + " -> 404")
	}
	path := filepath.Join(dir, base+".png")
	var buf bytes.Buffer
	if img == nil {
		buf.WriteString("\x89PNG\r\n\x1a\n but no picture")
	} else if err := png.Encode(&buf, img); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, buf.Bytes(), 0o600)
}

func (album) Audio(context.Context, string, string, string) (string, error) {
	return "", errors.New("a picture has no sound")
}

// pattern is a picture in which each pixel is known.
func pattern(width, height int) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			img.SetRGBA(x, y, color.RGBA{R: uint8(x), G: uint8(y), B: uint8(x + y), A: 255})
		}
	}
	return img
}

// hole is a mask that is white in a box.
func hole(width, height int, box image.Rectangle) *image.Gray {
	img := image.NewGray(image.Rect(0, 0, width, height))
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for x := box.Min.X; x < box.Max.X; x++ {
			img.SetGray(x, y, color.Gray{Y: 255})
		}
	}
	return img
}

var running = program.State{Found: program.Found{Path: "lib"}}

func newEngine(run runner, model string, pictures album) *Engine {
	return New(Config{Run: run, Models: shelf(model), Inputs: pictures})
}

func job(t *testing.T, width, height uint32, ext string) engine.Request {
	t.Helper()
	return engine.Request{
		JobID: "j1", Kind: engine.KindImage, Model: "lama", Dir: t.TempDir(),
		Source: engine.Source{Engine: ID, Files: []engine.File{{Role: "model", Filename: "lama.onnx", URL: "https://models.example/lama.onnx"}}},
		Image:  &engine.Image{Prompt: "", InitImageURL: "https://pictures.example/a", MaskURL: "https://pictures.example/m", Width: width, Height: height, Steps: 20, Ext: ext},
	}
}

// run does one job through a router, as the worker does, and decodes its result.
func run(t *testing.T, e *Engine, req engine.Request) (image.Image, engine.Result, error) {
	t.Helper()
	r, err := engine.NewRouter(slog.New(slog.DiscardHandler), e)
	if err != nil {
		t.Fatal(err)
	}
	res, err := r.Run(t.Context(), req, nil)
	entries, dirErr := os.ReadDir(req.Dir)
	if err != nil {
		if dirErr != nil || len(entries) != 0 {
			t.Errorf("left %v, %v", entries, dirErr)
		}
		return nil, res, err
	}
	if dirErr != nil || len(entries) != 1 {
		t.Errorf("folder holds %v, %v", entries, dirErr)
	}
	data, err := os.ReadFile(filepath.Join(req.Dir, res.File))
	if err != nil {
		t.Fatal(err)
	}
	img, format, err := image.Decode(bytes.NewReader(data))
	if format == "jpeg" {
		format = "jpg"
	}
	if err != nil || format != res.Ext {
		t.Fatalf("result %+v is %s, %v", res, format, err)
	}
	return img, res, nil
}

// wantRemoved wants grey in the middle of the box, and the picture as it was far
// from it.
func wantRemoved(t *testing.T, img image.Image, was *image.RGBA, box image.Rectangle) {
	t.Helper()
	const reach = 13 // of the soft edge
	kept := 0
	for y := range was.Rect.Dy() {
		for x := range was.Rect.Dx() {
			r, g, b, _ := img.At(x, y).RGBA()
			got := [3]uint8{uint8(r >> 8), uint8(g >> 8), uint8(b >> 8)}
			c := was.RGBAAt(x, y)
			switch p := image.Pt(x, y); {
			case p.In(box.Inset(reach + 2)):
				if got != [3]uint8{128, 128, 128} {
					t.Fatalf("pixel %v in the hole is %v", p, got)
				}
			case !p.In(box.Inset(-reach)):
				kept++
				if got != [3]uint8{c.R, c.G, c.B} {
					t.Fatalf("pixel %v outside is %v, want %v", p, got, c)
				}
			}
		}
	}
	if kept == 0 {
		t.Error("nothing lies outside the hole")
	}
}

func TestRemoval(t *testing.T) {
	for name, c := range map[string]struct {
		width, height int
		box           image.Rectangle
		scale         float32
	}{
		"in the middle":        {640, 600, image.Rect(250, 250, 350, 330), 1},
		"in a corner":          {700, 520, image.Rect(0, 0, 64, 64), 1},
		"0 to 255":             {640, 600, image.Rect(250, 250, 350, 330), 255},
		"the model's own size": {512, 512, image.Rect(100, 100, 200, 200), 1},
		"a small picture":      {120, 90, image.Rect(40, 30, 80, 70), 1},
	} {
		t.Run(name, func(t *testing.T) {
			was := pattern(c.width, c.height)
			pictures := album{"https://pictures.example/a": was, "https://pictures.example/m": hole(c.width, c.height, c.box)}
			img, res, err := run(t, newEngine(made{scale: c.scale, state: running}, "m", pictures), job(t, uint32(c.width), uint32(c.height), "png"))
			if err != nil || res.Ext != "png" || img.Bounds().Size() != was.Rect.Size() {
				t.Fatalf("%+v, %v", res, err)
			}
			wantRemoved(t, img, was, c.box)
		})
	}
	t.Run("sizes that differ", func(t *testing.T) {
		pictures := album{"https://pictures.example/a": pattern(300, 200), "https://pictures.example/m": hole(32, 32, image.Rect(8, 8, 16, 16))}
		img, _, err := run(t, newEngine(made{scale: 1, state: running}, "m", pictures), job(t, 400, 320, "png"))
		if err != nil || img.Bounds().Size() != image.Pt(400, 320) {
			t.Fatal(err)
		}
		if r, _, _, _ := img.At(150, 120).RGBA(); r>>8 != 128 {
			t.Errorf("the middle of the hole is %d", r>>8)
		}
	})
}

func TestFormats(t *testing.T) {
	pictures := album{"https://pictures.example/a": pattern(64, 64), "https://pictures.example/m": hole(64, 64, image.Rect(8, 8, 16, 16))}
	for wish, want := range map[string]string{"png": "png", "JPG": "jpg", "jpeg": "jpg", "webp": "webp", "": "webp", "tiff": "webp"} {
		if _, res, err := run(t, newEngine(made{scale: 1, state: running}, "m", pictures), job(t, 64, 64, wish)); err != nil || res.Ext != want {
			t.Errorf("%q: %+v, %v", wish, res, err)
		}
	}
	if _, ext, err := encode(image.NewRGBA(image.Rect(0, 0, 2049, 2048)), "webp"); err != nil || ext != "png" {
		t.Errorf("a large picture becomes %s, %v", ext, err)
	}
}

func TestCrop(t *testing.T) {
	for name, c := range map[string]struct {
		width, height int
		box, want     image.Rectangle
	}{
		"no mask":           {800, 600, image.Rectangle{}, image.Rect(0, 0, 800, 600)},
		"everything":        {800, 600, image.Rect(0, 0, 800, 600), image.Rect(100, 0, 700, 600)},
		"small box":         {800, 600, image.Rect(400, 300, 410, 310), image.Rect(277, 177, 533, 433)},
		"larger box":        {1000, 900, image.Rect(400, 400, 600, 500), image.Rect(318, 268, 682, 632)},
		"top left":          {800, 600, image.Rect(0, 0, 10, 10), image.Rect(0, 0, 256, 256)},
		"bottom right":      {800, 600, image.Rect(790, 590, 800, 600), image.Rect(544, 344, 800, 600)},
		"smaller than that": {255, 600, image.Rect(0, 0, 10, 10), image.Rect(0, 0, 255, 600)},
		"just large enough": {256, 256, image.Rect(0, 0, 10, 10), image.Rect(0, 0, 256, 256)},
		"full square":       {600, 600, image.Rect(0, 0, 600, 600), image.Rect(0, 0, 600, 600)},
	} {
		s := scene{mask: hole(c.width, c.height, c.box)}
		if got := s.crop(); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestOpaque(t *testing.T) {
	img := image.NewNRGBA(image.Rect(0, 0, 2, 1))
	img.SetNRGBA(0, 0, color.NRGBA{R: 200, G: 100, B: 50, A: 10})
	if got := color.RGBAModel.Convert(opaque(img).At(0, 0)); got != (color.RGBA{R: 200, G: 100, B: 50, A: 255}) {
		t.Errorf("the colour became %v", got)
	}
	if full := pattern(2, 2); opaque(full) != image.Image(full) {
		t.Error("an opaque picture was copied")
	}
}

func TestRefusals(t *testing.T) {
	good := album{"https://pictures.example/a": pattern(8, 8), "https://pictures.example/m": hole(8, 8, image.Rect(1, 1, 2, 2))}
	for name, c := range map[string]struct {
		change    func(req *engine.Request)
		run       made
		pictures  album
		want      string
		retryable bool
	}{
		"no picture":   {func(r *engine.Request) { r.Image.InitImageURL = "" }, made{state: running}, good, "onnx removes things from a picture: initImageUrl is missing", false},
		"no mask":      {func(r *engine.Request) { r.Image.MaskURL = "" }, made{state: running}, good, "onnx removes what a mask shows: maskUrl is missing", false},
		"no model":     {func(r *engine.Request) { r.Source.Files[0].Filename = "lama.pt" }, made{state: running}, good, "onnx: the model has no file of role model that ends in .onnx; it must be published anew", false},
		"too large":    {func(r *engine.Request) { r.Image.Width = 5000 }, made{state: running}, good, "onnx: the picture is to be 5000 by 8; 4096 is the most", false},
		"other kind":   {func(r *engine.Request) { r.Kind, r.TTS = engine.KindTTS, &engine.TTS{} }, made{state: running}, good, "onnx engine cannot serve audio_tts tasks", false},
		"picture gone": {func(*engine.Request) {}, made{state: running}, album{}, "onnx: init picture: GET https://pictures.example/a -> 404", false},
		"no picture in it": {
			func(*engine.Request) {},
			made{state: running},
			album{"https://pictures.example/a": nil},
			"onnx: the init picture cannot be read: unexpected EOF", false,
		},
		"not installed": {
			func(*engine.Request) {},
			made{state: program.State{Problem: "the ONNX Runtime is not installed", Fix: "install it"}},
			good,
			"onnx: the ONNX Runtime is not installed; install it", true,
		},
		"a short answer": {func(*engine.Request) {}, made{state: running, short: true}, good, "onnx: the model answered no picture of 512 by 512 pixels", false},
		"it crashes":     {func(*engine.Request) {}, made{state: running, err: errors.New("helper crashed")}, good, "onnx: helper crashed", true},
	} {
		t.Run(name, func(t *testing.T) {
			req := job(t, 8, 8, "png")
			c.change(&req)
			_, _, err := run(t, newEngine(c.run, "m", c.pictures), req)
			if err == nil || !strings.HasPrefix(err.Error(), c.want) || engine.Retryable(err) != c.retryable {
				t.Errorf("err = %v, want %q", err, c.want)
			}
		})
	}
}

func TestModels(t *testing.T) {
	e := newEngine(made{state: running}, "m", nil)
	if got := e.Models(); len(got) != 1 || !slices.Equal(got[engine.KindImage], []string{"onnx:*"}) {
		t.Errorf("advertises %v", got)
	}
	if got := newEngine(made{}, "m", nil).Models(); len(got) != 0 {
		t.Errorf("advertises %v without the library", got)
	}
}

// The real library, with a model that looks like LaMa from outside.
func TestRealRemoval(t *testing.T) {
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
	for name, scale := range map[string]float32{"0 to 1": 1, "0 to 255": 255} {
		t.Run(name, func(t *testing.T) {
			model := filepath.Join(t.TempDir(), "lama.onnx")
			if err := os.WriteFile(model, testgraph.LaMa(scale), 0o600); err != nil {
				t.Fatal(err)
			}
			box, was := image.Rect(250, 250, 350, 330), pattern(640, 600)
			pictures := album{"https://pictures.example/a": was, "https://pictures.example/m": hole(640, 600, box)}
			img, _, err := run(t, newEngine(host, model, pictures), job(t, 640, 600, "png"))
			if err != nil {
				t.Fatal(err)
			}
			wantRemoved(t, img, was, box)
		})
	}
	t.Run("not a model", func(t *testing.T) {
		model := filepath.Join(t.TempDir(), "lama.onnx")
		if err := os.WriteFile(model, []byte("no model"), 0o600); err != nil {
			t.Fatal(err)
		}
		pictures := album{"https://pictures.example/a": pattern(8, 8), "https://pictures.example/m": hole(8, 8, image.Rect(1, 1, 2, 2))}
		_, _, err := run(t, newEngine(host, model, pictures), job(t, 8, 8, "png"))
		if failed, ok := errors.AsType[*engine.Error](err); !ok || failed.Class != engine.ClassModelCorrupt {
			t.Errorf("err = %v", err)
		}
	})
}
