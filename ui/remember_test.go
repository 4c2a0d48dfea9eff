package ui

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fyne.io/fyne/v2"
)

func TestRememberAndRecall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "window.json")
	first := remembered{defaultWidth, defaultHeight, 0, false}
	if got, err := recall(path); err != nil || got != first {
		t.Errorf("first start: %v, %v", got, err)
	}
	if err := remember(path, fyne.NewSize(1000, 700), pageLogs, true); err != nil {
		t.Fatal(err)
	}
	if got, err := recall(path); err != nil || got != (remembered{1000, 700, pageLogs, true}) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := recall(""); err != nil || got != first || remember("", fyne.NewSize(1, 1), 0, false) != nil {
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
	if err := remember(filepath.Dir(path), fyne.NewSize(1, 1), 0, false); err == nil {
		t.Error("a folder was replaced")
	}
	if err := remember(filepath.Join(path, "x"), fyne.NewSize(1, 1), 0, false); err == nil {
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
		"no page":   `{"width":720,"height":480,"page":3}`,
		"page -1":   `{"width":720,"height":480,"page":-1}`,
		"too long":  `{"width":720,"height":480,"page":0}` + strings.Repeat(" ", maxRemembered),
	} {
		if r, err := parseRemembered([]byte(data)); !errors.Is(err, errRemembered) {
			t.Errorf("%s: got %v, %v", name, r, err)
		}
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
		if err := remember(path, fyne.NewSize(r.Width, r.Height), r.Page, r.Veil); err != nil {
			t.Fatal(err)
		}
		if got, err := recall(path); err != nil || got != r {
			t.Errorf("%v came back as %v, %v", r, got, err)
		}
	})
}
