package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"studioworker/assets"
)

// TestLicencesAreCurrent: licences.txt speaks of the modules that are linked now,
// in their versions.
func TestLicencesAreCurrent(t *testing.T) {
	parts, err := linked(t.Context(), "studioworker")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, p := range parts {
		want = append(want, p.name+" "+p.version)
	}
	for i, l := range assets.Licences() {
		if len(l.Text) < 200 {
			t.Errorf("the licence of %s has %d bytes", l.Name, len(l.Text))
		}
		if i > 0 { // the first is Go's own
			got = append(got, l.Name+" "+l.Version)
		}
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("licences.txt is not current: run go generate ./assets\nit has\n%s\nlinked is\n%s", g, w)
	}
}

func TestText(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"LICENSE": "root\r\n=== terms  \n", "license.go": "package x", "x/COPYING.txt": "inner\n", "x/y/a.go": "package y", "z/NOTICE": "not linked",
	} {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := part{name: "m", root: root, folders: []string{root, filepath.Join(root, "x", "y")}}
	if got, err := p.text(); err != nil || got != "root\n === terms\n\n----\n\ninner" {
		t.Errorf("got %q, %v", got, err)
	}
	p = part{name: "m", root: filepath.Join(root, "x", "y"), folders: []string{filepath.Join(root, "x", "y")}}
	if _, err := p.text(); err == nil {
		t.Error("a module without a licence was passed over")
	}
	p.folders = []string{filepath.Join(root, "gone")}
	if _, err := p.text(); err == nil {
		t.Error("a folder that is not there was passed over")
	}
}
