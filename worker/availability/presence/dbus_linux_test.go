package presence

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"studioworker/worker/network/networktest"
)

// bus starts a real session bus and lets this process find it.
func bus(t *testing.T) *dbus.Conn {
	t.Helper()
	t.Setenv("DISPLAY", "")
	return networktest.Bus(t, "DBUS_SESSION_BUS_ADDRESS")
}

// desktop answers as GNOME or KDE do.
type desktop[T any] struct{ value T }

// GetIdletime is GNOME's.
func (d desktop[T]) GetIdletime() (T, *dbus.Error) { return d.value, nil }

// GetSessionIdleTime is KDE's.
func (d desktop[T]) GetSessionIdleTime() (T, *dbus.Error) { return d.value, nil }

func serve(t *testing.T, conn *dbus.Conn, d any, name string, path dbus.ObjectPath) {
	t.Helper()
	if err := conn.Export(d, path, name); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.RequestName(name, dbus.NameFlagReplaceExisting); err != nil {
		t.Fatal(err)
	}
}

func TestDesktops(t *testing.T) {
	conn := bus(t)
	check := func(want time.Duration, says string) {
		t.Helper()
		got, err := New().IdleFor(t.Context())
		if got != want || (err == nil) != (says == "") || says != "" && !strings.Contains(err.Error(), says) {
			t.Errorf("idle for %v, %v; want %v, %q", got, err, want, says)
		}
	}
	check(0, "org.gnome.Mutter.IdleMonitor")
	serve(t, conn, desktop[uint32]{130_000}, "org.freedesktop.ScreenSaver", "/org/freedesktop/ScreenSaver")
	check(130*time.Second, "") // KDE
	serve(t, conn, desktop[uint64]{5_000}, "org.gnome.Mutter.IdleMonitor", "/org/gnome/Mutter/IdleMonitor/Core")
	check(5*time.Second, "") // GNOME is asked first
	serve(t, conn, desktop[string]{"long"}, "org.gnome.Mutter.IdleMonitor", "/org/gnome/Mutter/IdleMonitor/Core")
	check(130*time.Second, "") // an answer that is no time is no answer
	serve(t, conn, desktop[string]{"long"}, "org.freedesktop.ScreenSaver", "/org/freedesktop/ScreenSaver")
	check(0, "the answer is no time")
}

func TestABusThatHangs(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "bus")
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
	}()
	t.Setenv("DISPLAY", "")
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+socket)
	ctx, cancel := context.WithCancel(t.Context())
	accepted := make(chan net.Conn)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			t.Error(err)
		}
		cancel() // stands for the time limit
		accepted <- conn
	}()
	if idle, err := New().IdleFor(ctx); err == nil {
		t.Errorf("idle for %v", idle)
	}
	if err := (<-accepted).Close(); err != nil {
		t.Error(err)
	}
}

func TestTheBusBesideTheRuntimeFolder(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	t.Setenv("XDG_RUNTIME_DIR", dir)
	if got := busAddress(); got != "" {
		t.Errorf("without a socket: %q", got)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(dir, "bus"))
	if err != nil {
		t.Fatal(err)
	}
	if got := busAddress(); !strings.HasPrefix(got, "unix:path=") || !strings.HasSuffix(got, "/bus") {
		t.Errorf("with one: %q", got)
	}
	if err := listener.Close(); err != nil {
		t.Error(err)
	}
}

func TestMilliseconds(t *testing.T) {
	for _, tc := range []struct {
		body []any
		want time.Duration
		bad  bool
	}{
		{[]any{uint64(7)}, 7 * time.Millisecond, false},
		{[]any{uint32(1<<32 - 1)}, (1<<32 - 1) * time.Millisecond, false},
		{[]any{int32(7)}, 7 * time.Millisecond, false},
		{[]any{int32(-1)}, 0, true},
		{[]any{uint64(1) << 63}, 0, true},
		{[]any{"7"}, 0, true},
		{[]any{uint32(7), uint32(8)}, 0, true},
		{nil, 0, true},
	} {
		if got, err := milliseconds(tc.body); got != tc.want || (err != nil) != tc.bad {
			t.Errorf("%v: got %v, %v", tc.body, got, err)
		}
	}
}
