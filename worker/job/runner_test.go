package job

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"image"
	"image/png"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"studioworker/worker/engine"
	"studioworker/worker/observe"
	"studioworker/worker/outbox"
	"studioworker/worker/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// runs is an engine made of a function.
type runs func(ctx context.Context, req engine.Request, progress func(engine.Progress)) (engine.Result, error)

func (r runs) ID() engine.ID                    { return "test" }
func (r runs) Models() map[engine.Kind][]string { return nil }
func (r runs) Run(ctx context.Context, req engine.Request, progress func(engine.Progress)) (engine.Result, error) {
	return r(ctx, req, progress)
}

// makes is an engine that leaves data as its result.
func makes(ext, data string) runs {
	return func(_ context.Context, req engine.Request, _ func(engine.Progress)) (engine.Result, error) {
		return leave(req, ext, data)
	}
}

func leave(req engine.Request, ext, data string) (engine.Result, error) {
	err := os.WriteFile(filepath.Join(req.Dir, "made."+ext), []byte(data), 0o600)
	return engine.Result{File: "made." + ext, Ext: ext}, err
}

// link is a session of the test.
type link struct {
	features []string
	frames   chan protocol.WorkerFrame // what was sent
	send     func(protocol.WorkerFrame) error
}

func newLink(features ...string) *link {
	return &link{features: features, frames: make(chan protocol.WorkerFrame, 1024)}
}

func (l *link) Has(feature string) bool { return slices.Contains(l.features, feature) }

func (l *link) Send(ctx context.Context, f protocol.WorkerFrame) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if l.send != nil {
		if err := l.send(f); err != nil {
			return err
		}
	}
	l.frames <- f
	return nil
}

// next is the next frame, which must be of type F.
func next[F protocol.WorkerFrame](t *testing.T, l *link) F {
	t.Helper()
	select {
	case f := <-l.frames:
		if f, ok := f.(F); ok {
			return f
		}
		t.Fatalf("sent %s %+v", f.Type(), f)
	case <-time.After(patience):
		t.Fatal("no frame was sent")
	}
	panic("unreachable")
}

func (l *link) silent(t *testing.T) {
	t.Helper()
	select {
	case f := <-l.frames:
		t.Errorf("sent %s %+v", f.Type(), f)
	default:
	}
}

// text is a log that several goroutines write.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *text) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *text) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// door refuses offers while it is told to.
type door struct {
	mu     sync.Mutex
	reason string
	code   protocol.RejectCode
}

func (d *door) Refusal() (reason string, code protocol.RejectCode, refused bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reason, d.code, d.reason != ""
}

// RefusalOf judges one offer like all others.
func (d *door) RefusalOf(context.Context, protocol.Claim) (reason string, code protocol.RejectCode, refused bool) {
	return d.Refusal()
}

func (d *door) refuse(reason string, code protocol.RejectCode) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reason, d.code = reason, code
}

// fixture is a runner over a real outbox.
type fixture struct {
	*Runner

	root   string
	outbox *outbox.Outbox
	door   *door
	seen   *observe.WorkerObservers
	log    *text
	stop   func() // ends Run and waits for it
	ran    atomic.Int32
}

// counting is an engine that counts its runs.
type counting struct {
	engines
	n *atomic.Int32
}

func (c counting) Run(ctx context.Context, req engine.Request, progress func(engine.Progress)) (engine.Result, error) {
	c.n.Add(1)
	return c.engines.Run(ctx, req, progress)
}

// counts checks how often an engine ran, and how many results the studio has taken.
func (f *fixture) counts(t *testing.T, ran, delivered int) {
	t.Helper()
	rows, _ := f.seen.RecentJobs.Since(0)
	taken := 0
	for _, row := range rows {
		if row.Outcome == observe.OutcomeCompleted {
			taken++
		}
	}
	t.Logf("engine runs: %d, results delivered: %d", f.ran.Load(), taken)
	if int(f.ran.Load()) != ran || taken != delivered {
		t.Errorf("want %d engine runs and %d results delivered", ran, delivered)
	}
}

// setup starts a runner over run. deliver nil stores the result as a studio
// that takes everything.
func setup(t *testing.T, run engines, deliver func(*fixture, outbox.Entry) (outbox.Outcome, error)) *fixture {
	t.Helper()
	f := prepare(t, t.TempDir(), run, deliver)
	f.start(t)
	return f
}

func prepare(t *testing.T, root string, run engines, deliver func(*fixture, outbox.Entry) (outbox.Outcome, error)) *fixture {
	t.Helper()
	f := &fixture{root: root, door: &door{}, seen: observe.New(), log: &text{}}
	log := slog.New(slog.NewTextHandler(f.log, nil))
	var err error
	f.outbox, err = outbox.Open(outbox.Config{
		Dir: filepath.Join(root, "outbox"), Results: filepath.Join(root, "results"), Log: log, Observer: &f.seen.Outbox,
	})
	if err != nil {
		t.Fatal(err)
	}
	if deliver == nil {
		deliver = (*fixture).taken
	}
	f.Runner = New(Config{
		Engines: counting{run, &f.ran}, Availability: f.door, Outbox: f.outbox, Observers: f.seen, Log: log,
		Deliver: func(_ context.Context, e outbox.Entry) (outbox.Outcome, error) { return deliver(f, e) },
		Origin:  func() (string, string) { return "http://studio.example", "wk-20" },
	})
	return f
}

func (f *fixture) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		f.Settle()
	})
	t.Cleanup(f.stop)
}

// taken is what the Deliverer does when the studio takes a result.
func (f *fixture) taken(e outbox.Entry) (outbox.Outcome, error) {
	path, err := f.outbox.Delivered(e)
	if err != nil {
		return outbox.Outcome{State: outbox.StateWaiting}, err
	}
	f.Delivered(e, path)
	return outbox.Outcome{State: outbox.StateDelivered, Path: path}, nil
}

// idle waits until no job is in flight.
func (f *fixture) idle(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	f.gate.wait(ctx)
	if f.gate.taken() || f.CurrentJobID() != "" || f.seen.CurrentJob.Get() != (observe.CurrentJob{}) {
		t.Fatalf("job %q is still in flight, shown %+v", f.CurrentJobID(), f.seen.CurrentJob.Get())
	}
}

// recent is the list of finished jobs, which must have n rows.
func (f *fixture) recent(t *testing.T, n int) []observe.RecentJob {
	t.Helper()
	rows, _ := f.seen.RecentJobs.Since(0)
	if len(rows) != n {
		t.Fatalf("%d recent jobs: %+v, want %d", len(rows), rows, n)
	}
	return rows
}

// folder lists a folder of the outbox.
func (f *fixture) folder(t *testing.T, name string) []string {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(f.root, "outbox", name))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range list {
		names = append(names, d.Name())
	}
	return names
}

func source() protocol.ModelSource { return protocol.ModelSource{Engine: "test"} }

func llm(id, prompt string) protocol.Claim {
	return protocol.Claim{JobID: id, Model: "town-namer", ModelSource: source(), Task: protocol.Task{
		Kind: protocol.KindLLM, LLM: &protocol.LLMTask{Messages: []protocol.Message{{Role: "system", Content: "be short"}, {Role: "user", Content: prompt}}},
	}}
}

func picked(id, prompt string) protocol.Claim {
	return protocol.Claim{JobID: id, Model: "painter", ModelSource: source(), Task: protocol.Task{
		Kind: protocol.KindImage, Image: &protocol.ImageTask{Prompt: prompt, Ext: "png"},
	}}
}

func pngOf(t *testing.T, w, h int) string {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, w, h))); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestSection38AcceptIsOnTheWireBeforeTheEngineStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var accepted, started time.Time
		f := setup(t, runs(func(_ context.Context, req engine.Request, _ func(engine.Progress)) (engine.Result, error) {
			started = time.Now()
			return leave(req, "json", "{}")
		}), nil)
		l := newLink()
		l.send = func(frame protocol.WorkerFrame) error {
			if _, ok := frame.(protocol.Accept); ok {
				time.Sleep(time.Second)
				accepted = time.Now()
			}
			return nil
		}
		f.Offer(t.Context(), llm("j", "hello"), l)
		if got := next[protocol.Accept](t, l); got.JobID != "j" {
			t.Errorf("accepted %+v", got)
		}
		next[protocol.CompleteJSON](t, l)
		if started.Before(accepted) {
			t.Errorf("started at %v, accepted at %v", started, accepted)
		}
		f.idle(t)
		f.stop()
	})
}

func TestSpec065AnAcceptThatIsNotSentRunsNothing(t *testing.T) {
	f := setup(t, makes("json", "{}"), nil)
	dead := newLink()
	dead.send = func(protocol.WorkerFrame) error { return errors.New("the session is over") }
	f.Offer(t.Context(), llm("lost", "p"), dead)
	f.idle(t)
	if !strings.Contains(f.log.String(), `level=ERROR msg="answer was not sent" job_id=lost error="the session is over"`) {
		t.Errorf("log:\n%s", f.log)
	}
	l := newLink()
	f.Offer(t.Context(), llm("next", "p"), l)
	next[protocol.Accept](t, l)
	if got := next[protocol.CompleteJSON](t, l); got.JobID != "next" {
		t.Errorf("ran %+v", got)
	}
	f.idle(t)
	f.recent(t, 1)
}

func TestRow41Rejects(t *testing.T) {
	release := make(chan struct{})
	f := setup(t, runs(func(_ context.Context, req engine.Request, _ func(engine.Progress)) (engine.Result, error) {
		<-release
		return leave(req, "json", "{}")
	}), nil)
	l := newLink()
	f.Offer(t.Context(), llm("running", "p"), l)
	next[protocol.Accept](t, l)
	refused := func(name, id string, want protocol.Reject) {
		t.Helper()
		want.JobID = id
		f.Offer(t.Context(), llm(id, "p"), l)
		if got := next[protocol.Reject](t, l); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
		if f.CurrentJobID() != "running" {
			t.Errorf("%s: current job %q", name, f.CurrentJobID())
		}
	}
	busy := protocol.Reject{Reason: "worker already has an in-flight job", Code: protocol.RejectBusy}
	refused("busy", "second", busy)
	refused("the same job while it runs", "running", busy)
	paused := protocol.Reject{Reason: "worker paused by operator", Code: protocol.RejectPaused}
	f.door.refuse(paused.Reason, paused.Code)
	refused("why no offer is taken comes before busy", "third", paused)
	f.door.refuse("", "")
	refused("busy again", "fourth", busy)
	if !strings.Contains(f.log.String(), `msg="rejecting offer" job_id=second`) || strings.Contains(f.log.String(), "level=ERROR") {
		t.Errorf("log:\n%s", f.log)
	}
	dead := newLink()
	dead.send = func(protocol.WorkerFrame) error { return errors.New("gone") }
	f.Offer(t.Context(), llm("sixth", "p"), dead)
	if !strings.Contains(f.log.String(), `level=ERROR msg="answer was not sent" job_id=sixth error=gone`) { // #65
		t.Errorf("log:\n%s", f.log)
	}
	close(release)
	next[protocol.CompleteJSON](t, l)
	f.idle(t)
	l.silent(t)
	f.counts(t, 1, 0) // the result was not acknowledged
}

func TestSpec048And063And135AJSONJob(t *testing.T) {
	prompt := strings.Repeat("ä", observe.PromptPreviewChars+1)
	preview := strings.Repeat("ä", observe.PromptPreviewChars) + "…"
	started, release := make(chan engine.Request, 1), make(chan struct{})
	f := setup(t, runs(func(_ context.Context, req engine.Request, _ func(engine.Progress)) (engine.Result, error) {
		started <- req
		<-release
		return leave(req, "json", `{"object":"chat.completion"}`)
	}), func(*fixture, outbox.Entry) (outbox.Outcome, error) {
		t.Error("a JSON result was uploaded")
		return outbox.Outcome{}, nil
	})
	l := newLink()
	f.Offer(t.Context(), llm("job-40", prompt), l)
	next[protocol.Accept](t, l)
	if req := <-started; req.JobID != "job-40" || req.Model != "town-namer" || req.LLM == nil {
		t.Errorf("the engine was asked for %+v", req)
	}
	if f.CurrentJobID() != "job-40" {
		t.Errorf("current job %q", f.CurrentJobID())
	}
	shown := f.seen.CurrentJob.Get()
	if shown.ID != "job-40" || shown.Kind != "llm" || shown.Model != "town-namer" || shown.Preview != preview || shown.Started.IsZero() {
		t.Errorf("shown %+v", shown)
	}
	close(release)
	got := next[protocol.CompleteJSON](t, l)
	if got.JobID != "job-40" || string(got.Result) != `{"object":"chat.completion"}` || got.Prompt == nil || *got.Prompt != prompt {
		t.Errorf("delivered %+v", got)
	}
	f.idle(t)
	row := f.recent(t, 1)[0]
	if row.Outcome != observe.OutcomeKept || row.Preview != preview || row.ResultExt != "json" || row.Thumbnail != nil {
		t.Errorf("before the acknowledgement: %+v", row)
	}
	if e, ok := f.outbox.Find("job-40"); !ok || e.StudioURL != "http://studio.example" || e.WorkerID != "wk-20" || row.ResultPath != e.Path() {
		t.Errorf("stored %+v, %v, shown at %q", e, ok, row.ResultPath)
	}
	for range 2 { // an acknowledgement may be repeated
		f.Acknowledged("job-40")
	}
	f.Acknowledged("never heard of")
	f.Settle()
	if _, ok := f.outbox.Find("job-40"); ok {
		t.Error("an acknowledged result is still in the outbox")
	}
	row = f.recent(t, 1)[0]
	if data, err := os.ReadFile(row.ResultPath); row.Outcome != observe.OutcomeCompleted || err != nil || string(data) != `{"object":"chat.completion"}` ||
		filepath.Dir(row.ResultPath) != filepath.Join(f.root, "results") {
		t.Errorf("after it: %+v, %q, %v", row, data, err)
	}
	if !strings.Contains(f.log.String(), `level=INFO msg="json result sent" job_id=job-40`) { // #49
		t.Errorf("log:\n%s", f.log)
	}
	l.silent(t)
}

func TestABinaryJobIsDeliveredAtOnce(t *testing.T) {
	f := setup(t, makes("png", pngOf(t, 8, 4)), nil)
	l := newLink()
	f.Offer(t.Context(), picked("job-31", "a lighthouse"), l)
	next[protocol.Accept](t, l)
	f.idle(t)
	l.silent(t) // the upload is the whole answer (§3.8 rule 7)
	row := f.recent(t, 1)[0]
	if row.Outcome != observe.OutcomeCompleted || row.Kind != "image" || row.Preview != "a lighthouse" || row.ResultExt != "png" ||
		row.ResultPath != filepath.Join(f.root, "results", "job-31.png") {
		t.Errorf("row %+v", row)
	}
	if size, err := png.DecodeConfig(bytes.NewReader(row.Thumbnail)); err != nil || size.Width != 8 || size.Height != 4 {
		t.Errorf("thumbnail %+v, %v", size, err)
	}
	if _, err := os.Stat(row.ResultPath); err != nil {
		t.Error(err)
	}
}

func TestSection83AndRows17To22Failures(t *testing.T) {
	classed := func(class engine.Class, text string) runs {
		return func(context.Context, engine.Request, func(engine.Progress)) (engine.Result, error) {
			return engine.Result{}, &engine.Error{Class: class, Err: errors.New(text)}
		}
	}
	for _, tc := range []struct {
		name      string
		claim     protocol.Claim
		run       runs
		retryable bool
		says      string
	}{
		{"the kind is not served", llm("j", "p"), func(context.Context, engine.Request, func(engine.Progress)) (engine.Result, error) {
			return engine.Result{}, engine.UnsupportedKind("test", engine.KindLLM)
		}, false, "cannot serve llm"},
		{"bad input", llm("j", "p"), func(context.Context, engine.Request, func(engine.Progress)) (engine.Result, error) {
			return engine.Result{}, engine.BadInput("the prompt is empty")
		}, false, "the prompt is empty"},
		{"engine missing", llm("j", "p"), classed(engine.ClassEngineMissing, "not installed"), true, "not installed"},
		{"out of memory", llm("j", "p"), classed(engine.ClassOutOfMemory, "out of memory while loading"), true, "out of memory"},
		{"row 17 crash", llm("j", "p"), classed(engine.ClassEngineCrash, "signal: segmentation fault: last words"), true, "last words"},
		{"row 18 hang", llm("j", "p"), classed(engine.ClassTimeout, "no output for 60s"), true, "no output for 60s"},
		{"an unknown error", llm("j", "p"), func(context.Context, engine.Request, func(engine.Progress)) (engine.Result, error) {
			return engine.Result{}, errors.New("odd\nthings in /home/sam/secret/place.txt")
		}, true, "odd things in place.txt"},
		{"spec 072 panic", llm("j", "p"), func(context.Context, engine.Request, func(engine.Progress)) (engine.Result, error) {
			panic("index out of range")
		}, true, "panicked: index out of range"},
		{"row 21 no result file", llm("j", "p"), func(context.Context, engine.Request, func(engine.Progress)) (engine.Result, error) {
			return engine.Result{File: "none.json", Ext: "json"}, nil
		}, true, "left no result"},
		{"row 22 an empty result", picked("j", "p"), makes("png", ""), true, "is empty"},
		{"row 22 a result of the wrong type", picked("j", "p"), makes("png", "GIF89a and more"), true, "not in png format"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			router, err := engine.NewRouter(slog.New(slog.DiscardHandler), tc.run)
			if err != nil {
				t.Fatal(err)
			}
			f := setup(t, router, nil)
			l := newLink()
			f.Offer(t.Context(), tc.claim, l)
			next[protocol.Accept](t, l)
			got := next[protocol.Fail](t, l)
			if got.JobID != "j" || got.Retryable != tc.retryable || !strings.Contains(got.Error, tc.says) ||
				strings.ContainsAny(got.Error, "\n") || strings.Contains(got.Error, f.root) || strings.Contains(got.Error, "sam") {
				t.Errorf("got %+v, want one that says %q", got, tc.says)
			}
			f.idle(t)
			l.silent(t)
			if row := f.recent(t, 1)[0]; row.Outcome != observe.OutcomeFailed || row.Error != got.Error || row.ResultPath != "" {
				t.Errorf("row %+v", row)
			}
			if left := f.folder(t, "tmp"); len(left) != 0 || len(f.outbox.Entries()) != 0 {
				t.Errorf("left behind: %q, %d entries", left, len(f.outbox.Entries()))
			}
			f.counts(t, 1, 0)
		})
	}
}

func TestSpec066AFailThatIsNotSentIsSaid(t *testing.T) {
	f := setup(t, runs(func(context.Context, engine.Request, func(engine.Progress)) (engine.Result, error) {
		return engine.Result{}, errors.New("boom")
	}), nil)
	l := newLink()
	l.send = func(frame protocol.WorkerFrame) error {
		if _, ok := frame.(protocol.Fail); ok {
			return errors.New("gone")
		}
		return nil
	}
	f.Offer(t.Context(), llm("j", "p"), l)
	f.idle(t)
	if row := f.recent(t, 1)[0]; row.Outcome != observe.OutcomeFailed || !strings.Contains(row.Error, "boom") {
		t.Errorf("row %+v", row)
	}
	if !strings.Contains(f.log.String(), `level=ERROR msg="answer was not sent" job_id=j error=gone`) {
		t.Errorf("log:\n%s", f.log)
	}
}

func TestRow05ADiskThatTakesNoResult(t *testing.T) {
	f := setup(t, makes("json", "{}"), nil)
	if err := os.RemoveAll(filepath.Join(f.root, "outbox", "tmp")); err != nil {
		t.Fatal(err)
	}
	l := newLink()
	f.Offer(t.Context(), llm("j", "p"), l)
	next[protocol.Accept](t, l)
	if got := next[protocol.Fail](t, l); !got.Retryable || strings.Contains(got.Error, f.root) || !strings.Contains(got.Error, "begin a result") {
		t.Errorf("got %+v", got)
	}
	f.idle(t)
	f.recent(t, 1)
	f.counts(t, 0, 0)
}

func TestRow41ASessionLostInMidJob(t *testing.T) {
	f := setup(t, makes("json", `{"n":1}`), nil)
	lost := newLink()
	lost.send = func(frame protocol.WorkerFrame) error {
		if _, ok := frame.(protocol.CompleteJSON); ok {
			return errors.New("the session is over")
		}
		return nil
	}
	f.Offer(t.Context(), llm("j", "p"), lost)
	next[protocol.Accept](t, lost)
	f.idle(t)
	if row := f.recent(t, 1)[0]; row.Outcome != observe.OutcomeKept || row.ResultPath == "" {
		t.Errorf("row %+v", row)
	}
	if _, ok := f.outbox.Find("j"); !ok {
		t.Fatal("the result was lost with the session")
	}
	lost.silent(t)

	again := newLink()
	f.Offer(t.Context(), llm("j", "p"), again)
	next[protocol.Accept](t, again)
	if got := next[protocol.CompleteJSON](t, again); string(got.Result) != `{"n":1}` || *got.Prompt != "p" {
		t.Errorf("answered %+v", got)
	}
	f.idle(t)
	f.Acknowledged("j")
	f.Settle()
	if row := f.recent(t, 1)[0]; row.Outcome != observe.OutcomeCompleted || row.ResultPath == "" {
		t.Errorf("row %+v", row)
	}
	f.counts(t, 1, 1)
}

func TestRow28AResultThatTheStudioDidNotWantIsOfferedAgain(t *testing.T) {
	tries := 0
	f := setup(t, makes("png", pngOf(t, 2, 2)), func(f *fixture, e outbox.Entry) (outbox.Outcome, error) {
		if tries++; tries > 1 {
			return f.taken(e)
		}
		conflict := errors.New("complete failed: status 409: not yours")
		if err := f.outbox.Keep(e); err != nil {
			t.Error(err)
		}
		f.NotDelivered(e, conflict)
		return outbox.Outcome{State: outbox.StateKept}, conflict
	})
	l := newLink()
	f.Offer(t.Context(), picked("j", "p"), l)
	next[protocol.Accept](t, l)
	f.idle(t)
	l.silent(t) // the studio has given the job away: no fail
	row := f.recent(t, 1)[0]
	if _, err := os.Stat(row.ResultPath); err != nil || row.Outcome != observe.OutcomeKept || !strings.Contains(row.Error, "409") {
		t.Errorf("row %+v, %v", row, err)
	}
	f.Offer(t.Context(), picked("j", "p"), l)
	next[protocol.Accept](t, l)
	f.idle(t)
	row = f.recent(t, 1)[0]
	if _, err := os.Stat(row.ResultPath); err != nil || row.Outcome != observe.OutcomeCompleted || row.Error != "" || tries != 2 {
		t.Errorf("row %+v, %v; %d deliveries", row, err, tries)
	}
	f.counts(t, 1, 1)
}

func TestRow09DamagedResults(t *testing.T) {
	t.Run("JSON is computed anew", func(t *testing.T) {
		f := setup(t, makes("json", `{"n":1}`), nil)
		l := newLink()
		f.Offer(t.Context(), llm("j", "p"), l)
		next[protocol.Accept](t, l)
		next[protocol.CompleteJSON](t, l) // never acknowledged
		f.idle(t)
		e, _ := f.outbox.Find("j")
		if err := os.WriteFile(e.Path(), []byte(`{"n":2}`), 0o600); err != nil {
			t.Fatal(err)
		}
		f.Offer(t.Context(), llm("j", "p"), l)
		next[protocol.Accept](t, l)
		if got := next[protocol.Fail](t, l); !got.Retryable || !strings.Contains(got.Error, "damaged") {
			t.Errorf("got %+v", got)
		}
		f.idle(t)
		if row := f.recent(t, 1)[0]; row.Outcome != observe.OutcomeFailed || row.ResultPath != "" || len(f.folder(t, "refused")) != 1 {
			t.Errorf("row %+v, refused %q", row, f.folder(t, "refused"))
		}
		f.Offer(t.Context(), llm("j", "p"), l)
		next[protocol.Accept](t, l)
		if got := next[protocol.CompleteJSON](t, l); string(got.Result) != `{"n":1}` {
			t.Errorf("got %+v", got)
		}
		f.idle(t)
		f.Acknowledged("j")
		f.Settle()
		f.counts(t, 2, 1)
	})
	t.Run("bytes that are refused are a failed job", func(t *testing.T) {
		f := setup(t, makes("png", pngOf(t, 2, 2)), func(f *fixture, e outbox.Entry) (outbox.Outcome, error) {
			err := outbox.ErrDamaged
			if err := f.outbox.Refuse(e, err); err != nil {
				t.Error(err)
			}
			f.NotDelivered(e, err)
			return outbox.Outcome{State: outbox.StateRefused}, err
		})
		l := newLink()
		f.Offer(t.Context(), picked("j", "p"), l)
		next[protocol.Accept](t, l)
		if got := next[protocol.Fail](t, l); got.JobID != "j" || !got.Retryable || !strings.Contains(got.Error, "damaged") {
			t.Errorf("got %+v", got)
		}
		f.idle(t)
		if row := f.recent(t, 1)[0]; row.Outcome != observe.OutcomeFailed || row.ResultPath != "" || !strings.Contains(row.Error, "damaged") {
			t.Errorf("row %+v", row)
		}
		f.counts(t, 1, 0)
	})
}

func TestAStudioThatIsAwayCostsNoResult(t *testing.T) {
	f := setup(t, makes("png", pngOf(t, 2, 2)), func(*fixture, outbox.Entry) (outbox.Outcome, error) {
		return outbox.Outcome{State: outbox.StateWaiting}, errors.New("complete failed: status 503")
	})
	l := newLink()
	f.Offer(t.Context(), picked("j", "p"), l)
	next[protocol.Accept](t, l)
	f.idle(t)
	l.silent(t)
	if row := f.recent(t, 1)[0]; row.Outcome != observe.OutcomeKept || len(f.outbox.Entries()) != 1 {
		t.Errorf("row %+v, %d entries", row, len(f.outbox.Entries()))
	}
	f.stop()
	if err := f.outbox.Close(); err != nil {
		t.Fatal(err)
	}
	// After a restart the list is empty, and the result is delivered all the same.
	after := prepare(t, f.root, makes("png", ""), nil)
	if _, err := after.taken(after.outbox.Entries()[0]); err != nil {
		t.Fatal(err)
	}
	row := after.recent(t, 1)[0]
	if row.ID != "j" || row.Outcome != observe.OutcomeCompleted || row.Preview != "p" || row.Thumbnail == nil || row.Duration <= 0 {
		t.Errorf("row %+v", row)
	}
	if _, err := os.Stat(row.ResultPath); err != nil {
		t.Error(err)
	}
}

// The studio offers the next job as soon as it has a result, which may be before
// it has answered the upload.
func TestSection77AnOfferWaitsForADelivery(t *testing.T) {
	for _, tc := range []struct {
		name     string
		takes    time.Duration
		accepted bool
		after    time.Duration
	}{
		{"a short one", time.Second, true, time.Second},
		{"a long one", time.Minute, false, settle},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := setup(t, makes("png", pngOf(t, 2, 2)), func(f *fixture, e outbox.Entry) (outbox.Outcome, error) {
					time.Sleep(tc.takes)
					return f.taken(e)
				})
				l := newLink()
				f.Offer(t.Context(), picked("first", "p"), l)
				next[protocol.Accept](t, l)
				synctest.Wait() // until it is being delivered
				start := time.Now()
				f.Offer(t.Context(), picked("second", "p"), l)
				if tc.accepted {
					next[protocol.Accept](t, l)
				} else if got := next[protocol.Reject](t, l); got.Code != protocol.RejectBusy {
					t.Errorf("got %+v", got)
				}
				if took := time.Since(start); took != tc.after {
					t.Errorf("answered after %v, want %v", took, tc.after)
				}
				time.Sleep(2 * time.Minute)
				f.idle(t)
				f.stop()
			})
		})
	}
	t.Run("a running engine is not waited for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := setup(t, runs(func(_ context.Context, req engine.Request, _ func(engine.Progress)) (engine.Result, error) {
				time.Sleep(time.Second)
				return leave(req, "json", "{}")
			}), nil)
			l := newLink()
			f.Offer(t.Context(), llm("first", "p"), l)
			next[protocol.Accept](t, l)
			start := time.Now()
			f.Offer(t.Context(), llm("second", "p"), l)
			next[protocol.Reject](t, l)
			if took := time.Since(start); took != 0 {
				t.Errorf("answered after %v", took)
			}
			next[protocol.CompleteJSON](t, l)
			f.idle(t)
			f.stop()
		})
	})
}

func untilStopped(ctx context.Context, _ engine.Request, _ func(engine.Progress)) (engine.Result, error) {
	<-ctx.Done()
	return engine.Result{}, context.Cause(ctx)
}

func TestSection79Drain(t *testing.T) {
	const limit = 20 * time.Second
	for _, tc := range []struct {
		name string
		run  runs
		took time.Duration
		fail bool
	}{
		{"a job that ends in time", func(_ context.Context, req engine.Request, _ func(engine.Progress)) (engine.Result, error) {
			time.Sleep(5 * time.Second)
			return leave(req, "json", "{}")
		}, 5 * time.Second, false},
		{"a job that does not", untilStopped, limit, true},
		{"an engine that does not stop", func(context.Context, engine.Request, func(engine.Progress)) (engine.Result, error) {
			time.Sleep(time.Hour)
			return engine.Result{}, errors.New("too late")
		}, limit + replyLimit, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := setup(t, tc.run, nil)
				l := newLink()
				f.Offer(t.Context(), llm("j", "p"), l)
				next[protocol.Accept](t, l)
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				start := time.Now()
				f.Drain(ctx)
				if took := time.Since(start); took != tc.took {
					t.Errorf("took %v, want %v", took, tc.took)
				}
				if tc.fail {
					if got := next[protocol.Fail](t, l); !got.Retryable || !strings.Contains(got.Error, "the worker is stopping") {
						t.Errorf("got %+v", got)
					}
					if row := f.recent(t, 1)[0]; row.Outcome != observe.OutcomeCancelled {
						t.Errorf("row %+v", row)
					}
				}
				f.stop()
			})
		})
	}
	t.Run("nothing to wait for", func(t *testing.T) {
		f := setup(t, runs(untilStopped), nil)
		f.Drain(t.Context())
	})
}

func TestCancel(t *testing.T) {
	f := setup(t, runs(untilStopped), nil)
	l := newLink()
	if f.Cancel("", ErrCancelled) || f.Cancel("j", ErrCancelled) {
		t.Error("a job that is not there was stopped")
	}
	f.Offer(t.Context(), llm("j", "p"), l)
	next[protocol.Accept](t, l)
	if f.Cancel("another", ErrCancelled) || !f.Cancel("j", ErrCancelled) {
		t.Error("the wrong job was stopped")
	}
	if got := next[protocol.Fail](t, l); !got.Retryable || !strings.Contains(got.Error, "stopped by the person at the worker") {
		t.Errorf("got %+v", got)
	}
	f.idle(t)
	if row := f.recent(t, 1)[0]; row.Outcome != observe.OutcomeCancelled {
		t.Errorf("row %+v", row)
	}
	if f.Cancel("j", ErrCancelled) {
		t.Error("a job that is over was stopped")
	}
}

func TestCancelBetweenAcceptAndStart(t *testing.T) {
	f := prepare(t, t.TempDir(), runs(untilStopped), nil)
	l := newLink()
	f.Offer(t.Context(), llm("j", "p"), l)
	next[protocol.Accept](t, l)
	if !f.Cancel("j", ErrStopping) {
		t.Error("an accepted job could not be stopped")
	}
	f.start(t)
	if got := next[protocol.Fail](t, l); !got.Retryable || !strings.Contains(got.Error, "the worker is stopping") {
		t.Errorf("got %+v", got)
	}
	f.idle(t)
}

func TestRow02TheEndOfRunStopsTheJobAndLeavesNothing(t *testing.T) {
	f := setup(t, runs(untilStopped), nil)
	l := newLink()
	f.Offer(t.Context(), llm("j", "p"), l)
	next[protocol.Accept](t, l)
	for job := range f.seen.CurrentJob.Watch(t.Context()) { // until it has begun
		if job.ID != "" {
			break
		}
	}
	f.stop()
	if got := next[protocol.Fail](t, l); !got.Retryable {
		t.Errorf("got %+v", got)
	}
	f.idle(t)
	if left := f.folder(t, "tmp"); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	f.counts(t, 1, 0)
}

func TestProgressFrames(t *testing.T) {
	type sent struct {
		at   time.Duration
		step int
	}
	counts := func(pauses ...time.Duration) runs { // one step after each pause
		return func(_ context.Context, req engine.Request, progress func(engine.Progress)) (engine.Result, error) {
			for i, pause := range pauses {
				time.Sleep(pause)
				progress(engine.Progress{Step: i + 1, Total: len(pauses), Text: "step"})
			}
			time.Sleep(time.Hour)
			return leave(req, "json", "{}")
		}
	}
	const ms = time.Millisecond
	for _, tc := range []struct {
		name     string
		features []string
		run      runs
		want     []sent
	}{
		{
			"a studio that wants it gets the newest, at most one each 500 ms",
			[]string{protocol.FeatureProgress},
			counts(slices.Repeat([]time.Duration{130 * ms}, 12)...),
			[]sent{{130 * ms, 1}, {630 * ms, 4}, {1130 * ms, 8}, {1630 * ms, 12}},
		},
		{
			"after a silence too",
			[]string{protocol.FeatureProgress},
			counts(1990*ms, 20*ms, 20*ms),
			[]sent{{1990 * ms, 1}, {2490 * ms, 3}},
		},
		{"a studio that did not name it gets none", []string{"sing"}, counts(100*ms, 100*ms), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var got []sent
				f := setup(t, tc.run, nil)
				l := newLink(tc.features...)
				l.send = func(frame protocol.WorkerFrame) error {
					if p, ok := frame.(protocol.Progress); ok {
						if p.JobID != "j" || p.Message != "step" {
							t.Errorf("sent %+v", p)
						}
						got = append(got, sent{time.Since(start), p.Step})
					}
					return nil
				}
				f.Offer(t.Context(), llm("j", "p"), l)
				time.Sleep(time.Minute)
				if p := f.seen.CurrentJob.Get().Progress; p.Step != p.Total || p.Total == 0 || p.Text != "step" {
					t.Errorf("shown %+v", p)
				}
				time.Sleep(2 * time.Hour)
				f.idle(t)
				f.stop()
				if !slices.Equal(got, tc.want) {
					t.Errorf("sent %v, want %v", got, tc.want)
				}
			})
		})
	}
	t.Run("a lost session ends the frames, not the job", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := setup(t, counts(100*ms, 100*ms), nil)
			l := newLink(protocol.FeatureProgress)
			l.send = func(frame protocol.WorkerFrame) error {
				if _, ok := frame.(protocol.Accept); !ok {
					return errors.New("gone")
				}
				return nil
			}
			f.Offer(t.Context(), llm("j", "p"), l)
			time.Sleep(2 * time.Hour)
			f.idle(t)
			f.stop()
			if row := f.recent(t, 1)[0]; row.Outcome != observe.OutcomeKept {
				t.Errorf("row %+v", row)
			}
		})
	})
}

func TestSpec070And071And072Gate(t *testing.T) {
	var g gate
	if g.taken() || !g.reserve() || g.reserve() || !g.taken() {
		t.Error("the first reservation must succeed and the second fail")
	}
	if g.reserveSoon(t.Context()) {
		t.Error("an offer took a slot that is held")
	}
	other := &g // whoever holds it, it is the same slot
	other.release()
	if g.taken() || !g.reserve() {
		t.Error("a free slot cannot be taken")
	}
	g.deliver()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if g.reserveSoon(ended) {
		t.Error("an offer of a lost session took the slot")
	}
}

func TestJSONResultsKeepTheirBytes(t *testing.T) {
	odd := `{"b":1,  "a":[1.0, 2e3, "\u00e9"]}`
	f := setup(t, makes("json", odd), nil)
	l := newLink()
	f.Offer(t.Context(), llm("j", "p"), l)
	next[protocol.Accept](t, l)
	if got := next[protocol.CompleteJSON](t, l); string(got.Result) != odd || !json.Valid(got.Result) {
		t.Errorf("sent %s", got.Result)
	}
	f.idle(t)
}
