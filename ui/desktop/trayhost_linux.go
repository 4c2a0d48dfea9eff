//go:build !headless

package desktop

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// Names of the desktop's tray on the session bus.
const (
	watcherName = "org.kde.StatusNotifierWatcher"
	watcherPath = "/StatusNotifierWatcher"
)

// busTime bounds one call on the session bus: a hanging panel must not hang us.
const busTime = 2 * time.Second

// settleTime is what the tray library gets to register our icon with a panel
// that has just come, before we look whether it did.
const settleTime = 2 * time.Second

// trayHost asks the session bus whether somebody shows tray icons. It has a
// connection of its own: signals of ours on the shared one end the tray
// library's wait for a late panel.
type trayHost struct {
	conn *dbus.Conn
}

// openTrayHost connects to the session bus. Without a bus it returns an error
// and a host that is not usable: then no tray may be set up, since Fyne's would
// panic at the end.
func openTrayHost() (*trayHost, error) {
	conn, err := dbus.ConnectSessionBus()
	if err != nil {
		return &trayHost{}, fmt.Errorf("connect to the session bus: %w", err)
	}
	return &trayHost{conn: conn}, nil
}

func (h *trayHost) usable() bool { return h.conn != nil }

func (h *trayHost) close() error {
	if h.conn == nil {
		return nil
	}
	if err := h.conn.Close(); err != nil {
		return fmt.Errorf("leave the session bus: %w", err)
	}
	return nil
}

// present says whether a panel shows tray icons now.
func (h *trayHost) present(ctx context.Context) bool {
	if h.conn == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, busTime)
	defer cancel()
	var there bool
	err := h.conn.Object(watcherName, watcherPath).
		CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", dbus.FlagNoAutoStart, watcherName, "IsStatusNotifierHostRegistered").
		Store(&there)
	return err == nil && there
}

// ensureRegistered tells the watcher of our icon when it does not know it. The
// tray library registers by itself, but a panel that starts together with us can
// fall between its first try and its wait for panels. An icon that is known must
// not be registered again: some panels would show two.
func (h *trayHost) ensureRegistered(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, busTime)
	defer cancel()
	item := fmt.Sprintf("org.kde.StatusNotifierItem-%d-1", os.Getpid())
	var owner string
	var known []string
	watcher := h.conn.Object(watcherName, watcherPath)
	if h.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetNameOwner", 0, item).Store(&owner) != nil ||
		watcher.CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", dbus.FlagNoAutoStart, watcherName, "RegisteredStatusNotifierItems").Store(&known) != nil {
		return // no icon of ours, or no list: leave it to the library
	}
	for _, k := range known {
		if strings.HasPrefix(k, owner) || strings.HasPrefix(k, item) {
			return
		}
	}
	// A refusal changes nothing: there is no icon either way.
	_ = watcher.CallWithContext(ctx, watcherName+".RegisterStatusNotifierItem", dbus.FlagNoAutoStart, item).Err
}

// watch tells change whenever the panel may have come or gone, until ctx ends.
func (h *trayHost) watch(ctx context.Context, change func(present bool)) {
	if h.conn == nil {
		return
	}
	signals := make(chan *dbus.Signal, 16)
	h.conn.Signal(signals)
	defer h.conn.RemoveSignal(signals)
	for _, match := range [][]dbus.MatchOption{
		{
			dbus.WithMatchInterface("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged"),
			dbus.WithMatchArg(0, watcherName),
		},
		{dbus.WithMatchInterface(watcherName)},
	} {
		if err := h.conn.AddMatchSignalContext(ctx, match...); err != nil {
			change(false) // the bus has gone, and the panel with it
			return
		}
	}
	settled := time.NewTimer(settleTime)
	defer settled.Stop()
	was := h.present(ctx) // again: it may have come before we listened
	change(was)
	for {
		select {
		case <-ctx.Done():
			return
		case <-settled.C:
			if was {
				h.ensureRegistered(ctx)
			}
			continue
		case _, ok := <-signals:
			if !ok {
				change(false)
				return
			}
		}
		if is := h.present(ctx); is != was && ctx.Err() == nil {
			was = is
			settled.Reset(settleTime)
			change(is)
		}
	}
}
