//go:build !windows

package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"studioworker/gpu"
	"studioworker/studio/client"
	"studioworker/worker"
	"studioworker/worker/config"
	"studioworker/worker/engine"
	"studioworker/worker/engine/synthetic"
	"studioworker/worker/logs"
	"studioworker/worker/observe"
	"studioworker/worker/protocol"
	"studioworker/worker/session/sessiontest"
)

// counting is the synthetic engine, and counts its runs by prompt.
type counting struct {
	*synthetic.Engine

	mu   sync.Mutex
	runs map[string]int
}

func (c *counting) Run(ctx context.Context, req engine.Request, progress func(engine.Progress)) (engine.Result, error) {
	c.mu.Lock()
	switch req.Kind {
	case engine.KindLLM:
		c.runs[req.LLM.Messages[0].Content]++
	case engine.KindImage:
		c.runs[req.Image.Prompt]++
		req.Image.Width, req.Image.Height = 64, 64 // not to spend the test on drawing
	case engine.KindSTT, engine.KindTTS, engine.KindVideo:
	}
	c.mu.Unlock()
	return c.Engine.Run(ctx, req, progress)
}

func (c *counting) count(prompt string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.runs[prompt]
}

// behind runs a worker in this process that reaches the studio by way of a proxy.
// It waits for nothing: a lost session is opened again at once.
func behind(t *testing.T, p *sessiontest.Proxy, e engine.Engine) (w *worker.Worker, seen *observe.WorkerObservers) {
	t.Helper()
	seen = observe.New()
	log := slog.New(slog.DiscardHandler)
	first := config.Default()
	first.APIBaseURL = p.URL()
	store, err := config.New(filepath.Join(t.TempDir(), "config.toml"), first, log)
	if err == nil {
		err = store.Update(func(*config.Config) {}) // the studio is chosen
	}
	if err != nil {
		t.Fatal(err)
	}
	router, err := engine.NewRouter(log, e)
	if err != nil {
		t.Fatal(err)
	}
	w, err = worker.New(worker.Config{
		Store: store, Observers: seen, Logs: new(logs.Queue), Log: log, Router: router, Version: Version,
		GPUs: func(context.Context) ([]gpu.Device, error) { return nil, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := w.Run(ctx); err != nil {
			t.Errorf("the worker ended with %v", err)
		}
	})
	running.Go(func() {
		for s := range seen.Session.Watch(ctx) {
			if s.State == observe.SessionReconnecting {
				w.Reload()
			}
		}
	})
	t.Cleanup(func() {
		w.StopNow()
		cancel()
		running.Wait()
	})
	return w, seen
}

// TestRow25TheConnectionIsCut cuts a session at each boundary of its frames and
// inside each frame, both ways, from the upgrade to the end of a job. The job
// must be done after one run of the engine, with that run's result.
func TestRow25TheConnectionIsCut(t *testing.T) {
	for kind, parts := range map[protocol.TaskKind][]sessiontest.Part{
		protocol.KindLLM:   {sessiontest.PartNone, sessiontest.PartByte, sessiontest.PartHalf}, // its result is a frame
		protocol.KindImage: {sessiontest.PartHalf},                                             // its result is uploaded
	} {
		t.Run(string(kind), func(t *testing.T) {
			f := newStudio(t)
			p := sessiontest.NewProxy(t, f.url)
			e := &counting{Engine: synthetic.New(), runs: map[string]int{}}
			w, seen := behind(t, p, e)
			reaches(t, &seen.Session, func(s observe.Session) bool { return s.State == observe.SessionConnected })
			runs, results := 0, 0
			for _, fromStudio := range []bool{false, true} {
				frames, cuts := 0, 0
				// The session is cut in this frame, until a job is done before it comes.
				for n, before := 0, -1; before < cuts && n < 20; n++ {
					before = cuts
					for _, part := range parts {
						p.CutNext(sessiontest.Cut{FromStudio: fromStudio, Frame: n, Part: part})
						w.Reload()
						prompt := fmt.Sprintf("town %v %d %s", fromStudio, n, part)
						job := f.awaitState(t, f.submit(t, kind, prompt), client.Done)
						ran := e.count(prompt)
						if ran != 1 {
							t.Errorf("cut after %s of frame %d (from the studio: %v): the engine ran %d times", part, n, fromStudio, ran)
						}
						f.result(t, job) // whole, and what the studio says it is
						runs, results = runs+ran, results+1
						if p.WasCut() {
							cuts++
							frames = n + 1
						}
					}
				}
				// Head, hello, heartbeat, accept, and the result where it is a frame; head,
				// welcome, the heartbeat's answer and the offer.
				if frames < 4 {
					t.Errorf("only %d frames were cut, from the studio: %v", frames, fromStudio)
				}
				t.Logf("from the studio: %v: %d cuts in %d frames", fromStudio, cuts, frames)
			}
			reaches(t, &seen.Outbox, func(o observe.Outbox) bool { return o.Count == 0 })
			t.Logf("engine runs: %d, results delivered: %d", runs, results)
		})
	}
}

// reaches waits for a value that fits.
func reaches[T any](t *testing.T, slot *observe.Slot[T], fits func(T) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for v := range slot.Watch(ctx) {
		if fits(v) {
			return
		}
	}
	t.Fatalf("still %+v", slot.Get())
}

// TestRow38ACopyOfTheConfig: two workers with one identity do not throw each
// other out for ever. The one that comes second stops and says why, and all jobs
// are done by the first.
func TestRow38ACopyOfTheConfig(t *testing.T) {
	f := newStudio(t)
	first, second := newHome(t), newHome(t)
	first.write(t, f.url, "")
	old := first.start(t, "run")
	old.await(t, 1, "server welcomed")
	data, err := os.ReadFile(first.config)
	if err == nil {
		err = errors.Join(os.MkdirAll(filepath.Dir(second.config), 0o700), os.WriteFile(second.config, data, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	copied := second.start(t, "run")
	copied.await(t, 1, "another computer uses this worker's identity")
	for n := range 2 {
		id := f.submit(t, protocol.KindLLM, fmt.Sprintf("town %d", n))
		if job := f.awaitState(t, id, client.Done); job.Attempts != 1 {
			t.Errorf("job is %+v", job)
		}
	}
	old.await(t, 2, "studio confirmed completion")
	if s := second.runningStatusOf(t); s.Running == nil || s.Running.Session != string(observe.SessionFatal) {
		t.Errorf("the second worker's status is %+v", s.Running)
	}
	old.stop(t)
	copied.stop(t)
	if old.err.await(2, "server welcomed") {
		t.Errorf("the first worker was thrown out:\n%s", old.err)
	}
	for _, said := range []string{"server welcomed", "offer received"} {
		if copied.err.await(1, said) {
			t.Errorf("the second worker says %q:\n%s", said, copied.err)
		}
	}
}
