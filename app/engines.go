package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"studioworker/worker/availability/disk"
	"studioworker/worker/config"
	"studioworker/worker/engine"
	"studioworker/worker/engine/espeak"
	"studioworker/worker/engine/llamacpp"
	"studioworker/worker/engine/media"
	"studioworker/worker/engine/onnx"
	"studioworker/worker/engine/onnx/runtime"
	"studioworker/worker/engine/piper"
	tools "studioworker/worker/engine/program"
	"studioworker/worker/engine/provision"
	"studioworker/worker/engine/sdcpp"
	"studioworker/worker/engine/supply"
	"studioworker/worker/engine/synthetic"
	"studioworker/worker/engine/whispercpp"
	"studioworker/worker/inputs"
	"studioworker/worker/models"
	"studioworker/worker/network"
	"studioworker/worker/observe"
)

// newModels makes the store of model files of a config. downloads may be nil.
func newModels(store *config.Store, downloads *observe.Slot[[]observe.Download], log *slog.Logger) (*models.Store, *network.Network, error) {
	web, err := network.New(network.Config{CAFile: store.Get().CAFile})
	if err != nil {
		return nil, nil, fmt.Errorf("reach model servers: %w", err)
	}
	return models.New(models.Config{
		Root:  func() string { return store.Get().ModelsRoot },
		Quota: func() int64 { return store.Get().ModelsQuota() },
		HTTP:  web.Client(), UserAgent: "studio-worker/" + Version, FreeDisk: disk.Free, Observer: downloads, Log: log,
	}), web, nil
}

// engineSet is the engines of this build, with what they need and what they left
// running.
type engineSet struct {
	router *engine.Router
	llama  *llamacpp.Engine
	inputs *inputs.Fetcher
	parts  []part
	close  func()
}

// part is one line of what `studio-worker engines` shows.
type part struct {
	id string
	// engine serves jobs; nil for a program that only helps others.
	engine engine.Engine
	// state says where its program is; nil for an engine without one.
	state func(ctx context.Context) (tools.State, error)
	// problem says why an engine takes no jobs although its program runs; nil for
	// never.
	problem func() string
}

// enginesConfig is what the engines of a process depend on.
type enginesConfig struct {
	store *config.Store
	// observers may be nil: then downloads are shown to nobody, and the cards are
	// unknown.
	observers *observe.WorkerObservers
	log       *slog.Logger
}

// newEngines puts the engines of this build together. Nothing is started and
// nobody is called.
func newEngines(cfg enginesConfig) (*engineSet, error) {
	store, log := cfg.store, cfg.log
	var downloads *observe.Slot[[]observe.Download]
	if cfg.observers != nil {
		downloads = &cfg.observers.Downloads
	}
	kept, web, err := newModels(store, downloads, log)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "" // no ~/.local/bin to look into then
	}
	places := tools.Places{Home: home, Path: os.Getenv("PATH"), Environ: os.Environ()}
	root := func() string { return absolute(store.Get().ModelsRoot) }
	tool := func(name, variable, slot, fix string, ask ...string) *tools.Tool {
		return &tools.Tool{
			Places: places, Ask: ask, Log: log, Fix: fix,
			Query: func() tools.Query {
				return tools.Query{Name: name, Variable: os.Getenv(variable), Slots: slots(root(), slot)}
			},
		}
	}

	models := supply.FromStore(kept)
	in := inputs.New(inputs.Config{
		Studio:     func() string { return store.Get().APIBaseURL },
		AllowHosts: func() []string { return store.Get().AllowInputHosts },
		TLS:        web.TLS(), UserAgent: "studio-worker/" + Version,
	})
	ffmpeg := tool("ffmpeg", "STUDIO_WORKER_FFMPEG", "", "install the package ffmpeg", "-version")
	ffmpeg.Version = media.VersionOf
	sound := media.FFmpeg{Tool: ffmpeg}

	sdCLI := tool("sd-cli", "STUDIO_WORKER_SD_CLI", "bin", "studio-worker engines fetch sd-cpp, or set STUDIO_WORKER_SD_CLI to an sd-cli of your own", "--version")
	sdCLI.Version = sdcpp.VersionOf
	if os.Getenv(sdAddress) == "" && os.Getenv(sdRelease) == "" {
		sdCLI.Pinned = func(version string) bool { return sdcpp.IsCommit(version, provision.SDCommit) }
	}
	// Nobody wants to wait for pictures without a graphics card: there a job fetches
	// nothing, and only the command does.
	drawsHere := func() bool { return cfg.observers != nil && len(cfg.observers.GPUs.Get().List) > 0 }
	fetcher := provision.New(provision.Config{Root: root, HTTP: web.Client(), UserAgent: "studio-worker/" + Version, Log: log})
	sdCLI.Fetch = func(ctx context.Context) (string, error) {
		release, err := sdReleaseHere()
		if err != nil || !drawsHere() {
			return "", tools.Missing("sd-cli is not installed", sdCLI.Fix)
		}
		return fetcher.Install(ctx, release)
	}
	pictures := sdcpp.New(sdcpp.Config{
		Log: log, Tool: sdCLI, Models: models, Inputs: in, Video: sound,
		Fetchable: func() bool {
			_, err := sdReleaseHere()
			return err == nil && drawsHere()
		},
	})

	whisperCLI := tool("whisper-cli", "STUDIO_WORKER_WHISPER_CLI", "whisper-cpp", "install whisper.cpp, and set STUDIO_WORKER_WHISPER_CLI to its whisper-cli", "--help")
	whisperCLI.Version = whispercpp.VersionOf
	listener := whispercpp.New(whispercpp.Config{
		Log: log, Tool: whisperCLI, Models: models, Inputs: in, Sound: sound,
		CPU: func() bool {
			return cfg.observers != nil && !cfg.observers.GPUs.Get().At.IsZero() && len(cfg.observers.GPUs.Get().List) == 0
		},
		VAD: func() string { return filepath.Join(root(), whispercpp.Folder, "vad") },
	})

	var libraries runtime.Libraries
	host := runtime.NewHost(runtime.Config{
		Path: self, Args: []string{engineHost, "onnx"}, Places: places, Log: log,
		Library: func() string { return libraries.Find(os.Getenv("ORT_DYLIB_PATH"), root()) },
		Fix:     "studio-worker engines fetch onnx, or set ORT_DYLIB_PATH to an ONNX Runtime 1.24 or newer",
	})
	espeakNG := tool("espeak-ng", "STUDIO_WORKER_ESPEAK", "", "install the package espeak-ng", "--version")
	espeakNG.Version = espeak.VersionOf
	plain := espeak.New(espeak.Config{Log: log, Variable: os.Getenv("STUDIO_WORKER_ESPEAK"), Home: home, Path: places.Path, Environ: places.Environ})
	piperTool := tool("piper", "STUDIO_WORKER_PIPER", "piper", "give this worker the ONNX Runtime and espeak-ng, or set STUDIO_WORKER_PIPER to a piper program", "--help")
	piperTool.Version = func(string) string { return "" } // it says none
	voices := piper.New(piper.Config{Log: log, Run: host, Speech: plain, Tool: piperTool, Models: models, Sound: sound})
	removal := onnx.New(onnx.Config{Log: log, Run: host, Models: models, Inputs: in, Voice: voices})

	llama, llamaServer := newLlama(log, places, models, root, filepath.Dir(store.Path()))
	set := &engineSet{llama: llama, inputs: in, close: func() {
		llama.Close()
		host.Close()
		web.Close()
	}}
	set.parts = []part{
		{id: string(llamacpp.ID), engine: llama, state: llamaServer.Now, problem: llama.Problem},
		{id: string(whispercpp.ID), engine: listener, state: whisperCLI.Now},
		{id: string(onnx.ID), engine: removal, state: host.State},
		{id: string(piper.ID), engine: voices, state: func(ctx context.Context) (tools.State, error) {
			state, err := host.State(ctx)
			if err == nil && (!state.Runs() || !plain.Found()) {
				return piperTool.Now(ctx)
			}
			return state, err
		}},
		{id: string(espeak.ID), engine: plain, state: espeakNG.Now},
		{id: string(sdcpp.ID), engine: pictures, state: sdCLI.Now, problem: pictures.Problem},
		{id: string(synthetic.ID), engine: synthetic.New()},
		{id: "ffmpeg", state: ffmpeg.Now},
	}
	var roster []engine.Engine
	for _, p := range set.parts {
		if p.engine != nil {
			roster = append(roster, p.engine)
		}
	}
	set.router, err = engine.NewRouter(log, roster...)
	return set, err
}

// absolute is a folder as seen from the root; programs run in other folders.
func absolute(folder string) string {
	if whole, err := filepath.Abs(folder); err == nil {
		return whole
	}
	return folder
}

// slots are the folders of the models folder in which a program may lie: bin for
// one, else one for each release, the newest name first (engines spec §4.2).
func slots(root, slot string) []string {
	switch slot {
	case "":
		return nil
	case "bin":
		return []string{filepath.Join(root, slot)}
	}
	folders, err := filepath.Glob(filepath.Join(root, "engines", slot, "*"))
	if err != nil {
		return nil // the folder's name holds signs of a pattern
	}
	slices.Sort(folders)
	slices.Reverse(folders)
	return folders
}

// look says what each engine is and what it can serve now.
func (e *engineSet) look(ctx context.Context) ([]observe.Engine, error) {
	list := make([]observe.Engine, 0, len(e.parts))
	for _, p := range e.parts {
		row := observe.Engine{ID: p.id}
		if p.state != nil {
			state, err := p.state(ctx)
			if err != nil {
				return nil, err
			}
			row.Found, row.Version, row.Problem, row.Fix = state.Path, state.Version, state.Problem, state.Fix
		}
		if p.engine == nil {
			list = append(list, row)
			continue
		}
		models := p.engine.Models()
		for _, kind := range engine.Kinds() {
			if len(models[kind]) > 0 {
				row.Kinds = append(row.Kinds, string(kind))
				row.Models = append(row.Models, models[kind]...)
			}
		}
		if keeps, ok := p.engine.(interface{ Loaded() []string }); ok {
			row.Loaded = keeps.Loaded()
		}
		slices.Sort(row.Models)
		row.Models = slices.Compact(row.Models)
		if p.problem != nil && row.Problem == "" {
			row.Problem = p.problem()
		}
		list = append(list, row)
	}
	return list, nil
}

// watch publishes what the engines are, and again whenever the worker has said
// its capabilities or a job began or ended: that is when it may have changed.
func (e *engineSet) watch(ctx context.Context, observers *observe.WorkerObservers) error {
	var g errgroup.Group
	var mu sync.Mutex
	show := func() {
		mu.Lock()
		defer mu.Unlock()
		list, err := e.look(ctx)
		if err == nil && !reflect.DeepEqual(list, observers.Engines.Get()) {
			observers.Engines.Set(list)
		}
	}
	g.Go(func() error {
		for range observers.Heartbeat.Watch(ctx) {
			show()
		}
		return nil
	})
	g.Go(func() error {
		last := ""
		for job := range observers.CurrentJob.Watch(ctx) {
			if job.ID != last {
				last = job.ID
				show()
			}
		}
		return nil
	})
	return g.Wait()
}

// engineHost is the hidden command of the helper that runs ONNX models.
const engineHost = "engine-host"

func (c *command) engineHostCommand() *cobra.Command {
	return &cobra.Command{
		Use: engineHost, Short: "For the worker itself", Hidden: true, DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || args[0] != "onnx" {
				return usageError{errors.New("this command is for the worker itself")}
			}
			return runtime.Serve(cmd.Context(), args[1:], c.Out)
		},
	}
}

func (c *command) enginesCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "engines [--json]", Short: "List the engines, what each can serve, and what would mend the others", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := c.openStore(cmd.Context())
			if err != nil {
				return err
			}
			set, err := newEngines(enginesConfig{store: store, log: plainLogger(io.Discard)})
			if err != nil {
				return err
			}
			defer set.close()
			list, err := set.look(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(c.Out).Encode(enginesJSON(list))
			}
			return printEngines(c.Out, list)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.AddCommand(&cobra.Command{
		Use: "fetch sd-cpp|onnx", Short: "Fetch the released program or library of an engine into the models folder",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains([]string{string(sdcpp.ID), string(onnx.ID)}, args[0]) {
				return usageError{errors.New("engines fetch takes one of sd-cpp and onnx")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := c.openStore(cmd.Context())
			if err != nil {
				return err
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			return c.fetchEngine(ctx, store, args[0])
		},
	})
	return cmd
}

// The variables that name another release of sd-cli (engines spec §4.2).
const (
	sdAddress = "STUDIO_WORKER_SDCPP_URL"
	sdRelease = "STUDIO_WORKER_SDCPP_RELEASE"
)

// sdReleaseHere is the release of sd-cli for this computer.
func sdReleaseHere() (provision.Release, error) {
	return provision.SDCpp(goruntime.GOOS, goruntime.GOARCH, os.Getenv(sdRelease), os.Getenv(sdAddress))
}

// fetchEngine fetches the release of an engine and says where it lies.
func (c *command) fetchEngine(ctx context.Context, store *config.Store, id string) error {
	web, err := network.New(network.Config{CAFile: store.Get().CAFile})
	if err != nil {
		return err
	}
	defer web.Close()
	release, err := provision.Runtime(goruntime.GOOS, goruntime.GOARCH)
	if id == string(sdcpp.ID) {
		release, err = sdReleaseHere()
	}
	if err != nil {
		return err
	}
	fetcher := provision.New(provision.Config{
		Root: func() string { return absolute(store.Get().ModelsRoot) }, HTTP: web.Client(), UserAgent: "studio-worker/" + Version, Log: plainLogger(c.Err),
	})
	path, err := fetcher.Install(ctx, release)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.Out, path)
	return nil
}

// engineJSON is one engine as `engines --json` prints it.
type engineJSON struct {
	ID      string   `json:"id"`
	Found   string   `json:"found,omitempty"`
	Version string   `json:"version,omitempty"`
	Kinds   []string `json:"kinds"`
	Models  []string `json:"models"`
	Problem string   `json:"problem,omitempty"`
	Fix     string   `json:"fix,omitempty"`
}

func enginesJSON(list []observe.Engine) []engineJSON {
	rows := make([]engineJSON, len(list))
	for i, e := range list {
		rows[i] = engineJSON{e.ID, e.Found, e.Version, append([]string{}, e.Kinds...), append([]string{}, e.Models...), e.Problem, e.Fix}
	}
	return rows
}

// printEngines prints a line for each engine, and the step that mends it beneath.
func printEngines(out io.Writer, list []observe.Engine) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, e := range list {
		serves := strings.Join(e.Kinds, ", ")
		switch {
		case e.Problem != "":
			serves = "nothing: " + e.Problem
		case e.ID == "ffmpeg":
			serves = "other engines: converts sounds, makes videos"
		case serves == "":
			serves = "nothing"
		}
		fmt.Fprintf(w, "%s\t%s\n", e.ID, serves)
		if e.Found != "" {
			fmt.Fprintf(w, "\t%s\n", strings.TrimSpace(e.Found+"  "+e.Version))
		}
		if e.Fix != "" {
			fmt.Fprintf(w, "\tfix: %s\n", e.Fix)
		}
	}
	return w.Flush()
}
