package words

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"studioworker/assets"
)

func TestNewPicksALanguage(t *testing.T) {
	for _, tc := range []struct {
		want   string
		wanted []string
	}{
		{English, nil},
		{English, []string{""}},
		{English, []string{"en_US"}},
		{English, []string{"C"}},
		{English, []string{"fr-FR"}},
		{English, []string{"no language at all"}},
		{German, []string{"de"}},
		{German, []string{"de-AT"}},
		{German, []string{"gsw-CH", "de"}},
		{German, []string{"fr", "de-DE"}},
		{English, []string{"en", "de"}},
	} {
		if got := New(tc.wanted...).Language(); got != tc.want {
			t.Errorf("%q gives %s, want %s", tc.wanted, got, tc.want)
		}
	}
}

func TestPrinter(t *testing.T) {
	en, de := New(English), New(German)
	at := time.Date(2026, time.March, 5, 8, 4, 0, 0, time.UTC) // a Thursday
	for _, tc := range []struct{ got, want string }{
		{en.T("Pause"), "Pause"},
		{en.T("%d new lines", 1), "1 new line"},
		{en.T("%d new lines", 0), "0 new lines"},
		{en.T("%d new lines", 1234), "1,234 new lines"},
		{en.T("no such key, %d %%", 3), "no such key, 3 %"},
		{en.Number(3.14, 1), "3.1"},
		{en.Hour(at), "08:04"},
		{en.Weekday(at.Weekday()), "Thu"},
		{en.Date(at, false), "5 Mar"},
		{en.Date(at, true), "5 Mar 2026"},
		{en.Inside("Waiting: you"), "waiting: you"},
		{en.Inside("GPU found"), "GPU found"},
		{en.Inside(""), ""},
		{en.Join(nil), ""},
		{en.Join([]string{"a"}), "a"},
		{en.Join([]string{"a", "b", "c"}), "a, b and c"},
		{de.T("Jobs"), "Aufträge"},
		{de.T("%d new lines", 1), "1 neue Zeile"},
		{de.T("%d new lines", 1234), "1.234 neue Zeilen"},
		{de.T("no such key, %d %%", 3), "no such key, 3 %"},
		{de.Number(1234.5, 1), "1.234,5"},
		{de.Hour(at), "08:04"},
		{de.Weekday(at.Weekday()), "Do"},
		{de.Date(at, false), "5. März"},
		{de.Date(at, true), "5. März 2026"},
		{de.Inside("Ungeduld"), "Ungeduld"},
		{de.Join([]string{"a", "b"}), "a und b"},
	} {
		if tc.got != tc.want {
			t.Errorf("got %q, want %q", tc.got, tc.want)
		}
	}
}

func TestWordingRefuses(t *testing.T) {
	for _, data := range []string{`3`, `""`, `{}`, `{"one":"x"}`, `["a"]`, `null`} {
		var w wording
		if err := json.Unmarshal([]byte(data), &w); data != "null" && err == nil {
			t.Errorf("%s was taken as %+v", data, w)
		}
	}
}

// TestTranslationsAreSorted: in order of the keys a change is one line, and two
// people rarely write at one place.
func TestTranslationsAreSorted(t *testing.T) {
	for _, lang := range []string{English, German} {
		data, err := assets.Translations.ReadFile("translations/" + lang + ".json")
		if err != nil {
			t.Fatal(err)
		}
		tab := map[string]any{} // encoding sorts it
		if err := json.Unmarshal(data, &tab); err != nil {
			t.Fatal(err)
		}
		var sorted bytes.Buffer
		enc := json.NewEncoder(&sorted)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(tab); err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Split(string(data), "\n"), strings.Split(sorted.String(), "\n"); string(data) != sorted.String() {
			for i := range min(len(got), len(want)) {
				if got[i] != want[i] {
					t.Fatalf("%s.json, line %d:\n%s\nsorted it is\n%s", lang, i+1, got[i], want[i])
				}
			}
			t.Fatalf("%s.json has %d lines, sorted %d", lang, len(got), len(want))
		}
	}
}
