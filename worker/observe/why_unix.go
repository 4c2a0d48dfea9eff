//go:build !windows

package observe

import "syscall"

// What the system says of a connection or a disk.
const (
	errnoRefused   = syscall.ECONNREFUSED
	errnoReset     = syscall.ECONNRESET
	errnoAborted   = syscall.ECONNABORTED
	errnoNoNetwork = syscall.ENETUNREACH
	errnoNoHost    = syscall.EHOSTUNREACH
	errnoDiskFull  = syscall.EDQUOT
)
