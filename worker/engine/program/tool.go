package program

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// Tool is the program of one engine: where it is, what it is, and how it gets
// here. Its methods are safe for concurrent use.
type Tool struct {
	Places Places
	// Query says where to look; it is asked each time, since the models folder may
	// change.
	Query func() Query
	// Ask are the arguments on which the program says its version.
	Ask []string
	// Version reads the version out of what the program said; nil takes the first
	// line.
	Version func(text string) string
	// Pinned, when set, says whether a version is the one that this worker was made
	// for. It decides over a program that the person did not put there for us.
	Pinned func(version string) bool
	// Fetch brings the pinned release here and returns the path of the program. Nil
	// when this program is never fetched.
	Fetch func(ctx context.Context) (string, error)
	// Fix is the step that installs the program by hand.
	Fix string
	Log *slog.Logger

	finder Finder
	asker  Asker
	fetch  sync.Mutex // one resolution at a time (engines spec §4.1)
	told   sync.Map   // warnings that were given, by text
}

// State is what is known of a tool.
type State struct {
	Found
	Version string // empty = unknown
	Problem string // why it cannot run, in one line; empty = it can
	Fix     string // the step that mends the problem
}

// Runs tells whether the program is there and can run.
func (s State) Runs() bool { return s.Path != "" && s.Problem == "" }

// Now looks for the program and asks it what it is, once for as long as its file
// does not change. It fetches nothing, and looks as a [Finder] does. The error is
// the cause of ctx.
func (t *Tool) Now(ctx context.Context) (State, error) {
	q := t.Query()
	found, ok := t.finder.Find(t.Places, q)
	if !ok {
		return State{Problem: q.Name + " is not installed", Fix: t.Fix}, nil
	}
	answer, err := t.asker.Ask(ctx, t.Places, found.Path, t.Ask...)
	if err != nil {
		return State{}, err
	}
	state := State{Found: found}
	if problem, fix := answer.Problem(); problem != "" {
		state.Problem, state.Fix = q.Name+": "+problem, fix
		return state, nil
	}
	state.Version = t.version(answer.Text())
	return state, nil
}

// version reads the version out of an answer.
func (t *Tool) version(text string) string {
	if t.Version != nil {
		return t.Version(text)
	}
	line, _, _ := strings.Cut(text, "\n")
	return strings.TrimSpace(line)
}

// Says asks the program a further question, once for as long as its file does
// not change, and returns all that it said. The error is the cause of ctx.
func (t *Tool) Says(ctx context.Context, path string, args ...string) (string, error) {
	answer, err := t.asker.Ask(ctx, t.Places, path, args...)
	return answer.Text(), err
}

// Ready returns the path of a program that runs. It fetches the pinned release
// when there is none, and when the one that was found is another (engines spec
// §4.1); one that was found is better than nothing. The error is one for a job.
func (t *Tool) Ready(ctx context.Context) (string, error) {
	t.fetch.Lock()
	defer t.fetch.Unlock()
	t.finder.Forget() // somebody may just have installed it for this job
	state, err := t.Now(ctx)
	if err != nil {
		return "", err
	}
	foreign := t.Pinned != nil && state.Runs() && !t.Pinned(state.Version)
	mine := state.Origin == OriginVariable || state.Origin == OriginSlot
	switch {
	case state.Runs() && (!foreign || mine || t.Fetch == nil):
		if foreign && t.first("foreign "+state.Path+state.Version) {
			t.Log.Warn("the program is not the release that this worker was made for", "program", state.Path, "version", state.Version)
		}
		return state.Path, nil
	case t.Fetch == nil || state.Origin == OriginVariable: // the person named it: another one is not what they want
		return "", Missing(state.Problem, state.Fix)
	}
	path, err := t.Fetch(ctx)
	switch {
	case err == nil:
		return path, nil
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case state.Runs():
		t.Log.Warn("the pinned release could not be fetched; another one runs", "program", state.Path, "version", state.Version, "error", err)
		return state.Path, nil
	default:
		return "", fmt.Errorf("fetch %s: %w", t.Query().Name, err)
	}
}

// first tells whether a warning was not given yet.
func (t *Tool) first(about string) bool {
	_, again := t.told.LoadOrStore(about, true)
	return !again
}
