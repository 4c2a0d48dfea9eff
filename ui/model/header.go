package model

import (
	"net/url"
	"strings"
	"time"

	"studioworker/ui/words"
	"studioworker/worker/observe"
	"studioworker/worker/oneline"
)

// Action is the one thing that it makes sense to do now.
type Action string

// The actions. ActionNone shows no button.
const (
	ActionNone     Action = ""
	ActionPause    Action = "pause"
	ActionResume   Action = "resume"
	ActionAskAgain Action = "ask_again"
)

// Label is what the action's button says.
func (a Action) Label(p *words.Printer) string {
	switch a {
	case ActionPause:
		return p.T("Pause")
	case ActionResume:
		return p.T("Resume")
	case ActionAskAgain:
		return p.T("Ask again")
	case ActionNone:
	}
	return ""
}

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
func Head(p *words.Printer, s Snapshot, now time.Time) Header {
	if s.Settings.StudioURL == "" {
		return Header{StateAttention, p.T("Not set up"), p.T("Choose where the jobs come from"), ActionNone}
	}
	if s.Stopping() {
		if s.Job.ID != "" {
			return Header{StateBusy, p.T("Stopping"), p.T("Giving the running job a moment to finish"), ActionNone}
		}
		return Header{StatePaused, p.T("Stopping"), available(p, s, now), ActionNone}
	}
	if h, ok := trouble(p, s, now); ok {
		return h
	}
	if s.Job.ID != "" {
		return working(p, s, now)
	}
	switch s.Availability.Block {
	case observe.BlockNone:
		return waiting(p, s, now)
	case observe.BlockPaused:
		return Header{StatePaused, p.T("Paused"), available(p, s, now), ActionResume}
	case observe.BlockDiskFull:
		return Header{StateAttention, p.T("Disk full"), available(p, s, now), ActionPause}
	case observe.BlockStopping, observe.BlockHours, observe.BlockBattery, observe.BlockUserActive:
	}
	// It ends by itself. A person can still ask for more peace than that.
	return Header{StatePaused, p.T("Paused"), available(p, s, now), ActionPause}
}

// available is the sentence that says whether jobs are taken, as one line.
func available(p *words.Printer, s Snapshot, now time.Time) string {
	return oneline.Of(Sentence(p, s.Availability, now), 400)
}

// trouble answers for the states that end only when a person acts.
func trouble(p *words.Printer, s Snapshot, now time.Time) (Header, bool) {
	switch {
	case s.Registration.State == observe.RegistrationRejected:
		return Header{StateAttention, p.T("Declined"), because(p.T("The studio declined this computer"), s.Registration.Reason), ActionAskAgain}, true
	case s.Session.State == observe.SessionAuthFailed:
		return Header{StateAttention, p.T("Signed out"), because(p.T("The studio does not accept this computer any more"), refusal(p, s.Session, now)), ActionAskAgain}, true
	case s.Session.State == observe.SessionFatal:
		return Header{StateAttention, p.T("Cannot connect"), because(p.T("Given up"), reason(p, s.Session.Why, s.Session.Reason, now)), ActionNone}, true
	}
	return Header{}, false
}

// refusal is what is known of why the studio does not accept this computer beyond that.
func refusal(p *words.Printer, s observe.Session, now time.Time) string {
	if s.Why.Reason == observe.ReasonToken {
		return s.Why.Said
	}
	return reason(p, s.Why, s.Reason, now)
}

func working(p *words.Printer, s Snapshot, now time.Time) Header {
	h := Header{StateBusy, p.T("Working"), "", ActionPause}
	parts := []string{p.Inside(KindName(p, s.Job.Kind))}
	if s.Job.Model != "" {
		parts = append(parts, s.Job.Model)
	}
	if step := stepText(p, s.Job.Progress); step != "" {
		parts = append(parts, step)
	}
	parts = append(parts, Elapsed(now.Sub(s.Job.Started)))
	if s.Availability.Block != observe.BlockNone {
		parts = append(parts, p.T("no new jobs"), p.Inside(available(p, s, now)))
	}
	if s.Paused() {
		h.Action = ActionResume
	}
	h.Sentence = strings.Join(parts, " · ")
	return h
}

// waiting answers for a computer that has nothing to do and nothing against it.
func waiting(p *words.Printer, s Snapshot, now time.Time) Header {
	h := Header{State: StateDisconnected, Action: ActionPause}
	switch s.Session.State {
	case observe.SessionConnected:
		return Header{StateIdle, p.T("Idle"), available(p, s, now), ActionPause}
	case observe.SessionConnecting:
		h.Word, h.Sentence = p.T("Connecting"), p.T("Calling the studio")
		return h
	case observe.SessionReconnecting:
		h.Word, h.Sentence = p.T("Reconnecting"), because(retry(p, s.Session, now), reason(p, s.Session.Why, s.Session.Reason, now))
		return h
	case observe.SessionStopped:
		h.Word, h.Sentence = p.T("Stopped"), p.T("Not connected to the studio")
		return h
	case observe.SessionWaiting, observe.SessionAuthFailed, observe.SessionFatal:
	}
	if s.Registration.State == observe.RegistrationPending {
		h.Word, h.Sentence = p.T("Waiting"), because(p.T("Waiting for the studio's approval"), reason(p, s.Registration.Why, s.Registration.Reason, now))
		return h
	}
	h.Word, h.Sentence = p.T("Starting"), because(p.T("Asking the studio to let this computer in"), reason(p, s.Registration.Why, s.Registration.Reason, now))
	return h
}

func retry(p *words.Printer, s observe.Session, now time.Time) string {
	in := s.RetryAt.Sub(now)
	if s.RetryAt.IsZero() || in < time.Second {
		return p.T("Trying again now")
	}
	return p.T("Trying again in %s", Span(p, in))
}

func because(what, reason string) string {
	if reason = sentence(reason); reason == "" {
		return what
	}
	return what + ": " + reason
}

// stepText is the progress in words; empty when nothing is known.
func stepText(p *words.Printer, g observe.Progress) string {
	if g.Total > 0 {
		return p.T("step %d of %d", g.Step, g.Total)
	}
	return oneline.Of(g.Text, 60)
}

// studioName is what people call the studio: its host, or that it is here.
func studioName(p *words.Printer, s observe.Settings) string {
	if s.PrivateStudio {
		return p.T("Private studio on this computer")
	}
	if u, err := url.Parse(s.StudioURL); err == nil && u.Host != "" {
		return u.Host
	}
	return s.StudioURL
}

// Sentence says in one line whether jobs are taken, else why not and, when it is
// known, how that ends. In English it is [observe.Sentence].
func Sentence(p *words.Printer, a observe.Availability, now time.Time) string {
	switch a.Block {
	case observe.BlockNone:
		return p.T("Ready for jobs")
	case observe.BlockStopping:
		return p.T("Stopping: no new jobs")
	case observe.BlockPaused:
		if a.Until.IsZero() {
			return p.T("Paused by you until you resume")
		}
		return p.T("Paused by you until %s", ahead(p, a.Until, now))
	case observe.BlockDiskFull:
		switch {
		case a.NeedGB > 0:
			return p.T("Disk almost full: %s", p.T("%v GB free, %v GB needed", a.FreeGB, a.NeedGB))
		case a.Detail == "":
			return p.T("Disk almost full")
		}
		return p.T("Disk almost full: %s", a.Detail)
	case observe.BlockHours:
		if a.Until.IsZero() {
			return p.T("Outside your hours")
		}
		return p.T("Outside your hours: next at %s", ahead(p, a.Until, now))
	case observe.BlockBattery:
		return p.T("On battery: waiting for mains power")
	case observe.BlockUserActive:
		switch {
		case a.Why.Reason == observe.ReasonNoPresence:
			return p.T("Waiting: this computer does not tell whether you are using it")
		case a.Detail == "":
			return p.T("Waiting: you are using this computer")
		}
		return p.T("Waiting: %s", reason(p, a.Why, a.Detail, now))
	}
	if a.Detail == "" {
		return p.T("Takes no jobs")
	}
	return p.T("Takes no jobs: %s", reason(p, a.Why, a.Detail, now))
}

// ahead names a moment to come as shortly as it is clear: the time of today, with
// the day of the week in the six days after it, with the date otherwise.
func ahead(p *words.Printer, t, now time.Time) string {
	t = t.In(now.Location())
	y, m, d := now.Date()
	day := func(n int) time.Time { return time.Date(y, m, d+n, 0, 0, 0, 0, now.Location()) }
	switch {
	case !t.Before(day(0)) && t.Before(day(1)):
		return p.Hour(t)
	case !t.Before(day(0)) && t.Before(day(7)):
		return p.Weekday(t.Weekday()) + " " + p.Hour(t)
	}
	return p.Weekday(t.Weekday()) + " " + p.Date(t, t.Year() != y) + " " + p.Hour(t)
}

// Tooltip is the sentence of the tray. It holds as long as the state does: no steps
// and no seconds, since each change goes over the desktop's bus.
func Tooltip(p *words.Printer, s Snapshot, now time.Time) string {
	h := Head(p, s, now)
	switch {
	case h.State == StateBusy && s.Job.ID != "":
		return h.Word + ": " + facts(p.Inside(KindName(p, s.Job.Kind)), s.Job.Model)
	case h.State == StateDisconnected, h.Sentence == "":
		return h.Word
	}
	return h.Word + ": " + h.Sentence
}
