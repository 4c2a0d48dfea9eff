package worker

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"studioworker/scripts/measure"
	"studioworker/worker/observe"
	"studioworker/worker/outbox"
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

// BenchmarkJob takes JSON jobs of the synthetic engine, one after the other, from
// the offer to the acknowledgement of the result and, in turns with it, sends
// one JSON message there and back (reliability guide §7.3, row 1). The outbox is
// in the memory of this process, then on the file system in memory that some
// systems have, which has no limit of its own, and on disk, where the least that
// stores a result durably comes on top of the limit. There each message follows a
// wait for the disk, as in a job: a processor that slept answers later than one
// that does nothing but echo.
func BenchmarkJob(b *testing.B) {
	b.Run("memory", func(b *testing.B) {
		job, echo := serialJobs(b, newMemory()), messages(b)
		measure.InTurns(b, job, echo,
			measure.Line{Row: 1, What: "offer to ack in memory, p50", Bare: "a JSON echo", Unit: measure.Seconds, MostRatio: 4},
			measure.Line{Row: 1, What: "offer to ack in memory, p99", Bare: "a JSON echo", Unit: measure.Seconds, MostRatio: 6})
	})
	b.Run("tmpfs", func(b *testing.B) {
		const dir = "/dev/shm"
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			b.Skip("row 1 on a file system in memory: NOT RUN, there is no " + dir)
		}
		b.Setenv("TMPDIR", dir)
		job, echo := serialJobs(b, nil), messages(b)
		measure.InTurns(b, job, echo,
			measure.Line{Row: 1, What: "offer to ack on tmpfs, p50", Bare: "a JSON echo", Unit: measure.Seconds},
			measure.Line{Row: 1, What: "offer to ack on tmpfs, p99", Bare: "a JSON echo", Unit: measure.Seconds})
	})
	b.Run("disk", func(b *testing.B) {
		dir, result := b.TempDir(), make([]byte, 500)
		job, echo, message := serialJobs(b, nil), sessiontest.Echo(b), benchOffer()
		measure.InTurns(b, job, func() []float64 {
			took := make([]float64, serial)
			for i := range took {
				took[i] = measure.Store(b, dir, result)
				for range 4 {
					took[i] += measure.Time(b, func() error { return echo(message) })
				}
			}
			return []float64{measure.Quantile(took, 0.5)}
		}, measure.Line{Row: 1, What: "offer to ack on disk, p50", Bare: "the bare syncs and 4 echoes", Unit: measure.Seconds, MostRatio: 1})
	})
}

// serial is how many jobs or messages are in a turn: two thousand in five.
const serial = 400

// serialJobs starts a worker with its outbox on fsys, nil for the real one, and returns what gives it jobs, and returns p50 and
// p99 of their times in seconds: from the offer that is written to its result
// that is read and acknowledged.
func serialJobs(b *testing.B, fsys outbox.FS) func() []float64 {
	b.Helper()
	s := newStudio(b)
	f := prepare(b, approved(s), answers, func(c *Config) { c.Heartbeat, c.OutboxFS = time.Hour, fsys }).start(b)
	c := s.Welcome(b)
	c.IgnoreLogs()
	n := 0
	return func() []float64 {
		took := make([]float64, serial)
		for i := range took {
			n++
			offer := llmOffer("job-"+strconv.Itoa(n), string(protocol.EngineSynthetic))
			start := time.Now()
			c.Send(b, offer)
			done := sessiontest.Await[protocol.CompleteJSON](b, c, nil)
			c.Send(b, protocol.CompleteAck{JobID: done.JobID})
			took[i] = time.Since(start).Seconds()
			if done.JobID != offer.Claim.JobID {
				b.Fatalf("offered %s, got %s", offer.Claim.JobID, done.JobID)
			}
			until(b, &f.seen.CurrentJob, func(j observe.CurrentJob) bool { return j.ID == "" })
		}
		return []float64{measure.Quantile(took, 0.5), measure.Quantile(took, 0.99)}
	}
}

// benchOffer is a message that is worth a frame.
func benchOffer() protocol.Offer { return llmOffer("job-40", string(protocol.EngineSynthetic)) }

// messages returns what sends a JSON message there and back, and returns p50 and
// p99 of the times in seconds.
func messages(b *testing.B) func() []float64 {
	b.Helper()
	echo := sessiontest.Echo(b)
	message := benchOffer()
	return func() []float64 {
		took := make([]float64, serial)
		for i := range took {
			took[i] = measure.Time(b, func() error { return echo(message) })
		}
		return []float64{measure.Quantile(took, 0.5), measure.Quantile(took, 0.99)}
	}
}

// BenchmarkLogShipping logs 50,000 lines a second to a worker with a session, as
// far as the computer allows, and counts what the studio did not get (reliability
// guide §7.3, row 5). The bare side has nothing to lose.
func BenchmarkLogShipping(b *testing.B) {
	const (
		rate = 50_000 // lines a second
		tick = 2 * time.Millisecond
		turn = 50_000 // lines
	)
	s := newStudio(b)
	f := prepare(b, approved(s), answers, func(c *Config) { c.Heartbeat = time.Hour }).start(b)
	c := s.Welcome(b)
	arrived := make(chan string)
	go func() { // ends with the session
		defer close(arrived)
		for frame := c.Next(b); frame != nil; frame = c.Next(b) {
			if batch, ok := frame.(protocol.LogBatch); ok {
				for _, e := range batch.Entries {
					arrived <- e.Message
				}
			}
		}
	}()
	turns := 0
	measure.InTurns(b, func() []float64 {
		turns++
		last := "last of turn " + strconv.Itoa(turns)
		go func() {
			pace := time.NewTicker(tick)
			defer pace.Stop()
			for sent, start := 0, time.Now(); sent < turn; <-pace.C {
				for due := int(time.Since(start).Seconds() * rate); sent < min(due, turn); sent++ {
					f.cfg.Log.Info("a line of the flood", "n", sent, "elapsed_ms", 12)
				}
			}
			f.cfg.Log.Info(last)
		}()
		got := 0
		for text := range arrived {
			if text == last {
				break
			}
			if strings.HasPrefix(text, "a line of the flood") {
				got++
			}
		}
		return []float64{float64(turn-got) / turn}
	}, func() []float64 { return []float64{0} },
		measure.Line{Row: 5, What: "log lines lost at 50,000 a second", Unit: measure.Share, Most: 1e-9})
	f.stop() // before the reader of the frames is without a test
	for range arrived {
		continue
	}
}
