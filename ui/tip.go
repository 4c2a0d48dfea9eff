package ui

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"
	tooltip "github.com/dweymouth/fyne-tooltip/widget"
)

// tip lies on a label and shows its whole text when the mouse rests on one that
// ends in an ellipsis. Clicks go through it.
type tip struct {
	tooltip.ToolTipWidget
	label *label
}

// tipped is a label with its tip.
func tipped(l *label) fyne.CanvasObject {
	t := &tip{label: l}
	t.ExtendBaseWidget(t)
	return container.NewStack(l, t)
}

// CreateRenderer implements fyne.Widget: there is nothing to see.
func (t *tip) CreateRenderer() fyne.WidgetRenderer {
	return widget.NewSimpleRenderer(container.NewWithoutLayout())
}

// MouseIn implements desktop.Hoverable.
func (t *tip) MouseIn(e *desktop.MouseEvent) {
	t.SetToolTip(t.whole())
	t.ToolTipWidget.MouseIn(e)
}

// whole is the label's text when it does not show all of it; else empty.
func (t *tip) whole() string {
	if cutOff(t.label) {
		return t.label.Text
	}
	return ""
}

// cutOff says whether a label of one line does not show all its text.
func cutOff(l *label) bool {
	if l.Truncation == fyne.TextTruncateOff {
		return false
	}
	th := l.Theme()
	size := th.Size(theme.SizeNameText)
	if l.SizeName != "" {
		size = th.Size(l.SizeName)
	}
	room := l.Size().Width - 2*th.Size(theme.SizeNameInnerPadding)
	return fyne.MeasureText(l.Text, size, l.TextStyle).Width > room
}
