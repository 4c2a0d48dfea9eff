// Package piper speaks with Piper voices (engines spec §9). It runs a voice itself,
// through the ONNX Runtime and the phonemes of espeak-ng, where both are there;
// else it runs the piper program.
package piper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"studioworker/worker/engine"
	"studioworker/worker/engine/media"
	"studioworker/worker/engine/onnx/runtime"
	"studioworker/worker/engine/process"
	"studioworker/worker/engine/program"
	"studioworker/worker/engine/supply"
)

// ID is the engine's name on the wire.
const ID engine.ID = "piper"

// Limits of one job.
const (
	textLimit  = 20_000 // characters
	speakLimit = 5 * time.Minute
	minSpeed   = 0.25
	maxSpeed   = 4
	pause      = 200 * time.Millisecond // between two sentences
	maxSamples = 1 << 28                // of one job
	scratchDir = "work"
	wavFile    = "result.wav"
	roleModel  = "model"
)

// runner runs models.
type runner interface {
	State(ctx context.Context) (program.State, error)
	Run(ctx context.Context, model string, inputs []runtime.Tensor, outputs ...string) ([]runtime.Tensor, error)
}

// phonemizer says how a text is spoken.
type phonemizer interface {
	Found() bool
	Phonemes(ctx context.Context, voice, text, dir string) ([]string, error)
}

// encoder turns the WAV in dir into the wished format.
type encoder interface {
	Sound(ctx context.Context, dir, wav, wish string) (engine.Result, error)
}

// Config is what the engine works with.
type Config struct {
	Log    *slog.Logger
	Run    runner
	Speech phonemizer
	// Tool is the piper program.
	Tool   *program.Tool
	Models supply.Models
	Sound  encoder
}

// Engine is the piper engine. It keeps no state.
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

// Speaks tells whether voices can be run here without the program.
func (e *Engine) Speaks() bool { return e.speaks(context.Background()) }

func (e *Engine) speaks(ctx context.Context) bool {
	state, err := e.cfg.Run.State(ctx)
	return err == nil && state.Runs() && e.cfg.Speech.Found()
}

// Models returns the sentinel of this engine when it can speak now.
func (e *Engine) Models() map[engine.Kind][]string {
	if !e.Speaks() {
		if state, err := e.cfg.Tool.Now(context.Background()); err != nil || !state.Runs() {
			return map[engine.Kind][]string{}
		}
	}
	return map[engine.Kind][]string{engine.KindTTS: {string(ID) + ":*"}}
}

// Run speaks one text.
func (e *Engine) Run(ctx context.Context, req engine.Request, progress func(engine.Progress)) (engine.Result, error) {
	if req.Kind != engine.KindTTS {
		return engine.Result{}, engine.UnsupportedKind(ID, req.Kind)
	}
	return e.Speak(ctx, req, progress)
}

// Speak speaks one text with the voice of a job, in the format that the job wants
// if it can be made here, else as WAV. Empty and overlong texts are bad input.
func (e *Engine) Speak(ctx context.Context, req engine.Request, progress func(engine.Progress)) (res engine.Result, err error) {
	if utf8.RuneCountInString(req.TTS.Text) > textLimit {
		return res, engine.BadInput(fmt.Sprintf("the text is longer than %d characters", textLimit))
	}
	parts := sentences(clean(req.TTS.Text))
	if len(parts) == 0 {
		return res, engine.BadInput("there is nothing to speak in the text")
	}
	own := e.speaks(ctx)
	path := ""
	if !own {
		if path, err = e.cfg.Tool.Ready(ctx); err != nil {
			return res, err
		}
	}
	held, err := e.cfg.Models.Ensure(ctx, supply.Set{Model: req.Model, Files: req.Source.Files}, progress)
	if err != nil {
		return res, err
	}
	defer held.Release()
	model := held.PathSuffix(roleModel, ".onnx")
	if model == "" {
		return res, engine.BadInput("the voice has no file of role model that ends in .onnx; it must be published anew")
	}
	settings := held.PathSuffix(roleModel, ".onnx.json")
	if settings == "" {
		settings = model + ".json"
	}
	voice, err := readConfig(settings)
	if err != nil {
		return res, &engine.Error{Class: engine.ClassModelCorrupt, Err: fmt.Errorf("the config of the voice cannot be read: %w", err)}
	}
	scratch := filepath.Join(req.Dir, scratchDir)
	if err := os.Mkdir(scratch, 0o700); err != nil {
		return res, fmt.Errorf("make the job's folder: %w", err)
	}
	defer func() {
		if removeErr := os.RemoveAll(scratch); err == nil && removeErr != nil {
			err = fmt.Errorf("remove the job's folder: %w", removeErr)
		}
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, speakLimit, &process.LimitError{Program: string(ID), Limit: speakLimit})
	defer cancel()
	if own {
		err = e.synthesize(ctx, req, parts, model, voice, scratch, progress)
	} else {
		err = e.program(ctx, req, path, parts, model, settings, voice, scratch, progress)
	}
	if err != nil {
		return res, engine.ChildError(err)
	}
	progress(engine.Progress{Step: len(parts), Total: len(parts), Text: "encoding"})
	return e.cfg.Sound.Sound(ctx, req.Dir, wavFile, req.TTS.Ext)
}

// clean makes valid text without control characters.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}

// speedOf is the speed of a job within bounds; what makes no sense is natural.
func speedOf(speed float64) float64 {
	if !(speed > 0) { // also not a number
		return 1
	}
	return min(max(speed, minSpeed), maxSpeed)
}

// languageSwitch is how espeak-ng marks words of another language.
var languageSwitch = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\([a-z]{2,3}(?:-[a-z0-9]+)*\)`) })

// synthesize runs the voice itself, a sentence at a time.
func (e *Engine) synthesize(ctx context.Context, req engine.Request, parts []sentence, model string, voice config, scratch string, progress func(engine.Progress)) error {
	var sound []float32
	scales := voice.scales(speedOf(req.TTS.Speed))
	unknown := 0
	for i, s := range parts {
		progress(engine.Progress{Step: i, Total: len(parts), Text: "speaking"})
		phonemes := s.text
		if voice.PhonemeType != "text" {
			clauses, err := e.cfg.Speech.Phonemes(ctx, voice.Espeak.Voice, s.text, scratch)
			if err != nil {
				return err
			}
			phonemes = languageSwitch().ReplaceAllString(s.punctuate(clauses), "")
		}
		ids, missing := voice.ids(norm.NFD.String(phonemes))
		unknown += missing
		inputs := []runtime.Tensor{
			{Name: "input", Shape: []int64{1, int64(len(ids))}, Ints: ids},
			{Name: "input_lengths", Shape: []int64{1}, Ints: []int64{int64(len(ids))}},
			{Name: "scales", Shape: []int64{3}, Floats: scales[:]},
		}
		if voice.NumSpeakers > 1 {
			inputs = append(inputs, runtime.Tensor{Name: "sid", Shape: []int64{1}, Ints: []int64{voice.speaker(req.TTS.Voice)}})
		}
		made, err := e.cfg.Run.Run(ctx, model, inputs, "output")
		if err != nil {
			if runtime.IsModelError(err) {
				return &engine.Error{Class: engine.ClassModelCorrupt, Err: err}
			}
			return err
		}
		if len(made) != 1 || len(made[0].Floats) == 0 || len(sound)+len(made[0].Floats) > maxSamples {
			return &engine.Error{Class: engine.ClassModelCorrupt, Err: errors.New("the voice made no sound, or too much of it")}
		}
		normalise(made[0].Floats)
		if i > 0 {
			sound = append(sound, make([]float32, int(pause.Seconds()*float64(voice.Audio.SampleRate)))...)
		}
		sound = append(sound, made[0].Floats...)
	}
	if unknown > 0 {
		e.cfg.Log.Info("the voice does not know some sounds of the text", "job_id", req.JobID, "missing", unknown)
	}
	if err := os.WriteFile(filepath.Join(req.Dir, wavFile), media.WAV(uint32(voice.Audio.SampleRate), sound), 0o600); err != nil {
		return fmt.Errorf("write the sound: %w", err)
	}
	return nil
}

// program runs the piper program. There are two of that name: one takes its text
// as a file, the other on standard input.
func (e *Engine) program(ctx context.Context, req engine.Request, path string, parts []sentence, model, settings string, voice config, scratch string, progress func(engine.Progress)) error {
	help, err := e.cfg.Tool.Says(ctx, path, "--help")
	if err != nil {
		return err
	}
	lines := make([]string, len(parts))
	for i, s := range parts {
		lines[i] = strings.Join(strings.Fields(s.text), " ")
	}
	input := filepath.Join(scratch, "text.txt")
	if err := os.WriteFile(input, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return fmt.Errorf("write the text: %w", err)
	}
	out := filepath.Join(req.Dir, wavFile)
	scales := voice.scales(speedOf(req.TTS.Speed))
	scale := func(i int) string { return strconv.FormatFloat(float64(scales[i]), 'f', -1, 32) }
	cfg := process.Config{
		Path: path, Dir: scratch, Env: e.cfg.Tool.Places.Environment(path), WallLimit: speakLimit,
		OnLine: func(s process.Stream, line string) {
			e.cfg.Log.Debug("engine output", "engine", ID, "job_id", req.JobID, "stream", s, "line", line)
		},
	}
	speaker := ""
	if voice.NumSpeakers > 1 {
		speaker = strconv.FormatInt(voice.speaker(req.TTS.Voice), 10)
	}
	if strings.Contains(help, "--input-file") {
		cfg.Args = []string{"-m", model, "-c", settings, "-i", input, "-f", out}
		if speaker != "" {
			cfg.Args = append(cfg.Args, "-s", speaker)
		}
		cfg.Args = append(cfg.Args, "--noise-scale", scale(0), "--length-scale", scale(1), "--noise-w-scale", scale(2))
	} else {
		// It writes a sound for each line, over the one before: all is one line.
		if err := os.WriteFile(input, []byte(strings.Join(lines, " ")+"\n"), 0o600); err != nil {
			return fmt.Errorf("write the text: %w", err)
		}
		cfg.Stdin = input
		cfg.Args = []string{"--model", model, "--config", settings, "--output_file", out}
		if speaker != "" {
			cfg.Args = append(cfg.Args, "--speaker", speaker)
		}
		cfg.Args = append(cfg.Args, "--noise_scale", scale(0), "--length_scale", scale(1), "--noise_w", scale(2), "--quiet")
	}
	progress(engine.Progress{Step: 0, Total: len(parts), Text: "speaking"})
	_, err = process.Run(ctx, cfg)
	return err
}
