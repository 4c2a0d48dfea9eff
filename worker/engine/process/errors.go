package process

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// StartError says that a child could not be started.
type StartError struct {
	// Program is the base name of the program.
	Program string
	Err     error
}

func (e *StartError) Error() string { return fmt.Sprintf("start %s: %v", e.Program, e.Err) }

// Unwrap returns the cause.
func (e *StartError) Unwrap() error { return e.Err }

// LimitError says that a child was stopped for a time limit.
type LimitError struct {
	// Program is the base name of the program.
	Program string
	Limit   time.Duration
	// Stalled is true when the limit was one on silence, not on the whole run.
	Stalled bool
}

func (e *LimitError) Error() string {
	if e.Stalled {
		return fmt.Sprintf("%s timed out after %v without output", e.Program, e.Limit)
	}
	return fmt.Sprintf("%s timed out after %v", e.Program, e.Limit)
}

// Reason says why a child ended badly.
type Reason string

// The reasons.
const (
	ReasonCode    Reason = "code"    // it chose an exit code other than 0
	ReasonCrash   Reason = "crash"   // a signal or an exception ended it
	ReasonMemory  Reason = "memory"  // the system killed it for memory
	ReasonLibrary Reason = "library" // the loader did not find a library
)

// ExitError says how a child ended that nobody had asked to stop.
type ExitError struct {
	// Program is the base name of the program.
	Program string
	Reason  Reason
	// Detail says the reason in plain words.
	Detail string
	// Code is the exit code, or -1 after a signal.
	Code int
	// LastLine is the last line of standard error, else of standard output. It
	// may be empty.
	LastLine string
}

func (e *ExitError) Error() string {
	if e.LastLine == "" {
		return e.Program + " " + e.Detail
	}
	return e.Program + " " + e.Detail + ": " + e.LastLine
}

// exitError words the end of a child.
func exitError(program string, state *os.ProcessState, out Output) *ExitError {
	code, signal := ending(state)
	reason, detail := explain(code, signal, out.Stderr)
	last := lastLine(out.Stderr)
	if last == "" {
		last = lastLine(out.Stdout)
	}
	return &ExitError{Program: program, Reason: reason, Detail: detail, Code: code, LastLine: last}
}

// Exit codes with a meaning of their own.
const (
	codeLoader       = 127        // the loader, or a shell that found no program
	codeKilled       = 128 + 9    // a shell whose child got SIGKILL
	codeWinLibrary   = 0xC0000135 // STATUS_DLL_NOT_FOUND
	codeWinEntry     = 0xC0000139 // STATUS_ENTRYPOINT_NOT_FOUND
	codeWinAccess    = 0xC0000005 // STATUS_ACCESS_VIOLATION
	codeWinMemory    = 0xC0000017 // STATUS_NO_MEMORY
	codeWinStackFull = 0xC00000FD // STATUS_STACK_OVERFLOW
)

// explain gives the reason for an exit code or, when it is not empty, for the
// name of a signal, and the reason in words.
func explain(code int, signal, stderr string) (Reason, string) {
	switch {
	case signal == "killed", code == codeKilled:
		return ReasonMemory, "was killed, most likely for memory"
	case strings.Contains(stderr, "error while loading shared libraries"),
		strings.Contains(stderr, "Library not loaded"),
		code == codeLoader && strings.Contains(stderr, "GLIBC"),
		int64(code) == codeWinLibrary, int64(code) == codeWinEntry:
		return ReasonLibrary, "lacks a library"
	case signal != "":
		return ReasonCrash, "crashed (" + signal + ")"
	case int64(code) == codeWinAccess:
		return ReasonCrash, "crashed (access violation)"
	case int64(code) == codeWinStackFull:
		return ReasonCrash, "crashed (stack overflow)"
	case int64(code) == codeWinMemory:
		return ReasonMemory, "ran out of memory"
	default:
		return ReasonCode, fmt.Sprintf("ended with code %d", code)
	}
}

// lastLine returns the last line of a kept tail.
func lastLine(tail string) string {
	tail = strings.TrimRight(tail, "\n")
	return strings.TrimSpace(tail[strings.LastIndexByte(tail, '\n')+1:])
}
