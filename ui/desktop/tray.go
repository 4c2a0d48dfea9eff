//go:build !headless

package desktop

import (
	"context"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/systray"

	"studioworker/assets"
	"studioworker/ui"
	"studioworker/ui/model"
	"studioworker/ui/words"
)

// tray is the icon with its menu. Its methods belong to the UI goroutine.
type tray struct {
	app    desktop.App
	menu   *fyne.Menu
	ctl    ui.Controls
	open   func()
	words  *words.Printer
	state  model.State
	tip    string
	paused bool
}

// newTray puts up icon and menu, before the application runs. open shows the
// window. Nil when this build of Fyne has no tray.
func newTray(a fyne.App, c ui.Controls, tr *words.Printer, open func()) *tray {
	d, ok := a.(desktop.App)
	if !ok {
		return nil
	}
	t := &tray{app: d, menu: fyne.NewMenu(ui.AppName), ctl: c, open: open, words: tr}
	t.fill()
	d.SetSystemTrayIcon(trayIcon(model.StateDisconnected))
	d.SetSystemTrayMenu(t.menu)
	systray.SetOnTapped(func() { fyne.Do(open) }) // it calls from a goroutine of its own
	return t
}

// fill makes the menu's entries.
func (t *tray) fill() {
	pause := fyne.NewMenuItem(model.ActionPause.Label(t.words), nil)
	pause.ChildMenu = ui.PauseMenu(t.words, t.ctl)
	if t.paused {
		pause = fyne.NewMenuItem(model.ActionResume.Label(t.words), t.ctl.Resume)
	}
	quit := fyne.NewMenuItem(t.words.T("Quit"), t.ctl.Quit)
	quit.IsQuit = true // else Fyne adds a Quit of its own
	t.menu.Items = []*fyne.MenuItem{
		fyne.NewMenuItem(t.words.T("Open"), t.open), pause, fyne.NewMenuItemSeparator(),
		fyne.NewMenuItem(t.words.T("Finish, then quit"), t.ctl.FinishThenQuit), quit,
	}
}

// show changes what differs. The menu gets new ids each time it is refreshed, so
// it is left alone otherwise: one that is open would go stale.
func (t *tray) show(s model.State, paused bool, tip string, tr *words.Printer) {
	if s != t.state {
		t.state = s
		t.app.SetSystemTrayIcon(trayIcon(s))
	}
	if tip != t.tip {
		t.tip = tip
		systray.SetTooltip(ui.AppName + " · " + tip)
	}
	if paused != t.paused || tr != t.words {
		t.paused, t.words = paused, tr
		t.fill()
		t.menu.Refresh()
	}
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

// TrayShown says whether the desktop shows tray icons. An error means that there is no
// session bus.
func TrayShown(ctx context.Context) (bool, error) {
	h, err := openTrayHost()
	if err != nil {
		return false, err
	}
	shown := h.present(ctx)
	return shown, h.close()
}
