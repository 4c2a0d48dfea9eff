package studio

import (
	"encoding/json"
	"log/slog"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"studioworker/scripts/measure"
	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

// BenchmarkEnqueueToOffer measures, for one job at a time, how long it takes
// from the call that queues it until its offer has been read from the socket,
// and in turns with it one compare-and-set of a record of the same size in the
// same store. The ratio of the medians is what the guide bounds: at most 2.
func BenchmarkEnqueueToOffer(b *testing.B) {
	s, err := New(Config{Data: b.TempDir(), Listen: "127.0.0.1:0", AutoApprove: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	f := runFarm(b, s)
	w := f.worker(b)
	l := w.connect(b, "")
	expect[protocol.HeartbeatAck](b, l)
	record := func(id string) store.Job {
		return store.Job{
			ID: id, State: store.Queued, GameID: "studio", AssetName: "studio/image/x", Model: "synthetic-image",
			Task:   protocol.Task{Kind: protocol.KindImage, Image: &protocol.ImageTask{Prompt: "a lighthouse in fog", Width: 512, Height: 512, Steps: 20, Ext: "webp"}},
			Source: builtIn()[0].Source, CreatedAt: time.Now().UTC(),
		}
	}
	bare := record("bare")
	revision, err := s.store.Jobs.Create(b.Context(), bare.ID, bare)
	if err != nil {
		b.Fatal(err)
	}
	var offers, writes []time.Duration
	for b.Loop() {
		began := time.Now()
		j, err := s.hub.submit(b.Context(), record(s.hub.newJobID(began)))
		if err != nil {
			b.Fatal(err)
		}
		if claim := expect[protocol.Offer](b, l).Claim; claim.JobID != j.id {
			b.Fatalf("offered %s", claim.JobID)
		}
		offers = append(offers, time.Since(began))

		// Untimed by us: the job ends, and the worker is free again.
		l.send(b, protocol.Fail{JobID: j.id, Error: "enough", Retryable: false})
		expect[protocol.FailAck](b, l)
		l.beat(b, "")
		expect[protocol.HeartbeatAck](b, l)

		began = time.Now()
		if revision, err = s.store.Jobs.Update(b.Context(), bare.ID, bare, revision); err != nil {
			b.Fatal(err)
		}
		writes = append(writes, time.Since(began))
	}
	offer, write := median(offers), median(writes)
	b.ReportMetric(float64(offer.Microseconds()), "offer-µs")
	b.ReportMetric(float64(write.Microseconds()), "cas-µs")
	b.ReportMetric(float64(offer)/float64(write), "offer/cas")
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
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
	if kept := f.studio.hub.workerLogs(w.id); len(kept) != maxLogEntries || kept[maxLogEntries-1] != batch.Entries[size-1] {
		b.Errorf("%d entries are kept", len(kept))
	}
}
