package job

import (
	"strings"
	"testing"
)

// The studio offers a job again while its upload is under way: the engine does
// not run a second time for a result that the studio has by now.
func TestRow41AnOfferThatCrossesTheDeliveryOfItsResult(t *testing.T) {
	f := setup(t, makes("txt", "a result"), nil)
	for range 2 {
		f.Offer(t.Context(), picked("job-1", "a lighthouse"), newLink())
		f.idle(t)
	}
	f.recent(t, 1)
	f.counts(t, 1, 1)
	if !strings.Contains(f.log.String(), "the studio has the result already") {
		t.Errorf("log:\n%s", f.log)
	}
}
