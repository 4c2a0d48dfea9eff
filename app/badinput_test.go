//go:build !windows

package app

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"studioworker/studio/client"
	"studioworker/worker/protocol"
)

// wantFile checks that a file holds the text.
func wantFile(tb testing.TB, path, want string) {
	tb.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		tb.Errorf("%s holds %q, %v; want %q", path, got, err, want)
	}
}

// TestBadConfig: each mistake in a config is one clear line, and the file stays
// as it was.
func TestBadConfig(t *testing.T) {
	const good = "api_base_url = \"http://127.0.0.1:1\"\nvram_threshold_gb = 12.0\n"
	for name, c := range map[string]struct {
		text string
		want string
	}{
		"broken":             {good + "models_root = \"unclosed\n", "cannot be read as TOML (line 3"},
		"not TOML":           {"\x00\x01\x02", "cannot be read as TOML (line 1"},
		"empty":              {"", "the key api_base_url is missing"},
		"negative threshold": {strings.Replace(good, "12.0", "-1.0", 1), "vram_threshold_gb: threshold must be >= 0"},
		"wrong type":         {strings.Replace(good, "12.0", "\"much\"", 1), "wrong type"},
		"too long":           {good + strings.Repeat("# harbour\n", 1<<17), "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, args := range [][]string{{"run"}, {"status"}, {"config"}, {"set-threshold", "8"}, {"register", "--reset"}} {
				h := newHome(t)
				h.write(t, "", "")
				if err := os.WriteFile(h.config, []byte(c.text), 0o600); err != nil {
					t.Fatal(err)
				}
				h.wantLine(t, exitFail, args, c.want)
				wantFile(t, h.config, c.text)
			}
		})
	}
	t.Run("the last good copy", func(t *testing.T) {
		h := newHome(t)
		h.write(t, "http://127.0.0.1:1", "models_root = \"/models\"\n")
		h.want(t, "config") // keeps the copy
		const broken = "models_root = \"unclosed\n"
		if err := os.WriteFile(h.config, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, problem := h.run(t, "config")
		if code != 0 || !strings.Contains(out, "'/models'") && !strings.Contains(out, "\"/models\"") {
			t.Errorf("config ends with %d and prints %q", code, out)
		}
		if strings.Count(problem, "\n") != 1 || !strings.Contains(problem, "the last good copy is in use") {
			t.Errorf("config says %q", problem)
		}
		aside, err := filepath.Glob(h.config + ".corrupt-*")
		if err != nil || len(aside) != 1 {
			t.Fatalf("set aside: %v, %v", aside, err)
		}
		wantFile(t, aside[0], broken)
	})
	t.Run("credentials that others can read", func(t *testing.T) {
		h := newHome(t)
		h.write(t, "http://127.0.0.1:1", "auth_token = \"harbour-secret\"\n")
		if err := os.Chmod(h.config, 0o644); err != nil {
			t.Fatal(err)
		}
		h.wantLine(t, exitFail, []string{"run"}, "chmod 600 "+h.config)
	})
	t.Run("unknown key", func(t *testing.T) {
		h := newHome(t)
		h.write(t, "http://127.0.0.1:1", "modles_root = \"/models\"\n")
		code, _, problem := h.run(t, "set-threshold", "8")
		if code != 0 || strings.Count(problem, "\n") != 1 || !strings.Contains(problem, "key=modles_root did_you_mean=models_root") {
			t.Errorf("set-threshold ends with %d and says %q", code, problem)
		}
		data, err := os.ReadFile(h.config)
		if err != nil || !strings.Contains(string(data), "modles_root") || !strings.Contains(string(data), "vram_threshold_gb = 8") {
			t.Errorf("the file holds %q, %v: the key must stay", data, err)
		}
	})
}

// wantLine is wantRefusal for a command that may also print logs, such as the
// engines of a worker that then does not start: the last line counts, and no
// other is worse than information.
func (h *home) wantLine(tb testing.TB, code int, args []string, texts ...string) {
	tb.Helper()
	got, _, problem := h.run(tb, args...)
	if got != code {
		tb.Errorf("%q ended with %d, want %d: %s", args, got, code, problem)
	}
	lines := strings.Split(strings.TrimSuffix(problem, "\n"), "\n")
	for _, line := range lines[:len(lines)-1] {
		if !strings.Contains(line, "level=INFO") {
			tb.Errorf("%q also says %q", args, line)
		}
	}
	last := lines[len(lines)-1]
	if !strings.HasPrefix(last, "studio-worker: ") {
		tb.Errorf("%q ends with the line %q", args, last)
	}
	for _, text := range texts {
		if !strings.Contains(last, text) {
			tb.Errorf("%q says %q, want %q in it", args, last, text)
		}
	}
}

// TestSetThreshold is §13 #160: -1 is refused, 12.5 is saved.
func TestSetThreshold(t *testing.T) {
	h := newHome(t)
	h.wantRefusal(t, exitUsage, []string{"set-threshold", "12.5"}, "choose a studio first") // the default one would be chosen by it
	h.write(t, "http://127.0.0.1:1", "")
	if out := h.want(t, "set-threshold", "12.5"); out != "vram_threshold_gb = 12.5\n" {
		t.Errorf("set-threshold prints %q", out)
	}
	saved, err := os.ReadFile(h.config)
	if err != nil || !strings.Contains(string(saved), "vram_threshold_gb = 12.5\n") {
		t.Errorf("the file holds %q, %v", saved, err)
	}
	h.wantRefusal(t, exitFail, []string{"set-threshold", "-1"}, "vram_threshold_gb: threshold must be >= 0")
	for _, wrong := range []string{"NaN", "Inf", "-Inf", "4097"} {
		h.wantRefusal(t, exitFail, []string{"set-threshold", wrong}, "vram_threshold_gb")
	}
	for _, args := range [][]string{{"set-threshold"}, {"set-threshold", "1", "2"}, {"set-threshold", "much"}, {"set-threshold", ""}} {
		h.wantRefusal(t, exitUsage, args)
	}
	wantFile(t, h.config, string(saved))
}

// TestBadStudio: a studio that cannot start says why in one line.
func TestBadStudio(t *testing.T) {
	f, h := newStudio(t), newHome(t)
	taken := strings.TrimPrefix(f.url, "http://")
	file := filepath.Join(h.dir, "file")
	if err := os.WriteFile(file, []byte("not a folder"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		listen, data string
		want         string
	}{
		"taken port":             {taken, filepath.Join(h.dir, "other"), "address already in use"},
		"folder under a file":    {"127.0.0.1:0", filepath.Join(file, "studio"), "not a directory"},
		"folder that is a file":  {"127.0.0.1:0", file, "not a directory"},
		"folder that is in use":  {"127.0.0.1:0", f.data, f.data},
		"port that is no number": {"127.0.0.1:harbour", filepath.Join(h.dir, "other"), "harbour"},
	} {
		t.Run(name, func(t *testing.T) {
			h.wantRefusal(t, exitFail, []string{"studio", "--listen", c.listen, "--data", c.data}, "start the studio", c.want)
		})
	}
	h.wantRefusal(t, exitUsage, []string{"studio", "--listen", "harbour", "--data", filepath.Join(h.dir, "other")}, "write HOST:PORT")
	wantFile(t, file, "not a folder")
	f.wantServing(t)
	id := f.submit(t, protocol.KindTTS, "we sail at dawn")
	f.awaitState(t, id, client.Queued)
}

// TestBadWorkerFolder: the worker cannot keep results where it should.
func TestBadWorkerFolder(t *testing.T) {
	h := newHome(t)
	h.write(t, "http://127.0.0.1:1", "")
	outbox := filepath.Join(filepath.Dir(h.config), "outbox")
	if err := os.WriteFile(outbox, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.wantLine(t, exitFail, []string{"run"}, "open the outbox", "not a directory")
	wantFile(t, outbox, "mine")
	h.wantRefusal(t, exitFail, []string{"--config", filepath.Join(outbox, "config.toml"), "register", "--api-base-url", "http://127.0.0.1:1"}, "not a directory")
	h.wantRefusal(t, exitFail, []string{"--config", filepath.Join(outbox, "config.toml"), "run"}, "not a directory")
}

// TestBadRequests: a wrong token and a huge body are refused, and the studio
// still serves with all its jobs.
func TestBadRequests(t *testing.T) {
	f := newStudio(t)
	id := f.submit(t, protocol.KindTTS, "we sail at dawn")

	status, body := f.call(t, http.MethodGet, "/api/v1/jobs/"+id, "wrong", nil)
	wantError(t, status, body, http.StatusUnauthorized, "unauthorized")
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	newHome(t).wantRefusal(t, exitFail, []string{"submit", "--studio", f.url, "--token-file", token, "hello"}, "operator token is missing or wrong")

	const huge = 100 << 20
	t.Run("body with a length", func(t *testing.T) {
		status, body := f.call(t, http.MethodPost, "/api/v1/jobs", f.token, bytes.NewReader(make([]byte, huge)))
		wantError(t, status, body, http.StatusRequestEntityTooLarge, "too_large")
	})
	t.Run("body without a length", func(t *testing.T) {
		status, body := f.call(t, http.MethodPost, "/api/v1/jobs", f.token, io.LimitReader(spaces{}, huge))
		wantError(t, status, body, http.StatusRequestEntityTooLarge, "too_large")
	})
	t.Run("body with a wrong token", func(t *testing.T) {
		status, body := f.call(t, http.MethodPost, "/api/v1/jobs", "wrong", io.LimitReader(spaces{}, huge))
		wantError(t, status, body, http.StatusUnauthorized, "unauthorized")
	})
	t.Run("text that is too long to say", func(t *testing.T) {
		long := strings.Repeat("sea ", 6000)
		newHome(t).wantRefusal(t, exitFail, []string{"submit", "--studio", f.url, "--token-file", tokenFile(f.data), long}, "task.text")
	})
	f.awaitState(t, id, client.Queued)
	f.wantServing(t)
	f.stop(t)
}

// spaces is endless white space, which any JSON may begin with.
type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// TestNothingIsChosenByTheWay: a studio is the one that a person names.
func TestNothingIsChosenByTheWay(t *testing.T) {
	h := newHome(t)
	h.wantRefusal(t, exitUsage, []string{"register"}, "register --api-base-url ADDRESS")
	h.wantRefusal(t, exitUsage, []string{"register", "--reset"}, "register --api-base-url ADDRESS")
	if out := h.want(t, "config"); !strings.HasPrefix(out, "# "+h.config+" is not there yet; these are the defaults\n") {
		t.Errorf("config prints %q", out)
	}
	if _, err := os.Stat(h.config); !os.IsNotExist(err) {
		t.Errorf("there is a config: %v", err)
	}
}

// TestWrongCommands: what cannot be followed is refused in one line that says what can.
func TestWrongCommands(t *testing.T) {
	h := newHome(t)
	for name, parts := range map[string]string{
		"keys": "create, list, revoke", "registry": "export, import", "kept": "discard, list, save",
		"models": "list, pin, remove, unpin, verify", "service": "install, status, uninstall", "update": "apply, check, status",
	} {
		h.wantRefusal(t, exitUsage, []string{name}, name+" needs one of: "+parts)
		h.wantRefusal(t, exitUsage, []string{name, "harbour"}, name+" needs one of: "+parts)
	}
	token := filepath.Join(h.dir, "token")
	if err := os.WriteFile(token, []byte("token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(h.dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	nobody := []string{"--studio", "http://127.0.0.1:1", "--token-file", token}
	for _, c := range []struct {
		code int
		args []string
		want string
	}{
		{exitUsage, []string{"harbour"}, "unknown command"},
		{exitUsage, []string{"studio", "--listen", "harbour"}, "write HOST:PORT"},
		{exitUsage, []string{"studio", "--memory-limit", "-1"}, "--memory-limit"},
		{exitFail, []string{"logs"}, "`studio-worker run` starts one"},
		{exitFail, append([]string{"submit", "hello"}, nobody...), "no studio runs at http://127.0.0.1:1: start one"},
		{exitFail, append([]string{"keys", "list"}, nobody...), "no studio runs at http://127.0.0.1:1: start one"},
		{exitFail, append([]string{"dashboard", "--print"}, nobody...), "no studio runs at http://127.0.0.1:1: start one"},
		{exitFail, []string{"keys", "list", "--token-file", empty}, empty + " is empty or too long"},
	} {
		h.wantRefusal(t, c.code, c.args, c.want)
	}
}

// TestSocketFolder: below the temporary folder, the socket's folder is this account's.
func TestSocketFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "studio-worker-1")
	for range 2 { // new, and there already
		if err := ownFolder(dir); err != nil {
			t.Fatal(err)
		}
		wantMode(t, dir, 0o700)
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(t.TempDir(), "studio-worker-1")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if err := ownFolder(link); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("a link of somebody's is taken as our folder: %v", err)
	}
	wantMode(t, dir, 0o755)
}
