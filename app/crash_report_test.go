//go:build !windows

package app

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/getsentry/sentry-go"

	"studioworker/worker/observe"
)

// sentryDouble catches what is sent to Sentry.
func sentryDouble(t *testing.T) (dsn string, caught <-chan string) {
	t.Helper()
	sent := make(chan string, 16)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err == nil && r.Header.Get("Content-Encoding") == "gzip" {
			var z *gzip.Reader
			if z, err = gzip.NewReader(bytes.NewReader(body)); err == nil {
				body, err = io.ReadAll(io.LimitReader(z, 1<<20))
			}
		}
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		sent <- string(body)
	}))
	t.Cleanup(server.Close)
	return "http://key@" + server.Listener.Addr().(*net.TCPAddr).String() + "/1", sent
}

// A panic in any goroutine ends the program. The next start reports the code that did it,
// and nothing that it worked on: not in the file, not in the log, not at Sentry.
func TestCrashIsReportedWithoutWhatItWorkedOn(t *testing.T) {
	h := newHome(t)
	plant(t, h)
	dsn, sent := sentryDouble(t)
	h.extra = []string{panicVariable + "=cannot draw " + plantedPrompt + "\ngoroutine 7 [running]:\n" + plantedMail + " " + plantedToken + " " + h.dir}
	crashed := h.start(t, "run")
	if code := crashed.wait(t); code == 0 {
		t.Fatalf("the program did not crash:\n%s", crashed.err)
	}
	dir := filepath.Dir(h.config)
	if err := os.Remove(filepath.Join(dir, "worker.log")); err != nil { // plant wrote secrets there
		t.Fatal(err)
	}
	h.extra = []string{"SENTRY_DSN=" + dsn}
	next := h.start(t, "run")
	next.await(t, 1, "the last run crashed")
	next.await(t, 1, "studio-worker starts") // from here on a signal stops it in good order
	next.stop(t)
	payload := <-sent

	reports, err := filepath.Glob(filepath.Join(dir, "crashes", "crash-*.txt"))
	if err != nil || len(reports) != 1 {
		t.Fatalf("reports %v, %v, want one", reports, err)
	}
	report, err := os.ReadFile(reports[0])
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(filepath.Join(dir, "worker.log"))
	if err != nil {
		t.Fatal(err)
	}
	shown := h.want(t, "crashes")
	for name, text := range map[string]string{
		"report": string(report), "log": string(log), "stderr": next.err.String(), "payload": payload, "crashes": shown,
	} {
		host, err := os.Hostname()
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{plantedToken, plantedPrompt, plantedMail} {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds %q:\n%s", name, secret, text)
			}
		}
		if name == "payload" && (strings.Contains(text, h.dir) || strings.Contains(text, host)) {
			t.Errorf("the payload names the home or the computer:\n%s", text)
		}
		if name != "log" && name != "stderr" && !strings.Contains(text, "panic: [message left out]") {
			t.Errorf("%s does not say what happened:\n%s", name, text)
		}
	}
	if !strings.Contains(shown, string(report)) {
		t.Errorf("crashes shows\n%s\nnot\n%s", shown, report)
	}
	if _, err := os.Stat(filepath.Join(dir, "crash.raw")); err != nil {
		t.Errorf("the next crash would not be written down: %v", err)
	}
	again := h.start(t, "run")
	again.await(t, 1, "studio-worker starts")
	again.stop(t)
	if strings.Contains(again.err.String(), "crashed") {
		t.Errorf("the same crash is reported twice:\n%s", again.err)
	}
}

// crash has a run of the program die, and forgets what it logged.
func (h *home) crash(t *testing.T, message string) {
	t.Helper()
	extra := h.extra
	h.extra = append(slices.Clone(extra), panicVariable+"="+message)
	crashed := h.start(t, "run")
	if code := crashed.wait(t); code == 0 {
		t.Fatalf("the program did not crash:\n%s", crashed.err)
	}
	h.extra = extra
}

// A build that was made with an address for crash reports sends none before the person has
// agreed, sends what `crashes` prints from then on, and stops when the consent is taken back.
func TestCrashesAreSentWithConsentOnly(t *testing.T) {
	h := newHome(t)
	dsn, sent := sentryDouble(t)
	h.extra = []string{dsnVariable + "=" + dsn}
	const refuses = "http://127.0.0.1:1"
	for _, config := range []string{"", "send_crash_reports = false\n"} {
		h.write(t, refuses, config)
		h.crash(t, "first")
		next := h.start(t, "run")
		next.await(t, 1, "the last run crashed")
		next.await(t, 1, "studio-worker starts")
		next.stop(t)
	}
	h.crash(t, "second")
	select { // each end of the program has sent what it still held
	case payload := <-sent:
		t.Fatalf("sent without consent:\n%s", payload)
	default:
	}
	h.write(t, refuses, "send_crash_reports = true\n")
	next := h.start(t, "run")
	next.await(t, 1, "the last run crashed")
	payload := <-sent
	next.await(t, 1, "studio-worker starts")
	if !strings.Contains(payload, "panic: [message left out]") {
		t.Errorf("what was sent does not say what happened:\n%s", payload)
	}
	for _, function := range regexp.MustCompile(`"function":"([^"]+)"`).FindAllStringSubmatch(payload, -1) {
		if shown := h.want(t, "crashes"); !strings.Contains(shown, function[1]) {
			t.Errorf("%s was sent and is not shown:\n%s", function[1], shown)
		}
	}
	next.stop(t)
	h.crash(t, "third")
	h.write(t, refuses, "")
	next = h.start(t, "run")
	next.await(t, 1, "the last run crashed")
	next.await(t, 1, "studio-worker starts")
	next.stop(t)
	select {
	case payload := <-sent:
		t.Errorf("sent after the consent was taken back:\n%s", payload)
	default:
	}
}

// The running worker follows the setting.
func TestConsentIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{observers: observe.New()}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); h.heedConsent(ctx) }()
		for _, step := range []struct {
			keys []observe.ConfigKey
			want bool
		}{
			{nil, false},
			{[]observe.ConfigKey{{Name: "only_when_idle", Value: "true"}, {Name: "send_crash_reports", Value: "true"}}, true},
			{nil, true}, // nothing is known: as before
			{[]observe.ConfigKey{{Name: "send_crash_reports", Value: "false"}}, false},
		} {
			h.observers.Config.Set(step.keys)
			synctest.Wait()
			if h.agreed.Load() != step.want {
				t.Errorf("after %+v: %v", step.keys, h.agreed.Load())
			}
		}
		stop()
		<-done
	})
}

const plainCrash = `panic: runtime error: index out of range [5] with length 3 [recovered, repanicked]

goroutine 42 [running]:
studioworker/worker/job.(*Runner).work(0xc000123456, {0x1234, 0x5})
	/home/ada/src/studioworker/worker/job/runner.go:123 +0x1d
studioworker/worker/job.(*Runner).Run.func1()
	/home/ada/src/studioworker/worker/job/runner.go:99 +0x25
created by studioworker/worker.(*Worker).Run in goroutine 1
	/home/ada/src/studioworker/worker/worker.go:140 +0x3a

goroutine 1 [select]:
main.main()
	/home/ada/src/studioworker/main.go:12 +0x1
`

func TestCrashReportNamesTheCode(t *testing.T) {
	r := readCrash(strings.NewReader(plainCrash))
	want := []crashFrame{
		{"studioworker/worker/job.(*Runner).work", "job/runner.go", 123},
		{"studioworker/worker/job.(*Runner).Run.func1", "job/runner.go", 99},
	}
	if r.what != "panic: runtime error: index out of range [5] with length 3" || !slices.Equal(r.frames, want) {
		t.Errorf("%q, %+v, want %+v", r.what, r.frames, want)
	}
	e := r.event()
	frames := e.Exception[0].Stacktrace.Frames
	last := frames[len(frames)-1]
	if e.Level != sentry.LevelFatal || last.Module != "studioworker/worker/job" || last.Function != "(*Runner).work" || !last.InApp {
		t.Errorf("event %+v with %+v", e.Level, last)
	}
	if got := r.LogValue().String(); got != "studioworker/worker/job.(*Runner).work at job/runner.go:123" {
		t.Errorf("log value %q", got)
	}
}

func TestOnlyTheNewestReportsStay(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{
		"01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12",
	} {
		if err := os.WriteFile(filepath.Join(dir, "crash-202601"+name+"T000000Z.txt"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := pruneCrashes(dir); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != keptCrashes || !strings.HasSuffix(left[0], "crash-20260103T000000Z.txt") {
		t.Errorf("left %v, %v", left, err)
	}
}

// waitingReport puts a report beside a config, as the start after a crash does.
func waitingReport(t *testing.T, dir, at string) (*host, string) {
	t.Helper()
	r := readCrash(strings.NewReader(plainCrash))
	when, err := time.Parse(crashStamp, at)
	if err != nil {
		t.Fatal(err)
	}
	r.at = when
	path := filepath.Join(dir, crashFolder, "crash-"+at+".txt")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(r.text()), 0o600); err != nil {
		t.Fatal(err)
	}
	return &host{path: filepath.Join(dir, "config.toml"), observers: observe.New(), log: slog.New(slog.DiscardHandler)}, path
}

// A report that nobody has agreed to send waits for the person at the window, who sends or
// discards each by itself.
func TestWaitingReportIsSentOrDiscarded(t *testing.T) {
	dsn, sent := sentryDouble(t)
	was := CrashDSN
	t.Cleanup(func() { CrashDSN = was })
	CrashDSN = dsn
	dir := t.TempDir()
	_, first := waitingReport(t, dir, "20260101T000000Z")
	h, second := waitingReport(t, dir, "20260102T000000Z")
	h.showCrash()
	shown := h.observers.Crash.Get()
	text, err := os.ReadFile(second)
	if err != nil || shown.Text != string(text) || !shown.Sendable || shown.ID != "crash-20260102T000000Z.txt" {
		t.Fatalf("shows %+v, %v", shown, err)
	}
	if err := h.SendCrash(t.Context(), "../config.toml"); err == nil {
		t.Error("another file was sent")
	}
	if err := h.SendCrash(t.Context(), shown.ID); err != nil {
		t.Fatal(err)
	}
	payload := <-sent
	for _, want := range []string{"(*Runner).work", "job/runner.go", "index out of range", "studio-worker@" + Version} {
		if !strings.Contains(payload, want) {
			t.Errorf("%q was not sent:\n%s", want, payload)
		}
	}
	next := h.observers.Crash.Get()
	if next.ID != filepath.Base(first) {
		t.Fatalf("then shows %+v", next)
	}
	if err := h.SendCrash(t.Context(), shown.ID); err == nil {
		t.Error("a report was sent twice")
	}
	CrashDSN = ""
	if err := h.SendCrash(t.Context(), next.ID); err == nil {
		t.Error("sent to nowhere")
	}
	if err := h.DiscardCrash(t.Context(), next.ID); err != nil || h.observers.Crash.Get().ID != "" {
		t.Errorf("discarded: %v, shows %+v", err, h.observers.Crash.Get())
	}
	left, err := filepath.Glob(filepath.Join(dir, crashFolder, "*"))
	if err != nil || len(left) != 1 || !strings.HasSuffix(left[0], settledCrash) {
		t.Errorf("left %v, %v", left, err)
	}
	h.showCrash() // the next start
	if h.observers.Crash.Get().ID != "" {
		t.Error("a report that was sent waits again")
	}
}

func TestReportsThatAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "no head": "a\nb\n\n", "no time": "studio-worker 1 (window) crashed at 2026-13-01T00:00:00Z\nx\n\n",
		"no line":     "studio-worker 1 (window) crashed at 2026-01-01T00:00:00Z\nx\n\nmain.main\n\tx/y.go\n",
		"no function": "studio-worker 1 (window) crashed at 2026-01-01T00:00:00Z\nx\n\n\tx/y.go:1\n",
		"too long":    "studio-worker 1 (window) crashed at 2026-01-01T00:00:00Z\nx\n\n" + strings.Repeat("a", maxReport),
		"many calls":  "studio-worker 1 (window) crashed at 2026-01-01T00:00:00Z\nx\n\n" + strings.Repeat("a\n\tx/y.go:1\n", maxFrames+1),
	} {
		if _, err := parseReport([]byte(text)); !errors.Is(err, errReport) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseReport(f *testing.F) {
	r := readCrash(strings.NewReader(plainCrash))
	r.at = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f.Add(r.text())
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseReport([]byte(text))
		if err != nil {
			return
		}
		if r.text != text || len(r.frames) > maxFrames || r.event() == nil {
			t.Errorf("%+v", r)
		}
	})
}

func FuzzReadCrash(f *testing.F) {
	f.Add(plainCrash)
	f.Add("fatal error: all goroutines are asleep - deadlock!\n\ngoroutine 1 [select]:\nmain.main()\n\t/x/y.go:1 +0x1\n")
	f.Add("panic: x\ngoroutine 1 [running]:\nmain.main()\n\t/x/a\rb/y.go:1\n")
	f.Add("panic: a planted secret\ngoroutine 9 [running]:\nplanted secret(…)\n\t/planted secret.go:9\n")
	f.Fuzz(func(t *testing.T, text string) {
		r := readCrash(strings.NewReader(text))
		if len(r.frames) > maxFrames {
			t.Errorf("%d frames", len(r.frames))
		}
		for _, frame := range r.frames {
			if strings.ContainsAny(frame.function+frame.file, "\n\r") || strings.Count(frame.file, "/") > 1 {
				t.Errorf("frame %+v", frame)
			}
		}
		if len(r.event().Exception[0].Stacktrace.Frames) != len(r.frames) {
			t.Error("frames were lost on the way to the event")
		}
	})
}
