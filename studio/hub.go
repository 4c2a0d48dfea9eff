package studio

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

const (
	maxSessions = 10_000
	handshake   = 5 * time.Millisecond // a slow studio lets in 200 workers a second: they come back spread so
	storeRetry  = 5 * time.Second      // until a job whose release could not be stored is released again
)

// hub is the index of jobs and sessions, and brings the two together.
type hub struct {
	cfg   Config
	store *store.Store
	log   *slog.Logger

	changes *changes
	logs    *logBook
	ended   func(before, after store.Job) // tells webhooks; nil while the index is built
	moved   func(before, after store.Job) // told of each change of a record

	background sync.WaitGroup // sessions, offers and timers at work

	mu       sync.Mutex
	closing  bool
	admitted int // connections, open or opening
	jobs     map[string]*job
	order    []*job                // all, by id, so by creation
	queue    *queue                // of what is not reserved
	conns    map[*session]struct{} // open connections, welcomed or not
	sessions []*session            // welcomed, the earliest connected first
	current  map[string]*session   // the welcomed session of a worker
	orphans  map[string][]*orphan  // by worker
	lastID   int64

	lookUp    func(id string)          // takes a job from the store into the index, if it is there
	shared    bool                     // other processes work on the same store
	process   string                   // of this one; part of the ids of its sessions
	peers     map[string]time.Time     // when the other processes were heard last
	elsewhere map[string]workerMessage // by worker: connected to another process
	creating  map[string]*job          // being stored, not in jobs yet
}

// orphan is a claimed job without session, which waits for its worker.
type orphan struct {
	job    *job
	why    string // told to the operator when the worker comes back without it; then the attempt counts
	claim  string // the session that claimed it
	worker string
	timer  *time.Timer // of its grace; nil while the session may live in another process
}

// stored is what a store has: the jobs by id, the parts of their results by
// folder, and an error for each record that cannot be read.
type stored struct {
	jobs    []*job
	results map[string]int
	bad     []error
}

func readJobs(ctx context.Context, st *store.Store) (out stored, err error) {
	out.results = map[string]int{}
	var shards []shardJobs
	out.bad, err = st.PackedJobs(ctx, func(shard int, id string, p *store.Packed, result store.Place) {
		j := newJob(id)
		j.packed.Store(p)
		for shard >= len(shards) {
			shards = append(shards, shardJobs{})
		}
		shards[shard].add(j)
		if result.Parts > 0 {
			out.results[result.Folder] = result.Parts
		}
	})
	for i := range shards {
		out.jobs = merge(out.jobs, shards[i].sorted())
	}
	return out, err
}

// shardJobs is the jobs of a shard. They come nearly in the order of their ids when
// most of them wait, so that sorting them as they come costs next to nothing.
type shardJobs struct {
	jobs  []*job
	mixed bool // not by id
}

const nearly = 64 // places that a job may come too late

func (s *shardJobs) add(j *job) {
	s.jobs = append(s.jobs, j)
	if s.mixed {
		return
	}
	i := len(s.jobs) - 1
	for ; i > 0 && s.jobs[i-1].id > j.id; i-- {
		if len(s.jobs)-i > nearly {
			s.mixed = true
			break
		}
		s.jobs[i] = s.jobs[i-1]
	}
	s.jobs[i] = j
}

func (s *shardJobs) sorted() []*job {
	if s.mixed {
		slices.SortFunc(s.jobs, func(a, b *job) int { return cmp.Compare(a.id, b.id) })
	}
	return s.jobs
}

// merge returns the jobs of both lists by id, as each of them is.
func merge(a, b []*job) []*job {
	if len(a) == 0 {
		return b
	}
	out := make([]*job, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0].id < b[0].id {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// loadHub builds the index from the stored jobs. A claimed job waits for its
// worker, see run.
func loadHub(ctx context.Context, cfg Config, st *store.Store, has stored) (*hub, error) {
	h := &hub{
		cfg: cfg, store: st, log: cfg.Log,
		jobs: make(map[string]*job, len(has.jobs)), order: has.jobs, queue: newQueue(), conns: map[*session]struct{}{},
		changes: newChanges(), moved: func(_, _ store.Job) {},
		current: map[string]*session{}, orphans: map[string][]*orphan{}, logs: newLogBook(),
		shared: st.Shared(), process: newID("")[:12], peers: map[string]time.Time{}, elsewhere: map[string]workerMessage{},
		creating: map[string]*job{},
	}
	lookUps := context.WithoutCancel(ctx) // the store has its own limit
	h.lookUp = func(id string) {
		e, err := st.Jobs.Get(lookUps, id)
		switch {
		case err == nil:
			h.learn(lookUps, store.Change[store.Job]{ID: id, Entry: e})
		case !errors.Is(err, store.ErrNotFound):
			h.log.Warn("a job could not be looked up", "error", err)
		}
	}
	for _, err := range has.bad {
		h.log.Error("a record cannot be read and is left out", "error", err)
	}
	for _, j := range has.jobs {
		h.jobs[j.id] = j
		if err := h.begin(ctx, j); errors.Is(err, errUnreadable) {
			h.log.Error("a job stays as it is", "job_id", j.id, "error", err)
		} else if err != nil {
			return nil, err
		}
	}
	if len(has.bad) > 0 {
		return h, nil // a result of theirs must not be taken for a leftover
	}
	folders := has.results
	inputs, bad, err := st.Inputs.All(ctx)
	for _, err := range bad {
		h.log.Error("a record cannot be read and is left out", "error", err)
	}
	if err != nil || len(bad) > 0 {
		return h, err
	}
	for _, e := range inputs {
		folders[e.Value.Data.Folder] = e.Value.Data.Parts
	}
	swept, err := st.Sweep(ctx, folders)
	if err != nil {
		return nil, err
	}
	if swept.Parts+swept.Chunks > 0 {
		h.log.Info("leftovers of unfinished uploads were removed", "parts", swept.Parts, "chunks", swept.Chunks)
	}
	return h, st.Lost(swept.Damaged)
}

// begin puts a stored job where it belongs.
func (h *hub) begin(ctx context.Context, j *job) error {
	b := j.brief()
	if !b.state.Final() && (b.model == "" || b.engine == "") { // it must never be offered (§3.13.6)
		h.log.Error("a job has no model and fails", "job_id", j.id)
		return h.change(ctx, j, func(rec *store.Job) error {
			rec.State, rec.Error, rec.FinishedAt = store.Failed, "the job has no model", time.Now().UTC()
			return nil
		})
	}
	if b.state == store.Queued && !b.notBefore.After(time.Now()) {
		h.enqueueLocked(j)
	}
	if !b.state.Claimed() {
		return nil
	}
	e, err := j.entry()
	if err != nil {
		return err
	}
	if e.Value.Cancelling && !h.shared { // else another process may be at it
		return h.change(ctx, j, func(rec *store.Job) error { cancelled(rec, cancelledText); return nil })
	}
	h.orphanLocked(e.Value.WorkerID, &orphan{job: j, claim: e.Value.Session})
	if h.shared { // it lives until it is missed
		h.peers[processOf(e.Value.Session)] = time.Now()
	}
	return nil
}

// run gives each claimed job of an earlier life its grace, and drops workers
// that fell silent, until ctx ends.
func (h *hub) run(ctx context.Context) {
	h.mu.Lock()
	for worker, orphans := range h.orphans {
		for _, o := range orphans {
			if !h.livesLocked(o.claim) {
				h.armGrace(ctx, worker, o)
			}
		}
	}
	paused := slices.Clone(h.order)
	h.mu.Unlock()
	for _, j := range paused {
		if b := j.brief(); b.state == store.Queued && !b.notBefore.IsZero() {
			j.mu.Lock()
			h.enqueue(ctx, j)
			j.mu.Unlock()
		}
	}
	tick := time.NewTicker(h.cfg.CheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, s := range h.silent(time.Now()) {
			h.log.Warn("a worker fell silent", "worker_id", s.worker)
			h.spawn(ctx, func(context.Context) { s.end(protocol.CloseNormal, "no heartbeat", nil) })
		}
	}
}

// silent returns the sessions without a recent heartbeat.
func (h *hub) silent(now time.Time) []*session {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []*session
	for _, s := range h.sessions {
		if now.Sub(s.beat) > h.cfg.HeartbeatTooOld {
			out = append(out, s)
		}
	}
	return out
}

// close ends all sessions with 1012, each with a time to come back, and lets nothing new begin. Jobs stay
// claimed: their workers come back.
func (h *hub) close() {
	h.mu.Lock()
	h.closing = true
	var conns []*session
	for s := range h.conns {
		conns = append(conns, s)
	}
	h.mu.Unlock()
	var ending sync.WaitGroup // side by side: one that does not read must not hold up the others
	spread := min(protocol.MaxReconnectAfter, time.Duration(len(conns))*handshake)
	for _, s := range conns {
		after := rand.N(spread) // #nosec G404 -- spreading load needs no secret
		ending.Go(func() { s.end(protocol.CloseGoingAway, protocol.RestartReason(after), nil) })
	}
	ending.Wait()
}

// wait returns when everything in the background has ended.
func (h *hub) wait() { h.background.Wait() }

// enter registers background work; false means that the hub is closing.
func (h *hub) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing {
		return false
	}
	h.background.Add(1)
	return true
}

// spawn runs f in the background, beyond the life of ctx.
func (h *hub) spawn(ctx context.Context, f func(context.Context)) {
	if !h.enter() {
		return
	}
	ctx = context.WithoutCancel(ctx)
	go func() {
		defer h.background.Done()
		f(ctx)
	}()
}

// after runs f in the background later.
func (h *hub) after(ctx context.Context, d time.Duration, f func(context.Context)) *time.Timer {
	ctx = context.WithoutCancel(ctx)
	return time.AfterFunc(d, func() {
		if h.enter() {
			defer h.background.Done()
			f(ctx)
		}
	})
}

// newJobID returns an id that sorts by creation.
func (h *hub) newJobID(now time.Time) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastID = max(h.lastID+1, now.UnixNano())
	return fmt.Sprintf("%016x-%s", h.lastID, newID("")[:12])
}

// job returns the job, or nil. One that another process has just made is looked
// up in the store.
func (h *hub) job(id string) *job {
	j := h.known(id)
	if j != nil || !h.shared {
		return j
	}
	h.lookUp(id)
	return h.known(id)
}

// known returns the job if it is in the index.
func (h *hub) known(id string) *job {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.jobs[id]
}

// list returns the wanted jobs that are older than the id, or all when it is
// empty, newest first, at most limit.
func (h *hub) list(before string, limit int, wanted func(*job) bool) []*job {
	h.mu.Lock()
	defer h.mu.Unlock()
	end := len(h.order)
	if before != "" {
		end, _ = slices.BinarySearchFunc(h.order, before, byID)
	}
	var out []*job
	for _, j := range slices.Backward(h.order[:end]) {
		if len(out) == limit {
			break
		}
		if wanted(j) {
			out = append(out, j)
		}
	}
	return out
}

// all returns every job, by creation.
func (h *hub) all() []*job {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.order)
}

func byID(j *job, id string) int { return cmp.Compare(j.id, id) }

// eligible says whether the session may be offered anything (§3.13.5). The
// first heartbeat must have come: only it tells what the worker is doing.
func (s *session) eligible() bool {
	c := s.caps
	idle := c.OnlyWhenIdle == nil || !*c.OnlyWhenIdle || c.UserPresence == protocol.PresenceIdle
	return s.ready && !s.gone && !s.blocked && s.held == nil && s.busyWith == "" && c.AutoEnabled && idle
}

// fits says whether the session's worker can do the job.
func (s *session) fits(j *job) bool { return s.suits(j.brief().lot) && !j.refused[s.id] }

// suits says whether the session's worker can do jobs of the lot.
func (s *session) suits(l lot) bool {
	return slices.Contains(s.caps.TaskKinds, l.kind) && s.caps.VRAMThresholdGB >= l.vram && s.knows(l)
}

// knows says whether the worker can read an offer of such a job: one that only
// speaks the reference protocol drops the session at an engine it never heard
// of, so others must be advertised.
func (s *session) knows(l lot) bool {
	if l.engine.Reference() {
		return true
	}
	for _, model := range s.caps.SupportedModelsPerKind[string(l.kind)] {
		if model == l.model || model == string(l.engine) || model == string(l.engine)+":*" {
			return true
		}
	}
	return false
}

// free ends the session's hold on the job, and what its heartbeats said of it.
func (h *hub) free(s *session, j *job) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.held == j {
		s.held = nil
	}
	if s.busyWith == j.id {
		s.busyWith = ""
	}
}

// block keeps offers from the session until its next heartbeat that says
// autoEnabled.
func (h *hub) block(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.blocked = true
}

// submit stores a new job and queues it. With a free worker at hand the record
// is written as offered at once: one write instead of two before the offer.
func (h *hub) submit(ctx context.Context, rec store.Job) (*job, error) {
	if err := h.store.Room(); err != nil {
		return nil, err
	}
	j := newJob(rec.ID)
	j.mu.Lock()
	defer j.mu.Unlock()
	rec.State = store.Queued
	j.keep(&store.Entry[store.Job]{Value: rec})
	h.mu.Lock()
	h.creating[j.id] = j
	s := h.pickSessionLocked(j)
	if s != nil {
		h.reserveLocked(s, j)
	}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		delete(h.creating, j.id)
		h.mu.Unlock()
	}()
	if s != nil {
		rec.State, rec.WorkerID, rec.Session, rec.NotBefore = store.Offered, s.worker, s.id, time.Time{}
		rec.Held(s.worker) // its accept may be lost, and its result come all the same
	}
	revision, err := h.store.Jobs.Create(context.WithoutCancel(ctx), rec.ID, rec)
	if err != nil {
		if s != nil {
			h.free(s, j)
		}
		return nil, err
	}
	j.wrote = revision
	j.set(rec, revision)
	h.changes.touch(changedJobs)
	h.mu.Lock()
	h.jobs[j.id] = j
	i, _ := slices.BinarySearchFunc(h.order, j.id, byID)
	h.order = slices.Insert(h.order, i, j)
	h.mu.Unlock()
	if s != nil {
		h.present(ctx, s, j)
	} else {
		h.enqueue(ctx, j)
	}
	return j, nil
}

// offer claims the job for the session, which has it reserved, and sends the
// offer.
func (h *hub) offer(ctx context.Context, s *session, j *job) {
	j.mu.Lock()
	err := h.change(ctx, j, func(rec *store.Job) error {
		if rec.State != store.Queued {
			return errStale
		}
		rec.State, rec.WorkerID, rec.Session, rec.NotBefore = store.Offered, s.worker, s.id, time.Time{}
		rec.Held(s.worker) // its accept may be lost, and its result come all the same
		return nil
	})
	if err == nil {
		h.present(ctx, s, j)
		j.mu.Unlock()
		return
	}
	if !errors.Is(err, errStale) {
		h.log.Error("a job could not be claimed", "job_id", j.id, "error", err)
	}
	if !errors.Is(err, errStale) && !errors.Is(err, errUnreadable) {
		h.block(s) // its next heartbeat tries again
	}
	h.free(s, j)
	if !errors.Is(err, errUnreadable) { // else it would be at the head of the queue for ever
		h.enqueue(ctx, j)
	}
	j.mu.Unlock()
	h.kick(ctx, s)
}

// present sends the offer of a job that was just claimed for the session. The
// caller holds j.mu.
func (h *hub) present(ctx context.Context, s *session, j *job) {
	j.holder, j.last = s, s.id
	rec := j.now()
	h.mu.Lock()
	gone := s.gone
	attempt := 0
	if s.hasLocked(protocol.FeatureAttempt) {
		attempt = rec.Attempts + 1
	}
	h.mu.Unlock()
	if gone { // it went while the claim was written, and could not see it
		h.spawn(ctx, func(ctx context.Context) { h.putBack(ctx, s, j, release{offer: true}) })
		return
	}
	j.expiry = h.after(ctx, h.cfg.OfferExpiry, func(ctx context.Context) { h.expire(ctx, s, j) })
	h.spawn(ctx, func(context.Context) {
		if err := s.send(protocol.Offer{Claim: claimOf(rec, attempt, s.origin)}); err != nil {
			h.log.Warn("an offer could not be sent", "job_id", j.id, "worker_id", s.worker, "error", err)
			s.drop() // its reader ends and puts the job back
		}
	})
}

// expire takes back an offer that was not answered.
func (h *hub) expire(ctx context.Context, s *session, j *job) {
	if j.now().State != store.Offered {
		return
	}
	h.log.Warn("an offer was not answered", "job_id", j.id, "worker_id", s.worker)
	h.block(s)
	h.putBack(ctx, s, j, release{offer: true})
}

// release says how a claim ends without a result.
type release struct {
	why     string // told to the operator when it is not empty
	counted bool   // an attempt that was accepted counts
	offer   bool   // only a claim that was not accepted yet
	pause   bool   // before the next attempt
	claim   string // the session whose claim it is; empty: of whoever has it now
}

// putBack ends a claim without a result: the job is queued again, or failed
// when its attempts are spent. Without effect if the holder is another.
func (h *hub) putBack(ctx context.Context, s *session, j *job, r release) {
	j.mu.Lock()
	r.claim = cmp.Or(r.claim, j.now().Session)
	if j.holder != s || (r.offer && j.now().State != store.Offered) {
		j.mu.Unlock()
		return
	}
	err := h.change(ctx, j, func(rec *store.Job) error {
		if !rec.State.Claimed() || rec.Session != r.claim {
			return errStale // or claimed anew by another process
		}
		h.requeue(rec, r)
		return nil
	})
	if err == nil || errors.Is(err, errStale) {
		j.holder = nil
	}
	if s != nil {
		h.free(s, j)
	}
	// Queued and in the queue are one to whoever looks at the job under its lock.
	h.enqueue(ctx, j)
	j.mu.Unlock()
	if err != nil && !errors.Is(err, errStale) {
		h.log.Error("a job could not be put back, trying again", "job_id", j.id, "error", err)
		h.after(ctx, storeRetry, func(ctx context.Context) { h.putBack(ctx, s, j, r) })
		return
	}
	if s != nil {
		h.kick(ctx, s)
	}
}

// requeue makes the record of a claimed job queued, failed, or cancelled when
// that was asked for.
func (h *hub) requeue(rec *store.Job, r release) {
	if rec.Cancelling {
		cancelled(rec, cancelledText)
		return
	}
	if r.why != "" {
		rec.Error = clip(r.why, maxError)
	}
	if rec.State == store.Running {
		if r.counted && rec.Attempts >= cmp.Or(rec.Allowed, h.cfg.MaxAttempts) {
			rec.State, rec.FinishedAt = store.Failed, time.Now().UTC()
			return
		}
		if !r.counted {
			rec.Attempts--
		}
		if r.pause {
			rec.NotBefore = time.Now().UTC().Add(retryPause(h.cfg.RetryPause, rec.Attempts))
		}
	}
	rec.State, rec.WorkerID, rec.Session, rec.StartedAt = store.Queued, "", "", time.Time{}
}

// abandon keeps the claim of a job whose session is gone until its worker
// reconnects, or the grace is over.
func (h *hub) abandon(ctx context.Context, worker string, j *job, why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := &orphan{job: j, why: why, claim: j.now().Session}
	h.orphanLocked(worker, o)
	h.armGrace(ctx, worker, o)
}

// armGrace begins an orphan's grace, once. The caller holds h.mu.
func (h *hub) armGrace(ctx context.Context, worker string, o *orphan) {
	if o.timer != nil {
		return
	}
	o.timer = h.after(ctx, h.cfg.ReclaimGrace, func(ctx context.Context) {
		h.mu.Lock()
		i := slices.Index(h.orphans[worker], o)
		if i >= 0 {
			h.orphans[worker] = slices.Delete(h.orphans[worker], i, i+1)
		}
		busy := o.job.uploads > 0
		h.mu.Unlock()
		switch {
		case i >= 0 && busy: // its result is coming in
			h.abandon(ctx, worker, o.job, o.why)
		case i >= 0 && o.job.now().State.Claimed():
			h.log.Warn("a worker did not come back for its job", "job_id", o.job.id, "worker_id", worker)
			h.putBack(ctx, nil, o.job, release{why: "the worker was lost", counted: true, claim: o.claim})
		}
	})
}

// admit reserves room for a connection; serve or leave must follow. False means
// that the studio is full or stops.
func (h *hub) admit() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing || h.admitted >= maxSessions {
		return false
	}
	h.admitted++
	h.background.Add(1)
	return true
}

// leave takes back an admit.
func (h *hub) leave() {
	h.mu.Lock()
	h.admitted--
	h.mu.Unlock()
	h.background.Done()
}

// serve reads the session's frames in the background, beyond the life of ctx.
func (h *hub) serve(ctx context.Context, s *session, authentic func(token string) bool) {
	h.mu.Lock()
	h.conns[s] = struct{}{}
	closing := h.closing
	h.mu.Unlock()
	ctx = context.WithoutCancel(ctx)
	go func() {
		defer h.leave()
		s.read(ctx, authentic)
	}()
	if closing { // close did not see it
		s.end(protocol.CloseGoingAway, protocol.RestartReason(time.Second), nil)
	}
}

// uploading counts the results of the job that are coming in.
func (h *hub) uploading(j *job, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	j.uploads += n
}
