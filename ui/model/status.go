package model

import (
	"cmp"
	"strings"
	"time"

	"studioworker/ui/words"
	"studioworker/worker/observe"
	"studioworker/worker/oneline"
)

// Status is the Status page, the header and the status bar, in words.
type Status struct {
	Header
	Stopping bool // the program is on its way out

	Downloads []Download

	Serves string

	Studio           string
	Registration     string
	RegistrationTone Tone
	RequestID        string // pending: what the operator sees
	WorkerID         string // approved
	Connection       string
	Heartbeat        string
	HeartbeatTone    Tone

	GPUs      []GPU
	GPUNote   string // what stands there when there is no card to list
	Threshold string

	Waiting     string // results that wait to be delivered
	WaitingNote string
	WaitingTone Tone

	Bar     string // status bar, left
	Version string // status bar, right
}

// GPU is one graphics card. Used is the part of its memory in use, 0 to 1, and
// means something only when Known.
type GPU struct {
	Name, Memory string
	Used         float64
	Known        bool
}

// NewStatus words a snapshot.
func NewStatus(p *words.Printer, s Snapshot, now time.Time) Status {
	st := Status{
		Header:    Head(p, s, now),
		Studio:    studioName(p, s.Settings),
		RequestID: s.Registration.RequestID,
		WorkerID:  s.Registration.WorkerID,
		Threshold: Threshold(s.Settings.VRAMThresholdGB),
		Serves:    p.T("No kind of job yet"),
	}
	if len(s.Settings.Serves) > 0 {
		kinds := make([]string, 0, len(s.Settings.Serves))
		for _, k := range s.Settings.Serves {
			kinds = append(kinds, p.Inside(KindName(p, k)))
		}
		st.Serves = strings.Join(kinds, ", ")
	}
	if s.Settings.Version != "" {
		st.Version = "v" + strings.TrimPrefix(s.Settings.Version, "v")
	}
	st.Registration, st.RegistrationTone = registration(p, s.Registration, now)
	st.Connection = connection(p, s.Session, now)
	st.Heartbeat, st.HeartbeatTone = heartbeat(p, s.Heartbeat, now)
	st.Stopping = s.Stopping()
	for _, d := range s.Downloads {
		st.Downloads = append(st.Downloads, NewDownload(p, d))
	}
	st.GPUs, st.GPUNote = gpus(p, s.GPUs, now)
	st.Waiting, st.WaitingNote, st.WaitingTone = outbox(p, s.Outbox, s.Session.State == observe.SessionConnected, now)
	st.Bar = bar(p, s, st)
	return st
}

func registration(p *words.Printer, r observe.Registration, now time.Time) (string, Tone) {
	switch r.State {
	case observe.RegistrationPending:
		if r.Since.IsZero() {
			return because(p.T("Waiting for approval"), reason(p, r.Why, r.Reason, now)), ToneBusy
		}
		return because(p.T("Waiting for approval since %s", Clock(p, r.Since, now)), reason(p, r.Why, r.Reason, now)), ToneBusy
	case observe.RegistrationApproved:
		return p.T("Approved"), ToneText
	case observe.RegistrationRejected:
		return because(p.T("Declined"), r.Reason), ToneBad
	case observe.RegistrationPristine:
		if r.Reason != "" {
			return because(p.T("Not asked yet, trying again"), reason(p, r.Why, r.Reason, now)), ToneBusy
		}
	}
	return p.T("Not asked yet"), ToneMuted
}

func connection(p *words.Printer, s observe.Session, now time.Time) string {
	switch s.State {
	case observe.SessionConnected:
		if s.Since.IsZero() {
			return p.T("Connected")
		}
		return p.T("Connected for %s", Span(p, now.Sub(s.Since)))
	case observe.SessionConnecting:
		return p.T("Connecting")
	case observe.SessionReconnecting:
		return p.T("%s, try %d", retry(p, s, now), s.Attempt+1)
	case observe.SessionAuthFailed:
		return p.T("Signed out by the studio")
	case observe.SessionFatal:
		return because(p.T("Given up"), reason(p, s.Why, s.Reason, now))
	case observe.SessionStopped:
		return p.T("Stopped")
	case observe.SessionWaiting:
	}
	return p.T("Not connected")
}

func heartbeat(p *words.Printer, h observe.Heartbeat, now time.Time) (string, Tone) {
	switch {
	case h.At.IsZero():
		return p.T("None yet"), ToneMuted
	case h.Err != "":
		return because(p.T("Failed %s", Ago(p, h.At, now)), reason(p, h.Why, h.Err, now)), ToneBad
	case h.RoundTrip <= 0:
		return Ago(p, h.At, now), ToneText
	}
	return Ago(p, h.At, now) + ", " + roundTrip(p, h.RoundTrip), ToneText
}

func roundTrip(p *words.Printer, d time.Duration) string {
	if d < time.Millisecond {
		return p.T("under 1 ms")
	}
	return p.T("%d ms", d.Milliseconds())
}

func gpus(p *words.Printer, g observe.GPUs, now time.Time) ([]GPU, string) {
	if g.At.IsZero() {
		return nil, p.T("Looking for graphics cards")
	}
	if len(g.List) == 0 {
		return nil, p.T("No graphics card found: jobs run on the processor")
	}
	rows := make([]GPU, 0, len(g.List))
	for _, c := range g.List {
		row := GPU{Name: cmp.Or(oneline.Of(c.Name, 80), p.T("Unknown card"))}
		switch {
		case c.Total == 0 && c.Note != "":
			row.Memory = p.T("memory unknown: %s", reason(p, c.Why, oneline.Of(c.Note, 128), now))
		case c.Total == 0:
			row.Memory = p.T("memory unknown")
		case c.FreeUnknown || c.Free > c.Total:
			row.Memory = p.T("%s GB, free memory unknown", gib(p, c.Total))
		default:
			row.Known = true
			row.Used = float64(c.Total-c.Free) / float64(c.Total)
			row.Memory = p.T("%s of %s GB used", gib(p, c.Total-c.Free), gib(p, c.Total))
		}
		rows = append(rows, row)
	}
	return rows, ""
}

func outbox(p *words.Printer, o observe.Outbox, connected bool, now time.Time) (what, note string, tone Tone) {
	if o.Count == 0 {
		return p.T("Nothing"), p.T("Every result is with the studio"), ToneMuted
	}
	what = p.T("%d results (%s)", o.Count, Bytes(p, o.Bytes))
	note = p.T("Sent when the studio is back")
	if connected {
		note = p.T("On the way to the studio")
	}
	if !o.Oldest.IsZero() {
		note += ". " + p.T("The oldest is from %s", Ago(p, o.Oldest, now))
	}
	if o.LastError != "" {
		return what, because(p.T("The last try did not work"), reason(p, o.Why, o.LastError, now)), ToneBad
	}
	return what, note, ToneBusy
}

// bar is the line at the foot of the window. It says little more than the host
// while there is no connection: the header has the rest.
func bar(p *words.Printer, s Snapshot, st Status) string {
	if s.Settings.StudioURL == "" {
		return p.T("No studio chosen")
	}
	line := st.Studio + " · " + p.Inside(st.Connection)
	if s.Session.State == observe.SessionConnected && s.Heartbeat.Err == "" && !s.Heartbeat.At.IsZero() {
		line += " · " + p.T("heartbeat %s", st.Heartbeat)
	}
	if s.Outbox.Count > 0 {
		line += " · " + p.T("results waiting: %d", s.Outbox.Count)
	}
	return line
}
