package studio

import (
	"bytes"
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"studioworker/worker/protocol"
)

const (
	maxLogEntries = 1000      // kept of a worker
	maxLogText    = 4096      // characters kept of an entry
	maxLogBytes   = 128 << 20 // kept of all workers together; each has the same share when many send much
	logEntryBytes = 128       // what an entry needs besides its words
	logPatience   = 100 * time.Millisecond
)

// logBook keeps the newest log entries of each worker. A flood from many costs a
// bounded part of memory and of the processors: what is beyond is dropped and
// counted.
type logBook struct {
	turns chan struct{} // a seat for each batch that is being decoded

	mu      sync.Mutex
	rings   map[string]*logRing // by worker
	bytes   int
	dropped uint64 // entries of all workers since the start
}

func newLogBook() *logBook {
	return &logBook{
		turns: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), // the rest is for jobs
		rings: map[string]*logRing{},
	}
}

// logRing is what is kept of a worker.
type logRing struct {
	entries []protocol.LogEntry // from next on the oldest, then those before it
	next    int                 // where the next one goes once the ring is full
	bytes   int
	dropped uint64 // entries that came and are not kept
}

func weight(e protocol.LogEntry) int {
	return logEntryBytes + len(e.TS) + len(e.Level) + len(e.Category) + len(e.Message) + len(e.JobID)
}

// add keeps an entry, and drops the oldest when there are too many.
func (r *logRing) add(e protocol.LogEntry) {
	r.bytes += weight(e)
	if len(r.entries) < maxLogEntries && r.next == 0 {
		r.entries = append(r.entries, e)
		return
	}
	r.bytes -= weight(r.entries[r.next])
	r.dropped++
	r.entries[r.next] = e
	r.next = (r.next + 1) % len(r.entries)
}

// list returns the entries, oldest first.
func (r *logRing) list() []protocol.LogEntry {
	return slices.Concat(r.entries[r.next:], r.entries[:r.next])
}

// shrink drops the oldest entries until the ring has its share of memory.
func (r *logRing) shrink(share int) {
	if r.bytes <= share {
		return
	}
	entries := r.list()
	n := 0
	for ; n < len(entries)-1 && r.bytes > share; n++ {
		r.bytes -= weight(entries[n])
	}
	r.dropped += uint64(n) // #nosec G115 -- at most maxLogEntries
	r.entries, r.next = slices.Clone(entries[n:]), 0
}

// isLogBatch says whether a frame is a log batch, before it is decoded. One that
// does not look like it is taken as any other.
func isLogBatch(frame []byte) bool { return bytes.HasPrefix(frame, []byte(`{"type":"logBatch"`)) }

// enter waits for a turn to decode a batch; leave must follow. When none comes
// soon, the batch is dropped and counted undecoded, so that what the worker says
// of its job is not held up behind it.
func (b *logBook) enter(ctx context.Context, worker string, frame []byte) bool {
	select {
	case b.turns <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(logPatience)
	defer timer.Stop()
	select {
	case b.turns <- struct{}{}:
		return true
	case <-ctx.Done():
	case <-timer.C:
	}
	entries := uint64(bytes.Count(frame, []byte(`"message":`))) // #nosec G115 -- a count
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ring(worker).dropped += entries
	b.dropped += entries
	return false
}

func (b *logBook) leave() { <-b.turns }

// ring returns the worker's. The caller holds b.mu.
func (b *logBook) ring(worker string) *logRing {
	r := b.rings[worker]
	if r == nil {
		r = &logRing{}
		b.rings[worker] = r
	}
	return r
}

// keep stores entries of a worker.
func (b *logBook) keep(worker string, entries []protocol.LogEntry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.ring(worker)
	for _, e := range entries {
		b.change(r, func() { r.add(e) })
	}
	if b.bytes <= maxLogBytes {
		return
	}
	share := maxLogBytes / len(b.rings)
	if b.change(r, func() { r.shrink(share) }); b.bytes <= maxLogBytes {
		return
	}
	for _, r := range b.rings { // some have more than their share since there were fewer
		b.change(r, func() { r.shrink(share) })
	}
}

// change does something to a ring and keeps the sums. The caller holds b.mu.
func (b *logBook) change(r *logRing, do func()) {
	size, dropped := r.bytes, r.dropped
	do()
	b.bytes += r.bytes - size
	b.dropped += r.dropped - dropped
}

// of returns the entries kept of a worker, oldest first, and how many more came.
func (b *logBook) of(worker string) (entries []protocol.LogEntry, dropped uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.rings[worker]
	if r == nil {
		return nil, 0
	}
	return r.list(), r.dropped
}

// total returns how many entries of all workers were dropped.
func (b *logBook) total() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dropped
}

// forget removes what is kept of a worker.
func (b *logBook) forget(worker string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.rings[worker]; r != nil {
		b.bytes -= r.bytes
		delete(b.rings, worker)
	}
}

// keepLogs stores the log entries that a worker shipped (§3.13.13).
func (h *hub) keepLogs(worker string, entries []protocol.LogEntry) {
	for i := range entries {
		e := &entries[i]
		e.Message, e.Category, e.TS, e.JobID = clip(e.Message, maxLogText), clip(e.Category, maxName), clip(e.TS, maxName), clip(e.JobID, maxName)
	}
	h.storeLogs(worker, entries)
	h.tellOthers(topicLogs, worker, logMessage{Process: h.process, Entries: entries})
}

func (h *hub) storeLogs(worker string, entries []protocol.LogEntry) {
	h.logs.keep(worker, entries)
	h.changes.touch(changedLogs)
}
