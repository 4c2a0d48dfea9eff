package health

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/goleak"

	"studioworker/worker/observe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a server; ask asks it and returns status and body.
func serve(t *testing.T, o *observe.WorkerObservers) (ask func(path string, change func(*http.Request)) (int, string)) {
	t.Helper()
	s, err := New(t.Context(), Config{Listen: "127.0.0.1:0", Version: "1.2.3", Observers: o, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	return func(path string, change func(*http.Request)) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr()+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(r)
		}
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(body)
	}
}

func TestHealthAsksForAPersonOnlyWhenItNeedsOne(t *testing.T) {
	tests := []struct {
		name  string
		setup func(*observe.WorkerObservers)
		code  int
		says  string
	}{
		{"connected", func(o *observe.WorkerObservers) { o.Session.Set(observe.Session{State: observe.SessionConnected}) }, 200, `"session":"connected"`},
		{"reconnecting", func(o *observe.WorkerObservers) {
			o.Session.Set(observe.Session{State: observe.SessionReconnecting, Reason: "connection refused"})
		}, 200, "connection refused"},
		{"paused", func(o *observe.WorkerObservers) { o.Availability.Set(observe.Availability{Block: observe.BlockPaused}) }, 200, `"available":false`},
		{"signed out", func(o *observe.WorkerObservers) {
			o.Session.Set(observe.Session{State: observe.SessionAuthFailed, Reason: "token revoked"})
		}, 503, "token revoked"},
		{"removed", func(o *observe.WorkerObservers) {
			o.Session.Set(observe.Session{State: observe.SessionFatal, Reason: "removed"})
		}, 503, "removed"},
		{"rejected", func(o *observe.WorkerObservers) {
			o.Registration.Set(observe.Registration{State: observe.RegistrationRejected, Reason: "not ours"})
		}, 503, "not ours"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := observe.New()
			test.setup(o)
			if code, body := serve(t, o)("/healthz", nil); code != test.code || !strings.Contains(body, test.says) {
				t.Errorf("%d %s, want %d with %q", code, body, test.code, test.says)
			}
		})
	}
}

func TestMetricsTellWhatTheObserversHold(t *testing.T) {
	o := observe.New()
	o.RecentJobs.Add(observe.RecentJob{ID: "of an earlier run", Kind: "image", Outcome: observe.OutcomeFailed})
	ask := serve(t, o)
	o.Session.Set(observe.Session{State: observe.SessionConnected, Skew: -2 * time.Second})
	o.Availability.Set(observe.Availability{Block: observe.BlockBattery})
	o.Outbox.Set(observe.Outbox{Count: 2, Bytes: 300, Oldest: time.Now().Add(-time.Hour)})
	o.Heartbeat.Set(observe.Heartbeat{At: time.Now(), RoundTrip: 20 * time.Millisecond})
	o.GPUs.Set(observe.GPUs{At: time.Now(), List: []observe.GPU{
		{Name: "RTX", Total: 1000, Free: 400}, {Name: "Arc", Total: 500, FreeUnknown: true}, {Name: "odd"},
	}})
	o.RecentJobs.Add(observe.RecentJob{ID: "j", Kind: "llm", Outcome: observe.OutcomeCompleted, Duration: 3 * time.Second, Prompt: "a planted prompt"})
	want := []string{
		`studio_worker_build_info{version="1.2.3"} 1`, "studio_worker_connected 1", "studio_worker_available 0",
		`studio_worker_blocked{reason="on_battery"} 1`, "studio_worker_outbox_results 2", "studio_worker_outbox_bytes 300",
		"studio_worker_clock_skew_seconds -2", "studio_worker_heartbeat_round_trip_seconds 0.02",
		`studio_worker_gpu_memory_bytes{gpu="0",name="RTX"} 1000`, `studio_worker_gpu_memory_free_bytes{gpu="0",name="RTX"} 400`,
		`studio_worker_gpu_memory_bytes{gpu="1",name="Arc"} 500`,
		`studio_worker_jobs_finished_total{kind="llm",outcome="completed"} 1`, `studio_worker_job_duration_seconds_count{kind="llm"} 1`,
	}
	var body string
	missing := func() []string {
		var gone []string
		_, body = ask("/metrics", nil)
		for _, line := range want {
			if !strings.Contains(body, "\n"+line+"\n") {
				gone = append(gone, line)
			}
		}
		return gone
	}
	for deadline := time.Now().Add(20 * time.Second); len(missing()) > 0; { // the job is counted a moment later
		if time.Now().After(deadline) {
			t.Fatalf("no lines %q in\n%s", missing(), body)
		}
	}
	for _, unwanted := range []string{`gpu="1",name="Arc"} 0`, `name="odd"`, `kind="image"`, "planted"} {
		if strings.Contains(body, unwanted) {
			t.Errorf("%q is in\n%s", unwanted, body)
		}
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v, %v", problems, err)
	}
}

// A page in this computer's browser cannot read them, whatever name it uses.
func TestOthersAreRefused(t *testing.T) {
	ask := serve(t, observe.New())
	for name, change := range map[string]func(*http.Request){
		"another name": func(r *http.Request) { r.Host = "evil.example:80" },
		"no port":      func(r *http.Request) { r.Host = "evil.example" },
		"a page":       func(r *http.Request) { r.Header.Set("Origin", "http://127.0.0.1") },
	} {
		if code, body := ask("/metrics", change); code != http.StatusForbidden {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
	if code, _ := ask("/healthz", func(r *http.Request) { r.Host = "localhost" }); code != http.StatusOK {
		t.Errorf("localhost: %d", code)
	}
	if code, _ := ask("/healthz", func(r *http.Request) { r.Method = http.MethodPost }); code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", code)
	}
}

func TestListensOnThisComputerOnly(t *testing.T) {
	for _, address := range []string{"", "9791", "0.0.0.0:9791", ":9791", "192.168.1.2:9791", "rig.example:9791", "127.0.0.1:http"} {
		if _, err := New(t.Context(), Config{Listen: address, Observers: observe.New()}); err == nil || !strings.Contains(err.Error(), "health_listen") {
			t.Errorf("%q: %v, want an error that names the key", address, err)
		}
	}
}
