package ui

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"studioworker/ui/model"
	"studioworker/ui/words"
	"studioworker/worker/observe"
)

// logsPage shows the worker's lines: those of this run as they come, and before
// them what the files have. It is drawn when the feed says so, and at no other time.
type logsPage struct {
	root fyne.CanvasObject
	tr   *words.Printer
	act  actions
	ctl  Controls

	level   *widget.Select
	search  *entry
	follow  *widget.Check
	news    *widget.Button // "12 new lines", while not following
	copyIt  *widget.Button
	saveIt  *widget.Button
	list    *logList
	empty   *label
	line    *label // the selected line in full, or what is selected
	onlyJob *widget.Button
	note    *label // at the top of the list: what the files say

	ring   *observe.Ring[observe.LogEntry]
	min    slog.Level
	lines  model.LogLines
	anchor int64 // where the selection began
	end    int64 // where it ends; it is none unless chosen
	chosen bool
	looked bool    // somebody looks at the page: else the files are left alone
	asking bool    // the files
	failed bool    // they could not be read: asked again after a change of the filter
	read   int64   // number of the newest line when following ended
	bottom float32 // where the list stood after it was last moved to its end
}

func newLogsPage(tr *words.Printer, o *observe.WorkerObservers, a actions, c Controls, win fyne.Window, copyText func(string)) *logsPage {
	p := &logsPage{
		tr: tr, act: a, ctl: c, ring: o.Logs, min: slog.LevelInfo,
		search:  newEntry(tr.T("Search")),
		news:    widget.NewButton("", nil),
		empty:   muted(newLabel("")),
		line:    mono(newLabel("")),
		onlyJob: widget.NewButton(tr.T("Only this job"), nil),
		note:    small(newLabel("")),
	}
	p.lines.Filter(p.min, "")
	p.list = newLogList(p)
	p.search.OnChanged = func(string) { p.refilter() }
	p.search.onEscape = func() { p.search.SetText("") }
	p.follow = widget.NewCheck(tr.T("Follow"), p.setFollow)
	p.follow.Checked = true
	p.news.Importance = widget.LowImportance
	p.news.OnTapped = func() { p.follow.SetChecked(true) }
	p.news.Hide()
	p.copyIt = widget.NewButtonWithIcon(tr.T("Copy"), theme.ContentCopyIcon(), func() { copyText(model.LogText(p.selection(), time.Local)) })
	ask := asker{win, tr}
	p.saveIt = widget.NewButtonWithIcon(tr.T("Save…"), theme.DocumentSaveIcon(), func() { p.save(ask) })
	p.onlyJob.Disable()
	p.wireLevel()
	write(p.line, tr.T("A line you select shows here in full. Shift selects several."))
	muted(p.line)

	bar := line(
		pad(0, 0, 0, 8, container.New(sized{w: 170}, p.level)),
		p.search,
		pad(0, 0, 8, 0, row(8, container.New(sized{w: 120}, p.news), p.follow, p.saveIt)))
	p.line.Wrapping = fyne.TextWrapBreak
	p.line.Selectable = true
	selected := container.New(sized{h: 88}, newPanel(colorSurface, 8, true), pad(4, 4, 8, 8,
		container.NewBorder(nil, nil, nil, centred(stack(4, compact(p.copyIt), compact(p.onlyJob))), container.NewVScroll(p.line))))
	lines := container.NewStack(newPanel(colorSurface, 8, true), pad(6, 6, 6, 6, container.NewBorder(p.note, nil, nil, nil, p.list)), container.NewCenter(p.empty))
	page := container.NewBorder(pad(0, 8, 0, 0, bar), pad(8, 0, 0, 0, selected), nil, nil, lines)
	p.root = pad(margin, margin, margin, margin, page)
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
			p.refilter()
		}
	}
}

// refilter shows what fits the fields now.
func (p *logsPage) refilter() {
	p.lines.Filter(p.min, p.search.Text)
	p.failed = false
	p.draw()
	p.fetch()
}

// choose selects a line, or with extend all from the one that was selected first.
func (p *logsPage) choose(i int, extend bool) {
	rows := p.lines.Rows()
	if i < 0 || i >= len(rows) {
		return
	}
	p.end = rows[i].Seq
	if !extend || !p.chosen {
		p.anchor = p.end
	}
	p.chosen = true
	p.follow.SetChecked(false)
	picked := p.lines.Between(p.anchor, p.end)
	job := rows[i].Entry.JobID
	p.line.Importance = widget.MediumImportance
	if len(picked) == 1 {
		p.line.SetText(rows[i].Full(time.Local))
	} else {
		p.line.SetText(p.tr.T("%d lines are selected", len(picked)))
		job = ""
	}
	p.onlyJob.OnTapped = func() { p.search.SetText(job) }
	enable(p.onlyJob, job != "")
	p.list.Refresh()
}

// selection is what Copy copies: the selected lines, or all that are shown.
func (p *logsPage) selection() []model.LogLine {
	if p.chosen {
		if picked := p.lines.Between(p.anchor, p.end); len(picked) > 0 {
			return picked
		}
	}
	return p.lines.Rows()
}

func (p *logsPage) isSelected(seq int64) bool {
	return p.chosen && seq >= min(p.anchor, p.end) && seq <= max(p.anchor, p.end)
}

// save writes the selected lines, or all that are shown, to a file.
func (p *logsPage) save(ask asker) {
	text := model.LogText(p.selection(), time.Local)
	name := "studio-worker-" + time.Now().Format("2006-01-02-150405") + ".log"
	ask.path(p.tr.T("Save the lines as"), filepath.Join(downloads(), name), func(path string, done func(error)) {
		p.act.start(func(context.Context) error { return writeNew(path, text) }, done)
	})
}

// writeNew writes a file that does not exist yet.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // #nosec G304 -- the person's own choice
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func (p *logsPage) setFollow(on bool) {
	if on {
		show(p.news, false)
		p.toBottom()
		return
	}
	if rows := p.lines.Rows(); len(rows) > 0 {
		p.read = rows[len(rows)-1].Seq
	}
}

// sync draws the newest lines. The list has no scroll event: a person who has
// scrolled up is noticed here.
func (p *logsPage) sync() {
	p.scrolled()
	gone := p.lines.Take(p.ring.Since(p.lines.Seen()))
	at := p.list.GetScrollOffset()
	p.draw()
	if gone > 0 && !p.follow.Checked { // keep the same text under the eye
		p.list.ScrollToOffset(max(0, at-float32(gone)*(logRowHeight+p.gap())))
	}
	p.fetch()
}

// scrolled lets go of the end when somebody has scrolled up, and fetches older
// lines for one who has come to the top.
func (p *logsPage) scrolled() {
	// min(): a taller window lowers the end although nobody scrolled
	if p.follow.Checked && p.list.GetScrollOffset() < min(p.bottom, p.endOffset())-logRowHeight {
		p.follow.SetChecked(false)
	}
	p.fetch()
}

// draw shows the lines at hand.
func (p *logsPage) draw() {
	rows := p.lines.Rows()
	switch {
	case len(rows) > 0:
		show(p.empty, false)
	case p.asking:
		write(p.empty, p.tr.T("Looking through older lines …"))
		show(p.empty, true)
	case p.search.Text == "" && p.lines.Seen() == 0:
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
}

func (p *logsPage) showNews() {
	n := p.lines.After(p.read)
	show(p.news, n > 0)
	if label := p.tr.T("%d new lines", n); n > 0 && p.news.Text != label {
		p.news.SetText(label)
	}
}

// wanted is how many lines the page wants to have, as far as there are so many.
const wanted = 1000

// fetch asks the files for older lines when there are few, or when somebody has
// scrolled to the top; one question at a time.
func (p *logsPage) fetch() {
	q, more := p.lines.More()
	few := len(p.lines.Rows()) < wanted
	top := !p.follow.Checked && p.list.GetScrollOffset() < 2*logRowHeight
	p.showNote()
	if !p.looked || p.asking || p.failed || !more || !few && !top {
		return
	}
	var entries []observe.LogEntry
	p.asking = true
	p.act.start(func(ctx context.Context) (err error) {
		entries, err = p.ctl.OlderLogs(ctx, q)
		return err
	}, func(err error) {
		p.asking = false
		if err != nil {
			p.failed = true
			write(p.note, p.tr.T("Older lines cannot be read: %s", reason(p.tr, err)))
			p.draw()
			return
		}
		at := p.list.GetScrollOffset()
		added := p.lines.Older(q, entries)
		p.draw()
		if added > 0 && !p.follow.Checked { // keep the same text under the eye
			p.list.ScrollToOffset(at + float32(added)*(logRowHeight+p.gap()))
		}
		p.fetch() // the question may have changed meanwhile
	})
}

// showNote says above the list whether there is more before it.
func (p *logsPage) showNote() {
	if p.failed {
		return
	}
	_, more := p.lines.More()
	switch {
	case len(p.lines.Rows()) == 0:
		write(p.note, "")
	case p.asking:
		write(p.note, p.tr.T("Looking through older lines …"))
	case p.lines.Ended():
		write(p.note, p.tr.T("There are no older lines."))
	case more:
		write(p.note, p.tr.T("Scroll to the top for older lines."))
	default:
		write(p.note, p.tr.T("For still older lines, search."))
	}
}

func (p *logsPage) toBottom() {
	p.list.ScrollToBottom()
	p.bottom = p.list.GetScrollOffset()
}

// gap is what the list leaves between two rows.
func (p *logsPage) gap() float32 { return p.list.Theme().Size(theme.SizeNamePadding) }

// endOffset is the scroll offset at which the last row is in view.
func (p *logsPage) endOffset() float32 {
	return max(0, float32(len(p.lines.Rows()))*(logRowHeight+p.gap())-p.gap()-p.list.Size().Height)
}

// logList is the list of lines: with Shift, clicks and arrow keys select several.
type logList struct {
	widget.List
	page *logsPage
}

func newLogList(p *logsPage) *logList {
	l := &logList{page: p}
	l.Length = func() int { return len(p.lines.Rows()) }
	l.CreateItem = func() fyne.CanvasObject { return newLogRow() }
	l.UpdateItem = func(i widget.ListItemID, o fyne.CanvasObject) {
		rows := p.lines.Rows()
		if r, ok := o.(*logRow); ok && i < len(rows) {
			r.show(rows[i], p.isSelected(rows[i].Seq))
		}
	}
	l.OnSelected = func(i widget.ListItemID) {
		l.UnselectAll() // the row draws its own highlight, which moves with the line
		p.choose(i, shiftIsDown())
	}
	l.HideSeparators = true
	l.ExtendBaseWidget(l)
	return l
}

func shiftIsDown() bool {
	d, ok := fyne.CurrentApp().Driver().(desktop.Driver)
	return ok && d.CurrentKeyModifiers()&fyne.KeyModifierShift != 0
}

// TypedKey implements fyne.Focusable.
func (l *logList) TypedKey(k *fyne.KeyEvent) {
	p := l.page
	last := len(p.lines.Rows()) - 1
	at := last + 1
	if p.chosen {
		if i := p.lines.Index(p.end); i >= 0 {
			at = i
		}
	}
	switch k.Name {
	case fyne.KeyUp:
		at--
	case fyne.KeyDown:
		at++
	case fyne.KeyPageUp:
		at = max(at-20, 0)
	case fyne.KeyPageDown:
		at = min(at+20, last)
	case fyne.KeyHome:
		at = 0
	case fyne.KeyEnd:
		at = last
	default:
		return
	}
	if at >= 0 && at <= last {
		p.choose(at, shiftIsDown())
		l.ScrollTo(at)
		p.scrolled()
	}
}

// TypedShortcut implements fyne.Shortcutable.
func (l *logList) TypedShortcut(s fyne.Shortcut) {
	if _, ok := s.(*fyne.ShortcutCopy); ok {
		l.page.copyIt.OnTapped()
	}
}

// logRow is one line in fixed columns of a fixed-pitch font. It is made of bare
// texts: labels cost several times as much to draw.
type logRow struct {
	widget.BaseWidget
	ground *panel
	cells  [logColumns]*canvas.Text
	line   model.LogLine // that row words
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

func (r *logRow) show(line model.LogLine, selected bool) {
	show(r.ground, selected)
	if r.line != line {
		r.line, r.row = line, line.Row(time.Local)
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
