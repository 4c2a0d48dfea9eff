package network

import (
	"cmp"
	"context"
	"os"

	"github.com/godbus/dbus/v5"
)

// Where NetworkManager answers.
const (
	managerName  = "org.freedesktop.NetworkManager"
	managerPath  = "/org/freedesktop/NetworkManager"
	getProperty  = "org.freedesktop.DBus.Properties.Get"
	systemSocket = "unix:path=/run/dbus/system_bus_socket"
)

// NetworkManager's words for a metered connection (NMMetered).
const (
	meteredYes     = 1
	meteredGuessed = 3
)

// metered asks NetworkManager, over a connection of its own. It starts nothing.
func metered(ctx context.Context) bool {
	conn, err := dbus.Connect(cmp.Or(os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"), systemSocket), dbus.WithContext(ctx))
	if err != nil {
		return false // there is no bus: a container, say
	}
	defer func() { _ = conn.Close() }() // nothing was left to send
	reply := conn.Object(managerName, managerPath).CallWithContext(ctx, getProperty, dbus.FlagNoAutoStart, managerName, "Metered")
	var answer dbus.Variant
	if reply.Store(&answer) != nil {
		return false // another program looks after the network
	}
	word, _ := answer.Value().(uint32)
	return word == meteredYes || word == meteredGuessed
}
