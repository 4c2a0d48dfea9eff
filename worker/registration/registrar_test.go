package registration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"studioworker/worker/observe"
	"studioworker/worker/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a store that can be told to fail.
type memory struct {
	mu    sync.Mutex
	kept  Credentials
	saves []Credentials
	fail  func(to Credentials) error
}

var errChanged = errors.New("changed meanwhile")

func (m *memory) Credentials() Credentials {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept
}

func (m *memory) ReplaceCredentials(from, to Credentials) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kept != from {
		return errChanged
	}
	if m.fail != nil {
		if err := m.fail(to); err != nil {
			return err
		}
	}
	m.kept = to
	m.saves = append(m.saves, to)
	return nil
}

// studio answers what the test tells it to, and keeps what it was asked.
type studio struct {
	*httptest.Server

	mu       sync.Mutex
	post     http.HandlerFunc
	get      http.HandlerFunc
	requests []string // method and path
	bodies   []protocol.RegisterRequest
	bearers  []string
}

func newStudio(t *testing.T) *studio {
	t.Helper()
	s := &studio{post: says(http.StatusCreated, `{"requestId":"rr-1","status":"pending"}`), get: says(200, `{"status":"pending"}`)}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // a worker that hung up shows at its side
	}
}

func (s *studio) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.EscapedPath())
	answer := s.get
	if r.Method == http.MethodPost {
		answer = s.post
		data, err := io.ReadAll(r.Body)
		body, decodeErr := protocol.DecodeRegisterRequest(data)
		if err != nil || decodeErr != nil || r.Header.Get("Content-Type") != "application/json" {
			answer = says(http.StatusBadRequest, "not a register request")
		}
		s.bodies = append(s.bodies, body)
	} else {
		s.bearers = append(s.bearers, r.Header.Get("Authorization"))
	}
	s.mu.Unlock()
	answer(w, r)
}

func (s *studio) answers(post, get http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if post != nil {
		s.post = post
	}
	if get != nil {
		s.get = get
	}
}

func (s *studio) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// fixture is a registrar over a studio and a store of the test.
type fixture struct {
	*Registrar

	store *memory
	seen  *observe.Slot[observe.Registration]
	log   *bytes.Buffer // written by the test's goroutine only
}

func setup(t *testing.T, address string, transport http.RoundTripper) *fixture {
	t.Helper()
	f := &fixture{store: &memory{}, seen: &observe.Slot[observe.Registration]{}, log: &bytes.Buffer{}}
	if transport == nil {
		own := &http.Transport{}
		t.Cleanup(own.CloseIdleConnections)
		transport = own
	}
	f.Registrar = New(Config{
		Base: func() (protocol.Base, error) { return protocol.ParseBase(address) }, Store: f.store,
		Capabilities: func() protocol.Capabilities { return protocol.Capabilities{MachineName: "attic-pc", AutoEnabled: true} },
		HTTP:         &http.Client{Transport: transport}, Observer: f.seen, UserAgent: "studio-worker/1.2.3",
		Log: slog.New(slog.NewJSONHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	return f
}

// records are the log records with that message.
func (f *fixture) records(t *testing.T, message string) []map[string]any {
	t.Helper()
	var list []map[string]any
	for line := range strings.Lines(f.log.String()) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		if record["msg"] == message {
			list = append(list, record)
		}
	}
	return list
}

// step makes one tick.
func (f *fixture) step(t *testing.T, want observe.RegistrationState) (observe.Registration, error) {
	t.Helper()
	state, err := f.tick(t.Context())
	if state.State != want || f.seen.Get() != state {
		t.Fatalf("state %+v, shown %+v, error %v, want %s", state, f.seen.Get(), err, want)
	}
	return state, err
}

func (f *fixture) pending(t *testing.T) observe.Registration {
	t.Helper()
	state, err := f.step(t, observe.RegistrationPending)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func TestSpec083TheFirstTickAsks(t *testing.T) {
	s := newStudio(t)
	f := setup(t, s.URL, nil)
	if state := f.pending(t); state.RequestID != "rr-1" || state.Since.IsZero() {
		t.Errorf("state %+v", state)
	}
	kept := f.store.kept
	if kept.InstallID == "" || len(kept.Secret) != 64 || kept.RequestID != "rr-1" || kept.WorkerID != "" || kept.AuthToken != "" {
		t.Errorf("kept %+v", kept)
	}
	// Install id and secret are saved before anyone is asked, the request id after.
	if len(f.store.saves) != 2 || f.store.saves[0].RequestID != "" || f.store.saves[0].Secret != kept.Secret {
		t.Errorf("saved %+v", f.store.saves)
	}
	sum := sha256.Sum256([]byte(kept.Secret))
	body := s.bodies[0]
	if body.InstallID != kept.InstallID || body.RegistrationSecretHash != hex.EncodeToString(sum[:]) ||
		body.UserAgent != "studio-worker/1.2.3" || !body.Capabilities.AutoEnabled || body.Capabilities.MachineName != "attic-pc" {
		t.Errorf("asked with %+v", body)
	}
	if got := s.asked(); !slices.Equal(got, []string{"POST /graphics/api/workers/register-request"}) {
		t.Errorf("one tick made the calls %q", got)
	}
}

func TestSpec084And085And094PollingStaysPending(t *testing.T) {
	s := newStudio(t)
	f := setup(t, s.URL, nil)
	first := f.pending(t)
	saves := len(f.store.saves)
	for range 2 {
		if now := f.pending(t); now != first {
			t.Errorf("state %+v after %+v", now, first)
		}
	}
	if len(f.store.saves) != saves {
		t.Error("a pending poll wrote to the disk")
	}
	if want := "Bearer " + f.store.kept.Secret; !slices.Equal(s.bearers, []string{want, want}) {
		t.Errorf("polled with %q", s.bearers)
	}
	if got := s.asked()[1:]; !slices.Equal(got, slices.Repeat([]string{"GET /graphics/api/workers/register-requests/rr-1"}, 2)) {
		t.Errorf("polled %q", got)
	}
	// Another process has its own since, the same in each of its polls.
	again := setup(t, s.URL, nil)
	again.store.kept = f.store.kept
	if one, two := again.pending(t), again.pending(t); one.Since.IsZero() || one.Since != two.Since {
		t.Errorf("since %v, then %v", one.Since, two.Since)
	}
}

func TestSpec086Approval(t *testing.T) {
	s := newStudio(t)
	f := setup(t, s.URL, nil)
	f.pending(t)
	s.answers(nil, says(200, `{"status":"approved","workerId":"wk-20","authToken":"tok-8841-opaque"}`))
	state, err := f.step(t, observe.RegistrationApproved)
	if err != nil || state.WorkerID != "wk-20" {
		t.Errorf("state %+v, %v", state, err)
	}
	want := Credentials{InstallID: f.store.saves[0].InstallID, WorkerID: "wk-20", AuthToken: "tok-8841-opaque"}
	if f.store.Credentials() != want {
		t.Errorf("kept %+v, want %+v", f.store.kept, want)
	}
}

func TestSpec087And097Rejection(t *testing.T) {
	s := newStudio(t)
	f := setup(t, s.URL, nil)
	f.pending(t)
	s.answers(nil, says(200, `{"status":"rejected","reason":"not one of\n ours"}`))
	err := f.Run(t.Context())
	if _, ok := errors.AsType[*RejectedError](err); !ok || !strings.Contains(err.Error(), "not one of ours") || !strings.Contains(err.Error(), "register --reset") {
		t.Errorf("got %v", err)
	}
	if want := (Credentials{InstallID: f.store.saves[0].InstallID}); f.store.kept != want {
		t.Errorf("kept %+v, want the install id only", f.store.kept)
	}
	if got := f.seen.Get(); got != (observe.Registration{State: observe.RegistrationRejected, Reason: "not one of ours"}) {
		t.Errorf("shown %+v", got)
	}
	s.answers(nil, says(200, `{"status":"rejected"}`)) // the reason is optional
	f.pending(t)
	if _, err := f.step(t, observe.RegistrationRejected); err != nil {
		t.Error(err)
	}
	if text := (&RejectedError{}).Error(); strings.Contains(text, ": ;") {
		t.Errorf("without a reason: %q", text)
	}
}

func TestSpec088A404AsksAnew(t *testing.T) {
	s := newStudio(t)
	f := setup(t, s.URL, nil)
	f.pending(t)
	before := f.store.kept
	s.answers(says(200, `{"requestId":"rr-2","status":"pending"}`), says(404, "no such request"))
	if _, err := f.step(t, observe.RegistrationPristine); err != nil {
		t.Error(err)
	}
	if want := (Credentials{InstallID: before.InstallID}); f.store.kept != want {
		t.Errorf("kept %+v, want the install id only", f.store.kept)
	}
	if state := f.pending(t); state.RequestID != "rr-2" || f.store.kept.Secret == before.Secret || f.store.kept.InstallID != before.InstallID {
		t.Errorf("state %+v, kept %+v", state, f.store.kept)
	}
}

func TestRefusalsInARowCountAsUnknown(t *testing.T) {
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		s := newStudio(t)
		f := setup(t, s.URL, nil)
		f.pending(t)
		refuse := func(times int) {
			t.Helper()
			s.answers(nil, says(status, "who are you?"))
			for range times {
				if _, err := f.step(t, observe.RegistrationPending); err == nil || f.store.kept.RequestID != "rr-1" {
					t.Fatalf("status %d: %v, kept %+v", status, err, f.store.kept)
				}
			}
		}
		refuse(refusalsToForget - 1)
		s.answers(nil, says(200, `{"status":"pending"}`)) // they must be in a row
		f.pending(t)
		refuse(refusalsToForget - 1)
		if _, err := f.step(t, observe.RegistrationPristine); err != nil || f.store.kept.RequestID != "" || f.store.kept.Secret != "" {
			t.Errorf("status %d: after the fifth: %v, kept %+v", status, err, f.store.kept)
		}
	}
}

func TestSpec089And095WithCredentialsNobodyIsAsked(t *testing.T) {
	s := newStudio(t)
	f := setup(t, s.URL, nil)
	f.store.kept = Credentials{WorkerID: "wk-20", AuthToken: "t"}
	if err := f.Run(t.Context()); err != nil || len(s.asked()) != 0 {
		t.Errorf("got %v after %q", err, s.asked())
	}
	if got := f.seen.Get(); got != (observe.Registration{State: observe.RegistrationApproved, WorkerID: "wk-20"}) {
		t.Errorf("shown %+v", got)
	}
	for _, half := range []Credentials{{WorkerID: "wk-20"}, {AuthToken: "t"}} { // empty counts as absent
		f.store.kept = half
		f.pending(t)
	}
}

func TestSpec090And093FailedRequestsStayPristine(t *testing.T) {
	s := newStudio(t)
	f := setup(t, s.URL, nil)
	for _, tc := range []struct {
		name   string
		answer http.HandlerFunc
		says   string
		why    observe.Reason
	}{
		{"090 500", says(500, "database is away\nref 7f3a"), "register-request failed with status 500: database is away ref 7f3a", observe.ReasonStatus},
		{"093 429", says(429, "slow down"), "429: slow down", observe.ReasonStatus},
		{"no body", says(503, ""), "register-request failed with status 503", observe.ReasonStatus},
		{"a long body", says(502, strings.Repeat("é", 5000)), "…", observe.ReasonStatus},
		{"not JSON", says(200, "OK"), "not from a studio", observe.ReasonNoStudio},
		{"a captive portal", says(200, "<html>Please log in"), "not from a studio", observe.ReasonNoStudio},
		{"no request id", says(200, `{"status":"pending"}`), "requestId", observe.ReasonNoStudio},
		{"an empty request id", says(200, `{"requestId":"","status":"pending"}`), "requestId", observe.ReasonNoStudio},
		{"an endless request id", says(200, `{"requestId":"`+strings.Repeat("r", maxID+1)+`","status":"pending"}`), "more than 4096 bytes", observe.ReasonNoStudio},
		{"larger than we read", says(200, `{"requestId":"`+strings.Repeat("r", protocol.MaxErrorBody)+`","status":"pending"}`), "not from a studio", observe.ReasonNoStudio},
		{"a reset", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "register-request failed: ", observe.ReasonCut},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.answers(tc.answer, nil)
			before := len(f.store.saves)
			state, err := f.step(t, observe.RegistrationPristine)
			if err == nil || !strings.Contains(err.Error(), tc.says) || strings.HasSuffix(err.Error(), ":") || len(err.Error()) > 1000 || state.Reason != err.Error() || state.Why != observe.WhyOf(err) || state.Why.Reason != tc.why || state.Why.Said == "" {
				t.Errorf("got %v, reason %q, %+v", err, state.Reason, state.Why)
			}
			if f.store.kept.RequestID != "" || len(f.store.saves) > max(before, 1) {
				t.Errorf("kept %+v after %d saves", f.store.kept, len(f.store.saves))
			}
		})
	}
	s.answers(says(201, `{"requestId":"rr-9","status":"pending"}`), nil)
	f.pending(t)
	for _, body := range s.bodies {
		if body.InstallID != s.bodies[0].InstallID || body.RegistrationSecretHash != s.bodies[0].RegistrationSecretHash {
			t.Errorf("asked with another install id or secret: %+v", body)
		}
	}
}

func TestSpec091FailedPollsKeepTheRequest(t *testing.T) {
	s := newStudio(t)
	f := setup(t, s.URL, nil)
	first := f.pending(t)
	saves := len(f.store.saves)
	for _, tc := range []struct {
		name   string
		answer http.HandlerFunc
		says   string
	}{
		{"091 500", says(500, "ref 7f3a"), "register-poll failed with status 500: ref 7f3a"},
		{"409", says(409, ""), "status 409"},
		{"429", says(429, ""), "status 429"},
		{"401 once", says(401, ""), "status 401"},
		{"a captive portal", says(200, "<html>"), "not from a studio"},
		{"another status", says(200, `{"status":"perhaps"}`), "perhaps"},
		{"approved without credentials", says(200, `{"status":"approved"}`), "workerId"},
		{"approved with empty ones", says(200, `{"status":"approved","workerId":"","authToken":""}`), "without credentials"},
		{"an endless token", says(200, `{"status":"approved","workerId":"w","authToken":"`+strings.Repeat("t", maxID+1)+`"}`), `"authToken": more than`},
		{"an endless worker id", says(200, `{"status":"approved","workerId":"`+strings.Repeat("w", maxID+1)+`","authToken":"t"}`), `"workerId": more than`},
		{"a reset", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "register-poll failed: "},
		{"a redirect elsewhere", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) }, "redirects"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.answers(nil, tc.answer)
			state, err := f.step(t, observe.RegistrationPending)
			if err == nil || !strings.Contains(err.Error(), tc.says) || state != first {
				t.Errorf("got %v, state %+v", err, state)
			}
		})
	}
	if len(f.store.saves) != saves || f.store.kept.RequestID != "rr-1" {
		t.Errorf("kept %+v", f.store.kept)
	}
}

func TestSpec092LostParts(t *testing.T) {
	for _, tc := range []struct {
		name       string
		kept       Credentials
		sameSecret bool
	}{
		{"092 request id and secret are lost", Credentials{InstallID: "i"}, false},
		{"the secret is lost", Credentials{InstallID: "i", RequestID: "old"}, false},
		{"the request id is lost: a crash between the two writes", Credentials{InstallID: "i", Secret: "s"}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := setup(t, newStudio(t).URL, nil)
			f.store.kept = tc.kept
			f.pending(t)
			got := f.store.kept
			if got.InstallID != "i" || got.RequestID != "rr-1" || (got.Secret == tc.kept.Secret) != tc.sameSecret || got.Secret == "" {
				t.Errorf("kept %+v", got)
			}
		})
	}
}

func TestSpec096AStopEndsTheGate(t *testing.T) {
	s := newStudio(t)
	f := setup(t, s.URL, nil)
	ctx, cancel := context.WithCancel(t.Context())
	s.answers(func(_ http.ResponseWriter, r *http.Request) { // in the middle of a call
		cancel()
		<-r.Context().Done()
	}, nil)
	if err := f.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("in a call: %v", err)
	}
	synctest.Test(t, func(t *testing.T) { // in the wait after one
		f := setup(t, "http://studio.example", answerer(func(*http.Request) (int, string) { return 500, "" }))
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if err := f.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("in a wait: %v", err)
		}
	})
}

func TestSpec098And099Values(t *testing.T) {
	id := newInstallID()
	if !regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(id) || id == newInstallID() {
		t.Errorf("install id %q", id)
	}
	secret := newSecret()
	if !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(secret) || secret == newSecret() {
		t.Errorf("secret %q", secret)
	}
	// The well-known digest of the ASCII text "abc".
	if got := hash("abc"); got != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Errorf("hash of abc: %s", got)
	}
}

func TestTransitions(t *testing.T) {
	pristine, pending, approved, rejected := observe.RegistrationPristine, observe.RegistrationPending, observe.RegistrationApproved, observe.RegistrationRejected
	legal := map[observe.RegistrationState]map[event]observe.RegistrationState{
		pristine: {submitted: pending},
		pending:  {granted: approved, refused: rejected, forgotten: pristine},
	}
	for _, from := range []observe.RegistrationState{pristine, pending, approved, rejected, ""} {
		for _, on := range []event{submitted, granted, refused, forgotten, "sung"} {
			want, ok := legal[from][on]
			got, err := next(from, on)
			if ok && (got != want || err != nil) {
				t.Errorf("%s on %s: %s, %v, want %s", from, on, got, err, want)
			}
			if !ok && (got != from || !errors.Is(err, errTransition)) {
				t.Errorf("%s on %s: %s, %v, want to stay", from, on, got, err)
			}
		}
	}
}

func TestSaveFailures(t *testing.T) {
	full := errors.New("no space left")
	t.Run("before the request nobody is asked", func(t *testing.T) {
		s := newStudio(t)
		f := setup(t, s.URL, nil)
		f.store.fail = func(Credentials) error { return full }
		if _, err := f.step(t, observe.RegistrationPristine); !errors.Is(err, full) || len(s.asked()) != 0 {
			t.Errorf("%v after %q", err, s.asked())
		}
	})
	t.Run("a request id that is not saved is asked for again with the same secret", func(t *testing.T) {
		s := newStudio(t)
		f := setup(t, s.URL, nil)
		f.store.fail = func(to Credentials) error {
			if to.RequestID != "" {
				return full
			}
			return nil
		}
		if state, err := f.step(t, observe.RegistrationPristine); !errors.Is(err, full) || state.Why != (observe.Why{Reason: observe.ReasonNotSaved, Said: err.Error()}) {
			t.Errorf("got %+v, %v", state, err)
		}
		f.store.fail = nil
		f.pending(t)
		if s.bodies[0].RegistrationSecretHash != s.bodies[1].RegistrationSecretHash {
			t.Error("the second request has another secret")
		}
	})
	t.Run("approved but not saved stays pending, and the next poll's fresh token counts", func(t *testing.T) {
		s := newStudio(t)
		f := setup(t, s.URL, nil)
		f.pending(t)
		f.store.fail = func(Credentials) error { return full }
		s.answers(nil, says(200, `{"status":"approved","workerId":"wk-20","authToken":"first-token"}`))
		if state, err := f.step(t, observe.RegistrationPending); !errors.Is(err, full) || state.RequestID != "rr-1" || f.store.kept.RequestID != "rr-1" {
			t.Errorf("state %+v, %v", state, err)
		}
		if logged := f.records(t, "approved, but the credentials cannot be saved"); len(logged) != 1 || logged[0]["level"] != "ERROR" {
			t.Errorf("log:\n%s", f.log)
		}
		f.store.fail = nil
		s.answers(nil, says(200, `{"status":"approved","workerId":"wk-20","authToken":"second-token"}`))
		if _, err := f.step(t, observe.RegistrationApproved); err != nil || f.store.kept.AuthToken != "second-token" {
			t.Errorf("%v, kept %+v", err, f.store.kept)
		}
	})
	t.Run("forgotten but not saved stays pending", func(t *testing.T) {
		s := newStudio(t)
		f := setup(t, s.URL, nil)
		f.pending(t)
		f.store.fail = func(Credentials) error { return full }
		s.answers(nil, says(404, ""))
		if _, err := f.step(t, observe.RegistrationPending); !errors.Is(err, full) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("rejected but not saved is rejected, and said", func(t *testing.T) {
		s := newStudio(t)
		f := setup(t, s.URL, nil)
		f.pending(t)
		f.store.fail = func(Credentials) error { return full }
		s.answers(nil, says(200, `{"status":"rejected","reason":"no"}`))
		f.step(t, observe.RegistrationRejected) //nolint:errcheck // the state is what counts
		if len(f.records(t, "the rejection cannot be saved")) != 1 {
			t.Errorf("log:\n%s", f.log)
		}
	})
}

// A person may choose another studio while the old one is being asked. What the
// old one grants must not become credentials for the new one.
func TestAnAnswerAfterAResetIsVoid(t *testing.T) {
	for name, answer := range map[string]string{
		"approved": `{"status":"approved","workerId":"wk-old","authToken":"tok-old"}`,
		"rejected": `{"status":"rejected","reason":"no"}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newStudio(t)
			f := setup(t, s.URL, nil)
			f.pending(t)
			s.answers(nil, func(w http.ResponseWriter, r *http.Request) {
				f.store.mu.Lock()
				f.store.kept = Credentials{}
				f.store.mu.Unlock()
				says(200, answer)(w, r)
			})
			f.tick(t.Context()) //nolint:errcheck // what is kept is what counts
			if f.store.kept != (Credentials{}) {
				t.Errorf("kept %+v after a reset", f.store.kept)
			}
		})
	}
	s := newStudio(t)
	f := setup(t, s.URL, nil)
	s.answers(func(w http.ResponseWriter, r *http.Request) {
		f.store.mu.Lock()
		f.store.kept = Credentials{}
		f.store.mu.Unlock()
		says(200, `{"requestId":"rr-old","status":"pending"}`)(w, r)
	}, nil)
	if _, err := f.step(t, observe.RegistrationPristine); !errors.Is(err, errChanged) || f.store.kept != (Credentials{}) {
		t.Errorf("%v, kept %+v after a reset", err, f.store.kept)
	}
}

func TestABadAddressIsShown(t *testing.T) {
	for _, address := range []string{"ftp://h.example", "ws://h.example"} { // the second has no HTTP side
		f := setup(t, address, nil)
		if state, err := f.step(t, observe.RegistrationPristine); err == nil || state.Reason != err.Error() || state.Why != (observe.Why{Reason: observe.ReasonAddress, Said: err.Error()}) {
			t.Errorf("%s: %+v, %v", address, state, err)
		}
	}
	f := setup(t, "ws://h.example", nil)
	f.store.kept = Credentials{InstallID: "i", RequestID: "r", Secret: "s"}
	if _, err := f.step(t, observe.RegistrationPending); err == nil {
		t.Error("a poll without an HTTP side succeeded")
	}
}

func TestSpec082OneRecordForEachCall(t *testing.T) {
	s := newStudio(t)
	f := setup(t, s.URL, nil)
	f.pending(t)
	secret := f.store.kept.Secret
	s.answers(nil, func(w http.ResponseWriter, r *http.Request) { // one that repeats what it should not
		says(500, "who is "+r.Header.Get("Authorization")+"?")(w, r)
	})
	if _, err := f.step(t, observe.RegistrationPending); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("got %v", err)
	}
	s.answers(nil, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	f.step(t, observe.RegistrationPending) //nolint:errcheck // the record is what counts
	s.answers(nil, says(200, `{"status":"approved","workerId":"wk-20","authToken":"tok-8841-opaque"}`))
	if err := f.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	type call struct {
		level, operation string
		status           float64
	}
	var got []call
	for _, message := range []string{"studio call", "studio call failed"} {
		for _, r := range f.records(t, message) {
			level, _ := r["level"].(string)
			operation, _ := r["operation"].(string)
			status, _ := r["status"].(float64)
			if _, ok := r["elapsed_ms"].(float64); !ok || !strings.HasPrefix(r["endpoint"].(string), s.URL+"/graphics/api/workers/") {
				t.Errorf("record %v", r)
			}
			if text, _ := r["error"].(string); (message == "studio call") != (text == "") {
				t.Errorf("record %v", r)
			}
			got = append(got, call{level, operation, status})
		}
	}
	want := []call{
		{"DEBUG", "register-request", 201},
		{"DEBUG", "register-poll", 200},
		{"WARN", "register-poll", 500},
		{"WARN", "register-poll", 0},
	}
	if !slices.Equal(got, want) {
		t.Errorf("calls %v, want %v", got, want)
	}
	for _, hidden := range []string{secret, "tok-8841-opaque", "Bearer " + secret[:8]} {
		if strings.Contains(f.log.String(), hidden) {
			t.Errorf("the log holds %q:\n%s", hidden, f.log)
		}
	}
}

// answerer is a transport without a network, for fake time.
type answerer func(*http.Request) (status int, body string)

func (a answerer) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body := a(r)
	if status == 0 { // never answers
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

func TestRunLooksSoonerAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at []time.Duration
		f := setup(t, "http://studio.example", answerer(func(r *http.Request) (int, string) {
			at = append(at, time.Since(start))
			switch {
			case r.Method == http.MethodPost:
				return 201, `{"requestId":"rr-1","status":"pending"}`
			case len(at) == 4:
				return 500, "oops"
			case len(at) == 9:
				return 200, `{"status":"approved","workerId":"w","authToken":"t"}`
			}
			return 200, `{"status":"pending"}`
		}))
		if err := f.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		var want []time.Duration
		for _, s := range []int{0, 1, 3, 7, 15, 31, 61, 91, 121} { // 1, 2, 4, 8, 16, 30, 30 … apart
			want = append(want, time.Duration(s)*time.Second)
		}
		if !slices.Equal(at, want) {
			t.Errorf("called at %v, want %v", at, want)
		}
		if got := f.records(t, "waiting for operator approval"); len(got) != 1 || got[0]["request_id"] != "rr-1" {
			t.Errorf("said to wait %d times", len(got))
		}
		if got := f.records(t, "registration will be tried again"); len(got) != 1 || got[0]["delay_ms"] != 8000.0 {
			t.Errorf("retries: %v", got)
		}
	})
}

func TestASilentStudioCostsOneMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := setup(t, "http://studio.example", answerer(func(*http.Request) (int, string) { return 0, "" }))
		start := time.Now()
		_, err := f.step(t, observe.RegistrationPristine)
		if err == nil || time.Since(start) != protocol.RequestLimit || !strings.Contains(err.Error(), "no answer within 1m0s") {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}
