//go:build !headless

// Command bare is the least window that the toolkit can show: one label. Benchmarks
// compare the real one with it.
package main

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/app"
	"fyne.io/fyne/v2/widget"
)

func main() {
	app.SetMetadata(fyne.AppMetadata{ID: "app.studioworker.bare", Name: "Bare", Migrations: map[string]bool{"fyneDo": true}})
	a := app.NewWithID("app.studioworker.bare")
	w := a.NewWindow("Bare")
	w.SetContent(widget.NewLabel("bare"))
	w.Resize(fyne.NewSize(960, 640))
	w.SetCloseIntercept(w.Hide)
	w.ShowAndRun()
}
