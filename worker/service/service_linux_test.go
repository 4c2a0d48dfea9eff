package service

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fakes puts programs that note their arguments first on the PATH, and a home of its own
// around the test. It returns how to read the notes.
func fakes(t *testing.T, systemctl, loginctl string) (home string, notes func() string) {
	t.Helper()
	bin, home := t.TempDir(), t.TempDir()
	log := filepath.Join(bin, "log")
	for name, script := range map[string]string{"systemctl": systemctl, "loginctl": loginctl} {
		text := fmt.Sprintf("#!/bin/sh\necho %s \"$@\" >> %s\n%s\n", name, log, script)
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, ".config"))
	return home, func() string {
		text, err := os.ReadFile(log)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if err := os.RemoveAll(log); err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}

func newService(t *testing.T, cfg Config) *Service {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const lingers = `[ "$2" = show-user ] && echo Linger=yes; exit 0`

func TestInstallTwiceChangesNothing(t *testing.T) {
	home, notes := fakes(t, `case "$*" in *is-active*) echo active;; esac`, lingers)
	s := newService(t, Config{Program: "/opt/studio-worker", File: home + "/config.toml", Drain: 20 * time.Second})
	change, err := s.Install(t.Context())
	if err != nil || change != Installed {
		t.Fatalf("first: %v, %v", change, err)
	}
	said := notes()
	for _, want := range []string{"enable --user studio-worker.service", "daemon-reload --user", "start --user studio-worker.service"} {
		if !strings.Contains(said, want) {
			t.Errorf("systemctl was not asked for %q:\n%s", want, said)
		}
	}
	text, err := os.ReadFile(home + "/.config/systemd/user/studio-worker.service")
	if err != nil || string(text) != s.text {
		t.Errorf("unit: %v\n%s", err, text)
	}
	change, err = s.Install(t.Context())
	if said := notes(); err != nil || change != Unchanged || strings.Contains(said, "start") {
		t.Errorf("second: %v, %v, and asked\n%s", change, err, said)
	}
	st, err := s.Status(t.Context())
	if err != nil || !st.Installed || !st.Running || !st.Current || !st.AtBoot || st.Detail != "" {
		t.Errorf("status %+v, %v", st, err)
	}
}

func TestInstallReplacesAnotherProgramsService(t *testing.T) {
	home, notes := fakes(t, `case "$*" in *is-active*) echo active;; esac`, lingers)
	if _, err := newService(t, Config{Program: "/opt/old", File: home + "/config.toml"}).Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	notes()
	s := newService(t, Config{Program: "/opt/new", File: home + "/config.toml"})
	if st, err := s.Status(t.Context()); err != nil || st.Current || st.Detail == "" {
		t.Errorf("status before: %+v, %v, want one that says what to do", st, err)
	}
	change, err := s.Install(t.Context())
	said := notes()
	if err != nil || change != Replaced || !strings.Contains(said, "stop --user") || !strings.Contains(said, "start --user") {
		t.Errorf("%v, %v, and asked\n%s", change, err, said)
	}
	if st, err := s.Status(t.Context()); err != nil || !st.Current {
		t.Errorf("status after: %+v, %v", st, err)
	}
}

func TestUninstallForgetsTheService(t *testing.T) {
	home, _ := fakes(t, "", lingers)
	s := newService(t, Config{Program: "/opt/studio-worker", File: home + "/config.toml"})
	if err := s.Uninstall(t.Context()); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("nothing there: %v, want %v", err, ErrNotInstalled)
	}
	if _, err := s.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Uninstall(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st, err := s.Status(t.Context()); err != nil || st.Installed {
		t.Errorf("status %+v, %v", st, err)
	}
}

// Where lingering is refused the service starts at login, and the status says what to do.
func TestServiceWithoutLingerSaysSo(t *testing.T) {
	home, notes := fakes(t, `case "$*" in *is-active*) echo inactive;; *list-unit*) echo studio-worker;; esac`,
		`[ "$2" = show-user ] && echo Linger=no; [ "$2" = enable-linger ] && exit 1; exit 0`)
	s := newService(t, Config{Program: "/opt/studio-worker", File: home + "/config.toml"})
	if _, err := s.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	if said := notes(); !strings.Contains(said, "enable-linger") {
		t.Errorf("lingering was not asked for:\n%s", said)
	}
	st, err := s.Status(t.Context())
	if err != nil || st.AtBoot || st.Running || st.Detail != bootHint {
		t.Errorf("status %+v, %v", st, err)
	}
}

func TestInstallSaysWhatSystemdSaid(t *testing.T) {
	home, _ := fakes(t, `echo "Failed to connect to bus: no medium found" >&2; exit 1`, lingers)
	s := newService(t, Config{Program: "/opt/studio-worker", File: home + "/config.toml"})
	if _, err := s.Install(t.Context()); err == nil || !strings.Contains(err.Error(), "no medium found") {
		t.Errorf("%v, want systemd's words", err)
	}
}

func TestServiceRefuses(t *testing.T) {
	fakes(t, "", "")
	tests := []struct {
		name string
		cfg  Config
	}{
		{"relative program", Config{Program: "studio-worker", File: "/c.toml"}},
		{"relative config", Config{Program: "/p", File: "c.toml"}},
		{"two lines", Config{Program: "/p\nExecStartPre=/bin/sh", File: "/c.toml"}},
		{"folder of two lines", Config{Program: "/p", File: "/c.toml", Writable: []string{"/a\n/b"}}},
		{"system's without a user", Config{Program: "/p", File: "/c.toml", System: true}},
		{"program that systemd refuses", Config{Program: `/a"b`, File: "/c.toml"}},
		{"user of two words", Config{Program: "/p", File: "/c.toml", System: true, User: "a\nUser=root"}},
	}
	for _, test := range tests {
		if _, err := New(test.cfg); err == nil {
			t.Errorf("%s: no error", test.name)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := New(Config{Program: "/p", File: "/c.toml"}); !errors.Is(err, ErrNoManager) || !strings.Contains(err.Error(), "/p --config /c.toml run") {
		t.Errorf("without systemd: %v, want the command to run", err)
	}
}

// oddProgram is an executable with a name that is hard to write down.
func oddProgram(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// systemd itself reads the units, and its score of exposure is the one the documentation
// states (0 is best, 10 worst).
func TestSystemdAcceptsTheUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed, and nothing else knows what systemd accepts")
	}
	for _, cfg := range []Config{
		{Program: oddProgram(t, "a %n $HOME b"), File: `/home/some "one" %n $HOME \d/config.toml`, Drain: 20 * time.Second},
		{Program: oddProgram(t, "a"), File: "/var/lib/studio-worker/config.toml", System: true, User: "daemon", Writable: []string{"/srv/models"}},
	} {
		name := fmt.Sprintf("system %v", cfg.System)
		unitFile := filepath.Join(t.TempDir(), Name+".service")
		if err := os.WriteFile(unitFile, []byte(unit(cfg)), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", "--recursive-errors=no", unitFile).CombinedOutput()
		if err != nil || strings.Contains(string(out), unitFile) {
			t.Errorf("%s: %v\n%s\n%s", name, err, out, unit(cfg))
		}
		if !cfg.System {
			continue
		}
		out, err = exec.CommandContext(t.Context(), analyze, "security", "--offline=yes", "--no-pager", unitFile).CombinedOutput()
		match := regexp.MustCompile(`Overall exposure level for .*: ([0-9.]+)`).FindSubmatch(out)
		if err != nil || match == nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		score, err := strconv.ParseFloat(string(match[1]), 64)
		t.Logf("%s: exposure %v", name, score)
		if err != nil || score > 3 {
			t.Errorf("%s: exposure %v, want 3 at most\n%s", name, score, out)
		}
	}
}

func TestLoginEntryComesAndGoes(t *testing.T) {
	home, _ := fakes(t, "", "")
	l := Login{Program: oddProgram(t, `a "b" %n $HOME 'c' \d`), File: home + "/my config.toml"}
	on, err := l.Enabled()
	if err != nil || on {
		t.Fatalf("before: %v, %v", on, err)
	}
	for range 2 {
		if err := l.Enable(); err != nil {
			t.Fatal(err)
		}
	}
	path := home + "/.config/autostart/studio-worker.desktop"
	if validate, err := exec.LookPath("desktop-file-validate"); err == nil {
		if out, err := exec.CommandContext(t.Context(), validate, path).CombinedOutput(); err != nil {
			t.Errorf("desktop-file-validate: %v\n%s", err, out)
		}
	}
	if on, err := l.Enabled(); err != nil || !on {
		t.Errorf("after: %v, %v", on, err)
	}
	moved := Login{Program: "/opt/studio-worker"}
	if err := moved.Enable(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), "Exec=\"/opt/studio-worker\" \"ui\" \"--hidden\"\n") {
		t.Errorf("entry of a moved program: %v\n%s", err, text)
	}
	for range 2 {
		if err := l.Disable(); err != nil {
			t.Fatal(err)
		}
	}
	if on, err := l.Enabled(); err != nil || on {
		t.Errorf("at the end: %v, %v", on, err)
	}
}
