package ui

import (
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"studioworker/ui/model"
	"studioworker/ui/words"
)

// PauseMenu offers the pauses, for the tray and for the buttons named Pause.
func PauseMenu(tr *words.Printer, c Controls) *fyne.Menu {
	items := make([]*fyne.MenuItem, 0, len(model.Pauses()))
	for _, p := range model.Pauses() {
		items = append(items, fyne.NewMenuItem(p.Name(tr), func() { pause(c, p) }))
	}
	return fyne.NewMenu(model.ActionPause.Label(tr), items...)
}

// pause begins a pause now.
func pause(c Controls, p model.Pause) {
	if until := p.Until(time.Now()); !until.IsZero() {
		c.PauseUntil(until)
		return
	}
	c.Pause()
}

// askPause opens the menu of pauses below the button that asks for one, flush with
// its right end where it would leave the window otherwise.
func askPause(tr *words.Printer, b *widget.Button, in fyne.Canvas, c Controls) {
	menu := widget.NewPopUpMenu(PauseMenu(tr, c), in)
	at := fyne.CurrentApp().Driver().AbsolutePositionForObject(b).AddXY(0, b.Size().Height+theme.Padding())
	if at.X+menu.Size().Width > in.Size().Width {
		at.X += b.Size().Width - menu.Size().Width
	}
	menu.ShowAtPosition(at)
}

// dress makes a button say an action. The arrow tells that Pause asks back.
func dress(tr *words.Printer, b *widget.Button, a model.Action) {
	if b.Text == a.Label(tr) {
		return
	}
	b.Text, b.Icon, b.IconPlacement = a.Label(tr), nil, widget.ButtonIconLeadingText
	switch a {
	case model.ActionPause:
		b.Icon, b.IconPlacement = theme.MenuDropDownIcon(), widget.ButtonIconTrailingText
	case model.ActionResume:
		b.Icon = theme.MediaPlayIcon()
	case model.ActionAskAgain, model.ActionNone:
	}
	b.Refresh()
}
