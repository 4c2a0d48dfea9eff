package ui

import (
	"image"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/widget"
)

// viewPixels is the longer side of a picture that fills the window.
const viewPixels = 4096

// viewer shows one picture over the whole window until it is clicked, or a key is
// pressed.
type viewer struct {
	widget.BaseWidget
	picture *canvas.Image
	note    *label
	popUp   *widget.PopUp
}

// newViewer covers the window; the picture follows by show.
func newViewer(in fyne.Canvas, wait string) *viewer {
	v := &viewer{picture: &canvas.Image{FillMode: canvas.ImageFillContain}, note: newLabel(wait)}
	v.ExtendBaseWidget(v)
	v.popUp = widget.NewModalPopUp(v, in)
	v.popUp.Resize(in.Size())
	v.popUp.Show()
	in.Focus(v)
	return v
}

// open says whether it still covers the window.
func (v *viewer) open() bool { return v.popUp.Visible() }

func (v *viewer) show(img image.Image) {
	v.note.Hide()
	v.picture.Image = img
	v.picture.Refresh()
}

// fail says why there is no picture.
func (v *viewer) fail(text string) { v.note.SetText(text) }

// CreateRenderer implements fyne.Widget.
func (v *viewer) CreateRenderer() fyne.WidgetRenderer {
	return widget.NewSimpleRenderer(container.NewStack(newPanel(colorSurface, 0, false), container.NewCenter(v.note), v.picture))
}

// Tapped implements fyne.Tappable.
func (v *viewer) Tapped(*fyne.PointEvent) { v.popUp.Hide() }

// TypedKey implements fyne.Focusable.
func (v *viewer) TypedKey(*fyne.KeyEvent) { v.popUp.Hide() }

// TypedRune implements fyne.Focusable.
func (v *viewer) TypedRune(rune) {}

// FocusGained implements fyne.Focusable.
func (v *viewer) FocusGained() {}

// FocusLost implements fyne.Focusable.
func (v *viewer) FocusLost() {}

// pictureButton is a picture that one can click.
type pictureButton struct {
	widget.BaseWidget
	image    *canvas.Image
	onTapped func() // nil: nothing to open
}

func newPictureButton() *pictureButton {
	p := &pictureButton{image: &canvas.Image{FillMode: canvas.ImageFillContain}}
	p.ExtendBaseWidget(p)
	return p
}

// CreateRenderer implements fyne.Widget.
func (p *pictureButton) CreateRenderer() fyne.WidgetRenderer {
	return widget.NewSimpleRenderer(p.image)
}

// Tapped implements fyne.Tappable.
func (p *pictureButton) Tapped(*fyne.PointEvent) {
	if p.onTapped != nil {
		p.onTapped()
	}
}

// Cursor implements desktop.Cursorable.
func (p *pictureButton) Cursor() desktop.Cursor {
	if p.onTapped != nil {
		return desktop.PointerCursor
	}
	return desktop.DefaultCursor
}

func (p *pictureButton) set(img image.Image) {
	if p.image.Image != img {
		p.image.Image = img
		p.image.Refresh()
	}
}
