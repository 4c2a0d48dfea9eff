// Package llamacpp is the engine that runs language models with the llama-server
// program of llama.cpp (engines spec §7).
//
// A server holds one model in memory and stays for a while after its last job,
// so that the next one answers at once. It is unloaded when it was idle for long,
// when memory is short, when another model needs the room, and by Release and
// Unload. One that Load asked for does not go for the first and the third reason, and
// Restore brings it back. One job runs at a time. Close stops everything; the servers also end
// with the worker, however that ends.
package llamacpp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"studioworker/worker/engine"
	"studioworker/worker/engine/program"
	"studioworker/worker/engine/supply"
)

// ID is the engine's name on the wire.
const ID engine.ID = "llama-cpp"

// Folder is where its models lie in the models folder.
const Folder = "llm"

// Limits and habits.
const (
	jobLimit       = 15 * time.Minute
	unloadPatience = 10 * time.Second // for a running job when its model is unloaded
	endPatience    = 2 * time.Second  // for a server whose connection broke
	keepWarm       = 2 * time.Minute  // after the last job
	lookPeriod     = 10 * time.Second // at the memory, while a server idles
	defaultContext = 8192             // tokens
	reserve        = 1 << 30          // bytes of memory that stay free (engines spec §12)
	allLayers      = 99
	modelSuffix    = ".gguf"
	roleModel      = "model"
	roleVision     = "text-encoder-vision"
)

// Config is what the engine works with.
type Config struct {
	// Log receives the program's output at debug level; nil means nowhere.
	Log    *slog.Logger
	Tool   *program.Tool
	Models supply.Models
	// Root is the models folder in force.
	Root func() string
	// Free tells the free memory in bytes, of the first graphics card or, for cpu,
	// of the system; false when nobody can tell. Nil means that.
	Free func(ctx context.Context, cpu bool) (uint64, bool)
	// Own tells how much memory a process has for itself, in bytes; nil means that
	// nobody can tell.
	Own func(pid int) (uint64, error)
	// Residency is where it is remembered which models Load asked for; empty means
	// that a restart forgets them.
	Residency string
	// Threads bounds the processor threads of a server; 0 leaves it to the program.
	Threads int
	// Keep is how long a server stays after its last job; 0 = two minutes.
	Keep time.Duration
	// Fetchable tells whether a job may count on Tool.Fetch when the program is not
	// there; nil means no.
	Fetchable func() bool
}

// Engine is the llama-cpp engine.
type Engine struct {
	cfg    Config
	health program.Health
	life   context.Context //nolint:containedctx // of the servers, which outlive the job that started them
	end    context.CancelCauseFunc
	turn   chan struct{} // holds one: whoever took it out works, loads or unloads
	minds  sync.WaitGroup
	heads  heads

	residents residency

	mu     sync.Mutex
	loaded map[string]*resident
	// running is the job in flight: its key, and how it is stopped.
	running     string
	stopRunning context.CancelCauseFunc
	states      map[string]State // of models that Load was asked for, by name
}

// New makes the engine. It starts nothing before the first job.
func New(cfg Config) *Engine {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Keep <= 0 {
		cfg.Keep = keepWarm
	}
	life, end := context.WithCancelCause(context.Background())
	e := &Engine{cfg: cfg, life: life, end: end, turn: make(chan struct{}, 1), loaded: map[string]*resident{}, states: map[string]State{}}
	e.residents.path, e.residents.log = cfg.Residency, cfg.Log
	e.turn <- struct{}{}
	return e
}

// ID returns the engine's name on the wire.
func (*Engine) ID() engine.ID { return ID }

// Models returns the models that lie in the folder llm, and the sentinel of this
// engine, when its program runs here or can be fetched and the machine has not
// failed lately.
func (e *Engine) Models() map[engine.Kind][]string {
	none := map[engine.Kind][]string{}
	if _, withdrawn := e.health.Withdrawn(); withdrawn {
		return none
	}
	state, err := e.cfg.Tool.Now(context.Background())
	fetchable := state.Path == "" && e.cfg.Fetchable != nil && e.cfg.Fetchable()
	if err != nil || !state.Runs() && !fetchable {
		return none
	}
	return map[engine.Kind][]string{engine.KindLLM: append(e.Stems(), string(ID)+":*")}
}

// Stems returns the names of the model files in the folder llm, without their
// ending.
func (e *Engine) Stems() []string {
	entries, err := os.ReadDir(filepath.Join(e.cfg.Root(), Folder))
	if err != nil {
		return nil
	}
	var stems []string
	for _, entry := range entries {
		if stem, ok := strings.CutSuffix(entry.Name(), modelSuffix); ok && stem != "" && !strings.HasPrefix(stem, ".") && !entry.IsDir() {
			stems = append(stems, stem)
		}
	}
	return stems
}

// Problem says why the engine takes no jobs although its program runs; empty
// when it does.
func (e *Engine) Problem() string {
	reason, _ := e.health.Withdrawn()
	return reason
}

// VersionOf reads the version out of what llama-server --version says.
func VersionOf(text string) string {
	for line := range strings.SplitSeq(text, "\n") {
		if version, ok := strings.CutPrefix(line, "version: "); ok {
			return strings.TrimSpace(version)
		}
	}
	return ""
}

// take waits for the turn.
func (e *Engine) take(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case <-e.turn:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if e.life.Err() != nil {
		e.give()
		return errClosed
	}
	return nil
}

func (e *Engine) give() { e.turn <- struct{}{} }

// errClosed says that the engine was closed.
var errClosed = errors.New("the worker is stopping")

// Close stops all servers and waits for them. Jobs in flight fail.
func (e *Engine) Close() {
	e.mu.Lock()
	if e.stopRunning != nil {
		e.stopRunning(errClosed)
	}
	e.mu.Unlock()
	e.end(errClosed)
	<-e.turn
	e.unloadIf(errClosed, func(*resident) bool { return true })
	e.give()
	e.minds.Wait()
}

// plan is a job before its server is there.
type plan struct {
	request chatRequest
	model   string
	context uint32 // asked for; 0 = the default
	source  engine.Source
	memory  uint64 // the estimate in bytes; 0 = unknown
}

// Run answers one conversation.
func (e *Engine) Run(ctx context.Context, req engine.Request, progress func(engine.Progress)) (engine.Result, error) {
	if req.Kind != engine.KindLLM {
		return engine.Result{}, engine.UnsupportedKind(ID, req.Kind)
	}
	request, err := newRequest(req.Model, req.LLM, req.Source.Defaults.ChatTemplateKwargs)
	if err != nil {
		return engine.Result{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, jobLimit, &engine.Error{
		Class: engine.ClassTimeout, Err: fmt.Errorf("timed out after %v: answering", jobLimit),
	})
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if err := e.take(ctx); err != nil {
		return engine.Result{}, err
	}
	defer e.give()
	start := time.Now()
	a, err := e.answer(ctx, stop, plan{
		request: request, model: req.Model, context: req.Source.Defaults.ContextSize, source: req.Source, memory: uint64(max(0, req.MemoryGB) * (1 << 30)),
	}, newTeller(req.Delta), progress)
	if err != nil {
		return engine.Result{}, err
	}
	took := time.Since(start)
	e.cfg.Log.Info("language model answered", "job_id", req.JobID, "prompt_tokens", a.usage.Prompt, "tokens", a.usage.Completion,
		"prompt_tokens_per_second", int(a.prompt), "tokens_per_second", int(a.predicted), "elapsed_ms", took.Milliseconds())
	data, err := json.Marshal(a.result(req.Model, took))
	if err != nil {
		return engine.Result{}, fmt.Errorf("encode the answer: %w", err)
	}
	return engine.Result{JSON: string(data), Ext: "json"}, nil
}

// answer asks the server of a model. One that crashes is started once more.
func (e *Engine) answer(ctx context.Context, stop context.CancelCauseFunc, p plan, tell *teller, progress func(engine.Progress)) (*answer, error) {
	for again := false; ; again = true {
		r, err := e.acquire(ctx, p, progress)
		if err != nil {
			return nil, e.failed(err)
		}
		e.setRunning(r.key, stop)
		progress(engine.Progress{Text: "reading the prompt"})
		tell.begin()
		a, err := r.server.chat(ctx, p.request, events{text: tell.add, progress: writing(p.request.MaxTokens, progress)})
		e.setRunning("", nil)
		crash, brokeOff := errors.AsType[*brokenError](err)
		if !brokeOff {
			r.used()
			if err == nil {
				e.health.Well()
				e.checkMemory(r)
			}
			return a, err
		}
		select { // how it ended says more than that it did
		case <-r.server.ended:
		case <-time.After(endPatience):
		}
		e.unload(r, crash)
		err = r.server.end
		if err == nil {
			err = &engine.Error{Class: engine.ClassEngineCrash, Err: crash}
		}
		if again || ctx.Err() != nil || errors.Is(err, errClosed) {
			return nil, e.failed(err)
		}
		e.cfg.Log.Warn("llama-server ended while it answered, and is started again", "model", p.model, "error", err)
	}
}

func (e *Engine) setRunning(key string, stop context.CancelCauseFunc) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running, e.stopRunning = key, stop
}

// failed remembers failures of the machine.
func (e *Engine) failed(err error) error {
	if failure, ok := errors.AsType[*engine.Error](err); ok {
		switch failure.Class {
		case engine.ClassGPURuntime:
			e.health.Fail(failure.Error(), true)
		case engine.ClassEngineCrash:
			e.health.Fail(failure.Error(), false)
		default:
		}
	}
	return err
}

// writing tells how many tokens there are.
func writing(limit uint32, progress func(engine.Progress)) func(int) {
	start := time.Time{}
	return func(tokens int) {
		if start.IsZero() {
			start = time.Now()
		}
		text := "writing"
		if took := time.Since(start).Seconds(); took > 1 {
			text += ", " + strconv.FormatFloat(float64(tokens)/took, 'f', 1, 64) + " tokens a second"
		}
		progress(engine.Progress{Step: tokens, Total: int(limit), Text: text})
	}
}

// teller passes an answer on as it comes. When the answer begins anew after a
// crash, what was told before is not told again; when it is another answer,
// nothing more is told, since what was told cannot be taken back.
type teller struct {
	tell func(string)
	told strings.Builder
	seen int // bytes of the present answer
	off  bool
}

func newTeller(tell func(string)) *teller { return &teller{tell: tell, off: tell == nil} }

func (t *teller) begin() { t.seen = 0 }

func (t *teller) add(text string) {
	if t.off {
		return
	}
	if known := t.told.String()[t.seen:]; known != "" {
		n := min(len(known), len(text))
		if known[:n] != text[:n] {
			t.off = true
			return
		}
		t.seen += n
		text = text[n:]
	}
	if text == "" {
		return
	}
	t.told.WriteString(text)
	t.seen += len(text)
	t.tell(text)
}
