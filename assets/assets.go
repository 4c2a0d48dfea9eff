// Package assets holds the pictures that the program carries inside itself: the
// program's icon, the tray icons and the marks of the five states. The PNG files
// are drawn by assets/draw; the SVG files are written by hand.
package assets

import _ "embed"

//go:generate go run ./draw

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
