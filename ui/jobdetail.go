package ui

import (
	"context"
	"image"
	"os"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"studioworker/ui/model"
	"studioworker/ui/words"
	"studioworker/worker/observe"
)

// jobDetail is the selected job in full.
type jobDetail struct {
	root fyne.CanvasObject
	tr   *words.Printer
	win  fyne.Window

	hint       fyne.CanvasObject // stands there while no job is shown
	body       *container.Scroll
	title      *label
	facts      *label
	picture    *pictureButton
	frame      fyne.CanvasObject
	pictureOf  string // job and place of what picture shows or will show
	problem    *label
	failure    *label
	next       *label
	prompt     *label
	copyPrompt *widget.Button
	path       *label
	id         *label
	open       *widget.Button
	openRow    fyne.CanvasObject
	openFails  *label
	log        *label
	copyLog    *widget.Button
	loader     *loader
	act        actions
	ctl        Controls
	home       string // the person's home folder; empty when unknown

	key      string // of the job that is shown; empty = none
	job      model.JobDetail
	outcome  observe.Outcome
	wholeLog string // of the job, to copy
	asking   bool   // for a log
	logOf    string // key and outcome of the job whose log is shown or asked for
}

func newJobDetail(tr *words.Printer, l *loader, a actions, c Controls, win fyne.Window, copyText func(string)) *jobDetail {
	wrap := func() *label {
		l := newLabel("")
		l.Wrapping = fyne.TextWrapWord
		return l
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "" // paths stand in full then
	}
	d := &jobDetail{
		tr: tr, win: win, loader: l, act: a, ctl: c, home: home,
		title:     wrap(),
		facts:     small(wrap()),
		picture:   newPictureButton(),
		problem:   small(wrap()),
		failure:   wrap(),
		next:      small(wrap()),
		prompt:    wrap(),
		path:      mono(wrap()),
		id:        mono(newLabel("")),
		open:      widget.NewButton("", nil),
		openFails: wrap(),
		log:       mono(wrap()),
	}
	d.title.SizeName = theme.SizeNameSubHeadingText
	d.title.TextStyle.Bold = true
	d.failure.Importance = widget.DangerImportance
	d.openFails.Importance = widget.DangerImportance
	d.path.Wrapping, d.log.Wrapping = fyne.TextWrapBreak, fyne.TextWrapBreak
	d.path.Importance, d.log.Importance = widget.LowImportance, widget.LowImportance
	d.id.Truncation = fyne.TextTruncateEllipsis
	d.prompt.Selectable, d.log.Selectable = true, true
	d.open.OnTapped = func() {
		write(d.openFails, "")
		if err := c.Open(d.job.Path); err != nil {
			write(d.openFails, tr.T("The result could not be opened: %s", reason(tr, err)))
		}
		show(d.openFails, d.openFails.Text != "")
	}
	button := func(do func()) *widget.Button {
		b := widget.NewButtonWithIcon(tr.T("Copy"), theme.ContentCopyIcon(), do)
		b.Importance = widget.LowImportance
		return b
	}
	copyID := button(func() { copyText(d.job.ID) })
	d.copyPrompt = button(func() { copyText(d.job.Whole) })
	d.copyLog = button(func() { copyText(d.wholeLog) })
	d.frame = container.New(sized{h: 220}, newPanel(colorRaised, 6, false), pad(4, 4, 4, 4, d.picture))
	d.openRow = centred(d.open) // on top, where no picture can push it out of sight
	head := func(title string, b *widget.Button) fyne.CanvasObject {
		l := muted(newTitle(title))
		return container.NewBorder(nil, nil, nil, compact(b), l)
	}
	content := stack(4,
		container.NewBorder(nil, nil, nil, d.openRow, d.title), d.openFails, d.facts,
		pad(0, 0, labelInset, labelInset, d.frame), d.problem,
		d.failure, d.next,
		head(tr.T("Prompt"), d.copyPrompt), d.prompt,
		d.path,
		fact(tr.T("Job"), pad(monoDrop, 0, 0, 0, d.id), compact(copyID)),
		head(tr.T("Log of this job"), d.copyLog), d.log)
	d.body = container.NewVScroll(pad(8, 8, 10, 12, content))
	d.body.Hide()
	hint := muted(newLabel(tr.T("A job you select shows here.")))
	d.hint = container.NewCenter(hint)
	d.root = container.NewStack(newPanel(colorSurface, 8, true), d.hint, d.body)
	return d
}

// hide shows that no job is selected.
func (d *jobDetail) hide() {
	d.key = ""
	show(d.body, false)
	show(d.hint, true)
}

// show draws a job.
func (d *jobDetail) show(j observe.RecentJob, veil bool, now time.Time) {
	show(d.body, true)
	show(d.hint, false)
	m := model.NewJobDetail(d.tr, j, veil, now)
	if key := model.JobKey(j); key != d.key {
		d.key = key
		write(d.openFails, "")
		d.body.ScrollToTop()
	}
	d.job, d.outcome = m, j.Outcome
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
	enable(d.copyPrompt, m.Whole != "")
	show(d.failure, m.Error != "")
	show(d.next, m.Next != "")
	show(d.path, m.Path != "")
	show(d.openRow, m.Path != "")
	show(d.openFails, d.openFails.Text != "")
	d.picture.onTapped = nil
	if m.FullImage {
		d.picture.onTapped = d.openPicture
	}
	d.showPicture(j, m.Picture)
	d.fetchLog()
}

// showPicture has the picture decoded once for each job and place.
func (d *jobDetail) showPicture(j observe.RecentJob, picture bool) {
	show(d.frame, picture)
	of := d.key + "\x00" + j.ResultPath
	if !picture {
		of = ""
		show(d.problem, false)
	}
	if of == d.pictureOf {
		return
	}
	d.pictureOf = of
	d.picture.set(nil)
	write(d.problem, "")
	show(d.problem, false)
	if !picture {
		return
	}
	path := j.ResultPath
	if !d.job.FullImage {
		path = "" // a film, say: its small picture is all we can show
	}
	d.loader.load(pictureJob{
		path: path, small: j.ThumbnailPath, data: j.Thumbnail, limit: picturePixels,
		done: func(img image.Image, err error) {
			if d.pictureOf != of { // another job was selected meanwhile
				return
			}
			if err != nil {
				write(d.problem, d.tr.T("The picture cannot be shown: %s", reason(d.tr, err)))
				show(d.problem, true)
				show(d.frame, false)
				return
			}
			d.picture.set(img)
		},
	})
}

// openPicture shows the job's picture over the whole window.
func (d *jobDetail) openPicture() {
	if d.key == "" || !d.job.FullImage {
		return
	}
	v := newViewer(d.win.Canvas(), d.tr.T("Opening the picture …"))
	d.loader.load(pictureJob{path: d.job.Path, limit: viewPixels, done: func(img image.Image, err error) {
		switch {
		case !v.open():
		case err != nil:
			v.fail(d.tr.T("The picture cannot be shown: %s", reason(d.tr, err)))
		default:
			v.show(img)
		}
	}})
}

// fetchLog asks for the log of the job that is shown, once for each outcome of it,
// and for one at a time: who leafs through jobs asks for the last one only.
func (d *jobDetail) fetchLog() {
	of := d.key + "\x00" + string(d.outcome)
	if d.asking || of == d.logOf {
		return
	}
	id, key := d.job.ID, d.key
	var lines []observe.LogEntry
	var dropped uint64
	d.asking, d.logOf = true, of
	write(d.log, "")
	d.copyLog.Disable()
	d.act.start(func(ctx context.Context) (err error) {
		lines, dropped, err = d.ctl.JobLog(ctx, id)
		return err
	}, func(err error) {
		d.asking = false
		switch {
		case d.key == "":
		case d.key != key: // another one by now
			d.fetchLog()
		case err != nil:
			d.log.Wrapping = fyne.TextWrapWord // a sentence of ours
			write(d.log, d.tr.T("The log cannot be read: %s", reason(d.tr, err)))
		default:
			var shown string
			shown, d.wholeLog = model.JobLog(d.tr, lines, dropped, time.Local)
			d.log.Wrapping = fyne.TextWrapBreak
			if d.wholeLog == "" {
				d.log.Wrapping = fyne.TextWrapWord
			}
			write(d.log, shown)
			enable(d.copyLog, d.wholeLog != "")
		}
	})
}
