//go:build !windows

package app

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestRegistryCommand: what one studio exports another imports, twice without
// harm.
func TestRegistryCommand(t *testing.T) {
	h, f, g := newHome(t), newStudio(t), newStudio(t)
	file := filepath.Join(h.dir, "models.json")
	at := func(f *farm, args ...string) []string {
		return append(append([]string{"registry"}, args...), "--studio", f.url, "--token-file", tokenFile(f.data))
	}
	models, err := f.operator.Models(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if out := h.want(t, at(f, "export", file)...); out != fmt.Sprintf("%d models in %s\n", len(models), file) {
		t.Errorf("export prints %q", out)
	}
	if out := h.want(t, at(g, "import", file)...); out != fmt.Sprintf("0 new models, %d replaced\n", len(models)) {
		t.Errorf("import prints %q", out)
	}
	odd := filepath.Join(h.dir, "odd.json")
	if err := os.WriteFile(odd, []byte(`{"version":1,"models":[{"id":"x","kinds":["dance"]}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"nothing":        {at(f), exitUsage, "export, import"},
		"no file":        {at(f, "export"), exitUsage, "one argument"},
		"file not there": {at(f, "import", filepath.Join(h.dir, "none")), exitFail, "no such file"},
		"no registry":    {at(f, "import", f.data+"/operator-token"), exitFail, "no exported registry"},
		"odd model":      {at(f, "import", odd), exitFail, "dance"},
		"no folder":      {at(f, "export", filepath.Join(h.dir, "none", "x")), exitFail, "no such file"},
	} {
		t.Run(name, func(t *testing.T) { h.wantRefusal(t, c.code, c.args, c.want) })
	}
}
