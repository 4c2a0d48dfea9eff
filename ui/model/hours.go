package model

import (
	"fmt"
	"strings"
	"time"

	"studioworker/ui/words"
	"studioworker/worker/availability/hours"
)

// Grid is a week in whole hours, Monday first: true where jobs are taken.
type Grid [7][24]bool

// FullGrid is a week without a plan: always.
func FullGrid() Grid {
	var g Grid
	for d := range g {
		for h := range g[d] {
			g[d][h] = true
		}
	}
	return g
}

// Count is how many hours of the week are on.
func (g Grid) Count() int {
	n := 0
	for _, day := range g {
		for _, on := range day {
			if on {
				n++
			}
		}
	}
	return n
}

// monday is any Monday far from a change of clocks: the grid has no dates.
func monday() time.Time { return time.Date(2001, time.January, 1, 0, 0, 0, 0, time.UTC) }

// ReadGrid gives the grid of a plan, one entry a line, as the config has it. An
// hour counts when the plan holds for all of it; exact is false when the plan has
// parts of hours, which a grid cannot show. No plan is always.
func ReadGrid(plan string) (g Grid, exact bool, err error) {
	week, err := hours.Parse(planLines(plan))
	if err != nil {
		return g, false, err
	}
	exact = true
	for d := range g {
		for h := range g[d] {
			open := 0
			for m := range 60 {
				at := monday().Add(time.Duration((d*24+h)*60+m) * time.Minute)
				if week.Open(at) {
					open++
				}
			}
			g[d][h] = open == 60
			exact = exact && (open == 0 || open == 60)
		}
	}
	return g, exact, nil
}

func planLines(plan string) []string {
	var lines []string
	for line := range strings.Lines(plan) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// span is a stretch of hours of one day; to may be 24, or not above from when it
// ends on the next day.
type span struct{ from, to int }

// spans lists the stretches of each day. One that goes on after midnight, and for
// less than a day, is one stretch of the day it begins in.
func (g Grid) spans() [7][]span {
	var all [7][]span
	for d, day := range g {
		for h := 0; h < 24; h++ {
			if !day[h] {
				continue
			}
			from := h
			for h < 24 && day[h] {
				h++
			}
			all[d] = append(all[d], span{from, h})
		}
	}
	for d := range all {
		next := (d + 1) % 7
		if len(all[d]) == 0 || len(all[next]) == 0 {
			continue
		}
		last, first := &all[d][len(all[d])-1], all[next][0]
		if last.to == 24 && last.from > 0 && first.from == 0 && first.to < 24 && first.to < last.from {
			last.to = first.to
			all[next] = all[next][1:]
		}
	}
	return all
}

// Plan writes the grid the way the config has it, one entry a line: days with the
// same hours in one entry. A full grid is no plan.
func (g Grid) Plan() string {
	if g == FullGrid() {
		return ""
	}
	names := [7]string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
	var lines []string
	g.each(func(days []int, s span) {
		lines = append(lines, fmt.Sprintf("%s %02d:00-%02d:00", joinDays(days, func(d int) string { return names[d] }, "-", ","), s.from, s.to))
	})
	return strings.Join(lines, "\n")
}

// Sentence words the grid for people: "Mon–Fri 18:00–08:00, Sat 00:00–24:00".
func (g Grid) Sentence(p *words.Printer) string {
	switch g.Count() {
	case 7 * 24:
		return p.T("Always")
	case 0:
		return p.T("Never: choose at least one hour")
	}
	var parts []string
	g.each(func(days []int, s span) {
		name := func(d int) string { return p.Weekday(time.Weekday((d + 1) % 7)) }
		parts = append(parts, fmt.Sprintf("%s %02d:00–%02d:00", joinDays(days, name, "–", ", "), s.from, s.to))
	})
	return strings.Join(parts, "; ")
}

// each calls do for each stretch with the days that have it, in the order of the
// first of them.
func (g Grid) each(do func(days []int, s span)) {
	all := g.spans()
	done := map[span]bool{}
	for d := range all {
		for _, s := range all[d] {
			if done[s] {
				continue
			}
			done[s] = true
			var days []int
			for other := range all {
				for _, o := range all[other] {
					if o == s {
						days = append(days, other)
					}
				}
			}
			do(days, s)
		}
	}
}

// joinDays names days that stand in order; three or more in a row are a range.
func joinDays(days []int, name func(int) string, through, and string) string {
	var parts []string
	for i := 0; i < len(days); {
		j := i
		for j+1 < len(days) && days[j+1] == days[j]+1 {
			j++
		}
		switch {
		case j-i >= 2:
			parts = append(parts, name(days[i])+through+name(days[j]))
		default:
			for _, d := range days[i : j+1] {
				parts = append(parts, name(d))
			}
		}
		i = j + 1
	}
	return strings.Join(parts, and)
}
