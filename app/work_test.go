//go:build !windows

package app

import (
	"context"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"studioworker/worker/observe"
)

// watchFor waits until ready says so of a slot's value.
func watchFor[T any](t *testing.T, what string, slot *observe.Slot[T], ready func(T) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for v := range slot.Watch(ctx) {
		if ready(v) {
			return
		}
	}
	t.Fatalf("waited in vain for %s", what)
}

// TestFinishThenQuit: the running job ends and is delivered, then the program is
// over; the next one still knows the job and its log.
func TestFinishThenQuit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	h, err := openHost(t.Context(), hostConfig{path: path, stderr: io.Discard, private: true})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- h.run(context.WithoutCancel(t.Context())) }()
	watchFor(t, "the session", &h.observers.Session, func(s observe.Session) bool { return s.State == observe.SessionConnected })
	prompt := "a lighthouse " + strings.Repeat("in the fog ", 100)
	if err := h.Submit(t.Context(), "image", prompt); err != nil {
		t.Fatal(err)
	}
	watchFor(t, "the job", &h.observers.CurrentJob, func(j observe.CurrentJob) bool { return j.ID != "" })
	h.FinishThenQuit()
	h.FinishThenQuit() // a second click
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	jobs, _ := h.observers.History.Since(0)
	if len(jobs) != 1 || jobs[0].Outcome != observe.OutcomeCompleted || jobs[0].Prompt != strings.TrimSpace(prompt) || jobs[0].ThumbnailPath == "" {
		t.Fatalf("history %+v", jobs)
	}
	lines, _, err := h.JobLog(t.Context(), jobs[0].ID)
	if err != nil || len(lines) == 0 {
		t.Errorf("log of the job: %v, %v", lines, err)
	}

	h, err = openHost(t.Context(), hostConfig{path: path, stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	again, _ := h.observers.History.Since(0)
	if len(again) != 1 || again[0].ID != jobs[0].ID || again[0].ResultPath != jobs[0].ResultPath {
		t.Errorf("history of the next program %+v", again)
	}
	lines, _, err = h.JobLog(t.Context(), jobs[0].ID)
	if err != nil || !slices.ContainsFunc(lines, func(e observe.LogEntry) bool { return strings.HasPrefix(e.Message, "dispatched in ") }) {
		t.Errorf("log of the job in the next program: %v, %v", lines, err)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := h.run(stopped); err != nil {
		t.Error(err)
	}
}

// TestSaveKeptRefuses: nothing that is there is replaced, and no file lands where
// nobody looks for it.
func TestSaveKeptRefuses(t *testing.T) {
	h := new(host) // its worker is not asked
	for _, path := range []string{"result.webp", t.TempDir()} {
		if err := h.SaveKept(t.Context(), "key", path); err == nil {
			t.Errorf("saved as %s", path)
		}
	}
}
