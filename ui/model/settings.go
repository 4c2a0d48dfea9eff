package model

import (
	"errors"
	"maps"
	"math"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"studioworker/ui/words"
	"studioworker/worker/availability/hours"
	"studioworker/worker/observe"
	"studioworker/worker/oneline"
)

// Keys of settings that the page treats in a way of their own. Those that begin
// with "window." are the window's; all others are keys of the config.
const (
	KeyStudio       = "api_base_url"
	KeyThreshold    = "vram_threshold_gb"
	KeyModels       = "models_root"
	KeyHours        = "weekly_hours"
	KeyPrompts      = "keep_prompts"
	KeyLogin        = "window.start_at_login"
	KeyNotifyDone   = "window.notify_done"
	KeyNotifyFailed = "window.notify_failed"
	KeyVeil         = "window.veil"
	KeyTheme        = "window.theme"
	KeyLanguage     = "window.language"
	KeyReduceMotion = "window.reduce_motion"
)

// OfWindow says whether a key is the window's own.
func OfWindow(key string) bool { return strings.HasPrefix(key, "window.") }

// Control says what a setting is changed with.
type Control string

// The controls.
const (
	ControlText   Control = "text"
	ControlSwitch Control = "switch"
	ControlChoice Control = "choice"
	ControlSlider Control = "slider"
	ControlFolder Control = "folder"
	ControlHours  Control = "hours"
)

// Option is one choice of a setting.
type Option struct{ Value, Name string }

// Setting is one line of the page.
type Setting struct {
	Key     string
	Control Control
	Label   string
	Help    string
	Unit    string
	Options []Option // of a choice
	Max     float64  // of a slider
}

// Section is a card of the page.
type Section struct {
	Title    string
	Settings []Setting
}

// Sections lays out the page: the window's own settings, and those of keys, which
// is the slot Config. A key that the page has no place for stands in the last
// card, in the words of its descriptor, so that none is ever missing. login says
// whether the program can start at login here.
func Sections(p *words.Printer, keys []observe.ConfigKey, gpus observe.GPUs, login bool) []Section {
	known := map[string]observe.ConfigKey{}
	for _, k := range keys {
		known[k.Name] = k
	}
	all := []Section{
		{p.T("Studio"), []Setting{
			{Key: KeyStudio, Control: ControlText, Label: p.T("Address"), Help: p.T("Where the jobs come from. It is checked before it is saved; another studio has to let this computer in anew.")},
		}},
		{p.T("When to work"), []Setting{
			{Key: "only_when_idle", Control: ControlSwitch, Label: p.T("Only while nobody uses this computer"), Help: p.T("Jobs wait until keyboard and mouse have rested.")},
			{Key: "pause_on_battery", Control: ControlSwitch, Label: p.T("Rest on battery"), Help: p.T("No jobs without mains power.")},
			{Key: KeyHours, Control: ControlHours, Label: p.T("Hours of the week"), Help: p.T("Paint with the mouse, or move with the arrow keys and press Space.")},
		}},
		{p.T("Jobs"), []Setting{
			{Key: KeyThreshold, Control: ControlSlider, Label: p.T("Largest job"), Unit: "GB", Max: sliderMax(known[KeyThreshold], gpus), Help: p.T("Jobs that need more graphics memory go to other computers.")},
			{Key: KeyModels, Control: ControlFolder, Label: p.T("Folder for models"), Help: p.T("Model files are large: choose a disk with room.")},
			{Key: KeyPrompts, Control: ControlSwitch, Label: p.T("Keep prompts in the history"), Help: p.T("Off: of jobs that end from now on, neither the prompt nor a picture is remembered.")},
			{Key: "drain_secs", Control: ControlText, Label: p.T("Time to finish"), Unit: "s", Help: p.T("How long Quit waits for the running job.")},
		}},
		{p.T("Start and messages"), []Setting{
			{Key: KeyLogin, Control: ControlSwitch, Label: p.T("Start when I log in"), Help: p.T("The program is then there without being asked.")},
			{Key: "start_minimised", Control: ControlSwitch, Label: p.T("Start hidden"), Help: p.T("A start at login begins in the tray, without the window.")},
			{Key: KeyNotifyDone, Control: ControlSwitch, Label: p.T("Tell me when jobs are done"), Help: p.T("A message of the desktop, unless the window is in front.")},
			{Key: KeyNotifyFailed, Control: ControlSwitch, Label: p.T("Tell me when a job fails"), Help: p.T("A message of the desktop, unless the window is in front.")},
		}},
		{p.T("Look"), []Setting{
			{Key: KeyLanguage, Control: ControlChoice, Label: p.T("Language"), Help: p.T("Changes at once."), Options: []Option{
				{"", p.T("As the desktop")}, {words.English, "English"}, {words.German, "Deutsch"},
			}},
			{Key: KeyTheme, Control: ControlChoice, Label: p.T("Colours"), Help: p.T("Changes at once."), Options: []Option{
				{"", p.T("As the desktop")}, {"dark", p.T("Dark")}, {"light", p.T("Light")},
			}},
			{Key: KeyReduceMotion, Control: ControlSwitch, Label: p.T("Less motion"), Help: p.T("Progress bars move in steps of a tenth.")},
			{Key: KeyVeil, Control: ControlSwitch, Label: p.T("Veil prompts and pictures"), Help: p.T("What others asked for is not shown until you look at one job.")},
		}},
		{p.T("Updates"), []Setting{
			{Key: "auto_update_enabled", Control: ControlSwitch, Label: p.T("Update by itself"), Help: p.T("A new version is checked and installed while nothing runs.")},
			{Key: "auto_update_interval_secs", Control: ControlText, Label: p.T("Time between two looks"), Unit: "s", Help: p.T("1800 is half an hour.")},
			{Key: "auto_update_prerelease", Control: ControlSwitch, Label: p.T("Take test versions too"), Help: p.T("They bring what is new sooner, and more faults.")},
			{Key: "auto_update_feed", Control: ControlText, Label: p.T("Address of the releases"), Help: p.T("Empty: the program's own.")},
		}},
		{p.T("Network"), []Setting{
			{Key: "ws_reconnect_attempts", Control: ControlText, Label: p.T("Tries to reach the studio"), Help: p.T("Then the program gives up; 0 is never.")},
			{Key: "ca_file", Control: ControlText, Label: p.T("Extra certificates"), Help: p.T("A PEM file that is trusted beside the system's; a whole path.")},
		}},
		{p.T("Faults of this program"), []Setting{
			{Key: "send_crash_reports", Control: ControlSwitch, Label: p.T("Send crash reports"), Help: p.T("To the makers of this build, if it names an address for them. A report names the code that failed and nothing it worked on: no prompts, no folders, no names. studio-worker crashes shows what would be sent.")},
		}},
	}
	placed := map[string]bool{}
	for i, section := range all {
		all[i].Settings = slices.DeleteFunc(section.Settings, func(s Setting) bool {
			placed[s.Key] = true
			_, there := known[s.Key]
			return s.Key == KeyLogin && !login || !OfWindow(s.Key) && !there
		})
		for j, s := range all[i].Settings {
			if known[s.Key].Restart {
				all[i].Settings[j].Help += " " + p.T("Holds from the next start on.")
			}
		}
	}
	more := Section{Title: p.T("More")}
	for _, k := range keys {
		if !placed[k.Name] {
			more.Settings = append(more.Settings, plainSetting(k))
		}
	}
	return slices.DeleteFunc(append(all, more), func(s Section) bool { return len(s.Settings) == 0 })
}

// plainSetting shows a key in the words of the config.
func plainSetting(k observe.ConfigKey) Setting {
	s := Setting{Key: k.Name, Control: ControlText, Label: k.Name, Help: k.Meaning, Unit: k.Unit}
	if k.Kind == "true or false" {
		s.Control = ControlSwitch
	}
	return s
}

// sliderMax is the memory of the largest card, in GB: no job needs more. It is
// never below the value in force, and 24 while no card is known.
func sliderMax(k observe.ConfigKey, gpus observe.GPUs) float64 {
	const unknown = 24
	most := 0.0
	for _, g := range gpus.List {
		most = max(most, math.Ceil(float64(g.Total)/(1<<30)))
	}
	if most == 0 {
		most = unknown
	}
	if v, err := strconv.ParseFloat(k.Value, 64); err == nil {
		most = max(most, math.Ceil(v))
	}
	return most
}

// Form is what a person has changed and not yet saved. Its values are texts, by
// key, as the config has them.
type Form struct {
	keys   map[string]observe.ConfigKey
	stored map[string]string
	draft  map[string]string // only what differs from stored
	undo   map[string]string // what the last save replaced
}

// NewForm returns a form that knows nothing yet.
func NewForm() *Form {
	return &Form{keys: map[string]observe.ConfigKey{}, stored: map[string]string{}, draft: map[string]string{}}
}

// Store takes up what is in force: keys of the config, and the window's values.
// What a person is changing stays as it is.
func (f *Form) Store(keys []observe.ConfigKey, window map[string]string) {
	for _, k := range keys {
		f.keys[k.Name], f.stored[k.Name] = k, k.Value
	}
	maps.Copy(f.stored, window)
	for key, value := range f.draft {
		if f.stored[key] == value {
			delete(f.draft, key)
		}
	}
}

// Value is what the page shows for a key.
func (f *Form) Value(key string) string {
	if v, ok := f.draft[key]; ok {
		return v
	}
	return f.stored[key]
}

// On is the value of a switch.
func (f *Form) On(key string) bool { return f.Value(key) == "true" }

// Set notes what a person wrote. A number may have a comma.
func (f *Form) Set(key, text string) {
	text = strings.TrimSpace(text)
	if k := f.keys[key].Kind; k == "number" {
		text = strings.Replace(text, ",", ".", 1)
	}
	if text == f.stored[key] {
		delete(f.draft, key)
		return
	}
	f.draft[key] = text
}

// Changes is what Save would save; nil when there is nothing.
func (f *Form) Changes() map[string]string {
	if len(f.draft) == 0 {
		return nil
	}
	return maps.Clone(f.draft)
}

// Stored is a key's value in force.
func (f *Form) Stored(key string) string { return f.stored[key] }

// Forget takes back what is not saved of one key.
func (f *Form) Forget(key string) { delete(f.draft, key) }

// Discard forgets what is not saved.
func (f *Form) Discard() { clear(f.draft) }

// Saved notes that changes are in force now; Undo takes them back.
func (f *Form) Saved(changes map[string]string) {
	f.undo = map[string]string{}
	for key, value := range changes {
		f.undo[key], f.stored[key] = f.stored[key], value
		if f.draft[key] == value {
			delete(f.draft, key)
		}
	}
}

// Undo is what takes the last save back; nil when there is none.
func (f *Form) Undo() map[string]string { return f.undo }

// Undone notes that the last save was taken back.
func (f *Form) Undone() {
	maps.Copy(f.stored, f.undo)
	f.undo = nil
}

// Bad names the first key, in alphabetical order, whose draft cannot be saved.
func (f *Form) Bad(p *words.Printer) (key string, err error) {
	for _, k := range slices.Sorted(maps.Keys(f.draft)) {
		if err := f.Check(p, k); err != nil {
			return k, err
		}
	}
	return "", nil
}

// Check says in the person's language what is wrong with a key's value; nil when
// it can be saved. The worker has the last word.
func (f *Form) Check(p *words.Printer, key string) error {
	k, value := f.keys[key], f.Value(key)
	if value == f.stored[key] || OfWindow(key) { // what is in force is no fault of the person's
		return nil
	}
	switch key {
	case KeyStudio:
		return CheckAddress(p, value)
	case "auto_update_feed":
		if value != "" {
			return CheckAddress(p, value)
		}
		return nil
	case KeyModels:
		if value == "" {
			return errors.New(p.T("choose a folder"))
		}
		return nil
	case "ca_file":
		if value != "" && !filepath.IsAbs(value) && !strings.HasPrefix(value, "~/") && !path.IsAbs(value) {
			return errors.New(p.T("write the whole path, from the root"))
		}
		return nil
	case KeyHours:
		return checkHours(p, value)
	}
	switch k.Kind {
	case "number":
		v, err := strconv.ParseFloat(value, 64)
		if err != nil || math.IsNaN(v) || v < k.Min || k.Max > 0 && v > k.Max {
			return errors.New(p.T("write a number from %s to %s", p.Number(k.Min, 0), p.Number(k.Max, 0)))
		}
	case "whole number":
		if value == "" { // clears it
			return nil
		}
		v, err := strconv.ParseUint(value, 10, 63)
		if err != nil || float64(v) < k.Min || k.Max > 0 && float64(v) > k.Max {
			return errors.New(p.T("write a whole number from %s to %s", p.Number(k.Min, 0), p.Number(k.Max, 0)))
		}
	}
	return nil
}

func checkHours(p *words.Printer, plan string) error {
	switch lines := planLines(plan); {
	case plan == neverPlan:
		return errors.New(p.T("choose at least one hour, or pause instead"))
	case len(lines) > hours.MaxEntries:
		return errors.New(p.T("these are too many separate times"))
	}
	if _, _, err := ReadGrid(plan); err != nil {
		return errors.New(p.T("this plan cannot be read: %s", err))
	}
	return nil
}

// neverPlan stands for a week without an hour, which no plan can say.
const neverPlan = "never"

// PlanOf is the plan of a painted grid, for [Form.Set].
func PlanOf(g Grid) string {
	if g.Count() == 0 {
		return neverPlan
	}
	return g.Plan()
}

// CheckAddress says what is wrong with the address of a studio as it is written,
// before anybody is called. One without a scheme is fine: it gets one.
func CheckAddress(p *words.Printer, text string) error {
	text = strings.TrimSpace(text)
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || strings.ContainsAny(u.Hostname(), " \t") || u.User != nil:
		return errors.New(p.T("write an address such as studio.example.org"))
	case u.Scheme != "http" && u.Scheme != "https":
		return errors.New(p.T("an address begins with https:// or http://"))
	}
	return nil
}

// StudioTrouble words why a studio cannot be joined; any other error stays as it
// is.
func StudioTrouble(p *words.Printer, err error) string {
	bad, ok := errors.AsType[*observe.StudioError](err)
	if !ok {
		return err.Error()
	}
	var says string
	switch bad.Problem {
	case observe.StudioBadAddress:
		says = p.T("%s is not the address of a studio", bad.Address)
	case observe.StudioUnreachable:
		says = p.T("Nobody answers at %s. Is the address right, and is the studio running?", bad.Address)
	case observe.StudioNoStudio:
		says = p.T("A server answers at %s, but it is not a studio. Is the address right?", bad.Address)
	case observe.StudioInTrouble:
		says = p.T("The server at %s has trouble at the moment. Try again later.", bad.Address)
	default:
		says = p.T("%s cannot be joined", bad.Address)
	}
	if bad.Detail != "" {
		says += " (" + oneline.Of(bad.Detail, 200) + ")"
	}
	return says
}

// FolderRoom words how much fits on a folder's disk.
func FolderRoom(p *words.Printer, free uint64, err error) (string, Tone) {
	const little = 20 << 30 // a large model, and room to work
	switch {
	case err != nil:
		return p.T("This folder cannot be looked at: %s", oneline.Of(err.Error(), 200)), ToneBad
	case free < little:
		return p.T("%s free on its disk: little for models", Bytes(p, int64(min(free, math.MaxInt64)))), ToneBusy
	}
	return p.T("%s free on its disk", Bytes(p, int64(min(free, math.MaxInt64)))), ToneMuted
}

// Foot words the line beside Save: what would be saved, or what is wrong.
func (f *Form) Foot(p *words.Printer) (string, Tone) {
	if _, err := f.Bad(p); err != nil {
		return p.T("Not valid yet: %s", err), ToneBad
	}
	if n := len(f.draft); n > 0 {
		return p.T("%d changes are not saved", n), ToneBusy
	}
	return "", ToneMuted
}
