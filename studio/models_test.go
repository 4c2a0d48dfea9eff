package studio

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"studioworker/studio/client"
	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

func townNamer(id string) client.ModelRecord {
	sum := strings.Repeat("0a", 32)
	return client.ModelRecord{
		ID: id, Kinds: []protocol.TaskKind{protocol.KindLLM}, VRAMGBEstimate: 4, Aliases: []string{"namer"}, Default: true,
		ModelSource: protocol.ModelSource{
			Engine:      protocol.EngineLlamaCpp,
			Files:       []protocol.ModelFile{{Role: "model", URL: "https://models.example/town-q4.gguf", Filename: "town-q4.gguf", SHA256: &sum}},
			CLIDefaults: protocol.CLIDefaults{CfgScale: 1, Steps: 1, Width: 64, Height: 64},
		},
	}
}

// TestModelsAreWritten: written, found by every name, used by jobs, removed; whatever the id
// is made of.
func TestModelsAreWritten(t *testing.T) {
	f := newFarm(t, nil)
	l := f.worker(t).connect(t, "")
	for _, id := range []string{"town-namer-3b", "org/town:v2 (q4)", "../..", "=bm8", "é", "connect"} {
		m := townNamer(id)
		stored, err := f.operator.PutModel(t.Context(), m)
		if err != nil || stored.ID != id || stored.CreatedAt.IsZero() {
			t.Fatalf("%q is stored as %+v, %v", id, stored, err)
		}
		m.VRAMGBEstimate = 5
		again, err := f.operator.PutModel(t.Context(), m)
		if err != nil || !again.CreatedAt.Equal(stored.CreatedAt) || again.VRAMGBEstimate != 5 {
			t.Errorf("%q is replaced by %+v, %v", id, again, err)
		}
		if got, err := f.operator.Model(t.Context(), id); err != nil || got.ModelSource.Files[0].Filename != "town-q4.gguf" || !got.Default {
			t.Errorf("%q is %+v, %v", id, got, err)
		}
		for _, name := range []string{id, "namer", "default", ""} {
			body, err := json.Marshal(map[string]any{"model": name, "messages": []protocol.Message{{Role: "user", Content: "x"}}})
			if err != nil {
				t.Fatal(err)
			}
			answer := f.post(t, "/v1/chat/completions", string(body))
			claim := l.take(t)
			if claim.Model != id || claim.VRAMGBEstimate != 5 || claim.ModelSource.Engine != protocol.EngineLlamaCpp {
				t.Errorf("%q became %+v", name, claim)
			}
			l.answerChat(t, claim.JobID, "Saltmere")
			if r := got(t, answer); r.status != http.StatusOK {
				t.Errorf("%q answered %d %s", name, r.status, r.body)
			}
		}
		if err := f.operator.DeleteModel(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if _, err := f.operator.Model(t.Context(), id); !isStatus(err, http.StatusNotFound) {
			t.Errorf("%q after its removal: %v", id, err)
		}
		if err := f.operator.DeleteModel(t.Context(), id); !isStatus(err, http.StatusNotFound) {
			t.Errorf("%q removed twice: %v", id, err)
		}
	}
	if err := f.operator.DeleteModel(t.Context(), "synthetic-llm"); !isStatus(err, http.StatusConflict) {
		t.Errorf("a model of every worker: %v", err)
	}
}

// TestNamesOfModels belong to one model each, and each kind has one default.
func TestNamesOfModels(t *testing.T) {
	f := newFarm(t, nil)
	put := func(m client.ModelRecord) error {
		_, err := f.operator.PutModel(t.Context(), m)
		return err
	}
	if err := put(townNamer("one")); err != nil {
		t.Fatal(err)
	}
	two := townNamer("two")
	if err := put(two); !isStatus(err, http.StatusConflict) {
		t.Errorf("an alias of another: %v", err)
	}
	if two.Aliases = []string{"one"}; !isStatus(put(two), http.StatusConflict) {
		t.Error("the id of another is taken as an alias")
	}
	two.Aliases = nil
	if err := put(two); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]bool{"one": false, "two": true} {
		if m, err := f.operator.Model(t.Context(), id); err != nil || m.Default != want {
			t.Errorf("%s is %+v, %v", id, m, err)
		}
	}
}

func TestModelsAreRefused(t *testing.T) {
	f := newFarm(t, nil)
	for name, change := range map[string]func(*client.ModelRecord){
		"long id":        func(m *client.ModelRecord) { m.ID = strings.Repeat("x", 201) },
		"odd id":         func(m *client.ModelRecord) { m.ID = "a\x01b" },
		"no kind":        func(m *client.ModelRecord) { m.Kinds = nil },
		"unknown kind":   func(m *client.ModelRecord) { m.Kinds = []protocol.TaskKind{"dance"} },
		"kind twice":     func(m *client.ModelRecord) { m.Kinds = []protocol.TaskKind{"llm", "llm"} },
		"memory":         func(m *client.ModelRecord) { m.VRAMGBEstimate = -1 },
		"no engine":      func(m *client.ModelRecord) { m.ModelSource.Engine = "" },
		"alias twice":    func(m *client.ModelRecord) { m.Aliases = []string{"a", "a"} },
		"alias is id":    func(m *client.ModelRecord) { m.Aliases = []string{m.ID} },
		"alias default":  func(m *client.ModelRecord) { m.Aliases = []string{"default"} },
		"empty alias":    func(m *client.ModelRecord) { m.Aliases = []string{""} },
		"many aliases":   func(m *client.ModelRecord) { m.Aliases = strings.Split(strings.Repeat("a,b,c,d,", 5), ",") },
		"path":           func(m *client.ModelRecord) { m.ModelSource.Files[0].Filename = "../x" },
		"hidden file":    func(m *client.ModelRecord) { m.ModelSource.Files[0].Filename = ".x" },
		"backslash":      func(m *client.ModelRecord) { m.ModelSource.Files[0].Filename = `a\b` },
		"no role":        func(m *client.ModelRecord) { m.ModelSource.Files[0].Role = "" },
		"plain http":     func(m *client.ModelRecord) { m.ModelSource.Files[0].URL = "http://models.example/x" },
		"file":           func(m *client.ModelRecord) { m.ModelSource.Files[0].URL = "file:///etc/passwd" },
		"password":       func(m *client.ModelRecord) { m.ModelSource.Files[0].URL = "https://a:b@models.example/x" },
		"not a hash":     func(m *client.ModelRecord) { sum := "0a"; m.ModelSource.Files[0].SHA256 = &sum },
		"too many files": func(m *client.ModelRecord) { m.ModelSource.Files = slices.Repeat(m.ModelSource.Files, maxFiles+1) },
	} {
		t.Run(name, func(t *testing.T) {
			m := townNamer("town")
			change(&m)
			if _, err := f.operator.PutModel(t.Context(), m); !isStatus(err, http.StatusUnprocessableEntity) {
				t.Errorf("stored: %v", err)
			}
			if _, err := f.operator.Import(t.Context(), client.Registry{Version: 1, Models: []client.ModelRecord{townNamer("good"), m}}); !isStatus(err, http.StatusUnprocessableEntity) {
				t.Errorf("imported: %v", err)
			}
		})
	}
	status, body := f.call(t, http.MethodPut, "/api/v1/models/a", f.token, strings.NewReader(`{"id":"b"}`))
	wantError(t, status, body, http.StatusUnprocessableEntity, "invalid_model")
	status, body = f.call(t, http.MethodPut, "/api/v1/models/a", f.token, strings.NewReader(`{`))
	wantError(t, status, body, http.StatusBadRequest, "invalid_model")
	status, body = f.call(t, http.MethodPut, "/api/v1/models/a", f.token, strings.NewReader(`{"id":"`+strings.Repeat("x", client.MaxJob)+`"}`))
	wantError(t, status, body, http.StatusRequestEntityTooLarge, "too_large")
	if models, err := f.operator.Models(t.Context()); len(models) != len(builtIn()) || err != nil {
		t.Errorf("there are %d models, %v", len(models), err)
	}
}

// TestRegistryMoves from one studio to another, whole.
func TestRegistryMoves(t *testing.T) {
	f, g := newFarm(t, nil), newFarm(t, nil)
	for _, id := range []string{"a", "org/b:c"} {
		m := townNamer(id)
		m.Aliases = []string{"also " + id}
		if _, err := f.operator.PutModel(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	all, err := f.operator.Export(t.Context())
	if err != nil || all.Version != 1 || len(all.Models) != len(builtIn())+2 {
		t.Fatalf("exported %+v, %v", all, err)
	}
	for _, want := range []client.Imported{{Created: 2, Replaced: len(builtIn())}, {Replaced: len(builtIn()) + 2}} {
		if did, err := g.operator.Import(t.Context(), all); err != nil || did != want {
			t.Errorf("imported %+v, %v, want %+v", did, err, want)
		}
	}
	got, err := g.operator.Export(t.Context())
	if err != nil || len(got.Models) != len(all.Models) {
		t.Fatalf("moved %+v, %v", got, err)
	}
	for i, m := range got.Models {
		x, errX := json.Marshal(client.ModelRecord{Aliases: m.Aliases, Kinds: m.Kinds, Default: m.Default, VRAMGBEstimate: m.VRAMGBEstimate, ModelSource: m.ModelSource})
		o := all.Models[i]
		y, errY := json.Marshal(client.ModelRecord{Aliases: o.Aliases, Kinds: o.Kinds, Default: o.Default, VRAMGBEstimate: o.VRAMGBEstimate, ModelSource: o.ModelSource})
		if errX != nil || errY != nil || string(x) != string(y) || m.ID != o.ID {
			t.Errorf("%s became %s", y, x)
		}
	}
	if m, err := g.studio.store.Models.Get(t.Context(), modelKey("a")); err != nil || m.Value.ID != "a" {
		t.Errorf("the store has %+v, %v", m, err)
	}
	for _, bad := range []string{`7`, `{"version":2}`, `{"version":1,"models":[{"id":"a"}]}`} {
		status, body := g.call(t, http.MethodPut, "/api/v1/registry", g.token, strings.NewReader(bad))
		wantError(t, status, body, http.StatusUnprocessableEntity, "invalid_model")
	}
}

// FuzzDecodeRegistry: what it lets through can be stored, and offered.
func FuzzDecodeRegistry(f *testing.F) {
	good, err := json.Marshal(client.Registry{Version: 1, Models: []client.ModelRecord{townNamer("a")}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":1,"models":[{"id":"../x","kinds":["llm"],"modelSource":{"engine":"x","files":[],"cliDefaults":{"cfgScale":1,"steps":1,"width":1,"height":1}}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		in, err := decodeRegistry(data)
		if err != nil {
			return
		}
		for _, m := range in.Models {
			key := modelKey(m.ID)
			if strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=/.") != "" || strings.HasPrefix(key, ".") || strings.HasSuffix(key, ".") {
				t.Errorf("%q is stored under %q", m.ID, key)
			}
			if _, err := json.Marshal(store.Model{ID: m.ID, Source: m.ModelSource}); err != nil {
				t.Error(err)
			}
		}
	})
}
