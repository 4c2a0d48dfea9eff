package presence

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/godbus/dbus/v5"
)

// source is a desktop that answers with the milliseconds since the last input.
type source struct {
	name, method string
	path         dbus.ObjectPath
	wayland      bool // it tells on Wayland, too
}

func desktops() []source {
	return []source{
		{"org.gnome.Mutter.IdleMonitor", "org.gnome.Mutter.IdleMonitor.GetIdletime", "/org/gnome/Mutter/IdleMonitor/Core", true},
		// KDE. One that answered in seconds would seem busier than it is. On Wayland Plasma 6
		// says that it cannot tell, and Plasma 5 says 0, as if somebody always typed.
		{"org.freedesktop.ScreenSaver", "org.freedesktop.ScreenSaver.GetSessionIdleTime", "/org/freedesktop/ScreenSaver", false},
	}
}

// askDesktop asks GNOME, then KDE, over a connection of its own: the one that the
// rest of the program shares must not end with it. Nothing is started by it, no
// bus and no desktop.
func askDesktop(ctx context.Context, onWayland bool) (time.Duration, error) {
	address := busAddress()
	if address == "" {
		return 0, errors.New("there is no session bus")
	}
	conn, err := dbus.Connect(address, dbus.WithContext(ctx))
	if err != nil {
		return 0, fmt.Errorf("connect to the session bus: %w", err)
	}
	defer func() { _ = conn.Close() }() // nothing was left to send
	var missing []error
	for _, d := range desktops() {
		if onWayland && !d.wayland {
			continue
		}
		reply := conn.Object(d.name, d.path).CallWithContext(ctx, d.method, dbus.FlagNoAutoStart)
		if reply.Err != nil {
			missing = append(missing, fmt.Errorf("%s: %w", d.name, reply.Err))
			continue
		}
		idle, err := milliseconds(reply.Body)
		if err == nil {
			return idle, nil
		}
		missing = append(missing, fmt.Errorf("%s: %w", d.name, err))
	}
	return 0, errors.Join(missing...)
}

func busAddress() string {
	if address := os.Getenv("DBUS_SESSION_BUS_ADDRESS"); address != "" {
		return address
	}
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		return ""
	}
	socket := filepath.Join(dir, "bus")
	if _, err := os.Stat(socket); err != nil {
		return ""
	}
	return "unix:path=" + dbus.EscapeBusAddressValue(socket)
}

// milliseconds reads an answer: one whole number, of whatever size the desktop
// chose.
func milliseconds(body []any) (time.Duration, error) {
	if len(body) == 1 {
		switch n := body[0].(type) {
		case uint64:
			if n <= math.MaxInt64/uint64(time.Millisecond) {
				return time.Duration(n) * time.Millisecond, nil
			}
		case uint32:
			return time.Duration(n) * time.Millisecond, nil
		case int32:
			if n >= 0 {
				return time.Duration(n) * time.Millisecond, nil
			}
		}
	}
	return 0, errors.New("the answer is no time")
}
