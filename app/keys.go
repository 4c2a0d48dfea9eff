package app

import (
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"studioworker/studio/client"
)

// operatorFlags are how a command reaches a studio as its operator.
type operatorFlags struct{ studio, tokenFile string }

func (f *operatorFlags) add(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&f.studio, "studio", "http://127.0.0.1:9790", "address of the studio")
	cmd.PersistentFlags().StringVar(&f.tokenFile, "token-file", "", "file with the operator's token (default: of the studio beside the config)")
}

// operator returns a client of the studio that the flags name.
func (c *command) operator(f operatorFlags) (*client.Client, error) {
	if f.tokenFile == "" {
		path, err := c.path()
		if err != nil {
			return nil, err
		}
		f.tokenFile = tokenFile(privateDir(path))
	}
	token, err := readSecretFile(f.tokenFile)
	if err != nil {
		return nil, err
	}
	c.asked = f.studio
	cl, err := client.New(f.studio, token, nil)
	if err != nil {
		return nil, usageError{err}
	}
	return cl, nil
}

func (c *command) keysCommand() *cobra.Command {
	var flags operatorFlags
	cmd := group("keys", "Make, list and revoke the API keys of a studio", "")
	flags.add(cmd)
	cmd.AddCommand(c.createKeyCommand(&flags), c.listKeysCommand(&flags), c.revokeKeyCommand(&flags))
	return cmd
}

func (c *command) createKeyCommand(flags *operatorFlags) *cobra.Command {
	var expires time.Duration
	var priority int
	cmd := &cobra.Command{
		Use: "create NAME [--expires 720h] [--max-priority N]", Short: "Make a key and print it, once",
		Args: oneName("create"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if expires < 0 {
				return usageError{errors.New("--expires must be a time from now, such as 720h")}
			}
			wish := client.KeyRequest{Name: args[0], MaxPriority: priority}
			if expires > 0 {
				wish.ExpiresAt = time.Now().Add(expires).UTC()
			}
			operator, err := c.operator(*flags)
			if err != nil {
				return err
			}
			key, err := operator.CreateKey(cmd.Context(), wish)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.Out, key.Text)
			fmt.Fprintf(c.Err, "key %s for %q; keep it now, it is not shown again\n", key.ID, key.Name)
			return nil
		},
	}
	cmd.Flags().DurationVar(&expires, "expires", 0, "time until the key ends by itself (default: never)")
	cmd.Flags().IntVar(&priority, "max-priority", 0, "highest priority that its jobs may have, -100 to 100")
	return cmd
}

func (c *command) listKeysCommand(flags *operatorFlags) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the keys", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			operator, err := c.operator(*flags)
			if err != nil {
				return err
			}
			keys, err := operator.Keys(cmd.Context())
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tBEGINS WITH\tNAME\tSTATE\tLAST USED")
			for _, k := range keys {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", k.ID, k.Prefix, k.Name, keyState(k, time.Now()), dateOr(k.LastUsedAt, "never"))
			}
			return w.Flush()
		},
	}
}

func (c *command) revokeKeyCommand(flags *operatorFlags) *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "Make a key void, for good", Args: oneName("revoke"),
		RunE: func(cmd *cobra.Command, args []string) error {
			operator, err := c.operator(*flags)
			if err != nil {
				return err
			}
			if err := operator.RevokeKey(cmd.Context(), args[0]); err != nil {
				return err
			}
			fmt.Fprintf(c.Out, "key %s is revoked\n", args[0])
			return nil
		},
	}
}

// oneName wants one argument that is not empty.
func oneName(command string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 || args[0] == "" {
			return usageError{fmt.Errorf("%s takes one argument", command)}
		}
		return nil
	}
}

func keyState(k client.Key, now time.Time) string {
	switch {
	case !k.RevokedAt.IsZero():
		return "revoked " + dateOr(k.RevokedAt, "")
	case !k.ExpiresAt.IsZero() && !k.ExpiresAt.After(now):
		return "expired " + dateOr(k.ExpiresAt, "")
	case !k.ExpiresAt.IsZero():
		return "until " + dateOr(k.ExpiresAt, "")
	default:
		return "valid"
	}
}

func dateOr(t time.Time, none string) string {
	if t.IsZero() {
		return none
	}
	return t.Local().Format("2006-01-02 15:04")
}
