package ui

import (
	"context"
	"image"
	"os"
	"slices"
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

// jobsPage shows the running job, the last ones and the selected one, and with
// the private studio a form that queues a job.
type jobsPage struct {
	root fyne.CanvasObject
	tr   *words.Printer

	form    *jobForm
	running *runningSlot
	list    *widget.List
	empty   *widget.Label
	detail  *jobDetail

	jobs     []observe.RecentJob // as the ring gives them, oldest first
	rows     []model.JobRow      // newest first
	selected string              // id of the job in the detail
	chosen   bool                // a person selected it; else the newest is shown
	thumbs   map[string]image.Image
	loader   *loader
}

func newJobsPage(tr *words.Printer, v *values, th *Theme, l *loader, a actions, c Controls, copyText func(string)) *jobsPage {
	p := &jobsPage{
		tr:      tr,
		form:    newJobForm(tr, th, a, c),
		running: newRunningSlot(v),
		empty:   muted(widget.NewLabel(tr.T("No job has run yet."))),
		detail:  newJobDetail(tr, th, l, c, copyText),
		thumbs:  map[string]image.Image{},
		loader:  l,
	}
	p.list = widget.NewList(
		func() int { return len(p.rows) },
		func() fyne.CanvasObject { return newJobRow() },
		func(i widget.ListItemID, o fyne.CanvasObject) {
			if r, ok := o.(*jobRow); ok && i < len(p.rows) {
				r.show(p.rows[i], p.thumbs[p.rows[i].ID], p.rows[i].ID == p.selected)
			}
		})
	p.list.HideSeparators = true
	p.list.OnSelected = func(i widget.ListItemID) {
		p.list.UnselectAll() // the row draws its own highlight, which moves with the job
		if i < len(p.rows) {
			p.chosen = true
			p.pick(p.rows[i].ID, time.Now())
			p.list.Refresh()
		}
	}
	p.empty.Alignment = fyne.TextAlignCenter
	history := container.NewStack(newPanel(colorSurface, 8, true), pad(4, 4, 4, 4, p.list), container.NewCenter(p.empty))
	left := container.NewBorder(pad(0, margin, 0, 0, p.running.root), nil, nil, nil, history)
	split := container.NewHSplit(pad(0, 0, 0, 4, left), pad(0, 0, 4, 0, p.detail.root))
	split.SetOffset(0.5)
	page := container.NewBorder(p.form.root, nil, nil, nil, split)
	p.root = container.NewThemeOverride(pad(margin, margin, margin, margin, page), dense{th})
	return p
}

// showValues draws what comes from single values and has no binding.
func (p *jobsPage) showValues(s model.Snapshot, r model.Running) {
	p.form.show(s.Settings.PrivateStudio, s.Settings.Serves)
	p.running.show(r)
}

// showJobs draws the history.
func (p *jobsPage) showJobs(jobs []observe.RecentJob, now time.Time) {
	p.jobs = jobs
	p.fetchThumbs()
	p.tick(now)
}

// tick renews the relative times.
func (p *jobsPage) tick(now time.Time) {
	p.rows = model.JobRows(p.tr, p.jobs, now)
	show(p.empty, len(p.rows) == 0)
	want := p.selected
	if _, ok := p.find(want); !ok || !p.chosen {
		want, p.chosen = "", false
		if len(p.rows) > 0 {
			want = p.rows[0].ID
		}
	}
	p.pick(want, now)
	p.list.Refresh()
}

func (p *jobsPage) find(id string) (observe.RecentJob, bool) {
	for _, j := range p.jobs {
		if j.ID == id {
			return j, true
		}
	}
	return observe.RecentJob{}, false
}

// pick shows a job in the detail.
func (p *jobsPage) pick(id string, now time.Time) {
	p.selected = id
	j, ok := p.find(id)
	p.detail.show(j, ok, now)
}

// fetchThumbs has the loader decode pictures that are new, and forgets those of
// jobs that have left the ring.
func (p *jobsPage) fetchThumbs() {
	keep := make(map[string]image.Image, len(p.jobs))
	for _, j := range p.jobs {
		if len(j.Thumbnail) == 0 {
			continue
		}
		img, asked := p.thumbs[j.ID]
		keep[j.ID] = img // nil while it is being decoded
		if asked {
			continue
		}
		p.loader.load(pictureJob{data: j.Thumbnail, limit: thumbnailPixels, done: func(img image.Image, _ error) {
			if _, still := p.thumbs[j.ID]; still && img != nil {
				p.thumbs[j.ID] = img
				p.list.Refresh()
			}
		}})
	}
	p.thumbs = keep
}

// jobRow is one line of the history.
type jobRow struct {
	widget.BaseWidget
	root                  fyne.CanvasObject
	ground                *panel
	picture               *canvas.Image
	glyph                 *widget.Icon
	kind                  string
	title, facts, outcome *widget.Label
}

const rowHeight = 52

func newJobRow() *jobRow {
	r := &jobRow{
		ground:  newPanel(theme.ColorNameSelection, 6, false),
		picture: &canvas.Image{FillMode: canvas.ImageFillContain},
		glyph:   widget.NewIcon(nil),
		title:   widget.NewLabel(""),
		facts:   small(widget.NewLabel("")),
		outcome: widget.NewLabel(""),
	}
	r.ground.Hide()
	r.picture.Hide()
	r.title.Truncation = fyne.TextTruncateEllipsis
	r.facts.Truncation = fyne.TextTruncateEllipsis
	r.outcome.SizeName = theme.SizeNameCaptionText
	pill := centred(container.NewStack(newPanel(colorRaised, 8, false), pad(0, 0, 4, 4, r.outcome)))
	face := container.New(sized{w: 40, h: 40}, newPanel(colorRaised, 6, false), pad(10, 10, 10, 10, r.glyph), r.picture)
	r.root = container.New(sized{h: rowHeight}, r.ground, pad(4, 4, 8, 8,
		container.NewBorder(nil, nil, pad(2, 2, 0, 6, face), pill, centred(stack(-2, r.title, r.facts)))))
	r.ExtendBaseWidget(r)
	return r
}

// CreateRenderer implements fyne.Widget.
func (r *jobRow) CreateRenderer() fyne.WidgetRenderer { return widget.NewSimpleRenderer(r.root) }

func (r *jobRow) show(row model.JobRow, img image.Image, selected bool) {
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
	root  fyne.CanvasObject
	glyph *widget.Icon
	bar   *meter
	gauge fyne.CanvasObject // the bar with what is around it
	title *widget.Label
	step  *widget.Label
	kind  string
}

func newRunningSlot(v *values) *runningSlot {
	s := &runningSlot{glyph: widget.NewIcon(nil), bar: newMeter(), title: text(v.jobTitle), step: small(text(v.jobProgress))}
	s.title.TextStyle.Bold = true
	s.bar.bind(v.jobFraction)
	s.gauge = pad(4, 0, labelInset, labelInset, container.New(sized{h: meterHeight}, s.bar))
	s.gauge.Hide()
	s.step.Hide()
	face := container.New(sized{w: 24, h: 24}, s.glyph)
	lines := stack(-2,
		container.NewBorder(nil, nil, nil, dropped(widget.NewLabelWithData(v.jobElapsed)), s.title),
		small(text(v.jobFacts)),
		s.step,
		s.gauge)
	s.root = container.NewStack(newPanel(colorSurface, 8, true), container.New(sized{w: 160, h: 96},
		pad(8, 8, 12, 8, container.NewBorder(nil, nil, pad(0, 0, 0, 6, container.NewCenter(face)), nil, centred(lines)))))
	return s
}

func (s *runningSlot) show(r model.Running) {
	show(s.gauge, r.Measured)
	show(s.step, r.Active)
	if s.kind != r.Kind || s.glyph.Resource == nil {
		s.kind = r.Kind
		if r.Active {
			s.glyph.SetResource(kindIcon(r.Kind))
		} else {
			s.glyph.SetResource(theme.NewColoredResource(theme.MoreHorizontalIcon(), colorMuted))
		}
	}
}

// jobDetail is the selected job in full.
type jobDetail struct {
	root fyne.CanvasObject
	tr   *words.Printer

	hint      fyne.CanvasObject // stands there while no job is shown
	body      fyne.CanvasObject
	title     *widget.Label
	facts     *widget.Label
	picture   *canvas.Image
	frame     fyne.CanvasObject
	pictureOf string // id and place of what picture shows or will show
	problem   *widget.Label
	failure   *widget.Label
	next      *widget.Label
	prompt    *widget.Label
	path      *widget.Label
	id        *widget.Label
	open      *widget.Button
	openRow   fyne.CanvasObject
	openFails *widget.Label
	loader    *loader
	home      string // the person's home folder; empty when unknown

	job model.JobDetail
}

func newJobDetail(tr *words.Printer, th *Theme, l *loader, c Controls, copyText func(string)) *jobDetail {
	wrap := func() *widget.Label {
		l := widget.NewLabel("")
		l.Wrapping = fyne.TextWrapWord
		return l
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "" // paths stand in full then
	}
	d := &jobDetail{
		tr:        tr,
		home:      home,
		title:     wrap(),
		facts:     small(wrap()),
		picture:   &canvas.Image{FillMode: canvas.ImageFillContain},
		problem:   small(wrap()),
		failure:   wrap(),
		next:      small(wrap()),
		prompt:    wrap(),
		path:      mono(wrap()),
		id:        mono(widget.NewLabel("")),
		open:      widget.NewButton("", nil),
		openFails: wrap(),
		loader:    l,
	}
	d.title.SizeName = theme.SizeNameSubHeadingText
	d.title.TextStyle.Bold = true
	d.failure.Importance = widget.DangerImportance
	d.openFails.Importance = widget.DangerImportance
	d.path.Wrapping = fyne.TextWrapBreak
	d.path.Importance = widget.LowImportance
	d.id.Truncation = fyne.TextTruncateEllipsis
	d.prompt.Selectable = true
	d.open.OnTapped = func() {
		write(d.openFails, "")
		if err := c.Open(d.job.Path); err != nil {
			write(d.openFails, tr.T("The result could not be opened: %s", err))
		}
		show(d.openFails, d.openFails.Text != "")
	}
	copyID := widget.NewButtonWithIcon(tr.T("Copy"), theme.ContentCopyIcon(), func() { copyText(d.job.ID) })
	copyID.Importance = widget.LowImportance
	d.frame = container.New(sized{h: 220}, newPanel(colorRaised, 6, false), pad(4, 4, 4, 4, d.picture))
	d.openRow = centred(normal(d.open, th)) // on top, where no picture can push it out of sight
	content := stack(4,
		container.NewBorder(nil, nil, nil, d.openRow, d.title), d.openFails, d.facts,
		pad(0, 0, labelInset, labelInset, d.frame), d.problem,
		d.failure, d.next,
		d.prompt,
		d.path,
		fact(tr.T("Job"), pad(monoDrop, 0, 0, 0, d.id), copyID))
	d.body = container.NewVScroll(pad(8, 8, 10, 12, content))
	d.body.Hide()
	hint := muted(widget.NewLabel(tr.T("A job you select shows here.")))
	d.hint = container.NewCenter(hint)
	d.root = container.NewStack(newPanel(colorSurface, 8, true), d.hint, d.body)
	return d
}

// show draws a job; ok is false when there is none.
func (d *jobDetail) show(j observe.RecentJob, ok bool, now time.Time) {
	show(d.body, ok)
	show(d.hint, !ok)
	if !ok {
		return
	}
	m := model.NewJobDetail(d.tr, j, now)
	if m.ID != d.job.ID {
		write(d.openFails, "")
	}
	d.job = m
	paint(d.title, m.Tone)
	write(d.title, m.Title)
	write(d.facts, m.Facts)
	write(d.failure, m.Error)
	write(d.next, m.Next)
	write(d.prompt, m.Prompt)
	write(d.path, model.ShortPath(m.Path, d.home))
	write(d.id, m.ID)
	if d.open.Text != m.Open {
		d.open.SetText(m.Open)
	}
	show(d.failure, m.Error != "")
	show(d.next, m.Next != "")
	show(d.path, m.Path != "")
	show(d.openRow, m.Path != "")
	show(d.openFails, d.openFails.Text != "")
	d.showPicture(j, m.Picture)
}

// showPicture has the picture decoded once for each job and place.
func (d *jobDetail) showPicture(j observe.RecentJob, picture bool) {
	show(d.frame, picture)
	of := j.ID + "\x00" + j.ResultPath
	if !picture {
		of = ""
		show(d.problem, false)
	}
	if of == d.pictureOf {
		return
	}
	d.pictureOf = of
	d.picture.Image = nil
	d.picture.Refresh()
	write(d.problem, "")
	show(d.problem, false)
	if !picture {
		return
	}
	d.loader.load(pictureJob{
		path: j.ResultPath, data: j.Thumbnail, limit: picturePixels,
		done: func(img image.Image, err error) {
			if d.pictureOf != of { // another job was selected meanwhile
				return
			}
			if err != nil {
				write(d.problem, d.tr.T("The picture cannot be shown: %s", err))
				show(d.problem, true)
				show(d.frame, false)
				return
			}
			d.picture.Image = img
			d.picture.Refresh()
		},
	})
}

// noteHeight is the line that says what became of a queued job: little more than
// the margin it stands for.
const noteHeight = 22

// jobForm queues a job in the private studio.
type jobForm struct {
	root   fyne.CanvasObject
	tr     *words.Printer
	kind   *widget.Select
	text   *entry
	run    *widget.Button
	note   *widget.Label
	serves []string // wire kinds, in the order of kind's options
	busy   bool
}

func newJobForm(tr *words.Printer, th *Theme, a actions, c Controls) *jobForm {
	f := &jobForm{
		tr:   tr,
		kind: widget.NewSelect(nil, nil),
		text: newEntry(""),
		run:  widget.NewButton(tr.T("Run"), nil),
		note: newErrorLabel(),
	}
	f.run.Importance = widget.HighImportance
	f.run.Disable()
	f.kind.OnChanged = func(string) { f.text.SetPlaceHolder(model.KindHint(tr, f.wireKind())) }
	f.text.OnChanged = func(string) {
		f.say("", model.ToneMuted)
		f.enable()
	}
	submit := func() {
		kind, words := f.wireKind(), strings.TrimSpace(f.text.Text)
		if words == "" || kind == "" || f.busy {
			return
		}
		f.busy = true
		f.enable()
		f.say("", model.ToneMuted)
		a.start(func(ctx context.Context) error { return c.Submit(ctx, kind, words) }, func(err error) {
			f.busy = false
			if err == nil {
				f.text.SetText("")
				f.say(tr.T("Queued. It shows below when it runs."), model.ToneGood)
			} else {
				f.say(tr.T("Not queued: %s", err), model.ToneBad)
			}
			f.enable()
		})
	}
	f.run.OnTapped = submit
	f.text.OnSubmitted = func(string) { submit() }
	fields := line(pad(0, 0, 0, 8, container.New(sized{w: 150}, f.kind)), f.text, pad(0, 0, 8, 0, f.run))
	f.note.SizeName = theme.SizeNameCaptionText
	// The note stands in the gap above what follows, so that nothing moves for it.
	f.root = stack(0, normal(fields, th), container.New(sized{h: noteHeight}, f.note))
	f.root.Hide()
	return f
}

// wireKind is the chosen kind; empty while none is.
func (f *jobForm) wireKind() string {
	if i := f.kind.SelectedIndex(); i >= 0 && i < len(f.serves) {
		return f.serves[i]
	}
	return ""
}

func (f *jobForm) enable() {
	enable(f.run, !f.busy && strings.TrimSpace(f.text.Text) != "" && f.wireKind() != "")
}

func (f *jobForm) say(s string, t model.Tone) {
	paint(f.note, t)
	write(f.note, s)
}

// show offers the form for the kinds served here.
func (f *jobForm) show(private bool, serves []string) {
	show(f.root, private && len(serves) > 0)
	if slices.Equal(f.serves, serves) {
		return
	}
	was := f.wireKind()
	f.serves = serves
	names, at := make([]string, 0, len(serves)), 0
	for i, k := range serves {
		names = append(names, model.KindName(f.tr, k))
		if k == was {
			at = i
		}
	}
	f.kind.SetOptions(names)
	if len(names) > 0 {
		f.kind.SetSelectedIndex(at)
	}
	f.enable()
}
