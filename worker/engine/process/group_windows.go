package process

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// group is the job object of one child. Windows ends everything in it when the
// last handle is closed, so the child does not outlive the worker.
type group struct {
	mu  sync.Mutex
	job windows.Handle
}

// attributes asks for an own process group, which CTRL_BREAK needs, and for no
// console window.
func (g *group) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		CreationFlags: windows.CREATE_NEW_PROCESS_GROUP | windows.CREATE_NO_WINDOW,
		HideWindow:    true,
	}
}

// watch puts the started child into a job object. It calls stop when that does
// not work, because then the child's own children could stay behind.
func (g *group) watch(pid int, stop func(error)) {
	job, err := newJob(pid)
	if err != nil {
		stop(err)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.job = job
}

// newJob makes a job object that kills on close and puts the process into it.
func newJob(pid int) (windows.Handle, error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return 0, fmt.Errorf("create job object: %w", err)
	}
	info := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{}
	info.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	_, err = windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info)))
	if err != nil {
		_ = windows.CloseHandle(job)
		return 0, fmt.Errorf("set up job object: %w", err)
	}
	process, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, uint32(pid))
	if err != nil {
		_ = windows.CloseHandle(job)
		return 0, fmt.Errorf("open child: %w", err)
	}
	defer func() { _ = windows.CloseHandle(process) }()
	if err := windows.AssignProcessToJobObject(job, process); err != nil {
		_ = windows.CloseHandle(job)
		return 0, fmt.Errorf("put child into job object: %w", err)
	}
	return job, nil
}

// ask tells the group to stop. A child without a console does not hear it; it
// is killed when the grace is over.
func (g *group) ask(pid int) error {
	if err := windows.GenerateConsoleCtrlEvent(windows.CTRL_BREAK_EVENT, uint32(pid)); err != nil {
		return os.ErrProcessDone
	}
	return nil
}

// awaitLeader does nothing: the job object stays valid after the leader.
func (g *group) awaitLeader() {}

// finish kills what is left in the job object.
func (g *group) finish() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.job == 0 {
		return
	}
	// The errors only say that nothing was left.
	_ = windows.TerminateJobObject(g.job, 1)
	_ = windows.CloseHandle(g.job)
	g.job = 0
}

// ending returns the exit code. Windows has no signals.
func ending(state *os.ProcessState) (code int, signal string) {
	return state.ExitCode(), ""
}
