//go:build unix

package process_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"studioworker/scripts/measure"
	"studioworker/worker/engine/process"
)

// treeLevels is how many processes are in the tree of row 17, each the child of the one
// before.
const treeLevels = 3

// grow is a process of a tree that ignores SIGTERM. Each dials the benchmark, and starts
// the next one.
func grow(args []string) int {
	levels, err := strconv.Atoi(args[1])
	if err != nil {
		return 1
	}
	if levels > 1 {
		if err := respawn("tree", []string{args[0], strconv.Itoa(levels - 1)}).Start(); err != nil {
			return 1
		}
	}
	return hold(args)
}

// tree waits for all processes of a tree, and then for their end: the connection that
// each has ends with it.
type tree struct {
	tb    testing.TB
	conns []net.Conn
}

func newTree(tb testing.TB, l net.Listener) *tree {
	tb.Helper()
	t := &tree{tb: tb}
	for range treeLevels {
		conn, err := l.Accept()
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
			tb.Fatal(err)
		}
		t.conns = append(t.conns, conn)
	}
	return t
}

func (t *tree) gone() {
	t.tb.Helper()
	for _, conn := range t.conns {
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.tb.Fatal(err)
		}
		_, err := conn.Read(make([]byte, 1))
		if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.tb.Fatalf("a process of the tree is still alive: %v", err)
		}
		if err := conn.Close(); err != nil {
			t.tb.Fatal(err)
		}
	}
}

// BenchmarkKill is row 17: a tree of three processes that ignore SIGTERM is stopped, until
// none is alive. What it is compared with asks nobody, and kills the group.
func BenchmarkKill(b *testing.B) {
	l, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	args := []string{l.Addr().String(), strconv.Itoa(treeLevels)}
	why := errors.New("stop")
	b.Run("row 17", func(b *testing.B) {
		measure.InTurns(b, func() []float64 {
			ctx, cancel := context.WithCancelCause(b.Context())
			defer cancel(nil)
			ended := make(chan error, 1)
			go func() { // ends with the tree
				_, err := process.Run(ctx, child(b, "tree", args...))
				ended <- err
			}()
			t := newTree(b, l)
			return []float64{measure.Time(b, func() error {
				cancel(why)
				err := <-ended
				t.gone()
				if !errors.Is(err, why) {
					return errors.Join(errors.New("the tree did not end as it was told"), err)
				}
				return nil
			})}
		}, func() []float64 {
			c := child(b, "tree", args...)
			cmd := exec.CommandContext(b.Context(), c.Path, c.Args...)
			cmd.Env, cmd.SysProcAttr = c.Env, &syscall.SysProcAttr{Setpgid: true}
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			t := newTree(b, l)
			return []float64{measure.Time(b, func() error {
				if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
					return err
				}
				_ = cmd.Wait() // it was killed
				t.gone()
				return nil
			})}
		}, measure.Line{Row: 17, What: "a tree that ignores SIGTERM, 0 left alive", Bare: "a kill of the group", Unit: measure.Seconds, Most: 1})
	})
}
