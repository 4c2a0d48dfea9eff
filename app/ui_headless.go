//go:build headless

package app

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
)

// variant names this build.
const variant = "headless"

func canShow() bool { return false }

func trayShown(context.Context) (bool, error) { return false, errors.New("this build has no window") }

func (c *command) uiCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ui", Short: "Open the window (not in this build)", Args: noArgs, Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.ui(cmd.Context(), false) },
	}
}

func (c *command) ui(context.Context, bool) error {
	return errors.New("this build has no window: build one with `make build`, or use `run`, `demo` or `studio`")
}
