package session

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"studioworker/worker/observe"
	"studioworker/worker/protocol"
)

// TestLogsAreShippedUntilNoneAreLeft: at once and on each tick everything that
// waits goes, batch by batch; a whole batch does not wait for the tick.
func TestLogsAreShippedUntilNoneAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeLogs{ready: make(chan struct{}, 1)}
		fill := func(n int) { source.Restore(make([]protocol.LogEntry, n)) }
		s := newSession(Config{Logs: source, Observers: observe.New(), Log: slog.New(slog.DiscardHandler)}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		type shipped struct {
			at    time.Duration
			bytes int
		}
		var got []shipped
		start := time.Now()
		go func() { // the writer
			for f := range s.outbound {
				got = append(got, shipped{time.Since(start), len(f.data)})
				f.done <- nil
			}
		}()
		fill(4*protocol.MaxLogBatchEntries + 7)
		go func() { ended <- s.pump(ctx) }()
		synctest.Wait()
		at := func() (times []time.Duration) {
			for _, one := range got {
				times = append(times, one.at)
			}
			return times
		}
		if want := make([]time.Duration, 5); !slices.Equal(at(), want) {
			t.Errorf("shipped at %v, want five batches at once", at())
		}
		got = nil
		time.Sleep(300 * time.Millisecond)
		fill(7) // waits for the tick
		time.Sleep(1200 * time.Millisecond)
		fill(2 * protocol.MaxLogBatchEntries)
		source.ready <- struct{}{}
		synctest.Wait()
		if want := []time.Duration{time.Second, 1500 * time.Millisecond, 1500 * time.Millisecond}; !slices.Equal(at(), want) {
			t.Errorf("shipped at %v, want %v", at(), want)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
		close(s.outbound)
	})
}
