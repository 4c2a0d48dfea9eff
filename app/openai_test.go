//go:build !windows

package app

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"studioworker/studio"
	"studioworker/studio/client"
	"studioworker/worker/protocol"
)

// officialClient is one of OpenAI's own clients.
type officialClient struct {
	name    string
	version string // that is installed
	command []string
	folder  string
}

// officialClients installs the clients that testdata/clients names, once for each
// account.
func officialClients(tb testing.TB) []officialClient {
	tb.Helper()
	install := exec.CommandContext(tb.Context(), filepath.Join("..", "scripts", "clients"))
	var problem bytes.Buffer
	install.Stderr = &problem
	out, err := install.Output()
	if err != nil {
		tb.Fatalf("OpenAI's clients cannot be installed; scripts/setup says what they need: %v\n%s", err, problem.Bytes())
	}
	folder := strings.TrimSpace(string(out))
	var lock struct {
		Packages map[string]struct{ Version string }
	}
	data, err := os.ReadFile(filepath.Join("testdata", "clients", "package-lock.json"))
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(data, &lock); err != nil {
		tb.Fatal(err)
	}
	python, err := os.ReadFile(filepath.Join("testdata", "clients", "requirements.txt"))
	if err != nil {
		tb.Fatal(err)
	}
	_, rest, _ := strings.Cut("\n"+string(python), "\nopenai==")
	pythonVersion, _, _ := strings.Cut(rest, " ")
	return []officialClient{
		{name: "npm", version: lock.Packages["node_modules/openai"].Version, folder: folder, command: []string{"node", filepath.Join("testdata", "clients", "openai.mjs")}},
		{name: "python", version: pythonVersion, folder: folder, command: []string{filepath.Join(folder, "python", "bin", "python"), filepath.Join("testdata", "clients", "openai_client.py")}},
	}
}

// What each client checks in each mode.
var clientChecks = map[string][]string{
	"work": {
		"models", "chat", "several chats at once", "streamed chat", "streamed chat, gathered by the client", "images", "image by address",
		"speech", "transcription",
	},
	"errors": {
		"wrong key", "revoked key", "unknown model", "tools", "address that is not there", "no worker", "caller goes away", "time out",
	},
	"full": {"full queue"},
}

// use runs the checks of a mode against a studio.
func (c officialClient) use(tb testing.TB, mode, url, key, revoked string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 4*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.command[0], c.command[1:]...) // #nosec G204 -- ours
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + tb.TempDir(), "PYTHONWARNINGS=ignore::DeprecationWarning", "STUDIO_CLIENTS=" + c.folder,
		"STUDIO_URL=" + url, "STUDIO_KEY=" + key, "STUDIO_REVOKED=" + revoked, "STUDIO_MODE=" + mode,
	}
	out, err := cmd.CombinedOutput()
	want := "version " + c.version + "\n"
	for _, check := range clientChecks[mode] {
		want += "ok " + check + "\n"
	}
	if err != nil || string(out) != want {
		tb.Fatalf("openai %s of %s: %v\n%s\nwant:\n%s", c.version, c.name, err, out, want)
	}
	tb.Logf("openai %s of %s: %s", c.version, c.name, strings.Join(clientChecks[mode], ", "))
}

// teamStudio is a studio in this process that other programs use.
func teamStudio(tb testing.TB, change func(*studio.Config)) *farm {
	tb.Helper()
	cfg := studio.Config{Data: filepath.Join(tb.TempDir(), "studio"), Listen: "127.0.0.1:0", AutoApprove: true, Log: plainLogger(tb.Output())}
	if change != nil {
		change(&cfg)
	}
	s, err := studio.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	stop := inBackground(tb, s.Run)
	tb.Cleanup(func() { stop(tb) })
	f := &farm{data: cfg.Data}
	f.meet(tb, s.Addr(), s.OperatorToken())
	return f
}

// keys makes a key that works and one that does not any more.
func (f *farm) keys(tb testing.TB) (good, revoked client.NewKey) {
	tb.Helper()
	var err error
	if good, err = f.operator.CreateKey(tb.Context(), client.KeyRequest{Name: "team"}); err != nil {
		tb.Fatal(err)
	}
	if revoked, err = f.operator.CreateKey(tb.Context(), client.KeyRequest{Name: "left"}); err != nil {
		tb.Fatal(err)
	}
	if err := f.operator.RevokeKey(tb.Context(), revoked.ID); err != nil {
		tb.Fatal(err)
	}
	return good, revoked
}

// jobs lists the studio's jobs in a state.
func (f *farm) jobs(tb testing.TB, state client.State) []client.JobStatus {
	tb.Helper()
	status, body := f.call(tb, http.MethodGet, "/api/v1/jobs?limit=1000&state="+string(state), f.token, nil)
	var list client.JobList
	if err := json.Unmarshal(body, &list); err != nil || status != http.StatusOK {
		tb.Fatalf("the list of jobs: %d %s", status, body)
	}
	return list.Jobs
}

// TestOfficialClients: OpenAI's own clients use a studio with two workers for all
// that it offers. The version of each is that of its lock file, and in the log.
func TestOfficialClients(t *testing.T) {
	clients := officialClients(t)
	f := teamStudio(t, nil)
	good, revoked := f.keys(t)
	for range 2 {
		h := newHome(t)
		h.write(t, f.url, "")
		h.start(t, "run").await(t, 1, "server welcomed")
	}
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) { c.use(t, "work", f.url, good.Text, revoked.Text) })
	}
	done := map[string]int{}
	for _, job := range f.jobs(t, client.Done) {
		done[job.WorkerID]++
		if job.Submitter != good.ID {
			t.Errorf("job %s is of %q", job.ID, job.Submitter)
		}
	}
	if len(done) != 2 {
		t.Errorf("the jobs were done by %v, want two workers", done)
	}
}

// TestOfficialClientsHearErrors as the errors that they have a type for.
func TestOfficialClientsHearErrors(t *testing.T) {
	clients := officialClients(t)
	f := teamStudio(t, func(c *studio.Config) { c.CallLimit, c.MaxQueuedByKey = 3*time.Second, 1 })
	good, revoked := f.keys(t)
	huge := client.ModelRecord{
		ID: "huge", Kinds: []protocol.TaskKind{protocol.KindLLM}, VRAMGBEstimate: 500,
		ModelSource: protocol.ModelSource{Engine: protocol.EngineLlamaCpp, CLIDefaults: protocol.CLIDefaults{CfgScale: 1, Steps: 1, Width: 64, Height: 64}},
	}
	if _, err := f.operator.PutModel(t.Context(), huge); err != nil {
		t.Fatal(err)
	}
	h, d := newHome(t), newDesk(t)
	d.equip(t, h)
	h.write(t, f.url, "")
	d.holdAll(true)
	h.start(t, "run").await(t, 1, "server welcomed")
	f.submit(t, protocol.KindTTS, "we sail at dawn") // it keeps the only worker busy
	held := d.next(t)
	defer held.release()
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			before := len(f.jobs(t, client.Cancelled))
			c.use(t, "errors", f.url, good.Text, revoked.Text)
			why := map[string]int{}
			for _, job := range f.jobs(t, client.Cancelled)[:len(f.jobs(t, client.Cancelled))-before] {
				why[job.Error]++
			}
			if len(why) != 2 || why["the caller went away"] != 1 || why["the call took too long"] != 2 {
				t.Errorf("jobs were cancelled because of %v", why)
			}
			body := strings.NewReader(`{"model":"synthetic-llm","task":{"kind":"llm","messages":[]}}`)
			status, answer := f.call(t, http.MethodPost, "/api/v1/jobs", good.Text, body)
			var queued client.Submitted
			if err := json.Unmarshal(answer, &queued); err != nil || status != http.StatusCreated {
				t.Fatalf("submit answered %d %s", status, answer)
			}
			c.use(t, "full", f.url, good.Text, revoked.Text)
			if _, err := f.operator.Cancel(t.Context(), queued.ID); err != nil {
				t.Fatal(err)
			}
		})
	}
}
