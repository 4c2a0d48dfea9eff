package studio

import (
	"crypto/subtle"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

// metrics are the studio's numbers for Prometheus. What can be counted when
// somebody asks is counted then; the rest as it happens.
type metrics struct {
	registry *prometheus.Registry
	finished *prometheus.CounterVec
	wait     *prometheus.HistogramVec
	run      *prometheus.HistogramVec
	requests *prometheus.CounterVec
	latency  *prometheus.HistogramVec
	refused  *prometheus.CounterVec
}

// Upper bounds of the buckets, in seconds: an answer from memory to a long
// transfer, and a short sentence to a long video.
var (
	requestBuckets = []float64{0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60}
	jobBuckets     = []float64{0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600}
)

func newMetrics(version string) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		finished: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "studio_jobs_finished_total", Help: "Jobs that ended since this process started, by kind and outcome.",
		}, []string{"kind", "outcome"}),
		wait: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "studio_job_wait_seconds", Help: "Time from the submission of a job to the start of its last attempt.", Buckets: jobBuckets,
		}, []string{"kind"}),
		run: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "studio_job_run_seconds", Help: "Time that the last attempt of a done job took.", Buckets: jobBuckets,
		}, []string{"kind"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "studio_http_requests_total", Help: "HTTP requests that were answered, by route and status code.",
		}, []string{"route", "code"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "studio_http_request_duration_seconds", Help: "Time to answer an HTTP request. Streams last as long as they are open.", Buckets: requestBuckets,
		}, []string{"route"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "studio_refused_total", Help: "Requests that were turned away, by reason.",
		}, []string{"reason"}),
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "studio_build_info", Help: "1, labelled with the version of the studio."}, []string{"version"})
	build.WithLabelValues(version).Set(1)
	m.registry.MustRegister(m.finished, m.wait, m.run, m.requests, m.latency, m.refused, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Reasons of studio_refused_total.
const (
	refusedRate   = "rate"
	refusedSignIn = "sign_in"
	refusedToken  = "token"
)

func (m *metrics) request(route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.latency.WithLabelValues(route).Observe(took.Seconds())
}

// moved counts a job that has just ended.
func (m *metrics) moved(before, after store.Job) {
	if before.State.Final() || !after.State.Final() {
		return
	}
	kind := string(after.Task.Kind)
	m.finished.WithLabelValues(kind, string(after.State)).Inc()
	if after.State == store.Done && !after.StartedAt.IsZero() {
		m.wait.WithLabelValues(kind).Observe(after.StartedAt.Sub(after.CreatedAt).Seconds())
		m.run.WithLabelValues(kind).Observe(after.FinishedAt.Sub(after.StartedAt).Seconds())
	}
}

// census counts what there is when somebody asks.
type census struct {
	studio  *Studio
	jobs    *prometheus.Desc
	queue   *prometheus.Desc
	workers *prometheus.Desc
	pending *prometheus.Desc
	store   *prometheus.Desc
	logs    *prometheus.Desc
}

func newCensus(s *Studio) *census {
	return &census{
		studio:  s,
		jobs:    prometheus.NewDesc("studio_jobs", "Jobs that the studio knows, by state.", []string{"state"}, nil),
		queue:   prometheus.NewDesc("studio_queue_jobs", "Jobs that wait for a worker, by kind.", []string{"kind"}, nil),
		workers: prometheus.NewDesc("studio_workers", "Approved workers, by state.", []string{"state"}, nil),
		pending: prometheus.NewDesc("studio_registrations_pending", "Workers that wait for approval.", nil, nil),
		logs:    prometheus.NewDesc("studio_log_entries_dropped_total", "Log entries of workers that came and are not kept.", nil, nil),
		store:   prometheus.NewDesc("studio_store_up", "1 when the store works, else 0.", nil, nil),
	}
}

// Describe is of prometheus.Collector.
func (c *census) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.jobs, c.queue, c.workers, c.pending, c.store, c.logs} {
		out <- d
	}
}

// Collect is of prometheus.Collector.
func (c *census) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, n int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	states, queue := c.studio.hub.count()
	for _, state := range store.JobStates() {
		gauge(c.jobs, states[state], string(state))
	}
	for _, kind := range protocol.TaskKinds() {
		gauge(c.queue, queue[kind], string(kind))
	}
	approved := c.studio.people.approved()
	idle, busy, unavailable := c.studio.hub.countSessions()
	gauge(c.workers, idle, "idle")
	gauge(c.workers, busy, "busy")
	gauge(c.workers, unavailable, "unavailable")
	gauge(c.workers, max(0, len(approved)-idle-busy-unavailable), "disconnected")
	pending := 0
	for _, row := range c.studio.people.requests() {
		if row.Status == store.Pending {
			pending++
		}
	}
	gauge(c.pending, pending)
	up := 1
	if c.studio.store.Healthy() != nil {
		up = 0
	}
	gauge(c.store, up)
	out <- prometheus.MustNewConstMetric(c.logs, prometheus.CounterValue, float64(c.studio.hub.logs.total()))
}

// count counts the jobs by state, and those that wait by kind.
func (h *hub) count() (states map[store.JobState]int, queue map[protocol.TaskKind]int) {
	states, queue = map[store.JobState]int{}, map[protocol.TaskKind]int{}
	for _, j := range h.all() {
		b := j.brief()
		states[b.state]++
		if b.state == store.Queued {
			queue[b.kind]++
		}
	}
	return states, queue
}

// countSessions counts the connected workers that are free, at work, and not to
// be had now.
func (h *hub) countSessions() (idle, busy, unavailable int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sessions {
		switch {
		case s.held != nil || s.busyWith != "":
			busy++
		case s.eligible():
			idle++
		default:
			unavailable++
		}
	}
	return idle, busy, unavailable
}

// serveMetrics answers Prometheus. It takes a token of its own beside the
// operator's, so that a scraper does not hold the key to the studio.
func (s *Studio) serveMetrics() http.Handler {
	page := promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: requestLimit / 2})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := bearer(r)
		asScraper := subtle.ConstantTimeCompare([]byte(hashed(token)), []byte(hashed(s.metricsToken)))
		asOperator := subtle.ConstantTimeCompare([]byte(hashed(token)), []byte(hashed(s.token)))
		if asScraper|asOperator != 1 {
			s.metrics.refused.WithLabelValues(refusedToken).Inc()
			drain(w, r)
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeError(w, http.StatusUnauthorized, "unauthorized", "the token is missing or wrong; it is in the file metrics-token of the studio's data folder")
			return
		}
		page.ServeHTTP(w, r)
	})
}
