//go:build darwin || linux

package presence

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// hidIdle reads the answer of ioreg about IOHIDSystem, line by line. It is here
// on Linux too, where its test runs.
type hidIdle struct {
	found bool
	ns    uint64
}

func (h *hidIdle) line(text string) {
	name, value, ok := strings.Cut(text, "=")
	if !ok || h.found || strings.TrimLeft(name, " |") != `"HIDIdleTime" ` {
		return
	}
	ns, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
	if err != nil || ns > math.MaxInt64 {
		return
	}
	h.found, h.ns = true, ns
}

func (h *hidIdle) idle() (time.Duration, error) {
	if !h.found {
		return 0, errors.New("ioreg does not say HIDIdleTime")
	}
	return time.Duration(h.ns), nil
}
