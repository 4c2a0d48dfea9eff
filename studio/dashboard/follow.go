package dashboard

import (
	"context"
	"errors"
	"net/http"
)

// follow hands on the events of a job, so that its page shows text and progress as
// they come. It ends with the session, and tells nothing under the veil.
func (d *Dashboard) follow(w http.ResponseWriter, r *http.Request, v *visit) {
	if v.veiled {
		d.fail(v, http.StatusForbidden, "What jobs are about is hidden.")
		return
	}
	leave, ok := d.openStream(w)
	if !ok {
		return
	}
	defer leave()
	in, err := request(v, http.MethodGet, path("jobs", r.PathValue("id"), "events"), nil)
	if err != nil {
		d.failed(v, err)
		return
	}
	ctx, cancel := context.WithCancel(in.Context())
	defer cancel()
	w.Header().Set("X-Accel-Buffering", "no") // proxies that gather answers must not gather this one
	d.cfg.API.ServeHTTP(&leashed{ResponseWriter: w, on: func() bool { return d.goesOn(r, v) }, stop: cancel}, in.WithContext(ctx))
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
