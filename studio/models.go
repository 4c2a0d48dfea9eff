package studio

import (
	"context"
	"errors"
	"fmt"

	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

// builtIn lists the models that the engines of every worker serve without a
// model file.
func builtIn() []store.Model {
	source := func(engine protocol.Engine) protocol.ModelSource {
		return protocol.ModelSource{Engine: engine, CLIDefaults: protocol.CLIDefaults{
			CfgScale: 1, Steps: protocol.DefaultSteps, Width: protocol.DefaultSide, Height: protocol.DefaultSide,
		}}
	}
	model := func(id string, engine protocol.Engine, kind protocol.TaskKind) store.Model {
		return store.Model{ID: id, Kinds: []protocol.TaskKind{kind}, Source: source(engine)}
	}
	return []store.Model{
		model("synthetic-image", protocol.EngineSynthetic, protocol.KindImage),
		model("synthetic-llm", protocol.EngineSynthetic, protocol.KindLLM),
		model("synthetic-stt", protocol.EngineSynthetic, protocol.KindSTT),
		model("synthetic-tts", protocol.EngineSynthetic, protocol.KindTTS),
		model("synthetic-video", protocol.EngineSynthetic, protocol.KindVideo),
		model("espeak-ng", protocol.EngineESpeak, protocol.KindTTS),
	}
}

// seedModels writes the built-in models that are not there yet. What an
// operator changed stays.
func seedModels(ctx context.Context, models *store.Bucket[store.Model]) error {
	for _, m := range builtIn() {
		_, err := models.Get(ctx, m.ID)
		if err == nil {
			continue
		}
		if !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("read the models: %w", err)
		}
		if _, err := models.Create(ctx, m.ID, m); err != nil && !errors.Is(err, store.ErrConflict) {
			return fmt.Errorf("write the models: %w", err)
		}
	}
	return nil
}
