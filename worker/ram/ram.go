// Package ram tells how much memory the system has left and how much a process
// holds for itself. On Linux it reads /proc; elsewhere it says that it does not
// know.
package ram

import (
	"errors"
	"strconv"
	"strings"
)

// ErrUnknown says that this system does not tell.
var ErrUnknown = errors.New("this system does not tell how much memory there is")

// field reads a line like "MemAvailable:   123 kB" out of a file of /proc, in
// bytes.
func field(text, name string) (uint64, error) {
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name+":")
		if !ok {
			continue
		}
		number, unit, _ := strings.Cut(strings.TrimSpace(rest), " ")
		n, err := strconv.ParseUint(number, 10, 54)
		if err != nil || unit != "kB" {
			return 0, ErrUnknown
		}
		return n << 10, nil
	}
	return 0, ErrUnknown
}
