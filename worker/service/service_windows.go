package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	manager "github.com/kardianos/service"
	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// bootHint is never said: Windows' services start at boot.
const bootHint = ""

// describe prepares the service for Windows, which has no services of a user.
func (s *Service) describe() error {
	s.cfg.System = true
	inner, err := manager.New(program{}, &manager.Config{
		Name: Name, DisplayName: displayName, Description: description, Executable: s.cfg.Program, Arguments: s.cfg.arguments(),
		Option: manager.KeyValue{"DelayedAutoStart": true, "OnFailure": "restart", "OnFailureDelayDuration": "5s", "OnFailureResetPeriod": 600},
	})
	if err != nil {
		return fmt.Errorf("describe the service: %w", err)
	}
	s.inner = inner
	return nil
}

// Managed runs a worker until ctx ends or the service manager stops it. Started by a
// person, it is run as it is.
func Managed(ctx context.Context, run func(context.Context) error) error {
	if manager.Interactive() {
		return run(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := &managed{run: func() error { return run(ctx) }, stop: cancel, ended: make(chan error, 1)}
	inner, err := manager.New(m, &manager.Config{Name: Name})
	if err != nil {
		return fmt.Errorf("run as a service: %w", err)
	}
	return inner.Run()
}

// managed is a worker between the calls of the service manager.
type managed struct {
	run   func() error
	stop  context.CancelFunc
	ended chan error // room for one
}

func (m *managed) Start(manager.Service) error {
	go func() { // ends with Stop, or with the program
		err := m.run()
		m.ended <- err
		if err != nil {
			os.Exit(1) //nolint:revive // the service manager starts it anew only when the process ends so
		}
	}()
	return nil
}

func (m *managed) Stop(manager.Service) error {
	m.stop()
	return <-m.ended
}

func (s *Service) reach(context.Context) error { return nil }

func (s *Service) settle(context.Context) error { return nil }

func (s *Service) atBoot(context.Context) bool { return true }

func administrator() bool { return windows.GetCurrentProcessToken().IsElevated() }

// runKey lists what Windows starts when the user logs in.
const runKey = `Software\Microsoft\Windows\CurrentVersion\Run`

func (l Login) read() (text string, err error) {
	key, err := registry.OpenKey(registry.CURRENT_USER, runKey, registry.QUERY_VALUE)
	if errors.Is(err, registry.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the entry for the login: %w", err)
	}
	defer func() { err = errors.Join(err, key.Close()) }()
	text, _, err = key.GetStringValue(displayName)
	if errors.Is(err, registry.ErrNotExist) {
		return "", nil
	}
	return text, err
}

func (l Login) write(text string) (err error) {
	key, _, err := registry.CreateKey(registry.CURRENT_USER, runKey, registry.SET_VALUE)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, key.Close()) }()
	return key.SetStringValue(displayName, text)
}

func (l Login) remove() (err error) {
	key, err := registry.OpenKey(registry.CURRENT_USER, runKey, registry.SET_VALUE)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, key.Close()) }()
	if err := key.DeleteValue(displayName); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (l Login) text() string {
	words := []string{windows.EscapeArg(l.Program)}
	for _, argument := range l.arguments() {
		words = append(words, windows.EscapeArg(argument))
	}
	return strings.Join(words, " ")
}
