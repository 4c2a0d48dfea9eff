package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"studioworker/studio/client"
	"studioworker/worker/observe"
	"studioworker/worker/protocol"
)

// sample is what the demo asks for, by kind.
func sample(kind protocol.TaskKind) string {
	switch kind {
	case protocol.KindImage:
		return "a lighthouse in fog"
	case protocol.KindLLM:
		return "Name a small harbour town."
	case protocol.KindSTT:
		return "https://studio.invalid/harbour.wav" // never opened: only the synthetic engine serves this kind yet
	case protocol.KindTTS:
		return "Hello! This computer works for its own studio now."
	case protocol.KindVideo:
		return "waves rolling into a harbour"
	}
	return ""
}

func (c *command) demoCommand() *cobra.Command {
	var once, headless bool
	cmd := &cobra.Command{
		Use: "demo [--once] [--no-window]", Short: "Try it: a studio and a worker on this computer, with sample jobs", Args: noArgs,
		Long: `Try it: starts a private studio and a worker on this computer and queues one sample
job of each kind that the computer can serve. Everything lies in a folder of its own;
your own config is not touched.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := stateDir()
			if err != nil {
				return err
			}
			if c.configPath == "" {
				c.configPath = filepath.Join(dir, "demo", "config.toml")
			}
			if canShow() && !once && !headless {
				return c.ui(cmd.Context(), true)
			}
			return c.demoInTerminal(cmd.Context(), once)
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "run the sample jobs in the terminal and stop")
	cmd.Flags().BoolVar(&headless, "no-window", false, "stay in the terminal")
	return cmd
}

// demoInTerminal runs the demo without a window. Logs go to a file, so that the
// terminal shows the jobs.
func (c *command) demoInTerminal(ctx context.Context, once bool) error {
	path, err := c.path()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("create the demo's folder: %w", err)
	}
	logPath := filepath.Join(filepath.Dir(path), "demo.log")
	logFile, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer func() { _ = logFile.Close() }() // a log: what is lost is said nowhere else
	h, err := openHost(ctx, hostConfig{path: path, stderr: logFile, private: true})
	if errors.Is(err, errAlreadyRunning) {
		return fmt.Errorf("the demo is running already%s: stop it with `studio-worker --config %s quit`", c.pidOf(ctx, path), path)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "studio:  %s (private, on this computer)\nfolder:  %s\nlog:     %s\n", h.private.studio.Addr(), filepath.Dir(path), logPath)

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer stop()
		return h.run(ctx)
	})
	g.Go(func() error {
		err := c.samples(ctx, h)
		if h.observers.Availability.Get().Block == observe.BlockStopping || ctx.Err() != nil {
			return errors.New("stopped before all sample jobs were done")
		}
		if once || err != nil {
			stop()
			return err
		}
		fmt.Fprintln(c.Out, "all sample jobs are done; the worker stays ready until you stop it with Ctrl+C")
		return nil
	})
	return g.Wait()
}

// samples queues one job of each kind, follows them, and prints where their
// results are.
func (c *command) samples(ctx context.Context, h *host) error {
	kinds, err := awaitReady(ctx, h.observers)
	if err != nil {
		return err
	}
	ids, err := queueSamples(ctx, h, kinds)
	if err != nil {
		return err
	}
	var failed error
	for i, id := range ids {
		ended, err := follow(ctx, h.private.client, id, c.sayProgress(string(kinds[i])))
		if err != nil {
			return err
		}
		if ended.State != client.Done {
			failed = errors.Join(failed, fmt.Errorf("the %s job ended as %s: %s", kinds[i], ended.State, ended.Error))
			continue
		}
		path, err := awaitResult(ctx, h.observers, id)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.Out, "%-10s %s\n", kinds[i], path)
	}
	return failed
}

func queueSamples(ctx context.Context, h *host, kinds []protocol.TaskKind) ([]string, error) {
	ids := make([]string, len(kinds))
	for i, kind := range kinds {
		job, err := makeJob(ctx, h.private.client, kind, "", sample(kind), servedBy(h.observers.Settings.Get().Models))
		if err != nil {
			return nil, err
		}
		queued, err := h.private.client.Submit(ctx, job)
		if err != nil {
			return nil, fmt.Errorf("queue the %s job: %w", kind, err)
		}
		ids[i] = queued.ID
	}
	return ids, nil
}

// readyLimit is how long the demo's worker may take to be let in by the studio
// in the same process.
const readyLimit = 60 * time.Second

// awaitReady returns what the worker serves once its session is up.
func awaitReady(ctx context.Context, o *observe.WorkerObservers) ([]protocol.TaskKind, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readyLimit, errors.New("the worker could not reach its own studio: see the log"))
	defer cancel()
	for s := range o.Session.Watch(ctx) {
		if s.State != observe.SessionConnected {
			continue
		}
		var kinds []protocol.TaskKind
		for _, kind := range o.Settings.Get().Serves {
			kinds = append(kinds, protocol.TaskKind(kind))
		}
		return kinds, nil
	}
	return nil, context.Cause(ctx)
}

// resultLimit is how long a stored result may take to lie in its place.
const resultLimit = 30 * time.Second

// awaitResult returns where a done job's result lies on this computer. The
// studio may have said "done" before the worker has moved the file.
func awaitResult(ctx context.Context, o *observe.WorkerObservers, id string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, resultLimit, errors.New("the studio has the result, but this worker does not say where it lies"))
	defer cancel()
	for range o.RecentJobs.Newest.Watch(ctx) {
		jobs, _ := o.RecentJobs.Since(0)
		for _, job := range jobs {
			if job.ID == id && job.Outcome == observe.OutcomeCompleted && job.ResultPath != "" {
				return job.ResultPath, nil
			}
		}
	}
	return "", context.Cause(ctx)
}
