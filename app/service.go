package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"studioworker/worker/config"
	"studioworker/worker/protocol"
	"studioworker/worker/service"
)

// serviceOptions are the flags of the commands that touch the service.
type serviceOptions struct {
	system bool
	runAs  string
}

func (o *serviceOptions) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.system, "system", false, "a service of the system, not of your account; needs an administrator")
	cmd.Flags().StringVar(&o.runAs, "run-as", os.Getenv("SUDO_USER"), "account that a service of the system runs as")
}

func (c *command) serviceCommand() *cobra.Command {
	cmd := group("service", "Have the system start the worker at boot", `Have the system run the worker without a window from boot on: by systemd on Linux,
launchd on macOS, the service manager on Windows. A worker that fails is started
anew; one that was quit stays down.

The service is one of your account unless --system is given. On Windows it is
always the system's.`)
	cmd.AddCommand(c.serviceInstall(), c.serviceUninstall(), c.serviceStatus())
	return cmd
}

// service describes the service of this program and config.
func (c *command) service(store *config.Store, o serviceOptions) (*service.Service, error) {
	program, err := os.Executable()
	if err == nil {
		program, err = filepath.EvalSymlinks(program)
	}
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	cfg := service.Config{Program: program, File: store.Path(), Drain: store.Get().Drain(), System: o.system, User: o.runAs}
	if root := store.Get().ModelsRoot; filepath.IsAbs(root) {
		cfg.Writable = []string{root}
	}
	if o.system && o.runAs == "" && runtime.GOOS != "windows" {
		return nil, usageError{errors.New("--system needs the account that the worker runs as: add --run-as USER")}
	}
	return service.New(cfg)
}

// openService describes the service of this program and the config in force.
func (c *command) openService(cmd *cobra.Command, o serviceOptions) (*service.Service, error) {
	store, err := c.openStore(cmd.Context())
	if err != nil {
		return nil, err
	}
	return c.service(store, o)
}

func (c *command) serviceInstall() *cobra.Command {
	var o serviceOptions
	cmd := &cobra.Command{
		Use: "install [--system [--run-as USER]]", Short: "Install the service and start it; again changes nothing", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := c.openStore(cmd.Context())
			if err != nil {
				return err
			}
			return c.installService(cmd, store, o)
		},
	}
	o.add(cmd)
	return cmd
}

// installService installs the service and says how to see what it does.
func (c *command) installService(cmd *cobra.Command, store *config.Store, o serviceOptions) error {
	if !store.Chosen() {
		return usageError{errors.New("the service would have no studio to work for: choose one first with `register --api-base-url ADDRESS`, or use `setup`")}
	}
	s, err := c.service(store, o)
	if err != nil {
		return err
	}
	change, err := s.Install(cmd.Context())
	if err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "service: %s\n", change)
	st, err := s.Status(cmd.Context())
	if err != nil {
		return err
	}
	return c.printService(st)
}

func (c *command) serviceUninstall() *cobra.Command {
	var o serviceOptions
	cmd := &cobra.Command{
		Use: "uninstall [--system]", Short: "Stop the service and remove it; config and results stay", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := c.openService(cmd, o)
			if err != nil {
				return err
			}
			switch err := s.Uninstall(cmd.Context()); {
			case errors.Is(err, service.ErrNotInstalled):
				fmt.Fprintln(c.Out, "service: not installed, nothing to do")
			case err != nil:
				return err
			default:
				fmt.Fprintln(c.Out, "service: uninstalled")
			}
			return nil
		},
	}
	o.add(cmd)
	return cmd
}

func (c *command) serviceStatus() *cobra.Command {
	var o serviceOptions
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status [--system] [--json]", Short: "Say whether the service is installed and runs", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := c.openService(cmd, o)
			if err != nil {
				return err
			}
			st, err := s.Status(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(c.Out).Encode(st)
			}
			return c.printService(st)
		},
	}
	o.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (c *command) printService(st service.Status) error {
	yes := map[bool]string{true: "yes", false: "no"}
	w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "manager:\t%s\ninstalled:\t%s\n", st.Manager, yes[st.Installed])
	if st.Installed {
		fmt.Fprintf(w, "running:\t%s\nat boot:\t%s\n", yes[st.Running], yes[st.AtBoot])
	}
	if st.File != "" && st.Installed {
		fmt.Fprintf(w, "file:\t%s\n", st.File)
	}
	if st.Detail != "" {
		fmt.Fprintf(w, "note:\t%s\n", st.Detail)
	}
	return w.Flush()
}

func (c *command) setupCommand() *cobra.Command {
	var o serviceOptions
	var address string
	cmd := &cobra.Command{
		Use: "setup --api-base-url URL [--system [--run-as USER]]", Short: "Set up an unattended worker: studio, config and service", Args: noArgs,
		Long: `Set up an unattended worker: choose the studio, write the config, install the
service and start it. Doing it again changes only what differs.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if address == "" {
				return usageError{errors.New("setup needs the studio's address: --api-base-url URL")}
			}
			if _, err := protocol.ParseBase(address); err != nil {
				return usageError{fmt.Errorf("--api-base-url: %w", err)}
			}
			store, err := c.openStore(cmd.Context())
			if err != nil {
				return err
			}
			if store.Chosen() && store.Get().APIBaseURL == address {
				fmt.Fprintf(c.Out, "studio: %s, as before\n", address)
			} else {
				if err := store.Update(func(cfg *config.Config) { cfg.APIBaseURL = address }); err != nil {
					return err
				}
				// A worker that runs without the service takes it up, too.
				_, _ = ask(cmd.Context(), store.Path(), askReload)
				fmt.Fprintf(c.Out, "studio: %s, saved in %s\n", address, store.Path())
			}
			return c.installService(cmd, store, o)
		},
	}
	cmd.Flags().StringVar(&address, "api-base-url", "", "address of the studio")
	o.add(cmd)
	return cmd
}

// login is how the desktop starts this program.
func (h *host) login() (service.Login, error) {
	program, err := os.Executable()
	if err != nil {
		return service.Login{}, fmt.Errorf("find this program: %w", err)
	}
	if installed := h.parent.Installed(); installed != "" { // a version goes when the next is there
		program = installed
	}
	l := service.Login{Program: program, File: h.path}
	if usual, err := config.DefaultPath(); err == nil && usual == h.path {
		l.File = "" // the usual one, wherever the account moves to
	}
	return l, nil
}

// StartAtLogin says whether the desktop starts the program when the user logs in.
func (h *host) StartAtLogin() (bool, error) {
	l, err := h.login()
	if err != nil {
		return false, err
	}
	on, err := l.Enabled()
	h.atLogin.Store(err == nil && on)
	return on, err
}

// SetStartAtLogin has the desktop start the program when the user logs in, or not.
func (h *host) SetStartAtLogin(_ context.Context, on bool) error {
	l, err := h.login()
	if err != nil {
		return err
	}
	change := l.Disable
	if on {
		change = l.Enable
	}
	if err := change(); err != nil {
		return err
	}
	h.atLogin.Store(on)
	return nil
}
