package app

import (
	"crypto/rand"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"aead.dev/minisign"

	"studioworker/worker/config"
	"studioworker/worker/observe"
	"studioworker/worker/update/supervisor"
)

func TestWhoKeepsAProgramUpToDate(t *testing.T) {
	t.Setenv("FLATPAK_ID", "")
	t.Setenv("SNAP", "")
	check := func(program, want string, why observe.Why) {
		t.Helper()
		if got, said := packageManager(t.Context(), program); got != want || said != why {
			t.Errorf("%s: got %q, %+v; want %q, %+v", program, got, said, want, why)
		}
	}
	nobody := observe.Why{}
	named := func(name string) observe.Why { return observe.Why{Reason: observe.ReasonInstall, Said: name} }
	check(filepath.Join(t.TempDir(), "studio-worker"), "", nobody)
	check("/opt/nobody-installed-this/studio-worker", "", nobody)
	owned := 0
	for _, name := range []string{"dpkg-query", "rpm"} {
		// Each is a file of a package, where it came with the system.
		if program, err := exec.LookPath(name); err == nil {
			check(program, "the system's package manager", observe.Why{Reason: observe.ReasonPackages})
			owned++
		}
	}
	if owned == 0 {
		t.Log("a program of the system: NOT RUN, there is neither dpkg nor rpm")
	}
	t.Setenv("SNAP", "/snap/studio-worker/7")
	check("/snap/studio-worker/7/bin/studio-worker", "Snap", named("Snap"))
	check(filepath.Join(t.TempDir(), "studio-worker"), "", nobody) // run from a snap's terminal
	t.Setenv("FLATPAK_ID", "org.example.App")
	check("/app/bin/studio-worker", "Flatpak", named("Flatpak"))
}

// TestWhyNothingUpdatesThisBuild: a build without a stamp says so, and one with a wrong
// stamp what is wrong.
func TestWhyNothingUpdatesThisBuild(t *testing.T) {
	before := RootKeys
	t.Cleanup(func() { RootKeys = before })
	for stamp, want := range map[string]observe.Reason{"": observe.ReasonNoFeed, "no key": observe.ReasonStamp} {
		RootKeys = stamp
		if problem, why := updateProblem(t.Context()); problem == "" || why.Reason != want || (want == observe.ReasonStamp) != (why.Said != "") {
			t.Errorf("%q: %q, %+v; want %s", stamp, problem, why, want)
		}
	}
}

// TestWhyNobodyUpdates: a build that could update itself says what it lacks, to the window
// too.
func TestWhyNobodyUpdates(t *testing.T) {
	key, _, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	before := RootKeys
	t.Cleanup(func() { RootKeys = before })
	RootKeys = key.String()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte("api_base_url = \"http://127.0.0.1:1\"\nvram_threshold_gb = 12.0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	store, err := config.Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for want, parent := range map[observe.Reason]*supervisor.Parent{observe.ReasonUnwatched: nil, observe.ReasonFeedUnset: {}} {
		h := &host{path: path, observers: observe.New(), parent: parent}
		h.openUpdates(t.Context(), store)
		if u := h.observers.Update.Get(); u.State != observe.UpdateUnsupported || u.Detail == "" || u.Why != (observe.Why{Reason: want}) {
			t.Errorf("got %+v, want %s", u, want)
		}
	}
}
