package app

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"aead.dev/minisign"
	"golang.org/x/sys/unix"

	"studioworker/studio/client"
	"studioworker/worker/protocol"
	"studioworker/worker/update/feed"
	"studioworker/worker/update/versions"
)

// publisher makes releases of a program and serves them on loopback.
type publisher struct {
	dir        string // where programs are built
	root, sign minisign.PrivateKey
	rootKey    string
	keys       []byte
	keysSig    []byte
	address    string

	mu       sync.Mutex
	releases []feed.Listed
	files    map[string][]byte
}

func newPublisher(tb testing.TB) *publisher {
	tb.Helper()
	p := &publisher{dir: tb.TempDir(), files: make(map[string][]byte)}
	public, root, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	p.root, p.rootKey = root, public.String()
	signer, private, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	p.sign = private
	end := time.Now().AddDate(1, 0, 0)
	if p.keys, err = (feed.Keys{Epoch: 1, Expires: end, Keys: []feed.Key{{Public: signer, NotAfter: end}}}).Encode(); err != nil {
		tb.Fatal(err)
	}
	p.keysSig = feed.Sign(p.keys, feed.KeysName, p.root, time.Now())
	server := httptest.NewServer(p)
	tb.Cleanup(server.Close)
	p.address = server.URL
	return p
}

func (p *publisher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.URL.Path == "/releases" {
		_ = json.NewEncoder(w).Encode(p.releases)
		return
	}
	file, ok := p.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write(file)
}

// build builds a release of the program, without a window, as it is published.
func (p *publisher) build(tb testing.TB, version string) string {
	tb.Helper()
	path := filepath.Join(p.dir, "studio-worker-"+version)
	stamps := "-s -w -X studioworker/app.Version=" + version + " -X studioworker/app.RootKeys=" + p.rootKey + " -X studioworker/app.Probation=1s"
	cmd := exec.CommandContext(tb.Context(), "go", "build", "-tags", "headless", "-ldflags", stamps, "-o", path, "studioworker")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("build version %s: %v\n%s", version, err, out)
	}
	return path
}

// buildBroken builds a program that says its version and crashes when it is to work.
func (p *publisher) buildBroken(tb testing.TB, version string) string {
	tb.Helper()
	dir, path := filepath.Join(p.dir, "broken"), filepath.Join(p.dir, "studio-worker-"+version)
	if err := os.Mkdir(dir, 0o700); err != nil {
		tb.Fatal(err)
	}
	for name, text := range map[string]string{
		"go.mod":  "module broken\n\ngo 1.26\n",
		"main.go": "package main\n\nimport \"os\"\n\nfunc main() {\n\tif os.Args[1] == \"version\" {\n\t\tprintln(\"studio-worker " + version + "\")\n\t\treturn\n\t}\n\tpanic(\"broken\")\n}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	cmd := exec.CommandContext(tb.Context(), "go", "build", "-o", path, ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("build version %s: %v\n%s", version, err, out)
	}
	return path
}

// publish adds a release to the feed.
func (p *publisher) publish(tb testing.TB, version string, seq uint64, program string) {
	tb.Helper()
	text, err := os.ReadFile(program)
	if err != nil {
		tb.Fatal(err)
	}
	name := "studio-worker_" + version
	var archive bytes.Buffer
	z := gzip.NewWriter(&archive)
	t := tar.NewWriter(z)
	for _, e := range []struct {
		header tar.Header
		body   []byte
	}{
		{tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o755}, nil},
		{tar.Header{Name: name + "/LICENSE", Mode: 0o644, Size: 3}, []byte("MIT")},
		{tar.Header{Name: name + "/studio-worker", Mode: 0o755, Size: int64(len(text))}, text},
	} {
		if err := t.WriteHeader(&e.header); err != nil {
			tb.Fatal(err)
		}
		if _, err := t.Write(e.body); err != nil {
			tb.Fatal(err)
		}
	}
	if err := errors.Join(t.Close(), z.Close()); err != nil {
		tb.Fatal(err)
	}
	sum := sha256.Sum256(archive.Bytes())
	release, err := feed.Release{
		Channel: feed.ChannelStable, Seq: seq, Version: version, Released: time.Now(), Expires: time.Now().AddDate(0, 1, 0), Percent: 100,
		Notes: "What " + version + " brings.",
		Targets: []feed.Target{{
			OS: runtime.GOOS, Arch: runtime.GOARCH, Variant: "headless", URL: name + ".tar.gz", Size: int64(archive.Len()), SHA256: hex.EncodeToString(sum[:]),
		}},
	}.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	listed := feed.Listed{Tag: "v" + version}
	for file, data := range map[string][]byte{
		feed.KeysName: p.keys, feed.KeysName + feed.SignatureSuffix: p.keysSig,
		feed.ReleaseName: release, feed.ReleaseName + feed.SignatureSuffix: feed.Sign(release, feed.ReleaseName, p.sign, time.Now()),
		name + ".tar.gz": archive.Bytes(),
	} {
		path := "/" + version + "/" + file
		p.files[path] = data
		listed.Assets = append(listed.Assets, feed.Asset{Name: file, URL: p.address + path})
	}
	p.releases = append(p.releases, listed)
}

// asks puts a question of updates to the worker of a home.
func (h *home) asks(tb testing.TB, command string) (*updateStatus, int) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	a, err := ask(ctx, h.config, command)
	if err != nil || a.Update == nil {
		tb.Fatalf("%s: %+v, %v", command, a, err)
	}
	return a.Update, a.PID
}

// awaitUpdate asks the worker until ok says so, also while one version follows another.
func (h *home) awaitUpdate(tb testing.TB, what string, ok func(updateStatus, int) bool) (updateStatus, int) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	for {
		a, err := ask(ctx, h.config, askUpdate)
		if err == nil && a.Update != nil && ok(*a.Update, a.PID) {
			return *a.Update, a.PID
		}
		select {
		case <-time.After(50 * time.Millisecond): // nobody tells who is not running yet
		case <-ctx.Done():
			tb.Fatalf("never came: %s; last answer %+v, %v", what, a.Update, err)
		}
	}
}

// awaitVersion returns the process that runs a version which has proved itself.
func (h *home) awaitVersion(tb testing.TB, version string) int {
	tb.Helper()
	_, pid := h.awaitUpdate(tb, "version "+version, func(s updateStatus, _ int) bool { return s.Running == version && !s.Trial })
	return pid
}

// TestUpdatesEndToEnd takes a worker from version to version with a job in flight and a
// result in the outbox, has it come back from a version that crashes, and go on to the
// next (fault rows 16 and 52).
func TestUpdatesEndToEnd(t *testing.T) {
	p, d, h, f := newPublisher(t), newDesk(t), newHome(t), newStudio(t)
	first := p.build(t, "1.0.0")
	p.publish(t, "1.1.0", 11, p.build(t, "1.1.0"))
	d.equip(t, h)
	systemd := newManager(t)
	h.extra = append(h.extra, "NOTIFY_SOCKET="+systemd.socket, "WATCHDOG_USEC=2000000")
	h.write(t, f.url, fmt.Sprintf("auto_update_feed = %q\nauto_update_interval_secs = 86400\ndrain_secs = 5\n", p.address+"/releases"))
	installed := sumOfFile(t, first)
	w := h.startProgram(t, first, "--config", h.config, "run")
	w.await(t, 1, "server welcomed")
	before := h.awaitVersion(t, "1.0.0")
	if before == w.cmd.Process.Pid {
		t.Fatal("the worker is not watched by another process")
	}

	// What there is is shown before anything is fetched.
	out := h.wantFrom(t, first, "--config", h.config, "update", "check")
	for _, text := range []string{"version 1.1.0 is there", "MB", "What 1.1.0 brings."} {
		if !strings.Contains(out, text) {
			t.Errorf("check says %q, want %q in it", out, text)
		}
	}

	// A job is in flight: it ends in the version that began it, and the next one starts.
	d.holdAll(true)
	id := f.submit(t, protocol.KindTTS, "in flight")
	engine := d.next(t)
	f.awaitState(t, id, client.Running)
	h.wantFrom(t, first, "--config", h.config, "update", "apply", "--when-idle")
	w.await(t, 1, "making room for the next version")
	if s, pid := h.asks(t, askUpdate); s.Running != "1.0.0" || pid != before || s.State != "applying" {
		t.Errorf("while the job runs: %+v, process %d", s, pid)
	}
	engine.release()
	f.result(t, f.awaitState(t, id, client.Done))
	after := h.awaitVersion(t, "1.1.0")
	if after == before {
		t.Error("version 1.1.0 runs in the process of 1.0.0")
	}
	w.await(t, 2, "server welcomed")

	// A result waits in the outbox, and the studio is away: the next version delivers it.
	p.publish(t, "1.2.0", 12, p.build(t, "1.2.0"))
	waiting := f.submit(t, protocol.KindTTS, "in the outbox")
	engine = d.next(t)
	f.awaitState(t, waiting, client.Running)
	f.kill(t)
	engine.release()
	d.holdAll(false)
	h.awaitStored(t)
	h.wantFrom(t, first, "--config", h.config, "update", "apply")
	h.awaitVersion(t, "1.2.0")
	f = f.again(t)
	job := f.awaitState(t, waiting, client.Done)
	f.result(t, job)
	if n := d.count("in the outbox"); n != 1 || job.Attempts != 1 {
		t.Errorf("the job of the outbox was run %d times in %d attempts", n, job.Attempts)
	}

	// A version that crashes at its start: the one before it comes back, and it is held.
	p.publish(t, "1.3.0", 13, p.buildBroken(t, "1.3.0"))
	h.wantFrom(t, first, "--config", h.config, "update", "apply")
	s, _ := h.awaitUpdate(t, "1.3.0 held", func(s updateStatus, _ int) bool {
		return s.Running == "1.2.0" && slices.ContainsFunc(s.Held, func(b versions.Bad) bool { return b.Version == "1.3.0" })
	})
	if s.State != "held" || s.Version != "1.3.0" {
		t.Errorf("after the crash: %+v", s)
	}
	if s, _ := h.asks(t, askCheckUpdate); s.State != "held" {
		t.Errorf("the held version is looked at again: %+v", s)
	}
	w.await(t, 1, "a new version did not work here and is held")

	// A higher one is taken.
	p.publish(t, "1.4.0", 14, p.build(t, "1.4.0"))
	h.wantFrom(t, first, "--config", h.config, "update", "apply")
	last := h.awaitVersion(t, "1.4.0")
	if out := strings.Join(strings.Fields(h.wantFrom(t, first, "--config", h.config, "status")), " "); !strings.Contains(out, fmt.Sprintf("running: pid %d version: 1.4.0", last)) {
		t.Errorf("status says %q", out)
	}
	h.awaitVersions(t, "1.2.0", "1.4.0") // the one that runs and the one before it
	if sumOfFile(t, first) != installed {
		t.Error("the installed program was changed")
	}

	again := func() { f = f.again(t) } // it lives longer than a subtest
	t.Run("row 16 without memory the worker is started anew", func(t *testing.T) {
		d.holdAll(true)
		id := f.submit(t, protocol.KindTTS, "before the end of memory")
		engine := d.next(t)
		f.awaitState(t, id, client.Running)
		f.kill(t)
		engine.release()
		d.holdAll(false)
		h.awaitStored(t)
		limit := unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}
		if err := unix.Prlimit(last, unix.RLIMIT_AS, &limit, nil); err != nil {
			t.Fatal(err)
		}
		gone := func(_ updateStatus, pid int) bool { return pid != last }
		h.provoke(t, last)
		if s, _ := h.awaitUpdate(t, "another process", gone); s.Running != "1.4.0" {
			t.Errorf("after the worker ran out of memory: %+v", s)
		}
		again()
		job := f.awaitState(t, id, client.Done)
		f.result(t, job)
		if job.Attempts != 1 {
			t.Errorf("the job took %d attempts", job.Attempts)
		}
	})

	early := systemd.count("STOPPING=1")
	w.stop(t)
	if names := h.files(t, "outbox/ready"); len(names) > 0 {
		t.Errorf("the outbox holds %v", names)
	}
	f.stop(t)

	// The unit has NotifyAccess=main: systemd hears the process that it started, which is
	// the same through all versions, and which stops once.
	for _, n := range systemd.told() {
		if n.pid != w.cmd.Process.Pid || strings.Contains(n.state, "MAINPID") {
			t.Errorf("process %d told systemd %q; it heeds %d alone", n.pid, n.state, w.cmd.Process.Pid)
		}
	}
	if ready, alive := systemd.count("READY=1"), systemd.count("WATCHDOG=1"); ready < 5 || alive == 0 {
		t.Errorf("systemd was told %d times that a version is ready, and %d times that one lives", ready, alive)
	}
	if end := systemd.count("STOPPING=1"); early != 0 || end != 1 {
		t.Errorf("systemd was told %d times before the stop that the service stops, and %d times in all", early, end)
	}
}

// manager is a double of systemd: it notes what it is told, and by whom.
type manager struct {
	socket string

	mu      sync.Mutex
	notices []notice
}

type notice struct {
	state string
	pid   int // of the process that told it, as the kernel knows
}

func newManager(tb testing.TB) *manager {
	tb.Helper()
	dir, err := os.MkdirTemp("", "n") //nolint:usetesting // the path of a socket is short, and a test folder's is not
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	m := &manager{socket: filepath.Join(dir, "notify")}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.socket, Net: "unixgram"})
	if err != nil {
		tb.Fatal(err)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		tb.Fatal(err)
	}
	var passed error
	if err := raw.Control(func(fd uintptr) { passed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) }); err != nil || passed != nil {
		tb.Fatal(err, passed)
	}
	ended := make(chan struct{})
	go func() { // ends with the socket
		defer close(ended)
		text, beside := make([]byte, 4096), make([]byte, 256)
		for {
			n, besides, _, _, err := conn.ReadMsgUnix(text, beside)
			if err != nil {
				return
			}
			m.note(string(text[:n]), beside[:besides])
		}
	}()
	tb.Cleanup(func() { _ = conn.Close(); <-ended })
	return m
}

func (m *manager) note(state string, beside []byte) {
	n := notice{state: state}
	messages, err := unix.ParseSocketControlMessage(beside)
	for i := range messages {
		if who, credErr := unix.ParseUnixCredentials(&messages[i]); err == nil && credErr == nil {
			n.pid = int(who.Pid)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.notices = append(m.notices, n)
}

func (m *manager) told() []notice {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.notices)
}

func (m *manager) count(state string) int {
	n := 0
	for _, told := range m.told() {
		if told.state == state {
			n++
		}
	}
	return n
}

// provoke has a process that gets no more memory ask for some until it is gone.
func (h *home) provoke(tb testing.TB, pid int) {
	tb.Helper()
	limit := time.Now().Add(patience)
	for syscall.Kill(pid, 0) == nil {
		if time.Now().After(limit) {
			tb.Fatalf("process %d lives without memory", pid)
		}
		ctx, cancel := context.WithTimeout(tb.Context(), time.Second)
		_, _ = ask(ctx, h.config, askLogs) // it may die of it
		cancel()
	}
}

// wantFrom is want for another program.
func (h *home) wantFrom(tb testing.TB, program string, args ...string) string {
	tb.Helper()
	p := h.startProgram(tb, program, args...)
	if code := p.wait(tb); code != 0 {
		tb.Fatalf("%s ended with %d: %s", p.name, code, p.err)
	}
	return p.out.String()
}

// awaitStored returns when a finished result waits in the outbox.
func (h *home) awaitStored(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	for {
		a, err := ask(ctx, h.config, askStatus)
		if err == nil && a.Status != nil && a.Status.Waiting == 1 {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond): // there is nothing to watch from outside
		case <-ctx.Done():
			tb.Fatalf("no result waits: %+v, %v", a.Status, err)
		}
	}
}

// awaitVersions returns when the folder of versions holds these alone, which is a moment
// after the last of them has proved itself.
func (h *home) awaitVersions(tb testing.TB, want ...string) {
	tb.Helper()
	limit := time.Now().Add(patience)
	for {
		names := h.files(tb, "update/versions")
		slices.Sort(names)
		if slices.Equal(names, want) {
			return
		}
		if time.Now().After(limit) {
			tb.Fatalf("versions/ holds %v, want %v", names, want)
		}
		time.Sleep(20 * time.Millisecond) // there is nothing to watch from outside
	}
}

func sumOfFile(tb testing.TB, path string) string {
	tb.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return sumOf(data)
}
