package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"studioworker/worker/update/versions"
)

// How long a version may take to prove itself.
const (
	ReadyTime = 60 * time.Second // to say that it is ready
	Probation = 10 * time.Minute // to live
)

const (
	stopTime     = 30 * time.Second // for a version that is not ready to stop, before it is killed
	restartPause = time.Second      // before a version that was killed is started anew, times the number of its restarts
	maxRestarts  = 2                // of one version within restartSpan
	restartSpan  = time.Minute
)

// Child is a running version.
type Child interface {
	// Messages gives what it tells. It is closed when the child has ended and
	// everything it told was read.
	Messages() <-chan Message
	// Stop asks it to end in good order.
	Stop()
	// Hurry asks it, while it stops, to stop at once.
	Hurry()
	// Kill ends it at once.
	Kill()
	// Wait returns its exit code, -1 when it was killed, once Messages is closed.
	Wait() int
}

// store is where the versions are.
type store interface {
	Next(installed versions.Version) (versions.Program, error)
	Change(change func(*versions.State) error) error
	Prune() error
}

// Config is what a supervisor is made of.
type Config struct {
	Store     store
	Installed versions.Version // the installed program: itself
	// Start starts a version; an empty path is the installed program. unasked says that
	// nobody waits to see it.
	Start func(p versions.Program, unasked bool) (Child, error)
	// Notify tells the service manager; nil = there is none.
	Notify func(text string)
	// Probation is how long a version must live; 0 = [Probation].
	Probation time.Duration
	Log       *slog.Logger
}

// Supervisor runs one version after the other.
type Supervisor struct {
	cfg      Config
	hurry    chan struct{}
	restarts []time.Time // of the version that runs, within restartSpan
	doubt    *doubt
}

// doubt is a release that could not do something. It is its fault only if the version
// before it can.
type doubt struct {
	version versions.Version
	reason  string
	needs   Kind // what the version before it must tell
	until   time.Time
}

// New returns a supervisor.
func New(cfg Config) *Supervisor {
	if cfg.Probation == 0 {
		cfg.Probation = Probation
	}
	if cfg.Notify == nil {
		cfg.Notify = func(string) {}
	}
	return &Supervisor{cfg: cfg, hurry: make(chan struct{}, 1)}
}

// Hurry has a version that is stopping do so at once.
func (s *Supervisor) Hurry() {
	select {
	case s.hurry <- struct{}{}:
	default: // it was said
	}
}

// verdict says what a version's end means.
type verdict int

const (
	finished verdict = iota // it ended by itself, or was asked to
	next                    // the next version is to start
	failed                  // it did not prove itself
	died                    // it was killed, or crashed
)

// end is how a version ended.
type end struct {
	verdict verdict
	code    int
	reason  string // failed: why, for people
	unasked bool   // next: nobody waits for it
	doubt   Kind   // failed: it is held once the version before it tells this; empty = at once
}

// Run runs versions until one ends for good or ctx ends, and returns the exit code of
// the last.
func (s *Supervisor) Run(ctx context.Context) (int, error) {
	unasked := false
	for {
		p, err := s.cfg.Store.Next(s.cfg.Installed)
		if err != nil { // the installed program can still run
			s.cfg.Log.Error("the versions cannot be looked at: the installed program is run", "error", err)
			p = versions.Program{Version: s.cfg.Installed}
		}
		if err := s.cfg.Store.Prune(); err != nil {
			s.cfg.Log.Warn("old versions are not removed", "error", err)
		}
		e, err := s.one(ctx, p, unasked)
		if err != nil {
			return 1, err
		}
		unasked = e.unasked
		switch e.verdict {
		case finished:
			return e.code, nil
		case next:
			s.restarts = nil
		case failed:
			s.restarts = nil
			s.goBack(p, e)
			unasked = true
		case died:
			if !s.again(ctx, p) {
				return e.code, nil
			}
			unasked = true
		}
	}
}

// one runs one version to its end.
func (s *Supervisor) one(ctx context.Context, p versions.Program, unasked bool) (end, error) {
	s.cfg.Notify("WATCHDOG=1") // it has its time to start
	child, err := s.cfg.Start(p, unasked)
	if err != nil {
		if p.Trial {
			return end{verdict: failed, reason: fmt.Sprintf("it cannot be started: %v", err)}, nil
		}
		if p.Path != "" {
			s.cfg.Log.Error("this version cannot be started", "version", p.Version.Version, "error", err)
			return end{verdict: next}, s.drop(p.Version)
		}
		return end{}, fmt.Errorf("start the program: %w", err)
	}
	w := &watch{s: s, p: p, child: child, started: time.Now()}
	return w.run(ctx), nil
}

// drop forgets a version that cannot be started, so that the one before it is taken.
func (s *Supervisor) drop(v versions.Version) error {
	return s.cfg.Store.Change(func(state *versions.State) error {
		if state.Active != nil && *state.Active == v {
			state.Active, state.Previous = state.Previous, nil
			state.Hold(v, "it could not be started any more", time.Now())
			return nil
		}
		return errors.New("start the program: it is not the active version")
	})
}

// goBack holds the candidate.
func (s *Supervisor) goBack(p versions.Program, e end) {
	s.cfg.Log.Error("the new version did not prove itself: going back to the one before", "version", p.Version.Version, "reason", e.reason)
	err := s.cfg.Store.Change(func(state *versions.State) error {
		if state.Candidate == nil || state.Candidate.Version != p.Version {
			return nil
		}
		state.Candidate = nil
		if e.doubt == "" {
			state.Hold(p.Version, e.reason, time.Now())
		}
		return nil
	})
	if err != nil { // the next start counts the try
		s.cfg.Log.Error("that the release is held is not written down", "error", err)
	}
	if e.doubt != "" {
		s.doubt = &doubt{p.Version, e.reason, e.doubt, time.Now().Add(ReadyTime)}
	}
}

// decide holds the release that could not do what the version before it can.
func (s *Supervisor) decide(can Kind) {
	d := s.doubt
	if d == nil || d.needs != can {
		return
	}
	s.doubt = nil
	if time.Now().After(d.until) {
		return // the studio may just have come back
	}
	err := s.cfg.Store.Change(func(state *versions.State) error {
		state.Hold(d.version, d.reason, time.Now())
		return nil
	})
	if err != nil {
		s.cfg.Log.Error("that the release is held is not written down", "error", err)
	}
}

// again says whether a version that died is to be started anew, after a pause. One that
// keeps dying is not: then the version before it is taken, if there is one.
func (s *Supervisor) again(ctx context.Context, p versions.Program) bool {
	at := time.Now()
	var recent []time.Time
	for _, r := range s.restarts {
		if at.Sub(r) < restartSpan {
			recent = append(recent, r)
		}
	}
	s.restarts = append(recent, at)
	if len(s.restarts) > maxRestarts {
		s.cfg.Log.Error("this version keeps dying", "version", p.Version.Version, "restarts", maxRestarts, "span", restartSpan)
		if p.Path == "" {
			return false // whoever started us decides
		}
		if err := s.drop(p.Version); err != nil {
			s.cfg.Log.Error("the version before it is not taken", "error", err)
			return false
		}
		s.restarts = nil
	}
	select {
	case <-time.After(restartPause * time.Duration(max(len(s.restarts), 1))):
		return true
	case <-ctx.Done():
		return false
	}
}

// watch is one version while it runs.
type watch struct {
	s       *Supervisor
	p       versions.Program
	child   Child
	started time.Time

	opened, connected, orderly, restart, unasked bool
	proven                                       bool
	stopping                                     bool   // ctx has ended
	failure                                      string // why it is not ready
	doubt                                        Kind   // see end
}

func (w *watch) run(ctx context.Context) end {
	ready, proof := time.NewTimer(ReadyTime), time.NewTimer(w.s.cfg.Probation)
	defer ready.Stop()
	defer proof.Stop()
	if !w.p.Trial {
		ready.Stop()
		proof.Stop()
	}
	var giveUp <-chan time.Time
	lived := false
	// A child on probation is waited for; its own sign of life counts once it is ready.
	alive := time.NewTicker(ReadyTime / 4)
	defer alive.Stop()
	done := ctx.Done()
	messages := w.child.Messages()
	for messages != nil {
		select {
		case m, ok := <-messages:
			if !ok {
				messages = nil
				break
			}
			w.take(m)
			if w.p.Trial && w.ready() {
				ready.Stop()
				w.proveIf(lived)
			}
			if w.failure != "" && giveUp == nil {
				w.child.Stop()
				giveUp = time.After(stopTime)
			}
		case <-alive.C:
			if w.p.Trial && !w.ready() || giveUp != nil {
				w.s.cfg.Notify("WATCHDOG=1") // bounded by the limits here
			}
		case <-ready.C:
			if w.stopping || w.ready() {
				break
			}
			w.fail()
			w.child.Stop()
			giveUp = time.After(stopTime)
		case <-proof.C:
			lived = true
			w.proveIf(giveUp == nil && w.ready())
		case <-giveUp:
			w.child.Kill()
		case <-w.s.hurry:
			w.child.Hurry()
		case <-done:
			done = nil
			w.stopping = true
			w.s.cfg.Notify("STOPPING=1")
			w.child.Stop()
		}
	}
	return w.end(w.child.Wait())
}

// take notes what the child tells.
func (w *watch) take(m Message) {
	switch m.Kind {
	case Opened:
		w.opened = true
		w.s.decide(Opened)
		before := w.p.Candidate.Before
		if w.p.Trial && before != nil && m.Results < before.Results {
			w.failure = fmt.Sprintf("it found %d of %d results in the outbox", m.Results, before.Results)
		}
	case Connected:
		w.connected = true
		w.s.decide(Connected)
	case Notify:
		// That the service stops, or another process is its main one, is not its to say.
		if m.Text == "READY=1" || m.Text == "WATCHDOG=1" || strings.HasPrefix(m.Text, "STATUS=") && !strings.Contains(m.Text, "\n") {
			w.s.cfg.Notify(m.Text)
		}
	case Restart:
		w.restart, w.orderly = true, true
		w.unasked = m.Text != Asked
	case Ended:
		w.orderly = true
	}
}

// ready says whether a candidate does what the one before it did.
func (w *watch) ready() bool {
	before := w.p.Candidate.Before
	return w.opened && w.failure == "" && (w.connected || before == nil || !before.Connected)
}

// fail says why a candidate was not ready in time.
func (w *watch) fail() {
	switch {
	case w.failure != "":
	case !w.opened:
		w.failure = fmt.Sprintf("it was not ready after %v", ReadyTime)
	default:
		w.failure, w.doubt = fmt.Sprintf("it did not reach the studio within %v, and the one before it had", ReadyTime), Connected
	}
}

// proveIf proves the candidate once.
func (w *watch) proveIf(can bool) {
	if can && !w.stopping && !w.proven {
		w.prove()
	}
}

// prove makes the candidate the version that is run from now on.
func (w *watch) prove() {
	err := w.s.cfg.Store.Change(func(state *versions.State) error {
		if state.Candidate != nil && state.Candidate.Version == w.p.Version {
			state.Promote()
		}
		return nil
	})
	if err != nil {
		w.s.cfg.Log.Error("that the new version works is not written down", "error", err)
		return
	}
	w.proven = true
	w.s.cfg.Log.Info("the new version has proved itself", "version", w.p.Version.Version)
	if err := w.s.cfg.Store.Prune(); err != nil {
		w.s.cfg.Log.Warn("old versions are not removed", "error", err)
	}
}

// end judges how the version ended.
func (w *watch) end(code int) end {
	trial := w.p.Trial && !w.proven
	switch {
	case w.failure != "":
		return end{verdict: failed, code: code, reason: w.failure, doubt: w.doubt}
	case w.stopping:
		w.settle(trial)
		return end{verdict: finished, code: code}
	case w.restart:
		w.settle(trial)
		return end{verdict: next, code: code, unasked: w.unasked}
	case w.orderly && code == 0:
		w.settle(trial)
		return end{verdict: finished, code: code}
	case trial:
		e := end{verdict: failed, code: code}
		if w.orderly && !w.opened {
			e.doubt = Opened // the config may be at fault
		}
		e.reason = fmt.Sprintf("it ended with code %d after %v", code, time.Since(w.started).Round(time.Second))
		return e
	case w.orderly || !w.opened && code >= 0: // it has said why
		return end{verdict: finished, code: code}
	}
	w.s.cfg.Log.Error("the program died and is started anew", "version", w.p.Version.Version, "code", code)
	return end{verdict: died, code: code}
}

// settle takes back the try of a candidate that ended in good order before it had
// proved itself.
func (w *watch) settle(trial bool) {
	if !trial {
		return
	}
	err := w.s.cfg.Store.Change(func(state *versions.State) error {
		if c := state.Candidate; c != nil && c.Version == w.p.Version && c.Tries > 0 {
			c.Tries--
		}
		return nil
	})
	if err != nil {
		w.s.cfg.Log.Error("the state of updates is not written down", "error", err)
	}
}
