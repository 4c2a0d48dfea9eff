package logs

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"testing/slogtest"
	"time"

	"studioworker/worker/observe"
	"studioworker/worker/protocol"
)

func setup() (*slog.Logger, *observe.Ring[observe.LogEntry], *Queue) {
	ring, queue := observe.NewRing[observe.LogEntry](observe.RecentLogsCap), &Queue{}
	return slog.New(NewHandler(ring, queue)), ring, queue
}

// The wire text of each record that others look for.
func TestWordsOfTheWire(t *testing.T) {
	log, ring, _ := setup()
	for _, tc := range []struct {
		want string
		log  func(*slog.Logger)
	}{
		{"connecting to wss://h", func(l *slog.Logger) { l.Info("connecting", "url", "wss://h") }},
		{"server welcomed wk-20 server_time=now", func(l *slog.Logger) { l.Info("server welcomed", "worker_id", "wk-20", "server_time", "now") }},
		{"offer received job-31 game=g asset=a model=m vram=2.5", func(l *slog.Logger) {
			l.With("job_id", "job-31").Info("offer received", "game", "g", "asset", "a", "model", "m", "vram", 2.5)
		}},
		{"rejecting offer j: busy", func(l *slog.Logger) { l.Info("rejecting offer", "job_id", "j", "reason", "busy") }},
		{"dispatched in 12ms ext=wav", func(l *slog.Logger) { l.Info("job dispatched", "elapsed_ms", 12, "ext", "wav") }},
		{"dispatch failed: no", func(l *slog.Logger) { l.Warn("job failed", "error", errors.New("no")) }},
		{"studio confirmed completion of job j", func(l *slog.Logger) { l.Info("studio confirmed completion", "job_id", "j") }},
		{"studio confirmed failure of job j", func(l *slog.Logger) { l.Info("studio confirmed failure", "job_id", "j") }},
		{"disconnected; reconnect attempt 3 in 800ms", func(l *slog.Logger) { l.Warn("disconnected, will reconnect", "attempt", 3, "delay_ms", 800) }},
		{"session error: a: b; reconnect attempt 3 in 800ms", func(l *slog.Logger) {
			l.Warn("session error, will reconnect", "error", "a: b", "attempt", 3, "delay_ms", 800)
		}},
		{"giving up after 2 attempts: refused", func(l *slog.Logger) { l.Error("giving up", "attempts", 2, "error", "refused") }},
		{"binary upload ok bytes=3", func(l *slog.Logger) { l.Info("result delivered", "bytes", 3, "category", "ws") }},
		{"two lines", func(l *slog.Logger) { l.Info("two\nlines") }},
		{"json result sent in.a=1", func(l *slog.Logger) { l.WithGroup("in").Info("json result sent", "a", 1) }},
		{"server welcomed ? server_time=?", func(l *slog.Logger) { l.Info("server welcomed") }},
	} {
		_, before := ring.Since(0)
		tc.log(log)
		got, _ := ring.Since(before)
		if len(got) != 1 || got[0].Message != tc.want {
			t.Errorf("got %v, want %q", got, tc.want)
		}
	}
	long := strings.Repeat("ä", 5000)
	log.Info(long)
	got, _ := ring.Since(0)
	if m := got[len(got)-1].Message; len(m) > 4200 || !strings.HasSuffix(m, "…") {
		t.Errorf("a long line has %d bytes", len(m))
	}
}

func TestSpec137JobIDIsAField(t *testing.T) {
	log, ring, queue := setup()
	log.Debug("for us only")
	log.Info("with", "job_id", "j1")
	log.Warn("without", "category", "auto-update")
	got, _ := ring.Since(0)
	if len(got) != 2 || got[0].JobID != "j1" || got[0].Category != "ws" || got[1].JobID != "" || got[1].Category != "auto-update" {
		t.Fatalf("got %+v", got)
	}
	shipped := queue.Take()
	text, err := json.Marshal(shipped[1])
	if err != nil || strings.Contains(string(text), "jobId") || shipped[1].Level != protocol.LevelWarn || !strings.HasSuffix(shipped[1].TS, "Z") || len(shipped[1].TS) != 24 {
		t.Errorf("got %s, %v", text, err)
	}
}

func TestSpec132TheQueueIsBoundedAndSaysWhatItDropped(t *testing.T) {
	var q Queue
	for i := range QueueCap + 10 {
		q.Push(time.Now(), protocol.LogEntry{Message: strconv.Itoa(i)})
	}
	batch, all := []protocol.LogEntry{}, 0
	for more := q.Take(); len(more) > 0; more = q.Take() {
		all += len(more)
		batch = append(batch, more...)
	}
	// 5,010 came, 4,999 are here beside the marker.
	if all != QueueCap || batch[all-1].Message != strconv.Itoa(QueueCap+9) || batch[1].Message != "11" {
		t.Fatalf("%d entries, oldest %q, newest %q", all, batch[1].Message, batch[all-1].Message)
	}
	if m := batch[0]; m.Level != protocol.LevelWarn || m.Category != "logs" || !strings.HasPrefix(m.Message, "dropped 11 ") {
		t.Errorf("marker: %+v", m)
	}
	if len(q.Take()) != 0 {
		t.Error("the marker came twice")
	}
}

func TestSpec133ARestoredBatchComesFirst(t *testing.T) {
	var q Queue
	for i := range QueueCap {
		q.Push(time.Now(), protocol.LogEntry{Message: strconv.Itoa(i)})
	}
	batch := q.Take()
	if len(batch) != protocol.MaxLogBatchEntries || batch[0].Message != "0" {
		t.Fatalf("took %d", len(batch))
	}
	q.Push(time.Now(), protocol.LogEntry{Message: "new"})
	q.Restore(batch)
	if newest := q.entries[q.at(q.n-1)]; newest.Message != "new" {
		t.Errorf("newest %q", newest.Message)
	}
	again := q.Take()
	if len(again) != len(batch) || !strings.HasPrefix(again[0].Message, "dropped 2 ") || again[1].Message != "2" {
		t.Errorf("got %d: %q, %q", len(again), again[0].Message, again[1].Message)
	}
	q.Restore(again) // a second time: still one marker, still true
	if again = q.Take(); !strings.HasPrefix(again[0].Message, "dropped 2 ") || again[1].Message != "2" {
		t.Errorf("after another failure: %q, %q", again[0].Message, again[1].Message)
	}
}

// The queue, whose entries lie in a circle, keeps what a plain list would.
func TestTheQueueKeepsTheOrder(t *testing.T) {
	var q Queue
	random := rand.New(rand.NewPCG(7, 9)) // #nosec G404 -- the same walk each time
	var model []string
	next, dropped := 0, 0
	for range 400 {
		switch random.IntN(3) {
		case 0:
			for range random.IntN(2000) {
				next++
				text := strconv.Itoa(next)
				q.Push(time.Now(), protocol.LogEntry{Message: text})
				model = append(model, text)
			}
		default:
			batch := q.Take()
			if random.IntN(2) == 0 {
				q.Restore(batch)
				break
			}
			for _, e := range batch {
				if n := 0; strings.HasPrefix(e.Message, "dropped ") {
					if _, err := fmt.Sscanf(e.Message, "dropped %d ", &n); err != nil {
						t.Fatal(err)
					}
					dropped += n
					model = model[n:]
					continue
				}
				if len(model) == 0 || e.Message != model[0] {
					t.Fatalf("took %q, want %q", e.Message, model[:min(1, len(model))])
				}
				model = model[1:]
			}
		}
	}
	if dropped == 0 || next < 100_000 {
		t.Errorf("%d entries, %d dropped: the walk is too short", next, dropped)
	}
}

func TestAWholeBatchIsSaid(t *testing.T) {
	var q Queue
	push := func(n int) {
		for range n {
			q.Push(time.Now(), protocol.LogEntry{Message: "m"})
		}
	}
	said := func() bool {
		select {
		case <-q.Ready():
			return true
		default:
			return false
		}
	}
	if push(protocol.MaxLogBatchEntries - 1); said() {
		t.Error("said before a whole batch waits")
	}
	if push(1); !said() || said() {
		t.Error("not said once when a whole batch waits")
	}
	if q.Take(); said() {
		t.Error("said of an empty queue")
	}
}

func TestBatchesAreBoundedInBytes(t *testing.T) {
	var q Queue
	for range 200 {
		q.Push(time.Now(), protocol.LogEntry{Message: strings.Repeat("\"", 4000)})
	}
	total := 0
	for batch := q.Take(); len(batch) > 0; batch = q.Take() {
		total += len(batch)
		data, err := protocol.Encode(protocol.LogBatch{Entries: batch})
		if err != nil || len(data) > protocol.MaxLogBatch {
			t.Fatalf("a batch of %d entries has %d bytes, %v", len(batch), len(data), err)
		}
	}
	if total != 200 {
		t.Errorf("took %d of 200", total)
	}
}

func TestHandlerKeepsTheRulesOfSlog(t *testing.T) {
	var ring *observe.Ring[observe.LogEntry]
	slogtest.Run(t, func(*testing.T) slog.Handler {
		ring = observe.NewRing[observe.LogEntry](10)
		h := NewHandler(ring, &Queue{})
		return h
	}, func(t *testing.T) map[string]any {
		t.Helper()
		entries, _ := ring.Since(0)
		e := entries[len(entries)-1]
		out := map[string]any{slog.LevelKey: e.Level.String()}
		if !e.At.IsZero() {
			out[slog.TimeKey] = e.At
		}
		message, pairs, _ := strings.Cut(e.Message, " ")
		out[slog.MessageKey] = message
		for pair := range strings.FieldsSeq(pairs) {
			path, value, _ := strings.Cut(pair, "=")
			at, keys := out, strings.Split(path, ".")
			for _, key := range keys[:len(keys)-1] {
				if at[key] == nil {
					at[key] = map[string]any{}
				}
				at = at[key].(map[string]any)
			}
			at[keys[len(keys)-1]] = value
		}
		return out
	})
}

func TestAQueuedEntryCarriesTheTimeItWasLogged(t *testing.T) {
	log, ring, queue := setup()
	log.Info("one")
	entries, _ := ring.Since(0)
	want := entries[0].At.UTC().Format(protocol.TimeFormat)
	for range 2 { // shipped, and shipped again after it could not be sent
		batch := queue.Take()
		if len(batch) != 1 || batch[0].TS != want {
			t.Fatalf("took %+v, want one of %s", batch, want)
		}
		queue.Restore(batch)
	}
}
