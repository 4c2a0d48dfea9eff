package ram

import (
	"errors"
	"os"
	"runtime"
	"testing"
)

func TestField(t *testing.T) {
	text := "MemTotal:       32768 kB\nMemAvailable:    1024 kB\nHugePages_Total:       5\nBad: x kB\nHuge: 99999999999999999999 kB\n"
	if n, err := field(text, "MemAvailable"); n != 1<<20 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	for _, name := range []string{"Missing", "HugePages_Total", "Bad", "Huge", ""} {
		if n, err := field(text, name); n != 0 || !errors.Is(err, ErrUnknown) {
			t.Errorf("%q: %d, %v", name, n, err)
		}
	}
}

func TestThisComputer(t *testing.T) {
	available, err := Available()
	own, ownErr := Own(os.Getpid())
	if runtime.GOOS != "linux" {
		if !errors.Is(err, ErrUnknown) || !errors.Is(ownErr, ErrUnknown) {
			t.Errorf("%v, %v", err, ownErr)
		}
		return
	}
	if err != nil || ownErr != nil || available < 1<<20 || own < 1<<20 || own > 1<<40 {
		t.Errorf("available %d, %v; own %d, %v", available, err, own, ownErr)
	}
	if _, err := Own(1 << 30); err == nil {
		t.Error("a process that is not there has memory")
	}
}
