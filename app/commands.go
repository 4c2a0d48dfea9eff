package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"studioworker/gpu"
	"studioworker/studio"
	"studioworker/ui/model"
	"studioworker/worker/config"
	"studioworker/worker/protocol"
	"studioworker/worker/service"
	"studioworker/worker/update/supervisor"
)

func (c *command) runCommand() *cobra.Command {
	return &cobra.Command{
		Use: "run", Short: "Run the worker without a window, until it is stopped", Args: noArgs, Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := c.path()
			if err != nil {
				return err
			}
			return service.Managed(cmd.Context(), func(ctx context.Context) error {
				return c.watched(ctx, path, func(ctx context.Context, parent *supervisor.Parent) error {
					return c.runWorker(ctx, path, parent)
				})
			})
		},
	}
}

// runWorker runs a worker without a window.
func (c *command) runWorker(ctx context.Context, path string, parent *supervisor.Parent) error {
	h, err := openHost(ctx, hostConfig{path: path, stderr: c.Err, must: true, parent: parent})
	if errors.Is(err, errAlreadyRunning) {
		fmt.Fprintf(c.Err, "studio-worker: a worker with this config is running already%s; nothing to do\n", c.pidOf(ctx, path))
		return nil
	}
	if err != nil {
		return err
	}
	defer settleMemory(runGC)()
	return h.run(ctx)
}

// runGC is how much garbage a worker without a window may have beside what is in use, in
// percent, before it is collected.
const runGC = 50

// pidOf names the running instance, if it answers.
func (c *command) pidOf(ctx context.Context, path string) string {
	a, err := ask(ctx, path, askStatus)
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (pid %d)", a.PID)
}

func (c *command) studioCommand() *cobra.Command {
	var cfg studio.Config
	var flags reachFlags
	var keep keepFlags
	var memory int64
	var cluster studio.Cluster
	cmd := &cobra.Command{
		Use: "studio [--listen HOST:PORT] [--data DIR] [--auto-approve]", Short: "Be a studio: queue jobs for workers", Args: noArgs,
		Long: `Be a studio: approve workers, queue jobs, offer them, keep the results.
The operator's token is in DIR/operator-token after the first start. The
dashboard is at the studio's address; "studio-worker dashboard" opens it.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.studioFolder(&cfg); err != nil {
				return err
			}
			if err := useCluster(&cfg, cluster); err != nil {
				return err
			}
			if _, _, err := net.SplitHostPort(cfg.Listen); err != nil {
				return usageError{fmt.Errorf("--listen %s: write HOST:PORT, like 127.0.0.1:9790", cfg.Listen)}
			}
			if memory < 0 {
				return usageError{errors.New("--memory-limit must be 0, for no limit, or a number of MiB")}
			}
			if memory > 0 {
				debug.SetMemoryLimit(memory << 20)
			}
			cfg.Version, cfg.Log = Version, plainLogger(c.Err)
			if err := keep.apply(&cfg); err != nil {
				return err
			}
			closeLog, err := flags.apply(&cfg, c.Err)
			if err != nil {
				return err
			}
			defer closeLog()
			s, err := studio.New(cfg)
			if err != nil {
				return err
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			fmt.Fprintf(c.Out, "studio at %s, operator token in %s\n", s.Addr(), tokenFile(cfg.Data))
			return s.Run(ctx)
		},
	}
	cmd.Flags().StringVar(&cfg.Listen, "listen", "127.0.0.1:9790", "address to listen on")
	cmd.Flags().StringVar(&cfg.Data, "data", "", "folder of the studio's data (default: studio beside the config)")
	cmd.Flags().BoolVar(&cfg.AutoApprove, "auto-approve", false, "approve workers that register from this computer")
	flags.add(cmd)
	keep.add(cmd)
	cmd.Flags().BoolVar(&cfg.AcceptDamage, "accept-damage", false, "start with what is left of a damaged store")
	cmd.Flags().Int64Var(&memory, "memory-limit", 0, "MiB of memory that the studio tries to stay below (0: no limit)")
	clusterFlags(cmd, &cluster)
	cmd.AddCommand(c.backupCommand(), c.restoreCommand())
	return cmd
}

func (c *command) registerCommand() *cobra.Command {
	var address string
	var reset bool
	cmd := &cobra.Command{
		Use: "register [--api-base-url URL] [--reset]", Short: "Choose the studio; the worker registers when it runs", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("api-base-url") {
				if _, err := protocol.ParseBase(address); err != nil {
					return usageError{fmt.Errorf("--api-base-url: %w", err)}
				}
			}
			store, err := c.openStore(cmd.Context())
			if err != nil {
				return err
			}
			if address == "" && !store.Chosen() {
				return usageError{errors.New("name the studio: register --api-base-url ADDRESS")}
			}
			err = store.Update(func(cfg *config.Config) {
				if cmd.Flags().Changed("api-base-url") {
					cfg.APIBaseURL = address
				}
				if reset {
					cfg.ResetRegistration()
				}
			})
			if err != nil {
				return err
			}
			next := "the worker registers at its next start"
			if _, err := ask(cmd.Context(), store.Path(), askReload); err == nil {
				next = "the running worker takes it up now"
			}
			fmt.Fprintf(c.Out, "saved %s in %s; %s\n", store.Get().APIBaseURL, store.Path(), next)
			return nil
		},
	}
	cmd.Flags().StringVar(&address, "api-base-url", "", "address of the studio")
	cmd.Flags().BoolVar(&reset, "reset", false, "forget the registration and ask anew")
	return cmd
}

// openConfig opens the config at path. A missing file stands for a new install:
// only then the cards are looked at, which takes seconds when a driver hangs.
func openConfig(ctx context.Context, path string, cards *gpu.Prober, log *slog.Logger) (*config.Store, error) {
	store, err := config.Open(path, log)
	if !errors.Is(err, config.ErrMissing) {
		return store, err
	}
	first := config.Default()
	if list, err := cards.List(ctx); err == nil {
		first.VRAMThresholdGB = config.FirstThreshold(gpu.TotalVRAMGB(list))
	}
	return config.New(path, first, log)
}

// openStore reads the config for a command that only looks or edits. A missing
// file stands for the defaults.
func (c *command) openStore(ctx context.Context) (*config.Store, error) {
	path, err := c.path()
	if err != nil {
		return nil, err
	}
	return openConfig(ctx, path, gpu.New(gpu.Config{}), plainLogger(c.Err))
}

func (c *command) thresholdCommand() *cobra.Command {
	return &cobra.Command{
		Use: "set-threshold GB", Short: "Set the largest GPU memory estimate that is taken, in GB",
		// A negative number is an answer to be refused, not a flag.
		DisableFlagParsing: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("set-threshold takes one number, in GB")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "-h" || args[0] == "--help" {
				return cmd.Help()
			}
			gb, err := strconv.ParseFloat(args[0], 64)
			if err != nil {
				return usageError{fmt.Errorf("%q is not a number of GB", args[0])}
			}
			store, err := c.openStore(cmd.Context())
			if err != nil {
				return err
			}
			if !store.Chosen() {
				return usageError{config.ErrNotChosen}
			}
			if err := store.Update(func(cfg *config.Config) { cfg.VRAMThresholdGB = gb }); err != nil {
				return err
			}
			fmt.Fprintf(c.Out, "vram_threshold_gb = %v\n", gb)
			return nil
		},
	}
}

func (c *command) configCommand() *cobra.Command {
	return &cobra.Command{
		Use: "config", Short: "Print the config, secrets masked", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := c.openStore(cmd.Context())
			if err != nil {
				return err
			}
			text, err := store.Show()
			if err != nil {
				return err
			}
			state := ""
			if !store.Chosen() {
				state = " is not there yet; these are the defaults"
			}
			fmt.Fprintf(c.Out, "# %s%s\n%s", store.Path(), state, text)
			return nil
		},
	}
}

func (c *command) statusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status [--json]", Short: "Print what the config says and what the running worker does", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := c.openStore(cmd.Context())
			if err != nil {
				return err
			}
			running, err := ask(cmd.Context(), store.Path(), askStatus)
			if err != nil && !errors.Is(err, errNotRunning) {
				return err
			}
			status := newStatus(store, running)
			if asJSON {
				return json.NewEncoder(c.Out).Encode(status)
			}
			return status.print(c)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// status is what the status command says. It never holds a secret (§13 #158).
type status struct {
	ConfigPath     string         `json:"configPath"`
	BaseURL        string         `json:"apiBaseUrl"`
	Registration   string         `json:"registration"`
	ThresholdGB    float64        `json:"vramThresholdGb"`
	ModelsRoot     string         `json:"modelsRoot"`
	AutoUpdate     bool           `json:"autoUpdate"`
	UpdateInterval uint64         `json:"updateIntervalSecs"`
	PID            int            `json:"pid,omitempty"`
	Running        *runningStatus `json:"running,omitempty"`
}

func newStatus(store *config.Store, running answer) status {
	cfg := store.Get()
	s := status{
		ConfigPath: store.Path(), BaseURL: cfg.APIBaseURL, ThresholdGB: cfg.VRAMThresholdGB, ModelsRoot: cfg.ModelsRoot,
		AutoUpdate: cfg.AutoUpdateEnabled, UpdateInterval: cfg.AutoUpdateIntervalSecs, PID: running.PID, Running: running.Status,
	}
	switch {
	case !store.Chosen():
		s.BaseURL, s.Registration = "", "no studio chosen (`register --api-base-url ADDRESS`)"
	case cfg.Registered():
		s.Registration = "approved as " + cfg.WorkerID
	case cfg.RegistrationRequestID != "":
		s.Registration = fmt.Sprintf("pending operator approval (request %s)", cfg.RegistrationRequestID)
	default:
		s.Registration = "not registered (registers at the next start)"
	}
	return s
}

func (s status) print(c *command) error {
	w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "config path:\t%s\napi_base_url:\t%s\nregistration:\t%s\nvram_threshold_gb:\t%v\nmodels_root:\t%s\nauto_update:\t%v\nupdate_interval:\t%ds\n",
		s.ConfigPath, s.BaseURL, s.Registration, s.ThresholdGB, s.ModelsRoot, s.AutoUpdate, s.UpdateInterval)
	if r := s.Running; r != nil {
		takes := "yes"
		if r.Availability != "" {
			takes = "no (" + cmp.Or(r.Sentence, r.Availability) + ")" // another version has no sentence
		}
		job := r.Job
		if job == "" {
			job = "none"
		}
		fmt.Fprintf(w, "running:\tpid %d\nversion:\t%s\nsession:\t%s\ntakes jobs:\t%s\njob:\t%s\nresults waiting:\t%d\n", s.PID, cmp.Or(r.Version, "unknown"), r.Session, takes, job, r.Waiting)
		if r.Skew != "" {
			fmt.Fprintf(w, "clock:\tthe studio's is ahead by %s; is this computer's right?\n", r.Skew)
		}
	} else {
		fmt.Fprintf(w, "running:\tno\n")
	}
	return w.Flush()
}

// maxPause bounds a pause that ends by itself: longer ones are forgotten, and then
// nobody knows why the worker does nothing.
const maxPause = 7 * 24 * time.Hour

// checkPauseEnd refuses the end of a pause that is over, or more than maxPause
// away.
func checkPauseEnd(until, now time.Time) error {
	switch {
	case !until.After(now):
		return errors.New("a pause ends in the future")
	case until.Sub(now) > maxPause:
		return errors.New("a pause ends after 7 days at most: leave the end out to pause until you resume")
	}
	return nil
}

// parsePauseEnd reads the end of a pause in RFC 3339. Empty is the zero time: it
// lasts until somebody resumes.
func parsePauseEnd(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	until, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, errors.New("the end of the pause is not a time")
	}
	return until, checkPauseEnd(until, now)
}

func (c *command) pauseCommand() *cobra.Command {
	var length time.Duration
	var tomorrow bool
	cmd := &cobra.Command{
		Use: "pause [--for 1h | --until-tomorrow]", Short: "Take no new jobs; a running one goes on", Args: noArgs,
		Long: `Take no new jobs; a running one goes on. Without a flag the pause lasts until
"resume". It ends with the program in any case.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, now := question{Command: askPause}, time.Now()
			timed := cmd.Flags().Changed("for")
			switch {
			case timed && tomorrow:
				return usageError{errors.New("pause takes --for or --until-tomorrow, not both")}
			case timed:
				until := now.Add(length)
				if err := checkPauseEnd(until, now); err != nil {
					return usageError{fmt.Errorf("--for %v: %w", length, err)}
				}
				q.Until = until.Format(time.RFC3339Nano)
			case tomorrow:
				q.Until = model.Tomorrow(now).Format(time.RFC3339)
			}
			path, err := c.path()
			if err != nil {
				return err
			}
			a, err := askMore(cmd.Context(), path, q)
			if err != nil {
				return err
			}
			done := fmt.Sprintf("pause: done (pid %d)", a.PID)
			if q.Until != "" {
				if a.Status == nil { // it knows no ends and has not read ours
					return errors.New("the running worker is another version: it has paused until you resume")
				}
				done += ": " + a.Status.Sentence
			}
			fmt.Fprintln(c.Out, done)
			return nil
		},
	}
	cmd.Flags().DurationVar(&length, "for", 0, "end the pause after this time, like 90m or 1h; 168h at most")
	cmd.Flags().BoolVar(&tomorrow, "until-tomorrow", false, "end the pause tomorrow at 08:00")
	return cmd
}

// toInstance makes a command that is carried out by the running worker.
func (c *command) toInstance(name, short string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := c.path()
			if err != nil {
				return err
			}
			a, err := ask(cmd.Context(), path, name)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.Out, "%s: done (pid %d)\n", name, a.PID)
			return nil
		},
	}
}

// readSecretFile reads a file that holds one secret.
func readSecretFile(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", usageError{fmt.Errorf("no token at %s: name the studio's operator-token file with --token-file", path)}
	}
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	const longest = 4096
	text, err := io.ReadAll(io.LimitReader(f, longest+1))
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	if len(text) == 0 || len(text) > longest {
		return "", fmt.Errorf("%s is empty or too long for a token", path)
	}
	return string(text), nil
}
