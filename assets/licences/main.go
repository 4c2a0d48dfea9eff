// Command licences writes licences.txt in the folder assets: the licence of each
// module that is linked into the program, on any system and in any build, and of
// the Go library. Run it with go generate ./assets after a change of modules.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// part is a module with the folders that are linked of it.
type part struct {
	name, version string
	root          string
	folders       []string // of linked packages, root among them
}

// builds are the builds that people get.
func builds() [][]string {
	var all [][]string
	for _, system := range []string{"linux", "windows", "darwin"} {
		all = append(all, []string{system, "1", "migrated_fynedo"}, []string{system, "0", "headless"})
	}
	return all
}

// linked lists the modules of all builds of the program, by name.
func linked(ctx context.Context, program string) ([]part, error) {
	found := map[string]*part{}
	for _, b := range builds() {
		const form = "{{with .Module}}{{if not .Main}}{{.Path}}\t{{.Version}}\t{{.Dir}}{{end}}{{end}}\t{{.Dir}}"
		cmd := exec.CommandContext(ctx, "go", "list", "-deps", "-tags", b[2], "-f", form, program) // #nosec G204 -- fixed but for the package
		cmd.Env = append(os.Environ(), "GOOS="+b[0], "CGO_ENABLED="+b[1], "GOARCH=amd64")
		var says bytes.Buffer
		cmd.Stderr = &says
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("list the packages of %v: %w: %s", b, err, says.Bytes())
		}
		for line := range strings.Lines(string(out)) {
			f := strings.Split(strings.TrimSpace(line), "\t")
			if len(f) != 4 { // the standard library, or ours
				continue
			}
			p := found[f[0]]
			if p == nil {
				p = &part{name: f[0], version: f[1], root: f[2], folders: []string{f[2]}}
				found[f[0]] = p
			}
			if !slices.Contains(p.folders, f[3]) {
				p.folders = append(p.folders, f[3])
			}
		}
	}
	all := make([]part, 0, len(found))
	for _, p := range found {
		slices.Sort(p.folders)
		all = append(all, *p)
	}
	slices.SortFunc(all, func(a, b part) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

// licence is the name of a file that says under what terms its folder is given.
var licence = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|unlicense)([-._].*)?$`)

// text joins the licences of a module's linked folders, each once.
func (p part) text() (string, error) {
	var texts []string
	for _, dir := range p.folders {
		for _, up := range upTo(p.root, dir) {
			entries, err := os.ReadDir(up)
			if err != nil {
				return "", fmt.Errorf("read %s: %w", up, err)
			}
			for _, e := range entries {
				if e.IsDir() || !licence.MatchString(e.Name()) || strings.HasSuffix(e.Name(), ".go") {
					continue
				}
				data, err := os.ReadFile(filepath.Join(up, e.Name())) // #nosec G304 -- the module cache
				if err != nil {
					return "", fmt.Errorf("read the licence of %s: %w", p.name, err)
				}
				if text := tidy(string(data)); !slices.Contains(texts, text) {
					texts = append(texts, text)
				}
			}
		}
	}
	if len(texts) == 0 {
		return "", fmt.Errorf("%s: %w of its licence", p.name, fs.ErrNotExist)
	}
	return strings.Join(texts, "\n\n----\n\n"), nil
}

// upTo lists dir and the folders above it up to root.
func upTo(root, dir string) []string {
	all := []string{dir}
	for dir != root && strings.HasPrefix(dir, root) {
		dir = filepath.Dir(dir)
		all = append(all, dir)
	}
	slices.Reverse(all)
	return all
}

// tidy gives every text the same ends of lines, and no line that looks like a
// head.
func tidy(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, ""), "\r", "")
	lines := strings.Split(strings.Trim(text, "\n"), "\n")
	for i, line := range lines {
		line = strings.TrimRight(line, " \t\f")
		if strings.HasPrefix(line, "=== ") {
			line = " " + line
		}
		lines[i] = line
	}
	return strings.Join(lines, "\n")
}

func write(ctx context.Context, path string) error {
	parts, err := linked(ctx, "studioworker")
	if err != nil {
		return err
	}
	var out strings.Builder
	own, err := part{name: "Go", version: "", root: runtime.GOROOT(), folders: []string{runtime.GOROOT()}}.text() //nolint:staticcheck // the toolchain that runs this is the one that builds
	if err != nil {
		return err
	}
	fmt.Fprintf(&out, "=== The Go library\n\n%s\n\n", own)
	for _, p := range parts {
		text, textErr := p.text()
		err = errors.Join(err, textErr)
		fmt.Fprintf(&out, "=== %s %s\n\n%s\n\n", p.name, p.version, text)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(strings.TrimRight(out.String(), "\n")+"\n"), 0o644) // #nosec G306 -- a source file
}

func main() {
	if err := write(context.Background(), "licences.txt"); err != nil {
		fmt.Fprintln(os.Stderr, "licences:", err)
		os.Exit(1)
	}
}
