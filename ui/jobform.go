package ui

import (
	"context"
	"slices"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"studioworker/ui/model"
	"studioworker/ui/words"
)

// noteHeight is the line that says what became of a queued job: little more than
// the margin it stands for.
const noteHeight = 22

// jobForm queues a job in the private studio.
type jobForm struct {
	root   fyne.CanvasObject
	tr     *words.Printer
	win    fyne.Window
	kind   *widget.Select
	text   *entry
	run    *widget.Button
	note   *label
	serves []string // wire kinds, in the order of kind's options
	busy   bool

	toggle  *widget.Button // opens and closes the form; hidden where there is none
	offered bool           // there is a private studio that can take jobs
	wanted  bool           // the person, or an empty history, wants to see it
}

func newJobForm(tr *words.Printer, a actions, c Controls, win fyne.Window) *jobForm {
	f := &jobForm{
		tr:   tr,
		win:  win,
		kind: widget.NewSelect(nil, nil),
		text: newEntry(""),
		run:  widget.NewButton(tr.T("Run"), nil),
		note: newErrorLabel(),

		toggle: widget.NewButton(tr.T("New job"), nil),
	}
	f.toggle.OnTapped = func() { f.want(!f.wanted) }
	f.toggle.Hide()
	f.text.onEscape = func() { f.want(false) }
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
				f.say(tr.T("Not queued: %s", reason(tr, err)), model.ToneBad)
			}
			f.enable()
		})
	}
	f.run.OnTapped = submit
	f.text.OnSubmitted = func(string) { submit() }
	fields := line(pad(0, 0, 0, 8, container.New(sized{w: 150}, f.kind)), f.text, pad(0, 0, 8, 0, f.run))
	f.note.SizeName = theme.SizeNameCaptionText
	// The note stands in the gap above what follows, so that nothing moves for it.
	f.root = stack(0, fields, container.New(sized{h: noteHeight}, f.note))
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

// want opens or closes the form.
func (f *jobForm) want(on bool) {
	f.wanted = on
	f.arrange()
	switch {
	case !f.offered:
	case on:
		f.win.Canvas().Focus(f.text)
	default:
		f.win.Canvas().Focus(f.toggle)
	}
}

func (f *jobForm) arrange() {
	show(f.toggle, f.offered)
	show(f.root, f.offered && f.wanted)
	f.toggle.Importance = widget.MediumImportance
	if f.wanted {
		f.toggle.Importance = widget.LowImportance
	}
	f.toggle.Refresh()
}

// show offers the form for the kinds served here.
func (f *jobForm) show(private bool, serves []string) {
	if offered := private && len(serves) > 0; offered != f.offered {
		f.offered = offered
		f.arrange()
	}
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
