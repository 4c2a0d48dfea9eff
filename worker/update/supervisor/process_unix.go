//go:build !windows

package supervisor

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// inherit hands two pipes to a child and returns how it finds them.
func inherit(cmd *exec.Cmd, tell, lifeline *os.File) (string, error) {
	cmd.ExtraFiles = []*os.File{tell, lifeline}
	return "3,4", nil // after the three that each program has
}

// inherited keeps a pipe from the children of this process.
func inherited(f *os.File) { syscall.CloseOnExec(int(f.Fd())) }

// hurry sends the second signal: closing the pipe was the first.
func hurry(p *os.Process) { _ = p.Signal(syscall.SIGTERM) } // it may be gone

func busy(err error) bool { return errors.Is(err, syscall.ETXTBSY) }
