package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	manager "github.com/kardianos/service"

	"studioworker/worker/atomicfile"
)

// Name is what service managers call the worker.
const Name = "studio-worker"

const (
	displayName = "Studio Worker"
	description = "Lends this computer's GPU to a studio"
)

// Errors that a caller tells apart.
var (
	// ErrNoManager: this system has no service manager that is known here.
	ErrNoManager = errors.New("no service manager that is known here")
	// ErrNotInstalled: there is nothing to uninstall.
	ErrNotInstalled = errors.New("the service is not installed")
)

// Config says what is to run and for whom.
type Config struct {
	Program string // absolute path of the program
	File    string // absolute path of its config
	// Writable are further folders that the worker writes to, absolute. The folder of the
	// config is one anyway.
	Writable []string
	// Drain is how long a stop may wait for the running job.
	Drain time.Duration
	// System makes it the system's service and not the user's: it needs an
	// administrator, and runs as User.
	System bool
	User   string // name of the account; System on Linux and macOS only
}

// Service is one service of this computer, installed or not.
type Service struct {
	cfg   Config
	inner manager.Service
	text  string // of the file that the manager reads; empty where there is none
	path  string // of that file
}

// New returns the service that cfg describes. It touches nothing.
func New(cfg Config) (*Service, error) {
	for _, path := range append([]string{cfg.Program, cfg.File}, cfg.Writable...) {
		if !filepath.IsAbs(path) || bytes.ContainsAny([]byte(path), "\n\r\x00") {
			return nil, fmt.Errorf("describe the service: %q is not an absolute path of one line", path)
		}
	}
	s := &Service{cfg: cfg}
	if err := s.describe(); err != nil {
		return nil, err
	}
	return s, nil
}

// arguments start a worker without a window.
func (c Config) arguments() []string { return []string{"--config", c.File, "run"} }

// Change says what an installation did.
type Change string

// What an installation did.
const (
	Installed Change = "installed"
	Replaced  Change = "replaced"
	Unchanged Change = "unchanged"
)

// Install makes the system start the worker from now on and starts it. A service that is
// installed as described is left as it is, running or not; another one is replaced and
// started anew.
func (s *Service) Install(ctx context.Context) (Change, error) {
	change := Installed
	switch same, err := s.same(); {
	case err != nil:
		return "", err
	case same:
		return Unchanged, nil
	}
	if err := s.reach(ctx); err != nil {
		return "", err
	}
	if s.installed() {
		change = Replaced
		if err := s.Uninstall(ctx); err != nil {
			return "", fmt.Errorf("replace the service: %w", err)
		}
	}
	if err := s.inner.Install(); err != nil {
		return "", s.explain("install the service", err)
	}
	if err := s.settle(ctx); err != nil {
		return "", err
	}
	if err := s.inner.Start(); err != nil {
		return change, s.explain("start the service", err)
	}
	return change, nil
}

// Uninstall stops the worker, which may wait for its job, and has the system forget it.
// Config, results and logs stay. It returns ErrNotInstalled when there is nothing to
// forget.
func (s *Service) Uninstall(ctx context.Context) error {
	if !s.installed() {
		return ErrNotInstalled
	}
	if err := s.reach(ctx); err != nil {
		return err
	}
	if err := s.inner.Stop(); err != nil && s.running() {
		return s.explain("stop the service", err)
	}
	if err := s.inner.Uninstall(); err != nil {
		return s.explain("uninstall the service", err)
	}
	return nil
}

// Status is what the service manager says.
type Status struct {
	Manager   string `json:"manager"` // for example linux-systemd
	Installed bool   `json:"installed"`
	Running   bool   `json:"running"`
	File      string `json:"file,omitempty"`   // what the manager reads
	Current   bool   `json:"current"`          // installed as this program would do it now
	AtBoot    bool   `json:"atBoot"`           // starts before anybody has logged in
	Detail    string `json:"detail,omitempty"` // what is wrong, or would make AtBoot true
}

// Status asks the service manager.
func (s *Service) Status(ctx context.Context) (Status, error) {
	st := Status{Manager: s.inner.Platform(), File: s.path, Installed: s.installed()}
	if !st.Installed {
		return st, nil
	}
	st.Running = s.running()
	same, err := s.same()
	if err != nil {
		return st, err
	}
	st.Current = same
	if !same {
		st.Detail = "installed for another program or config; `service install` replaces it"
	}
	st.AtBoot = s.cfg.System || s.atBoot(ctx)
	if !st.AtBoot && st.Detail == "" {
		st.Detail = bootHint
	}
	return st, nil
}

func (s *Service) running() bool {
	status, err := s.inner.Status()
	return err == nil && status == manager.StatusRunning
}

// same says whether the manager's file is as we would write it.
func (s *Service) same() (bool, error) {
	if s.path == "" { // Windows keeps no file: an installed service is taken as it is
		return s.installed(), nil
	}
	text, err := os.ReadFile(s.path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the service: %w", err)
	}
	return string(text) == s.text, nil
}

func (s *Service) installed() bool {
	if s.path == "" {
		_, err := s.inner.Status()
		return !errors.Is(err, manager.ErrNotInstalled)
	}
	_, err := os.Lstat(s.path)
	return err == nil
}

// explain adds what to do to the words of a service manager.
func (s *Service) explain(what string, err error) error {
	if errors.Is(err, os.ErrPermission) || s.cfg.System && !administrator() {
		return fmt.Errorf("%s: %w: the system's services need an administrator; leave --system out for a service of yours", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// program is what the manager's library wants to start; the manager starts the program
// by its path instead.
type program struct{}

func (program) Start(manager.Service) error { return nil }
func (program) Stop(manager.Service) error  { return nil }

// writable are the folders the worker writes to, sorted, each once.
func (c Config) writable() []string {
	folders := append([]string{filepath.Dir(c.File)}, c.Writable...)
	slices.Sort(folders)
	return slices.Compact(folders)
}

// replace writes a file of the desktop or of launchd, with its folders.
func replace(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // G301: the desktop's folders are readable by convention
		return err
	}
	return atomicfile.Write(path, []byte(text), 0o644)
}
