package ui

import (
	"context"

	"studioworker/worker/observe"
)

// WorkControls is what the window may ask about jobs and the log, in the manner of
// [Controls].
type WorkControls interface {
	// CancelJob stops the running job, if it is that one. The studio may give it to
	// another worker.
	CancelJob(id string)
	// FinishThenQuit takes no more jobs, lets the running one end however long it
	// takes, and then quits. Quit cuts that short.
	FinishThenQuit()
	// JobLog returns what is kept of a job's log, oldest first, and how many older
	// lines are gone. No lines and no error: nothing is kept of it.
	JobLog(ctx context.Context, id string) (lines []observe.LogEntry, dropped uint64, err error)
	// OlderLogs returns lines that were written to disk, oldest first.
	OlderLogs(ctx context.Context, q observe.LogQuery) ([]observe.LogEntry, error)
	// ClearHistory forgets the finished jobs, their prompts and thumbnails. Results stay
	// where they are.
	ClearHistory(ctx context.Context) error
	// SaveKept writes a copy of a result that the studio did not take to path, which
	// must not exist yet. key is [observe.KeptResult.Key].
	SaveKept(ctx context.Context, key, path string) error
	// DiscardKept removes such a result for good.
	DiscardKept(ctx context.Context, key string) error
}
