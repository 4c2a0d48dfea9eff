package service

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// The words of an entry's command, read by the two rules of the Desktop Entry
// Specification: a string's escapes, then quotes.
func entryWords(t *testing.T, exec string) []string {
	t.Helper()
	exec = strings.ReplaceAll(exec, `\\`, `\`)
	var words []string
	for exec = strings.TrimSpace(exec); exec != ""; exec = strings.TrimSpace(exec) {
		if exec[0] != '"' {
			t.Fatalf("word without quotes: %s", exec)
		}
		var word strings.Builder
		i := 1
		for ; i < len(exec) && exec[i] != '"'; i++ {
			if exec[i] == '\\' {
				i++
			}
			word.WriteByte(exec[i])
		}
		words, exec = append(words, strings.ReplaceAll(word.String(), "%%", "%")), exec[i+1:]
	}
	return words
}

func TestDesktopEntryKeepsOddPaths(t *testing.T) {
	const odd = `/a "b" %n $HOME ` + "`c`" + ` \d`
	_, exec, _ := strings.Cut(desktopEntry(Login{Program: odd, File: "/c d"}), "\nExec=")
	exec, _, _ = strings.Cut(exec, "\n")
	words := entryWords(t, exec)
	if len(words) != 5 || words[0] != odd || words[2] != "/c d" || words[4] != "--hidden" {
		t.Errorf("%s\nreads as %q", exec, words)
	}
}

// The unit of the packages is the one that `service install` writes, but for the program
// and its config.
func TestPackagesHaveTheSameUnit(t *testing.T) {
	packaged, err := os.ReadFile("../../scripts/packaging/studio-worker.service")
	if err != nil {
		t.Fatal(err)
	}
	settings := func(text string) (lines []string) {
		for line := range strings.Lines(text) {
			if line[0] != '#' && !strings.HasPrefix(line, "ExecStart=") {
				lines = append(lines, line)
			}
		}
		return lines
	}
	written := unit(Config{Program: "/usr/bin/studio-worker", File: "/c.toml", Drain: 20 * time.Second})
	if got, want := settings(string(packaged)), settings(written); !slices.Equal(got, want) {
		t.Errorf("packaged\n%s\nwritten\n%s", strings.Join(got, ""), strings.Join(want, ""))
	}
}

func TestPlistIsXML(t *testing.T) {
	text := plist(Name, `/a & <b> "c"`, []string{"--config", "/d", "run"}, true, "me", "/logs")
	decoder := xml.NewDecoder(strings.NewReader(text))
	var words []string
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if chars, ok := token.(xml.CharData); ok && strings.TrimSpace(string(chars)) != "" {
			words = append(words, string(chars))
		}
	}
	if got := strings.Join(words, "|"); !strings.Contains(got, `ProgramArguments|/a & <b> "c"|--config|/d|run|`) {
		t.Errorf("words %s\n%s", got, text)
	}
}

func TestUnitEscapesWhatSystemdReads(t *testing.T) {
	text := unit(Config{Program: `/a %n $HOME`, File: `/a "b" %n $HOME \d`})
	if want := `ExecStart="/a %%n $HOME" "--config" "/a \"b\" %%n $$HOME \\d" "run"`; !strings.Contains(text, want+"\n") {
		t.Errorf("no line %s in\n%s", want, text)
	}
}
