// Package hours reads and answers a weekly plan such as "mon-fri 18:00-08:00".
//
// A plan speaks of what clocks on the wall show: in the night in which an hour
// comes twice it holds twice, and an hour that is left out is left out. Nothing
// here reads a clock or changes after Parse.
package hours

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Bounds of a plan.
const (
	MaxEntries = 64
	MaxLength  = 100 // of one entry, in bytes
)

const (
	dayMinutes  = 24 * 60
	weekMinutes = 7 * dayMinutes
)

// horizon is how far Next looks: a week, and room for an hour that a change of
// the clocks leaves out in the first one.
const horizon = 15 * 24 * time.Hour

// Week is a plan: the minutes of a week in which jobs are taken. The zero Week
// has no plan and is always open.
type Week struct {
	planned bool
	minutes [weekMinutes]bool // from Sunday 00:00
}

// Parse reads entries of the form "DAYS FROM-TO". DAYS is daily, or days and
// ranges of days joined by commas (mon-fri, sat,sun, fri-mon). FROM and TO are
// times of 24 hours, TO may be 24:00. When TO is not after FROM it is a time of
// the next day. No entries mean always. The error quotes the entry that is wrong.
func Parse(entries []string) (Week, error) {
	var w Week
	if len(entries) > MaxEntries {
		return w, fmt.Errorf("%d entries are more than %d", len(entries), MaxEntries)
	}
	for _, entry := range entries {
		if len(entry) > MaxLength {
			return Week{}, fmt.Errorf("an entry is longer than %d characters", MaxLength)
		}
		if err := w.add(entry); err != nil {
			return Week{}, fmt.Errorf("%q: %w", entry, err)
		}
	}
	return w, nil
}

func (w *Week) add(entry string) error {
	fields := strings.Fields(strings.ToLower(entry))
	if len(fields) != 2 {
		return errors.New(`write days and times, such as "mon-fri 18:00-08:00"`)
	}
	days, err := parseDays(fields[0])
	if err != nil {
		return err
	}
	fromText, toText, ok := strings.Cut(fields[1], "-")
	if !ok {
		return errors.New("the times must be FROM-TO, such as 18:00-08:00")
	}
	from, err := parseTime(fromText)
	if err != nil {
		return err
	}
	to, err := parseTime(toText)
	if err != nil {
		return err
	}
	switch {
	case from == dayMinutes:
		return errors.New("24:00 can only be an end: begin at 00:00")
	case from == to:
		return errors.New("it begins and ends at the same time: the whole day is 00:00-24:00")
	case to < from:
		to += dayMinutes
	}
	w.planned = true
	for day, on := range days {
		if !on {
			continue
		}
		for m := from; m < to; m++ {
			w.minutes[(day*dayMinutes+m)%weekMinutes] = true
		}
	}
	return nil
}

func dayNames() []string { return []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} }

func parseDays(text string) (days [7]bool, err error) {
	if text == "daily" {
		return [7]bool{true, true, true, true, true, true, true}, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		firstText, lastText, isRange := strings.Cut(part, "-")
		first, err := parseDay(firstText)
		if err != nil {
			return days, err
		}
		last := first
		if isRange {
			if last, err = parseDay(lastText); err != nil {
				return days, err
			}
		}
		for day := first; ; day = (day + 1) % 7 {
			days[day] = true
			if day == last {
				break
			}
		}
	}
	return days, nil
}

func parseDay(text string) (int, error) {
	for day, name := range dayNames() {
		if text == name {
			return day, nil
		}
	}
	return 0, fmt.Errorf("%q is no day: write mon, tue, wed, thu, fri, sat, sun or daily", text)
}

// parseTime returns the minute of the day, 0 to 1440.
func parseTime(text string) (int, error) {
	if text == "24:00" {
		return dayMinutes, nil
	}
	t, err := time.Parse("15:04", text)
	if err != nil || len(text) != len("15:04") {
		return 0, fmt.Errorf("%q is no time: write it as 08:30, from 00:00 to 24:00", text)
	}
	return t.Hour()*60 + t.Minute(), nil
}

// Open says whether the plan holds at t, by the clock of t's time zone.
func (w *Week) Open(t time.Time) bool { return !w.planned || w.minutes[minuteOf(t)] }

func minuteOf(t time.Time) int { return int(t.Weekday())*dayMinutes + t.Hour()*60 + t.Minute() }

// Next returns the first moment after t at which the plan begins or ends to hold,
// by the clock of t's time zone; false when it does neither.
func (w *Week) Next(t time.Time) (time.Time, bool) {
	open := w.Open(t)
	latest := t.Add(horizon)
	for t = t.Round(0); t.Before(latest); {
		wait, ok := w.flip(t, open)
		if !ok {
			break
		}
		next := t.Add(wait)
		// The clock on the wall goes on evenly until its zone ends.
		_, end := t.ZoneBounds()
		if end.IsZero() || next.Before(end) {
			return next, true
		}
		if t = end.In(t.Location()); w.Open(t) != open {
			return t, true
		}
	}
	return time.Time{}, false
}

// flip returns how long after t the plan is not open any more, or is again, on a
// clock that goes on evenly; false when it never changes.
func (w *Week) flip(t time.Time, open bool) (time.Duration, bool) {
	now := minuteOf(t)
	for ahead := 1; ahead < weekMinutes; ahead++ {
		if w.planned && w.minutes[(now+ahead)%weekMinutes] != open {
			within := time.Duration(t.Second())*time.Second + time.Duration(t.Nanosecond())
			return time.Duration(ahead)*time.Minute - within, true
		}
	}
	return 0, false
}
