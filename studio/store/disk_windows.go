package store

import (
	"fmt"

	"golang.org/x/sys/windows"
)

// space returns the bytes of the disk that holds dir: those that we may still
// use, and all.
func space(dir string) (free, total uint64, err error) {
	path, err := windows.UTF16PtrFromString(dir)
	if err == nil {
		err = windows.GetDiskFreeSpaceEx(path, &free, &total, nil)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("measure the disk of %s: %w", dir, err)
	}
	return free, total, nil
}
