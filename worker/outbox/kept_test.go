package outbox

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"studioworker/worker/observe"
)

// keep puts the result of a job into kept/ and returns what people see of it.
func keep(t *testing.T, o *Outbox, slot *observe.Slot[observe.Outbox], jobID string, data []byte) observe.KeptResult {
	t.Helper()
	if err := o.Keep(put(t, o, jobID, data)); err != nil {
		t.Fatal(err)
	}
	shown := slot.Get().Kept
	i := slices.IndexFunc(shown, func(k observe.KeptResult) bool { return k.JobID == jobID })
	if i < 0 {
		t.Fatalf("%s is not shown: %+v", jobID, shown)
	}
	return shown[i]
}

func observed(t *testing.T, root string, fsys FS) (*Outbox, *observe.Slot[observe.Outbox]) {
	t.Helper()
	slot, cfg := new(observe.Slot[observe.Outbox]), config(root, fsys)
	cfg.Observer = slot
	o, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return o, slot
}

func TestKeptResultsAreShownSavedAndDiscarded(t *testing.T) {
	root := t.TempDir()
	o, slot := observed(t, root, nil)
	before := time.Now()
	first := keep(t, o, slot, "first", someBytes)
	keep(t, o, slot, "second", []byte("2"))
	if got := slot.Get(); len(got.Kept) != 2 || got.Kept[0].JobID != "first" || got.Count != 0 {
		t.Errorf("shown: %+v, want the oldest first", got)
	}
	if first.Kind != "image" || first.Model != "synthetic-image" || first.Ext != "webp" || first.Bytes != int64(len(someBytes)) ||
		first.Since.Before(before) || first.Expires.Sub(first.Since) != 7*24*time.Hour {
		t.Errorf("shown: %+v", first)
	}

	to := filepath.Join(root, "saved.webp")
	if err := os.WriteFile(to, []byte("was here"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := o.SaveKept(first.Key, to); err != nil {
		t.Fatal(err)
	}
	wantFile(t, to, someBytes)
	wantNames(t, o.kept.dir, "first.1", "second.1") // saving takes nothing away

	o, slot = observed(t, root, nil) // the key outlives the process
	if gone, err := o.DiscardKept(first.Key); err != nil || gone.JobID != "first" {
		t.Errorf("discarded %+v, %v", gone, err)
	}
	wantNames(t, o.kept.dir, "second.1")
	wantNames(t, o.tmp)
	if got := slot.Get(); len(got.Kept) != 1 || got.Kept[0].JobID != "second" {
		t.Errorf("shown: %+v", got)
	}
	for _, err := range []error{
		o.SaveKept(first.Key, to),
		func() error { _, err := o.DiscardKept("second.1"); return err }(),
	} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("a key of nothing: %v, want ErrNotFound", err)
		}
	}
}

func TestSaveKeptWritesNothingWrong(t *testing.T) {
	root := t.TempDir()
	o, slot := observed(t, root, nil)
	k := keep(t, o, slot, "job", someBytes)
	folder := filepath.Join(root, "mine")
	if err := o.SaveKept(k.Key, filepath.Join(folder, "x.webp")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	e, _ := o.Find("job")
	bad := slices.Clone(someBytes)
	bad[7] ^= 1
	if err := os.WriteFile(e.Path(), bad, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := o.SaveKept(k.Key, filepath.Join(folder, "x.webp")); !errors.Is(err, ErrDamaged) {
		t.Errorf("row 9: a flipped bit: %v, want ErrDamaged", err)
	}
	wantNames(t, folder)
	wantNames(t, o.refused, "job.1")
	if kept := slot.Get().Kept; len(kept) != 0 {
		t.Errorf("still shown: %+v", kept)
	}
}

func TestKeptExpiresWhileTheDelivererRuns(t *testing.T) {
	root := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o, slot := observed(t, root, nil)
		var mu sync.Mutex
		var gone []string
		d := NewDeliverer(DelivererConfig{
			Outbox: o, HTTP: &http.Client{}, Target: func() (Target, bool) { return Target{}, false }, Log: quiet(), UserAgent: "studio-worker/test",
			OnRefused: func(e Entry, err error) {
				mu.Lock()
				defer mu.Unlock()
				gone = append(gone, e.JobID+": "+err.Error())
			},
		})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- d.Run(ctx) }()
		keep(t, o, slot, "old", someBytes)
		time.Sleep(48 * time.Hour)
		keep(t, o, slot, "new", someBytes)
		time.Sleep(5*24*time.Hour - time.Minute)
		synctest.Wait()
		wantNames(t, o.kept.dir, "new.1", "old.1")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		wantNames(t, o.kept.dir, "new.1")
		mu.Lock()
		if len(gone) != 1 || !strings.HasPrefix(gone[0], "old: kept for a while") {
			t.Errorf("told of %q", gone)
		}
		mu.Unlock()
		if kept := slot.Get().Kept; len(kept) != 1 || kept[0].JobID != "new" {
			t.Errorf("shown: %+v", kept)
		}
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	})
}

// An acknowledged entry is out of the outbox before its file has moved, and
// nothing takes its place meanwhile.
func TestAcceptedIsGoneAtOnce(t *testing.T) {
	o := open(t, t.TempDir(), nil)
	e := put(t, o, "job", someBytes)
	finish, err := o.Accepted(e)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := o.Find("job"); ok || !o.Acknowledged("job") {
		t.Errorf("found = %v, acknowledged = %v", ok, o.Acknowledged("job"))
	}
	if _, err := o.Accepted(e); !errors.Is(err, ErrNotFound) {
		t.Errorf("accepted twice: %v", err)
	}
	if _, err := o.Begin("job", 1); !errors.Is(err, ErrExists) {
		t.Errorf("its name is free: %v", err)
	}
	wantNames(t, o.ready.dir, "job.1")
	path, err := finish()
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, someBytes)
	wantNames(t, o.ready.dir)
	wantNames(t, o.tmp)
	if _, err := o.Begin("job", 1); err != nil {
		t.Errorf("its name is not free: %v", err)
	}
}

func TestAcceptedMovesAreSyncedSoon(t *testing.T) {
	root := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var synced []string
		o := open(t, root, nil)
		first, second := put(t, o, "first", someBytes), put(t, o, "second", someBytes)
		o.fs = faultFS{FS: OS(), before: func(op, name string) error {
			mu.Lock()
			defer mu.Unlock()
			if op == "syncdir" {
				synced = append(synced, name)
			}
			return nil
		}}
		for _, e := range []Entry{first, second} {
			if _, err := o.Delivered(e); err != nil {
				t.Fatal(err)
			}
		}
		seen := func() []string {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(synced)
		}
		if got := seen(); len(got) != 0 {
			t.Errorf("synced at once: %q", got)
		}
		time.Sleep(syncDelay + time.Millisecond)
		synctest.Wait()
		if got := seen(); !slices.Equal(got, []string{"results", "tmp", "ready", "kept"}) {
			t.Errorf("synced %q, want each folder once for both", got)
		}
		if err := o.Close(); err != nil || len(seen()) != 4 {
			t.Errorf("close: %v, synced again: %q", err, seen())
		}
	})
}
