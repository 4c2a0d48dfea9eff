//go:build !headless

package desktop

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fyne.io/fyne/v2"

	"studioworker/scripts/measure"
	"studioworker/ui"
	"studioworker/worker/observe"
)

// benchVariable makes the test binary the window that is measured.
const benchVariable = "STUDIO_WORKER_BENCH_CHILD"

// windowVariable shortens the look at the log, for a quick run.
const windowVariable = "STUDIO_WORKER_BENCH_WINDOW"

// logTime is how long the log is looked at, at each rate.
const logTime = time.Minute

// benchChild is a window on the Logs page. It obeys its standard input, and answers each
// line on its standard output.
func benchChild() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o := observe.New()
	o.Settings.Set(observe.Settings{StudioURL: "http://127.0.0.1:1", Serves: []string{"image"}})
	become(o, "idle")
	state := filepath.Join(os.Getenv("HOME"), "ui.json")
	if err := os.WriteFile(state, []byte(`{"width":960,"height":640,"page":2,"language":"en","settled":true}`), 0o600); err != nil {
		return err
	}
	go benchCommands(ctx, cancel, o)
	return Run(ctx, ui.Config{
		Observers: o, Controls: benchControls{childControls{obs: o, cancel: cancel}}, Log: slog.New(slog.DiscardHandler), StatePath: state,
	})
}

// benchControls has no files of older lines.
type benchControls struct{ childControls }

func (benchControls) OlderLogs(context.Context, observe.LogQuery) ([]observe.LogEntry, error) {
	return nil, nil
}

func benchCommands(ctx context.Context, cancel func(), o *observe.WorkerObservers) {
	defer cancel()
	var longest atomic.Int64
	for s := bufio.NewScanner(os.Stdin); s.Scan(); {
		word, rest, _ := strings.Cut(s.Text(), " ")
		switch word {
		case "ready": // the window has had its first frames
			fyne.DoAndWait(func() {})
			fmt.Println(0)
		case "watch":
			go watchFrames(ctx, &longest)
			fmt.Println(0)
		case "longest":
			fmt.Println(longest.Swap(0))
		case "log": // so many lines a second, for so long
			rate, length, _ := strings.Cut(rest, " ")
			perSecond, err := strconv.Atoi(rate)
			if err != nil {
				return // the end of the window tells of it
			}
			duration, err := time.ParseDuration(length)
			if err != nil {
				return
			}
			fmt.Println(benchLog(o, perSecond, duration))
		}
	}
}

// watchFrames notes the longest time that the window took to answer: a question that
// comes while a frame is made waits for its end.
func watchFrames(ctx context.Context, longest *atomic.Int64) {
	for tick := time.NewTicker(3 * time.Millisecond); ctx.Err() == nil; <-tick.C {
		asked := time.Now()
		fyne.DoAndWait(func() {})
		if took := int64(time.Since(asked)); took > longest.Load() { // only this goroutine raises it
			longest.Store(took)
		}
	}
}

// benchLog adds lines evenly and returns how many of them the ring does not have when it
// is looked into soon afterwards.
func benchLog(o *observe.WorkerObservers, perSecond int, length time.Duration) int {
	seen, start := o.Logs.Newest.Get(), time.Now()
	added, found := 0, 0
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for time.Since(start) < length {
		<-tick.C
		for due := int(time.Since(start).Seconds() * float64(perSecond)); added < due; added++ {
			o.Logs.Add(observe.LogEntry{
				At: time.Now(), Level: slog.LevelInfo, Category: "engine", JobID: "18eab377d322c175-" + strconv.Itoa(added%7),
				Message: fmt.Sprintf("step %d of the sampler took %d ms, %d MB of graphics memory are in use", added, added%97, added%8192),
			})
		}
		var lines []observe.LogEntry
		lines, seen = o.Logs.Since(seen)
		found += len(lines)
	}
	return added - found
}

// benchWindow is a running benchChild.
type benchWindow struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	said bytes.Buffer
}

func openBenchWindow(b *testing.B) *benchWindow {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	bus, home := startBus(b), b.TempDir()
	w := &benchWindow{cmd: exec.CommandContext(context.WithoutCancel(b.Context()), self)}
	w.cmd.Env = append(os.Environ(), benchVariable+"=1", "DISPLAY="+startDisplay(b), "WAYLAND_DISPLAY=", "DBUS_SESSION_BUS_ADDRESS="+bus,
		"HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_CACHE_HOME="+home, "LANG=en_US.UTF-8", "FYNE_THEME=dark", "FYNE_SCALE=1")
	w.cmd.Stderr = &w.said
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		b.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	w.out = bufio.NewReader(out)
	time.Sleep(2 * time.Second) // before the application runs its queue does not
	w.ask(b, "ready")
	return w
}

// end closes the window.
func (w *benchWindow) end(b *testing.B) {
	b.Helper()
	_ = w.in.Close() // what makes it end
	if err := w.cmd.Wait(); err != nil {
		b.Errorf("the window ended with %v: %s", err, &w.said)
	}
}

// ask returns the number that answers a command.
func (w *benchWindow) ask(b *testing.B, command string) float64 {
	b.Helper()
	if _, err := io.WriteString(w.in, command+"\n"); err != nil {
		b.Fatal(err)
	}
	for {
		line, err := w.out.ReadString('\n')
		if err != nil {
			b.Fatalf("the window has ended: %v", err)
		}
		if n, err := strconv.ParseFloat(strings.TrimSpace(line), 64); err == nil {
			return n
		}
	}
}

// BenchmarkWindowLogs looks at the Logs page while lines come: what it costs, and, in a
// second look, which is costly itself, how long the window does not answer at most.
func BenchmarkWindowLogs(b *testing.B) {
	look := logTime
	if text := os.Getenv(windowVariable); text != "" {
		var err error
		if look, err = time.ParseDuration(text); err != nil {
			b.Fatalf("%s: %v", windowVariable, err)
		}
	}
	for _, c := range []struct {
		perSecond int
		most      float64 // of a processor
	}{{50, 0.12}, {1000, 0.35}} {
		b.Run(strconv.Itoa(c.perSecond), func(b *testing.B) {
			log := fmt.Sprintf("log %d %s", c.perSecond, look/5)
			cost, frames := openBenchWindow(b), openBenchWindow(b)
			defer cost.end(b)
			defer frames.end(b)
			frames.ask(b, "watch")
			what := func(s string) string { return fmt.Sprintf("%d log lines a second, %s", c.perSecond, s) }
			measure.InTurns(b, func() []float64 {
				before, began := measure.ProcessorTime(b, cost.cmd.Process.Pid), time.Now()
				missing := cost.ask(b, log)
				used := (measure.ProcessorTime(b, cost.cmd.Process.Pid) - before).Seconds() / time.Since(began).Seconds()
				frames.ask(b, "longest")
				missing += frames.ask(b, log)
				longest := frames.ask(b, "longest")
				if longest == 0 {
					b.Fatal("nobody watched the frames")
				}
				return []float64{used, missing, longest / 1e9}
			}, func() []float64 { return make([]float64, 3) },
				measure.Line{What: what("processor"), Unit: measure.Share, Most: c.most},
				measure.Line{What: what("missing"), Unit: measure.Count, Most: 0.5},
				measure.Line{What: what("longest frame"), Unit: measure.Seconds, Most: 0.1})
		})
	}
}
