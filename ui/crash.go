package ui

import (
	"context"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/dialog"
	"fyne.io/fyne/v2/widget"

	"studioworker/ui/model"
	"studioworker/ui/words"
	"studioworker/worker/observe"
)

// crashNote says that the report of a crash waits, and shows it word for word before the
// person decides.
type crashNote struct {
	root fyne.CanvasObject
	tr   *words.Printer
	ctl  Controls
	act  actions
	ask  asker

	says  *label
	crash observe.Crash
	popUp dialog.Dialog // nil while the report is not open
}

func newCrashNote(tr *words.Printer, a actions, c Controls, ask asker) *crashNote {
	n := &crashNote{tr: tr, ctl: c, act: a, ask: ask, says: newLabel("")}
	n.says.Wrapping = fyne.TextWrapWord
	look := widget.NewButton(tr.T("Look at the report"), n.open)
	n.root = container.NewStack(newPanel(colorSurface, 8, true),
		pad(8, 8, cardPadding-labelInset, 8, container.NewBorder(nil, nil, nil, centred(look), centred(n.says))))
	n.root.Hide()
	return n
}

func (n *crashNote) show(c observe.Crash, now time.Time) {
	if n.popUp != nil && n.crash.ID != c.ID { // decided
		n.popUp.Hide()
	}
	n.crash = c
	show(n.root, c.ID != "")
	if c.ID != "" {
		write(n.says, n.tr.T("The program crashed %s. A report of it waits for you.", model.When(n.tr, c.At, now)))
	}
}

func (n *crashNote) open() {
	c := n.crash
	intro := newLabel(n.tr.T("The report names the code that failed and nothing it worked on. Exactly this would be sent to the makers of this build:"))
	if !c.Sendable {
		intro.SetText(n.tr.T("The report names the code that failed and nothing it worked on. This build has no address to send it to."))
	}
	intro.Wrapping = fyne.TextWrapWord
	text := mono(newLabel(c.Text))
	text.Wrapping, text.Selectable = fyne.TextWrapBreak, true
	note := newErrorLabel()
	body := container.NewStack(newPanel(colorRaised, 6, false), pad(4, 4, 8, 8, container.NewVScroll(text)))
	d := dialog.NewCustomWithoutButtons(n.tr.T("Report of a crash"),
		container.New(sized{w: 600, h: 300}, container.NewBorder(intro, note, nil, nil, pad(4, 0, 0, 0, body))), n.ask.win)
	send := widget.NewButton(n.tr.T("Send"), nil)
	send.Importance = widget.HighImportance
	discard := widget.NewButton(n.tr.T("Discard"), nil)
	buttons := []fyne.CanvasObject{widget.NewButton(n.tr.T("Close"), d.Hide), discard}
	if c.Sendable {
		buttons = append(buttons, send)
	}
	decide := func(do func(context.Context, string) error) func() {
		return func() {
			send.Disable()
			discard.Disable()
			write(note, "")
			n.act.start(func(ctx context.Context) error { return do(ctx, c.ID) }, func(err error) {
				if err == nil {
					d.Hide()
					return
				}
				send.Enable()
				discard.Enable()
				write(note, n.tr.T("That did not work: %s", reason(n.tr, err)))
			})
		}
	}
	send.OnTapped, discard.OnTapped = decide(n.ctl.SendCrash), decide(n.ctl.DiscardCrash)
	d.SetButtons(buttons)
	d.SetOnClosed(func() { n.popUp = nil })
	n.popUp = d
	d.Show()
}
