package studio

import (
	"net/http"
	"testing"
	"time"

	"studioworker/studio/client"
	"studioworker/studio/store"
)

// ended makes a job that is done, with a result of n bytes.
func (f *farm) ended(tb testing.TB, w *fake, l *line, n int) string {
	tb.Helper()
	id := f.submit(tb, imageJob).ID
	l.take(tb)
	w.deliver(tb, id, make([]byte, n))
	l.beat(tb, "")
	return id
}

func (f *farm) wantGone(tb testing.TB, id string, want bool) {
	tb.Helper()
	_, err := f.operator.Get(tb.Context(), id)
	if gone := isStatus(err, http.StatusNotFound); gone != want || (!gone && err != nil) {
		tb.Errorf("job %s: %v, gone should be %v", id, err, want)
	}
}

// TestOldJobsGo by age, by number and by the size of their results; what is not
// ended stays, and so does a job that has something to tell.
func TestOldJobsGo(t *testing.T) {
	dir := t.TempDir()
	f := newFarm(t, func(c *Config) { c.Data, c.KeepFor, c.KeepJobs, c.KeepBytes = dir, time.Hour, 3, 250 })
	w := f.worker(t)
	l := w.connect(t, "")
	one, two, three := f.ended(t, w, l, 100), f.ended(t, w, l, 100), f.ended(t, w, l, 100)
	running := f.submit(t, imageJob).ID
	l.take(t)
	waiting := f.submit(t, imageJob).ID
	retire := func(in time.Duration, want int) {
		t.Helper()
		if n, err := f.studio.hub.retire(t.Context(), time.Now().Add(in)); n != want || err != nil {
			t.Errorf("%d jobs were removed, %v, want %d", n, err, want)
		}
	}
	retire(0, 1) // the results together are too large
	f.wantGone(t, one, true)
	f.wantGone(t, two, false)
	retire(0, 0)
	f.cancel(t, waiting, client.Cancelled)
	late := f.submit(t, imageJob).ID
	f.cancel(t, late, client.Cancelled)
	retire(0, 1) // there are four
	f.wantGone(t, two, true)
	retire(2*time.Hour, 3)
	for id, gone := range map[string]bool{three: true, waiting: true, late: true, running: false} {
		f.wantGone(t, id, gone)
	}
	f.stop()
	f = newFarm(t, func(c *Config) { c.Data = dir })
	for id, gone := range map[string]bool{one: true, two: true, three: true, running: false} {
		f.wantGone(t, id, gone)
	}
	if swept, err := f.studio.store.Sweep(t.Context(), nil); swept.Parts != 0 || err != nil {
		t.Errorf("left are %+v, %v", swept, err)
	}
}

func TestOldJobsWithSomethingToTellStay(t *testing.T) {
	f := newFarm(t, func(c *Config) { loopbackAllowed(c); c.KeepFor = time.Hour })
	r := newReceiver(t, http.StatusServiceUnavailable)
	f.webhook(t, r.url, true)
	id := f.submit(t, imageJob).ID
	f.cancel(t, id, client.Cancelled)
	f.awaitHooks(t, id, func(h []store.Hook) bool { return len(h) == 1 && h[0].Error != "" })
	if n, err := f.studio.hub.retire(t.Context(), time.Now().Add(2*time.Hour)); n != 0 || err != nil {
		t.Errorf("%d jobs were removed, %v", n, err)
	}
	f.wantGone(t, id, false)
}
