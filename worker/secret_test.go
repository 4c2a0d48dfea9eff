package worker

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"studioworker/worker/config"
	"studioworker/worker/observe"
	"studioworker/worker/protocol"
	"studioworker/worker/session/sessiontest"
)

// output is what a logger wrote, at every level.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// everything is all that observers can see.
func everything(o *observe.WorkerObservers) string {
	logs, _ := o.Logs.Since(0)
	jobs, _ := o.RecentJobs.Since(0)
	return fmt.Sprintf("%+v", []any{
		o.Settings.Get(), o.Registration.Get(), o.Session.Get(), o.Heartbeat.Get(), o.Availability.Get(),
		o.CurrentJob.Get(), o.Outbox.Get(), o.GPUs.Get(), logs, jobs,
	})
}

// TestTheTokenIsSeenByTheStudioOnly: through sessions that end in every way, with
// a studio that repeats the token in all it says, nothing else ever holds it.
func TestTheTokenIsSeenByTheStudioOnly(t *testing.T) {
	const token = "tok-8841-opaque"
	s := newStudio(t)
	s.refuses(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, "cannot store: Authorization: Bearer "+token) // the worker may hang up
		return true
	})
	refusals := 0
	s.Upgrade = func(w http.ResponseWriter, r *http.Request) bool {
		if refusals++; refusals > 1 {
			return true
		}
		http.Error(w, "no way for "+r.Header.Get("Authorization"), http.StatusBadGateway)
		return false
	}
	out := new(output)
	f := prepare(t, func(c *config.Config) {
		approved(s)(c)
		c.AuthToken = token
	}, answers, func(c *Config) {
		text := slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug})
		c.Log = slog.New(slog.NewMultiHandler(c.Log.Handler(), text))
	}).start(t)

	var shipped strings.Builder
	c := s.Accept(t)
	if h := sessiontest.Await[protocol.Hello](t, c, nil); h.AuthToken != token {
		t.Fatalf("hello with %q", h.AuthToken)
	}
	c.Send(t, protocol.Welcome{WorkerID: "wk-20", ServerTime: "now"})
	sessiontest.Await(t, c, func(b protocol.LogBatch) bool { // of the refused upgrade, too
		fmt.Fprintf(&shipped, "%+v\n", b)
		return strings.Contains(shipped.String(), "server welcomed")
	})
	c.Send(t, ttsOffer("job-31"))
	until(t, &f.seen.Outbox, func(o observe.Outbox) bool { return strings.Contains(o.LastError, "cannot store") })
	c.Send(t, protocol.Error{Code: protocol.ErrorInternal, Message: "odd token " + token})
	until(t, &f.seen.Session, func(s observe.Session) bool { return strings.Contains(s.Reason, "odd token") })
	s.Welcome(t).Close(t, protocol.CloseAuthFailed, "no more "+token)
	until(t, &f.seen.Session, func(s observe.Session) bool {
		return s.State == observe.SessionAuthFailed && strings.Contains(s.Reason, "no more")
	})
	seen := everything(f.seen)
	f.stop()
	err := f.end(t)
	target, _ := f.target()
	credentials, credentialsErr := f.credentials()
	for name, text := range map[string]string{
		"log":       out.String(),
		"batches":   shipped.String(),
		"observers": seen + everything(f.seen),
		"errors":    fmt.Sprint(err, credentialsErr),
		"values":    fmt.Sprintf("%v %+v %#v %v %+v %#v %+v", target, target, target, credentials, credentials, credentials, f.store.Get()),
	} {
		if strings.Contains(text, token) {
			before, after, _ := strings.Cut(text, token)
			t.Errorf("the %s hold the token: %q", name, before[max(0, len(before)-100):]+token+after[:min(100, len(after))])
		}
	}
	for _, part := range []string{"upgrade refused with status 502: no way for Bearer [redacted]", "cannot store", "odd token [redacted]", "no more [redacted]"} {
		if !strings.Contains(out.String(), part) { // else the test has seen less than it says
			t.Errorf("the log lacks %q:\n%s", part, out)
		}
	}
}
