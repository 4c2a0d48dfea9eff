//go:build linux

package app

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A systemd double: it listens where a service tells its state.
func notifySocket(t *testing.T) (path string, states <-chan string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "n") //nolint:usetesting // the path of a socket is short, and a test folder's is not
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path = filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	told := make(chan string, 1000)
	go func() { // ends with the socket
		buffer := make([]byte, 4096)
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				close(told)
				return
			}
			select {
			case told <- string(buffer[:n]):
			default:
			}
		}
	}()
	return path, told
}

func awaitState(t *testing.T, states <-chan string, want string) {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case state := <-states:
			if strings.HasPrefix(state, want) {
				return
			}
		case <-timeout:
			t.Fatalf("systemd was not told %q", want)
		}
	}
}

// systemd is told that the worker is ready, what it does, that it lives, and that it stops.
func TestServiceTellsSystemd(t *testing.T) {
	h := newHome(t)
	h.write(t, "http://127.0.0.1:1", "")
	socket, states := notifySocket(t)
	h.extra = []string{"NOTIFY_SOCKET=" + socket, "WATCHDOG_USEC=400000"}
	p := h.start(t, "run")
	awaitState(t, states, "READY=1")
	awaitState(t, states, "STATUS=Not connected: ")
	awaitState(t, states, "WATCHDOG=1")
	awaitState(t, states, "WATCHDOG=1")
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	awaitState(t, states, "STOPPING=1")
	<-p.ended
	if p.result != nil {
		t.Errorf("ended with %v\n%s", p.result, p.err)
	}
}

// The journal stamps times itself and reads the level before each line; a terminal gets
// neither.
func TestLogsSuitTheJournal(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, journal := range []bool{true, false} {
		h := newHome(t)
		h.write(t, "http://127.0.0.1:1", "surplus = 1\n") // a key that is warned about
		file, err := os.Create(filepath.Join(t.TempDir(), "stream"))
		if err != nil {
			t.Fatal(err)
		}
		var st syscall.Stat_t
		if err := syscall.Fstat(int(file.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), self, "run")
		cmd.Env, cmd.Stderr = h.environ(), file
		if journal {
			cmd.Env = append(cmd.Env, fmt.Sprintf("JOURNAL_STREAM=%d:%d", st.Dev, st.Ino))
		} else {
			cmd.Env = append(cmd.Env, "JOURNAL_STREAM=1:1") // inherited from a shell that the journal reads
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(patience)
		var text []byte
		for !bytes.Contains(text, []byte("level=WARN")) || !bytes.Contains(text, []byte("studio-worker starts")) {
			if time.Now().After(deadline) {
				t.Fatalf("journal %v: no warning and information in\n%s", journal, text)
			}
			time.Sleep(20 * time.Millisecond) // the log has no other reader to wake
			if text, err = os.ReadFile(file.Name()); err != nil {
				t.Fatal(err)
			}
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(string(text)) {
			stamped, level := strings.HasPrefix(line, "time="), strings.HasPrefix(line, "<")
			if strings.Contains(line, "level=WARN") && journal && !strings.HasPrefix(line, "<4>level=WARN") {
				t.Errorf("warning has another level: %s", line)
			}
			if stamped == journal || level != journal {
				t.Errorf("journal %v: line %s", journal, line)
			}
		}
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	}
}

// setup is what a rig's owner runs, and may run again.
func TestSetupTwiceChangesNothing(t *testing.T) {
	h := newHome(t)
	bin := t.TempDir()
	for name, script := range map[string]string{
		"systemctl": `echo "$@" >> ` + bin + `/log; case "$*" in *is-active*) echo active;; esac`,
		"loginctl":  "echo Linger=yes",
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.extra = []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
	for i, want := range []string{"service: installed", "service: unchanged"} {
		p := h.start(t, "setup", "--api-base-url", "http://127.0.0.1:9790")
		<-p.ended
		if out := p.out.String(); p.result != nil || !strings.Contains(out, want) || !strings.Contains(out, "http://127.0.0.1:9790") {
			t.Fatalf("setup %d: %v\n%s%s", i+1, p.result, out, p.err)
		}
	}
	unit, err := os.ReadFile(filepath.Join(h.dir, ".config/systemd/user/studio-worker.service"))
	if err != nil || !strings.Contains(string(unit), h.config) {
		t.Errorf("unit: %v\n%s", err, unit)
	}
	for _, test := range []struct{ args, want string }{
		{"service status", "running:"},
		{"service uninstall", "uninstalled"},
		{"service uninstall", "nothing to do"},
	} {
		p := h.start(t, strings.Fields(test.args)...)
		<-p.ended
		if out := p.out.String(); p.result != nil || !strings.Contains(out, test.want) {
			t.Errorf("%s: %v\n%s%s", test.args, p.result, out, p.err)
		}
	}
}

func TestServiceNeedsAStudio(t *testing.T) {
	p := newHome(t).start(t, "service", "install")
	<-p.ended
	if code := p.cmd.ProcessState.ExitCode(); code != exitUsage || !strings.Contains(p.err.String(), "register --api-base-url") {
		t.Errorf("exit %d: %s", code, p.err)
	}
}

// A rig's monitoring reads the worker on a port of its own computer.
func TestHealthAndMetricsAreServed(t *testing.T) {
	h := newHome(t)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	h.write(t, "http://127.0.0.1:1", fmt.Sprintf("health_listen = %q\n", address))
	p := h.start(t, "run")
	p.await(t, 1, "health and metrics are served")
	for path, want := range map[string]string{"/healthz": `"ok":true`, "/metrics": "studio_worker_connected 0"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		if err := errors.Join(err, answer.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d %s", path, answer.StatusCode, body)
		}
	}
	p.stop(t)
}
