package ui

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"studioworker/ui/model"
	"studioworker/ui/words"
	"studioworker/worker/observe"
)

// settingsPage shows what a person may set. Changes wait for Save.
type settingsPage struct {
	root   fyne.CanvasObject
	scroll *container.Scroll
	cards  *fyne.Container
	save   *widget.Button
	undo   *widget.Button
	foot   *label

	tr       *words.Printer
	do       settingsActions
	form     *model.Form
	sections []model.Section
	rows     map[string]*settingRow
	keys     []observe.ConfigKey
	gpus     observe.GPUs
	login    bool // the program can start at login
	private  bool
	own      string // the address of the private studio; empty = it did not run yet
	filling  bool   // the page writes into its controls; nobody has changed them
	saving   bool
}

// settingsActions is what the page asks of the window.
type settingsActions struct {
	ctl    Controls
	run    actions
	prefs  func() Preferences
	prefer func(Preferences)    // takes up the window's own settings
	page   func() *settingsPage // the one in sight, which a new language builds anew
	folder func(chosen func(path string))
	reset  func(done func(error)) // forgets the registration
	ask    func() asker
}

// settingRow is one setting: its control, what it is for, and what is wrong.
type settingRow struct {
	setting model.Setting
	root    fyne.CanvasObject
	note    *label // help, or what is wrong
	fill    func(value string)
	enable  func(on bool)
	limit   func(most float64) // of a slider; nil for others
	focus   fyne.Focusable
}

func newSettingsPage(tr *words.Printer, form *model.Form, do settingsActions) *settingsPage {
	p := &settingsPage{
		cards: stack(margin),
		save:  widget.NewButton(tr.T("Save"), nil),
		undo:  widget.NewButton(tr.T("Undo"), nil),
		foot:  newLabel(""),
		tr:    tr, do: do, form: form, rows: map[string]*settingRow{},
	}
	p.foot.Truncation = fyne.TextTruncateEllipsis
	p.save.Importance = widget.HighImportance
	p.save.OnTapped = p.saveDraft
	p.undo.OnTapped = p.takeBack
	p.scroll = container.NewVScroll(pad(margin, margin, margin, margin, p.cards))
	footer := container.NewStack(newPanel(colorSurface, 0, false),
		pad(4, 4, margin, margin, container.NewBorder(nil, nil, nil, row(8, p.undo, p.save), centred(tipped(p.foot)))))
	p.root = container.NewBorder(nil, footer, nil, nil, p.scroll)
	p.footer()
	return p
}

// askLogin learns, when the page is first looked at, whether the program can start
// at login and does.
func (p *settingsPage) askLogin() {
	on, err := p.do.ctl.StartAtLogin()
	if p.login = !errors.Is(err, errors.ErrUnsupported); p.login {
		p.form.Store(nil, map[string]string{model.KeyLogin: strconv.FormatBool(on && err == nil)})
	}
}

// show takes up what is in force. What a person is changing stays.
func (p *settingsPage) show(keys []observe.ConfigKey, gpus observe.GPUs, private bool) {
	if p.private != private {
		p.private = private
		p.keys = nil // the address is explained otherwise
	}
	if slices.Equal(keys, p.keys) && slices.Equal(gpus.List, p.gpus.List) && p.sections != nil {
		return
	}
	if p.sections == nil {
		p.askLogin()
	}
	p.keys, p.gpus = keys, gpus
	p.form.Store(keys, p.do.prefs().values())
	if private {
		p.own = p.form.Stored(model.KeyStudio)
	}
	p.layOut()
	p.refresh()
}

// layOut builds the cards, once, and anew when there are other settings.
func (p *settingsPage) layOut() {
	sections := model.Sections(p.tr, p.keys, p.gpus, p.login)
	if slices.EqualFunc(sections, p.sections, func(a, b model.Section) bool {
		return a.Title == b.Title && slices.EqualFunc(a.Settings, b.Settings, func(x, y model.Setting) bool {
			return x.Key == y.Key && x.Help == y.Help
		})
	}) {
		for _, s := range sections {
			for _, setting := range s.Settings {
				if r := p.rows[setting.Key]; r.limit != nil {
					r.limit(setting.Max)
				}
			}
		}
		return
	}
	p.sections = sections
	p.cards.RemoveAll()
	for _, s := range sections {
		lines := stack(12)
		for _, setting := range s.Settings {
			r := p.newRow(setting)
			p.rows[setting.Key] = r
			lines.Add(r.root)
		}
		switch {
		case s.Settings[0].Key == model.KeyStudio:
			lines.Add(p.registration())
		case slices.ContainsFunc(s.Settings, func(s model.Setting) bool { return s.Key == model.KeyPrompts }):
			lines.Add(p.history())
		}
		p.cards.Add(card(s.Title, pad(4, 0, 0, 0, lines)))
	}
}

// registration is where the person can begin anew with the studio.
func (p *settingsPage) registration() fyne.CanvasObject {
	note := newErrorLabel()
	again := widget.NewButton(p.tr.T("Register anew"), nil)
	again.OnTapped = func() {
		again.Disable()
		write(note, "")
		p.do.reset(func(err error) {
			again.Enable()
			if err != nil {
				write(note, reason(p.tr, err))
			}
		})
	}
	here := widget.NewButton(p.tr.T("Use a private studio here"), nil)
	here.OnTapped = func() {
		here.Disable()
		p.do.run.start(p.do.ctl.TryHere, func(err error) {
			here.Enable()
			if err != nil {
				write(note, reason(p.tr, err))
			}
		})
	}
	return pad(0, 0, labelInset, 0, container.NewBorder(nil, nil, row(8, again, here), nil, centred(note)))
}

// history is where the person can have the finished jobs forgotten.
func (p *settingsPage) history() fyne.CanvasObject {
	note := newLabel("")
	note.Truncation = fyne.TextTruncateEllipsis
	forget := widget.NewButton(p.tr.T("Clear the history"), nil)
	forget.OnTapped = func() {
		p.do.ask().sure(p.tr.T("Clear the history?"), p.tr.T("The list of finished jobs is emptied, with prompts and small pictures. Results stay where they are."),
			p.tr.T("Clear the history"), func() {
				forget.Disable()
				p.do.run.start(p.do.ctl.ClearHistory, func(err error) {
					forget.Enable()
					if err != nil {
						paint(note, model.ToneBad)
						write(note, p.tr.T("Not all is cleared: %s", reason(p.tr, err)))
						return
					}
					paint(note, model.ToneGood)
					write(note, p.tr.T("The history is empty."))
				})
			})
	}
	return pad(0, 0, labelInset, 0, container.NewBorder(nil, nil, forget, nil, pad(0, 0, 8, 0, centred(tipped(note)))))
}

func (p *settingsPage) newRow(s model.Setting) *settingRow {
	r := &settingRow{setting: s, note: small(newLabel(s.Help))}
	r.note.Wrapping = fyne.TextWrapWord
	changed := func(text string) {
		if p.filling {
			return
		}
		p.form.Set(s.Key, text)
		p.refreshRow(r)
		p.footer()
	}
	var control fyne.CanvasObject
	switch s.Control {
	case model.ControlSwitch:
		control = r.newSwitch(changed)
	case model.ControlChoice:
		control = r.newChoice(changed)
	case model.ControlSlider:
		control = r.newSlider(p, changed)
	case model.ControlFolder:
		control = r.newFolder(p, changed)
	case model.ControlHours:
		r.root = r.newHours(p, changed)
		return r
	case model.ControlText:
		control = r.newText(p, changed)
	}
	name := newLabel(s.Label)
	name.Truncation = fyne.TextTruncateEllipsis
	r.root = stack(0, container.New(shares{16, []float32{2, 3}}, centred(tipped(name)), control), r.note)
	return r
}

func (r *settingRow) newSwitch(changed func(string)) fyne.CanvasObject {
	check := widget.NewCheck("", func(on bool) { changed(strconv.FormatBool(on)) })
	r.fill = func(v string) { check.SetChecked(v == "true") }
	r.enable = enabler(check)
	r.focus = check
	return row(0, check)
}

func (r *settingRow) newChoice(changed func(string)) fyne.CanvasObject {
	options := r.setting.Options
	names := make([]string, 0, len(options))
	for _, o := range options {
		names = append(names, o.Name)
	}
	choice := widget.NewSelect(names, nil)
	choice.OnChanged = func(string) {
		if i := choice.SelectedIndex(); i >= 0 {
			changed(options[i].Value)
		}
	}
	r.fill = func(v string) {
		choice.SetSelectedIndex(max(slices.IndexFunc(options, func(o model.Option) bool { return o.Value == v }), 0))
	}
	r.enable = enabler(choice)
	r.focus = choice
	return choice
}

func (r *settingRow) newText(p *settingsPage, changed func(string)) fyne.CanvasObject {
	field := newEntry("")
	field.OnChanged = changed
	field.OnSubmitted = func(string) { p.saveDraft() }
	field.onEscape = func() { p.forget(r.setting.Key) }
	r.fill = func(v string) { refill(field, v) }
	r.enable = enabler(field)
	r.focus = field
	return withUnit(field, r.setting.Unit)
}

// refill writes a value into a field, but for a number that a person wrote with a
// comma: it is the same.
func refill(field *entry, v string) {
	if strings.Replace(strings.TrimSpace(field.Text), ",", ".", 1) != v {
		field.SetText(v)
	}
}

// withUnit puts a unit behind a field.
func withUnit(field fyne.CanvasObject, unit string) fyne.CanvasObject {
	if unit == "" {
		return field
	}
	return row(6, container.New(sized{w: 110}, field), centred(newLabel(unit)))
}

// newSlider is a slider with the same number in a field: one for the hand, one
// for an exact value.
func (r *settingRow) newSlider(p *settingsPage, changed func(string)) fyne.CanvasObject {
	slider := widget.NewSlider(0, r.setting.Max)
	slider.Step = 0.5
	field := newEntry("")
	field.OnSubmitted = func(string) { p.saveDraft() }
	field.onEscape = func() { p.forget(r.setting.Key) }
	slider.OnChanged = func(v float64) {
		if !p.filling {
			field.SetText(model.Threshold(v))
		}
	}
	field.OnChanged = func(s string) {
		changed(s)
		if v, err := model.ParseThreshold(p.tr, s); err == nil {
			p.filled(func() { slider.SetValue(math.Min(v, slider.Max)) })
		}
	}
	r.limit = func(most float64) {
		if slider.Max != most {
			slider.Max = most
			p.filled(slider.Refresh)
		}
	}
	r.fill = func(v string) {
		refill(field, v)
		if n, err := strconv.ParseFloat(v, 64); err == nil {
			slider.SetValue(math.Min(n, slider.Max))
		}
	}
	r.enable = func(on bool) { enabler(field)(on); enabler(slider)(on) }
	r.focus = field
	return container.NewBorder(nil, nil, nil, withUnit(field, r.setting.Unit), slider)
}

func (r *settingRow) newFolder(p *settingsPage, changed func(string)) fyne.CanvasObject {
	field := newEntry("")
	field.OnChanged = func(s string) {
		changed(s)
		p.askRoom(r)
	}
	field.OnSubmitted = func(string) { p.saveDraft() }
	field.onEscape = func() { p.forget(r.setting.Key) }
	choose := widget.NewButtonWithIcon(p.tr.T("Choose"), theme.FolderOpenIcon(), func() { p.do.folder(field.SetText) })
	r.fill = func(v string) {
		if field.Text != v {
			field.SetText(v)
			p.askRoom(r)
		}
	}
	r.enable = func(on bool) { enabler(field)(on); enabler(choose)(on) }
	r.focus = field
	return line(row(0), field, pad(0, 0, 8, 0, choose))
}

// newHours is the painted week, with what it says below.
func (r *settingRow) newHours(p *settingsPage, changed func(string)) fyne.CanvasObject {
	says := newLabel("")
	says.Wrapping = fyne.TextWrapWord
	grid := newHoursGrid(p.tr, func(g model.Grid) {
		write(says, g.Sentence(p.tr))
		changed(model.PlanOf(g))
	})
	always := widget.NewButton(p.tr.T("Always"), func() { grid.paintAll(true) })
	never := widget.NewButton(p.tr.T("Clear"), func() { grid.paintAll(false) })
	r.fill = func(plan string) {
		g, exact, err := model.ReadGrid(plan)
		if err != nil { // a draft without an hour, or what the worker alone can read
			return
		}
		grid.set(g)
		words := g.Sentence(p.tr)
		if !exact {
			words = p.tr.T("The plan has parts of hours: %s", strings.ReplaceAll(plan, "\n", "; "))
		}
		write(says, words)
	}
	r.enable = func(on bool) { enabler(always)(on); enabler(never)(on); grid.locked = !on }
	r.focus = grid
	name := newLabel(r.setting.Label)
	return stack(4, name, r.note, pad(0, 0, labelInset, labelInset, grid),
		container.NewBorder(nil, nil, nil, row(8, always, never), centred(says)))
}

// askRoom shows how much fits on the disk of the folder that is written there.
func (p *settingsPage) askRoom(r *settingRow) {
	path := p.form.Value(r.setting.Key)
	p.do.run.start(func(context.Context) error {
		free, err := p.do.ctl.FreeSpace(path)
		return roomAnswer{free, err}
	}, func(err error) {
		room, ok := errors.AsType[roomAnswer](err)
		if !ok || p.form.Value(r.setting.Key) != path || p.form.Check(p.tr, r.setting.Key) != nil {
			return
		}
		says, tone := model.FolderRoom(p.tr, room.free, room.err)
		write(r.note, r.setting.Help+" "+says)
		paint(r.note, tone)
	})
}

// roomAnswer carries an answer through an action, which has only an error.
type roomAnswer struct {
	free uint64
	err  error
}

func (a roomAnswer) Error() string { return fmt.Sprint(a.free, a.err) }

// filled runs f while the page writes into its own controls.
func (p *settingsPage) filled(f func()) {
	was := p.filling
	p.filling = true
	f()
	p.filling = was
}

// refresh writes the form's values into the controls.
func (p *settingsPage) refresh() {
	for _, r := range p.rows {
		p.filled(func() { r.fill(p.form.Value(r.setting.Key)) })
		p.refreshRow(r)
	}
	p.footer()
}

// refreshRow shows what is wrong with a value, or what it is for.
func (p *settingsPage) refreshRow(r *settingRow) {
	err := p.form.Check(p.tr, r.setting.Key)
	switch {
	case err != nil:
		write(r.note, err.Error())
		paint(r.note, model.ToneBad)
	case r.setting.Control != model.ControlFolder || r.note.Importance == widget.DangerImportance:
		help := r.setting.Help
		if r.setting.Key == model.KeyStudio && p.private {
			help = p.tr.T("A private studio runs on this computer. Write another address to leave it.")
		}
		write(r.note, help)
		paint(r.note, model.ToneMuted)
	}
}

func (p *settingsPage) footer() {
	says, tone := p.form.Foot(p.tr)
	_, err := p.form.Bad(p.tr)
	enable(p.save, !p.saving && p.form.Changes() != nil && err == nil)
	enable(p.undo, !p.saving && (p.form.Changes() != nil || p.form.Undo() != nil))
	if says != "" {
		p.say(says, tone)
	} else if p.foot.Importance != widget.SuccessImportance && !p.saving { // what happened stays until the next change
		p.say("", model.ToneMuted)
	}
}

func (p *settingsPage) say(s string, t model.Tone) {
	write(p.foot, s)
	paint(p.foot, t)
}

// forget takes back what is not saved of one setting.
func (p *settingsPage) forget(key string) {
	p.form.Forget(key)
	p.refresh()
}

// takeBack is Undo: what is not saved first, then the last save.
func (p *settingsPage) takeBack() {
	if p.form.Changes() != nil {
		p.form.Discard()
		p.say("", model.ToneMuted)
		p.refresh()
		return
	}
	back := p.form.Undo()
	p.apply(back, func() {
		p.form.Undone()
	}, func(tr *words.Printer) string { return tr.T("Undone") })
}

func (p *settingsPage) saveDraft() {
	changes := p.form.Changes()
	if _, err := p.form.Bad(p.tr); err != nil || changes == nil || p.saving {
		return
	}
	p.apply(changes, func() {
		p.form.Saved(changes)
	}, func(tr *words.Printer) string { return tr.T("Saved") })
}

// apply puts changes in force: the studio first, which may be the wrong address,
// then the config, the login, and at last the window itself.
func (p *settingsPage) apply(changes map[string]string, done func(), says func(*words.Printer) string) {
	p.saving = true
	p.lock(true)
	p.say(p.tr.T("Saving …"), model.ToneMuted)
	p.footer()
	rest := maps.Clone(changes)
	maps.DeleteFunc(rest, func(key, _ string) bool { return model.OfWindow(key) || key == model.KeyStudio })
	own := p.own
	p.do.run.start(func(ctx context.Context) error {
		if address, ok := changes[model.KeyStudio]; ok {
			join := func(ctx context.Context) error { return p.do.ctl.Join(ctx, address) }
			if address == own && own != "" {
				join = p.do.ctl.TryHere
			}
			if err := join(ctx); err != nil {
				return err
			}
		}
		if len(rest) > 0 {
			if err := p.do.ctl.ApplyConfig(ctx, rest); err != nil {
				return err
			}
		}
		if on, ok := changes[model.KeyLogin]; ok {
			return p.do.ctl.SetStartAtLogin(ctx, on == "true")
		}
		return nil
	}, func(err error) {
		p.saving = false
		p.lock(false)
		if err != nil {
			p.say(p.tr.T("Not saved: %s", model.StudioTrouble(p.tr, err)), model.ToneBad)
			p.foot.Importance = widget.DangerImportance
			enable(p.save, true)
			return
		}
		done()
		p.do.prefer(p.do.prefs().with(changes))
		p = p.do.page()
		p.refresh()
		p.say(says(p.tr), model.ToneGood)
	})
}

// lock keeps hands off while a save is under way.
func (p *settingsPage) lock(on bool) {
	for _, r := range p.rows {
		r.enable(!on)
	}
}

// enabler gives what switches a control on and off.
func enabler(o fyne.Disableable) func(bool) {
	return func(on bool) {
		switch {
		case on && o.Disabled():
			o.Enable()
		case !on && !o.Disabled():
			o.Disable()
		}
	}
}
