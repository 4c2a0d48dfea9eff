package model

import "time"

// Pause is one of the pauses that a person can choose, by its name in menus.
type Pause string

// The pauses.
const (
	PauseOpen     Pause = "Until I resume"
	PauseHour     Pause = "For 1 hour"
	PauseTomorrow Pause = "Until tomorrow 08:00"
)

// Pauses lists the pauses in the order of menus.
func Pauses() []Pause { return []Pause{PauseOpen, PauseHour, PauseTomorrow} }

// Until is when a pause that begins now ends by itself. It is zero for one that
// lasts until the person resumes.
func (p Pause) Until(now time.Time) time.Time {
	switch p {
	case PauseHour:
		return now.Add(time.Hour)
	case PauseTomorrow:
		return Tomorrow(now)
	case PauseOpen:
	}
	return time.Time{}
}

// Label names the pause in a menu that is about other things as well.
func (p Pause) Label() string { return "Pause " + lowerFirst(string(p)) }

// morning is the hour at which a pause until tomorrow ends.
const morning = 8

// Tomorrow is 08:00 of the day after now, in the time zone of now.
func Tomorrow(now time.Time) time.Time {
	y, m, d := now.Date()
	return time.Date(y, m, d+1, morning, 0, 0, 0, now.Location())
}
