package provision

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// errTooMuch: the archive is larger than any of ours.
var errTooMuch = errors.New("there is too much in it")

// unpack writes the files of an archive into dir, all beside each other: only the
// last part of a name counts, so none can lead out of it. Links may only point to
// a file beside them.
func unpack(archive, name, dir string) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read
	w := writer{dir: dir, left: maxUnpacked}
	switch {
	case strings.HasSuffix(name, ".zip"):
		info, err := file.Stat()
		if err != nil {
			return err
		}
		return w.unzip(file, info.Size())
	case strings.HasSuffix(name, ".tgz"), strings.HasSuffix(name, ".tar.gz"):
		return w.untar(file)
	default:
		return errors.New("it is neither a zip nor a tar.gz")
	}
}

// writer writes the files of one archive.
type writer struct {
	dir     string
	entries int
	left    int64 // bytes that may still come
}

// base is the plain name of an entry. Names that try to lead out are refused, not
// mended: nothing of ours has such.
func base(name string) (string, error) {
	clean := strings.ReplaceAll(name, `\`, "/")
	if clean == "" || path.IsAbs(clean) || strings.Contains("/"+clean+"/", "/../") || strings.Contains(clean, ":") || strings.ContainsRune(clean, 0) {
		return "", fmt.Errorf("the name %.100q in it leads elsewhere", name)
	}
	return path.Base(clean), nil
}

func (w *writer) count() error {
	if w.entries++; w.entries > maxEntries {
		return errTooMuch
	}
	return nil
}

// file writes one file. Everything may be run: libraries need not be, and do not
// mind.
func (w *writer) file(name string, r io.Reader) (err error) {
	plain, err := base(name)
	if err != nil || strings.HasPrefix(plain, ".") { // a hidden file is none of the program's
		return err
	}
	target, err := os.OpenFile(filepath.Join(w.dir, plain), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755) // #nosec G302 -- programs
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	n, err := io.Copy(target, io.LimitReader(r, w.left+1))
	if w.left -= n; err == nil && w.left < 0 {
		err = errTooMuch
	}
	return err
}

// link makes a link to a file beside it.
func (w *writer) link(name, to string) error {
	plain, err := base(name)
	if err != nil || strings.HasPrefix(plain, ".") {
		return err
	}
	if to == "" || to != path.Base(to) || strings.ContainsAny(to, `\:`) || to == ".." || to == "." {
		return fmt.Errorf("the link %.100q in it leads elsewhere", name)
	}
	return os.Symlink(to, filepath.Join(w.dir, plain))
}

func (w *writer) unzip(r io.ReaderAt, size int64) error {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return err
	}
	for _, entry := range z.File {
		if err := w.count(); err != nil {
			return err
		}
		mode := entry.Mode()
		if mode.IsDir() {
			continue
		}
		if !mode.IsRegular() {
			return fmt.Errorf("%.100q in it is no plain file", entry.Name)
		}
		body, err := entry.Open()
		if err != nil {
			return err
		}
		if err := errors.Join(w.file(entry.Name, body), body.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) untar(r io.Reader) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	t := tar.NewReader(z)
	for {
		entry, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := w.count(); err != nil {
			return err
		}
		switch entry.Typeflag {
		case tar.TypeReg:
			err = w.file(entry.Name, t)
		case tar.TypeSymlink:
			err = w.link(entry.Name, entry.Linkname)
		case tar.TypeDir, tar.TypeXGlobalHeader:
		default:
			err = fmt.Errorf("%.100q in it is no plain file", entry.Name)
		}
		if err != nil {
			return err
		}
	}
}
