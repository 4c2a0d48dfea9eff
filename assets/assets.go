// Package assets holds what the program carries inside itself: its icon, the tray
// icons, the marks of the five states, and what the window says in each language.
// The PNG files are drawn by assets/draw; the SVG files are written by hand.
package assets

import (
	"embed"
	"strings"
)

//go:generate go run ./draw
//go:generate go run ./licences

// Icon is the program's icon, a PNG of 256 px.
//
//go:embed icon.png
var Icon []byte

// The tray icons are PNG files of 64 px, each with a shape of its own as well
// as a colour, so that they can be told apart without colour.
var (
	//go:embed tray-idle.png
	TrayIdle []byte
	//go:embed tray-busy.png
	TrayBusy []byte
	//go:embed tray-paused.png
	TrayPaused []byte
	//go:embed tray-disconnected.png
	TrayDisconnected []byte
	//go:embed tray-attention.png
	TrayAttention []byte
)

// The marks of the states are SVG files in plain fills, which the window
// recolours. Their shapes are those of the tray icons.
var (
	//go:embed state-idle.svg
	MarkIdle []byte
	//go:embed state-busy.svg
	MarkBusy []byte
	//go:embed state-paused.svg
	MarkPaused []byte
	//go:embed state-disconnected.svg
	MarkDisconnected []byte
	//go:embed state-attention.svg
	MarkAttention []byte
)

// Translations holds a JSON file for each language of the window: from the
// English text to the language's, or to its forms by number. Package ui/words
// reads them.
//
//go:embed translations/*.json
var Translations embed.FS

//go:embed licences.txt
var licences string

// Licence is what a part of the program is given under.
type Licence struct {
	Name    string // of a module, or in words
	Version string // empty = that of the program
	Text    string
}

// Licences lists what is inside the program beside its own code.
func Licences() []Licence {
	var all []Licence
	for piece := range strings.SplitSeq("\n"+licences, "\n=== ") {
		head, text, ok := strings.Cut(piece, "\n")
		if !ok || head == "" {
			continue
		}
		l := Licence{Name: head, Text: strings.TrimSpace(text)}
		if name, version, ok := strings.Cut(head, " v"); ok {
			l.Name, l.Version = name, "v"+version
		}
		all = append(all, l)
	}
	return all
}
