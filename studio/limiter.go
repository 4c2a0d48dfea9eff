package studio

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	requestsPerMinute = 10   // registration requests of one address
	signInsPerMinute  = 10   // attempts to sign in of one address
	maxAddresses      = 4096 // remembered at once
)

// limiter bounds how often an address may ask.
type limiter struct {
	perMinute int

	mu        sync.Mutex
	addresses map[string]*rate.Limiter
}

func newLimiter(perMinute int) *limiter {
	return &limiter{perMinute: perMinute, addresses: map[string]*rate.Limiter{}}
}

// allow says whether the address may ask now.
func (l *limiter) allow(address string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, ok := l.addresses[address]
	if !ok {
		if len(l.addresses) >= maxAddresses {
			for old, bucket := range l.addresses {
				if bucket.Tokens() >= float64(l.perMinute) {
					delete(l.addresses, old)
				}
			}
			if len(l.addresses) >= maxAddresses {
				return false // too many at once to tell them apart
			}
		}
		a = rate.NewLimiter(rate.Every(time.Minute/time.Duration(l.perMinute)), l.perMinute)
		l.addresses[address] = a
	}
	return a.Allow()
}
