package logs

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"studioworker/worker/protocol"
)

// QueueCap is how many entries wait for the studio at most (§9).
const QueueCap = 5000

// Queue holds the entries that the studio has not got yet. When it is full the
// oldest go, and one marker line in front says how many. It is safe for
// concurrent use; one shipper at a time calls Take and Restore.
type Queue struct {
	mu      sync.Mutex
	entries []queued
	dropped int // since the last marker was taken
	taken   int // counted by the marker that the last Take handed out
}

// queued is an entry whose time is worded when it is taken: whoever logs does not
// wait for that, and entries that are dropped never need it.
type queued struct {
	protocol.LogEntry

	at time.Time
}

// Push appends an entry that was logged at the time. The newest entry always
// survives.
func (q *Queue) Push(at time.Time, e protocol.LogEntry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.entries) == cap(q.entries) && len(q.entries) >= QueueCap/2 {
		q.entries = slices.Grow(q.entries, QueueCap) // a full queue moves once in QueueCap lines
	}
	q.entries = append(q.entries, queued{e, at})
	q.clip()
}

// Take removes and returns the oldest entries: at most protocol.MaxLogBatchEntries,
// and at most about protocol.MaxLogBatch bytes when encoded.
func (q *Queue) Take() []protocol.LogEntry {
	q.mu.Lock()
	defer q.mu.Unlock()
	var batch []protocol.LogEntry
	if q.taken = q.dropped; q.dropped > 0 {
		batch = append(batch, marker(q.dropped))
		q.dropped = 0
	}
	size := 0
	for len(q.entries) > 0 && len(batch) < protocol.MaxLogBatchEntries {
		// Keys, quotes and escapes come on top of the texts.
		const overhead = 96
		e := q.entries[0].LogEntry
		if size += overhead + len(e.Message)*2 + len(e.Category) + len(e.JobID); size > protocol.MaxLogBatch && len(batch) > 0 {
			break
		}
		if e.TS == "" {
			e.TS = q.entries[0].at.UTC().Format(protocol.TimeFormat)
		}
		batch = append(batch, e)
		q.entries = q.entries[1:]
	}
	return batch
}

// Restore puts the batch that the last Take handed out, and that could not be
// sent, back in front of newer entries.
func (q *Queue) Restore(batch []protocol.LogEntry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.taken > 0 { // batch[0] is the marker: count on instead of keeping two
		q.dropped += q.taken
		q.taken, batch = 0, batch[1:]
	}
	back := make([]queued, len(batch), len(batch)+len(q.entries))
	for i, e := range batch {
		back[i].LogEntry = e
	}
	q.entries = append(back, q.entries...)
	q.clip()
}

// clip drops the oldest entries over the cap; the marker takes one place.
func (q *Queue) clip() {
	over := len(q.entries) - QueueCap
	if q.dropped > 0 || over > 0 {
		over++
	}
	if over > 0 {
		q.dropped += over
		q.entries = q.entries[over:]
	}
}

func marker(dropped int) protocol.LogEntry {
	return protocol.LogEntry{
		TS: time.Now().UTC().Format(protocol.TimeFormat), Level: protocol.LevelWarn, Category: "logs",
		Message: fmt.Sprintf("dropped %d log lines: the studio could not be reached in time", dropped),
	}
}
