//go:build !headless

package desktop

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/systray"

	"studioworker/assets"
	"studioworker/ui"
	"studioworker/ui/model"
)

// tray is the icon with its menu. Its methods belong to the UI goroutine.
type tray struct {
	app    desktop.App
	menu   *fyne.Menu
	pause  *fyne.MenuItem
	pauses *fyne.Menu // below pause, while the worker is not paused
	resume func()

	state  model.State
	paused bool
}

// newTray puts up icon and menu, before the application runs. open shows the
// window. Nil when this build of Fyne has no tray.
func newTray(a fyne.App, c ui.Controls, open func()) *tray {
	d, ok := a.(desktop.App)
	if !ok {
		return nil
	}
	t := &tray{app: d, pauses: ui.PauseMenu(c), resume: c.Resume}
	t.pause = fyne.NewMenuItem("Pause", nil)
	t.pause.ChildMenu = t.pauses
	quit := fyne.NewMenuItem("Quit", c.Quit)
	quit.IsQuit = true // else Fyne adds a Quit of its own
	t.menu = fyne.NewMenu(ui.AppName, fyne.NewMenuItem("Open", open), t.pause, fyne.NewMenuItemSeparator(), quit)
	d.SetSystemTrayIcon(trayIcon(model.StateDisconnected))
	d.SetSystemTrayMenu(t.menu)
	systray.SetOnTapped(func() { fyne.Do(open) }) // it calls from a goroutine of its own
	return t
}

// show changes what differs. The menu gets new ids each time it is refreshed, so
// it is left alone otherwise: one that is open would go stale.
func (t *tray) show(s model.State, paused bool) {
	if s != t.state {
		t.state = s
		t.app.SetSystemTrayIcon(trayIcon(s))
		systray.SetTooltip(ui.AppName + ": " + tooltip(s))
	}
	if paused != t.paused {
		t.paused = paused
		t.pause.Label, t.pause.Action, t.pause.ChildMenu = "Pause", nil, t.pauses
		if paused {
			t.pause.Label, t.pause.Action, t.pause.ChildMenu = "Resume", t.resume, nil
		}
		t.menu.Refresh()
	}
}

func tooltip(s model.State) string {
	switch s {
	case model.StateIdle:
		return "ready for jobs"
	case model.StateBusy:
		return "working"
	case model.StatePaused:
		return "paused"
	case model.StateAttention:
		return "needs you"
	case model.StateDisconnected:
	}
	return "not connected"
}

// trayIcon is a PNG: on Linux and Windows nothing else works everywhere.
func trayIcon(s model.State) fyne.Resource {
	icon := assets.TrayDisconnected
	switch s {
	case model.StateIdle:
		icon = assets.TrayIdle
	case model.StateBusy:
		icon = assets.TrayBusy
	case model.StatePaused:
		icon = assets.TrayPaused
	case model.StateAttention:
		icon = assets.TrayAttention
	case model.StateDisconnected:
	}
	return fyne.NewStaticResource("tray-"+string(s)+".png", icon)
}
