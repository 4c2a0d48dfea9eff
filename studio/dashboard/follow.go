package dashboard

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// follow hands on the events of a job, so that its page shows text and progress as
// they come. It ends with the session, and tells nothing under the veil.
func (d *Dashboard) follow(w http.ResponseWriter, r *http.Request, v *visit) {
	if v.veiled {
		d.fail(v, http.StatusForbidden, "What jobs are about is hidden.")
		return
	}
	select {
	case d.streams <- struct{}{}:
		defer func() { <-d.streams }()
	default:
		w.Header().Set("Retry-After", "30")
		http.Error(w, "Too many pages are open.", http.StatusServiceUnavailable)
		return
	}
	in, err := request(v, http.MethodGet, path("jobs", r.PathValue("id"), "events"), nil)
	if err != nil {
		d.failed(v, err)
		return
	}
	ctx, cancel := context.WithCancel(in.Context())
	defer cancel()
	w.Header().Set("X-Accel-Buffering", "no") // proxies that gather answers must not gather this one
	d.cfg.API.ServeHTTP(&leashed{ResponseWriter: w, on: func() bool { return !v.session.over(time.Now(), false) && d.session(r) != nil }, stop: cancel}, in.WithContext(ctx))
}

var errSignedOut = errors.New("the session has ended")

// leashed lets nothing more through once the session is over. What it is asked to
// write comes at least with each sign of life of the stream.
type leashed struct {
	http.ResponseWriter
	on   func() bool
	stop func()
}

func (l *leashed) Write(p []byte) (int, error) {
	if !l.on() {
		l.stop()
		return 0, errSignedOut
	}
	return l.ResponseWriter.Write(p)
}

// Unwrap gives http.ResponseController the real writer.
func (l *leashed) Unwrap() http.ResponseWriter { return l.ResponseWriter }
