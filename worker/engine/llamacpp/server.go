package llamacpp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"studioworker/worker/engine"
	"studioworker/worker/engine/process"
)

// Limits of a server.
const (
	loadLimit   = 10 * time.Minute
	readyPeriod = 50 * time.Millisecond // between two looks while it loads
	readyLimit  = 5 * time.Second       // of one look
	portTries   = 3
)

// server is one llama-server with one model in memory.
type server struct {
	base string // http://127.0.0.1:PORT
	key  string
	http *http.Client
	pid  int

	stop  context.CancelCauseFunc
	ended chan struct{} // closed when the process is gone
	end   error         // why; set before ended is closed
	said  *complaint
}

// launch says how to start a server.
type launch struct {
	program string
	args    []string // without host, port
	env     []string
	log     *slog.Logger
}

// start runs a server and returns when it can answer. The error has a class. The
// server ends by close, or when life does.
func start(ctx, life context.Context, l launch) (*server, error) {
	for try := 1; ; try++ {
		s, err := startOn(ctx, life, l)
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, errPortTaken) || try == portTries {
			return nil, err
		}
	}
}

// errPortTaken says that somebody took the port between our look and the start.
var errPortTaken = errors.New("the port was taken by another program")

func startOn(ctx, life context.Context, l launch) (*server, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	life, stop := context.WithCancelCause(life)
	s := &server{
		base: "http://127.0.0.1:" + strconv.Itoa(port), key: rand.Text(), stop: stop, ended: make(chan struct{}), said: &complaint{},
		// No proxy: the server is on this computer. Nothing is kept open: a connection
		// that the server has just closed would look like its crash.
		http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}},
	}
	started := make(chan int, 1)
	go func() { // ends with the process; close waits for it
		defer close(s.ended)
		out, err := process.Run(life, process.Config{
			Path: l.program, Dir: filepath.Dir(l.program), Resident: true,
			Args:    append([]string{"--host", "127.0.0.1", "--port", strconv.Itoa(port)}, l.args...),
			Env:     append(l.env, "LLAMA_API_KEY="+s.key),
			OnStart: func(pid int) { started <- pid },
			OnLine: func(stream process.Stream, line string) {
				s.said.hear(line)
				l.log.Debug("engine output", "engine", ID, "stream", stream, "line", line)
			},
		})
		s.end = s.said.explain(out, err)
	}()
	if err := s.ready(ctx); err != nil {
		s.close(err)
		return nil, err
	}
	select {
	case s.pid = <-started:
	default: // it answered, so it has started: this cannot be
	}
	return s, nil
}

// freePort asks the system for a port that nobody has.
func freePort(ctx context.Context) (int, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a port for llama-server: %w", err)
	}
	address, ok := l.Addr().(*net.TCPAddr)
	if err := l.Close(); err != nil || !ok {
		return 0, errors.Join(errors.New("find a port for llama-server"), err)
	}
	return address.Port, nil
}

// ready waits until the model is loaded.
func (s *server) ready(ctx context.Context) error {
	limit := time.NewTimer(loadLimit)
	defer limit.Stop()
	tick := time.NewTicker(readyPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.ended:
			if s.end == nil {
				return &engine.Error{Class: engine.ClassEngineCrash, Err: errors.New("llama-server ended while it loaded the model")}
			}
			return s.end
		case <-limit.C:
			return &engine.Error{Class: engine.ClassTimeout, Err: fmt.Errorf("timed out after %v: loading the model", loadLimit)}
		case <-tick.C:
			if s.healthy(ctx) {
				return nil
			}
		}
	}
}

// healthy tells whether the server says that it can answer.
func (s *server) healthy(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/health", http.NoBody)
	if err != nil {
		return false
	}
	reply, err := s.http.Do(r)
	if err != nil {
		return false
	}
	reply.Body.Close()
	return reply.StatusCode == http.StatusOK
}

// alive tells whether the process is still there.
func (s *server) alive() bool {
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// close stops the process and waits until it and all it started are gone. Its
// requests must have been closed before: it waits for them.
func (s *server) close(why error) {
	s.http.CloseIdleConnections()
	s.stop(why)
	<-s.ended
}

// complaint remembers what a server said that may explain its end. Its output is
// read by another goroutine.
type complaint struct {
	mu    sync.Mutex
	first string // error that is not about fitting the model into memory
}

// hear takes one line: "0.01.234.567 E srv    load_model: the reason".
func (c *complaint) hear(line string) {
	words := strings.Fields(line)
	if len(words) < 4 || words[1] != "E" || strings.Contains(line, "common_fit_params") {
		return
	}
	_, text, ok := strings.Cut(line, words[2])
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first == "" {
		c.first = strings.TrimSpace(text)
	}
}

// reason is what the server itself said to be wrong; empty = nothing.
func (c *complaint) reason() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.first
}

// What the server says when it cannot go on (engines spec §7.5).
var (
	saysCorrupt = []string{"invalid magic", "is not within the file bounds", "corrupted or incomplete", "failed to read key-value", "failed to read tensor"}
	saysMemory  = []string{"failed to allocate", "ErrorOutOfDeviceMemory", "unable to allocate", "out of memory"}
	saysGPU     = []string{"ErrorDeviceLost", "device lost", "ErrorInitializationFailed", "CUDA error"}
)

// errCorrupt says that the model's file cannot be loaded as it is.
var errCorrupt = errors.New("the model file is damaged")

// explain gives the end of a server its class and its reason.
func (c *complaint) explain(out process.Output, err error) error {
	if err == nil {
		return nil
	}
	if _, ended := errors.AsType[*process.ExitError](err); !ended {
		return engine.ChildError(err)
	}
	said := func(words []string) bool {
		for _, word := range words {
			if strings.Contains(out.Stderr, word) || strings.Contains(out.Stdout, word) {
				return true
			}
		}
		return false
	}
	if reason := c.reason(); reason != "" {
		err = fmt.Errorf("llama-server: %s: %w", reason, err)
	}
	switch {
	case said([]string{"couldn't bind"}):
		return errPortTaken
	case said([]string{"unknown model architecture"}):
		return &engine.Error{Class: engine.ClassEngineMissing, Err: fmt.Errorf("this build of llama-server is too old for the model: %w", err)}
	case said(saysMemory):
		return &engine.Error{Class: engine.ClassOutOfMemory, Err: err}
	case said(saysGPU):
		return &engine.Error{Class: engine.ClassGPURuntime, Err: err}
	case said(saysCorrupt):
		return fmt.Errorf("%w: %w", errCorrupt, err)
	}
	return engine.ChildError(err)
}
