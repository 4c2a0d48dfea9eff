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
	"net/http"
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

	"studioworker/studio/client"
	"studioworker/studio/store"
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
	expect[protocol.FailAck](t, l)
	b.run(t, says("Cancelled"), says("Retry"))
	l.beat(t, "")

	// A text comes piece by piece, without the page being drawn anew.
	b.run(t, press("Jobs"), press("New job"), says("Describe the picture"), press("Text"), says("Ask or tell"), enter("prompt", "Wie heißt die Stadt?"), press("Queue the job"), says("Queued."))
	claim = l.take(t)
	b.run(t, says("It writes"))
	written := ""
	for i, piece := range []string{"Gull", "haven", ", natürlich."} {
		l.send(t, protocol.Delta{JobID: claim.JobID, Seq: i, Text: piece})
		written += piece
		b.run(t, says(written))
	}
	l.send(t, protocol.CompleteJSON{JobID: claim.JobID, Result: json.RawMessage(`{"choices":[{"message":{"role":"assistant","content":"Gullhaven, natürlich."}}]}`)})
	b.run(t, until(`!document.querySelector("[data-told]")`), says("Gullhaven, natürlich."))
	expect[protocol.CompleteAck](t, l)
	l.beat(t, "")

	// The veil: neither prompt nor result is on a page, and that is remembered.
	veil := until(`(() => { const eye = document.querySelector("button.icon"); eye.click(); return eye; })()`)
	var page string
	b.run(t, veil, until(`document.querySelector("button.icon[aria-pressed=true]")`), chromedp.Navigate(f.url+"/jobs/"+claim.JobID), says("Hidden."), chromedp.Evaluate(`document.documentElement.outerHTML`, &page))
	if strings.Contains(page, "Wie heißt") || strings.Contains(page, "Gullhaven") {
		t.Error("the veiled page tells what the job is about")
	}
	b.run(t, press("Jobs"), veil, until(`document.querySelector("button.icon[aria-pressed=false]")`), says("Wie heißt die Stadt?"))

	// A dead letter is queued again, and discarded.
	dead := f.submit(t, imageJob).ID
	l.die(t, "the engine ended: not enough GPU memory")
	b.run(t, press("Overview"), says("1 job has failed for good."), press("Look at it"), says("not enough GPU memory"), press("Retry Image"), says("Queued again."))
	if id := l.die(t, "the engine ended once more"); id != dead {
		t.Errorf("offered %s", id)
	}
	b.run(t, says("the engine ended once more"), press("Image"), says("Attempts that came to nothing"), says("not enough GPU memory"), press("Failed jobs"),
		press("Discard… Image"), until(`document.querySelector("details[open] button")`), until(`(document.querySelector("details[open] button").click(), true)`), says("Discarded."), says("No job has failed."))

	b.run(t, press("Webhooks"), enter("url", "https://hooks.example/studio"), press("Add the webhook"), says("shown once"))
	var signing string
	b.run(t, chromedp.Evaluate(`document.getElementById("secret").value`, &signing), press("Done"), says("Nothing sent yet"), chromedp.Evaluate(`document.documentElement.outerHTML`, &page))
	if !strings.HasPrefix(signing, secretPrefix) || strings.Contains(page, signing) {
		t.Errorf("the secret %q is not shown once", signing)
	}
	b.run(t, press("Remove… https://hooks.example/studio"), until(`(document.querySelector("details[open] button")?.click(), document.querySelector("details[open]"))`), says("It is told nothing more"), says("There is none yet."))

	b.run(t, press("Models"), press("New model"), enter("id", "town/namer-3b"), until(`(document.querySelector("[name=kind][value=llm]").click(), true)`),
		enter("url-0", "https://models.example/files/town-q4.gguf?download=1"), enter("role-0", "model"),
		until(`(document.querySelector("[name=engine]").value = "llama-cpp", true)`), press("Save"), says("Saved."), says("town/namer-3b"))
	model, err := f.operator.Model(t.Context(), "town/namer-3b")
	if err != nil || len(model.ModelSource.Files) != 1 || model.ModelSource.Files[0].Filename != "town-q4.gguf" || model.ModelSource.Engine != protocol.EngineLlamaCpp {
		t.Errorf("stored %+v, %v", model, err)
	}
	b.run(t, press("town/namer-3b"), says("Remove this model"), enter("vram", "4,5"), press("Save"), says("4.5 GB GPU memory"), press("town/namer-3b"), press("Remove this model…"), press("Remove"),
		until(`(document.querySelector("#remove button")?.click(), true)`), says("Jobs that were queued with it keep it."))
	if _, err := f.operator.Model(t.Context(), "town/namer-3b"); !isStatus(err, 404) {
		t.Errorf("the model is still there: %v", err)
	}

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
	b.run(t, chromedp.Evaluate(`document.documentElement.outerHTML`, &page))
	if strings.Contains(page, key) {
		t.Error("the page still shows the key")
	}

	b.run(t, press("Audit"), says("revoke key"))
	for _, did := range []string{"create key", "cancel job", "approve worker", "sign in", "Sam"} {
		b.run(t, says(did))
	}
	other := f.visitor(t)
	other.enter(t)
	b.run(t, press("Sam"), says("this browser"), press("Sign out everywhere…"), press("Sign out all"), says("Operator token"), chromedp.Navigate(f.url+"/jobs"), says("Operator token"))
	if resp, _ := other.get(t, "/jobs"); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("the other browser is still signed in: %s", resp.Status)
	}
	b.quiet(t)
}

// office fills a folder with the jobs of a day in a farm, of which some went wrong.
func office(t *testing.T, dir string) {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{Dir: dir, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	prompts := []string{
		"Ein alter Hafen in der Dämmerung, vertäute Boote am Kai, warmes Licht in den Fenstern, Möwen über dem Wasser, Ölgemälde im Stil der Düsseldorfer Schule, sehr fein gezeichnet, hohe Auflösung, keine Menschen",
		"lighthouse", "Write a friendly answer to the tenant in flat 3b, who asks for the third time when the heating will be mended",
		"Übersetze die Anleitung für den Geschirrspüler ins Englische, förmlich, ohne die Warnhinweise zu kürzen", "a map of an island that looks like a sleeping cat",
	}
	workers := []string{"wk-attic", "wk-werkstatt"}
	now := time.Now().UTC()
	for n := range 140 {
		end := now.Add(-time.Duration(n) * 11 * time.Minute)
		run, wait := time.Duration(4+n%9*7)*time.Second, time.Duration(1+n%13)*time.Second
		rec := store.Job{
			ID: fmt.Sprintf("%016x-%012d", end.Add(-run-wait).UnixNano(), n), State: store.Done, Model: "synthetic-image", Attempts: 1, WorkerID: workers[n%2],
			CreatedAt: end.Add(-run - wait), StartedAt: end.Add(-run), FinishedAt: end, Priority: n % 2,
			Task: protocol.Task{Kind: protocol.KindImage, Image: &protocol.ImageTask{Prompt: prompts[n%len(prompts)], Width: 512, Height: 512, Steps: 20, Ext: "png"}},
		}
		if n%3 == 0 {
			rec.Model, rec.Task = "Qwen3-Coder-30B-A3B-Instruct-Q4_K_M", protocol.Task{Kind: protocol.KindLLM, LLM: &protocol.LLMTask{Messages: []protocol.Message{{Role: "user", Content: prompts[n%len(prompts)]}}, MaxTokens: 64}}
		}
		if n%11 == 5 {
			rec.State, rec.Attempts, rec.Result = store.Failed, 3, nil
			rec.Error = "llama-server ended before it was ready: error loading model: unable to allocate CUDA0 buffer of 17,448,304,640 bytes; the last lines were: ggml_backend_cuda_buffer_type_alloc_buffer: allocating 16640.00 MiB on device 0: cudaMalloc failed: out of memory"
			rec.Past = []store.Attempt{
				{Number: 1, WorkerID: workers[0], StartedAt: end.Add(-3 * time.Minute), EndedAt: end.Add(-2 * time.Minute), Error: "the worker was lost"},
				{Number: 2, WorkerID: workers[1], StartedAt: end.Add(-2 * time.Minute), EndedAt: end.Add(-time.Minute), Error: rec.Error},
				{Number: 3, WorkerID: workers[0], StartedAt: end.Add(-run), EndedAt: end, Error: rec.Error},
			}
		}
		if _, err := st.Jobs.Create(t.Context(), rec.ID, rec); err != nil {
			t.Fatal(err)
		}
	}
	for i, w := range workers {
		rec := store.Worker{ID: w, InstallID: w, Name: []string{"attic-pc", "Werkstatt-Rechner-Süd-mit-einem-sehr-langen-Namen-2.fritz.box"}[i], Username: []string{"sam", "jörg.müller-lüdenscheidt"}[i], TokenHash: hashed(secret), CreatedAt: now.Add(-240 * time.Hour)}
		if _, err := st.Workers.Create(t.Context(), rec.ID, rec); err != nil {
			t.Fatal(err)
		}
	}
	for i, url := range []string{"https://hooks.example/studio?team=büro", "https://automation.intern.example.org/api/v2/workflows/7f3c1a/triggers/render-finished"} {
		hook := store.Webhook{ID: fmt.Sprintf("%s%d", hookPrefix, i), URL: url, All: i == 0, Secret: newHookSecret(), CreatedAt: now.Add(-48 * time.Hour)}
		if _, err := st.Webhooks.Create(t.Context(), hook.ID, hook); err != nil {
			t.Fatal(err)
		}
	}
	told := store.Job{
		ID: fmt.Sprintf("%016x-%012d", now.Add(-90*time.Second).UnixNano(), 999), State: store.Cancelled, Model: "synthetic-image", Error: cancelledText,
		CreatedAt: now.Add(-90 * time.Second), FinishedAt: now.Add(-80 * time.Second), Task: protocol.Task{Kind: protocol.KindImage, Image: &protocol.ImageTask{Prompt: "fog"}},
		Hooks: []store.Hook{
			{ID: hookPrefix + "0", Attempts: 1, Done: true, At: now.Add(-79 * time.Second)},
			{ID: hookPrefix + "1", Attempts: 9, Done: true, At: now.Add(-20 * time.Second), Error: "Post \"https://automation.intern.example.org/\": dial tcp: lookup automation.intern.example.org: no such host"},
		},
	}
	if _, err := st.Jobs.Create(t.Context(), told.ID, told); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

// dashboardPages are all pages, with a state of the farm that shows what they
// have to show.
func dashboardPages(t *testing.T) (f *farm, pages map[string]string) {
	t.Helper()
	dir := t.TempDir()
	office(t, dir)
	f = newFarm(t, func(c *Config) {
		c.Data, c.HeartbeatTooOld, c.LostAfter = dir, time.Hour, time.Hour // the workers are silent while the pages are looked at
	})
	w := &fake{farm: f, id: "wk-attic", token: secret, caps: capabilities()}
	w.caps.Features = protocol.Features()
	l := w.connect(t, "")
	away := &fake{farm: f, id: "wk-werkstatt", token: secret, caps: capabilities()}
	away.caps.MachineName, away.caps.AutoEnabled = "Werkstatt-Rechner-Süd-mit-einem-sehr-langen-Namen-2.fritz.box", false
	away.connect(t, "")
	var lines []protocol.LogEntry
	for n := range maxLogEntries + 40 {
		lines = append(lines, protocol.LogEntry{TS: fmt.Sprintf("2026-05-04T03:%02d:%02d.000Z", n/60%60, n%60), Level: protocol.LevelInfo, Category: "ws", Message: "heartbeat acknowledged"})
	}
	l.send(t, protocol.LogBatch{Entries: append(lines,
		protocol.LogEntry{TS: "2026-05-04T04:02:07.500Z", Level: protocol.LevelWarn, Category: "engine", Message: "the model is loaded from a slow disk, which takes a while: 212 seconds for 6.9 GB"},
		protocol.LogEntry{TS: "2026-05-04T04:02:09.000Z", Level: protocol.LevelError, Category: "engine", Message: "out of memory: " + strings.Repeat("cudaMalloc failed; ", 12)},
	)})
	done := f.submit(t, imageJob).ID
	l.take(t)
	l.send(t, protocol.LogBatch{Entries: []protocol.LogEntry{{TS: "2026-05-04T04:03:00.000Z", Level: protocol.LevelInfo, Category: "job", Message: "20 steps in 4.1 s", JobID: done}}})
	w.sendResult(t, done, "png", picture(t))
	l.beat(t, "")
	f.await(t, done, in("done"))
	text := f.submit(t, llmJob).ID
	l.take(t)
	l.send(t, protocol.CompleteJSON{JobID: text, Result: json.RawMessage(`{"choices":[{"message":{"role":"assistant","content":"Gullhaven, a town of nets and fog."}}]}`)})
	expect[protocol.CompleteAck](t, l)
	l.beat(t, "")
	f.await(t, text, in("done"))
	running := f.submit(t, `{"model":"synthetic-llm","task":{"kind":"llm","messages":[{"role":"user","content":"Erzähle von einem alten Hafen in der Dämmerung, von vertäuten Booten und warmem Licht."}]}}`).ID
	l.take(t)
	l.send(t, protocol.Progress{JobID: running, Step: 12, Total: 20, Message: "writing"})
	l.send(t, protocol.Delta{JobID: running, Text: "Am Ende der Mole, wo das Öl der Kutter bunte Schlieren zieht, "})
	waiting := f.submit(t, imageJob).ID
	if err := f.studio.hub.change(t.Context(), f.studio.hub.job(waiting), func(rec *store.Job) error {
		rec.Past, rec.Attempts = []store.Attempt{{Number: 1, WorkerID: "wk-gone", EndedAt: time.Now().UTC(), Error: "the worker was lost"}}, 1
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	failed := f.studio.hub.list("", 1, func(j *job) bool { return j.now().State == store.Failed })[0].id
	f.studio.cfg.AutoApprove = false
	f.register(t, "install-9", secret)
	for _, name := range []string{"the office bot", "Übersetzungsdienst der Hausverwaltung Köln-Mülheim (nur Texte, nicht für Bilder verwenden)"} {
		f.key(t, client.KeyRequest{Name: name})
	}
	model := client.ModelRecord{
		ID: "Qwen3-Coder-30B-A3B-Instruct-Q4_K_M", Aliases: []string{"gpt-4o-mini", "büro"}, Kinds: []protocol.TaskKind{protocol.KindLLM}, Default: true, VRAMGBEstimate: 17.4,
		ModelSource: protocol.ModelSource{Engine: protocol.EngineLlamaCpp, CLIDefaults: protocol.CLIDefaults{CfgScale: 1, Steps: 1, Width: 512, Height: 512}, Files: []protocol.ModelFile{
			{Role: "model", URL: "https://models.example/qwen3/resolve/main/Qwen3-Coder-30B-A3B-Instruct-Q4_K_M.gguf", Filename: "Qwen3-Coder-30B-A3B-Instruct-Q4_K_M.gguf"},
		}},
	}
	if _, err := f.operator.PutModel(t.Context(), model); err != nil {
		t.Fatal(err)
	}
	return f, map[string]string{
		"overview": "/", "workers": "/workers", "worker": "/workers/" + w.id, "approval": "/registrations", "jobs": "/jobs", "jobs-none": "/jobs?state=offered",
		"job-done": "/jobs/" + done, "job-text": "/jobs/" + text, "job-failed": "/jobs/" + failed, "job-running": "/jobs/" + running, "job-waiting": "/jobs/" + waiting,
		"failed": "/jobs/failed", "new-image": "/jobs/new", "new-text": "/jobs/new?kind=llm", "new-speech": "/jobs/new?kind=audio_stt", "models": "/models",
		"model": "/models/edit?id=" + model.ID, "model-new": "/models/edit", "keys": "/keys", "webhooks": "/webhooks", "sessions": "/sessions", "audit": "/audit",
		"not-found": "/nothing",
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
		look(name, 1280, "light")
		look(name, 390, "dark")
		if pictures != "" { // what the two others could show is in these
			look(name, 1280, "dark")
			look(name, 390, "light")
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
	b.run(t, chromedp.Navigate(f.url+"/webhooks"), enter("url", "https://hooks.example/another"), press("Add the webhook"), says("shown once"))
	each("new-webhook")
	b.run(t, chromedp.Navigate(f.url+pages["job-done"]), until(`(() => { const eye = document.querySelector("button.icon"); eye.click(); return eye; })()`), says("Hidden."))
	each("job-veiled")
	empty := newFarm(t, nil)
	b.signIn(t, empty)
	for name, path := range map[string]string{"overview": "/", "workers": "/workers", "approval": "/registrations", "jobs": "/jobs", "failed": "/jobs/failed", "keys": "/keys", "webhooks": "/webhooks"} {
		b.run(t, chromedp.Navigate(empty.url+path), until(`document.readyState === "complete" && document.querySelector("main")`))
		each(name + "-empty")
	}
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
