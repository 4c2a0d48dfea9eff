package ui

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/data/binding"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"studioworker/assets"
	"studioworker/ui/model"
)

// Distances of the window, in Fyne's units (px at scale 1).
const (
	headerHeight = 56
	barHeight    = 28
	margin       = 16 // around a page, and between its cards
	cardPadding  = 16
	labelInset   = 3 // what a label keeps around its text
)

// panel is a rounded ground in a theme colour, with or without a line around it.
type panel struct {
	widget.BaseWidget
	fill   fyne.ThemeColorName
	border bool
	radius float32
}

func newPanel(fill fyne.ThemeColorName, radius float32, border bool) *panel {
	p := &panel{fill: fill, border: border, radius: radius}
	p.ExtendBaseWidget(p)
	return p
}

// CreateRenderer implements fyne.Widget.
func (p *panel) CreateRenderer() fyne.WidgetRenderer {
	r := &panelRenderer{panel: p, rect: canvas.NewRectangle(nil)}
	r.rect.CornerRadius = p.radius
	r.paint()
	return r
}

type panelRenderer struct {
	panel *panel
	rect  *canvas.Rectangle
}

func (r *panelRenderer) paint() {
	th, v := r.panel.Theme(), fyne.CurrentApp().Settings().ThemeVariant()
	r.rect.FillColor = th.Color(r.panel.fill, v)
	if r.panel.border {
		r.rect.StrokeColor, r.rect.StrokeWidth = th.Color(theme.ColorNameSeparator, v), 1
	}
}

func (r *panelRenderer) Destroy()                     {}
func (r *panelRenderer) Layout(s fyne.Size)           { r.rect.Resize(s) }
func (r *panelRenderer) MinSize() fyne.Size           { return fyne.Size{} }
func (r *panelRenderer) Objects() []fyne.CanvasObject { return []fyne.CanvasObject{r.rect} }
func (r *panelRenderer) Refresh()                     { r.paint(); r.rect.Refresh() }

// meter is a bar that is as full as its value, 0 to 1. It never moves by itself.
type meter struct {
	widget.BaseWidget
	value float64
}

const meterHeight = 8

func newMeter() *meter {
	m := &meter{}
	m.ExtendBaseWidget(m)
	return m
}

// set shows a value.
func (m *meter) set(v float64) {
	if m.value != v {
		m.value = v
		m.Refresh()
	}
}

// bind shows the values of data from now on.
func (m *meter) bind(data binding.Float) {
	data.AddListener(binding.NewDataListener(func() {
		if v, err := data.Get(); err == nil {
			m.set(v)
		}
	}))
}

// CreateRenderer implements fyne.Widget.
func (m *meter) CreateRenderer() fyne.WidgetRenderer {
	r := &meterRenderer{meter: m, ground: canvas.NewRectangle(nil), bar: canvas.NewRectangle(nil)}
	r.ground.CornerRadius, r.bar.CornerRadius = meterHeight/2, meterHeight/2
	r.paint()
	return r
}

type meterRenderer struct {
	meter       *meter
	ground, bar *canvas.Rectangle
}

func (r *meterRenderer) paint() {
	th, v := r.meter.Theme(), fyne.CurrentApp().Settings().ThemeVariant()
	r.ground.FillColor = th.Color(theme.ColorNameSeparator, v)
	r.bar.FillColor = th.Color(theme.ColorNamePrimary, v)
}

func (r *meterRenderer) Destroy()           {}
func (r *meterRenderer) MinSize() fyne.Size { return fyne.NewSize(80, meterHeight) }
func (r *meterRenderer) Objects() []fyne.CanvasObject {
	return []fyne.CanvasObject{r.ground, r.bar}
}

func (r *meterRenderer) Layout(s fyne.Size) {
	at := fyne.NewPos(0, (s.Height-meterHeight)/2)
	r.ground.Move(at)
	r.ground.Resize(fyne.NewSize(s.Width, meterHeight))
	w := s.Width * float32(r.meter.value)
	if w > 0 { // as long as it is high, else the round ends break
		w = max(w, meterHeight)
	}
	r.bar.Move(at)
	r.bar.Resize(fyne.NewSize(w, meterHeight))
}

func (r *meterRenderer) Refresh() {
	r.paint()
	r.Layout(r.meter.Size())
	r.ground.Refresh()
	r.bar.Refresh()
}

// sized gives its content a size of its own: a fixed width or height where the
// value is above zero. It also hides how much room a text would like, so that
// words never move the frame.
type sized struct{ w, h float32 }

// MinSize implements fyne.Layout.
func (l sized) MinSize(objs []fyne.CanvasObject) fyne.Size {
	var m fyne.Size
	for _, o := range objs {
		m = m.Max(o.MinSize())
	}
	if l.w > 0 {
		m.Width = l.w
	}
	if l.h > 0 {
		m.Height = l.h
	}
	return m
}

// Layout implements fyne.Layout.
func (l sized) Layout(objs []fyne.CanvasObject, s fyne.Size) {
	for _, o := range objs {
		o.Move(fyne.Position{})
		o.Resize(s)
	}
}

// shares lays its objects side by side, each with its share of the width, all as
// high as the highest.
type shares struct {
	gap   float32
	parts []float32
}

// MinSize implements fyne.Layout.
func (l shares) MinSize(objs []fyne.CanvasObject) fyne.Size {
	var m fyne.Size
	for i, o := range objs {
		m.Height = max(m.Height, o.MinSize().Height)
		m.Width = max(m.Width, o.MinSize().Width/l.share(i))
	}
	return m.AddWidthHeight(l.gap*float32(len(objs)-1), 0)
}

// Layout implements fyne.Layout.
func (l shares) Layout(objs []fyne.CanvasObject, s fyne.Size) {
	room, x := s.Width-l.gap*float32(len(objs)-1), float32(0)
	for i, o := range objs {
		w := room * l.share(i)
		o.Move(fyne.NewPos(x, 0))
		o.Resize(fyne.NewSize(w, s.Height))
		x += w + l.gap
	}
}

func (l shares) share(i int) float32 {
	var sum float32
	for _, p := range l.parts {
		sum += p
	}
	return l.parts[i] / sum
}

// pad keeps margins around its content.
func pad(top, bottom, left, right float32, o fyne.CanvasObject) *fyne.Container {
	return container.New(layout.NewCustomPaddedLayout(top, bottom, left, right), o)
}

// stack puts its objects one below the other, gap apart.
func stack(gap float32, objs ...fyne.CanvasObject) *fyne.Container {
	return container.New(layout.NewCustomPaddedVBoxLayout(gap), objs...)
}

// row puts its objects side by side at their own width.
func row(gap float32, objs ...fyne.CanvasObject) *fyne.Container {
	return container.New(layout.NewCustomPaddedHBoxLayout(gap), objs...)
}

// line gives the middle what left and right leave. Unlike Fyne's border container
// it keeps the order in which the Tab key goes through them.
func line(left, middle, right fyne.CanvasObject) *fyne.Container {
	return container.New(layout.NewBorderLayout(nil, nil, left, right), left, middle, right)
}

// centred keeps its content's height and centres it in the row.
func centred(o fyne.CanvasObject) *fyne.Container { return container.New(middle{}, o) }

// middle gives its one object the whole width and its own height, half way down.
type middle struct{}

// MinSize implements fyne.Layout.
func (middle) MinSize(objs []fyne.CanvasObject) fyne.Size { return objs[0].MinSize() }

// Layout implements fyne.Layout.
func (middle) Layout(objs []fyne.CanvasObject, s fyne.Size) {
	h := min(objs[0].MinSize().Height, s.Height)
	objs[0].Move(fyne.NewPos(0, (s.Height-h)/2))
	objs[0].Resize(fyne.NewSize(s.Width, h))
}

// card is a titled surface. body's texts are labels, which keep
// labelInset around themselves; the card takes that into account.
func card(title string, body fyne.CanvasObject) fyne.CanvasObject {
	head := newTitle(title)
	head.SizeName = theme.SizeNameSubHeadingText
	const p = cardPadding - labelInset
	inside := container.NewBorder(head, nil, nil, nil, body)
	return container.NewStack(newPanel(colorSurface, 8, true), pad(p-4, p, p, p, inside))
}

// label is a label of the toolkit's that keeps labelInset around its text, not the
// theme's inner padding, which is for what one clicks: lines of facts stand closer
// together. It lies tucked beyond the edges of its place all around. A theme of its own
// would do the same, but the toolkit reads its fonts anew for each one.
type label struct{ widget.Label }

func newLabel(s string) *label {
	l := &label{}
	l.Text = s
	l.ExtendBaseWidget(l)
	return l
}

// newBoundLabel is a label for a value that changes.
func newBoundLabel(data binding.String) *label {
	l := newLabel("")
	l.Bind(data)
	return l
}

// newTitle is a label in bold.
func newTitle(s string) *label {
	l := newLabel(s)
	l.TextStyle.Bold = true
	return l
}

// tuck is how far a label, or a compact button, is smaller than the toolkit's, on each side.
func tuck() float32 { return theme.InnerPadding() - labelInset }

// MinSize implements fyne.CanvasObject.
func (l *label) MinSize() fyne.Size {
	return l.Label.MinSize().SubtractWidthHeight(2*tuck(), 2*tuck())
}

// Move implements fyne.CanvasObject.
func (l *label) Move(p fyne.Position) { l.Label.Move(p.SubtractXY(tuck(), tuck())) }

// Resize implements fyne.CanvasObject.
func (l *label) Resize(s fyne.Size) { l.Label.Resize(s.AddWidthHeight(2*tuck(), 2*tuck())) }

// compact makes a button fit into a line of facts.
func compact(b *widget.Button) *fyne.Container { return container.New(compacted{}, b) }

// compacted gives its one object its place, and asks for less than that would like.
type compacted struct{}

// MinSize implements fyne.Layout.
func (compacted) MinSize(objs []fyne.CanvasObject) fyne.Size {
	return objs[0].MinSize().SubtractWidthHeight(2*tuck(), 2*tuck())
}

// Layout implements fyne.Layout.
func (compacted) Layout(objs []fyne.CanvasObject, s fyne.Size) {
	objs[0].Move(fyne.Position{})
	objs[0].Resize(s)
}

// text is a label for one value that ends in an ellipsis when it is too long.
func text(data binding.String) *label {
	l := newBoundLabel(data)
	l.Truncation = fyne.TextTruncateEllipsis
	return l
}

// prose is a label that wraps.
func prose(data binding.String) *label {
	l := newBoundLabel(data)
	l.Wrapping = fyne.TextWrapWord
	return l
}

// muted makes a label's text recede.
func muted(l *label) *label {
	l.Importance = widget.LowImportance
	return l
}

// small makes a label's text secondary: 12 px, muted.
func small(l *label) *label {
	l.SizeName = theme.SizeNameCaptionText
	return muted(l)
}

// Text of fixed pitch is 13.25 px: the toolkit rounds the height of a line, and at
// 12 and 13 cuts off its lowest row, so that underscores look like blanks.
const (
	sizeMono fyne.ThemeSizeName = "mono"
	monoSize float32            = 13.25
)

// monoDrop is how much higher than a label's the baseline of text of fixed pitch
// lies.
const monoDrop = 2

// mono makes a label's text an id, of fixed pitch.
func mono(l *label) *label {
	l.SizeName = sizeMono
	l.TextStyle.Monospace = true
	return l
}

// dropped puts text of fixed pitch on one baseline with the labels beside it.
func dropped(l *label) *fyne.Container { return pad(monoDrop, 0, 0, 0, tipped(mono(l))) }

// fact is one line of a card: what, and its value. extra may be nil.
func fact(what string, value, extra fyne.CanvasObject) fyne.CanvasObject {
	name := container.New(sized{w: 108}, muted(newLabel(what)))
	return container.NewBorder(nil, nil, name, extra, value)
}

// importance gives a label the colour of a tone.
func importance(t model.Tone) widget.Importance {
	switch t {
	case model.ToneGood:
		return widget.SuccessImportance
	case model.ToneBusy:
		return widget.WarningImportance
	case model.ToneBad:
		return widget.DangerImportance
	case model.ToneMuted, model.TonePaused:
		return widget.LowImportance
	case model.ToneText:
	}
	return widget.MediumImportance
}

// paint sets a label's tone and leaves an unchanged one alone.
func paint(l *label, t model.Tone) {
	if i := importance(t); l.Importance != i {
		l.Importance = i
		l.Refresh()
	}
}

// write sets a label's text and leaves an unchanged one alone.
func write(l *label, s string) {
	if l.Text != s {
		l.SetText(s)
	}
}

// show shows or hides an object and leaves an unchanged one alone.
func show(o fyne.CanvasObject, on bool) {
	switch {
	case on && !o.Visible():
		o.Show()
	case !on && o.Visible():
		o.Hide()
	}
}

// markFor is the mark of a state, in its colour.
func markFor(s model.State) fyne.Resource {
	svg := assets.MarkDisconnected
	switch s {
	case model.StateIdle:
		svg = assets.MarkIdle
	case model.StateBusy:
		svg = assets.MarkBusy
	case model.StatePaused:
		svg = assets.MarkPaused
	case model.StateAttention:
		svg = assets.MarkAttention
	case model.StateDisconnected:
	}
	return theme.NewColoredResource(fyne.NewStaticResource("state-"+string(s)+".svg", svg), toneColor(s.Tone()))
}

// kindIcon is the glyph of a task kind.
func kindIcon(kind string) fyne.Resource {
	icon := theme.FileIcon()
	switch kind {
	case "image":
		icon = theme.MediaPhotoIcon()
	case "llm":
		icon = theme.DocumentIcon()
	case "audio_stt":
		icon = theme.MediaRecordIcon()
	case "audio_tts":
		icon = theme.VolumeUpIcon()
	case "video":
		icon = theme.MediaVideoIcon()
	}
	return theme.NewColoredResource(icon, colorMuted)
}

// entry is a text field that leaves with Escape.
type entry struct {
	widget.Entry
	onEscape func()
}

func newEntry(hint string) *entry {
	e := &entry{}
	e.ExtendBaseWidget(e)
	e.SetPlaceHolder(hint)
	e.Scroll = container.ScrollHorizontalOnly // one line; Enter submits
	return e
}

// TypedKey implements fyne.Focusable.
func (e *entry) TypedKey(k *fyne.KeyEvent) {
	if k.Name == fyne.KeyEscape && e.onEscape != nil {
		e.onEscape()
		return
	}
	e.Entry.TypedKey(k)
}
