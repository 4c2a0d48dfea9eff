package app

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"studioworker/scripts/measure"
	"studioworker/worker/outbox"
	"studioworker/worker/protocol"
	"studioworker/worker/session/sessiontest"
)

// idleVariable makes the idle time of row 14 longer than what a quick look needs:
// the guide's time is 10m.
const idleVariable = "STUDIO_WORKER_BENCH_IDLE"

// programs are the headless program and the least worker, as they are built for
// people.
type programs struct{ ours, least string }

func buildPrograms(b *testing.B) programs {
	b.Helper()
	dir := b.TempDir()
	p := programs{filepath.Join(dir, "studio-worker"), filepath.Join(dir, "least")}
	for path, name := range map[string]string{p.ours: "studioworker", p.least: "studioworker/worker/session/sessiontest/least"} {
		install(b, path, "CGO_ENABLED=0", "-tags", "headless", "-trimpath", "-ldflags", "-s -w", name)
	}
	return p
}

// install builds a program and puts a copy of it in its place, as every installer does.
// The file that the linker itself has written lies in the memory of the system in large
// pieces for a while; each is mapped, and counts, as soon as one byte of it is needed.
func install(b *testing.B, path, environ string, args ...string) {
	b.Helper()
	linked := path + ".linked"
	cmd := exec.CommandContext(b.Context(), "go", append([]string{"build", "-o", linked}, args...)...)
	cmd.Env = append(os.Environ(), environ)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("build %s: %v\n%s", args[len(args)-1], err, out)
	}
	if err := copyProgram(linked, path); err != nil {
		b.Fatal(err)
	}
}

func copyProgram(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close(), os.Remove(from)) }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o700)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}

// begin starts a program that is killed by the returned function.
func begin(b *testing.B, h *home, path string, args ...string) (cmd *exec.Cmd, kill func()) {
	b.Helper()
	cmd, _, kill = beginHeard(b, h, path, args...)
	return cmd, kill
}

// beginHeard is begin, and collects what the program says.
func beginHeard(b *testing.B, h *home, path string, args ...string) (cmd *exec.Cmd, said *output, kill func()) {
	b.Helper()
	cmd, said = exec.CommandContext(context.WithoutCancel(b.Context()), path, args...), newOutput()
	cmd.Dir, cmd.Stdout, cmd.Stderr = h.dir, said, said
	for _, v := range h.environ() {
		if !strings.HasPrefix(v, programMode+"=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return cmd, said, func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // killed
	}
}

// enrolled is a home whose worker the studio knows.
func enrolled(b *testing.B, s *sessiontest.Studio) *home {
	b.Helper()
	h := newHome(b)
	h.write(b, s.Server.URL, "install_id = \"i\"\nworker_id = \"wk-20\"\nauth_token = \"t\"\n")
	return h
}

func connectURL(b *testing.B, s *sessiontest.Studio) string {
	b.Helper()
	return s.Base(b).ConnectURL("wk-20")
}

// BenchmarkIdle runs the headless program beside the least worker, both connected
// and without a job (reliability guide §7.3, row 14).
func BenchmarkIdle(b *testing.B) {
	idle := 25 * time.Second
	if text := os.Getenv(idleVariable); text != "" {
		var err error
		if idle, err = time.ParseDuration(text); err != nil {
			b.Fatalf("%s: %v", idleVariable, err)
		}
	}
	p := buildPrograms(b)
	s := sessiontest.New(b)
	ours, killOurs := begin(b, enrolled(b, s), p.ours, "run")
	defer killOurs()
	c := s.Welcome(b)
	sessiontest.Await[protocol.Heartbeat](b, c, nil)
	least, killLeast := begin(b, newHome(b), p.least, connectURL(b, s))
	defer killLeast()
	sessiontest.Await[protocol.Heartbeat](b, s.Welcome(b), nil)
	time.Sleep(time.Second) // the start is row 15's

	measure.InTurns(b, func() []float64 {
		before, began := measure.ProcessorTime(b, ours.Process.Pid), time.Now()
		time.Sleep(idle / 5)
		used := measure.ProcessorTime(b, ours.Process.Pid) - before
		return []float64{measure.Resident(b, ours.Process.Pid), used.Seconds() / time.Since(began).Seconds()}
	}, func() []float64 {
		before, began := measure.ProcessorTime(b, least.Process.Pid), time.Now()
		time.Sleep(idle / 5)
		used := measure.ProcessorTime(b, least.Process.Pid) - before
		return []float64{measure.Resident(b, least.Process.Pid), used.Seconds() / time.Since(began).Seconds()}
	},
		measure.Line{Row: 14, What: "idle headless, memory", Bare: "the least worker", Unit: measure.Bytes, Most: 25 << 20},
		measure.Line{Row: 14, What: "idle headless, processor", Bare: "the least worker", Unit: measure.Share, Most: 0.001})
}

// BenchmarkStart starts the headless program with a config and an outbox of a
// hundred results, and the least worker in turns with it, each until its hello
// has arrived (reliability guide §7.3, row 15).
func BenchmarkStart(b *testing.B) {
	const starts = 4 // of a turn: twenty in five
	p := buildPrograms(b)
	s := sessiontest.New(b)
	h := enrolled(b, s)
	fill(b, h, 100)
	hello := func(h *home, path string, args ...string) float64 {
		start := time.Now()
		_, kill := begin(b, h, path, args...)
		defer kill()
		c := s.Accept(b)
		if _, ok := c.Next(b).(protocol.Hello); !ok {
			b.Fatal("the first frame is no hello")
		}
		return time.Since(start).Seconds()
	}
	few := func(one func() float64) []float64 {
		took := make([]float64, starts)
		for i := range took {
			took[i] = one()
		}
		return []float64{measure.Quantile(took, 0.5)}
	}
	empty := newHome(b)
	measure.InTurns(b, func() []float64 {
		return few(func() float64 { return hello(h, p.ours, "run") })
	}, func() []float64 {
		return few(func() float64 { return hello(empty, p.least, connectURL(b, s)) })
	}, measure.Line{Row: 15, What: "start to hello, 100 results wait", Bare: "the least worker", Unit: measure.Seconds, Most: 0.045})
}

// fill puts results into the outbox of a home.
func fill(b *testing.B, h *home, n int) {
	b.Helper()
	dir := filepath.Dir(h.config)
	o, err := outbox.Open(outbox.Config{Dir: filepath.Join(dir, "outbox"), Results: filepath.Join(dir, "results"), Log: plainLogger(io.Discard)})
	if err != nil {
		b.Fatal(err)
	}
	answer, err := json.Marshal(map[string]string{"text": strings.Repeat("a town by the sea, ", 100)})
	if err != nil {
		b.Fatal(err)
	}
	for i := range n {
		d, err := o.Begin("job-"+strconv.Itoa(i), 0)
		if err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d.Dir(), "answer.json"), answer, 0o600); err != nil {
			b.Fatal(err)
		}
		_, err = d.Commit(outbox.Result{
			File: "answer.json", Kind: string(protocol.KindLLM), Ext: "json", Model: "synthetic-llm",
			Prompt: "name this town", WorkerID: "wk-20", Started: time.Now(),
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := o.Close(); err != nil {
		b.Fatal(err)
	}
}
