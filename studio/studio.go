package studio

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"

	"studioworker/studio/dashboard"
	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

// Cluster says how to reach a JetStream cluster.
type Cluster = store.Cluster

// Config says where a studio keeps its data and where it listens. Zero times
// and limits mean the defaults.
type Config struct {
	Data        string // folder; created with mode 0700
	Listen      string // host:port; port 0 takes a free one
	AutoApprove bool   // approve registration requests that come from loopback
	PublicURL   string // how others reach the studio, as https://host; empty: as each names it
	Version     string
	Log         *slog.Logger
	Access      *slog.Logger // a line for each request; nil: to Log, as debug

	TLSCert        string         // PEM file; with TLSKey the studio speaks HTTPS
	TLSKey         string         // PEM file
	WebhookAllow   []netip.Prefix // private networks that webhooks may be in
	TrustedProxies []netip.Prefix // whose X-Forwarded-For and -Proto are believed

	AcceptDamage bool     // start with what is left of a damaged store
	Cluster      *Cluster // a JetStream cluster that keeps the records; nil: a server inside this process

	HeartbeatTooOld time.Duration // a worker this silent is dropped; default 30 s
	CheckEvery      time.Duration // how often that is looked at; default 10 s
	OfferExpiry     time.Duration // an unanswered offer is taken back; default 15 s
	ReclaimGrace    time.Duration // a claim waits for its worker to reconnect; default 60 s
	CancelLimit     time.Duration // a worker may take this long to stop a job; default 10 s
	LostAfter       time.Duration // heartbeats stopped naming a running job; default 10 s
	MaxAttempts     int           // default 3
	RetryPause      time.Duration // before the second attempt of a job that failed, then four times longer each; default 1 s
	CallLimit       time.Duration // a call under /v1 may take this long; default 9 min, before its clients give up
	MaxQueued       int           // jobs that may wait; default 100,000
	MaxQueuedByKey  int           // of one API key; default 1,000
	MaxResult       int64         // bytes of one result; default 2 GiB
	MaxInputs       int64         // bytes of all inputs together; default 20 GiB
	KeepFor         time.Duration // a job and its result stay this long after its end; default 30 days
	KeepJobs        int           // ended jobs that stay; default 500,000
	KeepBytes       int64         // of their results together; default 100 GiB
	SweepEvery      time.Duration // how often what is old is removed; default 10 min
}

const (
	shutdownLimit = 10 * time.Second
	headerLimit   = 10 * time.Second
	idleLimit     = 2 * time.Minute
	maxHeader     = 32 << 10
	muchToRead    = 1000 // jobs
)

// Studio is a studio that holds its folder and its address.
type Studio struct {
	cfg       Config
	store     *store.Store
	listener  net.Listener
	token     string
	people    *registry
	keys      keys
	inputs    inputRoom
	modelling sync.Mutex // held over a change of the model registry
	hub       *hub
	webhooks  *webhooks
	done      chan struct{} // closed when Run begins to end; event streams watch it
	streams   chan struct{} // a seat for each event stream
	upgrader  *websocket.Upgrader
	admission *admission

	guard        *guard
	certificate  *certificate // nil = plain HTTP
	metrics      *metrics
	metricsToken string
	changes      *changes
	pages        *dashboard.Dashboard
	handler      http.Handler
}

// New opens the data folder and binds the address. A taken port, a folder that
// cannot be written or that another studio uses ends in one error. It serves
// nothing before Run.
func New(cfg Config) (*Studio, error) {
	cfg.HeartbeatTooOld = cmp.Or(cfg.HeartbeatTooOld, protocol.HeartbeatTooOld)
	cfg.CheckEvery = cmp.Or(cfg.CheckEvery, 10*time.Second)
	cfg.OfferExpiry = cmp.Or(cfg.OfferExpiry, 15*time.Second)
	cfg.ReclaimGrace = cmp.Or(cfg.ReclaimGrace, time.Minute)
	cfg.CancelLimit = cmp.Or(cfg.CancelLimit, 10*time.Second)
	cfg.LostAfter = cmp.Or(cfg.LostAfter, 10*time.Second)
	cfg.MaxAttempts = cmp.Or(cfg.MaxAttempts, 3)
	cfg.MaxResult = cmp.Or(cfg.MaxResult, 2<<30)
	cfg.RetryPause = cmp.Or(cfg.RetryPause, time.Second)
	cfg.CallLimit = cmp.Or(cfg.CallLimit, 9*time.Minute)
	cfg.MaxQueued = cmp.Or(cfg.MaxQueued, 100_000)
	cfg.MaxQueuedByKey = cmp.Or(cfg.MaxQueuedByKey, 1000)
	cfg.MaxInputs = cmp.Or(cfg.MaxInputs, 20<<30)
	cfg.KeepFor = cmp.Or(cfg.KeepFor, 30*24*time.Hour)
	cfg.KeepJobs = cmp.Or(cfg.KeepJobs, 500_000)
	cfg.KeepBytes = cmp.Or(cfg.KeepBytes, 100<<30)
	cfg.SweepEvery = cmp.Or(cfg.SweepEvery, 10*time.Minute)
	switch {
	case cfg.Data == "":
		return nil, errors.New("the studio has no data folder")
	case cfg.Log == nil:
		return nil, errors.New("the studio has no logger")
	}
	guard, err := newGuard(cfg)
	if err != nil {
		return nil, fmt.Errorf("start the studio: %w", err)
	}
	var cert *certificate
	if guard.tls {
		if cert, err = loadCertificate(cfg.TLSCert, cfg.TLSKey, cfg.Log); err != nil {
			return nil, fmt.Errorf("start the studio: %w", err)
		}
	}

	ctx := context.Background() // opening ends by its own limits
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("start the studio: %w", err)
	}
	s := &Studio{
		cfg: cfg, listener: listener, upgrader: newUpgrader(),
		admission: newAdmission(upgradesPerSecond()),
		done:      make(chan struct{}), streams: make(chan struct{}, maxStreams),
		guard: guard, certificate: cert, metrics: newMetrics(cfg.Version), changes: newChanges(),
	}
	if s.store, err = store.Open(ctx, store.Config{Dir: cfg.Data, AcceptDamage: cfg.AcceptDamage, Cluster: cfg.Cluster, Log: cfg.Log}); err != nil {
		return nil, errors.Join(fmt.Errorf("start the studio: %w", err), listener.Close())
	}
	if err := s.load(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start the studio: %w", err), s.store.Close(), listener.Close())
	}
	return s, nil
}

func (s *Studio) load(ctx context.Context) (err error) {
	if s.token, err = readToken(s.cfg.Data, operatorTokenFile); err != nil {
		return err
	}
	if s.metricsToken, err = readToken(s.cfg.Data, metricsTokenFile); err != nil {
		return err
	}
	s.keys = keys{s.store.Keys}
	s.inputs.most = s.cfg.MaxInputs
	if s.people, err = loadRegistry(ctx, s.store, s.cfg.Log, s.changes); err != nil {
		return err
	}
	has, err := readJobs(ctx, s.store)
	if err != nil {
		return err
	}
	var tidying sync.WaitGroup
	defer tidying.Wait()
	if len(has.jobs) > muchToRead {
		tidying.Go(debug.FreeOSMemory) // reading left more behind than is kept
	}
	if err := s.store.Verify(ctx); err != nil { // before anything is written
		return err
	}
	if err := seedModels(ctx, s.store.Models); err != nil {
		return err
	}
	if s.hub, err = loadHub(ctx, s.cfg, s.store, has); err != nil {
		return err
	}
	inputs, _, err := s.store.Inputs.All(ctx) // what cannot be read was said
	if err != nil {
		return err
	}
	for _, e := range inputs {
		s.inputs.stored += e.Value.Data.Bytes
	}
	s.hub.changes, s.hub.moved = s.changes, s.metrics.moved
	s.webhooks = newWebhooks(s.hub, s.cfg, s.store.Webhooks)
	s.hub.ended = s.webhooks.ended
	s.metrics.registry.MustRegister(newCensus(s))
	s.handler, err = s.routes()
	return err
}

// Addr returns the address to reach the studio from this computer, as
// http://host:port, or https:// with TLS.
func (s *Studio) Addr() string {
	addr := s.listener.Addr().String()
	if host, port, err := net.SplitHostPort(addr); err == nil && net.ParseIP(host).IsUnspecified() {
		addr = net.JoinHostPort("localhost", port)
	}
	if s.guard.tls {
		return "https://" + addr
	}
	return "http://" + addr
}

// OperatorToken returns the operator's bearer token. It is a secret.
func (s *Studio) OperatorToken() string { return s.token }

// Run serves until ctx ends. Then it tells the workers (close 1012), lets
// requests end, and stops the store; jobs stay as they are and go on at the
// next start. It returns nil after that. A Studio runs once.
func (s *Studio) Run(ctx context.Context) error {
	server := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: headerLimit,
		IdleTimeout:       idleLimit,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := s.serve(server); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		s.hub.run(gctx)
		return nil
	})
	group.Go(func() error {
		s.webhooks.run(gctx)
		return nil
	})
	group.Go(func() error {
		s.housekeep(gctx)
		return nil
	})
	if s.store.Shared() {
		group.Go(func() error { return s.share(gctx) })
	}
	group.Go(func() error {
		s.store.KeepBackups(gctx)
		return nil
	})
	group.Go(func() error {
		<-gctx.Done()
		close(s.done)
		s.hub.close()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			s.cfg.Log.Warn("requests were cut off at shutdown", "error", err)
			return server.Close()
		}
		return nil
	})
	s.cfg.Log.Info("studio is up", "address", s.Addr(), "version", s.cfg.Version)
	err := group.Wait()
	s.hub.wait()
	return errors.Join(err, s.store.Close())
}

// serve accepts connections until the server is shut down.
func (s *Studio) serve(server *http.Server) error {
	if s.certificate == nil {
		return server.Serve(s.listener)
	}
	server.TLSConfig = s.certificate.config()
	return server.ServeTLS(s.listener, "", "")
}
