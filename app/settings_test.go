package app

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"studioworker/worker/observe"
)

// TestFreeSpace: a folder that is yet to be made lies on the disk of the nearest
// one that is there.
func TestFreeSpace(t *testing.T) {
	dir := t.TempDir()
	here, err := (&host{}).FreeSpace(dir)
	if err != nil || here == 0 {
		t.Fatalf("%d, %v", here, err)
	}
	there, err := (&host{}).FreeSpace(filepath.Join(dir, "not", "yet", "there"))
	if err != nil || there == 0 {
		t.Errorf("%d, %v", there, err)
	}
}

func TestCommit(t *testing.T) {
	if got := commit(); len(strings.TrimSuffix(got, "+")) > 12 { // a test binary has none, or a short one
		t.Errorf("got %q", got)
	}
}

// TestJoinLooksFirst: an address where no studio is changes nothing.
func TestJoinLooksFirst(t *testing.T) {
	h, err := openHost(t.Context(), hostConfig{path: filepath.Join(t.TempDir(), "config.toml"), stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stopped, stop := context.WithCancel(context.WithoutCancel(t.Context()))
		stop()
		if err := h.run(stopped); err != nil {
			t.Error(err)
		}
	})
	before := h.observers.Settings.Get().StudioURL
	for _, address := range []string{"", "127.0.0.1:1", "ftp://h"} {
		err := h.Join(t.Context(), address)
		if err == nil {
			t.Errorf("%q was joined", address)
		}
		if bad, ok := errors.AsType[*observe.StudioError](err); address != "" && (!ok || bad.Address == "") {
			t.Errorf("%q: %v", address, err)
		}
	}
	if got := h.observers.Settings.Get().StudioURL; got != before {
		t.Errorf("the studio became %q", got)
	}
}
