//go:build !windows

package outbox

import (
	"errors"
	"syscall"
)

// diskFull says whether err means that no space was left.
func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
