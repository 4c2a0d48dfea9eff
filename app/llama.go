package app

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"

	"studioworker/gpu"
	"studioworker/worker/engine/llamacpp"
	tools "studioworker/worker/engine/program"
	"studioworker/worker/engine/supply"
	"studioworker/worker/observe"
	"studioworker/worker/ram"
)

// newLlama makes the engine of language models and the tool that finds its
// program. state is the folder in which it remembers what is loaded.
func newLlama(log *slog.Logger, places tools.Places, models supply.Models, root func() string, state string) (*llamacpp.Engine, *tools.Tool) {
	tool := llamacpp.NewTool(places, os.Getenv("STUDIO_WORKER_LLAMA_SERVER"), func() []string { return slots(root(), string(llamacpp.ID)) })
	tool.Log = log
	return llamacpp.New(llamacpp.Config{
		Log: log, Tool: tool, Models: models, Root: root, Own: ram.Own, Free: freeMemory(gpu.New(gpu.Config{Logger: log})),
		Residency: filepath.Join(state, llamacpp.ResidencyFile),
	}), tool
}

// freeMemory tells how much memory is free: that of the first graphics card, or
// that of the system.
func freeMemory(cards *gpu.Prober) func(context.Context, bool) (uint64, bool) {
	return func(ctx context.Context, cpu bool) (uint64, bool) {
		if cpu {
			n, err := ram.Available()
			return n, err == nil
		}
		list, err := cards.List(ctx)
		if err != nil || len(list) == 0 || list[0].TotalBytes == 0 || list[0].FreeUnknown {
			return 0, false
		}
		return list[0].FreeBytes, true
	}
}

// mindMemory frees the memory of idle models when the person pauses: they want their
// computer. When the worker starts, and after each pause, the models come back that
// somebody asked for. It ends with ctx.
func (e *engineSet) mindMemory(ctx context.Context, availability *observe.Slot[observe.Availability]) {
	end := func() {}
	defer func() { end() }()
	gone := true
	for now := range availability.Watch(ctx) {
		paused := now.Block == observe.BlockPaused
		switch {
		case paused && !gone:
			end()
			e.llama.Release()
		case !paused && gone:
			end = e.restore(ctx)
		}
		gone = paused
	}
}

// restore begins to bring back the models that somebody asked for. The function that it
// returns ends that.
func (e *engineSet) restore(ctx context.Context) (end func()) {
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { // end waits for it
		defer close(done)
		e.llama.Restore(ctx)
	}()
	return func() {
		stop()
		<-done
	}
}
