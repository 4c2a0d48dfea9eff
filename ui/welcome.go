package ui

import (
	"context"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"studioworker/ui/words"
)

// welcomePage stands in place of the tabs until the person has chosen where the
// jobs come from. Nothing goes over the network before that.
type welcomePage struct {
	root fyne.CanvasObject

	try, join         *widget.Button
	address           *entry
	tryNote, joinNote *widget.Label
}

func newWelcomePage(tr *words.Printer, th *Theme, a actions, c Controls) *welcomePage {
	p := &welcomePage{
		try:      widget.NewButton(tr.T("Try it here"), nil),
		join:     widget.NewButton(tr.T("Join"), nil),
		address:  newEntry("studio.example.org"),
		tryNote:  newErrorLabel(),
		joinNote: newErrorLabel(),
	}
	p.tryNote.Truncation, p.tryNote.Wrapping = fyne.TextTruncateOff, fyne.TextWrapWord
	p.joinNote.Truncation, p.joinNote.Wrapping = fyne.TextTruncateOff, fyne.TextWrapWord
	p.try.Importance = widget.HighImportance
	p.try.OnTapped = func() {
		p.busy(p.tryNote, tr.T("Starting the private studio …"))
		a.start(c.TryHere, p.ended(p.tryNote))
	}
	submit := func() {
		address := strings.TrimSpace(p.address.Text)
		if address == "" || p.join.Disabled() {
			return
		}
		p.busy(p.joinNote, tr.T("Asking the studio …"))
		a.start(func(ctx context.Context) error { return c.Join(ctx, address) }, p.ended(p.joinNote))
	}
	p.join.OnTapped = submit
	p.join.Disable()
	p.address.OnSubmitted = func(string) { submit() }
	p.address.OnChanged = func(s string) { enable(p.join, strings.TrimSpace(s) != "") }

	title := widget.NewLabelWithStyle(tr.T("Welcome"), fyne.TextAlignLeading, fyne.TextStyle{Bold: true})
	title.SizeName = theme.SizeNameHeadingText
	intro := muted(widget.NewLabel(tr.T("This program lends your computer to a studio, which sends it jobs: pictures, text, speech, video. " +
		"Where should the jobs come from?")))
	intro.Wrapping = fyne.TextWrapWord
	say := func(s string) *widget.Label {
		l := widget.NewLabel(s)
		l.Wrapping = fyne.TextWrapWord
		return l
	}
	const inset = labelInset
	here := card(tr.T("Try it on this computer"), container.NewBorder(
		say(tr.T("Runs a private studio on this computer. Type a sentence, get a sound or a picture. Nothing leaves the computer.")),
		pad(12, 0, inset, 0, stack(8, row(8, normal(p.try, th)), p.tryNote)), nil, nil))
	join := card(tr.T("Join a studio"), container.NewBorder(
		say(tr.T("Lends this computer to a studio that you know. Its operator approves the computer once.")),
		pad(12, 0, inset, 0, stack(8,
			container.NewBorder(nil, nil, nil, pad(0, 0, 8, 0, normal(p.join, th)), normal(p.address, th)), p.joinNote)), nil, nil))
	page := stack(margin, title, intro, container.New(shares{margin, []float32{1, 1}}, here, join))
	p.root = container.NewVScroll(container.NewThemeOverride(pad(24, margin, 24, 24, page), dense{th}))
	return p
}

// busy locks both choices while one is under way.
func (p *welcomePage) busy(note *widget.Label, words string) {
	p.try.Disable()
	p.join.Disable()
	p.address.Disable()
	write(p.tryNote, "")
	write(p.joinNote, "")
	note.Importance = widget.LowImportance
	note.SetText(words)
}

// ended unlocks both choices. When all went well, the studio's address appears
// in the settings and the tabs take this page's place.
func (p *welcomePage) ended(note *widget.Label) func(error) {
	return func(err error) {
		p.try.Enable()
		p.address.Enable()
		enable(p.join, strings.TrimSpace(p.address.Text) != "")
		note.Importance = widget.DangerImportance
		if err != nil {
			note.SetText(err.Error())
			return
		}
		note.SetText("")
	}
}

func enable(b *widget.Button, on bool) {
	if on {
		b.Enable()
		return
	}
	b.Disable()
}
