package app

import (
	"fmt"
	"log/slog"
	"os"

	"studioworker/worker/availability/disk"
	"studioworker/worker/config"
	"studioworker/worker/engine"
	"studioworker/worker/engine/espeak"
	"studioworker/worker/engine/synthetic"
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

// newRouter puts the engines of this build together.
func newRouter(log *slog.Logger) (*engine.Router, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		home = "" // no ~/.local/bin to look into then
	}
	return engine.NewRouter(log,
		espeak.New(espeak.Config{Log: log, Variable: os.Getenv("STUDIO_WORKER_ESPEAK"), Home: home, Path: os.Getenv("PATH"), Environ: os.Environ()}),
		synthetic.New())
}
