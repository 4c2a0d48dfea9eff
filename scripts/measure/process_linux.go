package measure

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Resident returns how much memory of a process is in RAM, in bytes.
func Resident(tb testing.TB, pid int) float64 {
	tb.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		tb.Fatal(err)
	}
	var size, resident int
	if _, err := fmt.Sscan(string(data), &size, &resident); err != nil {
		tb.Fatal(err)
	}
	return float64(resident * os.Getpagesize())
}

// ProcessorTime returns how long the threads of a process have run that still do.
func ProcessorTime(tb testing.TB, pid int) time.Duration {
	tb.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(threads) == 0 {
		tb.Fatalf("no threads of process %d: %v", pid, err)
	}
	var all time.Duration
	for _, path := range threads {
		data, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		var ran time.Duration
		if _, err := fmt.Sscan(string(data), &ran); err != nil {
			tb.Fatal(err)
		}
		all += ran
	}
	return all
}

// Peak returns the most memory of a process that was in RAM at once since it
// began, in bytes.
func Peak(tb testing.TB, pid int) float64 {
	tb.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if text, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			var kib float64
			if _, err := fmt.Sscan(text, &kib); err != nil {
				tb.Fatal(err)
			}
			return kib * 1024
		}
	}
	tb.Fatalf("the kernel says no peak of process %d", pid)
	return 0
}
