package ui

import (
	"context"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/data/binding"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"studioworker/ui/model"
	"studioworker/ui/words"
)

// statusPage is the first page: this computer, its studio, its graphics cards
// and what waits to be delivered.
type statusPage struct {
	root fyne.CanvasObject
	tr   *words.Printer

	mark         *widget.Icon
	word         *label
	pause        *widget.Button
	registration *label
	heartbeat    *label
	request      fyne.CanvasObject
	worker       fyne.CanvasObject
	askAgain     *widget.Button
	askError     *label
	gpus         *fyne.Container
	gpuNote      *label
	rows         []*gpuRow
	threshold    *entry
	save         *widget.Button
	saved        *label
	waiting      *label
	waitingNote  *label
	finish       *widget.Button
	chart        *chart
	chartNote    *label
	downloads    *fyne.Container
	downloadNote *label
	files        []*downloadRow
	crash        *crashNote

	stored string // the threshold in force, as the field shows it
	state  model.State
	action model.Action // of the button
}

// downloadRow shows one model file on its way.
type downloadRow struct {
	root        *fyne.Container
	name, facts *label
	bar         *meter
}

// gpuRow shows one graphics card.
type gpuRow struct {
	root         *fyne.Container
	name, memory *label
	used         *meter
}

// statusActions is what the page's buttons do.
type statusActions struct {
	act          func(model.Action, *widget.Button) // Pause, Resume
	askAgain     func(done func(error))
	setThreshold func(gb float64, done func(error))
	copy         func(string)
	finish       func() // this job, then quit
}

func newStatusPage(tr *words.Printer, v *values, do statusActions, crash *crashNote) *statusPage {
	p := &statusPage{
		crash:        crash,
		tr:           tr,
		mark:         widget.NewIcon(nil),
		word:         newBoundLabel(v.word),
		pause:        widget.NewButton("", nil),
		registration: prose(v.registration),
		heartbeat:    prose(v.heartbeat),
		askAgain:     widget.NewButton(model.ActionAskAgain.Label(tr), nil),
		askError:     newErrorLabel(),
		gpus:         stack(8),
		gpuNote:      prose(v.gpuNote),
		threshold:    newEntry("GB"),
		save:         widget.NewButton(tr.T("Save"), nil),
		saved:        newLabel(""),
		waiting:      text(v.waiting),
		waitingNote:  prose(v.waitingNote),
		finish:       widget.NewButton(tr.T("Finish, then quit"), do.finish),
		chart:        newChart(),
		chartNote:    muted(newLabel("")),
		downloads:    stack(8),
		downloadNote: muted(newLabel(tr.T("No model is on its way."))),
	}
	p.chartNote.Wrapping, p.downloadNote.Wrapping = fyne.TextWrapWord, fyne.TextWrapWord
	p.word.SizeName = theme.SizeNameHeadingText
	p.word.TextStyle.Bold = true
	p.word.Truncation = fyne.TextTruncateEllipsis // a long one must not widen the card
	p.action = model.ActionPause
	dress(tr, p.pause, p.action)
	p.pause.OnTapped = func() { do.act(p.action, p.pause) }
	p.askAgain.OnTapped = func() { p.tapAskAgain(do.askAgain) }
	p.request = fact(tr.T("Request"), p.id(v.requestID, do.copy), nil)
	p.worker = fact(tr.T("Worker"), p.id(v.workerID, do.copy), nil)
	p.waiting.SizeName = theme.SizeNameHeadingText
	p.waiting.TextStyle.Bold = true
	muted(p.gpuNote)
	muted(p.waitingNote)
	for _, o := range []fyne.CanvasObject{p.request, p.worker, p.askAgain} {
		o.Hide()
	}
	p.wireThreshold(do.setThreshold)

	mark := container.New(sized{w: 20, h: 20}, p.mark)
	computer := card(tr.T("This computer"), container.NewBorder(nil,
		pad(8, 0, labelInset, 0, row(8, p.pause, p.finish)), nil, nil,
		stack(0,
			container.NewBorder(nil, nil, pad(0, 0, labelInset, 4, container.NewCenter(mark)), nil, p.word),
			prose(v.sentence),
			fact(tr.T("Can serve"), prose(v.serves), nil))))
	studio := card(tr.T("Studio"), stack(0,
		prose(v.studio),
		fact(tr.T("Registration"), p.registration, nil),
		p.request, p.worker,
		fact(tr.T("Connection"), prose(v.connection), nil),
		fact(tr.T("Heartbeat"), p.heartbeat, nil),
		pad(4, 0, labelInset, 0, container.NewBorder(nil, nil, p.askAgain, nil, centred(p.askError)))))
	limit := container.NewBorder(nil, nil, row(6,
		centred(muted(newLabel(tr.T("Largest job")))),
		container.New(sized{w: 84}, p.threshold),
		centred(newLabel("GB")),
		p.save), nil, centred(p.saved))
	graphics := card(tr.T("Graphics card"), stack(8, p.gpus, p.gpuNote, limit))
	outbox := card(tr.T("Waiting to be delivered"), stack(0, p.waiting, p.waitingNote))
	ends := container.NewBorder(nil, nil, small(newLabel(tr.T("24 h ago"))), small(newLabel(tr.T("now"))))
	day := card(tr.T("Last 24 hours"), stack(2, pad(0, 0, labelInset, labelInset, p.chart), ends, p.chartNote))
	models := card(tr.T("Model downloads"), stack(4, p.downloadNote, p.downloads))
	page := stack(margin,
		p.crash.root,
		container.New(shares{margin, []float32{1, 1}}, computer, studio),
		container.New(shares{margin, []float32{3, 2}}, graphics, outbox),
		container.New(shares{margin, []float32{3, 2}}, day, models))
	p.root = container.NewVScroll(pad(margin, margin, margin, margin, page))
	return p
}

// id is an id with a button that copies it.
func (p *statusPage) id(data binding.String, copyText func(string)) fyne.CanvasObject {
	b := widget.NewButtonWithIcon(p.tr.T("Copy"), theme.ContentCopyIcon(), func() {
		if s, err := data.Get(); err == nil {
			copyText(s)
		}
	})
	b.Importance = widget.LowImportance
	return container.NewBorder(nil, nil, nil, compact(b), boundID(data))
}

// newErrorLabel is where a form says what went wrong; empty, it takes a line all
// the same, so that nothing moves.
func newErrorLabel() *label {
	l := newLabel("")
	l.Importance = widget.DangerImportance
	l.Truncation = fyne.TextTruncateEllipsis
	return l
}

func (p *statusPage) tapAskAgain(ask func(done func(error))) {
	p.askAgain.Disable()
	write(p.askError, "")
	ask(func(err error) {
		p.askAgain.Enable()
		if err != nil {
			write(p.askError, reason(p.tr, err))
		}
	})
}

// wireThreshold enables Save only when the field holds another valid number.
func (p *statusPage) wireThreshold(set func(float64, func(error))) {
	p.saved.Truncation = fyne.TextTruncateEllipsis
	p.save.Disable()
	say := func(s string, t model.Tone) {
		write(p.saved, s)
		paint(p.saved, t)
	}
	p.threshold.OnChanged = func(s string) {
		_, err := model.ParseThreshold(p.tr, s)
		switch {
		case err != nil:
			p.save.Disable()
			say(err.Error(), model.ToneBad)
		case s == p.stored:
			p.save.Disable()
			say("", model.ToneMuted)
		default:
			p.save.Enable()
			say("", model.ToneMuted)
		}
	}
	submit := func() {
		gb, err := model.ParseThreshold(p.tr, p.threshold.Text)
		if err != nil || p.save.Disabled() {
			return
		}
		p.save.Disable()
		set(gb, func(err error) {
			if err != nil {
				p.save.Enable()
				say(reason(p.tr, err), model.ToneBad)
				return
			}
			p.stored = model.Threshold(gb)
			p.threshold.SetText(p.stored)
			say(p.tr.T("Saved"), model.ToneGood)
		})
	}
	p.save.OnTapped = submit
	p.threshold.OnSubmitted = func(string) { submit() }
	p.threshold.onEscape = func() { p.threshold.SetText(p.stored) }
}

// show draws what has no binding.
func (p *statusPage) show(st model.Status, paused bool) {
	if p.state != st.State {
		p.state = st.State
		p.mark.SetResource(markFor(st.State))
		paint(p.word, st.State.Tone())
	}
	p.action = model.ActionPause
	if paused {
		p.action = model.ActionResume
	}
	dress(p.tr, p.pause, p.action)
	paint(p.registration, st.RegistrationTone)
	paint(p.heartbeat, st.HeartbeatTone)
	paint(p.waitingNote, st.WaitingTone)
	enable(p.finish, !st.Stopping)
	show(p.request, st.RequestID != "")
	show(p.worker, st.WorkerID != "")
	show(p.askAgain, st.Action == model.ActionAskAgain)
	if st.Action != model.ActionAskAgain {
		write(p.askError, "")
	}
	show(p.gpuNote, st.GPUNote != "")
	p.showGPUs(st.GPUs)
	if p.threshold.Text == p.stored { // never take away what is being typed
		if p.stored != st.Threshold {
			p.stored = st.Threshold
			p.threshold.SetText(st.Threshold)
		}
	}
	p.stored = st.Threshold
}

// showDay draws the last 24 hours.
func (p *statusPage) showDay(c model.Chart) {
	p.chart.set(c)
	write(p.chartNote, c.Summary)
}

// showDownloads draws the model files on their way.
func (p *statusPage) showDownloads(all []model.Download) {
	show(p.downloadNote, len(all) == 0)
	for len(p.files) < len(all) {
		r := &downloadRow{name: newLabel(""), facts: small(newLabel("")), bar: newMeter()}
		r.name.Truncation, r.facts.Truncation = fyne.TextTruncateEllipsis, fyne.TextTruncateEllipsis
		r.root = stack(0, r.name, pad(2, 2, labelInset, labelInset, container.New(sized{h: meterHeight}, r.bar)), r.facts)
		p.files = append(p.files, r)
		p.downloads.Add(r.root)
	}
	for i, r := range p.files {
		show(r.root, i < len(all))
		if i < len(all) {
			write(r.name, all[i].Name)
			write(r.facts, all[i].Facts)
			show(r.bar, all[i].Known)
			r.bar.set(all[i].Fraction)
		}
	}
}

func (p *statusPage) showGPUs(gpus []model.GPU) {
	for len(p.rows) < len(gpus) {
		p.rows = append(p.rows, newGPURow())
		p.gpus.Add(p.rows[len(p.rows)-1].root)
	}
	for i, r := range p.rows {
		show(r.root, i < len(gpus))
		if i < len(gpus) {
			r.show(gpus[i])
		}
	}
}

func newGPURow() *gpuRow {
	r := &gpuRow{name: newLabel(""), memory: newLabel(""), used: newMeter()}
	r.name.Truncation = fyne.TextTruncateEllipsis
	r.root = stack(4,
		container.NewBorder(nil, nil, nil, muted(r.memory), r.name),
		pad(0, 0, labelInset, labelInset, r.used))
	return r
}

func (r *gpuRow) show(g model.GPU) {
	write(r.name, g.Name)
	write(r.memory, g.Memory)
	show(r.used, g.Known)
	r.used.set(g.Used)
}

// setThreshold adapts Controls to the page.
func setThreshold(a actions, c Controls) func(float64, func(error)) {
	return func(gb float64, done func(error)) {
		a.start(func(ctx context.Context) error { return c.SetThreshold(ctx, gb) }, done)
	}
}
