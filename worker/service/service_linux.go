package service

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	manager "github.com/kardianos/service"
)

// bootHint is said where the user's services wait for a login.
const bootHint = "starts when you log in; `loginctl enable-linger` makes it start at boot"

// lingerTimeout is generous: loginctl answers at once, or asks for a password that
// nobody types.
const lingerTimeout = 10 * time.Second

// describe prepares the service for systemd. The library knows other managers, too, but
// none of them has services of a user, or restarts what fails.
func (s *Service) describe() error {
	if s.cfg.System && s.cfg.User == "" {
		return fmt.Errorf("describe the service: the system's service needs the name of the user it runs as")
	}
	if strings.ContainsAny(s.cfg.User, " \t\n\r%\"'\\") {
		return fmt.Errorf("describe the service: %q is not the name of a user", s.cfg.User)
	}
	if strings.ContainsAny(s.cfg.Program, unfitForUnit) {
		return fmt.Errorf("describe the service: systemd starts no program at %s: move it to a path without quotes and backslashes", s.cfg.Program)
	}
	s.text = unit(s.cfg)
	s.path = filepath.Join("/etc/systemd/system", Name+".service")
	if !s.cfg.System {
		home, err := os.UserHomeDir()
		if err != nil {
			return fmt.Errorf("describe the service: %w", err)
		}
		s.path = filepath.Join(home, ".config/systemd/user", Name+".service")
	}
	for _, system := range manager.AvailableSystems() {
		if system.String() != "linux-systemd" {
			continue
		}
		inner, err := system.New(program{}, &manager.Config{
			Name: Name, DisplayName: displayName, Description: description, Executable: s.cfg.Program, Arguments: s.cfg.arguments(),
			Option: manager.KeyValue{"UserService": !s.cfg.System, "SystemdScript": s.text},
		})
		if err != nil {
			return fmt.Errorf("describe the service: %w", err)
		}
		s.inner = inner
	}
	if _, err := exec.LookPath("systemctl"); err != nil || s.inner == nil {
		return fmt.Errorf("%w: systemd is not installed; have your init system run %s %s",
			ErrNoManager, s.cfg.Program, strings.Join(s.cfg.arguments(), " "))
	}
	return nil
}

// reach asks systemd anything, for its words when it does not answer.
func (s *Service) reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lingerTimeout)
	defer cancel()
	arguments, hint := []string{"show", "--property=Version"}, ""
	if !s.cfg.System {
		arguments = append(arguments, "--user")
		hint = " (log in as this user, not by su or sudo; or `service install --system` as an administrator)"
	}
	out, err := exec.CommandContext(ctx, "systemctl", arguments...).CombinedOutput() // #nosec G204 -- one of two fixed lists
	if err != nil {
		return fmt.Errorf("systemd does not answer: %w: %s%s", err, strings.Join(strings.Fields(string(out)), " "), hint)
	}
	return nil
}

// settle makes the user's services start at boot. Where that is refused the service still
// starts at login, and its status says so.
func (s *Service) settle(ctx context.Context) error {
	if s.cfg.System || s.atBoot(ctx) {
		return nil
	}
	_, _ = loginctl(ctx, "enable-linger") // the status tells how it went
	return nil
}

// atBoot says whether the user's services start before a login.
func (s *Service) atBoot(ctx context.Context) bool {
	u, err := user.Current()
	if err != nil {
		return false
	}
	out, err := loginctl(ctx, "show-user", u.Username, "--property=Linger")
	return err == nil && strings.TrimSpace(out) == "Linger=yes"
}

func loginctl(ctx context.Context, arguments ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, lingerTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "loginctl", append([]string{"--no-ask-password"}, arguments...)...).Output() // #nosec G204 -- our words and the account's name
	return string(out), err
}

func administrator() bool { return os.Geteuid() == 0 }

// path of the entry that desktops read at login (XDG Desktop Application Autostart).
func (l Login) path() (string, error) {
	folder, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the folder for the login: %w", err)
	}
	return filepath.Join(folder, "autostart", Name+".desktop"), nil
}

func (l Login) text() string { return desktopEntry(l) }
