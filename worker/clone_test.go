package worker

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"studioworker/worker/config"
	"studioworker/worker/identity"
	"studioworker/worker/observe"
	"studioworker/worker/protocol"
	"studioworker/worker/session/sessiontest"
)

// on says which computer the worker runs on; empty is one without an id.
func on(machine string) func(*Config) {
	return func(c *Config) {
		c.MachineID = func(context.Context) (string, error) {
			if machine == "" {
				return "", errors.New("no id")
			}
			return machine, nil
		}
	}
}

// hello waits for the next session and returns what it was opened with.
func hello(t *testing.T, s *studio) protocol.Hello {
	t.Helper()
	c := s.Accept(t)
	h := sessiontest.Await[protocol.Hello](t, c, nil)
	c.Send(t, protocol.Welcome{WorkerID: "wk-20", ServerTime: "now"})
	return h
}

// aside lists the configs that were set aside.
func (f *fixture) aside(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(f.dir, "config.toml.cloned-*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestFault14ACopiedConfigRegistersAnew: on another computer the credentials are
// set aside, a new install id asks for approval, and the old token is not used.
func TestFault14ACopiedConfigRegistersAnew(t *testing.T) {
	s := newStudio(t)
	f := prepare(t, func(c *config.Config) {
		approved(s)(c)
		c.MachineHash, c.VRAMThresholdGB = identity.Hash("first", c.InstallID), 5
	}, answers, on("second"))
	if err := f.checkMachine(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := f.seen.Registration.Get(); r.State != observe.RegistrationPristine || !strings.Contains(r.Reason, "copied from another computer") {
		t.Errorf("registration %+v", r)
	}
	let := make(chan struct{})
	s.decides(func(n int) protocol.PollResponse {
		select {
		case <-let:
			return approve(n)
		default:
			return protocol.PollResponse{Status: protocol.StatusPending}
		}
	})
	f.start(t)
	pending := until(t, &f.seen.Registration, func(r observe.Registration) bool { return r.State == observe.RegistrationPending })
	if !strings.Contains(pending.Reason, "copied from another computer") || pending.Why.Reason != observe.ReasonCopied || !strings.HasSuffix(pending.Reason, pending.Why.Said) { // while the operator thinks about it
		t.Errorf("pending %+v", pending)
	}
	close(let)
	if h := hello(t, s); h.AuthToken != "tok-1" {
		t.Errorf("hello with %q", h.AuthToken)
	}
	if r := f.seen.Registration.Get(); r.Reason != "" || r.Why != (observe.Why{}) {
		t.Errorf("approved, and still %q", r.Reason)
	}
	until(t, &f.seen.Session, func(s observe.Session) bool { return s.State == observe.SessionConnected })
	asked := s.registered()
	c := f.store.Get()
	if len(asked) != 1 || asked[0].InstallID == "i" || asked[0].InstallID != c.InstallID {
		t.Errorf("asked %+v, install id %q", asked, c.InstallID)
	}
	if c.MachineHash != identity.Hash("second", c.InstallID) || c.VRAMThresholdGB != 5 {
		t.Errorf("config %+v", c)
	}
	list := f.aside(t)
	if len(list) != 1 {
		t.Fatalf("set aside: %q", list)
	}
	old, err := os.ReadFile(list[0])
	if err != nil || !strings.Contains(string(old), "tok-0") {
		t.Errorf("set aside: %s, %v", old, err)
	}
	if info, err := os.Stat(list[0]); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if said := f.lines("copied from another computer"); len(said) != 1 || !strings.Contains(said[0], "old_worker_id=wk-20") {
		t.Errorf("said %q", said)
	}
	if err := f.checkMachine(t.Context()); err != nil || len(f.aside(t)) != 1 || !reflect.DeepEqual(f.store.Get(), c) {
		t.Errorf("the next start: %v, %q", err, f.aside(t))
	}
}

// TestFault14TheSameComputerKeepsItsRegistration: also when the config has no
// hash yet, and when the computer has no id.
func TestFault14TheSameComputerKeepsItsRegistration(t *testing.T) {
	for name, tc := range map[string]struct{ hash, machine, want string }{
		"same":        {identity.Hash("first", "i"), "first", identity.Hash("first", "i")},
		"no hash yet": {"", "first", identity.Hash("first", "i")},
		"no id":       {identity.Hash("first", "i"), "", identity.Hash("first", "i")},
		"neither":     {"", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStudio(t)
			f := prepare(t, func(c *config.Config) { approved(s)(c); c.MachineHash = tc.hash }, answers, on(tc.machine)).start(t)
			if h := hello(t, s); h.AuthToken != "tok-0" {
				t.Errorf("hello with %q", h.AuthToken)
			}
			if c := f.store.Get(); c.MachineHash != tc.want || c.InstallID != "i" || len(f.aside(t)) > 0 || len(s.registered()) > 0 {
				t.Errorf("config %+v, asked %v", c, s.registered())
			}
		})
	}
}

// TestACopyThatCannotBeSetAsideDoesNotRun: the first computer keeps its session.
func TestACopyThatCannotBeSetAsideDoesNotRun(t *testing.T) {
	s := newStudio(t)
	f := prepare(t, func(c *config.Config) { approved(s)(c); c.MachineHash = "another" }, answers, on("second"))
	if err := os.Remove(filepath.Join(f.dir, "config.toml")); err != nil { // a damaged disk, as far as the worker sees
		t.Fatal(err)
	}
	f.start(t)
	if err := f.end(t); err == nil || !strings.Contains(err.Error(), "copied from another computer") || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("ended with %v", err)
	}
}
