package model

import (
	"time"

	"studioworker/ui/words"
)

// Pause is one of the pauses that a person can choose.
type Pause string

// The pauses.
const (
	PauseOpen     Pause = "open"
	PauseHour     Pause = "hour"
	PauseTomorrow Pause = "tomorrow"
)

// Pauses lists the pauses in the order of menus.
func Pauses() []Pause { return []Pause{PauseOpen, PauseHour, PauseTomorrow} }

// Until is when a pause that begins now ends by itself. It is zero for one that
// lasts until the person resumes.
func (c Pause) Until(now time.Time) time.Time {
	switch c {
	case PauseHour:
		return now.Add(time.Hour)
	case PauseTomorrow:
		return Tomorrow(now)
	case PauseOpen:
	}
	return time.Time{}
}

// Name names the pause in a menu of pauses.
func (c Pause) Name(p *words.Printer) string {
	switch c {
	case PauseHour:
		return p.T("For 1 hour")
	case PauseTomorrow:
		return p.T("Until tomorrow 08:00")
	case PauseOpen:
	}
	return p.T("Until I resume")
}

// Label names the pause in a menu that is about other things as well.
func (c Pause) Label(p *words.Printer) string {
	switch c {
	case PauseHour:
		return p.T("Pause for 1 hour")
	case PauseTomorrow:
		return p.T("Pause until tomorrow 08:00")
	case PauseOpen:
	}
	return p.T("Pause until I resume")
}

// morning is the hour at which a pause until tomorrow ends.
const morning = 8

// Tomorrow is 08:00 of the day after now, in the time zone of now.
func Tomorrow(now time.Time) time.Time {
	y, m, d := now.Date()
	return time.Date(y, m, d+1, morning, 0, 0, 0, now.Location())
}
