// Package espeak is the text-to-speech engine over the espeak-ng program
// (engines spec §9). It needs no model. The program is found, never fetched.
package espeak

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"studioworker/worker/engine"
	"studioworker/worker/engine/process"
	"studioworker/worker/engine/program"
)

// ID is the engine's name on the wire.
const ID engine.ID = "espeak-ng"

// Limits of one job.
const (
	textLimit   = 20_000 // characters
	speakLimit  = 5 * time.Minute
	voicesLimit = 10 * time.Second
	naturalWPM  = 175 // words a minute at speed 1
	minWPM      = 80
	maxWPM      = 450
)

// Names of the files in the job's folder.
const (
	textFile   = "text.txt"
	resultFile = "result.wav"
)

// Config says where the program may be and what it may see.
type Config struct {
	// Log receives the program's output at debug level; nil means nowhere.
	Log *slog.Logger
	// Variable is the value of STUDIO_WORKER_ESPEAK: the program, if it is a
	// file.
	Variable string
	// Home is the home folder; .local/bin in it comes before Path.
	Home string
	// Path is a list of folders in the form of PATH. Relative ones are skipped.
	Path string
	// Environ is the worker's environment. The program sees the part that
	// process.Environment lets through.
	Environ []string
}

// Engine is the espeak-ng engine.
type Engine struct {
	cfg    Config
	finder program.Finder

	mu     sync.Mutex
	voices map[string]voices // known voices, by path of the program
}

// New makes the engine. It starts nothing and looks for nothing yet, so a
// program that is installed later is found without a restart.
func New(cfg Config) *Engine {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Engine{cfg: cfg, voices: map[string]voices{}}
}

// ID returns the engine's name on the wire.
func (*Engine) ID() engine.ID { return ID }

// Models returns one name for audio_tts when the program is there, else
// nothing.
func (e *Engine) Models() map[engine.Kind][]string {
	if e.find() == "" {
		return map[engine.Kind][]string{}
	}
	return map[engine.Kind][]string{engine.KindTTS: {string(ID)}}
}

// Run speaks one text into a WAV file, 22050 Hz, 16 bit and mono. Empty and
// overlong texts are bad input.
func (e *Engine) Run(ctx context.Context, req engine.Request, progress func(engine.Progress)) (engine.Result, error) {
	if req.Kind != engine.KindTTS {
		return engine.Result{}, engine.UnsupportedKind(ID, req.Kind)
	}
	if utf8.RuneCountInString(req.TTS.Text) > textLimit {
		return engine.Result{}, engine.BadInput(fmt.Sprintf("the text is longer than %d characters", textLimit))
	}
	text := cleanText(req.TTS.Text)
	if text == "" {
		return engine.Result{}, engine.BadInput("the text is empty")
	}
	e.finder.Forget() // it may just have been installed
	program := e.find()
	if program == "" {
		return engine.Result{}, notInstalled()
	}
	known, err := e.known(ctx, program)
	if err != nil {
		return engine.Result{}, fmt.Errorf("list voices: %w", engine.ChildError(err))
	}
	voice := known.choose(req.TTS.Voice, req.TTS.Language)
	progress(engine.Progress{Step: 0, Total: 1, Text: "speaking with voice " + voice})

	// The text goes by file: as an argument it could be taken for an option.
	input := filepath.Join(req.Dir, textFile)
	if err := os.WriteFile(input, []byte(text+"\n"), 0o600); err != nil {
		return engine.Result{}, fmt.Errorf("write text: %w", err)
	}
	out, err := e.run(ctx, process.Config{
		Path:      program,
		Args:      []string{"-v", voice, "-s", strconv.Itoa(wordsPerMinute(req.TTS.Speed)), "-f", textFile, "-w", resultFile},
		Dir:       req.Dir,
		WallLimit: speakLimit,
		OnLine: func(s process.Stream, line string) {
			e.cfg.Log.Debug("engine output", "engine", ID, "job_id", req.JobID, "stream", s, "line", line)
		},
	})
	if removeErr := os.Remove(input); err == nil && removeErr != nil {
		return engine.Result{}, fmt.Errorf("remove text: %w", removeErr)
	}
	switch {
	case err == nil:
	case strings.Contains(out.Stderr, "voice does not exist"):
		return engine.Result{}, &engine.Error{Class: engine.ClassBadInput, Err: err}
	default:
		return engine.Result{}, engine.ChildError(err)
	}
	progress(engine.Progress{Step: 1, Total: 1, Text: "done"})
	return engine.Result{File: resultFile, Ext: "wav"}, nil
}

func notInstalled() error {
	return &engine.Error{Class: engine.ClassEngineMissing, Err: errors.New("espeak-ng is not installed on this worker")}
}

// run runs the program with a home folder of its own, which goes with it: its
// sound library leaves settings where it finds a home.
func (e *Engine) run(ctx context.Context, cfg process.Config) (process.Output, error) {
	home, err := os.MkdirTemp("", "studio-worker-espeak-")
	if err != nil {
		return process.Output{}, fmt.Errorf("make a home for espeak-ng: %w", err)
	}
	cfg.Env = process.Environment(e.cfg.Environ)
	for _, name := range []string{"HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"} {
		cfg.Env = append(cfg.Env, name+"="+home) // of two entries the later counts
	}
	out, err := process.Run(ctx, cfg)
	if removeErr := os.RemoveAll(home); err == nil && removeErr != nil {
		err = fmt.Errorf("remove the home of espeak-ng: %w", removeErr)
	}
	return out, err
}

// find returns the path of the program, or nothing (engines spec §4.1).
func (e *Engine) find() string {
	places := program.Places{Home: e.cfg.Home, Path: e.cfg.Path}
	found, _ := e.finder.Find(places, program.Query{Name: "espeak-ng", Variable: e.cfg.Variable})
	return found.Path
}

// wordsPerMinute turns a speed, 1 being natural, into what the program takes.
// A speed that makes no sense counts as natural.
func wordsPerMinute(speed float64) int {
	if !(speed > 0) { // also not a number
		return naturalWPM
	}
	return int(math.Round(min(max(naturalWPM*speed, minWPM), maxWPM)))
}

// cleanText removes from a text what the program would take for something
// else: control characters, of which one starts a command, and "[[", which
// starts phonemes.
func cleanText(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	for strings.Contains(text, "[[") {
		text = strings.ReplaceAll(text, "[[", "[ [")
	}
	return strings.TrimSpace(text)
}

// VersionOf reads the version out of what espeak-ng --version says.
func VersionOf(text string) string {
	_, rest, ok := strings.Cut(text, "text-to-speech: ")
	if !ok {
		return ""
	}
	version, _, _ := strings.Cut(rest, " ")
	return version
}
