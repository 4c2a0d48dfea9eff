package ui

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/test"

	"studioworker/ui/model"
	"studioworker/ui/words"
	"studioworker/worker/observe"
)

// noticeApp notes what the desktop is to say.
type noticeApp struct {
	fyne.App

	mu   sync.Mutex
	sent []string
}

func (a *noticeApp) SendNotification(n *fyne.Notification) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sent = append(a.sent, n.Title)
}

func (a *noticeApp) take() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	sent := a.sent
	a.sent = nil
	return sent
}

func TestNoticesAreCollected(t *testing.T) {
	a := &noticeApp{App: test.NewTempApp(t)}
	a.Settings().SetTheme(NewTheme())
	synctest.Test(t, func(t *testing.T) {
		o := observe.New()
		joined(o)
		add := func(outcome observe.Outcome) {
			o.History.Add(observe.RecentJob{ID: "a", Kind: "image", Outcome: outcome})
		}
		add(observe.OutcomeFailed) // before the start: no news
		w, err := New(a, Config{Observers: o, Controls: &fakeControls{obs: o}, Log: slog.New(slog.DiscardHandler)}, func(model.State, bool, *words.Printer) {})
		if err != nil {
			t.Fatal(err)
		}
		w.Begin()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.tellJobs(ctx) }()
		settle := func() {
			time.Sleep(2 * burst)
			synctest.Wait()
		}
		expect := func(want ...string) {
			t.Helper()
			settle()
			if got := a.take(); !slices.Equal(got, want) {
				t.Errorf("said %q, want %q", got, want)
			}
		}
		expect()
		add(observe.OutcomeKept)
		o.History.Update(func(observe.RecentJob) bool { return true }, func(j observe.RecentJob) observe.RecentJob {
			j.Outcome = observe.OutcomeCompleted
			return j
		})
		expect("Job done")
		for range 20 { // a burst, longer than one collection
			add(observe.OutcomeCompleted)
			time.Sleep(burst / 10)
		}
		settle()
		if got := a.take(); len(got) > 3 {
			t.Errorf("a burst said %q", got)
		}
		add(observe.OutcomeFailed)
		expect("Job failed")
		w.prefs.NotifyFailed = false
		add(observe.OutcomeFailed)
		expect()
		w.visible = true
		w.Front(true)
		add(observe.OutcomeCompleted)
		expect()
		w.Front(false)
		add(observe.OutcomeCompleted)
		expect("Job done")
		add(observe.OutcomeCompleted) // the program ends before it is said
		synctest.Wait()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		expect()
	})
}
