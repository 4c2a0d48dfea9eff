// Package disktest gives tests disks of their own: small ones that can be filled, and ones
// whose computer loses its power. Both need root; without it the test says so and is skipped.
package disktest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// patience is how long a process that has ended may still hold a file of a disk.
const patience = 30 * time.Second

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Log("NOT RUN: needs root, to mount a disk of its own")
		t.Skip("not run: needs root")
	}
}

// Small mounts a disk of so many MiB in memory, which ends with the test.
func Small(t *testing.T, mib int) (dir string) {
	t.Helper()
	needRoot(t)
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=700,size="+strconv.Itoa(mib)+"m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unmount(t, dir) })
	return dir
}

// Fill writes a file to the disk until it takes no more, and returns its path.
func Fill(t *testing.T, dir string) (ballast string) {
	t.Helper()
	ballast = filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return ballast
}

// Image is a disk whose file system lies in a file: what was not synced is not in it.
type Image struct {
	Dir  string // where it is mounted, until the test ends
	file string
}

// NewImage makes an empty ext4 disk of so many MiB and mounts it.
func NewImage(t *testing.T, mib int64) *Image {
	t.Helper()
	needRoot(t)
	i := &Image{file: filepath.Join(t.TempDir(), "disk")}
	f, err := os.Create(i.file)
	if err == nil {
		err = errors.Join(f.Truncate(mib<<20), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	command(t, "mkfs.ext4", "-q", "-F", i.file)
	i.mount(t)
	return i
}

// Cut copies the disk as it would be, had the power gone now: the image file, and not the
// file system in it. Whoever writes to the disk must stand still. The copy is not mounted.
func (i *Image) Cut(t *testing.T) *Image {
	t.Helper()
	to := &Image{file: filepath.Join(t.TempDir(), "disk")}
	command(t, "cp", "--sparse=always", i.file, to.file)
	return to
}

// PowerOn mounts a disk that was cut: its journal is replayed.
func (i *Image) PowerOn(t *testing.T) (dir string) {
	t.Helper()
	i.mount(t)
	return i.Dir
}

func (i *Image) mount(t *testing.T) {
	t.Helper()
	i.Dir = t.TempDir()
	command(t, "mount", "-o", "loop", i.file, i.Dir)
	t.Cleanup(func() { unmount(t, i.Dir) })
}

// unmount fails the test when somebody goes on holding a file of the disk open.
func unmount(t *testing.T, dir string) {
	t.Helper()
	err := syscall.Unmount(dir, 0)
	for end := time.Now().Add(patience); errors.Is(err, syscall.EBUSY) && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
		err = syscall.Unmount(dir, 0)
	}
	if err != nil {
		t.Errorf("unmount: %v", err)
	}
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil { //nolint:gosec // G204: words of this package
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}
