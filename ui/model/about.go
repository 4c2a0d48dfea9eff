package model

import (
	"cmp"
	"math"
	"time"

	"studioworker/ui/words"
	"studioworker/worker/observe"
	"studioworker/worker/oneline"
)

// About is the page that says what this program is.
type About struct {
	Version string
	Commit  string
	Config  string
	Studio  string

	Update     string // how far an update is
	UpdateTone Tone
	Checked    string // when the last look was
	Notes      string // what a release brings
	Fraction   float64
	Measured   bool // a download has a length
	CanCheck   bool // a look makes sense now
	CanRestart bool // a release is ready
}

// NewAbout words a snapshot and the state of updates.
func NewAbout(p *words.Printer, s Snapshot, u observe.Update, now time.Time) About {
	a := About{
		Version: s.Settings.Version, Commit: cmp.Or(s.Settings.Commit, p.T("unknown")),
		Config: s.Settings.ConfigPath, Studio: p.T("No studio chosen"),
		Notes: u.Notes, CanCheck: true,
	}
	if s.Settings.StudioURL != "" {
		a.Studio = studioName(p, s.Settings)
	}
	if !u.Checked.IsZero() {
		a.Checked = p.T("Last look %s", Ago(p, u.Checked, now))
	}
	version := oneline.Of(u.Version, 60)
	switch u.State {
	case observe.UpdateNone:
		a.Update, a.UpdateTone = p.T("Nobody has looked for a newer version yet"), ToneMuted
		if !u.Checked.IsZero() {
			a.Update, a.UpdateTone = p.T("This is the newest version"), ToneGood
		}
	case observe.UpdateUnsupported:
		a.Update, a.UpdateTone, a.CanCheck = p.T("This copy does not update itself"), ToneMuted, false
	case observe.UpdateChecking:
		a.Update, a.UpdateTone, a.CanCheck = p.T("Looking for a newer version"), ToneMuted, false
	case observe.UpdateAvailable:
		a.Update, a.UpdateTone = p.T("Version %s is there", version), ToneBusy
	case observe.UpdateDownloading:
		a.Update, a.UpdateTone, a.CanCheck = p.T("Version %s is being fetched: %s", version, Bytes(p, u.Done)), ToneBusy, false
		if u.Bytes > 0 {
			a.Update = p.T("Version %s is being fetched: %s of %s", version, Bytes(p, u.Done), Bytes(p, u.Bytes))
			a.Fraction, a.Measured = math.Min(float64(max(u.Done, 0))/float64(u.Bytes), 1), true
		}
	case observe.UpdateReady:
		a.Update, a.UpdateTone, a.CanRestart = p.T("Version %s is ready and waits until nothing runs", version), ToneGood, true
	case observe.UpdateApplying:
		a.Update, a.UpdateTone, a.CanCheck = p.T("Version %s is being installed", version), ToneBusy, false
	case observe.UpdateHeld:
		a.Update, a.UpdateTone = p.T("Version %s did not run here; a later one is awaited", version), ToneBusy
	case observe.UpdateFailed:
		a.Update, a.UpdateTone = p.T("The last look did not work"), ToneBad
	default:
		a.Update, a.UpdateTone = p.T("Unknown"), ToneMuted
	}
	if u.Detail != "" {
		a.Update = because(a.Update, reason(p, u.Why, u.Detail, now))
	}
	return a
}
