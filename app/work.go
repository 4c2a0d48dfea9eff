package app

import (
	"context"
	"errors"
	"os"
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

// ClearHistory forgets the finished jobs.
func (h *host) ClearHistory(context.Context) error {
	if h.history == nil { // its folder cannot be used
		h.observers.History.Clear()
		return nil
	}
	return h.history.Clear()
}

// SaveKept writes a copy of a result that the studio did not take to a whole path.
func (h *host) SaveKept(_ context.Context, key, path string) error {
	if !filepath.IsAbs(path) {
		return errors.New("write the whole path, from the root of the disk")
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return errors.New("something of this name is there already: choose another name")
	}
	return h.worker.SaveKept(key, path)
}

// DiscardKept removes such a result.
func (h *host) DiscardKept(_ context.Context, key string) error { return h.worker.DiscardKept(key) }
