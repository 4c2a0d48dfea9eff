//go:build !windows

package app

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"studioworker/studio/client"
	"studioworker/worker/protocol"
)

// TestRunWithoutConfig: before the person has chosen a studio nobody is called
// and nothing is written.
func TestRunWithoutConfig(t *testing.T) {
	calls, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = calls.Close() }() // closed below, unless the test has failed
	called := make(chan net.Conn, 16)
	go func() { // ends with the listener
		defer close(called)
		for {
			conn, err := calls.Accept()
			if err != nil {
				return
			}
			called <- conn
		}
	}()
	h := newHome(t)
	proxy := "http://" + calls.Addr().String()
	h.extra = []string{"HTTP_PROXY=" + proxy, "HTTPS_PROXY=" + proxy}
	h.wantRefusal(t, exitUsage, []string{"run"}, "register --api-base-url", h.config)
	h.wantRefusal(t, exitUsage, []string{"--config", filepath.Join(h.dir, "other", "config.toml"), "run"}, "register --api-base-url")
	for _, args := range [][]string{{"status"}, {"config"}} {
		h.want(t, args...)
	}
	h.wantRefusal(t, exitFail, []string{"pause"}, "no worker is running")
	if list, err := os.ReadDir(h.dir); err != nil || len(list) > 0 {
		t.Errorf("the home holds %v, %v", list, err)
	}
	if err := calls.Close(); err != nil {
		t.Fatal(err)
	}
	for conn := range called {
		t.Error("somebody was called")
		_ = conn.Close()
	}
}

// runningStatusOf asks for the status as a script does.
func (h *home) runningStatusOf(tb testing.TB) status {
	tb.Helper()
	var s status
	if err := json.Unmarshal([]byte(h.want(tb, "status", "--json")), &s); err != nil {
		tb.Fatal(err)
	}
	return s
}

// TestOneInstance: a second run leaves the first alone, and the commands of the
// instance socket reach it (fault row 13).
func TestOneInstance(t *testing.T) {
	h, f := newHome(t), newStudio(t)
	h.write(t, f.url, "")
	w := h.start(t, "run")
	w.await(t, 1, "server welcomed")
	pid := w.cmd.Process.Pid

	code, out, problem := h.run(t, "run")
	if want := fmt.Sprintf("a worker with this config is running already (pid %d)", pid); code != 0 || out != "" || !strings.Contains(problem, want) {
		t.Errorf("a second run ends with %d and says %q, want %q", code, problem, want)
	}
	socket := filepath.Join(filepath.Dir(h.config), "daemon.sock")
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info, err)
	}
	if info, err := os.Stat(filepath.Dir(h.config)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the config folder: %v, %v", info, err)
	}

	if s := h.runningStatusOf(t); s.PID != pid || s.Running == nil || *s.Running != (runningStatus{Session: "connected", Sentence: "Ready for jobs", Version: Version}) ||
		!strings.HasPrefix(s.Registration, "approved as wk-") {
		t.Errorf("status is %+v, running %+v", s, s.Running)
	}
	if out := h.want(t, "pause"); out != fmt.Sprintf("pause: done (pid %d)\n", pid) {
		t.Errorf("pause prints %q", out)
	}
	if s := h.runningStatusOf(t); s.Running == nil || s.Running.Availability != "paused" {
		t.Errorf("paused, status is %+v", s.Running)
	}
	id := f.submit(t, protocol.KindLLM, "name this town")
	f.awaitState(t, id, client.Queued)
	if text := h.want(t, "status"); !strings.Contains(text, "takes jobs:         no (Paused by you until you resume)") {
		t.Errorf("status prints\n%s", text)
	}
	h.want(t, "resume")
	f.awaitState(t, id, client.Done)

	a, err := ask(t.Context(), h.config, "dance")
	if err == nil || !strings.Contains(err.Error(), "does not know this command") || a.PID != pid {
		t.Errorf("an unknown command is answered %+v, %v", a, err)
	}
	h.want(t, "quit")
	if code := w.wait(t); code != 0 {
		t.Errorf("after quit the worker ends with %d: %s", code, w.err)
	}
	h.wantRefusal(t, exitFail, []string{"quit"}, "no worker is running with this config")
	if s := h.runningStatusOf(t); s.PID != 0 || s.Running != nil {
		t.Errorf("status is %+v", s)
	}
}

// TestLeftoverSocket: the socket of a killed worker does not keep the next from
// starting, and until then nobody is said to run.
func TestLeftoverSocket(t *testing.T) {
	h := newHome(t)
	h.write(t, "http://127.0.0.1:1", "")
	w := h.start(t, "run")
	w.await(t, 1, "registration will be tried again")
	w.kill(t)
	h.wantRefusal(t, exitFail, []string{"resume"}, "no worker is running")
	w = h.start(t, "run")
	w.await(t, 1, "registration will be tried again")
	h.want(t, "quit")
	if code := w.wait(t); code != 0 {
		t.Errorf("the worker ends with %d: %s", code, w.err)
	}
}

// TestLongPath: a config whose folder has a long path has its socket elsewhere.
func TestLongPath(t *testing.T) {
	h := newHome(t)
	h.config = filepath.Join(h.dir, strings.Repeat("harbour", 20), "config.toml")
	runtime := t.TempDir()
	h.extra = []string{"XDG_RUNTIME_DIR=" + runtime}
	h.write(t, "http://127.0.0.1:1", "")
	w := h.start(t, "--config", h.config, "run")
	w.await(t, 1, "registration will be tried again")
	// Engines that are asked for their version may leave something there, too.
	list, err := filepath.Glob(filepath.Join(runtime, "studio-worker-*"))
	if err != nil || len(list) != 1 {
		t.Fatalf("the runtime folder holds %v, %v", list, err)
	}
	if info, err := os.Stat(list[0]); err != nil || info.Mode().Type() != os.ModeSocket {
		t.Errorf("%s is no socket: %v", list[0], err)
	}
	h.want(t, "--config", h.config, "quit")
	if code := w.wait(t); code != 0 {
		t.Errorf("the worker ends with %d: %s", code, w.err)
	}
}

// TestRegisterBeside: a running worker takes up the studio that a command chose.
func TestRegisterBeside(t *testing.T) {
	h, f := newHome(t), newStudio(t)
	h.write(t, "http://127.0.0.1:1", "")
	w := h.start(t, "run")
	w.await(t, 1, "registration will be tried again")
	out := h.want(t, "register", "--api-base-url", f.url)
	if want := fmt.Sprintf("saved %s in %s; the running worker takes it up now\n", f.url, h.config); out != want {
		t.Errorf("register prints %q, want %q", out, want)
	}
	w.await(t, 1, "server welcomed")
	w.stop(t)
	if out := h.want(t, "register", "--reset"); !strings.HasSuffix(out, "the worker registers at its next start\n") {
		t.Errorf("register prints %q", out)
	}
	w = h.start(t, "run") // registers anew: the old install id is forgotten
	w.await(t, 1, "approved by the operator")
	w.stop(t)
}

// TestRegisterFields is §13 #159: --reset clears the five registration fields,
// --api-base-url alone keeps them.
func TestRegisterFields(t *testing.T) {
	h := newHome(t)
	fields := []string{"worker_id", "auth_token", "install_id", "registration_request_id", "registration_secret"}
	var text strings.Builder
	for _, f := range fields {
		fmt.Fprintf(&text, "%s = \"%s-value\"\n", f, f)
	}
	h.write(t, "http://127.0.0.1:1", text.String())
	holds := func(want bool) {
		t.Helper()
		data, err := os.ReadFile(h.config)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range fields {
			if got := strings.Contains(string(data), f+"-value"); got != want {
				t.Errorf("%s is in the file: %t, want %t", f, got, want)
			}
		}
		if !strings.Contains(string(data), "http://127.0.0.1:2") {
			t.Errorf("the file holds %q", data)
		}
	}
	h.want(t, "register", "--api-base-url", "http://127.0.0.1:2")
	holds(true)
	h.wantRefusal(t, exitUsage, []string{"register", "--api-base-url", "harbour"}, "--api-base-url")
	h.wantRefusal(t, exitUsage, []string{"register", "--api-base-url", ""}, "--api-base-url")
	holds(true)
	h.want(t, "register", "--reset")
	holds(false)
}

// TestStopIdle: a worker without a job ends within two seconds.
func TestStopIdle(t *testing.T) {
	h, f := newHome(t), newStudio(t)
	h.write(t, f.url, "")
	w := h.start(t, "run")
	w.await(t, 1, "server welcomed")
	for name, s := range map[string]syscall.Signal{"SIGTERM": syscall.SIGTERM, "SIGINT": syscall.SIGINT} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			w.signal(t, s)
			if code, took := w.wait(t), time.Since(start); code != 0 || took > 2*time.Second {
				t.Errorf("ended with %d after %v", code, took)
			}
		})
		w = h.start(t, "run")
		w.await(t, 1, "server welcomed")
	}
}

// TestStopAtWork: the first signal waits for the job, as long as the config
// says; the second does not wait (fault row 15).
func TestStopAtWork(t *testing.T) {
	for _, c := range []struct {
		name   string
		drain  int // seconds
		finish bool
		again  bool // a second signal
	}{
		{"the job ends in time", 600, true, false},
		{"the job does not end in time", 1, false, false},
		{"no time at all", 0, false, false},
		{"a second signal", 600, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, f, d := newHome(t), newStudio(t), newDesk(t)
			d.equip(t, h)
			h.write(t, f.url, fmt.Sprintf("drain_secs = %d\n", c.drain))
			w := h.start(t, "run")
			w.await(t, 1, "server welcomed")
			d.holdAll(true)
			id := f.submit(t, protocol.KindTTS, "we sail at dawn")
			engine := d.next(t)
			d.holdAll(false)
			w.signal(t, syscall.SIGTERM)
			w.await(t, 1, "taking no more jobs before the end")
			next := f.submit(t, protocol.KindTTS, "the next one")
			if c.finish {
				engine.release()
			}
			if c.again {
				w.signal(t, syscall.SIGTERM)
				w.await(t, 1, "stopping at once")
			}
			if code := w.wait(t); code != 0 {
				t.Errorf("ended with %d", code)
			}
			if !c.finish {
				engine.awaitEnd(t)
			}

			state, reason := client.Done, ""
			if !c.finish {
				state, reason = client.Queued, "the worker is stopping"
			}
			if job := f.awaitState(t, id, state); job.Attempts != 1 || job.Error != reason {
				t.Errorf("the job is %+v, want one attempt and the error %q", job, reason)
			}
			if other := f.awaitState(t, next, client.Queued); other.Attempts != 0 {
				t.Errorf("the next job is %+v", other)
			}

			w = h.start(t, "run")
			f.awaitState(t, id, client.Done)
			f.awaitState(t, next, client.Done)
			w.stop(t)
			want := 2
			if c.finish {
				want = 1
			}
			if n := d.count("we sail at dawn"); n != want {
				t.Errorf("the engine ran %d times, want %d", n, want)
			}
		})
	}
}
