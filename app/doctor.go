package app

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"studioworker/gpu"
	"studioworker/worker/atomicfile"
	"studioworker/worker/availability/disk"
	"studioworker/worker/availability/presence"
	"studioworker/worker/config"
	"studioworker/worker/doctor"
	"studioworker/worker/observe"
	"studioworker/worker/redact"
)

// errUnwell ends a doctor that found a problem; each has been printed.
var errUnwell = errors.New("problems were found; each line above says what mends it")

func (c *command) doctorCommand() *cobra.Command {
	var asJSON bool
	var bundle string
	cmd := &cobra.Command{
		Use: "doctor [--json] [--bundle FILE.zip]", Short: "Look for what keeps the worker from working", Args: noArgs,
		Long: `Look for what keeps the worker from working: files, disk, the way to the studio,
clock, credentials, graphics, engines, ports, presence, tray, update feed. Each problem comes
with what mends it. Exits 1 when there is one.

--bundle writes what was found, the config with its secrets masked, and the newest
log lines into a zip file that you can read before you give it to anybody. What was
taken out is marked [redacted: ...].`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := c.path()
			if err != nil {
				return err
			}
			running, err := ask(cmd.Context(), path, askStatus)
			found := c.examine(cmd.Context(), path, err == nil, !asJSON)
			if asJSON {
				if err := json.NewEncoder(c.Out).Encode(found); err != nil {
					return err
				}
			}
			if bundle != "" {
				if err := c.writeBundle(path, bundle, found, running); err != nil {
					return err
				}
			}
			for _, f := range found {
				if f.Result == doctor.Problem {
					return errUnwell
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&bundle, "bundle", "", "write a zip file for whoever helps you")
	return cmd
}

// examine makes the checks, and prints each finding as it comes.
func (c *command) examine(ctx context.Context, path string, running, show bool) []doctor.Finding {
	log := plainLogger(io.Discard)
	cards := gpu.New(gpu.Config{})
	open := func() (*config.Store, error) { return openConfig(ctx, path, cards, log) }
	cfg := doctor.Config{
		Path: path, Version: Version, Feed: Feed, Running: running,
		Open:   open,
		Lookup: net.DefaultResolver.LookupHost, IdleFor: presence.New().IdleFor, FreeDisk: disk.Free, GPUs: cards.List,
		Engines: func(ctx context.Context) []observe.Engine { return foundEngines(ctx, open, log) },
	}
	if canShow() {
		cfg.TrayHost = trayShown
	}
	marks := map[doctor.Result]string{doctor.OK: "ok", doctor.Problem: "PROBLEM", doctor.Skipped: "-"}
	found := []doctor.Finding{}
	doctor.Run(ctx, cfg, func(f doctor.Finding) {
		found = append(found, f)
		if !show {
			return
		}
		fmt.Fprintf(c.Out, "%-8s %-12s %s\n", marks[f.Result], f.Check, f.Detail)
		if f.Fix != "" {
			fmt.Fprintf(c.Out, "%-8s %-12s fix: %s\n", "", "", f.Fix)
		}
	})
	return found
}

// foundEngines lists the engines of this build and what they can serve now. What
// keeps them from being listed is another check's finding.
func foundEngines(ctx context.Context, open func() (*config.Store, error), log *slog.Logger) []observe.Engine {
	store, err := open()
	if err != nil {
		return nil
	}
	set, err := newEngines(enginesConfig{store: store, log: log})
	if err != nil {
		return nil
	}
	defer set.close()
	found, err := set.look(ctx)
	if err != nil {
		return nil
	}
	return found
}

// bundleLog is how much of the newest log file goes into a bundle, in bytes.
const bundleLog = 1 << 20

// writeBundle writes the zip file and says what is in it.
func (c *command) writeBundle(configPath, target string, found []doctor.Finding, running answer) error {
	if _, err := os.Lstat(target); err == nil {
		return usageError{fmt.Errorf("%s is there already: name another file", target)}
	}
	redactor, shown := c.redactor(configPath)
	findings, err := json.MarshalIndent(found, "", "  ")
	if err != nil {
		return err
	}
	state, err := json.MarshalIndent(running.Status, "", "  ")
	if err != nil {
		return err
	}
	log, err := lastLines(filepath.Join(filepath.Dir(configPath), "worker.log"), bundleLog)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read the log: %w", err)
	}
	crashes, err := crashReports(configPath)
	if err != nil {
		return err
	}
	about := fmt.Sprintf("studio-worker %s (%s), %s/%s\nwritten %s\n\nEvery file here is text. What was taken out is marked [redacted: ...].\nPrompts and results are not in it.\n",
		Version, variant, runtime.GOOS, runtime.GOARCH, time.Now().UTC().Format(time.RFC3339))
	files := []struct{ name, text string }{
		{"README.txt", about},
		{"doctor.json", string(findings)},
		{"config.toml", shown},
		{"status.json", string(state)},
		{"crashes.txt", crashes},
		{"worker.log", log},
	}
	var buffer bytes.Buffer
	archive := zip.NewWriter(&buffer)
	for _, f := range files {
		text := redactor.Text(f.text)
		w, err := archive.Create(f.name)
		if err == nil {
			_, err = io.WriteString(w, text)
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", f.name, err)
		}
		fmt.Fprintf(c.Out, "bundle: %-12s %6d bytes, %d places redacted\n", f.name, len(text), redact.Count(text))
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	if err := atomicfile.Write(target, buffer.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	fmt.Fprintf(c.Out, "bundle: %s; read it before you give it to anybody\n", target)
	return nil
}

// redactor knows the secrets of a config; shown is the config with them masked.
func (c *command) redactor(configPath string) (r *redact.Redactor, shown string) {
	var known redact.Config
	if store, err := config.Open(configPath, plainLogger(io.Discard)); err == nil {
		cfg := store.Get()
		known.Secrets = []string{cfg.AuthToken.Reveal(), cfg.RegistrationSecret.Reveal(), cfg.LocalAPIToken.Reveal()}
		shown, _ = store.Show() // a config that was read can be shown
	}
	if token, err := readSecretFile(tokenFile(privateDir(configPath))); err == nil {
		known.Secrets = append(known.Secrets, token)
	}
	known.Prompts = prompts(filepath.Join(filepath.Dir(configPath), "history", "jobs.jsonl"))
	known.Home, _ = os.UserHomeDir() // what is not known cannot be in a text either
	known.Host, _ = os.Hostname()
	if u, err := user.Current(); err == nil && u.Username != "root" { // root is a word, too
		known.User = u.Username
	}
	return redact.New(known), cmp.Or(shown, "the config cannot be read\n")
}

// historyTail is how much of the history is read for its prompts, in bytes.
const historyTail = 8 << 20

// prompts are those of the jobs that this computer remembers. An engine that fails may
// say them again, and then the log has them.
func prompts(history string) []string {
	text, err := lastLines(history, historyTail)
	if err != nil {
		return nil // nothing is remembered
	}
	var all []string
	for line := range strings.Lines(text) {
		var job struct{ Prompt, Preview string }
		if json.Unmarshal([]byte(line), &job) == nil {
			all = append(all, job.Prompt, strings.TrimSuffix(job.Preview, "…"))
		}
	}
	return all
}

// lastLines reads the last whole lines of a file, up to n bytes. No file is no lines.
func lastLines(path string, n int64) (text string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	start := max(0, info.Size()-n)
	data, err := io.ReadAll(io.NewSectionReader(f, start, n))
	if err != nil {
		return "", err
	}
	if start > 0 {
		_, data, _ = bytes.Cut(data, []byte("\n"))
	}
	return string(data), nil
}
