package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Kept is one file in the models folder.
type Kept struct {
	Path    string // from the models folder, with slashes
	Model   string // empty for a file that a person put there
	Bytes   int64
	Used    time.Time // zero when unknown
	Pinned  bool
	Partial bool // an unfinished download
}

// listDepth is how many folders deep the models folder is looked at.
const listDepth = 4

// List returns the files in the models folder, by path. Hidden folders are left
// out.
func (s *Store) List() ([]Kept, error) {
	root, err := s.root()
	if err != nil {
		return nil, err
	}
	x, err := s.readIndex(root)
	if err != nil {
		return nil, err
	}
	var list []Kept
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || strings.Count(relative(root, path), "/") >= listDepth):
			return filepath.SkipDir
		case d.IsDir() || strings.HasPrefix(d.Name(), ".") || strings.HasSuffix(path, stateSuffix):
			return nil
		}
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			return nil //nolint:nilerr // a link to nowhere, or removed meanwhile: not a file that is kept
		}
		e, _ := x.entry(root, path)
		list = append(list, Kept{
			Path: relative(root, path), Model: e.Model, Bytes: info.Size(), Used: e.Used, Pinned: e.Pinned,
			Partial: strings.HasSuffix(path, partSuffix),
		})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the models folder: %w", err)
	}
	slices.SortFunc(list, func(a, b Kept) int { return strings.Compare(a.Path, b.Path) })
	return list, nil
}

// pick returns the names of the fetched files that a person means by word: a
// model's id, or a path as List has it. Empty means all.
func (x index) pick(word string) []string {
	var names []string
	for name, e := range x.Files {
		if word == "" || e.Model == word || name == word {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// unknown says that there is no such file, and what to do.
func unknown(word string) error {
	return fmt.Errorf("no fetched model or file is called %q; `studio-worker models list` shows what there is", word)
}

// Pin keeps files from being evicted, or allows it again. word is a model's id or
// a path as List has it.
func (s *Store) Pin(word string, pinned bool) error {
	root, err := s.root()
	if err != nil {
		return err
	}
	return s.change(root, func(x *index) error {
		names := x.pick(word)
		if word == "" || len(names) == 0 {
			return unknown(word)
		}
		for _, name := range names {
			e := x.Files[name]
			e.Pinned = pinned
			x.Files[name] = e
		}
		return nil
	})
}

// Remove removes the fetched files of a model, or one of them, and what is left
// of unfinished downloads of them. Files that are in use stay, with an error.
func (s *Store) Remove(word string) (freed int64, err error) {
	root, err := s.root()
	if err != nil {
		return 0, err
	}
	err = s.change(root, func(x *index) error {
		names := x.pick(word)
		if word == "" || len(names) == 0 {
			return unknown(word)
		}
		var used error
		for _, name := range names {
			removed, err := s.removeFree(filepath.Join(root, filepath.FromSlash(name)))
			switch {
			case err != nil:
				return err
			case !removed:
				used = errors.Join(used, fmt.Errorf("%s is in use; unload the model first", name))
			default:
				freed += x.Files[name].Size
				delete(x.Files, name)
			}
		}
		return used
	})
	return freed, err
}

// Checked is the outcome of looking at one file.
type Checked struct {
	Path     string
	Model    string
	Problem  string // empty = the file is what it was on arrival
	Repaired bool
}

// Verify reads the fetched files that word means, all when it is empty, and
// compares them with their hashes. A damaged or missing file is reported; with
// repair the damaged one is set aside and fetched again. tell, which may be nil,
// hears of each file when it is done.
func (s *Store) Verify(ctx context.Context, word string, repair bool, tell func(Checked)) ([]Checked, error) {
	root, err := s.root()
	if err != nil {
		return nil, err
	}
	x, err := s.readIndex(root)
	if err != nil {
		return nil, err
	}
	names := x.pick(word)
	if word != "" && len(names) == 0 {
		return nil, unknown(word)
	}
	var list []Checked
	for _, name := range names {
		e := x.Files[name]
		c := Checked{Path: name, Model: e.Model}
		path := filepath.Join(root, filepath.FromSlash(name))
		problem, err := compare(ctx, path, e)
		if err != nil {
			return list, err
		}
		if c.Problem = problem; problem != "" && repair {
			if err := s.repair(ctx, root, path, e); err != nil {
				c.Problem += "; not repaired: " + err.Error()
			} else {
				c.Repaired = true
			}
		}
		list = append(list, c)
		if tell != nil {
			tell(c)
		}
	}
	return list, nil
}

// compare says what is wrong with a file; empty = nothing.
func compare(ctx context.Context, path string, e entry) (string, error) {
	sum, n, err := sumOf(ctx, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "it is missing", nil
	case err != nil:
		return "", fmt.Errorf("verify %s: %w", filepath.Base(path), err)
	case n != e.Size:
		return fmt.Sprintf("it has %d bytes, it had %d", n, e.Size), nil
	case sum != e.SHA256:
		return fmt.Sprintf("its sha256 is %s, it was %s", short(sum), short(e.SHA256)), nil
	}
	return "", nil
}

// sumOf hashes a file.
func sumOf(ctx context.Context, path string) (sum string, bytes int64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = file.Close() }()
	h := sha256.New()
	buffer := make([]byte, copyBuffer)
	for {
		if ctx.Err() != nil {
			return "", bytes, context.Cause(ctx)
		}
		n, err := file.Read(buffer)
		h.Write(buffer[:n])
		bytes += int64(n)
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(h.Sum(nil)), bytes, nil
		}
		if err != nil {
			return "", bytes, err
		}
	}
}

// repair sets a damaged file aside and fetches it again.
func (s *Store) repair(ctx context.Context, root, path string, e entry) error {
	if err := s.quarantine(path); err != nil {
		return err
	}
	set := Set{Model: e.Model}
	if folder := filepath.Base(filepath.Dir(path)); folder != FolderOf(e.Model) && filepath.Dir(path) != root {
		set.Folder = folder
	}
	set.Files = []File{{URL: e.URL, Filename: filepath.Base(path), SHA256: e.SHA256, ApproxBytes: uint64(max(0, e.Size))}}
	held, err := s.Ensure(ctx, set, nil)
	if err != nil {
		return err
	}
	held.Release()
	return nil
}

// quarantine takes a damaged file out of use and keeps its bytes.
func (s *Store) quarantine(path string) error {
	aside := path + ".corrupt-" + time.Now().UTC().Format("20060102T150405")
	if err := os.Rename(path, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set a damaged model file aside: %w", err)
	}
	s.cfg.Log.Warn("a damaged model file was set aside", "file", filepath.Base(aside))
	return nil
}

// Recheck reads the files of a model that an engine could not load. Those that
// are not what was fetched are set aside, so that the next Ensure fetches them
// again; it says whether there were any. Files of unknown hash are left alone.
func (s *Store) Recheck(ctx context.Context, set Set) (damaged bool, err error) {
	root, err := s.root()
	if err != nil {
		return false, err
	}
	x, err := s.readIndex(root)
	if err != nil {
		return false, err
	}
	for _, f := range set.Files {
		if CheckName(f.Filename) != nil {
			continue
		}
		path, here, err := s.find(set, f)
		if err != nil {
			return damaged, err
		}
		if !here {
			continue
		}
		known, ok := x.entry(root, path)
		if !ok {
			if known.SHA256 = f.wanted(); known.SHA256 == "" {
				continue
			}
			info, err := os.Stat(path)
			if err != nil {
				return damaged, fmt.Errorf("verify %s: %w", f.Filename, err)
			}
			known.Size = info.Size()
		}
		problem, err := compare(ctx, path, known)
		if err != nil {
			return damaged, err
		}
		if problem == "" {
			continue
		}
		if err := s.quarantine(path); err != nil {
			return damaged, err
		}
		damaged = true
	}
	return damaged, nil
}
