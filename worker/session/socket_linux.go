package session

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// userTimeout is how long what was sent may stay unconfirmed by the other side's
// system. Else a network that swallows everything would keep the connection, and
// what waits to be written, for a quarter of an hour.
const userTimeout = 30 * time.Second

// boundWrites sets userTimeout on the socket of a connection, under its TLS. One
// that is no socket stays as it is.
func boundWrites(conn net.Conn) {
	for {
		wrapped, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = wrapped.NetConn()
	}
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return // it is closed, which shows at the first write
	}
	_ = raw.Control(func(fd uintptr) { // without it the session still ends, by its heartbeat
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	})
}
