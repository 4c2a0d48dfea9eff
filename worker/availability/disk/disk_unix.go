//go:build !windows

package disk

import "golang.org/x/sys/unix"

func free(dir string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	// Bavail leaves out what is kept for root. Some systems say below zero when
	// that is in use.
	return uint64(max(0, int64(s.Bavail))) * uint64(s.Bsize), nil
}
