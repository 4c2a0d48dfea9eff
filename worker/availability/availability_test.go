package availability

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"studioworker/worker/observe"
	"studioworker/worker/protocol"
)

func TestWhatKeepsTheWorkerFromTakingJobs(t *testing.T) {
	var slot observe.Slot[observe.Availability]
	var out bytes.Buffer
	idleOnly := false
	c := New(&slot, func() bool { return idleOnly }, slog.New(slog.NewTextHandler(&out, nil)))
	check := func(block observe.Block, code protocol.RejectCode, reason string) {
		t.Helper()
		gotReason, gotCode, refused := c.Refusal()
		if slot.Get().Block != block || gotCode != code || gotReason != reason || refused == c.AutoEnabled() {
			t.Errorf("block %q, code %q, reason %q, enabled %v", slot.Get().Block, gotCode, gotReason, c.AutoEnabled())
		}
	}
	check(observe.BlockNone, "", "")
	c.Pause()
	c.Pause()
	check(observe.BlockPaused, "paused", "worker paused by operator")
	c.Resume()
	c.Resume()
	check(observe.BlockNone, "", "")
	idleOnly = true // and nobody knows whether a person is here
	if reason, code, refused := c.Refusal(); !refused || code != "paused" || !c.AutoEnabled() || !strings.HasPrefix(reason, "only when idle") {
		t.Errorf("only when idle: %v, %q, %q, enabled %v", refused, code, reason, c.AutoEnabled())
	}
	idleOnly = false
	c.Stop()
	check(observe.BlockStopping, "paused", "worker paused by operator")
	for _, once := range []string{"claiming paused by operator", "claiming resumed by operator"} { // spec #53, #54
		if n := strings.Count(out.String(), once); n != 1 {
			t.Errorf("%q was said %d times", once, n)
		}
	}
}
