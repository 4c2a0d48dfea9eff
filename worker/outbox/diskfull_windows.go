package outbox

import (
	"errors"
	"syscall"
)

// diskFull says whether err means that no space was left. Package syscall has
// no names for the two codes.
func diskFull(err error) bool {
	const (
		handleDiskFull syscall.Errno = 39
		diskFull       syscall.Errno = 112
	)
	return errors.Is(err, handleDiskFull) || errors.Is(err, diskFull) || errors.Is(err, syscall.ENOSPC)
}
