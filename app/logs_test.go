//go:build !windows

package app

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"studioworker/studio/client"
	"studioworker/worker/logs"
	"studioworker/worker/observe"
	"studioworker/worker/protocol"
)

// TestLogsCommand: the running worker tells its lines, and those of one job; the
// same lines are on disk, for the owner only.
func TestLogsCommand(t *testing.T) {
	h, f := newHome(t), newStudio(t)
	h.write(t, f.url, "")
	h.wantRefusal(t, exitFail, []string{"logs"}, "no worker is running")
	w := h.start(t, "run")
	w.await(t, 1, "server welcomed")
	id := f.submit(t, protocol.KindLLM, "name this town")
	f.awaitState(t, id, client.Done)
	w.await(t, 1, "studio confirmed completion")

	if out := h.want(t, "logs"); !strings.Contains(out, " INFO server welcomed wk-") || !strings.Contains(out, "offer received "+id) {
		t.Errorf("logs prints\n%s", out)
	}
	out := h.want(t, "logs", "--job", id)
	if !strings.Contains(out, "offer received "+id) || strings.Contains(out, "server welcomed") {
		t.Errorf("logs of the job prints\n%s", out)
	}
	h.wantRefusal(t, exitFail, []string{"logs", "--job", "job-of-nobody"}, `nothing is kept of job "job-of-nobody"`)
	h.want(t, "quit")
	if code := w.wait(t); code != 0 {
		t.Errorf("the worker ends with %d: %s", code, w.err)
	}
	path := filepath.Join(filepath.Dir(h.config), "worker.log")
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), `msg="server welcomed"`) || !strings.Contains(string(text), "asked to quit") {
		t.Errorf("worker.log: %v\n%s", err, text)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("worker.log: %v, %v", info, err)
	}
}

// TestLogAnswerIsBounded: of a thousand wide lines the newest fit, and the rest
// is counted.
func TestLogAnswerIsBounded(t *testing.T) {
	h := &host{observers: observe.New()}
	h.logs = logs.NewHandler(h.observers.Logs, new(logs.Queue))
	log := slog.New(h.logs)
	if a := h.answer(question{Command: askLogs}); a.Lines != "" || a.Error != "" {
		t.Errorf("before the first line: %+v", a)
	}
	for i := range observe.RecentLogsCap + 5 {
		log.Info("line", "text", strings.Repeat("\"", 300), "n", i, "job_id", "job-31")
	}
	for job, all := range map[string]int{"": observe.RecentLogsCap + 5, "job-31": observe.RecentLogsCap + 5} {
		a := h.answer(question{Command: askLogs, Job: job})
		data, err := json.Marshal(a)
		if err != nil || len(data) > maxAnswer || len(data) < maxAnswer*9/10 {
			t.Errorf("job %q: %d bytes, %v", job, len(data), err)
		}
		shown := strings.Count(a.Lines, "\n") - 1
		if first, _, _ := strings.Cut(a.Lines, "\n"); first != fmt.Sprintf("(%d older lines are not shown)", all-shown) {
			t.Errorf("job %q: %d lines, the first is %q", job, shown, first)
		}
		if !strings.HasSuffix(a.Lines, fmt.Sprintf("n=%d job_id=job-31\n", all-1)) {
			t.Errorf("job %q ends with %q", job, a.Lines[len(a.Lines)-40:])
		}
	}
}

// TestLogFileTurns: three files of at most 10 MiB, for the owner only.
func TestLogFileTurns(t *testing.T) {
	dir := t.TempDir()
	file := newLogFile(filepath.Join(dir, "config.toml"))
	log := withFile(slog.New(slog.DiscardHandler), file)
	line := strings.Repeat("x", 64<<10)
	for i := range 45 << 20 / len(line) {
		log.Info(line, "n", i)
	}
	log.Debug("a detail")
	log.Info("the last")
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 1+oldLogFiles {
		t.Fatalf("%d files, %v", len(list), err)
	}
	for _, entry := range list {
		info, err := entry.Info()
		if err != nil || info.Size() > logFileMiB<<20 || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %d bytes, mode %v, %v", entry.Name(), info.Size(), info.Mode(), err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "worker.log"))
	if err != nil || !bytes.Contains(text, []byte(`msg="the last"`)) || bytes.Contains(text, []byte("a detail")) {
		t.Errorf("worker.log: %v", err)
	}
}

// TestFullDiskStopsNoLine: what the disk does not take still reaches the others.
func TestFullDiskStopsNoLine(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has a device that is always full")
	}
	dir := t.TempDir()
	if err := os.Symlink("/dev/full", filepath.Join(dir, "worker.log")); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	file := newLogFile(filepath.Join(dir, "config.toml"))
	log := withFile(plainLogger(&out), file)
	start := time.Now()
	for range 1000 {
		log.Info("a line")
	}
	if n := strings.Count(out.String(), "a line"); n != 1000 || time.Since(start) > 10*time.Second {
		t.Errorf("%d lines in %v", n, time.Since(start))
	}
	if err := file.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// TestSkewInStatus: a clock that is off is said.
func TestSkewInStatus(t *testing.T) {
	h := &host{observers: observe.New()}
	for skew, want := range map[time.Duration]string{0: "", 20 * time.Second: "", -time.Hour: "-1h0m0s", 2 * time.Minute: "2m0s"} {
		h.observers.Session.Set(observe.Session{State: observe.SessionConnected, Skew: skew})
		if a := h.answer(question{Command: askStatus}); a.Status == nil || a.Status.Skew != want {
			t.Errorf("%v: %+v, want %q", skew, a.Status, want)
		}
	}
	var out bytes.Buffer
	s := status{PID: 7, Running: &runningStatus{Skew: "2m0s"}}
	if err := s.print(&command{Streams: Streams{Out: &out}}); err != nil || !strings.Contains(out.String(), "the studio's is ahead by 2m0s") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
