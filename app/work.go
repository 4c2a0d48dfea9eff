package app

import (
	"context"
	"errors"
	"path/filepath"

	"studioworker/worker/logs"
	"studioworker/worker/observe"
)

// The methods below are the window's Controls of jobs and logs.

// CancelJob stops the running job, if it is that one.
func (h *host) CancelJob(id string) { h.worker.CancelJob(id) }

// FinishThenQuit takes no more jobs and stops the program when the running one has
// ended.
func (h *host) FinishThenQuit() { h.endOnce.Do(func() { close(h.finish) }) }

// JobLog returns what was logged about a job: in full for the last ones of this
// run, else what the files still have.
func (h *host) JobLog(ctx context.Context, id string) (lines []observe.LogEntry, dropped uint64, err error) {
	lines, dropped, ok := h.logs.JobLines(id)
	if ok {
		return lines, dropped, nil
	}
	lines, err = h.OlderLogs(ctx, observe.LogQuery{JobID: id, Limit: logs.JobLinesCap})
	return lines, 0, err
}

// OlderLogs returns lines of the log files beside the config.
func (h *host) OlderLogs(ctx context.Context, q observe.LogQuery) ([]observe.LogEntry, error) {
	return logs.NewArchive(filepath.Dir(h.path)).Read(ctx, q)
}

// errKept: the worker has no way yet to hand out what it keeps.
var errKept = errors.New("kept results cannot be changed from here yet: they lie in outbox/kept beside the config")

// SaveKept writes a copy of a result that the studio did not take.
func (h *host) SaveKept(context.Context, string, string) error { return errKept }

// DiscardKept removes such a result.
func (h *host) DiscardKept(context.Context, string) error { return errKept }
