package sdcpp

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"studioworker/scripts/measure"
	"studioworker/worker/engine"
	"studioworker/worker/engine/sdcpp/fakesd"
	"studioworker/worker/engine/supply"
)

// benchJobs is how many jobs one value is the median of.
const benchJobs = 20

// BenchmarkJob measures what a picture job costs beside the command that it runs:
// the same fake program with the same arguments, in turns.
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
	median := func(f func() error) float64 {
		var all []float64
		for range benchJobs {
			all = append(all, measure.Time(b, f))
		}
		return measure.Quantile(all, 0.5)
	}
	bare := func() error {
		cmd := exec.CommandContext(b.Context(), self, args...)
		cmd.Env = env
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	picture := func() error {
		_, err := w.Run(b.Context(), req, func(engine.Progress) {})
		return err
	}
	measure.InTurns(b, func() []float64 {
		req.Dir = b.TempDir()
		with, without := median(picture), median(bare)
		return []float64{max(0, with-without), with}
	}, func() []float64 {
		return []float64{0, median(bare)}
	}, measure.Line{Of: "engine", What: "a picture job beside its command", Unit: measure.Seconds},
		measure.Line{Of: "engine", What: "a picture job of the fake sd-cli", Bare: "its command", Unit: measure.Seconds})
}
