package measure

import (
	"fmt"
	"os"
	"path/filepath"
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
