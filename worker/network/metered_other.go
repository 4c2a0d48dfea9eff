//go:build !linux && !windows

package network

import "context"

// metered: macOS tells only programs that use its own network library.
func metered(context.Context) bool { return false }
