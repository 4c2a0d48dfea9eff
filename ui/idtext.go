package ui

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/data/binding"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/theme"
	tooltip "github.com/dweymouth/fyne-tooltip/widget"
)

// idText is one line of fixed pitch, for an id, on one baseline with the labels beside
// it; one that is too long ends in an ellipsis and shows as a whole when the mouse rests
// on it. A label of that style would do the same, but the toolkit reads the font of emoji
// and one of the system's once more for each style of a label: 8 MB that the first page
// can do without.
type idText struct {
	tooltip.ToolTipWidget
	text string
	cut  bool // not all of it is seen
}

func newIDText() *idText {
	t := &idText{}
	t.ExtendBaseWidget(t)
	return t
}

// boundID follows a value.
func boundID(data binding.String) *idText {
	t := newIDText()
	data.AddListener(binding.NewDataListener(func() {
		if s, err := data.Get(); err == nil {
			t.set(s)
		}
	}))
	return t
}

func (t *idText) set(s string) {
	if t.text != s {
		t.text = s
		t.Refresh()
	}
}

// MouseIn implements desktop.Hoverable.
func (t *idText) MouseIn(e *desktop.MouseEvent) {
	t.SetToolTip("")
	if t.cut {
		t.SetToolTip(t.text)
	}
	t.ToolTipWidget.MouseIn(e)
}

// CreateRenderer implements fyne.Widget.
func (t *idText) CreateRenderer() fyne.WidgetRenderer {
	r := &idRenderer{id: t, text: canvas.NewText("", nil)}
	r.text.FontSource, r.text.TextSize = theme.DefaultTextMonospaceFont(), monoSize
	r.paint()
	return r
}

type idRenderer struct {
	id   *idText
	text *canvas.Text
}

func (r *idRenderer) Destroy()                     {}
func (r *idRenderer) Objects() []fyne.CanvasObject { return []fyne.CanvasObject{r.text} }

// char is the width of one character, and baselines are those of its line and of a label's.
func (r *idRenderer) char() (width, baseline, ofLabel float32) {
	driver := fyne.CurrentApp().Driver()
	size, baseline := driver.RenderedTextSize("0", monoSize, fyne.TextStyle{}, r.text.FontSource)
	_, ofLabel = driver.RenderedTextSize("0", r.id.Theme().Size(theme.SizeNameText), fyne.TextStyle{}, nil)
	return size.Width, baseline, ofLabel
}

// MinSize implements fyne.WidgetRenderer: as high as a label.
func (r *idRenderer) MinSize() fyne.Size {
	like := fyne.MeasureText("0", r.id.Theme().Size(theme.SizeNameText), fyne.TextStyle{})
	return fyne.NewSize(like.Height, like.Height).AddWidthHeight(0, 2*labelInset)
}

// Layout implements fyne.WidgetRenderer.
func (r *idRenderer) Layout(s fyne.Size) {
	width, baseline, ofLabel := r.char()
	shown := cut(r.id.text, int((s.Width-2*labelInset)/width))
	r.id.cut = shown != r.id.text
	if r.text.Text != shown {
		r.text.Text = shown
		r.text.Refresh()
	}
	r.text.Move(fyne.NewPos(labelInset, labelInset+ofLabel-baseline))
	r.text.Resize(r.text.MinSize())
}

// Refresh implements fyne.WidgetRenderer.
func (r *idRenderer) Refresh() {
	r.paint()
	r.Layout(r.id.Size())
	r.text.Refresh()
}

func (r *idRenderer) paint() {
	r.text.Color = r.id.Theme().Color(theme.ColorNameForeground, fyne.CurrentApp().Settings().ThemeVariant())
}
