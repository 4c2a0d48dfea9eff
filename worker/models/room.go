package models

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// makeRoom makes sure that a file of so many bytes fits, before anything is
// asked for. 0 means unknown.
func (s *Store) makeRoom(root, name string, bytes uint64) error {
	if bytes == 0 {
		return nil
	}
	return s.roomFor(root, name, bytes)
}

// roomFor evicts files until the disk has 110 % of bytes free and the quota
// bears them. The error names the file and both numbers.
func (s *Store) roomFor(root, name string, bytes uint64) error {
	if err := s.roomInQuota(root, name, bytes); err != nil {
		return err
	}
	need := withMargin(bytes)
	if s.cfg.FreeDisk == nil {
		return nil
	}
	free, err := s.cfg.FreeDisk(nearest(root))
	if err != nil {
		s.cfg.Log.Warn("free space of the models folder is unknown", "error", err)
		return nil
	}
	if free >= need {
		return nil
	}
	freed, err := s.evict(root, need-free)
	if err != nil {
		return err
	}
	if free+freed >= need {
		return nil
	}
	return &Error{Kind: NoRoom, Err: fmt.Errorf("%s declares %d bytes and the disk of models_root %s has %d free (110 %% is needed); free some space or move models_root",
		name, bytes, root, free+freed)}
}

// withMargin is bytes and a tenth more, or all there can be.
func withMargin(bytes uint64) uint64 {
	if bytes > math.MaxUint64-bytes/10 {
		return math.MaxUint64
	}
	return bytes + bytes/10
}

// nearest is the closest folder above path that exists.
func nearest(path string) string {
	for {
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return path
		}
		up := filepath.Dir(path)
		if up == path {
			return path
		}
		path = up
	}
}

func (s *Store) roomInQuota(root, name string, bytes uint64) error {
	if s.cfg.Quota == nil {
		return nil
	}
	quota := s.cfg.Quota()
	if quota <= 0 {
		return nil
	}
	x, err := s.readIndex(root)
	if err != nil {
		return err
	}
	var used uint64
	for _, e := range x.Files {
		used += uint64(max(0, e.Size))
	}
	if used+bytes <= uint64(quota) {
		return nil
	}
	over := used + bytes - uint64(quota)
	freed, err := s.evict(root, over)
	if err != nil {
		return err
	}
	if freed >= over {
		return nil
	}
	return &Error{Kind: NoRoom, Err: fmt.Errorf("%s needs %s, and the quota for models is %s, of which %s are in use by loaded or pinned models; raise models_quota_gb or unpin some",
		name, size(bytes), size(uint64(quota)), size(used-freed))}
}

// evict removes files that we fetched and nobody uses, the longest unused first,
// until so many bytes are free. It returns how many it freed.
func (s *Store) evict(root string, bytes uint64) (freed uint64, err error) {
	err = s.change(root, func(x *index) error {
		names := make([]string, 0, len(x.Files))
		for name, e := range x.Files {
			if !e.Pinned {
				names = append(names, name)
			}
		}
		slices.SortFunc(names, func(a, b string) int {
			if c := x.Files[a].Used.Compare(x.Files[b].Used); c != 0 {
				return c
			}
			return int(x.Files[b].Size - x.Files[a].Size)
		})
		for _, name := range names {
			if freed >= bytes {
				return nil
			}
			removed, err := s.removeFree(filepath.Join(root, filepath.FromSlash(name)))
			if err != nil {
				return err
			}
			if removed {
				s.cfg.Log.Info("evicted a model file", "model", x.Files[name].Model, "file", filepath.Base(name), "bytes", x.Files[name].Size)
				freed += uint64(max(0, x.Files[name].Size))
				delete(x.Files, name)
			}
		}
		return nil
	})
	return freed, err
}

// removeFree removes a file unless somebody holds it. A file that is gone
// already counts as removed.
func (s *Store) removeFree(path string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[path] > 0 {
		return false, nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("remove a model file: %w", err)
	}
	return true, nil
}
