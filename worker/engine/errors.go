package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path"
	"regexp"
	"strings"
	"sync"

	"studioworker/worker/engine/process"
	"studioworker/worker/oneline"
)

// Class says what sort of failure ended a job (engines spec §11).
type Class string

// The failure classes that our engines use.
const (
	ClassUnsupportedKind    Class = "unsupported_kind"
	ClassBadInput           Class = "bad_input"
	ClassInputUnreachable   Class = "input_unreachable"
	ClassInputGone          Class = "input_gone"
	ClassModelUnavailable   Class = "model_unavailable"
	ClassModelCorrupt       Class = "model_corrupt" // fetched anew, and bad again
	ClassEngineMissing      Class = "engine_missing"
	ClassGPURuntime         Class = "gpu_runtime"
	ClassInsufficientMemory Class = "insufficient_memory"
	ClassOutOfMemory        Class = "out_of_memory"
	ClassEngineCrash        Class = "engine_crash"
	ClassTimeout            Class = "timeout"
	ClassInternal           Class = "internal"
	ClassCancelled          Class = "cancelled"
)

// textLimit is the length of an error text in characters (engines spec §11).
const textLimit = 500

// Error is a failed job: its class, the engine it failed in, and the cause.
type Error struct {
	Class Class
	// Engine is empty in an error that an engine returns; the router fills it.
	Engine ID
	Err    error
	// dir is the job's folder, which the text must not show.
	dir string
}

// Error returns one line of at most 500 characters, without local folders and
// without the query of any URL.
func (e *Error) Error() string {
	text := e.Err.Error()
	if e.Engine != "" && !strings.HasPrefix(text, string(e.Engine)) {
		text = string(e.Engine) + ": " + text
	}
	return cleanText(text, e.dir)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// MemoryError says that a model does not fit into the memory that is free now
// (engines spec §12). Its numbers are in GiB.
type MemoryError struct{ Needed, Free, Margin float64 }

func (e *MemoryError) Error() string {
	return fmt.Sprintf("insufficient memory: needs %.2f GiB, %.2f GiB free (%.2f GiB kept in reserve)", e.Needed, e.Free, e.Margin)
}

// UnsupportedKind is the error of an engine that is asked for a kind it does
// not serve (protocol spec §8.3).
func UnsupportedKind(id ID, kind Kind) error {
	return &Error{Class: ClassUnsupportedKind, Err: fmt.Errorf("%s engine cannot serve %s tasks", id, kind)}
}

// BadInput is the error of a job that no engine could do, with its reason.
func BadInput(reason string) error {
	return &Error{Class: ClassBadInput, Err: errors.New(reason)}
}

// ChildError gives an error of process.Run its class. Anything that is not
// about the child itself, such as the cause of a cancelled context, is
// returned as it is.
func ChildError(err error) error {
	if _, ok := errors.AsType[*process.StartError](err); ok {
		return &Error{Class: ClassEngineMissing, Err: err}
	}
	if _, ok := errors.AsType[*process.LimitError](err); ok {
		return &Error{Class: ClassTimeout, Err: err}
	}
	exit, ok := errors.AsType[*process.ExitError](err)
	if !ok {
		return err
	}
	switch exit.Reason {
	case process.ReasonMemory:
		return &Error{Class: ClassOutOfMemory, Err: err}
	case process.ReasonLibrary:
		return &Error{Class: ClassEngineMissing, Err: err}
	case process.ReasonCrash, process.ReasonCode:
		return &Error{Class: ClassEngineCrash, Err: err}
	default:
		return &Error{Class: ClassInternal, Err: err}
	}
}

// Retryable tells whether another attempt, here or elsewhere, may succeed. It
// is the one place that decides this. A wrapped error keeps its answer.
func Retryable(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return true // unknown: disk, network, cancelled; the reference retries
	}
	switch e.Class {
	case ClassUnsupportedKind, // no worker's engine of this name serves the kind
		ClassBadInput,     // the job itself is wrong
		ClassInputGone,    // 404 or 410: nobody has it any more
		ClassModelCorrupt: // what is published is bad, for every worker
		return false
	case ClassInputUnreachable, // a server that may come back, or a signature that ran out
		ClassModelUnavailable,   // the same for a model
		ClassEngineMissing,      // another worker may have it
		ClassGPURuntime,         // the same for a driver
		ClassInsufficientMemory, // may fit elsewhere, or later
		ClassOutOfMemory,        // the same
		ClassEngineCrash,
		ClassTimeout,
		ClassInternal,
		ClassCancelled: // the job was stopped, not refused
		return true
	default:
		return true
	}
}

// classify wraps what an engine returned: it keeps a class that is there and
// finds one where there is none.
func classify(ctx context.Context, req Request, err error) error {
	class := ClassInternal
	if e, ok := errors.AsType[*Error](err); ok {
		class = e.Class
	} else if ctx.Err() != nil {
		class = ClassCancelled
		err = fmt.Errorf("cancelled: %w", context.Cause(ctx))
	}
	return &Error{Class: class, Engine: req.Source.Engine, Err: err, dir: req.Dir}
}

// localFolder matches the folder part of an absolute path, with the character
// before it.
var localFolder = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(^|["'(\[=,:])(?:[A-Za-z]:[\\/]|\\\\|~?/)(?:[^"'()\[\],:;\\/]+[\\/])*`)
})

// cleanText makes one line of at most textLimit characters out of text. Local
// paths lose their folders, URLs their query and their credentials.
func cleanText(text, dir string) string {
	if len(dir) > 1 {
		text = strings.ReplaceAll(text, dir, "")
	}
	words := strings.Split(oneline.Of(text, math.MaxInt), " ")
	for i, word := range words {
		if strings.Contains(word, "://") {
			words[i] = cleanURL(word)
		} else {
			words[i] = localFolder().ReplaceAllString(word, "$1")
		}
	}
	return cut(strings.Join(words, " "), textLimit)
}

// cut shortens text to limit characters and marks what it cut.
func cut(text string, limit int) string {
	runes := []rune(text)
	if len(runes) <= limit {
		return text
	}
	return string(runes[:limit-1]) + "…"
}

// cleanURL cuts the query, the fragment and the credentials off a word that
// holds a URL. Of a file URL only the base name stays.
func cleanURL(word string) string {
	if at := strings.IndexAny(word, "?#"); at >= 0 {
		word = word[:at]
	}
	scheme, rest, _ := strings.Cut(word, "://")
	if strings.HasSuffix(strings.ToLower(scheme), "file") {
		return path.Base(rest)
	}
	host, tail, slash := strings.Cut(rest, "/")
	if at := strings.LastIndex(host, "@"); at >= 0 {
		host = host[at+1:]
	}
	if slash {
		tail = "/" + tail
	}
	return scheme + "://" + host + tail
}
