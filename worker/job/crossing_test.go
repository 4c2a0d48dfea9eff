package job

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"studioworker/worker/engine"
)

// The studio offers a job again while its upload is under way: the engine does
// not run a second time for a result that the studio has by now.
func TestRow41AnOfferThatCrossesTheDeliveryOfItsResult(t *testing.T) {
	var ran atomic.Int32
	counted := runs(func(_ context.Context, req engine.Request, _ func(engine.Progress)) (engine.Result, error) {
		ran.Add(1)
		return leave(req, "txt", "a result")
	})
	f := setup(t, counted, nil)
	for range 2 {
		f.Offer(t.Context(), picked("job-1", "a lighthouse"), newLink())
		f.idle(t)
	}
	if n := ran.Load(); n != 1 {
		t.Errorf("the engine ran %d times, want once", n)
	}
	f.recent(t, 1)
	if !strings.Contains(f.log.String(), "the studio has the result already") {
		t.Errorf("log:\n%s", f.log)
	}
}
