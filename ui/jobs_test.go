package ui

import (
	"errors"
	"fmt"
	"image"
	"image/color"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"studioworker/ui/words"
	"studioworker/worker/observe"
)

// shownRow fills a row the way the list does.
func shownRow(t *testing.T, w *Window, i int) *jobRow {
	t.Helper()
	o := w.jobs.list.CreateItem()
	w.jobs.list.UpdateItem(i, o)
	return o.(*jobRow)
}

// finish adds finished jobs to the history, the first is the oldest.
func finish(w *Window, jobs ...observe.RecentJob) {
	for _, j := range jobs {
		w.obs.History.Add(j)
	}
	w.refresh(partJobs)
}

// doActions does what the buttons put off, and what that puts off.
func doActions(t *testing.T, w *Window) {
	t.Helper()
	for {
		select {
		case a := <-w.actions:
			a.done(a.do(t.Context()))
		default:
			return
		}
	}
}

// tapInDialog taps a button of the dialog that is open.
func tapInDialog(t *testing.T, w *Window, label string) {
	t.Helper()
	top := w.win.Canvas().Overlays().Top()
	if top == nil {
		t.Fatal("no dialog is open")
	}
	popUp, ok := top.(*widget.PopUp)
	if !ok {
		t.Fatalf("on top is a %T", top)
	}
	tapNamed(t, popUp.Content, label)
}

func TestJobsPage(t *testing.T) {
	w, c := newTestWindow(t, joined)
	w.tabs.SelectIndex(pageJobs)
	p := w.jobs
	if !p.empty.Visible() || p.empty.Text != "No job has run yet." || p.detail.body.Visible() {
		t.Error("an empty history does not say so")
	}
	thumb := filepath.Join(t.TempDir(), "a.png")
	if err := os.WriteFile(thumb, pngOf(t, 192, 96, color.White), 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	a := observe.RecentJob{ID: "a", Kind: "image", Preview: "a fox", Prompt: "a fox\nand a hare", Started: now, Outcome: observe.OutcomeCompleted, ThumbnailPath: thumb}
	finish(w, a, observe.RecentJob{ID: "b", Kind: "audio_tts", Preview: "hello", Started: now, Outcome: observe.OutcomeFailed, Error: "no voice", Class: "timeout"})
	if p.empty.Visible() || len(p.items) != 3 || p.items[0].Day == "" || p.items[1].Job.ID != "b" || p.detail.failure.Text != "The job took too long: no voice" || p.detail.openRow.Visible() ||
		!strings.Contains(p.detail.next.Text, "too long") {
		t.Errorf("newest is not shown: %q, %q", p.selected, p.detail.failure.Text)
	}
	if r := shownRow(t, w, 0); !r.day.Visible() || r.job.Visible() || r.day.Text != p.items[0].Day {
		t.Errorf("the day shows %q", r.day.Text)
	}
	if r := shownRow(t, w, 2); r.picture.Visible() || r.title.Text != "a fox" || r.ground.Visible() {
		t.Error("a picture that is not decoded yet is shown")
	}
	decodeAll(t, w.loader)
	if r := shownRow(t, w, 2); !r.picture.Visible() || r.picture.Image.Bounds().Dx() != thumbnailPixels {
		t.Error("the picture does not follow")
	}
	p.list.Select(2)
	decodeAll(t, w.loader)
	if d := p.detail; d.prompt.Text != "a fox\nand a hare" || !d.frame.Visible() || d.picture.image.Image == nil || d.failure.Visible() || !shownRow(t, w, 2).ground.Visible() {
		t.Errorf("selected %q, picture %v", p.selected, d.picture.image.Image)
	}
	test.Tap(p.detail.picture) // the result is gone: there is nothing larger
	if w.win.Canvas().Overlays().Top() != nil {
		t.Error("a thumbnail opens in full")
	}
	tapNamed(t, p.detail.body, "Copy")
	if got := w.app.Clipboard().Content(); got != "a fox\nand a hare" {
		t.Errorf("copied %q", got)
	}
	finish(w, observe.RecentJob{ID: "c", Kind: "video", Outcome: observe.OutcomeCompleted, Started: now, ResultPath: "/r/c.mp4", ResultExt: "mp4"})
	if p.detail.job.ID != "a" {
		t.Error("a new job took the selection away")
	}
	p.list.Select(1)
	if d := p.detail; d.open.Text != "Open video" || d.frame.Visible() || d.picture.image.Image != nil {
		t.Errorf("video: %q", d.open.Text)
	}
	doActions(t, w)
	c.take()
	test.Tap(p.detail.open)
	c.err = errTest
	test.Tap(p.detail.open)
	if got := c.take(); !slices.Equal(got, []string{"open /r/c.mp4", "open /r/c.mp4"}) || !strings.Contains(p.detail.openFails.Text, errTest.Error()) {
		t.Errorf("calls = %v, says %q", got, p.detail.openFails.Text)
	}
}

func TestJobsFilter(t *testing.T) {
	w, _ := newTestWindow(t, joined)
	p := w.jobs
	now := time.Now()
	finish(w,
		observe.RecentJob{ID: "a", Kind: "image", Prompt: "a fox", Started: now, Outcome: observe.OutcomeCompleted},
		observe.RecentJob{ID: "b", Kind: "llm", Prompt: "a hare", Started: now, Outcome: observe.OutcomeFailed})
	p.kind.SetSelected("Image")
	if len(p.items) != 2 || p.items[1].Job.ID != "a" || p.detail.job.ID != "a" {
		t.Errorf("images: %v", p.items)
	}
	p.outcome.SetSelected("Failed")
	if len(p.items) != 0 || p.empty.Text != "No job fits the filter." || !p.empty.Visible() || p.detail.body.Visible() {
		t.Errorf("failed images: %v, %q", p.items, p.empty.Text)
	}
	p.kind.SetSelected("All kinds")
	p.outcome.SetSelected("All outcomes")
	test.Type(p.search, "HARE")
	if len(p.items) != 2 || p.items[1].Job.ID != "b" {
		t.Errorf("with a word: %v", p.items)
	}
	p.search.TypedKey(&fyne.KeyEvent{Name: fyne.KeyEscape})
	if p.search.Text != "" || len(p.items) != 3 {
		t.Errorf("Escape leaves %q, %v", p.search.Text, p.items)
	}
}

// The arrow keys go from job to job, over the days.
func TestJobsArrowKeys(t *testing.T) {
	w, _ := newTestWindow(t, joined)
	w.tabs.SelectIndex(pageJobs)
	p := w.jobs
	now := time.Now()
	for i := range 30 {
		w.obs.History.Add(observe.RecentJob{ID: fmt.Sprint(i), Kind: "image", Started: now.Add(time.Duration(i-29) * 6 * time.Hour)})
	}
	w.refresh(partJobs)
	w.win.Canvas().Focus(p.list)
	press := func(k fyne.KeyName, want string) {
		t.Helper()
		p.list.TypedKey(&fyne.KeyEvent{Name: k})
		if p.detail.job.ID != want {
			t.Errorf("%s leads to job %s, want %s", k, p.detail.job.ID, want)
		}
		if p.list.focus != p.index(p.selected) {
			t.Errorf("the list's mark is at %d, the selection at %d", p.list.focus, p.index(p.selected))
		}
	}
	if p.detail.job.ID != "29" {
		t.Fatalf("begins with job %s", p.detail.job.ID)
	}
	press(fyne.KeyUp, "29")
	for i := 28; i >= 0; i-- {
		press(fyne.KeyDown, fmt.Sprint(i))
	}
	press(fyne.KeyDown, "0")
	if p.list.GetScrollOffset() == 0 {
		t.Error("the selection left the sight")
	}
	for i := 1; i < 30; i++ {
		press(fyne.KeyUp, fmt.Sprint(i))
	}
	press(fyne.KeyEnd, "0")
	press(fyne.KeyHome, "29")
	press(fyne.KeyUp, "29")
	p.list.TypedKey(&fyne.KeyEvent{Name: fyne.KeySpace})
	p.list.TypedKey(&fyne.KeyEvent{Name: fyne.KeyPageDown})
	if at := p.index(p.selected); at < 10 || at > 12 {
		t.Errorf("a page leads to row %d", at)
	}
	p.list.TypedKey(&fyne.KeyEvent{Name: fyne.KeyPageUp})
	if p.detail.job.ID != "29" {
		t.Errorf("a page back leads to job %s", p.detail.job.ID)
	}
}

func TestVeil(t *testing.T) {
	w, _ := newTestWindow(t, joined)
	w.obs.CurrentJob.Set(observe.CurrentJob{ID: "x", Kind: "image", Preview: "a secret"})
	w.refresh(partValues)
	finish(w, observe.RecentJob{ID: "a", Kind: "image", Prompt: "a secret", Preview: "a secret", Started: time.Now(), Thumbnail: pngOf(t, 9, 9, color.White)})
	p := w.jobs
	if p.running.title.Text != "a secret" || p.detail.prompt.Text != "a secret" || !p.detail.frame.Visible() {
		t.Fatal("without a veil the content is not shown")
	}
	p.veil.SetChecked(true)
	if got := p.running.title.Text + p.detail.prompt.Text + shownRow(t, w, 1).title.Text; strings.Contains(got, "secret") || p.detail.frame.Visible() || !p.detail.copyPrompt.Disabled() {
		t.Errorf("veiled: %q", got)
	}
	w.Hide()
	if was, err := recall(w.path); err != nil || !was.Veil {
		t.Errorf("the next start does not know: %+v, %v", was, err)
	}
}

func TestCancelAsksOnce(t *testing.T) {
	w, c := newTestWindow(t, joined)
	w.tabs.SelectIndex(pageJobs)
	s := w.jobs.running
	if s.title.Text != "Nothing is running" || s.gauge.Visible() || !s.cancel.Disabled() {
		t.Errorf("idle: %q", s.title.Text)
	}
	before := s.root.MinSize()
	w.obs.CurrentJob.Set(observe.CurrentJob{ID: "a", Kind: "image", Preview: "a fox", Started: time.Now(), Progress: observe.Progress{Step: 1, Total: 4}})
	w.refresh(partValues)
	if s.title.Text != "a fox" || !s.gauge.Visible() || s.bar.value != 0.25 || s.root.MinSize() != before || s.cancel.Disabled() {
		t.Errorf("running: %q, %v, %v after %v", s.title.Text, s.bar.value, s.root.MinSize(), before)
	}
	test.Tap(s.cancel)
	tapInDialog(t, w, "Cancel") // no
	if got := c.take(); len(got) != 0 {
		t.Errorf("calls = %v", got)
	}
	test.Tap(s.cancel)
	w.obs.CurrentJob.Set(observe.CurrentJob{ID: "b"}) // the next one began meanwhile
	w.refresh(partValues)
	tapInDialog(t, w, "Stop the job")
	if got := c.take(); !slices.Equal(got, []string{"cancel a"}) {
		t.Errorf("calls = %v", got)
	}
	w.obs.CurrentJob.Update(func(j observe.CurrentJob) observe.CurrentJob { j.Progress = observe.Progress{}; return j })
	w.refresh(partValues)
	if s.gauge.Visible() {
		t.Error("a bar without a measure")
	}
}

func TestJobLogIsShownAndCopied(t *testing.T) {
	w, c := newTestWindow(t, joined)
	c.jobLog = []observe.LogEntry{{At: time.Now(), Level: slog.LevelInfo, Message: "it begins"}}
	now := time.Now()
	finish(w,
		observe.RecentJob{ID: "a", Kind: "llm", Started: now}, observe.RecentJob{ID: "b", Kind: "llm", Started: now},
		observe.RecentJob{ID: "c", Kind: "llm", Started: now, Outcome: observe.OutcomeKept})
	p := w.jobs
	d := p.detail
	p.list.Select(2)
	p.list.Select(3) // leafs on before the first answer
	doActions(t, w)
	if got := c.take(); !slices.Equal(got, []string{"log of c", "log of a"}) {
		t.Errorf("asked for %v", got)
	}
	if !strings.Contains(d.log.Text, "it begins") || !strings.Contains(d.log.Text, "3 older lines") || d.copyLog.Disabled() {
		t.Errorf("shows %q", d.log.Text)
	}
	test.Tap(d.copyLog)
	if got := w.app.Clipboard().Content(); !strings.HasSuffix(got, "info it begins\n") {
		t.Errorf("copied %q", got)
	}
	p.tick(time.Now())
	doActions(t, w)
	if got := c.take(); len(got) != 0 {
		t.Errorf("asked again for %v", got)
	}
	c.err = errTest
	p.list.Select(2)
	doActions(t, w)
	if !strings.Contains(d.log.Text, errTest.Error()) || !d.copyLog.Disabled() {
		t.Errorf("shows %q", d.log.Text)
	}
}

func TestPictureInFull(t *testing.T) {
	w, _ := newTestWindow(t, joined)
	w.tabs.SelectIndex(pageJobs)
	path := filepath.Join(t.TempDir(), "a.png")
	if err := os.WriteFile(path, pngOf(t, 2000, 1000, color.White), 0o600); err != nil {
		t.Fatal(err)
	}
	finish(w, observe.RecentJob{ID: "a", Kind: "image", Started: time.Now(), ResultPath: path, ResultExt: "png"})
	decodeAll(t, w.loader)
	view := func() *viewer {
		t.Helper()
		v, ok := w.win.Canvas().Focused().(*viewer)
		if !ok {
			t.Fatalf("the focus is on %T", w.win.Canvas().Focused())
		}
		return v
	}
	test.Tap(w.jobs.detail.picture)
	v := view()
	decodeAll(t, w.loader)
	if img := v.picture.Image; img == nil || img.Bounds().Dx() != 2000 || v.note.Visible() {
		t.Errorf("shows %v", img)
	}
	v.TypedKey(&fyne.KeyEvent{Name: fyne.KeyEscape})
	if v.open() {
		t.Error("a key does not close it")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	w.jobs.list.TypedKey(&fyne.KeyEvent{Name: fyne.KeyReturn})
	v = view()
	decodeAll(t, w.loader)
	if v.picture.Image != nil || !strings.HasPrefix(v.note.Text, "The picture cannot be shown") {
		t.Errorf("says %q", v.note.Text)
	}
	test.Tap(v)
	if v.open() {
		t.Error("a click does not close it")
	}
}

func TestUnreadablePictureIsSaid(t *testing.T) {
	w, _ := newTestWindow(t, joined)
	finish(w, observe.RecentJob{ID: "a", Kind: "image", Started: time.Now(), ResultPath: filepath.Join(t.TempDir(), "gone.png"), ResultExt: "png"})
	decodeAll(t, w.loader)
	if d := w.jobs.detail; !d.problem.Visible() || d.frame.Visible() {
		t.Errorf("says %q", d.problem.Text)
	}
}

// A picture whose turn never came is asked for when its row is drawn again.
func TestDroppedThumbnailsComeLater(t *testing.T) {
	w, _ := newTestWindow(t, joined)
	small := pngOf(t, 4, 4, color.White)
	n := thumbnailRoom + 20
	for i := range n {
		w.obs.History.Add(observe.RecentJob{ID: fmt.Sprint(i), Kind: "image", Started: time.Now(), Thumbnail: small})
	}
	w.refresh(partJobs)
	for i := 1; i <= n; i++ {
		shownRow(t, w, i)
	}
	decodeAll(t, w.loader)
	if got := len(w.jobs.thumbs.pictures); got > loaderRoom+1 || got != len(w.jobs.thumbs.order) {
		t.Errorf("%d pictures, %d in order", got, len(w.jobs.thumbs.order))
	}
	for i := 1; i <= n; i++ {
		shownRow(t, w, i)
		decodeAll(t, w.loader)
		if r := shownRow(t, w, i); !r.picture.Visible() {
			t.Fatalf("row %d has no picture", i)
		}
	}
	if got := len(w.jobs.thumbs.pictures); got != thumbnailRoom || got != len(w.jobs.thumbs.order) {
		t.Errorf("%d pictures are kept, %d in order", got, len(w.jobs.thumbs.order))
	}
}

func TestLoaderSaysWhatItDrops(t *testing.T) {
	l := newLoader()
	var dropped []int
	for i := range loaderRoom + 2 {
		l.load(pictureJob{done: func(_ image.Image, err error) {
			if errors.Is(err, errDropped) {
				dropped = append(dropped, i)
			}
		}})
	}
	if !slices.Equal(dropped, []int{0, 1}) {
		t.Errorf("dropped %v", dropped)
	}
}

func TestKeptResults(t *testing.T) {
	w, c := newTestWindow(t, joined)
	w.tabs.SelectIndex(pageJobs)
	k := w.jobs.kept
	if k.button.Visible() {
		t.Error("there is room for nothing")
	}
	w.obs.Outbox.Set(observe.Outbox{Kept: []observe.KeptResult{
		{Key: "k1", JobID: "one", Kind: "image", Model: "sd", Ext: "webp", Bytes: 3_200_000, Since: time.Now().Add(-time.Hour)},
		{Key: "k2", JobID: "two", Kind: "llm", Ext: "json", Bytes: 10},
	}})
	w.refresh(partValues)
	if !k.button.Visible() || k.button.Text != "Not taken: 2" || len(k.lines) != 2 || k.lines[0].title.Text != "Image · sd" || !strings.HasPrefix(k.lines[0].facts.Text, "3.2 MB") {
		t.Errorf("shows %+v", k.rows)
	}
	test.Tap(k.button)
	tapNamed(t, k.lines[1].root, "Discard")
	tapInDialog(t, w, "Cancel")
	tapNamed(t, k.lines[1].root, "Discard")
	c.err = errTest
	tapInDialog(t, w, "Discard")
	doActions(t, w)
	if got := c.take(); !slices.Equal(got, []string{"discard k2"}) || !strings.Contains(k.note.Text, errTest.Error()) {
		t.Errorf("calls = %v, says %q", got, k.note.Text)
	}
	tapNamed(t, k.lines[0].root, "Save…")
	field, ok := w.win.Canvas().Focused().(*entry)
	if !ok || filepath.Base(field.Text) != "job-one.webp" {
		t.Fatalf("the focus is on %T", w.win.Canvas().Focused())
	}
	field.SetText("/x/y.webp")
	tapInDialog(t, w, "Save")
	doActions(t, w)
	if len(w.win.Canvas().Overlays().List()) != 2 {
		t.Error("a failure closes the dialog")
	}
	c.err = nil
	field.OnSubmitted("")
	doActions(t, w)
	if got := c.take(); !slices.Equal(got, []string{"save k1 as /x/y.webp", "save k1 as /x/y.webp"}) || len(w.win.Canvas().Overlays().List()) != 1 {
		t.Errorf("calls = %v", got)
	}
	w.obs.Outbox.Set(observe.Outbox{Kept: []observe.KeptResult{{Key: "k2", Kind: "llm"}}})
	w.refresh(partValues)
	if k.lines[1].root.Visible() || k.lines[0].title.Text != "Text" {
		t.Error("a result that is gone is still there")
	}
	w.obs.Outbox.Set(observe.Outbox{})
	w.refresh(partValues)
	if k.button.Visible() || w.win.Canvas().Overlays().Top() != nil {
		t.Error("an empty list stays open")
	}
}

// TestThreeJobsShowInTheSmallestWindow: below the head of their day, with a job running,
// while the form is closed.
func TestThreeJobsShowInTheSmallestWindow(t *testing.T) {
	w, _ := newTestWindow(t, joined)
	for i := range 5 {
		w.obs.History.Add(observe.RecentJob{ID: strconv.Itoa(i), Kind: "image", Preview: "a lighthouse", Started: time.Now()})
	}
	w.obs.CurrentJob.Set(observe.CurrentJob{ID: "now", Kind: "image", Started: time.Now(), Progress: observe.Progress{Step: 1, Total: 4}})
	w.speak(words.New(words.German)) // the page is built anew, and there are jobs by now
	w.tabs.SelectIndex(pageJobs)
	w.win.Resize(fyne.NewSize(minWidth, minHeight-menuHeight)) // the test's window has no menu bar
	if w.jobs.form.root.Visible() || !w.jobs.form.toggle.Visible() {
		t.Fatal("the form is open although there are jobs")
	}
	gap := theme.Padding()
	if got, want := w.jobs.list.Size().Height, float32(dayHeight+3*rowHeight)+3*gap; got < want {
		t.Errorf("the list is %v high, three jobs need %v", got, want)
	}
	w.newJob()
	if !w.jobs.form.root.Visible() || w.win.Canvas().Focused() != fyne.Focusable(w.jobs.form.text) {
		t.Error("Ctrl+N does not open the form")
	}
	w.jobs.form.text.TypedKey(&fyne.KeyEvent{Name: fyne.KeyEscape})
	if w.jobs.form.root.Visible() || w.win.Canvas().Focused() != fyne.Focusable(w.jobs.form.toggle) {
		t.Error("Escape does not close the form")
	}
}

func TestJobsPageFitsTheSmallestWindow(t *testing.T) {
	w, _ := newTestWindow(t, joined)
	w.obs.Outbox.Set(observe.Outbox{Kept: []observe.KeptResult{{Key: "k", Kind: "image"}}})
	w.refresh(partValues)
	room := w.tabs.Items[pageJobs].Content.MinSize()
	if room.Width > minWidth || room.Height > minHeight-headerHeight-barHeight-menuHeight-2*borderGap-40 {
		t.Errorf("the page needs %v", room)
	}
}
