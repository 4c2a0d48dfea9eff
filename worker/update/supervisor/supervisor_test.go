package supervisor

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"studioworker/worker/update/versions"
)

// shelf is a store in memory.
type shelf struct {
	mu    sync.Mutex
	state versions.State
}

func (s *shelf) Change(change func(*versions.State) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return change(&s.state)
}

func (s *shelf) Prune() error { return nil }

func (s *shelf) Next(installed versions.Version) (versions.Program, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.state.Candidate; c != nil {
		c.Tries++
		return versions.Program{Path: c.Version.Version, Version: c.Version, Candidate: *c, Trial: true}, nil
	}
	if a := s.state.Active; a != nil {
		return versions.Program{Path: a.Version, Version: *a}, nil
	}
	return versions.Program{Version: installed}, nil
}

// actor is a child that plays what script says; it may read stopped.
type actor struct {
	messages chan Message
	stopped  chan struct{}
	killed   chan struct{}
	stop     sync.Once
	kill     sync.Once
	code     int
}

func (a *actor) Messages() <-chan Message { return a.messages }
func (a *actor) Stop()                    { a.stop.Do(func() { close(a.stopped) }) }
func (a *actor) Hurry()                   { a.Kill() }
func (a *actor) Kill()                    { a.kill.Do(func() { close(a.killed) }) }
func (a *actor) Wait() int                { return a.code }

type script func(a *actor) int

// tell tells, then goes on.
func (a *actor) tell(kinds ...Kind) {
	for _, k := range kinds {
		a.messages <- Message{Kind: k}
	}
}

// live lives for a while, or until it is stopped or killed.
func (a *actor) live(d time.Duration) int {
	select {
	case <-time.After(d):
		return 1
	case <-a.stopped:
		a.tell(Ended)
		return 0
	case <-a.killed:
		return -1
	}
}

// stage runs a supervisor with scripts by version.
type stage struct {
	*shelf
	t        *testing.T
	scripts  map[string]script
	started  []string
	unasked  []bool
	notified []string
	refuse   map[string]error
}

func (s *stage) start(p versions.Program, unasked bool) (Child, error) {
	s.started = append(s.started, p.Version.Version)
	s.unasked = append(s.unasked, unasked)
	if err := s.refuse[p.Version.Version]; err != nil {
		return nil, err
	}
	a := &actor{messages: make(chan Message), stopped: make(chan struct{}), killed: make(chan struct{})}
	play := s.scripts[p.Version.Version]
	go func() {
		a.code = play(a)
		close(a.messages)
	}()
	return a, nil
}

// run runs the supervisor for a time and returns its exit code.
func (s *stage) run(d time.Duration) int {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), d)
	defer cancel()
	code, err := New(Config{
		Store: s, Installed: versions.Version{Version: "1.0.0"}, Start: s.start, Log: slog.New(slog.DiscardHandler),
		Notify: func(text string) { s.notified = append(s.notified, text) },
	}).Run(ctx)
	if err != nil {
		s.t.Errorf("the supervisor: %v", err)
	}
	return code
}

// works is a version that does everything it should.
func works(a *actor) int {
	a.tell(Opened, Connected)
	return a.live(24 * time.Hour)
}

func newStage(t *testing.T, candidate script, before *versions.Before) *stage {
	t.Helper()
	return &stage{
		t: t, scripts: map[string]script{"1.0.0": works, "1.1.0": works, "1.2.0": candidate}, refuse: map[string]error{},
		shelf: &shelf{state: versions.State{
			Active:    &versions.Version{Version: "1.1.0", Seq: 1},
			Candidate: &versions.Candidate{Version: versions.Version{Version: "1.2.0", Seq: 2}, Before: before},
		}},
	}
}

func TestRow52AVersionThatDoesNotWork(t *testing.T) {
	had := &versions.Before{Connected: true, Results: 2}
	for _, c := range []struct {
		name      string
		candidate script
		before    *versions.Before
		reason    string
	}{
		{"exits at once", func(*actor) int { return 1 }, nil, "ended with code 1 after 0s"},
		{"exits at once without an error", func(*actor) int { return 0 }, nil, "ended with code 0"},
		{"hangs", func(a *actor) int { <-a.killed; return -1 }, nil, "not ready after 1m0s"},
		{"crashes at minute 3", func(a *actor) int { a.tell(Opened, Connected); a.live(3 * time.Minute); return 2 }, nil, "ended with code 2 after 3m0s"},
		{"fails in good order at minute 9", func(a *actor) int {
			a.tell(Opened, Connected)
			a.live(9 * time.Minute)
			a.tell(Ended)
			return 1
		}, nil, "ended with code 1 after 9m0s"},
		{"loses results", func(a *actor) int {
			a.messages <- Message{Kind: Opened, Results: 1}
			return a.live(time.Hour)
		}, had, "1 of 2 results"},
		{"cannot connect, and the one before can", func(a *actor) int {
			a.messages <- Message{Kind: Opened, Results: 2}
			return a.live(time.Hour)
		}, had, "did not reach the studio"},
		{"cannot read the config, and the one before can", func(a *actor) int { a.tell(Ended); return 1 }, nil, "ended with code 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, c.candidate, c.before)
				if code := s.run(time.Hour); code != 0 {
					t.Errorf("the supervisor ends with %d", code)
				}
				if want := []string{"1.2.0", "1.1.0"}; !slices.Equal(s.started, want) || !s.unasked[1] {
					t.Errorf("started %v, unasked %v", s.started, s.unasked)
				}
				bad, held := s.state.Held(2)
				if !held || !strings.Contains(bad.Reason, c.reason) || s.state.Candidate != nil || s.state.Active.Version != "1.1.0" {
					t.Errorf("the state is %+v", s.state)
				}
			})
		})
	}
}

func TestAVersionProvesItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, works, &versions.Before{Connected: true})
		s.run(Probation + time.Second)
		if s.state.Active.Version != "1.2.0" || s.state.Previous.Version != "1.1.0" || s.state.Candidate != nil || len(s.state.Bad) > 0 {
			t.Errorf("the state is %+v", s.state)
		}
		if !slices.Equal(s.started, []string{"1.2.0"}) {
			t.Errorf("started %v", s.started)
		}
	})
}

// What ends in good order on probation goes on with it at the next start.
func TestProbationGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, works, nil)
		for range 10 {
			if s.run(Probation / 2); s.state.Candidate == nil || s.state.Candidate.Tries != 0 {
				t.Fatalf("the state is %+v", s.state)
			}
		}
	})
}

func TestAnAbsentStudioIsNobodysFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		offline := func(a *actor) int { a.tell(Opened); return a.live(24 * time.Hour) }
		s := newStage(t, offline, &versions.Before{Connected: true})
		s.scripts["1.1.0"] = func(a *actor) int { // it comes back an hour later
			a.tell(Opened)
			if a.live(time.Hour) == 0 {
				return 0
			}
			a.tell(Connected)
			return a.live(time.Hour)
		}
		s.run(90 * time.Minute)
		if len(s.state.Bad) > 0 || s.state.Active.Version != "1.1.0" || s.state.Candidate != nil {
			t.Errorf("the state is %+v", s.state)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, func(a *actor) int { a.tell(Opened); return a.live(24 * time.Hour) }, &versions.Before{})
		if s.run(Probation + time.Second); s.state.Active.Version != "1.2.0" {
			t.Errorf("the one before it was not connected either: %+v", s.state)
		}
	})
}

func TestAVersionThatCannotBeStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, works, nil)
		s.refuse["1.2.0"], s.refuse["1.1.0"] = errors.New("no such library"), errors.New("quarantined")
		if code := s.run(time.Hour); code != 0 || !slices.Equal(s.started, []string{"1.2.0", "1.1.0", "1.0.0"}) {
			t.Errorf("started %v, ended with %d", s.started, code)
		}
		if bad, held := s.state.Held(2); !held || !strings.Contains(bad.Reason, "no such library") {
			t.Errorf("held: %+v", s.state.Bad)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, works, nil)
		s.state, s.refuse["1.0.0"] = versions.State{}, errors.New("gone")
		if _, err := New(Config{Store: s, Installed: versions.Version{Version: "1.0.0"}, Start: s.start, Log: slog.New(slog.DiscardHandler)}).Run(t.Context()); err == nil {
			t.Error("nothing can be started, and nobody says so")
		}
	})
}

func TestRow16AWorkerThatIsKilledIsStartedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, nil, nil)
		s.state.Candidate = nil
		lives := 0
		s.scripts["1.1.0"] = func(a *actor) int {
			a.tell(Opened, Connected)
			if lives++; lives > 5 {
				return a.live(24 * time.Hour)
			}
			time.Sleep(10 * time.Minute)
			return -1
		}
		if s.run(2 * time.Hour); lives != 6 || len(s.state.Bad) > 0 {
			t.Errorf("%d lives, state %+v", lives, s.state)
		}
	})
	synctest.Test(t, func(t *testing.T) { // one that keeps dying is not
		s := newStage(t, nil, nil)
		s.state.Candidate = nil
		dies := func(a *actor) int { a.tell(Opened); return -1 }
		s.scripts["1.1.0"], s.scripts["1.0.0"] = dies, dies
		if code := s.run(time.Hour); code != -1 {
			t.Errorf("the supervisor ends with %d", code)
		}
		if want := []string{"1.1.0", "1.1.0", "1.1.0", "1.0.0", "1.0.0", "1.0.0"}; !slices.Equal(s.started, want) {
			t.Errorf("started %v", s.started)
		}
		if _, held := s.state.Held(1); !held {
			t.Errorf("the version that keeps dying is not held: %+v", s.state)
		}
	})
}

func TestEnds(t *testing.T) {
	for _, c := range []struct {
		name  string
		first script
		code  int
		want  int // versions that were started
	}{
		{"quits", func(a *actor) int { a.tell(Opened, Ended); return 0 }, 0, 1},
		{"gives up and says why", func(a *actor) int { a.tell(Opened, Ended); return 1 }, 1, 1},
		{"cannot begin and says why", func(a *actor) int { a.tell(Ended); return 2 }, 2, 1},
		{"is of another time", func(*actor) int { return 0 }, 0, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t, nil, nil)
			s.state, s.scripts["1.0.0"] = versions.State{}, c.first
			if code := s.run(time.Hour); code != c.code || len(s.started) != c.want {
				t.Errorf("%s: code %d, started %v", c.name, code, s.started)
			}
		})
	}
}

func TestOneVersionFollowsAnother(t *testing.T) {
	for text, unasked := range map[string]bool{"": true, Asked: false} {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t, works, nil)
			s.state.Candidate = nil
			s.scripts["1.1.0"] = func(a *actor) int {
				a.tell(Opened, Connected)
				s.mu.Lock()
				s.state.Candidate = &versions.Candidate{Version: versions.Version{Version: "1.2.0", Seq: 2}}
				s.mu.Unlock()
				a.messages <- Message{Kind: Restart, Text: text}
				a.tell(Ended)
				return 0
			}
			s.run(time.Minute)
			if !slices.Equal(s.started, []string{"1.1.0", "1.2.0"}) || s.unasked[1] != unasked {
				t.Errorf("started %v, unasked %v", s.started, s.unasked)
			}
		})
	}
}

func TestTheServiceManagerHearsOfOneService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, nil, nil)
		s.state = versions.State{}
		s.scripts["1.0.0"] = func(a *actor) int {
			for _, text := range []string{"READY=1", "STATUS=Ready for jobs", "WATCHDOG=1", "STOPPING=1", "MAINPID=1", "STATUS=a\nMAINPID=1", "FDSTORE=1"} {
				a.messages <- Message{Kind: Notify, Text: text}
			}
			return a.live(time.Hour)
		}
		s.run(time.Minute)
		if want := []string{"WATCHDOG=1", "READY=1", "STATUS=Ready for jobs", "WATCHDOG=1", "STOPPING=1"}; !slices.Equal(s.notified, want) {
			t.Errorf("systemd heard %q", s.notified)
		}
	})
}

func TestASecondSignalHurries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, nil, nil)
		s.state = versions.State{}
		s.scripts["1.0.0"] = func(a *actor) int {
			a.tell(Opened)
			<-a.killed // it does not heed the first
			return -1
		}
		v := New(Config{Store: s, Installed: versions.Version{Version: "1.0.0"}, Start: s.start, Log: slog.New(slog.DiscardHandler)})
		ctx, stop := context.WithCancel(t.Context())
		go func() {
			time.Sleep(time.Minute)
			stop()
			time.Sleep(time.Hour)
			v.Hurry()
			v.Hurry()
		}()
		start := time.Now()
		if code, err := v.Run(ctx); code != -1 || err != nil || time.Since(start) != time.Hour+time.Minute {
			t.Errorf("ended with %d, %v after %v", code, err, time.Since(start))
		}
	})
}
