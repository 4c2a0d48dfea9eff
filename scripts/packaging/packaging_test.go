// Package packaging_test reads what a release is packed with.
package packaging_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// ini reads a file of sections with keys, as desktops and systemd have them.
func ini(t *testing.T, text string) map[string]map[string]string {
	t.Helper()
	all := map[string]map[string]string{}
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if line[0] == '[' && line[len(line)-1] == ']' {
			section = line[1 : len(line)-1]
			all[section] = map[string]string{}
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || all[section] == nil {
			t.Fatalf("not a line of the form: %s", line)
		}
		all[section][key] = value
	}
	return all
}

func TestDesktopEntry(t *testing.T) {
	entry := ini(t, read(t, "studio-worker.desktop"))["Desktop Entry"]
	for key, want := range map[string]string{"Type": "Application", "Name": "Studio Worker", "Exec": "studio-worker", "Icon": "studio-worker", "Terminal": "false"} {
		if entry[key] != want {
			t.Errorf("%s is %q, want %q", key, entry[key], want)
		}
	}
	if entry["Comment"] == "" || entry["Comment[de]"] == "" {
		t.Error("no comment in English and German")
	}
	// The icon is installed as one of 256 pixels.
	f, err := os.Open(filepath.Join("..", "..", "assets", "icon.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if size, err := png.DecodeConfig(f); err != nil || size.Width != 256 || size.Height != 256 {
		t.Errorf("icon %+v, %v", size, err)
	}
}

// elements has the text of each element of an XML file, by its name.
func elements(t *testing.T, text string) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	decoder := xml.NewDecoder(strings.NewReader(text))
	var open []string
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			open = append(open, token.Name.Local)
			for _, a := range token.Attr {
				key := token.Name.Local + "/" + a.Name.Local
				all[key] = append(all[key], a.Value)
			}
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			if text := strings.TrimSpace(string(token)); text != "" {
				all[open[len(open)-1]] = append(all[open[len(open)-1]], text)
			}
		}
	}
}

func TestMetadata(t *testing.T) {
	const file = "app.studioworker.desktop.metainfo.xml"
	got := elements(t, read(t, file))
	for key, want := range map[string]string{
		"id": strings.TrimSuffix(file, ".metainfo.xml"), "launchable": "studio-worker.desktop", "binary": "studio-worker",
		"project_license": "MIT", "release/version": "@VERSION@", "release/date": "@DATE@",
	} {
		if !slices.Equal(got[key], []string{want}) {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
	plist := strings.Join(elements(t, read(t, "Info.plist"))["string"], " ")
	for _, want := range []string{"app.studioworker.desktop", "studio-worker", "@VERSION@"} {
		if !strings.Contains(plist, want) {
			t.Errorf("Info.plist has no %s", want)
		}
	}
}

func TestUnit(t *testing.T) {
	unit := ini(t, read(t, "studio-worker.service"))
	if got := unit["Service"]["ExecStart"]; got != "/usr/bin/studio-worker run" {
		t.Errorf("it starts %q", got)
	}
	if unit["Install"]["WantedBy"] != "default.target" {
		t.Errorf("it cannot be enabled: %q", unit["Install"])
	}
}

// TestPackage: nfpm.yaml takes every variable from scripts/release, and reads as YAML.
func TestPackage(t *testing.T) {
	text, script := read(t, "nfpm.yaml"), read(t, "..", "release")
	text = regexp.MustCompile(`\$\{(\w+)\}`).ReplaceAllStringFunc(text, func(variable string) string {
		name := variable[2 : len(variable)-1]
		if !strings.Contains(script, name+"=$") || !strings.Contains(script, "$"+name+" ") && !strings.Contains(script, "$"+name+"'") {
			t.Errorf("scripts/release does not set %s", name)
		}
		return "x-" + name
	})
	var p struct {
		Name, Arch, Version, Maintainer, License string
		Conflicts                                []string
		Overrides                                map[string]struct{ Depends, Replaces []string }
		Contents                                 []struct{ Src, Dst, Type string }
	}
	if err := yaml.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	if p.Name != "x-NAME" || p.Arch != "x-ARCH" || p.Version != "x-VERSION" || p.License != "MIT" || p.Maintainer != "x-MAINTAINER" ||
		!slices.Equal(p.Conflicts, []string{"x-OTHER"}) || !slices.Equal(p.Overrides["deb"].Depends, []string{"x-DEB_DEPENDS"}) ||
		!slices.Equal(p.Overrides["rpm"].Depends, []string{"x-RPM_DEPENDS"}) || p.Overrides["rpm"].Replaces != nil ||
		len(p.Contents) != 1 || p.Contents[0].Src != "x-TREE/" || p.Contents[0].Dst != "/" {
		t.Errorf("%+v", p)
	}
}

// TestFilesOfTheScripts: what the scripts pack is there.
func TestFilesOfTheScripts(t *testing.T) {
	for _, script := range []string{"release", "release-macos"} {
		text := read(t, "..", script)
		found := 0
		for _, match := range regexp.MustCompile(`(?:\$p|scripts/packaging)/([\w.-]+)|\b(assets/[\w.-]+|LICENSE|README\.md|CHANGELOG\.md)`).FindAllStringSubmatch(text, -1) {
			path := filepath.Join("..", "..", match[2])
			if match[1] != "" {
				path = match[1]
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s packs what is not there: %v", script, err)
			}
			found++
		}
		if found < 4 {
			t.Errorf("%s seems to pack %d files", script, found)
		}
	}
}

func TestWindowsResources(t *testing.T) {
	var r struct {
		Icons    map[string]map[string][]string       `json:"RT_GROUP_ICON"`
		Manifest map[string]map[string]map[string]any `json:"RT_MANIFEST"`
		Version  map[string]map[string]map[string]any `json:"RT_VERSION"`
	}
	if err := json.Unmarshal([]byte(read(t, "winres.json")), &r); err != nil {
		t.Fatal(err)
	}
	icons := r.Icons["APP"]["0000"]
	if len(icons) == 0 {
		t.Error("no icon")
	}
	for _, icon := range icons {
		if _, err := os.Stat(icon); err != nil {
			t.Error(err)
		}
	}
	manifest := r.Manifest["#1"]["0409"]
	if manifest["execution-level"] != "as invoker" || manifest["long-path-aware"] != true {
		t.Errorf("manifest %v", manifest)
	}
	if r.Version["#1"]["0000"]["info"] == nil {
		t.Error("no version")
	}
}

// The scripts refuse what they cannot do before they begin.
func TestReleaseRefuses(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("releases are built on Linux")
	}
	const key = "RWQ="
	for _, test := range []struct {
		name, want string
		script     string
		args, env  []string
	}{
		{name: "no version", script: "release", want: "VERSION must look like"},
		{name: "not a version", script: "release", args: []string{"v1.2"}, want: "VERSION must look like"},
		{name: "a feed that nobody believes", script: "release", args: []string{"1.2.3"}, env: []string{"RELEASE_FEED=https://releases.example.org"}, want: "belong together"},
		{name: "keys without a feed", script: "release", args: []string{"1.2.3"}, env: []string{"RELEASE_ROOT_KEYS=" + key}, want: "belong together"},
		{name: "a feed in the clear", script: "release", args: []string{"1.2.3"}, env: []string{"RELEASE_FEED=http://releases.example.org", "RELEASE_ROOT_KEYS=" + key}, want: "https://"},
		{name: "a stamp of two words", script: "release", args: []string{"1.2.3"}, env: []string{"RELEASE_CRASHES=https://x y"}, want: "no spaces"},
		{name: "a maintainer without an address", script: "release", args: []string{"1.2.3"}, env: []string{"RELEASE_MAINTAINER=Your Name"}, want: "RELEASE_MAINTAINER must look like"},
		{name: "a maintainer that is no plain text", script: "release", args: []string{"1.2.3"}, env: []string{`RELEASE_MAINTAINER=A "B" <a@example.org>`}, want: "RELEASE_MAINTAINER must look like"},
		{name: "no place in the order", script: "release", args: []string{"1.2.3"}, env: []string{"RELEASE_SEQ=0"}, want: "RELEASE_SEQ"},
		{name: "nothing to sign", script: "release", args: []string{"--sign", "1.2.3", "."}, want: "--sign needs"},
		{name: "a Mac's app elsewhere", script: "release-macos", args: []string{"1.2.3"}, want: "on a Mac"},
		{name: "nothing to check", script: "release-check", args: []string{"."}, want: "usage"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "bash", append([]string{filepath.Join("..", test.script)}, test.args...)...)
			cmd.Env = append(os.Environ(), append([]string{"RELEASE_FEED=", "RELEASE_ROOT_KEYS=", "RELEASE_CRASHES=", "RELEASE_MAINTAINER="}, test.env...)...)
			out, err := cmd.CombinedOutput()
			if _, ok := errors.AsType[*exec.ExitError](err); !ok || !strings.Contains(string(out), test.want) {
				t.Errorf("%v, want a refusal that says %q:\n%s", err, test.want, out)
			}
		})
	}
}
