//go:build !windows

package app

import (
	"fmt"
	"os"
	"syscall"
)

// journalStream says whether f is the stream that JOURNAL_STREAM names, by device and
// inode: a program started by hand inherits the variable, but not the stream.
func journalStream(f *os.File, variable string) bool {
	if variable == "" {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && fmt.Sprintf("%d:%d", st.Dev, st.Ino) == variable
}
