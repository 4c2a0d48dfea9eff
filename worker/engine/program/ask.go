package program

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"studioworker/worker/engine"
	"studioworker/worker/engine/process"
)

// askLimit is how long a program may take to say what it is (engines spec §2.1).
const askLimit = 10 * time.Second

// Answer is what a program said to a question such as --version.
type Answer struct {
	Output process.Output
	// Err is an error of process.Run, never that of a context.
	Err error
}

// OK tells whether the program ended well.
func (a Answer) OK() bool { return a.Err == nil }

// Text is all that the program said, standard output first.
func (a Answer) Text() string { return a.Output.Stdout + a.Output.Stderr }

// Asker remembers what programs said. The zero Asker is ready. It is safe for
// concurrent use.
type Asker struct {
	mu    sync.Mutex
	known map[question]Answer
}

// question is one question to one state of a file.
type question struct {
	path, args string
	size       int64
	changed    time.Time
}

// Ask runs a program with a few arguments and returns what it said. It asks
// once until the file changes; a program that could not be asked in time is
// asked again. The error is the cause of ctx.
func (a *Asker) Ask(ctx context.Context, places Places, path string, args ...string) (Answer, error) {
	a.mu.Lock()
	defer a.mu.Unlock() // also holds back others who ask the same
	key := question{path: path, args: strings.Join(args, "\x00")}
	if info, err := os.Stat(path); err == nil {
		key.size, key.changed = info.Size(), info.ModTime()
	}
	if answer, ok := a.known[key]; ok {
		return answer, nil
	}
	out, err := process.Run(ctx, process.Config{
		Path: path, Args: args, Dir: filepath.Dir(path), Env: places.Environment(path), WallLimit: askLimit,
	})
	if ctx.Err() != nil {
		return Answer{}, context.Cause(ctx)
	}
	answer := Answer{Output: out, Err: err}
	if _, late := errors.AsType[*process.LimitError](err); !late {
		if a.known == nil {
			a.known = map[question]Answer{}
		}
		a.known[key] = answer
	}
	return answer, nil
}

// Problem says in words why a program cannot run here, and what mends it. Both
// are empty when the answer shows that it runs, whatever it made of the
// question.
func (a Answer) Problem() (problem, fix string) {
	if a.Err == nil {
		return "", ""
	}
	if _, ok := errors.AsType[*process.StartError](a.Err); ok {
		return "it cannot be started: " + a.Err.Error(), "install a build for this system"
	}
	text := a.Text()
	switch {
	case strings.Contains(text, "GLIBC_"), strings.Contains(text, "GLIBCXX_"):
		return "this system is too old for this build", "install a build made for this system"
	case strings.Contains(text, "libvulkan.so"):
		return "the Vulkan loader is missing", VulkanFix
	}
	exit, ok := errors.AsType[*process.ExitError](a.Err)
	if ok && exit.Reason == process.ReasonLibrary {
		return "it lacks a library: " + exit.LastLine, "install the missing library"
	}
	if ok && exit.Reason == process.ReasonCode {
		return "", "" // it runs, and does not know the question
	}
	return a.Err.Error(), "install it anew"
}

// VulkanFix is what mends a missing Vulkan loader on Linux (engines spec §4.3).
const VulkanFix = "install libvulkan1, mesa-vulkan-drivers and the driver of the graphics card, then check with: vulkaninfo --summary"

// Missing is the error of a job whose program is not there or cannot run.
func Missing(problem, fix string) error {
	return &engine.Error{Class: engine.ClassEngineMissing, Err: errors.New(problem + "; " + fix)}
}
