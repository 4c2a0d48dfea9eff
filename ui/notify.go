package ui

import (
	"context"
	"time"

	"fyne.io/fyne/v2"

	"studioworker/ui/model"
	"studioworker/worker/observe"
)

// burst is how long finished jobs are collected for one notice.
const burst = 5 * time.Second

// Front says whether the window is in front of all others: what happens there needs
// no notice.
func (w *Window) Front(on bool) { w.front = on }

// Tooltip is the sentence for the tray, in the language in use.
func (w *Window) Tooltip() string { return model.Tooltip(w.words, model.Take(w.obs), time.Now()) }

// tellJobs has the desktop say what became of jobs, until ctx ends.
func (w *Window) tellJobs(ctx context.Context) error {
	seen := w.told
	for newest := range w.obs.History.Newest.Watch(ctx) {
		if newest == seen {
			continue
		}
		select {
		case <-time.After(burst):
		case <-ctx.Done():
			return nil
		}
		var jobs []observe.RecentJob
		jobs, seen = w.obs.History.Since(seen)
		var notice model.Notice
		send := false
		onUI(ctx, func() {
			if !w.front || !w.visible {
				notice, send = model.NewNotice(w.words, jobs, w.prefs.NotifyDone, w.prefs.NotifyFailed)
			}
		})
		if !send || ctx.Err() != nil {
			continue
		}
		sent := make(chan struct{})
		go func() { // it blocks as long as the desktop's server does, and cannot be stopped
			defer close(sent)
			w.app.SendNotification(fyne.NewNotification(notice.Title, notice.Body))
		}()
		select {
		case <-sent:
		case <-ctx.Done():
		}
	}
	return nil
}
