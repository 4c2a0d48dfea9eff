package studio

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"studioworker/studio/client"

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

// modelKey is where the model of this id is stored: a store's key has fewer
// characters than a model's id may have.
func modelKey(id string) string {
	plain := strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_/.") == "" &&
		strings.Trim(id, "/.") == id && !strings.Contains(id, "..")
	if plain {
		return id
	}
	return "=" + base64.RawURLEncoding.EncodeToString([]byte(id))
}

// listModels lists the models, by id.
func (s *Studio) listModels(w http.ResponseWriter, r *http.Request, _ caller) {
	all, err := s.models(r.Context())
	if err != nil {
		s.internal(w, err)
		return
	}
	listed(w, r, all, func(m store.Model) string { return m.ID }, oldestFirst, func(m store.Model) client.Model {
		return client.Model{ID: m.ID, Kinds: m.Kinds, Engine: m.Source.Engine, VRAMGBEstimate: m.VRAMGBEstimate}
	}, func(page []client.Model, next string) any { return client.ModelList{Models: page, Next: next} })
}
