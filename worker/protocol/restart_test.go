package protocol

import (
	"strings"
	"testing"
	"time"
)

func TestRestartReason(t *testing.T) {
	for _, tt := range []struct{ told, read time.Duration }{
		{0, 0}, {1500 * time.Millisecond, 1500 * time.Millisecond}, {-time.Second, 0}, {time.Hour, MaxReconnectAfter},
	} {
		reason := RestartReason(tt.told)
		if after, ok := ReconnectAfter(reason); !ok || after != tt.read {
			t.Errorf("%v arrives as %v, %v", tt.told, after, ok)
		}
		if len(reason) > 123 { // of a close frame
			t.Errorf("%q is too long", reason)
		}
	}
}

func TestReconnectAfterOfOtherReasons(t *testing.T) {
	for _, reason := range []string{
		"", "the studio restarts", "reconnectAfterMs=", "reconnectAfterMs=-5", "reconnectAfterMs=soon",
		"reconnectAfterMs=5 or so", "reconnectAfterMs=" + strings.Repeat("9", 40),
	} {
		if after, ok := ReconnectAfter(reason); ok {
			t.Errorf("%q names %v", reason, after)
		}
	}
	if after, ok := ReconnectAfter("reconnectAfterMs=2000000000"); !ok || after != MaxReconnectAfter {
		t.Errorf("a far time is %v, %v", after, ok)
	}
}
