package worker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"studioworker/gpu"
	"studioworker/worker/availability"
	"studioworker/worker/availability/disk"
	"studioworker/worker/availability/power"
	"studioworker/worker/availability/presence"
	"studioworker/worker/config"
	"studioworker/worker/engine"
	"studioworker/worker/job"
	"studioworker/worker/logs"
	"studioworker/worker/network"
	"studioworker/worker/observe"
	"studioworker/worker/outbox"
	"studioworker/worker/protocol"
	"studioworker/worker/registration"
	"studioworker/worker/session"
)

// Config is what a worker is made of.
type Config struct {
	Store     *config.Store
	Observers *observe.WorkerObservers
	Logs      *logs.Queue
	Log       *slog.Logger
	Router    *engine.Router
	Warm      warm // nil = no engine keeps models in memory
	GPUs      func(context.Context) ([]gpu.Device, error)
	Version   string
	Commit    string        // of the sources; empty = unknown
	Updates   bool          // this process is updated when the config wants it
	AutoStart func() bool   // the system starts this program by itself; nil = it does not
	Private   bool          // the studio runs in this program
	OutboxFS  outbox.FS     // nil = the real one
	Heartbeat time.Duration // 0 = protocol.HeartbeatInterval
	// MachineID tells this computer from others; nil = a copied config is not
	// looked for.
	MachineID func(context.Context) (string, error)
	Presence  idleReader // nil = this computer
}

// warm is an engine that keeps models in memory between jobs.
type warm interface {
	// Holds tells whether a model is in memory.
	Holds(model string) bool
	// Release takes those out of memory that no job uses, and says whether there
	// were any.
	Release() bool
}

// idleReader says how long nobody has touched the computer.
type idleReader interface {
	IdleFor(ctx context.Context) (time.Duration, error)
}

// Worker is one worker. Its methods are safe for concurrent use.
type Worker struct {
	cfg          Config
	availability *availability.Controller
	outbox       *outbox.Outbox
	deliverer    *outbox.Deliverer
	runner       *job.Runner
	registrar    *registration.Registrar
	loop         *session.Loop
	network      *network.Network
	machine      machine
	instance     string // drawn for this process

	restart chan struct{} // room for one: the registration changed, begin anew
	now     chan struct{} // closed by StopNow
	nowOnce sync.Once

	mu        sync.Mutex
	vramGB    float64 // over all cards; 0 = unknown
	machineID string  // empty = unknown
	askedAnew string  // why the registration was given up; empty = it was not, or by the person
	askedWhy  observe.Why
	private   bool
	badCA     string // what is wrong with the ca_file of the config; said already
}

// New returns a worker. It opens the outbox, beside the config in force, and
// calls nobody.
func New(cfg Config) (*Worker, error) {
	dir := filepath.Dir(cfg.Store.Path())
	w := &Worker{
		cfg: cfg, machine: thisMachine(), instance: rand.Text(), private: cfg.Private,
		restart: make(chan struct{}, 1), now: make(chan struct{}),
	}
	entries := filepath.Join(dir, "outbox")
	taking := availability.Config{
		Slot: &cfg.Observers.Availability, Settings: w.wishes, Presence: cfg.Presence, Power: power.New(power.Config{}),
		GPUMemory: w.gpuMemory, Stored: func(jobID string) bool { _, ok := w.outbox.Find(jobID); return ok }, Log: cfg.Log,
	}
	if taking.Presence == nil {
		taking.Presence = presence.New()
	}
	if cfg.Warm != nil {
		taking.Warm, taking.MakeRoom = cfg.Warm.Holds, w.makeRoom
	}
	if cfg.OutboxFS == nil { // any other may lie on no disk of this machine
		taking.FreeDisk = func() (uint64, error) { return disk.Free(entries) }
	}
	taking.Waiting = func() int64 { return cfg.Observers.Outbox.Get().Bytes }
	w.availability = availability.New(taking)
	var err error
	w.outbox, err = outbox.Open(outbox.Config{
		Dir: entries, Results: filepath.Join(dir, "results"), FS: cfg.OutboxFS,
		Log: cfg.Log, Observer: &cfg.Observers.Outbox,
	})
	if err != nil {
		return nil, fmt.Errorf("open the outbox: %w", err)
	}
	if w.network, err = network.New(network.Config{CAFile: cfg.Store.Get().CAFile}); err != nil {
		return nil, errors.Join(err, w.outbox.Close())
	}
	client := w.network.Client()
	userAgent := "studio-worker/" + cfg.Version
	w.deliverer = outbox.NewDeliverer(outbox.DelivererConfig{
		Outbox: w.outbox, HTTP: client, Target: w.target, Log: cfg.Log, UserAgent: userAgent,
		OnDone:    func(e outbox.Entry, path string) { w.runner.Delivered(e, path) },
		OnKept:    func(e outbox.Entry, reason error) { w.runner.NotDelivered(e, reason) },
		OnRefused: func(e outbox.Entry, reason error) { w.runner.NotDelivered(e, reason) },
	})
	w.runner = job.New(job.Config{
		Engines: cfg.Router, Availability: w.availability, Misfit: w.availability.RefusalOf, Outbox: w.outbox, Deliver: w.deliverer.DeliverNow,
		Origin:    w.origin,
		Observers: cfg.Observers, Log: cfg.Log,
	})
	w.registrar = registration.New(registration.Config{
		Base: w.base, Store: credentialStore{cfg.Store, w.machineHash}, Capabilities: w.capabilities, HTTP: client,
		Observer: &cfg.Observers.Registration, Log: cfg.Log, UserAgent: userAgent,
		Note: w.note,
	})
	var attempts uint32
	if n := cfg.Store.Get().WSReconnectAttempts; n != nil {
		attempts = *n
	}
	w.loop = session.NewLoop(session.LoopConfig{
		Session: session.Config{
			Capabilities: w.capabilities, Jobs: offers{w.runner}, Logs: cfg.Logs, Observers: cfg.Observers, Log: cfg.Log,
			Welcomed: w.deliverer.Kick, Heartbeat: cfg.Heartbeat, Dial: w.network.Dial,
		},
		Credentials: w.sessionCredentials, MaxAttempts: attempts,
	})
	w.showSettings()
	return w, nil
}

// Run runs the worker until ctx ends or the reconnect attempts of the config are
// spent. When ctx ends it takes no more offers, waits for the running job as
// long as the config says (drain_secs), hands back what did not finish, ships
// the last logs and returns nil. StopNow cuts the waiting short.
func (w *Worker) Run(ctx context.Context) error {
	w.logBanner()
	if err := w.checkMachine(ctx); err != nil {
		return errors.Join(err, w.outbox.Close())
	}
	w.probeGPUs(ctx)
	// The parts outlive ctx by the drain.
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, inner := errgroup.WithContext(inner)
	g.Go(func() error { return w.runner.Run(inner) })
	g.Go(func() error { return w.deliverer.Run(inner) })
	g.Go(func() error { return w.watchGPUs(inner) })
	g.Go(func() error { return w.availability.Run(inner) })
	g.Go(func() error { return w.connect(inner) })
	g.Go(func() error {
		select {
		case <-inner.Done():
		case <-ctx.Done():
			w.drain(inner)
			stop()
		}
		return nil
	})
	err := g.Wait()
	w.runner.Settle()
	w.network.Close()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, w.outbox.Close())
}

// drain takes no more jobs and waits for the running one.
func (w *Worker) drain(ctx context.Context) {
	w.availability.Stop()
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Store.Get().Drain())
	defer cancel()
	go func() { // ends with ctx
		select {
		case <-w.now:
			cancel()
		case <-ctx.Done():
		}
	}()
	w.runner.Drain(ctx)
}

// Finish takes no more jobs and returns when none is in flight, or ctx ends. There
// is no way back: the program is to stop then.
func (w *Worker) Finish(ctx context.Context) {
	w.availability.Stop()
	w.runner.Idle(ctx)
}

// Busy says whether a job is in flight, the studio's or one of this computer.
func (w *Worker) Busy() bool { return w.runner.Busy() }

// HTTP returns the client that reaches the network as the config says: by its proxies,
// with its certificates.
func (w *Worker) HTTP() *http.Client { return w.network.Client() }

// StopNow makes a Run that is waiting for its job stop it instead.
func (w *Worker) StopNow() { w.nowOnce.Do(func() { close(w.now) }) }

// connect registers and keeps a session open; it begins anew when the
// registration or the studio changed.
func (w *Worker) connect(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := w.connectOnce(ctx); err != nil {
			return err
		}
	}
	return nil
}

// connectOnce returns nil when it is to begin anew, or when ctx ended.
func (w *Worker) connectOnce(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-w.restart:
			cancel()
		case <-ctx.Done():
		}
	}()
	defer func() { cancel(); <-watched }()

	w.cfg.Observers.Session.Set(observe.Session{State: observe.SessionWaiting})
	w.showSettings()
	if !w.cfg.Store.Chosen() {
		<-ctx.Done() // nobody is called before the person has chosen a studio
		return nil
	}
	err := w.registrar.Run(ctx)
	if _, rejected := errors.AsType[*registration.RejectedError](err); rejected {
		<-ctx.Done() // until the person asks again
		return nil
	}
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("register: %w", err)
	}
	return w.loop.Run(ctx)
}

// Pause takes no more studio jobs until Resume; a running job goes on.
func (w *Worker) Pause() { w.availability.Pause() }

// PauseUntil is Pause that ends by itself at until.
func (w *Worker) PauseUntil(until time.Time) { w.availability.PauseUntil(until) }

// Resume takes studio jobs again.
func (w *Worker) Resume() { w.availability.Resume() }

// CancelJob stops the job in flight if it is that one, and says whether it was.
// The studio may offer it again, here or elsewhere.
func (w *Worker) CancelJob(id string) bool { return w.runner.Cancel(id, job.ErrCancelled) }

// RunLocal runs a job of a program on this computer, in turns with those of the
// studio; see job.Runner.RunLocal.
func (w *Worker) RunLocal(ctx context.Context, patience time.Duration, prompt string, req engine.Request, progress func(engine.Progress)) (engine.Result, error) {
	return w.runner.RunLocal(ctx, patience, prompt, req, progress)
}

// ResetRegistration forgets the registration and asks the studio anew.
func (w *Worker) ResetRegistration() error {
	if err := w.cfg.Store.Update((*config.Config).ResetRegistration); err != nil {
		return fmt.Errorf("reset the registration: %w", err)
	}
	w.cfg.Log.Info("registration was reset by the person")
	w.mu.Lock()
	w.askedAnew, w.askedWhy = "", observe.Why{}
	w.mu.Unlock()
	w.begin()
	return nil
}

// SetStudio changes the studio and registers with it. private says that the
// studio runs in this program.
func (w *Worker) SetStudio(address string, private bool) error {
	if _, err := protocol.ParseBase(address); err != nil {
		return fmt.Errorf("api_base_url: %w", err)
	}
	err := w.cfg.Store.Update(func(c *config.Config) {
		c.ResetRegistration()
		c.APIBaseURL = address
	})
	if err != nil {
		return fmt.Errorf("save the studio: %w", err)
	}
	w.mu.Lock()
	w.private = private
	w.mu.Unlock()
	w.begin()
	return nil
}

// CheckStudio asks whether a studio answers at address. Its errors are
// [observe.StudioError], or ctx's.
func (w *Worker) CheckStudio(ctx context.Context, address string) error {
	return registration.Check(ctx, w.network.Client(), "studio-worker/"+w.cfg.Version, address)
}

// ApplyConfig saves changes of settings, all or none, and takes them up at once,
// but for those that config.Descriptors marks for the next start. The values are
// texts as [config.Config.Value] gives them. A refusal is a [config.KeyError], or
// [config.ErrNotChosen].
func (w *Worker) ApplyConfig(changes map[string]string) error {
	if _, chosen := changes["api_base_url"]; !chosen && !w.cfg.Store.Chosen() {
		return config.ErrNotChosen
	}
	var refused error
	var moved bool
	err := w.cfg.Store.Update(func(c *config.Config) {
		next := *c
		for _, key := range slices.Sorted(maps.Keys(changes)) {
			if refused = next.Set(key, changes[key]); refused != nil {
				return // nothing is changed
			}
		}
		if moved = next.APIBaseURL != c.APIBaseURL; moved {
			next.ResetRegistration() // credentials are one studio's
		}
		*c = next
	})
	if err := errors.Join(refused, err); err != nil {
		return err
	}
	w.cfg.Log.Info("settings were changed by the person", "keys", slices.Sorted(maps.Keys(changes)))
	if moved {
		w.mu.Lock()
		w.private = false
		w.mu.Unlock()
		w.begin()
	}
	w.availability.Refresh()
	w.showSettings()
	return nil
}

// SetThreshold saves the largest VRAM estimate that is taken, in GiB. The studio
// hears of it with the next heartbeat.
func (w *Worker) SetThreshold(gb float64) error {
	if !w.cfg.Store.Chosen() {
		return config.ErrNotChosen
	}
	if err := w.cfg.Store.Update(func(c *config.Config) { c.VRAMThresholdGB = gb }); err != nil {
		return err
	}
	w.showSettings()
	return nil
}

func (w *Worker) begin() {
	select {
	case w.restart <- struct{}{}:
	default: // one is on its way
	}
}

func (w *Worker) base() (protocol.Base, error) {
	c := w.cfg.Store.Get()
	w.trust(c)
	return baseOf(c)
}

// trust takes up another ca_file before the next connection. One that cannot be
// used is said once, and what was trusted before stays.
func (w *Worker) trust(c config.Config) {
	err := w.network.Trust(c.CAFile)
	w.mu.Lock()
	defer w.mu.Unlock()
	said := w.badCA
	if w.badCA = ""; err != nil {
		w.badCA = err.Error()
	}
	if w.badCA != "" && w.badCA != said {
		w.cfg.Log.Error("the certificates of the config are not used", "error", err)
	}
}

func baseOf(c config.Config) (protocol.Base, error) {
	base, err := protocol.ParseBase(c.APIBaseURL)
	if err != nil {
		return base, fmt.Errorf("api_base_url: %w", err)
	}
	return base, nil
}

func (w *Worker) credentials() (session.Credentials, error) {
	c := w.cfg.Store.Get() // once: address and token of the same studio
	w.trust(c)
	base, err := baseOf(c)
	if err != nil {
		return session.Credentials{}, err
	}
	if !c.Registered() {
		return session.Credentials{}, errUnregistered
	}
	return session.Credentials{Base: base, WorkerID: c.WorkerID, Token: c.AuthToken}, nil
}

// errUnregistered says that somebody took the credentials out of the config.
var errUnregistered = observe.Because(errors.New("the credentials are gone from the config"), observe.ReasonGone, "")

// sessionCredentials is credentials for a session that is about to begin. When
// they are gone, the worker registers anew and says so.
func (w *Worker) sessionCredentials() (session.Credentials, error) {
	c, err := w.credentials()
	if errors.Is(err, errUnregistered) {
		w.cfg.Log.Warn("the credentials are gone from the config: registering anew, the operator must approve", "path", w.cfg.Store.Path())
		w.mu.Lock()
		w.askedAnew, w.askedWhy = "the credentials were removed from the config", observe.Why{Reason: observe.ReasonGone}
		w.mu.Unlock()
		w.begin()
	}
	return c, err
}

// origin says whose jobs are run now. A private studio has no lasting address:
// its port may be taken at the next start.
func (w *Worker) origin() (studioURL, workerID string) {
	c := w.cfg.Store.Get()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.private {
		return "", c.WorkerID
	}
	return c.APIBaseURL, c.WorkerID
}

func (w *Worker) target() (outbox.Target, bool) {
	c, err := w.credentials()
	return outbox.Target{Base: c.Base, WorkerID: c.WorkerID, Token: c.Token}, err == nil
}

// credentialStore keeps a registration in the config.
type credentialStore struct {
	*config.Store
	hash func(installID string) string
}

func (s credentialStore) Credentials() registration.Credentials { return credentialsOf(s.Get()) }

func credentialsOf(c config.Config) registration.Credentials {
	return registration.Credentials{
		InstallID: c.InstallID, Secret: c.RegistrationSecret.Reveal(), RequestID: c.RegistrationRequestID,
		WorkerID: c.WorkerID, AuthToken: c.AuthToken.Reveal(),
	}
}

func (s credentialStore) ReplaceCredentials(from, to registration.Credentials) error {
	var now registration.Credentials
	err := s.Update(func(c *config.Config) {
		if now = credentialsOf(*c); now != from {
			return
		}
		c.InstallID, c.RegistrationSecret, c.RegistrationRequestID = to.InstallID, config.Secret(to.Secret), to.RequestID
		c.WorkerID, c.AuthToken = to.WorkerID, config.Secret(to.AuthToken)
		if to.InstallID != from.InstallID {
			c.MachineHash = s.hash(to.InstallID)
		}
	})
	if err == nil && now != from {
		err = errors.New("the registration was changed meanwhile")
	}
	return err
}

// offers lets the runner answer a session.
type offers struct{ *job.Runner }

func (o offers) Offer(ctx context.Context, claim protocol.Claim, link session.Link) {
	o.Runner.Offer(ctx, claim, link)
}

func (o offers) Resumed(ctx context.Context, keep, drop []string, link session.Link) {
	o.Runner.Resumed(ctx, keep, drop, link)
}

func (o offers) Revoke(ctx context.Context, jobID, reason string, link session.Link) {
	o.Runner.Revoke(ctx, jobID, reason, link)
}

// Reload takes up a config that another process changed. A session begins anew
// when its credentials or its studio are not those of the config any more.
func (w *Worker) Reload() {
	w.cfg.Log.Info("config is read again")
	w.availability.Refresh()
	w.begin()
}
