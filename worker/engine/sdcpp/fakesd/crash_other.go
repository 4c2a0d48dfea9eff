//go:build !unix

package fakesd

import "os"

// crash ends the program as a fault does.
func crash() { os.Exit(0xC0000005 - 1<<32) }
