package gpu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"go.uber.org/goleak"
)

// fakes are what the test binary does instead of testing when it is started under one of
// these names: nvidia-smi gets no environment of ours that could say it.
var fakes = map[string]func(argument string) int{
	"smi-two": func(string) int {
		if want := "--query-gpu=" + smiFields; !slices.Contains(os.Args, want) {
			fmt.Printf("no %s in %q", want, os.Args)
			return 2
		}
		fmt.Print("00000000:01:00.0, NVIDIA GeForce RTX 4090, 24564, 23028, 550.54.14\n" +
			"00000000:0A:00.0, NVIDIA H200, 143771, 143167, 550.54.14\n")
		return 0
	},
	"smi-secret": func(string) int {
		if os.Getenv("STUDIO_SECRET") != "" {
			return 3
		}
		return 0
	},
	"smi-nodriver": func(string) int {
		fmt.Print("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\nMore words.\n")
		return 9
	},
	"smi-flood": func(string) int {
		fmt.Print(strings.Repeat("0", 4*maxSMIOutput))
		return 0
	},
	// Says on a loopback port that it runs, then never ends by itself.
	"smi-hang": func(port string) int {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			return 1
		}
		_, _ = io.Copy(io.Discard, conn)
		select {}
	},
}

func TestMain(m *testing.M) {
	name := strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")
	name, argument, _ := strings.Cut(name, "@")
	if fake, ok := fakes[name]; ok {
		os.Exit(fake(argument))
	}
	goleak.VerifyTestMain(m)
}

// fakeSMI returns the path of a program that does what fakes says.
func fakeSMI(t *testing.T, name string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// absent is the path of an nvidia-smi that is not there.
func absent(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "nvidia-smi")
}

func noCards() ([]Card, error) { return nil, nil }

func file(content string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(content)} }

// rig is /sys of a computer with an AMD card, an NVIDIA card, and a display that no card drives.
func rig() fstest.MapFS {
	return fstest.MapFS{
		"class/drm/version":                          file("drm 1.1.0 20060810\n"),
		"class/drm/card10/device/uevent":             file("DRIVER=nvidia\nPCI_ID=10DE:2684\nPCI_SLOT_NAME=0000:01:00.0\n"),
		"class/drm/card2/device/uevent":              file("DRIVER=amdgpu\nPCI_CLASS=30000\nPCI_ID=1002:744C\nPCI_SLOT_NAME=0000:03:00.0\n"),
		"class/drm/card2/device/mem_info_vram_total": file("25753026560\n"),
		"class/drm/card2/device/mem_info_vram_used":  file("1753026560\n"),
		"class/drm/card2-HDMI-A-1/status":            file("connected\n"),
		"class/drm/card3/device/uevent":              file("DRIVER=virtio_gpu\nMODALIAS=virtio:d00000010v00001AF4\n"),
		"class/drm/renderD128/device/uevent":         file("DRIVER=amdgpu\nPCI_ID=1002:744C\nPCI_SLOT_NAME=0000:03:00.0\n"),
	}
}

func rigCards() ([]Card, error) {
	return []Card{
		{Address: "0000:01:00.0", Name: "AD102 [GeForce RTX 4090]", Vendor: "NVIDIA Corporation", Driver: "nvidia"},
		{Address: "0000:03:00.0", Name: "Navi 31 [Radeon RX 7900 XTX]", Vendor: "Advanced Micro Devices, Inc. [AMD/ATI]", Driver: "amdgpu"},
		{Address: "0000:00:02.0", Name: "Virtio GPU", Vendor: "Red Hat, Inc."},
	}, nil
}

func list(t *testing.T, c Config) []Device {
	t.Helper()
	devices, err := New(c).List(t.Context())
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	return devices
}

func wantDevices(t *testing.T, got, want []Device) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("devices:\n%+v\nwant:\n%+v", got, want)
	}
}

func TestListMergesAllSources(t *testing.T) {
	got := list(t, Config{SMI: fakeSMI(t, "smi-two"), Sys: rig(), Cards: rigCards})
	wantDevices(t, got, []Device{
		{Name: "Navi 31 [Radeon RX 7900 XTX]", Vendor: "AMD", TotalBytes: 25753026560, FreeBytes: 24000000000, Driver: "amdgpu"},
		{Name: "NVIDIA GeForce RTX 4090", Vendor: "NVIDIA", TotalBytes: 24564 << 20, FreeBytes: 23028 << 20, Driver: "nvidia 550.54.14"},
		{Name: "NVIDIA H200", Vendor: "NVIDIA", TotalBytes: 143771 << 20, FreeBytes: 143167 << 20, Driver: "nvidia 550.54.14"},
	})
	if total, want := TotalVRAMGB(got), 25753026560.0/(1<<30)+(24564.0+143771)/1024; total != want {
		t.Errorf("TotalVRAMGB = %v, want %v", total, want)
	}
}

// Without a database of PCI names ghw fails, and the numbers must do.
func TestListWithoutNames(t *testing.T) {
	failing := func() ([]Card, error) { return nil, errors.New("no pci.ids") }
	wantDevices(t, list(t, Config{SMI: absent(t), Sys: rig(), Cards: failing}), []Device{
		{Name: "AMD graphics card 1002:744C", Vendor: "AMD", TotalBytes: 25753026560, FreeBytes: 24000000000, Driver: "amdgpu"},
		{Name: "NVIDIA graphics card 10DE:2684", Vendor: "NVIDIA", Driver: "nvidia", Note: "install NVIDIA's driver to see its memory"},
	})
}

// On Windows there is no /sys, and an address is not one of the PCI bus.
func TestListMatchesByNameWhereThePlaceIsUnknown(t *testing.T) {
	cards := func() ([]Card, error) {
		return []Card{
			{Address: "VideoController1", Name: "NVIDIA GeForce RTX 4090", Vendor: "NVIDIA", Driver: "31.0.15.5161"},
			{Address: "VideoController2", Name: "Intel(R) UHD Graphics 770", Vendor: "Intel Corporation", Driver: "31.0.101.4502"},
			{Address: "VideoController3", Name: "unknown", Vendor: "unknown"},
		}, nil
	}
	p := New(Config{SMI: fakeSMI(t, "smi-two"), Cards: cards})
	p.sys = nil
	got, err := p.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantDevices(t, got, []Device{
		{Name: "NVIDIA GeForce RTX 4090", Vendor: "NVIDIA", TotalBytes: 24564 << 20, FreeBytes: 23028 << 20, Driver: "nvidia 550.54.14"},
		{Name: "Intel(R) UHD Graphics 770", Vendor: "Intel", Driver: "31.0.101.4502", Note: NoteUntold},
		{Name: "graphics card", Note: NoteUntold},
		{Name: "NVIDIA H200", Vendor: "NVIDIA", TotalBytes: 143771 << 20, FreeBytes: 143167 << 20, Driver: "nvidia 550.54.14"},
	})
}

// Two cards of one name are two cards.
func TestTwinsWithoutAddressStayTwo(t *testing.T) {
	twin := found{Device: Device{Name: "NVIDIA L4"}}
	first := found{Device: Device{Name: "NVIDIA L4", TotalBytes: 1}, address: "0000:01:00.0"}
	second := found{Device: Device{Name: "NVIDIA L4", TotalBytes: 2}, address: "0000:02:00.0"}
	if got, want := addCards([]found{twin, twin}, []found{first, second}), []found{first, second}; !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestListWithoutACard(t *testing.T) {
	asked := false
	cards := func() ([]Card, error) {
		asked = true
		return nil, nil
	}
	var heard bytes.Buffer
	log := slog.New(slog.NewTextHandler(&heard, nil))
	if got := list(t, Config{Logger: log, SMI: absent(t), Sys: fstest.MapFS{}, Cards: cards}); len(got) != 0 {
		t.Errorf("devices %+v, want none", got)
	}
	if asked || heard.Len() > 0 {
		t.Errorf("names asked for: %v, logged: %q; want neither", asked, heard.String())
	}
	if got := TotalVRAMGB(nil); got != 0 {
		t.Errorf("TotalVRAMGB of nothing = %v, want 0", got)
	}
}

// Whatever this computer has, listing it is no error, each card has a name, and ghw
// writes nothing where people read.
func TestListThisComputer(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr := os.Stderr
	os.Stderr = write
	devices, err := New(Config{}).List(t.Context())
	if _, cardErr := systemCards(); cardErr != nil {
		t.Logf("ghw: %v", cardErr)
	}
	os.Stderr = stderr
	if closeErr := write.Close(); closeErr != nil {
		t.Fatal(closeErr)
	}
	said, readErr := io.ReadAll(read)
	if err := errors.Join(err, readErr, read.Close()); err != nil {
		t.Fatal(err)
	}
	if len(said) > 0 {
		t.Errorf("on stderr: %q", said)
	}
	for _, d := range devices {
		t.Logf("%+v", d)
		if d.Name == "" || d.FreeBytes > d.TotalBytes {
			t.Errorf("device without a name, or with more free than there is: %+v", d)
		}
	}
}

func TestSMIThatIsOfNoUseIsSaid(t *testing.T) {
	for name, want := range map[string]string{
		"smi-nodriver": "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
		"smi-flood":    errSMITooLong.Error(),
	} {
		var heard bytes.Buffer
		log := slog.New(slog.NewTextHandler(&heard, nil))
		got := list(t, Config{Logger: log, SMI: fakeSMI(t, name), Sys: fstest.MapFS{}, Cards: noCards})
		if len(got) != 0 || !strings.Contains(heard.String(), want) || strings.Contains(heard.String(), "More words") {
			t.Errorf("%s: devices %+v, logged %q, want %q", name, got, heard.String(), want)
		}
	}
}

func TestSMIGetsNoSecrets(t *testing.T) {
	t.Setenv("STUDIO_SECRET", "s3cret")
	if _, err := New(Config{SMI: fakeSMI(t, "smi-secret")}).fromSMI(t.Context()); err != nil {
		t.Errorf("nvidia-smi saw our environment: %v", err)
	}
}

func TestListStopsWithItsContext(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	p := New(Config{SMI: fakeSMI(t, "smi-hang@"+port), Sys: fstest.MapFS{}, Cards: noCards})
	ended := make(chan error, 1)
	go func() {
		_, err := p.List(ctx)
		ended <- err
	}()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	why := errors.New("the window is closed")
	cancel(why)
	if err := <-ended; !errors.Is(err, why) {
		t.Errorf("List ended with %v, want %v", err, why)
	}
	// The connection ends with the process, so this read waits for its death.
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Logf("connection of the killed process: %v", err)
	}
	if err := errors.Join(conn.Close(), listener.Close()); err != nil {
		t.Error(err)
	}
}

func TestParseSMI(t *testing.T) {
	tests := []struct {
		name string
		line string
		want found
	}{
		{
			"unified memory", "0000000F:01:00.0, NVIDIA GB10, [N/A], [N/A], 580.95.05\r\n",
			found{Device{Name: "NVIDIA GB10", Vendor: "NVIDIA", Driver: "nvidia 580.95.05", Note: NoteUnified}, "000f:01:00.0"},
		},
		{
			"free of an unknown total", "0000:01:00.0, NVIDIA X, [Not Supported], 10, [N/A]",
			found{Device{Name: "NVIDIA X", Vendor: "NVIDIA", Driver: "nvidia", Note: NoteUnified}, "0000:01:00.0"},
		},
		{
			"comma in the name", "00010000:01:00.0, NVIDIA A, B, 2, 1, 1.0",
			found{Device{Name: "NVIDIA A, B", Vendor: "NVIDIA", TotalBytes: 2 << 20, FreeBytes: 1 << 20, Driver: "nvidia 1.0"}, "10000:01:00.0"},
		},
		{
			"unknown free", "0000:01:00.0, NVIDIA X, 2, [N/A], 1.0",
			found{Device{Name: "NVIDIA X", Vendor: "NVIDIA", TotalBytes: 2 << 20, FreeUnknown: true, Driver: "nvidia 1.0"}, "0000:01:00.0"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseSMI([]byte(test.line))
			test.want.address = normalAddress(test.want.address)
			if err != nil || len(got) != 1 || got[0] != test.want {
				t.Errorf("got %+v, %v, want %+v", got, err, test.want)
			}
		})
	}
}

func TestParseSMIRefuses(t *testing.T) {
	const card = "0000:01:00.0, NVIDIA L4, 2, 1, 1.0\n"
	tests := []struct {
		name string
		text string
		want error
	}{
		{"words", "No devices were found", errSMIBadLine},
		{"too few fields", "0000:01:00.0, NVIDIA L4, 2, 1", errSMIBadLine},
		{"no address", "gpu0, NVIDIA L4, 2, 1, 1.0", errSMIBadLine},
		{"no name", "0000:01:00.0, , 2, 1, 1.0", errSMIBadLine},
		{"total is no number", "0000:01:00.0, NVIDIA L4, 2 MiB, 1, 1.0", errSMIBadLine},
		{"free is no number", "0000:01:00.0, NVIDIA L4, 2, -1, 1.0", errSMIBadLine},
		{"total over 16 TiB", "0000:01:00.0, NVIDIA L4, 16777217, 1, 1.0", errSMIBadLine},
		{"more free than total", "0000:01:00.0, NVIDIA L4, 2, 3, 1.0", errSMIBadLine},
		{"not text", "0000:01:00.0, \xff, 2, 1, 1.0", errSMINotText},
		{"too many cards", strings.Repeat(card, maxDevices+1), errSMITooMany},
		{"too long", strings.Repeat("\n", maxSMIOutput+1), errSMITooLong},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got, err := parseSMI([]byte(test.text)); !errors.Is(err, test.want) || got != nil {
				t.Errorf("got %+v, %v, want %v", got, err, test.want)
			}
		})
	}
}

func TestSysRefuses(t *testing.T) {
	const dir = "class/drm/card0/device/"
	const uevent = "DRIVER=amdgpu\nPCI_ID=1002:744C\nPCI_SLOT_NAME=0000:03:00.0\n"
	tests := []struct {
		name        string
		total, used string
		wantTotal   uint64
		note        string
	}{
		{"total is no number", "much", "1", 0, NoteUntold},
		{"total over 16 TiB", "17592186044417", "1", 0, NoteUntold},
		{"negative use", "1000", "-1", 1000, NoteUntoldUse},
		{"more used than there is", "1000", "1001", 1000, NoteUntoldUse},
		{"longer than 4 KiB", strings.Repeat(" ", maxSysFile) + "1000", "1", 0, NoteUntold},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			sys := fstest.MapFS{dir + "uevent": file(uevent), dir + "mem_info_vram_total": file(test.total), dir + "mem_info_vram_used": file(test.used)}
			got := list(t, Config{SMI: absent(t), Sys: sys, Cards: noCards})
			wantDevices(t, got, []Device{{
				Name: "AMD graphics card 1002:744C", Vendor: "AMD", TotalBytes: test.wantTotal, FreeUnknown: test.wantTotal > 0,
				Driver: "amdgpu", Note: test.note,
			}})
		})
	}
	many := fstest.MapFS{}
	for n := range maxDevices + 10 {
		many[fmt.Sprintf("class/drm/card%d/device/uevent", n)] = file(uevent)
	}
	if got := list(t, Config{SMI: absent(t), Sys: many, Cards: noCards}); len(got) != maxDevices {
		t.Errorf("%d devices of %d, want %d", len(got), len(many), maxDevices)
	}
}

// Intel's two drivers name the memory of a card each in its own way, and the newer one
// does not say how much is free.
func TestSysReadsIntel(t *testing.T) {
	const uevent = "PCI_ID=8086:56A0\nPCI_SLOT_NAME=0000:0%d:00.0\nDRIVER="
	sys := fstest.MapFS{
		"class/drm/card0/device/uevent":                         file(fmt.Sprintf(uevent, 1) + "i915\n"),
		"class/drm/card0/lmem_total_bytes":                      file("16000000000\n"),
		"class/drm/card0/lmem_avail_bytes":                      file("15000000000\n"),
		"class/drm/card1/device/uevent":                         file(fmt.Sprintf(uevent, 2) + "xe\n"),
		"class/drm/card1/device/tile0/physical_vram_size_bytes": file("8000000000\n"),
		"class/drm/card1/device/tile1/physical_vram_size_bytes": file("8000000000\n"),
		"class/drm/card2/device/uevent":                         file(fmt.Sprintf(uevent, 3) + "i915\n"),
	}
	wantDevices(t, list(t, Config{SMI: absent(t), Sys: sys, Cards: noCards}), []Device{
		{Name: "Intel graphics card 8086:56A0", Vendor: "Intel", TotalBytes: 16000000000, FreeBytes: 15000000000, Driver: "i915"},
		{Name: "Intel graphics card 8086:56A0", Vendor: "Intel", TotalBytes: 16000000000, FreeUnknown: true, Driver: "xe", Note: NoteUntoldUse},
		{Name: "Intel graphics card 8086:56A0", Vendor: "Intel", Driver: "i915", Note: NoteUntold},
	})
}

func TestNormalAddress(t *testing.T) {
	for in, want := range map[string]string{
		"00000000:01:00.0":     "0000:01:00.0",
		"0000:0A:00.0":         "0000:0a:00.0",
		"00010000:01:00.0":     "10000:01:00.0",
		" 0000:ff:1f.7 ":       "0000:ff:1f.7",
		"VideoController1":     "",
		"0000:01:00":           "",
		"0000:0g:00.0":         "",
		"x000:01:00.0":         "",
		"123456789:01:00.0":    "",
		"0000:01-00.0":         "",
		"":                     "",
		"PCI\\VEN_10DE:01:0.0": "",
	} {
		if got := normalAddress(in); got != want {
			t.Errorf("normalAddress(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzParseSMI(f *testing.F) {
	f.Add([]byte("00000000:01:00.0, NVIDIA GeForce RTX 4090, 24564, 23028, 550.54.14\n"))
	f.Add([]byte("0000000F:01:00.0, NVIDIA GB10, [N/A], [N/A], 580.95.05\r\n"))
	f.Add([]byte("0000:01:00.0, NVIDIA A, B, 2, 1, [N/A]\n\n"))
	f.Add([]byte("0000:00:00.0, 0, 0, 0, []\x00\n"))
	f.Add([]byte("No devices were found\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		devices, err := parseSMI(data)
		if err != nil {
			if devices != nil {
				t.Errorf("devices %+v beside error %v", devices, err)
			}
			return
		}
		if len(devices) > maxDevices {
			t.Errorf("%d devices", len(devices))
		}
		// What was read and is written again reads the same.
		var again strings.Builder
		for _, d := range devices {
			if d.Name == "" || len(d.Name) > 128 || !utf8.ValidString(d.Name) || d.FreeBytes > d.TotalBytes || d.TotalBytes > maxMemory {
				t.Errorf("device out of bounds: %+v", d)
			}
			free, version := fmt.Sprint(d.FreeBytes>>20), strings.TrimPrefix(d.Driver, "nvidia")
			if d.FreeUnknown {
				free = "[N/A]"
			}
			fmt.Fprintf(&again, "%s, %s, %d, %s,%s\n", d.address, d.Name, d.TotalBytes>>20, free, version)
		}
		if once, err := parseSMI([]byte(again.String())); again.Len() <= maxSMIOutput && (err != nil || !slices.Equal(once, devices)) {
			t.Errorf("read again: %+v, %v, want %+v", once, err, devices)
		}
	})
}
