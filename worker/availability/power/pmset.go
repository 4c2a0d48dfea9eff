//go:build darwin || linux

package power

import (
	"errors"
	"strings"
)

// drawsFromBattery reads the answer of `pmset -g batt`, of which the first line
// names the source of power. It is here on Linux too, where its test runs.
func drawsFromBattery(out string) (bool, error) {
	first, _, _ := strings.Cut(out, "\n")
	switch {
	case strings.Contains(first, "'Battery Power'"), strings.Contains(first, "'UPS Power'"):
		return true, nil
	case strings.Contains(first, "'AC Power'"):
		return false, nil
	}
	return false, errors.New("pmset does not name the source of power")
}
