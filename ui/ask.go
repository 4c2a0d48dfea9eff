package ui

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/dialog"
	"fyne.io/fyne/v2/widget"

	"studioworker/ui/words"
)

// asker asks the person something before it is done.
type asker struct {
	win fyne.Window
	tr  *words.Printer
}

// sure asks once more before something that cannot be taken back; yes names it.
func (a asker) sure(title, question, yes string, do func()) {
	words := widget.NewLabel(question)
	words.Wrapping = fyne.TextWrapWord
	d := dialog.NewCustomWithoutButtons(title, container.New(sized{w: 380}, words), a.win)
	ok := widget.NewButton(yes, func() {
		d.Hide()
		do()
	})
	ok.Importance = widget.DangerImportance
	d.SetButtons([]fyne.CanvasObject{widget.NewButton(a.tr.T("Cancel"), d.Hide), ok})
	d.Show()
}

// path asks where to write a file. save is called with the path, and says through
// done how it went: an error stays in sight until it is mended.
func (a asker) path(title, suggestion string, save func(path string, done func(error))) {
	field := newEntry("")
	field.SetText(suggestion)
	field.CursorColumn = len([]rune(suggestion))
	note := newErrorLabel()
	note.Truncation, note.Wrapping = fyne.TextTruncateOff, fyne.TextWrapWord
	content := stack(4, container.New(sized{w: 520}, field), container.New(sized{w: 520, h: 44}, note))
	d := dialog.NewCustomWithoutButtons(title, content, a.win)
	ok := widget.NewButton(a.tr.T("Save"), nil)
	ok.Importance = widget.HighImportance
	submit := func() {
		if field.Text == "" || ok.Disabled() {
			return
		}
		ok.Disable()
		save(field.Text, func(err error) {
			ok.Enable()
			if err != nil {
				note.SetText(a.tr.T("Not saved: %s", reason(a.tr, err)))
				return
			}
			d.Hide()
		})
	}
	ok.OnTapped = submit
	field.OnSubmitted = func(string) { submit() }
	field.onEscape = d.Hide
	d.SetButtons([]fyne.CanvasObject{widget.NewButton(a.tr.T("Cancel"), d.Hide), ok})
	d.Show()
	a.win.Canvas().Focus(field)
}

// askFinish asks whether the program may end after the running job; without one it
// simply quits.
func (w *Window) askFinish() {
	if w.obs.CurrentJob.Get().ID == "" {
		w.ctl.FinishThenQuit()
		return
	}
	asker{w.win, w.words}.sure(w.words.T("Quit after this job?"),
		w.words.T("No more jobs are taken. The program stops when the running one has ended."), w.words.T("Finish, then quit"), w.ctl.FinishThenQuit)
}
