package studio

import (
	"context"
	"time"
)

// voidKeys is how long a key is listed after its end.
const voidKeys = 30 * 24 * time.Hour

// housekeep removes what is no longer wanted, now and then, until ctx ends.
func (s *Studio) housekeep(ctx context.Context) {
	tick := time.NewTicker(s.cfg.SweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n, err := s.sweepInputs(ctx, time.Now().UTC())
		if err != nil && ctx.Err() == nil {
			s.cfg.Log.Error("old inputs could not be removed, trying again later", "error", err)
		}
		if _, err := s.keys.sweep(ctx, time.Now().UTC(), voidKeys); err != nil && ctx.Err() == nil {
			s.cfg.Log.Error("old keys could not be removed, trying again later", "error", err)
		}
		if n > 0 {
			s.cfg.Log.Info("old inputs were removed", "count", n)
		}
	}
}
