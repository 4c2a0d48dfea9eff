package ui

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"studioworker/ui/model"
	"studioworker/ui/words"
	"studioworker/worker/observe"
)

// The shortest time between two refreshes: ten a second, and of the log, whose
// text is costly to draw and read by nobody that fast, four.
const (
	refreshEvery = 100 * time.Millisecond
	logsEvery    = 250 * time.Millisecond
)

// parts is a set of what has changed, or of what someone looks at.
type parts uint8

const (
	partValues parts = 1 << iota // the single values: header, status, running job
	partJobs                     // the list of finished jobs
	partLogs                     // the log
	partClock                    // a second has passed: relative times
)

// feed is the one subscriber between the slots and the window. It collects what
// changed and asks for a refresh of the parts that someone looks at, at most
// ten times a second; what nobody looks at waits, at no cost. The state, which
// the tray shows also while the window is hidden, is told whenever it changes.
type feed struct {
	obs   *observe.WorkerObservers
	words *words.Printer // of any language: only the state is taken from it

	// refresh redraws parts; it is called from Run's goroutine and returns when
	// the redraw is done, so that a busy window skips values.
	refresh func(context.Context, parts)
	// state is told the state and whether the person has paused.
	state func(ctx context.Context, s model.State, paused bool)

	wake chan struct{} // room for one: something below changed

	mu     sync.Mutex
	dirty  parts // changed since it was last drawn
	wanted parts // looked at now
}

func newFeed(obs *observe.WorkerObservers) *feed {
	return &feed{obs: obs, words: words.New(), wake: make(chan struct{}, 1)}
}

// want says what is looked at from now on; 0 while the window is hidden. What
// changed meanwhile is drawn at once. Safe for concurrent use.
func (f *feed) want(p parts) {
	f.mu.Lock()
	f.wanted = p
	f.mu.Unlock()
	f.poke()
}

// mark notes that parts changed. Safe for concurrent use.
func (f *feed) mark(p parts) {
	f.mu.Lock()
	f.dirty |= p
	seen := p&(f.wanted|partValues) != 0 // the values also make the tray's state
	f.mu.Unlock()
	if seen {
		f.poke()
	}
}

func (f *feed) poke() {
	select {
	case f.wake <- struct{}{}:
	default: // it will look at everything anyway
	}
}

// due takes what is both changed and looked at. A refresh of anything renews
// the relative times as well.
// Parts of hold wait.
func (f *feed) due(hold parts) (now parts, visible bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now = f.dirty & f.wanted &^ hold
	f.dirty &^= now
	return now, f.wanted != 0
}

// waits says whether a part is both changed and looked at.
func (f *feed) waits(p parts) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dirty&f.wanted&p != 0
}

// Run follows the slots until ctx ends.
func (f *feed) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	follow(ctx, g, &f.obs.Settings, func() { f.mark(partValues) })
	follow(ctx, g, &f.obs.Config, func() { f.mark(partValues) })
	follow(ctx, g, &f.obs.Update, func() { f.mark(partValues) })
	follow(ctx, g, &f.obs.Crash, func() { f.mark(partValues) })
	follow(ctx, g, &f.obs.Registration, func() { f.mark(partValues) })
	follow(ctx, g, &f.obs.Session, func() { f.mark(partValues) })
	follow(ctx, g, &f.obs.Heartbeat, func() { f.mark(partValues) })
	follow(ctx, g, &f.obs.Availability, func() { f.mark(partValues) })
	follow(ctx, g, &f.obs.CurrentJob, func() { f.mark(partValues) })
	follow(ctx, g, &f.obs.Outbox, func() { f.mark(partValues) })
	follow(ctx, g, &f.obs.GPUs, func() { f.mark(partValues) })
	follow(ctx, g, &f.obs.Downloads, func() { f.mark(partValues) })
	follow(ctx, g, &f.obs.History.Newest, func() { f.mark(partJobs) })
	follow(ctx, g, &f.obs.Logs.Newest, func() { f.mark(partLogs) })
	g.Go(func() error { f.pump(ctx); return nil })
	return g.Wait()
}

// follow calls changed for the slot's value and for each newer one.
func follow[T any](ctx context.Context, g *errgroup.Group, slot *observe.Slot[T], changed func()) {
	g.Go(func() error {
		for range slot.Watch(ctx) {
			changed()
		}
		return nil
	})
}

// pump is the loop that asks for refreshes.
func (f *feed) pump(ctx context.Context) {
	second := time.NewTicker(time.Second)
	second.Stop()
	defer second.Stop()
	ticking := false
	gap := time.NewTimer(0) // runs while the last refresh is too young
	defer gap.Stop()
	logs := time.NewTimer(0) // runs while the log was drawn a moment ago
	defer logs.Stop()
	hold := partLogs

	var told model.State
	var toldPaused bool
	tip := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		case <-second.C:
			f.mark(partClock)
		case <-logs.C:
			if hold = 0; !f.waits(partLogs) {
				continue
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-gap.C:
		}
		gap.Reset(refreshEvery)

		s := model.Take(f.obs)
		now := time.Now()
		if head, says := model.Head(f.words, s, now), model.Tooltip(f.words, s, now); head.State != told || s.Paused() != toldPaused || says != tip {
			told, toldPaused, tip = head.State, s.Paused(), says
			f.state(ctx, told, toldPaused)
		}
		due, visible := f.due(hold)
		if visible != ticking { // nothing ticks while nobody looks
			if ticking = visible; visible {
				second.Reset(time.Second)
			} else {
				second.Stop()
			}
		}
		if due&partLogs != 0 {
			hold = partLogs
			logs.Reset(logsEvery)
		}
		if due != 0 {
			f.refresh(ctx, due)
		}
	}
}
