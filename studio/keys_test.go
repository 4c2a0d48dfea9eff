package studio

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"studioworker/studio/client"
)

func (f *farm) key(tb testing.TB, wish client.KeyRequest) client.NewKey {
	tb.Helper()
	key, err := f.operator.CreateKey(tb.Context(), wish)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// expireKey ends a key now.
func (f *farm) expireKey(tb testing.TB, id string) {
	tb.Helper()
	e, err := f.studio.store.Keys.Get(tb.Context(), id)
	if err != nil {
		tb.Fatal(err)
	}
	e.Value.ExpiresAt = time.Now().Add(-time.Second)
	if _, err := f.studio.store.Keys.Update(tb.Context(), id, e.Value, e.Revision); err != nil {
		tb.Fatal(err)
	}
}

// TestKeys: the text is told once and not stored; the list shows the rest.
func TestKeys(t *testing.T) {
	f := newFarm(t, nil)
	end := time.Now().Add(time.Hour).UTC().Round(time.Second)
	first := f.key(t, client.KeyRequest{Name: "atelier", MaxPriority: 5})
	second := f.key(t, client.KeyRequest{Name: "workshop", ExpiresAt: end})
	if !strings.HasPrefix(first.Text, first.Prefix+"-") || len(first.Text) < 60 || first.Prefix != "sw-"+first.ID || first.Text == second.Text {
		t.Errorf("made %+v", first)
	}
	e, err := f.studio.store.Keys.Get(t.Context(), first.ID)
	if err != nil {
		t.Fatal(err)
	}
	if stored, err := json.Marshal(e.Value); err != nil || strings.Contains(string(stored), first.Text) || e.Value.Hash != hashed(first.Text) {
		t.Errorf("stored %s, %v", stored, err)
	}
	if status, body := f.call(t, http.MethodGet, "/api/v1/models", first.Text, nil); status != http.StatusOK {
		t.Errorf("a call with the key answered %d %s", status, body)
	}
	if err := f.operator.RevokeKey(t.Context(), second.ID); err != nil {
		t.Fatal(err)
	}
	if err := f.operator.RevokeKey(t.Context(), second.ID); err != nil { // said twice
		t.Fatal(err)
	}
	keys, err := f.operator.Keys(t.Context())
	if err != nil || len(keys) != 2 {
		t.Fatalf("listed %+v, %v", keys, err)
	}
	if k := keys[0]; k.Name != "atelier" || k.MaxPriority != 5 || k.LastUsedAt.IsZero() || !k.RevokedAt.IsZero() || !k.ExpiresAt.IsZero() {
		t.Errorf("the first is %+v", k)
	}
	if k := keys[1]; k.Name != "workshop" || !k.LastUsedAt.IsZero() || k.RevokedAt.IsZero() || !k.ExpiresAt.Equal(end) {
		t.Errorf("the second is %+v", k)
	}
	if failed, ok := errors.AsType[*client.Error](f.operator.RevokeKey(t.Context(), "none")); !ok || failed.Status != http.StatusNotFound {
		t.Errorf("an unknown key: %v", failed)
	}
	for age, want := range map[time.Duration]int{time.Hour: 0, time.Second: 1} {
		if n, err := f.studio.keys.sweep(t.Context(), time.Now().Add(time.Minute), age); n != want || err != nil {
			t.Errorf("%d keys void for %v were removed, %v, want %d", n, age, err, want)
		}
	}
}

func TestKeyWishesAreChecked(t *testing.T) {
	f := newFarm(t, nil)
	for _, body := range []string{
		``, `[]`, `{}`, `{"name":""}`, `{"name":"a\nb"}`, `{"name":"` + strings.Repeat("x", 201) + `"}`, `{"name":"x","expiresAt":"2001-01-01T00:00:00Z"}`,
		`{"name":"x","expiresAt":"soon"}`, `{"name":"x","maxPriority":101}`, `{"name":"x","maxPriority":-101}`, `{"name":"x","maxPriority":1.5}`,
	} {
		status, data := f.call(t, http.MethodPost, "/api/v1/keys", f.token, strings.NewReader(body))
		wantError(t, status, data, http.StatusUnprocessableEntity, "invalid_key")
	}
	status, data := f.call(t, http.MethodPost, "/api/v1/keys", f.token, strings.NewReader(`{"name":"`+strings.Repeat("x", maxSmallBody)+`"}`))
	wantError(t, status, data, http.StatusRequestEntityTooLarge, "too_large")
	if keys, err := f.operator.Keys(t.Context()); len(keys) > 0 || err != nil {
		t.Errorf("made %+v, %v", keys, err)
	}
}

// operatorRoutes are those that an API key does not open, memberRoutes those that
// it does.
var (
	operatorRoutes = []string{
		"GET /api/v1/workers", "DELETE /api/v1/workers/x", "GET /api/v1/workers/x/logs", "GET /api/v1/registrations",
		"POST /api/v1/registrations/x/approve", "POST /api/v1/registrations/x/reject", "GET /api/v1/models/x", "PUT /api/v1/models/x", "DELETE /api/v1/models/x", "GET /api/v1/registry", "PUT /api/v1/registry", "GET /api/v1/webhooks", "POST /api/v1/webhooks", "DELETE /api/v1/webhooks/x",
		"GET /api/v1/keys", "POST /api/v1/keys", "DELETE /api/v1/keys/x",
	}
	memberRoutes = []string{
		"POST /api/v1/jobs", "GET /api/v1/jobs", "GET /api/v1/jobs/x", "GET /api/v1/jobs/x/result", "GET /api/v1/jobs/x/events",
		"POST /api/v1/jobs/x/cancel", "POST /api/v1/jobs/x/retry", "POST /api/v1/inputs", "GET /api/v1/models",
	}
)

// TestCredentials: wrong, expired and revoked ones open no route, and a key opens
// only those that are for keys.
func TestCredentials(t *testing.T) {
	f := newFarm(t, nil)
	good, revoked, expired := f.key(t, client.KeyRequest{Name: "good"}), f.key(t, client.KeyRequest{Name: "revoked"}), f.key(t, client.KeyRequest{Name: "expired"})
	if err := f.operator.RevokeKey(t.Context(), revoked.ID); err != nil {
		t.Fatal(err)
	}
	f.expireKey(t, expired.ID)
	worker := f.worker(t)
	for name, token := range map[string]string{
		"none": "", "wrong": "wrong", "cut operator token": f.token[:len(f.token)-1], "long operator token": f.token + "x", "a worker's": worker.token,
		"revoked": revoked.Text, "expired": expired.Text, "cut key": good.Text[:len(good.Text)-1], "long key": good.Text + "x", "id of a key": good.Prefix,
		"prefix": "sw-", "odd id": "sw->>>>>>>>>>>>-x", "stored hash": hashed(good.Text),
	} {
		t.Run(name, func(t *testing.T) {
			for _, route := range append(operatorRoutes, memberRoutes...) {
				method, path, _ := strings.Cut(route, " ")
				status, data := f.call(t, method, path, token, nil)
				wantError(t, status, data, http.StatusUnauthorized, "unauthorized")
			}
		})
	}
	for _, route := range operatorRoutes {
		method, path, _ := strings.Cut(route, " ")
		status, data := f.call(t, method, path, good.Text, nil)
		wantError(t, status, data, http.StatusForbidden, "forbidden")
	}
	for _, token := range []string{f.token, good.Text, revoked.Text} { // none of these is a worker's
		if status := worker.upgradeStatus(t, token, "studio-worker-v1"); status != http.StatusUnauthorized {
			t.Errorf("a session opened with %d", status)
		}
		w := &fake{farm: f, id: worker.id, token: token}
		if status, _ := w.upload(t, "x", "webp", []byte("x")); status != http.StatusUnauthorized {
			t.Errorf("an upload answered %d", status)
		}
	}
}

// TestAKeySeesItsOwnJobs and no others; the operator sees all.
func TestAKeySeesItsOwnJobs(t *testing.T) {
	f := newFarm(t, nil)
	mine, theirs := f.key(t, client.KeyRequest{Name: "mine"}), f.key(t, client.KeyRequest{Name: "theirs"})
	status, body := f.call(t, http.MethodPost, "/api/v1/jobs", mine.Text, strings.NewReader(imageJob))
	var job client.Submitted
	if err := json.Unmarshal(body, &job); err != nil || status != http.StatusCreated {
		t.Fatalf("submit answered %d %s", status, body)
	}
	f.submit(t, imageJob) // the operator's
	for token, want := range map[string]int{mine.Text: 1, theirs.Text: 0, f.token: 2} {
		status, body := f.call(t, http.MethodGet, "/api/v1/jobs", token, nil)
		var list client.JobList
		if err := json.Unmarshal(body, &list); err != nil || status != http.StatusOK || len(list.Jobs) != want {
			t.Errorf("listed %d %s, want %d jobs", status, body, want)
		}
	}
	for _, route := range []string{"GET ", "GET /result", "GET /events", "POST /cancel"} {
		method, path, _ := strings.Cut(route, " ")
		status, body = f.call(t, method, "/api/v1/jobs/"+job.ID+path, theirs.Text, nil)
		wantError(t, status, body, http.StatusNotFound, "not_found")
	}
	if status, body = f.call(t, http.MethodGet, "/api/v1/jobs/"+job.ID, mine.Text, nil); status != http.StatusOK || !strings.Contains(string(body), mine.ID) {
		t.Errorf("its own job: %d %s", status, body)
	}
	if status, body = f.call(t, http.MethodPost, "/api/v1/jobs/"+job.ID+"/cancel", mine.Text, nil); status != http.StatusOK {
		t.Errorf("cancel answered %d %s", status, body)
	}
}

// TestWhatAKeyMayNotAskFor: files of its own choice, and to go before others.
func TestWhatAKeyMayNotAskFor(t *testing.T) {
	f := newFarm(t, nil)
	key := f.key(t, client.KeyRequest{Name: "atelier", MaxPriority: 5})
	job := func(more string) string {
		return fmt.Sprintf(`{"model":"synthetic-image","task":{"kind":"image","prompt":"x"}%s}`, more)
	}
	source := `,"modelSource":{"engine":"sd-cpp","files":[],"cliDefaults":{"cfgScale":1,"steps":1,"width":1,"height":1}}`
	status, body := f.call(t, http.MethodPost, "/api/v1/jobs", key.Text, strings.NewReader(job(source)))
	wantError(t, status, body, http.StatusForbidden, "forbidden")
	status, body = f.call(t, http.MethodPost, "/api/v1/jobs", key.Text, strings.NewReader(job(`,"priority":6`)))
	wantError(t, status, body, http.StatusForbidden, "priority_too_high")
	if status, body = f.call(t, http.MethodPost, "/api/v1/jobs", key.Text, strings.NewReader(job(`,"priority":5`))); status != http.StatusCreated {
		t.Errorf("answered %d %s", status, body)
	}
	for _, priority := range []string{"101", "-101", "1.5", `"1"`} {
		status, body = f.call(t, http.MethodPost, "/api/v1/jobs", f.token, strings.NewReader(job(`,"priority":`+priority)))
		wantError(t, status, body, http.StatusUnprocessableEntity, "invalid_job")
	}
}

// FuzzDecodeKey: what it lets through can be a key.
func FuzzDecodeKey(f *testing.F) {
	for _, seed := range []string{`{"name":"x"}`, `{"name":"x","expiresAt":"2999-01-01T00:00:00Z","maxPriority":-100}`, `{"name":"x","expiresAt":"9999-12-31T23:59:59+23:59"}`, `null`} {
		f.Add([]byte(seed))
	}
	now := time.Now()
	f.Fuzz(func(t *testing.T, data []byte) {
		key, err := decodeKey(data, now)
		if err != nil {
			return
		}
		if _, err := json.Marshal(key); err != nil || key.Name == "" || key.MaxPriority > client.MaxPriority {
			t.Errorf("%s gives %+v, %v", data, key, err)
		}
	})
}

// TestPages: each list comes in pages that hold everything once, also when what a
// cursor names is gone.
func TestPages(t *testing.T) {
	f := newFarm(t, nil)
	var jobs []string
	for range 7 {
		jobs = append(jobs, f.submit(t, imageJob).ID)
		f.key(t, client.KeyRequest{Name: "x"})
	}
	for range 5 {
		f.worker(t)
	}
	for path, want := range map[string]int{"jobs": 7, "jobs?state=queued": 7, "keys": 7, "workers": 5, "registrations": 5, "models": len(builtIn())} {
		t.Run(path, func(t *testing.T) {
			seen := map[string]bool{}
			next := ""
			for pages := 0; ; pages++ {
				query := "?limit=2"
				if strings.Contains(path, "?") {
					query = "&limit=2"
				}
				if next != "" {
					query += "&cursor=" + next
				}
				status, body := f.call(t, http.MethodGet, "/api/v1/"+path+query, f.token, nil)
				var page map[string]json.RawMessage
				if err := json.Unmarshal(body, &page); err != nil || status != http.StatusOK {
					t.Fatalf("answered %d %s", status, body)
				}
				name, _, _ := strings.Cut(path, "?")
				var items []struct{ ID string }
				if err := json.Unmarshal(page[name], &items); err != nil || len(items) > 2 || len(items) == 0 {
					t.Fatalf("page %s, %v", body, err)
				}
				for _, item := range items {
					if seen[item.ID] {
						t.Errorf("%s came twice", item.ID)
					}
					seen[item.ID] = true
				}
				next = ""
				if page["next"] != nil {
					if err := json.Unmarshal(page["next"], &next); err != nil || next == "" {
						t.Fatalf("page %s, %v", body, err)
					}
				} else if len(seen) != want {
					t.Errorf("%d in %d pages, want %d", len(seen), pages+1, want)
				}
				if next == "" {
					return
				}
			}
		})
	}
	gone := cursor(jobs[3][:len(jobs[3])-1])
	status, body := f.call(t, http.MethodGet, "/api/v1/jobs?cursor="+gone, f.token, nil)
	var list client.JobList
	if err := json.Unmarshal(body, &list); err != nil || status != http.StatusOK || len(list.Jobs) != 3 || list.Jobs[0].ID != jobs[2] {
		t.Errorf("after a place that is gone: %d %s", status, body)
	}
	for _, query := range []string{"limit=0", "limit=1001", "limit=x", "cursor=%21", "cursor=" + strings.Repeat("A", maxCursor+4)} {
		for _, path := range []string{"jobs", "keys", "workers", "registrations", "models"} {
			status, body := f.call(t, http.MethodGet, "/api/v1/"+path+"?"+query, f.token, nil)
			wantError(t, status, body, http.StatusBadRequest, "bad_request")
		}
	}
}
