package session

import (
	"crypto/tls"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRow26TheSocketGivesUpOnABlackHole: what the other side's system does not
// confirm ends the connection, also under TLS.
func TestRow26TheSocketGivesUpOnABlackHole(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	boundWrites(tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS13}))
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var got int
	var getErr error
	err = raw.Control(func(fd uintptr) { got, getErr = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) })
	if err != nil || getErr != nil || got != 30_000 {
		t.Errorf("the socket gives up after %d ms, %v, %v", got, err, getErr)
	}
	ours, theirs := net.Pipe() // no socket: nothing happens
	boundWrites(ours)
	_, _ = ours.Close(), theirs.Close()
}
