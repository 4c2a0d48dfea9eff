package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"studioworker/studio"
	"studioworker/studio/client"
)

// backupCommand asks a running studio for a backup.
func (c *command) backupCommand() *cobra.Command {
	var flags operatorFlags
	var results bool
	cmd := &cobra.Command{
		Use:   "backup [--studio URL] [--token-file F] [--results] FILE",
		Short: "Save what a running studio knows into a file",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("backup takes the name of one new file")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			studioClient, err := c.operator(flags)
			if err != nil {
				return err
			}
			n, err := saveBackup(cmd.Context(), studioClient, args[0], results)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.Out, "saved %d bytes in %s\n", n, args[0])
			return nil
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&results, "results", false, "save the results of jobs, too")
	return cmd
}

// saveBackup writes the file whole or not at all.
func saveBackup(ctx context.Context, from *client.Client, path string, results bool) (n int64, err error) {
	body, err := from.Backup(ctx, results)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, fmt.Errorf("save the backup: %w", err)
	}
	n, err = io.Copy(f, body)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, fmt.Errorf("save the backup: %w", errors.Join(err, os.Remove(path)))
	}
	return n, nil
}

// restoreCommand adds to a studio that does not run what a backup has and it has
// not.
func (c *command) restoreCommand() *cobra.Command {
	var cfg studio.Config
	var cluster studio.Cluster
	cmd := &cobra.Command{
		Use:   "restore [--data DIR | --nats URLS] FILE",
		Short: "Bring back from a backup what a stopped studio has lost",
		Long: `Bring back from a backup what a stopped studio has lost. What it still has stays
as it is, so this mends a damaged studio, and fills an empty folder.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("restore takes the name of one backup")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.studioFolder(&cfg); err != nil {
				return err
			}
			cfg.Log = plainLogger(c.Err)
			if err := useCluster(&cfg, cluster); err != nil {
				return err
			}
			f, err := os.Open(filepath.Clean(args[0]))
			if err != nil {
				return usageError{fmt.Errorf("open the backup: %w", err)}
			}
			defer func() { _ = f.Close() }() // only read
			records, parts, err := studio.Restore(cmd.Context(), cfg, f)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.Out, "brought back %d records and %d parts of results\n", records, parts)
			return nil
		},
	}
	cmd.Flags().StringVar(&cfg.Data, "data", "", "folder of the studio's data (default: studio beside the config)")
	clusterFlags(cmd, &cluster)
	return cmd
}

// studioFolder fills in the data folder of a studio that named none.
func (c *command) studioFolder(cfg *studio.Config) error {
	if cfg.Data != "" {
		return nil
	}
	path, err := c.path()
	if err != nil {
		return err
	}
	cfg.Data = privateDir(path)
	return nil
}
