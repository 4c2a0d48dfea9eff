package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"studioworker/worker/protocol"
)

// How long an entry waits before it is tried again: a random time up to a bound
// that doubles from the first to the last of these.
const (
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
)

// missingFor is how long a studio may answer 404 before the entry goes to
// kept/: it may have been restored from a backup that does not know the job yet.
const missingFor = 24 * time.Hour

// settledMemory is how many endings are remembered for DeliverNow, whose entry
// Run may have sent just before.
const settledMemory = 64

// Errors for which an entry waits although nothing was sent.
var (
	ErrNoStudio    = errors.New("this worker is not registered with a studio")
	ErrOtherStudio = errors.New("the result belongs to another studio")
	ErrNotAllowed  = errors.New("the studio does not accept this worker's token")
	errAskedToWait = errors.New("the studio asked to wait")
)

// Target is where results go now.
type Target struct {
	Base     protocol.Base
	WorkerID string
	Token    protocol.Secret // it goes into one header and nowhere else
}

// State says where an entry is after a try to deliver it.
type State string

// The states. In all but StateWaiting the entry has left ready/.
const (
	StateDelivered State = "delivered" // the studio has it
	StateWaiting   State = "waiting"   // Run tries again
	StateKept      State = "kept"      // waits in kept/ for the job to be offered again
	StateRefused   State = "refused"   // lies in refused/, or was dropped because the job is gone
)

// Outcome is the result of a try.
type Outcome struct {
	State State
	Path  string // delivered: the absolute path of the file in results/; empty when it could not be moved
}

// DelivererConfig says what to deliver, where to, and who hears of it. The
// functions may be nil, Target excepted. They are called once for each entry
// that leaves ready/, by the goroutine that delivered it and before DeliverNow
// returns. They must not call the Deliverer.
type DelivererConfig struct {
	Outbox *Outbox
	// HTTP gives transport and cookies. Its redirect policy and its time limit
	// are replaced: an upload has limits of its own (15 s to connect, 60 s
	// without progress).
	HTTP *http.Client
	// Target returns where to deliver, or false while there is nowhere. It is
	// asked before each try.
	Target    func() (Target, bool)
	Log       *slog.Logger
	UserAgent string
	OnDone    func(e Entry, path string)
	OnKept    func(e Entry, reason error)
	OnRefused func(e Entry, reason error)
}

// Deliverer uploads the results that are bytes. One upload runs at a time.
type Deliverer struct {
	o         *Outbox
	http      *http.Client
	target    func() (Target, bool)
	log       *slog.Logger
	userAgent string
	onDone    func(Entry, string)
	onKept    func(Entry, error)
	onRefused func(Entry, error)

	kick    chan struct{} // room for one
	sending chan struct{} // holds one token: who has it may send

	mu      sync.Mutex
	studio  wait             // for all entries
	parked  error            // why nothing is sent until Kick; nil = it is
	notes   map[string]notes // about single entries, by key
	settled []settled        // the last endings, oldest first
}

// wait is how long something is not tried, and how often it failed in a row.
type wait struct {
	failures int
	until    time.Time
	asked    bool // the studio named the time
}

// notes is what the Deliverer knows about an entry in ready/.
type notes struct {
	wait   wait
	digest string // of the upload's body, once the file was checked
	acked  bool   // the studio has it, only the disk said no
	told   bool   // the log said that it belongs to another studio
}

type settled struct {
	key     string
	outcome Outcome
	err     error
}

// NewDeliverer returns a Deliverer that does nothing until Run or DeliverNow.
func NewDeliverer(cfg DelivererConfig) *Deliverer {
	client := *cfg.HTTP
	client.CheckRedirect = checkRedirect
	client.Timeout = 0
	return &Deliverer{
		o: cfg.Outbox, http: &client, target: cfg.Target, log: cfg.Log, userAgent: cfg.UserAgent,
		onDone: cfg.OnDone, onKept: cfg.OnKept, onRefused: cfg.OnRefused,
		kick:    make(chan struct{}, 1),
		sending: make(chan struct{}, 1),
		notes:   map[string]notes{},
	}
}

// Run sends what is in ready/, oldest first, until ctx ends, and returns its
// cause. JSON results are not its business. A studio that cannot be reached
// holds all entries up; an answer that is about one entry only holds up that
// one. It also removes what expires in kept/, which OnRefused hears of.
func (d *Deliverer) Run(ctx context.Context) error {
	const least = 10 * time.Millisecond // what could not be removed is not tried in a spin
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next, ok := d.round(ctx)
		gone, expiry := d.o.expire()
		for _, e := range gone {
			if d.onRefused != nil {
				d.onRefused(e, errExpired)
			}
		}
		if !expiry.IsZero() && (!ok || expiry.Before(next)) {
			next, ok = expiry, true
		}
		var due <-chan time.Time
		if ok {
			timer.Reset(max(time.Until(next), least))
			due = timer.C
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-due:
		case <-d.kick:
		case <-d.o.wake:
		}
	}
}

// Kick says that the session is up: what waits is tried now, unless the studio
// itself named a later time.
func (d *Deliverer) Kick() {
	d.mu.Lock()
	d.parked = nil
	d.studio = d.studio.kicked()
	for key, n := range d.notes {
		n.wait = n.wait.kicked()
		d.notes[key] = n
	}
	d.mu.Unlock()
	d.wakeRun()
}

func (d *Deliverer) wakeRun() {
	select {
	case d.kick <- struct{}{}:
	default: // Run has not seen the last one
	}
}

func (w wait) kicked() wait {
	w.failures = 0
	if !w.asked {
		w.until = time.Time{}
	}
	return w
}

// DeliverNow tries once to deliver the entry of a job that has just finished or
// was offered again, also one from kept/. When the entry stays in ready/, Run
// goes on with it. It waits for an upload that is in flight. If that one was for
// the same entry, its outcome is returned. The error says why the entry was not
// delivered.
func (d *Deliverer) DeliverNow(ctx context.Context, e Entry) (Outcome, error) {
	if e.JSON() {
		return Outcome{}, fmt.Errorf("deliver job %q: a JSON result is not uploaded", e.JobID)
	}
	release, err := d.acquire(ctx)
	if err != nil {
		return Outcome{State: StateWaiting}, err
	}
	defer release()
	now, err := d.o.waiting(e)
	if errors.Is(err, ErrNotFound) {
		if past, ok := d.ending(e); ok && e.KeptAt.IsZero() {
			return past.outcome, past.err // Run was first
		}
		now, err = d.o.promote(e)
	}
	if err != nil {
		return Outcome{}, err
	}
	d.mu.Lock()
	parked, studio := d.parked, d.studio
	d.mu.Unlock()
	switch {
	case parked != nil:
		return Outcome{State: StateWaiting}, parked
	case studio.asked && time.Now().Before(studio.until):
		return Outcome{State: StateWaiting}, errAskedToWait
	}
	return d.deliver(ctx, now)
}

func (d *Deliverer) acquire(ctx context.Context) (release func(), err error) {
	select {
	case d.sending <- struct{}{}:
		return func() { <-d.sending }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (d *Deliverer) ending(e Entry) (settled, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.IndexFunc(d.settled, func(s settled) bool { return s.key == e.key() })
	if i < 0 {
		return settled{}, false
	}
	return d.settled[i], true
}

// round tries each entry that is due. It returns when the next one is, and
// false when none is before something happens.
func (d *Deliverer) round(ctx context.Context) (next time.Time, ok bool) {
	entries := d.forgetGone()
	for _, e := range entries {
		if e.JSON() {
			continue
		}
		release, err := d.acquire(ctx)
		if err != nil {
			return time.Time{}, false
		}
		// What DeliverNow sent meanwhile is not in ready/ any more.
		if now, err := d.o.waiting(e); err == nil && d.due(e) {
			_, err = d.deliver(ctx, now)
			if err != nil && ctx.Err() == nil {
				d.log.Debug("result waits", "job_id", e.JobID, "error", err)
			}
		}
		release()
		d.mu.Lock()
		parked, studio, own := d.parked, d.studio, d.notes[e.key()].wait
		d.mu.Unlock()
		switch {
		case parked != nil || ctx.Err() != nil:
			return time.Time{}, false
		case time.Now().Before(studio.until):
			return studio.until, true
		case time.Now().Before(own.until) && (!ok || own.until.Before(next)):
			next, ok = own.until, true
		}
	}
	return next, ok
}

// forgetGone forgets what was known of entries that others took out of ready/,
// and returns what is there.
func (d *Deliverer) forgetGone() []Entry {
	d.mu.Lock()
	noted := slices.Collect(maps.Keys(d.notes))
	d.mu.Unlock()
	entries := d.o.Entries() // after the look at the notes: what comes meanwhile keeps its own
	there := make(map[string]bool, len(entries))
	for _, e := range entries {
		there[e.key()] = true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, key := range noted {
		if !there[key] {
			delete(d.notes, key)
		}
	}
	return entries
}

// due says whether nothing speaks against trying e now.
func (d *Deliverer) due(e Entry) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	return d.parked == nil && !now.Before(d.studio.until) && !now.Before(d.notes[e.key()].wait.until)
}

// deliver tries once to deliver e, which is in ready/. The caller may send.
func (d *Deliverer) deliver(ctx context.Context, e Entry) (Outcome, error) {
	t, ok := d.target()
	if !ok {
		return d.park(ErrNoStudio)
	}
	n := d.note(e, func(*notes) {})
	if base, err := protocol.ParseBase(e.StudioURL); e.StudioURL != "" && (err != nil || base != t.Base) {
		if !n.told {
			d.log.Warn("result not delivered, it belongs to another studio", "job_id", e.JobID, "studio", e.StudioURL)
			d.note(e, func(n *notes) { n.told = true })
		}
		return Outcome{State: StateWaiting}, ErrOtherStudio
	}
	if n.acked {
		return d.delivered(e)
	}
	u, err := newUpload(d.o, e)
	if err == nil && n.digest == "" {
		n.digest, err = u.digest()
	}
	switch {
	case errors.Is(err, ErrDamaged):
		return d.refused(e, d.o.Refuse(e, err), err)
	case err != nil: // the disk's fault, not the studio's
		return d.retry(e, verdictRetry, 0, err)
	}
	d.note(e, func(now *notes) { now.digest = n.digest })
	a, err := d.send(ctx, u, n.digest, t)
	switch {
	case errors.Is(err, ErrDamaged): // since its digest was taken
		return d.refused(e, d.o.Refuse(e, err), err)
	case err != nil && ctx.Err() != nil:
		return Outcome{State: StateWaiting}, context.Cause(ctx)
	case err != nil:
		return d.retry(e, verdictStudioDown, 0, err)
	}
	return d.obey(e, a)
}

// obey does what the studio's answer asks for.
func (d *Deliverer) obey(e Entry, a answer) (Outcome, error) {
	v := judge(a.status, a.html)
	if v != verdictStudioDown {
		d.studioAnswers()
	}
	switch v {
	case verdictDelivered:
		return d.delivered(e)
	case verdictKeep:
		return d.keep(e, a.err())
	case verdictDrop:
		d.log.Warn("result dropped, its job is gone", "job_id", e.JobID)
		return d.refused(e, d.o.Drop(e), a.err())
	case verdictRefuse:
		return d.refused(e, d.o.Refuse(e, a.err()), a.err())
	case verdictPark:
		d.o.noteTry(e, false, a.err())
		return d.park(fmt.Errorf("%w: %w", ErrNotAllowed, a.err()))
	case verdictMissing:
		if !e.MissingSince.IsZero() && time.Since(e.MissingSince) > missingFor {
			return d.keep(e, a.err())
		}
	case verdictRetry, verdictStudioDown:
	}
	return d.retry(e, v, a.again, a.err())
}

// note changes what is known about e and returns it.
func (d *Deliverer) note(e Entry, change func(*notes)) notes {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.notes[e.key()]
	change(&n)
	d.notes[e.key()] = n
	return n
}

// studioAnswers ends the wait for the studio, for all entries.
func (d *Deliverer) studioAnswers() {
	d.mu.Lock()
	was := d.studio
	d.studio = wait{}
	d.mu.Unlock()
	if was.failures > 0 {
		d.wakeRun() // DeliverNow found out, and Run may be asleep
	}
}

// delivered takes an acknowledged entry out of the outbox.
func (d *Deliverer) delivered(e Entry) (Outcome, error) {
	path, err := d.o.Delivered(e)
	if err != nil {
		if _, there := d.o.waiting(e); there == nil {
			// The studio has it. Only the move is tried again.
			d.note(e, func(n *notes) { n.acked = true })
			return d.retry(e, verdictRetry, 0, err)
		}
		d.log.Warn("delivered result not moved", "job_id", e.JobID, "error", err)
	}
	out := Outcome{State: StateDelivered, Path: path}
	d.settle(e, out, nil)
	d.log.Info("result delivered", "job_id", e.JobID, "attempt", e.Attempt, "bytes", e.Size, "tries", e.Tries)
	if d.onDone != nil {
		d.onDone(e, path)
	}
	return out, nil
}

// keep moves e to kept/, because of reason.
func (d *Deliverer) keep(e Entry, reason error) (Outcome, error) {
	if err := d.o.Keep(e); err != nil {
		return d.retry(e, verdictRetry, 0, errors.Join(reason, err))
	}
	d.settle(e, Outcome{State: StateKept}, reason)
	d.log.Warn("result kept, the studio does not want it now", "job_id", e.JobID, "reason", reason)
	if d.onKept != nil {
		d.onKept(e, reason)
	}
	return Outcome{State: StateKept}, reason
}

// refused ends e, which err says was moved away, because of reason.
func (d *Deliverer) refused(e Entry, err, reason error) (Outcome, error) {
	if err != nil {
		return d.retry(e, verdictRetry, 0, errors.Join(reason, err))
	}
	d.settle(e, Outcome{State: StateRefused}, reason)
	if d.onRefused != nil {
		d.onRefused(e, reason)
	}
	return Outcome{State: StateRefused}, reason
}

// retry puts off e, or all entries when the studio is not there.
func (d *Deliverer) retry(e Entry, v verdict, again time.Duration, reason error) (Outcome, error) {
	d.o.noteTry(e, v == verdictMissing, reason)
	if v == verdictStudioDown {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.studio = d.studio.failed(again)
	} else {
		d.note(e, func(n *notes) { n.wait = n.wait.failed(again) })
	}
	return Outcome{State: StateWaiting}, reason
}

// failed is the wait after one more failure. again is what the studio asked
// for, 0 if nothing.
func (w wait) failed(again time.Duration) wait {
	most := min(firstRetry<<min(w.failures, 10), lastRetry)
	w.failures++
	w.asked = again > 0
	if !w.asked {
		// Full jitter: workers that failed together do not come back together.
		again = rand.N(most) //nolint:gosec // spreads load, guards nothing
	}
	w.until = time.Now().Add(again)
	return w
}

// park stops all sending until Kick, because of reason.
func (d *Deliverer) park(reason error) (Outcome, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.parked = reason
	return Outcome{State: StateWaiting}, reason
}

// settle remembers how e ended.
func (d *Deliverer) settle(e Entry, out Outcome, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.notes, e.key())
	d.settled = slices.DeleteFunc(d.settled, func(s settled) bool { return s.key == e.key() })
	d.settled = append(d.settled, settled{e.key(), out, err})
	if len(d.settled) > settledMemory {
		d.settled = slices.Delete(d.settled, 0, 1)
	}
}
