//go:build !headless

package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"studioworker/ui"
	"studioworker/ui/desktop"
	"studioworker/worker/update/supervisor"
)

// variant names this build.
const variant = "window"

// canShow says whether a window can be opened here.
func canShow() bool { return runtime.GOOS != "linux" || os.Getenv("DISPLAY") != "" }

// trayShown says whether the desktop shows tray icons.
func trayShown(ctx context.Context) (bool, error) { return desktop.TrayShown(ctx) }

func (c *command) uiCommand() *cobra.Command {
	var hidden bool
	cmd := &cobra.Command{
		Use: "ui [--hidden]", Short: "Open the window (the default)", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.watchedWindow(cmd.Context(), windowOptions{hidden: hidden})
		},
	}
	cmd.Flags().BoolVar(&hidden, "hidden", false, "start in the tray")
	return cmd
}

// windowGC is how much garbage may lie beside what is in use, in percent, before it is
// collected.
const windowGC = 25

type windowOptions struct {
	hidden, demo bool
	parent       *supervisor.Parent
}

func (c *command) ui(ctx context.Context, demo bool) error {
	if demo { // it has a folder of its own, and nobody keeps it
		return c.window(ctx, windowOptions{demo: true})
	}
	return c.watchedWindow(ctx, windowOptions{})
}

// watchedWindow runs worker and window in the version that is to run.
func (c *command) watchedWindow(ctx context.Context, o windowOptions) error {
	path, err := c.path()
	if err != nil {
		return err
	}
	return c.watched(ctx, path, func(ctx context.Context, parent *supervisor.Parent) error {
		o.parent = parent
		o.hidden = o.hidden || parent.Unasked() // nobody waits to see it
		return c.window(ctx, o)
	})
}

// window runs worker and window. Fyne needs the main goroutine, so the worker
// runs beside it.
func (c *command) window(ctx context.Context, o windowOptions) error {
	if !canShow() {
		return errors.New("there is no display: use `run` for a worker without a window, or `demo --no-window`")
	}
	path, err := c.path()
	if err != nil {
		return err
	}
	h, err := openHost(ctx, hostConfig{path: path, stderr: c.Err, window: true, private: o.demo, parent: o.parent})
	if errors.Is(err, errAlreadyRunning) {
		return c.raise(ctx, path)
	}
	if err != nil {
		return err
	}
	defer settleMemory(windowGC)()
	ctx, closeWindow := context.WithCancel(ctx)
	defer closeWindow()
	ended := make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		err := h.run(running)
		closeWindow() // only now: the window shows the stopping
		ended <- err
	}()
	if o.demo {
		go h.demoSamples(running)
	}
	err = desktop.Run(ctx, ui.Config{
		Observers: h.observers, Controls: h, Log: h.log, Hidden: o.hidden, Show: h.show,
		StatePath: filepath.Join(filepath.Dir(path), "ui.json"),
	})
	stop() // the window may have ended first: the desktop's session is over
	return errors.Join(err, <-ended)
}

// demoSamples queues the sample jobs once the worker is ready.
func (h *host) demoSamples(ctx context.Context) {
	kinds, err := awaitReady(ctx, h.observers)
	if err == nil {
		_, err = queueSamples(ctx, h, kinds)
	}
	if err != nil && ctx.Err() == nil {
		h.log.Error("sample jobs were not queued", "error", err)
	}
}

// raise shows the window of the running instance, or says why there is none.
func (c *command) raise(ctx context.Context, path string) error {
	a, err := ask(ctx, path, askShow)
	if err != nil {
		return fmt.Errorf("%w, but it does not answer: %w", errAlreadyRunning, err)
	}
	if !a.Window {
		return fmt.Errorf("a worker without a window runs with this config (pid %d): stop it with `studio-worker --config %s quit`, then open the window", a.PID, path)
	}
	return nil
}
