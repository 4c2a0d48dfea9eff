package studio

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"studioworker/studio/client"
	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

const (
	maxModels    = 10_000
	maxAliases   = 16
	maxFileName  = 128
	registryForm = 1 // version of an exported registry
)

var errBuiltIn = errors.New("this model is part of every worker and cannot be removed")

func recordOf(m store.Model) client.ModelRecord {
	return client.ModelRecord{
		ID: m.ID, Aliases: m.Aliases, Kinds: m.Kinds, Default: m.Default, VRAMGBEstimate: m.VRAMGBEstimate, ModelSource: m.Source,
		CreatedAt: m.CreatedAt,
	}
}

// checkModel makes sure that jobs with the model can be offered, and that its
// files can be fetched (§5).
func checkModel(m client.ModelRecord) error {
	if err := label("id", m.ID, 1); err != nil {
		return err
	}
	if len(m.Kinds) == 0 {
		return errors.New("kinds: must name at least one")
	}
	for i, kind := range m.Kinds {
		if !slices.Contains(protocol.TaskKinds(), kind) || slices.Contains(m.Kinds[:i], kind) {
			return fmt.Errorf("kinds: %.20q is unknown or there twice", kind)
		}
	}
	if len(m.Aliases) > maxAliases {
		return fmt.Errorf("aliases: more than %d", maxAliases)
	}
	for i, alias := range m.Aliases {
		if err := label("aliases", alias, 1); err != nil {
			return err
		}
		if alias == m.ID || alias == protocol.DefaultVoice || slices.Contains(m.Aliases[:i], alias) {
			return fmt.Errorf("aliases: %.64q says nothing new", alias)
		}
	}
	if err := within("vramGbEstimate", &m.VRAMGBEstimate, 0, maxVRAM); err != nil {
		return err
	}
	if err := source(&m.ModelSource); err != nil {
		return err
	}
	for i, file := range m.ModelSource.Files {
		if err := checkFile(file); err != nil {
			return fmt.Errorf("modelSource.files[%d].%w", i, err)
		}
	}
	task := protocol.Task{Kind: protocol.KindTTS, TTS: &protocol.TTSTask{Text: "x", Voice: protocol.DefaultVoice, Ext: "wav"}}
	return offerable(client.Job{Model: m.ID, Task: task, ModelSource: &m.ModelSource})
}

// checkFile checks a file of a model as workers do (§5.2, §5.4).
func checkFile(f protocol.ModelFile) error {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	if f.Filename == "" || len(f.Filename) > maxFileName || strings.Trim(f.Filename, plain) != "" || strings.HasPrefix(f.Filename, ".") {
		return fmt.Errorf("filename: must be a plain name of letters, digits, dots, - and _, at most %d long", maxFileName)
	}
	if err := label("role", f.Role, 1); err != nil {
		return err
	}
	u, err := url.Parse(f.URL)
	if err != nil || len(f.URL) > maxURL || u.Host == "" || u.User != nil || (u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname()))) {
		return errors.New("url: must be an https address, or an http one of the worker's own computer")
	}
	if f.SHA256 != nil {
		if sum, err := hex.DecodeString(strings.TrimSpace(*f.SHA256)); err != nil || len(sum) != 32 {
			return errors.New("sha256: must have 64 hex digits")
		}
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// getModel describes a model whole.
func (s *Studio) getModel(w http.ResponseWriter, r *http.Request) {
	e, err := s.store.Models.Get(r.Context(), modelKey(r.PathValue("id")))
	switch {
	case errors.Is(err, store.ErrNotFound):
		writeError(w, http.StatusNotFound, "not_found", "there is no such model")
	case err != nil:
		s.internal(w, err)
	default:
		writeJSON(w, http.StatusOK, recordOf(e.Value))
	}
}

// putModel writes a model, a new one or in place of the old.
func (s *Studio) putModel(w http.ResponseWriter, r *http.Request) {
	data, ok := readBody(w, r, client.MaxJob)
	if !ok {
		return
	}
	var in client.ModelRecord
	if err := json.Unmarshal(data, &in); err != nil {
		writeError(w, http.StatusBadRequest, "invalid_model", "the model cannot be read: "+err.Error())
		return
	}
	id := r.PathValue("id")
	if in.ID != "" && in.ID != id {
		writeError(w, http.StatusUnprocessableEntity, "invalid_model", "id: is another than that of the address")
		return
	}
	in.ID = id
	stored, created, err := s.keepModel(r.Context(), in)
	if err != nil {
		s.refuse(w, err)
		return
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	writeJSON(w, status, recordOf(stored))
}

// keepModel stores a model. What is wrong with it is a *refusal.
func (s *Studio) keepModel(ctx context.Context, in client.ModelRecord) (stored store.Model, created bool, err error) {
	if err := checkModel(in); err != nil {
		return stored, false, &refusal{status: http.StatusUnprocessableEntity, code: "invalid_model", message: err.Error()}
	}
	s.modelling.Lock() // two that take the same alias must see each other
	defer s.modelling.Unlock()
	all, err := s.models(ctx)
	if err != nil {
		return stored, false, err
	}
	for _, other := range all {
		if other.ID == in.ID {
			continue
		}
		for _, alias := range in.Aliases {
			if alias == other.ID || slices.Contains(other.Aliases, alias) {
				return stored, false, &refusal{status: http.StatusConflict, code: "conflict", message: fmt.Sprintf("the model %.200q has the name %.200q already", other.ID, alias)}
			}
		}
	}
	if len(all) >= maxModels {
		return stored, false, &refusal{status: http.StatusConflict, code: "conflict", message: fmt.Sprintf("the registry has %d models already", len(all))}
	}
	stored = store.Model{
		ID: in.ID, Aliases: in.Aliases, Kinds: in.Kinds, Default: in.Default, CreatedAt: time.Now().UTC(),
		VRAMGBEstimate: in.VRAMGBEstimate, Source: in.ModelSource,
	}
	if created, err = s.writeModel(ctx, &stored); err != nil {
		return stored, false, err
	}
	for _, other := range all { // there is one default for each kind
		if !in.Default || !other.Default || other.ID == in.ID || !slices.ContainsFunc(other.Kinds, func(k protocol.TaskKind) bool { return slices.Contains(in.Kinds, k) }) {
			continue
		}
		other.Default = false
		if _, err := s.writeModel(ctx, &other); err != nil {
			return stored, created, err
		}
	}
	s.changes.touch(changedModels)
	s.cfg.Log.Info("a model was written", "model", in.ID)
	return stored, created, nil
}

// writeModel writes a record over what is there, whose age it keeps, and says
// whether nothing was.
func (s *Studio) writeModel(ctx context.Context, m *store.Model) (created bool, err error) {
	for range maxConflicts {
		e, err := s.store.Models.Get(ctx, modelKey(m.ID))
		switch {
		case errors.Is(err, store.ErrNotFound):
			_, err = s.store.Models.Create(ctx, modelKey(m.ID), *m)
			created = true
		case err == nil:
			if !e.Value.CreatedAt.IsZero() {
				m.CreatedAt = e.Value.CreatedAt
			}
			_, err = s.store.Models.Update(ctx, modelKey(m.ID), *m, e.Revision)
			created = false
		}
		if !errors.Is(err, store.ErrConflict) {
			return created, err
		}
	}
	return false, fmt.Errorf("write the model %s: %w", m.ID, store.ErrConflict)
}

// deleteModel removes a model. Jobs that were queued with it keep it.
func (s *Studio) deleteModel(w http.ResponseWriter, r *http.Request) {
	drain(w, r)
	id := r.PathValue("id")
	switch err := s.removeModel(r.Context(), id); {
	case errors.Is(err, errBuiltIn):
		writeError(w, http.StatusConflict, "conflict", err.Error())
	case errors.Is(err, store.ErrNotFound):
		writeError(w, http.StatusNotFound, "not_found", "there is no such model")
	case err != nil:
		s.internal(w, err)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *Studio) removeModel(ctx context.Context, id string) error {
	if slices.ContainsFunc(builtIn(), func(m store.Model) bool { return m.ID == id }) {
		return errBuiltIn
	}
	for range maxConflicts {
		e, err := s.store.Models.Get(ctx, modelKey(id))
		if err != nil {
			return err
		}
		err = s.store.Models.Delete(ctx, modelKey(id), e.Revision)
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		if err != nil {
			return err
		}
		s.changes.touch(changedModels)
		s.cfg.Log.Info("a model was removed", "model", id)
		return nil
	}
	return fmt.Errorf("remove the model %s: %w", id, store.ErrConflict)
}

// exportModels sends the whole registry as importModels takes it.
func (s *Studio) exportModels(w http.ResponseWriter, r *http.Request) {
	all, err := s.models(r.Context())
	if err != nil {
		s.internal(w, err)
		return
	}
	out := client.Registry{Version: registryForm, Models: []client.ModelRecord{}}
	for _, m := range all {
		out.Models = append(out.Models, recordOf(m))
	}
	w.Header().Set("Content-Disposition", `attachment; filename="models.json"`)
	writeJSON(w, http.StatusOK, out)
}

// importModels writes all models of an exported registry over what is there.
// Models that it does not name stay. All are checked before the first is written.
func (s *Studio) importModels(w http.ResponseWriter, r *http.Request) {
	data, ok := readBody(w, r, client.MaxRegistry)
	if !ok {
		return
	}
	in, err := decodeRegistry(data)
	if err != nil {
		writeError(w, http.StatusUnprocessableEntity, "invalid_model", err.Error())
		return
	}
	out := client.Imported{}
	for _, m := range in.Models {
		_, created, err := s.keepModel(r.Context(), m)
		if err != nil {
			s.refuse(w, err)
			return
		}
		if created {
			out.Created++
		} else {
			out.Replaced++
		}
	}
	writeJSON(w, http.StatusOK, out)
}

// decodeRegistry reads an exported registry and checks each of its models.
func decodeRegistry(data []byte) (client.Registry, error) {
	var in client.Registry
	if err := json.Unmarshal(data, &in); err != nil {
		return in, fmt.Errorf("the registry cannot be read: %w", err)
	}
	if in.Version != registryForm {
		return in, fmt.Errorf("the registry has version %d, this studio reads %d", in.Version, registryForm)
	}
	if len(in.Models) > maxModels {
		return in, fmt.Errorf("the registry has more than %d models", maxModels)
	}
	seen := map[string]bool{}
	for _, m := range in.Models {
		if err := checkModel(m); err != nil {
			return in, fmt.Errorf("model %.200q: %w", m.ID, err)
		}
		if seen[m.ID] {
			return in, fmt.Errorf("model %.200q: is there twice", m.ID)
		}
		seen[m.ID] = true
	}
	return in, nil
}
