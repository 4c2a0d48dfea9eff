package model

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"studioworker/ui/words"
	"studioworker/worker/oneline"
)

// Ago says how long before now t was: "2 s ago", "5 min ago", and from an hour
// on the time of day. A time in the future counts as now.
func Ago(p *words.Printer, t, now time.Time) string {
	switch d := now.Sub(t); {
	case d < time.Second:
		return p.T("just now")
	case d < time.Hour:
		return p.T("%s ago", Span(p, d))
	}
	return Clock(p, t, now)
}

// When is Ago for the inside of a sentence.
func When(p *words.Printer, t, now time.Time) string {
	if now.Sub(t) >= time.Hour && Clock(p, t, now) == p.Hour(t) {
		return p.T("at %s", p.Hour(t))
	}
	return p.Inside(Ago(p, t, now))
}

// Clock names the moment t in the time zone of now: "14:02", "yesterday 14:02",
// "12 Mar 14:02", and with the year when it is another one.
func Clock(p *words.Printer, t, now time.Time) string {
	t = t.In(now.Location())
	y, m, d := now.Date()
	midnight := time.Date(y, m, d, 0, 0, 0, 0, now.Location())
	switch {
	case !t.Before(midnight):
		return p.Hour(t)
	case !t.Before(midnight.AddDate(0, 0, -1)):
		return p.T("yesterday %s", p.Hour(t))
	}
	return p.Date(t, t.Year() != y) + " " + p.Hour(t)
}

// Span names a duration by its largest unit: "3 h". Below zero counts as zero.
func Span(p *words.Printer, d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return p.T("%d s", int(d/time.Second))
	case d < time.Hour:
		return p.T("%d min", int(d/time.Minute))
	case d < 24*time.Hour:
		return p.T("%d h", int(d/time.Hour))
	}
	return p.T("%d days", int(d/(24*time.Hour)))
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
func Took(p *words.Printer, d time.Duration) string {
	switch d = max(d, 0); {
	case d < 100*time.Millisecond:
		return p.T("under %s s", p.Number(0.1, 1))
	case d < 10*time.Second:
		return p.T("%s s", p.Number(d.Truncate(100*time.Millisecond).Seconds(), 1))
	case d < time.Minute:
		return Span(p, d)
	case d < time.Hour:
		return p.T("%d min %d s", int(d/time.Minute), int(d%time.Minute/time.Second))
	}
	return p.T("%d h %d min", int(d/time.Hour), int(d%time.Hour/time.Minute))
}

// Bytes names a size in decimal units: "512 bytes", "3.2 MB", "14 MB".
func Bytes(p *words.Printer, n int64) string {
	if n < 1000 {
		return p.T("%d bytes", max(n, 0))
	}
	v, units := float64(n)/1000, []string{"KB", "MB", "GB", "TB"}
	for v >= 999.5 && len(units) > 1 {
		v, units = v/1000, units[1:]
	}
	digits := 0
	if v < 9.95 {
		digits = 1
	}
	return p.Number(v, digits) + " " + units[0]
}

// gib gives bytes of graphics memory in GiB, which people call GB.
func gib(p *words.Printer, n uint64) string { return p.Number(float64(n)/(1<<30), 1) }

// sentence ends a reason that came from elsewhere like a sentence of ours.
func sentence(s string) string {
	s = oneline.Of(s, 400)
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
func ParseThreshold(p *words.Printer, text string) (float64, error) {
	t := strings.TrimSpace(text)
	if cut, ok := strings.CutSuffix(strings.ToUpper(t), "GB"); ok {
		t = strings.TrimSpace(cut)
	}
	v, err := strconv.ParseFloat(strings.Replace(t, ",", ".", 1), 64)
	if err != nil || math.IsNaN(v) || v < 0 || v > maxThresholdGB {
		return 0, errors.New(p.T("write a number of GB from 0 to %d", maxThresholdGB))
	}
	return v, nil
}

// Threshold writes a threshold the way the field shows it.
func Threshold(gb float64) string { return strconv.FormatFloat(gb, 'f', -1, 64) }
