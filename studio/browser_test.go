package studio

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"studioworker/worker/protocol"
)

// Where the pictures of the dashboard go, when somebody wants to look at them.
const picturesVariable = "STUDIO_TEST_PICTURES"

const browserPatience = 90 * time.Second // a browser starts slowly on a busy machine

// browser is a Chromium with one page, which says what it complains about.
type browser struct {
	// do carries actions out in the page; with a limit it gives up after that.
	do func(limit time.Duration, actions ...chromedp.Action) error

	mu         sync.Mutex
	complaints []string
}

// openBrowser starts the system's Chromium on a folder of its own.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			program = found
			break
		}
	}
	if program == "" {
		t.Skip("THE DASHBOARD IS NOT TESTED: no Chromium on this computer; scripts/setup test installs it")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("lang", "en-GB"), chromedp.WSURLReadTimeout(browserPatience))
	allocator, stopAllocator := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	ctx, stop := chromedp.NewContext(allocator)
	b := &browser{do: func(limit time.Duration, actions ...chromedp.Action) error {
		ctx := ctx
		if limit > 0 { // the first run has none: it starts the browser, which lives as long as its context
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, limit)
			defer cancel()
		}
		return chromedp.Run(ctx, actions...)
	}}
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("end the browser: %v", err)
		}
		stop()
		stopAllocator()
	})
	chromedp.ListenTarget(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			b.complain("exception: " + e.ExceptionDetails.Error())
		case *runtime.EventConsoleAPICalled:
			if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning {
				var text []string
				for _, arg := range e.Args {
					text = append(text, string(arg.Value)+arg.Description)
				}
				b.complain("console: " + strings.Join(text, " "))
			}
		case *cdplog.EventEntryAdded:
			if e.Entry.Level == cdplog.LevelError || e.Entry.Level == cdplog.LevelWarning {
				b.complain(fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
			}
		}
	})
	if err := b.do(0); err != nil {
		t.Fatalf("start the browser: %v", err)
	}
	b.run(t, cdplog.Enable(), runtime.Enable())
	return b
}

func (b *browser) complain(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.complaints = append(b.complaints, text)
}

// quiet checks that the browser had nothing to complain about.
func (b *browser) quiet(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, text := range b.complaints {
		t.Errorf("the browser complains: %s", text)
	}
	b.complaints = nil
}

func (b *browser) run(t *testing.T, actions ...chromedp.Action) {
	t.Helper()
	if err := b.do(browserPatience, actions...); err != nil {
		var text string
		if b.do(browserPatience, chromedp.Evaluate(`document.body.innerText`, &text)) != nil {
			text = "nothing"
		}
		t.Fatalf("%v; the page says:\n%s", err, text)
	}
}

// until waits for a JavaScript expression to be true, on whatever page comes.
func until(expression string) chromedp.Action {
	return chromedp.ActionFunc(func(ctx context.Context) error {
		look := time.NewTicker(20 * time.Millisecond)
		defer look.Stop()
		for {
			var ok bool
			// A page that is just leaving answers with an error.
			if err := chromedp.Evaluate("!!document.body && !!("+expression+")", &ok).Do(ctx); err == nil && ok {
				return nil
			}
			select {
			case <-look.C:
			case <-ctx.Done():
				return fmt.Errorf("waiting for %s: %w", expression, ctx.Err())
			}
		}
	})
}

// says waits for a text on the page.
func says(text string) chromedp.Action {
	data, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return until(fmt.Sprintf("document.body.innerText.includes(%s)", data))
}

// press activates the visible button or link with that text. The page does it
// itself: a click by coordinates misses when the page is just brought up to date.
func press(text string) chromedp.Action {
	data, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return until(fmt.Sprintf(`(() => {
		const found = [...document.querySelectorAll("button, a, summary")].find(e => e.checkVisibility() && e.innerText.replace(/\s+/g, " ").trim().startsWith(%s));
		if (found) found.click();
		return found;
	})()`, data))
}

// enter types into a field.
func enter(name, text string) chromedp.Action {
	return chromedp.Tasks{until(fmt.Sprintf(`(() => {
		const field = document.querySelector('[name=%q]:not([type=hidden])');
		if (field) field.focus();
		return field && document.activeElement === field;
	})()`, name)), input.InsertText(text)}
}

// signIn opens the dashboard and signs in.
func (b *browser) signIn(t *testing.T, f *farm) {
	t.Helper()
	b.run(t, chromedp.Navigate(f.url+"/"), says("Operator token"), enter("name", "Sam"), enter("token", f.token), press("Sign in"), says("Workers connected"))
}

// view sets the width of the window, and dark or light.
func view(width int64, scheme string) chromedp.Action {
	return chromedp.Tasks{
		emulation.SetDeviceMetricsOverride(width, 800, 1, width < 700),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
	}
}

// picture is a result that is easy to recognize.
func picture(t *testing.T) []byte {
	t.Helper()
	const side = 256
	img := image.NewRGBA(image.Rect(0, 0, side, side))
	for y := range side {
		for x := range side {
			img.SetRGBA(x, y, color.RGBA{R: uint8(x), G: uint8(y), B: 160, A: 255})
		}
	}
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func (w *fake) sendResult(t *testing.T, job, ext string, data []byte) {
	t.Helper()
	if status, body := w.upload(t, job, ext, data); status != 200 {
		t.Fatalf("complete answered %d %s", status, body)
	}
}

// TestDashboardInABrowser walks the way of an operator: sign in, approve, queue,
// watch, cancel, make a key and revoke it.
func TestDashboardInABrowser(t *testing.T) {
	b := openBrowser(t)
	f := newFarm(t, func(c *Config) { c.AutoApprove = false })
	b.signIn(t, f)
	request := f.register(t, "install-1", secret)
	// The page finds out by itself.
	b.run(t, says("waits for approval"), press("Approval"), says("attic-pc"), press("Approve attic-pc"), says("Approved. The worker connects"))
	answer := f.poll(t, request, secret)
	if answer.Status != protocol.StatusApproved {
		t.Fatalf("poll says %q", answer.Status)
	}
	w := &fake{farm: f, id: answer.WorkerID, token: answer.AuthToken, caps: capabilities()}
	w.caps.Features = protocol.Features()
	b.run(t, press("Workers"), says("Not connected"))
	l := w.connect(t, "")
	b.run(t, says("Idle"), says("16 GB GPU memory"))

	b.run(t, press("Jobs"), press("New job"), says("Describe the picture"), enter("prompt", "a lighthouse in fog"), press("Queue the job"), says("Queued."))
	claim := l.take(t)
	l.send(t, protocol.Progress{JobID: claim.JobID, Step: 3, Total: 20, Message: "denoising"})
	b.run(t, says("step 3 of 20"), says("denoising"))
	l.send(t, protocol.LogBatch{Entries: []protocol.LogEntry{{TS: "2026-05-04T03:02:01.000Z", Level: protocol.LevelInfo, Category: "job", Message: "the lamp is lit", JobID: claim.JobID}}})
	b.run(t, says("the lamp is lit"))
	w.sendResult(t, claim.JobID, "png", picture(t))
	l.beat(t, "")
	b.run(t, says("Done"), until(`document.querySelector("img.preview")?.naturalWidth === 256`))

	b.run(t, press("Run again"), says("Queued as a new job."))
	claim = l.take(t)
	b.run(t, says("Running"), press("Cancel…"), press("Cancel the job"), says("The worker is stopping it."))
	expect[protocol.Cancel](t, l)
	l.send(t, protocol.Fail{JobID: claim.JobID, Error: "cancelled"})
	b.run(t, says("Cancelled"), says("Retry"))

	b.run(t, press("Keys"), enter("name", "the office bot"), press("Create the key"), says("shown once"))
	var key string
	b.run(t, chromedp.Evaluate(`document.getElementById("key").value`, &key))
	if status, data := f.call(t, "GET", "/api/v1/jobs", key, nil); status != 200 {
		t.Errorf("the new key: %d %s", status, data)
	}
	b.run(t, press("Done"), says("the office bot"), press("Revoke…"), until(`document.querySelector("details[open] button")`), until(`(document.querySelector("details[open] button").click(), true)`), says("Revoked. Programs"))
	if status, _ := f.call(t, "GET", "/api/v1/jobs", key, nil); status != 401 {
		t.Errorf("the revoked key: %d", status)
	}
	var page string
	b.run(t, chromedp.Evaluate(`document.documentElement.outerHTML`, &page))
	if strings.Contains(page, key) {
		t.Error("the page still shows the key")
	}

	b.run(t, press("Audit"), says("revoke key"))
	for _, did := range []string{"create key", "cancel job", "approve worker", "sign in", "Sam"} {
		b.run(t, says(did))
	}
	b.run(t, press("Sign out"), says("Operator token"), chromedp.Navigate(f.url+"/jobs"), says("Operator token"))
	b.quiet(t)
}

// dashboardPages are all pages, with a state of the farm that shows what they
// have to show.
func dashboardPages(t *testing.T) (f *farm, pages map[string]string) {
	t.Helper()
	f = newFarm(t, nil)
	w := f.worker(t)
	w.caps.Features = protocol.Features()
	l := w.connect(t, "")
	l.send(t, protocol.LogBatch{Entries: []protocol.LogEntry{
		{TS: "2026-05-04T03:02:01.000Z", Level: protocol.LevelInfo, Category: "ws", Message: "connected to the studio"},
		{TS: "2026-05-04T03:02:07.500Z", Level: protocol.LevelWarn, Category: "engine", Message: "the model is loaded from a slow disk, which takes a while: 212 seconds for 6.9 GB"},
		{TS: "2026-05-04T03:02:09.000Z", Level: protocol.LevelError, Category: "engine", Message: "out of memory"},
	}})
	away := f.worker(t)
	away.caps.MachineName = "kitchen"
	done := f.submit(t, imageJob).ID
	l.take(t)
	w.sendResult(t, done, "png", picture(t))
	l.beat(t, "")
	f.await(t, done, in("done"))
	text := f.submit(t, llmJob).ID
	l.take(t)
	l.send(t, protocol.CompleteJSON{JobID: text, Result: json.RawMessage(`{"choices":[{"message":{"role":"assistant","content":"Gullhaven, a town of nets and fog."}}]}`)})
	expect[protocol.CompleteAck](t, l)
	l.beat(t, "")
	f.await(t, text, in("done"))
	failed := f.submit(t, imageJob).ID
	l.take(t)
	l.send(t, protocol.Fail{JobID: failed, Error: "the engine ended: not enough GPU memory for 4096 × 4096"})
	expect[protocol.FailAck](t, l)
	l.beat(t, "")
	f.await(t, failed, in("failed"))
	running := f.submit(t, `{"model":"synthetic-image","task":{"kind":"image","prompt":"an old harbour at dusk, boats tied to the quay, warm light in the windows"}}`).ID
	l.take(t)
	l.send(t, protocol.Progress{JobID: running, Step: 12, Total: 20, Message: "denoising"})
	f.submit(t, llmJob)
	f.studio.cfg.AutoApprove = false
	f.register(t, "install-9", secret)
	status, data := f.call(t, "POST", "/api/v1/keys", f.token, strings.NewReader(`{"name":"the office bot"}`))
	if status != 201 {
		t.Fatalf("a key: %d %s", status, data)
	}
	return f, map[string]string{
		"overview": "/", "workers": "/workers", "worker": "/workers/" + w.id, "approval": "/registrations", "jobs": "/jobs",
		"job-done": "/jobs/" + done, "job-text": "/jobs/" + text, "job-failed": "/jobs/" + failed, "job-running": "/jobs/" + running,
		"new-image": "/jobs/new", "new-text": "/jobs/new?kind=llm", "new-speech": "/jobs/new?kind=audio_stt", "models": "/models",
		"keys": "/keys", "audit": "/audit", "not-found": "/nothing",
	}
}

// TestDashboardPages looks at every page, wide and narrow, dark and light: axe
// finds nothing serious, nothing is wider than the window, and the browser does
// not complain.
func TestDashboardPages(t *testing.T) {
	b := openBrowser(t)
	axe := axeSource(t)
	f, pages := dashboardPages(t)
	pictures := os.Getenv(picturesVariable)
	look := func(name string, width int64, scheme string) {
		t.Helper()
		var problems string
		var tooWide bool
		b.run(t, view(width, scheme), chromedp.Evaluate(`document.documentElement.scrollWidth > window.innerWidth`, &tooWide))
		if tooWide {
			t.Errorf("%s is wider than %d px", name, width)
		}
		if pictures != "" {
			var shot []byte
			b.run(t, chromedp.FullScreenshot(&shot, 100))
			path := filepath.Join(pictures, fmt.Sprintf("%s-%d-%s.png", name, width, scheme))
			if err := os.WriteFile(path, shot, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		b.run(t, chromedp.Evaluate(axe+`;0`, nil),
			chromedp.Evaluate(`axe.run(document, {resultTypes: ["violations"]}).then(r => r.violations.filter(v => v.impact === "serious" || v.impact === "critical")
				.map(v => v.impact + " " + v.id + ": " + v.help + " " + v.nodes.map(n => n.target + " " + n.html + " " + n.failureSummary).join("; ")).join("\n"))`,
				&problems, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
		if problems != "" {
			t.Errorf("%s at %d px, %s:\n%s", name, width, scheme, problems)
		}
	}
	each := func(name string) {
		for _, width := range []int64{1280, 390} {
			for _, scheme := range []string{"dark", "light"} {
				look(name, width, scheme)
			}
		}
	}
	b.run(t, chromedp.Navigate(f.url+"/"), says("Operator token"))
	each("sign-in")
	b.signIn(t, f)
	for name, path := range pages {
		b.run(t, chromedp.Navigate(f.url+path), until(`document.readyState === "complete" && document.querySelector("main")`))
		each(name)
	}
	b.run(t, chromedp.Navigate(f.url+"/keys"), enter("name", "another"), press("Create the key"), says("shown once"))
	each("new-key")
	b.mu.Lock() // the page that is not there is one
	for i, text := range b.complaints {
		if strings.HasSuffix(text, "/nothing") && strings.Contains(text, "404") {
			b.complaints = append(b.complaints[:i], b.complaints[i+1:]...)
			break
		}
	}
	b.mu.Unlock()
	b.quiet(t)
}

// axeSource returns the checker of accessibility, which npm brings in the version
// that is written down in testdata/axe.
func axeSource(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("THE DASHBOARD'S ACCESSIBILITY IS NOT TESTED: no npm on this computer; scripts/setup test installs it")
	}
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json"} {
		data, err := fs.ReadFile(os.DirFS("testdata/axe"), name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "npm", "ci", "--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	source, err := os.ReadFile(filepath.Join(dir, "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	return string(source)
}
