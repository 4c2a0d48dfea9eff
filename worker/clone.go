package worker

import (
	"context"
	"fmt"

	"studioworker/worker/config"
	"studioworker/worker/identity"
	"studioworker/worker/observe"
)

// checkMachine finds out whether the config was copied from another computer. Two
// computers with one registration would take the session from each other for
// ever, so the copy sets the credentials aside and registers anew. A computer
// whose id cannot be read is not checked.
func (w *Worker) checkMachine(ctx context.Context) error {
	if w.cfg.MachineID == nil {
		return nil
	}
	id, err := w.cfg.MachineID(ctx)
	if err != nil {
		w.cfg.Log.Info("a copied config cannot be told on this computer", "error", err)
		return nil
	}
	w.mu.Lock()
	w.machineID = id
	w.mu.Unlock()
	c := w.cfg.Store.Get()
	if c.InstallID == "" {
		return nil // the hash comes with it
	}
	switch c.MachineHash {
	case w.machineHash(c.InstallID):
		return nil
	case "": // written by an older version, or by the reference program
		err := w.cfg.Store.Update(func(c *config.Config) { c.MachineHash = w.machineHash(c.InstallID) })
		if err != nil {
			w.cfg.Log.Warn("the computer's hash cannot be saved", "error", err)
		}
		return nil
	}
	aside, err := w.cfg.Store.SetAside("cloned")
	if err == nil {
		err = w.cfg.Store.Update((*config.Config).ResetRegistration)
	}
	if err != nil {
		return fmt.Errorf("the config was copied from another computer, and its credentials cannot be set aside: %w", err)
	}
	w.cfg.Log.Warn("the config was copied from another computer: registering anew, the operator must approve", "old_worker_id", c.WorkerID, "kept_as", aside)
	note := "the config was copied from another computer; the old credentials are kept in " + aside
	why := observe.Why{Reason: observe.ReasonCopied, Said: aside}
	w.mu.Lock()
	w.askedAnew, w.askedWhy = note, why
	w.mu.Unlock()
	w.cfg.Observers.Registration.Set(observe.Registration{State: observe.RegistrationPristine, Reason: note, Why: why})
	return nil
}

// note says why this worker registers anew, if it was not the person's wish.
func (w *Worker) note() (string, observe.Why) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.askedAnew, w.askedWhy
}

// machineHash ties an install id to this computer; it is empty when the computer
// cannot be told from others.
func (w *Worker) machineHash(installID string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.machineID == "" || installID == "" {
		return ""
	}
	return identity.Hash(w.machineID, installID)
}
