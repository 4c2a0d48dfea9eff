package studio

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"studioworker/studio/client"
	"studioworker/studio/dashboard"
	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

const (
	requestLimit = 30 * time.Second // to read a small request, and to write a small answer
	transferIdle = time.Minute      // a transfer of bytes may stand still
	maxDrain     = 256 << 10        // of a body that is refused unread
	maxSmallBody = 64 << 10         // of a request that only carries a reason
)

// routes is the studio's whole HTTP side.
func (s *Studio) routes() (http.Handler, error) {
	mux := http.NewServeMux()
	pages, err := s.newDashboard(s.audited(mux))
	if err != nil {
		return nil, err
	}
	s.pages = pages
	worker := protocol.Prefix + "/workers/"
	requests := newLimiter(requestsPerMinute)
	mux.HandleFunc("POST "+worker+"register-request", func(w http.ResponseWriter, r *http.Request) { s.register(w, r, requests) })
	mux.HandleFunc("POST "+worker+"{worker}/jobs/{job}/complete", s.complete)
	// One pattern for two routes: a request and a worker may both be called
	// "connect", and the multiplexer refuses patterns that overlap.
	mux.HandleFunc("GET "+worker+"{worker}/{id}", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.PathValue("worker") == "register-requests":
			s.poll(w, r)
		case r.PathValue("id") == "connect":
			s.connect(w, r)
		default:
			writeError(w, http.StatusNotFound, "not_found", "there is nothing at this address")
		}
	})

	mux.HandleFunc("GET /healthz", s.health)
	mux.Handle("GET /metrics", s.serveMetrics())
	operator := func(pattern string, handler http.HandlerFunc) { mux.HandleFunc(pattern, s.operator(handler)) }
	mux.HandleFunc("GET /api/v1/inputs/{id}", s.getInput)
	operator("POST /api/v1/keys", s.createKey)
	operator("GET /api/v1/keys", s.listKeys)
	operator("DELETE /api/v1/keys/{id}", s.revokeKey)
	member := func(pattern string, handler func(http.ResponseWriter, *http.Request, caller)) {
		mux.HandleFunc(pattern, s.member(handler))
	}
	member("POST /api/v1/inputs", func(w http.ResponseWriter, r *http.Request, _ caller) { s.putInput(w, r) })
	member("POST /api/v1/jobs", s.submit)
	member("GET /api/v1/jobs", s.listJobs)
	member("GET /api/v1/jobs/{id}", s.getJob)
	member("GET /api/v1/jobs/{id}/result", s.result)
	member("GET /api/v1/jobs/{id}/events", s.events)
	member("POST /api/v1/jobs/{id}/cancel", s.cancelJob)
	member("POST /api/v1/jobs/{id}/retry", s.retryJob)
	member("DELETE /api/v1/jobs/{id}", s.discardJob)
	member("POST /api/v1/jobs/retry-failed", s.retryFailed)
	member("POST /api/v1/jobs/discard-failed", s.discardFailed)
	operator("GET /api/v1/workers", s.listWorkers)
	operator("DELETE /api/v1/workers/{id}", s.removeWorker)
	operator("GET /api/v1/workers/{id}/logs", s.workerLogs)
	operator("GET /api/v1/registrations", s.listRegistrations)
	operator("POST /api/v1/registrations/{id}/approve", s.approve)
	operator("POST /api/v1/registrations/{id}/reject", s.reject)
	member("GET /api/v1/models", s.listModels)
	operator("GET /api/v1/models/{id...}", s.getModel)
	operator("PUT /api/v1/models/{id...}", s.putModel)
	operator("DELETE /api/v1/models/{id...}", s.deleteModel)
	operator("GET /api/v1/webhooks", s.listWebhooks)
	operator("POST /api/v1/webhooks", s.createWebhook)
	operator("DELETE /api/v1/webhooks/{id}", s.deleteWebhook)
	operator("POST /api/v1/webhooks/{id}/test", s.testWebhook)
	operator("GET /api/v1/registry", s.exportModels)
	operator("PUT /api/v1/registry", s.importModels)
	operator("GET /api/v1/backup/{what}", s.backup)
	s.openAIRoutes(mux)
	operator("GET /api/v1/stats", s.statistics)
	operator("GET /api/v1/audit", s.listAudit)
	operator("POST /api/v1/sign-in-links", func(w http.ResponseWriter, r *http.Request) { s.makeLink(w, r, pages) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if pages.Has(r) {
			pages.ServeHTTP(w, r)
			return
		}
		routeError(w, r, mux, pages)
	})

	return s.guarded(s.audited(mux)), nil
}

// routeError answers a request that no route takes: a browser with a page,
// everything else in JSON like all others.
func routeError(w http.ResponseWriter, r *http.Request, mux *http.ServeMux, pages *dashboard.Dashboard) {
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := mux.Handler(other); pattern != "/" {
			w.Header().Set("Allow", method)
			writeError(w, http.StatusMethodNotAllowed, "method_not_allowed", "this address answers "+method+" only")
			return
		}
	}
	if r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html") {
		pages.NotFound(w, r)
		return
	}
	writeError(w, http.StatusNotFound, "not_found", "there is nothing at this address")
}

// deadlines bounds the rest of the request by time.
func deadlines(w http.ResponseWriter, limit time.Duration) {
	control := http.NewResponseController(w)
	// A writer without deadlines is a test's; the real one has both.
	_ = control.SetReadDeadline(time.Now().Add(limit))
	_ = control.SetWriteDeadline(time.Now().Add(limit))
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil { // our own types always encode
		status, data = http.StatusInternalServerError, []byte(`{"error":"internal","message":"the answer could not be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // whoever does not read the answer has gone
}

func writeError(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, client.Error{Code: code, Message: message})
}

// internal answers what is the studio's fault, and logs it.
func (s *Studio) internal(w http.ResponseWriter, err error) {
	if errors.Is(err, store.ErrFull) {
		s.cfg.Log.Error("a request was refused: the store is full", "error", err)
		w.Header().Set("Retry-After", "60")
		writeError(w, http.StatusInsufficientStorage, "storage_full", "the store is full: the studio's disk needs room; try again later")
		return
	}
	s.cfg.Log.Error("a request could not be served", "error", err)
	writeError(w, http.StatusServiceUnavailable, "unavailable", "the studio cannot store or read this now; try again later")
}

// drain takes a small body that nobody will read, so that its sender, which
// reads the answer only after it has sent everything, gets the answer and not a
// reset. After a larger one the server lingers before it closes. A sender that
// waits to be asked for its body has nothing to be taken.
func drain(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Expect") == "" {
		_, _ = io.Copy(io.Discard, http.MaxBytesReader(bare(w), r.Body, maxDrain)) // what fails here is refused anyway
	}
}

// readBody reads a body of at most limit bytes. A longer one is answered 413.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, bool) {
	data, err := bodyOf(w, r, limit)
	if why, ok := errors.AsType[*refusal](err); ok {
		writeError(w, why.status, why.code, why.message)
		return nil, false
	}
	return data, true
}

// bodyOf reads a body of at most limit bytes. An error is a *refusal; after a
// longer body the connection is closed without reading it all. The limit is hit
// rather than foreseen: then the server lingers after its answer, so that a
// client that is still sending reads it, and not a reset. One that waits to be
// asked for its body is not asked.
func bodyOf(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	var tooBig *http.MaxBytesError
	var data []byte
	var err error
	if r.ContentLength > limit && r.Header.Get("Expect") != "" {
		err = &http.MaxBytesError{Limit: limit}
	} else {
		data, err = io.ReadAll(http.MaxBytesReader(bare(w), r.Body, limit))
	}
	switch {
	case err == nil:
		return data, nil
	case errors.As(err, &tooBig):
		return nil, &refusal{status: http.StatusRequestEntityTooLarge, code: "too_large", message: "the body is larger than " + size(limit)}
	default:
		return nil, bad("the body could not be read")
	}
}

func size(n int64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB"}
	i := 0
	for ; i < len(units)-1 && n >= 1024 && n%1024 == 0; i++ {
		n /= 1024
	}
	return strconv.FormatInt(n, 10) + " " + units[i]
}

// remoteIP returns the address of the other end, without port.
func remoteIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// fromLoopback says whether the request comes from this computer itself. One
// that a proxy passed on does not.
func fromLoopback(r *http.Request) bool {
	addr, err := netip.ParseAddr(remoteIP(r))
	if err != nil || !addr.Unmap().IsLoopback() {
		return false
	}
	for name := range r.Header {
		if name == "Forwarded" || name == "Via" || strings.HasPrefix(name, "X-Forwarded-") || name == "X-Real-Ip" {
			return false
		}
	}
	return true
}
