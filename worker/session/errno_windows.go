package session

import "golang.org/x/sys/windows"

// errReset is what reading says after the other side broke the connection off:
// syscall.ECONNRESET is a number of Go's own there.
const errReset = windows.WSAECONNRESET
