package observe

import "syscall"

// What Winsock and the file system say; package syscall invents numbers of its own
// for the names of Unix.
const (
	errnoRefused   = syscall.Errno(10061) // WSAECONNREFUSED
	errnoReset     = syscall.WSAECONNRESET
	errnoAborted   = syscall.WSAECONNABORTED
	errnoNoNetwork = syscall.Errno(10051) // WSAENETUNREACH
	errnoNoHost    = syscall.Errno(10065) // WSAEHOSTUNREACH
	errnoDiskFull  = syscall.Errno(112)   // ERROR_DISK_FULL
)
