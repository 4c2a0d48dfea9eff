package ui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/widget"
	"go.uber.org/goleak"

	"studioworker/ui/model"
	"studioworker/ui/words"
	"studioworker/worker/observe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errTest = errors.New("it did not work")

// fakeControls notes what the window asks for.
type fakeControls struct {
	obs *observe.WorkerObservers
	err error // what the commands answer

	login    bool
	loginErr error

	jobLog  []observe.LogEntry // of every job
	archive []observe.LogEntry // oldest first

	mu    sync.Mutex
	calls []string
}

// older answers from the archive.
func (c *fakeControls) older(q observe.LogQuery) []observe.LogEntry {
	var found []observe.LogEntry
	for _, e := range slices.Backward(c.archive) {
		if (q.Before.IsZero() || !e.At.After(q.Before)) && q.Fits(e) && len(found) < q.Limit {
			found = append(found, e)
		}
	}
	slices.Reverse(found)
	return found
}

func (c *fakeControls) note(s string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, s)
	return c.err
}

func (c *fakeControls) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := c.calls
	c.calls = nil
	return calls
}

func (c *fakeControls) Pause() {
	_ = c.note("pause")
	c.obs.Availability.Set(observe.Availability{Block: observe.BlockPaused})
}

func (c *fakeControls) PauseUntil(t time.Time) {
	_ = c.note("pause for " + time.Until(t).Round(time.Minute).String())
	c.obs.Availability.Set(observe.Availability{Block: observe.BlockPaused, Until: t})
}

func (c *fakeControls) Resume() {
	_ = c.note("resume")
	c.obs.Availability.Set(observe.Availability{})
}

func (c *fakeControls) ResetRegistration(context.Context) error { return c.note("reset") }

func (c *fakeControls) SetThreshold(_ context.Context, gb float64) error {
	return c.note("threshold " + model.Threshold(gb))
}

func (c *fakeControls) ApplyConfig(_ context.Context, changes map[string]string) error {
	return c.note(fmt.Sprint("apply ", changes))
}

func (c *fakeControls) FreeSpace(string) (uint64, error) { return 250 << 30, c.err }

func (c *fakeControls) StartAtLogin() (bool, error) { return c.login, c.loginErr }

func (c *fakeControls) SetStartAtLogin(_ context.Context, on bool) error {
	return c.note(fmt.Sprint("login ", on))
}

func (c *fakeControls) CheckUpdate(context.Context) error { return c.note("check") }

func (c *fakeControls) RestartForUpdate(context.Context) error { return c.note("restart") }

func (c *fakeControls) TryHere(context.Context) error { return c.note("try") }

func (c *fakeControls) Join(_ context.Context, address string) error {
	return c.note("join " + address)
}

func (c *fakeControls) SendCrash(_ context.Context, id string) error { return c.note("send " + id) }

func (c *fakeControls) DiscardCrash(_ context.Context, id string) error {
	return c.note("discard " + id)
}

func (c *fakeControls) Submit(_ context.Context, kind, text string) error {
	return c.note("submit " + kind + " " + text)
}

func (c *fakeControls) Open(path string) error { return c.note("open " + path) }

func (c *fakeControls) CancelJob(id string) { _ = c.note("cancel " + id) }

func (c *fakeControls) FinishThenQuit() { _ = c.note("finish") }

func (c *fakeControls) JobLog(_ context.Context, id string) ([]observe.LogEntry, uint64, error) {
	return c.jobLog, 3, c.note("log of " + id)
}

func (c *fakeControls) OlderLogs(_ context.Context, q observe.LogQuery) ([]observe.LogEntry, error) {
	return c.older(q), c.err
}

func (c *fakeControls) SaveKept(_ context.Context, key, path string) error {
	return c.note("save " + key + " as " + path)
}

func (c *fakeControls) ClearHistory(context.Context) error {
	c.obs.History.Clear()
	return c.note("clear history")
}

func (c *fakeControls) DiscardKept(_ context.Context, key string) error {
	return c.note("discard " + key)
}

func (c *fakeControls) Quit() { _ = c.note("quit") }

// newTestWindow builds a window that is shown, on observers the test may write.
func newTestWindow(t *testing.T, fill func(*observe.WorkerObservers)) (*Window, *fakeControls) {
	t.Helper()
	a := test.NewTempApp(t)
	a.Settings().SetTheme(NewTheme())
	o := observe.New()
	fill(o)
	c := &fakeControls{obs: o}
	w, err := New(a, Config{
		Observers: o, Controls: c, Log: slog.New(slog.DiscardHandler),
		StatePath: filepath.Join(t.TempDir(), "window.json"),
	}, func(model.State, bool, *words.Printer) {})
	if err != nil {
		t.Fatal(err)
	}
	w.Begin()
	openAll(w)
	w.Show()
	return w, c
}

// openAll builds the pages that nobody has looked at yet.
func openAll(w *Window) {
	for page := range pageCount {
		w.open(page)
	}
	w.openWelcome()
	w.refresh(partValues | partJobs | partLogs)
}

// work does what a button put off, on the test's goroutine.
func work(t *testing.T, w *Window) {
	t.Helper()
	select {
	case a := <-w.actions:
		a.done(a.do(t.Context()))
	default:
		t.Fatal("the button asked for nothing")
	}
}

// joined is a worker that a private studio has let in.
func joined(o *observe.WorkerObservers) {
	o.Settings.Set(observe.Settings{
		StudioURL: "http://127.0.0.1:9790", PrivateStudio: true, VRAMThresholdGB: 10, Version: "0.1.0",
		Serves: []string{"image", "audio_tts"},
	})
	o.Registration.Set(observe.Registration{State: observe.RegistrationApproved, WorkerID: "w-1"})
	o.Session.Set(observe.Session{State: observe.SessionConnected})
	o.GPUs.Set(observe.GPUs{At: time.Now(), List: []observe.GPU{{Name: "card one", Total: 8 << 30, Free: 6 << 30}, {Name: "card two"}}})
}

func TestNewRefusesAnIncompleteConfig(t *testing.T) {
	a := test.NewTempApp(t)
	if _, err := New(a, Config{}, func(model.State, bool, *words.Printer) {}); err == nil {
		t.Error("a window without observers was built")
	}
}

func TestHeaderPauseAndResume(t *testing.T) {
	w, c := newTestWindow(t, joined)
	if w.header.word.Text != "Idle" || w.header.button.Text != "Pause" || !w.header.button.Visible() {
		t.Fatalf("header = %q, button %q", w.header.word.Text, w.header.button.Text)
	}
	test.Tap(w.header.button)
	choose(t, w, 1)
	if w.header.word.Text != "Paused" || w.header.button.Text != "Resume" || w.status.pause.Text != "Resume" {
		t.Errorf("after a pause: %q, %q, %q", w.header.word.Text, w.header.button.Text, w.status.pause.Text)
	}
	test.Tap(w.status.pause)
	w.refresh(partValues)
	if w.header.word.Text != "Idle" || w.status.pause.Text != "Pause" {
		t.Errorf("after a resume: %q, %q", w.header.word.Text, w.status.pause.Text)
	}
	test.Tap(w.status.pause)
	choose(t, w, 2)
	end, err := w.values.sentence.Get()
	if until := w.obs.Availability.Get().Until; err != nil || !strings.HasPrefix(end, "Paused by you until ") || !strings.HasSuffix(end, until.Format("15:04")) {
		t.Errorf("sentence %q, %v, for a pause until %v", end, err, until)
	}
	test.Tap(w.header.button) // Resume
	w.refresh(partValues)
	test.Tap(w.header.button)
	choose(t, w, 3)
	if until := w.obs.Availability.Get().Until; !tomorrow(until) {
		t.Errorf("paused until %v", until)
	}
	got := c.take()
	if len(got) != 5 || !strings.HasPrefix(got[4], "pause for ") || !slices.Equal(got[:4], []string{"pause", "resume", "pause for 1h0m0s", "resume"}) {
		t.Errorf("calls = %v", got)
	}
}

// tomorrow says whether until can be the end of a pause until tomorrow.
func tomorrow(until time.Time) bool {
	return until.Format("15:04:05") == "08:00:00" && time.Until(until) > 7*time.Hour && time.Until(until) < 34*time.Hour
}

// choose takes the n-th entry of the menu that is open, with the keyboard, and
// draws what comes of it.
func choose(t *testing.T, w *Window, n int) {
	t.Helper()
	menu, ok := w.win.Canvas().Focused().(*widget.PopUpMenu)
	if !ok {
		t.Fatalf("no menu has the focus, but %T", w.win.Canvas().Focused())
	}
	for range n {
		menu.TypedKey(&fyne.KeyEvent{Name: fyne.KeyDown})
	}
	menu.TypedKey(&fyne.KeyEvent{Name: fyne.KeyReturn})
	if w.win.Canvas().Overlays().Top() != nil {
		t.Error("the menu stays open")
	}
	w.refresh(partValues)
}

// The menu of pauses can be left without a pause.
func TestPauseMenuEscape(t *testing.T) {
	w, c := newTestWindow(t, joined)
	test.Tap(w.header.button)
	menu, ok := w.win.Canvas().Focused().(*widget.PopUpMenu)
	if !ok {
		t.Fatal("no menu has the focus")
	}
	if at := w.app.Driver().AbsolutePositionForObject(w.header.button); menu.Position().X+menu.Size().Width != at.X+w.header.button.Size().Width {
		t.Errorf("the menu lies at %v, %v wide, the button at %v", menu.Position(), menu.Size().Width, at)
	}
	menu.TypedKey(&fyne.KeyEvent{Name: fyne.KeyEscape})
	if got := c.take(); len(got) != 0 || w.win.Canvas().Overlays().Top() != nil {
		t.Errorf("calls = %v", got)
	}
}

func TestHeaderKeepsItsHeight(t *testing.T) {
	w, _ := newTestWindow(t, joined)
	for _, reason := range []string{"", strings.Repeat("a very long reason ", 40)} {
		w.obs.Session.Set(observe.Session{State: observe.SessionReconnecting, Reason: reason})
		w.refresh(partValues)
		if h := w.header.root.MinSize().Height; h != headerHeight {
			t.Errorf("header is %v high, want %d", h, headerHeight)
		}
	}
	if m := w.win.Content().MinSize(); m.Width > minWidth || m.Height > minHeight-menuHeight {
		t.Errorf("the window cannot become as small as 720 by 480: its content needs %v", m)
	}
}

// The pages must fit into the smallest window: no page may ask for more width.
func TestPagesFitTheSmallestWindow(t *testing.T) {
	w, _ := newTestWindow(t, func(o *observe.WorkerObservers) {
		joined(o)
		o.Registration.Set(observe.Registration{State: observe.RegistrationRejected, Reason: strings.Repeat("long ", 60)})
		o.Outbox.Set(observe.Outbox{Count: 12345, Bytes: 1e15, LastError: strings.Repeat("error ", 60)})
	})
	for i, o := range []fyne.CanvasObject{w.status.root, w.jobs.root, w.logs.root, w.welcome.root} {
		if s, ok := o.(*container.Scroll); ok {
			o = s.Content
		}
		if m := o.MinSize(); m.Width > minWidth {
			t.Errorf("page %d needs %v, there are %d", i, m.Width, minWidth)
		}
	}
}

func TestStatusPage(t *testing.T) {
	w, _ := newTestWindow(t, joined)
	p := w.status
	if p.request.Visible() || !p.worker.Visible() || p.askAgain.Visible() || p.gpuNote.Visible() {
		t.Error("an approved worker shows the wrong lines")
	}
	if len(p.rows) != 2 || p.rows[0].memory.Text != "2.0 of 8.0 GB used" || p.rows[0].used.value != 0.25 || p.rows[1].used.Visible() {
		t.Errorf("graphics cards: %+v", p.rows)
	}
	w.obs.GPUs.Set(observe.GPUs{At: time.Now()})
	w.obs.Registration.Set(observe.Registration{State: observe.RegistrationPending, RequestID: "r-9"})
	w.obs.Session.Set(observe.Session{State: observe.SessionWaiting})
	w.refresh(partValues)
	if !p.request.Visible() || p.worker.Visible() || p.rows[0].root.Visible() || !p.gpuNote.Visible() {
		t.Error("a pending worker shows the wrong lines")
	}
	tapNamed(t, p.request, "Copy")
	if got := w.app.Clipboard().Content(); got != "r-9" {
		t.Errorf("copied %q", got)
	}
}

func TestAskAgain(t *testing.T) {
	w, c := newTestWindow(t, func(o *observe.WorkerObservers) {
		joined(o)
		o.Registration.Set(observe.Registration{State: observe.RegistrationRejected, Reason: "no"})
	})
	w.lookAround() // it was never let in: the first start stands there
	w.tabs.SelectIndex(pageLogs)
	c.err = errTest
	test.Tap(w.header.button)
	if w.tabs.SelectedIndex() != pageStatus || !w.status.askAgain.Disabled() {
		t.Error("the header's button did not go where the answer shows")
	}
	work(t, w)
	if w.status.askError.Text != errTest.Error() || w.status.askAgain.Disabled() {
		t.Errorf("shows %q", w.status.askError.Text)
	}
	c.err = nil
	test.Tap(w.status.askAgain)
	work(t, w)
	if got := c.take(); !slices.Equal(got, []string{"reset", "reset"}) || w.status.askError.Text != "" {
		t.Errorf("calls = %v, error %q", got, w.status.askError.Text)
	}
}

func TestThreshold(t *testing.T) {
	w, c := newTestWindow(t, joined)
	p := w.status
	if p.threshold.Text != "10" || !p.save.Disabled() {
		t.Fatalf("field = %q, save enabled %v", p.threshold.Text, !p.save.Disabled())
	}
	p.threshold.SetText("-3")
	if !p.save.Disabled() || p.saved.Text == "" {
		t.Error("a negative number can be saved")
	}
	w.refresh(partValues)
	if p.threshold.Text != "-3" {
		t.Error("a refresh took away what was being typed")
	}
	p.threshold.SetText("8,5")
	c.err = errTest
	test.Tap(p.save)
	work(t, w)
	if p.saved.Text != errTest.Error() || p.save.Disabled() {
		t.Errorf("after an error: %q", p.saved.Text)
	}
	c.err = nil
	p.threshold.OnSubmitted("")
	work(t, w)
	if got := c.take(); !slices.Equal(got, []string{"threshold 8.5", "threshold 8.5"}) || p.saved.Text != "Saved" || p.threshold.Text != "8.5" {
		t.Errorf("calls = %v, says %q, field %q", got, p.saved.Text, p.threshold.Text)
	}
	w.obs.Settings.Update(func(s observe.Settings) observe.Settings { s.VRAMThresholdGB = 8.5; return s })
	w.refresh(partValues)
	w.obs.Settings.Update(func(s observe.Settings) observe.Settings { s.VRAMThresholdGB = 6; return s })
	w.refresh(partValues)
	if p.threshold.Text != "6" {
		t.Errorf("field = %q after a change from elsewhere", p.threshold.Text)
	}
	p.threshold.SetText("77")
	p.threshold.TypedKey(&fyne.KeyEvent{Name: fyne.KeyEscape})
	if p.threshold.Text != "6" {
		t.Errorf("Escape left %q", p.threshold.Text)
	}
}

func TestWelcome(t *testing.T) {
	w, c := newTestWindow(t, func(*observe.WorkerObservers) {})
	p := w.welcome
	if w.tabs.Visible() || !w.greeting.Visible() || !p.join.Disabled() {
		t.Fatal("the first start does not begin with the choice")
	}
	c.err = errTest
	test.Tap(p.try)
	if !p.try.Disabled() || !p.address.Disabled() {
		t.Error("a second choice is open while one is under way")
	}
	work(t, w)
	if p.tryNote.Text != errTest.Error() || p.try.Disabled() {
		t.Errorf("shows %q", p.tryNote.Text)
	}
	p.address.OnSubmitted("")
	p.address.SetText(" studio.example.org ")
	if p.join.Disabled() {
		t.Error("an address does not enable Join")
	}
	test.Tap(p.join)
	work(t, w)
	c.err = nil
	p.address.OnSubmitted("")
	work(t, w)
	if got := c.take(); !slices.Equal(got, []string{"try", "join studio.example.org", "join studio.example.org"}) || p.joinNote.Text != "" {
		t.Errorf("calls = %v, says %q", got, p.joinNote.Text)
	}
	joined(w.obs)
	w.refresh(partValues)
	if !w.tabs.Visible() || w.greeting.Visible() {
		t.Error("the choice is still there after it was made")
	}
}

func TestForm(t *testing.T) {
	w, c := newTestWindow(t, joined)
	w.tabs.SelectIndex(pageJobs)
	f := w.jobs.form
	if !f.root.Visible() || !slices.Equal(f.kind.Options, []string{"Image", "Speech"}) || f.text.PlaceHolder != "Describe the picture" || !f.run.Disabled() {
		t.Fatalf("form: %v, %q", f.kind.Options, f.text.PlaceHolder)
	}
	f.kind.SetSelected("Speech")
	w.newJob()
	if w.win.Canvas().Focused() != fyne.Focusable(f.text) {
		t.Error("Ctrl+N does not lead to the field")
	}
	w.win.Canvas().FocusPrevious()
	if w.win.Canvas().Focused() != fyne.Focusable(f.kind) {
		t.Error("Shift+Tab does not lead from the text to the kind")
	}
	f.text.OnSubmitted("") // nothing typed: nothing happens
	test.Type(f.text, "hello ")
	c.err = errTest
	f.text.TypedKey(&fyne.KeyEvent{Name: fyne.KeyReturn})
	if !f.run.Disabled() {
		t.Error("a second Run is possible while one is under way")
	}
	work(t, w)
	if f.note.Text != "Not queued: "+errTest.Error() || f.text.Text != "hello " || f.run.Disabled() {
		t.Errorf("after an error: %q, field %q", f.note.Text, f.text.Text)
	}
	c.err = nil
	test.Tap(f.run)
	work(t, w)
	if f.text.Text != "" || !strings.HasPrefix(f.note.Text, "Queued") {
		t.Errorf("after Run: field %q, says %q", f.text.Text, f.note.Text)
	}
	if got := c.take(); !slices.Equal(got, []string{"submit audio_tts hello", "submit audio_tts hello"}) {
		t.Errorf("calls = %v", got)
	}
	w.obs.Settings.Update(func(s observe.Settings) observe.Settings { s.Serves = []string{"llm", "audio_tts"}; return s })
	w.refresh(partValues)
	if f.kind.Selected != "Speech" {
		t.Errorf("the chosen kind became %q", f.kind.Selected)
	}
	w.obs.Settings.Update(func(s observe.Settings) observe.Settings { s.PrivateStudio = false; return s })
	w.refresh(partValues)
	if f.root.Visible() {
		t.Error("the form is there without a private studio")
	}
}

func TestBusyIsSaid(t *testing.T) {
	w, _ := newTestWindow(t, joined)
	nothing := func(context.Context) error { return nil }
	for range actionRoom {
		w.actions.start(nothing, func(error) {})
	}
	var got error
	w.actions.start(nothing, func(err error) { got = err })
	if !errors.Is(got, errBusy) {
		t.Errorf("got %v", got)
	}
}

// pngOf is a picture of one colour.
func pngOf(t *testing.T, w, h int, c color.Color) []byte {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.Set(x, y, c)
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// decodeAll does the loader's work on the test's goroutine.
func decodeAll(t *testing.T, l *loader) {
	t.Helper()
	for {
		j, ok := l.next()
		if !ok {
			return
		}
		img, err := readOrDecode(j)
		j.done(img, err)
	}
}

// tapNamed taps the button with that label inside o.
func tapNamed(t *testing.T, o fyne.CanvasObject, label string) {
	t.Helper()
	for _, b := range buttons(o) {
		if b.Text == label {
			test.Tap(b)
			return
		}
	}
	t.Fatalf("no button %q", label)
}

func buttons(o fyne.CanvasObject) []*widget.Button {
	var found []*widget.Button
	switch v := o.(type) {
	case *widget.Button:
		return []*widget.Button{v}
	case *fyne.Container:
		for _, c := range v.Objects {
			found = append(found, buttons(c)...)
		}
	case *container.Scroll:
		return buttons(v.Content)
	}
	return found
}
