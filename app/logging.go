package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/getsentry/sentry-go"

	"studioworker/worker/logs"
	"studioworker/worker/observe"
)

// sentryFlush is how long the end of the program waits for the last report.
const sentryFlush = 2 * time.Second

// newLogger builds the one logger of the program: stderr, the window's ring, the
// studio's queue, and Sentry when SENTRY_DSN names one. The returned function
// sends what Sentry still holds.
func newLogger(stderr io.Writer, ring *observe.Ring[observe.LogEntry], queue *logs.Queue) (*slog.Logger, func(), error) {
	handlers := []slog.Handler{
		slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelInfo}),
		logs.NewHandler(ring, queue),
	}
	dsn := os.Getenv("SENTRY_DSN")
	if dsn == "" {
		return slog.New(slog.NewMultiHandler(handlers...)), func() {}, nil
	}
	hub, err := newSentry(dsn, nil)
	if err != nil {
		return nil, nil, usageError{fmt.Errorf("SENTRY_DSN: %w", err)}
	}
	handlers = append(handlers, sentryHandler{hub: hub})
	return slog.New(slog.NewMultiHandler(handlers...)), func() {
		hub.Flush(sentryFlush)
		hub.Client().Close()
	}, nil
}

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
// may hold paths and prompts.
type sentryHandler struct{ hub *sentry.Hub }

func (h sentryHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelError
}

func (h sentryHandler) Handle(_ context.Context, r slog.Record) error {
	h.hub.CaptureMessage(r.Message)
	return nil
}

func (h sentryHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

func (h sentryHandler) WithGroup(string) slog.Handler { return h }
