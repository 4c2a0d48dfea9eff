package logs

import (
	"context"
	"log/slog"
	"slices"

	"studioworker/worker/observe"
	"studioworker/worker/protocol"
)

// Handler words records and hands them to a ring and a queue, and keeps those
// about single jobs.
type Handler struct {
	ring      *observe.Ring[observe.LogEntry]
	queue     *Queue
	jobs      *jobLogs
	templates map[string]string

	attrs  []attr
	prefix string // of open groups, ends with a dot
}

// NewHandler returns a handler that feeds ring and queue.
func NewHandler(ring *observe.Ring[observe.LogEntry], queue *Queue) *Handler {
	return &Handler{ring: ring, queue: queue, jobs: new(jobLogs), templates: templates()}
}

// Enabled says whether records of the level may be kept: a job's log has details
// too.
func (h *Handler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelDebug }

// Handle keeps one record. It never blocks and never fails.
func (h *Handler) Handle(_ context.Context, r slog.Record) error {
	attrs := append(make([]attr, 0, len(h.attrs)+r.NumAttrs()), h.attrs...)
	r.Attrs(func(a slog.Attr) bool {
		attrs = flatten(attrs, h.prefix, a)
		return true
	})
	job := find(attrs, jobKey)
	if r.Level < slog.LevelInfo && job == "" {
		return nil
	}
	entry := observe.LogEntry{
		At: r.Time, Level: r.Level, JobID: job, Category: find(attrs, categoryKey),
		Message: words(r.Message, attrs, h.templates[r.Message]),
	}
	if entry.Category == "" {
		entry.Category = DefaultCategory
	}
	if job != "" {
		h.jobs.add(entry)
	}
	if r.Level >= slog.LevelInfo {
		h.ring.Add(entry)
		h.queue.Push(entry.At, wire(entry))
	}
	return nil
}

// WithAttrs returns a handler whose records carry attrs.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.attrs = slices.Clone(h.attrs)
	for _, a := range attrs {
		next.attrs = flatten(next.attrs, h.prefix, a)
	}
	return &next
}

// WithGroup returns a handler whose later attributes are in the group.
func (h *Handler) WithGroup(name string) slog.Handler {
	next := *h
	if name != "" {
		next.prefix += name + "."
	}
	return &next
}

// wire turns an entry into what is shipped (§8.5), but for its time.
func wire(e observe.LogEntry) protocol.LogEntry {
	level := protocol.LevelInfo
	switch {
	case e.Level >= slog.LevelError:
		level = protocol.LevelError
	case e.Level >= slog.LevelWarn:
		level = protocol.LevelWarn
	}
	return protocol.LogEntry{
		Level: level, Category: e.Category, Message: e.Message, JobID: e.JobID,
	}
}
