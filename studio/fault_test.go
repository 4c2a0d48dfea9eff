package studio

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"

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

// TestRow62LogFloods: a thousand workers send more log lines than there is room
// for. What is kept is bounded and shared fairly, what is not is counted, and
// another worker's jobs go on meanwhile.
func TestRow62LogFloods(t *testing.T) {
	const (
		floods  = 1000
		batches = 2
		size    = 25
	)
	f := newFarm(t, func(c *Config) {
		c.Log = slog.New(slog.DiscardHandler)
		c.HeartbeatTooOld = time.Hour // a thousand workers of a test have no time to say that they live
	})
	batch := protocol.LogBatch{}
	for range size {
		batch.Entries = append(batch.Entries, protocol.LogEntry{TS: "2026-03-02T08:15:30.120Z", Level: protocol.LevelInfo, Message: strings.Repeat("x", maxLogText)})
	}
	data, err := protocol.Encode(batch)
	if err != nil {
		t.Fatal(err)
	}
	var lines []*line
	for range floods {
		w := f.enlist(t)
		w.caps.AutoEnabled = false
		lines = append(lines, w.connect(t, ""))
	}
	var flood errgroup.Group
	for _, l := range lines {
		flood.Go(func() error {
			for range batches {
				if err := l.conn.WriteMessage(websocket.TextMessage, data); err != nil {
					return err
				}
			}
			return nil
		})
	}

	w := f.worker(t)
	l := w.connect(t, "")
	for range 20 {
		job := f.submit(t, llmJob)
		if claim := l.take(t); claim.JobID != job.ID {
			t.Fatalf("offered %s", claim.JobID)
		}
		l.send(t, protocol.CompleteJSON{JobID: job.ID, Result: json.RawMessage(`"Whitby"`)})
		expect[protocol.CompleteAck](t, l)
		l.beat(t, "")
		if got := f.await(t, job.ID, in(client.Done)); got.Attempts != 1 {
			t.Errorf("job is %+v", got)
		}
	}
	if err := flood.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, l := range lines { // frames are taken in their order
		expect[protocol.HeartbeatAck](t, l)
		l.beat(t, "")
		expect[protocol.HeartbeatAck](t, l)
	}
	book := f.studio.hub.logs
	kept, dropped := 0, uint64(0)
	for _, l := range lines {
		entries, n := book.of(l.w.id)
		kept, dropped = kept+len(entries), dropped+n
	}
	if kept+int(dropped) != floods*batches*size || dropped == 0 || dropped != book.total() {
		t.Errorf("%d entries are kept and %d dropped (%d in all), %d were sent", kept, dropped, book.total(), floods*batches*size)
	}
	if book.bytes > maxLogBytes {
		t.Errorf("%d bytes are kept", book.bytes)
	}
	t.Logf("%d entries are kept in %d MiB, %d were dropped", kept, book.bytes>>20, dropped)
	_, body := f.call(t, http.MethodGet, "/metrics", f.studio.metricsToken, nil)
	if want := fmt.Sprintf("studio_log_entries_dropped_total %d\n", dropped); !bytes.Contains(body, []byte(want)) {
		t.Errorf("the metrics do not say %q", want)
	}
}

// TestLogBook: rings share the room, and what goes is counted.
func TestLogBook(t *testing.T) {
	b := newLogBook()
	long := func(n int) (out []protocol.LogEntry) {
		for i := range n {
			out = append(out, protocol.LogEntry{TS: strconv.Itoa(i), Message: strings.Repeat("x", 4*maxLogText)})
		}
		return out
	}
	const workers = 20 // of which each could fill an eighth
	for w := range workers {
		b.keep(strconv.Itoa(w), long(maxLogEntries+1))
		if b.bytes > maxLogBytes {
			t.Fatalf("%d bytes of %d workers", b.bytes, w+1)
		}
	}
	sum := uint64(0)
	for w := range workers {
		entries, dropped := b.of(strconv.Itoa(w))
		if len(entries)+int(dropped) != maxLogEntries+1 || entries[len(entries)-1].TS != strconv.Itoa(maxLogEntries) {
			t.Errorf("worker %d: %d kept, %d dropped", w, len(entries), dropped)
		}
		for i, e := range entries[1:] {
			if before, _ := strconv.Atoi(entries[i].TS); e.TS != strconv.Itoa(before+1) {
				t.Fatalf("worker %d: %s follows %s", w, e.TS, entries[i].TS)
			}
		}
		sum += dropped
	}
	if sum != b.total() {
		t.Errorf("%d dropped, the sum is %d", b.total(), sum)
	}
	for w := range workers {
		b.forget(strconv.Itoa(w))
	}
	if b.bytes != 0 || len(b.rings) > 0 {
		t.Errorf("%d bytes of nobody", b.bytes)
	}
}

// TestLogBookWithoutATurn: a batch that nobody has time to decode is counted.
func TestLogBookWithoutATurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLogBook()
		for range cap(b.turns) {
			if !b.enter(t.Context(), "w", nil) {
				t.Fatal("no turn though nobody has one")
			}
		}
		data, err := protocol.Encode(protocol.LogBatch{Entries: make([]protocol.LogEntry, 7)})
		if err != nil {
			t.Fatal(err)
		}
		if !isLogBatch(data) {
			t.Errorf("%s is not known as a batch", data)
		}
		if b.enter(t.Context(), "w", data) {
			t.Error("more turns than there are")
		}
		if _, dropped := b.of("w"); dropped != 7 || b.total() != 7 {
			t.Errorf("%d entries were dropped", dropped)
		}
		b.leave()
		if !b.enter(t.Context(), "w", data) {
			t.Error("no turn though one is free")
		}
	})
}
