//go:build !windows

package store

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// space returns the bytes of the disk that holds dir: those that we may still
// use, and all.
func space(dir string) (free, total uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, fmt.Errorf("measure the disk of %s: %w", dir, err)
	}
	// Bavail leaves out what is kept for root. Some systems say below zero when
	// that is in use.
	return uint64(max(0, int64(s.Bavail))) * uint64(s.Bsize), s.Blocks * uint64(s.Bsize), nil
}
