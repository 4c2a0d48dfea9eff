package worker

import (
	"slices"
	"testing"
	"time"

	"studioworker/worker/protocol"
	"studioworker/worker/session/sessiontest"
)

// BenchmarkPauseToHeartbeat measures how soon the studio hears that the worker
// was paused and resumed: a heartbeat on a real socket, read and decoded. In
// turns with it goes one bare JSON message there and back. The ratio is that of
// the medians.
func BenchmarkPauseToHeartbeat(b *testing.B) {
	s := newStudio(b)
	f := prepare(b, approved(s), answers, func(c *Config) { c.Heartbeat = time.Hour }).start(b)
	c := s.Welcome(b)
	heard := func(enabled bool) {
		sessiontest.Await(b, c, func(h protocol.Heartbeat) bool { return h.Capabilities.AutoEnabled == enabled })
	}
	heard(true)
	echo := sessiontest.Echo(b)
	message := protocol.Heartbeat{Capabilities: f.capabilities()}
	var pause, resume, bare []time.Duration
	for b.Loop() {
		start := time.Now()
		f.Pause()
		heard(false)
		pause = append(pause, time.Since(start))
		start = time.Now()
		f.Resume()
		heard(true)
		resume = append(resume, time.Since(start))
		start = time.Now()
		if err := echo(message); err != nil {
			b.Fatal(err)
		}
		bare = append(bare, time.Since(start))
	}
	p, r, e := median(pause), median(resume), median(bare)
	b.ReportMetric(float64(p), "pause-ns")
	b.ReportMetric(float64(r), "resume-ns")
	b.ReportMetric(float64(e), "echo-ns")
	b.ReportMetric(float64(p)/float64(e), "pause/echo")
	b.ReportMetric(float64(r)/float64(e), "resume/echo")
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
