//go:build !windows

package app

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"studioworker/worker/config"
	"studioworker/worker/models"
)

// TestModelsCommand: what was fetched is listed, verified, repaired, pinned and
// removed from the command line.
func TestModelsCommand(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "the bytes of "+r.URL.Path)
	}))
	t.Cleanup(server.Close)
	h := newHome(t)
	root := filepath.Join(h.dir, "m")
	h.write(t, "http://127.0.0.1:1/", fmt.Sprintf("models_root = %q\n", root))
	if got := h.want(t, "models", "list"); !strings.Contains(got, "no model files") {
		t.Errorf("an empty list: %q", got)
	}
	if got := h.want(t, "models", "verify"); !strings.Contains(got, "nothing was fetched") {
		t.Errorf("nothing to verify: %q", got)
	}
	store, err := config.Open(h.config, plainLogger(os.Stderr))
	if err != nil {
		t.Fatal(err)
	}
	files, web, err := newModels(store, nil, plainLogger(os.Stderr))
	if err != nil {
		t.Fatal(err)
	}
	defer web.Close()
	for _, model := range []string{"org/one", "two"} {
		held, err := files.Ensure(t.Context(), models.Set{Model: model, Files: []models.File{{URL: server.URL + "/a.gguf", Filename: "a.gguf"}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		held.Release()
	}
	file := filepath.Join(root, "org_one", "a.gguf")
	if err := os.WriteFile(file, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"list", 0, "org_one/a.gguf  org/one  7 B"},
		{"verify", 1, "DAMAGED"},
		{"verify two", 0, "two/a.gguf  ok"},
		{"verify --repair org/one", 0, "repaired"},
		{"verify", 0, "org_one/a.gguf  ok"},
		{"pin two", 0, "two: pinned"},
		{"list", 0, "pinned"},
		{"unpin two", 0, "two: unpinned"},
		{"remove two/a.gguf", 0, "freed 20 B"},
		{"remove two", 1, "no fetched model"},
		{"pin nothing", 1, "models list"},
		{"remove", 2, "this takes a model or a file"},
		{"verify a b", 2, "or nothing"},
		{"list a", 2, "takes no argument"},
	} {
		code, out, problem := h.run(t, append([]string{"models"}, strings.Fields(c.args)...)...)
		if code != c.code || !strings.Contains(out+problem, c.want) {
			t.Errorf("models %s ends with %d, says %q and %q; want %d and %q", c.args, code, out, problem, c.code, c.want)
		}
	}
}
