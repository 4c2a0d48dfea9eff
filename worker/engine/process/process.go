package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

// Grace is how long a child may take to stop after it was asked to, before its
// group is killed: a second (engines spec §2), less what the kill itself takes, so
// that all of a tree is gone within the second (reliability guide §7.3, row 17).
const Grace = 900 * time.Millisecond

// Config says what to run and within which limits.
type Config struct {
	// Path is the program, absolute or relative to the worker.
	Path string
	// Args are its arguments, without the program itself.
	Args []string
	// Dir is the working folder; empty means the worker's own.
	Dir string
	// Env is the whole environment of the child; see Environment.
	Env []string
	// OnLine, when set, is called with each line as it comes, by one goroutine
	// at a time. It must not block: the child waits meanwhile.
	OnLine func(Stream, string)
	// WallLimit bounds the whole run. It must be above 0, or 0 for a Resident.
	WallLimit time.Duration
	// Resident says that the child serves until ctx ends: there is no wall limit.
	Resident bool
	// OnStart, when set, is called once the child runs, with its process id.
	OnStart func(pid int)
	// Stdin is a file that the child reads; empty means nothing.
	Stdin string
	// StallLimit bounds the time without any output; 0 means no such limit.
	StallLimit time.Duration
}

// Output is what is kept of a child's output.
type Output struct {
	// Stdout and Stderr are the last lines of each, at most TailLimit bytes.
	Stdout, Stderr string
	// Dropped counts the bytes that are not kept, over both.
	Dropped int64
}

// Run starts the child and blocks until its whole process group is gone.
//
// The error is nil only when the child ended with code 0. It is a *StartError
// when the child could not be started, a *LimitError when it was stopped for a
// limit, the cause of ctx when it was stopped for that, and otherwise an
// *ExitError. A child that ends with code 0 although it was asked to stop
// counts as stopped.
func Run(ctx context.Context, cfg Config) (Output, error) {
	if cfg.Path == "" || cfg.WallLimit < 0 || (cfg.WallLimit == 0) != cfg.Resident || cfg.StallLimit < 0 {
		return Output{}, errors.New("run child: a path is required, and a wall limit above 0 unless it is resident")
	}
	name := filepath.Base(cfg.Path)
	if ctx.Err() != nil {
		return Output{}, context.Cause(ctx)
	}

	// The parent-death signal is tied to the thread that starts the child, so
	// this thread must live as long as the child does.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if !cfg.Resident {
		wall := time.AfterFunc(cfg.WallLimit, func() {
			cancel(&LimitError{Program: name, Limit: cfg.WallLimit})
		})
		defer wall.Stop()
	}
	heard := func() {}
	if cfg.StallLimit > 0 {
		stall := time.AfterFunc(cfg.StallLimit, func() {
			cancel(&LimitError{Program: name, Limit: cfg.StallLimit, Stalled: true})
		})
		defer stall.Stop()
		heard = func() { stall.Reset(cfg.StallLimit) }
	}

	var (
		lines  sync.Mutex // OnLine hears one stream at a time
		broken error      // OnLine panicked
	)
	reader := func(s Stream) *splitter {
		return newSplitter(heard, func(line string) {
			lines.Lock()
			defer lines.Unlock()
			if cfg.OnLine == nil || broken != nil {
				return
			}
			// This runs in a goroutine of os/exec, where a panic would end the
			// worker.
			defer func() {
				if v := recover(); v != nil {
					broken = fmt.Errorf("read output of %s: panic: %v", name, v)
					cancel(broken)
				}
			}()
			cfg.OnLine(s, line)
		})
	}
	stdout, stderr := reader(Stdout), reader(Stderr)

	cmd := exec.CommandContext(ctx, cfg.Path, cfg.Args...) //nolint:gosec // engines pass a found program and a list, never a shell line
	cmd.Dir = cfg.Dir
	cmd.Env = cfg.Env
	if cmd.Env == nil {
		cmd.Env = []string{} // nil would mean the worker's own
	}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if cfg.Stdin != "" {
		input, err := os.Open(cfg.Stdin)
		if err != nil {
			return Output{}, fmt.Errorf("open the input of %s: %w", name, err)
		}
		defer func() { _ = input.Close() }() // only read, and by the child
		cmd.Stdin = input
	}
	cmd.WaitDelay = Grace
	group := &group{}
	cmd.SysProcAttr = group.attributes()
	cmd.Cancel = func() error { return group.ask(cmd.Process.Pid) }

	if err := cmd.Start(); err != nil {
		return Output{}, &StartError{Program: name, Err: err}
	}
	group.watch(cmd.Process.Pid, func(err error) {
		cancel(&StartError{Program: name, Err: err})
	})
	if cfg.OnStart != nil {
		cfg.OnStart(cmd.Process.Pid)
	}
	group.awaitLeader()
	err := cmd.Wait()
	group.finish()

	out := Output{
		Stdout:  stdout.finish(),
		Stderr:  stderr.finish(),
		Dropped: stdout.dropped + stderr.dropped,
	}
	switch {
	case broken != nil:
		return out, broken
	case err == nil:
		return out, nil
	case ctx.Err() != nil:
		return out, context.Cause(ctx) // why we stopped it outranks how it died
	case errors.Is(err, exec.ErrWaitDelay):
		return out, nil // it ended well; something outside its group held the pipe
	default:
		return out, exitError(name, cmd.ProcessState, out)
	}
}
