package observe

import "time"

// Sentence says in one line whether jobs are taken, else why not and, when it is
// known, how that ends. Times are in now's time zone. The line has no full stop.
func Sentence(a Availability, now time.Time) string {
	switch a.Block {
	case BlockNone:
		return "Ready for jobs"
	case BlockStopping:
		return "Stopping: no new jobs"
	case BlockPaused:
		if a.Until.IsZero() {
			return "Paused by you until you resume"
		}
		return "Paused by you until " + clock(a.Until, now)
	case BlockDiskFull:
		return "Disk almost full" + after(a.Detail)
	case BlockHours:
		if a.Until.IsZero() {
			return "Outside your hours"
		}
		return "Outside your hours: next at " + clock(a.Until, now)
	case BlockBattery:
		return "On battery: waiting for mains power"
	case BlockUserActive:
		if a.Detail == "" {
			return "Waiting: you are using this computer"
		}
		return "Waiting: " + a.Detail
	}
	return "Takes no jobs" + after(a.Detail)
}

func after(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}

// clock words a moment as shortly as it is clear: the time of today, with the day
// of the week in the six days after it, with the date otherwise.
func clock(t, now time.Time) string {
	t = t.In(now.Location())
	y, m, d := now.Date()
	day := func(n int) time.Time { return time.Date(y, m, d+n, 0, 0, 0, 0, now.Location()) }
	switch {
	case !t.Before(day(0)) && t.Before(day(1)):
		return t.Format("15:04")
	case !t.Before(day(0)) && t.Before(day(7)):
		return t.Format("Mon 15:04")
	case t.Year() == y:
		return t.Format("Mon 2 Jan 15:04")
	}
	return t.Format("Mon 2 Jan 2006 15:04")
}
