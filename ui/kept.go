package ui

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/dialog"
	"fyne.io/fyne/v2/widget"

	"studioworker/ui/model"
	"studioworker/ui/words"
	"studioworker/worker/observe"
)

// keptList shows the results that the studio did not take: a button with their
// number while there are some, which opens the list.
type keptList struct {
	button *widget.Button
	tr     *words.Printer
	ctl    Controls
	act    actions
	ask    asker

	list  fyne.CanvasObject
	note  *label
	box   *fyne.Container
	lines []*keptLine
	rows  []model.Kept
	popUp dialog.Dialog // nil while the list is not open
}

// keptLine is one of them.
type keptLine struct {
	root         fyne.CanvasObject
	title, facts *label
}

func newKeptList(tr *words.Printer, a actions, c Controls, ask asker) *keptList {
	k := &keptList{tr: tr, ctl: c, act: a, ask: ask, note: newErrorLabel(), box: stack(4)}
	intro := muted(newLabel(tr.T("The studio has no use for these any more. If it offers the job again, the result is sent without work.")))
	intro.Wrapping = fyne.TextWrapWord
	k.list = container.New(sized{w: 480, h: 260}, container.NewBorder(intro, k.note, nil, nil,
		container.NewVScroll(pad(0, 0, 0, 12, k.box))))
	k.button = widget.NewButton("", k.open)
	k.button.Importance = widget.WarningImportance
	k.button.Hide()
	return k
}

func (k *keptList) open() {
	d := dialog.NewCustom(k.tr.T("Results the studio did not take"), k.tr.T("Close"), k.list, k.ask.win)
	d.SetOnClosed(func() { k.popUp = nil })
	k.popUp = d
	write(k.note, "")
	d.Show()
}

func (k *keptList) show(kept []observe.KeptResult, now time.Time) {
	show(k.button, len(kept) > 0)
	if label := k.tr.T("Not taken: %d", len(kept)); k.button.Text != label {
		k.button.SetText(label)
	}
	if len(kept) == 0 && k.popUp != nil { // the last one is gone
		k.popUp.Hide()
	}
	k.rows = k.rows[:0]
	for i, r := range kept {
		k.rows = append(k.rows, model.NewKept(k.tr, r, now))
		if i == len(k.lines) {
			k.lines = append(k.lines, k.newLine(i))
			k.box.Add(k.lines[i].root)
		}
	}
	for i, l := range k.lines {
		show(l.root, i < len(k.rows))
		if i < len(k.rows) {
			write(l.title, k.rows[i].Title)
			write(l.facts, k.rows[i].Facts)
		}
	}
}

func (k *keptList) newLine(i int) *keptLine {
	l := &keptLine{title: newLabel(""), facts: small(newLabel(""))}
	l.title.Truncation, l.facts.Truncation = fyne.TextTruncateEllipsis, fyne.TextTruncateEllipsis
	saveIt := widget.NewButton(k.tr.T("Save…"), func() { k.save(k.rows[i]) })
	discard := widget.NewButton(k.tr.T("Discard"), func() { k.discard(k.rows[i]) })
	l.root = container.NewBorder(nil, nil, nil, centred(row(4, compact(saveIt), compact(discard))), stack(-2, l.title, l.facts))
	return l
}

func (k *keptList) save(r model.Kept) {
	k.ask.path(k.tr.T("Save the result as"), filepath.Join(downloads(), r.File), func(path string, done func(error)) {
		k.act.start(func(ctx context.Context) error { return k.ctl.SaveKept(ctx, r.Key, path) }, done)
	})
}

func (k *keptList) discard(r model.Kept) {
	k.ask.sure(k.tr.T("Discard the result?"), k.tr.T("The studio does not have it. Without this copy the work is lost."), k.tr.T("Discard"), func() {
		k.act.start(func(ctx context.Context) error { return k.ctl.DiscardKept(ctx, r.Key) }, func(err error) {
			if err != nil {
				write(k.note, k.tr.T("Not discarded: %s", reason(k.tr, err)))
				return
			}
			write(k.note, "")
		})
	})
}

// downloads is the folder that people look for saved files in.
func downloads() string {
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	dir := filepath.Join(home, "Downloads")
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return home
	}
	return dir
}
