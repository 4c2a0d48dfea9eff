//go:build !windows

package app

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"studioworker/studio/client"
	"studioworker/worker/protocol"
)

// wantMode checks who may use a file or a folder.
func wantMode(tb testing.TB, path string, want os.FileMode) {
	tb.Helper()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
		tb.Errorf("%s: %v, %v; want mode %o", path, info, err, want)
	}
}

// wavSeconds checks a WAV of 16 bits and returns its length.
func wavSeconds(tb testing.TB, data []byte) float64 {
	tb.Helper()
	if len(data) < 44 || string(data[:4]) != "RIFF" || string(data[8:16]) != "WAVEfmt " || binary.LittleEndian.Uint16(data[34:]) != 16 {
		tb.Fatalf("%d bytes that begin with %q are no WAV", len(data), data[:min(len(data), 44)])
	}
	frame := float64(binary.LittleEndian.Uint16(data[22:])) * 2
	return float64(len(data)-44) / frame / float64(binary.LittleEndian.Uint32(data[24:]))
}

// TestDemo is the first minute: in a fresh home, one command ends with a result
// of each kind, and the speech is real.
func TestDemo(t *testing.T) {
	h := newHome(t)
	once := func() (studio string, results map[string]string) {
		t.Helper()
		code, out, problem := h.run(t, "demo", "--once")
		if code != 0 {
			t.Fatalf("demo --once ends with %d: %s", code, problem)
		}
		results = map[string]string{}
		for line := range strings.Lines(out) {
			words := strings.Fields(line)
			if len(words) < 2 {
				t.Fatalf("the line %q", line)
			}
			if words[0] == "studio:" {
				studio = words[1]
			}
			if !strings.HasSuffix(words[0], ":") {
				if _, there := results[words[0]]; there || len(words) != 2 || !filepath.IsAbs(words[1]) {
					t.Errorf("the line %q", line)
				}
				results[words[0]] = words[1]
			}
		}
		return studio, results
	}
	first, results := once()
	for kind, ext := range map[string]string{
		"image": ".webp", "llm": ".json", "audio_stt": ".json", "audio_tts": ".wav", "video": ".webp",
	} {
		path := results[kind]
		if data, err := os.ReadFile(path); err != nil || len(data) == 0 || filepath.Ext(path) != ext {
			t.Errorf("%s is in %q: %d bytes, %v; want *%s", kind, path, len(data), err, ext)
		}
	}
	if len(results) != len(protocol.TaskKinds()) {
		t.Errorf("results %v", results)
	}
	speech, err := os.ReadFile(results["audio_tts"])
	if err != nil {
		t.Fatal(err)
	}
	if took := wavSeconds(t, speech); took < 0.5 {
		t.Errorf("the speech takes %.2f s", took)
	}
	dir := filepath.Join(h.dir, "s", "studio-worker", "demo")
	text, err := os.ReadFile(filepath.Join(dir, "demo.log"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "model=espeak-ng") {
		t.Fatal("espeak-ng is not installed: run scripts/setup")
	}
	wantMode(t, dir, 0o700)
	wantMode(t, filepath.Join(dir, "config.toml"), 0o600)
	wantMode(t, filepath.Join(dir, "studio"), 0o700)
	wantMode(t, filepath.Join(dir, "studio", "operator-token"), 0o600)
	wantMode(t, filepath.Join(dir, "demo.log"), 0o600)
	if list, err := os.ReadDir(filepath.Dir(h.config)); !os.IsNotExist(err) {
		t.Errorf("the person's own config folder holds %v, %v", list, err)
	}

	second, more := once()
	if second != first {
		t.Errorf("the studio was at %s and is at %s now", first, second)
	}
	for kind, path := range results {
		if more[kind] == path {
			t.Errorf("the second demo shows the first one's %s", kind)
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("the first demo's %s is gone: %v", kind, err)
		}
	}
}

// TestDemoTwice: the second says that the first runs, and how to stop it.
func TestDemoTwice(t *testing.T) {
	h := newHome(t)
	d := h.start(t, "demo", "--no-window")
	if !d.out.await(1, "all sample jobs are done") {
		t.Fatalf("the demo says %s%s", d.out, d.err)
	}
	path := filepath.Join(h.dir, "s", "studio-worker", "demo", "config.toml")
	h.wantRefusal(t, exitFail, []string{"demo", "--once"}, fmt.Sprintf("the demo is running already (pid %d)", d.cmd.Process.Pid), "--config "+path+" quit")
	h.want(t, "--config", path, "quit")
	if code := d.wait(t); code != 0 {
		t.Errorf("the demo ends with %d: %s", code, d.err)
	}
}

// TestSubmit: a job from the command line ends as a file.
func TestSubmit(t *testing.T) {
	h, f, d := newHome(t), newStudio(t), newDesk(t)
	d.equip(t, h)
	h.write(t, f.url, "")
	w := h.start(t, "run")
	w.await(t, 1, "server welcomed")
	to := []string{"submit", "--studio", f.url, "--token-file", tokenFile(f.data)}

	code, out, said := h.run(t, append(to, "we", "sail", "at", "dawn")...)
	path := strings.TrimSuffix(out, "\n")
	if code != 0 || !filepath.IsAbs(path) || filepath.Dir(path) != h.dir || filepath.Ext(path) != ".wav" {
		t.Fatalf("submit ends with %d and prints %q: %s", code, out, said)
	}
	if data, err := os.ReadFile(path); err != nil || !bytes.Equal(data, sound(d.last())) || d.count("we sail at dawn") != 1 {
		t.Errorf("the file has %d bytes, %v; the engine ran for %v", len(data), err, d.runs)
	}
	if !strings.Contains(said, "with espeak-ng\n") || !strings.Contains(said, "audio_tts  done\n") {
		t.Errorf("submit says %q", said)
	}
	named := filepath.Join(h.dir, "answer.json")
	if out := h.want(t, append(to, "--kind", "llm", "--model", "synthetic-llm", "--out", "answer.json", "name this town")...); out != named+"\n" {
		t.Errorf("submit prints %q, want %q", out, named)
	}
	if data, err := os.ReadFile(named); err != nil || !json.Valid(data) {
		t.Errorf("the file holds %q, %v", data, err)
	}

	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no text":                {to, exitUsage, "needs the text"},
		"empty text":             {append(to, ""), exitFail, "there is no text"},
		"unknown kind":           {append(to, "--kind", "dance", "hello"), exitUsage, `"dance" is no kind of job`},
		"unknown model":          {append(to, "--model", "nobody", "hello"), exitFail, "nobody"},
		"model of another kind":  {append(to, "--model", "synthetic-llm", "hello"), exitFail, "does not do audio_tts"},
		"unknown flag":           {append(to, "--harbour", "hello"), exitUsage, "--harbour"},
		"no token":               {[]string{"submit", "--studio", f.url, "hello"}, exitUsage, "--token-file"},
		"token file that is not": {[]string{"submit", "--studio", f.url, "--token-file", filepath.Join(h.dir, "none"), "hello"}, exitUsage, "no token at"},
		"no address":             {[]string{"submit", "--studio", "harbour", "--token-file", tokenFile(f.data), "hello"}, exitUsage, "http"},
		"nobody there":           {[]string{"submit", "--studio", "http://127.0.0.1:1", "--token-file", tokenFile(f.data), "hello"}, exitFail, "no studio runs at http://127.0.0.1:1"},
	} {
		t.Run(name, func(t *testing.T) { h.wantRefusal(t, c.code, c.args, c.want) })
	}
	status, body := f.call(t, http.MethodGet, "/api/v1/jobs", f.token, nil)
	var list client.JobList
	if err := json.Unmarshal(body, &list); err != nil || status != http.StatusOK || len(list.Jobs) != 2 {
		t.Errorf("the studio has %d jobs, want those that were right: %d, %v", len(list.Jobs), status, err)
	}
	w.stop(t)
}

// TestSubmitBesideStudio: without flags, submit finds the token of the studio
// beside the config.
func TestSubmitBesideStudio(t *testing.T) {
	h := newHome(t)
	s := h.start(t, "studio", "--listen", "127.0.0.1:0", "--auto-approve")
	if !s.out.await(1, "operator token in "+filepath.Join(filepath.Dir(h.config), "studio", "operator-token")) {
		t.Fatalf("the studio says %s%s", s.out, s.err)
	}
	url, _, _ := strings.Cut(strings.TrimPrefix(s.out.String(), "studio at "), ",")
	h.write(t, url, "")
	w := h.start(t, "run")
	out := h.want(t, "submit", "--studio", url, "--kind", "llm", "name this town")
	if data, err := os.ReadFile(strings.TrimSuffix(out, "\n")); err != nil || !json.Valid(data) {
		t.Errorf("submit prints %q: %q, %v", out, data, err)
	}
	w.stop(t)
	s.stop(t)
}

// TestNoSecretIsShown is §13 #158: neither a status nor the config that is
// printed holds a secret.
func TestNoSecretIsShown(t *testing.T) {
	h := newHome(t)
	h.write(t, "http://127.0.0.1:1", `worker_id = "wk-harbour"
auth_token = "secret-one"
registration_secret = "secret-two"
local_api_token = "secret-three"
unknown_token = "secret-four"
`)
	for _, args := range [][]string{{"config"}, {"status"}, {"status", "--json"}, {"set-threshold", "8"}} {
		code, out, problem := h.run(t, args...)
		if code != 0 || strings.Contains(out+problem, "secret-") {
			t.Errorf("%q ends with %d and shows %s%s", args, code, out, problem)
		}
	}
	out := h.want(t, "config")
	if !strings.HasPrefix(out, "# "+h.config+"\n") || strings.Count(out, "[redacted]") != 3 || !strings.Contains(out, "wk-harbour") {
		t.Errorf("config prints %s", out)
	}
}

// TestStatusLabels: the labels stand in the order of the specification's §12,
// and the registration is one of its sentences.
func TestStatusLabels(t *testing.T) {
	for name, c := range map[string]struct{ more, registration string }{
		"approved": {"worker_id = \"wk-harbour\"\nauth_token = \"t\"\n", "approved as wk-harbour"},
		"pending":  {"registration_request_id = \"rr-harbour\"\n", "pending operator approval (request rr-harbour)"},
		"neither":  {"", "not registered (registers at the next start)"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			h.write(t, "http://127.0.0.1:1", "models_root = \"/models\"\n"+c.more)
			want := []string{
				"config path: " + h.config, "api_base_url: http://127.0.0.1:1", "registration: " + c.registration, "vram_threshold_gb: 12",
				"models_root: /models", "auto_update: true", "update_interval: 1800s", "running: no",
			}
			var got []string
			for line := range strings.Lines(h.want(t, "status")) {
				got = append(got, strings.Join(strings.Fields(line), " "))
			}
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("status prints\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// TestCommands is §13 #161: removed commands do not parse, and `run` works but
// is not in the help. Every command says how it is used.
func TestCommands(t *testing.T) {
	h := newHome(t)
	h.config = filepath.Join(h.dir, "none.toml")
	for _, args := range [][]string{
		{"enable"},
		{"disable"},
		{"install-service"},
		{"uninstall-service"},
		{"dance"},
		{"register", "--label", "x"},
		{"register", "--bootstrap-token", "x"},
		{"run", "--wait-for-lock"},
		{"pause", "now"},
		{"version", "now"},
		{"status", "--yaml"},
	} {
		h.wantRefusal(t, exitUsage, args)
	}
	root := h.want(t, "--help")
	for _, text := range []string{"Usage:", "--config", "demo", "studio", "submit", "status", "config", "set-threshold", "register", "pause", "resume", "quit", "version"} {
		if !strings.Contains(root, text) {
			t.Errorf("the help has no %q:\n%s", text, root)
		}
	}
	if regexp.MustCompile(`(?m)^  run `).MatchString(root) {
		t.Errorf("run is in the help:\n%s", root)
	}
	for command, flags := range map[string][]string{
		"run": nil, "demo": {"--once", "--no-window"}, "studio": {"--listen", "--data", "--auto-approve"},
		"submit": {"--studio", "--token-file", "--kind", "--model", "--out"}, "status": {"--json"}, "config": nil, "set-threshold": nil,
		"register": {"--api-base-url", "--reset"}, "pause": nil, "resume": nil, "quit": nil, "version": nil, "ui": nil,
	} {
		t.Run(command, func(t *testing.T) {
			out := h.want(t, command, "--help")
			for _, text := range append(flags, "Usage:\n  studio-worker "+command, "--config") {
				if !strings.Contains(out, text) {
					t.Errorf("the help has no %q:\n%s", text, out)
				}
			}
		})
	}
	want := fmt.Sprintf("studio-worker %s (%s)\n", Version, variant)
	if out := h.want(t, "--version"); out != want {
		t.Errorf("--version prints %q, want %q", out, want)
	}
	if out := h.want(t, "version"); !strings.HasPrefix(out, want) || !strings.Contains(out, "\nno updates: this build has no feed\n") {
		t.Errorf("version prints %q", out)
	}
}
