package app

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"studioworker/worker/models"
)

func (c *command) modelsCommand() *cobra.Command {
	cmd := group("models", "List, verify, pin and remove the model files of this computer", `List, verify, pin and remove the model files of this computer.
They lie in the folder models_root of the config. What a studio's jobs fetched is
removed, the longest unused first, when models_quota_gb or the disk asks for it;
what you put there yourself is never touched.`)
	cmd.AddCommand(c.modelsList(), c.modelsVerify(), c.modelsPin("pin", "Never remove a model to make room", true),
		c.modelsPin("unpin", "Let a model be removed to make room again", false), c.modelsRemove())
	return cmd
}

// withModels opens the store of model files for one command.
func (c *command) withModels(cmd *cobra.Command, use func(context.Context, *models.Store) error) error {
	store, err := c.openStore(cmd.Context())
	if err != nil {
		return err
	}
	files, web, err := newModels(store, nil, plainLogger(c.Err))
	if err != nil {
		return err
	}
	defer web.Close()
	ctx, stop := untilSignal(cmd.Context())
	defer stop()
	return use(ctx, files)
}

func (c *command) modelsList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the model files", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withModels(cmd, func(_ context.Context, s *models.Store) error {
				list, err := s.List()
				if err != nil {
					return err
				}
				if len(list) == 0 {
					fmt.Fprintln(c.Out, "no model files; the first job that needs one fetches it")
					return nil
				}
				var all uint64
				table := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
				fmt.Fprintln(table, "FILE\tMODEL\tSIZE\tLAST USED\tNOTE")
				for _, k := range list {
					all += uint64(k.Bytes)
					fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", k.Path, orDash(k.Model), humanize.IBytes(uint64(k.Bytes)), lastUsed(k.Used), keptNote(k))
				}
				if err := table.Flush(); err != nil {
					return err
				}
				fmt.Fprintf(c.Out, "%d files, %s\n", len(list), humanize.IBytes(all))
				return nil
			})
		},
	}
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func lastUsed(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return humanize.Time(at)
}

func keptNote(k models.Kept) string {
	switch {
	case k.Partial:
		return "unfinished download"
	case k.Pinned:
		return "pinned"
	case k.Model == "":
		return "your own"
	default:
		return ""
	}
}

// errDamaged: a look at the model files found bad ones.
var errDamaged = errors.New("some model files are damaged; `studio-worker models verify --repair` fetches them again")

func (c *command) modelsVerify() *cobra.Command {
	var repair bool
	cmd := &cobra.Command{
		Use: "verify [--repair] [MODEL|FILE]", Short: "Compare fetched files with their checksums", Args: atMostOne("a model or a file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			word := ""
			if len(args) > 0 {
				word = args[0]
			}
			return c.withModels(cmd, func(ctx context.Context, s *models.Store) error {
				good := true
				list, err := s.Verify(ctx, word, repair, func(checked models.Checked) {
					state := "ok"
					switch {
					case checked.Repaired:
						state = "repaired: " + checked.Problem
					case checked.Problem != "":
						state, good = "DAMAGED: "+checked.Problem, false
					}
					fmt.Fprintf(c.Out, "%s  %s\n", checked.Path, state)
				})
				if err != nil {
					return err
				}
				if len(list) == 0 {
					fmt.Fprintln(c.Out, "nothing was fetched yet")
				}
				if !good {
					return errDamaged
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "set damaged files aside and fetch them again")
	return cmd
}

func (c *command) modelsPin(name, short string, pinned bool) *cobra.Command {
	return &cobra.Command{
		Use: name + " MODEL|FILE", Short: short, Args: exactlyOne("a model or a file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withModels(cmd, func(_ context.Context, s *models.Store) error {
				if err := s.Pin(args[0], pinned); err != nil {
					return err
				}
				fmt.Fprintf(c.Out, "%s: %sned\n", args[0], name)
				return nil
			})
		},
	}
}

func (c *command) modelsRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove MODEL|FILE", Short: "Remove fetched files", Args: exactlyOne("a model or a file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withModels(cmd, func(_ context.Context, s *models.Store) error {
				freed, err := s.Remove(args[0])
				if freed > 0 {
					fmt.Fprintf(c.Out, "freed %s\n", humanize.IBytes(uint64(freed)))
				}
				return err
			})
		},
	}
}

// exactlyOne takes one argument, named what.
func exactlyOne(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 || args[0] == "" {
			return usageError{fmt.Errorf("this takes %s", what)}
		}
		return nil
	}
}

// atMostOne takes one argument, named what, or none.
func atMostOne(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usageError{fmt.Errorf("this takes %s, or nothing", what)}
		}
		return nil
	}
}
