package worker

import (
	"fmt"
	"net/http"
	"regexp"
	"sync/atomic"
	"testing"

	"studioworker/worker/config"
	"studioworker/worker/observe"
	"studioworker/worker/protocol"
	"studioworker/worker/session/sessiontest"
)

// said waits until a line of the log is like pattern.
func (f *fixture) said(t *testing.T, pattern string) {
	t.Helper()
	line := regexp.MustCompile("^" + pattern + "$")
	until(t, &f.seen.Logs.Newest, func(uint64) bool {
		entries, _ := f.seen.Logs.Since(0)
		for _, e := range entries {
			if line.MatchString(e.Message) {
				return true
			}
		}
		return false
	})
}

// TestConformance prints behaviours of the specification's §13 by their number:
// the lines that dashboards look for, as they come from a whole worker, and the
// reset.
func TestConformance(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	var refused atomic.Bool
	s.Upgrade = func(w http.ResponseWriter, _ *http.Request) bool {
		if refused.Swap(true) {
			return true
		}
		http.Error(w, "reference 7f3a", http.StatusBadGateway)
		return false
	}
	f := prepare(t, approved(s), answers).start(t)
	until(t, &f.seen.Session, func(s observe.Session) bool { return s.State == observe.SessionReconnecting })
	f.loop.Kick()
	c := s.Welcome(t)
	c.Send(t, llmOffer("job-40", "test"))
	sessiontest.Await(t, c, accepted("job-40"))
	sessiontest.Await[protocol.CompleteJSON](t, c, nil)
	c.Send(t, protocol.CompleteAck{JobID: "job-40"})
	f.job(t, "job-40", observe.OutcomeCompleted)
	c.Send(t, llmOffer("job-41", "from-tomorrow"))
	sessiontest.Await(t, c, func(x protocol.Fail) bool { return x.JobID == "job-41" })
	c.Send(t, protocol.FailAck{JobID: "job-41"})
	for _, tc := range []struct{ name, line string }{
		{"the banner", `studio-worker starts version=1\.2\.3 config=\S+config\.toml api_base_url=http\S+ vram_threshold_gb=12 models_root=\S+ worker_id=wk-20`},
		{"#49 a JSON job is said", `json result sent.*`},
		{"#50 what is offered", `advertising engine=multi vram=8\.0/12\.0GB auto_enabled=true kinds=\[.*llm.*\] \d+ model\(s\)=\[.*test-llm.*\]`},
		{"#61 the cause of a failed session", `session error: upgrade refused with status 502: reference 7f3a; reconnect attempt 1 in \d+ms`},
		{"#67 the welcome", `server welcomed wk-20 server_time=now`},
		{"#68 the offer", `offer received job-40 game=\S* asset=\S* model=\S+ vram=\S+`},
		{"#69 a completion that is confirmed", `studio confirmed completion of job job-40`},
		{"#69 a failure that is confirmed", `studio confirmed failure of job job-41`},
	} {
		t.Run(tc.name, func(t *testing.T) { f.said(t, tc.line) })
	}
	t.Run("#60 a plain disconnect", func(t *testing.T) {
		c.Close(t, protocol.CloseNormal, "")
		f.said(t, `disconnected; reconnect attempt 1 in \d+ms`)
	})
}

// TestSpec100AResetIsTakenInEveryState: the reference refuses it unless the
// worker was rejected; ours is the way back from every state.
func TestSpec100AResetIsTakenInEveryState(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status protocol.RegistrationStatus // of the first request
		change func(*studio) func(*config.Config)
		state  observe.RegistrationState
		asked  int // requests before the reset
	}{
		"pending":  {protocol.StatusPending, unknown, observe.RegistrationPending, 1},
		"approved": {"", approved, observe.RegistrationApproved, 0},
		"rejected": {protocol.StatusRejected, unknown, observe.RegistrationRejected, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStudio(t)
			s.decides(func(n int) protocol.PollResponse {
				if n > tc.asked {
					return approve(n)
				}
				return protocol.PollResponse{Status: tc.status}
			})
			f := prepare(t, tc.change(s), answers).start(t)
			until(t, &f.seen.Registration, func(r observe.Registration) bool { return r.State == tc.state })
			if tc.state == observe.RegistrationApproved {
				s.Welcome(t)
			}
			if err := f.ResetRegistration(); err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf("Bearer tok-%d", tc.asked+1)
			if got := s.Welcome(t).Request.Header.Get("Authorization"); got != want || len(s.registered()) != tc.asked+1 {
				t.Errorf("connected with %q after %d requests, want %q", got, len(s.registered()), want)
			}
		})
	}
}
