package studio

import (
	"context"
	"math"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	upgradesPerCore = 1500            // a second; a TLS handshake and a hello take one core about half a millisecond
	mostBacklog     = 2 * time.Second // upgrades wait at most this long; others are told when to come back
)

// admission lets workers in at a pace that the studio can keep. After a restart
// all of them come at once: those that it could not serve soon hear 503 with a
// time of their own, so that no handshake is done in vain.
type admission struct {
	mu    sync.Mutex    // one asks at a time: a reservation that is given back costs those after it their turn
	door  *rate.Limiter // those who wait here
	later *rate.Limiter // those who were sent away, in the order in which they may come
}

func newAdmission(perSecond int) *admission {
	return &admission{
		door:  rate.NewLimiter(rate.Limit(perSecond), perSecond),
		later: rate.NewLimiter(rate.Limit(perSecond), 1),
	}
}

func upgradesPerSecond() int { return upgradesPerCore * runtime.GOMAXPROCS(0) }

// ask returns how long an upgrade must wait, or in how many seconds it may be
// tried again; one of the two is 0.
func (a *admission) ask() (wait time.Duration, again int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if backlog := 1 - a.door.TokensAt(now); backlog <= mostBacklog.Seconds()*float64(a.door.Limit()) {
		return a.door.ReserveN(now, 1).DelayFrom(now), 0
	}
	turn := mostBacklog + a.later.ReserveN(now, 1).DelayFrom(now)
	return 0, int(math.Ceil(turn.Seconds()))
}

// enter holds an upgrade until its turn. When that is too far away, or the other
// end does not wait, it answers and says false.
func (a *admission) enter(ctx context.Context, w http.ResponseWriter) bool {
	wait, again := a.ask()
	if again > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(again))
		writeError(w, http.StatusServiceUnavailable, "unavailable", "too many workers connect at once; come back later")
		return false
	}
	if wait == 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
