package models

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// The disk is full in the middle of a download, although there seemed to be room: what
// came is never taken for the model, and with more room the download comes to its end.
func TestADiskThatIsFullInTheMiddle(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("NOT RUN: needs root, to mount a small disk")
		t.Skip("not run: needs root")
	}
	disk := t.TempDir()
	mount := func(size string, flags uintptr) {
		t.Helper()
		if err := syscall.Mount("tmpfs", disk, "tmpfs", flags, "size="+size+",mode=700"); err != nil {
			t.Fatal(err)
		}
	}
	mount("2m", 0)
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil { // busy: somebody holds a file of it open
			t.Errorf("unmount: %v", err)
		}
	})
	data := pattern(5_000_000)
	s, f := newServer(t, data), newStore(t)
	f.root = filepath.Join(disk, "models")
	file := File{URL: s.URL, Filename: "a.gguf", SHA256: sum(data)}
	_, err := f.get("m", file)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("err = %v, want that the disk is full", err)
	}
	for _, name := range f.files() {
		if name != "m/a.gguf"+partSuffix && name != "m/a.gguf"+stateSuffix {
			t.Errorf("%s is left", name)
		}
	}
	mount("16m", syscall.MS_REMOUNT)
	path, err := f.get("m", file)
	if err != nil {
		t.Fatal(err)
	}
	f.holds(path, data)
}
