//go:build !windows

package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"studioworker/studio/client"
	"studioworker/worker/outbox"
	"studioworker/worker/protocol"
)

// Environment of a worker that kills itself.
const (
	crashTrace = "STUDIO_WORKER_TEST_CRASH_TRACE" // file that takes a line for each step that was begun
	crashStep  = "STUDIO_WORKER_TEST_CRASH_STEP"  // number of the step; 0: never
	crashLog   = "STUDIO_WORKER_TEST_CRASH_LOG"   // text of the log line
)

// crashProgram runs the worker of a config and ends as by SIGKILL before a step
// of the outbox, or before a log line is written.
func crashProgram(ctx context.Context, config string, s Streams) int {
	last, err := strconv.Atoi(os.Getenv(crashStep))
	if err != nil {
		fmt.Fprintln(s.Err, err)
		return exitUsage
	}
	if text := os.Getenv(crashLog); text != "" {
		s.Err = killWriter{s.Err, text}
	}
	h, err := openHost(ctx, hostConfig{
		path: config, stderr: s.Err, must: true, outboxFS: &killFS{FS: outbox.OS(), trace: os.Getenv(crashTrace), last: last},
	})
	if err == nil {
		err = h.run(ctx)
	}
	if err != nil {
		fmt.Fprintln(s.Err, err)
		return exitFail
	}
	return exitOK
}

// die ends the process as by SIGKILL.
func die() {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		panic(err)
	}
	select {}
}

type killWriter struct {
	io.Writer
	text string
}

func (w killWriter) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.text) {
		die()
	}
	return w.Writer.Write(p)
}

// killFS counts the steps of the first job, from the making of its folder on.
type killFS struct {
	outbox.FS
	trace string
	last  int

	mu      sync.Mutex
	counted int
	sent    bool // the job's folder is on its way out
	over    bool // it is gone
}

// step begins a step: it is written down, unless the process is to die before.
func (k *killFS) step(op string, path ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over || k.counted == 0 && op != "mkdir" {
		return
	}
	if k.counted++; k.counted == k.last {
		die()
	}
	for i, p := range path {
		path[i] = filepath.Base(filepath.Dir(p)) + "/" + filepath.Base(p)
	}
	f, err := os.OpenFile(k.trace, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = fmt.Fprintln(f, op, strings.Join(path, " "))
		err = firstOf(err, f.Close())
	}
	if err != nil {
		panic(err)
	}
	switch out := strings.HasPrefix(path[len(path)-1], "tmp/sent="); {
	case op == "rename" && out:
		k.sent = true
	case op == "remove" && out:
		k.over = k.sent
	}
}

func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func (k *killFS) Mkdir(dir string) error { k.step("mkdir", dir); return k.FS.Mkdir(dir) }

func (k *killFS) Rename(from, to string) error {
	k.step("rename", from, to)
	return k.FS.Rename(from, to)
}

func (k *killFS) RemoveAll(path string) error { k.step("remove", path); return k.FS.RemoveAll(path) }

func (k *killFS) SyncDir(dir string) error { k.step("syncdir", dir); return k.FS.SyncDir(dir) }

func (k *killFS) OpenFile(dir, name string, flag int) (outbox.File, error) {
	k.step("open", filepath.Join(dir, name))
	f, err := k.FS.OpenFile(dir, name, flag)
	if err != nil {
		return nil, err
	}
	return killFile{f, k, filepath.Join(dir, name)}, nil
}

type killFile struct {
	outbox.File
	k    *killFS
	path string
}

func (f killFile) Write(p []byte) (int, error) { f.k.step("write", f.path); return f.File.Write(p) }

func (f killFile) Sync() error { f.k.step("sync", f.path); return f.File.Sync() }

func (f killFile) Close() error { f.k.step("close", f.path); return f.File.Close() }

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// steps returns what the trace at path holds.
func steps(tb testing.TB, path string) []string {
	tb.Helper()
	data, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		tb.Fatal(err)
	}
	return strings.FieldsFunc(string(data), func(r rune) bool { return r == '\n' })
}

// sent says whether the steps hold the rename of an acknowledged result.
func sent(steps []string) bool {
	return slices.ContainsFunc(steps, func(s string) bool {
		return strings.HasPrefix(s, "rename ready/") && strings.Contains(s, " tmp/sent=")
	})
}

// stored says whether the steps hold the rename into ready/.
func stored(steps []string) bool {
	return slices.ContainsFunc(steps, func(s string) bool {
		return strings.HasPrefix(s, "rename tmp/") && strings.Contains(s, " ready/")
	})
}

// files lists what lies in a folder of the outbox.
func (h *home) files(tb testing.TB, folder string) []string {
	tb.Helper()
	list, err := os.ReadDir(filepath.Join(filepath.Dir(h.config), folder))
	if err != nil {
		tb.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// crash is a worker, its studio and its engine, over many deaths.
type crash struct {
	home   *home
	studio *farm
	desk   *desk
	kind   protocol.TaskKind
	n      int
}

// life is what came of one job whose worker was killed.
type life struct {
	steps []string // that were begun before the death
	job   client.JobStatus
	runs  int // of the engine
}

// once queues a job, lets a worker with the environment take it, kill itself,
// and be started again without a fault. die is called when the worker is on its
// way and returns when it is dead.
func (c *crash) once(t *testing.T, die func(p *process), environ ...string) life {
	t.Helper()
	c.n++
	text := fmt.Sprintf("sentence %d", c.n)
	id := c.studio.submit(t, c.kind, text)
	trace := filepath.Join(t.TempDir(), "trace")
	faulty := *c.home
	faulty.extra = append(append([]string{crashTrace + "=" + trace, crashStep + "=0"}, c.home.extra...), environ...)
	p := faulty.start(t, c.home.config)
	die(p)
	l := life{steps: steps(t, trace)}
	if len(l.steps) > 0 { // the second step is with a result in hand
		l.runs = 1
	}

	again := c.home.start(t, "--config", c.home.config, "run")
	l.job = c.studio.awaitState(t, id, client.Done)
	again.await(t, 1, "server welcomed")
	if !sent(l.steps) { // else only the file is still to be moved, and nothing is said
		again.await(t, 1, "result delivered", "studio confirmed completion")
	}
	again.stop(t)
	said := again.err.String()
	l.runs += strings.Count(said, "job dispatched") - strings.Count(said, "answering from the outbox")
	if c.kind == protocol.KindTTS { // its engine counts itself
		l.runs = c.desk.count(text)
	}
	return l
}

func newCrash(t *testing.T, kind protocol.TaskKind) *crash {
	t.Helper()
	c := &crash{home: newHome(t), studio: newStudio(t), desk: newDesk(t), kind: kind}
	c.desk.equip(t, c.home)
	c.home.write(t, c.studio.url, "")
	return c
}

// check checks the one result of a job.
func (c *crash) check(t *testing.T, l life, wantRuns int) {
	t.Helper()
	if l.runs != wantRuns {
		t.Errorf("the engine ran %d times, want %d", l.runs, wantRuns)
	}
	data := c.studio.result(t, l.job)
	if c.kind == protocol.KindTTS && sumOf(data) != sumOf(sound(c.desk.last())) {
		t.Errorf("the result is not what the last run of the engine made: %d bytes", len(data))
	}
	if c.kind == protocol.KindLLM && !json.Valid(data) {
		t.Errorf("the result is %q", data)
	}
	for _, folder := range []string{"outbox/tmp", "outbox/ready", "outbox/refused", "outbox/kept"} {
		if names := c.home.files(t, folder); len(names) > 0 {
			t.Errorf("%s holds %v", folder, names)
		}
	}
}

// TestKillWorker kills the worker before each step of its outbox (reliability
// guide §3.2 and fault rows 1 to 3), and at two points before them.
func TestKillWorker(t *testing.T) {
	for _, kind := range []protocol.TaskKind{protocol.KindTTS, protocol.KindLLM} {
		t.Run(string(kind), func(t *testing.T) {
			c := newCrash(t, kind)
			ends := func(p *process) {
				if code := p.wait(t); code != -1 {
					t.Fatalf("the worker was to be killed and ended with %d: %s", code, p.err)
				}
			}

			// Nobody is killed: how many steps are there?
			whole := c.once(t, func(p *process) {
				p.await(t, 1, "result delivered", "studio confirmed completion")
				p.stop(t)
			})
			c.check(t, whole, 1)
			least := 14
			if kind == protocol.KindLLM { // a short result has no folder to sync
				least = 13
			}
			if !stored(whole.steps) || len(whole.steps) < least {
				t.Fatalf("%d steps, the protocol has %d: %q", len(whole.steps), least, whole.steps)
			}

			t.Run("before accept", func(t *testing.T) {
				l := c.once(t, ends, crashLog+"=offer received")
				c.check(t, l, 1)
				if l.job.Attempts != 1 || len(l.steps) > 0 {
					t.Errorf("%d attempts, %d steps", l.job.Attempts, len(l.steps))
				}
			})
			if kind == protocol.KindTTS {
				t.Run("while the engine runs", func(t *testing.T) {
					c.desk.holdAll(true)
					l := c.once(t, func(p *process) {
						engine := c.desk.next(t)
						c.desk.holdAll(false)
						p.kill(t)
						engine.awaitEnd(t)
					})
					c.check(t, l, 2)
					if l.job.Attempts != 2 { // a job that kills its worker must not come back for ever
						t.Errorf("%d attempts, want 2", l.job.Attempts)
					}
				})
			}
			for i, step := range whole.steps {
				t.Run(fmt.Sprintf("%d %s", i+1, strings.Fields(step)[0]), func(t *testing.T) {
					l := c.once(t, ends, crashStep+"="+strconv.Itoa(i+1))
					if len(l.steps) != i {
						t.Errorf("%d steps were begun, want %d: %q", len(l.steps), i, l.steps)
					}
					want := 2
					if i == 0 || stored(l.steps) { // it had not begun, or it is safe
						want = 1
					}
					c.check(t, l, want)
					t.Logf("before %s: %d runs, %d attempts", step, l.runs, l.job.Attempts)
				})
			}
		})
	}
}
