package studio

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

// openAIModelView is a model as OpenAI's clients read it.
type openAIModelView struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

func viewOfOpenAIModel(m store.Model) openAIModelView {
	view := openAIModelView{ID: m.ID, Object: "model", OwnedBy: "studio"}
	if !m.CreatedAt.IsZero() {
		view.Created = m.CreatedAt.Unix()
	}
	return view
}

// openAIModels lists all models: OpenAI's list has no pages.
func (s *Studio) openAIModels(w http.ResponseWriter, r *http.Request, _ caller) error {
	all, err := s.models(r.Context())
	if err != nil {
		return err
	}
	out := struct {
		Object string            `json:"object"`
		Data   []openAIModelView `json:"data"`
	}{"list", []openAIModelView{}}
	for _, m := range all {
		out.Data = append(out.Data, viewOfOpenAIModel(m))
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func (s *Studio) openAIModel(w http.ResponseWriter, r *http.Request, _ caller) error {
	all, err := s.models(r.Context())
	if err != nil {
		return err
	}
	m, ok := named(all, r.PathValue("id"))
	if !ok {
		return unknownModel(r.PathValue("id"))
	}
	writeJSON(w, http.StatusOK, viewOfOpenAIModel(m))
	return nil
}

func unknownModel(id string) error {
	return &callError{
		status: http.StatusNotFound, kind: kindRequest, code: "model_not_found", param: "model",
		message: fmt.Sprintf("the studio has no model %.200q; GET /v1/models lists them", id),
	}
}

// named returns the model of this id, or the first that goes by this name.
func named(all []store.Model, name string) (store.Model, bool) {
	if i := slices.IndexFunc(all, func(m store.Model) bool { return m.ID == name }); i >= 0 {
		return all[i], true
	}
	if i := slices.IndexFunc(all, func(m store.Model) bool { return slices.Contains(m.Aliases, name) }); i >= 0 {
		return all[i], true
	}
	return store.Model{}, false
}

// modelFor returns the model that a call names, or the one for a kind of task
// when it names none.
func (s *Studio) modelFor(ctx context.Context, name string, kind protocol.TaskKind) (store.Model, error) {
	if e, err := s.store.Models.Get(ctx, modelKey(name)); err == nil && slices.Contains(e.Value.Kinds, kind) {
		return e.Value, nil
	}
	all, err := s.models(ctx)
	if err != nil {
		return store.Model{}, err
	}
	if name == "" || name == protocol.DefaultVoice {
		m, ok := s.preferred(all, kind)
		if !ok {
			return m, &callError{status: http.StatusNotFound, kind: kindRequest, code: "model_not_found", param: "model", message: fmt.Sprintf("the studio has no model for %s", kind)}
		}
		return m, nil
	}
	m, ok := named(all, name)
	switch {
	case !ok:
		return m, unknownModel(name)
	case !slices.Contains(m.Kinds, kind):
		return m, &callError{
			status: http.StatusNotFound, kind: kindRequest, code: "model_not_found", param: "model",
			message: fmt.Sprintf("the model %.200q does not do %s; GET /api/v1/models lists what each does", name, kind),
		}
	}
	return m, nil
}

// preferred returns the model for jobs that name none: the operator's choice, else
// one that a worker serves now and that really computes, else any.
func (s *Studio) preferred(all []store.Model, kind protocol.TaskKind) (store.Model, bool) {
	var best store.Model
	rank := -1
	for _, m := range all {
		if !slices.Contains(m.Kinds, kind) {
			continue
		}
		now := 0
		if s.hub.served(lot{kind: kind, model: m.ID, engine: m.Source.Engine, vram: m.VRAMGBEstimate}) {
			now += 2
		}
		if m.Source.Engine != protocol.EngineSynthetic {
			now++
		}
		if m.Default {
			now += 4
		}
		if now > rank {
			best, rank = m, now
		}
	}
	return best, rank >= 0
}

// models returns all models, by id.
func (s *Studio) models(ctx context.Context) ([]store.Model, error) {
	entries, _, err := s.store.Models.All(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]store.Model, len(entries))
	for i, e := range entries {
		all[i] = e.Value
	}
	slices.SortFunc(all, func(a, b store.Model) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}

// since makes the time of an answer.
func since(t time.Time) int64 { return t.Unix() }
