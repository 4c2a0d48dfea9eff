package power

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
)

func supplies(files ...string) fstest.MapFS {
	m := fstest.MapFS{".": {Mode: fs.ModeDir}}
	for _, file := range files {
		name, value, _ := strings.Cut(file, "=")
		m[name] = &fstest.MapFile{Data: []byte(value + "\n")}
	}
	return m
}

func TestOnBattery(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   fstest.MapFS
		want bool
	}{
		{"no supplies", supplies(), false},
		{"laptop without mains", supplies("AC/type=Mains", "AC/online=0", "BAT0/type=Battery", "BAT0/status=Discharging"), true},
		{"laptop with mains", supplies("AC/type=Mains", "AC/online=1", "BAT0/type=Battery", "BAT0/status=Charging"), false},
		{"mains that is too weak", supplies("BAT0/type=Battery", "BAT0/status=Discharging", "ucsi/type=USB", "ucsi/online=1"), false},
		{"full battery", supplies("BAT0/type=Battery", "BAT0/status=Full"), false},
		{"two batteries, one in use", supplies("BAT0/type=Battery", "BAT0/status=Not charging", "BAT1/type=Battery", "BAT1/status=Discharging"), true},
		{"only a mouse", supplies("hid/type=Battery", "hid/scope=Device", "hid/status=Discharging"), false},
		{"mouse that charges beside a laptop that does not", supplies("BAT0/type=Battery", "BAT0/scope=System", "BAT0/status=Discharging", "hid/type=USB", "hid/scope=Device", "hid/online=1"), true},
		{"power cut behind a UPS", supplies("ups/type=UPS", "ups/status=Discharging"), true},
		{"battery that goes while we look", supplies("BAT0/type=Battery"), false},
		{"a status that never ends", supplies("BAT0/type=Battery", "BAT0/status="+strings.Repeat("Discharging ", 1000)), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := New(Config{Supplies: tc.in}).OnBattery(t.Context())
			if err != nil || got != tc.want {
				t.Errorf("got %v, %v, want %v", got, err, tc.want)
			}
		})
	}
}

type brokenFS struct{ err error }

func (b brokenFS) Open(string) (fs.File, error) { return nil, b.err }

func TestSuppliesThatCannotBeListed(t *testing.T) {
	if on, err := New(Config{Supplies: brokenFS{fs.ErrNotExist}}).OnBattery(t.Context()); err != nil || on {
		t.Errorf("no such folder: %v, %v", on, err)
	}
	if on, err := New(Config{Supplies: brokenFS{fs.ErrPermission}}).OnBattery(t.Context()); !errors.Is(err, fs.ErrPermission) || on {
		t.Errorf("no right to look: %v, %v", on, err)
	}
}

func TestThisComputer(t *testing.T) {
	if _, err := New(Config{}).OnBattery(t.Context()); err != nil {
		t.Error(err)
	}
}
