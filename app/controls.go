package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"studioworker/worker/availability/disk"
	"studioworker/worker/protocol"
)

// The methods below are the window's Controls.

// Pause takes no new jobs.
func (h *host) Pause() { h.worker.Pause() }

// PauseUntil takes no new jobs until the clock shows until.
func (h *host) PauseUntil(until time.Time) { h.worker.PauseUntil(until) }

// Resume takes jobs again.
func (h *host) Resume() { h.worker.Resume() }

// ResetRegistration asks the studio anew.
func (h *host) ResetRegistration(context.Context) error { return h.worker.ResetRegistration() }

// SetThreshold saves the largest GPU memory estimate that is taken, in GB.
func (h *host) SetThreshold(_ context.Context, gb float64) error { return h.worker.SetThreshold(gb) }

// TryHere starts a private studio on this computer and joins it.
func (h *host) TryHere(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.private == nil {
		p, err := openPrivateStudio(privateDir(h.path), "", h.log) //nolint:contextcheck // opening ends by its own limits
		if err != nil {
			return err
		}
		h.private = p
		h.studios <- p
	}
	return h.worker.SetStudio(h.private.studio.Addr(), true)
}

// Join asks the studio at address to let this computer in. An address without a
// scheme is taken as https, or as http on this computer.
func (h *host) Join(ctx context.Context, address string) error {
	address = strings.TrimSpace(address)
	if address == "" {
		return errors.New("enter the address of a studio")
	}
	if !strings.Contains(address, "://") {
		scheme := "https://"
		if host, _, _ := strings.Cut(address, ":"); host == "localhost" || strings.HasPrefix(host, "127.") {
			scheme = "http://"
		}
		address = scheme + address
	}
	if err := h.worker.CheckStudio(ctx, address); err != nil {
		return err
	}
	return h.worker.SetStudio(address, false)
}

// ApplyConfig saves settings and takes them up.
func (h *host) ApplyConfig(_ context.Context, changes map[string]string) error {
	return h.worker.ApplyConfig(changes)
}

// FreeSpace asks the nearest folder above path that exists.
func (h *host) FreeSpace(path string) (uint64, error) {
	for {
		n, err := disk.Free(path)
		up := filepath.Dir(path)
		if err == nil || !errors.Is(err, fs.ErrNotExist) || up == path {
			return n, err
		}
		path = up
	}
}

// CheckUpdate looks for a newer version.
func (h *host) CheckUpdate(ctx context.Context) error { return h.updates.check(ctx) }

// RestartForUpdate restarts into the newest version as soon as this one can stop.
func (h *host) RestartForUpdate(ctx context.Context) error { return h.updates.apply(ctx, false) }

// Submit queues a job in the private studio.
func (h *host) Submit(ctx context.Context, kind, text string) error {
	h.mu.Lock()
	p := h.private
	h.mu.Unlock()
	if p == nil {
		return errors.New("only a private studio on this computer takes jobs from here")
	}
	job, err := makeJob(ctx, p.client, protocol.TaskKind(kind), "", strings.TrimSpace(text), servedBy(h.observers.Settings.Get().Models))
	if err != nil {
		return err
	}
	_, err = p.client.Submit(ctx, job)
	return err
}

// Open shows a result with the system's program for its kind. Only results of
// this worker are opened.
func (h *host) Open(path string) error {
	dir, err := filepath.Rel(filepath.Dir(h.path), path)
	if err != nil || !filepath.IsLocal(dir) {
		return errors.New("this file is not a result of this worker")
	}
	if err := openOutside(path); err != nil {
		return fmt.Errorf("no program opens it: the file is %s", path)
	}
	return nil
}

// Quit stops the program in good order.
func (h *host) Quit() { h.quitOnce.Do(func() { close(h.quit) }) }
