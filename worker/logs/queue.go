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
// concurrent use; one shipper at a time calls Take and Restore. The zero Queue
// is empty.
type Queue struct {
	mu      sync.Mutex
	entries []queued // circular: n of them from first on
	first   int
	n       int
	dropped int           // since the last marker was taken
	taken   int           // counted by the marker that the last Take handed out
	ready   chan struct{} // room for one: a whole batch waits
}

// queued is an entry whose time is worded when it is taken: whoever logs does not
// wait for that, and entries that are dropped never need it.
type queued struct {
	protocol.LogEntry

	at time.Time
}

// Ready returns a channel that gets a value when a whole batch waits: who ships
// need not wait any longer.
func (q *Queue) Ready() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.signal()
}

// signal returns the channel of Ready. Callers hold mu.
func (q *Queue) signal() chan struct{} {
	if q.ready == nil {
		q.ready = make(chan struct{}, 1)
	}
	return q.ready
}

// Push appends an entry that was logged at the time. The newest entry always
// survives.
func (q *Queue) Push(at time.Time, e protocol.LogEntry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.n >= q.limit() {
		q.drop()
	}
	if q.n == len(q.entries) {
		q.grow()
	}
	slot := &q.entries[q.at(q.n)]
	slot.LogEntry, slot.at = e, at
	q.n++
	if q.n >= protocol.MaxLogBatchEntries {
		select {
		case q.signal() <- struct{}{}:
		default: // the shipper has not looked yet
		}
	}
}

// limit is how many entries there may be: the marker takes one place.
func (q *Queue) limit() int {
	if q.dropped > 0 || q.n == QueueCap {
		return QueueCap - 1
	}
	return QueueCap
}

// drop removes the oldest entry for good.
func (q *Queue) drop() {
	q.pop()
	q.dropped++
}

// pop removes and returns the oldest entry.
func (q *Queue) pop() queued {
	oldest := q.entries[q.first]
	q.entries[q.first] = queued{}
	q.first = q.at(1)
	q.n--
	return oldest
}

// at returns where the i-th oldest entry lies.
func (q *Queue) at(i int) int {
	if i += q.first; i >= len(q.entries) {
		i -= len(q.entries)
	}
	return i
}

// grow makes room for more entries.
func (q *Queue) grow() {
	larger := make([]queued, min(max(64, 2*len(q.entries)), QueueCap))
	for i := range q.n {
		larger[i] = q.entries[q.at(i)]
	}
	q.entries, q.first = larger, 0
}

// Take removes and returns the oldest entries: at most protocol.MaxLogBatchEntries,
// and at most about protocol.MaxLogBatch bytes when encoded.
func (q *Queue) Take() []protocol.LogEntry {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.taken = q.dropped
	if q.n == 0 && q.dropped == 0 {
		return nil
	}
	batch := make([]protocol.LogEntry, 0, min(q.n+1, protocol.MaxLogBatchEntries))
	if q.dropped > 0 {
		batch = append(batch, marker(q.dropped))
		q.dropped = 0
	}
	size := 0
	for q.n > 0 && len(batch) < protocol.MaxLogBatchEntries {
		// Keys, quotes and escapes come on top of the texts.
		const overhead = 96
		e := &q.entries[q.first]
		if size += overhead + len(e.Message)*2 + len(e.Category) + len(e.JobID); size > protocol.MaxLogBatch && len(batch) > 0 {
			break
		}
		oldest := q.pop()
		if oldest.TS == "" {
			oldest.TS = oldest.at.UTC().Format(protocol.TimeFormat)
		}
		batch = append(batch, oldest.LogEntry)
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
	if over := q.n + len(batch) - QueueCap; q.dropped > 0 || over > 0 {
		over = max(0, over+1)
		gone := min(over, len(batch)) // the newer ones stay
		batch = batch[gone:]
		q.dropped += gone
	}
	for _, e := range slices.Backward(batch) {
		if q.n == len(q.entries) {
			q.grow()
		}
		q.first = q.at(len(q.entries) - 1)
		q.entries[q.first] = queued{LogEntry: e}
		q.n++
	}
	for q.n > q.limit() {
		q.drop()
	}
}

func marker(dropped int) protocol.LogEntry {
	return protocol.LogEntry{
		TS: time.Now().UTC().Format(protocol.TimeFormat), Level: protocol.LevelWarn, Category: "logs",
		Message: fmt.Sprintf("dropped %d log lines: the studio could not be reached in time", dropped),
	}
}
