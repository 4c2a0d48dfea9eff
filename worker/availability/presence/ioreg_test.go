//go:build darwin || linux

package presence

import (
	"strings"
	"testing"
	"time"
)

func read(out string) (time.Duration, error) {
	var h hidIdle
	for line := range strings.SplitSeq(out, "\n") {
		h.line(line)
	}
	return h.idle()
}

func TestIORegOutput(t *testing.T) {
	const before = "+-o IOHIDSystem  <class IOHIDSystem, id 0x1000002dc, registered, matched, active, busy 0 (0 ms), retain 35>\n    {\n      \"IOClass\" = \"IOHIDSystem\"\n"
	for _, tc := range []struct {
		name, out string
		want      time.Duration
		bad       bool
	}{
		{"three minutes", before + "      \"HIDIdleTime\" = 180000000123\n    }\n", 3*time.Minute + 123, false},
		{"in a tree", "    | |   \"HIDIdleTime\" = 5000000000\n", 5 * time.Second, false},
		{"the first one counts", "\"HIDIdleTime\" = 1\n\"HIDIdleTime\" = 2\n", 1, false},
		{"another property that holds the name", "\"HIDParameters\" = {\"HIDIdleTime\" = 5}\n", 0, true},
		{"no number", "\"HIDIdleTime\" = <00a1>\n", 0, true},
		{"negative", "\"HIDIdleTime\" = -5\n", 0, true},
		{"larger than a duration", "\"HIDIdleTime\" = 9223372036854775808\n", 0, true},
		{"absent", before, 0, true},
		{"nothing", "", 0, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, err := read(tc.out); got != tc.want || (err != nil) != tc.bad {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func FuzzIORegOutput(f *testing.F) {
	f.Add("\"HIDIdleTime\" = 5000000000")
	f.Fuzz(func(t *testing.T, out string) {
		if idle, err := read(out); idle < 0 || idle > 0 && err != nil {
			t.Errorf("got %v, %v", idle, err)
		}
	})
}
