package studio

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"studioworker/studio/client"
	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

// Studios that share a store follow its records, so that each has the whole
// index, and offer what is queued to their own workers: the compare-and-set
// decides who gets it. What is not stored (progress, text, log lines, which
// worker is connected where) they tell each other.

const (
	aliveEvery   = time.Second
	aliveLimit   = 5 * time.Second  // a studio this silent is gone; its claims wait for their workers, as after a restart
	presentEvery = 15 * time.Second // between two words about a worker of which nothing changed
)

// Topics of messages; what follows the dot is an id.
const (
	topicAlive  = "alive."
	topicWorker = "worker."
	topicTold   = "told."
	topicLogs   = "logs."
	// topicSignOut: all sessions of the dashboard have ended.
	topicSignOut = "signout."
)

// aliveMessage says that a studio runs, or that it stops.
type aliveMessage struct {
	Closing bool `json:"closing,omitempty"`
}

// workerMessage says how a worker is connected to a studio.
type workerMessage struct {
	Session     string                `json:"session"`
	ConnectedAt time.Time             `json:"connectedAt"`
	Beat        time.Time             `json:"beat"`
	JobID       string                `json:"jobId,omitempty"`
	Gone        bool                  `json:"gone,omitempty"`
	Caps        protocol.Capabilities `json:"capabilities"`
}

// toldMessage is what a worker told of its running job.
type toldMessage struct {
	Session  string           `json:"session"`
	Worker   string           `json:"worker"`
	Progress *client.Progress `json:"progress,omitempty"`
	Delta    *client.Delta    `json:"delta,omitempty"`
}

// logMessage is what a worker shipped.
type logMessage struct {
	Process string              `json:"process"`
	Entries []protocol.LogEntry `json:"entries"`
}

// newSession returns the id of a session of this process.
func (h *hub) newSession() string { return newID("se-" + h.process + "-") }

// processOf returns the process of a session.
func processOf(session string) string {
	parts := strings.Split(session, "-")
	if len(parts) != 3 {
		return "" // of an older version, which has ended
	}
	return parts[1]
}

// tellOthers sends a message to the other studios, if there can be any.
func (h *hub) tellOthers(topic, id string, message any) {
	if !h.shared {
		return
	}
	data, err := json.Marshal(message)
	if err == nil {
		err = h.store.Tell(topic+id, data)
	}
	if err != nil {
		h.log.Debug("the other studios were not told", "topic", topic, "error", err)
	}
}

// share follows the store and the other studios until ctx ends.
func (s *Studio) share(ctx context.Context) error {
	h := s.hub
	var stops []func() error
	defer func() {
		for _, stop := range stops {
			if err := stop(); err != nil {
				h.log.Warn("a subscription could not be ended", "error", err)
			}
		}
	}()
	for topic, hear := range map[string]func(id string, data []byte) error{
		topicAlive:  h.hearAlive,
		topicWorker: func(id string, data []byte) error { return h.hearWorker(ctx, id, data) },
		topicTold:   h.hearTold,
		topicLogs:   h.hearLogs,
		topicSignOut: func(string, []byte) error {
			s.pages.EndSessions()
			return nil
		},
	} {
		stop, err := s.store.Hear(topic+"*", func(subject string, data []byte) {
			if err := hear(strings.TrimPrefix(subject, topic), data); err != nil {
				h.log.Warn("a message of another studio cannot be read", "topic", topic, "error", err)
			}
		})
		if err != nil {
			return err
		}
		stops = append(stops, stop)
	}
	bad := func(err error) { h.log.Error("a record cannot be followed", "error", err) }
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		s.store.Jobs.Follow(ctx, func(c store.Change[store.Job]) { h.learn(ctx, c) }, bad)
		return nil
	})
	group.Go(func() error {
		s.store.Registrations.Follow(ctx, s.people.learnRow, bad)
		return nil
	})
	group.Go(func() error {
		s.store.Workers.Follow(ctx, func(c store.Change[store.Worker]) {
			if s.people.learnWorker(c) {
				h.dismiss(ctx, c.ID)
			}
		}, bad)
		return nil
	})
	group.Go(func() error {
		tick := time.NewTicker(aliveEvery)
		defer tick.Stop()
		for {
			h.tellOthers(topicAlive, h.process, aliveMessage{})
			h.missPeers(ctx, time.Now())
			select {
			case <-ctx.Done():
				h.tellOthers(topicAlive, h.process, aliveMessage{Closing: true})
				return nil
			case <-tick.C:
			}
		}
	})
	return group.Wait()
}

// hearAlive notes that a studio runs. To one that is new it is told which workers
// are here.
func (h *hub) hearAlive(process string, data []byte) error {
	var m aliveMessage
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	if process == h.process {
		return nil
	}
	h.mu.Lock()
	_, known := h.peers[process]
	h.peers[process] = time.Now()
	var here []*session
	if m.Closing {
		h.peers[process] = time.Time{} // missPeers takes it from here
	} else if !known {
		here = slices.Clone(h.sessions)
	}
	h.mu.Unlock()
	for _, s := range here {
		h.mu.Lock()
		message := s.presentLocked()
		h.mu.Unlock()
		h.tellOthers(topicWorker, s.worker, message)
	}
	return nil
}

// missPeers gives the claims of studios that are gone their grace.
func (h *hub) missPeers(ctx context.Context, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for process, heard := range h.peers {
		if now.Sub(heard) <= aliveLimit {
			continue
		}
		delete(h.peers, process)
		h.log.Warn("another studio is gone", "process", process, "in_good_order", heard.IsZero())
		for worker, m := range h.elsewhere {
			if processOf(m.Session) == process {
				delete(h.elsewhere, worker)
			}
		}
		for worker, orphans := range h.orphans {
			for _, o := range orphans {
				if processOf(o.claim) == process {
					h.armGrace(ctx, worker, o)
				}
			}
		}
	}
}

// livesLocked says whether the studio of a session runs, as far as is known. The
// caller holds h.mu.
func (h *hub) livesLocked(session string) bool {
	process := processOf(session)
	_, ok := h.peers[process]
	return ok || process == h.process
}

// lives is livesLocked for others.
func (h *hub) lives(session string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.livesLocked(session)
}

// presentLocked describes the session to others. The caller holds the hub's mutex.
func (s *session) presentLocked() workerMessage {
	s.presented = time.Now()
	m := workerMessage{Session: s.id, ConnectedAt: s.connectedAt, Beat: s.beat.UTC(), JobID: s.busyWith, Gone: s.gone, Caps: s.caps}
	if s.held != nil {
		m.JobID = s.held.id
	}
	return m
}

// hearWorker notes where a worker is connected. When that is newer than its
// session here, this one ends, as in attach.
func (h *hub) hearWorker(ctx context.Context, worker string, data []byte) error {
	var m workerMessage
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	if processOf(m.Session) == h.process {
		return nil
	}
	defer h.changes.touch(changedWorkers)
	h.mu.Lock()
	known := h.elsewhere[worker]
	switch {
	case m.Gone && known.Session == m.Session:
		delete(h.elsewhere, worker)
	case m.Gone, m.ConnectedAt.Before(known.ConnectedAt):
	default:
		h.elsewhere[worker] = m
	}
	old := h.current[worker]
	if old == nil || m.Gone || !m.ConnectedAt.After(old.connectedAt) {
		h.mu.Unlock()
		return nil
	}
	held := h.removeLocked(old)
	h.mu.Unlock()
	h.replaced(ctx, old, held)
	return nil
}

// replaced ends a session whose worker has a newer one, which settles what this
// one was running.
func (h *hub) replaced(ctx context.Context, old *session, held *job) {
	if held != nil {
		if h.disown(old, held) {
			h.abandon(ctx, old.worker, held, "")
		} else {
			h.putBack(ctx, old, held, release{offer: true})
		}
	}
	h.spawn(ctx, func(context.Context) { old.takenOver() })
}

// hearTold takes what a worker of another studio tells of its job.
func (h *hub) hearTold(id string, data []byte) error {
	var m toldMessage
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	if processOf(m.Session) == h.process {
		return nil
	}
	j := h.known(id)
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	rec := j.now()
	if rec.State.Final() || (rec.State == store.Running && rec.Session != m.Session) {
		return nil
	}
	if m.Progress != nil {
		j.progress.Store(m.Progress)
		j.publish(client.EventProgress)
		h.changes.touch(changedJobs)
	}
	if m.Delta != nil {
		j.add(m.Worker, m.Delta.Seq, m.Delta.Text)
	}
	return nil
}

// hearLogs keeps what a worker of another studio shipped.
func (h *hub) hearLogs(worker string, data []byte) error {
	var m logMessage
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	if m.Process != h.process {
		h.storeLogs(worker, m.Entries)
	}
	return nil
}

// learn takes what is stored of a job now. What this process wrote it knows.
func (h *hub) learn(ctx context.Context, c store.Change[store.Job]) {
	if c.Deleted {
		h.forget(c.ID)
		return
	}
	j := h.known(c.ID)
	if j == nil {
		h.mu.Lock()
		creating := h.creating[c.ID]
		h.mu.Unlock()
		if creating != nil { // wait until it is told to the hub
			creating.mu.Lock()
			creating.mu.Unlock() //nolint:staticcheck // see above
		}
		j = h.introduce(c.Entry)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if c.Entry.Revision < j.revision() || c.Entry.Revision <= j.wrote {
		return
	}
	j.set(c.Entry.Value, c.Entry.Revision)
	h.changes.touch(changedJobs)
	h.place(ctx, j)
}

// introduce puts a job into the index that another process has made.
func (h *hub) introduce(e store.Entry[store.Job]) *job {
	h.mu.Lock()
	defer h.mu.Unlock()
	if j := h.jobs[e.Value.ID]; j != nil {
		return j
	}
	j := newJob(e.Value.ID)
	j.keep(&store.Entry[store.Job]{Value: e.Value}) // learn goes on from here
	h.jobs[j.id] = j
	i, _ := slices.BinarySearchFunc(h.order, j.id, byID)
	h.order = slices.Insert(h.order, i, j)
	return j
}

// forget takes a job out of the index that another process has deleted.
func (h *hub) forget(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	j := h.jobs[id]
	if j == nil {
		return
	}
	h.dequeueLocked(j)
	h.dropOrphanLocked(j)
	delete(h.jobs, id)
	if i, ok := slices.BinarySearchFunc(h.order, id, byID); ok {
		h.order = slices.Delete(h.order, i, i+1)
	}
}

// place brings what this process makes of a job in line with its record, which
// another process has changed. The caller holds j.mu.
func (h *hub) place(ctx context.Context, j *job) {
	rec := j.now()
	s := j.holder
	mine := s != nil && rec.State.Claimed() && rec.Session == s.id
	if s != nil && !mine {
		if rec.State == store.Cancelled {
			h.release(j)
			h.stop(ctx, s, rec)
		} else {
			j.holder = nil
			h.free(s, j)
		}
		h.spawn(ctx, func(ctx context.Context) { h.kick(ctx, s) })
	}
	if mine && rec.Cancelling {
		h.stopHere(ctx, j)
		return
	}
	h.mu.Lock()
	switch {
	case mine:
		h.dropOrphanLocked(j)
	case rec.State.Claimed():
		h.dequeueLocked(j)
		j.last = rec.Session
		if j.orphan == nil || j.orphan.claim != rec.Session {
			h.orphanLocked(rec.WorkerID, &orphan{job: j, why: lostText, claim: rec.Session})
			// A claim of this process that nobody holds was stored after it had been given up.
			if processOf(rec.Session) == h.process || !h.livesLocked(rec.Session) {
				h.armGrace(ctx, rec.WorkerID, j.orphan)
			}
		}
	case rec.State.Final():
		h.dequeueLocked(j)
		h.dropOrphanLocked(j)
	default:
		h.dropOrphanLocked(j)
		h.mu.Unlock()
		h.enqueue(ctx, j)
		return
	}
	h.mu.Unlock()
}

// stopHere carries out what another studio asked: to stop a job of a worker that
// is connected here. The caller holds j.mu.
func (h *hub) stopHere(ctx context.Context, j *job) {
	if j.holder.has(protocol.FeatureCancel) {
		h.stop(ctx, j.holder, j.now())
		return // who asked gives up in the end
	}
	err := h.change(ctx, j, func(rec *store.Job) error {
		if !rec.Cancelling {
			return errStale
		}
		cancelled(rec, cancelledText)
		return nil
	})
	if err != nil && !errors.Is(err, errStale) {
		h.log.Error("a job could not be cancelled", "job_id", j.id, "error", err)
		return
	}
	if j.now().State == store.Cancelled {
		h.release(j)
	}
}

// orphanLocked notes a claimed job without session here. The caller holds h.mu.
func (h *hub) orphanLocked(worker string, o *orphan) {
	h.dropOrphanLocked(o.job)
	o.worker = worker
	o.job.orphan = o
	h.orphans[worker] = append(h.orphans[worker], o)
}

// dropOrphanLocked undoes orphanLocked. The caller holds h.mu.
func (h *hub) dropOrphanLocked(j *job) {
	o := j.orphan
	if o == nil {
		return
	}
	j.orphan = nil
	if o.timer != nil {
		o.timer.Stop()
	}
	left := slices.DeleteFunc(h.orphans[o.worker], func(other *orphan) bool { return other == o })
	if len(left) == 0 {
		delete(h.orphans, o.worker)
	} else {
		h.orphans[o.worker] = left
	}
}
