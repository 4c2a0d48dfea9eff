package logs

import (
	"context"
	"log/slog"
	"slices"
	"sync"

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
	lines     *sync.Pool // of *line, for use again

	line  line   // of the attributes so far
	attrs []attr // the same, for templates
	open  string // groups, ends with a dot
}

// NewHandler returns a handler that feeds ring and queue.
func NewHandler(ring *observe.Ring[observe.LogEntry], queue *Queue) *Handler {
	return &Handler{ring: ring, queue: queue, jobs: new(jobLogs), templates: templates(), lines: &sync.Pool{New: func() any { return new(line) }}}
}

// Enabled says whether records of the level may be kept: a job's log has details
// too.
func (h *Handler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelDebug }

// maxPooled is how long a line may have been, in bytes, for its memory to be kept for the next.
const maxPooled = 16 << 10

// Handle keeps one record. It never blocks and never fails.
func (h *Handler) Handle(_ context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo && h.line.job == "" && !namesJob(h.open, r) {
		return nil
	}
	l := h.lines.Get().(*line)
	defer func() {
		if cap(l.text) <= maxPooled {
			h.lines.Put(l)
		}
	}()
	l.text = append(append(l.text[:0], r.Message...), h.line.text...)
	l.job, l.category = h.line.job, h.line.category
	if template := h.templates[r.Message]; template != "" {
		h.fill(l, template, r)
	} else {
		r.Attrs(func(a slog.Attr) bool {
			l.add(h.open, a)
			return true
		})
	}
	entry := observe.LogEntry{At: r.Time, Level: r.Level, JobID: l.job, Category: l.category, Message: oneLine(l.text)}
	if entry.Category == "" {
		entry.Category = DefaultCategory
	}
	if entry.JobID != "" {
		h.jobs.add(entry)
	}
	if r.Level >= slog.LevelInfo {
		h.ring.Add(entry)
		h.queue.Push(entry.At, wire(entry))
	}
	return nil
}

// fill words a record by its template.
func (h *Handler) fill(l *line, template string, r slog.Record) {
	attrs := append(make([]attr, 0, len(h.attrs)+r.NumAttrs()), h.attrs...)
	r.Attrs(func(a slog.Attr) bool {
		attrs = flatten(attrs, h.open, a)
		return true
	})
	l.text = append(l.text[:0], words(r.Message, attrs, template)...)
	l.job, l.category = find(attrs, jobKey), find(attrs, categoryKey)
}

// namesJob says whether a record names its job.
func namesJob(open string, r slog.Record) (named bool) {
	r.Attrs(func(a slog.Attr) bool {
		named = open == "" && a.Key == jobKey || a.Value.Kind() == slog.KindGroup || a.Value.Kind() == slog.KindLogValuer
		return !named
	})
	return named
}

// WithAttrs returns a handler whose records carry attrs.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.line.text, next.attrs = slices.Clone(h.line.text), slices.Clone(h.attrs)
	for _, a := range attrs {
		next.line.add(h.open, a)
		next.attrs = flatten(next.attrs, h.open, a)
	}
	return &next
}

// WithGroup returns a handler whose later attributes are in the group.
func (h *Handler) WithGroup(name string) slog.Handler {
	next := *h
	if name != "" {
		next.open += name + "."
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
