package ui

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/test"

	"studioworker/ui/model"
	"studioworker/worker/observe"
)

// rest does what the page put off and draws what is new.
func rest(t *testing.T, w *Window) {
	t.Helper()
	w.refresh(partLogs)
	doActions(t, w)
}

func TestLogsFollowUntilOneScrollsUp(t *testing.T) {
	w, _ := newTestWindow(t, joined)
	w.tabs.SelectIndex(pageLogs)
	rest(t, w)
	p := w.logs
	if !p.empty.Visible() || p.empty.Text != "Nothing has been logged yet." {
		t.Errorf("empty: %q", p.empty.Text)
	}
	addLines(w.obs, 0, 100)
	rest(t, w)
	if p.empty.Visible() || p.list.GetScrollOffset() != p.endOffset() || p.endOffset() == 0 {
		t.Fatalf("not at the end: %v of %v", p.list.GetScrollOffset(), p.endOffset())
	}
	addLines(w.obs, 100, 10)
	rest(t, w)
	if p.list.GetScrollOffset() != p.endOffset() || !p.follow.Checked || p.news.Visible() {
		t.Error("it does not follow")
	}
	p.list.ScrollToOffset(100)
	addLines(w.obs, 110, 1)
	rest(t, w)
	if p.follow.Checked || p.list.GetScrollOffset() != 100 || p.news.Text != "1 new line" {
		t.Errorf("scrolled up: follow %v, offset %v, %q", p.follow.Checked, p.list.GetScrollOffset(), p.news.Text)
	}
	for i := range 9 { // more than the page holds: the oldest go
		addLines(w.obs, 111+i*600, 600)
		rest(t, w)
	}
	first := p.lines.Rows()[0].Seq
	if want := max(0, 100-float32(first-1)*(logRowHeight+p.gap())); first < 1000 || p.list.GetScrollOffset() != want {
		t.Errorf("the text moved under the eye: offset %v, want %v, first line %d", p.list.GetScrollOffset(), want, first)
	}
	if !p.news.Visible() || p.news.Text != w.words.T("%d new lines", p.lines.After(p.read)) || p.lines.Lost() != 0 {
		t.Errorf("says %q", p.news.Text)
	}
	test.Tap(p.news)
	if !p.follow.Checked || p.news.Visible() || p.list.GetScrollOffset() != p.endOffset() {
		t.Error("the button does not bring the end back")
	}
}

func TestLogsFilterSelectCopyAndSave(t *testing.T) {
	w, _ := newTestWindow(t, joined)
	w.tabs.SelectIndex(pageLogs)
	p := w.logs
	addLines(w.obs, 0, 4)
	w.obs.Logs.Add(observe.LogEntry{At: time.Now(), Level: slog.LevelWarn, Category: "test", Message: "careful"})
	w.obs.Logs.Add(observe.LogEntry{At: time.Now(), Level: slog.LevelDebug, Category: "test", Message: "detail"})
	rest(t, w)
	rows := p.lines.Rows
	if len(rows()) != 5 {
		t.Fatalf("%d lines at the start, want all but the debug line", len(rows()))
	}
	p.level.SetSelected("Warnings and errors")
	if len(rows()) != 1 || rows()[0].Entry.Message != "careful" {
		t.Errorf("warnings: %+v", rows())
	}
	copied := func(want string) {
		t.Helper()
		test.Tap(p.copyIt)
		if got := w.app.Clipboard().Content(); got != want || want == "" {
			t.Errorf("copied %q, want %q", got, want)
		}
	}
	copied(model.LogText(rows(), time.Local))
	p.level.SetSelected("All levels")
	p.list.Select(1)
	if p.line.Text != rows()[1].Full(time.Local) || p.follow.Checked {
		t.Errorf("shows %q", p.line.Text)
	}
	copied(model.LogText(rows()[1:2], time.Local))
	p.choose(3, true) // with Shift
	if p.line.Text != "3 lines are selected" || !p.onlyJob.Disabled() || !p.isSelected(rows()[2].Seq) || p.isSelected(rows()[0].Seq) {
		t.Errorf("shows %q", p.line.Text)
	}
	w.win.Canvas().Focus(p.list)
	p.list.TypedShortcut(&fyne.ShortcutCopy{})
	if got := w.app.Clipboard().Content(); got != model.LogText(rows()[1:4], time.Local) {
		t.Errorf("copied %q", got)
	}

	path := filepath.Join(t.TempDir(), "some.log")
	test.Tap(p.saveIt)
	field, ok := w.win.Canvas().Focused().(*entry)
	if !ok {
		t.Fatalf("the focus is on %T", w.win.Canvas().Focused())
	}
	field.SetText(path)
	tapInDialog(t, w, "Save")
	doActions(t, w)
	if text, err := os.ReadFile(path); err != nil || string(text) != model.LogText(rows()[1:4], time.Local) {
		t.Errorf("saved %q, %v", text, err)
	}
	test.Tap(p.saveIt)
	w.win.Canvas().Focused().(*entry).SetText(path)
	tapInDialog(t, w, "Save")
	doActions(t, w)
	if text, err := os.ReadFile(path); err != nil || len(text) == 0 || w.win.Canvas().Overlays().Top() == nil {
		t.Errorf("a file that is there was replaced: %q, %v", text, err)
	}
	tapInDialog(t, w, "Cancel")

	p.list.TypedKey(&fyne.KeyEvent{Name: fyne.KeyHome})
	if p.line.Text != rows()[0].Full(time.Local) {
		t.Errorf("Home shows %q", p.line.Text)
	}
	for _, k := range []struct {
		key  fyne.KeyName
		want int
	}{{fyne.KeyUp, 0}, {fyne.KeyDown, 1}, {fyne.KeyDown, 2}, {fyne.KeyUp, 1}, {fyne.KeyPageDown, 5}, {fyne.KeyPageUp, 0}, {fyne.KeyEnd, 5}, {fyne.KeyDown, 5}} {
		p.list.TypedKey(&fyne.KeyEvent{Name: k.key})
		if p.line.Text != rows()[k.want].Full(time.Local) {
			t.Errorf("%s shows %q, want line %d", k.key, p.line.Text, k.want)
		}
	}
	p.list.Select(1)
	test.Tap(p.onlyJob)
	if len(rows()) != 2 || p.search.Text != "job-1" || rows()[0].Entry.JobID != "job-1" {
		t.Errorf("only job-1: %+v", rows())
	}
	p.search.SetText("not there")
	doActions(t, w)
	if !p.empty.Visible() || p.empty.Text != "No line fits the filter." {
		t.Errorf("says %q", p.empty.Text)
	}
	p.search.TypedKey(&fyne.KeyEvent{Name: fyne.KeyEscape})
	if p.search.Text != "" || len(rows()) != 6 {
		t.Errorf("Escape left %q and %d lines", p.search.Text, len(rows()))
	}
}

// The files of the log come before the lines of this run: some at once, more at the
// top, and whatever fits a search.
func TestLogsGoBackThroughTheFiles(t *testing.T) {
	w, c := newTestWindow(t, joined)
	w.tabs.SelectIndex(pageLogs)
	p := w.logs
	start := time.Now().Add(-3 * time.Hour)
	for i := range 3000 {
		c.archive = append(c.archive, observe.LogEntry{At: start.Add(time.Duration(i) * time.Second).Truncate(time.Millisecond), Message: fmt.Sprint("old ", i), Category: "ws"})
	}
	addLines(w.obs, 0, 20)
	rest(t, w)
	if n := len(p.lines.Rows()); n != 1020 || !p.follow.Checked || p.list.GetScrollOffset() != p.endOffset() {
		t.Errorf("%d lines at the start, at %v of %v", n, p.list.GetScrollOffset(), p.endOffset())
	}
	if !strings.HasPrefix(p.note.Text, "Scroll to the top") {
		t.Errorf("says %q", p.note.Text)
	}
	p.list.ScrollToOffset(0)
	w.refresh(partClock) // somebody scrolled, and nothing else happened
	doActions(t, w)
	if n := len(p.lines.Rows()); n != 2019 || p.follow.Checked || p.list.GetScrollOffset() != 999*(logRowHeight+p.gap()) {
		t.Errorf("%d lines at the top, at %v", n, p.list.GetScrollOffset())
	}
	for range 3 {
		p.list.ScrollToOffset(0)
		rest(t, w)
	}
	if n := len(p.lines.Rows()); n != 3020 || !p.lines.Ended() || !strings.HasPrefix(p.note.Text, "There are no older") {
		t.Errorf("%d lines in all, says %q", n, p.note.Text)
	}
	p.search.SetText("old 12")
	doActions(t, w)
	if rows := p.lines.Rows(); len(rows) != 111 || !slices.ContainsFunc(rows, func(l model.LogLine) bool { return l.Entry.Message == "old 12" }) {
		t.Errorf("%d lines fit", len(rows))
	}
	c.err = errTest
	p.search.SetText("old 13")
	doActions(t, w)
	rest(t, w)
	if !strings.Contains(p.note.Text, errTest.Error()) {
		t.Errorf("says %q", p.note.Text)
	}
}

func TestLogRowCutsToItsWidth(t *testing.T) {
	test.NewTempApp(t).Settings().SetTheme(NewTheme())
	r := newLogRow()
	r.show(model.LogLine{Entry: observe.LogEntry{
		At: time.Now(), Level: slog.LevelWarn, Category: "a category that is long", Message: "a message that is longer than the row by far", JobID: "job-1234567",
	}}, true)
	r.Resize(fyne.NewSize(400, logRowHeight))
	if got := r.cells[cellCategory].Text; got != "a category …" {
		t.Errorf("category = %q", got)
	}
	job := r.cells[cellJob]
	if end := job.Position().X + fyne.MeasureText(job.Text, logTextSize, job.TextStyle).Width; end > 400 {
		t.Errorf("the job id ends at %v of 400", end)
	}
	msg := r.cells[cellMessage]
	if end := msg.Position().X + fyne.MeasureText(msg.Text, logTextSize, msg.TextStyle).Width; end > job.Position().X || len(msg.Text) < 8 {
		t.Errorf("the message %q ends at %v, the job id starts at %v", msg.Text, end, job.Position().X)
	}
	r.Resize(fyne.NewSize(50, logRowHeight)) // no room at all
	if r.cells[cellMessage].Text != "" {
		t.Errorf("message = %q", r.cells[cellMessage].Text)
	}
}
