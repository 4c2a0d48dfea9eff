package sdcpp

import (
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"studioworker/worker/engine"
	"studioworker/worker/engine/sdcpp/fakesd"
	"studioworker/worker/engine/supply"
)

// BenchmarkJob measures what a picture job costs beside the command that it runs:
// the same fake program with the same arguments, in turns. What counts is the
// difference of the medians.
func BenchmarkJob(b *testing.B) {
	w := newBench(b, fakesd.Paint)
	req := job(b)
	req.Image.Seed = new(uint64(7))
	self, err := w.cfg.Tool.Ready(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	p, err := newPlan(req)
	if err != nil {
		b.Fatal(err)
	}
	held, err := w.shelf.Ensure(b.Context(), supply.Set{Model: req.Model, Files: req.Source.Files}, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer held.Release()
	help, err := w.cfg.Tool.Says(b.Context(), self, "--help")
	if err != nil {
		b.Fatal(err)
	}
	args := p.arguments(paths{model: held, out: filepath.Join(b.TempDir(), "bare.png")}, help)
	env := w.cfg.Tool.Places.Environment(self)
	var jobs, bare []time.Duration
	for b.Loop() {
		start := time.Now()
		cmd := exec.CommandContext(b.Context(), self, args...)
		cmd.Env = env
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		bare = append(bare, time.Since(start))

		req.Dir = b.TempDir()
		start = time.Now()
		if _, err := w.Run(b.Context(), req, func(engine.Progress) {}); err != nil {
			b.Fatal(err)
		}
		jobs = append(jobs, time.Since(start))
	}
	slices.Sort(jobs)
	slices.Sort(bare)
	ours, theirs := jobs[len(jobs)/2], bare[len(bare)/2]
	b.ReportMetric(float64((ours-theirs).Microseconds())/1000, "ms-overhead/job")
	b.ReportMetric(float64(theirs.Microseconds())/1000, "ms-command")
	b.ReportMetric(0, "ns/op") // of both together: says nothing
}
