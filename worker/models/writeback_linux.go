package models

import (
	"os"

	"golang.org/x/sys/unix"
)

// startWriteback asks the system to begin with the writing of a part of a file to
// the disk, so that the sync at the end has little left to wait for. It is a hint: a
// file system that does not take it leaves the work to the sync.
func startWriteback(file *os.File, from, n int64) {
	_ = unix.SyncFileRange(int(file.Fd()), from, n, unix.SYNC_FILE_RANGE_WRITE)
}
