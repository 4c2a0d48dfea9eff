package studio

import (
	"slices"

	"studioworker/worker/protocol"
)

const (
	maxLogEntries = 1000 // kept of a worker
	maxLogText    = 4096 // characters kept of an entry
)

// logRing keeps the newest log entries of a worker.
type logRing struct {
	entries []protocol.LogEntry
	next    int // where the next one goes once the ring is full
}

func (r *logRing) add(e protocol.LogEntry) {
	if len(r.entries) < maxLogEntries {
		r.entries = append(r.entries, e)
		return
	}
	r.entries[r.next] = e
	r.next = (r.next + 1) % maxLogEntries
}

// keepLogs stores the log entries that a worker shipped (§3.13.13).
func (h *hub) keepLogs(worker string, entries []protocol.LogEntry) {
	for i := range entries { // before the lock: a flood holds nobody up
		e := &entries[i]
		e.Message, e.Category, e.TS, e.JobID = clip(e.Message, maxLogText), clip(e.Category, maxName), clip(e.TS, maxName), clip(e.JobID, maxName)
	}
	h.storeLogs(worker, entries)
	h.tellOthers(topicLogs, worker, logMessage{Process: h.process, Entries: entries})
}

func (h *hub) storeLogs(worker string, entries []protocol.LogEntry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	ring := h.logs[worker]
	if ring == nil {
		ring = &logRing{}
		h.logs[worker] = ring
	}
	h.changes.touch(changedLogs)
	for _, e := range entries {
		ring.add(e)
	}
}

// workerLogs returns the entries kept of a worker, oldest first.
func (h *hub) workerLogs(worker string) []protocol.LogEntry {
	h.mu.Lock()
	defer h.mu.Unlock()
	ring := h.logs[worker]
	if ring == nil {
		return nil
	}
	return slices.Concat(ring.entries[ring.next:], ring.entries[:ring.next])
}
