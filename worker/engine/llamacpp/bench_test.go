package llamacpp

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"testing"

	"studioworker/scripts/measure"
	"studioworker/worker/engine"
	"studioworker/worker/engine/enginetest"
)

// benchJobs is how many jobs one value is the median of.
const benchJobs = 20

// BenchmarkWarmJob is what a job on a loaded model costs beside the bare request to
// its server. It needs the real program and model.
func BenchmarkWarmJob(b *testing.B) {
	const what = "a warm job beside its request"
	if !enginetest.Given(what, "STUDIO_WORKER_LLAMA_SERVER") || !enginetest.Given(what, "STUDIO_WORKER_TEST_LLM") {
		b.SkipNow()
	}
	e, _ := newReal(b, nil)
	question := func() engine.Request {
		return engine.Request{
			JobID: "j", Kind: engine.KindLLM, Model: "tiny", Dir: b.TempDir(), Source: engine.Source{Engine: ID},
			LLM: &engine.LLM{Messages: []engine.Message{{Role: "user", Content: capital}}, MaxTokens: 1, Temperature: 0},
		}
	}
	job := func() error {
		_, err := e.Run(b.Context(), question(), func(engine.Progress) {})
		return err
	}
	if err := job(); err != nil { // loads the model
		b.Fatal(err)
	}
	var s *server
	for _, r := range e.loaded {
		s = r.server
	}
	request, err := newRequest("tiny", question().LLM, nil)
	if err != nil {
		b.Fatal(err)
	}
	body, err := json.Marshal(request)
	if err != nil {
		b.Fatal(err)
	}
	median := func(f func() error) float64 {
		var all []float64
		for range benchJobs {
			all = append(all, measure.Time(b, f))
		}
		return measure.Quantile(all, 0.5)
	}
	bare := func() error {
		r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, s.base+"/v1/chat/completions", bytes.NewReader(body))
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer "+s.key)
		reply, err := s.http.Do(r)
		if err != nil {
			return err
		}
		defer reply.Body.Close()
		_, err = io.Copy(io.Discard, reply.Body)
		return err
	}
	measure.InTurns(b, func() []float64 {
		with, without := median(job), median(bare)
		return []float64{max(0, with-without), with}
	}, func() []float64 {
		return []float64{0, median(bare)}
	}, measure.Line{Of: "engine", What: what, Unit: measure.Seconds, Most: 0.005},
		measure.Line{Of: "engine", What: "a warm job of one token", Bare: "the bare request", Unit: measure.Seconds})
}
