package ui

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/widget"

	"studioworker/ui/model"
	"studioworker/ui/words"
)

// header is the line on every page: mark, word, sentence, and the one button
// that makes sense now. Its height never changes.
type header struct {
	mark   *widget.Icon
	tr     *words.Printer
	word   *label
	button *widget.Button
	root   fyne.CanvasObject

	state  model.State
	action model.Action
}

// newHeader builds the header; act does what the button says.
func newHeader(tr *words.Printer, v *values, act func(model.Action, *widget.Button)) *header {
	h := &header{
		tr:     tr,
		mark:   widget.NewIcon(nil),
		word:   newBoundLabel(v.word),
		button: widget.NewButton("", nil),
	}
	h.word.TextStyle.Bold = true
	h.button.OnTapped = func() { act(h.action, h.button) }
	h.button.Hide()
	mark := container.New(layout.NewGridWrapLayout(fyne.NewSquareSize(20)), h.mark)
	words := container.NewBorder(nil, nil, h.word, nil, tipped(text(v.sentence)))
	line := container.NewBorder(nil, nil,
		pad(0, 0, 0, 8, container.NewCenter(mark)),
		pad(0, 0, 16, 0, centred(h.button)),
		centred(words))
	h.root = container.New(sized{h: headerHeight}, newPanel(colorSurface, 0, false), pad(0, 0, margin, margin, line))
	return h
}

// show draws what has no binding: mark, tone and button.
func (h *header) show(m model.Header) {
	if h.state != m.State {
		h.state = m.State
		h.mark.SetResource(markFor(m.State))
		paint(h.word, m.State.Tone())
	}
	if h.action != m.Action {
		h.action = m.Action
		h.button.Importance = widget.HighImportance
		if m.Action == model.ActionPause { // all is well: no need to stand out
			h.button.Importance = widget.MediumImportance
		}
		dress(h.tr, h.button, m.Action)
	}
	show(h.button, m.Action != model.ActionNone)
}

// newStatusBar is the line at the foot.
func newStatusBar(v *values) fyne.CanvasObject {
	line := container.NewBorder(nil, nil, nil, small(newBoundLabel(v.version)), tipped(small(text(v.bar))))
	return container.New(sized{h: barHeight}, newPanel(colorSurface, 0, false),
		pad(0, 0, margin-labelInset, margin-labelInset, centred(line)))
}
