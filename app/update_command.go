package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"studioworker/worker/config"
	"studioworker/worker/network"
	"studioworker/worker/observe"
	"studioworker/worker/update"
	"studioworker/worker/update/versions"
)

// Questions about updates.
const (
	askUpdate      = "update"
	askCheckUpdate = "check-update"
	askApplyUpdate = "apply-update"
	askIdleUpdate  = "apply-update-when-idle"
)

// checkTime bounds a look for updates: a list, and two documents with their signatures.
const checkTime = 90 * time.Second

// updateStatus is what is said of updates.
type updateStatus struct {
	Running   string         `json:"running,omitempty"` // the version that runs; empty = none
	State     string         `json:"state"`
	Version   string         `json:"version,omitempty"` // what the state is about
	Bytes     int64          `json:"bytes,omitempty"`
	Done      int64          `json:"done,omitempty"`
	Checked   time.Time      `json:"checked,omitzero"`
	Detail    string         `json:"detail,omitempty"`
	Notes     string         `json:"notes,omitempty"`
	Trial     bool           `json:"trial,omitempty"` // the running version has to prove itself
	Held      []versions.Bad `json:"held,omitempty"`
	Installed string         `json:"installed,omitempty"` // the program that this command is
}

// answerUpdate answers a question about updates.
func (h *host) answerUpdate(command string) (*updateStatus, string) {
	ctx, cancel := context.WithTimeout(context.Background(), checkTime)
	defer cancel()
	var err error
	switch command {
	case askCheckUpdate:
		err = h.updates.check(ctx)
	case askApplyUpdate, askIdleUpdate:
		err = h.updates.ask(command == askIdleUpdate)
	}
	if err != nil {
		return nil, err.Error()
	}
	s := newUpdateStatus(h.observers.Update.Get())
	s.Running = Version
	if h.updates.store != nil {
		if state, err := h.updates.store.Read(); err == nil {
			s.Held = state.Bad
			s.Trial = state.Candidate != nil && state.Candidate.Version.Version == Version
		}
	}
	return s, ""
}

func newUpdateStatus(u observe.Update) *updateStatus {
	s := &updateStatus{
		State: string(u.State), Version: u.Version, Bytes: u.Bytes, Done: u.Done, Checked: u.Checked, Detail: u.Detail, Notes: u.Notes,
	}
	if u.State == observe.UpdateNone {
		s.State = "none"
	}
	return s
}

func (c *command) updateCommand() *cobra.Command {
	cmd := group("update", "Look for a newer version and install it", `Look for a newer version and install it. A running worker does so by itself, as
auto_update_enabled of the config says; these commands do it now.`)
	cmd.AddCommand(
		c.updatePart("check", "Look for a newer version, and show its size and what it brings", askCheckUpdate),
		c.updatePart("apply", "Install the newest version now; a running worker restarts into it", askApplyUpdate),
		c.updatePart("status", "Show which version runs and how far an update is", askUpdate),
	)
	return cmd
}

func (c *command) updatePart(name, short, question string) *cobra.Command {
	var asJSON, whenIdle bool
	use := name + " [--json]"
	if question == askApplyUpdate {
		use += " [--when-idle]"
	}
	cmd := &cobra.Command{
		Use: use, Short: short, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := c.path()
			if err != nil {
				return err
			}
			asked := question
			if whenIdle {
				asked = askIdleUpdate
			}
			a, err := ask(cmd.Context(), path, asked)
			s := a.Update
			if errors.Is(err, errNotRunning) {
				s, err = c.updateHere(cmd.Context(), path, question)
			}
			if err != nil {
				return err
			}
			if s == nil {
				return errors.New("the running worker is another version and says nothing of updates")
			}
			s.Installed = Version
			if asJSON {
				return json.NewEncoder(c.Out).Encode(s)
			}
			return s.print(c.Out)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	if question == askApplyUpdate {
		cmd.Flags().BoolVar(&whenIdle, "when-idle", false, "let the running job end first, however long it takes")
	}
	return cmd
}

// updateHere does what a running worker would do, for the next start.
func (c *command) updateHere(ctx context.Context, path, question string) (*updateStatus, error) {
	if problem, _ := updateProblem(ctx); problem != "" {
		if question == askUpdate {
			return newUpdateStatus(observe.Update{State: observe.UpdateUnsupported, Detail: problem}), nil
		}
		return nil, fmt.Errorf("this copy does not update itself: %s", problem)
	}
	store, err := config.Open(path, plainLogger(c.Err))
	if err != nil {
		return nil, err
	}
	way, err := network.New(network.Config{CAFile: store.Get().CAFile})
	if err != nil {
		return nil, err
	}
	defer way.Close()
	var slot observe.Slot[observe.Update]
	updater, kept, err := newUpdater(filepath.Dir(path), update.Config{
		Observer: &slot, Log: plainLogger(io.Discard), HTTP: way.Client(),
		Settings: func() update.Settings { return updateSettings(store.Get()) }, InstallID: func() string { return store.Get().InstallID },
	})
	if err != nil {
		return nil, err
	}
	switch question {
	case askCheckUpdate:
		err = updater.Check(ctx)
	case askApplyUpdate:
		_, err = updater.Fetch(ctx)
		if errors.Is(err, update.ErrNothing) {
			err = nil
		}
	}
	if err != nil {
		return nil, err
	}
	s := newUpdateStatus(slot.Get())
	state, err := kept.Read()
	if err != nil {
		return nil, err
	}
	s.Held = state.Bad
	if question == askApplyUpdate && slot.Get().State == observe.UpdateReady {
		s.Detail = "it runs from the next start on"
	}
	return s, nil
}

func (s *updateStatus) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "installed:\t%s\n", s.Installed)
	switch {
	case s.Running == "":
		fmt.Fprintf(t, "running:\tno\n")
	case s.Trial:
		fmt.Fprintf(t, "running:\t%s, on probation\n", s.Running)
	default:
		fmt.Fprintf(t, "running:\t%s\n", s.Running)
	}
	line := s.State
	switch observe.UpdateState(s.State) {
	case "none":
		line = "nothing newer is known"
	case observe.UpdateUnsupported:
		line = "this copy does not update itself"
	case observe.UpdateAvailable:
		line = fmt.Sprintf("version %s is there, %s", s.Version, humanize.Bytes(uint64(max(s.Bytes, 0))))
	case observe.UpdateDownloading:
		line = fmt.Sprintf("version %s is being fetched: %s of %s", s.Version, humanize.Bytes(uint64(max(s.Done, 0))), humanize.Bytes(uint64(max(s.Bytes, 0))))
	case observe.UpdateReady:
		line = "version " + s.Version + " is ready"
	case observe.UpdateApplying:
		line = "version " + s.Version + " is being installed"
	case observe.UpdateHeld:
		line = "version " + s.Version + " failed here and is held until a higher one is there"
	case observe.UpdateFailed:
		line = "the last look did not work"
	default: // the state's own word will do
	}
	if s.Detail != "" {
		line += ": " + s.Detail
	}
	fmt.Fprintf(t, "update:\t%s\n", line)
	if !s.Checked.IsZero() {
		fmt.Fprintf(t, "last look:\t%s\n", s.Checked.Local().Format(time.DateTime))
	}
	for _, bad := range s.Held {
		fmt.Fprintf(t, "held:\t%s: %s\n", bad.Version, bad.Reason)
	}
	if s.Notes != "" {
		fmt.Fprintf(t, "\n%s\n", s.Notes)
	}
	return t.Flush()
}
