package studio

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"

	"studioworker/scripts/measure"
	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

// benchStudio runs a studio in this process for a benchmark.
func benchStudio(b *testing.B) *farm {
	b.Helper()
	return newFarm(b, func(c *Config) { c.Log = slog.New(slog.DiscardHandler) })
}

// benchJob is the record of a job that nobody has seen yet.
func benchJob(id string, task protocol.Task) store.Job {
	return store.Job{
		ID: id, State: store.Queued, GameID: "studio", AssetName: "studio/x", Model: "synthetic",
		Task: task, Source: builtIn()[0].Source, CreatedAt: time.Now().UTC(),
	}
}

func benchImage() protocol.Task {
	return protocol.Task{Kind: protocol.KindImage, Image: &protocol.ImageTask{Prompt: "a lighthouse in fog", Width: 512, Height: 512, Steps: 20, Ext: "webp"}}
}

// BenchmarkEnqueueToOffer measures, for one job at a time, how long it takes
// from the call that queues it until its offer has been read from the socket,
// and in turns with it one compare-and-set of a record of the same size in the
// same store (reliability guide §7.3, row 2).
func BenchmarkEnqueueToOffer(b *testing.B) {
	const jobs = 200 // of a turn: a thousand in five
	f := benchStudio(b)
	s := f.studio
	w := f.worker(b)
	l := w.connect(b, "")
	expect[protocol.HeartbeatAck](b, l)
	bare := benchJob("bare", benchImage())
	revision, err := s.store.Jobs.Create(b.Context(), bare.ID, bare)
	if err != nil {
		b.Fatal(err)
	}
	measure.InTurns(b, func() []float64 {
		var took []float64
		for range jobs {
			id := ""
			took = append(took, measure.Time(b, func() error {
				j, err := s.hub.submit(b.Context(), benchJob(s.hub.newJobID(time.Now()), benchImage()))
				if err != nil {
					return err
				}
				if claim := expect[protocol.Offer](b, l).Claim; claim.JobID != j.id {
					return fmt.Errorf("offered %s", claim.JobID)
				}
				id = j.id
				return nil
			}))
			l.send(b, protocol.Fail{JobID: id, Error: "enough", Retryable: false})
			expect[protocol.FailAck](b, l)
			l.beat(b, "")
			expect[protocol.HeartbeatAck](b, l)
		}
		return []float64{measure.Quantile(took, 0.5)}
	}, func() []float64 {
		var took []float64
		for range jobs {
			took = append(took, measure.Time(b, func() (err error) {
				revision, err = s.store.Jobs.Update(b.Context(), bare.ID, bare, revision)
				return err
			}))
		}
		return []float64{measure.Quantile(took, 0.5)}
	}, measure.Line{Row: 2, What: "enqueue to offer on the wire", Bare: "one compare-and-set", Unit: measure.Seconds, MostRatio: 2})
}

// BenchmarkDurableJobs counts the jobs a second that 64 workers take through all
// their states, each change and each result stored, and in turns with it the
// compare-and-sets a second of 16 writers on one bucket of the same store, of
// which a job needs four (reliability guide §7.3, row 3).
func BenchmarkDurableJobs(b *testing.B) {
	const (
		hands   = 64
		jobs    = 2000 // of a turn
		writers = 16
		writes  = 4000 // of a turn
	)
	f := benchStudio(b)
	s := f.studio
	var working errgroup.Group
	for range hands {
		w := f.enlist(b)
		l := w.connect(b, "")
		expect[protocol.HeartbeatAck](b, l)
		working.Go(func() error { return l.answerChats() })
	}
	records := make([]store.Entry[store.Worker], writers)
	for i := range records {
		e := &records[i]
		e.Value = store.Worker{ID: fmt.Sprintf("bare-%d", i), Name: strings.Repeat("x", 500)} // about what a job has
		var err error
		if e.Revision, err = s.store.Workers.Create(b.Context(), e.Value.ID, e.Value); err != nil {
			b.Fatal(err)
		}
	}
	chat := protocol.Task{Kind: protocol.KindLLM, LLM: &protocol.LLMTask{Messages: []protocol.Message{{Role: "user", Content: "name this town"}}}}
	measure.InTurns(b, func() []float64 {
		return []float64{measure.Time(b, func() error {
			var group errgroup.Group
			group.SetLimit(hands)
			for range jobs {
				group.Go(func() error {
					j, err := s.hub.submit(b.Context(), benchJob(s.hub.newJobID(time.Now()), chat))
					if err != nil {
						return err
					}
					_, events, stop := j.follow()
					defer stop()
					for !j.now().State.Final() {
						<-events
					}
					if rec := j.now(); rec.State != store.Done {
						return fmt.Errorf("job %s is %s: %s", rec.ID, rec.State, rec.Error)
					}
					return nil
				})
			}
			return group.Wait()
		}) / jobs}
	}, func() []float64 {
		return []float64{4 * measure.Time(b, func() error {
			var group errgroup.Group
			for i := range records {
				group.Go(func() (err error) {
					e := &records[i]
					for range writes / writers {
						if e.Revision, err = s.store.Workers.Update(b.Context(), e.Value.ID, e.Value, e.Revision); err != nil {
							return err
						}
					}
					return nil
				})
			}
			return group.Wait()
		}) / writes}
	}, measure.Line{Row: 3, What: "durable jobs, 64 workers, time a job", Bare: "the speed of four compare-and-sets, 16 writers", Unit: measure.Seconds, LeastSpeed: 0.6})
	f.stop()
	if err := working.Wait(); err != nil {
		b.Error(err)
	}
}

// answerChats takes each offer and answers it at once, until the studio stops.
func (l *line) answerChats() error {
	send := func(f protocol.Frame) error {
		data, err := protocol.Encode(f)
		if err != nil {
			return err
		}
		return l.conn.WriteMessage(websocket.TextMessage, data)
	}
	for {
		_, data, err := l.conn.ReadMessage()
		if websocket.IsCloseError(err, int(protocol.CloseGoingAway)) {
			return nil
		}
		if err != nil {
			return err
		}
		frame, err := protocol.DecodeStudioFrame(data)
		if err != nil {
			return err
		}
		switch f := frame.(type) {
		case protocol.Offer:
			if err = send(protocol.Accept{JobID: f.Claim.JobID}); err == nil {
				err = send(protocol.CompleteJSON{JobID: f.Claim.JobID, Result: json.RawMessage(`{"choices":[{"message":{"content":"Whitby"}}]}`)})
			}
		case protocol.CompleteAck:
			err = send(protocol.Heartbeat{Capabilities: l.w.caps})
		case protocol.Error:
			err = errors.New(f.Message)
		}
		if err != nil {
			return err
		}
	}
}

// BenchmarkLogIngestion sends log entries in batches of 200 to a studio over a
// socket, until they are stored and, in turns with it, decodes the same text with
// encoding/json alone (reliability guide §7.3, row 4).
func BenchmarkLogIngestion(b *testing.B) {
	const batches, size = 1000, 200 // of a turn: a million entries in five
	f := newFarm(b, nil)
	w := f.worker(b)
	l := w.connect(b, "")
	expect[protocol.HeartbeatAck](b, l)
	var batch protocol.LogBatch
	for i := range size {
		batch.Entries = append(batch.Entries, protocol.LogEntry{
			TS: "2026-03-02T08:15:30.120Z", Level: protocol.LevelInfo, Category: "ws",
			Message: "studio call status=200 operation=complete elapsed_ms=" + strconv.Itoa(i) + " endpoint=https://studio.example/graphics/api", JobID: "job-31",
		})
	}
	data, err := protocol.Encode(batch)
	if err != nil {
		b.Fatal(err)
	}
	measure.InTurns(b, func() []float64 {
		return []float64{measure.Time(b, func() error {
			for range batches {
				if err := l.conn.WriteMessage(websocket.TextMessage, data); err != nil {
					return err
				}
			}
			l.beat(b, "") // frames are taken in their order
			expect[protocol.HeartbeatAck](b, l)
			return nil
		}) / batches / size}
	}, func() []float64 {
		return []float64{measure.Time(b, func() error {
			for range batches {
				var plain struct {
					Type    string `json:"type"`
					Entries []struct {
						TS       string `json:"ts"`
						Level    string `json:"level"`
						Category string `json:"category"`
						Message  string `json:"message"`
						JobID    string `json:"jobId"`
					} `json:"entries"`
				}
				if err := json.Unmarshal(data, &plain); err != nil {
					return err
				}
			}
			return nil
		}) / batches / size}
	}, measure.Line{Row: 4, What: "log ingestion, sent to stored, an entry", Bare: "the speed of json.Unmarshal", Unit: measure.Seconds, LeastSpeed: 0.5})
	if kept, _ := f.studio.hub.logs.of(w.id); len(kept) != maxLogEntries || kept[maxLogEntries-1] != batch.Entries[size-1] {
		b.Errorf("%d entries are kept", len(kept))
	}
}
