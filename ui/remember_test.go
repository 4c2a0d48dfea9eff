package ui

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"studioworker/ui/model"
)

func TestRememberAndRecall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "window.json")
	first := firstState()
	if got, err := recall(path); err != nil || got != first {
		t.Errorf("first start: %v, %v", got, err)
	}
	odd := remembered{Width: 1000, Height: 700, Page: pageLogs, Preferences: Preferences{Language: "de", Theme: themeLight, Veil: true, NotifyFailed: true}}
	if err := remember(path, odd); err != nil {
		t.Fatal(err)
	}
	if got, err := recall(path); err != nil || got != odd {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := parseRemembered([]byte(`{"width":720,"height":480,"page":2}`)); err != nil || !got.NotifyDone || !got.NotifyFailed {
		t.Errorf("the file of an older version: %+v, %v", got, err)
	}
	if got, err := recall(""); err != nil || got != first || remember("", odd) != nil {
		t.Errorf("without a path: %v, %v", got, err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := recall(path); !errors.Is(err, errRemembered) || got != first {
		t.Errorf("damaged: %v, %v", got, err)
	}
	if _, err := recall(filepath.Dir(path)); err == nil {
		t.Error("a folder was read")
	}
	if err := remember(filepath.Dir(path), odd); err == nil {
		t.Error("a folder was replaced")
	}
	if err := remember(filepath.Join(path, "x"), odd); err == nil {
		t.Error("a file served as a folder")
	}
}

func TestParseRememberedRefuses(t *testing.T) {
	for name, data := range map[string]string{
		"nothing":   "",
		"no json":   "width = 3",
		"too small": `{"width":719,"height":480,"page":0}`,
		"too low":   `{"width":720,"height":479,"page":0}`,
		"too wide":  `{"width":20000,"height":480,"page":0}`,
		"too high":  `{"width":720,"height":20000,"page":0}`,
		"no page":   `{"width":720,"height":480,"page":5}`,
		"page -1":   `{"width":720,"height":480,"page":-1}`,
		"no theme":  `{"width":720,"height":480,"page":0,"theme":"pink"}`,
		"too long":  `{"width":720,"height":480,"page":0}` + strings.Repeat(" ", maxRemembered),
	} {
		if r, err := parseRemembered([]byte(data)); !errors.Is(err, errRemembered) {
			t.Errorf("%s: got %v, %v", name, r, err)
		}
	}
}

func TestPreferencesOfThePage(t *testing.T) {
	p := Preferences{Language: "de", Theme: themeDark, ReduceMotion: true, Veil: true, NotifyDone: true, NotifyFailed: true}
	if got := (Preferences{}).with(p.values()); got != p {
		t.Errorf("got %+v, want %+v", got, p)
	}
	if got := p.with(map[string]string{model.KeyVeil: "false", "drain_secs": "3"}); got.Veil || got.Language != "de" {
		t.Errorf("got %+v", got)
	}
}

func FuzzParseRemembered(f *testing.F) {
	f.Add([]byte(`{"width":720,"height":480,"page":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRemembered(data)
		if err != nil {
			return
		}
		path := filepath.Join(t.TempDir(), "w")
		if err := remember(path, r); err != nil {
			t.Fatal(err)
		}
		if got, err := recall(path); err != nil || got != r {
			t.Errorf("%v came back as %v, %v", r, got, err)
		}
	})
}
