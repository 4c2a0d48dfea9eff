//go:build unix

package process

import (
	"errors"
	"os"
	"sync"
	"syscall"
)

// group is the process group of one child.
type group struct {
	mu  sync.Mutex
	pid int // of the leader, and so the group's id
	// over is set once the group was killed. From then on its id may belong to
	// somebody else.
	over bool
}

// watch takes note of the started leader.
func (g *group) watch(pid int, _ func(error)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pid = pid
}

// ask tells the whole group to stop. It may run before watch.
func (g *group) ask(pid int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over {
		return os.ErrProcessDone
	}
	if err := syscall.Kill(-pid, syscall.SIGTERM); errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return nil // any other trouble is left to the kill that follows
}

// awaitLeader blocks until the leader has ended and kills the rest of the
// group, where the system can tell without collecting the leader: while it is
// uncollected, the group's id cannot be used again.
func (g *group) awaitLeader() {
	if waitEnded(g.pid) {
		g.finish()
	}
}

// finish kills what is left of the group.
func (g *group) finish() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over {
		return
	}
	g.over = true
	// The error only says that nothing was left.
	_ = syscall.Kill(-g.pid, syscall.SIGKILL)
}

// ending returns the exit code, or -1 and the name of the signal.
func ending(state *os.ProcessState) (code int, signal string) {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return -1, status.Signal().String()
	}
	return state.ExitCode(), ""
}
