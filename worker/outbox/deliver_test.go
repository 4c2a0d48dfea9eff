package outbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"studioworker/worker/observe"
)

func TestJudge(t *testing.T) {
	want := map[int]verdict{
		200: verdictDelivered, 201: verdictDelivered, 202: verdictDelivered, 204: verdictDelivered, 299: verdictDelivered,
		301: verdictRetry, 302: verdictRetry, 303: verdictRetry, 307: verdictRetry, 308: verdictRetry,
		400: verdictRefuse, 401: verdictPark, 402: verdictRetry, 403: verdictPark, 404: verdictMissing,
		405: verdictRetry, 407: verdictRetry, 408: verdictStudioDown, 409: verdictKeep, 410: verdictDrop,
		413: verdictRefuse, 415: verdictRetry, 422: verdictRefuse, 425: verdictStudioDown, 429: verdictStudioDown,
		451: verdictRetry, 500: verdictRetry, 501: verdictRetry, 502: verdictStudioDown, 503: verdictStudioDown,
		504: verdictStudioDown, 507: verdictRetry, 599: verdictRetry,
	}
	for status, v := range want {
		if got := judge(status, false); got != v {
			t.Errorf("%d: %s, want %s", status, got, v)
		}
		if got := judge(status, true); (got == verdictDelivered || got == verdictDrop) || status >= 400 && status != 410 && got != v {
			t.Errorf("row 33: %d with a web page: %s", status, got)
		}
	}
}

func TestSpec73To82Upload(t *testing.T) {
	for _, tc := range []struct{ job, ext, path, file, kind string }{
		{"job-31", "webp", "/graphics/api/workers/wk-20/jobs/job-31/complete", "job-31.webp", "image/webp"},
		{"job-31", "png", "/graphics/api/workers/wk-20/jobs/job-31/complete", "job-31.png", "image/png"},
		{"job-31", "gif", "/graphics/api/workers/wk-20/jobs/job-31/complete", "job-31.gif", "image/gif"},
		{"job-31", "wav", "/graphics/api/workers/wk-20/jobs/job-31/complete", "job-31.wav", "audio/wav"},
		{"job-31", "mp3", "/graphics/api/workers/wk-20/jobs/job-31/complete", "job-31.mp3", "audio/mpeg"},
		{"job-31", "mp4", "/graphics/api/workers/wk-20/jobs/job-31/complete", "job-31.mp4", "video/mp4"},
		{"job-31", "webm", "/graphics/api/workers/wk-20/jobs/job-31/complete", "job-31.webm", "application/octet-stream"},
		{"job-31", "", "/graphics/api/workers/wk-20/jobs/job-31/complete", "job-31.", "application/octet-stream"},
		{"a/../b\n\"", "webp", "/graphics/api/workers/wk-20/jobs/a%2F..%2Fb%0A%22/complete", "b%0A\".webp", "image/webp"},
	} {
		t.Run(tc.job+"."+tc.ext, func(t *testing.T) {
			o, s := open(t, t.TempDir(), nil), newStudio(t)
			var log bytes.Buffer
			d := deliverer(t, o, s.URL+"/graphics/api/", func(c *DelivererConfig) { // #81
				c.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			})
			e := put(t, o, tc.job, someBytes, func(r *Result) { r.Ext = tc.ext })
			out, err := d.DeliverNow(t.Context(), e)
			if err != nil || out.State != StateDelivered {
				t.Fatalf("%+v, %v", out, err)
			}
			wantFile(t, out.Path, someBytes)
			got := s.committed()
			if len(got) != 1 {
				t.Fatalf("%d commits", len(got))
			}
			g := got[0]
			if g.path != tc.path || g.header.Get("Authorization") != "Bearer "+secret || g.header.Get("User-Agent") != "studio-worker/test" {
				t.Errorf("#73: path %s, header %v", g.path, g.header)
			}
			if len(g.parts) != 3 {
				t.Fatalf("%d parts", len(g.parts))
			}
			want := []part{
				{"prompt", "", "", someResult().Prompt},
				{"ext", "", "", tc.ext},
				{"image", tc.file, tc.kind, string(someBytes)},
			}
			if !slices.Equal(g.parts, want) {
				t.Errorf("#78, #80: parts %.200q", g.parts)
			}
			if g.length <= e.Size {
				t.Errorf("content length %d", g.length)
			}
			text := log.String()
			if strings.Contains(text, secret) || strings.Contains(text, "lighthouse") {
				t.Errorf("the log holds the token or the prompt: %s", text)
			}
			size := strings.Index(text, fmt.Sprintf("bytes=%d", len(someBytes)))
			call := strings.Index(text, "level=DEBUG msg=\"studio call\" operation=complete endpoint=")
			if size < 0 || call < size || !strings.Contains(text[call:], " status=200") || !strings.Contains(text[call:], " elapsed_ms=") {
				t.Errorf("#79, #82: log %s", text)
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	page := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "<html>"+secret+"</html>")
		}
	}
	plain := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "the studio's words, "+secret+strings.Repeat(", and more", 500_000))
		}
	}
	for _, tc := range []struct {
		name   string
		answer http.HandlerFunc
		state  State
		folder string // in which the entry lies afterwards; empty = in none
		says   string
	}{
		{"400", plain(400), StateRefused, "refused", "status 400: the studio's words, [redacted]"},
		{"401", plain(401), StateWaiting, "ready", "status 401"},
		{"403", plain(403), StateWaiting, "ready", "status 403"},
		{"404", plain(404), StateWaiting, "ready", "status 404"},
		{"#74, #77: 409", plain(409), StateKept, "kept", "complete failed: status 409"},
		{"410", plain(410), StateRefused, "", "status 410"},
		{"413", plain(413), StateRefused, "refused", "status 413"},
		{"422", plain(422), StateRefused, "refused", "status 422"},
		{"429", plain(429), StateWaiting, "ready", "status 429"},
		{"500", plain(500), StateWaiting, "ready", "status 500"},
		{"row 32: 502 with a web page", page(502), StateWaiting, "ready", "status 502: <html>[redacted]</html>"},
		{"row 33: 200 with a web page", page(200), StateWaiting, "ready", "asking for a login"},
		{"410 with a web page", page(410), StateWaiting, "ready", "status 410"},
		{"no body", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, StateWaiting, "ready", "status 503"},
		{"204", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, StateDelivered, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			o, s := open(t, root, nil), newStudio(t)
			s.replies(tc.answer)
			var log bytes.Buffer
			var told []string
			d := deliverer(t, o, s.URL, func(c *DelivererConfig) {
				c.Log = slog.New(slog.NewTextHandler(&log, nil))
				c.OnDone = func(Entry, string) { told = append(told, string(StateDelivered)) }
				c.OnKept = func(_ Entry, err error) { told = append(told, string(StateKept)+err.Error()) }
				c.OnRefused = func(_ Entry, err error) { told = append(told, string(StateRefused)+err.Error()) }
			})
			e := put(t, o, "job", someBytes)
			out, err := d.DeliverNow(t.Context(), e)
			if out.State != tc.state || (err == nil) != (tc.state == StateDelivered) {
				t.Fatalf("%+v, %v, want %s", out, err, tc.state)
			}
			if err != nil && (!strings.Contains(err.Error(), tc.says) || len(err.Error()) > 700) {
				t.Errorf("error %.900v, want %s", err, tc.says)
			}
			if err != nil && !strings.Contains(log.String(), "level=WARN msg=\"studio call failed\" operation=complete") {
				t.Errorf("#82: log %s", &log)
			}
			if strings.Contains(fmt.Sprint(log.String(), err, told), secret) {
				t.Error("the token is in a text")
			}
			want := 1
			if tc.state == StateWaiting {
				want = 0
			}
			if len(told) != want || want == 1 && !strings.HasPrefix(told[0], string(tc.state)) {
				t.Errorf("told %.100q", told)
			}
			for _, folder := range []string{"tmp", "ready", "kept", "refused"} {
				if folder == tc.folder {
					wantNames(t, filepath.Join(root, "outbox", folder), "job.1")
				} else {
					wantNames(t, filepath.Join(root, "outbox", folder))
				}
			}
			if tc.state != StateWaiting { // asked again, it knows
				again, _ := d.DeliverNow(t.Context(), e)
				if again != out || s.asked() != 1 {
					t.Errorf("second call: %+v after %d requests, want %+v after one", again, s.asked(), out)
				}
			}
			if tc.folder == "ready" {
				if now, _ := o.Find("job"); now.Tries != 1 {
					t.Errorf("%d tries", now.Tries)
				}
				if now, _ := open(t, root, nil).Find("job"); now.Tries != 1 {
					t.Errorf("%d tries after a restart", now.Tries)
				}
			}
		})
	}
}

func TestRow28LostAnswerIsReplayed(t *testing.T) {
	o, s := open(t, t.TempDir(), nil), newStudio(t)
	s.will(faultDrop)
	d := deliverer(t, o, s.URL)
	e := put(t, o, "job", someBytes)
	if out, err := d.DeliverNow(t.Context(), e); out.State != StateWaiting || err == nil {
		t.Fatalf("%+v, %v", out, err)
	}
	if out, err := d.DeliverNow(t.Context(), e); out.State != StateDelivered || err != nil {
		t.Fatalf("%+v, %v", out, err)
	}
	if got := s.committed(); len(got) != 1 || s.asked() != 2 {
		t.Errorf("%d commits after %d requests", len(got), s.asked())
	}
}

func TestKeptResultIsDeliveredWhenOfferedAgain(t *testing.T) {
	o, s := open(t, t.TempDir(), nil), newStudio(t)
	d := deliverer(t, o, s.URL)
	s.replies(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusConflict) })
	if out, _ := d.DeliverNow(t.Context(), put(t, o, "job", someBytes)); out.State != StateKept {
		t.Fatalf("%+v", out)
	}
	s.replies(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	e, ok := o.Find("job")
	if !ok {
		t.Fatal("not found")
	}
	if out, _ := d.DeliverNow(t.Context(), e); out.State != StateWaiting || len(o.Entries()) != 1 {
		t.Fatalf("%+v, %d in ready", out, len(o.Entries()))
	}
	s.replies(nil)
	if out, err := d.DeliverNow(t.Context(), e); out.State != StateDelivered || err != nil {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestRow9DamagedBytesAreNeverUploaded(t *testing.T) {
	root := t.TempDir()
	o, s := open(t, root, nil), newStudio(t)
	e := put(t, o, "job", someBytes)
	bad := bytes.Clone(someBytes)
	bad[77] ^= 4
	if err := os.WriteFile(e.Path(), bad, 0o600); err != nil {
		t.Fatal(err)
	}
	o = open(t, root, nil)
	var refused error
	d := deliverer(t, o, s.URL, func(c *DelivererConfig) { c.OnRefused = func(_ Entry, err error) { refused = err } })
	out, err := d.DeliverNow(t.Context(), e)
	if out.State != StateRefused || !errors.Is(err, ErrDamaged) || !errors.Is(refused, ErrDamaged) || s.asked() != 0 {
		t.Errorf("%+v, %v, told %v, %d requests", out, err, refused, s.asked())
	}
	wantNames(t, o.refused, "job.1")

	// Cut while the process runs, after its hash was known.
	e = put(t, o, "cut", someBytes)
	if err := os.Truncate(e.Path(), 10); err != nil {
		t.Fatal(err)
	}
	if out, err := d.DeliverNow(t.Context(), e); out.State != StateRefused || !errors.Is(err, ErrDamaged) || s.asked() != 0 {
		t.Errorf("%+v, %v, %d requests", out, err, s.asked())
	}
}

func TestAcknowledgedResultIsNotSentAgain(t *testing.T) {
	root := t.TempDir()
	o, s := open(t, root, nil), newStudio(t)
	d := deliverer(t, o, s.URL)
	e := put(t, o, "job", someBytes)
	o.fs = failing("rename", sentMark+"job.1", 1, syscall.EIO)
	if out, err := d.DeliverNow(t.Context(), e); out.State != StateWaiting || !errors.Is(err, syscall.EIO) {
		t.Fatalf("%+v, %v", out, err)
	}
	if out, err := d.DeliverNow(t.Context(), e); out.State != StateDelivered || err != nil || s.asked() != 1 {
		t.Errorf("%+v, %v after %d requests, want one", out, err, s.asked())
	}
}

func TestRefusalCostsNoUpload(t *testing.T) {
	o, s := open(t, t.TempDir(), nil), newStudio(t)
	s.replies(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusConflict) })
	taken := make(chan int, 1)
	d := deliverer(t, o, s.URL, func(c *DelivererConfig) {
		transport := &http.Transport{ExpectContinueTimeout: time.Minute}
		t.Cleanup(transport.CloseIdleConnections)
		c.HTTP = &http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
			body := &countingBody{ReadCloser: r.Body}
			r.Body = body
			resp, err := transport.RoundTrip(r)
			taken <- body.n
			return resp, err
		})}
	})
	e := put(t, o, "job", bytes.Repeat(someBytes, 20)) // 2 MB
	if out, _ := d.DeliverNow(t.Context(), e); out.State != StateKept {
		t.Errorf("%+v", out)
	}
	if n := <-taken; n != 0 {
		t.Errorf("%d bytes were taken for a 409", n)
	}
}

type countingBody struct {
	io.ReadCloser

	n int
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n += n
	return n, err
}

func TestRedirects(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status int
		to     func(s, other *studio) string
		state  State
		asked  int // requests the studio sees
	}{
		{"308 on the same host", 308, func(s, _ *studio) string { return s.URL + "/moved" }, StateDelivered, 2},
		{"307 for ever", 307, func(s, _ *studio) string { return s.URL + "/loop" }, StateWaiting, 1 + maxRedirects},
		{"303, which would ask with GET", 303, func(s, _ *studio) string { return s.URL + "/moved" }, StateWaiting, 1},
		{"308 to another host", 308, func(_, other *studio) string { return other.URL + "/moved" }, StateWaiting, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o, s, other := open(t, t.TempDir(), nil), newStudio(t), newStudio(t)
			s.replies(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/moved" {
					if _, err := receive(r); err != nil || r.Header.Get("Authorization") != "Bearer "+secret {
						t.Errorf("after the redirect: %v, %q", err, r.Header.Get("Authorization"))
					}
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("Location", tc.to(s, other))
				w.WriteHeader(tc.status)
			})
			out, err := deliverer(t, o, s.URL).DeliverNow(t.Context(), put(t, o, "job", someBytes))
			if out.State != tc.state || s.asked() != tc.asked || other.asked() != 0 {
				t.Errorf("%+v, %v; %d requests here, %d there", out, err, s.asked(), other.asked())
			}
		})
	}
}

func TestRedirectToTheSecureSideIsFollowed(t *testing.T) {
	for _, tc := range []struct {
		from, to string
		follow   bool
	}{
		{"http://studio.example/x", "https://studio.example/x", true},
		{"https://studio.example/x", "https://studio.example/y", true},
		{"https://studio.example/x", "http://studio.example/x", false},
		{"https://studio.example/x", "https://studio.example:8443/x", false},
		{"https://studio.example/x", "https://a.studio.example/x", false},
	} {
		from, err := http.NewRequestWithContext(t.Context(), http.MethodPost, tc.from, nil)
		if err != nil {
			t.Fatal(err)
		}
		to, err := http.NewRequestWithContext(t.Context(), http.MethodPost, tc.to, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkRedirect(to, []*http.Request{from}); (err == nil) != tc.follow {
			t.Errorf("%s to %s: %v", tc.from, tc.to, err)
		}
	}
}

func TestRunDeliversWhatWaitsAndWhatComes(t *testing.T) {
	o, s := open(t, t.TempDir(), nil), newStudio(t)
	for _, id := range []string{"a", "b"} {
		put(t, o, id, someBytes)
	}
	put(t, o, "text", []byte(`{}`), func(r *Result) { r.Kind, r.Ext = "llm", "json" })
	done := make(chan string)
	d := deliverer(t, o, s.URL, func(c *DelivererConfig) { c.OnDone = func(e Entry, _ string) { done <- e.JobID } })
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error)
	go func() { ended <- d.Run(ctx) }()
	got := []string{<-done, <-done}
	put(t, o, "c", someBytes)
	if got = append(got, <-done); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("delivered %q", got)
	}
	stop := errors.New("stop")
	cancel(stop)
	if err := <-ended; !errors.Is(err, stop) {
		t.Errorf("ended with %v", err)
	}
	if list := o.Entries(); len(list) != 1 || list[0].JobID != "text" {
		t.Errorf("%d entries left, want the JSON result", len(list))
	}
	if _, err := d.DeliverNow(t.Context(), o.Entries()[0]); err == nil {
		t.Error("a JSON result was uploaded")
	}
}

func TestRunAndDeliverNowSendOnce(t *testing.T) {
	o, s := open(t, t.TempDir(), nil), newStudio(t)
	done := make(chan string, 100)
	d := deliverer(t, o, s.URL, func(c *DelivererConfig) { c.OnDone = func(e Entry, _ string) { done <- e.JobID } })
	ctx, cancel := context.WithCancel(t.Context())
	var g sync.WaitGroup
	g.Go(func() { _ = d.Run(ctx) })
	const jobs = 20
	for i := range jobs {
		e := put(t, o, fmt.Sprintf("job-%d", i), someBytes)
		out, err := d.DeliverNow(t.Context(), e)
		if err != nil || out.State != StateDelivered || out.Path == "" {
			t.Fatalf("%+v, %v", out, err)
		}
	}
	cancel()
	g.Wait()
	if s.asked() != jobs || len(done) != jobs {
		t.Errorf("%d requests and %d calls of OnDone, want %d", s.asked(), len(done), jobs)
	}
}

func TestStopDuringAnUpload(t *testing.T) {
	o, s := open(t, t.TempDir(), nil), newStudio(t)
	here := make(chan struct{})
	s.replies(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(here)
		<-r.Context().Done()
	})
	d := deliverer(t, o, s.URL)
	put(t, o, "job", someBytes)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- d.Run(ctx) }()
	<-here
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if e, ok := o.Find("job"); !ok || e.Tries != 0 {
		t.Errorf("%+v, %v: a stop is not a failed try", e, ok)
	}
}

// wire answers requests inside a synctest bubble, where sockets do not work.
type wire func(n int, r *http.Request) (*http.Response, error)

// bubble is a deliverer over a wire, and when it asked for what.
type bubble struct {
	*testing.T

	o *Outbox
	d *Deliverer

	mu   sync.Mutex
	list []ask
}

// asks returns the requests so far.
func (b *bubble) asks() []ask {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.list)
}

type ask struct {
	at  time.Time
	job string
}

// pass lets time go by, and what is due then come to rest.
func (b *bubble) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (b *bubble) jobs() string {
	var out []string
	for _, a := range b.asks() {
		out = append(out, a.job)
	}
	return strings.Join(out, " ")
}

type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// inBubble opens an outbox and runs its deliverer until test returns.
func inBubble(t *testing.T, w wire, test func(b *bubble)) {
	t.Helper()
	root := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{T: t, o: open(t, root, nil)}
		b.d = NewDeliverer(DelivererConfig{
			Outbox: b.o, Target: target("http://studio.example"), Log: quiet(),
			HTTP: &http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
				b.mu.Lock()
				b.list = append(b.list, ask{time.Now(), strings.Split(r.URL.Path, "/")[6]})
				n := len(b.list)
				b.mu.Unlock()
				return w(n, r)
			})},
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); _ = b.d.Run(ctx) }()
		synctest.Wait()
		test(b)
		cancel()
		<-ended
	})
}

// replying reads the body and answers.
func replying(status int, header ...string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		_, err := io.Copy(io.Discard, r.Body)
		if err := errors.Join(err, r.Body.Close()); err != nil {
			return nil, err
		}
		resp := &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody, Request: r}
		for i := 0; i < len(header); i += 2 {
			resp.Header.Set(header[i], header[i+1])
		}
		return resp, nil
	}
}

func TestRow29StudioDownForADay(t *testing.T) {
	var start time.Time
	down := func(_ int, r *http.Request) (*http.Response, error) {
		if time.Since(start) < 24*time.Hour {
			return nil, errors.Join(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, r.Body.Close())
		}
		return replying(200)(r)
	}
	inBubble(t, down, func(b *bubble) {
		start = time.Now()
		for _, id := range []string{"c", "a", "b"} {
			put(b.T, b.o, id, someBytes)
			b.pass(time.Millisecond)
		}
		b.pass(24 * time.Hour)
		failed := len(b.asks())
		b.pass(lastRetry)
		if got := b.jobs(); !strings.HasSuffix(got, "c c a b") || strings.Contains(got[:2*failed], "b") {
			b.Errorf("order %s", got)
		}
		if len(b.o.Entries()) != 0 {
			b.Error("something still waits")
		}
		// Full jitter: each wait is random below a bound that doubles to 5 min.
		most := firstRetry
		for i, all := 1, b.asks(); i < failed; i++ {
			if wait := all[i].at.Sub(all[i-1].at); wait > most {
				b.Errorf("wait %d is %v, more than %v", i, wait, most)
			}
			most = min(2*most, lastRetry)
		}
		if failed < 288 {
			b.Errorf("%d tries in a day: waits grew beyond 5 min", failed)
		}
		if failed > 2000 {
			b.Errorf("%d tries in a day: waits did not grow", failed)
		}
	})
}

func TestRow31RetryAfterWins(t *testing.T) {
	for _, tc := range []struct {
		status int
		value  func() string
		want   time.Duration
	}{
		{503, func() string { return "90" }, 90 * time.Second},
		{429, func() string { return time.Now().Add(20 * time.Minute).UTC().Format(http.TimeFormat) }, 20 * time.Minute},
		{500, func() string { return "7" }, 7 * time.Second},
		{503, func() string { return "86400" }, time.Hour},
	} {
		answer := func(n int, r *http.Request) (*http.Response, error) {
			if n == 1 {
				return replying(tc.status, "Retry-After", tc.value())(r)
			}
			return replying(200)(r)
		}
		inBubble(t, answer, func(b *bubble) {
			e := put(b.T, b.o, "job", someBytes)
			synctest.Wait()
			b.d.Kick() // the session comes up: the studio's word still counts
			if tc.status != 500 {
				if out, err := b.d.DeliverNow(b.Context(), e); out.State != StateWaiting || !errors.Is(err, errAskedToWait) {
					b.Errorf("sent before the time: %+v, %v", out, err)
				}
			}
			b.pass(2 * time.Hour)
			if len(b.asks()) != 2 || b.asks()[1].at.Sub(b.asks()[0].at) != tc.want {
				b.Errorf("%d %s: asked %v, want a second time after %v", tc.status, tc.value(), b.asks(), tc.want)
			}
		})
	}
}

func TestSpec75And76ServerErrorsAreRetriedForEver(t *testing.T) {
	answer := func(n int, r *http.Request) (*http.Response, error) {
		if n <= 50 {
			return replying(500)(r)
		}
		return replying(200)(r)
	}
	inBubble(t, answer, func(b *bubble) {
		put(b.T, b.o, "job", someBytes)
		b.pass(6 * time.Hour)
		if len(b.asks()) != 51 || len(b.o.Entries()) != 0 {
			b.Errorf("%d requests, %d entries left", len(b.asks()), len(b.o.Entries()))
		}
	})
}

func TestOneBadEntryDoesNotHoldUpTheOthers(t *testing.T) {
	answer := func(_ int, r *http.Request) (*http.Response, error) {
		if strings.Contains(r.URL.Path, "bad") {
			return replying(500)(r)
		}
		return replying(200)(r)
	}
	inBubble(t, answer, func(b *bubble) {
		put(b.T, b.o, "bad", someBytes)
		synctest.Wait()
		put(b.T, b.o, "good", someBytes)
		b.pass(time.Hour)
		if _, ok := b.o.Find("good"); ok {
			b.Error("the good one still waits")
		}
		if e, ok := b.o.Find("bad"); !ok || e.Tries < 10 {
			b.Errorf("the bad one: %v, %d tries in an hour", ok, e.Tries)
		}
	})
}

func TestMissingJobIsKeptAfterADay(t *testing.T) {
	missing := func(_ int, r *http.Request) (*http.Response, error) { return replying(404)(r) }
	inBubble(t, missing, func(b *bubble) {
		put(b.T, b.o, "job", someBytes)
		b.pass(missingFor - time.Minute)
		if e, _ := b.o.Find("job"); !e.KeptAt.IsZero() || e.MissingSince.IsZero() {
			b.Errorf("after almost a day: %+v", e)
		}
		b.pass(time.Minute + lastRetry)
		e, ok := b.o.Find("job")
		if !ok || e.KeptAt.IsZero() {
			b.Errorf("after a day: %+v, %v, want it in kept/", e, ok)
		}
	})
}

func TestRow37NothingIsSentAfterARevokedTokenUntilKick(t *testing.T) {
	allowed := false
	answer := func(_ int, r *http.Request) (*http.Response, error) {
		if allowed {
			return replying(200)(r)
		}
		return replying(401)(r)
	}
	inBubble(t, answer, func(b *bubble) {
		put(b.T, b.o, "a", someBytes)
		synctest.Wait()
		e := put(b.T, b.o, "b", someBytes)
		b.pass(time.Hour)
		if out, err := b.d.DeliverNow(b.Context(), e); out.State != StateWaiting || !errors.Is(err, ErrNotAllowed) {
			b.Errorf("%+v, %v", out, err)
		}
		if b.jobs() != "a" {
			b.Errorf("asked for %s", b.jobs())
		}
		allowed = true
		b.d.Kick()
		synctest.Wait()
		if b.jobs() != "a a b" || len(b.o.Entries()) != 0 {
			b.Errorf("after the kick: asked for %s, %d left", b.jobs(), len(b.o.Entries()))
		}
	})
}

func TestKickEndsABackoff(t *testing.T) {
	up := false
	answer := func(_ int, r *http.Request) (*http.Response, error) {
		if up {
			return replying(200)(r)
		}
		return replying(502)(r)
	}
	inBubble(t, answer, func(b *bubble) {
		put(b.T, b.o, "job", someBytes)
		b.pass(time.Hour)
		up = true
		b.d.Kick()
		before := time.Now()
		synctest.Wait()
		if _, ok := b.o.Find("job"); ok || !time.Now().Equal(before) {
			b.Error("the entry still waits")
		}
	})
}

func TestDeliverNowThatSucceedsWakesRun(t *testing.T) {
	up := false
	answer := func(_ int, r *http.Request) (*http.Response, error) {
		if up {
			return replying(200)(r)
		}
		return replying(503)(r)
	}
	inBubble(t, answer, func(b *bubble) {
		e := put(b.T, b.o, "a", someBytes)
		put(b.T, b.o, "b", someBytes)
		b.pass(time.Hour)
		up = true
		if out, err := b.d.DeliverNow(b.Context(), e); out.State != StateDelivered {
			b.Fatalf("%+v, %v", out, err)
		}
		synctest.Wait()
		if n := len(b.o.Entries()); n != 0 {
			b.Errorf("%d entries still wait", n)
		}
	})
}

func TestNoStudioAndAnotherStudio(t *testing.T) {
	answer := func(_ int, r *http.Request) (*http.Response, error) { return replying(200)(r) }
	inBubble(t, answer, func(b *bubble) {
		e := put(b.T, b.o, "other", someBytes, func(r *Result) { r.StudioURL = "https://other.example/" })
		if out, err := b.d.DeliverNow(b.Context(), e); out.State != StateWaiting || !errors.Is(err, ErrOtherStudio) {
			b.Errorf("%+v, %v", out, err)
		}
		put(b.T, b.o, "ours", someBytes, func(r *Result) { r.StudioURL = "http://studio.example/graphics/api/" })
		b.pass(time.Hour)
		if b.jobs() != "ours" {
			b.Errorf("sent %q", b.jobs())
		}
	})
	inBubble(t, answer, func(b *bubble) {
		known := b.d.target
		b.d.target = func() (Target, bool) { return Target{}, false } // Run is idle
		e := put(b.T, b.o, "job", someBytes)
		if out, err := b.d.DeliverNow(b.Context(), e); out.State != StateWaiting || !errors.Is(err, ErrNoStudio) {
			b.Errorf("%+v, %v", out, err)
		}
		b.pass(time.Hour)
		b.d.target = known
		b.d.Kick()
		synctest.Wait()
		if b.jobs() != "job" {
			b.Errorf("sent %q", b.jobs())
		}
	})
}

func TestUploadLimits(t *testing.T) {
	hang := func(read int64, after time.Duration) wire {
		return func(_ int, r *http.Request) (*http.Response, error) {
			for range int(after / time.Second) { // slow, but not stalled
				time.Sleep(time.Second)
				if _, err := io.CopyN(io.Discard, r.Body, read); err != nil {
					break
				}
			}
			<-r.Context().Done()
			return nil, errors.Join(r.Context().Err(), r.Body.Close())
		}
	}
	for _, tc := range []struct {
		name string
		wire wire
		want error
		took time.Duration
	}{
		{"no connection", hang(0, 0), errConnect, connectLimit},
		{"stalls after 300 slow seconds", hang(10, 300*time.Second), errStall, 300*time.Second + stallLimit},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				o := open(t, root, nil)
				n := 0
				d := NewDeliverer(DelivererConfig{
					Outbox: o, Target: target("http://studio.example"), Log: quiet(),
					HTTP: &http.Client{Timeout: time.Second, Transport: tripper(func(r *http.Request) (*http.Response, error) {
						n++
						return tc.wire(n, r)
					})},
				})
				start := time.Now()
				out, err := d.DeliverNow(t.Context(), put(t, o, "job", someBytes))
				if out.State != StateWaiting || !errors.Is(err, tc.want) || time.Since(start) != tc.took {
					t.Errorf("%+v, %v after %v, want %v after %v", out, err, time.Since(start), tc.want, tc.took)
				}
			})
		})
	}
}

func TestDeliverNowWaitsItsTurnNoLongerThanAsked(t *testing.T) {
	answer := func(_ int, r *http.Request) (*http.Response, error) {
		time.Sleep(10 * time.Second)
		return replying(200)(r)
	}
	inBubble(t, answer, func(b *bubble) {
		put(b.T, b.o, "a", someBytes)
		synctest.Wait()
		e := put(b.T, b.o, "b", someBytes)
		ctx, cancel := context.WithTimeout(b.Context(), time.Second)
		defer cancel()
		if out, err := b.d.DeliverNow(ctx, e); out.State != StateWaiting || !errors.Is(err, context.DeadlineExceeded) {
			b.Errorf("%+v, %v", out, err)
		}
		if out, err := b.d.DeliverNow(b.Context(), e); out.State != StateDelivered || err != nil {
			b.Errorf("%+v, %v", out, err)
		}
	})
}

func TestLargeResultIsNeverInMemory(t *testing.T) {
	const size, most = 500 << 20, 32 << 20
	o, s := open(t, t.TempDir(), nil), newStudio(t)
	var got int64
	s.replies(func(_ http.ResponseWriter, r *http.Request) { got, _ = io.Copy(io.Discard, r.Body) })
	d := draft(t, o, "job", nil)
	if err := os.Truncate(filepath.Join(d.Dir(), "picture.webp"), size); err != nil { // sparse
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	e, err := d.Commit(someResult())
	if err != nil {
		t.Fatal(err)
	}
	if out, err := deliverer(t, o, s.URL).DeliverNow(t.Context(), e); out.State != StateDelivered || err != nil {
		t.Fatalf("%+v, %v", out, err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > most {
		t.Errorf("%d bytes allocated for %d, want at most %d", used, size, most)
	}
	if s.asked() != 1 || got < size {
		t.Errorf("%d bytes arrived in %d requests", got, s.asked())
	}
}

// What others take out of ready/, as the result of a cancelled job, is forgotten.
func TestNotesEndWithTheirEntries(t *testing.T) {
	failing := func(_ int, r *http.Request) (*http.Response, error) { return replying(500)(r) }
	inBubble(t, failing, func(b *bubble) {
		gone, kept, stays := put(b.T, b.o, "gone", someBytes), put(b.T, b.o, "kept", someBytes), put(b.T, b.o, "stays", someBytes)
		b.pass(time.Minute)
		if err := errors.Join(b.o.Drop(gone), b.o.Keep(kept)); err != nil {
			b.Fatal(err)
		}
		b.pass(time.Hour)
		b.d.mu.Lock()
		defer b.d.mu.Unlock()
		if _, ok := b.d.notes[stays.key()]; !ok || len(b.d.notes) != 1 {
			b.Errorf("%d notes, that of the one that waits: %v", len(b.d.notes), ok)
		}
	})
}

// TestAnswersHaveReasons: each answer that is no success has a reason that the
// window can word, and its text stays.
func TestAnswersHaveReasons(t *testing.T) {
	for text, tc := range map[string]struct {
		a    answer
		want observe.Why
	}{
		"web page":     {answer{status: 200, html: true}, observe.Why{Reason: observe.ReasonNoStudio, Said: "200, text/html"}},
		"redirect":     {answer{status: 302}, observe.Why{Reason: observe.ReasonStatus, Said: "302"}},
		"status 503":   {answer{status: 503}, observe.Why{Reason: observe.ReasonStatus, Said: "503"}},
		"409: not now": {answer{status: 409, body: "not now"}, observe.Why{Reason: observe.ReasonStatus, Said: "409: not now"}},
	} {
		err := tc.a.err()
		if got := observe.WhyOf(err); got != tc.want || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}
