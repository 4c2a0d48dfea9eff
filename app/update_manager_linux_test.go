package app

import (
	"os/exec"
	"path/filepath"
	"testing"
)

func TestWhoKeepsAProgramUpToDate(t *testing.T) {
	t.Setenv("FLATPAK_ID", "")
	t.Setenv("SNAP", "")
	check := func(program, want string) {
		t.Helper()
		if got := packageManager(t.Context(), program); got != want {
			t.Errorf("%s: got %q, want %q", program, got, want)
		}
	}
	check(filepath.Join(t.TempDir(), "studio-worker"), "")
	check("/opt/nobody-installed-this/studio-worker", "")
	owned := 0
	for _, name := range []string{"dpkg-query", "rpm"} {
		// Each is a file of a package, where it came with the system.
		if program, err := exec.LookPath(name); err == nil {
			check(program, "the system's package manager")
			owned++
		}
	}
	if owned == 0 {
		t.Log("a program of the system: NOT RUN, there is neither dpkg nor rpm")
	}
	t.Setenv("SNAP", "/snap/studio-worker/7")
	check("/snap/studio-worker/7/bin/studio-worker", "Snap")
	check(filepath.Join(t.TempDir(), "studio-worker"), "") // run from a snap's terminal
	t.Setenv("FLATPAK_ID", "org.example.App")
	check("/app/bin/studio-worker", "Flatpak")
}
