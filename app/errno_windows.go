package app

import "golang.org/x/sys/windows"

// Windows has numbers of its own for these; those of package syscall are never met there.
const (
	errRefused      = windows.WSAECONNREFUSED
	errAddressInUse = windows.WSAEADDRINUSE
)
