// Command generate writes the table of keys in docs/config.md from what worker/config
// knows of them. Run it with go generate ./docs/generate after a change of keys.
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"studioworker/worker/config"
)

//go:generate go run . ../config.md

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: generate PAGE")
	}
	page, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	next, err := replace(string(page), table())
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	return os.WriteFile(args[0], []byte(next), 0o644) //nolint:gosec // G306: a page of the documentation
}

// Between these lines of the page lies what is written here.
const (
	begin = "<!-- written by go generate ./docs/generate, from worker/config -->\n"
	end   = "<!-- end of what is written -->\n"
)

// replace puts text between the two lines of a page.
func replace(page, text string) (string, error) {
	before, rest, ok := strings.Cut(page, begin)
	if !ok {
		return "", fmt.Errorf("it has no line %q", strings.TrimSpace(begin))
	}
	_, after, ok := strings.Cut(rest, end)
	if !ok {
		return "", fmt.Errorf("it has no line %q", strings.TrimSpace(end))
	}
	return before + begin + text + end + after, nil
}

// table describes each key in a row.
func table() string {
	var b strings.Builder
	b.WriteString("| key | type | default | meaning |\n| --- | --- | --- | --- |\n")
	for _, d := range config.Descriptors() {
		meaning := d.Meaning
		if d.Restart && !strings.HasSuffix(meaning, "read at the start") {
			meaning += "; a change holds from the next start on"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", d.Key, kind(d), d.Default, meaning)
	}
	return b.String()
}

// kind is what a key holds, with the bounds and the unit of a number.
func kind(d config.Descriptor) string {
	if d.Max == 0 {
		return string(d.Kind)
	}
	number := func(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }
	return strings.TrimSpace(string(d.Kind) + ", " + number(d.Min) + " to " + number(d.Max) + " " + d.Unit)
}
