package ui

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/widget"

	"studioworker/ui/model"
	"studioworker/ui/words"
	"studioworker/worker/observe"
)

// configured adds the settings that a worker publishes.
func configured(o *observe.WorkerObservers) {
	joined(o)
	o.Settings.Update(func(s observe.Settings) observe.Settings {
		s.StudioURL, s.PrivateStudio = "https://studio.example.org", false
		return s
	})
	o.Config.Set([]observe.ConfigKey{
		{Name: model.KeyStudio, Kind: "text", Value: "https://studio.example.org"},
		{Name: model.KeyThreshold, Kind: "number", Unit: "GiB", Max: 4096, Value: "10"},
		{Name: "start_minimised", Kind: "true or false", Value: "true"},
		{Name: "only_when_idle", Kind: "true or false", Value: "false"},
		{Name: "auto_update_interval_secs", Kind: "whole number", Unit: "s", Min: 60, Max: 1000, Value: "600"},
		{Name: model.KeyModels, Kind: "path", Value: "/models"},
		{Name: "drain_secs", Kind: "whole number", Max: 86400},
		{Name: model.KeyPrompts, Kind: "true or false", Value: "true"},
		{Name: model.KeyHours, Kind: "list of texts", Value: "mon-fri 18:00-08:00"},
		{Name: "pause_on_battery", Kind: "true or false", Value: "false"},
		{Name: "ca_file", Kind: "path", Restart: true},
		{Name: "of_tomorrow", Kind: "true or false", Meaning: "a key that the page does not know", Value: "true"},
	})
}

// openSettings shows the page of settings of a fresh window.
func openSettings(t *testing.T) (*Window, *fakeControls, *settingsPage) {
	t.Helper()
	w, c := newTestWindow(t, configured)
	w.tabs.SelectIndex(pageSettings)
	drainActions(t, w)
	c.take()
	return w, c, w.settings
}

// drainActions does what was put off, until nothing is left.
func drainActions(t *testing.T, w *Window) {
	t.Helper()
	for len(w.actions) > 0 {
		work(t, w)
	}
}

func (p *settingsPage) entryOf(t *testing.T, key string) *entry {
	t.Helper()
	e, ok := p.rows[key].focus.(*entry)
	if !ok {
		t.Fatalf("%s has no field", key)
	}
	return e
}

func (p *settingsPage) checkOf(t *testing.T, key string) *widget.Check {
	t.Helper()
	c, ok := p.rows[key].focus.(*widget.Check)
	if !ok {
		t.Fatalf("%s has no switch", key)
	}
	return c
}

func TestSettingsShowEveryKey(t *testing.T) {
	w, _, p := openSettings(t)
	for _, k := range w.obs.Config.Get() {
		if p.rows[k.Name] == nil {
			t.Errorf("%s is not on the page", k.Name)
		}
	}
	if !p.save.Disabled() || !p.undo.Disabled() || p.foot.Text != "" {
		t.Errorf("an unchanged page can be saved: %q", p.foot.Text)
	}
	if p.entryOf(t, model.KeyThreshold).Text != "10" || !p.checkOf(t, "of_tomorrow").Checked || p.checkOf(t, "only_when_idle").Checked {
		t.Error("the page does not show what is in force")
	}
	if got := p.rows["of_tomorrow"].note.Text; got != "a key that the page does not know" {
		t.Errorf("help = %q", got)
	}
	if got := p.rows[model.KeyModels].note.Text; !strings.Contains(got, "268 GB free") {
		t.Errorf("room = %q", got)
	}
	if got := p.rows["ca_file"].note.Text; !strings.Contains(got, "next start") {
		t.Errorf("a key for the next start says %q", got)
	}
}

func TestSettingsSaveAndUndo(t *testing.T) {
	w, c, p := openSettings(t)
	field := p.entryOf(t, model.KeyThreshold)
	field.SetText("nine")
	if !p.save.Disabled() || p.rows[model.KeyThreshold].note.Importance != widget.DangerImportance || !strings.HasPrefix(p.foot.Text, "Not valid yet: write a number") {
		t.Errorf("a word is taken for a number: %q", p.foot.Text)
	}
	field.SetText("9,5")
	p.checkOf(t, "only_when_idle").SetChecked(true)
	if p.save.Disabled() || p.foot.Text != "2 changes are not saved" {
		t.Errorf("says %q", p.foot.Text)
	}
	w.obs.Config.Update(func(keys []observe.ConfigKey) []observe.ConfigKey { // changed elsewhere meanwhile
		keys = slices.Clone(keys)
		keys[1].Value, keys[4].Value = "8", "700"
		return keys
	})
	w.refresh(partValues)
	if field.Text != "9,5" || p.entryOf(t, "auto_update_interval_secs").Text != "700" {
		t.Errorf("what is typed became %q, what is not %q", field.Text, p.entryOf(t, "auto_update_interval_secs").Text)
	}
	c.err = errTest
	test.Tap(p.save)
	if !field.Disabled() || !p.save.Disabled() {
		t.Error("a second save is possible while one is under way")
	}
	drainActions(t, w)
	if p.foot.Text != "Not saved: "+errTest.Error() || field.Disabled() || p.save.Disabled() || field.Text != "9,5" {
		t.Errorf("after an error: %q", p.foot.Text)
	}
	c.err = nil
	c.take()
	field.OnSubmitted("")
	drainActions(t, w)
	if got := c.take(); !slices.Equal(got, []string{"apply map[only_when_idle:true vram_threshold_gb:9.5]"}) || p.foot.Text != "Saved" || !p.save.Disabled() || p.undo.Disabled() {
		t.Errorf("calls = %v, says %q", got, p.foot.Text)
	}
	test.Tap(p.undo)
	drainActions(t, w)
	if got := c.take(); !slices.Equal(got, []string{"apply map[only_when_idle:false vram_threshold_gb:8]"}) || field.Text != "8" || !p.undo.Disabled() {
		t.Errorf("calls = %v, field %q", got, field.Text)
	}
	field.SetText("7")
	test.Tap(p.undo) // what is not saved goes first
	if field.Text != "8" || len(c.take()) != 0 {
		t.Errorf("field %q", field.Text)
	}
	field.SetText("6")
	field.TypedKey(&fyne.KeyEvent{Name: fyne.KeyEscape})
	if field.Text != "8" || !p.save.Disabled() {
		t.Errorf("Escape leaves %q", field.Text)
	}
}

// TestSettingsStudio: a wrong address saves nothing at all; the private studio is
// begun anew when one goes back to it.
func TestSettingsStudio(t *testing.T) {
	w, c, p := openSettings(t)
	address := p.entryOf(t, model.KeyStudio)
	address.SetText("ftp://h")
	if !p.save.Disabled() {
		t.Error("an address of another kind can be saved")
	}
	address.SetText("other.example.org")
	p.checkOf(t, "pause_on_battery").SetChecked(true)
	c.err = &observe.StudioError{Problem: observe.StudioNoStudio, Address: "other.example.org"}
	test.Tap(p.save)
	drainActions(t, w)
	if got := c.take(); !slices.Equal(got, []string{"join other.example.org"}) || !strings.Contains(p.foot.Text, "it is not a studio") {
		t.Errorf("calls = %v, says %q", got, p.foot.Text)
	}
	c.err = nil
	test.Tap(p.save)
	drainActions(t, w)
	if got := c.take(); !slices.Equal(got, []string{"join other.example.org", "apply map[pause_on_battery:true]"}) {
		t.Errorf("calls = %v", got)
	}
	tapNamed(t, p.cards, "Use a private studio here")
	drainActions(t, w)
	w.obs.Config.Update(func(keys []observe.ConfigKey) []observe.ConfigKey {
		keys = slices.Clone(keys)
		keys[0].Value = "http://127.0.0.1:9790"
		return keys
	})
	w.obs.Settings.Update(func(s observe.Settings) observe.Settings { s.PrivateStudio = true; return s })
	w.refresh(partValues)
	if got := p.rows[model.KeyStudio].note.Text; !strings.Contains(got, "private studio") {
		t.Errorf("help = %q", got)
	}
	address.SetText("other.example.org")
	test.Tap(p.save)
	drainActions(t, w)
	test.Tap(p.undo)
	drainActions(t, w)
	if got := c.take(); !slices.Equal(got, []string{"try", "join other.example.org", "try"}) {
		t.Errorf("calls = %v", got)
	}
	c.err = errTest
	tapNamed(t, p.cards, "Register anew")
	drainActions(t, w)
	if got := c.take(); !slices.Equal(got, []string{"reset"}) {
		t.Errorf("calls = %v", got)
	}
}

// TestSettingsOfTheWindow: language and colours change at once with the save, and
// are there again at the next start.
func TestSettingsOfTheWindow(t *testing.T) {
	w, c, p := openSettings(t)
	p.checkOf(t, model.KeyLogin).SetChecked(true)
	p.checkOf(t, model.KeyVeil).SetChecked(true)
	for key, name := range map[string]string{model.KeyLanguage: "Deutsch", model.KeyTheme: "Light"} {
		choice, ok := p.rows[key].focus.(*widget.Select)
		if !ok {
			t.Fatalf("%s is no choice", key)
		}
		choice.SetSelected(name)
	}
	test.Tap(p.save)
	drainActions(t, w)
	if got := c.take(); !slices.Equal(got, []string{"login true"}) {
		t.Errorf("calls = %v", got)
	}
	want := Preferences{Language: words.German, Theme: themeLight, Veil: true, NotifyDone: true, NotifyFailed: true}
	if w.Preferences() != want || w.theme.only != themeLight || w.header.word.Text != "Bereit" || w.tabs.SelectedIndex() != pageSettings {
		t.Errorf("preferences %+v, header %q, page %d", w.Preferences(), w.header.word.Text, w.tabs.SelectedIndex())
	}
	if w.settings == p || w.settings.foot.Text != "Gespeichert" {
		t.Errorf("the new page says %q", w.settings.foot.Text)
	}
	if was, err := recall(w.path); err != nil || was.Preferences != want {
		t.Errorf("kept %+v, %v", was.Preferences, err)
	}
	test.Tap(w.settings.undo)
	drainActions(t, w)
	if w.Words().Language() != words.English || w.Preferences().Veil {
		t.Errorf("after Undo: %+v", w.Preferences())
	}
}

func TestSettingsWithoutALogin(t *testing.T) {
	w, c, _ := openSettings(t)
	c.loginErr = errors.ErrUnsupported
	w.build(pageSettings)
	if w.settings.rows[model.KeyVeil] == nil || w.settings.rows[model.KeyLogin] != nil {
		t.Error("a start at login is offered where there is none")
	}
}

func TestSliderAndFieldAgree(t *testing.T) {
	w, _, p := openSettings(t)
	var slider *widget.Slider
	for _, o := range test.LaidOutObjects(p.rows[model.KeyThreshold].root) {
		if s, ok := o.(*widget.Slider); ok {
			slider = s
		}
	}
	if slider == nil || slider.Max != 10 || slider.Value != 10 {
		t.Fatalf("slider %+v", slider)
	}
	slider.SetValue(6.5)
	if got := p.entryOf(t, model.KeyThreshold).Text; got != "6.5" {
		t.Errorf("field %q", got)
	}
	p.entryOf(t, model.KeyThreshold).SetText("99")
	if slider.Value != 10 || p.form.Value(model.KeyThreshold) != "99" {
		t.Errorf("slider %v, value %q", slider.Value, p.form.Value(model.KeyThreshold))
	}
	_ = w
}

func TestHoursGrid(t *testing.T) {
	w, _, p := openSettings(t)
	g, ok := p.rows[model.KeyHours].focus.(*hoursGrid)
	if !ok {
		t.Fatal("no grid")
	}
	if !g.grid[0][18] || g.grid[0][17] || g.grid[6][20] {
		t.Errorf("grid of the plan: %v", g.grid.Plan())
	}
	g.Resize(fyne.NewSize(hoursLabel+24*20, g.MinSize().Height))
	point := func(day, hour int) fyne.Position {
		return fyne.NewPos(hoursLabel+float32(hour)*20+5, hoursHead+float32(day)*(hoursRow+hoursGap)+5)
	}
	press := func(day, hour int, b desktop.MouseButton) {
		g.MouseDown(&desktop.MouseEvent{PointEvent: fyne.PointEvent{Position: point(day, hour)}, Button: b})
	}
	drag := func(day, hour int) {
		g.Dragged(&fyne.DragEvent{PointEvent: fyne.PointEvent{Position: point(day, hour)}})
	}
	press(6, 10, desktop.MouseButtonPrimary)
	drag(6, 11)
	drag(6, 12)
	g.DragEnd()
	drag(6, 13) // not painting any more
	press(6, 14, desktop.MouseButtonSecondary)
	g.MouseDown(&desktop.MouseEvent{Button: desktop.MouseButtonPrimary}) // on the labels
	if want := "mon-fri 18:00-08:00\nsun 10:00-13:00"; p.form.Value(model.KeyHours) != want {
		t.Errorf("painted %q, want %q", p.form.Value(model.KeyHours), want)
	}
	press(0, 18, desktop.MouseButtonPrimary) // the first cell decides: this one wipes
	drag(0, 23)
	g.MouseUp(nil)
	if g.grid[0][18] || g.grid[0][23] || !g.grid[0][20] {
		t.Errorf("wiped %v", g.grid[0])
	}
	w.win.Canvas().Focus(g)
	key := func(names ...fyne.KeyName) {
		for _, n := range names {
			g.TypedKey(&fyne.KeyEvent{Name: n})
		}
	}
	key(fyne.KeyHome, fyne.KeyUp, fyne.KeyUp, fyne.KeyLeft) // stays inside
	key(fyne.KeyDown, fyne.KeyDown, fyne.KeyRight, fyne.KeyF1)
	if g.day != 2 || g.hour != 1 || !g.focused {
		t.Errorf("frame at %d, %d", g.day, g.hour)
	}
	was := g.grid[2][1]
	key(fyne.KeySpace)
	g.KeyDown(&fyne.KeyEvent{Name: desktop.KeyShiftLeft})
	key(fyne.KeyRight, fyne.KeyRight)
	g.KeyUp(&fyne.KeyEvent{Name: desktop.KeyShiftLeft})
	key(fyne.KeyEnd)
	if g.grid[2][1] == was || g.grid[2][3] == was || g.hour != 23 {
		t.Errorf("painted by keys: %v", g.grid[2])
	}
	tapNamed(t, p.rows[model.KeyHours].root, "Clear")
	if !p.save.Disabled() || g.grid.Count() != 0 || !strings.Contains(p.foot.Text, "at least one hour") {
		t.Errorf("a week without an hour: %q", p.foot.Text)
	}
	tapNamed(t, p.rows[model.KeyHours].root, "Always")
	if p.save.Disabled() || p.form.Value(model.KeyHours) != "" {
		t.Errorf("always is %q", p.form.Value(model.KeyHours))
	}
	g.locked = true
	press(0, 0, desktop.MouseButtonPrimary)
	if g.grid.Count() != 7*24 {
		t.Error("a locked grid was painted")
	}
	w.win.Canvas().Unfocus()
	if g.focused {
		t.Error("the frame stays without the focus")
	}
}

func TestAboutPage(t *testing.T) {
	w, c := newTestWindow(t, configured)
	w.tabs.SelectIndex(pageAbout)
	p := w.about
	if p.version.Text != "0.1.0" || p.studio.Text != "studio.example.org" || p.restart.Visible() || p.licences.Length() < 20 {
		t.Errorf("version %q, studio %q", p.version.Text, p.studio.Text)
	}
	test.Tap(p.check)
	if !p.check.Disabled() {
		t.Error("a second look is possible while one is under way")
	}
	c.err = errors.ErrUnsupported
	drainActions(t, w)
	if p.trouble.Text != "This copy does not update itself" || p.check.Disabled() {
		t.Errorf("says %q", p.trouble.Text)
	}
	c.err = errTest
	test.Tap(p.check)
	drainActions(t, w)
	if p.trouble.Text != errTest.Error() {
		t.Errorf("says %q", p.trouble.Text)
	}
	c.err = nil
	w.obs.Update.Set(observe.Update{State: observe.UpdateDownloading, Version: "1.2.0", Bytes: 100, Done: 25})
	w.refresh(partValues)
	if !p.bar.Visible() || p.bar.value != 0.25 || !p.check.Disabled() {
		t.Errorf("bar %v", p.bar.value)
	}
	w.obs.Update.Set(observe.Update{State: observe.UpdateReady, Version: "1.2.0", Notes: "What is new"})
	w.refresh(partValues)
	test.Tap(p.restart)
	drainActions(t, w)
	if got := c.take(); !slices.Equal(got, []string{"check", "check", "restart"}) || p.notes.Text != "What is new" {
		t.Errorf("calls = %v", got)
	}
	p.licences.Select(3)
	if !strings.Contains(strings.ToLower(p.licence.Text), "copyright") {
		t.Errorf("licence %.80q", p.licence.Text)
	}
}

func TestFirstStart(t *testing.T) {
	w, c := newTestWindow(t, func(*observe.WorkerObservers) {})
	p := w.welcome
	p.address.SetText("ftp://h")
	if !p.join.Disabled() || p.joinNote.Text == "" {
		t.Error("an address of another kind can be joined")
	}
	p.address.SetText("studio.example.org")
	c.err = &observe.StudioError{Problem: observe.StudioUnreachable, Address: "https://studio.example.org", Detail: "no route"}
	test.Tap(p.join)
	drainActions(t, w)
	if p.joinNote.Text != "Nobody answers at https://studio.example.org. Is the address right, and is the studio running? (no route)" {
		t.Errorf("says %q", p.joinNote.Text)
	}
	c.err = nil
	configured(w.obs)
	w.obs.Registration.Set(observe.Registration{State: observe.RegistrationPending, RequestID: "rr-1"})
	w.refresh(partValues)
	if !p.joining.Visible() || p.choose.Visible() || w.tabs.Visible() || p.request.text != "rr-1" || p.again.Visible() {
		t.Errorf("waiting: %q, request %q", p.title.Text, p.request.text)
	}
	tapNamed(t, p.requestRow, "Copy")
	if got := w.app.Clipboard().Content(); got != "rr-1" {
		t.Errorf("copied %q", got)
	}
	test.Tap(p.other)
	if !p.choose.Visible() || !p.backPart.Visible() {
		t.Error("no other studio can be chosen")
	}
	test.Tap(p.back)
	w.obs.Registration.Set(observe.Registration{State: observe.RegistrationRejected, Reason: "unknown computer"})
	w.refresh(partValues)
	if !p.again.Visible() || !strings.Contains(p.text.Text, "unknown computer") {
		t.Errorf("declined: %q", p.text.Text)
	}
	drainActions(t, w)
	c.take()
	test.Tap(w.header.button) // asks again as well
	drainActions(t, w)
	c.err = errTest
	test.Tap(p.again)
	drainActions(t, w)
	if got := c.take(); !slices.Equal(got, []string{"reset", "reset"}) || p.againNote.Text != errTest.Error() {
		t.Errorf("calls = %v, says %q", got, p.againNote.Text)
	}
	test.Tap(p.around)
	if !w.tabs.Visible() {
		t.Error("one cannot look around")
	}
	w.around = false
	w.obs.Registration.Set(observe.Registration{State: observe.RegistrationApproved, WorkerID: "w-1"})
	w.refresh(partValues)
	w.obs.Registration.Set(observe.Registration{State: observe.RegistrationPending})
	w.refresh(partValues)
	if !w.tabs.Visible() || !w.settled {
		t.Error("a worker that was let in once begins from the start")
	}
	if was, err := recall(w.path); err != nil || !was.Settled {
		t.Errorf("kept %+v, %v", was, err)
	}
}

// TestClearHistory: it asks once, then the jobs are gone, here and from the disk.
func TestClearHistory(t *testing.T) {
	w, c, page := openSettings(t)
	finish(w, observe.RecentJob{ID: "a", Kind: "image", Prompt: "a fox", Outcome: observe.OutcomeCompleted})
	drainActions(t, w) // the log of the job
	c.take()
	tapNamed(t, page.root, "Clear the history")
	if got := c.take(); len(got) != 0 || len(w.jobs.items) == 0 {
		t.Fatalf("%q was done without a question", got)
	}
	tapInDialog(t, w, "Clear the history")
	work(t, w)
	w.refresh(partJobs)
	if got := c.take(); !slices.Equal(got, []string{"clear history"}) || len(w.jobs.items) != 0 {
		t.Errorf("asked for %q, %d items are left", got, len(w.jobs.items))
	}
}

// TestTips: a text that ends in an ellipsis can be read whole, any other shows no
// tip.
func TestTips(t *testing.T) {
	newTestWindow(t, joined)
	l := newLabel("a text that is longer than its room")
	tipOf := func() string {
		over := &tip{label: l}
		over.ExtendBaseWidget(over)
		if over.whole() == "" { // else the library waits, longer than the test
			over.MouseIn(&desktop.MouseEvent{})
			over.MouseOut()
		}
		return over.whole()
	}
	l.Resize(fyne.NewSize(40, 30))
	if got := tipOf(); got != "" {
		t.Errorf("a label without an ellipsis shows %q", got)
	}
	l.Truncation = fyne.TextTruncateEllipsis
	if got := tipOf(); got != l.Text {
		t.Errorf("got %q", got)
	}
	l.SizeName = sizeMono
	l.Resize(fyne.NewSize(900, 30))
	if got := tipOf(); got != "" {
		t.Errorf("a text with room shows %q", got)
	}
}

func TestLessMotion(t *testing.T) {
	w, _ := newTestWindow(t, joined)
	w.obs.CurrentJob.Set(observe.CurrentJob{ID: "a", Kind: "image", Started: time.Now(), Progress: observe.Progress{Step: 37, Total: 100}})
	for less, want := range map[bool]float64{false: 0.37, true: 0.3} {
		w.prefs.ReduceMotion = less
		w.refresh(partValues)
		if got := w.jobs.running.bar.value; got != want {
			t.Errorf("less motion %v: the bar is at %v, want %v", less, got, want)
		}
	}
}
