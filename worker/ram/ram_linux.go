package ram

import (
	"fmt"
	"os"
	"strconv"
)

// Available returns the bytes that programs can still get without swapping.
func Available() (uint64, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("read the free memory: %w", err)
	}
	return field(string(text), "MemAvailable")
}

// Own returns the bytes that a process holds for itself: neither files that it has
// mapped nor what it shares.
func Own(pid int) (uint64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, fmt.Errorf("read the memory of process %d: %w", pid, err)
	}
	return field(string(text), "RssAnon")
}
