package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"studioworker/worker/config"
)

// Exit codes.
const (
	exitOK    = 0
	exitFail  = 1
	exitUsage = 2
)

// usageError is a command that cannot be followed as it stands.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Streams are where a command reads and writes.
type Streams struct {
	In  io.Reader // a person's answers; nil = there is nobody
	Out io.Writer // what was asked for
	Err io.Writer // logs and errors
}

// command is what all commands share.
type command struct {
	Streams
	args       []string // as they came
	configPath string
	asked      string // address of the studio that was asked as its operator; empty = none
}

// Main runs one command and returns the exit code.
func Main(ctx context.Context, args []string, s Streams) int {
	c := &command{Streams: s, args: args}
	root := newRoot(c) //nolint:contextcheck // cobra hands ctx to each command
	root.SetArgs(args)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if code, ok := errors.AsType[exitError](err); ok { // another process has said why
		return int(code)
	}
	if c.asked != "" && errors.Is(err, errRefused) {
		err = fmt.Errorf("no studio runs at %s: start one with `studio-worker studio`, or name it with --studio", c.asked)
	}
	fmt.Fprintln(s.Err, "studio-worker:", err)
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitFail
}

// Commands is the whole command line, for what describes it. It has no streams: nothing in
// it can be run.
func Commands() *cobra.Command { return newRoot(&command{}) }

func newRoot(c *command) *cobra.Command {
	root := &cobra.Command{
		Use:   "studio-worker",
		Short: "Lend this computer's GPU to a studio",
		Long: `Studio Worker lends this computer's GPU to a studio: a server that queues image,
text, speech and video jobs. Without a command it opens the window.`,
		Version:           fmt.Sprintf("%s (%s)", Version, variant),
		SilenceErrors:     true,
		SilenceUsage:      true,
		Args:              noCommand,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		RunE:              func(cmd *cobra.Command, _ []string) error { return c.ui(cmd.Context(), false) },
	}
	root.SetVersionTemplate("studio-worker {{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().StringVar(&c.configPath, "config", "", "config file (default: config.toml in the user's config folder)")
	root.AddCommand(
		c.uiCommand(), c.runCommand(), c.demoCommand(), c.studioCommand(), c.submitCommand(), c.keysCommand(), c.registryCommand(),
		c.statusCommand(), c.logsCommand(), c.keptCommand(), c.configCommand(), c.thresholdCommand(), c.registerCommand(),
		c.dashboardCommand(),
		c.pauseCommand(),
		c.serviceCommand(),
		c.setupCommand(),
		c.modelsCommand(),
		c.doctorCommand(),
		c.enginesCommand(),
		c.engineHostCommand(),
		c.crashesCommand(),
		c.updateCommand(),
		c.toInstance("resume", "Take jobs again"),
		c.toInstance("quit", "Stop the running worker in good order"),
		&cobra.Command{
			Use: "version", Short: "Print the version", Args: noArgs,
			Run: func(*cobra.Command, []string) { fmt.Fprint(c.Out, versionText()) },
		},
	)
	plainUse(root)
	return root
}

// plainUse has the help show the usage of each command as it was written.
func plainUse(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		sub.DisableFlagsInUseLine = true
		plainUse(sub)
	}
}

// group is a command that does nothing without the name of one of its own.
func group(use, short, long string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long,
		Args: func(cmd *cobra.Command, _ []string) error {
			var names []string
			for _, sub := range cmd.Commands() {
				names = append(names, sub.Name())
			}
			return usageError{fmt.Errorf("%s needs one of: %s", cmd.Name(), strings.Join(names, ", "))}
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
}

// noCommand refuses what is not the name of a command, with our exit code.
func noCommand(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return usageError{err}
	}
	return nil
}

// noArgs is cobra.NoArgs with our exit code.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%s takes no argument, got %q", cmd.Name(), args[0])}
	}
	return nil
}

// path returns the config file in force.
func (c *command) path() (string, error) {
	path := c.configPath
	if path == "" {
		var err error
		if path, err = config.DefaultPath(); err != nil {
			return "", err
		}
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find the config: %w", err)
	}
	return path, nil
}

// stateDir is where the program keeps what is not the person's settings.
func stateDir() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "studio-worker"), nil
	}
	dir, err := platformStateDir()
	if err != nil {
		return "", fmt.Errorf("find the state folder: %w", err)
	}
	return filepath.Join(dir, "studio-worker"), nil
}
