package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"studioworker/gpu"
	"studioworker/worker"
	"studioworker/worker/config"
	"studioworker/worker/health"
	"studioworker/worker/history"
	"studioworker/worker/identity"
	"studioworker/worker/localapi"
	"studioworker/worker/logs"
	"studioworker/worker/observe"
	"studioworker/worker/outbox"
	"studioworker/worker/update/supervisor"
)

// host is the worker of this process and what it needs around it.
type host struct {
	path      string // of the config
	log       *slog.Logger
	logs      *logs.Handler
	flush     func()
	observers *observe.WorkerObservers
	worker    *worker.Worker
	engines   *engineSet
	localAPI  *localapi.Server // nil = not served
	history   *history.History // nil when its folder cannot be used
	instance  *instance
	health    *health.Server // nil = not served
	window    bool
	show      chan struct{} // a second launch asks for the window
	quit      chan struct{} // closed by Quit
	quitOnce  sync.Once
	finish    chan struct{} // closed by FinishThenQuit
	endOnce   sync.Once

	parent  *supervisor.Parent // nil = nobody watches this process
	updates *updates
	follow  chan bool // room for one: the next version is to start, asked by a person or not

	studios chan *privateStudio // room for one: what run is to serve

	agreed  atomic.Bool // crash reports may be sent: the config says so
	atLogin atomic.Bool // the desktop starts the program at login, as it was seen last

	mu      sync.Mutex
	private *privateStudio // nil = the studio is somewhere else
}

// hostConfig says how to open a host.
type hostConfig struct {
	path     string // of the config
	stderr   io.Writer
	window   bool
	must     bool // the config must be there already
	private  bool // run the studio in this process, whatever the config says
	outboxFS outbox.FS
	parent   *supervisor.Parent
}

// errAlreadyRunning: another process is the instance of this config.
var errAlreadyRunning = errors.New("another worker is running with this config")

// openHost makes this process the instance of a config and puts its worker
// together. Nothing runs and nobody is called before run.
func openHost(ctx context.Context, hc hostConfig) (h *host, err error) {
	h = &host{
		path: hc.path, observers: observe.New(), window: hc.window, show: make(chan struct{}, 1),
		quit: make(chan struct{}), finish: make(chan struct{}), studios: make(chan *privateStudio, 1), follow: make(chan bool, 1), parent: hc.parent,
	}
	queue := new(logs.Queue)
	h.logs = logs.NewHandler(h.observers.Logs, queue)
	if h.log, h.flush, err = newLogger(hc.stderr, h.logs, h.agreed.Load); err != nil {
		return nil, err
	}
	var undo []func() error
	defer func() {
		if err != nil {
			for _, f := range undo {
				err = errors.Join(err, f())
			}
		}
	}()
	if hc.must { // before the lock: a wrong path must not leave a folder behind
		if _, err := os.Stat(hc.path); errors.Is(err, os.ErrNotExist) {
			return nil, usageError{fmt.Errorf("%w at %s: choose a studio first with `register --api-base-url ADDRESS`, or try `demo`",
				config.ErrMissing, hc.path)}
		}
	}
	var claimed bool
	if h.instance, claimed, err = claimInstance(ctx, hc.path); err != nil {
		return nil, err
	}
	if !claimed {
		return nil, errAlreadyRunning
	}
	undo = append(undo, h.instance.release)
	// Only the holder of the lock writes and turns the files.
	file := newLogFile(hc.path)
	undo = append(undo, file.Close)
	h.log, h.flush = withFile(h.log, file), closing(h.flush, file)
	tellCrash := watchCrashes(hc.path, h.log)
	cards := gpu.New(gpu.Config{Logger: h.log})
	store, err := openConfig(ctx, hc.path, cards, h.log)
	if err != nil {
		tellCrash(false) // nobody has agreed to send it
		return nil, err
	}
	h.agreed.Store(store.Get().SendCrashReports)
	tellCrash(h.sendsCrashes())
	h.showCrash()
	h.private, err = findPrivateStudio(store, hc.private, h.log) //nolint:contextcheck // opening ends by its own limits
	if err != nil {
		return nil, err
	}
	if h.private != nil {
		undo = append(undo, h.private.close)
		h.studios <- h.private
	}
	h.engines, err = newEngines(enginesConfig{store: store, observers: h.observers, log: h.log})
	if err != nil {
		return nil, err
	}
	h.history, err = history.Open(history.Config{
		Dir: filepath.Join(filepath.Dir(hc.path), "history"), Recent: h.observers.RecentJobs, Ring: h.observers.History, Log: h.log,
		Prompts: func() bool { return store.Get().KeepPrompts },
	})
	if err != nil { // jobs can be run without
		h.log.Warn("finished jobs are not remembered", "error", err)
	}
	if _, err := h.StartAtLogin(); err != nil {
		h.log.Debug("whether this program starts at login is not known", "error", err)
	}
	h.worker, err = worker.New(worker.Config{
		Store: store, Observers: h.observers, Logs: queue, Log: h.log, Router: h.engines.router, Warm: h.engines.llama, GPUs: cards.List,
		Version: Version, Commit: commit(), Updates: h.parent != nil, Private: h.private != nil, OutboxFS: hc.outboxFS, MachineID: identity.MachineID,
		AutoStart: h.atLogin.Load,
	})
	if err != nil {
		return nil, err
	}
	h.updates = h.openUpdates(ctx, store)
	h.openLocalAPI(ctx, store.Get())
	if listen := store.Get().HealthListen; listen != "" {
		h.health, err = health.New(ctx, health.Config{Listen: listen, Version: Version, Observers: h.observers, Log: h.log})
		if err != nil { // jobs can be run without, and whoever asks notices
			h.log.Error("health and metrics are not served", "error", err)
		}
	}
	return h, nil
}

// run runs the worker, its studio if it has one, and the instance socket, until
// ctx ends, somebody asks to quit, or the worker fails. The first signal stops
// in good order, the second at once.
func (h *host) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer h.flush()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)

	// The studio must outlive the worker, which still delivers to it.
	studioCtx, stopStudio := context.WithCancel(context.WithoutCancel(ctx))
	defer stopStudio()
	studios, studioCtx := errgroup.WithContext(studioCtx)
	studios.Go(func() error {
		select {
		case p := <-h.studios: // at the start, or when the person tries it here
			return p.run(studioCtx)
		case <-studioCtx.Done():
			return nil
		}
	})

	// So must the history, which hears of the last job.
	historyCtx, stopHistory := context.WithCancel(context.WithoutCancel(ctx))
	defer stopHistory()
	var remembering errgroup.Group
	if h.history != nil {
		remembering.Go(func() error { return h.history.Run(historyCtx) })
	}

	g, inner := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer stop() // the worker's end is the program's end
		return h.worker.Run(inner)
	})
	g.Go(func() error { return h.instance.serve(inner, h.answer) })
	if h.localAPI != nil {
		g.Go(func() error { return h.localAPI.Run(inner) })
	}
	if h.health != nil {
		g.Go(func() error { return h.health.Run(inner) })
	}
	g.Go(func() error { return h.engines.watch(inner, h.observers) })
	g.Go(func() error { h.engines.mindMemory(inner, &h.observers.Availability); return nil })
	g.Go(func() error { h.heedConsent(inner); return nil })
	g.Go(func() error { return h.updates.run(inner) })
	h.parent.Tell(supervisor.Message{Kind: supervisor.Opened, Results: h.resultCount()})
	finished := make(chan struct{})
	var watcher errgroup.Group
	watcher.Go(func() error { h.tellConnected(inner); return nil })
	watcher.Go(func() error { h.tellManager(inner, finished); return nil })
	watcher.Go(func() error {
		select {
		case s := <-signals:
			h.log.Info("stopping", "signal", s.String())
			stop()
		case <-h.parent.Gone():
			h.log.Info("stopping", "reason", "whoever started this process asks for it, or is gone")
			stop()
		case <-h.quit:
			h.updates.stopping()
			stop()
		case <-studioCtx.Done(): // the studio failed
			stop()
		case <-finished:
			return nil
		}
		select {
		case s := <-signals:
			h.log.Warn("stopping at once", "signal", s.String())
			h.worker.StopNow()
		case <-finished:
		}
		return nil
	})
	idle, stopWaiting := context.WithCancel(inner)
	defer stopWaiting()
	watcher.Go(func() error {
		select {
		case <-h.finish:
			h.log.Info("asked to quit after the running job")
			h.worker.Finish(idle)
			h.Quit()
		case asked := <-h.follow:
			h.log.Info("making room for the next version", "asked", asked)
			if !asked {
				h.worker.Finish(idle)
			}
			if idle.Err() == nil {
				h.updates.leave(asked)
				h.Quit()
			}
		case <-idle.Done():
		}
		return nil
	})
	err := g.Wait()
	h.engines.close()
	close(finished)
	stopWaiting()
	stopStudio()
	stopHistory()
	err = errors.Join(err, studios.Wait(), remembering.Wait(), watcher.Wait(), h.instance.release())
	h.updates.left()
	return err
}

// muchSkew is when a status speaks of the clock.
const muchSkew = 30 * time.Second

// answer answers a command of another process.
func (h *host) answer(q question) answer {
	a := answer{PID: os.Getpid(), Window: h.window}
	switch q.Command {
	case askShow:
		select {
		case h.show <- struct{}{}:
		default: // it is asked for already
		}
	case askStatus:
		a.Status = h.status()
	case askLogs:
		found := h.logLines(q.Job)
		a.Lines, a.Error = found.Lines, found.Error
	case askKept:
		found := h.keptLines()
		a.Lines, a.More, a.Error = found.Lines, found.More, found.Error
	case askSaveKept:
		if !filepath.IsAbs(q.Path) {
			a.Error = "the file to save to has no absolute path"
			break
		}
		a.Error = wordKept(h.worker.SaveKept(q.Key, q.Path))
	case askDiscardKept:
		a.Error = wordKept(h.worker.DiscardKept(q.Key))
	case askPause:
		until, err := parsePauseEnd(q.Until, time.Now())
		if err != nil {
			a.Error = err.Error()
			break
		}
		h.worker.PauseUntil(until)
		a.Status = h.status() // with the end of the pause in words
	case askResume:
		h.worker.Resume()
	case askQuit:
		h.log.Info("asked to quit by a command")
		h.Quit()
	case askReload:
		h.worker.Reload()
	case askUpdate, askCheckUpdate, askApplyUpdate, askIdleUpdate:
		a.Update, a.Error = h.answerUpdate(q.Command)
	default:
		a.Error = "the running worker does not know this command; it may be another version"
	}
	return a
}

// status says what the worker is doing now.
func (h *host) status() *runningStatus {
	available, session := h.observers.Availability.Get(), h.observers.Session.Get()
	s := &runningStatus{
		Session:      string(session.State),
		Availability: string(available.Block),
		Sentence:     observe.Sentence(available, time.Now()),
		Job:          h.observers.CurrentJob.Get().ID,
		Waiting:      h.observers.Outbox.Get().Count,
		Version:      Version,
	}
	if session.Skew.Abs() > muchSkew {
		s.Skew = session.Skew.Round(time.Second).String()
	}
	return s
}
