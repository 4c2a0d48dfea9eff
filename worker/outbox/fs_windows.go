package outbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"studioworker/worker/atomicfile"
)

func (osFS) OpenFile(dir, name string, flag int) (File, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	f, err := openRegular(root, name, flag)
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	if err := root.Close(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// openRegular looks before it opens: to open a pipe would wait for its writer.
func openRegular(root *os.Root, name string, flag int) (*os.File, error) {
	info, err := root.Lstat(name)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: %w", name, errNotRegular)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return root.OpenFile(name, flag, fileMode)
}

func (osFS) SyncDir(dir string) error { return atomicfile.SyncDir(dir) }

func (osFS) Rename(from, to string) error { return os.Rename(from, to) }
