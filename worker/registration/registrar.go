package registration

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"studioworker/worker/observe"
	"studioworker/worker/protocol"
)

// Times between two looks: short at first, while somebody may be waiting at the
// screen, then the reference's period.
const (
	firstPeriod = time.Second
	period      = 30 * time.Second
)

// refusalsToForget is how many 401 or 403 in a row count as "unknown request".
// A studio that lost the secret's hash would have us poll for ever (§2.4).
const refusalsToForget = 5

// RejectedError says that the operator does not want this worker.
type RejectedError struct{ Reason string }

func (e *RejectedError) Error() string {
	text := "the operator rejected this worker"
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	return text + "; to ask again, run `register --reset`"
}

// Credentials is what is kept of a registration (§6.3).
type Credentials struct {
	InstallID string
	Secret    string // of the pending request
	RequestID string // of the pending request
	WorkerID  string
	AuthToken string
}

// Store keeps the credentials on disk.
type Store interface {
	Credentials() Credentials
	// ReplaceCredentials returns once to is durable. When the store does not hold
	// from any more, it changes nothing and returns an error: the person reset the
	// registration while the studio was asked, and its answer is void.
	ReplaceCredentials(from, to Credentials) error
}

// Config is what a registrar needs.
type Config struct {
	Base         func() (protocol.Base, error) // read afresh for each call
	Store        Store
	Capabilities func() protocol.Capabilities
	HTTP         *http.Client
	Observer     *observe.Slot[observe.Registration]
	Log          *slog.Logger
	UserAgent    string
	// Note says why this worker asks anew; it is shown until the operator has
	// answered. Nil or empty = it does not.
	Note func() (string, observe.Why)
}

// Registrar registers one worker.
type Registrar struct {
	cfg      Config
	refusals int // 401 and 403 in a row
}

// New returns a registrar; it calls nobody before Run.
func New(cfg Config) *Registrar { return &Registrar{cfg: cfg} }

// Run returns nil once this worker is approved, a *RejectedError when the
// operator said no, and the context's error when ctx ends. Everything else is
// tried again. A worker that holds credentials makes no call.
func (r *Registrar) Run(ctx context.Context) error {
	wait, told := firstPeriod, false
	for {
		state, err := r.tick(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case state.State == observe.RegistrationApproved:
			return nil
		case state.State == observe.RegistrationRejected:
			return &RejectedError{state.Reason}
		case err != nil:
			r.cfg.Log.Warn("registration will be tried again", "error", err, "delay_ms", wait.Milliseconds())
		case state.State == observe.RegistrationPending && !told:
			told = true
			r.cfg.Log.Info("waiting for operator approval", "request_id", state.RequestID)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		wait = min(wait*2, period)
	}
}

// tick makes at most one call and moves the registration on by one step.
func (r *Registrar) tick(ctx context.Context) (observe.Registration, error) {
	// The address first: a change of studio drops the credentials with it, so
	// those of one studio are never shown to another.
	base, err := r.cfg.Base()
	kept := r.cfg.Store.Credentials()
	if kept.WorkerID != "" && kept.AuthToken != "" { // empty ones count as absent
		return r.show(observe.Registration{State: observe.RegistrationApproved, WorkerID: kept.WorkerID}), nil
	}
	if err != nil {
		return r.stay(observe.Because(err, observe.ReasonAddress, err.Error()))
	}
	if kept.RequestID == "" || kept.Secret == "" {
		return r.ask(ctx, base, kept)
	}
	return r.look(ctx, base, kept)
}

// ask sends a new request. Install id and secret are on disk before, so that a
// crash in between does not leave a request that nobody can poll.
func (r *Registrar) ask(ctx context.Context, base protocol.Base, kept Credentials) (observe.Registration, error) {
	old := kept
	kept.RequestID = "" // if there is one its secret is lost, and it is useless
	if kept.InstallID == "" {
		kept.InstallID = newInstallID()
	}
	if kept.Secret == "" {
		kept.Secret = newSecret()
	}
	if kept != old {
		if err := r.cfg.Store.ReplaceCredentials(old, kept); err != nil {
			return r.stay(observe.Otherwise(fmt.Errorf("save the install id: %w", err), observe.ReasonNotSaved))
		}
	}
	id, err := r.submit(ctx, base, protocol.RegisterRequest{
		InstallID: kept.InstallID, RegistrationSecretHash: hash(kept.Secret),
		Capabilities: r.cfg.Capabilities(), UserAgent: r.cfg.UserAgent,
	})
	if err != nil {
		return r.stay(err)
	}
	old, kept.RequestID = kept, id
	if err := r.cfg.Store.ReplaceCredentials(old, kept); err != nil {
		return r.stay(observe.Otherwise(fmt.Errorf("save the request id: %w", err), observe.ReasonNotSaved))
	}
	return r.step(observe.RegistrationPristine, submitted, observe.Registration{RequestID: id, Since: time.Now()})
}

// look polls the pending request.
func (r *Registrar) look(ctx context.Context, base protocol.Base, kept Credentials) (observe.Registration, error) {
	pending := r.cfg.Observer.Get()
	if pending.State != observe.RegistrationPending || pending.RequestID != kept.RequestID {
		pending = observe.Registration{State: observe.RegistrationPending, RequestID: kept.RequestID, Since: time.Now()}
	}
	r.show(pending)
	old := kept
	answer, err := r.poll(ctx, base, kept.RequestID, kept.Secret)
	if unknown := r.unknown(err); unknown {
		r.cfg.Log.Warn("the studio does not know the request: asking anew", "request_id", kept.RequestID)
		kept.RequestID, kept.Secret = "", ""
		if err := r.cfg.Store.ReplaceCredentials(old, kept); err != nil {
			return pending, fmt.Errorf("forget the request: %w", err)
		}
		return r.step(observe.RegistrationPending, forgotten, observe.Registration{})
	}
	if err != nil {
		return pending, err
	}
	switch answer.Status {
	case protocol.StatusPending:
		return pending, nil
	case protocol.StatusApproved:
		kept.WorkerID, kept.AuthToken, kept.RequestID, kept.Secret = answer.WorkerID, answer.AuthToken, "", ""
		if err := r.cfg.Store.ReplaceCredentials(old, kept); err != nil {
			// The next poll gets a fresh token, so nothing is lost by waiting.
			r.cfg.Log.Error("approved, but the credentials cannot be saved", "error", err)
			return pending, fmt.Errorf("save the credentials: %w", err)
		}
		r.cfg.Log.Info("approved by the operator", "worker_id", answer.WorkerID)
		return r.step(observe.RegistrationPending, granted, observe.Registration{WorkerID: answer.WorkerID})
	case protocol.StatusRejected:
		kept.RequestID, kept.Secret = "", ""
		r.cfg.Log.Error("rejected by the operator", "reason", answer.Reason)
		if err := r.cfg.Store.ReplaceCredentials(old, kept); err != nil {
			r.cfg.Log.Error("the rejection cannot be saved", "error", err)
		}
		return r.step(observe.RegistrationPending, refused, observe.Registration{Reason: answer.Reason})
	}
	return pending, fmt.Errorf("unknown status %q", answer.Status)
}

// unknown decides whether the studio has forgotten the request.
func (r *Registrar) unknown(err error) bool {
	bad, ok := errors.AsType[*statusError](err)
	switch {
	case !ok:
		r.refusals = 0
		return false
	case bad.status == http.StatusNotFound:
	case bad.status == http.StatusUnauthorized || bad.status == http.StatusForbidden:
		if r.refusals++; r.refusals < refusalsToForget {
			return false
		}
	default: // 409, 429, 5xx and others: it may know us tomorrow
		r.refusals = 0
		return false
	}
	r.refusals = 0
	return true
}

// stay keeps the registration pristine and shows why.
func (r *Registrar) stay(err error) (observe.Registration, error) {
	return r.show(observe.Registration{State: observe.RegistrationPristine, Reason: err.Error(), Why: observe.WhyOf(err)}), err
}

func (r *Registrar) step(from observe.RegistrationState, on event, to observe.Registration) (observe.Registration, error) {
	state, err := next(from, on)
	if err != nil {
		return r.cfg.Observer.Get(), err
	}
	to.State = state
	return r.show(to), nil
}

func (r *Registrar) show(state observe.Registration) observe.Registration {
	waits := state.State == observe.RegistrationPristine || state.State == observe.RegistrationPending
	if waits && state.Reason == "" && r.cfg.Note != nil {
		state.Reason, state.Why = r.cfg.Note()
	}
	r.cfg.Observer.Set(state)
	return state
}

// newInstallID makes 16 random bytes as lower-case hex in groups (§6.2).
func newInstallID() string {
	h := hex.EncodeToString(random(16))
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func newSecret() string { return hex.EncodeToString(random(32)) }

// random never fails: without its random source the program ends.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // documented never to return an error
	return b
}

// hash is over the secret's text, not the bytes it encodes (§6.2).
func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
