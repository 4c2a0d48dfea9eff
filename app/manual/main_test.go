package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"studioworker/app"
)

// date stands in the head of each page.
var date = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func written(t *testing.T) (folder string, names []string) {
	t.Helper()
	folder = t.TempDir()
	if err := write(app.Commands(), folder, date); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return folder, names
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestEachCommandHasItsPage: a page for each command that people use, with its flags, and
// none for what the program calls by itself.
func TestEachCommandHasItsPage(t *testing.T) {
	folder, _ := written(t)
	var check func(c *cobra.Command)
	check = func(c *cobra.Command) {
		path := filepath.Join(folder, strings.ReplaceAll(c.CommandPath(), " ", "-")+".1")
		if c.Hidden && c.Name() != "run" {
			if _, err := os.Stat(path); err == nil {
				t.Errorf("%s is not for people and has a page", c.CommandPath())
			}
			return
		}
		page := read(t, path)
		for _, want := range []string{".TH ", "Mar 2026", "Studio Worker " + app.Version, ".SH SYNOPSIS", strings.ReplaceAll(c.CommandPath(), " ", "-") + " - "} {
			if !strings.Contains(page, want) {
				t.Errorf("the page of %s has no %q", c.CommandPath(), want)
			}
		}
		c.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && !strings.Contains(page, `\fB--`+f.Name+`\fP`) {
				t.Errorf("the page of %s has no flag --%s", c.CommandPath(), f.Name)
			}
		})
		for _, sub := range c.Commands() {
			if sub.Name() != "help" {
				check(sub)
			}
		}
	}
	check(app.Commands())
}

func TestCompletionsAskTheProgram(t *testing.T) {
	folder, _ := written(t)
	for name, want := range map[string]string{
		"studio-worker.bash": "complete -o default -F __start_studio-worker studio-worker",
		"_studio-worker":     "#compdef studio-worker",
		"studio-worker.fish": "complete -c studio-worker",
	} {
		text := read(t, folder, name)
		if !strings.Contains(text, want) || !strings.Contains(text, "__complete") {
			t.Errorf("%s has no %q or does not ask the program", name, want)
		}
	}
}

// The same program and date give the same files, whoever builds.
func TestManualIsReproducible(t *testing.T) {
	want, names := written(t)
	t.Setenv("SUDO_USER", "ada")
	got := filepath.Join(t.TempDir(), "usr", "share")
	if err := run([]string{got, strconv.FormatInt(date.Unix(), 10)}); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if read(t, got, name) != read(t, want, name) {
			t.Errorf("%s differs", name)
		}
	}
}

func TestManualRefuses(t *testing.T) {
	for _, args := range [][]string{nil, {"folder"}, {"folder", "today"}, {"/dev/null/folder", "0"}} {
		if err := run(args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
