//go:build !linux

package session

import "net"

// boundWrites does nothing: only Linux bounds how long a packet may stay
// unconfirmed.
func boundWrites(net.Conn) {}
