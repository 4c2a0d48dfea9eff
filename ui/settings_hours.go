package ui

import (
	"strconv"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"studioworker/ui/model"
	"studioworker/ui/words"
)

// hoursGrid is a week of hours that one paints: a cell takes the opposite of
// what it was, and the cells that the mouse is then dragged over take the same.
// With the keyboard the arrows move a frame, Space turns its cell, and Shift with
// an arrow paints on.
type hoursGrid struct {
	widget.BaseWidget
	tr      *words.Printer
	grid    model.Grid
	changed func(model.Grid)
	locked  bool

	day, hour int  // of the frame
	focused   bool // the frame shows
	painting  bool
	brush     bool // what painting leaves
	shift     bool
}

// Sizes of the grid.
const (
	hoursLabel  = 36 // for the names of the days
	hoursHead   = 18 // for the hours
	hoursRow    = 20
	hoursGap    = 2
	hoursColumn = 16 // at least
)

func newHoursGrid(tr *words.Printer, changed func(model.Grid)) *hoursGrid {
	g := &hoursGrid{tr: tr, grid: model.FullGrid(), changed: changed}
	g.ExtendBaseWidget(g)
	return g
}

// set shows a grid without telling anybody.
func (g *hoursGrid) set(to model.Grid) {
	if g.grid != to {
		g.grid = to
		g.Refresh()
	}
}

func (g *hoursGrid) paintAll(on bool) {
	to := model.Grid{}
	if on {
		to = model.FullGrid()
	}
	g.set(to)
	g.changed(g.grid)
}

// paint gives a cell the brush's value.
func (g *hoursGrid) paint(day, hour int) {
	if g.locked {
		return
	}
	if g.grid[day][hour] != g.brush {
		g.grid[day][hour] = g.brush
		g.changed(g.grid)
	}
	g.Refresh()
}

// column is how wide a cell is with its gap.
func (g *hoursGrid) column() float32 { return (g.Size().Width - hoursLabel) / 24 }

// at finds the cell below a point.
func (g *hoursGrid) at(p fyne.Position) (day, hour int, ok bool) {
	x, y := p.X-hoursLabel, p.Y-hoursHead
	if x < 0 || y < 0 || g.column() <= 0 {
		return 0, 0, false
	}
	day, hour = int(y/(hoursRow+hoursGap)), int(x/g.column())
	return day, hour, day < 7 && hour < 24
}

// MouseDown implements desktop.Mouseable.
func (g *hoursGrid) MouseDown(e *desktop.MouseEvent) {
	day, hour, ok := g.at(e.Position)
	if !ok || e.Button != desktop.MouseButtonPrimary {
		return
	}
	if c := fyne.CurrentApp().Driver().CanvasForObject(g); c != nil {
		c.Focus(g)
	}
	g.day, g.hour = day, hour
	g.painting, g.brush = true, !g.grid[day][hour]
	g.paint(day, hour)
}

// MouseUp implements desktop.Mouseable.
func (g *hoursGrid) MouseUp(*desktop.MouseEvent) { g.painting = false }

// Dragged implements fyne.Draggable.
func (g *hoursGrid) Dragged(e *fyne.DragEvent) {
	day, hour, ok := g.at(e.Position)
	if ok && g.painting {
		g.day, g.hour = day, hour
		g.paint(day, hour)
	}
}

// DragEnd implements fyne.Draggable.
func (g *hoursGrid) DragEnd() { g.painting = false }

// FocusGained implements fyne.Focusable.
func (g *hoursGrid) FocusGained() {
	g.focused = true
	g.Refresh()
}

// FocusLost implements fyne.Focusable.
func (g *hoursGrid) FocusLost() {
	g.focused, g.shift = false, false
	g.Refresh()
}

// TypedRune implements fyne.Focusable.
func (g *hoursGrid) TypedRune(rune) {}

// KeyDown implements desktop.Keyable.
func (g *hoursGrid) KeyDown(k *fyne.KeyEvent) {
	if k.Name == desktop.KeyShiftLeft || k.Name == desktop.KeyShiftRight {
		g.shift, g.brush = true, g.grid[g.day][g.hour]
	}
}

// KeyUp implements desktop.Keyable.
func (g *hoursGrid) KeyUp(k *fyne.KeyEvent) {
	if k.Name == desktop.KeyShiftLeft || k.Name == desktop.KeyShiftRight {
		g.shift = false
	}
}

// TypedKey implements fyne.Focusable.
func (g *hoursGrid) TypedKey(k *fyne.KeyEvent) {
	day, hour := g.day, g.hour
	switch k.Name {
	case fyne.KeySpace, fyne.KeyReturn, fyne.KeyEnter:
		g.brush = !g.grid[day][hour]
		g.paint(day, hour)
		return
	case fyne.KeyLeft:
		hour--
	case fyne.KeyRight:
		hour++
	case fyne.KeyUp:
		day--
	case fyne.KeyDown:
		day++
	case fyne.KeyHome:
		hour = 0
	case fyne.KeyEnd:
		hour = 23
	default:
		return
	}
	g.day, g.hour = min(max(day, 0), 6), min(max(hour, 0), 23)
	if g.shift {
		g.paint(g.day, g.hour)
		return
	}
	g.Refresh()
}

// CreateRenderer implements fyne.Widget.
func (g *hoursGrid) CreateRenderer() fyne.WidgetRenderer {
	r := &hoursRenderer{grid: g, frame: canvas.NewRectangle(nil)}
	for d := range 7 {
		r.days[d] = canvas.NewText(g.tr.Weekday(time.Weekday((d+1)%7)), nil)
		for h := range 24 {
			r.cells[d][h] = canvas.NewRectangle(nil)
			r.cells[d][h].CornerRadius = 3
		}
	}
	for i := range r.hours {
		r.hours[i] = canvas.NewText(strconv.Itoa(i*hoursStep), nil)
	}
	r.frame.CornerRadius, r.frame.StrokeWidth = 4, 2
	r.Refresh()
	return r
}

const hoursStep = 3 // between two hours that are named

type hoursRenderer struct {
	grid  *hoursGrid
	days  [7]*canvas.Text
	hours [24/hoursStep + 1]*canvas.Text
	cells [7][24]*canvas.Rectangle
	frame *canvas.Rectangle
}

func (r *hoursRenderer) Destroy() {}

func (r *hoursRenderer) MinSize() fyne.Size {
	return fyne.NewSize(hoursLabel+24*hoursColumn, hoursHead+7*(hoursRow+hoursGap))
}

func (r *hoursRenderer) Objects() []fyne.CanvasObject {
	var all []fyne.CanvasObject
	for _, t := range r.days {
		all = append(all, t)
	}
	for _, t := range r.hours {
		all = append(all, t)
	}
	for _, day := range r.cells {
		for _, c := range day {
			all = append(all, c)
		}
	}
	return append(all, r.frame)
}

func (r *hoursRenderer) Layout(fyne.Size) {
	column := r.grid.column()
	top := func(d int) float32 { return hoursHead + float32(d)*(hoursRow+hoursGap) }
	for i, t := range r.hours {
		w := t.MinSize().Width
		x := hoursLabel + float32(i*hoursStep)*column - w/2
		t.Move(fyne.NewPos(min(max(x, hoursLabel), hoursLabel+24*column-w), 0))
	}
	for d := range 7 {
		r.days[d].Move(fyne.NewPos(0, top(d)+(hoursRow-r.days[d].MinSize().Height)/2))
		for h := range 24 {
			c := r.cells[d][h]
			c.Move(fyne.NewPos(hoursLabel+float32(h)*column, top(d)))
			c.Resize(fyne.NewSize(column-hoursGap, hoursRow))
		}
	}
	r.frame.Move(fyne.NewPos(hoursLabel+float32(r.grid.hour)*column-hoursGap, top(r.grid.day)-hoursGap))
	r.frame.Resize(fyne.NewSize(column+hoursGap, hoursRow+2*hoursGap))
}

// Refresh implements fyne.WidgetRenderer.
func (r *hoursRenderer) Refresh() {
	th, v := r.grid.Theme(), fyne.CurrentApp().Settings().ThemeVariant()
	off, on := th.Color(theme.ColorNameSeparator, v), th.Color(theme.ColorNamePrimary, v)
	for d, day := range r.cells {
		for h, c := range day {
			fill := off
			if r.grid.grid[d][h] {
				fill = on
			}
			if c.FillColor != fill {
				c.FillColor = fill
				c.Refresh()
			}
		}
	}
	for _, t := range r.days {
		t.Color, t.TextSize = th.Color(theme.ColorNameForeground, v), th.Size(theme.SizeNameCaptionText)
	}
	for _, t := range r.hours {
		t.Color, t.TextSize = th.Color(colorMuted, v), th.Size(theme.SizeNameCaptionText)
	}
	r.frame.StrokeColor = th.Color(theme.ColorNameForeground, v)
	r.frame.Hidden = !r.grid.focused
	r.Layout(r.grid.Size())
	canvas.Refresh(r.grid)
}
