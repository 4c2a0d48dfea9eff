package studio

import (
	"encoding/binary"
	"net/http"
	"runtime"
	"testing"
	"time"

	"studioworker/studio/client"
	"studioworker/worker/protocol"
)

// TestRow40HugeFrames: a frame of 64 MiB is refused by its first bytes, with 1009
// and without the memory, before hello and after it.
func TestRow40HugeFrames(t *testing.T) {
	f := newFarm(t, nil)
	for name, open := range map[string]func(testing.TB, *fake) *line{
		"before hello": func(tb testing.TB, w *fake) *line { tb.Helper(); return w.dial(tb) },
		"after it": func(tb testing.TB, w *fake) *line {
			tb.Helper()
			l := w.connect(tb, "")
			expect[protocol.HeartbeatAck](tb, l)
			return l
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := open(t, f.worker(t))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			// A text of one frame, masked as a worker's must be.
			header := binary.BigEndian.AppendUint64([]byte{0x81, 0x80 | 127}, 64<<20)
			if _, err := l.conn.NetConn().Write(append(header, 1, 2, 3, 4)); err != nil {
				t.Fatal(err)
			}
			expectEnd(t, l, "", protocol.CloseTooBig)
			runtime.ReadMemStats(&after)
			if used := after.TotalAlloc - before.TotalAlloc; used > 8<<20 {
				t.Errorf("took %d bytes", used)
			}
		})
	}
}

// TestRow42AcceptAfterTheOfferExpired: the studio refuses it when another worker
// has the job, which ends once, by that worker's result.
func TestRow42AcceptAfterTheOfferExpired(t *testing.T) {
	f := newFarm(t, func(c *Config) { c.OfferExpiry = 100 * time.Millisecond })
	late := f.worker(t).connect(t, "")
	job := f.submit(t, imageJob)
	expect[protocol.Offer](t, late)
	f.await(t, job.ID, in(client.Queued))
	w := f.worker(t)
	w.connect(t, "").take(t)
	f.await(t, job.ID, in(client.Running))
	late.send(t, protocol.Accept{JobID: job.ID})
	expectEnd(t, late, protocol.ErrorViolation, protocol.CloseViolation)
	w.deliver(t, job.ID, []byte("whole"))
	if got := f.await(t, job.ID, in(client.Done)); got.WorkerID != w.id || got.Attempts != 1 {
		t.Errorf("job is %+v", got)
	}
	if status, data := late.w.upload(t, job.ID, "webp", []byte("late")); status != http.StatusConflict {
		t.Errorf("the late worker's result is answered %d %s", status, data)
	}
	if got, _ := f.fetch(t, job.ID); string(got) != "whole" {
		t.Errorf("the result is %q", got)
	}
}
