package dashboard

import (
	"fmt"
	"math"

	"studioworker/studio/client"
)

// The box that charts are drawn in. The page stretches it; words stand outside,
// where they keep their size.
const (
	chartWidth  = 480.0
	chartHeight = 96.0
	barGap      = 3.0
)

// chart is a row of bars, one for each hour.
type chart struct {
	Title   string
	Number  string // the one number that the chart is about
	Caption string // what that number is
	Top     string // what a bar of full height stands for
	Half    string // and one of half of it
	Empty   bool
	Bars    []bar
	Legend  []legend
	Columns []string
	Rows    [][]string
}

type legend struct{ Class, Word string }

// bar is one hour: what it says, and its parts.
type bar struct {
	Says  string
	X, W  float64
	Parts []part
}

type part struct {
	Class string
	Y, H  float64
}

// bars places the hours side by side. values returns the heights of an hour's
// parts, the lowest first; each begins at the bottom when they overlap.
func bars(hours []client.Hour, classes []string, stacked bool, values func(client.Hour) []float64, says func(client.Hour) string) (out []bar, top float64) {
	sum := func(v []float64) float64 {
		total := 0.0
		for _, x := range v {
			if stacked {
				total += x
			} else {
				total = max(total, x)
			}
		}
		return total
	}
	for _, h := range hours {
		top = max(top, sum(values(h)))
	}
	top = round(top)
	width := chartWidth / float64(max(1, len(hours)))
	for i, h := range hours {
		b := bar{Says: says(h), X: float64(i)*width + barGap/2, W: width - barGap}
		base := 0.0
		for k, v := range values(h) {
			if v <= 0 || top == 0 {
				continue
			}
			height := max(2, v/top*chartHeight) // what is there can be seen
			b.Parts = append(b.Parts, part{classes[k], max(0, chartHeight-base-height), height})
			if stacked {
				base += height
			}
		}
		out = append(out, b)
	}
	return out, top
}

// round returns the next number that reads well: 1, 2 or 5 times a power of ten.
func round(v float64) float64 {
	if v <= 0 {
		return 0
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, step := range []float64{1, 2, 5} {
		if v <= step*power*(1+1e-9) {
			return step * power
		}
	}
	return 10 * power
}

func throughput(s client.Stats) chart {
	c := chart{Title: "Jobs", Legend: []legend{{"good", "done"}, {"bad", "failed"}}, Columns: []string{"Hour from (UTC)", "Done", "Failed"}}
	done, failed := 0, 0
	for _, h := range s.Hours {
		done, failed = done+h.Done, failed+h.Failed
		c.Rows = append(c.Rows, []string{h.Start.Format("15:04"), fmt.Sprint(h.Done), fmt.Sprint(h.Failed)})
	}
	c.Number, c.Caption = fmt.Sprint(done), "done in 24 hours"
	if failed > 0 {
		c.Caption += fmt.Sprintf(", %d failed", failed)
	}
	var top float64
	c.Bars, top = bars(s.Hours, []string{"good", "bad"}, true,
		func(h client.Hour) []float64 { return []float64{float64(h.Done), float64(h.Failed)} },
		func(h client.Hour) string {
			return fmt.Sprintf("from %s UTC: %d done, %d failed", h.Start.Format("15:04"), h.Done, h.Failed)
		})
	c.Top, c.Empty = fmt.Sprintf("%.0f in an hour", top), top == 0
	if math.Mod(top, 2) == 0 { // there is no half of a job
		c.Half = fmt.Sprintf("%.0f", top/2)
	}
	return c
}

func durations(title, caption string, s client.Stats, of func(client.Hour) *client.Spread) chart {
	c := chart{Title: title, Legend: []legend{{"accent", "typical"}, {"faint", "95 of 100"}}, Columns: []string{"Hour from (UTC)", "Typical", "95 of 100"}}
	last := -1.0
	for _, h := range s.Hours {
		if x := of(h); x != nil {
			last = x.Median
			c.Rows = append(c.Rows, []string{h.Start.Format("15:04"), seconds(x.Median), seconds(x.P95)})
		}
	}
	var top float64
	c.Bars, top = bars(s.Hours, []string{"faint", "accent"}, false,
		func(h client.Hour) []float64 {
			if x := of(h); x != nil {
				return []float64{x.P95, x.Median}
			}
			return nil
		},
		func(h client.Hour) string {
			if x := of(h); x != nil {
				return fmt.Sprintf("from %s UTC: half within %s, 95 of 100 within %s", h.Start.Format("15:04"), seconds(x.Median), seconds(x.P95))
			}
			return fmt.Sprintf("from %s UTC: none", h.Start.Format("15:04"))
		})
	c.Top, c.Half, c.Empty = seconds(top), seconds(top/2), last < 0
	c.Number, c.Caption = "none", "in 24 hours"
	if last >= 0 {
		c.Number, c.Caption = seconds(last), caption
	}
	return c
}
