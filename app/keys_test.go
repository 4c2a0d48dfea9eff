//go:build !windows

package app

import (
	"net/http"
	"strings"
	"testing"
)

// TestKeysCommand: a key is printed once, listed without its secret, and void
// once it is revoked.
func TestKeysCommand(t *testing.T) {
	h, f := newHome(t), newStudio(t)
	to := []string{"--studio", f.url, "--token-file", tokenFile(f.data)}
	keys := func(args ...string) []string { return append(append([]string{"keys"}, args...), to...) }

	code, out, said := h.run(t, keys("create", "atelier", "--expires", "720h", "--max-priority", "5")...)
	text := strings.TrimSuffix(out, "\n")
	if code != 0 || !strings.HasPrefix(text, "sw-") || strings.ContainsAny(text, " \n") || !strings.Contains(said, "not shown again") {
		t.Fatalf("create ends with %d and prints %q: %s", code, out, said)
	}
	if status, body := f.call(t, http.MethodGet, "/api/v1/models", text, nil); status != http.StatusOK {
		t.Errorf("the key answers %d %s", status, body)
	}
	list := h.want(t, keys("list")...)
	id := strings.Fields(strings.Split(list, "\n")[1])[0]
	if !strings.Contains(list, "atelier") || !strings.Contains(list, "until ") || strings.Contains(list, text) || !strings.HasPrefix(text, "sw-"+id+"-") {
		t.Errorf("the list is %s", list)
	}
	if out := h.want(t, keys("revoke", id)...); out != "key "+id+" is revoked\n" {
		t.Errorf("revoke prints %q", out)
	}
	if status, body := f.call(t, http.MethodGet, "/api/v1/models", text, nil); status != http.StatusUnauthorized {
		t.Errorf("the revoked key answers %d %s", status, body)
	}
	if list := h.want(t, keys("list")...); !strings.Contains(list, "revoked ") {
		t.Errorf("the list is %s", list)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"nothing":           {keys(), exitUsage, "create, list, revoke"},
		"no name":           {keys("create"), exitUsage, "one argument"},
		"expires before":    {keys("create", "x", "--expires", "-1h"), exitUsage, "--expires"},
		"priority too high": {keys("create", "x", "--max-priority", "1000"), exitFail, "maxPriority"},
		"unknown key":       {keys("revoke", "none"), exitFail, "no such key"},
		"odd key":           {keys("revoke", "../jobs"), exitFail, "no such key"},
		"list what":         {keys("list", "x"), exitUsage, "no argument"},
	} {
		t.Run(name, func(t *testing.T) { h.wantRefusal(t, c.code, c.args, c.want) })
	}
}
