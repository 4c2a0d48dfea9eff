package ui

import (
	"context"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"studioworker/ui/model"
	"studioworker/ui/words"
)

// welcomePage stands in place of the tabs until the person has chosen where the
// jobs come from and the studio has let this computer in. Nothing goes over the
// network before the choice.
type welcomePage struct {
	root fyne.CanvasObject
	tr   *words.Printer

	choose            fyne.CanvasObject
	try, join, back   *widget.Button
	address           *entry
	tryNote, joinNote *label

	joining       fyne.CanvasObject
	mark          *widget.Icon
	title, text   *label
	request       *idText
	requestRow    fyne.CanvasObject
	since         *label
	again, around *widget.Button
	backPart      fyne.CanvasObject
	other         *widget.Button
	againNote     *label

	busy      bool
	elsewhere bool // the person chooses another studio
	shown     model.Welcome
}

// welcomeActions is what the page's buttons do beside the choice.
type welcomeActions struct {
	ctl      Controls
	run      actions
	copyText func(string)
	around   func() // the person wants to see the pages
}

func newWelcomePage(tr *words.Printer, do welcomeActions) *welcomePage {
	wrapped := func(s string) *label {
		l := newLabel(s)
		l.Wrapping = fyne.TextWrapWord
		return l
	}
	heading := func(s string) *label {
		l := wrapped(s)
		l.SizeName, l.TextStyle.Bold = theme.SizeNameHeadingText, true
		return l
	}
	p := &welcomePage{tr: tr}
	p.newChoice(do, heading, wrapped)
	p.newJoining(do, heading, wrapped)
	page := stack(0, p.choose, p.joining)
	p.root = container.NewVScroll(pad(24, margin, 24, 24, page))
	p.show(model.Welcome{Stage: model.StageChoose})
	return p
}

// newChoice builds the two ways to begin.
func (p *welcomePage) newChoice(do welcomeActions, heading, wrapped func(string) *label) {
	tr := p.tr
	p.try, p.join = widget.NewButton(tr.T("Try it here"), nil), widget.NewButton(tr.T("Join"), nil)
	p.back = widget.NewButton(tr.T("Back"), func() { p.choosing(false) })
	p.address = newEntry("studio.example.org")
	p.tryNote, p.joinNote = newErrorLabel(), newErrorLabel()
	for _, note := range []*label{p.tryNote, p.joinNote} {
		note.Truncation, note.Wrapping = fyne.TextTruncateOff, fyne.TextWrapWord
	}
	p.try.Importance = widget.HighImportance
	p.try.OnTapped = func() {
		p.lock(p.tryNote, tr.T("Starting the private studio …"))
		do.run.start(do.ctl.TryHere, p.ended(p.tryNote))
	}
	submit := func() {
		address := strings.TrimSpace(p.address.Text)
		if p.join.Disabled() || model.CheckAddress(tr, address) != nil {
			return
		}
		p.lock(p.joinNote, tr.T("Asking the studio …"))
		do.run.start(func(ctx context.Context) error { return do.ctl.Join(ctx, address) }, p.ended(p.joinNote))
	}
	p.join.OnTapped = submit
	p.address.OnSubmitted = func(string) { submit() }
	p.address.OnChanged = func(string) { p.checkAddress() }
	p.join.Disable()

	intro := muted(wrapped(tr.T("This program lends your computer to a studio, which sends it jobs: pictures, text, speech, video. " +
		"Where should the jobs come from?")))
	const inset = labelInset
	here := card(tr.T("Try it on this computer"), container.NewBorder(
		wrapped(tr.T("Runs a private studio on this computer. Type a sentence, get a sound or a picture. Nothing leaves the computer.")),
		pad(12, 0, inset, 0, stack(8, row(8, p.try), p.tryNote)), nil, nil))
	join := card(tr.T("Join a studio"), container.NewBorder(
		wrapped(tr.T("Lends this computer to a studio that you know. Its operator approves the computer once.")),
		pad(12, 0, inset, 0, stack(8, line(row(0), p.address, pad(0, 0, 8, 0, p.join)), p.joinNote)), nil, nil))
	p.backPart = pad(0, 0, labelInset, 0, row(8, p.back))
	p.backPart.Hide()
	p.choose = stack(margin, heading(tr.T("Welcome")), intro, container.New(shares{margin, []float32{1, 1}}, here, join),
		p.backPart)
}

// newJoining builds what stands there while the studio decides.
func (p *welcomePage) newJoining(do welcomeActions, heading, wrapped func(string) *label) {
	tr := p.tr
	p.mark = widget.NewIcon(nil)
	p.title, p.text, p.since = heading(""), wrapped(""), muted(wrapped(""))
	p.request = newIDText()
	p.againNote = newErrorLabel()
	p.againNote.Truncation, p.againNote.Wrapping = fyne.TextTruncateOff, fyne.TextWrapWord
	copyButton := widget.NewButtonWithIcon(tr.T("Copy"), theme.ContentCopyIcon(), func() { do.copyText(p.request.text) })
	p.requestRow = container.NewBorder(nil, nil, nil, copyButton, p.request)
	p.again = widget.NewButton(model.ActionAskAgain.Label(tr), nil)
	p.again.Importance = widget.HighImportance
	p.again.OnTapped = func() {
		p.again.Disable()
		write(p.againNote, "")
		do.run.start(do.ctl.ResetRegistration, func(err error) {
			p.again.Enable()
			if err != nil {
				write(p.againNote, reason(p.tr, err))
			}
		})
	}
	p.other = widget.NewButton(tr.T("Choose another studio"), func() { p.choosing(true) })
	p.around = widget.NewButton(tr.T("Look around meanwhile"), do.around)
	mark := container.New(sized{w: 24, h: 24}, p.mark)
	top := container.NewBorder(nil, nil, pad(0, 0, labelInset, 4, container.NewCenter(mark)), nil, p.title)
	p.joining = container.NewStack(newPanel(colorSurface, 8, true), pad(cardPadding, cardPadding, cardPadding, cardPadding, stack(8,
		top, p.text, p.requestRow, p.since,
		pad(8, 0, labelInset, 0, row(8, p.again, p.other, p.around)), p.againNote)))
}

// show draws a stage.
func (p *welcomePage) show(m model.Welcome) {
	if m.Stage != p.shown.Stage {
		p.elsewhere = false // whatever was being chosen is over
	}
	p.shown = m
	choosing := m.Stage == model.StageChoose || p.elsewhere
	show(p.choose, choosing)
	show(p.joining, !choosing)
	show(p.backPart, p.elsewhere)
	if m.Stage == model.StageChoose {
		return
	}
	p.mark.SetResource(markFor(m.State))
	write(p.title, m.Title)
	write(p.text, m.Text)
	p.request.set(m.Request)
	write(p.since, m.Since)
	show(p.requestRow, m.Request != "")
	show(p.since, m.Since != "")
	show(p.again, m.Stage == model.StageDeclined)
	show(p.againNote, p.againNote.Text != "")
}

// choosing goes to the choice and back.
func (p *welcomePage) choosing(on bool) {
	p.elsewhere = on
	p.show(p.shown)
}

// checkAddress says what is wrong with an address while it is written.
func (p *welcomePage) checkAddress() {
	text := strings.TrimSpace(p.address.Text)
	err := model.CheckAddress(p.tr, text)
	enable(p.join, !p.busy && text != "" && err == nil)
	p.joinNote.Importance = widget.LowImportance
	if text == "" || err == nil {
		p.joinNote.SetText("")
		return
	}
	p.joinNote.SetText(err.Error())
}

// lock keeps hands off both choices while one is under way.
func (p *welcomePage) lock(note *label, says string) {
	p.busy = true
	p.try.Disable()
	p.join.Disable()
	p.address.Disable()
	write(p.tryNote, "")
	write(p.joinNote, "")
	note.Importance = widget.LowImportance
	note.SetText(says)
}

// ended unlocks both choices. When all went well, the studio's address appears
// in the settings and the next stage takes this one's place.
func (p *welcomePage) ended(note *label) func(error) {
	return func(err error) {
		p.busy = false
		p.try.Enable()
		p.address.Enable()
		enable(p.join, model.CheckAddress(p.tr, p.address.Text) == nil)
		note.Importance = widget.DangerImportance
		if err != nil {
			note.SetText(model.StudioTrouble(p.tr, err))
			return
		}
		note.SetText("")
		p.choosing(false)
	}
}

func enable(b *widget.Button, on bool) {
	switch {
	case on && b.Disabled():
		b.Enable()
	case !on && !b.Disabled():
		b.Disable()
	}
}
