package model

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"studioworker/worker/observe"
)

// Status is the Status page, the header and the status bar, in words.
type Status struct {
	Header

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
func NewStatus(s Snapshot, now time.Time) Status {
	st := Status{
		Header:    Head(s, now),
		Studio:    studioName(s.Settings),
		RequestID: s.Registration.RequestID,
		WorkerID:  s.Registration.WorkerID,
		Threshold: Threshold(s.Settings.VRAMThresholdGB),
		Serves:    "No kind of job yet",
	}
	if len(s.Settings.Serves) > 0 {
		kinds := make([]string, 0, len(s.Settings.Serves))
		for _, k := range s.Settings.Serves {
			kinds = append(kinds, strings.ToLower(KindName(k)))
		}
		st.Serves = strings.Join(kinds, ", ")
	}
	if s.Settings.Version != "" {
		st.Version = "v" + strings.TrimPrefix(s.Settings.Version, "v")
	}
	st.Registration, st.RegistrationTone = registration(s.Registration, now)
	st.Connection = connection(s.Session, now)
	st.Heartbeat, st.HeartbeatTone = heartbeat(s.Heartbeat, now)
	st.GPUs, st.GPUNote = gpus(s.GPUs)
	st.Waiting, st.WaitingNote, st.WaitingTone = outbox(s.Outbox, now)
	st.Bar = bar(s, st)
	return st
}

func registration(r observe.Registration, now time.Time) (string, Tone) {
	switch r.State {
	case observe.RegistrationPending:
		if r.Since.IsZero() {
			return "Waiting for approval", ToneBusy
		}
		return "Waiting for approval since " + Clock(r.Since, now), ToneBusy
	case observe.RegistrationApproved:
		return "Approved", ToneText
	case observe.RegistrationRejected:
		return because("Declined", r.Reason), ToneBad
	case observe.RegistrationPristine:
		if r.Reason != "" {
			return because("Not asked yet, trying again", r.Reason), ToneBusy
		}
	}
	return "Not asked yet", ToneMuted
}

func connection(s observe.Session, now time.Time) string {
	switch s.State {
	case observe.SessionConnected:
		if s.Since.IsZero() {
			return "Connected"
		}
		return "Connected for " + Span(now.Sub(s.Since))
	case observe.SessionConnecting:
		return "Connecting"
	case observe.SessionReconnecting:
		return fmt.Sprintf("%s, try %d", retry(s, now), s.Attempt+1)
	case observe.SessionAuthFailed:
		return "Signed out by the studio"
	case observe.SessionFatal:
		return because("Given up", s.Reason)
	case observe.SessionStopped:
		return "Stopped"
	case observe.SessionWaiting:
	}
	return "Not connected"
}

func heartbeat(h observe.Heartbeat, now time.Time) (string, Tone) {
	switch {
	case h.At.IsZero():
		return "None yet", ToneMuted
	case h.Err != "":
		return because("Failed "+Ago(h.At, now), h.Err), ToneBad
	case h.RoundTrip <= 0:
		return Ago(h.At, now), ToneText
	}
	return Ago(h.At, now) + ", " + roundTrip(h.RoundTrip), ToneText
}

func roundTrip(d time.Duration) string {
	if d < time.Millisecond {
		return "under 1 ms"
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}

func gpus(g observe.GPUs) ([]GPU, string) {
	if g.At.IsZero() {
		return nil, "Looking for graphics cards"
	}
	if len(g.List) == 0 {
		return nil, "No graphics card found: jobs run on the processor"
	}
	rows := make([]GPU, 0, len(g.List))
	for _, c := range g.List {
		row := GPU{Name: cmp.Or(oneLine(c.Name, 80), "Unknown card")}
		switch {
		case c.Total == 0:
			row.Memory = "memory unknown"
		case c.Free == 0 || c.Free > c.Total:
			row.Memory = gib(c.Total) + " GB, free memory unknown"
		default:
			row.Known = true
			row.Used = float64(c.Total-c.Free) / float64(c.Total)
			row.Memory = fmt.Sprintf("%s of %s GB used", gib(c.Total-c.Free), gib(c.Total))
		}
		rows = append(rows, row)
	}
	return rows, ""
}

func outbox(o observe.Outbox, now time.Time) (what, note string, tone Tone) {
	if o.Count == 0 {
		return "Nothing", "Every result is with the studio", ToneMuted
	}
	what = fmt.Sprintf("%s (%s)", plural(o.Count, "result"), Bytes(o.Bytes))
	note = "Sent when the studio is back"
	if !o.Oldest.IsZero() {
		note += ". The oldest is from " + Ago(o.Oldest, now)
	}
	if o.LastError != "" {
		return what, because("The last try did not work", o.LastError), ToneBad
	}
	return what, note, ToneBusy
}

// bar is the line at the foot of the window. It says little more than the host
// while there is no connection: the header has the rest.
func bar(s Snapshot, st Status) string {
	if s.Settings.StudioURL == "" {
		return "No studio chosen"
	}
	line := st.Studio + " · " + lowerFirst(st.Connection)
	if s.Session.State == observe.SessionConnected && s.Heartbeat.Err == "" && !s.Heartbeat.At.IsZero() {
		line += " · heartbeat " + st.Heartbeat
	}
	if s.Outbox.Count > 0 {
		line += " · results waiting: " + fmt.Sprint(s.Outbox.Count)
	}
	return line
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
