package supervisor

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/windows"
)

// inherit hands two pipes to a child and returns how it finds them.
func inherit(cmd *exec.Cmd, tell, lifeline *os.File) (string, error) {
	var handles []syscall.Handle
	for _, f := range []*os.File{tell, lifeline} {
		h := f.Fd()
		if err := windows.SetHandleInformation(windows.Handle(h), windows.HANDLE_FLAG_INHERIT, windows.HANDLE_FLAG_INHERIT); err != nil {
			return "", fmt.Errorf("hand a pipe on: %w", err)
		}
		handles = append(handles, syscall.Handle(h))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{AdditionalInheritedHandles: handles}
	return fmt.Sprintf("%d,%d", handles[0], handles[1]), nil
}

// inherited keeps a pipe from the children of this process.
func inherited(f *os.File) {
	_ = windows.SetHandleInformation(windows.Handle(f.Fd()), windows.HANDLE_FLAG_INHERIT, 0)
}

// hurry: there is no signal to send.
func hurry(p *os.Process) { _ = p.Kill() } // it may be gone

// busy: Windows starts programs that others have open.
func busy(error) bool { return false }
