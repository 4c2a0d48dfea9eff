package studio

import (
	"log/slog"
	"slices"
	"testing"
	"time"

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
