package model

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"studioworker/ui/words"
	"studioworker/worker/observe"
)

func testKeys() []observe.ConfigKey {
	return []observe.ConfigKey{
		{Name: KeyStudio, Kind: "text", Value: "https://studio.example.org"},
		{Name: KeyThreshold, Kind: "number", Max: 4096, Value: "10"},
		{Name: "auto_update_interval_secs", Kind: "whole number", Min: 60, Max: 1000, Value: "600"},
		{Name: "auto_update_feed", Kind: "text"},
		{Name: KeyModels, Kind: "path", Value: "/models"},
		{Name: "ca_file", Kind: "path", Restart: true},
		{Name: KeyHours, Kind: "list of texts"},
		{Name: "only_when_idle", Kind: "true or false", Value: "false"},
		{Name: "of_tomorrow", Kind: "whole number", Unit: "s", Min: 0, Meaning: "who knows"},
		{Name: "of_tomorrow_too", Kind: "true or false", Meaning: "who knows"},
	}
}

func TestSections(t *testing.T) {
	cards := observe.GPUs{List: []observe.GPU{{Total: 8 << 30}, {Total: 12<<30 - 1}}}
	sections := Sections(en, testKeys(), cards, true)
	var got []string
	for _, s := range sections {
		if s.Title == "" || len(s.Settings) == 0 {
			t.Errorf("empty card %+v", s)
		}
		for _, line := range s.Settings {
			got = append(got, line.Key)
			if line.Label == "" || line.Help == "" || line.Control == "" {
				t.Errorf("%+v", line)
			}
			switch line.Key {
			case KeyThreshold:
				if line.Max != 12 {
					t.Errorf("the slider ends at %v", line.Max)
				}
			case "of_tomorrow":
				if line.Control != ControlText || line.Label != "of_tomorrow" || line.Unit != "s" {
					t.Errorf("%+v", line)
				}
			case "of_tomorrow_too":
				if line.Control != ControlSwitch {
					t.Errorf("%+v", line)
				}
			case "ca_file":
				if !strings.HasSuffix(line.Help, "next start on.") {
					t.Errorf("%+v", line)
				}
			}
		}
	}
	for _, k := range testKeys() {
		if !slices.Contains(got, k.Name) {
			t.Errorf("%s is missing", k.Name)
		}
	}
	if !slices.Contains(got, KeyLogin) || slices.Contains(got, "drain_secs") {
		t.Errorf("got %v", got)
	}
	for _, s := range Sections(en, testKeys(), observe.GPUs{}, false) {
		for _, line := range s.Settings {
			if line.Key == KeyLogin || line.Key == KeyThreshold && line.Max != 24 {
				t.Errorf("%+v", line)
			}
		}
	}
	over := []observe.ConfigKey{{Name: KeyThreshold, Kind: "number", Value: "32.5"}}
	if got := sliderMax(over[0], cards); got != 33 {
		t.Errorf("a value above the card ends the slider at %v", got)
	}
}

func TestForm(t *testing.T) {
	f := NewForm()
	f.Store(testKeys(), map[string]string{KeyVeil: "false", KeyLanguage: ""})
	if f.Changes() != nil || f.Undo() != nil || f.Value(KeyThreshold) != "10" || f.On("only_when_idle") {
		t.Errorf("fresh: %+v", f)
	}
	f.Set(KeyThreshold, " 8,5 ")
	f.Set(KeyVeil, "true")
	f.Set("only_when_idle", "false") // as it is
	if got := f.Changes(); len(got) != 2 || got[KeyThreshold] != "8.5" || !f.On(KeyVeil) {
		t.Errorf("changes %v", got)
	}
	if says, tone := f.Foot(en); says != "2 changes are not saved" || tone != ToneBusy {
		t.Errorf("says %q", says)
	}
	f.Set(KeyThreshold, "x")
	if key, err := f.Bad(en); key != KeyThreshold || err == nil {
		t.Errorf("bad %q, %v", key, err)
	}
	if says, tone := f.Foot(en); !strings.HasPrefix(says, "Not valid yet: ") || tone != ToneBad {
		t.Errorf("says %q", says)
	}
	f.Forget(KeyThreshold)
	f.Set(KeyThreshold, "10")
	if len(f.Changes()) != 1 {
		t.Errorf("back to what it was is a change: %v", f.Changes())
	}
	changes := f.Changes()
	f.Saved(changes)
	if f.Changes() != nil || f.Stored(KeyVeil) != "true" || f.Undo()[KeyVeil] != "false" {
		t.Errorf("saved: %+v", f)
	}
	f.Undone()
	if f.Value(KeyVeil) != "false" || f.Undo() != nil {
		t.Errorf("undone: %+v", f)
	}
	f.Set(KeyVeil, "true")
	f.Store(nil, map[string]string{KeyVeil: "true"}) // it came about elsewhere
	if f.Changes() != nil {
		t.Errorf("changes %v", f.Changes())
	}
	f.Set(KeyVeil, "false")
	f.Discard()
	if f.Changes() != nil {
		t.Errorf("changes %v", f.Changes())
	}
	if says, _ := f.Foot(en); says != "" {
		t.Errorf("says %q", says)
	}
}

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		key, text string
		good      bool
	}{
		{KeyStudio, "studio.example.org", true},
		{KeyStudio, "http://127.0.0.1:9790/x", true},
		{KeyStudio, "", false},
		{KeyStudio, "ftp://h", false},
		{KeyStudio, "https://", false},
		{KeyStudio, "https://name:word@h", false},
		{KeyStudio, "a b", false},
		{KeyThreshold, "0", true},
		{KeyThreshold, "12,5", true},
		{KeyThreshold, "-1", false},
		{KeyThreshold, "4097", false},
		{KeyThreshold, "NaN", false},
		{KeyThreshold, "", false},
		{"auto_update_interval_secs", "60", true},
		{"auto_update_interval_secs", "59", false},
		{"auto_update_interval_secs", "1001", false},
		{"auto_update_interval_secs", "1.5", false},
		{"of_tomorrow", "123456789", true},
		{"of_tomorrow", "", true},
		{"auto_update_feed", "", true},
		{"auto_update_feed", "https://h/releases", true},
		{"auto_update_feed", "gopher://h", false},
		{KeyModels, "", false},
		{KeyModels, "/elsewhere", true},
		{"ca_file", "", true},
		{"ca_file", "/a.pem", true},
		{"ca_file", "~/a.pem", true},
		{"ca_file", "a.pem", false},
		{KeyHours, "", true},
		{KeyHours, "mon 08:00-09:00", true},
		{KeyHours, PlanOf(Grid{}), false},
		{KeyHours, "someday", false},
		{KeyHours, strings.Repeat("mon 08:00-09:00\n", 65), false},
		{KeyTheme, "dark", true},
	} {
		f := NewForm()
		f.Store(testKeys(), nil)
		f.Set(tc.key, tc.text)
		if err := f.Check(en, tc.key); (err == nil) != tc.good {
			t.Errorf("%s = %q: %v", tc.key, tc.text, err)
		}
	}
	f := NewForm()
	f.Store([]observe.ConfigKey{{Name: KeyModels, Kind: "path"}}, nil)
	if err := f.Check(en, KeyModels); err != nil {
		t.Errorf("what is in force is held against the person: %v", err)
	}
	if PlanOf(FullGrid()) != "" {
		t.Error("always is a plan")
	}
}

func TestStudioTrouble(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range []observe.StudioProblem{observe.StudioBadAddress, observe.StudioUnreachable, observe.StudioNoStudio, observe.StudioInTrouble, "new"} {
		for _, tr := range []*words.Printer{en, words.New(words.German)} {
			got := StudioTrouble(tr, &observe.StudioError{Problem: p, Address: "https://h", Detail: "no\nroute"})
			if seen[got] || !strings.Contains(got, "https://h") || !strings.HasSuffix(got, "(no route)") {
				t.Errorf("%s: %q", p, got)
			}
			seen[got] = true
		}
	}
	if got := StudioTrouble(en, errors.New("other")); got != "other" {
		t.Errorf("got %q", got)
	}
}

func TestFolderRoom(t *testing.T) {
	for _, tc := range []struct {
		free uint64
		err  error
		says string
		tone Tone
	}{
		{250_000_000_000, nil, "250 GB free on its disk", ToneMuted},
		{3_000_000_000, nil, "3.0 GB free on its disk: little for models", ToneBusy},
		{math.MaxUint64, nil, "9,223,372 TB free on its disk", ToneMuted},
		{0, errors.New("no such folder"), "This folder cannot be looked at: no such folder", ToneBad},
	} {
		if says, tone := FolderRoom(en, tc.free, tc.err); says != tc.says || tone != tc.tone {
			t.Errorf("got %q, %v, want %q", says, tone, tc.says)
		}
	}
}

func TestAbout(t *testing.T) {
	s := connected()
	s.Settings.Commit, s.Settings.ConfigPath = "abc", "/c/config.toml"
	for _, tc := range []struct {
		u              observe.Update
		says           string
		check, restart bool
	}{
		{observe.Update{}, "Nobody has looked for a newer version yet", true, false},
		{observe.Update{Checked: now}, "This is the newest version", true, false},
		{observe.Update{State: observe.UpdateUnsupported, Detail: "use the package manager."}, "This copy does not update itself: use the package manager", false, false},
		{observe.Update{State: observe.UpdateChecking}, "Looking for a newer version", false, false},
		{observe.Update{State: observe.UpdateAvailable, Version: "1.2"}, "Version 1.2 is there", true, false},
		{observe.Update{State: observe.UpdateDownloading, Version: "1.2", Done: 5_000_000}, "Version 1.2 is being fetched: 5.0 MB", false, false},
		{observe.Update{State: observe.UpdateDownloading, Version: "1.2", Done: 5_000_000, Bytes: 20_000_000}, "Version 1.2 is being fetched: 5.0 MB of 20 MB", false, false},
		{observe.Update{State: observe.UpdateReady, Version: "1.2"}, "Version 1.2 is ready and waits until nothing runs", true, true},
		{observe.Update{State: observe.UpdateApplying, Version: "1.2"}, "Version 1.2 is being installed", false, false},
		{observe.Update{State: observe.UpdateHeld, Version: "1.2"}, "Version 1.2 did not run here; a later one is awaited", true, false},
		{observe.Update{State: observe.UpdateFailed, Detail: "no route"}, "The last look did not work: no route", true, false},
		{observe.Update{State: "new"}, "Unknown", true, false},
	} {
		a := NewAbout(en, s, tc.u, now)
		if a.Update != tc.says || a.CanCheck != tc.check || a.CanRestart != tc.restart {
			t.Errorf("%s: %+v", tc.u.State, a)
		}
		if a.Measured != (tc.u.Bytes > 0) || a.Measured && a.Fraction != 0.25 {
			t.Errorf("%s: fraction %v", tc.u.State, a.Fraction)
		}
	}
	a := NewAbout(en, s, observe.Update{Checked: now.Add(-time.Minute)}, now)
	if a.Version != "0.1.0" || a.Commit != "abc" || a.Config != "/c/config.toml" || a.Studio != "studio.example.org" || a.Checked != "Last look 1 min ago" {
		t.Errorf("%+v", a)
	}
	if a = NewAbout(en, Snapshot{}, observe.Update{}, now); a.Studio != "No studio chosen" || a.Commit != "unknown" {
		t.Errorf("%+v", a)
	}
}

func TestWelcomeStages(t *testing.T) {
	at := func(r observe.Registration) Welcome {
		return NewWelcome(en, with(func(s *Snapshot) { s.Registration = r }), now)
	}
	if got := NewWelcome(en, Snapshot{}, now); got.Stage != StageChoose {
		t.Errorf("%+v", got)
	}
	for _, tc := range []struct {
		r    observe.Registration
		want Welcome
	}{
		{observe.Registration{}, Welcome{Stage: StageDone}},
		{observe.Registration{State: observe.RegistrationApproved}, Welcome{Stage: StageDone}},
		{observe.Registration{State: observe.RegistrationPristine}, Welcome{
			Stage: StageAsking, State: StateDisconnected, Title: "Asking the studio",
			Text: "studio.example.org has not answered yet. This goes on by itself.",
		}},
		{observe.Registration{State: observe.RegistrationPristine, Reason: "no route"}, Welcome{
			Stage: StageAsking, State: StateAttention, Title: "Asking the studio",
			Text: "studio.example.org does not answer as it should, and is asked again and again: no route",
		}},
		{observe.Registration{State: observe.RegistrationPending, RequestID: "rr-1", Since: now.Add(-time.Minute)}, Welcome{
			Stage: StageWaiting, State: StateDisconnected, Title: "Waiting for the studio's approval", Request: "rr-1",
			Text:  "The people of studio.example.org have to let this computer in once. If you know them, tell them this request:",
			Since: "Asked 1 min ago. The answer shows here by itself.",
		}},
		{observe.Registration{State: observe.RegistrationRejected, Reason: "unknown"}, Welcome{
			Stage: StageDeclined, State: StateAttention, Title: "The studio declined this computer",
			Text: "The people of studio.example.org said no: unknown",
		}},
	} {
		if got := at(tc.r); got != tc.want {
			t.Errorf("got %+v, want %+v", got, tc.want)
		}
	}
}
