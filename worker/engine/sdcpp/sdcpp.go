// Package sdcpp is the engine that makes pictures, and the pictures of videos,
// with the sd-cli program of stable-diffusion.cpp (engines spec §5). It runs the
// program once for each job.
package sdcpp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	_ "image/jpeg" // grey ones are among them
	"image/png"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/image/bmp"

	"studioworker/worker/engine"
	"studioworker/worker/engine/process"
	"studioworker/worker/engine/program"
	"studioworker/worker/engine/supply"
)

// ID is the engine's name on the wire.
const ID engine.ID = "sd-cpp"

// Limits of one run (engines spec §2.1).
const (
	imageLimit = 30 * time.Minute
	imageStall = 10 * time.Minute
	videoLimit = 2 * time.Hour
	videoStall = 15 * time.Minute
	// maxResult bounds a picture in bytes: 4096 by 4096 pixels without any packing.
	maxResult = 4096*4096*4 + 1<<20
)

// scratchDir is the folder of everything but the result, in the folder of a job.
const scratchDir = "work"

// assembler makes a video of single pictures.
type assembler interface {
	// Assemble reads the pictures frame_00000.png and on from frames and writes the
	// video into dir. progress hears how many are in it.
	Assemble(ctx context.Context, frames, dir string, fps int, ext string, progress func(done int)) (engine.Result, error)
}

// Config is what the engine works with.
type Config struct {
	// Log receives the program's output at debug level; nil means nowhere.
	Log    *slog.Logger
	Tool   *program.Tool
	Models supply.Models
	Inputs supply.Inputs
	// Video makes videos; nil means that the engine makes none.
	Video assembler
	// Fetchable tells whether a job may count on Tool.Fetch when the program is not
	// there; nil means no.
	Fetchable func() bool
}

// Engine is the sd-cpp engine.
type Engine struct {
	cfg    Config
	health program.Health
}

// New makes the engine. It starts nothing and looks for nothing yet.
func New(cfg Config) *Engine {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Engine{cfg: cfg}
}

// ID returns the engine's name on the wire.
func (*Engine) ID() engine.ID { return ID }

// Models returns the sentinel of this engine for the kinds that it can serve
// now: the program runs here, or can be fetched, and the machine has not failed
// lately.
func (e *Engine) Models() map[engine.Kind][]string {
	models := map[engine.Kind][]string{}
	if _, withdrawn := e.health.Withdrawn(); withdrawn {
		return models
	}
	if state, err := e.cfg.Tool.Now(context.Background()); err != nil || !state.Runs() {
		missing := err == nil && state.Path == ""
		if !missing || e.cfg.Fetchable == nil || !e.cfg.Fetchable() {
			return models
		}
	}
	models[engine.KindImage] = []string{string(ID) + ":*"}
	if e.cfg.Video != nil {
		models[engine.KindVideo] = []string{string(ID) + ":*"}
	}
	return models
}

// Problem says why the engine takes no jobs although its program runs; empty
// when it does.
func (e *Engine) Problem() string {
	reason, _ := e.health.Withdrawn()
	return reason
}

// VersionOf reads the version out of what sd-cli --version says.
func VersionOf(text string) string {
	for line := range strings.SplitSeq(text, "\n") {
		if _, version, ok := strings.Cut(line, "stable-diffusion.cpp version "); ok {
			return strings.TrimSpace(version)
		}
	}
	return ""
}

// IsCommit tells whether a version names a commit, by at least seven of its
// digits (engines spec §4.1).
func IsCommit(version, commit string) bool {
	const digits = 7
	at := strings.LastIndex(version, "commit ")
	if at < 0 {
		return false
	}
	word, _, _ := strings.Cut(strings.TrimSpace(version[at+len("commit "):]), " ")
	word, commit = strings.ToLower(word), strings.ToLower(commit)
	if strings.Trim(word, "0123456789abcdef") != "" {
		return false
	}
	n := min(len(word), len(commit))
	return n >= digits && word[:n] == commit[:n]
}

// Run makes one picture or one video.
func (e *Engine) Run(ctx context.Context, req engine.Request, progress func(engine.Progress)) (res engine.Result, err error) {
	if req.Kind != engine.KindImage && (req.Kind != engine.KindVideo || e.cfg.Video == nil) {
		return res, engine.UnsupportedKind(ID, req.Kind)
	}
	p, err := newPlan(req)
	if err != nil {
		return res, err
	}
	log := e.cfg.Log.With("engine", ID, "job_id", req.JobID)
	if p.clamped {
		log.Info("picture size or steps were brought within bounds", "width", p.width, "height", p.height, "steps", p.steps)
	}
	log.Info("seed", "seed", p.seed, "chosen", p.chosenSeed)
	if !hasModel(req.Source) {
		return res, engine.BadInput("the model has no file of role diffusion-model or model; it must be published anew")
	}
	path, err := e.cfg.Tool.Ready(ctx) // before the model: without the program there is no need for it
	if err != nil {
		return res, err
	}
	help, err := e.cfg.Tool.Says(ctx, path, "--help")
	if err != nil {
		return res, err
	}
	held, err := e.cfg.Models.Ensure(ctx, supply.Set{Model: req.Model, Files: req.Source.Files}, progress)
	if err != nil {
		return res, err
	}
	defer held.Release()

	scratch := filepath.Join(req.Dir, scratchDir)
	if err := os.Mkdir(scratch, 0o700); err != nil {
		return res, fmt.Errorf("make the job's folder: %w", err)
	}
	defer func() {
		if removeErr := os.RemoveAll(scratch); err == nil && removeErr != nil {
			err = fmt.Errorf("remove the job's folder: %w", removeErr)
		}
	}()
	files, err := e.prepare(ctx, p, held, scratch, help)
	if err != nil {
		return res, err
	}
	if err := e.render(ctx, log, path, p, files, help, progress); err != nil {
		return res, err
	}
	if p.frames > 0 {
		return e.cfg.Video.Assemble(ctx, scratch, req.Dir, int(p.fps), p.ext, func(done int) {
			progress(engine.Progress{Step: done, Total: int(p.frames), Text: "making the video"})
		})
	}
	return publish(files.out, req.Dir, p)
}

// hasModel tells whether a source names what is to be loaded.
func hasModel(s engine.Source) bool {
	for _, file := range s.Files {
		if file.Role == roleDiffusion || file.Role == roleModel {
			return true
		}
	}
	return false
}

// prepare fetches the pictures of a job and writes its long texts.
func (e *Engine) prepare(ctx context.Context, p plan, held *supply.Held, scratch, help string) (paths, error) {
	f := paths{model: held, out: filepath.Join(scratch, "result."+p.render)}
	if p.frames > 0 {
		f.out = filepath.Join(scratch, "frame_%05d.png")
	}
	for _, input := range []struct {
		url, base string
		to        *string
	}{{p.refURL, "reference", &f.ref}, {p.initURL, "init", &f.init}, {p.maskURL, "mask", &f.mask}} {
		if input.url == "" {
			continue
		}
		path, err := e.cfg.Inputs.Image(ctx, input.url, scratch, input.base)
		if err != nil {
			return f, fmt.Errorf("%s picture: %w", input.base, err)
		}
		if input.base != "mask" {
			if path, err = coloured(path); err != nil {
				return f, fmt.Errorf("%s picture: %w", input.base, err)
			}
		}
		*input.to = path
	}
	for _, text := range []struct {
		text, flag, name string
		to               *string
	}{{p.prompt, flagPromptFile, "prompt.txt", &f.promptFile}, {p.negative, flagNegativeFile, "negative.txt", &f.negateFile}} {
		if len(text.text) <= longText || !strings.Contains(help, text.flag) {
			continue
		}
		*text.to = filepath.Join(scratch, text.name)
		if err := os.WriteFile(*text.to, []byte(text.text), 0o600); err != nil {
			return f, fmt.Errorf("write the prompt: %w", err)
		}
	}
	for i, file := range held.Set.Files {
		if file.Role != roleLoRA {
			continue
		}
		f.lora = filepath.Join(scratch, "lora")
		if err := os.MkdirAll(f.lora, 0o700); err != nil {
			return f, fmt.Errorf("make the folder of LoRAs: %w", err)
		}
		target := filepath.Join(f.lora, filepath.Base(held.Paths[i]))
		if os.Symlink(held.Paths[i], target) != nil { // where only some people may make them
			if err := os.Link(held.Paths[i], target); err != nil {
				return f, fmt.Errorf("bring a LoRA to the job: %w", err)
			}
		}
	}
	return f, nil
}

// render runs the program. When it cannot load the model, the model's files are
// checked, and the program runs once more if one was bad.
func (e *Engine) render(ctx context.Context, log *slog.Logger, path string, p plan, f paths, help string, progress func(engine.Progress)) error {
	for again := false; ; again = true {
		out, err := e.run(ctx, log, path, p, f, help, progress)
		if err == nil {
			e.health.Well()
			return check(f.out, p, out)
		}
		trouble, err := explain(out, err)
		switch trouble {
		case troubleGPU:
			e.health.Fail(err.Error(), strings.Contains(out.Stderr+out.Stdout, "ErrorDeviceLost"))
		case troubleModel:
			if again || f.model.Doubt == nil {
				return err
			}
			progress(engine.Progress{Total: int(p.steps), Text: "checking the model"})
			changed, doubtErr := f.model.Doubt(ctx)
			if doubtErr != nil {
				return doubtErr
			}
			if changed {
				log.Warn("the model was bad and was fetched anew", "error", err)
				continue
			}
		case troubleNone:
		}
		return err
	}
}

// run runs the program once.
func (e *Engine) run(ctx context.Context, log *slog.Logger, path string, p plan, f paths, help string, progress func(engine.Progress)) (process.Output, error) {
	wall, stall := imageLimit, imageStall
	if p.frames > 0 {
		wall, stall = videoLimit, videoStall
	}
	progress(engine.Progress{Total: int(p.steps), Text: phaseLoading})
	lines := reader{steps: int(p.steps), progress: progress, phase: phaseLoading}
	return process.Run(ctx, process.Config{
		Path: path, Args: p.arguments(f, help), Dir: filepath.Dir(path), Env: e.cfg.Tool.Places.Environment(path),
		WallLimit: wall, StallLimit: stall,
		OnLine: func(s process.Stream, line string) {
			lines.line(line)
			log.Debug("engine output", "stream", s, "line", line)
		},
	})
}

// check looks whether the program left what it should. It can end well without
// having written anything.
func check(out string, p plan, said process.Output) error {
	if p.frames > 0 {
		out = fmt.Sprintf(out, 0)
	}
	info, err := os.Stat(out)
	if errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == 0 {
		text := "sd-cli ended well but wrote no picture"
		if line := lastMeaningful(said); line != "" {
			text += ": " + line
		}
		return &engine.Error{Class: engine.ClassEngineCrash, Err: errors.New(text)}
	}
	if err != nil {
		return fmt.Errorf("look at the picture: %w", err)
	}
	if info.Size() > maxResult {
		return &engine.Error{Class: engine.ClassEngineCrash, Err: errors.New("sd-cli wrote a picture larger than any that was asked for")}
	}
	return nil
}

// publish makes the result of the picture that the program wrote: without what
// it says about the prompt, in the format that the job wants.
func publish(out, dir string, p plan) (engine.Result, error) {
	data, err := os.ReadFile(out)
	if err != nil {
		return engine.Result{}, fmt.Errorf("read the picture: %w", err)
	}
	if format(data) != p.render {
		return engine.Result{}, &engine.Error{Class: engine.ClassEngineCrash, Err: fmt.Errorf("sd-cli wrote no valid %s", p.render)}
	}
	data = withoutMetadata(data, p.render)
	if p.ext != p.render {
		if data, err = toBMP(data); err != nil {
			return engine.Result{}, err
		}
	}
	res := engine.Result{File: "result." + p.ext, Ext: p.ext}
	if err := os.WriteFile(filepath.Join(dir, res.File), data, 0o600); err != nil {
		return engine.Result{}, fmt.Errorf("write the result: %w", err)
	}
	return res, nil
}

// coloured returns a picture that has colours: the program refuses a grey one, where
// the reference worker's jobs name any. One that cannot be read here is left to the
// program.
func coloured(path string) (string, error) {
	data, err := os.ReadFile(path) // Inputs bounds it, and its pixels
	if err != nil {
		return "", fmt.Errorf("read the picture: %w", err)
	}
	size, _, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil || size.ColorModel != color.GrayModel && size.ColorModel != color.Gray16Model {
		return path, nil //nolint:nilerr // the program says what is wrong with it
	}
	grey, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return path, nil //nolint:nilerr // as above
	}
	full := image.NewRGBA(grey.Bounds())
	draw.Draw(full, full.Rect, grey, grey.Bounds().Min, draw.Src)
	var buf bytes.Buffer
	if err := png.Encode(&buf, full); err != nil {
		return "", fmt.Errorf("give the picture colours: %w", err)
	}
	path = strings.TrimSuffix(path, filepath.Ext(path)) + ".png"
	if err := os.WriteFile(path, buf.Bytes(), 0o600); err != nil {
		return "", fmt.Errorf("give the picture colours: %w", err)
	}
	return path, nil
}

// toBMP converts a picture that the program wrote as PNG.
func toBMP(data []byte) ([]byte, error) {
	// Its size is the one that we asked for; the file itself is bounded.
	size, err := png.DecodeConfig(bytes.NewReader(data))
	if err == nil && (size.Width > maxSide || size.Height > maxSide) {
		err = errors.New("it is larger than what was asked for")
	}
	if err != nil {
		return nil, &engine.Error{Class: engine.ClassEngineCrash, Err: fmt.Errorf("read the picture of sd-cli: %w", err)}
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, &engine.Error{Class: engine.ClassEngineCrash, Err: fmt.Errorf("read the picture of sd-cli: %w", err)}
	}
	var buf bytes.Buffer
	if err := bmp.Encode(&buf, img); err != nil {
		return nil, fmt.Errorf("encode bmp: %w", err)
	}
	return buf.Bytes(), nil
}
