package worker

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"studioworker/gpu"
	"studioworker/worker/config"
	"studioworker/worker/engine"
	"studioworker/worker/observe"
	"studioworker/worker/protocol"
	"studioworker/worker/session/sessiontest"
)

func TestFromNothingToDeliveredResults(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	f := prepare(t, unknown(s), answers).start(t)
	c := s.Welcome(t)
	kept := f.store.Get()
	if kept.WorkerID != "wk-20" || kept.AuthToken.Reveal() != "tok-1" || kept.RegistrationSecret != "" || kept.RegistrationRequestID != "" {
		t.Errorf("kept %+v", kept)
	}
	if c.Request.URL.Path != "/graphics/api/workers/wk-20/connect" || c.Request.Header.Get("Authorization") != "Bearer tok-1" { // spec #29
		t.Errorf("connected to %s with %v", c.Request.URL, c.Request.Header)
	}
	if asked := s.registered(); len(asked) != 1 || asked[0].InstallID != kept.InstallID || !asked[0].Capabilities.AutoEnabled || asked[0].UserAgent != "studio-worker/1.2.3" {
		t.Errorf("asked with %+v", asked)
	}

	c.Send(t, llmOffer("job-40", "synthetic"))
	sessiontest.Await(t, c, accepted("job-40"))
	if got := sessiontest.Await[protocol.CompleteJSON](t, c, nil); got.JobID != "job-40" || *got.Prompt != "name this town" || !strings.Contains(string(got.Result), "chat.completion") {
		t.Errorf("got %+v", got)
	}
	c.Send(t, protocol.CompleteAck{JobID: "job-40"})
	row := f.job(t, "job-40", observe.OutcomeCompleted)
	if _, err := os.Stat(row.ResultPath); err != nil || filepath.Dir(row.ResultPath) != filepath.Join(f.dir, "results") {
		t.Errorf("result at %q, %v", row.ResultPath, err)
	}

	c.Send(t, ttsOffer("job/31"))
	sessiontest.Await(t, c, accepted("job/31"))
	row = f.job(t, "job/31", observe.OutcomeCompleted)
	if data, err := os.ReadFile(row.ResultPath); err != nil || !strings.HasPrefix(string(data), "RIFF") || filepath.Dir(row.ResultPath) != filepath.Join(f.dir, "results") {
		t.Errorf("result at %q, %v", row.ResultPath, err)
	}
	got := s.received()
	if len(got) != 1 || got[0].path != "/graphics/api/workers/wk-20/jobs/job/31/complete" || got[0].bearer != "Bearer tok-1" { // spec #73
		t.Fatalf("%d uploads to %q with %q", len(got), got[0].path, got[0].bearer)
	}
	if p := got[0].parts; p["prompt"] != "we sail at dawn" || p["ext"] != "wav" || !strings.HasPrefix(p["image"], "RIFF") {
		t.Errorf("parts: prompt %q, ext %q", p["prompt"], p["ext"])
	}
	until(t, &f.seen.Outbox, func(o observe.Outbox) bool { return o.Count == 0 })

	// #50 and #136: what the worker offers, and that 12 GiB do not fit on 8.
	if got := f.lines("advertising engine=multi vram=8.0/12.0GB auto_enabled=true kinds=[image, llm, audio_stt, audio_tts, video]"); len(got) != 1 || !strings.Contains(got[0], "test-llm") {
		t.Errorf("advertised %q", got)
	}
	if got := f.lines("vram_threshold_gb is more than"); len(got) != 1 {
		t.Errorf("warned %q", got)
	}
	f.stop()
	if err := f.end(t); err != nil {
		t.Errorf("an orderly end is %v", err)
	}
	if got := f.seen.Session.Get().State; got != observe.SessionStopped {
		t.Errorf("session %s", got)
	}
}

func TestSpec053And054PauseAndResume(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	f := prepare(t, approved(s), answers, func(c *Config) { c.Heartbeat = time.Hour }).start(t)
	c := s.Welcome(t)
	sessiontest.Await(t, c, func(b protocol.Heartbeat) bool { return b.Capabilities.AutoEnabled })
	f.Pause()
	sessiontest.Await(t, c, func(b protocol.Heartbeat) bool { return !b.Capabilities.AutoEnabled })
	c.Send(t, llmOffer("j", "test"))
	want := protocol.Reject{JobID: "j", Reason: "worker paused by operator", Code: protocol.RejectPaused}
	if got := sessiontest.Await[protocol.Reject](t, c, nil); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	f.Pause()
	f.Resume()
	sessiontest.Await(t, c, func(b protocol.Heartbeat) bool { return b.Capabilities.AutoEnabled })
	c.Send(t, llmOffer("j", "test"))
	sessiontest.Await(t, c, accepted("j"))
	f.Resume()
	resumed := func(b protocol.LogBatch) bool {
		return slices.ContainsFunc(b.Entries, func(e protocol.LogEntry) bool {
			return e.Level == protocol.LevelInfo && strings.Contains(e.Message, "claiming resumed by operator")
		})
	}
	sessiontest.Await(t, c, resumed)
	for _, text := range []string{"claiming paused by operator", "claiming resumed by operator"} {
		if got := f.lines(text); len(got) != 1 {
			t.Errorf("%q was said %d times", text, len(got))
		}
	}
}

func TestSpec051AChangedThreshold(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	f := prepare(t, approved(s), answers, func(c *Config) { c.Heartbeat = 20 * time.Millisecond }).start(t)
	c := s.Welcome(t)
	if b := sessiontest.Await[protocol.Heartbeat](t, c, nil); b.Capabilities.VRAMThresholdGB != config.DefaultThresholdGB || b.Capabilities.VRAMTotalGB != 8 {
		t.Errorf("got %+v", b.Capabilities)
	}
	if err := f.SetThreshold(-1); err == nil {
		t.Error("a threshold below zero was taken")
	}
	if err := f.SetThreshold(7.5); err != nil {
		t.Fatal(err)
	}
	sessiontest.Await(t, c, func(b protocol.Heartbeat) bool { return b.Capabilities.VRAMThresholdGB == 7.5 })
	if got := f.seen.Settings.Get().VRAMThresholdGB; got != 7.5 {
		t.Errorf("shown %v", got)
	}
	if f.store.Get().VRAMThresholdGB != 7.5 {
		t.Error("not saved")
	}
}

// TestApplyConfig: settings are saved all or none and hold at once; another studio
// registers anew.
func TestApplyConfig(t *testing.T) {
	t.Parallel()
	one, two := newStudio(t), newStudio(t)
	f := prepare(t, approved(one), answers, func(c *Config) { c.Heartbeat = 20 * time.Millisecond }).start(t)
	c := one.Welcome(t)
	err := f.ApplyConfig(map[string]string{"vram_threshold_gb": "7.5", "drain_secs": "soon"})
	if bad, ok := errors.AsType[*config.KeyError](err); !ok || bad.Key != "drain_secs" {
		t.Errorf("got %v", err)
	}
	if got := f.store.Get(); got.VRAMThresholdGB != config.DefaultThresholdGB {
		t.Error("half of a refused change was saved")
	}
	if err := f.ApplyConfig(map[string]string{"vram_threshold_gb": "7.5", "weekly_hours": "mon 00:00-00:01"}); err != nil {
		t.Fatal(err)
	}
	sessiontest.Await(t, c, func(b protocol.Heartbeat) bool { return b.Capabilities.VRAMThresholdGB == 7.5 })
	now := time.Now()
	if a := f.seen.Availability.Get(); a.Block != observe.BlockHours && (now.Weekday() != time.Monday || now.Hour() > 0) {
		t.Errorf("weekly hours wait for something: %+v", a)
	}
	shown := map[string]string{}
	for _, k := range f.seen.Config.Get() {
		shown[k.Name] = k.Value
		if k.Kind == string(config.KindSecret) || k.Meaning == "" {
			t.Errorf("shown %+v", k)
		}
	}
	if shown["vram_threshold_gb"] != "7.5" || shown["weekly_hours"] != "mon 00:00-00:01" || len(shown) < 10 {
		t.Errorf("shown %v", shown)
	}
	if err := f.CheckStudio(t.Context(), "nothing"); err == nil {
		t.Error("no address was taken as a studio")
	}
	if err := f.ApplyConfig(map[string]string{"api_base_url": two.Server.URL}); err != nil {
		t.Fatal(err)
	}
	if other := two.Welcome(t); other.Request.Header.Get("Authorization") != "Bearer tok-1" {
		t.Errorf("the new studio saw %v", other.Request.Header)
	}
}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	f := prepare(t, approved(s), answers, func(c *Config) {
		c.GPUs = func(context.Context) ([]gpu.Device, error) { return nil, errors.New("no driver") }
		c.AutoStart = func() bool { return true }
	}).start(t)
	b := sessiontest.Await[protocol.Heartbeat](t, s.Welcome(t), nil)
	caps := b.Capabilities
	if caps.VRAMTotalGB != 0 || caps.Engine != "multi" || caps.AgentVersion != "1.2.3" || caps.MachineName == "" || caps.Username == "" || !caps.AutoStart {
		t.Errorf("got %+v", caps)
	}
	if !slices.Equal(caps.TaskKinds, protocol.TaskKinds()) || !slices.IsSorted(caps.SupportedModels) ||
		len(slices.Compact(slices.Clone(caps.SupportedModels))) != len(caps.SupportedModels) ||
		!slices.Equal(caps.SupportedModelsPerKind["llm"], []string{"synthetic", "synthetic-llm", "test-llm"}) {
		t.Errorf("kinds %q, models %q, by kind %q", caps.TaskKinds, caps.SupportedModels, caps.SupportedModelsPerKind)
	}
	if caps.AutoUpdate == nil || caps.StartMinimised == nil || caps.OnlyWhenIdle == nil || *caps.OnlyWhenIdle {
		t.Errorf("got %+v", caps)
	}
	if len(f.lines("the graphics cards cannot all be read")) == 0 {
		t.Error("a failed look at the cards was not said")
	}
}

func TestSpec055OnlyWhenIdle(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	person := func(c *Config) { c.Presence = idleFor(time.Minute) }
	prepare(t, func(c *config.Config) { approved(s)(c); c.OnlyWhenIdle = true }, answers, person).start(t)
	c := s.Welcome(t)
	c.Send(t, llmOffer("j", "test"))
	if got := sessiontest.Await[protocol.Reject](t, c, nil); got.Code != protocol.RejectPaused || got.Reason != "only when idle: the person is using this computer" {
		t.Errorf("got %+v", got)
	}
}

func TestARejectedWorkerAsksAgainAfterAReset(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	s.decides(func(n int) protocol.PollResponse {
		if n == 1 {
			return protocol.PollResponse{Status: protocol.StatusRejected, Reason: "not one of ours"}
		}
		return approve(n)
	})
	f := prepare(t, unknown(s), answers).start(t)
	seen := until(t, &f.seen.Registration, func(r observe.Registration) bool { return r.State == observe.RegistrationRejected })
	if seen.Reason != "not one of ours" || f.seen.Session.Get().State != observe.SessionWaiting {
		t.Errorf("shown %+v, %+v", seen, f.seen.Session.Get())
	}
	if err := f.ResetRegistration(); err != nil {
		t.Fatal(err)
	}
	if c := s.Welcome(t); c.Request.Header.Get("Authorization") != "Bearer tok-2" {
		t.Errorf("connected with %v", c.Request.Header)
	}
	if asked := s.registered(); len(asked) != 2 || asked[0].InstallID == asked[1].InstallID || asked[0].RegistrationSecretHash == asked[1].RegistrationSecretHash {
		t.Errorf("asked with %+v", asked)
	}
}

func TestSpec038AndRow37ARevokedTokenKeepsTheResults(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	s.refuses(func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "restarting", http.StatusServiceUnavailable)
		return true
	})
	f := prepare(t, approved(s), answers).start(t)
	c := s.Welcome(t)
	c.Send(t, ttsOffer("j"))
	sessiontest.Await(t, c, accepted("j"))
	f.job(t, "j", observe.OutcomeKept)
	until(t, &f.seen.Outbox, func(o observe.Outbox) bool { return o.Count == 1 && strings.Contains(o.LastError, "503") })
	s.refuses(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != "Bearer tok-0" {
			return false
		}
		http.Error(w, "unknown token", http.StatusUnauthorized)
		return true
	})
	c.Close(t, protocol.CloseAuthFailed, "the operator revoked the token")
	seen := until(t, &f.seen.Session, func(s observe.Session) bool { return s.State == observe.SessionAuthFailed })
	if !strings.Contains(seen.Reason, "the operator revoked the token") || seen.RetryAt.IsZero() || f.seen.Outbox.Get().Count != 1 {
		t.Errorf("shown %+v, outbox %+v", seen, f.seen.Outbox.Get())
	}
	if got := f.lines("auth failed"); len(got) == 0 || !strings.Contains(got[0], "register --reset") {
		t.Errorf("log %q", got)
	}
	if err := f.ResetRegistration(); err != nil {
		t.Fatal(err)
	}
	s.Welcome(t) // without a restart
	f.job(t, "j", observe.OutcomeCompleted)
	got := s.received()
	first, last := got[0], got[len(got)-1]
	if first.bearer != "Bearer tok-0" || last.bearer != "Bearer tok-1" || first.key != last.key {
		t.Errorf("delivered with %q and key %q, first with %q and %q", last.bearer, last.key, first.bearer, first.key)
	}
	f.counts(t, 1, 1)
}

func TestNobodyIsCalledBeforeAStudioIsChosen(t *testing.T) {
	t.Parallel()
	never, s := newStudio(t), newStudio(t)
	path := filepath.Join(t.TempDir(), "config.toml")
	f := prepare(t, nil, answers, func(c *Config) {
		first := config.Default()
		first.APIBaseURL = never.Server.URL
		var err error
		if c.Store, err = config.New(path, first, c.Log); err != nil {
			t.Fatal(err)
		}
	}).start(t)
	until(t, &f.seen.Session, func(s observe.Session) bool { return s.State == observe.SessionWaiting })
	if got := f.seen.Settings.Get(); got.StudioURL != "" || got.Version != "1.2.3" {
		t.Errorf("shown %+v", got)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a config file was written: %v", err)
	}
	if err := f.SetStudio(s.Server.URL, false); err != nil {
		t.Fatal(err)
	}
	s.Welcome(t)
	if got := f.seen.Settings.Get(); got.StudioURL != s.Server.URL || got.PrivateStudio || never.called() != 0 {
		t.Errorf("shown %+v, %d calls before the choice", got, never.called())
	}
}

func TestSetStudioMovesToAnother(t *testing.T) {
	t.Parallel()
	one, two := newStudio(t), newStudio(t)
	f := prepare(t, approved(one), answers).start(t)
	c := one.Welcome(t)
	for _, bad := range []string{"", "ftp://h.example", "h.example", "ws://h.example"} {
		if err := f.SetStudio(bad, false); err == nil || !strings.Contains(err.Error(), "api_base_url") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if f.store.Get().WorkerID != "wk-20" {
		t.Error("a bad address cost the registration")
	}
	if err := f.SetStudio(two.Server.URL, true); err != nil {
		t.Fatal(err)
	}
	other := two.Welcome(t)
	ended(t, c)
	if other.Request.Header.Get("Authorization") != "Bearer tok-1" || one.called() != 0 {
		t.Errorf("the new studio saw %v, the old one %d calls", other.Request.Header, one.called())
	}
	if got := two.registered(); len(got) != 1 || got[0].InstallID == "i" {
		t.Errorf("registered with %+v", got)
	}
	if got := f.seen.Settings.Get(); got.StudioURL != two.Server.URL || !got.PrivateStudio {
		t.Errorf("shown %+v", got)
	}
	other.Send(t, llmOffer("j", "test"))
	sessiontest.Await(t, other, accepted("j"))
	sessiontest.Await[protocol.CompleteJSON](t, other, nil)
	if e, ok := f.outbox.Find("j"); !ok || e.StudioURL != "" { // a private studio has no lasting address
		t.Errorf("stored %+v, %v", e, ok)
	}
}

func TestReloadTakesUpAChangedConfig(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	f := prepare(t, approved(s), answers).start(t)
	s.Welcome(t)
	elsewhere, err := config.Open(f.store.Path(), f.cfg.Log) // as another process does
	if err != nil {
		t.Fatal(err)
	}
	if err := elsewhere.Update(func(c *config.Config) { c.AuthToken = "tok-from-elsewhere" }); err != nil {
		t.Fatal(err)
	}
	f.Reload()
	if c := s.Welcome(t); c.Request.Header.Get("Authorization") != "Bearer tok-from-elsewhere" {
		t.Errorf("connected with %v", c.Request.Header)
	}
}

func drainSecs(s *studio, secs uint32) func(*config.Config) {
	return func(c *config.Config) { approved(s)(c); c.DrainSecs = &secs }
}

func TestRow15TheEnd(t *testing.T) {
	for _, tc := range []struct {
		name  string
		drain uint32
		now   bool
	}{
		{"after the drain the job goes back", 1, false},
		{"a drain of 0 waits for nothing", 0, false},
		{"StopNow cuts the drain", 3600, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newStudio(t)
			f := prepare(t, drainSecs(s, tc.drain), untilStopped).start(t)
			c := s.Welcome(t)
			c.Send(t, llmOffer("j", "test"))
			sessiontest.Await(t, c, accepted("j"))
			until(t, &f.seen.CurrentJob, func(j observe.CurrentJob) bool { return j.ID == "j" })
			f.stop()
			if tc.drain > 0 {
				sessiontest.Await(t, c, func(b protocol.Heartbeat) bool { return !b.Capabilities.AutoEnabled && b.CurrentJobID == "j" })
				c.Send(t, llmOffer("late", "test"))
				if got := sessiontest.Await[protocol.Reject](t, c, nil); got.Code != protocol.RejectPaused {
					t.Errorf("got %+v", got)
				}
			}
			if tc.now {
				f.StopNow()
			}
			if got := sessiontest.Await[protocol.Fail](t, c, nil); got.JobID != "j" || !got.Retryable || !strings.Contains(got.Error, "the worker is stopping") {
				t.Errorf("got %+v", got)
			}
			if err := f.end(t); err != nil {
				t.Errorf("ended with %v", err)
			}
			ended(t, c)
			f.counts(t, int(f.ran.Load()), 0) // stopped at once, it may not have begun
		})
	}
	t.Run("a job that ends in time is delivered", func(t *testing.T) {
		t.Parallel()
		release := make(chan struct{})
		s := newStudio(t)
		f := prepare(t, drainSecs(s, 3600), func(_ context.Context, req engine.Request) (engine.Result, error) {
			<-release
			return leave(req, `{"n":1}`)
		}).start(t)
		c := s.Welcome(t)
		c.Send(t, llmOffer("j", "test"))
		sessiontest.Await(t, c, accepted("j"))
		f.stop()
		sessiontest.Await(t, c, func(b protocol.Heartbeat) bool { return !b.Capabilities.AutoEnabled })
		close(release)
		if got := sessiontest.Await[protocol.CompleteJSON](t, c, nil); string(got.Result) != `{"n":1}` {
			t.Errorf("got %+v", got)
		}
		if err := f.end(t); err != nil {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestCancelJob(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	f := prepare(t, approved(s), untilStopped).start(t)
	c := s.Welcome(t)
	c.Send(t, llmOffer("j", "test"))
	sessiontest.Await(t, c, accepted("j"))
	if f.CancelJob("other") || !f.CancelJob("j") {
		t.Error("the wrong job was stopped")
	}
	if got := sessiontest.Await[protocol.Fail](t, c, nil); !got.Retryable || !strings.Contains(got.Error, "stopped by the person") {
		t.Errorf("got %+v", got)
	}
	f.job(t, "j", observe.OutcomeCancelled)
}

func TestSpec063AndRow25ASessionLostInMidJob(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	release := make(chan struct{})
	f := prepare(t, approved(s), func(_ context.Context, req engine.Request) (engine.Result, error) {
		<-release
		return leave(req, `{"n":1}`)
	}).start(t)
	c := s.Welcome(t)
	c.Send(t, llmOffer("j", "test"))
	sessiontest.Await(t, c, accepted("j"))
	if err := c.WS.NetConn().Close(); err != nil {
		t.Fatal(err)
	}
	c = s.Welcome(t)
	sessiontest.Await(t, c, func(b protocol.Heartbeat) bool { return b.CurrentJobID == "j" })
	c.Send(t, llmOffer("other", "test")) // the job keeps the slot (§7.7)
	if got := sessiontest.Await[protocol.Reject](t, c, nil); got.Code != protocol.RejectBusy {
		t.Errorf("got %+v", got)
	}
	close(release)
	f.job(t, "j", observe.OutcomeKept)
	until(t, &f.seen.CurrentJob, func(j observe.CurrentJob) bool { return j.ID == "" })
	c.Send(t, llmOffer("j", "test"))
	for done := false; !done; { // nothing unasked: the accept comes first
		switch frame := c.Next(t).(type) {
		case protocol.Accept:
			done = true
		case protocol.CompleteJSON, protocol.Fail, nil:
			t.Fatalf("unasked: %+v", frame)
		}
	}
	if got := sessiontest.Await[protocol.CompleteJSON](t, c, nil); string(got.Result) != `{"n":1}` {
		t.Errorf("got %+v", got)
	}
	c.Send(t, protocol.CompleteAck{JobID: "j"})
	f.job(t, "j", observe.OutcomeCompleted)
	f.counts(t, 1, 1)
}

func TestRow28TheAnswerToAnUploadIsLost(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	s.refuses(func(http.ResponseWriter, *http.Request) bool {
		s.refuses(nil)
		panic(http.ErrAbortHandler) // stored, but nobody hears of it
	})
	f := prepare(t, approved(s), answers).start(t)
	c := s.Welcome(t)
	c.Send(t, ttsOffer("j"))
	sessiontest.Await(t, c, accepted("j"))
	f.job(t, "j", observe.OutcomeCompleted)
	if got := s.received(); len(got) != 2 || got[0].key != got[1].key || got[0].key == "" || got[0].parts["image"] != got[1].parts["image"] {
		t.Errorf("%d uploads with keys that differ", len(got))
	}
	f.counts(t, 1, 1)
}

func TestSpec059SpentAttemptsEndRun(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	s.Upgrade = func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "reference id 7f3a", http.StatusInternalServerError)
		return false
	}
	one := uint32(1)
	f := prepare(t, func(c *config.Config) { approved(s)(c); c.WSReconnectAttempts = &one }, answers).start(t)
	if err := f.end(t); err == nil || !strings.Contains(err.Error(), "status 500: reference id 7f3a") {
		t.Errorf("ended with %v", err)
	}
	if got := f.seen.Session.Get(); got.State != observe.SessionFatal {
		t.Errorf("shown %+v", got)
	}
}

func TestAWorkerWithoutAPlaceForItsResultsIsNotMade(t *testing.T) {
	t.Parallel()
	f := prepare(t, nil, answers)
	cfg := f.cfg
	dir := t.TempDir()
	var err error
	if cfg.Store, err = config.New(filepath.Join(dir, "config.toml"), config.Default(), cfg.Log); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "outbox"), []byte("in the way"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "open the outbox") {
		t.Errorf("got %v", err)
	}
}
