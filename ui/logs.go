package ui

import (
	"log/slog"
	"math"
	"strings"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"studioworker/ui/model"
	"studioworker/ui/words"
	"studioworker/worker/observe"
)

// logsPage shows the worker's last lines. It is drawn from the ring when the
// feed says so, and at no other time.
type logsPage struct {
	root fyne.CanvasObject
	tr   *words.Printer

	level    *widget.Select
	search   *entry
	follow   *widget.Check
	news     *widget.Button // "12 new lines", while not following
	copyAll  *widget.Button
	list     *widget.List
	empty    *widget.Label
	line     *widget.Label // the selected line in full
	copyLine *widget.Button
	onlyJob  *widget.Button

	ring     *observe.Ring[observe.LogEntry]
	min      slog.Level
	rows     []model.LogRow
	selected uint64  // number of the selected line, 0 for none
	newest   uint64  // number of the newest line drawn
	read     uint64  // number of the newest line when following ended
	bottom   float32 // where the list stood after it was last moved to its end
}

func newLogsPage(tr *words.Printer, th *Theme, ring *observe.Ring[observe.LogEntry], copyText func(string)) *logsPage {
	p := &logsPage{
		tr:       tr,
		search:   newEntry(tr.T("Search")),
		news:     widget.NewButton("", nil),
		empty:    muted(widget.NewLabel("")),
		line:     mono(widget.NewLabel("")),
		copyLine: widget.NewButtonWithIcon(tr.T("Copy line"), theme.ContentCopyIcon(), nil),
		onlyJob:  widget.NewButton(tr.T("Only this job"), nil),
		ring:     ring,
		min:      slog.LevelInfo,
	}
	p.list = widget.NewList(
		func() int { return len(p.rows) },
		func() fyne.CanvasObject { return newLogRow() },
		func(i widget.ListItemID, o fyne.CanvasObject) {
			if r, ok := o.(*logRow); ok && i < len(p.rows) {
				r.show(p.rows[i], p.rows[i].Seq == p.selected)
			}
		})
	p.list.HideSeparators = true
	p.list.OnSelected = func(i widget.ListItemID) {
		p.list.UnselectAll() // the row draws its own highlight, which moves with the line
		if i < len(p.rows) {
			p.choose(p.rows[i])
		}
	}
	p.search.OnChanged = func(string) { p.reload() }
	p.search.onEscape = func() { p.search.SetText("") }
	p.follow = widget.NewCheck(tr.T("Follow"), p.setFollow)
	p.follow.Checked = true
	p.news.Importance = widget.LowImportance
	p.news.OnTapped = func() { p.follow.SetChecked(true) }
	p.news.Hide()
	p.copyAll = widget.NewButtonWithIcon(tr.T("Copy all"), theme.ContentCopyIcon(), func() { copyText(model.LogText(p.rows)) })
	p.wireLevel()
	p.wireLine(copyText)

	bar := line(
		pad(0, 0, 0, 8, container.New(sized{w: 190}, p.level)),
		p.search,
		pad(0, 0, 8, 0, row(8, container.New(sized{w: 130}, p.news), p.follow, p.copyAll)))
	p.line.Wrapping = fyne.TextWrapBreak
	p.line.Selectable = true
	selected := container.New(sized{h: 88}, newPanel(colorSurface, 8, true), pad(4, 4, 8, 8,
		container.NewBorder(nil, nil, nil, centred(stack(4, p.copyLine, p.onlyJob)), container.NewVScroll(p.line))))
	lines := container.NewStack(newPanel(colorSurface, 8, true), pad(6, 6, 6, 6, p.list), container.NewCenter(p.empty))
	page := container.NewBorder(pad(0, 8, 0, 0, normal(bar, th)), pad(8, 0, 0, 0, selected), nil, nil, lines)
	p.root = container.NewThemeOverride(pad(margin, margin, margin, margin, page), dense{th})
	return p
}

func (p *logsPage) wireLevel() {
	levels := model.LogLevels(p.tr)
	names := make([]string, 0, len(levels))
	for _, l := range levels {
		names = append(names, l.Name)
	}
	p.level = widget.NewSelect(names, nil)
	for i, l := range levels {
		if l.Min == p.min {
			p.level.SetSelectedIndex(i)
		}
	}
	p.level.OnChanged = func(string) {
		if i := p.level.SelectedIndex(); i >= 0 {
			p.min = levels[i].Min
			p.reload()
		}
	}
}

// wireLine readies the place below the list for the selected line.
func (p *logsPage) wireLine(copyText func(string)) {
	write(p.line, p.tr.T("A line you select shows here in full."))
	muted(p.line)
	p.copyLine.Disable()
	p.copyLine.OnTapped = func() { copyText(p.line.Text) }
	p.onlyJob.Disable()
}

func (p *logsPage) choose(r model.LogRow) {
	p.selected = r.Seq
	p.line.Importance = widget.MediumImportance
	p.line.SetText(r.Full)
	p.copyLine.Enable()
	p.onlyJob.OnTapped = func() { p.search.SetText(r.JobID) }
	enable(p.onlyJob, r.JobID != "")
	p.list.Refresh()
}

func (p *logsPage) setFollow(on bool) {
	if on {
		show(p.news, false)
		p.toBottom()
		return
	}
	p.read = p.newest
}

// sync draws the newest lines. The list has no scroll event: a person who has
// scrolled up is noticed here.
func (p *logsPage) sync() {
	// min(): a taller window lowers the end although nobody scrolled
	if p.follow.Checked && p.list.GetScrollOffset() < min(p.bottom, p.end())-logRowHeight {
		p.follow.SetChecked(false)
	}
	p.reload()
}

// reload applies the filter and keeps the place of one who does not follow.
func (p *logsPage) reload() {
	entries, newest := p.ring.Since(0)
	old, at := p.rows, p.list.GetScrollOffset()
	p.newest = newest
	p.rows = model.LogFilter{Min: p.min, Search: p.search.Text}.Rows(entries, newest, time.Local)
	switch {
	case len(p.rows) > 0:
		show(p.empty, false)
	case newest == 0:
		write(p.empty, p.tr.T("Nothing has been logged yet."))
		show(p.empty, true)
	default:
		write(p.empty, p.tr.T("No line fits the filter."))
		show(p.empty, true)
	}
	p.list.Refresh()
	if p.follow.Checked {
		p.toBottom()
		return
	}
	p.showNews()
	gone := 0 // lines dropped at the top: keep the same text under the eye
	for gone < len(old) && len(p.rows) > 0 && old[gone].Seq < p.rows[0].Seq {
		gone++
	}
	if gone > 0 {
		p.list.ScrollToOffset(max(0, at-float32(gone)*(logRowHeight+p.gap())))
	}
}

func (p *logsPage) showNews() {
	n := 0
	for _, r := range p.rows {
		if r.Seq > p.read {
			n++
		}
	}
	show(p.news, n > 0)
	if label := p.tr.T("%d new lines", n); n > 0 && p.news.Text != label {
		p.news.SetText(label)
	}
}

func (p *logsPage) toBottom() {
	p.list.ScrollToBottom()
	p.bottom = p.list.GetScrollOffset()
}

// gap is what the list leaves between two rows.
func (p *logsPage) gap() float32 { return p.list.Theme().Size(theme.SizeNamePadding) }

// end is the scroll offset at which the last row is in view.
func (p *logsPage) end() float32 {
	return max(0, float32(len(p.rows))*(logRowHeight+p.gap())-p.gap()-p.list.Size().Height)
}

// logRow is one line in fixed columns of a fixed-pitch font. It is made of bare
// texts: labels cost several times as much to draw.
type logRow struct {
	widget.BaseWidget
	ground *panel
	cells  [logColumns]*canvas.Text
	row    model.LogRow
	fits   int // characters of the message that fit
}

const (
	logRowHeight = 17
	logTextSize  = monoSize
	logColumns   = 5
	logCategory  = 12 // characters
	logJob       = 8  // characters
)

// The columns of a line, in the order they stand.
const (
	cellTime = iota
	cellLevel
	cellCategory
	cellMessage
	cellJob
)

func newLogRow() *logRow {
	r := &logRow{ground: newPanel(theme.ColorNameSelection, 4, false)}
	r.ground.Hide()
	for i := range r.cells {
		r.cells[i] = canvas.NewText("", nil)
		r.cells[i].TextSize = logTextSize
		r.cells[i].TextStyle.Monospace = true
	}
	r.ExtendBaseWidget(r)
	return r
}

func (r *logRow) show(row model.LogRow, selected bool) {
	show(r.ground, selected)
	if r.row != row {
		r.row = row
		r.Refresh()
	}
}

// CreateRenderer implements fyne.Widget.
func (r *logRow) CreateRenderer() fyne.WidgetRenderer {
	objs := []fyne.CanvasObject{r.ground}
	for _, c := range r.cells {
		objs = append(objs, c)
	}
	return &logRowRenderer{row: r, objs: objs}
}

type logRowRenderer struct {
	row  *logRow
	objs []fyne.CanvasObject
}

func (r *logRowRenderer) Destroy()                     {}
func (r *logRowRenderer) MinSize() fyne.Size           { return fyne.NewSize(300, logRowHeight) }
func (r *logRowRenderer) Objects() []fyne.CanvasObject { return r.objs }

func (r *logRowRenderer) Layout(s fyne.Size) {
	w := r.row
	w.ground.Resize(s)
	char := fyne.MeasureText("0", logTextSize, fyne.TextStyle{Monospace: true}).Width
	x := float32(4)
	place := func(cell int, chars float32) {
		w.cells[cell].Move(fyne.NewPos(x, 0))
		w.cells[cell].Resize(fyne.NewSize(chars*char, s.Height))
		x += (chars + 1) * char
	}
	place(cellTime, 8)
	place(cellLevel, 1)
	place(cellCategory, logCategory)
	rest := float32(math.Floor(float64((s.Width-4-x)/char))) - logJob - 1
	place(cellMessage, max(rest, 0))
	place(cellJob, logJob)
	if fits := max(int(rest), 0); fits != w.fits {
		w.fits = fits
		r.Refresh()
	}
}

// Refresh writes and colours the cells that have changed.
func (r *logRowRenderer) Refresh() {
	w := r.row
	th, v := w.Theme(), fyne.CurrentApp().Settings().ThemeVariant()
	message := toneColor(model.ToneText)
	if w.row.Tone == model.ToneMuted {
		message = colorMuted
	}
	for cell, to := range map[int]struct {
		text  string
		color fyne.ThemeColorName
	}{
		cellTime:     {w.row.Time, colorMuted},
		cellLevel:    {w.row.Letter, toneColor(w.row.Tone)},
		cellCategory: {cut(w.row.Category, logCategory), colorMuted},
		cellMessage:  {cut(w.row.Message, w.fits), message},
		cellJob:      {cut(w.row.JobID, logJob), colorMuted},
	} {
		c, col := w.cells[cell], th.Color(to.color, v)
		if c.Text != to.text || c.Color != col {
			c.Text, c.Color = to.text, col
			c.Refresh()
		}
	}
	w.ground.Refresh()
}

// cut shortens s to n characters, the last of them an ellipsis.
func cut(s string, n int) string {
	if len(s) <= n { // bytes: never fewer than characters
		return s
	}
	r := []rune(s)
	switch {
	case len(r) <= n:
		return s
	case n <= 1:
		return strings.Repeat("…", max(n, 0))
	}
	return string(r[:n-1]) + "…"
}
