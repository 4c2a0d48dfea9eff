package llamacpp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"studioworker/worker/engine"
	"studioworker/worker/engine/program"
	"studioworker/worker/engine/supply"
	"studioworker/worker/models"
)

// resident is a model in memory. Only the holder of the turn changes it.
type resident struct {
	key    string // of the file and how it is loaded
	model  string
	server *server
	held   *supply.Held
	keep   atomic.Bool  // it is asked for: it goes neither for being idle nor for a job of another model
	idle   atomic.Int64 // since when, in nanoseconds of the wall clock
	jobs   int
	own    uint64        // memory of its own after the first jobs, in bytes; 0 = not known yet
	gone   chan struct{} // closed when it is unloaded
}

func (r *resident) used() {
	r.jobs++
	r.idle.Store(time.Now().UnixNano())
}

func (r *resident) idleFor() time.Duration { return time.Since(time.Unix(0, r.idle.Load())) }

// acquire returns the server of a model, which it loads if need be. The caller
// has the turn.
func (e *Engine) acquire(ctx context.Context, p plan, progress func(engine.Progress)) (*resident, error) {
	path, err := e.cfg.Tool.Ready(ctx) // before the model: without the program there is no need for it
	if err != nil {
		return nil, err
	}
	held, err := e.supply(ctx, p, progress)
	if err != nil {
		return nil, err
	}
	r, err := e.load(ctx, path, p, held, progress)
	if err == nil || !errors.Is(err, errCorrupt) {
		return r, err
	}
	if held, err = e.again(ctx, p, err, progress); err != nil {
		return nil, err
	}
	r, err = e.load(ctx, path, p, held, progress)
	if errors.Is(err, errCorrupt) {
		return nil, &engine.Error{Class: engine.ClassModelCorrupt, Err: err}
	}
	return r, err
}

// again checks the files of a model that could not be loaded, and returns them if
// bad ones were fetched anew.
func (e *Engine) again(ctx context.Context, p plan, why error, progress func(engine.Progress)) (*supply.Held, error) {
	held, err := e.supply(ctx, p, progress)
	if err != nil {
		return nil, err
	}
	if held.Doubt != nil {
		e.cfg.Log.Warn("a model cannot be loaded; its files are checked", "model", p.model, "error", why)
		changed, err := held.Doubt(ctx)
		if err == nil && changed {
			return held, nil
		}
		if err != nil {
			why = errors.Join(why, err)
		}
	}
	held.Release()
	return nil, &engine.Error{Class: engine.ClassModelCorrupt, Err: why}
}

// supply returns the files of a model. Without any it is one of the folder llm,
// by name.
func (e *Engine) supply(ctx context.Context, p plan, progress func(engine.Progress)) (*supply.Held, error) {
	if len(p.source.Files) > 0 {
		return e.cfg.Models.Ensure(ctx, supply.Set{Model: p.model, Folder: Folder, Files: p.source.Files}, progress)
	}
	name := p.model + modelSuffix
	file := filepath.Join(e.cfg.Root(), Folder, name)
	if info, err := os.Stat(file); models.CheckName(name) != nil || err != nil || !info.Mode().IsRegular() {
		return nil, &engine.Error{Class: engine.ClassModelUnavailable, Err: fmt.Errorf("no model file %s in the folder %s", name, Folder)}
	}
	set := supply.Set{Model: p.model, Folder: Folder, Files: []engine.File{{Role: roleModel, Filename: name}}}
	return &supply.Held{Set: set, Paths: []string{file}, Release: func() {}}, nil
}

// modelFile picks the file to load (engines spec §7.1).
func modelFile(held *supply.Held) string {
	if path := held.PathSuffix(roleModel, modelSuffix); path != "" {
		return path
	}
	for i, file := range held.Set.Files {
		if strings.HasSuffix(strings.ToLower(file.Filename), modelSuffix) {
			return held.Paths[i]
		}
	}
	return ""
}

// load returns the server of a model. It takes held over: it is released with the
// server, or here when there is none.
func (e *Engine) load(ctx context.Context, path string, p plan, held *supply.Held, progress func(engine.Progress)) (_ *resident, err error) {
	defer func() {
		if err != nil {
			held.Release()
		}
	}()
	file := modelFile(held)
	if file == "" {
		return nil, engine.BadInput("the model has no .gguf file")
	}
	head, err := e.heads.of(file)
	if errors.Is(err, errNotGGUF) {
		return nil, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	if err != nil {
		return nil, err
	}
	if !head.Template {
		return nil, engine.BadInput(fmt.Sprintf("model %q has no chat template; it answers no conversations", p.model))
	}
	tokens := p.context
	if tokens == 0 {
		tokens = defaultContext
	}
	if head.Context > 0 && uint64(tokens) > head.Context {
		tokens = uint32(head.Context)
	}
	args := []string{"-m", file, "--alias", p.model, "-c", strconv.FormatUint(uint64(tokens), 10)}
	if vision := held.Path(roleVision); vision != "" {
		args = append(args, "--mmproj", vision)
	}
	key := path + "\x00" + strings.Join(args[4:], "\x00") + "\x00" + file
	if r := e.find(key); r != nil {
		held.Release() // it holds the same files already
		return r, nil
	}
	help, err := e.cfg.Tool.Says(ctx, path, "--help")
	if err != nil {
		return nil, err
	}
	cpu, err := e.onCPU(ctx, path)
	if err != nil {
		return nil, err
	}
	size, err := sizeOf(held.Paths)
	if err != nil {
		return nil, err
	}
	if err := e.admit(ctx, cpu, max(p.memory, size)); err != nil {
		return nil, err
	}
	progress(engine.Progress{Text: "loading the model"})
	e.transition("load", p.model, StateUnloaded, StateLoading, nil)
	begun := time.Now()
	s, err := start(ctx, e.life, launch{
		program: path, args: append(args, options(help, cpu, e.cfg.Threads)...), env: e.cfg.Tool.Places.Environment(path), log: e.cfg.Log,
	})
	if err != nil {
		if ctx.Err() != nil {
			e.transition("load", p.model, StateLoading, StateUnloaded, nil)
			return nil, context.Cause(ctx)
		}
		e.transition("load", p.model, StateLoading, StateFailed, err)
		return nil, err
	}
	r := &resident{key: key, model: p.model, server: s, held: held, gone: make(chan struct{})}
	r.keep.Store(e.residents.has(p.model))
	r.idle.Store(time.Now().UnixNano())
	e.mu.Lock()
	e.loaded[key] = r
	e.mu.Unlock()
	e.transition("load", p.model, StateLoading, StateLoaded, nil)
	e.cfg.Log.Info("model is loaded", "model", p.model, "pid", s.pid, "context", tokens, "cpu", cpu, "elapsed_ms", time.Since(begun).Milliseconds())
	e.minds.Go(func() { e.mind(r) })
	return r, nil
}

// find returns the model of a key if it is loaded and well.
func (e *Engine) find(key string) *resident {
	e.mu.Lock()
	r := e.loaded[key]
	e.mu.Unlock()
	if r == nil {
		return nil
	}
	if r.server.alive() {
		return r
	}
	e.unload(r, r.server.end) // it ended while it idled
	return nil
}

// options are the arguments that do not depend on the model. Names drift between
// releases: those that this one does not know are left out.
func options(help string, cpu bool, threads int) []string {
	layers := strconv.Itoa(allLayers)
	if cpu {
		layers = "0"
	}
	args := []string{"-np", "1", "-ngl", layers}
	if threads > 0 {
		args = append(args, "-t", strconv.Itoa(threads))
	}
	for _, option := range [][]string{
		{"--jinja"},
		{"--reasoning-format", "deepseek"},
		{"--no-webui"},
		{"--no-slots"},
		{"--offline"},
		{"--cors-origins", "localhost"},
		{"--cache-ram", "0"}, // else it keeps old prompts, up to 8 GiB of them
	} {
		if knows(help, option[0]) {
			args = append(args, option...)
		}
	}
	return args
}

// knows tells whether a help text lists a flag.
func knows(help, flag string) bool {
	return slices.Contains(strings.FieldsFunc(help, func(r rune) bool { return r == ' ' || r == ',' || r == '\n' || r == '\t' }), flag)
}

// onCPU tells whether the program has no graphics card to work with.
func (e *Engine) onCPU(ctx context.Context, path string) (bool, error) {
	said, err := e.cfg.Tool.Says(ctx, path, "--list-devices")
	if err != nil {
		return false, err
	}
	_, list, found := strings.Cut(said, "Available devices:")
	return runtime.GOOS != "darwin" && found && (strings.Contains(list, "(none)") || strings.TrimSpace(list) == ""), nil
}

func sizeOf(paths []string) (uint64, error) {
	var all uint64
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return 0, fmt.Errorf("look at the model: %w", err)
		}
		all += uint64(info.Size())
	}
	return all, nil
}

// admit makes sure that a model fits into memory; idle ones make room for it, as long
// as nobody asked for them (engines spec §12).
func (e *Engine) admit(ctx context.Context, cpu bool, need uint64) error {
	if e.cfg.Free == nil {
		return nil
	}
	free, known := e.cfg.Free(ctx, cpu)
	if known && need+reserve > free && e.unloadIf(errRoom, func(r *resident) bool { return !r.keep.Load() }) > 0 {
		free, known = e.cfg.Free(ctx, cpu)
	}
	if !known || need+reserve <= free {
		return nil
	}
	const gib = 1 << 30
	return &engine.Error{Class: engine.ClassInsufficientMemory, Err: &engine.MemoryError{
		Needed: float64(need) / gib, Free: float64(free) / gib, Margin: float64(reserve) / gib,
	}}
}

// Why models are unloaded.
var (
	errIdle     = errors.New("it was idle")
	errRoom     = errors.New("another model needs the memory")
	errPressure = errors.New("memory is short")
	errReleased = errors.New("the memory was asked for")
	errUnload   = errors.New("the model is unloading or the client left")
	errLeak     = errors.New("it kept more and more memory")
)

// unload ends the server of a model. The caller has the turn.
func (e *Engine) unload(r *resident, why error) {
	e.mu.Lock()
	if e.loaded[r.key] == r {
		delete(e.loaded, r.key)
		close(r.gone)
	}
	e.mu.Unlock()
	r.server.close(why)
	r.held.Release()
	e.transition("unload", r.model, StateLoaded, StateUnloaded, nil)
	e.cfg.Log.Info("model is unloaded", "model", r.model, "reason", why.Error())
}

// unloadIf unloads all models that fit and returns how many those were. The
// caller has the turn.
func (e *Engine) unloadIf(why error, fits func(*resident) bool) int {
	e.mu.Lock()
	list := make([]*resident, 0, len(e.loaded))
	for _, r := range e.loaded {
		if fits(r) {
			list = append(list, r)
		}
	}
	e.mu.Unlock()
	for _, r := range list {
		e.unload(r, why)
	}
	return len(list)
}

// mind unloads a model that idles for long, or while memory is short.
func (e *Engine) mind(r *resident) {
	look := time.NewTicker(min(lookPeriod, e.cfg.Keep))
	defer look.Stop()
	for {
		select {
		case <-r.gone:
			return
		case <-e.life.Done():
			return // Close unloads it
		case <-look.C:
		}
		why := e.dismissal(r)
		if why == nil {
			continue
		}
		select {
		case <-e.turn:
		default:
			continue // a job runs
		}
		if why = e.dismissal(r); why != nil && e.isLoaded(r) {
			e.unload(r, why)
		}
		e.give()
	}
}

func (e *Engine) isLoaded(r *resident) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.loaded[r.key] == r
}

// dismissal says why an idle model is to go; nil = it stays.
func (e *Engine) dismissal(r *resident) error {
	if !r.server.alive() {
		return fmt.Errorf("its server ended: %w", r.server.end)
	}
	if r.idleFor() >= e.cfg.Keep && !r.keep.Load() {
		return errIdle
	}
	if e.cfg.Free != nil {
		if free, known := e.cfg.Free(e.life, true); known && free < reserve/2 {
			return errPressure
		}
	}
	return nil
}

// A server that holds much more memory than after its first jobs is replaced.
const (
	settleJobs = 3
	leakFactor = 2
	leakBytes  = 512 << 20
)

// checkMemory looks at the memory of a server after a job, and replaces one that
// leaks. The caller has the turn.
func (e *Engine) checkMemory(r *resident) {
	if e.cfg.Own == nil {
		return
	}
	own, err := e.cfg.Own(r.server.pid)
	if err != nil {
		return // it cannot be told here
	}
	e.cfg.Log.Debug("memory of the engine", "model", r.model, "bytes", own, "bytes_before", r.own)
	switch {
	case r.jobs <= settleJobs:
		r.own = max(r.own, own)
	case own > leakFactor*r.own && own > r.own+leakBytes:
		e.cfg.Log.Warn("llama-server keeps more and more memory and is replaced", "model", r.model, "bytes", own, "bytes_before", r.own)
		e.unload(r, errLeak)
	}
}

// State says whether a model is in memory (engines spec §12).
type State string

// The states of a model.
const (
	StateUnloaded  State = "unloaded"
	StateLoading   State = "loading"
	StateLoaded    State = "loaded"
	StateUnloading State = "unloading"
	StateFailed    State = "failed"
)

// transition notes a change of state.
func (e *Engine) transition(op, model string, from, to State, err error) {
	e.mu.Lock()
	e.states[model] = to
	if to == StateUnloaded {
		delete(e.states, model)
	}
	e.mu.Unlock()
	log := e.cfg.Log.With("op", op, "model", model, "from", string(from), "to", string(to))
	if err != nil {
		log.Warn("model changes its state", "error", err)
		return
	}
	log.Debug("model changes its state")
}

// States returns the models that are in memory, or on the way there or back, or
// that could not be loaded when they were asked for last.
func (e *Engine) States() map[string]State {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.states)
}

// Loaded returns the names of the models that are in memory, sorted.
func (e *Engine) Loaded() []string {
	var names []string
	for model, state := range e.States() {
		if state == StateLoaded {
			names = append(names, model)
		}
	}
	slices.Sort(names)
	return names
}

// Load brings a model into memory and keeps it there until Unload, also over restarts
// of the worker. A model that is there already stays. One that cannot be loaded now stays
// asked for.
func (e *Engine) Load(ctx context.Context, model string, source engine.Source, progress func(engine.Progress)) error {
	if err := e.take(ctx); err != nil {
		return err
	}
	defer e.give()
	if len(source.Files) > 0 || slices.Contains(e.Stems(), model) {
		e.residents.set(model, true) // before it is there: a crash in between loses nothing
	}
	r, err := e.acquire(ctx, plan{model: model, source: source, context: source.Defaults.ContextSize}, progress)
	if err != nil {
		return e.failed(err)
	}
	r.keep.Store(true)
	return nil
}

// Unload takes a model out of memory, where it is no longer asked for. A job that runs on it is stopped. A model
// that is not there is left so.
func (e *Engine) Unload(ctx context.Context, model string) error {
	ctx, cancel := context.WithTimeout(ctx, unloadPatience)
	defer cancel()
	e.residents.set(model, false)
	e.mu.Lock()
	if r := e.loaded[e.running]; r != nil && r.model == model && e.stopRunning != nil {
		e.stopRunning(&engine.Error{Class: engine.ClassCancelled, Err: fmt.Errorf("cancelled: %w", errUnload)})
	}
	e.mu.Unlock()
	if err := e.take(ctx); err != nil {
		return err
	}
	defer e.give()
	e.unloadIf(errUnload, func(r *resident) bool { return r.model == model })
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.states, model) // also one that had failed
	return nil
}

// Release takes all models out of memory that no job uses, and says whether there
// were any: somebody else needs the memory.
func (e *Engine) Release() bool {
	select {
	case <-e.turn:
	default:
		return false // a job runs
	}
	defer e.give()
	return e.unloadIf(errReleased, func(*resident) bool { return true }) > 0
}

// Holds tells whether a model is in memory.
func (e *Engine) Holds(model string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.states[model] == StateLoaded
}

// ToolFix is the step that installs the program by hand.
const ToolFix = "install llama.cpp and put llama-server on PATH, or set STUDIO_WORKER_LLAMA_SERVER to it"

// NewTool makes the tool that finds llama-server. variable is the value of
// STUDIO_WORKER_LLAMA_SERVER.
func NewTool(places program.Places, variable string, slots func() []string) *program.Tool {
	return &program.Tool{
		Places: places, Ask: []string{"--version"}, Version: VersionOf, Fix: ToolFix,
		Query: func() program.Query {
			return program.Query{Name: "llama-server", Variable: variable, Slots: slots()}
		},
	}
}
