package ui

import (
	"slices"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/test"

	"studioworker/ui/model"
	"studioworker/worker/observe"
)

func TestStatusShowsTheDay(t *testing.T) {
	w, _ := newTestWindow(t, joined)
	p := w.status
	if p.chartNote.Text != "0 done, 0 failed, busy 0 % of the time" {
		t.Errorf("says %q", p.chartNote.Text)
	}
	ended := func(o observe.Outcome) observe.RecentJob {
		return observe.RecentJob{ID: string(o), Kind: "image", Started: time.Now().Add(-30 * time.Minute), Duration: 15 * time.Minute, Outcome: o}
	}
	w.obs.History.Add(ended(observe.OutcomeCompleted))
	w.obs.History.Add(ended(observe.OutcomeFailed))
	w.refresh(partClock)
	if p.chartNote.Text != "1 done, 1 failed, busy 2 % of the time" {
		t.Errorf("says %q", p.chartNote.Text)
	}
	r := test.WidgetRenderer(p.chart).(*chartRenderer)
	last := &r.hours[model.ChartHours-1]
	if d, f := last.done.Size().Height, last.failed.Size().Height; d <= 0 || d != f || last.failed.Hidden || last.failed.Position().Y+f != last.done.Position().Y {
		t.Errorf("the bar is %v and %v high", d, f)
	}
	if share := last.busy.Size().Width / last.idle.Size().Width; share < 0.49 || share > 0.51 {
		t.Errorf("busy %v of the hour", share)
	}
	if first := &r.hours[0]; first.done.Size().Height != 0 || !first.failed.Hidden || first.busy.Size().Width != 0 {
		t.Error("an hour without jobs has a bar")
	}
	if x := last.ground.Position().X + last.ground.Size().Width; x > p.chart.Size().Width+0.1 {
		t.Errorf("the last hour ends at %v of %v", x, p.chart.Size().Width)
	}
}

func TestStatusShowsDownloads(t *testing.T) {
	w, _ := newTestWindow(t, joined)
	p := w.status
	if !p.downloadNote.Visible() {
		t.Error("nothing is said without a download")
	}
	w.obs.Downloads.Set([]observe.Download{{Model: "sd", File: "sd.gguf", Bytes: 1e9, Total: 4e9, Rate: 1e7}, {File: "other", Bytes: 5}})
	w.refresh(partValues)
	if p.downloadNote.Visible() || len(p.files) != 2 || p.files[0].bar.value != 0.25 || p.files[0].name.Text != "sd · sd.gguf" || p.files[1].bar.Visible() {
		t.Errorf("shows %+v", p.files)
	}
	w.obs.Downloads.Set(nil)
	w.refresh(partValues)
	if !p.downloadNote.Visible() || p.files[0].root.Visible() {
		t.Error("a download that has ended is still there")
	}
}

func TestFinishThenQuit(t *testing.T) {
	w, c := newTestWindow(t, joined)
	test.Tap(w.status.finish)
	if got := c.take(); !slices.Equal(got, []string{"finish"}) {
		t.Errorf("without a job: %v", got)
	}
	w.obs.CurrentJob.Set(observe.CurrentJob{ID: "a"})
	w.refresh(partValues)
	test.Tap(w.status.finish)
	tapInDialog(t, w, "Cancel")
	test.Tap(w.status.finish)
	tapInDialog(t, w, "Finish, then quit")
	if got := c.take(); !slices.Equal(got, []string{"finish"}) {
		t.Errorf("with a job: %v", got)
	}
	w.obs.Availability.Set(observe.Availability{Block: observe.BlockStopping})
	w.refresh(partValues)
	if !w.status.finish.Disabled() {
		t.Error("a program that stops is asked to")
	}
}

// Rows of the history stand as close together as the theme of the page says.
func TestHistoryRowsAreDense(t *testing.T) {
	w, _ := newTestWindow(t, joined)
	w.tabs.SelectIndex(pageJobs)
	finish(w, observe.RecentJob{ID: "a", Kind: "image", Preview: "a fox", Started: time.Now()})
	r := shownRow(t, w, 1)
	r.Resize(fyne.NewSize(400, rowHeight))
	if h := r.facts.Position().Y + r.facts.Size().Height; h > rowHeight || r.facts.Position().X != r.title.Position().X {
		t.Errorf("the second line ends at %v, at %v beside %v", h, r.facts.Position().X, r.title.Position().X)
	}
	if h := r.title.MinSize().Height; h > 28 {
		t.Errorf("a line is %v high", h)
	}
}
