package studio

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

const (
	warmLook  = 256              // free workers that are looked at for one that has the model at hand
	warmWait  = 30 * time.Second // a job that has waited this long is not overtaken for a model at hand
	retryMost = 5 * time.Minute  // the longest pause before a job is tried again
	fullPause = 10 * time.Second // told to whoever finds the queue full
	maxShares = 1024             // submitters whose use is remembered while they have nothing queued
)

// queue holds the jobs that wait for a worker. Higher priorities go first. Within
// one, the submitter goes first that has used the workers least; each one's own
// jobs go in the order of their creation. The hub's mutex guards it.
type queue struct {
	levels  []*level // highest priority first
	waiting map[string]int
	total   int
	share   map[string]float64 // of a submitter: seconds of workers used, see charge
	clock   float64            // share of the job that was taken last
}

// level is the part of the queue with one priority.
type level struct {
	priority int
	lots     map[lot]*bunch
}

// bunch is the jobs of a lot that wait, by id.
type bunch struct {
	lot
	jobs []*job
}

// lot names jobs that fit the same workers and belong to the same submitter.
type lot struct {
	kind      protocol.TaskKind
	submitter string
	model     string
	engine    protocol.Engine
	vram      float64
}

func lotOf(rec *store.Job) lot {
	return lot{rec.Task.Kind, rec.Submitter, rec.Model, rec.Source.Engine, rec.VRAMGBEstimate}
}

func newQueue() *queue { return &queue{waiting: map[string]int{}, share: map[string]float64{}} }

// add puts a job in its place.
func (q *queue) add(j *job) {
	b := j.brief()
	j.priority, j.queued = b.priority, true
	i, found := q.level(b.priority)
	if !found {
		q.levels = slices.Insert(q.levels, i, &level{priority: b.priority, lots: map[lot]*bunch{}})
	}
	j.lot = q.levels[i].lots[b.lot]
	if j.lot == nil {
		j.lot = &bunch{lot: b.lot}
		q.levels[i].lots[b.lot] = j.lot
	}
	at := len(j.lot.jobs)
	if at > 0 && j.lot.jobs[at-1].id > j.id { // seldom: most are the newest
		at, _ = slices.BinarySearchFunc(j.lot.jobs, j.id, byID)
	}
	j.lot.jobs = slices.Insert(j.lot.jobs, at, j)
	q.waiting[j.lot.submitter]++
	q.total++
}

func (q *queue) level(priority int) (int, bool) {
	return slices.BinarySearchFunc(q.levels, priority, func(l *level, p int) int { return p - l.priority })
}

// remove takes a job out.
func (q *queue) remove(j *job) {
	j.queued = false
	i, _ := q.level(j.priority)
	l := q.levels[i]
	jobs := j.lot.jobs
	at, _ := slices.BinarySearchFunc(jobs, j.id, byID)
	switch {
	case len(jobs) > 1:
		j.lot.jobs = slices.Delete(jobs, at, at+1)
	case len(l.lots) > 1:
		delete(l.lots, j.lot.lot)
	default:
		q.levels = slices.Delete(q.levels, i, i+1)
	}
	q.total--
	if q.waiting[j.lot.submitter]--; q.waiting[j.lot.submitter] == 0 {
		delete(q.waiting, j.lot.submitter)
	}
}

// first returns the job that the session should do next, nil if there is none. A
// job whose model the worker has at hand goes before others of its priority,
// unless one of those has waited for warmWait.
func (q *queue) first(s *session, now time.Time) *job {
	for _, l := range q.levels {
		var head, warm *job
		for lot, waiting := range l.lots {
			if !s.suits(lot) {
				continue
			}
			i := slices.IndexFunc(waiting.jobs, func(j *job) bool { return !j.refused[s.id] })
			if i < 0 {
				continue
			}
			j := waiting.jobs[i]
			if head == nil || q.before(j, head) {
				head = j
			}
			if lot.model == s.warm && (warm == nil || q.before(j, warm)) {
				warm = j
			}
		}
		switch {
		case head == nil:
			continue
		case warm != nil && now.Sub(head.brief().created) < warmWait:
			return warm
		default:
			return head
		}
	}
	return nil
}

// before says which of two jobs of one priority goes first.
func (q *queue) before(a, b *job) bool {
	x, y := q.shareOf(a.lot.submitter), q.shareOf(b.lot.submitter)
	if x != y && a.lot.submitter != b.lot.submitter {
		return x < y
	}
	return a.id < b.id
}

// shareOf is what a submitter has used. Whoever had nothing queued for long has
// saved nothing up: it starts beside the others.
func (q *queue) shareOf(submitter string) float64 { return max(q.share[submitter], q.clock) }

// taken notes that a job of the submitter was given to a worker. It counts as a
// second until its end tells more.
func (q *queue) taken(submitter string) {
	q.clock = q.shareOf(submitter)
	q.charge(submitter, time.Second)
}

// charge adds to what a submitter has used.
func (q *queue) charge(submitter string, used time.Duration) {
	q.share[submitter] = q.shareOf(submitter) + max(0, used.Seconds())
	if len(q.share) <= maxShares {
		return
	}
	for other, share := range q.share {
		if share <= q.clock && q.waiting[other] == 0 {
			delete(q.share, other)
		}
	}
}

// full says why a job of the submitter cannot be queued, nil when it can.
func (h *hub) full(submitter string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.queue.total >= h.cfg.MaxQueued:
		return &refusal{
			status: http.StatusServiceUnavailable, code: "queue_full", after: fullPause,
			message: fmt.Sprintf("%d jobs wait already; try again later", h.queue.total),
		}
	case submitter != "" && h.queue.waiting[submitter] >= h.cfg.MaxQueuedByKey:
		return &refusal{
			status: http.StatusTooManyRequests, code: "queue_full", after: fullPause,
			message: fmt.Sprintf("%d jobs of this API key wait already; try again later", h.queue.waiting[submitter]),
		}
	}
	return nil
}

// enqueueLocked puts the job in its place in the queue. The caller holds h.mu.
func (h *hub) enqueueLocked(j *job) {
	if !j.queued {
		h.queue.add(j)
	}
}

// dequeueLocked takes the job out of the queue. The caller holds h.mu.
func (h *hub) dequeueLocked(j *job) {
	if j.queued {
		h.queue.remove(j)
	}
}

// reserveLocked gives the session the job before anything is written (§3.8.6).
// The caller holds h.mu.
func (h *hub) reserveLocked(s *session, j *job) {
	b := j.brief()
	h.dequeueLocked(j)
	h.queue.taken(b.submitter)
	s.held, s.warm = j, b.model
	s.unnamed = time.Time{}
}

// pickSessionLocked returns the session that should have the job, or nil: among
// those that may the earliest connected, but first one that has the model at
// hand. The caller holds h.mu.
func (h *hub) pickSessionLocked(j *job) *session {
	if h.closing {
		return nil
	}
	var first *session
	looked := 0
	model := j.brief().model
	for _, s := range h.sessions {
		if !s.eligible() || !s.fits(j) {
			continue
		}
		if s.warm == model {
			return s
		}
		if first == nil {
			first = s
		}
		if looked++; looked == warmLook {
			break
		}
	}
	return first
}

// enqueue puts a queued job in the queue, when its pause is over, and offers it
// when a worker is free; with a job in another state it does nothing. The caller
// holds j.mu.
func (h *hub) enqueue(ctx context.Context, j *job) {
	b := j.brief()
	if pause := time.Until(b.notBefore); b.state == store.Queued && pause > 0 {
		h.after(ctx, pause, func(ctx context.Context) {
			j.mu.Lock()
			defer j.mu.Unlock()
			h.enqueue(ctx, j)
		})
		return
	}
	h.mu.Lock()
	if j.brief().state != store.Queued {
		h.mu.Unlock()
		return
	}
	h.enqueueLocked(j)
	s := h.pickSessionLocked(j)
	if s != nil {
		h.reserveLocked(s, j)
	}
	h.mu.Unlock()
	if s != nil {
		h.spawn(ctx, func(ctx context.Context) { h.offer(ctx, s, j) })
	}
}

// kick offers the session the job that it should do next, if any.
func (h *hub) kick(ctx context.Context, s *session) {
	h.mu.Lock()
	var next *job
	if s.eligible() && !h.closing {
		next = h.queue.first(s, time.Now())
	}
	if next != nil {
		h.reserveLocked(s, next)
	}
	h.mu.Unlock()
	if next != nil {
		h.spawn(ctx, func(ctx context.Context) { h.offer(ctx, s, next) })
	}
}

// settleShare charges the submitter for an attempt that has ended.
func (h *hub) settleShare(before, after store.Job) {
	if before.State != store.Running || after.State == store.Running || before.StartedAt.IsZero() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.queue.charge(before.Submitter, time.Since(before.StartedAt))
}

// retryPause is how long a job waits after its n-th failed attempt: four times
// longer each time, and drawn from the upper half so that jobs which failed
// together do not come back together.
func retryPause(first time.Duration, n int) time.Duration {
	pause := first
	for ; n > 1 && pause < retryMost; n-- {
		pause *= 4
	}
	pause = min(pause, retryMost)
	return pause/2 + rand.N(pause/2+1) // #nosec G404 -- a pause is no secret
}

// errNotFailed says that there is nothing to try again.
var errNotFailed = errors.New("only a failed or cancelled job can be tried again")

// retryJob queues a job again that had failed or was cancelled.
func (s *Studio) retryJob(w http.ResponseWriter, r *http.Request, who caller) {
	drain(w, r)
	j := s.find(w, r, who)
	if j == nil {
		return
	}
	err := s.hub.full(who.key)
	if err == nil {
		err = s.hub.retry(r.Context(), j)
	}
	switch {
	case errors.Is(err, errNotFailed):
		writeError(w, http.StatusConflict, "conflict", fmt.Sprintf("the job is %s: %s", j.now().State, err))
	case err != nil:
		s.refuse(w, err)
	default:
		writeJSON(w, http.StatusOK, j.status())
	}
}

// retry queues a job that ended without a result, for as many attempts as a new
// one has. Their numbers go on, so that a worker can tell them from the old ones.
func (h *hub) retry(ctx context.Context, j *job) error {
	ctx = context.WithoutCancel(ctx)
	j.mu.Lock()
	defer j.mu.Unlock()
	for try := range maxConflicts {
		stored, err := h.store.Jobs.Get(ctx, j.id) // memory has no tasks of finished jobs
		if err != nil {
			return err
		}
		rec := stored.Value
		if rec.State != store.Failed && rec.State != store.Cancelled {
			return errNotFailed
		}
		rec.State, rec.WorkerID, rec.Session, rec.Cancelling = store.Queued, "", "", false
		rec.StartedAt, rec.FinishedAt, rec.NotBefore = time.Time{}, time.Time{}, time.Time{}
		rec.Allowed = rec.Attempts + h.cfg.MaxAttempts
		hooks := make([]store.Hook, len(rec.Hooks)) // they are told of the next end, too
		for i, hook := range rec.Hooks {
			hooks[i].ID = hook.ID
		}
		rec.Hooks = hooks
		revision, err := h.store.Jobs.Update(ctx, j.id, rec, stored.Revision)
		if errors.Is(err, store.ErrConflict) {
			time.Sleep(conflictWait << try) // a cluster may not show another's write yet
			continue
		}
		if err != nil {
			return err
		}
		h.mu.Lock()
		clear(j.refused)
		h.mu.Unlock()
		h.publish(j, rec, revision)
		h.log.Info("a job is tried again", "job_id", j.id)
		h.enqueue(ctx, j)
		return nil
	}
	return fmt.Errorf("retry job %s: %w", j.id, store.ErrConflict)
}
