package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/DeRuina/timberjack"
	"github.com/getsentry/sentry-go"

	"studioworker/worker/logs"
)

// sentryFlush is how long the end of the program waits for the last report.
const sentryFlush = 2 * time.Second

// newLogger builds the one logger of the program: stderr, the worker's own
// handler for the window and the studio, and Sentry. SENTRY_DSN names one: who sets it has
// agreed. Without it the one that the build was made with is told, as long as agreed says
// so. The returned function sends what Sentry still holds.
func newLogger(stderr io.Writer, own *logs.Handler, agreed func() bool) (*slog.Logger, func(), error) {
	onStderr := slog.Handler(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	if underJournal(stderr) {
		onStderr = journalHandler(os.Stderr)
	}
	handlers := []slog.Handler{onStderr, own}
	dsn := os.Getenv("SENTRY_DSN")
	if dsn != "" {
		agreed = func() bool { return true }
	} else if dsn = CrashDSN; dsn == "" {
		return slog.New(slog.NewMultiHandler(handlers...)), func() {}, nil
	}
	hub, err := newSentry(dsn, nil)
	if err != nil {
		return nil, nil, usageError{fmt.Errorf("SENTRY_DSN, or the address that this build was made with: %w", err)}
	}
	handlers = append(handlers, sentryHandler{hub: hub, agreed: agreed})
	return slog.New(slog.NewMultiHandler(handlers...)), func() {
		hub.Flush(sentryFlush)
		hub.Client().Close()
	}, nil
}

// Sizes of the log on disk: the newest file and two older ones.
const (
	logFileMiB  = 10
	oldLogFiles = 2
)

// newLogFile returns the log beside a config. Nothing is opened before the first
// line. A line that the disk does not take is lost, and the next is tried again.
func newLogFile(configPath string) *timberjack.Logger {
	return &timberjack.Logger{
		Filename: filepath.Join(filepath.Dir(configPath), "worker.log"),
		MaxSize:  logFileMiB, MaxBackups: oldLogFiles, FileMode: 0o600, LocalTime: true,
	}
}

// withFile makes a logger log to a file, too.
func withFile(log *slog.Logger, file io.Writer) *slog.Logger {
	return slog.New(slog.NewMultiHandler(log.Handler(), slog.NewTextHandler(file, &slog.HandlerOptions{Level: slog.LevelInfo})))
}

// closing makes flush close a file, too.
func closing(flush func(), file io.Closer) func() {
	return func() {
		flush()
		_ = file.Close() // the program's last act: there is nobody left to tell
	}
}

// journalLogger logs to stderr as the journal reads it.
func journalLogger() *slog.Logger { return slog.New(journalHandler(os.Stderr)) }

// plainLogger logs to stderr only.
func plainLogger(stderr io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(stderr, nil)) }

func newSentry(dsn string, transport sentry.Transport) (*sentry.Hub, error) {
	client, err := sentry.NewClient(sentry.ClientOptions{
		Dsn: dsn, Release: "studio-worker@" + Version, Transport: transport,
		// Neither the computer's name nor its user leaves.
		BeforeSend: func(e *sentry.Event, _ *sentry.EventHint) *sentry.Event {
			e.ServerName, e.User = "", sentry.User{}
			return e
		},
	})
	if err != nil {
		return nil, err
	}
	return sentry.NewHub(client, sentry.NewScope()), nil
}

// sentryHandler reports errors. Only the constant message goes out: attributes
// may hold paths and prompts. A crash goes out as its report. Without consent nothing does.
type sentryHandler struct {
	hub    *sentry.Hub
	agreed func() bool // asked for each error: consent may be given and taken back
}

func (h sentryHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelError && h.agreed()
}

func (h sentryHandler) Handle(_ context.Context, r slog.Record) error {
	var crash *crashReport
	r.Attrs(func(a slog.Attr) bool {
		if report, ok := a.Value.Any().(crashReport); ok && a.Key == crashKey {
			crash = &report
		}
		return crash == nil
	})
	if crash != nil {
		h.hub.CaptureEvent(crash.event())
		return nil
	}
	h.hub.CaptureMessage(r.Message)
	return nil
}

func (h sentryHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

func (h sentryHandler) WithGroup(string) slog.Handler { return h }
