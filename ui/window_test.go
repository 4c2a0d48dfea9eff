package ui

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/widget"

	"studioworker/ui/model"
	"studioworker/ui/words"
	"studioworker/worker/observe"
)

func TestRunFollowsTheSlots(t *testing.T) {
	a := test.NewTempApp(t)
	a.Settings().SetTheme(NewTheme())
	synctest.Test(t, func(t *testing.T) {
		o := observe.New()
		joined(o)
		wish := make(chan struct{})
		var states []model.State
		w, err := New(a, Config{Observers: o, Controls: &fakeControls{obs: o}, Log: slog.New(slog.DiscardHandler), Show: wish},
			func(s model.State, _ bool, _ *words.Printer) { states = append(states, s) })
		if err != nil {
			t.Fatal(err)
		}
		w.Begin()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx) }()
		settle := func() {
			time.Sleep(2 * refreshEvery)
			synctest.Wait()
		}
		settle()
		o.Session.Set(observe.Session{State: observe.SessionStopped})
		settle()
		if w.header.word.Text != "Idle" {
			t.Errorf("a hidden window was drawn: %q", w.header.word.Text)
		}
		if !slices.Equal(states, []model.State{model.StateIdle, model.StateDisconnected}) {
			t.Errorf("states = %v", states)
		}
		wish <- struct{}{} // a second launch
		settle()
		if !w.visible || w.header.word.Text != "Stopped" {
			t.Errorf("visible %v, word %q", w.visible, w.header.word.Text)
		}
		var got error
		w.actions.start(func(context.Context) error { return errTest }, func(err error) { got = err })
		settle()
		if !errors.Is(got, errTest) {
			t.Errorf("the action ended with %v", got)
		}
		close(wish)
		w.Hide()
		settle()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestWindowRemembersSizeAndPage(t *testing.T) {
	w, _ := newTestWindow(t, joined)
	w.win.Resize(fyne.NewSize(1100, 700))
	w.tabs.SelectIndex(pageLogs)
	w.Hide()
	got, err := recall(w.path)
	if err != nil || got.Width != 1100 || got.Page != pageLogs {
		t.Errorf("got %v, %v", got, err)
	}
	w.path = filepath.Join(t.TempDir(), "file", "x")
	if err := os.WriteFile(filepath.Dir(w.path), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.Remember() // cannot be saved: logged, nothing else
}

func TestADamagedStateFileIsNoTrouble(t *testing.T) {
	a := test.NewTempApp(t)
	a.Settings().SetTheme(NewTheme())
	path := filepath.Join(t.TempDir(), "window.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := observe.New()
	w, err := New(a, Config{Observers: o, Controls: &fakeControls{obs: o}, Log: slog.New(slog.DiscardHandler), StatePath: path}, func(model.State, bool, *words.Printer) {})
	if err != nil {
		t.Fatal(err)
	}
	w.Begin()
	if page := w.tabs.SelectedIndex(); page != pageStatus {
		t.Errorf("the window begins with page %d", page)
	}
}

func TestClosingHidesOnlyWithATray(t *testing.T) {
	w, c := newTestWindow(t, joined)
	w.SetTray(true)
	w.askClose()
	if w.visible || w.closing != nil {
		t.Error("with a tray, closing does not just hide")
	}
	w.SetTray(false)
	if !w.visible {
		t.Error("the tray went and took the window with it")
	}
	w.askClose()
	w.askClose() // a second click asks nothing new
	if !w.visible || w.closing == nil || len(w.win.Canvas().Overlays().List()) != 1 {
		t.Fatal("without a tray, closing does not ask")
	}
	tapOverlay(t, w, "Cancel")
	if !w.visible || w.closing != nil {
		t.Error("Cancel does not leave everything as it was")
	}
	w.askClose()
	tapOverlay(t, w, "Keep running")
	if w.visible || len(c.take()) != 0 {
		t.Error("Keep running does not hide")
	}
	w.SetTray(false)
	if w.visible {
		t.Error("a tray that never was brought the window back")
	}
	w.Show()
	w.askClose()
	tapOverlay(t, w, "Quit")
	if got := c.take(); !slices.Equal(got, []string{"quit"}) {
		t.Errorf("calls = %v", got)
	}
}

// tapOverlay taps a button of the dialog.
func tapOverlay(t *testing.T, w *Window, label string) {
	t.Helper()
	for _, o := range test.LaidOutObjects(w.win.Canvas().Overlays().Top()) {
		if b, ok := o.(*widget.Button); ok && b.Text == label {
			test.Tap(b)
			return
		}
	}
	t.Fatalf("no button %q in the dialog", label)
}

func TestMenuShortcuts(t *testing.T) {
	w, c := newTestWindow(t, joined)
	press := func(key fyne.KeyName) {
		t.Helper()
		for _, m := range w.win.MainMenu().Items {
			for _, i := range m.Items {
				if s, ok := i.Shortcut.(*desktop.CustomShortcut); ok && s.KeyName == key && s.Modifier == fyne.KeyModifierShortcutDefault {
					i.Action()
					return
				}
			}
		}
		t.Fatalf("no shortcut with %s", key)
	}
	for key, page := range map[fyne.KeyName]int{fyne.Key1: pageStatus, fyne.Key2: pageJobs, fyne.Key3: pageLogs} {
		if press(key); w.tabs.SelectedIndex() != page {
			t.Errorf("%s leads to page %d, want %d", key, w.tabs.SelectedIndex(), page)
		}
	}
	press(fyne.Key1)
	if press(fyne.KeyF); w.tabs.SelectedIndex() != pageLogs || w.win.Canvas().Focused() != fyne.Focusable(w.logs.search) {
		t.Error("Ctrl+F does not lead to the search field")
	}
	press(fyne.KeyP)
	press(fyne.KeyP)
	press(fyne.KeyN)
	press(fyne.KeyQ)
	if got := c.take(); !slices.Equal(got, []string{"pause", "resume", "quit"}) {
		t.Errorf("calls = %v", got)
	}
}

func TestWorkerMenuPausesForAWhile(t *testing.T) {
	w, c := newTestWindow(t, joined)
	for _, m := range w.win.MainMenu().Items {
		for _, i := range m.Items {
			if strings.HasPrefix(i.Label, "Pause for") || strings.HasPrefix(i.Label, "Pause until") {
				i.Action()
			}
		}
	}
	if got := c.take(); len(got) != 2 || got[0] != "pause for 1h0m0s" || !tomorrow(w.obs.Availability.Get().Until) {
		t.Errorf("calls = %v, paused until %v", got, w.obs.Availability.Get().Until)
	}
}

func TestLookAsksForThePageInSight(t *testing.T) {
	w, _ := newTestWindow(t, joined)
	for page, want := range map[int]parts{
		pageStatus: partValues | partClock, pageJobs: partValues | partClock | partJobs, pageLogs: partValues | partClock | partLogs,
	} {
		w.tabs.SelectIndex(page)
		if w.feed.wanted != want {
			t.Errorf("page %d wants %b, want %b", page, w.feed.wanted, want)
		}
	}
	w.Hide()
	if w.feed.wanted != 0 {
		t.Errorf("a hidden window wants %b", w.feed.wanted)
	}
}

func TestRelativeTimesMoveOn(t *testing.T) {
	w, _ := newTestWindow(t, joined)
	w.obs.History.Add(observe.RecentJob{ID: "a", Kind: "image", Started: time.Now().Add(time.Minute)}) // just now, however long this takes
	w.tabs.SelectIndex(pageJobs)
	w.refresh(partJobs)
	facts := func() string { return shownRow(t, w, 1).facts.Text }
	if got := facts(); got != "Image · just now · under 0.1 s" {
		t.Errorf("facts = %q", got)
	}
	if w.jobs.detail.key == "" {
		t.Error("the newest job is not in the detail")
	}
	w.jobs.jobs[0].Started = time.Now().Add(-10*time.Minute - 20*time.Second)
	w.jobs.items[1].Job.Started = w.jobs.jobs[0].Started
	w.refresh(partClock)
	if got := facts(); got != "Image · 10 min ago · under 0.1 s" {
		t.Errorf("facts = %q", got)
	}
}

func addLines(o *observe.WorkerObservers, from, n int) {
	for i := range n {
		o.Logs.Add(observe.LogEntry{At: time.Now(), Level: slog.LevelInfo, Category: "test", Message: fmt.Sprintf("line %d", from+i), JobID: fmt.Sprintf("job-%d", (from+i)%2)})
	}
}

func TestCut(t *testing.T) {
	for _, tc := range []struct {
		in   string
		n    int
		want string
	}{{"abc", 3, "abc"}, {"abcd", 3, "ab…"}, {"äöü", 3, "äöü"}, {"äöüß", 3, "äö…"}, {"ab", 1, "…"}, {"ab", 0, ""}, {"ab", -1, ""}} {
		if got := cut(tc.in, tc.n); got != tc.want {
			t.Errorf("cut(%q, %d) = %q, want %q", tc.in, tc.n, got, tc.want)
		}
	}
}
