package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"studioworker/worker/engine"
)

// fakeMode makes the test binary a program. Its name is one that the allow-list
// of the environment lets through.
const fakeMode = "XDG_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if mode := os.Getenv(fakeMode); mode != "" {
		os.Exit(fake(mode))
	}
	goleak.VerifyTestMain(m)
}

func fake(mode string) int {
	if count := os.Getenv(fakeMode + "_COUNT"); count != "" {
		file, err := os.OpenFile(count, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return 70
		}
		fmt.Fprint(file, "x")
		if err := file.Close(); err != nil {
			return 70
		}
	}
	switch mode {
	case "library":
		fmt.Fprintln(os.Stderr, "tool: error while loading shared libraries: libfoo.so.3: cannot open")
		return 127
	case "vulkan":
		fmt.Fprintln(os.Stderr, "tool: error while loading shared libraries: libvulkan.so.1: cannot open")
		return 127
	case "glibc":
		fmt.Fprintln(os.Stderr, "tool: version `GLIBC_2.38' not found")
		return 1
	case "no such question":
		fmt.Println("usage: tool FILE")
		return 2
	default:
		fmt.Printf("%s\nand more\n", mode)
		return 0
	}
}

// tool is this test binary as a program of the person's.
func tool(t *testing.T, mode string) *Tool {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &Tool{
		Places: Places{Environ: append(os.Environ(), fakeMode+"="+mode)}, Ask: []string{"--version"}, Fix: "install it",
		Query: func() Query { return Query{Name: "tool", Variable: self} },
		Log:   slog.New(slog.DiscardHandler),
	}
}

func TestNow(t *testing.T) {
	for mode, want := range map[string]State{
		"v1.2 (good)":      {Version: "v1.2 (good)"},
		"no such question": {Version: "usage: tool FILE"},
		"library":          {Problem: "tool: it lacks a library: tool: error while loading shared libraries: libfoo.so.3: cannot open", Fix: "install the missing library"},
		"vulkan":           {Problem: "tool: the Vulkan loader is missing", Fix: VulkanFix},
		"glibc":            {Problem: "tool: this system is too old for this build", Fix: "install a build made for this system"},
	} {
		t.Run(mode, func(t *testing.T) {
			got, err := tool(t, mode).Now(t.Context())
			want.Found = got.Found
			if err != nil || got != want || got.Origin != OriginVariable || got.Runs() != (want.Problem == "") {
				t.Errorf("got %+v, %v, want %+v", got, err, want)
			}
		})
	}
	t.Run("missing", func(t *testing.T) {
		none := &Tool{Query: func() Query { return Query{Name: "tool"} }, Fix: "install it"}
		if got, err := none.Now(t.Context()); err != nil || got != (State{Problem: "tool is not installed", Fix: "install it"}) {
			t.Errorf("got %+v, %v", got, err)
		}
		_, err := none.Ready(t.Context())
		if failed, ok := errors.AsType[*engine.Error](err); !ok || failed.Class != engine.ClassEngineMissing || failed.Error() != "tool is not installed; install it" {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("no program", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "tool")
		if err := os.WriteFile(path, []byte("\x7fELF but not really"), 0o700); err != nil {
			t.Fatal(err)
		}
		broken := &Tool{Query: func() Query { return Query{Name: "tool", Variable: path} }}
		if got, err := broken.Now(t.Context()); err != nil || got.Runs() || !strings.Contains(got.Problem, "cannot be started") {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

func TestAskedOncePerFile(t *testing.T) {
	program := filepath.Join(t.TempDir(), "tool")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, program); err != nil {
		t.Skip("links cannot be made here: " + err.Error())
	}
	count := filepath.Join(t.TempDir(), "count")
	a := tool(t, "v1")
	a.Places.Environ = append(a.Places.Environ, fakeMode+"_COUNT="+count)
	a.Query = func() Query { return Query{Name: "tool", Variable: program} }
	times := func() int {
		t.Helper()
		for range 3 {
			if _, err := a.Now(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		data, err := os.ReadFile(count)
		if err != nil {
			t.Fatal(err)
		}
		return len(data)
	}
	if got := times(); got != 1 {
		t.Errorf("asked %d times", got)
	}
	if err := os.Chtimes(self, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := times(); got != 2 {
		t.Errorf("asked %d times after the file changed, want 2", got)
	}
}

func TestReady(t *testing.T) {
	fetched := func(context.Context) (string, error) { return "/fetched/tool", nil }
	broken := func(context.Context) (string, error) { return "", errors.New("no network") }
	pinned := func(version string) bool { return version == "pinned" }
	for name, c := range map[string]struct {
		mode   string // empty = not installed
		onPath bool   // found on PATH, not named by the variable
		fetch  func(context.Context) (string, error)
		want   string // path: found or fetched
		warn   string
		err    string
	}{
		"named":                      {"other", false, fetched, "found", "not the release", ""},
		"named and broken":           {"library", false, fetched, "", "", "tool: it lacks a library"},
		"pinned on the path":         {"pinned", true, fetched, "found", "", ""},
		"another on the path":        {"other", true, fetched, "fetched", "", ""},
		"another, nothing fetched":   {"other", true, nil, "found", "not the release", ""},
		"another, fetching fails":    {"other", true, broken, "found", "could not be fetched", ""},
		"broken on the path":         {"glibc", true, fetched, "fetched", "", ""},
		"not there":                  {"", false, fetched, "fetched", "", ""},
		"not there, fetching fails":  {"", false, broken, "", "", "fetch tool: no network"},
		"not there, nothing fetched": {"", false, nil, "", "", "tool is not installed; install it"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			a := tool(t, c.mode)
			a.Log, a.Fetch, a.Pinned = slog.New(slog.NewTextHandler(&log, nil)), c.fetch, pinned
			found := a.Query().Variable
			switch {
			case c.mode == "":
				a.Query = func() Query { return Query{Name: "tool"} }
			case c.onPath:
				dir := t.TempDir()
				if err := os.Symlink(found, filepath.Join(dir, "tool")); err != nil {
					t.Skip("links cannot be made here: " + err.Error())
				}
				found, a.Places.Path = filepath.Join(dir, "tool"), dir
				a.Query = func() Query { return Query{Name: "tool"} }
			}
			want := map[string]string{"found": found, "fetched": "/fetched/tool"}[c.want]
			for range 2 {
				got, err := a.Ready(t.Context())
				if got != want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %q, %v, want %q, %q", got, err, want, c.err)
				}
			}
			if got := strings.Count(log.String(), "\n"); got > 1 && c.mode != "other" || c.warn != "" && !strings.Contains(log.String(), c.warn) {
				t.Errorf("log %q, want %q", log.String(), c.warn)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	if libraryPath() == "" {
		t.Skip("this system finds libraries beside the program by itself")
	}
	with, without := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(with, "libthing.so.1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	entry := func(environ []string, dir string) string {
		for _, e := range (Places{Environ: environ}).Environment(filepath.Join(dir, "tool")) {
			if value, ok := strings.CutPrefix(e, libraryPath()+"="); ok {
				return value
			}
		}
		return ""
	}
	inherited := []string{libraryPath() + "=/opt/lib", "STUDIO_TOKEN=secret", "PATH=/bin"}
	if got := entry(inherited, with); got != with+":/opt/lib" {
		t.Errorf("library path = %q", got)
	}
	if got := entry(inherited, without); got != "/opt/lib" {
		t.Errorf("library path = %q without libraries", got)
	}
	if got := entry(nil, without); got != "" {
		t.Errorf("library path = %q from nothing", got)
	}
	if env := (Places{Environ: inherited}).Environment("/x/tool"); slices.Contains(env, "STUDIO_TOKEN=secret") || !slices.Contains(env, "PATH=/bin") {
		t.Errorf("environment = %q", env)
	}
}

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Health
		state := func(want bool) {
			t.Helper()
			if reason, withdrawn := h.Withdrawn(); withdrawn != want || withdrawn != (reason != "") {
				t.Errorf("withdrawn = %v (%q), want %v", withdrawn, reason, want)
			}
		}
		state(false)
		h.Fail("driver", false)
		h.Fail("driver", false)
		state(false)
		h.Well()
		h.Fail("driver", false)
		h.Fail("driver", false)
		state(false)
		h.Fail("driver", false)
		state(true)
		time.Sleep(rest)
		state(false)
		h.Fail("driver", false) // the next one is enough
		state(true)
		h.Well()
		state(false)
		h.Fail("lost", true)
		state(true)
	})
}
