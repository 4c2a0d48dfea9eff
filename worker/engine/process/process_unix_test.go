//go:build unix

package process_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"studioworker/worker/engine/process"
)

func runUnixChild(mode string, args []string) int {
	switch mode {
	case "stubborn": // ignores SIGTERM and leaves an orphan in its group
		signal.Ignore(syscall.SIGTERM)
		middle := respawn("orphan maker", args)
		if err := middle.Run(); err != nil {
			return 1
		}
		hang()
		return 0
	case "orphan maker": // ends at once, so its child is nobody's
		signal.Ignore(syscall.SIGTERM)
		if err := respawn("held", args).Start(); err != nil {
			return 1
		}
		return 0
	case "held":
		signal.Ignore(syscall.SIGTERM)
		return hold(args)
	case "tree":
		signal.Ignore(syscall.SIGTERM)
		return grow(args)
	case "leaver": // ends well while its child lives on and holds the output
		middle := respawn("held", args)
		middle.Stdout = nil
		dialled, err := middle.StdoutPipe()
		if err != nil || middle.Start() != nil {
			return 1
		}
		if _, err := bufio.NewReader(dialled).ReadString('\n'); err != nil {
			return 1
		}
		fmt.Println("left")
		return 0
	case "host": // runs a child the way the worker does
		cfg := process.Config{
			Path:      os.Args[0],
			Args:      args,
			Env:       append(process.Environment(os.Environ()), childMode+"=held"),
			WallLimit: time.Minute,
		}
		if _, err := process.Run(context.Background(), cfg); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return 1
	default:
		return 99
	}
}

// respawn prepares this program as another child that shares our output.
func respawn(mode string, args []string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), childMode+"="+mode)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd
}

// hold dials the test and hangs. The connection ends when the process does.
func hold(args []string) int {
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", args[0])
	if err != nil {
		return 1
	}
	fmt.Fprintln(conn, "here")
	fmt.Println("dialled")
	hang()
	return 0
}

// lifeline listens for a process that calls hold.
type lifeline struct {
	t        *testing.T
	listener net.Listener
	conn     net.Conn
}

func newLifeline(t *testing.T) *lifeline {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return &lifeline{t: t, listener: listener}
}

func (l *lifeline) address() string { return l.listener.Addr().String() }

// await blocks until the process is there.
func (l *lifeline) await() {
	l.t.Helper()
	conn, err := l.listener.Accept()
	if err != nil {
		l.t.Error(err)
		return
	}
	l.conn = conn
	l.t.Cleanup(func() { _ = conn.Close() })
	if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
		l.t.Error(err)
	}
}

// gone checks that the process dies before the limit passes.
func (l *lifeline) gone(limit time.Duration) {
	l.t.Helper()
	if err := l.conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		l.t.Fatal(err)
	}
	_, err := l.conn.Read(make([]byte, 1))
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		l.t.Error("a process of the group is still alive")
	}
}

// Fault row 19: the child ignores SIGTERM and forks twice.
func TestRunKillsTheWholeGroup(t *testing.T) {
	line := newLifeline(t)
	cause := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := process.Run(ctx, child(t, "stubborn", line.address()))
		ended <- err
	}()
	line.await()
	asked := time.Now()
	cancel(cause)
	err := <-ended
	const limit = 2 * time.Second
	if took := time.Since(asked); took < process.Grace || took > limit {
		t.Errorf("ended after %v, want between %v and %v", took, process.Grace, limit)
	}
	if !errors.Is(err, cause) {
		t.Errorf("err = %v, want the cause", err)
	}
	line.gone(limit - time.Since(asked))
}

func TestRunLeavesNothingOfAChildThatEndsWell(t *testing.T) {
	line := newLifeline(t)
	out, err := process.Run(t.Context(), child(t, "leaver", line.address()))
	if err != nil || out.Stdout != "left\n" {
		t.Fatalf("got %+v, %v", out, err)
	}
	line.await()
	line.gone(process.Grace)
}

// Fault row 17: the child crashes.
func TestRunExplainsSignals(t *testing.T) {
	for name, want := range map[string]struct {
		script, text string
		reason       process.Reason
	}{
		"crash": {
			"ulimit -c 0; echo loading >&2; kill -SEGV $$", "sh crashed (segmentation fault): loading", process.ReasonCrash,
		},
		"killed":          {"kill -KILL $$", "sh was killed, most likely for memory", process.ReasonMemory},
		"killed in shell": {"exit 137", "sh was killed, most likely for memory", process.ReasonMemory},
		"no library": {
			"echo 'x: error while loading shared libraries: libvulkan.so.1: cannot open' >&2; exit 127",
			"sh lacks a library: x: error while loading shared libraries: libvulkan.so.1: cannot open", process.ReasonLibrary,
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := process.Run(t.Context(), process.Config{
				Path: "/bin/sh", Args: []string{"-c", want.script}, WallLimit: time.Minute,
			})
			exit, ok := errors.AsType[*process.ExitError](err)
			if !ok {
				t.Fatalf("err = %v, want an ExitError", err)
			}
			if exit.Reason != want.reason || err.Error() != want.text {
				t.Errorf("got %q (%s), want %q (%s)", err, exit.Reason, want.text, want.reason)
			}
		})
	}
}
