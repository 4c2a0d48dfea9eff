package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"studioworker/worker/availability/disk"
	"studioworker/worker/config"
	"studioworker/worker/network"
	"studioworker/worker/observe"
	"studioworker/worker/update"
	"studioworker/worker/update/feed"
	"studioworker/worker/update/supervisor"
	"studioworker/worker/update/versions"
)

// exitError ends this process as the one that it watched ended.
type exitError int

func (e exitError) Error() string { return "ended with code " + strconv.Itoa(int(e)) }

// watched runs a worker. A program that updates itself does so in a child, and stays to
// watch it; the child comes here, too, and finds its parent.
func (c *command) watched(ctx context.Context, path string, run func(context.Context, *supervisor.Parent) error) error {
	parent, err := supervisor.Attach()
	if err != nil {
		return err
	}
	if parent != nil {
		err := run(ctx, parent) // without defer: a panic is no end in good order
		parent.Tell(supervisor.Message{Kind: supervisor.Ended})
		return err
	}
	if problem, _ := updateProblem(ctx); problem != "" {
		return run(ctx, nil)
	}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) && !canShow() {
		return run(ctx, nil) // it says so, and leaves no folder behind
	}
	store, err := versions.Open(filepath.Join(filepath.Dir(path), versions.Folder), plainLogger(c.Err))
	if err != nil {
		return err
	}
	release, first, err := store.Watch()
	if err != nil {
		return err
	}
	if !first { // it raises the other's window, or says that the other runs
		return run(ctx, nil)
	}
	return errors.Join(c.supervise(ctx, store), release())
}

// supervise runs and watches versions until the last has ended.
func (c *command) supervise(ctx context.Context, store *versions.Store) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	var probation time.Duration
	if Probation != "" {
		if probation, err = time.ParseDuration(Probation); err != nil {
			return fmt.Errorf("this build has a wrong stamp: %w", err)
		}
	}
	log := plainLogger(c.Err)
	if underJournal(c.Err) {
		log = journalLogger()
	}
	s := supervisor.New(supervisor.Config{
		Store: store, Installed: versions.Version{Version: Version, Seq: releaseSeq()}, Probation: probation, Log: log,
		Start: func(p versions.Program, unasked bool) (supervisor.Child, error) {
			program := p.Path
			if program == "" {
				program = self
			}
			log.Debug("starting a version", "version", p.Version.Version, "trial", p.Trial)
			return supervisor.Start(supervisor.Command{
				Path: program, Installed: self, Args: c.args, Unasked: unasked, Stdin: c.In, Stdout: c.Out, Stderr: c.Err,
			})
		},
		Notify: func(text string) {
			if _, err := daemon.SdNotify(false, text); err != nil {
				log.Debug("systemd was not told", "error", err)
			}
		},
	})
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	ended := make(chan struct{})
	defer close(ended)
	go func() { // ends with the versions
		for {
			select {
			case <-signals:
				if ctx.Err() != nil {
					s.Hurry()
				}
				stop()
			case <-ended:
				return
			}
		}
	}()
	code, err := s.Run(ctx)
	if err != nil {
		return err
	}
	if code != exitOK {
		return exitError(code)
	}
	return nil
}

func releaseSeq() uint64 {
	seq, err := strconv.ParseUint(ReleaseSeq, 10, 64)
	if err != nil {
		return 0
	}
	return seq
}

// updateProblem says why this program does not update itself; empty = it does.
func updateProblem(ctx context.Context) (string, observe.Why) {
	if RootKeys == "" {
		return "this build has no feed", observe.Why{Reason: observe.ReasonNoFeed}
	}
	if _, err := feed.ParseRoots(RootKeys); err != nil {
		return "this build has a wrong stamp: " + err.Error(), observe.Why{Reason: observe.ReasonStamp, Said: err.Error()}
	}
	self, err := os.Executable()
	if err != nil {
		return "its own program cannot be found", observe.Why{Reason: observe.ReasonOwnFiles, Said: err.Error()}
	}
	if manager, why := packageManager(ctx, self); manager != "" {
		return manager + " keeps it up to date", why
	}
	return "", observe.Why{}
}

// ownerTime bounds a question to a package manager.
const ownerTime = 10 * time.Second

// packageManager names who installed a program and replaces it; empty = a person.
func packageManager(ctx context.Context, program string) (string, observe.Why) {
	named := func(name string) (string, observe.Why) {
		return name, observe.Why{Reason: observe.ReasonInstall, Said: name}
	}
	if resolved, err := filepath.EvalSymlinks(program); err == nil {
		program = resolved
	}
	switch {
	case os.Getenv("FLATPAK_ID") != "":
		return named("Flatpak")
	case os.Getenv("SNAP") != "" && strings.HasPrefix(program, os.Getenv("SNAP")+"/"):
		return named("Snap")
	case runtime.GOOS == "darwin" && strings.Contains(program, "/Cellar/"):
		return named("Homebrew")
	case runtime.GOOS == "darwin" && strings.Contains(program, ".app/Contents/MacOS/"):
		return "whoever put the app into its place", observe.Why{Reason: observe.ReasonPlaced}
	case runtime.GOOS != "linux" || !strings.HasPrefix(program, "/usr/") && !strings.HasPrefix(program, "/opt/"):
		return "", observe.Why{}
	}
	ctx, cancel := context.WithTimeout(ctx, ownerTime)
	defer cancel()
	for _, ask := range [][]string{{"dpkg-query", "--search", program}, {"rpm", "--query", "--file", program}} {
		if exec.CommandContext(ctx, ask[0], ask[1:]...).Run() == nil { //nolint:gosec // G204: our own path
			return "the system's package manager", observe.Why{Reason: observe.ReasonPackages}
		}
	}
	return "", observe.Why{}
}

// updates keeps this process up to date, or says why nobody does.
type updates struct {
	h       *host
	problem string // why there is no updater; empty = there is
	why     observe.Why
	updater *update.Updater
	store   *versions.Store
	asked   chan bool // somebody wants the newest version: when idle, or at once

	connected bool  // when the stop began; guarded by the order of run
	followed  *bool // the next version starts: asked by a person or not; the same
}

// openUpdates prepares the updater. Nothing is fetched.
func (h *host) openUpdates(ctx context.Context, store *config.Store) *updates {
	u := &updates{h: h, asked: make(chan bool, 1)}
	u.problem, u.why = updateProblem(ctx)
	if u.problem == "" && h.parent == nil {
		u.problem, u.why = "it was started in a way that nobody watches it", observe.Why{Reason: observe.ReasonUnwatched}
	}
	if u.problem == "" && Feed == "" && store.Get().AutoUpdateFeed == "" {
		u.problem, u.why = "this build has no feed; auto_update_feed of the config may name one", observe.Why{Reason: observe.ReasonFeedUnset}
	}
	if u.problem == "" {
		var err error
		u.updater, u.store, err = newUpdater(filepath.Dir(h.path), update.Config{
			Observer: &h.observers.Update, Log: h.log, HTTP: h.worker.HTTP(), Busy: h.worker.Busy, Metered: network.Metered,
			Settings: func() update.Settings { return updateSettings(store.Get()) }, InstallID: func() string { return store.Get().InstallID },
			Restart: func(asked bool) {
				select {
				case h.follow <- asked:
				default: // it is on its way
				}
			},
		})
		if err != nil {
			u.problem, u.why = err.Error(), observe.WhyOf(observe.Otherwise(err, observe.ReasonOwnFiles))
		}
	}
	if u.updater != nil {
		u.updater.Remember()
	}
	if u.problem != "" {
		h.observers.Update.Set(observe.Update{State: observe.UpdateUnsupported, Detail: u.problem, Why: u.why})
	}
	return u
}

// newUpdater fills in what is the same for each process of this build.
func newUpdater(dir string, cfg update.Config) (*update.Updater, *versions.Store, error) {
	dir = filepath.Join(dir, versions.Folder)
	store, err := versions.Open(dir, cfg.Log)
	if err != nil {
		return nil, nil, err
	}
	if cfg.Roots, err = feed.ParseRoots(RootKeys); err != nil {
		return nil, nil, err
	}
	cfg.Store, cfg.Feed, cfg.Version, cfg.Seq = store, Feed, Version, releaseSeq()
	cfg.OS, cfg.Arch, cfg.Variant = runtime.GOOS, runtime.GOARCH, variant
	cfg.FreeDisk = func() (uint64, error) { return disk.Free(dir) }
	return update.New(cfg), store, nil
}

func updateSettings(c config.Config) update.Settings {
	return update.Settings{
		Enabled: c.AutoUpdateEnabled, Interval: c.UpdateInterval(),
		Feed: c.AutoUpdateFeed, Prerelease: c.AutoUpdatePrerelease, Hours: c.AutoUpdateHours,
	}
}

func (u *updates) run(ctx context.Context) error {
	if u.updater == nil {
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return u.updater.Run(ctx) })
	g.Go(func() error {
		for {
			select {
			case whenIdle := <-u.asked:
				if err := u.updater.Apply(ctx, whenIdle); err != nil && ctx.Err() == nil {
					u.h.log.Error("the update that was asked for does not come", "error", err)
				}
			case <-ctx.Done():
				return nil
			}
		}
	})
	return g.Wait()
}

// ask has the newest version put in place by run. It may take minutes, and ends
// this process.
func (u *updates) ask(whenIdle bool) error {
	if u.updater == nil {
		return u.unsupported()
	}
	select {
	case u.asked <- whenIdle:
	default: // it is asked for already
	}
	return nil
}

// unsupported is the error of a process that does not update itself.
func (u *updates) unsupported() error {
	return fmt.Errorf("this copy does not update itself: %s: %w", u.problem, errors.ErrUnsupported)
}

func (u *updates) check(ctx context.Context) error {
	if u.updater == nil {
		return u.unsupported()
	}
	return u.updater.Check(ctx)
}

func (u *updates) apply(ctx context.Context, whenIdle bool) error {
	if u.updater == nil {
		return u.unsupported()
	}
	return u.updater.Apply(ctx, whenIdle)
}

// leave notes that the next version starts when this one has ended.
func (u *updates) leave(asked bool) { u.followed = &asked }

// stopping notes what the next version is to reach, too.
func (u *updates) stopping() {
	u.connected = u.h.observers.Session.Get().State == observe.SessionConnected
}

// left tells the next version what this one leaves, once everything has ended.
func (u *updates) left() {
	if u.followed == nil || u.store == nil {
		return
	}
	before := versions.Before{Connected: u.connected, Results: u.h.resultCount()}
	err := u.store.Change(func(s *versions.State) error {
		if s.Candidate != nil {
			s.Candidate.Before = &before
		}
		return nil
	})
	if err != nil { // it is judged by less
		u.h.log.Error("what this version leaves is not written down", "error", err)
	}
	m := supervisor.Message{Kind: supervisor.Restart}
	if *u.followed {
		m.Text = supervisor.Asked
	}
	u.h.parent.Tell(m)
}

// resultCount is how many results are on disk.
func (h *host) resultCount() int {
	o := h.observers.Outbox.Get()
	return o.Count + len(o.Kept)
}

// tellConnected tells whoever watches this process that the studio has welcomed it.
func (h *host) tellConnected(ctx context.Context) {
	if h.parent == nil {
		return
	}
	for s := range h.observers.Session.Watch(ctx) {
		if s.State == observe.SessionConnected {
			h.parent.Tell(supervisor.Message{Kind: supervisor.Connected})
			return
		}
	}
}
