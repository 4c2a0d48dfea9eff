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
	"studioworker/worker/disktest"
	"studioworker/worker/protocol"
)

// TestRow55TheDiskIsFull: clients hear 507, health is red, nothing that was
// acknowledged is lost, and when there is room again the store goes on by itself
// (storage condition 6).
func TestRow55TheDiskIsFull(t *testing.T) {
	disk := disktest.Small(t, 64)
	f := newFarm(t, func(c *Config) { c.Data = filepath.Join(disk, "studio") })
	w := f.worker(t)
	var known []string
	for range 20 {
		known = append(known, f.submit(t, imageJob).ID)
	}

	var extras []string // are cancelled, as far as it can be
	for range 64 {
		extras = append(extras, f.submit(t, llmJob).ID)
	}

	ballast := disktest.Fill(t, disk)
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
		if len(extras) == 0 {
			t.Fatal("every job could be cancelled on a full disk")
		}
		if ask(http.MethodPost, "/api/v1/jobs/"+extras[0]+"/cancel", "") == http.StatusInsufficientStorage {
			return true
		}
		extras = extras[1:] // the last block of a file had room for this one
		return false
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
	waiting := map[string]bool{}
	for _, id := range known {
		waiting[id] = true
	}
	for len(waiting) > 0 { // a job that was refused may be there, too: its answer was lost, not it
		claim := l.take(t)
		w.deliver(t, claim.JobID, []byte("result of "+claim.JobID))
		delete(waiting, claim.JobID)
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

// TestRow53KillAtEachState kills the studio after each change of a job's
// state. After the restart the record says what was acknowledged.
func TestRow53KillAtEachState(t *testing.T) {
	dir := t.TempDir()
	p := startProcess(t, dir, "127.0.0.1:0")
	w := p.worker(t)
	again := func() {
		p.kill()
		p = startProcess(t, dir, "127.0.0.1:0")
		w.farm = p.farm
	}
	job := p.submit(t, llmJob)
	again()
	if got := p.job(t, job.ID); got.State != client.Queued {
		t.Errorf("killed after it was queued: %+v", got)
	}
	l := w.connect(t, "")
	expect[protocol.Offer](t, l)
	p.await(t, job.ID, in(client.Offered))
	again()
	if got := p.job(t, job.ID); got.State != client.Offered || got.WorkerID != w.id || got.Attempts != 0 {
		t.Errorf("killed after it was offered: %+v", got)
	}
	l = w.connect(t, "") // the worker does not name it: offered again
	l.take(t)
	p.await(t, job.ID, in(client.Running))
	again()
	if got := p.job(t, job.ID); got.State != client.Running || got.WorkerID != w.id || got.Attempts != 1 {
		t.Errorf("killed after it was accepted: %+v", got)
	}
	l = w.connect(t, job.ID)
	l.send(t, protocol.CompleteJSON{JobID: job.ID, Result: json.RawMessage(`"whole"`)})
	expect[protocol.CompleteAck](t, l)
	again()
	if got, _ := p.fetch(t, job.ID); string(got) != `"whole"` || p.job(t, job.ID).Attempts != 1 {
		t.Errorf("killed after it was done: %+v with %q", p.job(t, job.ID), got)
	}
	l = w.connect(t, "")
	for name, end := range map[client.State]func(id string){
		client.Failed: func(id string) {
			l.send(t, protocol.Accept{JobID: id})
			l.send(t, protocol.Fail{JobID: id, Error: "no"})
			expect[protocol.FailAck](t, l)
		},
		client.Cancelled: func(id string) {
			if _, err := p.operator.Cancel(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		},
	} {
		job = p.submit(t, llmJob)
		expect[protocol.Offer](t, l)
		end(job.ID)
		p.await(t, job.ID, in(name))
		again()
		if got := p.job(t, job.ID); got.State != name {
			t.Errorf("killed after it was %s: %+v", name, got)
		}
		l = w.connect(t, "")
	}
}

// TestRow54PowerCut takes the disk of a working studio as it is at some moment:
// what was not synced is not on it. Every job that was acknowledged is there, and
// every result whose worker was thanked is whole (reliability guide §6.3).
func TestRow54PowerCut(t *testing.T) {
	image := disktest.NewImage(t, 300)
	p := startProcess(t, filepath.Join(image.Dir, "studio"), "127.0.0.1:0")
	w := p.worker(t)
	l := w.connect(t, "")
	var jobs []string
	done := map[string]bool{}
	for i := range 60 {
		jobs = append(jobs, p.submit(t, imageJob).ID)
		if i%2 == 0 {
			id := l.take(t).JobID
			w.deliver(t, id, []byte("result of "+id))
			done[id] = true
			l.beat(t, "")
		}
	}
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	cut := image.Cut(t) // what the program has not written yet is lost with the power
	p.kill()
	after := cut.PowerOn(t)
	f := newFarm(t, func(c *Config) { c.Data = filepath.Join(after, "studio") })
	for _, id := range jobs {
		got := f.job(t, id)
		if done[id] != (got.State == client.Done) {
			t.Errorf("job %s is %s after the cut", id, got.State)
		}
		if !done[id] {
			continue
		}
		if data, _ := f.fetch(t, id); string(data) != "result of "+id {
			t.Errorf("the result of %s is %q after the cut", id, data)
		}
	}
	t.Logf("%d jobs and %d results were acknowledged before the cut, none is lost", len(jobs), len(done))
	f.stop()
}

// TestRow64ABackupOfYesterday: a studio that was restored knows its workers; a
// result of a job that it no longer knows is refused as unknown, so that the
// worker keeps it.
func TestRow64ABackupOfYesterday(t *testing.T) {
	dir := t.TempDir()
	f := newFarm(t, func(c *Config) { c.Data = dir })
	w := f.worker(t)
	l := w.connect(t, "")
	old := f.submit(t, imageJob)
	l.take(t)
	f.await(t, old.ID, in(client.Running))
	backup := filepath.Join(t.TempDir(), "yesterday.tar.gz")
	if err := f.studio.store.BackupFile(t.Context(), backup, false); err != nil {
		t.Fatal(err)
	}
	young := f.submit(t, imageJob)
	f.stop()

	again := t.TempDir()
	restore(t, again, backup)
	second := newFarm(t, func(c *Config) { c.Data = again })
	w.farm = second
	status, body := w.upload(t, young.ID, "webp", []byte("of today"))
	wantError(t, status, body, http.StatusNotFound, "not_found")
	w.deliver(t, old.ID, []byte("of yesterday"))
	second.await(t, old.ID, in(client.Done))
}
