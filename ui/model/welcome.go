package model

import (
	"time"

	"studioworker/ui/words"
	"studioworker/worker/observe"
)

// Stage says how far a first start is.
type Stage string

// The stages of a first start.
const (
	StageChoose   Stage = "choose"   // nobody has chosen where the jobs come from
	StageAsking   Stage = "asking"   // the studio has not answered yet
	StageWaiting  Stage = "waiting"  // a person there has to decide
	StageDeclined Stage = "declined" // they said no
	StageDone     Stage = "done"     // the pages take over
)

// Welcome is what stands in place of the pages on a first start.
type Welcome struct {
	Stage   Stage
	State   State // for the mark
	Title   string
	Text    string
	Request string // what the operator sees; empty when there is none
	Since   string // since when the request waits; may be empty
}

// NewWelcome words a first start.
func NewWelcome(p *words.Printer, s Snapshot, now time.Time) Welcome {
	if s.Settings.StudioURL == "" {
		return Welcome{Stage: StageChoose}
	}
	studio := studioName(p, s.Settings)
	switch r := s.Registration; r.State {
	case observe.RegistrationPristine:
		w := Welcome{
			Stage: StageAsking, State: StateDisconnected, Title: p.T("Asking the studio"),
			Text: p.T("%s has not answered yet. This goes on by itself.", studio),
		}
		if r.Reason != "" {
			w.State = StateAttention
			w.Text = because(p.T("%s does not answer as it should, and is asked again and again", studio), reason(p, r.Why, r.Reason, now))
		}
		return w
	case observe.RegistrationPending:
		w := Welcome{
			Stage: StageWaiting, State: StateDisconnected, Title: p.T("Waiting for the studio's approval"), Request: r.RequestID,
			Text: p.T("The people of %s have to let this computer in once. If you know them, tell them this request:", studio),
		}
		if !r.Since.IsZero() {
			w.Since = p.T("Asked %s. The answer shows here by itself.", Ago(p, r.Since, now))
		}
		return w
	case observe.RegistrationRejected:
		return Welcome{
			Stage: StageDeclined, State: StateAttention, Title: p.T("The studio declined this computer"),
			Text: because(p.T("The people of %s said no", studio), r.Reason),
		}
	case observe.RegistrationApproved:
	}
	return Welcome{Stage: StageDone}
}
