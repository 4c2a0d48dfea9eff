package ui

import (
	"image/color"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/theme"

	"studioworker/ui/model"
)

// Names of the colours that Fyne has no name for.
const (
	colorSurface fyne.ThemeColorName = "studioworkerSurface"
	colorRaised  fyne.ThemeColorName = "studioworkerRaised"
	colorPaused  fyne.ThemeColorName = "studioworkerPaused"
	colorMuted   fyne.ThemeColorName = "studioworkerMuted"
)

// palette is one variant's colours, 0xRRGGBB.
type palette struct {
	background, surface, raised, border uint32
	text, muted, accent                 uint32
	good, busy, bad, paused             uint32
	inputBorder, onAccent               uint32
	focus                               uint32 // a ring, and the ground of text
	shadow                              uint8  // how dark, of black
}

// colours gives the palette of a variant. Text reaches 4.5:1 and marks 3:1 on
// background, surface and raised; border is decoration only.
func colours(v fyne.ThemeVariant) palette {
	if v == theme.VariantLight {
		return palette{
			background: 0xF6F7F9, surface: 0xFFFFFF, raised: 0xEEF1F5, border: 0xC9D0DB,
			text: 0x1A1E26, muted: 0x545D6C, accent: 0x1B5BD0,
			good: 0x0F6E4C, busy: 0x825200, bad: 0xB3201F, paused: 0x4A5876,
			inputBorder: 0x7E8795, onAccent: 0xFFFFFF, focus: 0x5586EA, shadow: 0x1E,
		}
	}
	return palette{
		background: 0x14161A, surface: 0x1C1F26, raised: 0x262B35, border: 0x3A4150,
		text: 0xE8EAF0, muted: 0xA7AFBE, accent: 0x7AB0FF,
		good: 0x4CC79A, busy: 0xF0B84B, bad: 0xFF7B84, paused: 0x9AA7C2,
		inputBorder: 0x7B8494, onAccent: 0x14161A, focus: 0x3C6AAF, shadow: 0x66,
	}
}

// Theme is the window's look. It follows the desktop's dark or light, or keeps to
// one of them. It belongs to the UI goroutine.
type Theme struct {
	base fyne.Theme
	only string // themeDark or themeLight; empty = as the desktop
}

// What a person can choose beside the desktop's own.
const (
	themeDark  = "dark"
	themeLight = "light"
)

// NewTheme returns the theme. Set it when the application has started: set
// earlier, it stops following the desktop.
func NewTheme() *Theme { return &Theme{base: theme.DefaultTheme()} }

// Color implements fyne.Theme.
func (t *Theme) Color(name fyne.ThemeColorName, v fyne.ThemeVariant) color.Color {
	switch t.only {
	case themeDark:
		v = theme.VariantDark
	case themeLight:
		v = theme.VariantLight
	}
	p := colours(v)
	switch name {
	case theme.ColorNameBackground:
		return rgb(p.background)
	case theme.ColorNameMenuBackground, theme.ColorNameOverlayBackground, theme.ColorNameHeaderBackground,
		theme.ColorNameDisabledButton, colorSurface:
		return rgb(p.surface)
	case theme.ColorNameButton, theme.ColorNameInputBackground, colorRaised:
		return rgb(p.raised)
	case theme.ColorNameForeground:
		return rgb(p.text)
	case theme.ColorNameDisabled, theme.ColorNamePlaceHolder, colorMuted:
		return rgb(p.muted)
	case theme.ColorNamePrimary, theme.ColorNameHyperlink:
		return rgb(p.accent)
	case theme.ColorNameSuccess:
		return rgb(p.good)
	case theme.ColorNameWarning:
		return rgb(p.busy)
	case theme.ColorNameError:
		return rgb(p.bad)
	case colorPaused:
		return rgb(p.paused)
	case theme.ColorNameForegroundOnPrimary, theme.ColorNameForegroundOnError,
		theme.ColorNameForegroundOnSuccess, theme.ColorNameForegroundOnWarning:
		return rgb(p.onAccent)
	case theme.ColorNameInputBorder:
		return rgb(p.inputBorder)
	case theme.ColorNameSeparator:
		return rgb(p.border)
	case theme.ColorNameShadow: // also the line below the tabs and between split halves
		return alpha(0x000000, p.shadow)
	case theme.ColorNameHover:
		return alpha(p.text, 0x14)
	case theme.ColorNamePressed:
		return alpha(p.text, 0x28)
	case theme.ColorNameFocus:
		return rgb(p.focus)
	case theme.ColorNameSelection:
		return alpha(p.accent, 0x3C)
	case theme.ColorNameScrollBar:
		return alpha(p.muted, 0xB0)
	case theme.ColorNameScrollBarBackground:
		return alpha(p.muted, 0x20)
	}
	return t.base.Color(name, v)
}

// Size implements fyne.Theme.
func (t *Theme) Size(name fyne.ThemeSizeName) float32 {
	switch name {
	case theme.SizeNameText:
		return 14
	case sizeMono:
		return monoSize
	case theme.SizeNameCaptionText:
		return 12
	case theme.SizeNameSubHeadingText:
		return 18
	case theme.SizeNameHeadingText:
		return 24
	case theme.SizeNamePadding:
		return 4
	case theme.SizeNameInnerPadding:
		return 8
	case theme.SizeNameInputRadius, theme.SizeNameSelectionRadius:
		return 6
	case theme.SizeNameInlineIcon:
		return 18
	}
	return t.base.Size(name)
}

// Font implements fyne.Theme with the fonts that Fyne brings.
func (t *Theme) Font(s fyne.TextStyle) fyne.Resource { return t.base.Font(s) }

// Icon implements fyne.Theme with Fyne's icons.
func (t *Theme) Icon(n fyne.ThemeIconName) fyne.Resource { return t.base.Icon(n) }

// toneColor names the colour of a tone, for marks and canvas texts.
func toneColor(t model.Tone) fyne.ThemeColorName {
	switch t {
	case model.ToneGood:
		return theme.ColorNameSuccess
	case model.ToneBusy:
		return theme.ColorNameWarning
	case model.ToneBad:
		return theme.ColorNameError
	case model.TonePaused:
		return colorPaused
	case model.ToneMuted:
		return colorMuted
	case model.ToneText:
	}
	return theme.ColorNameForeground
}

func rgb(c uint32) color.NRGBA { return alpha(c, 0xFF) }

func alpha(c uint32, a uint8) color.NRGBA {
	return color.NRGBA{R: uint8(c >> 16 & 0xFF), G: uint8(c >> 8 & 0xFF), B: uint8(c & 0xFF), A: a}
}
