package logs

import (
	"sync"
	"unicode/utf8"

	"studioworker/worker/observe"
)

// What is kept of single jobs, in memory (§9).
const (
	JobsCap      = 128  // jobs; the one that began first goes first
	JobLinesCap  = 400  // lines of a job; the oldest go first
	JobLineChars = 2000 // characters of a line
	maxJobID     = 512  // bytes; a longer id is nobody's name for a job
)

// jobLogs keeps the lines of the last jobs, debug records too.
type jobLogs struct {
	mu    sync.Mutex
	byID  map[string]*observe.Ring[observe.LogEntry]
	order []string // the job that began first comes first
}

func (j *jobLogs) add(e observe.LogEntry) {
	if len(e.JobID) > maxJobID {
		return
	}
	e.Message = cut(e.Message, JobLineChars)
	j.mu.Lock()
	defer j.mu.Unlock()
	lines := j.byID[e.JobID]
	if lines == nil {
		if len(j.order) == JobsCap {
			delete(j.byID, j.order[0])
			j.order = j.order[1:]
		}
		if j.byID == nil {
			j.byID = make(map[string]*observe.Ring[observe.LogEntry])
		}
		lines = observe.NewRing[observe.LogEntry](JobLinesCap)
		j.byID[e.JobID] = lines
		j.order = append(j.order, e.JobID)
	}
	lines.Add(e)
}

// JobLines returns what was logged about a job, oldest first, and how many older
// lines were dropped. It is false for a job that nothing is kept of.
func (h *Handler) JobLines(id string) (lines []observe.LogEntry, dropped uint64, ok bool) {
	h.jobs.mu.Lock()
	defer h.jobs.mu.Unlock()
	kept, ok := h.jobs.byID[id]
	if !ok {
		return nil, 0, false
	}
	lines, last := kept.Since(0)
	return lines, last - uint64(len(lines)), true
}

// cut shortens a text to that many characters.
func cut(text string, chars int) string {
	if len(text) <= chars || utf8.RuneCountInString(text) <= chars {
		return text
	}
	n := 0
	for i := range text {
		if n == chars-1 {
			return text[:i] + "…"
		}
		n++
	}
	return text
}
