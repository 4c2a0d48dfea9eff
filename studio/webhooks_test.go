package studio

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"studioworker/studio/client"
	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

// told is a message that a receiver of webhooks got.
type told struct {
	header http.Header
	body   []byte
	notice client.Notice
}

// receiver answers webhooks with the statuses of a list, then with 204.
type receiver struct {
	url  string
	told chan told

	mu       sync.Mutex
	statuses []int
}

func newReceiver(tb testing.TB, statuses ...int) *receiver {
	tb.Helper()
	r := &receiver{told: make(chan told, 100), statuses: statuses}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		t := told{header: req.Header}
		var err error
		if t.body, err = io.ReadAll(req.Body); err == nil {
			err = json.Unmarshal(t.body, &t.notice)
		}
		if err != nil || req.Method != http.MethodPost {
			tb.Errorf("%s %s, %v", req.Method, t.body, err)
		}
		r.mu.Lock()
		status := http.StatusNoContent
		if len(r.statuses) > 0 {
			status, r.statuses = r.statuses[0], r.statuses[1:]
		}
		r.mu.Unlock()
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		r.told <- t
	}))
	tb.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r *receiver) next(tb testing.TB) told {
	tb.Helper()
	select {
	case t := <-r.told:
		return t
	case <-time.After(patience):
		tb.Fatal("the webhook was not told")
	}
	return told{}
}

// loopbackAllowed lets webhooks reach the tests' receivers.
func loopbackAllowed(c *Config) {
	c.WebhookAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
}

func (f *farm) webhook(tb testing.TB, url string, all bool) client.NewWebhook {
	tb.Helper()
	hook, err := f.operator.CreateWebhook(tb.Context(), client.Webhook{URL: url, All: all})
	if err != nil {
		tb.Fatal(err)
	}
	return hook
}

// awaitHooks waits until the stored record of a job says of its hooks what is
// wanted.
func (f *farm) awaitHooks(tb testing.TB, id string, ok func([]store.Hook) bool) []store.Hook {
	tb.Helper()
	var rec store.Entry[store.Job]
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) { // a record tells nobody
		var err error
		if rec, err = f.studio.store.Jobs.Get(tb.Context(), id); err != nil {
			tb.Fatal(err)
		}
		if ok(rec.Value.Hooks) {
			return rec.Value.Hooks
		}
	}
	tb.Fatalf("the hooks of the job are %+v", rec.Value.Hooks)
	return nil
}

func allDone(hooks []store.Hook) bool {
	for _, h := range hooks {
		if !h.Done {
			return false
		}
	}
	return true
}

// TestWebhooks are told of each end, signed, and again until they have heard.
func TestWebhooks(t *testing.T) {
	f := newFarm(t, loopbackAllowed)
	f.studio.webhooks.pauses = []time.Duration{time.Millisecond, time.Millisecond, time.Millisecond}
	every, named := newReceiver(t, http.StatusInternalServerError, http.StatusFound), newReceiver(t)
	all, one := f.webhook(t, every.url+"/hook?x=y", true), f.webhook(t, named.url, false)
	w := f.worker(t)
	l := w.connect(t, "")
	id := f.submit(t, strings.Replace(imageJob, "{", fmt.Sprintf(`{"webhook":%q,`, one.ID), 1)).ID
	l.take(t)
	w.deliver(t, id, []byte("picture"))
	l.beat(t, "")
	first := every.next(t)
	check := func(m told, secret, kind string) {
		t.Helper()
		h := m.header
		want := "v1," + signature(secret, h.Get("Webhook-Id"), h.Get("Webhook-Timestamp"), m.body)
		if h.Get("Webhook-Signature") != want || h.Get("Content-Type") != "application/json" || !strings.HasPrefix(h.Get("User-Agent"), "studio-worker/") {
			t.Errorf("told with %v", h)
		}
		if m.notice.Type != kind || m.notice.Data.ID != id || m.notice.Timestamp.IsZero() {
			t.Errorf("told %s", m.body)
		}
	}
	check(first, all.Secret, "job.done")
	check(named.next(t), one.Secret, "job.done")
	for range 2 { // after a 500 and a redirect, which is not followed
		again := every.next(t)
		check(again, all.Secret, "job.done")
		if again.header.Get("Webhook-Id") != first.header.Get("Webhook-Id") {
			t.Error("said again under another id")
		}
	}
	for _, h := range f.awaitHooks(t, id, allDone) {
		if h.Error != "" || (h.ID == all.ID) != (h.Attempts == 3) {
			t.Errorf("the hook is %+v", h)
		}
	}

	id = f.submit(t, imageJob).ID // not for the one that is named
	l.take(t)
	l.send(t, protocol.Fail{JobID: id, Error: "bad prompt"})
	expect[protocol.FailAck](t, l)
	l.beat(t, "")
	check(every.next(t), all.Secret, "job.failed")
	if _, err := f.operator.Retry(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	l.take(t)
	f.cancel(t, id, client.Cancelled)
	l.beat(t, "")
	check(every.next(t), all.Secret, "job.cancelled") // the next end is told anew
	if len(named.told) > 0 {
		t.Error("one was told of a job that does not name it")
	}
}

// TestWebhooksSurviveARestart: what one studio could not tell, the next does.
func TestWebhooksSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	start := func() *farm {
		return newFarm(t, func(c *Config) {
			c.Data = dir
			loopbackAllowed(c)
		})
	}
	f := start()
	r := newReceiver(t, http.StatusServiceUnavailable)
	f.studio.webhooks.pauses = []time.Duration{300 * time.Millisecond, time.Hour}
	hook := f.webhook(t, r.url, true)
	id := f.submit(t, imageJob).ID
	f.cancel(t, id, client.Cancelled)
	r.next(t)
	f.awaitHooks(t, id, func(h []store.Hook) bool { return len(h) == 1 && h[0].Error != "" })
	f.stop()
	f = start()
	if m := r.next(t); m.notice.Data.ID != id {
		t.Errorf("told %s", m.body)
	}
	f.awaitHooks(t, id, allDone)
	if err := f.operator.DeleteWebhook(t.Context(), hook.ID); err != nil {
		t.Fatal(err)
	}
	id = f.submit(t, imageJob).ID
	f.cancel(t, id, client.Cancelled)
	if hooks := f.awaitHooks(t, id, allDone); len(hooks) > 0 {
		t.Errorf("a removed webhook is left in %+v", hooks)
	}
}

// TestWebhooksGiveUp: at 410 at once, after the last pause, and when the webhook
// is removed.
func TestWebhooksGiveUp(t *testing.T) {
	for name, c := range map[string]struct {
		statuses []int
		attempts int
		want     string
	}{
		"gone":       {[]int{http.StatusGone}, 1, "410"},
		"never well": {[]int{500, 500, 500}, 3, "500"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFarm(t, loopbackAllowed)
			f.studio.webhooks.pauses = []time.Duration{time.Millisecond, time.Millisecond}
			f.webhook(t, newReceiver(t, c.statuses...).url, true)
			id := f.submit(t, imageJob).ID
			f.cancel(t, id, client.Cancelled)
			if h := f.awaitHooks(t, id, allDone)[0]; h.Attempts != c.attempts || !strings.Contains(h.Error, c.want) {
				t.Errorf("the hook is %+v", h)
			}
		})
	}
}

// TestWebhooksStayOutside of the studio's own network, whatever a name resolves to.
func TestWebhooksStayOutside(t *testing.T) {
	f := newFarm(t, func(c *Config) { c.WebhookAllow = []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24")} })
	r := newReceiver(t)
	f.webhook(t, r.url, true)
	id := f.submit(t, imageJob).ID
	f.cancel(t, id, client.Cancelled)
	if h := f.awaitHooks(t, id, allDone)[0]; h.Attempts != 1 || !strings.Contains(h.Error, "private network") || len(r.told) > 0 {
		t.Errorf("the hook is %+v", h)
	}
	except := []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24"), netip.MustParsePrefix("fd00::/8")}
	for address, want := range map[string]bool{
		"93.184.216.34:443": true, "[2606:2800:220:1::1]:443": true, "10.1.2.3:80": true, "[fd00::1]:443": true, "[::ffff:10.1.2.3]:80": true,
		"127.0.0.1:80": false, "[::1]:80": false, "[::ffff:127.0.0.1]:80": false, "0.0.0.0:80": false, "[::]:80": false, "10.0.0.1:80": false,
		"172.16.0.1:80": false, "192.168.1.1:80": false, "169.254.169.254:80": false, "[fe80::1%eth0]:80": false, "[64:ff9b::a9fe:a9fe]:80": false,
		"100.64.0.1:80": false, "224.0.0.1:80": false, "255.255.255.255:80": false, "[2002:7f00:1::]:80": false, "[fc00::1]:80": false, "localhost:80": false, "": false,
	} {
		if err := allowed(address, except); (err == nil) != want {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestWebhooksAreRefused(t *testing.T) {
	f := newFarm(t, nil)
	for _, body := range []string{
		``, `[]`, `{}`, `{"url":"x"}`, `{"url":"http://hooks.example/x"}`, `{"url":"ftp://hooks.example/x"}`, `{"url":"https://a:b@hooks.example/"}`,
		`{"url":"https://hooks.example/#x"}`, `{"url":"https://"}`, `{"url":"https://hooks.example/` + strings.Repeat("x", maxURL) + `"}`,
	} {
		status, data := f.call(t, http.MethodPost, "/api/v1/webhooks", f.token, strings.NewReader(body))
		wantError(t, status, data, http.StatusUnprocessableEntity, "invalid_webhook")
	}
	hook := f.webhook(t, "https://hooks.example/x", false)
	list, err := f.operator.Webhooks(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != hook.ID || list[0].URL != hook.URL || *list[0].Deliveries != (client.Deliveries{}) || !strings.HasPrefix(hook.Secret, secretPrefix) {
		t.Errorf("listed %+v, %v", list, err)
	}
	status, data := f.call(t, http.MethodGet, "/api/v1/webhooks", f.token, nil)
	if status != http.StatusOK || strings.Contains(string(data), hook.Secret) {
		t.Errorf("the list is %s", data)
	}
	status, data = f.call(t, http.MethodPost, "/api/v1/jobs", f.token, strings.NewReader(strings.Replace(imageJob, "{", `{"webhook":"wh-none",`, 1)))
	wantError(t, status, data, http.StatusUnprocessableEntity, "unknown_webhook")
	for _, id := range []string{"wh-none", "..%2Fx", "*"} {
		if err := f.operator.DeleteWebhook(t.Context(), id); !isStatus(err, http.StatusNotFound) {
			t.Errorf("%s: %v", id, err)
		}
	}
	for range maxHooks - 1 {
		f.webhook(t, "https://hooks.example/x", false)
	}
	status, data = f.call(t, http.MethodPost, "/api/v1/webhooks", f.token, strings.NewReader(`{"url":"https://hooks.example/x"}`))
	wantError(t, status, data, http.StatusConflict, "conflict")
}

// TestSignature is the example of the Standard Webhooks specification.
func TestSignature(t *testing.T) {
	got := signature("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if want := "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("signed %s, want %s", got, want)
	}
}

// FuzzDecodeWebhook: what it lets through is an address that can be called.
func FuzzDecodeWebhook(f *testing.F) {
	for _, seed := range []string{`{"url":"https://hooks.example/x","all":true}`, `{"url":"https://[::1%25eth0]:1/"}`, `{"url":"https://x\u0000"}`} {
		f.Add([]byte(seed))
	}
	s := &Studio{}
	f.Fuzz(func(t *testing.T, data []byte) {
		in, err := s.decodeWebhook(data)
		if err != nil {
			return
		}
		if _, err := http.NewRequestWithContext(t.Context(), http.MethodPost, in.URL, nil); err != nil || !strings.HasPrefix(strings.ToLower(in.URL), "https:") {
			t.Errorf("%q: %v", in.URL, err)
		}
	})
}
