package ui

import (
	"image/color"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"studioworker/ui/model"
)

// chart draws the last 24 hours: a bar an hour, failed jobs on top of the done ones
// and framed, and below it how much of the hour a job ran.
type chart struct {
	widget.BaseWidget
	data model.Chart
}

const (
	chartHeight = 84
	chartBusy   = 6 // height of the line that says how busy an hour was
	chartGap    = 3
	chartMin    = 4 // a single job must be seen, whatever the hour with the most has
)

func newChart() *chart {
	c := &chart{}
	c.ExtendBaseWidget(c)
	return c
}

func (c *chart) set(d model.Chart) {
	if c.data.Hours != d.Hours {
		c.data = d
		c.Refresh()
	}
}

// CreateRenderer implements fyne.Widget.
func (c *chart) CreateRenderer() fyne.WidgetRenderer {
	r := &chartRenderer{chart: c}
	for h := range r.hours {
		o := &r.hours[h]
		for _, rect := range []*canvas.Rectangle{&o.ground, &o.done, &o.failed, &o.idle, &o.busy} {
			rect.CornerRadius = 1
			r.objs = append(r.objs, rect)
		}
	}
	r.paint()
	return r
}

type chartRenderer struct {
	chart *chart
	objs  []fyne.CanvasObject
	hours [model.ChartHours]struct{ ground, done, failed, idle, busy canvas.Rectangle }
}

func (r *chartRenderer) Destroy()                     {}
func (r *chartRenderer) MinSize() fyne.Size           { return fyne.NewSize(200, chartHeight) }
func (r *chartRenderer) Objects() []fyne.CanvasObject { return r.objs }

func (r *chartRenderer) paint() {
	th, v := r.chart.Theme(), fyne.CurrentApp().Settings().ThemeVariant()
	paintIt := func(o *canvas.Rectangle, c color.Color) { o.FillColor = c }
	for h := range r.hours {
		o := &r.hours[h]
		paintIt(&o.ground, th.Color(colorRaised, v))
		paintIt(&o.done, th.Color(theme.ColorNameSuccess, v))
		paintIt(&o.failed, th.Color(colorSurface, v))
		o.failed.StrokeColor, o.failed.StrokeWidth = th.Color(theme.ColorNameError, v), 2
		paintIt(&o.idle, th.Color(colorRaised, v))
		paintIt(&o.busy, th.Color(theme.ColorNameWarning, v))
	}
}

func (r *chartRenderer) Layout(s fyne.Size) {
	step := (s.Width + chartGap) / model.ChartHours
	width := max(step-chartGap, 1)
	room := s.Height - chartBusy - chartGap
	for h := range r.hours {
		o, data := &r.hours[h], r.chart.data.Hours[h]
		x, y := float32(h)*step, room
		bar := func(rect *canvas.Rectangle, n int) {
			height := float32(0)
			if n > 0 {
				height = max(room*float32(n)/float32(max(r.chart.data.Most, 4)), chartMin)
			}
			y -= height
			rect.Move(fyne.NewPos(x, y))
			rect.Resize(fyne.NewSize(width, height))
		}
		o.ground.Move(fyne.NewPos(x, 0))
		o.ground.Resize(fyne.NewSize(width, room))
		bar(&o.done, data.Done)
		bar(&o.failed, data.Failed)
		o.done.Hidden, o.failed.Hidden, o.busy.Hidden = data.Done == 0, data.Failed == 0, data.Busy == 0 // their edges would be seen
		at := fyne.NewPos(x, room+chartGap)
		o.idle.Move(at)
		o.idle.Resize(fyne.NewSize(width, chartBusy))
		o.busy.Move(at)
		o.busy.Resize(fyne.NewSize(width*float32(data.Busy), chartBusy))
	}
}

func (r *chartRenderer) Refresh() {
	r.paint()
	r.Layout(r.chart.Size())
	canvas.Refresh(r.chart)
}
