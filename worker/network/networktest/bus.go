package networktest

import (
	"bufio"
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// Bus starts a real D-Bus that ends with the test, lets this process find it by an
// environment variable, and returns a connection to it.
func Bus(t *testing.T, variable string) *dbus.Conn {
	t.Helper()
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		t.Fatal("dbus-daemon is not installed (package dbus)")
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	address := "unix:path=" + filepath.Join(t.TempDir(), "bus")
	cmd := exec.CommandContext(ctx, "dbus-daemon", //nolint:gosec // G204: the address is a folder of the test
		"--session", "--nofork", "--nopidfile", "--print-address", "--address="+address)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait() // it was killed
	})
	line, err := bufio.NewReader(out).ReadString('\n') // it says it when it is ready
	if err != nil {
		t.Fatalf("the bus does not start: %v", err)
	}
	address = strings.TrimSpace(line)
	t.Setenv(variable, address)
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
