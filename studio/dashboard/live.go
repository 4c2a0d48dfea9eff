package dashboard

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	liveEvery = time.Second      // a page is brought up to date at most this often
	liveSign  = 15 * time.Second // between signs of life on a quiet stream
	liveWrite = 30 * time.Second // a browser that does not read is gone
)

// openStream takes one of the places for pages that stay open, or answers that there is none.
// The caller calls leave.
func (d *Dashboard) openStream(w http.ResponseWriter) (leave func(), ok bool) {
	select {
	case d.streams <- struct{}{}:
		return func() { <-d.streams }, true
	default:
		w.Header().Set("Retry-After", "30")
		http.Error(w, "Too many pages are open.", http.StatusServiceUnavailable)
		return nil, false
	}
}

// goesOn says whether the session that opened a stream goes on: it may have run out, or
// have been ended in another window.
func (d *Dashboard) goesOn(r *http.Request, v *visit) bool {
	return !v.session.over(time.Now(), false) && d.session(r) != nil
}

// live tells a page, by server-sent events, that something on it has changed. The
// script then fetches the page again: there is one way to draw it.
func (d *Dashboard) live(w http.ResponseWriter, r *http.Request, v *visit) {
	leave, ok := d.openStream(w)
	if !ok {
		return
	}
	defer leave()
	wanted := strings.Fields(r.URL.Query().Get("parts"))
	since, err := strconv.ParseUint(r.URL.Query().Get("since"), 10, 64)
	if err != nil {
		since = 0 // whoever does not know what it has gets it anew
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	changed := make(chan struct{}, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range d.cfg.Changes(ctx, since, wanted) {
			select {
			case changed <- struct{}{}:
			default: // it is told already
			}
		}
	}()
	defer func() {
		cancel()
		<-ended
	}()

	w.Header().Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(w)
	send := func(text string) bool {
		if control.SetWriteDeadline(time.Now().Add(liveWrite)) != nil || control.SetReadDeadline(time.Time{}) != nil {
			return false
		}
		_, err := io.WriteString(w, text) // #nosec G705 -- words of our own
		return err == nil && control.Flush() == nil
	}
	if !send("retry: 5000\nevent: hello\ndata: 1\n\n") {
		return
	}
	tick := time.NewTicker(liveSign)
	defer tick.Stop()
	over := func() bool {
		if !d.goesOn(r, v) {
			send("event: over\ndata: 1\n\n")
			return true
		}
		return false
	}
	for {
		select {
		case <-changed:
			if over() || !send("event: change\ndata: 1\n\n") {
				return
			}
			select { // what changes meanwhile is told as one
			case <-time.After(liveEvery):
			case <-ctx.Done():
				return
			case <-d.cfg.Done:
				return
			}
		case <-tick.C:
			if over() || !send(": still here\n\n") {
				return
			}
		case <-ctx.Done():
			return
		case <-d.cfg.Done:
			return
		}
	}
}
