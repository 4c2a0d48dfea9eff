package app

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"studioworker/studio/client"
	"studioworker/worker/atomicfile"
)

func (c *command) registryCommand() *cobra.Command {
	var flags operatorFlags
	cmd := group("registry", "Export and import the models of a studio", "")
	flags.add(cmd)
	cmd.AddCommand(
		&cobra.Command{
			Use: "export FILE", Short: "Write all models to a file", Args: oneName("export"),
			RunE: func(cmd *cobra.Command, args []string) error {
				operator, err := c.operator(flags)
				if err != nil {
					return err
				}
				all, err := operator.Export(cmd.Context())
				if err != nil {
					return err
				}
				data, err := json.MarshalIndent(all, "", "  ")
				if err != nil {
					return fmt.Errorf("encode the models: %w", err)
				}
				if err := atomicfile.Write(args[0], append(data, '\n'), 0o644); err != nil {
					return fmt.Errorf("write the models: %w", err)
				}
				fmt.Fprintf(c.Out, "%d models in %s\n", len(all.Models), args[0])
				return nil
			},
		},
		&cobra.Command{
			Use: "import FILE", Short: "Write the models of a file to the studio; others stay", Args: oneName("import"),
			RunE: func(cmd *cobra.Command, args []string) error {
				all, err := readRegistry(args[0])
				if err != nil {
					return err
				}
				operator, err := c.operator(flags)
				if err != nil {
					return err
				}
				did, err := operator.Import(cmd.Context(), all)
				if err != nil {
					return err
				}
				fmt.Fprintf(c.Out, "%d new models, %d replaced\n", did.Created, did.Replaced)
				return nil
			},
		},
	)
	return cmd
}

// readRegistry reads an exported registry. The studio checks what is in it.
func readRegistry(path string) (client.Registry, error) {
	var all client.Registry
	f, err := os.Open(path)
	if err != nil {
		return all, fmt.Errorf("read the models: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, client.MaxRegistry+1))
	if err != nil {
		return all, fmt.Errorf("read the models: %w", err)
	}
	if len(data) > client.MaxRegistry {
		return all, fmt.Errorf("read the models: %s is larger than 16 MiB", path)
	}
	if err := json.Unmarshal(data, &all); err != nil {
		return all, fmt.Errorf("read the models: %s is no exported registry: %w", path, err)
	}
	return all, nil
}
