package worker

import "studioworker/worker/outbox"

// SaveKept copies a result that the studio would not take to path, in place of a
// file that is there. key is that of observe.KeptResult. The result stays.
func (w *Worker) SaveKept(key, path string) error { return w.outbox.SaveKept(key, path) }

// DiscardKept removes a result that the studio would not take, for good. key is
// that of observe.KeptResult.
func (w *Worker) DiscardKept(key string) error {
	e, err := w.outbox.DiscardKept(key)
	if err != nil {
		return err
	}
	w.runner.NotDelivered(e, outbox.ErrDiscarded)
	w.cfg.Log.Info("kept result discarded by the person", "job_id", e.JobID)
	return nil
}
