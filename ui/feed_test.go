package ui

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"studioworker/ui/model"
	"studioworker/worker/observe"
)

// feedTest counts what a feed asks for.
type feedTest struct {
	*feed
	obs *observe.WorkerObservers

	mu        sync.Mutex
	refreshes int
	drawn     parts // since the last call of take
	states    []model.State
	last      time.Time
	tooSoon   bool
}

// runFeed runs a feed in the bubble until the test's end.
func runFeed(t *testing.T) *feedTest {
	t.Helper()
	o := observe.New()
	f := &feedTest{feed: newFeed(o), obs: o}
	f.refresh = func(_ context.Context, p parts) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if now := time.Now(); now.Sub(f.last) < refreshEvery {
			f.tooSoon = true
		} else {
			f.last = now
		}
		f.refreshes++
		f.drawn |= p
	}
	f.state = func(_ context.Context, s model.State, _ bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.states = append(f.states, s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("feed ended with %v", err)
		}
		if f.tooSoon {
			t.Error("two refreshes came within a tenth of a second")
		}
	})
	synctest.Wait()
	return f
}

// take gives what was drawn since the last call.
func (f *feedTest) take() (int, parts) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, p := f.refreshes, f.drawn
	f.refreshes, f.drawn = 0, 0
	return n, p
}

func TestFeedCoalescesToTenASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := runFeed(t)
		f.want(partValues | partLogs)
		for range 1000 { // a thousand changes in a second
			f.obs.Heartbeat.Set(observe.Heartbeat{At: time.Now()})
			f.obs.Logs.Add(observe.LogEntry{})
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		if n, p := f.take(); n < 9 || n > 11 || p != partValues|partLogs {
			t.Errorf("%d refreshes of %b in a second, want 10 of %b", n, p, partValues|partLogs)
		}
	})
}

func TestFeedDrawsTheLastChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := runFeed(t)
		f.want(partValues)
		time.Sleep(time.Second)
		synctest.Wait()
		f.take()
		f.obs.Session.Set(observe.Session{State: observe.SessionConnected})
		synctest.Wait()
		f.obs.Session.Set(observe.Session{State: observe.SessionStopped}) // too soon: waits its turn
		synctest.Wait()
		if n, _ := f.take(); n != 1 {
			t.Errorf("%d refreshes at once, want 1", n)
		}
		time.Sleep(refreshEvery)
		synctest.Wait()
		if n, _ := f.take(); n != 1 {
			t.Errorf("%d refreshes after the wait, want 1", n)
		}
	})
}

func TestFeedRestsWhileHidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := runFeed(t)
		f.want(partValues | partClock | partJobs)
		time.Sleep(time.Second)
		f.want(0)
		time.Sleep(refreshEvery)
		synctest.Wait()
		f.take()
		for range 600 {
			f.obs.CurrentJob.Set(observe.CurrentJob{ID: "a"})
			f.obs.History.Add(observe.RecentJob{})
			f.obs.Logs.Add(observe.LogEntry{})
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		if n, p := f.take(); n != 0 {
			t.Errorf("%d refreshes of %b while hidden, want none", n, p)
		}
		f.want(partValues | partClock | partJobs)
		time.Sleep(refreshEvery)
		synctest.Wait()
		if n, p := f.take(); n != 1 || p != partValues|partJobs {
			t.Errorf("%d refreshes of %b when shown, want 1 of what changed", n, p)
		}
	})
}

func TestFeedDrawsAPageWhenItIsLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := runFeed(t)
		f.want(partValues)
		time.Sleep(time.Second)
		synctest.Wait()
		f.take()
		f.obs.Logs.Add(observe.LogEntry{})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n, p := f.take(); n != 0 {
			t.Errorf("%d refreshes of %b for a page nobody looks at", n, p)
		}
		f.want(partValues | partLogs)
		synctest.Wait()
		if n, p := f.take(); n != 1 || p != partLogs {
			t.Errorf("%d refreshes of %b on the page's turn, want 1 of %b", n, p, partLogs)
		}
	})
}

func TestFeedTicksOnlyWhileVisible(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := runFeed(t)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n, _ := f.take(); n != 0 {
			t.Errorf("%d refreshes before anyone looked", n)
		}
		f.want(partValues | partClock)
		time.Sleep(10*time.Second + refreshEvery)
		synctest.Wait()
		if n, p := f.take(); n != 11 || p != partValues|partClock {
			t.Errorf("%d refreshes of %b in 10 s, want the first and one a second", n, p)
		}
		f.want(0)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n, _ := f.take(); n != 0 {
			t.Errorf("%d ticks while hidden", n)
		}
	})
}

func TestFeedTellsTheStateAlsoWhileHidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := runFeed(t)
		f.obs.Settings.Set(observe.Settings{StudioURL: "u"})
		time.Sleep(2 * refreshEvery)
		f.obs.Session.Set(observe.Session{State: observe.SessionConnected})
		time.Sleep(2 * refreshEvery)
		for step := range 20 { // progress is no new state
			f.obs.CurrentJob.Set(observe.CurrentJob{ID: "a", Progress: observe.Progress{Step: step}})
			time.Sleep(2 * refreshEvery)
		}
		f.obs.CurrentJob.Set(observe.CurrentJob{})
		f.obs.Availability.Set(observe.Availability{Block: observe.BlockPaused})
		time.Sleep(2 * refreshEvery)
		synctest.Wait()
		want := []model.State{model.StateAttention, model.StateDisconnected, model.StateIdle, model.StateBusy, model.StatePaused}
		if len(f.states) != len(want) {
			t.Fatalf("states = %v, want %v", f.states, want)
		}
		for i, s := range want {
			if f.states[i] != s {
				t.Fatalf("states = %v, want %v", f.states, want)
			}
		}
	})
}
