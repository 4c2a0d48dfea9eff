package protocol

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// MaxReconnectAfter bounds the time for which a studio that restarts may send its
// workers away, and for which a worker lets itself be sent.
const MaxReconnectAfter = 30 * time.Second

const reconnectKey = "reconnectAfterMs="

// RestartReason is the reason of a close with [CloseGoingAway]: it tells the
// worker when to come back, so that not all come in the same moment. A worker
// that does not read it comes back by its own rule.
func RestartReason(after time.Duration) string {
	return fmt.Sprintf("the studio restarts; %s%d", reconnectKey, min(max(after, 0), MaxReconnectAfter).Milliseconds())
}

// ReconnectAfter returns the time that a close reason names, at most
// [MaxReconnectAfter], and whether it names one.
func ReconnectAfter(reason string) (time.Duration, bool) {
	_, text, ok := strings.Cut(reason, reconnectKey)
	if !ok {
		return 0, false
	}
	ms, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, false
	}
	return min(time.Duration(ms)*time.Millisecond, MaxReconnectAfter), true
}
