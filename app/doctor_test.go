//go:build !windows

package app

import (
	"archive/zip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"studioworker/worker/doctor"
)

// The secrets that must not leave this computer, wherever they stand in its files.
const (
	plantedToken  = "planted-token-5f1e9c"
	plantedPrompt = "a lighthouse nobody else has asked for"
	plantedMail   = "someone.private@example.com"
)

// plant writes a config, a history and a log that hold them.
func plant(t *testing.T, h *home) {
	t.Helper()
	h.write(t, "http://127.0.0.1:1", fmt.Sprintf("worker_id = \"w-1\"\nauth_token = %q\ninstall_id = \"i-1\"\n", plantedToken))
	dir := filepath.Dir(h.config)
	if err := os.MkdirAll(filepath.Join(dir, "history"), 0o700); err != nil {
		t.Fatal(err)
	}
	job, err := json.Marshal(map[string]any{
		"v": 1, "id": "j-1", "kind": "image", "prompt": plantedPrompt, "started": "2026-01-02T03:04:05.000Z", "ms": 10, "outcome": "failed",
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"history/jobs.jsonl": string(job) + "\n",
		"worker.log": fmt.Sprintf("time=x level=ERROR msg=\"engine failed\" error=\"sd-cli: cannot draw %s\"\n", plantedPrompt) +
			fmt.Sprintf("time=x level=WARN msg=refused header=\"Bearer %s\" by=%s file=%s/models/x\n", plantedToken, plantedMail, h.dir),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// leaked names the planted things that text holds.
func leaked(h *home, text string) []string {
	var found []string
	for _, secret := range []string{plantedToken, plantedPrompt, plantedMail, h.dir} {
		if strings.Contains(text, secret) {
			found = append(found, secret)
		}
	}
	return found
}

func TestDoctorBundleHoldsNoSecret(t *testing.T) {
	h := newHome(t)
	plant(t, h)
	target := filepath.Join(t.TempDir(), "help.zip")
	p := h.start(t, "doctor", "--bundle", target)
	<-p.ended
	out := p.out.String()
	if p.cmd.ProcessState.ExitCode() != exitFail || !strings.Contains(out, "PROBLEM  studio") || !strings.Contains(out, "fix: ") {
		t.Errorf("exit %v, a studio that is not there:\n%s%s", p.result, out, p.err)
	}
	archive, err := zip.OpenReader(target)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close() //nolint:errcheck // only read
	texts := map[string]string{}
	for _, f := range archive.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		texts[f.Name] = string(text)
		if found := leaked(h, string(text)); len(found) > 0 {
			t.Errorf("%s holds %q:\n%s", f.Name, found, text)
		}
	}
	for name, want := range map[string]string{
		"worker.log": "[redacted: prompt]", "config.toml": "auth_token", "doctor.json": `"studio"`, "README.txt": "studio-worker", "status.json": "null",
	} {
		if !strings.Contains(texts[name], want) {
			t.Errorf("%s lacks %q:\n%s", name, want, texts[name])
		}
	}
	again := h.start(t, "doctor", "--bundle", target)
	<-again.ended
	if code := again.cmd.ProcessState.ExitCode(); code != exitUsage || !strings.Contains(again.err.String(), "there already") {
		t.Errorf("a bundle over another: exit %d, %s", code, again.err)
	}
}

// A worker that runs and reaches its studio is well, and programs can read that.
func TestDoctorFindsARunningWorkerWell(t *testing.T) {
	h := newHome(t)
	worker := h.start(t, "demo", "--no-window")
	config := filepath.Join(h.dir, "s", "studio-worker", "demo", "config.toml")
	worker.await(t, 1, "done")
	p := h.start(t, "--config", config, "doctor", "--json")
	<-p.ended
	var found []doctor.Finding
	if err := json.Unmarshal([]byte(p.out.String()), &found); err != nil {
		t.Fatalf("%v\n%s%s", err, p.out, p.err)
	}
	for _, f := range found {
		if f.Result == doctor.Problem {
			t.Errorf("%+v", f)
		}
	}
	if len(found) < 12 {
		t.Errorf("%d checks: %+v", len(found), found)
	}
}
