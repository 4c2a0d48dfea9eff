//go:build !headless

package app

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestOwnMappings: only what the kernel can bring back is given back.
func TestOwnMappings(t *testing.T) {
	const smaps = `00400000-00404000 r--p 00000000 08:01 7  /opt/studio worker
Size:                 16 kB
Anonymous:             0 kB
00404000-01800000 r-xp 00004000 08:01 7  /opt/studio worker
Anonymous:             0 kB
01800000-02c00000 r--p 01400000 08:01 7  /opt/studio worker
Anonymous:             4 kB
02c00000-02d00000 rw-p 02800000 08:01 7  /opt/studio worker
Anonymous:             0 kB
7f0000000000-7f0000100000 r-xp 00000000 08:01 8  /usr/lib/libc.so.6
Anonymous:             0 kB
7f0000200000-7f0000300000 rw-p 00000000 00:00 0
Anonymous:            64 kB
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0  [vsyscall]
Anonymous:             0 kB
`
	found, err := ownMappings(strings.NewReader(smaps), "/opt/studio worker")
	if want := []mapping{{0x400000, 0x404000}, {0x404000, 0x1800000}}; err != nil || !slices.Equal(found, want) {
		t.Errorf("found %x, %v", found, err)
	}
	if _, err := ownMappings(strings.NewReader("0-zz r--p 0 0 0 /opt/studio worker\n"), "/opt/studio worker"); err == nil {
		t.Error("a damaged line was taken")
	}
}

// TestShedPages: this very program goes on when its pages are taken from it.
func TestShedPages(t *testing.T) {
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if found, err := ownMappings(strings.NewReader(string(smaps)), self); err != nil || len(found) == 0 {
		t.Fatalf("found %v, %v", found, err)
	}
	for range 3 {
		if err := shedPages(); err != nil {
			t.Fatal(err)
		}
	}
}
