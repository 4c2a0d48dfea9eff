//go:build unix

package outbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// OpenFile asks the system with as few calls as it takes: results of short jobs
// are opened more often than they are read.
func (osFS) OpenFile(dir, name string, flag int) (File, error) {
	path := filepath.Join(dir, name)
	if name != filepath.Base(name) || name == "." || name == ".." {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errNotPlain}
	}
	// A link is not followed, and to open a pipe does not wait for its writer.
	fd, err := ignoringInterrupts(func() (int, error) {
		return unix.Open(path, flag|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, uint32(fileMode))
	})
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
		return nil, fmt.Errorf("%s: %w", name, errNotRegular)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	if flag&os.O_EXCL != 0 {
		return f, nil // just made
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w", name, errNotRegular)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (osFS) Rename(from, to string) error {
	_, err := ignoringInterrupts(func() (int, error) { return 0, unix.Rename(from, to) })
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

func (osFS) SyncDir(dir string) error {
	fd, err := ignoringInterrupts(func() (int, error) {
		return unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	f := os.NewFile(uintptr(fd), dir)
	return errors.Join(f.Sync(), f.Close())
}

var errNotPlain = errors.New("not a plain name")

func ignoringInterrupts(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
