package versions

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"

	"github.com/gofrs/flock"

	"studioworker/worker/atomicfile"
	"studioworker/worker/update/feed"
)

// Folder is the name of the folder of updates, beside the config.
const Folder = "update"

// Store is the folder of updates of one config.
type Store struct {
	dir string
	log *slog.Logger
}

// Open returns the store in dir, and makes it. Nobody else may look into it: what lies
// there is run.
func Open(dir string, log *slog.Logger) (*Store, error) {
	for _, folder := range []string{dir, filepath.Join(dir, "versions")} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, fmt.Errorf("make the folder of updates: %w", err)
		}
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // G302: a folder
		return nil, fmt.Errorf("close the folder of updates to others: %w", err)
	}
	return &Store{dir: dir, log: log}, nil
}

// lock waits for its turn. The other side holds the lock for the length of a write.
func (s *Store) lock() (unlock func(), err error) {
	l := flock.New(filepath.Join(s.dir, "state.lock"))
	if err := l.Lock(); err != nil {
		return nil, fmt.Errorf("lock the state of updates: %w", err)
	}
	return func() {
		if err := l.Unlock(); err != nil {
			s.log.Error("the state of updates stays locked", "error", err)
		}
	}, nil
}

// Watch makes this process the one that starts and watches the versions, until release.
// It returns false when another one is.
func (s *Store) Watch() (release func() error, ok bool, err error) {
	l := flock.New(filepath.Join(s.dir, "watch.lock"))
	ok, err = l.TryLock()
	if err != nil || !ok {
		return nil, false, err
	}
	return l.Unlock, true, nil
}

// ProgramName is the name of the program's file, in an archive as on disk.
func ProgramName() string {
	if runtime.GOOS == "windows" {
		return "studio-worker.exe"
	}
	return "studio-worker"
}

// Path returns where the program of a version lies.
func (s *Store) Path(v Version) string {
	return filepath.Join(s.dir, "versions", v.Version, ProgramName())
}

// Program is what is to be started.
type Program struct {
	Path      string    // empty = the installed program
	Version   Version   // without a hash for the installed program
	Candidate Candidate // when Trial
	Trial     bool      // it has not proved itself
}

// maxTries is how often a candidate may be started without ending in good order. It
// counts what nobody saw: the power went, or the one that watches was killed.
const maxTries = 3

// Next decides what to start: the candidate if there is one, else the active version if
// it comes after the installed one, else the installed program. A program whose hash is
// not the one in update.json is not started. The try of a candidate is written down
// before Next returns.
func (s *Store) Next(installed Version) (Program, error) {
	var p Program
	err := s.Change(func(state *State) error {
		p = Program{Version: installed}
		if c := state.Candidate; c != nil {
			err := s.check(c.Version)
			switch {
			case err != nil:
				s.log.Error("the new version is not as it was checked: it is not started", "version", c.Version.Version, "error", err)
				state.Candidate = nil
			case !feed.Newer(c.Version.Version, installed.Version):
				state.Candidate = nil // the person installed a newer one
			case c.Tries >= maxTries:
				s.log.Error("the new version did not prove itself and is held", "version", c.Version.Version, "tries", c.Tries)
				state.Hold(c.Version, fmt.Sprintf("it was started %d times and never ended in good order", c.Tries), now())
				state.Candidate = nil
			default:
				c.Tries++
				p = Program{Path: s.Path(c.Version), Version: c.Version, Candidate: *c, Trial: true}
				return nil
			}
		}
		for _, v := range []**Version{&state.Active, &state.Previous} {
			if *v == nil {
				continue
			}
			if !feed.Newer((*v).Version, installed.Version) {
				*v = nil
				continue
			}
			if err := s.check(**v); err != nil {
				s.log.Error("a version is not as it was checked: it is not started", "version", (*v).Version, "error", err)
				*v = nil
				continue
			}
			p.Path, p.Version = s.Path(**v), **v
			if v == &state.Previous { // the active one was damaged
				state.Active, state.Previous = state.Previous, nil
			}
			return nil
		}
		return nil
	})
	return p, err
}

// check compares a program with its hash.
func (s *Store) check(v Version) error {
	sum, err := hashOf(s.Path(v))
	if err == nil && sum != v.SHA256 {
		err = fmt.Errorf("its hash is %s, not %s", sum, v.SHA256)
	}
	return err
}

func hashOf(path string) (string, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", errors.New("it is no plain file")
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // only read
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Prune removes the versions that update.json does not name, and what an update that was
// cut short left.
func (s *Store) Prune() error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	state, err := s.read()
	if err != nil {
		return err
	}
	keep := make(map[string]bool)
	for _, v := range []*Version{state.Active, state.Previous} {
		if v != nil {
			keep[v.Version] = true
		}
	}
	if state.Candidate != nil {
		keep[state.Candidate.Version.Version] = true
	}
	folder := filepath.Join(s.dir, "versions")
	entries, err := os.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("look for old versions: %w", err)
	}
	err = os.RemoveAll(filepath.Join(s.dir, "stage"))
	for _, e := range entries {
		if !keep[e.Name()] {
			err = errors.Join(err, os.RemoveAll(filepath.Join(folder, e.Name())))
		}
	}
	return err
}

// Stage makes the empty folder that an update is put together in.
func (s *Store) Stage() (string, error) {
	dir := filepath.Join(s.dir, "stage")
	if err := os.RemoveAll(dir); err != nil {
		return "", fmt.Errorf("empty the folder of the update: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the folder of the update: %w", err)
	}
	return dir, nil
}

// Keep moves a folder that lies in the stage to the versions, and makes its program the
// candidate. What the stage still holds is removed.
func (s *Store) Keep(staged string, c Candidate, epoch uint64) error {
	target := filepath.Join(s.dir, "versions", c.Version.Version)
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	err = func() error {
		defer unlock()
		state, err := s.read()
		if err != nil {
			return err
		}
		for _, v := range []*Version{state.Active, state.Previous} {
			if v != nil && v.Version == c.Version.Version {
				return fmt.Errorf("version %s is here already", v.Version)
			}
		}
		if state.Candidate != nil && state.Candidate.Tries > 0 {
			return errors.New("another new version is being tried")
		}
		if err := os.RemoveAll(target); err != nil {
			return err
		}
		if err := os.Rename(staged, target); err != nil {
			return err
		}
		return atomicfile.SyncDir(filepath.Dir(target))
	}()
	if err != nil {
		return fmt.Errorf("keep the new version: %w", err)
	}
	err = s.Change(func(state *State) error {
		if state.Epoch != epoch {
			state.Epoch, state.HighSeq = epoch, 0
		}
		state.HighSeq = max(state.HighSeq, c.Seq)
		state.Candidate = &c
		return nil
	})
	return errors.Join(err, ignoreMissing(os.RemoveAll(filepath.Join(s.dir, "stage"))))
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
