package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"studioworker/scripts/measure"
	"studioworker/worker/engine"
	"studioworker/worker/engine/enginetest"
	"studioworker/worker/engine/llamacpp"
	"studioworker/worker/engine/program"
	"studioworker/worker/observe"
	"studioworker/worker/protocol"
	"studioworker/worker/session/sessiontest"
)

// The question of the jobs, and of the bare requests.
const benchQuestion = "What is the capital of France? Answer in one short sentence."

// BenchmarkWarmLLM is what a whole job of a language model that is loaded costs, from
// the offer that is written to the result that is read, beside the bare request to a
// server of its own with the same model: session, outbox on disk with all its syncs,
// engine.
func BenchmarkWarmLLM(b *testing.B) {
	const (
		what = "a warm job, offer to result, beside its request"
		jobs = 20 // that one value is the median of
	)
	if !enginetest.Given(what, "STUDIO_WORKER_LLAMA_SERVER") || !enginetest.Given(what, "STUDIO_WORKER_TEST_LLM") {
		b.SkipNow()
	}
	server, model := os.Getenv("STUDIO_WORKER_LLAMA_SERVER"), os.Getenv("STUDIO_WORKER_TEST_LLM")
	root := b.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(root, llamacpp.Folder), 0o700), os.Symlink(model, filepath.Join(root, llamacpp.Folder, "tiny.gguf"))); err != nil {
		b.Fatal(err)
	}
	s := newStudio(b)
	e := llamacpp.New(llamacpp.Config{
		Tool: llamacpp.NewTool(program.Places{Environ: os.Environ()}, server, func() []string { return nil }),
		Root: func() string { return root }, Threads: 1,
	})
	b.Cleanup(e.Close)
	f := prepare(b, approved(s), answers, func(c *Config) {
		router, err := engine.NewRouter(slog.New(slog.DiscardHandler), e)
		if err != nil {
			b.Fatal(err)
		}
		c.Heartbeat, c.Router = time.Hour, router
	}).start(b)
	c := s.Welcome(b)
	n := 0
	job := func() float64 {
		n++
		id := "job-" + strconv.Itoa(n)
		offer := protocol.Offer{Claim: protocol.Claim{
			JobID: id, GameID: "g", AssetName: "g/c/n", Model: "tiny", ModelSource: protocol.ModelSource{Engine: protocol.Engine(llamacpp.ID)},
			Task: protocol.Task{Kind: protocol.KindLLM, LLM: &protocol.LLMTask{Messages: []protocol.Message{{Role: "user", Content: benchQuestion}}, MaxTokens: 1}},
		}}
		start := time.Now()
		c.Send(b, offer)
		done := sessiontest.Await[protocol.CompleteJSON](b, c, nil)
		took := time.Since(start).Seconds()
		if done.JobID != id {
			b.Fatalf("offered %s, got %s", id, done.JobID)
		}
		c.Send(b, protocol.CompleteAck{JobID: id})
		until(b, &f.seen.CurrentJob, func(j observe.CurrentJob) bool { return j.ID == "" })
		return took
	}
	job() // loads the model
	ask := bareServer(b, server, model)
	median := func(f func() float64) float64 {
		all := make([]float64, jobs)
		for i := range all {
			all[i] = f()
		}
		return measure.Quantile(all, 0.5)
	}
	bare := func() float64 { return measure.Time(b, ask) }
	bare() // reads the prompt once
	measure.InTurns(b, func() []float64 {
		with, without := median(job), median(bare)
		return []float64{max(0, with-without), with}
	}, func() []float64 {
		return []float64{0, median(bare)}
	}, measure.Line{Of: "engine", What: what, Unit: measure.Seconds, Most: 0.005},
		measure.Line{Of: "engine", What: "a warm job of one token, offer to result", Bare: "the bare request", Unit: measure.Seconds})
}

// bareServer starts a llama-server as the engine would, and returns what asks it the
// same as a job, and reads the answer.
func bareServer(b *testing.B, path, model string) func() error {
	b.Helper()
	l, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address := l.Addr().(*net.TCPAddr)
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	cmd := exec.CommandContext(ctx, path, "--host", "127.0.0.1", "--port", strconv.Itoa(address.Port),
		"-m", model, "--alias", "tiny", "-c", "8192", "-np", "1", "-ngl", "0", "-t", "1", "--jinja", "--offline", "--cache-ram", "0")
	cmd.Dir = filepath.Dir(path)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stop()
		_ = cmd.Wait() // it was killed
	})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	do := func(method, path string, body []byte) error {
		r, err := http.NewRequestWithContext(b.Context(), method, "http://"+address.String()+path, bytes.NewReader(body))
		if err != nil {
			return err
		}
		reply, err := client.Do(r)
		if err != nil {
			return err
		}
		defer reply.Body.Close()
		if _, err := io.Copy(io.Discard, reply.Body); err != nil {
			return err
		}
		if reply.StatusCode != http.StatusOK {
			return fmt.Errorf("the server answered %d", reply.StatusCode)
		}
		return nil
	}
	for end := time.Now().Add(sessiontest.Patience); ; time.Sleep(50 * time.Millisecond) {
		if err = do(http.MethodGet, "/health", nil); err == nil {
			break
		}
		if time.Now().After(end) {
			b.Fatalf("the bare server does not answer: %v", err)
		}
	}
	body, err := json.Marshal(map[string]any{
		"model": "tiny", "messages": []map[string]string{{"role": "user", "content": benchQuestion}}, "max_tokens": 1, "temperature": 0.7,
		"top_k": 0, "min_p": 0, "samplers": []string{"temperature"}, "seed": 1234, "cache_prompt": true, "stream": true,
		"stream_options": map[string]bool{"include_usage": true},
	})
	if err != nil {
		b.Fatal(err)
	}
	return func() error { return do(http.MethodPost, "/v1/chat/completions", body) }
}
