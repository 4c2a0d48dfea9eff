//go:build !windows

package app

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"studioworker/studio"
	"studioworker/studio/client"
	"studioworker/worker/observe"
	"studioworker/worker/protocol"
)

// benchFarm is a studio and a worker in this process, joined over loopback.
func benchFarm(b *testing.B) (*farm, *host) {
	b.Helper()
	dir := b.TempDir()
	s, err := studio.New(studio.Config{
		Data: filepath.Join(dir, "studio"), Listen: "127.0.0.1:0", AutoApprove: true, Version: Version, Log: plainLogger(io.Discard),
	})
	if err != nil {
		b.Fatal(err)
	}
	f := new(farm)
	f.meet(b, s.Addr(), s.OperatorToken())
	background(b, s.Run)

	home := &home{config: filepath.Join(dir, "worker", "config.toml")}
	home.write(b, s.Addr(), "")
	h, err := openHost(b.Context(), hostConfig{path: home.config, stderr: io.Discard, must: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections) // the worker's
	background(b, h.run)
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	for s := range h.observers.Session.Watch(ctx) {
		if s.State == observe.SessionConnected {
			return f, h
		}
	}
	b.Fatal("the worker did not connect")
	return nil, nil
}

// background runs f until the benchmark ends.
func background(b *testing.B, f func(context.Context) error) {
	b.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(b.Context()))
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	b.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
}

// sees reads until the studio's view of its worker says so, and returns how
// often it had to.
func (f *farm) sees(b *testing.B, available bool) (reads int) {
	b.Helper()
	limit := time.Now().Add(patience)
	for {
		reads++
		_, body := f.call(b, http.MethodGet, "/api/v1/workers", f.token, nil)
		var out struct {
			Workers []struct {
				Capabilities *protocol.Capabilities `json:"capabilities"`
			} `json:"workers"`
		}
		if err := json.Unmarshal(body, &out); err != nil || len(out.Workers) != 1 {
			b.Fatalf("the studio's workers: %s, %v", body, err)
		}
		if c := out.Workers[0].Capabilities; c != nil && c.AutoEnabled == available {
			return reads
		}
		if time.Now().After(limit) {
			b.Fatal("the studio never saw it")
		}
	}
}

// BenchmarkPause measures from the click on Pause to a studio that knows, and
// from Resume to a waiting job that is offered, over the whole way. The bare
// loop beside it is one request to the same studio, which is also how a change
// is seen.
func BenchmarkPause(b *testing.B) {
	f, h := benchFarm(b)
	f.sees(b, true)
	var pausing, resuming, bare time.Duration
	n, reads := 0, 0
	for b.Loop() {
		start := time.Now()
		h.Pause()
		reads += f.sees(b, false)
		pausing += time.Since(start)

		id := f.submit(b, protocol.KindLLM, "name this town")
		ctx, cancel := context.WithTimeout(b.Context(), patience)
		offered := false
		for event, err := range f.operator.Events(ctx, id) {
			switch {
			case err != nil:
				b.Fatal(err)
			case event.Job.State == client.Queued && !offered:
				start = time.Now()
				h.Resume()
			case !offered:
				offered = true
				resuming += time.Since(start)
			}
		}
		cancel()
		if !offered {
			b.Fatal("the job was never offered")
		}

		start = time.Now()
		if status, _ := f.call(b, http.MethodGet, "/healthz", "", nil); status != http.StatusOK {
			b.Fatalf("the studio's health: %d", status)
		}
		bare += time.Since(start)
		n++
	}
	per := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(n) }
	b.ReportMetric(per(pausing), "µs/pause")
	b.ReportMetric(per(resuming), "µs/resume")
	b.ReportMetric(per(bare), "µs/request")
	b.ReportMetric(float64(reads)/float64(n), "reads/pause")
}
