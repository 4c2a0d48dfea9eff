// Package onnx is the engine that runs ONNX models: LaMa, which removes things
// from pictures (engines spec §6), and voices, which package piper speaks with.
package onnx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	_ "image/gif" // may be named by a job
	"image/jpeg"
	"image/png"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/HugoSmits86/nativewebp"
	_ "golang.org/x/image/bmp" // this too
	"golang.org/x/image/webp"

	"studioworker/worker/engine"
	"studioworker/worker/engine/onnx/runtime"
	"studioworker/worker/engine/program"
	"studioworker/worker/engine/supply"
)

// ID is the engine's name on the wire.
const ID engine.ID = "onnx"

// Bounds of a picture.
const (
	maxSide   = 4096
	maxPixels = 50_000_000 // of a picture that a job names
	// webpPixels is the largest picture that is made as WebP: the encoder needs some
	// 50 bytes a pixel.
	webpPixels  = 2048 * 2048
	jpegQuality = 90
	scratchDir  = "work"
	steps       = 3
)

// runner runs models.
type runner interface {
	State(ctx context.Context) (program.State, error)
	Run(ctx context.Context, model string, inputs []runtime.Tensor, outputs ...string) ([]runtime.Tensor, error)
}

// voice speaks with an ONNX voice.
type voice interface {
	Speaks() bool // now
	Speak(ctx context.Context, req engine.Request, progress func(engine.Progress)) (engine.Result, error)
}

// Config is what the engine works with.
type Config struct {
	Log    *slog.Logger
	Run    runner
	Models supply.Models
	Inputs supply.Inputs
	// Voice speaks; nil means that this engine does not.
	Voice voice
}

// Engine is the onnx engine. It keeps no state.
type Engine struct{ cfg Config }

// New makes the engine. It starts nothing yet.
func New(cfg Config) *Engine {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Engine{cfg: cfg}
}

// ID returns the engine's name on the wire.
func (*Engine) ID() engine.ID { return ID }

// Models returns the sentinel of this engine for the kinds that it can serve now.
func (e *Engine) Models() map[engine.Kind][]string {
	models := map[engine.Kind][]string{}
	if state, err := e.cfg.Run.State(context.Background()); err != nil || !state.Runs() {
		return models
	}
	models[engine.KindImage] = []string{string(ID) + ":*"}
	if e.cfg.Voice != nil && e.cfg.Voice.Speaks() {
		models[engine.KindTTS] = []string{string(ID) + ":*"}
	}
	return models
}

// Run removes something from one picture, or speaks one text.
func (e *Engine) Run(ctx context.Context, req engine.Request, progress func(engine.Progress)) (engine.Result, error) {
	switch {
	case req.Kind == engine.KindTTS && e.cfg.Voice != nil:
		return e.cfg.Voice.Speak(ctx, req, progress)
	case req.Kind == engine.KindImage:
		return e.remove(ctx, req, progress)
	default:
		return engine.Result{}, engine.UnsupportedKind(ID, req.Kind)
	}
}

// remove runs LaMa.
func (e *Engine) remove(ctx context.Context, req engine.Request, progress func(engine.Progress)) (res engine.Result, err error) {
	switch {
	case req.Image.InitImageURL == "":
		return res, engine.BadInput("onnx removes things from a picture: initImageUrl is missing")
	case req.Image.MaskURL == "":
		return res, engine.BadInput("onnx removes what a mask shows: maskUrl is missing")
	}
	width, height, err := size(req)
	if err != nil {
		return res, err
	}
	if err := e.ready(ctx); err != nil {
		return res, err
	}
	held, err := e.cfg.Models.Ensure(ctx, supply.Set{Model: req.Model, Files: req.Source.Files}, progress)
	if err != nil {
		return res, err
	}
	defer held.Release()
	model := held.PathSuffix("model", ".onnx")
	if model == "" {
		return res, engine.BadInput("the model has no file of role model that ends in .onnx; it must be published anew")
	}
	progress(engine.Progress{Step: 0, Total: steps, Text: "fetching the pictures"})
	picture, mask, err := e.pictures(ctx, req)
	if err != nil {
		return res, err
	}
	progress(engine.Progress{Step: 1, Total: steps, Text: "painting"})
	s := newScene(picture, mask, width, height)
	part := s.crop()
	in, hole := s.tensors(part)
	made, err := e.cfg.Run.Run(ctx, model, []runtime.Tensor{in, hole}, "output")
	if err != nil {
		return res, modelError(err)
	}
	if len(made) != 1 || len(made[0].Floats) < 3*tensorSide*tensorSide {
		return res, &engine.Error{Class: engine.ClassModelCorrupt, Err: errors.New("the model answered no picture of 512 by 512 pixels")}
	}
	progress(engine.Progress{Step: 2, Total: steps, Text: "encoding"})
	data, ext, err := encode(s.blend(pictureOf(made[0].Floats), part), req.Image.Ext)
	if err != nil {
		return res, err
	}
	res = engine.Result{File: "result." + ext, Ext: ext}
	if err := os.WriteFile(filepath.Join(req.Dir, res.File), data, 0o600); err != nil {
		return res, fmt.Errorf("write the result: %w", err)
	}
	progress(engine.Progress{Step: steps, Total: steps, Text: "done"})
	return res, nil
}

// modelError gives an error of a run its class.
func modelError(err error) error {
	if runtime.IsModelError(err) {
		return &engine.Error{Class: engine.ClassModelCorrupt, Err: err}
	}
	return err
}

// ready refuses a job before anything is fetched when models cannot be run here.
func (e *Engine) ready(ctx context.Context) error {
	state, err := e.cfg.Run.State(ctx)
	if err != nil {
		return err
	}
	if !state.Runs() {
		return program.Missing(state.Problem, state.Fix)
	}
	return nil
}

// size is the size of the result: what the job says, else the model.
func size(req engine.Request) (width, height int, err error) {
	w, h := req.Image.Width, req.Image.Height
	if w == 0 {
		w = req.Source.Defaults.Width
	}
	if h == 0 {
		h = req.Source.Defaults.Height
	}
	if w > maxSide || h > maxSide {
		return 0, 0, engine.BadInput(fmt.Sprintf("the picture is to be %d by %d; %d is the most", w, h, maxSide))
	}
	return int(max(w, 1)), int(max(h, 1)), nil
}

// pictures fetches and decodes the picture and the mask of a job.
func (e *Engine) pictures(ctx context.Context, req engine.Request) (picture, mask image.Image, err error) {
	scratch := filepath.Join(req.Dir, scratchDir)
	if err := os.Mkdir(scratch, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make the job's folder: %w", err)
	}
	defer func() {
		if removeErr := os.RemoveAll(scratch); err == nil && removeErr != nil {
			err = fmt.Errorf("remove the job's folder: %w", removeErr)
		}
	}()
	for _, input := range []struct {
		url, name string
		to        *image.Image
	}{{req.Image.InitImageURL, "init", &picture}, {req.Image.MaskURL, "mask", &mask}} {
		path, err := e.cfg.Inputs.Image(ctx, input.url, scratch, input.name)
		if err != nil {
			return nil, nil, fmt.Errorf("%s picture: %w", input.name, err)
		}
		if *input.to, err = decode(path); err != nil {
			return nil, nil, engine.BadInput(fmt.Sprintf("the %s picture cannot be read: %v", input.name, err))
		}
	}
	return picture, mask, nil
}

// decode reads a picture, after a look at its size.
func decode(path string) (image.Image, error) {
	data, err := os.ReadFile(path) // Inputs bounds it
	if err != nil {
		return nil, err
	}
	size, _, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	if size.Width <= 0 || size.Height <= 0 || size.Width > maxPixels/size.Height {
		return nil, fmt.Errorf("it has more than %d pixels", maxPixels)
	}
	img, _, err := image.Decode(bytes.NewReader(data))
	return img, err
}

// encode writes a picture and says in what format: the wished one of png and jpg,
// else WebP without loss, or PNG when it is too large for that.
func encode(img *image.RGBA, wish string) (data []byte, ext string, err error) {
	var buf bytes.Buffer
	switch strings.ToLower(strings.TrimSpace(wish)) {
	case "jpg", "jpeg":
		err = jpeg.Encode(&buf, img, &jpeg.Options{Quality: jpegQuality})
		return buf.Bytes(), "jpg", err
	case "png":
	default:
		if img.Rect.Dx()*img.Rect.Dy() > webpPixels {
			break
		}
		if err := nativewebp.Encode(&buf, img, nil); err != nil {
			return nil, "", fmt.Errorf("encode webp: %w", err)
		}
		// The encoder writes now and then what nobody can read.
		if back, err := webp.Decode(bytes.NewReader(buf.Bytes())); err == nil && same(img, back) {
			return buf.Bytes(), "webp", nil
		}
		buf.Reset()
	}
	err = png.Encode(&buf, img)
	return buf.Bytes(), "png", err
}

// same tells whether two pictures show the same.
func same(a *image.RGBA, b image.Image) bool {
	if a.Rect != b.Bounds() {
		return false
	}
	for y := range a.Rect.Dy() {
		for x := range a.Rect.Dx() {
			r1, g1, b1, _ := a.At(x, y).RGBA()
			if r2, g2, b2, _ := b.At(x, y).RGBA(); r1 != r2 || g1 != g2 || b1 != b2 {
				return false
			}
		}
	}
	return true
}
