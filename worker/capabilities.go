package worker

import (
	"context"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"studioworker/gpu"
	"studioworker/worker/availability"
	"studioworker/worker/config"
	"studioworker/worker/engine"
	"studioworker/worker/observe"
	"studioworker/worker/protocol"
)

// engineName is what capabilities call a worker with several engines (§3.3).
const engineName = "multi"

// gpuFresh is how long a look at the cards is good enough to take a job by.
const gpuFresh = 10 * time.Second

// machine is what a worker says about where it runs; it does not change.
type machine struct{ name, user string }

func thisMachine() machine {
	m := machine{name: "unknown-host", user: "unknown-user"}
	if name, err := os.Hostname(); err == nil && name != "" {
		m.name = name
	}
	if u, err := user.Current(); err == nil && u.Username != "" {
		m.user = u.Username
	}
	return m
}

// capabilities is the snapshot that hello and heartbeats carry (§3.3).
func (w *Worker) capabilities() protocol.Capabilities {
	c := w.cfg.Store.Get()
	w.mu.Lock()
	vram := w.vramGB
	w.mu.Unlock()
	updates := w.cfg.Updates && c.AutoUpdateEnabled
	caps := protocol.Capabilities{
		MachineName: w.machine.name, Username: w.machine.user, AgentVersion: w.cfg.Version, Engine: engineName,
		VRAMTotalGB: vram, VRAMThresholdGB: c.VRAMThresholdGB, AutoEnabled: w.availability.AutoEnabled(),
		AutoStart: w.cfg.AutoStart != nil && w.cfg.AutoStart(), AutoUpdate: &updates, StartMinimised: &c.StartMinimised, OnlyWhenIdle: &c.OnlyWhenIdle,
		UserPresence: w.availability.Presence(), SupportedModels: []string{}, SupportedModelsPerKind: map[string][]string{},
		Features: protocol.Features(), Instance: w.instance,
	}
	models := w.cfg.Router.Models()
	for _, kind := range engine.Kinds() {
		if len(models[kind]) == 0 {
			continue
		}
		caps.TaskKinds = append(caps.TaskKinds, protocol.TaskKind(kind))
		caps.SupportedModelsPerKind[string(kind)] = models[kind]
		caps.SupportedModels = append(caps.SupportedModels, models[kind]...)
	}
	slices.Sort(caps.SupportedModels)
	caps.SupportedModels = slices.Compact(caps.SupportedModels)
	return caps
}

// wishes is the part of the config that says when jobs are taken.
func (w *Worker) wishes() availability.Settings {
	c := w.cfg.Store.Get()
	return availability.Settings{
		OnlyWhenIdle: c.OnlyWhenIdle, PauseOnBattery: c.PauseOnBattery, WeeklyHours: c.WeeklyHours, ThresholdGB: c.VRAMThresholdGB,
	}
}

// showSettings publishes the part of the config that people see.
func (w *Worker) showSettings() {
	c := w.cfg.Store.Get()
	w.mu.Lock()
	private := w.private
	w.mu.Unlock()
	s := observe.Settings{
		PrivateStudio: private, VRAMThresholdGB: c.VRAMThresholdGB, ConfigPath: w.cfg.Store.Path(), Version: w.cfg.Version, Commit: w.cfg.Commit,
	}
	if w.cfg.Store.Chosen() {
		s.StudioURL = c.APIBaseURL
	}
	models := w.cfg.Router.Models()
	for _, kind := range engine.Kinds() {
		if len(models[kind]) > 0 {
			s.Serves = append(s.Serves, string(kind))
			s.Models = append(s.Models, models[kind]...)
		}
	}
	w.cfg.Observers.Settings.Set(s)
	w.cfg.Observers.Config.Set(configKeys(c))
}

// configKeys lists what a person may set, with its values.
func configKeys(c config.Config) []observe.ConfigKey {
	var keys []observe.ConfigKey
	for _, d := range config.Descriptors() {
		if !d.Editable {
			continue
		}
		value, err := c.Value(d.Key)
		if err != nil {
			continue // each described key has a value: a test says so
		}
		keys = append(keys, observe.ConfigKey{
			Name: d.Key, Kind: string(d.Kind), Unit: d.Unit, Min: d.Min, Max: d.Max,
			Default: d.Default, Meaning: d.Meaning, Restart: d.Restart, Value: value,
		})
	}
	return keys
}

// logBanner is the first line of a worker's life (§9). It holds no secret.
func (w *Worker) logBanner() {
	c := w.cfg.Store.Get()
	id := c.WorkerID
	if id == "" {
		id = "(unregistered)"
	}
	w.cfg.Log.Info("studio-worker starts", "version", w.cfg.Version, "config", w.cfg.Store.Path(), "api_base_url", c.APIBaseURL,
		"vram_threshold_gb", c.VRAMThresholdGB, "models_root", c.ModelsRoot, "worker_id", id)
}

// memoryUnknown is the reason that a card's note has words for.
func memoryUnknown(note string) observe.Reason {
	switch note {
	case gpu.NoteUnified:
		return observe.ReasonUnified
	case gpu.NoteUntold:
		return observe.ReasonUntold
	case gpu.NoteNoDriver:
		return observe.ReasonNoDriver
	}
	return observe.ReasonUnknown // the driver's own words
}

// probeGPUs looks at the cards once; the total is said to the studio.
func (w *Worker) probeGPUs(ctx context.Context) {
	devices, err := w.cfg.GPUs(ctx)
	if ctx.Err() != nil {
		return // what was seen before is better than nothing
	}
	if err != nil {
		w.cfg.Log.Warn("the graphics cards cannot all be read", "error", strings.Join(strings.Fields(err.Error()), " "))
	}
	list := make([]observe.GPU, len(devices))
	for i, d := range devices {
		list[i] = observe.GPU{
			Name: d.Name, Driver: d.Driver, Total: d.TotalBytes, Free: d.FreeBytes, FreeUnknown: d.FreeUnknown, Note: d.Note,
			Why: observe.Why{Reason: memoryUnknown(d.Note)},
		}
	}
	w.cfg.Observers.GPUs.Set(observe.GPUs{At: time.Now(), List: list})
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.vramGB == 0 { // the first answer stands for the process (§3.3)
		w.vramGB = gpu.TotalVRAMGB(devices)
	}
}

// gpuMemory returns the memory of all cards and how much of it is free, in GiB;
// total 0 means unknown. It looks again unless need was free moments ago.
func (w *Worker) gpuMemory(ctx context.Context, need float64) (total, free float64) {
	seen := w.cfg.Observers.GPUs.Get()
	total, free = memory(seen.List)
	if total == 0 || free >= need && time.Since(seen.At) < gpuFresh {
		return total, free
	}
	w.probeGPUs(ctx)
	return memory(w.cfg.Observers.GPUs.Get().List)
}

// makeRoom gives the memory of models back that only wait for a job, and looks at
// the cards again.
func (w *Worker) makeRoom(ctx context.Context) bool {
	if !w.cfg.Warm.Release() {
		return false
	}
	w.probeGPUs(ctx)
	return true
}

// memory adds up the cards that tell theirs. Where a driver does not tell what is free,
// all of it counts: no job is refused for what nobody knows.
func memory(cards []observe.GPU) (total, free float64) {
	const gib = 1 << 30
	for _, card := range cards {
		if card.Total > 0 {
			total += float64(card.Total) / gib
			if card.FreeUnknown {
				free += float64(card.Total) / gib
			}
			free += float64(card.Free) / gib
		}
	}
	return total, free
}

// watchGPUs looks again whenever a job begins or ends: that is when free memory
// changes by our doing.
func (w *Worker) watchGPUs(ctx context.Context) error {
	last := ""
	for job := range w.cfg.Observers.CurrentJob.Watch(ctx) {
		if job.ID != last {
			last = job.ID
			w.probeGPUs(ctx)
		}
	}
	return nil
}
