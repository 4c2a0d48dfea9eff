package outbox

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// Files and folders of the outbox are the owner's alone: prompts are in them.
const (
	dirMode  fs.FileMode = 0o700
	fileMode fs.FileMode = 0o600
)

// File is an open file of an [FS].
type File interface {
	io.ReadWriteCloser
	Stat() (fs.FileInfo, error)
	Sync() error
}

// FS is what the outbox asks of the file system. It is the one seam through
// which tests make a disk fail. Folders are absolute paths.
type FS interface {
	// MkdirAll creates a folder and its parents unless they are there.
	MkdirAll(dir string) error
	// Mkdir creates a folder. It fails with fs.ErrExist when it is there.
	Mkdir(dir string) error
	// OpenFile opens the regular file name, one plain name, in dir with the flags
	// of package os. It never leaves dir, whatever links are in it.
	OpenFile(dir, name string, flag int) (File, error)
	// ReadDir lists a folder, sorted by name.
	ReadDir(dir string) ([]fs.DirEntry, error)
	// Rename moves a file or a folder. An existing file at to is replaced.
	Rename(from, to string) error
	// RemoveAll removes path and what is in it. A path that is not there is
	// no error.
	RemoveAll(path string) error
	// SyncDir makes the names in dir durable.
	SyncDir(dir string) error
}

// OS returns the file system of this machine.
func OS() FS { return osFS{} }

type osFS struct{}

func (osFS) MkdirAll(dir string) error                 { return os.MkdirAll(dir, dirMode) }
func (osFS) Mkdir(dir string) error                    { return os.Mkdir(dir, dirMode) }
func (osFS) ReadDir(dir string) ([]fs.DirEntry, error) { return os.ReadDir(dir) }
func (osFS) RemoveAll(path string) error               { return os.RemoveAll(path) }

var errNotRegular = errors.New("not a regular file")
