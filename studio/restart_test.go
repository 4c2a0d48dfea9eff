package studio

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"studioworker/studio/client"
	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

// process is a studio in a process of its own.
type process struct {
	*farm
	cmd *exec.Cmd
}

func startProcess(tb testing.TB, dir, listen string, env ...string) *process {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), os.Args[0]) // #nosec G204 -- this very program
	cmd.Env = append(append(os.Environ(), childFolder+"="+dir, childListen+"="+listen), env...)
	cmd.Stderr = tb.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		tb.Fatal(err)
	}
	token, err := os.ReadFile(filepath.Join(dir, "operator-token"))
	if err != nil {
		tb.Fatalf("%v, the studio said %s", err, address)
	}
	p := &process{farmAt(tb, strings.TrimSpace(address), strings.TrimSpace(string(token))), cmd}
	tb.Cleanup(p.kill)
	return p
}

// kill ends the process as a power cut would.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may be gone already
	_ = p.cmd.Wait()
}

// TestKilledStudioLosesNothing kills the studio while jobs are queued, one
// runs and results are there: after the restart each job ends done, none twice.
func TestKilledStudioLosesNothing(t *testing.T) {
	dir := t.TempDir()
	p := startProcess(t, dir, "127.0.0.1:0")
	w := p.worker(t)
	l := w.connect(t, "")
	finished := p.submit(t, imageJob)
	l.take(t)
	big := bytes.Repeat([]byte{1, 2, 3, 4}, 1<<19)
	w.deliver(t, finished.ID, big)
	jobs := []string{p.submit(t, imageJob).ID, p.submit(t, llmJob).ID, p.submit(t, imageJob).ID, p.submit(t, llmJob).ID}
	l.take(t)
	p.await(t, jobs[0], in(client.Running))
	p.kill()

	again := startProcess(t, dir, strings.TrimPrefix(p.url, "http://"))
	w.farm = again.farm
	if got := again.job(t, jobs[0]); got.State != client.Running || got.WorkerID != w.id {
		t.Errorf("after the restart the running job is %+v", got)
	}
	for _, id := range jobs[1:] {
		if got := again.job(t, id); got.State != client.Queued {
			t.Errorf("after the restart a queued job is %+v", got)
		}
	}
	if got, _ := again.fetch(t, finished.ID); !bytes.Equal(got, big) {
		t.Errorf("the result of a finished job has %d bytes", len(got))
	}
	l = w.connect(t, jobs[0]) // the engine ran on
	w.deliver(t, jobs[0], []byte("result of "+jobs[0]))
	offered := map[string]int{}
	for range jobs[1:] {
		claim := l.take(t)
		offered[claim.JobID]++
		if claim.Task.Kind.JSON() {
			l.send(t, protocol.CompleteJSON{JobID: claim.JobID, Result: json.RawMessage(fmt.Sprintf("%q", "result of "+claim.JobID))})
			expect[protocol.CompleteAck](t, l)
		} else {
			w.deliver(t, claim.JobID, []byte("result of "+claim.JobID))
		}
	}
	for i, id := range jobs {
		got := again.job(t, id)
		data, _ := again.fetch(t, id)
		if got.State != client.Done || got.Attempts != 1 || !strings.Contains(string(data), "result of "+id) {
			t.Errorf("job %d is %+v with result %q", i, got, data)
		}
		if want := min(i, 1); offered[id] != want {
			t.Errorf("job %d was offered %d times after the restart, want %d", i, offered[id], want)
		}
	}
}

// TestWorkerWithoutTheJobAfterARestart: what the worker does not name is
// offered again at once; it answers from its outbox.
func TestWorkerWithoutTheJobAfterARestart(t *testing.T) {
	dir := t.TempDir()
	p := startProcess(t, dir, "127.0.0.1:0")
	w := p.worker(t)
	l := w.connect(t, "")
	running := p.submit(t, llmJob)
	l.take(t)
	p.await(t, running.ID, in(client.Running))
	p.kill()
	again := startProcess(t, dir, "127.0.0.1:0")
	w.farm = again.farm
	l = w.connect(t, "")
	if claim := l.take(t); claim.JobID != running.ID {
		t.Errorf("offered %s", claim.JobID)
	}
	l.send(t, protocol.CompleteJSON{JobID: running.ID, Result: json.RawMessage(`{"text":"x"}`)})
	expect[protocol.CompleteAck](t, l)
	if got := again.job(t, running.ID); got.State != client.Done || got.Attempts != 1 {
		t.Errorf("job is %+v", got)
	}
}

func TestRow58GraceEndsWhenTheWorkerStaysAway(t *testing.T) {
	dir := t.TempDir()
	first := newFarm(t, func(c *Config) { c.Data = dir })
	l := first.worker(t).connect(t, "")
	running := first.submit(t, imageJob)
	l.take(t)
	first.await(t, running.ID, in(client.Running))
	offered := first.worker(t).connect(t, "")
	expect[protocol.HeartbeatAck](t, offered)
	waiting := first.submit(t, imageJob)
	expect[protocol.Offer](t, offered)
	first.stop()

	second := newFarm(t, func(c *Config) { c.Data, c.ReclaimGrace = dir, 20*time.Millisecond })
	second.await(t, running.ID, in(client.Queued))
	second.await(t, waiting.ID, in(client.Queued))
	stranger := second.worker(t).connect(t, "")
	if claim := stranger.take(t); claim.JobID != running.ID {
		t.Errorf("offered %s", claim.JobID)
	}
	if got := second.await(t, running.ID, in(client.Running)); got.Attempts != 2 {
		t.Errorf("the lost attempt does not count: %d", got.Attempts)
	}
}

// TestJobWithoutModelFails: it is never offered, and the others go on.
func TestJobWithoutModelFails(t *testing.T) {
	dir := t.TempDir()
	first := newFarm(t, func(c *Config) { c.Data = dir })
	kept := first.submit(t, imageJob)
	bad := first.submit(t, imageJob)
	first.stop()
	damage(t, dir, bad.ID)
	second := newFarm(t, func(c *Config) { c.Data = dir })
	if claim := second.worker(t).connect(t, "").take(t); claim.JobID != kept.ID {
		t.Errorf("offered %s", claim.JobID)
	}
	if got := second.job(t, bad.ID); got.State != client.Failed || got.Error == "" {
		t.Errorf("the damaged job is %+v", got)
	}
}

// damage takes the model away from a stored job.
func damage(t *testing.T, dir, id string) {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{Dir: dir, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	e, err := st.Jobs.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	e.Value.Model = ""
	if _, err := st.Jobs.Update(t.Context(), id, e.Value, e.Revision); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestStartIsRefused(t *testing.T) {
	f := newFarm(t, nil)
	taken := strings.TrimPrefix(f.url, "http://")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open := t.TempDir()
	if err := os.WriteFile(filepath.Join(open, "operator-token"), []byte(strings.Repeat("x", 40)), 0o644); err != nil { // #nosec G306 -- the fault under test
		t.Fatal(err)
	}
	short := t.TempDir()
	if err := os.WriteFile(filepath.Join(short, "operator-token"), []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	log := testLog(t)
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"taken port":          {Config{Data: t.TempDir(), Listen: taken, Log: log}, "address already in use"},
		"unwritable folder":   {Config{Data: filepath.Join(file, "data"), Listen: "127.0.0.1:0", Log: log}, "data folder"},
		"second studio":       {Config{Data: f.studio.cfg.Data, Listen: "127.0.0.1:0", Log: log}, "another studio uses this folder"},
		"token open to all":   {Config{Data: open, Listen: "127.0.0.1:0", Log: log}, "chmod 600"},
		"token damaged":       {Config{Data: short, Listen: "127.0.0.1:0", Log: log}, "damaged"},
		"no folder":           {Config{Listen: "127.0.0.1:0", Log: log}, "no data folder"},
		"no logger":           {Config{Data: t.TempDir(), Listen: "127.0.0.1:0"}, "no logger"},
		"address without end": {Config{Data: t.TempDir(), Listen: "127.0.0.1", Log: log}, "missing port"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(c.cfg)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("New says %q, want one line with %q", err, c.want)
			}
		})
	}
	// The first studio goes on as if nothing had been.
	if status, _ := f.call(t, http.MethodGet, "/healthz", "", nil); status != http.StatusOK {
		t.Errorf("healthz answers %d", status)
	}
}

func TestSecondStudioIsToldBeforeItDoesHarm(t *testing.T) {
	f := newFarm(t, nil)
	_, err := New(Config{Data: f.studio.cfg.Data, Listen: "127.0.0.1:0", Log: testLog(t)})
	if !errors.Is(err, store.ErrLocked) {
		t.Errorf("New says %v", err)
	}
}

func TestOperatorTokenIsKept(t *testing.T) {
	dir := t.TempDir()
	first := newFarm(t, func(c *Config) { c.Data = dir })
	info, err := os.Stat(filepath.Join(dir, "operator-token"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("token file: %v, %v", info, err)
	}
	first.stop()
	if second := newFarm(t, func(c *Config) { c.Data = dir }); second.token != first.token {
		t.Error("the restart changed the token")
	}
}

func TestUploadsAreChecked(t *testing.T) {
	f := newFarm(t, func(c *Config) { c.MaxResult = 1 << 20 })
	w := f.worker(t)
	l := w.connect(t, "")
	job := f.submit(t, imageJob)
	l.take(t)
	path := workers + w.id + "/jobs/" + job.ID + "/complete"
	form := func(parts ...string) string { // name, value, name, value ...
		text := ""
		for i := 0; i < len(parts); i += 2 {
			text += "--B\r\nContent-Disposition: form-data; name=\"" + parts[i] + "\"\r\n\r\n" + parts[i+1] + "\r\n"
		}
		return text + "--B--\r\n"
	}
	for name, c := range map[string]struct {
		path, token, kind, body string
		status                  int
		code                    string
	}{
		"wrong token":    {path, "wrong", "", "", http.StatusUnauthorized, "auth_failed"},
		"unknown worker": {workers + "wk-none/jobs/" + job.ID + "/complete", w.token, "", "", http.StatusUnauthorized, "auth_failed"},
		"unknown job":    {workers + w.id + "/jobs/none/complete", w.token, "", "", http.StatusNotFound, "not_found"},
		"no form":        {path, w.token, "application/json", "{}", http.StatusBadRequest, "bad_request"},
		"no bytes part":  {path, w.token, "", form("prompt", "x", "ext", "png"), http.StatusBadRequest, "bad_request"},
		"empty result":   {path, w.token, "", form("ext", "png", "image", ""), http.StatusBadRequest, "bad_request"},
		"two results":    {path, w.token, "", form("image", "x", "image", "y"), http.StatusBadRequest, "bad_request"},
		"bad ext":        {path, w.token, "", form("ext", "../x", "image", "x"), http.StatusBadRequest, "bad_request"},
		"long prompt":    {path, w.token, "", form("prompt", strings.Repeat("x", maxTextPart+1)), http.StatusRequestEntityTooLarge, "too_large"},
		"many parts":     {path, w.token, "", form(strings.Split(strings.Repeat("a,b,", maxParts)+"c,d", ",")...), http.StatusBadRequest, "bad_request"},
		"cut off":        {path, w.token, "", strings.TrimSuffix(form("image", "x"), "--B--\r\n"), http.StatusBadRequest, "bad_request"},
		"too large":      {path, w.token, "", form("image", strings.Repeat("x", 6<<20)), http.StatusRequestEntityTooLarge, "too_large"},
	} {
		t.Run(name, func(t *testing.T) {
			kind := c.kind
			if kind == "" {
				kind = "multipart/form-data; boundary=B"
			}
			status, body := f.call(t, http.MethodPost, c.path, c.token, strings.NewReader(c.body), "Content-Type", kind)
			wantError(t, status, body, c.status, c.code)
		})
	}
	if got := f.job(t, job.ID); got.State != client.Running {
		t.Errorf("job is %+v", got)
	}
	w.deliver(t, job.ID, []byte("whole"))
	if got, _ := f.fetch(t, job.ID); string(got) != "whole" {
		t.Errorf("result is %q", got)
	}
}

// TestRow61UploadThatBreaksOff leaves the job as it was, and nothing in the store.
func TestRow61UploadThatBreaksOff(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	l := w.connect(t, "")
	job := f.submit(t, imageJob)
	l.take(t)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(f.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(conn, "POST %s%s/jobs/%s/complete HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: multipart/form-data; boundary=B\r\nContent-Length: 3000000\r\n\r\n"+
		"--B\r\nContent-Disposition: form-data; name=\"image\"\r\n\r\n%s", workers, w.id, job.ID, w.token, strings.Repeat("x", 2_000_000))
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") {
		t.Errorf("the studio answered %q, %v", answer, err)
	}
	w.deliver(t, job.ID, []byte("whole"))
	f.stop()
	st, err := store.Open(t.Context(), store.Config{Dir: f.studio.cfg.Data, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}()
	e, err := st.Jobs.Get(t.Context(), job.ID)
	if err != nil {
		t.Fatal(err)
	}
	if swept, err := st.Sweep(t.Context(), map[string]int{e.Value.Result.Folder: 1}); swept.Parts+swept.Chunks+len(swept.Damaged) != 0 || err != nil {
		t.Errorf("the broken upload left %+v, %v", swept, err)
	}
}
