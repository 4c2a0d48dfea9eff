//go:build unix

package session

import "syscall"

// errReset is what reading says after the other side broke the connection off.
const errReset = syscall.ECONNRESET
