package ui

import (
	"errors"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"studioworker/assets"
	"studioworker/ui/model"
	"studioworker/ui/words"
)

// aboutPage says what this program is, what is in it, and whether there is a
// newer one.
type aboutPage struct {
	root fyne.CanvasObject

	version, commit, config, studio *label
	update, checked, notes          *label
	bar                             *meter
	check, restart                  *widget.Button
	trouble                         *label
	licences                        *widget.List
	licence                         *label // text of the selected one
	busy                            bool   // a look was asked for here and is not over
}

func newAboutPage(tr *words.Printer, a actions, c Controls, copyText func(string)) *aboutPage {
	value := func() *label {
		l := newLabel("")
		l.Truncation = fyne.TextTruncateEllipsis
		return l
	}
	p := &aboutPage{
		version: value(), commit: value(), config: value(), studio: value(),
		update: newLabel(""), checked: muted(newLabel("")), notes: newLabel(""),
		bar:     newMeter(),
		check:   widget.NewButton(tr.T("Check now"), nil),
		restart: widget.NewButton(tr.T("Restart now"), nil),
		trouble: newErrorLabel(),
	}
	p.update.Wrapping, p.notes.Wrapping = fyne.TextWrapWord, fyne.TextWrapWord
	p.restart.Importance = widget.HighImportance
	ask := func(do action) {
		p.busy = true
		p.check.Disable()
		write(p.trouble, "")
		a.start(do.do, func(err error) {
			p.busy = false
			p.check.Enable()
			switch {
			case errors.Is(err, errors.ErrUnsupported):
				write(p.trouble, tr.T("This copy does not update itself"))
			case err != nil:
				write(p.trouble, reason(tr, err))
			}
		})
	}
	p.check.OnTapped = func() { ask(action{do: c.CheckUpdate}) }
	p.restart.OnTapped = func() { ask(action{do: c.RestartForUpdate}) }
	p.bar.Hide()

	p.restart.Hide()
	copyButton := func(l *label) fyne.CanvasObject {
		b := widget.NewButtonWithIcon(tr.T("Copy"), theme.ContentCopyIcon(), func() { copyText(l.Text) })
		b.Importance = widget.LowImportance
		return compact(b)
	}
	program := card(AppName, stack(0,
		fact(tr.T("Version"), tipped(p.version), nil),
		fact(tr.T("Commit"), dropped(p.commit), nil),
		fact(tr.T("Config"), dropped(p.config), copyButton(p.config)),
		fact(tr.T("Studio"), tipped(p.studio), nil)))
	updates := card(tr.T("Updates"), stack(4, p.update, pad(0, 0, labelInset, labelInset, p.bar), p.notes, p.checked,
		pad(4, 0, labelInset, 0, row(8, p.check, p.restart)), p.trouble))
	page := stack(margin, container.New(shares{margin, []float32{1, 1}}, program, updates), card(tr.T("Licences of what is inside"), p.newLicences(tr)))
	p.root = container.NewVScroll(pad(margin, margin, margin, margin, page))
	return p
}

// newLicences is a list of what is inside beside the text of the selected one.
func (p *aboutPage) newLicences(tr *words.Printer) fyne.CanvasObject {
	parts := assets.Licences()
	text := mono(newLabel(tr.T("What you select shows here.")))
	text.Wrapping = fyne.TextWrapWord
	text.Selectable = true
	body := container.NewVScroll(text)
	list := widget.NewList(
		func() int { return len(parts) },
		func() fyne.CanvasObject {
			name := newLabel("")
			name.Truncation = fyne.TextTruncateEllipsis
			return container.NewBorder(nil, nil, nil, small(newLabel("")), name)
		},
		func(i widget.ListItemID, o fyne.CanvasObject) {
			c, ok := o.(*fyne.Container)
			if !ok || i >= len(parts) {
				return
			}
			for _, part := range c.Objects {
				l, ok := part.(*label)
				if !ok {
					continue
				}
				if l.Importance == widget.LowImportance {
					write(l, parts[i].Version)
				} else {
					write(l, parts[i].Name)
				}
			}
		})
	list.HideSeparators = true
	list.OnSelected = func(i widget.ListItemID) {
		if i < len(parts) {
			text.SetText(strings.TrimSpace(parts[i].Text))
			body.ScrollToTop()
		}
	}
	p.licences, p.licence = list, text
	const height = 260
	return container.New(sized{h: height}, container.New(shares{8, []float32{2, 3}}, list, body))
}

// show draws the page.
func (p *aboutPage) show(m model.About) {
	write(p.version, m.Version)
	write(p.commit, m.Commit)
	write(p.config, m.Config)
	write(p.studio, m.Studio)
	paint(p.update, m.UpdateTone)
	write(p.update, m.Update)
	write(p.checked, m.Checked)
	write(p.notes, m.Notes)
	show(p.notes, m.Notes != "")
	show(p.checked, m.Checked != "")
	show(p.bar, m.Measured)
	p.bar.set(m.Fraction)
	enable(p.check, m.CanCheck && !p.busy)
	show(p.restart, m.CanRestart)
}
