// Command manual writes what packages ship beside the program: manual FOLDER SECONDS
// writes a page of the manual for each command, dated SECONDS since 1970, and the
// completions for bash, zsh and fish. The same sources and date give the same files.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"studioworker/app"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "manual:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: manual FOLDER SECONDS")
	}
	seconds, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return fmt.Errorf("SECONDS: %w", err)
	}
	// Who builds is the default of a flag, and must not stand in the manual.
	if err := os.Unsetenv("SUDO_USER"); err != nil {
		return err
	}
	return write(app.Commands(), args[0], time.Unix(seconds, 0).UTC())
}

// write writes the manual and the completions into folder.
func write(root *cobra.Command, folder string, date time.Time) error {
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // G301: everybody may read a manual
		return err
	}
	root.DisableAutoGenTag = true // names the day of the build
	for _, c := range root.Commands() {
		if c.Name() == "run" { // not in the help, where the window is meant; on a rig it is what one looks for
			c.Hidden = false
		}
	}
	header := doc.GenManHeader{Section: "1", Date: &date, Source: "Studio Worker " + app.Version, Manual: "Studio Worker"}
	if err := doc.GenManTree(root, &header, folder); err != nil {
		return fmt.Errorf("write the manual: %w", err)
	}
	for name, generate := range map[string]func(*bytes.Buffer) error{
		"studio-worker.bash": func(b *bytes.Buffer) error { return root.GenBashCompletionV2(b, true) },
		"_studio-worker":     func(b *bytes.Buffer) error { return root.GenZshCompletion(b) },
		"studio-worker.fish": func(b *bytes.Buffer) error { return root.GenFishCompletion(b, true) },
	} {
		var b bytes.Buffer
		if err := generate(&b); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), b.Bytes(), 0o644); err != nil { //nolint:gosec // G306: everybody may read it
			return err
		}
	}
	return nil
}
