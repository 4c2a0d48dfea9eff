package ui

import (
	"errors"
	"image"
	"slices"
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

// jobsPage shows the running job, what the studio did not take, the finished jobs
// and the selected one, and with the private studio a form that queues a job.
type jobsPage struct {
	root fyne.CanvasObject
	tr   *words.Printer

	form    *jobForm
	running *runningSlot
	kept    *keptList
	kind    *widget.Select
	outcome *widget.Select
	search  *entry
	veil    *widget.Check
	onVeil  func() // someone must draw the running job anew
	list    *historyList
	empty   *label
	detail  *jobDetail

	jobs     []observe.RecentJob // as the ring gives them, oldest first
	filter   model.JobFilter
	items    []model.JobItem
	heads    []int     // which items are days
	drawn    time.Time // when the items were made
	selected string    // key of the job in the detail
	chosen   bool      // a person selected it; else the newest is shown
	thumbs   *thumbnails

	drawnOnce bool // the form stays as it was at the first look until somebody opens or closes it
}

func newJobsPage(tr *words.Printer, v *values, l *loader, a actions, c Controls, win fyne.Window, copyText func(string)) *jobsPage {
	ask := asker{win, tr}
	p := &jobsPage{
		tr:      tr,
		form:    newJobForm(tr, a, c, win),
		running: newRunningSlot(tr, v, c, ask),
		kept:    newKeptList(tr, a, c, ask),
		search:  newEntry(tr.T("Search")),
		onVeil:  func() {},
		empty:   muted(newLabel("")),
		detail:  newJobDetail(tr, l, a, c, win, copyText),
		thumbs:  newThumbnails(l),
	}
	p.list = newHistoryList(p)
	p.thumbs.arrived = p.list.Refresh
	p.wireFilter()
	p.empty.Alignment = fyne.TextAlignCenter
	history := container.NewStack(newPanel(colorSurface, 8, true), pad(2, 2, 4, 4, p.list), container.NewCenter(p.empty))
	left := container.NewBorder(pad(0, 4, 0, 0, p.running.root), nil, nil, nil, history)
	split := container.NewHSplit(pad(0, 0, 0, 4, left), pad(0, 0, 4, 0, p.detail.root))
	split.SetOffset(0.5)
	filter := line(row(8, p.form.toggle, container.New(sized{w: 130}, p.kind), container.New(sized{w: 140}, p.outcome)),
		pad(0, 0, 8, 8, p.search), row(8, p.kept.button, p.veil))
	page := container.NewBorder(stack(0, p.form.root, pad(0, 4, 0, 0, filter)), nil, nil, nil, split)
	p.root = pad(6, 6, margin, margin, page) // little below: each row counts in a small window
	return p
}

func (p *jobsPage) wireFilter() {
	choose := func(choices []model.Choice, set func(value string)) *widget.Select {
		names := make([]string, 0, len(choices))
		for _, c := range choices {
			names = append(names, c.Name)
		}
		s := widget.NewSelect(names, nil)
		s.SetSelectedIndex(0)
		s.OnChanged = func(string) {
			if i := s.SelectedIndex(); i >= 0 {
				set(choices[i].Value)
				p.arrange(time.Now())
			}
		}
		return s
	}
	p.kind = choose(model.KindChoices(p.tr), func(v string) { p.filter.Kind = v })
	p.outcome = choose(model.OutcomeChoices(p.tr), func(v string) { p.filter.Outcome = observe.Outcome(v) })
	p.search.OnChanged = func(s string) {
		p.filter.Search = s
		p.arrange(time.Now())
	}
	p.search.onEscape = func() { p.search.SetText("") }
	p.veil = widget.NewCheck(p.tr.T("Hide content"), func(bool) {
		p.onVeil()
		p.tick(time.Now())
	})
}

// showValues draws what comes from single values and has no binding.
func (p *jobsPage) showValues(s model.Snapshot, r model.Running, now time.Time) {
	p.form.show(s.Settings.PrivateStudio, s.Settings.Serves)
	p.running.show(r)
	p.kept.show(s.Outbox.Kept, now)
}

// showJobs draws the history.
func (p *jobsPage) showJobs(jobs []observe.RecentJob, now time.Time) {
	if !p.drawnOnce && len(jobs) == 0 { // a page without jobs says how to get one
		p.form.wanted = true
		p.form.arrange()
	}
	p.drawnOnce = true
	p.jobs = jobs
	p.arrange(now)
}

// arrange applies the filter and groups by day.
func (p *jobsPage) arrange(now time.Time) {
	p.items, p.drawn = model.JobItems(p.tr, p.jobs, p.filter, now), now
	p.resizeHeads()
	show(p.empty, len(p.items) == 0)
	if len(p.jobs) == 0 {
		write(p.empty, p.tr.T("No job has run yet."))
	} else {
		write(p.empty, p.tr.T("No job fits the filter."))
	}
	if p.index(p.selected) < 0 {
		p.chosen = false
	}
	if !p.chosen {
		p.selected = ""
		if len(p.items) > 1 {
			p.selected = p.items[1].Key // the first is a day
		}
	}
	p.tick(now)
}

// resizeHeads gives the days less room than the jobs. The list redraws itself for
// each row that changes, so only those are touched.
func (p *jobsPage) resizeHeads() {
	var heads []int
	for i, item := range p.items {
		if item.Day != "" {
			heads = append(heads, i)
		}
	}
	for _, i := range p.heads {
		if !slices.Contains(heads, i) {
			p.list.SetItemHeight(i, rowHeight)
		}
	}
	for _, i := range heads {
		p.list.SetItemHeight(i, dayHeight)
	}
	p.heads = heads
}

// tick renews the relative times.
func (p *jobsPage) tick(now time.Time) {
	if y, m, d := p.drawn.Date(); now.After(time.Date(y, m, d+1, 0, 0, 0, 0, now.Location())) {
		p.drawn = now // before: arrange comes back here
		p.arrange(now)
		return
	}
	p.pick(p.selected, now)
	p.list.Refresh()
}

// index is where a job stands in the list; -1 when it is not there.
func (p *jobsPage) index(key string) int {
	return slices.IndexFunc(p.items, func(i model.JobItem) bool { return i.Day == "" && i.Key == key })
}

// pick shows a job in the detail.
func (p *jobsPage) pick(key string, now time.Time) {
	p.selected = key
	i := p.index(key)
	if i < 0 {
		p.detail.hide()
		return
	}
	p.detail.show(p.items[i].Job, p.veil.Checked, now)
}

// choose is a person's selection of an item; a day leads to the job below it.
func (p *jobsPage) choose(i int) {
	if i >= 0 && i < len(p.items) && p.items[i].Day != "" {
		i++
	}
	if i < 0 || i >= len(p.items) {
		return
	}
	p.chosen = true
	p.pick(p.items[i].Key, time.Now())
	p.list.Refresh()
}

// historyList is the list of jobs; the arrow keys move the selection itself.
type historyList struct {
	widget.List
	page  *jobsPage
	focus int // where the list's own mark stands
}

func newHistoryList(p *jobsPage) *historyList {
	l := &historyList{page: p}
	l.Length = func() int { return len(p.items) }
	l.CreateItem = func() fyne.CanvasObject { return newJobRow() }
	l.UpdateItem = func(i widget.ListItemID, o fyne.CanvasObject) {
		r, ok := o.(*jobRow)
		if !ok || i >= len(p.items) {
			return
		}
		if item := p.items[i]; item.Day != "" {
			r.head(item.Day)
		} else {
			veil := p.veil.Checked
			r.show(model.NewJobRow(p.tr, item.Job, veil, time.Now()), p.thumbs.of(item, veil), item.Key == p.selected)
		}
	}
	l.OnSelected = func(i widget.ListItemID) {
		l.UnselectAll() // the row draws its own highlight, which moves with the job
		l.focus = i
		p.choose(i)
	}
	l.HideSeparators = true
	l.ExtendBaseWidget(l)
	return l
}

// TypedKey implements fyne.Focusable.
func (l *historyList) TypedKey(k *fyne.KeyEvent) {
	p := l.page
	at, step := p.index(p.selected), 1
	var to int
	switch k.Name {
	case fyne.KeyDown:
		to = at + 1
	case fyne.KeyUp:
		to, step = at-1, -1
	case fyne.KeyPageDown:
		to = min(at+10, len(p.items)-1)
	case fyne.KeyPageUp:
		to = max(at-10, 0)
	case fyne.KeyHome:
		to = 0
	case fyne.KeyEnd:
		to = len(p.items) - 1
	case fyne.KeyReturn, fyne.KeyEnter:
		p.detail.openPicture()
		return
	default:
		l.List.TypedKey(k)
		return
	}
	if to >= 0 && to < len(p.items) && p.items[to].Day != "" {
		if to == 0 {
			step = 1
		}
		to += step
	}
	if to < 0 || to >= len(p.items) {
		return
	}
	key := &fyne.KeyEvent{Name: fyne.KeyDown}
	if to < l.focus {
		key.Name = fyne.KeyUp
	}
	for n := max(to-l.focus, l.focus-to); n > 0; n-- { // its mark goes along
		l.List.TypedKey(key)
	}
	l.focus = to
	p.choose(to)
	l.ScrollTo(to)
}

// errDropped says that a picture was not decoded, since newer wishes came.
var errDropped = errors.New("too many pictures are waited for")

// thumbnails are the small pictures of the rows that were looked at last.
type thumbnails struct {
	loader  *loader
	arrived func()

	pictures map[string]image.Image // by job; nil while it is being decoded, or cannot be
	order    []string               // the one that was asked for first comes first
}

// thumbnailRoom bounds the pictures that are kept decoded: many screens of rows.
const thumbnailRoom = 200

func newThumbnails(l *loader) *thumbnails {
	return &thumbnails{loader: l, pictures: map[string]image.Image{}}
}

// of returns a job's picture, or nil while there is none.
func (t *thumbnails) of(item model.JobItem, veil bool) image.Image {
	j := item.Job
	if veil || !model.Thumbed(j) {
		return nil
	}
	img, asked := t.pictures[item.Key]
	if asked {
		return img
	}
	if len(t.order) >= thumbnailRoom {
		delete(t.pictures, t.order[0])
		t.order = slices.Delete(t.order, 0, 1)
	}
	t.pictures[item.Key] = nil
	t.order = append(t.order, item.Key)
	t.loader.load(pictureJob{path: j.ThumbnailPath, data: j.Thumbnail, limit: thumbnailPixels, done: func(img image.Image, err error) {
		if _, still := t.pictures[item.Key]; !still {
			return
		}
		if errors.Is(err, errDropped) { // asked for again when it is looked at
			delete(t.pictures, item.Key)
			t.order = slices.DeleteFunc(t.order, func(k string) bool { return k == item.Key })
			return
		}
		if img != nil {
			t.pictures[item.Key] = img
			t.arrived()
		}
	}})
	return nil
}

// jobRow is one line of the history.
type jobRow struct {
	widget.BaseWidget
	root                  fyne.CanvasObject
	ground                *panel
	picture               *canvas.Image
	glyph                 *widget.Icon
	kind                  string
	title, facts, outcome *label
	job                   fyne.CanvasObject
	day                   *label
}

const (
	rowHeight = 48
	dayHeight = 23
)

func newJobRow() *jobRow {
	r := &jobRow{
		ground:  newPanel(theme.ColorNameSelection, 6, false),
		picture: &canvas.Image{FillMode: canvas.ImageFillContain},
		glyph:   widget.NewIcon(nil),
		title:   newLabel(""),
		facts:   small(newLabel("")),
		outcome: newLabel(""),
		day:     small(newLabel("")),
	}
	r.day.TextStyle.Bold = true
	r.ground.Hide()
	r.picture.Hide()
	r.title.Truncation = fyne.TextTruncateEllipsis
	r.facts.Truncation = fyne.TextTruncateEllipsis
	r.outcome.SizeName = theme.SizeNameCaptionText
	pill := centred(container.NewStack(newPanel(colorRaised, 8, false), pad(0, 0, 4, 4, r.outcome)))
	face := container.New(sized{w: 40, h: 40}, newPanel(colorRaised, 6, false), pad(10, 10, 10, 10, r.glyph), r.picture)
	r.job = container.NewStack(r.ground, pad(2, 2, 8, 8,
		container.NewBorder(nil, nil, pad(0, 0, 0, 6, face), pill, centred(stack(-5, r.title, r.facts)))))
	r.root = container.New(sized{h: rowHeight}, r.job, centred(pad(0, 0, 5, 5, r.day)))
	r.ExtendBaseWidget(r)
	return r
}

// CreateRenderer implements fyne.Widget.
func (r *jobRow) CreateRenderer() fyne.WidgetRenderer { return widget.NewSimpleRenderer(r.root) }

// head makes the row the day above its jobs.
func (r *jobRow) head(day string) {
	show(r.job, false)
	show(r.day, true)
	write(r.day, day)
}

func (r *jobRow) show(row model.JobRow, img image.Image, selected bool) {
	show(r.job, true)
	show(r.day, false)
	write(r.title, row.Title)
	write(r.facts, row.Facts)
	paint(r.outcome, row.Tone)
	write(r.outcome, row.Outcome)
	show(r.ground, selected)
	if r.kind != row.Kind {
		r.kind = row.Kind
		r.glyph.SetResource(kindIcon(row.Kind))
	}
	show(r.glyph, img == nil)
	show(r.picture, img != nil)
	if img != nil && r.picture.Image != img {
		r.picture.Image = img
		r.picture.Refresh()
	}
}

// runningSlot is where the running job is, and always there.
type runningSlot struct {
	root   fyne.CanvasObject
	glyph  *widget.Icon
	bar    *meter
	gauge  fyne.CanvasObject // the bar with what is around it
	title  *label
	cancel *widget.Button
	kind   string
	id     string
}

func newRunningSlot(tr *words.Printer, v *values, c Controls, ask asker) *runningSlot {
	s := &runningSlot{
		glyph: widget.NewIcon(nil), bar: newMeter(), title: text(v.jobTitle),
		cancel: widget.NewButton(tr.T("Cancel"), nil),
	}
	s.title.TextStyle.Bold = true
	s.bar.bind(v.jobFraction)
	s.gauge = pad(4, 0, labelInset, labelInset, container.New(sized{h: meterHeight}, s.bar))
	s.gauge.Hide()
	s.cancel.Disable()
	s.cancel.OnTapped = func() {
		id := s.id // the next job must not be stopped in its place
		ask.sure(tr.T("Stop this job?"), tr.T("What it has done so far is lost. The studio may give it to another computer."), tr.T("Stop the job"),
			func() { c.CancelJob(id) })
	}
	face := container.New(sized{w: 24, h: 24}, s.glyph)
	lines := stack(-2,
		container.NewBorder(nil, nil, nil, dropped(newBoundLabel(v.jobElapsed)), s.title),
		tipped(small(text(v.jobFacts))),
		s.gauge)
	s.root = container.NewStack(newPanel(colorSurface, 8, true), container.New(sized{w: 160, h: 72},
		pad(6, 6, 12, 8, container.NewBorder(nil, nil, pad(0, 0, 0, 6, container.NewCenter(face)), pad(0, 0, 6, 0, centred(s.cancel)), centred(lines)))))
	return s
}

func (s *runningSlot) show(r model.Running) {
	show(s.gauge, r.Measured)
	s.id = r.ID
	enable(s.cancel, r.Active)
	if s.kind != r.Kind || s.glyph.Resource == nil {
		s.kind = r.Kind
		if r.Active {
			s.glyph.SetResource(kindIcon(r.Kind))
		} else {
			s.glyph.SetResource(theme.NewColoredResource(theme.MoreHorizontalIcon(), colorMuted))
		}
	}
}
