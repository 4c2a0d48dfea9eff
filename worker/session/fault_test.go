package session

import (
	"strings"
	"testing"

	"studioworker/worker/observe"
	"studioworker/worker/protocol"
	"studioworker/worker/session/sessiontest"
)

// TestRow38TwoWorkersWithOneIdentity: the older one stops for good and says what
// is wrong; the newer one works on. They do not take turns.
func TestRow38TwoWorkersWithOneIdentity(t *testing.T) {
	first, second := setup(t), setup(t)
	second.studio, second.cfg.Credentials = first.studio, first.cfg.Credentials
	first.start(t)
	old := first.studio.Welcome(t)
	first.state(t, observe.SessionConnected)
	second.start(t)
	current := second.studio.Welcome(t)
	old.Send(t, protocol.Error{Code: protocol.ErrorDuplicate, Message: "another connection took over"})
	if s := first.state(t, observe.SessionFatal); !strings.Contains(s.Reason, "another computer uses this worker's identity") || !s.RetryAt.IsZero() {
		t.Errorf("the older one says %+v", s)
	}
	current.Send(t, offer("job-31"))
	sessiontest.Await(t, current, func(d protocol.CompleteJSON) bool { return d.JobID == "job-31" })
	if s := second.seen.Session.Get(); s.State != observe.SessionConnected {
		t.Errorf("the newer one says %+v", s)
	}
}
