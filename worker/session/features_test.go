package session

import (
	"slices"
	"strings"
	"testing"

	"studioworker/worker/observe"
	"studioworker/worker/protocol"
	"studioworker/worker/session/sessiontest"
)

// modern makes the worker name our features, with jobs that are not finished.
func modern(t *testing.T, unfinished ...string) *fixture {
	t.Helper()
	f := setup(t)
	f.jobs.unfinished = unfinished
	plain := f.cfg.Session.Capabilities
	f.cfg.Session.Capabilities = func() protocol.Capabilities {
		caps := plain()
		caps.Features = protocol.Features()
		return caps
	}
	return f
}

func TestResumeComesFirst(t *testing.T) {
	f := modern(t, "job-31", "job-40")
	f.start(t)
	c := f.studio.Welcome(t, protocol.FeatureResume)
	if frame, ok := c.Next(t).(protocol.Resume); !ok || !slices.Equal(frame.JobIDs, []string{"job-31", "job-40"}) {
		t.Fatalf("after welcome: %#v", frame)
	}
	sessiontest.Await[protocol.Heartbeat](t, c, nil)
	// What we did not ask about is not the studio's to decide.
	c.Send(t, protocol.Resumed{Keep: []string{"job-31", "job-7"}, Drop: []string{"job-8", "job-40"}})
	if done := sessiontest.Await[protocol.CompleteJSON](t, c, nil); done.JobID != "job-31" {
		t.Errorf("delivered %+v", done)
	}
	if fail := sessiontest.Await[protocol.Fail](t, c, nil); fail.JobID != "job-40" {
		t.Errorf("dropped %+v", fail)
	}
}

func TestAReferenceStudioSeesNoFeature(t *testing.T) {
	f := modern(t, "job-31")
	f.start(t)
	c := f.studio.Welcome(t)
	if beat, ok := c.Next(t).(protocol.Heartbeat); !ok {
		t.Fatalf("after welcome: %#v, want a heartbeat", beat)
	}
	c.Send(t, protocol.Resumed{Keep: []string{"job-31"}}) // out of the blue
	c.Send(t, offer("job-40"))
	if frame := sessiontest.Await[protocol.CompleteJSON](t, c, nil); frame.JobID != "job-40" {
		t.Errorf("sent %+v", frame)
	}
}

func TestCancelFrames(t *testing.T) {
	f := modern(t)
	f.start(t)
	c := f.studio.Welcome(t, protocol.FeatureCancel)
	c.Send(t, protocol.Cancel{JobID: "job-31", Reason: "the operator changed their mind"})
	if fail := sessiontest.Await[protocol.Fail](t, c, nil); fail.JobID != "job-31" || fail.Error != "the operator changed their mind" {
		t.Errorf("answered %+v", fail)
	}
}

func TestCancelIsNotForAWorkerThatDidNotNameIt(t *testing.T) {
	f := setup(t)
	f.start(t)
	c := f.studio.Welcome(t, protocol.FeatureCancel)
	c.Send(t, protocol.Cancel{JobID: "job-31"})
	c.Send(t, offer("job-40"))
	for {
		switch frame := c.Next(t).(type) {
		case protocol.Fail:
			t.Fatalf("acted on the cancel: %+v", frame)
		case protocol.CompleteJSON:
			if !strings.Contains(f.text.String(), "did not name its feature") {
				t.Errorf("the log is silent about it:\n%s", f.text)
			}
			if s := f.seen.Session.Get(); s.State != observe.SessionConnected {
				t.Errorf("the session is %+v", s)
			}
			return
		}
	}
}
