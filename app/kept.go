package app

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"studioworker/worker/observe"
)

// Questions about kept results.
const (
	askKept        = "kept"
	askSaveKept    = "save-kept"
	askDiscardKept = "discard-kept"
)

// saveTime bounds the copying of one result: 5 GB on a slow disk take minutes.
const saveTime = 30 * time.Minute

func (c *command) keptCommand() *cobra.Command {
	cmd := group("kept", "List, save and discard results that the studio would not take", `List, save and discard results that the studio would not take. Such a result
waits for the studio to offer its job again, for 7 days, and for the newest 5 GB
of them. What the studio simply has not got yet is not among them: it never goes.`)
	cmd.AddCommand(c.listKeptCommand(), c.saveKeptCommand(), c.discardKeptCommand())
	return cmd
}

func (c *command) listKeptCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list [--json]", Short: "List them, oldest first", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, more, err := c.kept(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(c.Out).Encode(list)
			}
			if len(list) == 0 {
				fmt.Fprintln(c.Out, "no results are kept")
				return nil
			}
			table := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "KEY\tJOB\tKIND\tMODEL\tSIZE\tKEPT\tGOES")
			for _, k := range list {
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.Key, printable(k.JobID), printable(k.Kind), printable(k.Model),
					humanize.Bytes(uint64(max(k.Bytes, 0))), humanize.Time(k.Since), humanize.Time(k.Expires))
			}
			if more > 0 {
				fmt.Fprintf(table, "and %d more\n", more)
			}
			return table.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (c *command) saveKeptCommand() *cobra.Command {
	return &cobra.Command{
		Use: "save KEY FILE", Short: "Copy one to a file; it stays kept", Args: exactly("save", "KEY", "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			to, err := filepath.Abs(args[1])
			if err != nil {
				return fmt.Errorf("find %s: %w", args[1], err)
			}
			if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
				return usageError{fmt.Errorf("%s is there already: name another file", to)}
			}
			if err := c.askKept(cmd.Context(), question{Command: askSaveKept, Key: args[0], Path: to}); err != nil {
				return err
			}
			fmt.Fprintf(c.Out, "saved %s\n", to)
			return nil
		},
	}
}

func (c *command) discardKeptCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "discard KEY [--yes]", Short: "Remove one for good", Args: exactly("discard", "KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				fmt.Fprintf(c.Out, "Discard the kept result %s for good? [y/N] ", args[0])
				if !c.confirmed() {
					return errors.New("nothing was discarded; say y, or use --yes")
				}
			}
			if err := c.askKept(cmd.Context(), question{Command: askDiscardKept, Key: args[0]}); err != nil {
				return err
			}
			fmt.Fprintf(c.Out, "discarded %s\n", args[0])
			return nil
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// confirmed reads one line and says whether it is a yes.
func (c *command) confirmed() bool {
	if c.In == nil {
		return false
	}
	line, err := bufio.NewReader(io.LimitReader(c.In, 100)).ReadString('\n')
	if err != nil && line == "" {
		return false
	}
	line = strings.ToLower(strings.TrimSpace(line))
	return line == "y" || line == "yes"
}

// exactly wants one argument for each name.
func exactly(command string, names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return usageError{fmt.Errorf("%s needs %s", command, strings.Join(names, " and "))}
		}
		return nil
	}
}

// askKept puts a question to the running worker.
func (c *command) askKept(ctx context.Context, q question) error {
	path, err := c.path()
	if err != nil {
		return err
	}
	_, err = askMore(ctx, path, q)
	return err
}

// kept asks the running worker for its kept results, and how many more there are.
func (c *command) kept(ctx context.Context) (list []observe.KeptResult, more int, err error) {
	path, err := c.path()
	if err != nil {
		return nil, 0, err
	}
	a, err := askMore(ctx, path, question{Command: askKept})
	if err != nil {
		return nil, 0, err
	}
	list = []observe.KeptResult{}
	for line := range strings.Lines(a.Lines) {
		var k observe.KeptResult
		if err := json.Unmarshal([]byte(line), &k); err != nil {
			return nil, 0, fmt.Errorf("the running worker's answer cannot be read: %w", err)
		}
		list = append(list, k)
	}
	return list, a.More, nil
}

// keptLines answers with the oldest kept results that fit, one as JSON on each
// line: they go first.
func (h *host) keptLines() answer {
	const room = maxAnswer - 1024 // bytes as JSON; the rest is for what is around
	var lines strings.Builder
	all := h.observers.Outbox.Get().Kept
	size := 0
	for i, k := range all {
		line, err := json.Marshal(k)
		if err != nil {
			return answer{Error: err.Error()}
		}
		inside, err := json.Marshal(string(line) + "\n") // as it goes over the socket
		if size += len(inside); err != nil || size > room {
			return answer{Lines: lines.String(), More: len(all) - i}
		}
		lines.Write(line)
		lines.WriteByte('\n')
	}
	return answer{Lines: lines.String()}
}

// wordKept words the error of an operation on a kept result.
func wordKept(err error) string {
	if err == nil {
		return ""
	}
	return err.Error() + "; see `studio-worker kept list`"
}

// printable keeps what a studio named from moving the cursor.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, text)
}
