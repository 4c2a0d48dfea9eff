package app

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"studioworker/worker/observe"
	"studioworker/worker/update/supervisor"
)

// tellManager tells systemd what the worker does, and that it lives; once ctx has ended,
// that it stops. It returns when finished is closed. Without systemd, or as another type
// of service, it does nothing.
//
// The sign of life goes out only when this process answers on its own instance socket. A
// worker whose parts wait for each other for ever would still have a timer.
func (h *host) tellManager(ctx context.Context, finished <-chan struct{}) {
	if os.Getenv("NOTIFY_SOCKET") == "" && h.parent == nil {
		return
	}
	tell := func(state string) {
		if h.parent != nil { // it is the one that systemd knows
			h.parent.Tell(supervisor.Message{Kind: supervisor.Notify, Text: state})
			return
		}
		if _, err := daemon.SdNotify(false, state); err != nil {
			h.log.Debug("systemd was not told", "error", err)
		}
	}
	tell(daemon.SdNotifyReady)
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		h.log.Warn("the watchdog's interval cannot be read; it is not served", "error", err)
	}
	var alive <-chan time.Time // never, without a watchdog
	if interval > 0 {
		ticker := time.NewTicker(interval / 2)
		defer ticker.Stop()
		alive = ticker.C
	}
	changed := make(chan struct{}, 1)
	watching, stopWatching := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	h.signalChanges(watching, &watchers, changed)
	defer watchers.Wait()
	defer stopWatching()
	stopping := ctx.Done()
	for {
		select {
		case <-changed:
			tell("STATUS=" + h.managerStatus())
		case <-alive:
			a, err := ask(ctx, h.path, askStatus)
			if ctx.Err() != nil || err == nil && a.PID == os.Getpid() {
				tell(daemon.SdNotifyWatchdog) // while it stops nobody answers, and the stop has a limit of its own
			} else {
				h.log.Error("this worker does not answer itself; systemd starts it anew when that lasts", "error", err)
			}
		case <-stopping:
			tell(daemon.SdNotifyStopping)
			stopping = nil
		case <-finished:
			if stopping != nil { // both came at once, or the worker ended by itself
				tell(daemon.SdNotifyStopping)
			}
			return
		}
	}
}

// signalChanges signals each change of what managerStatus tells, several as one, until ctx ends.
func (h *host) signalChanges(ctx context.Context, watchers *sync.WaitGroup, changed chan<- struct{}) {
	signal := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	watchers.Go(func() {
		for range h.observers.Session.Watch(ctx) {
			signal()
		}
	})
	watchers.Go(func() {
		for range h.observers.CurrentJob.Watch(ctx) {
			signal()
		}
	})
	watchers.Go(func() {
		for range h.observers.Availability.Watch(ctx) {
			signal()
		}
	})
}

// managerStatus is one line for `systemctl status`.
func (h *host) managerStatus() string {
	session := h.observers.Session.Get()
	if session.State != observe.SessionConnected {
		return "Not connected: " + string(session.State)
	}
	if job := h.observers.CurrentJob.Get(); job.ID != "" {
		return "Runs job " + job.ID
	}
	return observe.Sentence(h.observers.Availability.Get(), time.Now())
}

// underJournal says whether the journal reads this stderr: it stamps the time itself and
// reads the level of a line from its first bytes (sd-daemon(3)).
func underJournal(stderr any) bool {
	f, ok := stderr.(*os.File)
	return ok && f.Fd() == os.Stderr.Fd() && journalStream(f, os.Getenv("JOURNAL_STREAM"))
}

// journalHandler writes lines as the journal reads them.
func journalHandler(w *os.File) slog.Handler {
	return slog.NewTextHandler(journalWriter{w}, &slog.HandlerOptions{
		Level: slog.LevelInfo,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})
}

// journalWriter puts the level before each line.
type journalWriter struct{ w *os.File }

// The handler's first word is the level.
var journalPriorities = []struct{ level, priority string }{
	{"level=ERROR", "<3>"}, {"level=WARN", "<4>"}, {"level=INFO", "<6>"}, {"level=DEBUG", "<7>"},
}

func (j journalWriter) Write(line []byte) (int, error) {
	for _, p := range journalPriorities {
		if len(line) >= len(p.level) && string(line[:len(p.level)]) == p.level {
			if _, err := j.w.Write(append([]byte(p.priority), line...)); err != nil {
				return 0, err
			}
			return len(line), nil
		}
	}
	return j.w.Write(line)
}
