package studio

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"studioworker/studio/client"
	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

// smallDisk mounts a file system of its own, which ends with the test.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Log("NOT RUN: needs root, to mount a small disk")
		t.Skip("not run: needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size+",mode=700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil { // busy: somebody holds a file of it open
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// fill writes to a file of the disk until it takes no more.
func fill(t *testing.T, disk string) (ballast string) {
	t.Helper()
	ballast = filepath.Join(disk, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return ballast
}

// TestRow55TheDiskIsFull: clients hear 507, health is red, nothing that was
// acknowledged is lost, and when there is room again the store goes on by itself
// (storage condition 6).
func TestRow55TheDiskIsFull(t *testing.T) {
	disk := smallDisk(t, "64m")
	f := newFarm(t, func(c *Config) { c.Data = filepath.Join(disk, "studio") })
	w := f.worker(t)
	var known []string
	for range 20 {
		known = append(known, f.submit(t, imageJob).ID)
	}

	extra := f.submit(t, llmJob).ID // is cancelled, if it can be

	ballast := fill(t, disk)
	ask := func(method, path string, body string) int {
		status, data := f.call(t, method, path, f.token, strings.NewReader(body))
		var job client.Submitted
		if json.Unmarshal(data, &job) == nil && status == http.StatusCreated { // there was room for one more
			known = append(known, job.ID)
		}
		if status == http.StatusInsufficientStorage {
			wantError(t, status, data, http.StatusInsufficientStorage, "storage_full")
		}
		return status
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(2 * patience); !ok(); time.Sleep(50 * time.Millisecond) { // nothing tells that a disk is full
			if time.Now().After(end) {
				t.Fatalf("it never came to that: %s", what)
			}
		}
	}
	until("new jobs are refused", func() bool { return ask(http.MethodPost, "/api/v1/jobs", imageJob) == http.StatusInsufficientStorage })
	// What writes without asking for room meets the server itself, which then
	// writes nothing more.
	until("cancelling is refused", func() bool {
		return ask(http.MethodPost, "/api/v1/jobs/"+extra+"/cancel", "") == http.StatusInsufficientStorage
	})
	if status := ask(http.MethodGet, "/healthz", ""); status != http.StatusInsufficientStorage {
		t.Errorf("healthz answers %d", status)
	}
	if got := f.job(t, known[0]); got.State != client.Queued {
		t.Errorf("what is known can be read: %+v", got)
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	until("health is green", func() bool { return ask(http.MethodGet, "/healthz", "") == http.StatusOK })
	known = append(known, f.submit(t, imageJob).ID)
	w.caps.TaskKinds = []protocol.TaskKind{protocol.KindImage}
	l := w.connect(t, "")
	for range known {
		claim := l.take(t)
		w.deliver(t, claim.JobID, []byte("result of "+claim.JobID))
	}
	for _, id := range known {
		if got := f.await(t, id, in(client.Done)); got.Attempts != 1 {
			t.Errorf("job is %+v", got)
		}
		if got, _ := f.fetch(t, id); string(got) != "result of "+id {
			t.Errorf("the result of %s is %q", id, got)
		}
	}
	t.Logf("%d jobs that were acknowledged are done", len(known))
}

// TestRow56DamagedFiles: a store that lost records does not start. It says how
// many, and which backup to restore (storage condition 7).
func TestRow56DamagedFiles(t *testing.T) {
	for name, harm := range map[string]func(path string, data []byte) error{
		"a bit is flipped in a record": func(path string, data []byte) error {
			i := bytes.Index(data, []byte("lighthouse"))
			data[i] ^= 1
			return os.WriteFile(path, data, 0o600)
		},
		"the end is cut off": func(path string, data []byte) error { return os.WriteFile(path, data[:len(data)-100], 0o600) },
		"emptied":            func(path string, _ []byte) error { return os.WriteFile(path, nil, 0o600) },
		"deleted":            func(path string, _ []byte) error { return os.Remove(path) },
	} {
		for _, index := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, index kept: %v", name, index), func(t *testing.T) {
				dir := t.TempDir()
				f := newFarm(t, func(c *Config) { c.Data = dir })
				var ids []string
				for range 40 {
					ids = append(ids, f.submit(t, imageJob).ID)
				}
				backup := filepath.Join(dir, "backups", "studio-20260102T030405Z.tar.gz")
				if err := os.MkdirAll(filepath.Dir(backup), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := f.studio.store.BackupFile(t.Context(), backup, false); err != nil {
					t.Fatal(err)
				}
				f.stop()
				msgs := filepath.Join(dir, "jetstream", "jetstream", "$G", "streams", "KV_jobs-0", "msgs")
				blocks, err := filepath.Glob(filepath.Join(msgs, "*.blk"))
				if err != nil || len(blocks) == 0 {
					t.Fatalf("blocks %v, %v", blocks, err)
				}
				data, err := os.ReadFile(blocks[0])
				if err != nil {
					t.Fatal(err)
				}
				if err := harm(blocks[0], data); err != nil {
					t.Fatal(err)
				}
				if !index {
					if err := os.Remove(filepath.Join(msgs, "index.db")); err != nil {
						t.Fatal(err)
					}
				}

				cfg := Config{Data: dir, Listen: "127.0.0.1:0", AutoApprove: true, Log: testLog(t)}
				_, err = New(cfg)
				damage, ok := errors.AsType[*store.Damage](err)
				if !ok || len(damage.Lost) == 0 || damage.Backup != backup || !strings.Contains(err.Error(), "KV_jobs-0") {
					t.Fatalf("New says %v", err)
				}
				t.Log(err)
				// A second try says the same: nothing was taken for granted.
				if _, again := New(cfg); again == nil || again.Error() != err.Error() {
					t.Errorf("the second time New says %v", again)
				}

				if restore(t, dir, backup) == 0 {
					t.Error("nothing was brought back")
				}
				second := newFarm(t, func(c *Config) { c.Data = dir })
				for _, id := range ids {
					if got := second.job(t, id); got.State != client.Queued {
						t.Errorf("after the restore job %s is %+v", id, got)
					}
				}
			})
		}
	}
}

// restore does what the command does.
func restore(t *testing.T, dir, backup string) (records int) {
	t.Helper()
	f, err := os.Open(backup)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // only read
	records, _, err = Restore(t.Context(), Config{Data: dir, Log: testLog(t)}, f)
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// TestDamageCanBeAccepted: the person decides.
func TestDamageCanBeAccepted(t *testing.T) {
	dir := t.TempDir()
	f := newFarm(t, func(c *Config) { c.Data = dir })
	for range 20 {
		f.submit(t, imageJob)
	}
	f.stop()
	if err := os.RemoveAll(filepath.Join(dir, "jetstream", "jetstream", "$G", "streams", "KV_jobs-1")); err != nil {
		t.Fatal(err)
	}
	_, err := New(Config{Data: dir, Listen: "127.0.0.1:0", Log: testLog(t)})
	if damage, ok := errors.AsType[*store.Damage](err); !ok || damage.Backup != "" || !strings.Contains(err.Error(), "--accept-damage") {
		t.Fatalf("New says %v", err)
	}
	second := newFarm(t, func(c *Config) { c.Data, c.AcceptDamage = dir, true })
	second.submit(t, imageJob)
	second.stop()
	newFarm(t, func(c *Config) { c.Data = dir }).submit(t, imageJob)
}
