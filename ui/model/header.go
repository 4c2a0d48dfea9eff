package model

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"studioworker/worker/observe"
)

// Action is the one thing that it makes sense to do now.
type Action string

// The actions. ActionNone shows no button.
const (
	ActionNone     Action = ""
	ActionPause    Action = "Pause"
	ActionResume   Action = "Resume"
	ActionAskAgain Action = "Ask again"
)

// Header is the line that stands on every page.
type Header struct {
	State    State
	Word     string
	Sentence string
	Action   Action
}

// Head answers in one line: is it working, is it in my way, is anything wrong.
// What a person has to mend comes first, then the running job, then what keeps
// jobs out, then the connection.
func Head(s Snapshot, now time.Time) Header {
	if s.Settings.StudioURL == "" {
		return Header{StateAttention, "Not set up", "Choose where the jobs come from", ActionNone}
	}
	if s.Stopping() {
		if s.Job.ID != "" {
			return Header{StateBusy, "Stopping", "Giving the running job a moment to finish", ActionNone}
		}
		return Header{StatePaused, "Stopping", available(s, now), ActionNone}
	}
	if h, ok := trouble(s); ok {
		return h
	}
	if s.Job.ID != "" {
		return working(s, now)
	}
	switch s.Availability.Block {
	case observe.BlockNone:
		return waiting(s, now)
	case observe.BlockPaused:
		return Header{StatePaused, "Paused", available(s, now), ActionResume}
	case observe.BlockDiskFull:
		return Header{StateAttention, "Disk full", available(s, now), ActionPause}
	case observe.BlockStopping, observe.BlockHours, observe.BlockBattery, observe.BlockUserActive:
	}
	// It ends by itself. A person can still ask for more peace than that.
	return Header{StatePaused, "Paused", available(s, now), ActionPause}
}

// available is the sentence that says whether jobs are taken, as one line.
func available(s Snapshot, now time.Time) string {
	return oneLine(observe.Sentence(s.Availability, now), 400)
}

// trouble answers for the states that end only when a person acts.
func trouble(s Snapshot) (Header, bool) {
	switch {
	case s.Registration.State == observe.RegistrationRejected:
		return Header{StateAttention, "Declined", because("The studio declined this computer", s.Registration.Reason), ActionAskAgain}, true
	case s.Session.State == observe.SessionAuthFailed:
		return Header{StateAttention, "Signed out", because("The studio does not accept this computer any more", s.Session.Reason), ActionAskAgain}, true
	case s.Session.State == observe.SessionFatal:
		return Header{StateAttention, "Cannot connect", because("This program and the studio do not fit together", s.Session.Reason), ActionNone}, true
	}
	return Header{}, false
}

func working(s Snapshot, now time.Time) Header {
	h := Header{StateBusy, "Working", "", ActionPause}
	parts := []string{strings.ToLower(KindName(s.Job.Kind))}
	if s.Job.Model != "" {
		parts = append(parts, s.Job.Model)
	}
	if step := stepText(s.Job.Progress); step != "" {
		parts = append(parts, step)
	}
	parts = append(parts, Elapsed(now.Sub(s.Job.Started)))
	if s.Availability.Block != observe.BlockNone {
		parts = append(parts, "no new jobs", lowerFirst(available(s, now)))
	}
	if s.Paused() {
		h.Action = ActionResume
	}
	h.Sentence = strings.Join(parts, " · ")
	return h
}

// waiting answers for a computer that has nothing to do and nothing against it.
func waiting(s Snapshot, now time.Time) Header {
	h := Header{State: StateDisconnected, Action: ActionPause}
	switch s.Session.State {
	case observe.SessionConnected:
		return Header{StateIdle, "Idle", available(s, now), ActionPause}
	case observe.SessionConnecting:
		h.Word, h.Sentence = "Connecting", "Calling the studio"
		return h
	case observe.SessionReconnecting:
		h.Word, h.Sentence = "Reconnecting", because(retry(s.Session, now), s.Session.Reason)
		return h
	case observe.SessionStopped:
		h.Word, h.Sentence = "Stopped", "Not connected to the studio"
		return h
	case observe.SessionWaiting, observe.SessionAuthFailed, observe.SessionFatal:
	}
	if s.Registration.State == observe.RegistrationPending {
		h.Word, h.Sentence = "Waiting", "Waiting for the studio's approval"
		return h
	}
	h.Word, h.Sentence = "Starting", because("Asking the studio to let this computer in", s.Registration.Reason)
	return h
}

func retry(s observe.Session, now time.Time) string {
	in := s.RetryAt.Sub(now)
	if s.RetryAt.IsZero() || in < time.Second {
		return "Trying again now"
	}
	return "Trying again in " + Span(in)
}

func because(what, reason string) string {
	if reason = sentence(reason); reason == "" {
		return what
	}
	return what + ": " + reason
}

// stepText is the progress in words; empty when nothing is known.
func stepText(p observe.Progress) string {
	if p.Total > 0 {
		return fmt.Sprintf("step %d of %d", p.Step, p.Total)
	}
	return oneLine(p.Text, 60)
}

// studioName is what people call the studio: its host, or that it is here.
func studioName(s observe.Settings) string {
	if s.PrivateStudio {
		return "Private studio on this computer"
	}
	if u, err := url.Parse(s.StudioURL); err == nil && u.Host != "" {
		return u.Host
	}
	return s.StudioURL
}
