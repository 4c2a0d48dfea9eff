package app

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/getsentry/sentry-go"

	"studioworker/worker/logs"
	"studioworker/worker/observe"
)

// TestSentry: only errors go out, only as their constant message, and neither
// the computer nor its user is named.
func TestSentry(t *testing.T) {
	transport := new(sentry.MockTransport)
	hub, err := newSentry("https://key@sentry.invalid/1", transport)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hub.Client().Close)
	agreed := false
	log := slog.New(sentryHandler{hub, func() bool { return agreed }}).With("path", "/home/ada/harbour.toml").WithGroup("job")
	log.Error("before the person agreed")
	agreed = true
	log.Debug("a detail")
	log.Info("the day")
	log.Warn("it will be retried")
	log.Error("someone must act", "prompt", "a lighthouse in fog", "error", errors.New("harbour-secret"))
	agreed = false
	log.Error("after the person thought better of it")

	events := transport.Events()
	if len(events) != 1 {
		t.Fatalf("%d events went out, want one", len(events))
	}
	e := events[0]
	if e.Message != "someone must act" || e.Release != "studio-worker@"+Version {
		t.Errorf("message %q of release %q", e.Message, e.Release)
	}
	if e.ServerName != "" || !e.User.IsEmpty() {
		t.Errorf("server %q and user %+v are named", e.ServerName, e.User)
	}
	data, err := e.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	for _, private := range []string{"/home/ada", "lighthouse", "harbour-secret"} {
		if strings.Contains(string(data), private) {
			t.Errorf("%q went out: %s", private, data)
		}
	}
}

// TestLoggerWithoutSentry: without a DSN nothing is made for Sentry, and a wrong
// DSN is the caller's mistake.
func TestLoggerWithoutSentry(t *testing.T) {
	t.Setenv("SENTRY_DSN", "")
	var out bytes.Buffer
	ring := observe.New().Logs
	log, flush, err := newLogger(&out, logs.NewHandler(ring, new(logs.Queue)), nil)
	if err != nil {
		t.Fatal(err)
	}
	log.Debug("a detail")
	log.Error("someone must act")
	flush()
	if text := out.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, `level=ERROR msg="someone must act"`) {
		t.Errorf("stderr has %q", text)
	}
	if rows, _ := ring.Since(0); len(rows) == 0 {
		t.Error("the ring is empty")
	}
	t.Setenv("SENTRY_DSN", "harbour")
	_, _, err = newLogger(&out, logs.NewHandler(ring, new(logs.Queue)), nil)
	if _, ok := errors.AsType[usageError](err); !ok || !strings.Contains(err.Error(), "SENTRY_DSN") {
		t.Errorf("a wrong DSN is %v", err)
	}
}
