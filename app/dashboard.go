package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"studioworker/studio/client"
)

func (c *command) dashboardCommand() *cobra.Command {
	var flags operatorFlags
	var only bool
	cmd := &cobra.Command{
		Use: "dashboard [--studio URL] [--token-file F] [--print]", Short: "Open a studio's dashboard in the browser, signed in", Args: noArgs,
		Long: `Open a studio's dashboard in the browser, signed in. The link that is printed
signs in whoever opens it first, once, within a minute. Without --studio it is
the private studio of this worker, or else the one at 127.0.0.1:9790.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			link, err := c.signInLink(cmd.Context(), flags, cmd.Flags().Changed("studio"))
			if err != nil {
				return err
			}
			fmt.Fprintln(c.Out, link.URL)
			if only || (runtime.GOOS == "linux" && os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "") {
				return nil
			}
			if err := openOutside(link.URL); err != nil {
				fmt.Fprintln(c.Err, "studio-worker: no browser was found; open the link yourself within a minute")
			}
			return nil
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&only, "print", false, "print the link, open nothing")
	return cmd
}

// signInLink asks the studio for a link. When no studio was named and the private
// one of this config is not running, the usual address is tried.
func (c *command) signInLink(ctx context.Context, flags operatorFlags, named bool) (client.SignInLink, error) {
	usual := flags.studio
	if !named {
		path, err := c.path()
		if err != nil {
			return client.SignInLink{}, err
		}
		// What cannot be read counts as no private studio: the usual address is next.
		if kept, err := os.ReadFile(addressFile(privateDir(path))); err == nil {
			flags.studio = strings.TrimSpace(string(kept))
		}
	}
	cl, err := c.operator(flags)
	if err != nil {
		return client.SignInLink{}, err
	}
	link, err := cl.SignInLink(ctx)
	if errors.Is(err, errRefused) && flags.studio != usual {
		flags.studio = usual
		if cl, err = c.operator(flags); err == nil {
			link, err = cl.SignInLink(ctx)
		}
	}
	return link, err
}

// openOutside opens a file or an address with the system's program for it.
func openOutside(target string) error {
	name, args := "xdg-open", []string{target}
	switch runtime.GOOS {
	case "darwin":
		name = "open"
	case "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler", target}
	}
	cmd := exec.CommandContext(context.Background(), name, args...) // #nosec G204 -- a file or a link of ours, as one argument
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // it is the person's program now; only its process is cleaned up
	return nil
}
