package studio

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

// maxPending bounds the requests that wait for the operator: anyone can send
// them.
const maxPending = 1000

var (
	errNoRegistration = errors.New("there is no such registration request")
	errNoWorker       = errors.New("there is no such worker")
	errNotPending     = errors.New("the registration request was decided already")
	errTooManyPending = errors.New("too many registration requests wait for approval")
)

// registry knows who asked to be let in and who was. Its mutex is held over
// writes: they are rare.
type registry struct {
	store *store.Store
	log   *slog.Logger
	told  *changes

	lookUp func(workerID string) // takes a worker from the store into the index, if it is there

	mu      sync.Mutex
	rows    map[string]store.Entry[store.Registration]
	workers map[string]store.Entry[store.Worker]
}

func loadRegistry(ctx context.Context, st *store.Store, log *slog.Logger, told *changes) (*registry, error) {
	r := &registry{
		store: st, log: log, told: told,
		rows: map[string]store.Entry[store.Registration]{}, workers: map[string]store.Entry[store.Worker]{},
	}
	lookUps := context.WithoutCancel(ctx) // the store has its own limit
	r.lookUp = func(workerID string) {
		if err := r.refreshWorker(lookUps, workerID); err != nil {
			log.Warn("a worker could not be looked up", "worker_id", workerID, "error", err)
		}
	}
	rows, badRows, err := st.Registrations.All(ctx)
	if err != nil {
		return nil, err
	}
	workers, badWorkers, err := st.Workers.All(ctx)
	if err != nil {
		return nil, err
	}
	for _, err := range slices.Concat(badRows, badWorkers) {
		log.Error("a record cannot be read and is left out", "error", err)
	}
	for _, e := range rows {
		r.rows[e.Value.ID] = e
	}
	for _, e := range workers {
		r.workers[e.Value.ID] = e
	}
	return r, nil
}

// request files a request and returns its row. The same install id with the
// same secret hash gets the row it has; with another hash it gets a new row,
// and a pending one it had is superseded (§2.7.2). The hash of a row never
// changes.
func (r *registry) request(ctx context.Context, req protocol.RegisterRequest, address string, approve bool) (store.Registration, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pending := 0
	var old []store.Entry[store.Registration]
	for _, e := range r.rows {
		if e.Value.Status == store.Pending {
			pending++
		}
		if e.Value.InstallID != req.InstallID || e.Value.Status == store.Superseded {
			continue
		}
		if e.Value.SecretHash == req.RegistrationSecretHash {
			return e.Value, nil
		}
		if e.Value.Status == store.Pending {
			old = append(old, e)
		}
	}
	if pending-len(old) >= maxPending {
		return store.Registration{}, errTooManyPending
	}
	row := store.Registration{
		ID: newID("rr-"), InstallID: req.InstallID, SecretHash: req.RegistrationSecretHash, Status: store.Pending,
		Name: clip(req.Capabilities.MachineName, maxName), Username: clip(req.Capabilities.Username, maxName),
		UserAgent: clip(req.UserAgent, maxName), Address: address, CreatedAt: time.Now().UTC(),
	}
	revision, err := r.store.Registrations.Create(ctx, row.ID, row)
	if err != nil {
		return store.Registration{}, err
	}
	entry := store.Entry[store.Registration]{Value: row, Revision: revision}
	r.rows[row.ID] = entry
	r.told.touch(changedRegistrations)
	for _, e := range old {
		e.Value.Status = store.Superseded
		if err := r.put(ctx, e); err != nil {
			return store.Registration{}, err
		}
	}
	r.log.Info("a worker asks to be let in", "request_id", row.ID, "name", row.Name, "address", address)
	if approve {
		if err := r.approve(ctx, entry); err != nil {
			return store.Registration{}, err
		}
	}
	return row, nil
}

// poll answers a worker that waits (§2.4). A request that is unknown, or whose
// secret is another, is errNoRegistration. Each approved answer carries a fresh
// token; the one before stops working.
func (r *registry) poll(ctx context.Context, id, secret string) (protocol.PollResponse, error) {
	if err := r.refresh(ctx, id); err != nil {
		return protocol.PollResponse{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.rows[id]
	if !matches(secret, e.Value.SecretHash) || !ok {
		return protocol.PollResponse{}, errNoRegistration
	}
	switch e.Value.Status {
	case store.Pending:
		return protocol.PollResponse{Status: protocol.StatusPending}, nil
	case store.Rejected:
		return protocol.PollResponse{Status: protocol.StatusRejected, Reason: e.Value.Reason}, nil
	case store.Approved:
		worker, ok := r.workers[e.Value.WorkerID]
		if !ok { // it was removed
			return protocol.PollResponse{}, errNoRegistration
		}
		token := newSecret()
		worker.Value.TokenHash = hashed(token)
		revision, err := r.store.Workers.Update(ctx, worker.Value.ID, worker.Value, worker.Revision)
		if err != nil {
			return protocol.PollResponse{}, err
		}
		worker.Revision = revision
		r.workers[worker.Value.ID] = worker
		return protocol.PollResponse{Status: protocol.StatusApproved, WorkerID: worker.Value.ID, AuthToken: token}, nil
	case store.Superseded:
	}
	return protocol.PollResponse{}, errNoRegistration
}

// decide approves or rejects a pending request. Deciding the same again is
// fine; deciding otherwise is errNotPending.
func (r *registry) decide(ctx context.Context, id string, status store.RegistrationStatus, reason string) (store.Registration, error) {
	if err := r.refresh(ctx, id); err != nil {
		return store.Registration{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.rows[id]
	switch {
	case !ok:
		return store.Registration{}, errNoRegistration
	case e.Value.Status == status:
		return e.Value, nil
	case e.Value.Status != store.Pending:
		return store.Registration{}, errNotPending
	case status == store.Approved:
		if err := r.approve(ctx, e); err != nil {
			return store.Registration{}, err
		}
		return r.rows[id].Value, nil
	}
	e.Value.Status, e.Value.Reason = status, reason
	if err := r.put(ctx, e); err != nil {
		return store.Registration{}, err
	}
	r.log.Info("a worker was rejected", "request_id", id)
	return r.rows[id].Value, nil
}

// approve makes the worker first: a crash between the writes leaves a worker
// that nobody can be, and the request still pending.
func (r *registry) approve(ctx context.Context, e store.Entry[store.Registration]) error {
	worker := store.Worker{
		ID: newID("wk-"), InstallID: e.Value.InstallID, Name: e.Value.Name, Username: e.Value.Username, CreatedAt: time.Now().UTC(),
	}
	revision, err := r.store.Workers.Create(ctx, worker.ID, worker)
	if err != nil {
		return err
	}
	r.workers[worker.ID] = store.Entry[store.Worker]{Value: worker, Revision: revision}
	e.Value.Status, e.Value.WorkerID = store.Approved, worker.ID
	if err := r.put(ctx, e); err != nil {
		return err
	}
	r.log.Info("a worker was approved", "request_id", e.Value.ID, "worker_id", worker.ID, "name", worker.Name)
	return nil
}

// remove forgets a worker: its token is void at once. An unknown one is
// errNoWorker. Its requests are superseded, so that the same secret does not
// find them again; a crash before that leaves requests that answer as unknown.
func (r *registry) remove(ctx context.Context, id string) error {
	if err := r.refreshWorker(ctx, id); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	worker, ok := r.workers[id]
	if !ok {
		return errNoWorker
	}
	if err := r.store.Workers.Delete(ctx, id, worker.Revision); err != nil {
		return err
	}
	delete(r.workers, id)
	r.told.touch(changedWorkers)
	r.log.Info("a worker was removed", "worker_id", id, "name", worker.Value.Name)
	for _, e := range r.rows {
		if e.Value.WorkerID != id || e.Value.Status != store.Approved {
			continue
		}
		e.Value.Status = store.Superseded
		if err := r.put(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

func (r *registry) put(ctx context.Context, e store.Entry[store.Registration]) error {
	revision, err := r.store.Registrations.Update(ctx, e.Value.ID, e.Value, e.Revision)
	if err != nil {
		return err
	}
	e.Revision = revision
	r.rows[e.Value.ID] = e
	r.told.touch(changedRegistrations)
	r.told.touch(changedWorkers)
	return nil
}

// authentic says whether token is the worker's.
func (r *registry) authentic(workerID, token string) bool {
	if r.holds(workerID, token) {
		return true
	}
	if !r.store.Shared() {
		return false
	}
	// Another process may have given out the token just now.
	r.lookUp(workerID)
	return r.holds(workerID, token)
}

func (r *registry) holds(workerID, token string) bool {
	r.mu.Lock()
	e := r.workers[workerID] // of an unknown worker the hash is empty, which nothing matches
	r.mu.Unlock()
	return matches(token, e.Value.TokenHash)
}

// refresh reads a request and its worker from a store that other processes
// change, too.
func (r *registry) refresh(ctx context.Context, id string) error {
	if !r.store.Shared() {
		return nil
	}
	e, err := r.store.Registrations.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	r.learnRow(store.Change[store.Registration]{ID: id, Entry: e})
	if e.Value.WorkerID == "" {
		return nil
	}
	return r.refreshWorker(ctx, e.Value.WorkerID)
}

func (r *registry) refreshWorker(ctx context.Context, id string) error {
	if !r.store.Shared() {
		return nil
	}
	e, err := r.store.Workers.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil // its mark of deletion comes
	}
	if err != nil {
		return err
	}
	r.learnWorker(store.Change[store.Worker]{ID: id, Entry: e})
	return nil
}

// learnRow takes what is stored of a request now.
func (r *registry) learnRow(c store.Change[store.Registration]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.Entry.Revision <= r.rows[c.ID].Revision {
		return
	}
	if c.Deleted {
		delete(r.rows, c.ID)
	} else {
		r.rows[c.ID] = c.Entry
	}
	r.told.touch(changedRegistrations)
}

// learnWorker takes what is stored of a worker now, and says whether another
// process has removed it.
func (r *registry) learnWorker(c store.Change[store.Worker]) (removed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known, ok := r.workers[c.ID]
	if c.Entry.Revision <= known.Revision {
		return false
	}
	r.told.touch(changedWorkers)
	if c.Deleted {
		delete(r.workers, c.ID)
		return ok
	}
	r.workers[c.ID] = c.Entry
	return false
}

// requests lists all requests that were not superseded, newest first.
func (r *registry) requests() []store.Registration {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []store.Registration
	for _, e := range r.rows {
		if e.Value.Status != store.Superseded {
			out = append(out, e.Value)
		}
	}
	slices.SortFunc(out, func(a, b store.Registration) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.ID, a.ID))
	})
	return out
}

// approved lists the workers, the oldest first.
func (r *registry) approved() []store.Worker {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []store.Worker
	for _, e := range r.workers {
		out = append(out, e.Value)
	}
	slices.SortFunc(out, func(a, b store.Worker) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return out
}

const maxName = 200 // characters of a name that a worker gives

// clip shortens a text from outside to n characters.
func clip(s string, n int) string {
	if runes := []rune(s); len(runes) > n {
		return string(runes[:n]) + "…"
	}
	return s
}
