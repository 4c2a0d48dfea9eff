package versions

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"studioworker/worker/atomicfile"
)

// Bounds of what is in an archive.
const (
	maxEntries = 1000
	maxProgram = 512 << 20 // bytes of the program
	maxWhole   = 600 << 20 // bytes of everything in it
)

func now() time.Time { return time.Now() }

// errProgram: the archive is not one of ours.
var errProgram = errors.New("the archive holds no program of this system")

// Unpack takes the program out of an archive (tar.gz or zip, by what it begins with) and
// writes it into dir, which it makes. It returns the program's hash. Everything is
// synced. An archive with a name that leads out of it, with a link, or with anything but
// plain files and folders is refused, whatever else is in it: ours have none.
func Unpack(archive, dir string) (sum string, err error) {
	f, err := os.Open(archive)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // only read
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	u := &unpacker{dir: dir, name: ProgramName()}
	head := make([]byte, 2)
	if _, err := io.ReadFull(f, head); err != nil {
		return "", fmt.Errorf("unpack the update: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	if string(head) == "PK" {
		err = u.unzip(f)
	} else {
		err = u.untar(f)
	}
	if err == nil && u.sum == "" {
		err = errProgram
	}
	if err == nil {
		err = atomicfile.SyncDir(dir)
	}
	if err != nil {
		return "", fmt.Errorf("unpack the update: %w", err)
	}
	return u.sum, nil
}

type unpacker struct {
	dir, name string
	entries   int
	sum       string // of the program, once it is written
}

// entry looks at one entry and writes it if it is the program.
func (u *unpacker) entry(name string, folder bool, open func() (io.ReadCloser, error)) error {
	if u.entries++; u.entries > maxEntries {
		return fmt.Errorf("the archive holds more than %d files", maxEntries)
	}
	clean := strings.TrimSuffix(name, "/")
	if !filepath.IsLocal(clean) || strings.ContainsAny(name, "\\:\x00") || path.Clean(clean) != strings.TrimPrefix(clean, "./") && clean != "." {
		return fmt.Errorf("the name %.100q in the archive leads elsewhere", name)
	}
	if folder || path.Base(clean) != u.name || strings.Count(clean, "/") > 1 {
		return nil
	}
	if u.sum != "" {
		return errors.New("the archive holds the program twice")
	}
	r, err := open()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // read to its end below
	u.sum, err = u.write(r)
	return err
}

// write writes the program.
func (u *unpacker) write(r io.Reader) (sum string, err error) {
	f, err := os.OpenFile(filepath.Join(u.dir, u.name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o700) //nolint:gosec // G302: a program
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(r, maxProgram+1))
	if err != nil {
		return "", err
	}
	if n > maxProgram {
		return "", fmt.Errorf("the program in the archive is larger than %d MiB", maxProgram>>20)
	}
	return hex.EncodeToString(h.Sum(nil)), f.Sync()
}

func (u *unpacker) untar(r io.Reader) error {
	z, err := gzip.NewReader(bufio.NewReader(r))
	if err != nil {
		return err
	}
	whole := io.LimitReader(z, maxWhole) // what is skipped is unpacked, too
	t := tar.NewReader(whole)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			// To the end: the sum of the whole is there.
			n, err := io.Copy(io.Discard, io.LimitReader(whole, 1<<20))
			if err == nil && n == 1<<20 {
				err = errors.New("something comes after the archive's end")
			}
			return err
		}
		if err != nil {
			return err
		}
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeDir:
		default:
			return fmt.Errorf("%.100q in the archive is no plain file", h.Name)
		}
		err = u.entry(h.Name, h.Typeflag == tar.TypeDir, func() (io.ReadCloser, error) { return io.NopCloser(t), nil })
		if err != nil {
			return err
		}
	}
}

func (u *unpacker) unzip(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	z, err := zip.NewReader(f, info.Size())
	if err != nil {
		return err
	}
	for _, e := range z.File {
		mode := e.Mode()
		if !mode.IsRegular() && !mode.IsDir() {
			return fmt.Errorf("%.100q in the archive is no plain file", e.Name)
		}
		if err := u.entry(e.Name, mode.IsDir(), e.Open); err != nil {
			return err
		}
	}
	return nil
}
