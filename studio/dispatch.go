package studio

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"studioworker/studio/client"
	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

// What frames may end in, besides errors of the store.
var (
	// errViolation: the frame is not allowed now (§3.13.7); it ends the session.
	errViolation = errors.New("protocol violation")
	// errFinished: the job has ended already.
	errFinished = errors.New("the job has ended")
)

// lostText is why an attempt ended whose worker went away.
const lostText = "the connection to the worker was lost"

func notHeld(frame protocol.WorkerFrame, id string) error {
	return fmt.Errorf("%w: %s for job %.100q, which this session does not hold", errViolation, frame.Type(), id)
}

// rivals says whether two sessions of one worker are those of two programs: both
// named an instance, and not the same. Older workers name none.
func rivals(a, b string) bool { return a != "" && b != "" && a != b }

// attach makes s the session of its worker, and says whether it did. An older one
// is closed (§3.13.2), unless it is another program that still answers: two that
// have one identity would throw each other out for ever. The job it was running
// waits for the first heartbeat of s.
// What counts is when a connection was opened: the hello of one whose worker is
// gone may be read after that of the next.
func (h *hub) attach(ctx context.Context, s *session, caps protocol.Capabilities) bool {
	h.mu.Lock()
	old := h.current[s.worker]
	if old != nil && !old.connectedAt.After(s.connectedAt) && rivals(old.instance, caps.Instance) {
		h.mu.Unlock()
		if old.answers() {
			s.log.Warn("a second worker with the same identity was refused")
			s.end(protocol.CloseDuplicate, "another worker with this identity is connected", &protocol.Error{
				Code: protocol.ErrorDuplicate, Message: "another worker with this identity is connected, and works",
			})
			return false
		}
		h.mu.Lock()
		old = h.current[s.worker]
	}
	if old != nil && old.connectedAt.After(s.connectedAt) {
		h.mu.Unlock()
		s.takenOver()
		return false
	}
	var held *job
	if old != nil {
		held = h.removeLocked(old)
	}
	s.caps, s.instance, s.beat = caps, caps.Instance, time.Now()
	h.current[s.worker] = s
	h.sessions = append(h.sessions, s)
	message := s.presentLocked()
	h.mu.Unlock()
	h.tellOthers(topicWorker, s.worker, message)
	h.changes.touch(changedWorkers)
	if old == nil {
		return true
	}
	h.replaced(ctx, old, held)
	return true
}

// disown takes a running job from a session that is gone, and says whether it
// did. Its worker keeps the claim.
func (*hub) disown(s *session, j *job) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.holder != s || j.now().State != store.Running {
		return false
	}
	j.holder = nil
	return true
}

// removeLocked takes a session out of the index and returns what it held. The
// caller holds h.mu.
func (h *hub) removeLocked(s *session) *job {
	if s.gone {
		return nil
	}
	s.gone = true
	if i := slices.Index(h.sessions, s); i >= 0 {
		h.sessions = slices.Delete(h.sessions, i, i+1)
	}
	if h.current[s.worker] == s {
		delete(h.current, s.worker)
	}
	held := s.held
	s.held = nil
	return held
}

// detach ends a session whose connection is gone, and releases what it held
// (§3.13.11). While the studio stops, claims stay.
func (h *hub) detach(ctx context.Context, s *session) {
	h.mu.Lock()
	delete(h.conns, s)
	held := h.removeLocked(s)
	counted := held == nil || held.uploads == 0 // a result that is coming in tells that the worker lives
	closing, resumes := h.closing, s.hasLocked(protocol.FeatureResume)
	message := s.presentLocked()
	h.mu.Unlock()
	h.tellOthers(topicWorker, s.worker, message)
	h.changes.touch(changedWorkers)
	switch {
	case held == nil || closing:
	case resumes && h.disown(s, held): // the worker runs it, and will be back
		h.abandon(ctx, s.worker, held, lostText)
	default:
		h.putBack(ctx, s, held, release{why: lostText, counted: counted})
	}
}

// heartbeat stores what a worker says of itself (§3.13.4). What it returns
// settles the claims that the worker does or does not name, and looks for work
// (§3.13.12); that may take time, so the worker gets its answer before.
func (h *hub) heartbeat(s *session, beat protocol.Heartbeat) (settle func(context.Context)) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	first := !s.ready
	h.changes.touch(changedWorkers)
	s.caps, s.beat, s.busyWith, s.ready = beat.Capabilities, now, beat.CurrentJobID, true
	if s.caps.AutoEnabled {
		s.blocked = false
	}
	held, lost := s.held, false
	switch {
	case held == nil:
	case beat.CurrentJobID == held.id:
		s.unnamed = time.Time{}
	case s.unnamed.IsZero():
		s.unnamed = now
	default:
		lost = now.Sub(s.unnamed) >= h.cfg.LostAfter && held.uploads == 0
	}
	var orphans []*orphan
	if first {
		orphans = slices.Clone(h.orphans[s.worker])
		for _, o := range orphans {
			if !s.kept[o.job.id] || o.job.id == beat.CurrentJobID { // else finished: its outcome is on the way
				h.dropOrphanLocked(o.job)
			}
		}
	}
	if h.shared && (first || s.told != beat.CurrentJobID || now.Sub(s.presented) > presentEvery) {
		s.told = beat.CurrentJobID
		message := s.presentLocked()
		defer h.tellOthers(topicWorker, s.worker, message)
	}
	kept := s.kept
	named := h.jobs[beat.CurrentJobID]
	return func(ctx context.Context) {
		for _, o := range orphans {
			if o.job != named && !kept[o.job.id] {
				h.putBack(ctx, nil, o.job, release{why: o.why, counted: o.why != "", claim: o.claim})
			}
		}
		switch {
		case held != nil && held != named:
			h.settle(ctx, s, held, lost)
		case held == nil && named != nil:
			h.reclaim(ctx, s, named)
		}
		h.kick(ctx, s)
	}
}

// settle looks at a job that the session holds and that its heartbeat does not
// name: the result came from elsewhere, or the worker has finished and cannot
// deliver. Offered again, such a worker answers from its outbox.
func (h *hub) settle(ctx context.Context, s *session, j *job, lost bool) {
	switch state := j.now().State; {
	case state.Final():
		h.letGo(s, j)
	case state == store.Running && lost:
		h.log.Warn("a worker stopped naming its job", "job_id", j.id, "worker_id", s.worker)
		h.putBack(ctx, s, j, release{})
	}
}

// letGo ends the session's hold on a finished job.
func (h *hub) letGo(s *session, j *job) {
	j.mu.Lock()
	if j.holder == s {
		j.holder = nil
	}
	j.mu.Unlock()
	h.free(s, j)
}

// reclaim gives the session back a job that its worker is running and that
// nobody else has.
func (h *hub) reclaim(ctx context.Context, s *session, j *job) {
	j.mu.Lock()
	defer j.mu.Unlock()
	rec := j.now()
	if rec.State == store.Done && rec.WorkerID == s.worker { // the heartbeat crossed the answer to its result
		h.free(s, j)
		return
	}
	h.stop(ctx, s, rec)
	if j.holder != nil || rec.State.Final() || (rec.State.Claimed() && rec.WorkerID != s.worker) || !h.take(s, j) {
		return
	}
	err := h.start(ctx, s, j, "")
	if err != nil {
		h.log.Error("a job could not be claimed again", "job_id", j.id, "worker_id", s.worker, "error", err)
		h.free(s, j)
		if j.now().State.Claimed() {
			h.abandon(ctx, s.worker, j, "")
		} else {
			h.enqueue(ctx, j)
		}
		return
	}
	h.log.Info("a worker came back with its job", "job_id", j.id, "worker_id", s.worker)
	h.stop(ctx, s, j.now())
}

// take reserves a job that nobody has reserved for the session.
func (h *hub) take(s *session, j *job) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.held != nil || s.gone || (j.now().State == store.Queued && !j.queued) {
		return false
	}
	h.reserveLocked(s, j)
	return true
}

// start makes the session the holder of the job, running. With a claim it does so
// only while no other session has the job. The caller holds j.mu.
func (h *hub) start(ctx context.Context, s *session, j *job, claim string) error {
	err := h.change(ctx, j, func(rec *store.Job) error {
		switch {
		case rec.State.Final():
			return errFinished
		case rec.State.Claimed() && rec.WorkerID != s.worker: // by another process
			return notHeld(protocol.Accept{}, j.id)
		case claim != "" && rec.State.Claimed() && rec.Session != claim:
			return errStale
		case rec.State == store.Offered:
			rec.Attempts++
		case rec.State == store.Queued:
			rec.Attempts = max(rec.Attempts, 1)
		}
		if rec.StartedAt.IsZero() {
			rec.StartedAt = time.Now().UTC()
		}
		rec.State, rec.WorkerID, rec.Session = store.Running, s.worker, s.id
		rec.Held(s.worker)
		return nil
	})
	if err == nil {
		j.holder, j.last = s, s.id
	}
	return err
}

// owned says whether the session may speak about the job: it holds it, or it
// was the last to and nobody has it since. The caller holds j.mu.
func owned(s *session, j *job) bool {
	return j.holder == s || (j.holder == nil && j.last == s.id)
}

// reports says whether the session may say how the job ended: it also may when
// it resumed the job, whoever has it now. The caller holds j.mu.
func (h *hub) reports(s *session, j *job) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return owned(s, j) || s.kept[j.id]
}

// tells says whether the session may say how the job goes: it holds it, or it resumed
// it and its claim is about to be given back. The caller holds j.mu.
func (h *hub) tells(s *session, j *job) bool {
	if j.now().State != store.Running {
		return false
	}
	if owned(s, j) {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return j.holder == nil && s.kept[j.id]
}

// accept starts an attempt.
func (h *hub) accept(ctx context.Context, s *session, f protocol.Accept) error {
	j := h.job(f.JobID)
	if j == nil {
		return notHeld(f, f.JobID)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	rec := j.now()
	state := rec.State
	switch {
	case !owned(s, j) && state == store.Running && rec.WorkerID == s.worker: // it came with the job to another studio
		return nil
	case !owned(s, j):
		return notHeld(f, f.JobID)
	case state == store.Running || state.Final(): // said twice, or another's result or a cancel came first
		h.stop(ctx, s, j.now())
		return nil
	case j.holder == nil && !h.take(s, j): // the offer expired, and another will get the job
		return notHeld(f, f.JobID)
	}
	switch err := h.start(ctx, s, j, s.id); {
	case errors.Is(err, errStale): // the same, and not heard of before
		j.holder = nil
		h.free(s, j)
		return nil
	case err != nil:
		return err
	}
	h.mu.Lock()
	s.unnamed = time.Time{}
	h.mu.Unlock()
	h.stop(ctx, s, j.now())
	return nil
}

// reject puts an offered job back (§3.9). One that is not held is late and
// without meaning.
func (h *hub) reject(ctx context.Context, s *session, f protocol.Reject) {
	j := h.job(f.JobID)
	if j == nil {
		return
	}
	j.mu.Lock()
	offered := j.holder == s && j.now().State == store.Offered
	j.mu.Unlock()
	if !offered {
		return
	}
	code := cmp.Or(f.Code, classify(f.Reason))
	h.log.Info("an offer was rejected", "job_id", j.id, "worker_id", s.worker, "code", string(code), "reason", clip(f.Reason, maxError))
	if code != protocol.RejectOther {
		h.block(s)
		h.putBack(ctx, s, j, release{offer: true})
		return
	}
	h.mu.Lock()
	j.refuse(s.id)
	h.mu.Unlock()
	h.putBack(ctx, s, j, release{why: "rejected by a worker: " + f.Reason, offer: true})
}

// classify reads the code of an old worker's reject from its words.
func classify(reason string) protocol.RejectCode {
	switch {
	case strings.Contains(reason, "paused"):
		return protocol.RejectPaused
	case strings.Contains(reason, "busy"), strings.Contains(reason, "in-flight"):
		return protocol.RejectBusy
	}
	return protocol.RejectOther
}

// report keeps a job's progress for the dashboard; it is not stored.
func (h *hub) report(s *session, f protocol.Progress) {
	j := h.job(f.JobID)
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if h.tells(s, j) {
		progress := &client.Progress{Step: f.Step, Total: f.Total, Message: clip(f.Message, maxName)}
		j.progress.Store(progress)
		h.tellOthers(topicTold, j.id, toldMessage{Session: s.id, Worker: s.worker, Progress: progress})
		h.changes.touch(changedJobs)
		j.publish(client.EventProgress)
	}
}

// tell hands a piece of a job's text to who follows the job; it is not stored.
func (h *hub) tell(s *session, f protocol.Delta) {
	j := h.job(f.JobID)
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if h.tells(s, j) {
		j.add(s.worker, f.Seq, f.Text)
		h.tellOthers(topicTold, j.id, toldMessage{Session: s.id, Worker: s.worker, Delta: &client.Delta{Seq: f.Seq, Text: f.Text}})
	}
}

// completeJSON stores a JSON result and acknowledges it (§3.13.8).
func (h *hub) completeJSON(ctx context.Context, s *session, f protocol.CompleteJSON) error {
	j := h.job(f.JobID)
	if j == nil {
		return notHeld(f, f.JobID)
	}
	j.mu.Lock()
	mine, rec := h.reports(s, j), j.now()
	j.mu.Unlock()
	switch {
	case !mine:
		return notHeld(f, f.JobID)
	case rec.State == store.Done && rec.WorkerID == s.worker: // said twice
		return s.send(protocol.CompleteAck{JobID: j.id})
	}
	if !rec.State.Final() {
		result, err := h.store.Put(ctx, folder(rec), int64(len(f.Result)), bytes.NewReader(f.Result))
		if err != nil {
			return err
		}
		result.Ext, result.ContentType = "json", "application/json"
		if err := h.commit(ctx, s.worker, j, result, ""); err != nil {
			err = errors.Join(err, h.store.Discard(ctx, result))
			if !errors.Is(err, errFinished) {
				return err
			}
		}
	}
	err := s.send(protocol.CompleteAck{JobID: j.id})
	h.letGo(s, j)
	h.kick(ctx, s)
	return err
}

// folder names the place of a result's parts. Deliveries of the same attempt may
// overlap, so each has its own.
func folder(rec store.Job) string {
	return fmt.Sprintf("%s/%d-%s", rec.ID, rec.Attempts, newID("")[:8])
}

// commit makes a stored result the job's. An ended job is errFinished; then the
// result is still a leftover.
func (h *hub) commit(ctx context.Context, worker string, j *job, result store.Result, key string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	err := h.change(ctx, j, func(rec *store.Job) error {
		if rec.State.Final() {
			return errFinished
		}
		if rec.State != store.Running { // a late result of an attempt that had been given up
			rec.Attempts = max(rec.Attempts, 1)
		}
		rec.State, rec.WorkerID, rec.Error, rec.Cancelling = store.Done, worker, "", false
		rec.FinishedAt, rec.Result, rec.DeliveryKey = time.Now().UTC(), &result, key
		return nil
	})
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.dequeueLocked(j)
	h.mu.Unlock()
	h.log.Info("a job is done", "job_id", j.id, "worker_id", worker, "bytes", result.Bytes)
	return nil
}

// delivered frees the worker that delivered a result over HTTP and finds it new
// work.
func (h *hub) delivered(ctx context.Context, worker string, j *job) {
	h.mu.Lock()
	s := h.current[worker]
	h.mu.Unlock()
	if s != nil {
		h.letGo(s, j)
		h.kick(ctx, s)
	}
}

// fail ends an attempt without a result and acknowledges it (§3.13.9).
func (h *hub) fail(ctx context.Context, s *session, f protocol.Fail) error {
	j := h.job(f.JobID)
	if j == nil {
		return notHeld(f, f.JobID)
	}
	j.mu.Lock()
	if !h.reports(s, j) && !answersCancel(s, j) {
		j.mu.Unlock()
		return notHeld(f, f.JobID)
	}
	err := h.change(ctx, j, func(rec *store.Job) error {
		switch {
		case rec.State.Final() || (rec.State == store.Queued && f.Retryable) || (j.holder != nil && j.holder != s) ||
			(rec.State.Claimed() && rec.WorkerID != s.worker):
			return errStale // nothing left to say
		case rec.State == store.Offered: // failed without a word before
			rec.Attempts++
			rec.State = store.Running
		}
		if f.Retryable || rec.Cancelling {
			h.requeue(rec, release{why: f.Error, counted: true, pause: true})
			return nil
		}
		rec.State, rec.Error, rec.FinishedAt = store.Failed, clip(f.Error, maxError), time.Now().UTC()
		return nil
	})
	if err != nil && !errors.Is(err, errStale) {
		j.mu.Unlock()
		return err
	}
	if j.holder == s {
		j.holder = nil
	}
	h.enqueue(ctx, j)
	if j.now().State.Final() {
		h.mu.Lock()
		h.dequeueLocked(j)
		h.mu.Unlock()
	}
	j.mu.Unlock()
	h.log.Info("a job attempt failed", "job_id", j.id, "worker_id", s.worker, "retryable", f.Retryable, "error", clip(f.Error, maxError))
	err = s.send(protocol.FailAck{JobID: j.id})
	h.free(s, j)
	h.kick(ctx, s)
	return err
}
