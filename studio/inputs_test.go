package studio

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"studioworker/studio/client"
	"studioworker/studio/store"
)

func (f *farm) input(tb testing.TB, kind string, data []byte) client.Input {
	tb.Helper()
	in, err := f.operator.PutInput(tb.Context(), kind, bytes.NewReader(data))
	if err != nil {
		tb.Fatal(err)
	}
	return in
}

// TestInput: what is stored comes back to whoever has the address, and to a
// browser as a file.
func TestInput(t *testing.T) {
	dir := t.TempDir()
	f := newFarm(t, func(c *Config) { c.Data = dir })
	data := bytes.Repeat([]byte("RIFF0123"), 200_000) // several chunks
	in := f.input(t, `audio/wav; codecs="1"`, data)
	sum := sha256.Sum256(data)
	if in.URL != f.url+"/api/v1/inputs/"+in.ID || in.Bytes != int64(len(data)) || in.ContentType != "audio/wav" ||
		in.SHA256 != hex.EncodeToString(sum[:]) || time.Until(in.ExpiresAt) < 23*time.Hour {
		t.Errorf("stored as %+v", in)
	}
	for range 2 { // the second time after a restart
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			req, err := http.NewRequestWithContext(t.Context(), method, f.url+inputPath+in.ID, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK || resp.ContentLength != in.Bytes || (method == http.MethodGet && !bytes.Equal(got, data)) {
				t.Errorf("%s answered %d with %d of %d bytes, %v", method, resp.StatusCode, len(got), resp.ContentLength, err)
			}
			for name, want := range map[string]string{
				"Content-Type": "audio/wav", "Content-Disposition": "attachment", "X-Content-Type-Options": "nosniff",
				"Content-Security-Policy": "sandbox; default-src 'none'",
			} {
				if got := resp.Header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
		}
		f.stop()
		f = newFarm(t, func(c *Config) { c.Data = dir })
	}
}

func TestInputsAreRefused(t *testing.T) {
	f := newFarm(t, nil)
	for name, c := range map[string]struct {
		token, kind string
		body        io.Reader
		status      int
		code        string
	}{
		"no token":       {"", "image/png", strings.NewReader("x"), http.StatusUnauthorized, "unauthorized"},
		"wrong token":    {"wrong", "image/png", strings.NewReader("x"), http.StatusUnauthorized, "unauthorized"},
		"no type":        {f.token, "", strings.NewReader("x"), http.StatusUnsupportedMediaType, "unsupported_media_type"},
		"a page":         {f.token, "text/html", strings.NewReader("x"), http.StatusUnsupportedMediaType, "unsupported_media_type"},
		"a program":      {f.token, "image/svg+xml", strings.NewReader("x"), http.StatusUnsupportedMediaType, "unsupported_media_type"},
		"half a type":    {f.token, "image/", strings.NewReader("x"), http.StatusUnsupportedMediaType, "unsupported_media_type"},
		"nothing":        {f.token, "image/png", nil, http.StatusBadRequest, "bad_request"},
		"too much":       {f.token, "image/png", io.LimitReader(zeros{}, client.MaxInput+1), http.StatusRequestEntityTooLarge, "too_large"},
		"announced less": {f.token, "image/png", strings.NewReader(""), http.StatusBadRequest, "bad_request"},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := f.call(t, http.MethodPost, "/api/v1/inputs", c.token, c.body, "Content-Type", c.kind)
			wantError(t, status, body, c.status, c.code)
		})
	}
	for _, id := range []string{"in-", "in-none", "..%2Fjobs", "%2e%2e", "*", ">", "in-none/0"} {
		if status, body := f.call(t, http.MethodGet, inputPath+id, f.token, nil); status != http.StatusNotFound {
			t.Errorf("the id %q answered %d %s", id, status, body)
		}
	}
	all, bad, err := f.studio.store.Inputs.All(t.Context())
	if len(all)+len(bad) > 0 || err != nil {
		t.Errorf("stored %v, %v, %v", all, bad, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func sttJob(url string) string {
	return fmt.Sprintf(`{"model":"synthetic-stt","task":{"kind":"audio_stt","inputUrl":%q}}`, url)
}

// TestJobNamesAnInput: the worker is told the address by which it knows the
// studio, whatever the submitter said.
func TestJobNamesAnInput(t *testing.T) {
	f := newFarm(t, nil)
	in := f.input(t, "audio/wav", []byte("RIFF"))
	l := f.worker(t).connect(t, "")
	for _, address := range []string{in.URL, "https://studio.example" + inputPath + in.ID} {
		id := f.submit(t, sttJob(address)).ID
		claim := l.take(t)
		if claim.JobID != id || claim.Task.STT.InputURL != in.URL {
			t.Errorf("offered %s with %s, want %s", claim.JobID, claim.Task.STT.InputURL, in.URL)
		}
		if job := f.job(t, id); job.Task.STT.InputURL != address { // the record is as it was submitted
			t.Errorf("the job names %s", job.Task.STT.InputURL)
		}
		f.cancel(t, id, client.Cancelled)
		l.beat(t, "")
	}
	for _, field := range []string{"initImageUrl", "maskUrl", "refImageUrl"} {
		f.submit(t, fmt.Sprintf(`{"model":"synthetic-image","task":{"kind":"image","prompt":"x",%q:%q}}`, field, "http://elsewhere"+inputPath+in.ID))
		claim := l.take(t)
		found := false
		for _, link := range links(claim.Task) {
			found = found || (link != nil && *link == in.URL)
		}
		if !found {
			t.Errorf("%s: offered %+v", field, claim.Task.Image)
		}
		f.cancel(t, claim.JobID, client.Cancelled)
		l.beat(t, "")
	}
	status, body := f.call(t, http.MethodPost, "/api/v1/jobs", f.token, strings.NewReader(sttJob(f.url+inputPath+"in-gone")))
	wantError(t, status, body, http.StatusUnprocessableEntity, "unknown_input")
	f.submit(t, sttJob("https://elsewhere.example"+inputPath+"in-theirs")) // not ours to judge
	if claim := l.take(t); claim.Task.STT.InputURL != "https://elsewhere.example"+inputPath+"in-theirs" {
		t.Errorf("offered %+v", claim.Task.STT)
	}
}

// TestInputsExpire: 24 hours after the last use by a job, which counts until the
// job's end.
func TestInputsExpire(t *testing.T) {
	f := newFarm(t, nil)
	unused, used := f.input(t, "image/png", []byte("unused")), f.input(t, "image/png", []byte("used"))
	w := f.worker(t)
	l := w.connect(t, "")
	id := f.submit(t, sttJob(used.URL)).ID
	l.take(t)
	sweep := func(in time.Duration, want int, left ...string) {
		t.Helper()
		if n, err := f.studio.sweepInputs(t.Context(), time.Now().Add(in)); n != want || err != nil {
			t.Errorf("after %v %d inputs were removed, %v, want %d", in, n, err, want)
		}
		for _, id := range []string{unused.ID, used.ID} {
			status, _ := f.call(t, http.MethodGet, inputPath+id, "", nil)
			if kept := strings.Contains(strings.Join(left, " "), id); kept != (status == http.StatusOK) {
				t.Errorf("after %v the input %s answers %d", in, id, status)
			}
		}
	}
	sweep(inputLife-time.Minute, 0, unused.ID, used.ID)
	sweep(2*inputLife, 1, used.ID) // its job is running
	f.cancel(t, id, client.Cancelled)
	sweep(inputLife-time.Minute, 0, used.ID)
	sweep(inputLife+time.Minute, 1)
	if swept, err := f.studio.store.Sweep(t.Context(), nil); swept.Parts != 0 || err != nil {
		t.Errorf("left: %+v, %v", swept, err)
	}
}

// TestAJobKeepsAnOldInput: the sweep and a new job meet; whichever comes first,
// a job that was stored has its input.
func TestAJobKeepsAnOldInput(t *testing.T) {
	f := newFarm(t, nil)
	in := f.input(t, "audio/wav", []byte("RIFF"))
	e, err := f.studio.store.Inputs.Get(t.Context(), in.ID)
	if err != nil {
		t.Fatal(err)
	}
	e.Value.ExpiresAt = time.Now().Add(-time.Hour)
	if _, err := f.studio.store.Inputs.Update(t.Context(), in.ID, e.Value, e.Revision); err != nil {
		t.Fatal(err)
	}
	id := f.submit(t, sttJob(in.URL)).ID
	if n, err := f.studio.sweepInputs(t.Context(), time.Now()); n != 0 || err != nil {
		t.Errorf("%d were removed, %v", n, err)
	}
	if e, err = f.studio.store.Inputs.Get(t.Context(), in.ID); err != nil || time.Until(e.Value.ExpiresAt) < inputRefresh {
		t.Errorf("it expires %v, %v", e.Value.ExpiresAt, err)
	}
	f.cancel(t, id, client.Cancelled)
}

// TestSweepEvery: nobody has to ask.
func TestSweepEvery(t *testing.T) {
	f := newFarm(t, func(c *Config) { c.SweepEvery = 5 * time.Millisecond })
	in := f.input(t, "audio/wav", []byte("RIFF"))
	e, err := f.studio.store.Inputs.Get(t.Context(), in.ID)
	if err != nil {
		t.Fatal(err)
	}
	e.Value.ExpiresAt = time.Now()
	if _, err := f.studio.store.Inputs.Update(t.Context(), in.ID, e.Value, e.Revision); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		_, err := f.studio.store.Inputs.Get(ctx, in.ID)
		if errors.Is(err, store.ErrNotFound) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// FuzzInputAddress: whatever a job names, an id that is taken from it is one that
// the store can look up.
func FuzzInputAddress(f *testing.F) {
	for _, seed := range []string{"http://h/api/v1/inputs/in-abc", "https://h/x/api/v1/inputs/in-a%2Fb", "http://h/api/v1/inputs/in-*", "::", "http://[::1%25eth0]/api/v1/inputs/in-a?x#y"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, address string) {
		if id, u := inputID(address); id != "" && (u == nil || !strings.HasPrefix(id, inputPrefix) || strings.ContainsAny(id, "/*>. %?#") || !strings.Contains(address, id)) {
			t.Errorf("%q gives %q", address, id)
		}
	})
}

// TestInputsHaveRoomTogether: beyond it a new one is refused with words and a
// time, whether its size was announced or not; what is there stays, and what goes
// makes room.
func TestInputsHaveRoomTogether(t *testing.T) {
	dir := t.TempDir()
	f := newFarm(t, func(c *Config) { c.Data, c.MaxInputs = dir, 1000 })
	first := f.input(t, "image/png", make([]byte, 600))
	refused := func(body io.Reader) {
		t.Helper()
		status, data := f.call(t, http.MethodPost, "/api/v1/inputs", f.token, body, "Content-Type", "image/png")
		wantError(t, status, data, http.StatusInsufficientStorage, "inputs_full")
		if !strings.Contains(string(data), "1000 bytes") && !strings.Contains(string(data), "1000 B") {
			t.Errorf("the refusal says %s", data)
		}
	}
	refused(bytes.NewReader(make([]byte, 500)))
	refused(io.MultiReader(bytes.NewReader(make([]byte, 500)))) // of unknown size
	f.input(t, "image/png", make([]byte, 400))
	refused(bytes.NewReader(make([]byte, 1)))
	f.stop()

	f = newFarm(t, func(c *Config) { c.Data, c.MaxInputs = dir, 1000 })
	refused(bytes.NewReader(make([]byte, 1)))
	if status, data := f.call(t, http.MethodGet, inputPath+first.ID, "", nil); status != http.StatusOK || len(data) != 600 {
		t.Errorf("the first is answered %d with %d bytes", status, len(data))
	}
	if n, err := f.studio.sweepInputs(t.Context(), time.Now().Add(2*inputLife)); n != 2 || err != nil {
		t.Errorf("%d inputs went, %v", n, err)
	}
	f.input(t, "image/png", make([]byte, 1000))
}
