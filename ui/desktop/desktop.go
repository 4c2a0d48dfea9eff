//go:build !headless

package desktop

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"runtime"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/app"
	"golang.org/x/sync/errgroup"

	"studioworker/assets"
	"studioworker/ui"
	"studioworker/ui/model"
	"studioworker/ui/words"
)

// endTime is how long Run waits, once the window is gone, for what the window
// had started. Each of those has been told to stop.
const endTime = 5 * time.Second

// errStuck says that something the window asked of the program did not return.
var errStuck = errors.New("close window: a command did not end in time")

// ErrNoDisplay says that there is no screen to show a window on. The program can
// still run without one.
var ErrNoDisplay = errors.New("no display: DISPLAY is not set")

// Run shows the window and the tray, and blocks until ctx ends or the desktop
// ends the application (a signal, the end of the desktop's session). It must be
// called on the main goroutine, once a process. Without a screen it returns
// [ErrNoDisplay].
func Run(ctx context.Context, cfg ui.Config) error {
	if runtime.GOOS == "linux" && os.Getenv("DISPLAY") == "" { // the driver would panic
		return ErrNoDisplay
	}
	// In code, so that a plain go build has it: without it Fyne spends a
	// quarter of its time on asking which goroutine it is on.
	app.SetMetadata(fyne.AppMetadata{
		ID: ui.AppID, Name: ui.AppName,
		Migrations: map[string]bool{"fyneDo": true},
	})
	a := app.NewWithID(ui.AppID)
	a.SetIcon(fyne.NewStaticResource("icon.png", assets.Icon))

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	host, err := openTrayHost()
	if err != nil {
		cfg.Log.Info("no tray here", slog.Any("error", err))
	}
	var icon *tray
	tip := func() string { return "" } // until there is a window
	w, err := ui.New(a, cfg, func(s model.State, paused bool, tr *words.Printer) {
		if icon != nil {
			icon.show(s, paused, tip(), tr)
		}
	})
	if err != nil {
		return errors.Join(err, host.close())
	}
	tip = w.Tooltip
	a.Lifecycle().SetOnEnteredForeground(func() { w.Front(true) })
	a.Lifecycle().SetOnExitedForeground(func() { w.Front(false) })
	if host.usable() {
		icon = newTray(a, cfg.Controls, w.Words(), w.Show)
	}

	var g errgroup.Group
	over := make(chan struct{}) // closed when the application has ended
	a.Lifecycle().SetOnStarted(func() {
		w.Begin()
		present := host.present(ctx)
		w.SetTray(present)
		if !cfg.Hidden || !present {
			w.Show()
		}
		g.Go(func() error { return w.Run(ctx) })
		g.Go(func() error {
			host.watch(ctx, func(present bool) { fyne.Do(func() { w.SetTray(present) }) })
			return nil
		})
		g.Go(func() error {
			<-ctx.Done() // the watchers have it too: none of them waits for the UI any more
			select {
			case <-over: // the desktop has ended the application by itself
				return nil
			default:
			}
			// The driver's Quit does nothing when the loop ends at this very moment;
			// the application's would close windows that are gone, and panic.
			fyne.Do(func() {
				w.Remember()
				a.Driver().Quit()
			})
			return nil
		})
	})
	loop(a)
	close(over)

	cancel()
	ended := make(chan error, 1)
	go func() { ended <- g.Wait() }()
	select {
	case err = <-ended:
	case <-time.After(endTime):
		err = errStuck
	}
	return errors.Join(err, host.close())
}

// loop runs the application until it ends. When the loop of Fyne 2.7.4 has ended,
// a goroutine takes the last two of the lifecycle's events, and hands the first
// one, which saves the preferences, back to the loop. Once in a while the loop
// has stopped listening at that very moment; then the second one, which a.Run
// waits for, never comes. A second goroutine that runs events by itself takes
// one of the two, whichever it is, and the program always ends.
func loop(a fyne.App) {
	queue, ok := a.Lifecycle().(interface {
		RunEventQueue(run func(event func(), wait bool))
	})
	if !ok {
		a.Run()
		return
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		queue.RunEventQueue(func(event func(), _ bool) { event() })
	}()
	a.Run() // closes the queue
	<-ended
}
