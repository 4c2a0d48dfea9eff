package process_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"studioworker/worker/engine/process"
)

// childMode is the variable that turns the test binary into a child.
const childMode = "PROCESS_TEST_CHILD"

func TestMain(m *testing.M) {
	if mode := os.Getenv(childMode); mode != "" {
		os.Exit(runChild(mode, os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// runChild is the child's whole life; it returns its exit code.
func runChild(mode string, args []string) int {
	switch mode {
	case "talk":
		fmt.Println("first")
		fmt.Print("10%\r20%\r\n")
		fmt.Fprintln(os.Stderr, "second\x1b[K")
		fmt.Print("last, without an end")
		return 0
	case "code":
		fmt.Println("on stdout")
		fmt.Fprintln(os.Stderr, "reading model")
		fmt.Fprintln(os.Stderr, "bad tensor")
		return 7
	case "stdin":
		n, err := os.Stdin.Read(make([]byte, 1))
		fmt.Printf("read %d %v\n", n, err)
		return 0
	case "environment":
		for _, entry := range os.Environ() {
			fmt.Println(entry)
		}
		return 0
	case "flood":
		line := []byte(strings.Repeat("x", 999) + "\n")
		block := bytes.Repeat(line, 1000)
		for range 64 {
			if _, err := os.Stdout.Write(block); err != nil {
				return 1
			}
		}
		fmt.Println("the end")
		return 0
	case "long line":
		block := bytes.Repeat([]byte("y"), 1<<20)
		for range 16 {
			if _, err := os.Stdout.Write(block); err != nil {
				return 1
			}
		}
		fmt.Println("\nthe end")
		return 0
	case "hang":
		fmt.Println("ready")
		hang()
		return 0
	default:
		return runUnixChild(mode, args)
	}
}

// hang blocks for longer than any test. A bare select would be a deadlock to
// the runtime.
func hang() { time.Sleep(time.Hour) }

// child is a configuration that runs the test binary as a child.
func child(tb testing.TB, mode string, args ...string) process.Config {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	return process.Config{
		Path:      self,
		Args:      args,
		Env:       append(process.Environment(os.Environ()), childMode+"="+mode),
		WallLimit: time.Minute,
	}
}

func TestRunTellsLines(t *testing.T) {
	cfg := child(t, "talk")
	heard := map[process.Stream][]string{}
	cfg.OnLine = func(s process.Stream, line string) { heard[s] = append(heard[s], line) }
	out, err := process.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"first", "10%", "20%", "last, without an end"}; !slices.Equal(heard[process.Stdout], want) {
		t.Errorf("stdout lines = %q, want %q", heard[process.Stdout], want)
	}
	if want := []string{"second"}; !slices.Equal(heard[process.Stderr], want) {
		t.Errorf("stderr lines = %q, want %q", heard[process.Stderr], want)
	}
	if want := "first\n10%\n20%\nlast, without an end\n"; out.Stdout != want || out.Stderr != "second\n" || out.Dropped != 0 {
		t.Errorf("kept %+v", out)
	}
}

func TestRunReportsExitCode(t *testing.T) {
	_, err := process.Run(t.Context(), child(t, "code"))
	exit, ok := errors.AsType[*process.ExitError](err)
	if !ok {
		t.Fatalf("err = %v, want an ExitError", err)
	}
	if exit.Code != 7 || exit.Reason != process.ReasonCode || exit.LastLine != "bad tensor" {
		t.Errorf("got %+v", exit)
	}
	if want := exit.Program + " ended with code 7: bad tensor"; err.Error() != want {
		t.Errorf("text = %q, want %q", err, want)
	}
}

func TestRunClosesStdin(t *testing.T) {
	out, err := process.Run(t.Context(), child(t, "stdin"))
	if err != nil || out.Stdout != "read 0 EOF\n" {
		t.Errorf("got %q, %v", out.Stdout, err)
	}
}

func TestRunReadsItsInput(t *testing.T) {
	cfg := child(t, "stdin")
	cfg.Stdin = filepath.Join(t.TempDir(), "input")
	if _, err := process.Run(t.Context(), cfg); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("err = %v", err)
	}
	if err := os.WriteFile(cfg.Stdin, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := process.Run(t.Context(), cfg); err != nil || out.Stdout != "read 1 <nil>\n" {
		t.Errorf("got %q, %v", out.Stdout, err)
	}
}

func TestRunPassesOnlyItsEnvironment(t *testing.T) {
	t.Setenv("PROCESS_TEST_SECRET", "hunter2")
	cfg := child(t, "environment")
	cfg.Env = append(cfg.Env, "EXTRA=1")
	out, err := process.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.Stdout, "hunter2") || !strings.Contains(out.Stdout, "EXTRA=1\n") {
		t.Errorf("child saw %q", out.Stdout)
	}
}

func TestRunRefusesWhatItCannotStart(t *testing.T) {
	_, err := process.Run(t.Context(), process.Config{Path: t.TempDir() + "/none", WallLimit: time.Second})
	if _, ok := errors.AsType[*process.StartError](err); !ok || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("err = %v, want a StartError for a missing file", err)
	}
	for name, cfg := range map[string]process.Config{
		"no path":       {WallLimit: time.Second},
		"no wall limit": {Path: "x"},
		"bad stall":     {Path: "x", WallLimit: time.Second, StallLimit: -1},
		"both":          {Path: "x", WallLimit: time.Second, Resident: true},
	} {
		if _, err := process.Run(t.Context(), cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRunReturnsCauseOfCancel(t *testing.T) {
	cause := errors.New("the person pressed stop")
	t.Run("before the start", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if _, err := process.Run(ctx, child(t, "hang")); !errors.Is(err, cause) {
			t.Errorf("err = %v, want the cause", err)
		}
	})
	t.Run("while it runs", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		cfg := child(t, "hang")
		cfg.OnLine = func(process.Stream, string) { cancel(cause) }
		out, err := process.Run(ctx, cfg)
		if !errors.Is(err, cause) || out.Stdout != "ready\n" {
			t.Errorf("got %+v, %v; want the cause", out, err)
		}
	})
}

// Fault row 18: a child that hangs without output.
func TestRunStopsAtLimits(t *testing.T) {
	t.Run("stall", func(t *testing.T) {
		cfg := child(t, "hang")
		cfg.StallLimit = 2 * time.Second // more than the child needs to start
		_, err := process.Run(t.Context(), cfg)
		limit, ok := errors.AsType[*process.LimitError](err)
		if !ok || !limit.Stalled {
			t.Fatalf("err = %v, want a stall", err)
		}
		if !strings.HasSuffix(err.Error(), "timed out after 2s without output") {
			t.Errorf("text = %q", err)
		}
	})
	t.Run("wall", func(t *testing.T) {
		cfg := child(t, "hang")
		cfg.WallLimit = 200 * time.Millisecond
		_, err := process.Run(t.Context(), cfg)
		limit, ok := errors.AsType[*process.LimitError](err)
		if !ok || limit.Stalled {
			t.Fatalf("err = %v, want a wall limit", err)
		}
		if !strings.HasSuffix(err.Error(), "timed out after 200ms") {
			t.Errorf("text = %q", err)
		}
	})
}

// Fault row 20: a child that prints without end.
func TestRunKeepsMemoryFlat(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for mode, sent := range map[string]int64{"flood": 64_000_008, "long line": 16<<20 + 9} {
		t.Run(mode, func(t *testing.T) {
			cfg := child(t, mode)
			before, most, lines := heap(), uint64(0), 0
			cfg.OnLine = func(process.Stream, string) {
				if lines++; lines%4000 == 1 {
					most = max(most, heap())
				}
			}
			out, err := process.Run(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if most > before+2<<20 {
				t.Errorf("heap grew from %d to %d bytes", before, most)
			}
			if len(out.Stdout) > process.TailLimit || !strings.HasSuffix(out.Stdout, "\nthe end\n") {
				t.Errorf("kept %d bytes", len(out.Stdout))
			}
			if got := out.Dropped + int64(len(out.Stdout)); got < sent-2 || got > sent+2 {
				t.Errorf("kept and dropped = %d bytes, want about %d", got, sent)
			}
		})
	}
}

func TestRunSurvivesPanicOfOnLine(t *testing.T) {
	cfg := child(t, "hang")
	cfg.OnLine = func(process.Stream, string) { panic("bad parser") }
	_, err := process.Run(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "panic: bad parser") {
		t.Errorf("err = %v, want the panic", err)
	}
}

func TestResidentRunsUntilItIsStopped(t *testing.T) {
	cfg := child(t, "hang")
	cfg.WallLimit, cfg.Resident = 0, true
	ctx, cancel := context.WithCancelCause(t.Context())
	cause, pid := errors.New("enough"), 0
	cfg.OnStart = func(id int) { pid = id }
	cfg.OnLine = func(process.Stream, string) { cancel(cause) }
	if _, err := process.Run(ctx, cfg); !errors.Is(err, cause) || pid == 0 {
		t.Errorf("pid %d, %v", pid, err)
	}
}

func TestEnvironment(t *testing.T) {
	got := process.Environment([]string{
		"PATH=/bin", "HOME=/h", "LANG=C", "TMPDIR=/t", "XDG_RUNTIME_DIR=/r", "CUDA_VISIBLE_DEVICES=0",
		"HIP_VISIBLE_DEVICES=0", "VK_ICD_FILENAMES=x",
		"STUDIO_WORKER_TOKEN=secret", "HTTPS_PROXY=p", "AWS_SECRET_ACCESS_KEY=s", "PATHOLOGY=1", "LD_PRELOAD=x", "",
	})
	want := []string{
		"PATH=/bin", "HOME=/h", "LANG=C", "TMPDIR=/t", "XDG_RUNTIME_DIR=/r", "CUDA_VISIBLE_DEVICES=0",
		"HIP_VISIBLE_DEVICES=0", "VK_ICD_FILENAMES=x",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
