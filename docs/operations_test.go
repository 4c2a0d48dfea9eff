package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"studioworker/app"
)

// TestEachVariableIsDescribed: operations.md names each variable that the program reads
// and that is not its own way to speak to itself.
func TestEachVariableIsDescribed(t *testing.T) {
	page, err := os.ReadFile("operations.md")
	if err != nil {
		t.Fatal(err)
	}
	own := []string{"STUDIO_WORKER_PIPES", "STUDIO_WORKER_INSTALLED", "STUDIO_WORKER_UNASKED"}
	variable := regexp.MustCompile(`"((?:STUDIO_WORKER|SENTRY|ORT)_[A-Z_]+)"`)
	found := 0
	for _, folder := range []string{"../app", "../worker", "../gpu", "../studio", "../ui"} {
		err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, match := range variable.FindAllStringSubmatch(string(text), -1) {
				found++
				if name := match[1]; !slices.Contains(own, name) && !strings.Contains(name, "_TEST_") && !strings.Contains(string(page), "`"+name+"`") {
					t.Errorf("%s reads %s, which operations.md does not name", path, name)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found < 10 {
		t.Errorf("only %d variables were found: this test looks in the wrong place", found)
	}
}

// TestEachCommandIsInTheReadme: the table of commands has each of them.
func TestEachCommandIsInTheReadme(t *testing.T) {
	page, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "## Commands")
	table, _, _ = strings.Cut(table, "\n## ")
	for _, cmd := range app.Commands().Commands() {
		if cmd.Hidden && cmd.Name() != "run" {
			continue
		}
		if !regexp.MustCompile("`" + cmd.Name() + "[ `]").MatchString(table) {
			t.Errorf("the README does not name the command %s", cmd.Name())
		}
	}
}

// TestWhatIsQuotedIsSaid: what troubleshooting.md quotes of the program is in its code.
func TestWhatIsQuotedIsSaid(t *testing.T) {
	page, err := os.ReadFile("troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, folder := range []string{"../app", "../worker", "../ui", "../studio/client"} {
		err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			code.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	system := []string{"connection refused", "no such host", "no space left"} // the system's words
	checked := 0
	for _, row := range tables(string(page)) {
		for _, cells := range row[1:] {
			for _, quoted := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[0], -1) {
				for part := range strings.SplitSeq(quoted[1], "…") {
					part = strings.TrimSpace(part)
					checked++
					if !slices.Contains(system, part) && !strings.Contains(code.String(), part) {
						t.Errorf("troubleshooting.md quotes %q, which nothing says", part)
					}
				}
			}
		}
	}
	if checked < 15 {
		t.Errorf("only %d quotations were found", checked)
	}
}
