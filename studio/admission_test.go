package studio

import (
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"studioworker/worker/protocol"
)

// TestRow30AStormOfWorkers: ten thousand come at once. None is served in vain,
// each comes back once at most when it does as it was told, and all are in within
// 1.3 times what their handshakes take.
func TestRow30AStormOfWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const workers, perSecond = 10_000, 500
		a := newAdmission(perSecond)
		start := time.Now()
		var tries atomic.Int64
		var in sync.WaitGroup
		for range workers {
			in.Go(func() {
				for {
					tries.Add(1)
					wait, again := a.ask()
					if again == 0 {
						time.Sleep(wait)
						return
					}
					time.Sleep(time.Duration(again) * time.Second)
				}
			})
		}
		in.Wait()
		floor := workers * time.Second / perSecond
		if took := time.Since(start); took > floor*13/10 {
			t.Errorf("all are in after %v, the handshakes take %v", took, floor)
		}
		if got := tries.Load(); got > 2*workers {
			t.Errorf("%d tries of %d workers", got, workers)
		}
		t.Logf("%d workers are in after %v with %d tries; their handshakes take %v", workers, time.Since(start), tries.Load(), floor)
	})
}

// TestUpgradesBeyondTheBacklogAreSentAway with the time to come back, and
// strangers take nobody's turn.
func TestUpgradesBeyondTheBacklogAreSentAway(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	for f.studio.admission.door.Tokens() > float64(-3*upgradesPerSecond()) {
		f.studio.admission.door.Reserve()
	}
	conn, resp, err := w.upgrade(t.Context(), t, w.token, protocol.Version)
	if err == nil {
		_ = conn.Close() // it should not be
		t.Fatal("let in")
	}
	defer resp.Body.Close()
	after, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if resp.StatusCode != http.StatusServiceUnavailable || err != nil || after < 2 || after > 5 {
		t.Errorf("answered %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	if status := w.upgradeStatus(t, "wrong", protocol.Version); status != http.StatusUnauthorized {
		t.Errorf("a stranger hears %d", status)
	}
}
