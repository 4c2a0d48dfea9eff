package process

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// attributes asks for an own process group, and for the child's death when the
// thread that starts it dies.
func (g *group) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// waitEnded blocks until the process has ended, and leaves it uncollected.
func waitEnded(pid int) bool {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}
