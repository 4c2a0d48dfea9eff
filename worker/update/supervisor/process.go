package supervisor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

// Variables that a child finds in its environment, and nobody it starts.
const (
	pipesVariable     = "STUDIO_WORKER_PIPES"     // numbers of its two pipes
	installedVariable = "STUDIO_WORKER_INSTALLED" // path of the installed program
	unaskedVariable   = "STUDIO_WORKER_UNASKED"   // nobody waits to see it
)

// Command says how a version is started.
type Command struct {
	Path      string // of its program
	Installed string // path of the installed program
	Args      []string
	Unasked   bool
	Stdin     io.Reader
	Stdout    io.Writer
	Stderr    io.Writer
}

// hidden are the variables that a child must not have from us. Of systemd's it keeps the
// interval of the watchdog: the answer goes through us.
var hidden = []string{pipesVariable, installedVariable, unaskedVariable, "NOTIFY_SOCKET", "WATCHDOG_PID", "MAINPID"}

// Start starts a version.
func Start(c Command) (Child, error) {
	told, tell, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	lifeline, hold, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a pipe: %w", err), told.Close(), tell.Close())
	}
	cmd := exec.Command(c.Path, c.Args...) //nolint:gosec,noctx // G204: the program was verified; it ends by Stop and Kill
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	cmd.WaitDelay = waitDelay
	cmd.Env = slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(hidden, name)
	})
	pipes, err := inherit(cmd, tell, lifeline)
	if err == nil {
		cmd.Env = append(cmd.Env, pipesVariable+"="+pipes, installedVariable+"="+c.Installed)
		if c.Unasked {
			cmd.Env = append(cmd.Env, unaskedVariable+"=1")
		}
		err = start(cmd)
	}
	// Its ends are the child's alone: when it is gone, we hear of it.
	err = errors.Join(err, tell.Close(), lifeline.Close())
	if err != nil {
		return nil, errors.Join(err, told.Close(), hold.Close())
	}
	p := &process{cmd: cmd, told: told, hold: hold, messages: make(chan Message)}
	go p.follow()
	return p, nil
}

// waitDelay is how long what a version started may hold its output open when it has gone.
const waitDelay = 5 * time.Second

// start starts a program that was written a moment ago. While another goroutine starts a
// process, that one may have our file open for writing (golang.org/issue/22315).
func start(cmd *exec.Cmd) error {
	var err error
	for wait := 10 * time.Millisecond; wait < time.Second; wait *= 2 {
		if err = cmd.Start(); err == nil || !busy(err) {
			return err
		}
		time.Sleep(wait)
	}
	return err
}

// process is a version that runs.
type process struct {
	cmd      *exec.Cmd
	told     *os.File
	hold     *os.File // closed: the child is to stop
	stop     sync.Once
	messages chan Message
	code     int // once messages is closed
}

// follow reads what the child tells, to the end, then waits for the child.
func (p *process) follow() {
	err := receive(p.told, func(m Message) { p.messages <- m })
	if err != nil { // it is not one of ours, or is out of its mind
		p.Kill()
	}
	_ = p.told.Close() // only read
	_ = p.cmd.Wait()   // the state says it
	p.Stop()           // frees the pipe
	p.code = p.cmd.ProcessState.ExitCode()
	close(p.messages)
}

func (p *process) Messages() <-chan Message { return p.messages }

func (p *process) Stop() { p.stop.Do(func() { _ = p.hold.Close() }) }

func (p *process) Hurry() { hurry(p.cmd.Process) }

func (p *process) Kill() { _ = p.cmd.Process.Kill() } // it may be gone

func (p *process) Wait() int { return p.code }
