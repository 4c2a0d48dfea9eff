//go:build !windows

package app

import "syscall"

const (
	errRefused      = syscall.ECONNREFUSED
	errAddressInUse = syscall.EADDRINUSE
)
