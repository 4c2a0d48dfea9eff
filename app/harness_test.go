//go:build !windows

package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"studioworker/studio/client"
	"studioworker/worker/protocol"
)

// patience is how long a test waits for what must come.
const patience = 40 * time.Second

// home is a computer's account with nothing in it.
type home struct {
	dir    string
	config string // the default path of the config
	extra  []string
}

func newHome(tb testing.TB) *home {
	tb.Helper()
	dir := tb.TempDir()
	return &home{dir: dir, config: filepath.Join(dir, "c", "studio-worker", "config.toml")}
}

// environ is what programs see in this home: no display, no proxy, nothing of
// the account that runs the test.
func (h *home) environ() []string {
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir(), "HOME=" + h.dir, "XDG_CONFIG_HOME=" + filepath.Join(h.dir, "c"),
		"XDG_STATE_HOME=" + filepath.Join(h.dir, "s"), programMode + "=1", "GORACE=halt_on_error=1 atexit_sleep_ms=0",
	}, h.extra...)
}

// write makes the config of this home, for a studio at address.
func (h *home) write(tb testing.TB, address, more string) {
	tb.Helper()
	text := fmt.Sprintf("api_base_url = %q\nvram_threshold_gb = 12.0\n%s", address, more)
	if err := os.MkdirAll(filepath.Dir(h.config), 0o700); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(h.config, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
}

// process is a running studio-worker.
type process struct {
	name     string
	cmd      *exec.Cmd
	out, err *output
	ended    chan struct{}
	result   error // after ended
}

// start runs the program in the home. It is killed when the test ends.
func (h *home) start(tb testing.TB, args ...string) *process {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	return h.startProgram(tb, self, args...)
}

// startProgram runs another program as the program.
func (h *home) startProgram(tb testing.TB, self string, args ...string) *process {
	tb.Helper()
	p := &process{
		name: "studio-worker " + strings.Join(args, " "), ended: make(chan struct{}),
		cmd: exec.CommandContext(context.WithoutCancel(tb.Context()), self, args...), out: newOutput(), err: newOutput(),
	}
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = h.dir, h.environ(), p.out, p.err
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go func() {
		p.result = p.cmd.Wait()
		p.out.end()
		p.err.end()
		close(p.ended)
	}()
	tb.Cleanup(func() {
		p.signal(tb, syscall.SIGKILL)
		<-p.ended
		if tb.Failed() {
			tb.Logf("%s ended with %v\nstdout:\n%s\nstderr:\n%s", p.name, p.result, p.out, p.err)
		}
	})
	return p
}

func (p *process) signal(tb testing.TB, s syscall.Signal) {
	tb.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		tb.Errorf("%v to %s: %v", s, p.name, err)
	}
}

// kill ends the process at once, and returns when it is gone.
func (p *process) kill(tb testing.TB) {
	tb.Helper()
	p.signal(tb, syscall.SIGKILL)
	p.wait(tb)
}

// wait returns the exit code; -1 after a signal.
func (p *process) wait(tb testing.TB) int {
	tb.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		tb.Fatalf("%s did not end\nstdout:\n%s\nstderr:\n%s", p.name, p.out, p.err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// stop asks the process to end and wants exit code 0.
func (p *process) stop(tb testing.TB) {
	tb.Helper()
	p.signal(tb, syscall.SIGTERM)
	if code := p.wait(tb); code != 0 {
		tb.Errorf("%s ended with %d: %s", p.name, code, p.err)
	}
}

// await returns when one of the texts has been written to stderr n times.
func (p *process) await(tb testing.TB, n int, text ...string) {
	tb.Helper()
	if !p.err.await(n, text...) {
		tb.Fatalf("%s never said %q %d times\nstdout:\n%s\nstderr:\n%s", p.name, text, n, p.out, p.err)
	}
}

// run runs the program to its end.
func (h *home) run(tb testing.TB, args ...string) (code int, out, problem string) {
	tb.Helper()
	p := h.start(tb, args...)
	code = p.wait(tb)
	return code, p.out.String(), p.err.String()
}

// want runs the program, which must succeed, and returns its standard output.
func (h *home) want(tb testing.TB, args ...string) string {
	tb.Helper()
	code, out, problem := h.run(tb, args...)
	if code != 0 {
		tb.Fatalf("studio-worker %s ended with %d: %s", strings.Join(args, " "), code, problem)
	}
	return out
}

// wantRefusal runs the program, which must end with code and one line on stderr
// that holds all texts.
func (h *home) wantRefusal(tb testing.TB, code int, args []string, texts ...string) {
	tb.Helper()
	got, out, problem := h.run(tb, args...)
	if got != code || out != "" {
		tb.Errorf("%q ended with %d and wrote %q, want %d and nothing", args, got, out, code)
	}
	if strings.Count(problem, "\n") != 1 || !strings.HasSuffix(problem, "\n") || !strings.HasPrefix(problem, "studio-worker: ") {
		tb.Errorf("%q says %q, want one line", args, problem)
	}
	for _, text := range texts {
		if !strings.Contains(problem, text) {
			tb.Errorf("%q says %q, want %q in it", args, problem, text)
		}
	}
}

// output collects what a process writes and tells who waits for a text.
type output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	ended   bool
	changed chan struct{} // closed at each change, and made anew
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.text.Write(p)
}

func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// await says whether one of the texts came n times, before the end or the end
// of our patience.
func (o *output) await(n int, texts ...string) bool {
	limit := time.After(patience)
	for {
		o.mu.Lock()
		all, ended, changed := o.text.String(), o.ended, o.changed
		o.mu.Unlock()
		for _, text := range texts {
			if strings.Count(all, text) >= n {
				return true
			}
		}
		if ended {
			return false
		}
		select {
		case <-changed:
		case <-limit:
			return false
		}
	}
}

// farm is a studio in a process of its own, with its operator.
type farm struct {
	*process
	url, token, data string
	operator         *client.Client
	http             *http.Client
}

// startStudio runs a studio on listen and data.
func startStudio(tb testing.TB, listen, data string) *farm {
	tb.Helper()
	p := newHome(tb).start(tb, "studio", "--listen", listen, "--data", data, "--auto-approve")
	if !p.out.await(1, "operator token in ") {
		tb.Fatalf("the studio is not up: %s", p.err)
	}
	url, _, ok := strings.Cut(strings.TrimPrefix(p.out.String(), "studio at "), ", ")
	if !ok {
		tb.Fatalf("the studio says %q", p.out)
	}
	token, err := os.ReadFile(tokenFile(data))
	if err != nil {
		tb.Fatal(err)
	}
	f := &farm{process: p, data: data}
	f.meet(tb, url, strings.TrimSpace(string(token)))
	return f
}

// meet makes the operator's client.
func (f *farm) meet(tb testing.TB, url, token string) {
	tb.Helper()
	transport := &http.Transport{}
	tb.Cleanup(transport.CloseIdleConnections)
	f.url, f.token, f.http = url, token, &http.Client{Transport: transport}
	var err error
	if f.operator, err = client.New(url, token, f.http); err != nil {
		tb.Fatal(err)
	}
}

func newStudio(tb testing.TB) *farm {
	tb.Helper()
	return startStudio(tb, "127.0.0.1:0", filepath.Join(tb.TempDir(), "studio"))
}

// again starts the studio anew at the same place.
func (f *farm) again(tb testing.TB) *farm {
	tb.Helper()
	return startStudio(tb, strings.TrimPrefix(f.url, "http://"), f.data)
}

// submit queues a job.
func (f *farm) submit(tb testing.TB, kind protocol.TaskKind, text string) string {
	tb.Helper()
	job, err := makeJob(tb.Context(), f.operator, kind, "", text, anywhere)
	if err != nil {
		tb.Fatal(err)
	}
	queued, err := f.operator.Submit(tb.Context(), job)
	if err != nil {
		tb.Fatal(err)
	}
	return queued.ID
}

// await follows the job until ok says so.
func (f *farm) await(tb testing.TB, id string, ok func(client.JobStatus) bool) client.JobStatus {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	var last client.JobStatus
	for event, err := range f.operator.Events(ctx, id) {
		if err != nil {
			tb.Fatalf("job %s, last %+v: %v", id, last, err)
		}
		if last = event.Job; ok(last) {
			return last
		}
	}
	tb.Fatalf("job %s ended as %+v", id, last)
	return last
}

// awaitState follows the job to a state.
func (f *farm) awaitState(tb testing.TB, id string, state client.State) client.JobStatus {
	tb.Helper()
	return f.await(tb, id, func(j client.JobStatus) bool { return j.State == state })
}

// result returns the bytes of a done job, which must be what the job says.
func (f *farm) result(tb testing.TB, job client.JobStatus) []byte {
	tb.Helper()
	body, _, err := f.operator.Result(tb.Context(), job.ID)
	if err != nil {
		tb.Fatal(err)
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err != nil {
		tb.Fatal(err)
	}
	if sum := sumOf(data); job.Result == nil || job.Result.SHA256 != sum || job.Result.Bytes != int64(len(data)) {
		tb.Errorf("job %s has %d bytes of %s, the studio says %+v", job.ID, len(data), sum, job.Result)
	}
	return data
}

// call makes a request of the operator API and returns status and body.
func (f *farm) call(tb testing.TB, method, path, token string, body io.Reader) (int, []byte) {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), method, f.url+path, body)
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := f.http.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return resp.StatusCode, data
}

// wantServing checks that the studio still works.
func (f *farm) wantServing(tb testing.TB) {
	tb.Helper()
	if status, body := f.call(tb, http.MethodGet, "/healthz", "", nil); status != http.StatusOK {
		tb.Errorf("the studio's health: %d %s", status, body)
	}
}

// wantError checks an error of the API.
func wantError(tb testing.TB, status int, body []byte, wantStatus int, wantCode string) {
	tb.Helper()
	var e client.Error
	if err := json.Unmarshal(body, &e); err != nil || status != wantStatus || e.Code != wantCode || e.Message == "" {
		tb.Errorf("answer %d %s, want %d with error %q and a message", status, body, wantStatus, wantCode)
	}
}

// desk is where fake espeak-ng programs report. It releases each at once,
// unless it is told to hold them.
type desk struct {
	listener net.Listener
	calls    chan call // the held runs, in order

	mu   sync.Mutex
	hold bool
	runs []string // the text of each run
	done sync.WaitGroup
}

// call is a speech program that waits.
type call struct {
	conn   net.Conn
	number int
}

func newDesk(tb testing.TB) *desk {
	tb.Helper()
	listener, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	d := &desk{listener: listener, calls: make(chan call, 16)}
	d.done.Go(d.serve)
	tb.Cleanup(func() {
		_ = listener.Close()
		d.done.Wait()
		close(d.calls)
		for c := range d.calls {
			_ = c.conn.Close()
		}
	})
	return d
}

func (d *desk) serve() {
	for {
		conn, err := d.listener.Accept()
		if err != nil {
			return
		}
		text, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil {
			_ = conn.Close()
			continue
		}
		d.mu.Lock()
		d.runs = append(d.runs, strings.TrimSpace(text))
		c, hold := call{conn, len(d.runs)}, d.hold
		d.mu.Unlock()
		if hold {
			d.calls <- c
		} else {
			c.release()
		}
	}
}

// release lets the program speak.
func (c call) release() {
	_, _ = fmt.Fprintf(c.conn, "%d\n", c.number) // a killed program does not hear it
	_ = c.conn.Close()
}

// awaitEnd returns when the program is gone.
func (c call) awaitEnd(tb testing.TB) {
	tb.Helper()
	if err := c.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		tb.Fatal(err)
	}
	if _, err := c.conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		tb.Errorf("the engine lives on: %v", err)
	}
	_ = c.conn.Close()
}

// next returns the next program that waits.
func (d *desk) next(tb testing.TB) call {
	tb.Helper()
	select {
	case c := <-d.calls:
		return c
	case <-time.After(patience):
		tb.Fatal("no engine was started")
		return call{}
	}
}

func (d *desk) holdAll(hold bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hold = hold
}

// count says how often a text was spoken.
func (d *desk) count(text string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(slices.DeleteFunc(slices.Clone(d.runs), func(t string) bool { return t != text }))
}

// last is the number of the last run.
func (d *desk) last() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.runs)
}

// equip makes the desk's fake the espeak-ng of the home.
func (d *desk) equip(tb testing.TB, h *home) {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	h.extra = append(h.extra, "STUDIO_WORKER_ESPEAK="+self, deskVariable+"="+d.listener.Addr().String())
}
