package model

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Ago says how long before now t was: "2 s ago", "5 min ago", and from an hour
// on the time of day. A time in the future counts as now.
func Ago(t, now time.Time) string {
	switch d := now.Sub(t); {
	case d < time.Second:
		return "just now"
	case d < time.Hour:
		return Span(d) + " ago"
	}
	return Clock(t, now)
}

// Clock names the moment t in the time zone of now: "14:02", "yesterday 14:02",
// "12 Mar 14:02", and with the year when it is another one.
func Clock(t, now time.Time) string {
	t = t.In(now.Location())
	y, m, d := now.Date()
	midnight := time.Date(y, m, d, 0, 0, 0, 0, now.Location())
	switch {
	case !t.Before(midnight):
		return t.Format("15:04")
	case !t.Before(midnight.AddDate(0, 0, -1)):
		return t.Format("yesterday 15:04")
	case t.Year() == y:
		return t.Format("2 Jan 15:04")
	}
	return t.Format("2 Jan 2006 15:04")
}

// Span names a duration by its largest unit: "3 h". Below zero counts as zero.
func Span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return plural(int(d/(24*time.Hour)), "day")
}

// Elapsed is a running clock: "0:14", "1:02:03".
func Elapsed(d time.Duration) string {
	s := int64(max(d, 0) / time.Second)
	if s < 3600 {
		return fmt.Sprintf("%d:%02d", s/60, s%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

// Took says how long something lasted: "under 0.1 s", "0.4 s", "42 s",
// "2 min 5 s", "1 h 3 min".
func Took(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 100*time.Millisecond:
		return "under 0.1 s"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Truncate(100*time.Millisecond).Seconds())
	case d < time.Minute:
		return Span(d)
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
}

// Bytes names a size in decimal units: "512 bytes", "3.2 MB", "14 MB".
func Bytes(n int64) string {
	if n < 1000 {
		return plural(int(max(n, 0)), "byte")
	}
	v, units := float64(n)/1000, []string{"KB", "MB", "GB", "TB"}
	for v >= 999.5 && len(units) > 1 {
		v, units = v/1000, units[1:]
	}
	if v < 9.95 {
		return fmt.Sprintf("%.1f %s", v, units[0])
	}
	return fmt.Sprintf("%.0f %s", v, units[0])
}

// gib gives bytes of graphics memory in GiB, which people call GB.
func gib(n uint64) string { return fmt.Sprintf("%.1f", float64(n)/(1<<30)) }

// plural counts things: "1 result", "2 results".
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}

// oneLine makes a text fit one row: control characters become blanks, runs of
// blanks become one, and at most limit characters stay.
func oneLine(s string, limit int) string {
	var b strings.Builder
	blank, n := false, 0
	for _, r := range s {
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			blank = n > 0
			continue
		}
		if n >= limit {
			b.WriteRune('…')
			break
		}
		if blank {
			b.WriteByte(' ')
			n++
		}
		b.WriteRune(r)
		blank, n = false, n+1
	}
	return b.String()
}

// sentence ends a reason that came from elsewhere like a sentence of ours.
func sentence(s string) string {
	s = oneLine(s, 400)
	return strings.TrimRight(s, ". ")
}

// ShortPath writes a path below the person's home folder with a tilde. home may
// be empty.
func ShortPath(path, home string) string {
	home = strings.TrimRight(home, `/\`)
	if rest, ok := strings.CutPrefix(path, home); ok && home != "" && len(rest) > 1 && strings.ContainsAny(rest[:1], `/\`) {
		return "~" + rest
	}
	return path
}

// maxThresholdGB bounds the number that the field takes; no machine has more.
const maxThresholdGB = 4096

// ParseThreshold reads the largest job in GB as a person types it, "10", "10.5"
// or "10,5", with or without the unit. It refuses everything but a number from 0
// to 4096 (spec/protocol.md §11.1).
func ParseThreshold(text string) (float64, error) {
	t := strings.TrimSpace(text)
	if cut, ok := strings.CutSuffix(strings.ToUpper(t), "GB"); ok {
		t = strings.TrimSpace(cut)
	}
	v, err := strconv.ParseFloat(strings.Replace(t, ",", ".", 1), 64)
	if err != nil || math.IsNaN(v) || v < 0 || v > maxThresholdGB {
		return 0, fmt.Errorf("write a number of GB from 0 to %d", maxThresholdGB)
	}
	return v, nil
}

// Threshold writes a threshold the way the field shows it.
func Threshold(gb float64) string { return strconv.FormatFloat(gb, 'f', -1, 64) }
