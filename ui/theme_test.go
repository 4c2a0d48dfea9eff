package ui

import (
	"image/color"
	"math"
	"strings"
	"testing"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/driver/software"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"studioworker/ui/model"
)

// contrast is the ratio of WCAG 2.
func contrast(a, b color.Color) float64 {
	lum := func(c color.Color) float64 {
		r, g, b, _ := c.RGBA()
		lin := func(v uint32) float64 {
			s := float64(v) / 0xFFFF
			if s <= 0.04045 {
				return s / 12.92
			}
			return math.Pow((s+0.055)/1.055, 2.4)
		}
		return 0.2126*lin(r) + 0.7152*lin(g) + 0.0722*lin(b)
	}
	x, y := lum(a), lum(b)
	if x < y {
		x, y = y, x
	}
	return (x + 0.05) / (y + 0.05)
}

// over flattens a translucent colour on a ground.
func over(c, ground color.Color) color.Color {
	n, g := color.NRGBAModel.Convert(c).(color.NRGBA), color.NRGBAModel.Convert(ground).(color.NRGBA)
	mix := func(a, b uint8) uint8 { return uint8((int(a)*int(n.A) + int(b)*(255-int(n.A))) / 255) }
	return color.NRGBA{mix(n.R, g.R), mix(n.G, g.G), mix(n.B, g.B), 255}
}

func TestPaletteContrast(t *testing.T) {
	th := NewTheme()
	texts := []fyne.ThemeColorName{
		theme.ColorNameForeground, theme.ColorNameDisabled, theme.ColorNamePlaceHolder, colorMuted, colorPaused,
		theme.ColorNamePrimary, theme.ColorNameHyperlink, theme.ColorNameSuccess, theme.ColorNameWarning, theme.ColorNameError,
	}
	marks := []fyne.ThemeColorName{theme.ColorNameInputBorder, theme.ColorNameScrollBar}
	on := map[fyne.ThemeColorName]fyne.ThemeColorName{
		theme.ColorNameForegroundOnPrimary: theme.ColorNamePrimary, theme.ColorNameForegroundOnError: theme.ColorNameError,
		theme.ColorNameForegroundOnSuccess: theme.ColorNameSuccess, theme.ColorNameForegroundOnWarning: theme.ColorNameWarning,
	}
	for name, v := range map[string]fyne.ThemeVariant{"dark": theme.VariantDark, "light": theme.VariantLight} {
		for _, ground := range []fyne.ThemeColorName{theme.ColorNameBackground, colorSurface, colorRaised} {
			g := th.Color(ground, v)
			for _, c := range texts {
				if r := contrast(th.Color(c, v), g); r < 4.5 {
					t.Errorf("%s: text %s on %s has %.2f, want 4.5", name, c, ground, r)
				}
			}
			for _, c := range marks {
				if r := contrast(over(th.Color(c, v), g), g); r < 3 {
					t.Errorf("%s: mark %s on %s has %.2f, want 3", name, c, ground, r)
				}
			}
			// the selected row and the one below the pointer
			for _, wash := range []fyne.ThemeColorName{theme.ColorNameSelection, theme.ColorNameHover} {
				if r := contrast(th.Color(theme.ColorNameForeground, v), over(th.Color(wash, v), g)); r < 4.5 {
					t.Errorf("%s: text on %s on %s has %.2f, want 4.5", name, wash, ground, r)
				}
			}
		}
		// The ring stands on a page or a card, and is the ground of a focused choice.
		focus := th.Color(theme.ColorNameFocus, v)
		for _, ground := range []fyne.ThemeColorName{theme.ColorNameBackground, colorSurface} {
			if r := contrast(focus, th.Color(ground, v)); r < 3 {
				t.Errorf("%s: focus on %s has %.2f, want 3", name, ground, r)
			}
		}
		if r := contrast(th.Color(theme.ColorNameForeground, v), focus); r < 4.5 {
			t.Errorf("%s: text on focus has %.2f, want 4.5", name, r)
		}
		arrow, ok := th.Icon(theme.IconNameArrowDropDown).(*theme.ThemedResource)
		if !ok || arrow.ColorName != "" && arrow.ColorName != theme.ColorNameForeground {
			t.Fatalf("the arrow of a choice is no text's colour: %T", th.Icon(theme.IconNameArrowDropDown))
		}
		for _, ground := range []fyne.ThemeColorName{theme.ColorNameInputBackground, theme.ColorNameButton} {
			if r := contrast(th.Color(theme.ColorNameForeground, v), over(th.Color(ground, v), th.Color(colorSurface, v))); r < 3 {
				t.Errorf("%s: the arrow of a choice on %s has %.2f, want 3", name, ground, r)
			}
		}
		for text, ground := range on {
			if r := contrast(th.Color(text, v), th.Color(ground, v)); r < 4.5 {
				t.Errorf("%s: %s has %.2f, want 4.5", name, text, r)
			}
		}
	}
}

func TestThemeSizes(t *testing.T) {
	th := NewTheme()
	for name, want := range map[fyne.ThemeSizeName]float32{
		theme.SizeNameText: 14, theme.SizeNameCaptionText: 12, theme.SizeNameSubHeadingText: 18, theme.SizeNameHeadingText: 24,
	} {
		if got := th.Size(name); got != want {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
}

func TestLabelsStandCloserThanButtons(t *testing.T) {
	test.NewTempApp(t).Settings().SetTheme(NewTheme())
	text := fyne.MeasureText("Studio", 14, fyne.TextStyle{})
	l, around := newLabel("Studio"), float32(2*labelInset)
	if got, want := l.MinSize(), text.AddWidthHeight(around, around); got != want {
		t.Errorf("a label asks for %v, want %v", got, want)
	}
	l.Resize(fyne.NewSize(200, 30))
	l.Move(fyne.NewPos(40, 50))
	l.Wrapping = fyne.TextWrapWord
	l.SetText(strings.Repeat("Studio ", 10))
	if got := l.MinSize().Height; got < 2*text.Height || got > 4*text.Height {
		t.Errorf("ten words in a width of 200 ask for a height of %v", got)
	}
	first := l.Position().AddXY(theme.InnerPadding(), theme.InnerPadding()) // where its text begins
	if want := fyne.NewPos(40+labelInset, 50+labelInset); first != want {
		t.Errorf("its text begins at %v, want %v", first, want)
	}
	b := compact(widget.NewButton("Studio", nil))
	if got := b.MinSize().Height; got != text.Height+around {
		t.Errorf("a compact button is %v high", got)
	}
}

func TestEveryStateHasAMark(t *testing.T) {
	test.NewTempApp(t).Settings().SetTheme(NewTheme())
	seen := map[string]model.State{}
	for _, s := range []model.State{model.StateIdle, model.StateBusy, model.StatePaused, model.StateDisconnected, model.StateAttention} {
		b := string(markFor(s).Content())
		if other, dup := seen[b]; dup {
			t.Errorf("%s and %s have one mark", s, other)
		}
		seen[b] = s
	}
}

// The toolkit draws a line of text as high as its rounded height: an underscore
// must lie within, else it looks like a blank.
func TestUnderscoresShow(t *testing.T) {
	test.NewTempApp(t).Settings().SetTheme(NewTheme())
	line := canvas.NewText("_", color.White)
	line.TextSize, line.TextStyle.Monospace = monoSize, true
	img := software.Render(line, NewTheme())
	red := func(y int) int {
		r, _, _, _ := img.At(3, y).RGBA()
		return int(r >> 8)
	}
	rows := int(math.Round(float64(line.MinSize().Height)))
	most := 0
	for y := range rows {
		most = max(most, red(y)-red(0))
	}
	if most < 64 { // of 255
		t.Errorf("the brightest of %d rows is %d above the ground", rows, most)
	}
}
