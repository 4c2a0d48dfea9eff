package protocol

import (
	"net/http"
	"strconv"
	"time"
)

// MaxRetryAfter bounds for how long a studio can send a worker away.
const MaxRetryAfter = time.Hour

// RetryAfter reads a Retry-After header, seconds or a date, at the time now. It is
// at most [MaxRetryAfter]; 0 means that there is none, or none that makes sense.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	var d time.Duration
	if s, err := strconv.ParseInt(value, 10, 64); err == nil {
		d = time.Duration(min(max(s, 0), int64(MaxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), MaxRetryAfter)
}
