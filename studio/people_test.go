package studio

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"studioworker/worker/protocol"
)

const otherSecret = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"

func manual(c *Config) { c.AutoApprove = false }

func TestRegistrationUntilApproved(t *testing.T) {
	f := newFarm(t, manual)
	request := f.register(t, "install-1", secret)
	if got := f.poll(t, request, secret); got.Status != protocol.StatusPending {
		t.Errorf("before the decision: %+v", got)
	}
	var list struct {
		Registrations []struct{ ID, Status, Name, InstallID, Address string }
	}
	_, data := f.call(t, http.MethodGet, "/api/v1/registrations", f.token, nil)
	if err := json.Unmarshal(data, &list); err != nil || len(list.Registrations) != 1 || list.Registrations[0].ID != request ||
		list.Registrations[0].Name != "attic-pc" || list.Registrations[0].Status != "pending" {
		t.Errorf("registrations are %s", data)
	}
	if strings.Contains(string(data), hashed(secret)) {
		t.Error("the list shows the hash of a secret")
	}
	for range 2 { // saying it twice is fine
		if status, data := f.call(t, http.MethodPost, "/api/v1/registrations/"+request+"/approve", f.token, nil); status != http.StatusOK {
			t.Errorf("approve answered %d %s", status, data)
		}
	}
	status, data := f.call(t, http.MethodPost, "/api/v1/registrations/"+request+"/reject", f.token, nil)
	wantError(t, status, data, http.StatusConflict, "conflict")

	first := f.poll(t, request, secret)
	second := f.poll(t, request, secret)
	if first.WorkerID == "" || first.WorkerID != second.WorkerID || first.AuthToken == second.AuthToken {
		t.Errorf("polls say %q and %q with the same token: %t", first.WorkerID, second.WorkerID, first.AuthToken == second.AuthToken)
	}
	w := &fake{farm: f, id: second.WorkerID, token: first.AuthToken, caps: capabilities()}
	if got := w.upgradeStatus(t, first.AuthToken, protocol.Version); got != http.StatusUnauthorized {
		t.Errorf("the token of an earlier poll is answered %d", got)
	}
	w.token = second.AuthToken
	w.connect(t, "")

	_, data = f.call(t, http.MethodGet, "/api/v1/workers", f.token, nil)
	var workers struct {
		Workers []struct {
			ID        string
			Connected bool
		}
	}
	if err := json.Unmarshal(data, &workers); err != nil || len(workers.Workers) != 1 || workers.Workers[0].ID != w.id || !workers.Workers[0].Connected {
		t.Errorf("workers are %s", data)
	}
}

func TestRegistrationRejected(t *testing.T) {
	f := newFarm(t, manual)
	request := f.register(t, "install-1", secret)
	status, data := f.call(t, http.MethodPost, "/api/v1/registrations/"+request+"/reject", f.token, strings.NewReader("[]"))
	wantError(t, status, data, http.StatusBadRequest, "bad_request")
	f.call(t, http.MethodPost, "/api/v1/registrations/"+request+"/reject", f.token, strings.NewReader(`{"reason":"not one of ours"}`))
	if got := f.poll(t, request, secret); got.Status != protocol.StatusRejected || got.Reason != "not one of ours" {
		t.Errorf("poll says %+v", got)
	}
}

func TestSecretHashOfARowNeverChanges(t *testing.T) {
	f := newFarm(t, manual)
	request := f.register(t, "install-1", secret)
	if again := f.register(t, "install-1", secret); again != request {
		t.Errorf("the same request got the row %s, then %s", request, again)
	}
	thief := f.register(t, "install-1", otherSecret)
	if thief == request {
		t.Fatal("another secret got the same row")
	}
	// The first is superseded: its owner asks anew, and nobody is approved by it.
	status, data := f.call(t, http.MethodGet, workers+"register-requests/"+request, secret, nil)
	wantError(t, status, data, http.StatusNotFound, "not_found")
	status, data = f.call(t, http.MethodGet, workers+"register-requests/"+thief, secret, nil)
	wantError(t, status, data, http.StatusNotFound, "not_found")
	if got := f.poll(t, thief, otherSecret); got.Status != protocol.StatusPending {
		t.Errorf("poll says %+v", got)
	}
}

func TestApprovedRowIsNotSuperseded(t *testing.T) {
	f := newFarm(t, nil)
	request := f.register(t, "install-1", secret)
	f.register(t, "install-1", otherSecret)
	if got := f.poll(t, request, secret); got.Status != protocol.StatusApproved {
		t.Errorf("poll says %+v", got)
	}
}

func TestUnknownRegistration(t *testing.T) {
	f := newFarm(t, nil)
	status, data := f.call(t, http.MethodGet, workers+"register-requests/rr-none", secret, nil)
	wantError(t, status, data, http.StatusNotFound, "not_found")
	status, data = f.call(t, http.MethodPost, "/api/v1/registrations/rr-none/approve", f.token, nil)
	wantError(t, status, data, http.StatusNotFound, "not_found")
}

func TestRow63RegisterRequestsAreBounded(t *testing.T) {
	f := newFarm(t, nil)
	path := workers + "register-request"
	long := registration(strings.Repeat("x", protocol.MaxRegisterBody), secret)
	status, data := f.call(t, http.MethodPost, path, "", strings.NewReader(long))
	wantError(t, status, data, http.StatusRequestEntityTooLarge, "too_large")
	status, data = f.call(t, http.MethodPost, path, "", strings.NewReader(`{"installId":"x"}`))
	wantError(t, status, data, http.StatusBadRequest, "bad_request")
	for i := range requestsPerMinute - 2 {
		f.register(t, fmt.Sprintf("install-%d", i), secret)
	}
	status, data = f.call(t, http.MethodPost, path, "", strings.NewReader(registration("one-more", secret)))
	wantError(t, status, data, http.StatusTooManyRequests, "too_many_requests")
}

func TestLimiterForgetsAddressesThatAreQuiet(t *testing.T) {
	l := newLimiter(requestsPerMinute)
	for i := range maxAddresses {
		if !l.allow(fmt.Sprintf("address-%d", i)) {
			t.Fatalf("address %d was refused", i)
		}
	}
	if l.allow("one more") {
		t.Error("the table of addresses grew beyond its bound")
	}
	if !l.allow("address-0") {
		t.Error("a known address was refused")
	}
}

func TestOnlyLoopbackApprovesItself(t *testing.T) {
	for _, c := range []struct {
		remote, header string
		want           bool
	}{
		{"127.0.0.1:4711", "", true},
		{"[::1]:4711", "", true},
		{"[::ffff:127.0.0.1]:4711", "", true},
		{"192.168.1.7:4711", "", false},
		{"127.0.0.1:4711", "X-Forwarded-For", false},
		{"127.0.0.1:4711", "Forwarded", false},
		{"not an address", "", false},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
		r.RemoteAddr = c.remote
		if c.header != "" {
			r.Header.Set(c.header, "203.0.113.9")
		}
		if got := fromLoopback(r); got != c.want {
			t.Errorf("%s with %q: %t", c.remote, c.header, got)
		}
	}
}
