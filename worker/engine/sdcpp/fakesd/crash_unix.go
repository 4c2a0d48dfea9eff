//go:build unix

package fakesd

import (
	"os"
	"syscall"
)

// crash ends the program as a fault does. The Go runtime would make a panic of
// the signal, so a shell takes the place of this process first.
func crash() {
	_ = syscall.Exec("/bin/sh", []string{"sh", "-c", "ulimit -c 0; kill -SEGV $$"}, os.Environ()) //nolint:gosec // a constant line; it does not return
}
