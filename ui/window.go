package ui

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/dialog"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/lang"
	"fyne.io/fyne/v2/widget"
	"golang.org/x/sync/errgroup"

	"studioworker/ui/model"
	"studioworker/ui/words"
	"studioworker/worker/observe"
)

// The pages, in the order of the tabs.
const (
	pageStatus = iota
	pageJobs
	pageLogs
	pageCount
)

// Window is the program's window. All its methods but Run belong to the UI
// goroutine.
type Window struct {
	app  fyne.App
	win  fyne.Window
	obs  *observe.WorkerObservers
	ctl  Controls
	log  *slog.Logger
	path string
	wish <-chan struct{}

	feed    *feed
	actions actions
	loader  *loader
	onState func(model.State, bool, *words.Printer)
	state   model.State // as onState was last told
	paused  bool
	theme   *Theme

	// Built anew when the language changes.
	words  *words.Printer
	values *values

	header  *header
	tabs    *container.AppTabs
	status  *statusPage
	jobs    *jobsPage
	logs    *logsPage
	welcome *welcomePage

	visible bool
	veil    bool // hide what the jobs are about
	tray    bool // a tray icon is there to bring the window back
	closing dialog.Dialog
}

// New builds the window and starts nothing. onState is told the state, whether
// the person has paused, and the words to say it with, on the UI goroutine
// whenever one of them changes, also while the window is hidden; the tray lives
// on it.
func New(a fyne.App, cfg Config, onState func(s model.State, paused bool, tr *words.Printer)) (*Window, error) {
	if cfg.Observers == nil || cfg.Controls == nil || cfg.Log == nil || onState == nil {
		return nil, errors.New("build window: observers, controls, a logger and a listener are needed")
	}
	w := &Window{
		app:     a,
		win:     a.NewWindow(AppName),
		obs:     cfg.Observers,
		ctl:     cfg.Controls,
		log:     cfg.Log,
		path:    cfg.StatePath,
		wish:    cfg.Show,
		feed:    newFeed(cfg.Observers),
		actions: make(actions, actionRoom),
		loader:  newLoader(),
		onState: onState,
		theme:   NewTheme(),
		words:   systemWords(),
	}
	w.feed.refresh = func(ctx context.Context, p parts) { onUI(ctx, func() { w.refresh(p) }) }
	w.feed.state = func(ctx context.Context, s model.State, paused bool) { onUI(ctx, func() { w.tell(s, paused) }) }
	w.win.SetPadded(false)
	w.win.SetCloseIntercept(w.askClose)

	was, err := recall(w.path)
	if err != nil {
		w.log.Warn("window state is unusable, starting afresh", slog.Any("error", err))
	}
	w.veil = was.Veil
	w.build()
	w.win.Resize(fyne.NewSize(was.Width, was.Height))
	w.tabs.SelectIndex(was.Page)
	return w, nil
}

// systemWords speaks the desktop's language.
func systemWords() *words.Printer { return words.New(lang.SystemLocale().LanguageString()) }

// Words gives the words in use. They change with the language; then onState is
// told anew.
func (w *Window) Words() *words.Printer { return w.words }

// speak changes the language of everything that is in sight.
func (w *Window) speak(tr *words.Printer) {
	if tr.Language() == w.words.Language() {
		return
	}
	page := w.tabs.SelectedIndex()
	w.words = tr
	w.build()
	w.tabs.SelectIndex(page)
	if w.state != "" { // else it was never told
		w.tell(w.state, w.paused)
	}
}

func (w *Window) tell(s model.State, paused bool) {
	w.state, w.paused = s, paused
	w.onState(s, paused, w.words)
}

// build makes everything that is in the window, in the language in use.
func (w *Window) build() {
	tr, th := w.words, w.theme
	w.values = newValues()
	w.header = newHeader(tr, w.values, th, w.act)
	w.status = newStatusPage(tr, w.values, th, statusActions{
		act:          w.act,
		askAgain:     func(done func(error)) { w.actions.start(w.ctl.ResetRegistration, done) },
		setThreshold: setThreshold(w.actions, w.ctl),
		copy:         w.copyText,
	})
	w.jobs = newJobsPage(tr, w.values, th, w.loader, w.actions, w.ctl, w.win, w.copyText)
	w.jobs.veil.Checked = w.veil
	w.jobs.onVeil = func() {
		w.veil = w.jobs.veil.Checked
		w.refresh(partValues)
	}
	w.logs = newLogsPage(tr, th, w.obs.Logs, w.copyText)
	w.welcome = newWelcomePage(tr, th, w.actions, w.ctl)
	w.tabs = container.NewAppTabs(
		container.NewTabItem(tr.T("Status"), w.status.root),
		container.NewTabItem(tr.T("Jobs"), w.jobs.root),
		container.NewTabItem(tr.T("Logs"), w.logs.root))
	frame := container.NewBorder(w.header.root, newStatusBar(w.values, th), nil, nil,
		container.New(sized{w: minWidth, h: minHeight - headerHeight - barHeight - menuHeight - 2*borderGap}, w.tabs, w.welcome.root))
	w.win.SetContent(frame)
	w.win.SetMainMenu(w.menu())
	w.tabs.OnSelected = func(*container.TabItem) { w.look() }
	w.refresh(partValues | partJobs | partLogs) // the first frame is already true
}

// What Fyne takes of the window's height: its menu bar, and what it puts between
// the parts of the frame.
const (
	menuHeight = 30
	borderGap  = 4
)

// menu is the menu bar. Its shortcuts work wherever the focus is; a canvas
// shortcut would be dead while a text field has it.
func (w *Window) menu() *fyne.MainMenu {
	item := func(label string, key fyne.KeyName, do func()) *fyne.MenuItem {
		i := fyne.NewMenuItem(label, do)
		i.Shortcut = &desktop.CustomShortcut{KeyName: key, Modifier: fyne.KeyModifierShortcutDefault}
		return i
	}
	tr := w.words
	quit := item(tr.T("Quit"), fyne.KeyQ, w.ctl.Quit)
	quit.IsQuit = true
	return fyne.NewMainMenu(
		fyne.NewMenu(tr.T("Worker"),
			item(tr.T("Pause or resume"), fyne.KeyP, w.togglePause),
			fyne.NewMenuItem(model.PauseHour.Label(tr), func() { pause(w.ctl, model.PauseHour) }),
			fyne.NewMenuItem(model.PauseTomorrow.Label(tr), func() { pause(w.ctl, model.PauseTomorrow) }),
			fyne.NewMenuItemSeparator(),
			item(tr.T("New job"), fyne.KeyN, w.newJob),
			fyne.NewMenuItemSeparator(),
			quit),
		fyne.NewMenu(tr.T("View"),
			item(tr.T("Status"), fyne.Key1, func() { w.tabs.SelectIndex(pageStatus) }),
			item(tr.T("Jobs"), fyne.Key2, func() { w.tabs.SelectIndex(pageJobs) }),
			item(tr.T("Logs"), fyne.Key3, func() { w.tabs.SelectIndex(pageLogs) }),
			fyne.NewMenuItemSeparator(),
			item(tr.T("Find in logs"), fyne.KeyF, w.find)))
}

// Run keeps the window true to the slots until ctx ends; then it waits for what
// it started. It needs a running UI loop only while ctx lives.
func (w *Window) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.feed.Run(ctx) })
	g.Go(func() error { return w.loader.Run(ctx) })
	g.Go(func() error { return w.actions.Run(ctx) })
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case _, ok := <-w.wish:
				if !ok { // nobody will ask any more
					return nil
				}
				onUI(ctx, w.Show)
			}
		}
	})
	return g.Wait()
}

// Show brings the window to the front and its content up to date.
func (w *Window) Show() {
	w.win.Show()
	w.win.RequestFocus()
	w.visible = true
	w.look()
}

// Hide takes the window off the screen; the program goes on.
func (w *Window) Hide() {
	w.Remember()
	w.visible = false
	w.look()
	w.win.Hide()
}

// Remember saves size and page for the next start.
func (w *Window) Remember() {
	if err := remember(w.path, w.win.Canvas().Size(), w.tabs.SelectedIndex(), w.veil); err != nil {
		w.log.Warn("window state was not saved", slog.Any("error", err))
	}
}

// SetTray says whether a tray icon is there. When it goes while the window is
// hidden, the window comes back: nothing else could bring it.
func (w *Window) SetTray(present bool) {
	gone := w.tray && !present
	w.tray = present
	if gone && !w.visible {
		w.Show()
	}
}

// togglePause is the menu's Pause or Resume.
func (w *Window) togglePause() {
	if w.obs.Availability.Get().Block == observe.BlockPaused {
		w.ctl.Resume()
		return
	}
	w.ctl.Pause()
}

// look tells the feed what can be seen now.
func (w *Window) look() {
	if !w.visible {
		w.feed.want(0)
		return
	}
	seen := partValues | partClock
	switch w.tabs.SelectedIndex() {
	case pageJobs:
		seen |= partJobs
	case pageLogs:
		seen |= partLogs
	}
	w.feed.want(seen)
}

// refresh draws parts from the slots.
func (w *Window) refresh(p parts) {
	now := time.Now()
	if p&(partValues|partClock) != 0 {
		s := model.Take(w.obs)
		st, running := model.NewStatus(w.words, s, now), model.NewRunning(w.words, s, w.veil, now)
		w.values.set(st, running)
		w.header.show(st.Header)
		w.status.show(st, s.Paused())
		w.jobs.showValues(s, running, now)
		show(w.tabs, s.Settings.StudioURL != "")
		show(w.welcome.root, s.Settings.StudioURL == "")
	}
	switch {
	case p&partJobs != 0:
		jobs, _ := w.obs.History.Since(0)
		w.jobs.showJobs(jobs, now)
	case p&partClock != 0 && w.tabs.SelectedIndex() == pageJobs:
		w.jobs.tick(now)
	}
	if p&partLogs != 0 {
		w.logs.sync()
	}
}

// act does what a button says; Pause asks there for how long.
func (w *Window) act(a model.Action, button *widget.Button) {
	switch a {
	case model.ActionPause:
		askPause(w.words, button, w.win.Canvas(), w.ctl)
	case model.ActionResume:
		w.ctl.Resume()
	case model.ActionAskAgain:
		w.tabs.SelectIndex(pageStatus) // there stands what comes of it
		w.status.askAgain.OnTapped()
	case model.ActionNone:
	}
}

func (w *Window) copyText(s string) { w.app.Clipboard().SetContent(s) }

// newJob puts the cursor into the form, if there is one.
func (w *Window) newJob() {
	w.tabs.SelectIndex(pageJobs)
	if w.jobs.form.root.Visible() {
		w.win.Canvas().Focus(w.jobs.form.text)
	}
}

// find puts the cursor into the search field of the logs.
func (w *Window) find() {
	w.tabs.SelectIndex(pageLogs)
	w.win.Canvas().Focus(w.logs.search)
}

// askClose is what the window's close button does. Only with a tray icon does
// it hide without a word, because only then is there a way back in sight.
func (w *Window) askClose() {
	if w.tray {
		w.Hide()
		return
	}
	if w.closing != nil { // asked already
		return
	}
	tr := w.words
	text := widget.NewLabel(tr.T("There is no tray here to keep the program in.\n\n" +
		"Keep running: the window closes and jobs go on.\nStart the program again to see the window.\n\n" +
		"Quit: the program stops."))
	d := dialog.NewCustomWithoutButtons(tr.T("Close Studio Worker?"), text, w.win)
	answer := func(then func()) func() {
		return func() {
			d.Hide()
			then()
		}
	}
	stop := widget.NewButton(tr.T("Quit"), answer(w.ctl.Quit))
	stop.Importance = widget.DangerImportance
	keep := widget.NewButton(tr.T("Keep running"), answer(w.Hide))
	keep.Importance = widget.HighImportance
	d.SetButtons([]fyne.CanvasObject{widget.NewButton(tr.T("Cancel"), d.Hide), stop, keep})
	d.SetOnClosed(func() { w.closing = nil })
	w.closing = d
	d.Show()
}
