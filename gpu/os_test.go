package gpu

import (
	"context"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

// What vm_stat of macOS 14 writes, shortened.
const vmStatSonoma = `Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                              100000.
Pages active:                            380000.
Pages inactive:                          200000.
Pages speculative:                         5000.
Pages throttled:                              0.
Pages wired down:                        150000.
Pages purgeable:                           1000.
"Translation faults":                 900000000.
`

func appleWith(vmStat string, err error) apple {
	return apple{
		chip:   func() (string, error) { return "Apple M2 Pro", nil },
		memory: func() (uint64, error) { return 32 << 30, nil },
		vmStat: func(context.Context) ([]byte, error) { return []byte(vmStat), err },
	}
}

func TestAppleSharesTheComputersMemory(t *testing.T) {
	cards, err := appleWith(vmStatSonoma, nil).read(t.Context())
	want := Device{
		Name: "Apple M2 Pro", Vendor: "Apple", TotalBytes: 32 << 30, FreeBytes: 306000 * 16384, Driver: "Metal", Note: NoteUnified,
	}
	if err != nil || len(cards) != 1 || cards[0].Device != want {
		t.Errorf("got %+v, %v, want %+v", cards, err, want)
	}
}

func TestAppleSaysWhatItCannotTell(t *testing.T) {
	broken := errors.New("broken")
	for name, a := range map[string]apple{
		"vm_stat fails":          appleWith("", broken),
		"nothing":                appleWith("", nil),
		"no page size":           appleWith("Mach\nPages free: 1.\n", nil),
		"page size is no number": appleWith("Mach (page size of many bytes)\nPages free: 1.\n", nil),
		"no free pages":          appleWith("Mach (page size of 4096 bytes)\n", nil),
		"pages are no number":    appleWith("Mach (page size of 4096 bytes)\nPages free: few.\n", nil),
		"too many pages":         appleWith("Mach (page size of 4096 bytes)\nPages free: 99999999999999.\n", nil),
		"too long":               appleWith(vmStatSonoma+strings.Repeat(" ", maxVMStat), nil),
	} {
		cards, err := a.read(t.Context())
		if err == nil || len(cards) != 1 || cards[0].TotalBytes != 32<<30 || !cards[0].FreeUnknown || cards[0].FreeBytes != 0 {
			t.Errorf("%s: got %+v, %v, want the total, no free memory, and an error", name, cards, err)
		}
	}
	intel := appleWith(vmStatSonoma, nil)
	intel.chip = func() (string, error) { return "Intel(R) Core(TM) i7", nil }
	if cards, err := intel.read(t.Context()); !errors.Is(err, errNotAppleChip) || cards != nil {
		t.Errorf("Intel: got %+v, %v", cards, err)
	}
	silent := appleWith(vmStatSonoma, nil)
	silent.memory = func() (uint64, error) { return 0, broken }
	if cards, err := silent.read(t.Context()); !errors.Is(err, broken) || len(cards) != 1 || cards[0].TotalBytes != 0 {
		t.Errorf("no memory: got %+v, %v", cards, err)
	}
}

func FuzzParseVMStat(f *testing.F) {
	f.Add([]byte(vmStatSonoma))
	f.Add([]byte("Mach (page size of 4096 bytes)\nPages free: 1.\nPages free: 1.\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := parseVMStat(data)
		if err != nil && n != 0 || n > 4*maxMemory {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}

// What typeperf of Windows 11 writes for two cards, with its words for people.
const typeperfTwo = "\r\n\"(PDH-CSV 4.0)\",\"\\\\PC\\GPU Adapter Memory(luid_0x00000000_0x0000D1B2_phys_0)\\Dedicated Usage\"," +
	"\"\\\\PC\\GPU Adapter Memory(luid_0x00000000_0x0000E000_phys_0)\\Dedicated Usage\"\r\n" +
	"\"11/23/2026 10:00:00.000\",\"2147483648.000000\",\"0.000000\"\r\nExiting, please wait...\r\nThe command completed successfully.\r\n"

func windowsWith(usage string, err error) directX {
	return directX{
		adapters: func() ([]adapter, error) {
			return []adapter{
				{"AMD Radeon RX 7900 XTX", 0xD1B2, 24 << 30},
				{"Microsoft Basic Render Driver", 0xF000, 1},
				{"AMD Radeon RX 7900 XTX", 0xE000, 24 << 30},
				{"Intel(R) UHD Graphics 770", 0xE001, 128 << 20},
			}, nil
		},
		usage: func(context.Context) ([]byte, error) { return []byte(usage), err },
	}
}

func TestDirectXTellsMemoryInUse(t *testing.T) {
	cards, err := windowsWith(typeperfTwo, nil).read(t.Context())
	want := []found{
		{Device: Device{Name: "AMD Radeon RX 7900 XTX", TotalBytes: 24 << 30, FreeBytes: 22 << 30}},
		{Device: Device{Name: "AMD Radeon RX 7900 XTX", TotalBytes: 24 << 30, FreeBytes: 24 << 30}},
		{Device: Device{Name: "Intel(R) UHD Graphics 770", TotalBytes: 128 << 20, FreeUnknown: true}},
	}
	if err != nil || !reflect.DeepEqual(cards, want) {
		t.Errorf("got %+v, %v, want %+v", cards, err, want)
	}
}

func TestDirectXSaysWhatItCannotTell(t *testing.T) {
	const name = `"t","\\PC\GPU Adapter Memory(luid_0x00000000_0x0000D1B2_phys_0)\Dedicated Usage"` + "\r\n"
	tests := []struct {
		name, usage string
		err         error
		want        error
	}{
		{"typeperf fails", "", io.ErrClosedPipe, io.ErrClosedPipe},
		{"nothing", "", nil, errTypeperf},
		{"names only", name, nil, errTypeperf},
		{"a value too few", name + "\"now\"\r\n", nil, errTypeperf},
		{"no number", name + "\"now\",\"much\"\r\n", nil, errTypeperf},
		{"negative", name + "\"now\",\"-1\"\r\n", nil, errTypeperf},
		{"not a number at all", name + "\"now\",\"NaN\"\r\n", nil, errTypeperf},
		{"words", "Error: No valid counters.", nil, errTypeperf},
		{"too long", strings.Repeat("x", maxTypeperf+1), nil, errTypeperf},
	}
	for _, test := range tests {
		cards, err := windowsWith(test.usage, test.err).read(t.Context())
		if !errors.Is(err, test.want) || len(cards) != 3 || !cards[0].FreeUnknown {
			t.Errorf("%s: got %+v, %v, want three cards with unknown use and %v", test.name, cards, err, test.want)
		}
	}
	none := directX{adapters: func() ([]adapter, error) { return nil, io.ErrClosedPipe }}
	if cards, err := none.read(t.Context()); !errors.Is(err, io.ErrClosedPipe) || cards != nil {
		t.Errorf("no list: got %+v, %v", cards, err)
	}
}

func FuzzParseTypeperf(f *testing.F) {
	f.Add([]byte(typeperfTwo))
	f.Add([]byte("\"a\"\n\"b\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		used, err := parseTypeperf(data)
		if err != nil && used != nil {
			t.Errorf("%v beside error %v", used, err)
		}
	})
}
