package ui

import (
	"slices"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/widget"

	"studioworker/worker/observe"
)

// TestCrashReportWaits: a person reads the whole report before it is sent or discarded.
func TestCrashReportWaits(t *testing.T) {
	w, c := newTestWindow(t, joined)
	n := w.status.crash
	if n.root.Visible() {
		t.Fatal("a report is there without a crash")
	}
	crash := observe.Crash{ID: "crash-1.txt", At: time.Now().Add(-2 * time.Minute), Text: "studio-worker 1 crashed\npanic: x\n", Sendable: true}
	w.obs.Crash.Set(crash)
	w.refresh(partValues)
	if !n.root.Visible() || n.says.Text != "The program crashed 2 min ago. A report of it waits for you." {
		t.Fatalf("says %q", n.says.Text)
	}
	n.open()
	popUp := top(t, w)
	if !says(popUp, crash.Text) {
		t.Error("the report is not shown word for word")
	}
	c.err = errTest
	tapNamed(t, popUp, "Send")
	work(t, w)
	if n.popUp == nil || !says(popUp, "That did not work: "+errTest.Error()) {
		t.Error("a failure is not shown")
	}
	c.err = nil
	tapNamed(t, popUp, "Send")
	work(t, w)
	if n.popUp != nil {
		t.Error("the report is still open")
	}
	crash.ID, crash.Sendable = "crash-0.txt", false
	w.obs.Crash.Set(crash)
	w.refresh(partValues)
	n.open()
	tapNamed(t, top(t, w), "Discard")
	w.obs.Crash.Set(observe.Crash{})
	work(t, w)
	w.refresh(partValues)
	if n.root.Visible() || n.popUp != nil {
		t.Error("the report is still there")
	}
	if got := c.take(); !slices.Equal(got, []string{"send crash-1.txt", "send crash-1.txt", "discard crash-0.txt"}) {
		t.Errorf("calls %v", got)
	}
}

// top is the content of the pop-up before all others.
func top(t *testing.T, w *Window) fyne.CanvasObject {
	t.Helper()
	p, ok := w.win.Canvas().Overlays().Top().(*widget.PopUp)
	if !ok {
		t.Fatal("nothing stands before the window")
	}
	return p.Content
}

// says reports whether a label among what can be seen has a text.
func says(o fyne.CanvasObject, text string) bool {
	return slices.ContainsFunc(test.LaidOutObjects(o), func(o fyne.CanvasObject) bool {
		l, ok := o.(*label)
		return ok && l.Text == text
	})
}
