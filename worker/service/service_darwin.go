package service

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	manager "github.com/kardianos/service"
)

const (
	label      = "app.studioworker"
	loginLabel = "app.studioworker.desktop"
	// bootHint is said where an agent waits for a login.
	bootHint = "starts when you log in; `service install --system` makes it start at boot"
)

// describe prepares the service for launchd.
func (s *Service) describe() error {
	folder, user := "/Library/LaunchDaemons", s.cfg.User
	if !s.cfg.System {
		home, err := os.UserHomeDir()
		if err != nil {
			return fmt.Errorf("describe the service: %w", err)
		}
		folder, user = filepath.Join(home, "Library/LaunchAgents"), ""
	}
	s.path = filepath.Join(folder, label+".plist")
	s.text = plist(label, s.cfg.Program, s.cfg.arguments(), true, user, filepath.Dir(s.cfg.File))
	inner, err := manager.New(program{}, &manager.Config{
		Name: label, DisplayName: displayName, Description: description, Executable: s.cfg.Program, Arguments: s.cfg.arguments(),
		Option: manager.KeyValue{"UserService": !s.cfg.System, "LaunchdConfig": s.text},
	})
	if err != nil {
		return fmt.Errorf("describe the service: %w", err)
	}
	s.inner = inner
	return nil
}

func (s *Service) reach(context.Context) error { return nil }

func (s *Service) settle(context.Context) error { return nil }

func (s *Service) atBoot(context.Context) bool { return false }

func administrator() bool { return os.Geteuid() == 0 }

func (l Login) path() (string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the folder for the login: %w", err)
	}
	return filepath.Join(home, "Library/LaunchAgents", loginLabel+".plist"), nil
}

func (l Login) text() string { return plist(loginLabel, l.Program, l.arguments(), false, "", "") }
