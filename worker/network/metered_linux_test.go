package network

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/godbus/dbus/v5"

	"studioworker/worker/network/networktest"
)

// manager answers for NetworkManager.
type manager struct{ metered any }

// Get is that of org.freedesktop.DBus.Properties.
func (m manager) Get(name, property string) (dbus.Variant, *dbus.Error) {
	if name != managerName || property != "Metered" {
		return dbus.Variant{}, dbus.MakeFailedError(dbus.ErrMsgUnknownInterface)
	}
	return dbus.MakeVariant(m.metered), nil
}

func TestMetered(t *testing.T) {
	conn := networktest.Bus(t, "DBUS_SYSTEM_BUS_ADDRESS")
	if Metered(t.Context()) {
		t.Error("metered where nobody answers")
	}
	if _, err := conn.RequestName(managerName, dbus.NameFlagReplaceExisting); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		says any
		want bool
	}{
		{uint32(0), false}, // unknown
		{uint32(1), true},
		{uint32(2), false},
		{uint32(3), true}, // it guesses
		{uint32(4), false},
		{uint32(99), false},
		{"yes", false},
	} {
		if err := conn.Export(manager{tc.says}, managerPath, "org.freedesktop.DBus.Properties"); err != nil {
			t.Fatal(err)
		}
		if got := Metered(t.Context()); got != tc.want {
			t.Errorf("NetworkManager says %v: got %v", tc.says, got)
		}
	}
}

func TestMeteredWithoutABus(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "none"))
	if Metered(t.Context()) {
		t.Error("metered without a bus")
	}
	socket := filepath.Join(t.TempDir(), "bus")
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan error, 1)
	go func() { // hangs up at once
		conn, err := listener.Accept()
		if err == nil {
			err = conn.Close()
		}
		accepted <- err
	}()
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+socket)
	if Metered(t.Context()) {
		t.Error("metered at a bus that hangs up")
	}
	if err := <-accepted; err != nil {
		t.Error(err)
	}
	if err := listener.Close(); err != nil {
		t.Error(err)
	}
}
