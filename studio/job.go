package studio

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"studioworker/studio/client"
	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

const (
	maxConflicts = 8 // times a change is tried against other writers
	conflictWait = 5 * time.Millisecond
	maxError     = 2000    // characters of a worker's error text
	maxText      = 1 << 20 // bytes of a text that is kept for event streams
	watchBuffer  = 64      // events that a slow event stream may be behind
)

var (
	// errStale: a change no longer fits the job's state.
	errStale = errors.New("the job has moved on")
	// errUnreadable: the record of the job cannot be decoded.
	errUnreadable = errors.New("the record of the job cannot be read")
)

// job is a job in memory: its record as stored last, and what only this process
// knows.
type job struct {
	id string

	record   atomic.Pointer[store.Entry[store.Job]] // without task, source and past once final; nil while packed
	packed   atomic.Pointer[store.Packed]           // as it was read at the start, until all of it is needed
	progress atomic.Pointer[client.Progress]

	mu      sync.Mutex // held over each change of the record
	holder  *session   // that has the claim
	last    string     // id of the session that had it last
	wrote   uint64     // revision that this process wrote last
	expiry  *time.Timer
	streams map[chan client.Event]struct{}
	text    []byte // that the worker has told of the running attempt
	told    int    // pieces of it; -1 = one is missing, so no more is told
	teller  string // worker that told them

	// Guarded by the hub's mutex.
	queued   bool
	lot      *bunch // where in the queue, or where it was last
	priority int
	uploads  int             // results of it that are coming in
	refused  map[string]bool // sessions that will not do it
	orphan   *orphan         // claimed by a session that is not here
}

func newJob(id string) *job {
	return &job{id: id} // there are many: what few have is made when it is needed
}

// refuse notes that the session will not do the job. The caller holds the hub's
// mutex.
func (j *job) refuse(session string) {
	if j.refused == nil {
		j.refused = map[string]bool{}
	}
	j.refused[session] = true
}

// entry returns the record as stored last, with its revision. The error is
// errUnreadable.
func (j *job) entry() (*store.Entry[store.Job], error) {
	if e := j.record.Load(); e != nil {
		return e, nil
	}
	p := j.packed.Load()
	if p == nil { // decoded meanwhile
		return j.record.Load(), nil
	}
	rec, err := p.Job()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	j.record.CompareAndSwap(nil, &store.Entry[store.Job]{Value: rec, Revision: p.Revision}) // else another was faster
	j.packed.Store(nil)
	return j.record.Load(), nil
}

// now returns the record as stored last. Of one that cannot be decoded it has
// what was read at the start.
func (j *job) now() store.Job {
	e, err := j.entry()
	if err == nil {
		return e.Value
	}
	b := j.brief()
	return store.Job{
		ID: j.id, State: b.state, Model: b.model, Submitter: b.submitter, VRAMGBEstimate: b.vram, Priority: b.priority,
		Task: protocol.Task{Kind: b.kind}, Source: protocol.ModelSource{Engine: b.engine}, Error: err.Error(),
		CreatedAt: b.created, StartedAt: b.started, FinishedAt: b.finished, NotBefore: b.notBefore,
	}
}

// brief is what is looked at in all jobs. It costs no decoding.
type brief struct {
	lot
	state                                 store.JobState
	priority                              int
	created, started, finished, notBefore time.Time
	bytes                                 int64 // of the result
	inputs                                bool  // the task names some of the studio's
	hooks                                 bool  // webhooks are told of the job's end
	telling                               bool  // one of them was not yet
}

func (j *job) brief() brief {
	e := j.record.Load()
	if e == nil {
		if p := j.packed.Load(); p != nil {
			engine := p.Kin.Source.Engine
			if p.State().Final() { // memory has no sources of finished jobs
				engine = ""
			}
			return brief{
				lot: lot{p.Kin.Kind, p.Kin.Submitter, p.Kin.Model, engine, p.Kin.VRAMGBEstimate}, state: p.State(), priority: p.Priority,
				created: p.CreatedAt(), started: p.StartedAt(), finished: p.FinishedAt(), notBefore: p.NotBefore(),
				bytes: p.Bytes, inputs: p.HasInput, hooks: p.HasHook, telling: p.Telling,
			}
		}
		e = j.record.Load() // decoded meanwhile
	}
	rec := &e.Value
	b := brief{
		lot: lotOf(rec), state: rec.State, priority: rec.Priority,
		created: rec.CreatedAt, started: rec.StartedAt, finished: rec.FinishedAt, notBefore: rec.NotBefore,
		inputs: len(rec.Inputs) > 0, hooks: len(rec.Hooks) > 0,
		telling: slices.ContainsFunc(rec.Hooks, func(h store.Hook) bool { return !h.Done }),
	}
	if rec.Result != nil {
		b.bytes = rec.Result.Bytes
	}
	return b
}

// revision returns that of the record as stored last.
func (j *job) revision() uint64 {
	if e := j.record.Load(); e != nil {
		return e.Revision
	}
	if p := j.packed.Load(); p != nil {
		return p.Revision
	}
	return j.record.Load().Revision // decoded meanwhile
}

// keep makes a record that of the job.
func (j *job) keep(e *store.Entry[store.Job]) {
	j.record.Store(e)
	j.packed.Store(nil)
}

// change applies f to the job's record and stores it by compare-and-set. When
// another writer was faster, f is asked again about what is stored now. An error
// of f ends it without a write. The caller holds j.mu.
func (h *hub) change(ctx context.Context, j *job, f func(*store.Job) error) error {
	ctx = context.WithoutCancel(ctx) // a caller that goes away must not leave memory and store apart
	for try := range maxConflicts {
		current, err := j.entry()
		if err != nil {
			return err
		}
		next := current.Value
		if err := f(&next); err != nil {
			return err
		}
		noteAttempt(current.Value, &next)
		revision, err := h.store.Jobs.Update(ctx, j.id, next, current.Revision)
		if err == nil {
			h.publish(j, next, revision)
			return nil
		}
		stored, readErr := h.store.Jobs.Get(ctx, j.id)
		switch {
		case readErr != nil:
			return errors.Join(err, readErr)
		case stored.Revision == current.Revision && errors.Is(err, store.ErrConflict):
			time.Sleep(conflictWait << try) // a cluster has taken another's write and cannot show it yet
			continue
		case stored.Revision == current.Revision:
			return err // it was not written
		case same(stored.Value, next):
			h.publish(j, next, stored.Revision) // it was, only the answer got lost
			return nil
		}
		j.keep(&stored)
	}
	return fmt.Errorf("change job %s: %w", j.id, store.ErrConflict)
}

// noteAttempt keeps what became of an attempt that a change of the record ends
// without a result. One that leads to the result is told by the record itself.
func noteAttempt(before store.Job, after *store.Job) {
	ended := before.State == store.Running && after.State != store.Running
	failedAtOnce := before.State == store.Offered && after.Attempts > before.Attempts && after.State != store.Running
	if after.State == store.Done || (!ended && !failedAtOnce) {
		return
	}
	past := before.Past[max(0, len(before.Past)-store.MaxPast+1):]
	after.Past = append(slices.Clone(past), store.Attempt{ // the record in memory shares the old ones
		Number: max(before.Attempts, after.Attempts), WorkerID: before.WorkerID, StartedAt: before.StartedAt, EndedAt: time.Now().UTC(), Error: after.Error,
	})
}

// publish makes a stored record known. The caller holds j.mu.
func (h *hub) publish(j *job, rec store.Job, revision uint64) {
	before := j.now()
	j.wrote = revision
	j.set(rec, revision)
	h.settleShare(before, rec)
	if h.ended != nil {
		h.ended(before, rec)
	}
	h.moved(before, rec)
	h.changes.touch(changedJobs)
}

func same(a, b store.Job) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// set publishes a stored record. The caller holds j.mu.
func (j *job) set(rec store.Job, revision uint64) {
	// What a worker tells through another process may come before the record does.
	if rec.State != store.Running && (rec.State != store.Offered || rec.WorkerID != j.teller) {
		j.progress.Store(nil)
		j.text, j.told = nil, 0
	}
	if rec.State != store.Offered && j.expiry != nil {
		j.expiry.Stop()
		j.expiry = nil
	}
	if rec.State.Final() { // finished jobs stay in memory for lists: keep them small
		rec.Task, rec.Source, rec.Past = protocol.Task{Kind: rec.Task.Kind}, protocol.ModelSource{}, nil
	}
	j.keep(&store.Entry[store.Job]{Value: rec, Revision: revision})
	j.publish(client.EventState)
}

// add appends a piece to the text of the running attempt, and tells the event
// streams. A piece that came before is ignored; after one that is missing, or
// beyond maxText, nothing more is told: the whole result comes in the end. The
// caller holds j.mu.
func (j *job) add(worker string, seq int, text string) {
	if j.teller != worker { // in a session of its own or a later one
		j.text, j.told, j.teller = nil, 0, worker
	}
	if seq != j.told {
		if seq > j.told {
			j.told = -1
		}
		return
	}
	if len(j.text)+len(text) > maxText {
		j.told = -1
		return
	}
	j.text = append(j.text, text...)
	j.told++
	j.send(client.Event{Type: client.EventDelta, Delta: &client.Delta{Seq: seq, Text: text}})
}

// publish tells the event streams of the job as it is. The caller holds j.mu.
func (j *job) publish(kind client.EventType) {
	if len(j.streams) > 0 {
		j.send(client.Event{Type: kind, Job: j.status()})
	}
}

// send tells the event streams. A stream that is too far behind misses
// progress; when it would miss anything else it is cut off. The caller holds
// j.mu.
func (j *job) send(event client.Event) {
	for ch := range j.streams {
		select {
		case ch <- event:
		default:
			if event.Type != client.EventProgress {
				delete(j.streams, ch)
				close(ch)
			}
		}
	}
}

// follow returns the job as it is, with its text so far if there is any, and a
// channel of what comes after. The channel is closed when the reader is too
// slow. stop ends it.
func (j *job) follow() (now []client.Event, events <-chan client.Event, stop func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	ch := make(chan client.Event, watchBuffer)
	if j.streams == nil {
		j.streams = map[chan client.Event]struct{}{}
	}
	j.streams[ch] = struct{}{}
	now = []client.Event{{Type: client.EventState, Job: j.status()}}
	if len(j.text) > 0 {
		now = append(now, client.Event{Type: client.EventDelta, Delta: &client.Delta{Seq: max(0, j.told-1), Text: string(j.text)}})
	}
	return now, ch, func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		delete(j.streams, ch)
	}
}

// textSoFar is what the worker has told of the running attempt's text.
func (j *job) textSoFar() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return string(j.text)
}

// status describes the job without its task.
func (j *job) status() client.JobStatus {
	rec := j.now()
	out := client.JobStatus{
		ID: rec.ID, State: client.State(rec.State), Kind: rec.Task.Kind, Model: rec.Model,
		Priority: rec.Priority, Submitter: rec.Submitter,
		Attempts: rec.Attempts, WorkerID: rec.WorkerID, Error: rec.Error,
		CreatedAt: rec.CreatedAt, StartedAt: rec.StartedAt, FinishedAt: rec.FinishedAt, NotBefore: rec.NotBefore, Progress: j.progress.Load(),
	}
	if r := rec.Result; r != nil {
		out.Result = &client.Result{Ext: r.Ext, ContentType: r.ContentType, Bytes: r.Bytes, SHA256: r.SHA256}
	}
	return out
}

// claimOf returns what an offer of the job carries. attempt is 0 for a worker that was
// not told of attempts.
// Addresses of the studio's own inputs are put as the worker names the studio,
// by origin.
func claimOf(rec store.Job, attempt int, origin string) protocol.Claim {
	return protocol.Claim{
		JobID: rec.ID, GameID: rec.GameID, AssetName: rec.AssetName, Model: rec.Model,
		VRAMGBEstimate: rec.VRAMGBEstimate, Task: relocate(rec.Task, rec.Inputs, origin), ModelSource: rec.Source, Attempt: attempt,
	}
}
