package models

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"studioworker/worker/atomicfile"
)

// stateFolder holds what we know of the models, inside the models folder.
const stateFolder = ".studio-worker"

// indexName is the list of what we fetched.
const indexName = "index.json"

// entry is what we know of a file that we fetched.
type entry struct {
	Model   string    `json:"model"`
	URL     string    `json:"url"`
	SHA256  string    `json:"sha256"` // as it was on arrival
	Size    int64     `json:"size"`
	Fetched time.Time `json:"fetched"`
	Used    time.Time `json:"used"`
	Pinned  bool      `json:"pinned,omitempty"` // never evicted
}

// index are the files that we fetched, by path from the models folder, with
// slashes. Files that a person put there are not in it and are never removed.
type index struct {
	Version int              `json:"version"`
	Files   map[string]entry `json:"files"`
}

const indexVersion = 1

func relative(root, path string) string {
	rel, err := filepath.Rel(root, path)
	if err != nil {
		return path
	}
	return filepath.ToSlash(rel)
}

func (x index) entry(root, path string) (entry, bool) {
	e, ok := x.Files[relative(root, path)]
	return e, ok
}

func decodeIndex(data []byte) (index, error) {
	x := index{}
	if err := json.Unmarshal(data, &x); err != nil {
		return index{}, fmt.Errorf("read the list of models: %w", err)
	}
	if x.Version != indexVersion {
		return index{}, fmt.Errorf("read the list of models: version %d is not known here", x.Version)
	}
	for name := range x.Files {
		folder, file, ok := strings.Cut(name, "/")
		if !ok {
			folder, file = "_", name
		}
		if FolderOf(folder) != folder || CheckName(file) != nil {
			delete(x.Files, name) // not ours: such a name is never removed or read
		}
	}
	if x.Files == nil {
		x.Files = map[string]entry{}
	}
	return x, nil
}

// readIndex reads the list. A damaged one is set aside: it says only what may be
// evicted, so an empty one loses nothing.
func (s *Store) readIndex(root string) (index, error) {
	path := filepath.Join(root, stateFolder, indexName)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return index{Version: indexVersion, Files: map[string]entry{}}, nil
	}
	if err != nil {
		return index{}, fmt.Errorf("read the list of models: %w", err)
	}
	x, err := decodeIndex(data)
	if err != nil {
		aside := path + ".corrupt-" + time.Now().UTC().Format("20060102T150405")
		s.cfg.Log.Warn("the list of models is damaged and was set aside", "file", filepath.Base(aside), "error", err)
		if err := os.Rename(path, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return index{}, fmt.Errorf("set the list of models aside: %w", err)
		}
		return index{Version: indexVersion, Files: map[string]entry{}}, nil
	}
	return x, nil
}

// change changes the list as one step, also among processes.
func (s *Store) change(root string, how func(*index) error) (err error) {
	dir := filepath.Join(root, stateFolder)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the models folder: %w", err)
	}
	lock := flock.New(filepath.Join(dir, indexName+".lock"))
	if err := lock.Lock(); err != nil { // whoever has it has it for milliseconds
		return fmt.Errorf("lock the list of models: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	x, err := s.readIndex(root)
	if err != nil {
		return err
	}
	if err := how(&x); err != nil {
		return err
	}
	data, err := json.MarshalIndent(x, "", "  ")
	if err != nil {
		return fmt.Errorf("write the list of models: %w", err)
	}
	return atomicfile.Write(filepath.Join(dir, indexName), data, 0o600)
}

// note records a file that was fetched.
func (s *Store) note(root, path string, e entry) error {
	return s.change(root, func(x *index) error {
		name := relative(root, path)
		e.Pinned = x.Files[name].Pinned
		x.Files[name] = e
		return nil
	})
}

// touchPeriod is how exactly the last use of a file is known.
const touchPeriod = time.Minute

// touch records that files are used now.
func (s *Store) touch(paths []string) error {
	root, err := s.root()
	if err != nil {
		return err
	}
	x, err := s.readIndex(root)
	if err != nil {
		return err
	}
	now, old := time.Now(), false
	for _, path := range paths {
		if e, ok := x.entry(root, path); ok && now.Sub(e.Used) > touchPeriod {
			old = true
		}
	}
	if !old {
		return nil
	}
	return s.change(root, func(x *index) error {
		for _, path := range paths {
			if e, ok := x.entry(root, path); ok {
				e.Used = now
				x.Files[relative(root, path)] = e
			}
		}
		return nil
	})
}
