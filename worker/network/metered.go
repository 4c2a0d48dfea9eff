package network

import (
	"context"
	"time"
)

// meteredTime bounds the question to the system.
const meteredTime = 5 * time.Second

// Metered says whether the system counts what goes over its connection: a phone's, or
// one that a person marked so. A system that does not tell has none.
func Metered(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, meteredTime)
	defer cancel()
	return metered(ctx)
}
