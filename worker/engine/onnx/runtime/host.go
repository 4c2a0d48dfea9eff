package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"studioworker/worker/engine"
	"studioworker/worker/engine/process"
	"studioworker/worker/engine/program"
)

// Limits of the helper.
const (
	startLimit = time.Minute
	runLimit   = 10 * time.Minute
)

// errModel says that the library refused the model or its input.
var errModel = errors.New("the model cannot be run")

// IsModelError tells whether a run failed for the model or what it was given,
// not for the helper.
func IsModelError(err error) bool { return errors.Is(err, errModel) }

// Config says how the helper is started.
type Config struct {
	// Path is this program, and Args are the arguments before those of Serve.
	Path string
	Args []string
	// Library returns the path of the library, or nothing.
	Library func() string
	// Fix is the step that installs the library by hand.
	Fix    string
	Places program.Places
	Log    *slog.Logger
}

// Host runs models in a helper process. Its methods are safe for concurrent use;
// one model runs at a time.
type Host struct {
	cfg   Config
	lane  chan struct{} // room for one: who runs a model
	asker program.Asker

	mu    sync.Mutex
	child *child
}

// child is a running helper.
type child struct {
	library string
	socket  string
	stop    context.CancelCauseFunc
	ready   chan struct{} // closed when it listens
	ended   chan struct{} // closed when it is gone
	err     error         // after ended
}

// errClosed says that the worker stops.
var errClosed = errors.New("the worker is stopping")

// NewHost makes a host. It starts nothing yet.
func NewHost(cfg Config) *Host {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Host{cfg: cfg, lane: make(chan struct{}, 1)}
}

// State says whether models can be run here: it asks the library its version, once
// for as long as the program does not change. The error is the cause of ctx.
func (h *Host) State(ctx context.Context) (program.State, error) {
	if !Built {
		return program.State{Problem: "this build of the worker cannot load the ONNX Runtime", Fix: "use a build with the window"}, nil
	}
	library := h.cfg.Library()
	if library == "" {
		return program.State{Problem: "the ONNX Runtime is not installed", Fix: h.cfg.Fix}, nil
	}
	state := program.State{Found: program.Found{Path: library}}
	answer, err := h.asker.Ask(ctx, h.cfg.Places, h.cfg.Path, slices.Concat(h.cfg.Args, []string{checkWord, library})...)
	if err != nil {
		return state, err
	}
	if !answer.OK() {
		state.Problem, state.Fix = "the ONNX Runtime cannot be loaded: "+lastLine(answer), h.cfg.Fix
		return state, nil
	}
	state.Version = lastLine(answer)
	return state, nil
}

func lastLine(a program.Answer) string {
	if exit, ok := errors.AsType[*process.ExitError](a.Err); ok {
		return exit.LastLine
	}
	line := a.Output.Stdout
	for len(line) > 0 && line[len(line)-1] == '\n' {
		line = line[:len(line)-1]
	}
	return line
}

// Run runs a model and returns the outputs that are asked for, in order. When ctx
// ends, the helper is stopped and the error is the cause.
func (h *Host) Run(ctx context.Context, model string, inputs []Tensor, outputs ...string) ([]Tensor, error) {
	select {
	case h.lane <- struct{}{}:
		defer func() { <-h.lane }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, runLimit, &process.LimitError{Program: "the ONNX helper", Limit: runLimit})
	defer cancel()
	for again := false; ; again = true {
		c, err := h.start(ctx)
		if err != nil {
			return nil, engine.ChildError(err)
		}
		made, err := c.run(ctx, model, inputs, outputs)
		switch {
		case err == nil, IsModelError(err):
			return made, err
		case ctx.Err() != nil:
			c.stop(context.Cause(ctx)) // a run cannot be stopped but with its process
			<-c.ended
			return nil, engine.ChildError(context.Cause(ctx))
		}
		// The helper is gone, or going: it crashed, or its time was over. It is
		// stopped only if not, so that we hear how it ended.
		going := time.AfterFunc(process.Grace, func() { c.stop(err) })
		<-c.ended
		going.Stop()
		if _, crashed := errors.AsType[*process.ExitError](c.err); crashed || again {
			return nil, engine.ChildError(errors.Join(c.err, err))
		}
	}
}

// start returns a helper that listens.
func (h *Host) start(ctx context.Context) (*child, error) {
	library := h.cfg.Library()
	if library == "" {
		return nil, program.Missing("the ONNX Runtime is not installed", h.cfg.Fix)
	}
	h.mu.Lock()
	c := h.child
	if c != nil {
		select {
		case <-c.ended:
			c = nil
		default:
			if c.library != library {
				c.stop(errors.New("another library is to be used"))
				c = nil
			}
		}
	}
	if c == nil {
		var err error
		if c, err = h.launch(ctx, library); err != nil {
			h.mu.Unlock()
			return nil, err
		}
		h.child = c
	}
	h.mu.Unlock()
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	select {
	case <-c.ready:
		return c, nil
	case <-c.ended:
		return nil, errors.Join(errors.New("the ONNX helper ended before it was ready"), c.err)
	case <-limit.C:
		c.stop(&process.LimitError{Program: "the ONNX helper", Limit: startLimit})
	case <-ctx.Done():
		c.stop(context.Cause(ctx))
	}
	<-c.ended
	return nil, c.err
}

// launch starts a helper.
func (h *Host) launch(ctx context.Context, library string) (*child, error) {
	dir, err := os.MkdirTemp("", "studio-worker-onnx-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the ONNX helper: %w", err)
	}
	life, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	c := &child{library: library, socket: filepath.Join(dir, "s"), stop: stop, ready: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		listens := false
		_, c.err = process.Run(life, process.Config{
			Path: h.cfg.Path, Args: slices.Concat(h.cfg.Args, []string{serveWord, library, c.socket}), Dir: filepath.Dir(library),
			Env: h.cfg.Places.Environment(library), Resident: true,
			OnLine: func(s process.Stream, line string) {
				if s == process.Stdout && line == readyWord && !listens {
					listens = true
					close(c.ready)
					return
				}
				h.cfg.Log.Debug("engine output", "engine", "onnx", "stream", s, "line", line)
			},
		})
		stop(nil)
		if err := os.RemoveAll(dir); err != nil {
			h.cfg.Log.Warn("the folder of the ONNX helper was not removed", "error", err)
		}
	}()
	return c, nil
}

// run sends one request to a helper.
func (c *child) run(ctx context.Context, model string, inputs []Tensor, outputs []string) (made []Tensor, err error) {
	parts, err := partsOf(inputs)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errModel, err)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", c.socket)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // everything was read, or does not matter
	unwatch := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer unwatch()
	if err := send(conn, request{Model: model, Inputs: parts, Outputs: outputs}, inputs); err != nil {
		return nil, err
	}
	var said reply
	if err := receive(conn, &said); err != nil {
		return nil, err
	}
	if said.Error != "" {
		return nil, fmt.Errorf("%w: %s", errModel, said.Error)
	}
	made, err = receiveTensors(conn, said.Outputs)
	if err == nil && len(made) != len(outputs) {
		err = io.ErrUnexpectedEOF
	}
	return made, err
}

// Close stops the helper, if there is one, and returns when it is gone.
func (h *Host) Close() {
	h.mu.Lock()
	c := h.child
	h.mu.Unlock()
	if c != nil {
		c.stop(errClosed)
		<-c.ended
	}
}
