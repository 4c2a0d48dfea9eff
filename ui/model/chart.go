package model

import (
	"time"

	"studioworker/ui/words"
	"studioworker/worker/observe"
	"studioworker/worker/oneline"
)

// ChartHours is how many hours the chart of the Status page shows.
const ChartHours = 24

// Hour is one hour of the chart.
type Hour struct {
	Done, Failed int     // jobs that ended in it
	Busy         float64 // share of it in which a job ran, 0 to 1, in hundredths
}

// Chart is the last 24 hours, the oldest first. The last hour ends now.
type Chart struct {
	Hours   [ChartHours]Hour
	Most    int // jobs of the hour with the most
	Summary string
}

// NewChart counts what ended in the last 24 hours, and how busy they were. running
// is when the job in flight began, zero when there is none.
func NewChart(p *words.Printer, jobs []observe.RecentJob, running, now time.Time) Chart {
	var c Chart
	var busy [ChartHours]time.Duration
	first := now.Add(-ChartHours * time.Hour)
	add := func(from, to time.Time) {
		for h := range busy {
			start := first.Add(time.Duration(h) * time.Hour)
			busy[h] += max(0, earlier(to, start.Add(time.Hour)).Sub(later(from, start)))
		}
	}
	done, failed := 0, 0
	for _, j := range jobs {
		end := j.Started.Add(j.Duration)
		if j.Started.IsZero() || end.After(now) || !end.After(first) {
			continue
		}
		add(j.Started, end)
		h := &c.Hours[min(int(end.Sub(first)/time.Hour), ChartHours-1)]
		switch j.Outcome {
		case observe.OutcomeCompleted, observe.OutcomeKept:
			h.Done++
			done++
		case observe.OutcomeFailed:
			h.Failed++
			failed++
		case observe.OutcomeCancelled:
		}
		c.Most = max(c.Most, h.Done+h.Failed)
	}
	if !running.IsZero() {
		add(running, now)
	}
	var all time.Duration
	for h, d := range busy {
		d = min(d, time.Hour) // a job that was run twice, or a clock that was set back
		all += d
		c.Hours[h].Busy = float64(100*d/time.Hour) / 100
	}
	c.Summary = p.T("%d done, %d failed, busy %d %% of the time", done, failed, int(100*all/(ChartHours*time.Hour)))
	return c
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Download is one model file on its way, in words.
type Download struct {
	Name     string
	Facts    string // how much, how fast, how long still
	Fraction float64
	Known    bool // Fraction means something
}

// NewDownload words one file on its way.
func NewDownload(p *words.Printer, d observe.Download) Download {
	row := Download{Name: facts(oneline.Of(d.Model, 60), oneline.Of(d.File, 80))}
	if d.Model == d.File {
		row.Name = oneline.Of(d.File, 80)
	}
	got := Bytes(p, d.Bytes)
	if d.Total > 0 {
		row.Known = true
		row.Fraction = min(max(float64(d.Bytes)/float64(d.Total), 0), 1)
		got = p.T("%s of %s", got, Bytes(p, d.Total))
	}
	row.Facts = got
	if d.Rate >= 1 {
		row.Facts += " · " + p.T("%s a second", Bytes(p, int64(d.Rate)))
		if left := d.Total - d.Bytes; left > 0 {
			row.Facts += " · " + p.T("%s left", Span(p, time.Duration(min(float64(left)/d.Rate, 1e6))*time.Second))
		}
	} else {
		row.Facts += " · " + p.T("waiting")
	}
	return row
}
