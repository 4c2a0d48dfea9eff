// Package whispercpp is the engine that turns speech into text with the
// whisper-cli program of whisper.cpp (engines spec §8). It runs the program once
// for each job.
package whispercpp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"studioworker/worker/engine"
	"studioworker/worker/engine/media"
	"studioworker/worker/engine/process"
	"studioworker/worker/engine/program"
	"studioworker/worker/engine/supply"
)

// ID is the engine's name on the wire.
const ID engine.ID = "whisper-cpp"

// Folder is where its models lie in the models folder.
const Folder = "stt"

// Limits of one job.
const (
	leastLimit   = 10 * time.Minute
	limitFactor  = 4 // times the length of the sound
	stallLimit   = 10 * time.Minute
	promptLimit  = 4 << 10 // bytes
	maxThreads   = 4
	maxJSON      = 64 << 20 // bytes of what the program writes
	scratchDir   = "work"
	roleModel    = "model"
	modelSuffix  = ".bin"
	hundred      = 100 // percent
	codeBadModel = 3
)

// converter makes of a sound what the program reads.
type converter interface {
	Speech(ctx context.Context, in, out string) error
}

// Config is what the engine works with.
type Config struct {
	// Log receives the program's output at debug level; nil means nowhere.
	Log    *slog.Logger
	Tool   *program.Tool
	Models supply.Models
	Inputs supply.Inputs
	Sound  converter
	// CPU tells whether the program must not look for a graphics card; nil means
	// that it may.
	CPU func() bool
	// VAD is a folder in which models that find speech may lie; empty means none.
	VAD func() string
	// Fetchable tells whether a job may count on Tool.Fetch when the program is not
	// there; nil means no.
	Fetchable func() bool
}

// Engine is the whisper-cpp engine. It keeps no state.
type Engine struct{ cfg Config }

// New makes the engine. It starts nothing and looks for nothing yet.
func New(cfg Config) *Engine {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Engine{cfg: cfg}
}

// ID returns the engine's name on the wire.
func (*Engine) ID() engine.ID { return ID }

// Models returns the sentinel of this engine when its program runs here or can
// be fetched.
func (e *Engine) Models() map[engine.Kind][]string {
	state, err := e.cfg.Tool.Now(context.Background())
	fetchable := state.Path == "" && e.cfg.Fetchable != nil && e.cfg.Fetchable()
	if err != nil || !state.Runs() && !fetchable {
		return map[engine.Kind][]string{}
	}
	return map[engine.Kind][]string{engine.KindSTT: {string(ID) + ":*"}}
}

// VersionOf reads the version out of what the program says; older ones say none.
func VersionOf(text string) string {
	for line := range strings.SplitSeq(text, "\n") {
		if _, version, ok := strings.Cut(line, "whisper.cpp version"); ok {
			return strings.TrimSpace(strings.TrimPrefix(version, ":"))
		}
	}
	return ""
}

// Run writes down what is said in one sound.
func (e *Engine) Run(ctx context.Context, req engine.Request, progress func(engine.Progress)) (res engine.Result, err error) {
	if req.Kind != engine.KindSTT {
		return res, engine.UnsupportedKind(ID, req.Kind)
	}
	if err := check(req); err != nil {
		return res, err
	}
	path, err := e.cfg.Tool.Ready(ctx)
	if err != nil {
		return res, err
	}
	held, err := e.cfg.Models.Ensure(ctx, supply.Set{Model: req.Model, Folder: Folder, Files: req.Source.Files}, progress)
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

	progress(engine.Progress{Total: hundred, Text: "fetching the sound"})
	sound, err := e.cfg.Inputs.Audio(ctx, req.STT.InputURL, scratch, "input")
	if err != nil {
		return res, err
	}
	wav := filepath.Join(scratch, "speech.wav")
	if err := e.cfg.Sound.Speech(ctx, sound, wav); err != nil {
		return res, err
	}
	length, err := media.Duration(wav)
	if err != nil {
		return res, fmt.Errorf("look at the converted sound: %w", err)
	}
	if length == 0 {
		return res, engine.BadInput("the sound is empty")
	}
	text, err := e.transcribe(ctx, req, path, held, wav, length, progress)
	if err != nil {
		return res, err
	}
	data, err := json.Marshal(text.result(req.STT.Timestamps, length))
	if err != nil {
		return res, fmt.Errorf("write the result: %w", err)
	}
	return engine.Result{JSON: string(data), Ext: "json"}, nil
}

// language matches what the program may take for a language: a code or an
// English name.
var language = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z]{2,20}$`) })

// check refuses what no worker could do.
func check(req engine.Request) error {
	s := req.STT
	switch {
	case !language().MatchString(languageOf(s.Language)):
		return engine.BadInput("the language is not one that whisper knows; use a code like en, or auto")
	case s.Timestamps != "" && s.Timestamps != "segment" && s.Timestamps != "word":
		return engine.BadInput(`timestamps must be "segment" or "word"`)
	case len(s.Prompt) > promptLimit || strings.ContainsRune(s.Prompt, 0):
		return engine.BadInput(fmt.Sprintf("the prompt is longer than %d bytes or holds a zero byte", promptLimit))
	case modelOf(req.Source.Files) < 0:
		return engine.BadInput("the model has no file of role model that ends in .bin; it must be published anew")
	}
	return nil
}

// languageOf is the language of a job as the program spells it: English when none
// was given, as the reference does. Of a code like en-GB the first part counts.
func languageOf(wanted string) string {
	wanted = strings.ToLower(strings.TrimSpace(wanted))
	if wanted == "" {
		return "en"
	}
	lang, _, _ := strings.Cut(wanted, "-")
	return lang
}

// isVAD tells whether a file holds a model that finds speech.
func isVAD(name string) bool {
	name = strings.ToLower(name)
	return strings.Contains(name, "silero") || strings.Contains(name, "vad")
}

// modelOf is the index of the file that recognises speech, or -1.
func modelOf(files []engine.File) int {
	for i, f := range files {
		if f.Role == roleModel && strings.HasSuffix(strings.ToLower(f.Filename), modelSuffix) && !isVAD(f.Filename) {
			return i
		}
	}
	return -1
}

// vad returns a model that finds speech, or nothing.
func (e *Engine) vad(held *supply.Held) string {
	for i, f := range held.Set.Files {
		if f.Role == roleModel && isVAD(f.Filename) {
			return held.Paths[i]
		}
	}
	if e.cfg.VAD == nil {
		return ""
	}
	found, err := filepath.Glob(filepath.Join(e.cfg.VAD(), "*"+modelSuffix))
	if err != nil || len(found) == 0 {
		return ""
	}
	return found[0]
}

// arguments is the command line of a job (engines spec §8).
func (e *Engine) arguments(req engine.Request, held *supply.Held, wav, base string) []string {
	s, model := req.STT, modelOf(req.Source.Files)
	lang, translate := languageOf(s.Language), s.Translate
	if strings.HasSuffix(strings.TrimSuffix(strings.ToLower(req.Source.Files[model].Filename), modelSuffix), ".en") {
		lang, translate = "en", false // the model knows nothing else
	}
	output := "-oj"
	if s.Timestamps == "word" {
		output = "-ojf"
	}
	args := []string{
		"-m", held.Paths[model], "-f", wav, "-l", lang, output, "-of", base, "-np", "-pp",
		"-t", strconv.Itoa(min(runtime.NumCPU(), maxThreads)),
	}
	if translate {
		args = append(args, "-tr")
	}
	if s.Prompt != "" {
		args = append(args, "--prompt", s.Prompt)
	}
	if s.VAD {
		if vad := e.vad(held); vad != "" {
			args = append(args, "--vad", "-vm", vad)
		} else {
			e.cfg.Log.Info("no model that finds speech is here; the whole sound is read", "job_id", req.JobID)
		}
	}
	if e.cfg.CPU != nil && e.cfg.CPU() {
		args = append(args, "-ng")
	}
	return args
}

// transcribe runs the program. When it cannot load the model, the model's files
// are checked, and it runs once more if one was bad.
func (e *Engine) transcribe(ctx context.Context, req engine.Request, path string, held *supply.Held, wav string, length time.Duration, progress func(engine.Progress)) (transcript, error) {
	base := strings.TrimSuffix(wav, ".wav")
	for again := false; ; again = true {
		progress(engine.Progress{Total: hundred, Text: "listening"})
		out, err := process.Run(ctx, process.Config{
			Path: path, Args: e.arguments(req, held, wav, base), Dir: filepath.Dir(path), Env: e.cfg.Tool.Places.Environment(path),
			WallLimit: max(leastLimit, limitFactor*length), StallLimit: stallLimit,
			OnLine: func(s process.Stream, line string) {
				if n, ok := percent(line); ok {
					progress(engine.Progress{Step: n, Total: hundred, Text: "listening"})
					return
				}
				e.cfg.Log.Debug("engine output", "engine", ID, "job_id", req.JobID, "stream", s, "line", line)
			},
		})
		if err == nil {
			return read(base+".json", out)
		}
		exit, ok := errors.AsType[*process.ExitError](err)
		badModel := ok && (exit.Code == codeBadModel || strings.Contains(out.Stderr, "failed to initialize whisper context"))
		if !badModel {
			return transcript{}, engine.ChildError(err)
		}
		if !again && held.Doubt != nil {
			changed, doubtErr := held.Doubt(ctx)
			if doubtErr != nil {
				return transcript{}, doubtErr
			}
			if changed {
				continue
			}
		}
		return transcript{}, &engine.Error{Class: engine.ClassModelCorrupt, Err: fmt.Errorf("the model cannot be loaded: %w", err)}
	}
}

// percent reads how far the program is, at most 100: it counts past that for
// sounds shorter than its window.
func percent(line string) (int, bool) {
	_, rest, ok := strings.Cut(line, "progress =")
	if !ok {
		return 0, false
	}
	digits, _, ok := strings.Cut(strings.TrimSpace(rest), "%")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || n < 0 {
		return 0, false
	}
	return min(n, hundred), true
}

// read reads what the program wrote. It ends well without having written
// anything when it did not like what it was given.
func read(path string, out process.Output) (transcript, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		for _, sign := range []string{"failed to read audio", "failed to decode", "unknown language"} {
			if at := strings.Index(out.Stderr, sign); at >= 0 {
				line, _, _ := strings.Cut(out.Stderr[at:], "\n")
				return transcript{}, engine.BadInput("whisper-cli wrote no text: " + line)
			}
		}
		return transcript{}, &engine.Error{Class: engine.ClassEngineCrash, Err: errors.New("whisper-cli ended well but wrote no text")}
	}
	if err != nil {
		return transcript{}, fmt.Errorf("read the text: %w", err)
	}
	if info.Size() > maxJSON {
		return transcript{}, &engine.Error{Class: engine.ClassEngineCrash, Err: fmt.Errorf("whisper-cli wrote more than %d bytes of text", maxJSON)}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return transcript{}, fmt.Errorf("read the text: %w", err)
	}
	text, err := parse(data)
	if err != nil {
		return transcript{}, &engine.Error{Class: engine.ClassEngineCrash, Err: fmt.Errorf("what whisper-cli wrote cannot be read: %w", err)}
	}
	return text, nil
}
