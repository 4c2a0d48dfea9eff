package ui

import (
	"context"
	"errors"

	"fyne.io/fyne/v2"
	"golang.org/x/sync/errgroup"
)

// errBusy is what a button says when too much is under way already.
var errBusy = errors.New("the program is still busy with what you asked before")

// actionRoom bounds what may wait; each form has at most one in flight.
const actionRoom = 8

// action is something a button asked for that may take a while.
type action struct {
	do   func(context.Context) error
	done func(error) // on the UI goroutine
}

// actions runs what buttons ask for away from the UI goroutine.
type actions chan action

// start asks for do; done hears how it ended. UI goroutine only.
func (a actions) start(do func(context.Context) error, done func(error)) {
	select {
	case a <- action{do, done}:
	default:
		done(errBusy)
	}
}

// Run runs actions, side by side, until ctx ends and the last has returned.
func (a actions) Run(ctx context.Context) error {
	var g errgroup.Group
	for {
		select {
		case <-ctx.Done():
			return g.Wait()
		case next := <-a:
			g.Go(func() error {
				err := next.do(ctx)
				onUI(ctx, func() { next.done(err) })
				return nil
			})
		}
	}
}

// onUI runs f on the UI goroutine and waits until it has run or ctx has ended.
// Waiting for f alone could last for ever: Fyne drops what is queued when it
// quits.
func onUI(ctx context.Context, f func()) {
	done := make(chan struct{})
	fyne.Do(func() {
		defer close(done)
		if ctx.Err() == nil {
			f()
		}
	})
	select {
	case <-done:
	case <-ctx.Done():
	}
}
