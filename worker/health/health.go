// Package health tells programs on this computer how the worker is: /healthz for
// supervisors, /metrics for Prometheus. It reads the observers and changes nothing; what
// it tells holds no prompt and no secret.
//
// It is off unless the config names an address, which must be one of this computer only.
package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"studioworker/worker/config"
	"studioworker/worker/observe"
)

// Limits of a request: an answer is made in milliseconds.
const (
	headerTime = 5 * time.Second
	answerTime = 10 * time.Second
	maxHeader  = 8 << 10
)

// Config says what to tell, and where.
type Config struct {
	Listen    string // host and port; the host is localhost or a loopback address
	Version   string
	Observers *observe.WorkerObservers
	Log       *slog.Logger
}

// Server answers. Run serves.
type Server struct {
	cfg      Config
	jobs     *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	handler  http.Handler
	listener net.Listener
	counted  uint64 // number of the newest job that was counted
}

// jobBuckets are upper bounds in seconds, from a short sentence to a long video.
var jobBuckets = []float64{0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600}

// New begins to listen. The caller runs the server, which closes the port.
func New(ctx context.Context, cfg Config) (*Server, error) {
	if err := config.CheckListen(cfg.Listen); err != nil {
		return nil, fmt.Errorf("health_listen: %w", err)
	}
	s := &Server{
		cfg: cfg,
		jobs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "studio_worker_jobs_finished_total", Help: "Jobs that this process finished, by kind and outcome; kept means that the result waits for the studio.",
		}, []string{"kind", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "studio_worker_job_duration_seconds", Help: "Time that the engine took, by kind.", Buckets: jobBuckets,
		}, []string{"kind"}),
	}
	_, s.counted = cfg.Observers.RecentJobs.Since(0) // those of earlier runs are not ours
	registry := prometheus.NewRegistry()
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "studio_worker_build_info", Help: "1, labelled with the version."}, []string{"version"})
	build.WithLabelValues(cfg.Version).Set(1)
	registry.MustRegister(s.jobs, s.seconds, build, now{cfg.Observers},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.health)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	s.handler = localOnly(mux)
	var err error
	if s.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", cfg.Listen); err != nil {
		return nil, fmt.Errorf("health_listen: %w", err)
	}
	return s, nil
}

// Addr is where the server listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// localOnly refuses what a web page of elsewhere asks in a browser of this computer, by a
// name that leads here.
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if !config.Loopback(host) || r.Header.Get("Origin") != "" {
			http.Error(w, "only for programs of this computer", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Run serves and counts until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	server := &http.Server{
		Handler: s.handler, ReadHeaderTimeout: headerTime, ReadTimeout: answerTime, WriteTimeout: answerTime, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	s.cfg.Log.Info("health and metrics are served", "address", s.Addr())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.count(ctx) })
	g.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	g.Go(func() error {
		if err := server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve health and metrics: %w", err)
		}
		return nil
	})
	return g.Wait()
}

// count counts each job as it is remembered.
func (s *Server) count(ctx context.Context) error {
	jobs := s.cfg.Observers.RecentJobs
	for range jobs.Newest.Watch(ctx) {
		finished, last := jobs.Since(s.counted)
		s.counted = last
		for _, j := range finished {
			s.jobs.WithLabelValues(j.Kind, string(j.Outcome)).Inc()
			s.seconds.WithLabelValues(j.Kind).Observe(j.Duration.Seconds())
		}
	}
	return nil
}

// state is what /healthz answers.
type state struct {
	OK           bool   `json:"ok"`
	Version      string `json:"version"`
	Session      string `json:"session"`
	Registration string `json:"registration"`
	Reason       string `json:"reason,omitempty"`
	Available    bool   `json:"available"`
	Sentence     string `json:"sentence,omitempty"` // why no job is taken
	Job          string `json:"job,omitempty"`
	Waiting      int    `json:"resultsWaiting"`
}

// health answers 200 while the worker works or tries by itself, 503 when a person must
// act: a restart mends neither a lost connection nor a refusal.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	o := s.cfg.Observers
	session, registration, available := o.Session.Get(), o.Registration.Get(), o.Availability.Get()
	st := state{
		OK: true, Version: s.cfg.Version, Session: string(session.State), Registration: string(registration.State), Reason: session.Reason,
		Available: available.Block == observe.BlockNone, Sentence: observe.Sentence(available, time.Now()),
		Job: o.CurrentJob.Get().ID, Waiting: o.Outbox.Get().Count,
	}
	if registration.State == observe.RegistrationRejected {
		st.OK, st.Reason = false, registration.Reason
	}
	if session.State == observe.SessionAuthFailed || session.State == observe.SessionFatal {
		st.OK = false
	}
	w.Header().Set("Content-Type", "application/json")
	if !st.OK {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(st) // who asked has gone, then
}
