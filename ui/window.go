package ui

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/dialog"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/lang"
	"fyne.io/fyne/v2/widget"
	tooltip "github.com/dweymouth/fyne-tooltip"
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
	pageSettings
	pageAbout
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
	prefs   Preferences
	settled bool        // a studio has let this computer in before
	around  bool        // the person looks around before one has
	form    *model.Form // lives longer than the page: a change of language keeps it

	// Built anew when the language changes.
	words  *words.Printer
	values *values

	header   *header
	tabs     *container.AppTabs
	places   [pageCount]*fyne.Container // of the pages; empty until somebody looks
	greeting *fyne.Container            // of the welcome

	// Nil until somebody looks: see open.
	status   *statusPage
	jobs     *jobsPage
	logs     *logsPage
	settings *settingsPage
	about    *aboutPage
	welcome  *welcomePage

	page    int       // to begin with
	size    fyne.Size // to begin with
	visible bool
	front   bool   // no other window is before it
	told    uint64 // number of the newest job at the start: no news
	tray    bool   // a tray icon is there to bring the window back
	closing dialog.Dialog
}

// New makes a window without content and starts nothing. onState is told the state, whether
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
		form:    model.NewForm(),
	}
	w.told = w.obs.History.Newest.Get()
	w.feed.refresh = func(ctx context.Context, p parts) { onUI(ctx, func() { w.refresh(p) }) }
	w.feed.state = func(ctx context.Context, s model.State, paused bool) { onUI(ctx, func() { w.tell(s, paused) }) }
	w.win.SetPadded(false)
	w.win.SetCloseIntercept(w.askClose)

	was, err := recall(w.path)
	if err != nil {
		w.log.Warn("window state is unusable, starting afresh", slog.Any("error", err))
	}
	w.prefs, w.settled = was.Preferences, was.Settled
	w.words, w.theme.only = wordsOf(w.prefs), w.prefs.Theme
	w.page, w.size = was.Page, fyne.NewSize(was.Width, was.Height)
	return w, nil
}

// Begin gives the application the window's look, and the window its content. The
// application must have started: with a theme of its own before, it would not follow the
// desktop's dark and light, and what is made before it has its theme is made twice.
func (w *Window) Begin() {
	w.applyTheme()
	w.build(w.page)
	w.win.Resize(w.size)
}

// wordsOf speaks the chosen language, or the desktop's.
func wordsOf(p Preferences) *words.Printer {
	if p.Language != "" {
		return words.New(p.Language)
	}
	return words.New(lang.SystemLocale().LanguageString())
}

// Preferences are the window's own settings.
func (w *Window) Preferences() Preferences { return w.prefs }

func (w *Window) applyTheme() { w.app.Settings().SetTheme(w.theme) }

// prefer takes up the window's own settings, and keeps them.
func (w *Window) prefer(p Preferences) {
	was := w.prefs
	if p == was {
		return
	}
	w.prefs = p
	w.Remember()
	w.form.Store(nil, p.values())
	if w.settings != nil {
		w.settings.refresh()
	}
	if w.jobs != nil {
		w.jobs.veil.SetChecked(p.Veil)
	}
	if p.Theme != was.Theme {
		w.theme.only = p.Theme
		w.applyTheme()
	}
	w.speak(wordsOf(p))
	w.refresh(partValues | partJobs) // what is veiled or moves less
}

// Words gives the words in use. They change with the language; then onState is
// told anew.
func (w *Window) Words() *words.Printer { return w.words }

// speak changes the language of everything that is in sight.
func (w *Window) speak(tr *words.Printer) {
	if tr.Language() == w.words.Language() {
		return
	}
	w.words = tr
	w.build(w.tabs.SelectedIndex())
	if w.state != "" { // else it was never told
		w.tell(w.state, w.paused)
	}
}

func (w *Window) tell(s model.State, paused bool) {
	w.state, w.paused = s, paused
	w.onState(s, paused, w.words)
}

// build makes the frame and a page in the language in use.
func (w *Window) build(page int) {
	tr := w.words
	w.values = newValues()
	w.header = newHeader(tr, w.values, w.act)
	w.status, w.jobs, w.logs, w.settings, w.about, w.welcome = nil, nil, nil, nil, nil, nil
	var items []*container.TabItem
	for i, title := range []string{tr.T("Status"), tr.T("Jobs"), tr.T("Logs"), tr.T("Settings"), tr.T("About")} {
		w.places[i] = container.NewStack()
		items = append(items, container.NewTabItem(title, w.places[i]))
	}
	w.tabs, w.greeting = container.NewAppTabs(items...), container.NewStack()
	w.greeting.Hide()
	w.open(page)
	w.tabs.SelectIndex(page)
	w.tabs.OnSelected = func(*container.TabItem) { w.leaf() }
	w.refresh(partValues | partJobs | partLogs) // the first frame is already true
	frame := container.NewBorder(w.header.root, newStatusBar(w.values), nil, nil,
		container.New(sized{w: minWidth, h: minHeight - headerHeight - barHeight - menuHeight - 2*borderGap}, w.tabs, w.greeting))
	tooltip.DestroyWindowToolTipLayer(w.win.Canvas()) // of the language before
	w.win.SetContent(tooltip.AddWindowToolTipLayer(frame, w.win.Canvas()))
	w.win.SetMainMenu(w.menu())
}

// leaf shows the page that the tabs stand at.
func (w *Window) leaf() {
	page := w.tabs.SelectedIndex()
	switch {
	case w.open(page):
		w.refresh(partValues | partJobs | partLogs)
	case page == pageSettings || page == pageAbout:
		w.refresh(partValues) // nothing may change for a while
	}
	w.look()
}

// open builds a page when it is not there yet, and says whether it did. The toolkit
// measures what it has, seen or not, and reads fonts for it: a start has no time for
// that, and who never looks at a page has no use for the memory.
func (w *Window) open(page int) bool {
	if len(w.places[page].Objects) > 0 {
		return false
	}
	var root fyne.CanvasObject
	switch tr := w.words; page {
	case pageStatus:
		w.status = newStatusPage(tr, w.values, statusActions{
			act:          w.act,
			askAgain:     func(done func(error)) { w.actions.start(w.ctl.ResetRegistration, done) },
			setThreshold: setThreshold(w.actions, w.ctl),
			copy:         w.copyText,
			finish:       w.askFinish,
		}, newCrashNote(tr, w.actions, w.ctl, asker{w.win, tr}))
		root = w.status.root
	case pageJobs:
		w.jobs = newJobsPage(tr, w.values, w.loader, w.actions, w.ctl, w.win, w.copyText)
		w.jobs.veil.Checked = w.prefs.Veil
		w.jobs.onVeil = func() {
			p := w.prefs
			p.Veil = w.jobs.veil.Checked
			w.prefer(p)
		}
		root = w.jobs.root
	case pageLogs:
		w.logs = newLogsPage(tr, w.obs, w.actions, w.ctl, w.win, w.copyText)
		root = w.logs.root
	case pageSettings:
		w.settings = newSettingsPage(tr, w.form, settingsActions{
			ctl: w.ctl, run: w.actions, prefs: w.Preferences, prefer: w.prefer, folder: w.chooseFolder,
			page: func() *settingsPage {
				w.open(pageSettings)
				return w.settings
			},
			ask:   func() asker { return asker{w.win, w.words} },
			reset: func(done func(error)) { w.actions.start(w.ctl.ResetRegistration, done) },
		})
		root = w.settings.root
	case pageAbout:
		w.about = newAboutPage(tr, w.actions, w.ctl, w.copyText)
		root = w.about.root
	}
	w.places[page].Add(root)
	return true
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
			item(tr.T("Settings"), fyne.Key4, w.openSettings),
			item(tr.T("About"), fyne.Key5, func() { w.tabs.SelectIndex(pageAbout) }),
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
	g.Go(func() error { return w.tellJobs(ctx) })
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
	size := w.win.Canvas().Size()
	err := remember(w.path, remembered{
		Width: max(size.Width, minWidth), Height: max(size.Height, minHeight), Page: w.tabs.SelectedIndex(), Settled: w.settled, Preferences: w.prefs,
	})
	if err != nil {
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
		st, running := model.NewStatus(w.words, s, now), model.NewRunning(w.words, s, w.prefs.Veil, now)
		if w.prefs.ReduceMotion {
			running.Fraction = math.Floor(running.Fraction*10) / 10
		}
		w.values.set(st, running)
		w.header.show(st.Header)
		if w.status != nil {
			w.status.show(st, s.Paused())
		}
		if w.jobs != nil {
			w.jobs.showValues(s, running, now)
		}
		switch w.tabs.SelectedIndex() { // the others cost nothing until one looks at them
		case pageStatus:
			jobs, _ := w.obs.History.Since(0)
			w.status.showDay(model.NewChart(w.words, jobs, s.Job.Started, now))
			w.status.showDownloads(st.Downloads)
			w.status.crash.show(w.obs.Crash.Get(), now)
		case pageSettings:
			w.settings.show(w.obs.Config.Get(), s.GPUs, s.Settings.PrivateStudio)
		case pageAbout:
			w.about.show(model.NewAbout(w.words, s, w.obs.Update.Get(), now))
		}
		w.greet(model.NewWelcome(w.words, s, now))
	}
	switch {
	case w.jobs == nil:
	case p&partJobs != 0:
		jobs, _ := w.obs.History.Since(0)
		w.jobs.showJobs(jobs, now)
	case p&partClock != 0 && w.tabs.SelectedIndex() == pageJobs:
		w.jobs.tick(now)
	}
	if w.logs == nil {
		return
	}
	w.logs.looked = w.visible && w.tabs.SelectedIndex() == pageLogs
	switch {
	case p&partLogs != 0:
		w.logs.sync()
	case p&partClock != 0 && w.tabs.SelectedIndex() == pageLogs:
		w.logs.scrolled()
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
		if w.greeting.Visible() {
			w.welcome.again.OnTapped()
			return
		}
		w.tabs.SelectIndex(pageStatus) // there stands what comes of it
		w.status.askAgain.OnTapped()
	case model.ActionNone:
	}
}

func (w *Window) copyText(s string) { w.app.Clipboard().SetContent(s) }

// greet shows the first start in place of the pages, until the studio has let this
// computer in or the person wants to see them.
func (w *Window) greet(m model.Welcome) {
	if m.Stage == model.StageDone && w.obs.Registration.Get().State == observe.RegistrationApproved && !w.settled {
		w.settled = true
		w.Remember()
	}
	first := m.Stage == model.StageChoose || m.Stage != model.StageDone && !w.settled && !w.around
	if first {
		w.openWelcome()
		w.welcome.show(m)
	}
	show(w.tabs, !first)
	show(w.greeting, first)
}

// openWelcome is open for what stands in place of the pages.
func (w *Window) openWelcome() {
	if w.welcome == nil {
		w.welcome = newWelcomePage(w.words, welcomeActions{ctl: w.ctl, run: w.actions, copyText: w.copyText, around: w.lookAround})
		w.greeting.Add(w.welcome.root)
	}
}

// lookAround shows the pages although the studio has not decided.
func (w *Window) lookAround() {
	w.around = true
	w.refresh(partValues)
}

// chooseFolder lets the person point at a folder.
func (w *Window) chooseFolder(chosen func(path string)) {
	d := dialog.NewFolderOpen(func(folder fyne.ListableURI, err error) {
		if err == nil && folder != nil { // an error was shown by the dialog; nil is Cancel
			chosen(folder.Path())
		}
	}, w.win)
	d.Resize(w.win.Canvas().Size().SubtractWidthHeight(2*margin, 2*margin))
	d.Show()
}

// newJob puts the cursor into the form, if there is one.
func (w *Window) newJob() {
	w.tabs.SelectIndex(pageJobs)
	w.jobs.form.want(true)
}

// openSettings puts the cursor into the first setting, from where Tab leads on.
func (w *Window) openSettings() {
	w.tabs.SelectIndex(pageSettings)
	if r := w.settings.rows[model.KeyStudio]; r != nil {
		w.win.Canvas().Focus(r.focus)
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
