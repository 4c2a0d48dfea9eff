package outbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"studioworker/worker/observe"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// open opens an outbox in root.
func open(t *testing.T, root string, fsys FS) *Outbox {
	t.Helper()
	o, err := Open(config(root, fsys))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func config(root string, fsys FS) Config {
	return Config{Dir: filepath.Join(root, "outbox"), Results: filepath.Join(root, "results"), FS: fsys, Log: quiet()}
}

var someBytes = bytes.Repeat([]byte("some bytes of a picture. "), 4000)

func someResult() Result {
	return Result{
		File: "picture.webp", Kind: "image", Ext: "webp", Model: "synthetic-image", Prompt: "a <lighthouse> & fog\n",
		WorkerID: "wk-20", Started: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
	}
}

// put commits data as the result of a job.
func put(t *testing.T, o *Outbox, jobID string, data []byte, change ...func(*Result)) Entry {
	t.Helper()
	d := draft(t, o, jobID, data)
	r := someResult()
	for _, c := range change {
		c(&r)
	}
	e, err := d.Commit(r)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func draft(t *testing.T, o *Outbox, jobID string, data []byte) *Draft {
	t.Helper()
	d, err := o.Begin(jobID, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.Dir(), someResult().File), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

// names lists a folder of the outbox.
func names(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, d := range list {
		out = append(out, d.Name())
	}
	return out
}

func wantNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("%s holds %q, want %q", filepath.Base(dir), got, want)
	}
}

func wantFile(t *testing.T, path string, want []byte) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes, %v, want the %d of the result", path, len(got), err, len(want))
	}
}

func TestCommitThenRestartThenDelivered(t *testing.T) {
	root := t.TempDir()
	o := open(t, root, nil)
	d := draft(t, o, "job-31", someBytes)
	if err := os.WriteFile(filepath.Join(d.Dir(), "scratch"), []byte("left over"), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := d.Commit(someResult())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(someBytes)
	if e.SHA256 != hex.EncodeToString(sum[:]) || e.Size != int64(len(someBytes)) || e.Attempt != 1 {
		t.Errorf("entry %+v does not describe the result", e)
	}
	if err := d.Discard(); err != nil { // after Commit: nothing
		t.Fatal(err)
	}
	wantNames(t, e.at, manifestFile, resultFile)
	wantNames(t, o.tmp)

	o = open(t, root, nil)
	again, ok := o.Find("job-31")
	if !ok || again.Prompt != someResult().Prompt || again.Model != "synthetic-image" || again.WorkerID != "wk-20" ||
		!again.Started.Equal(someResult().Started) || !again.Created.Equal(e.Created) || again.Path() != e.Path() {
		t.Fatalf("after a restart: %+v, %v, want %+v", again, ok, e)
	}
	wantFile(t, again.Path(), someBytes)
	path, err := o.Delivered(again)
	if err != nil || path != filepath.Join(root, "results", "job-31.webp") {
		t.Fatalf("delivered to %q, %v", path, err)
	}
	wantFile(t, path, someBytes)
	for _, dir := range []string{o.tmp, o.ready.dir, o.kept.dir, o.refused} {
		wantNames(t, dir)
	}
	if _, ok := o.Find("job-31"); ok {
		t.Error("a delivered job is still found")
	}
	if _, err := o.Delivered(again); !errors.Is(err, ErrNotFound) {
		t.Errorf("delivered twice: %v, want ErrNotFound", err)
	}
	if runtime.GOOS != "windows" {
		if info, err := os.Stat(o.tmp); err != nil || info.Mode().Perm() != dirMode {
			t.Errorf("tmp has mode %v, %v, want %v", info.Mode().Perm(), err, dirMode)
		}
	}
}

func TestFindPrefersWhatWaitsAndTheNewestAttempt(t *testing.T) {
	o := open(t, t.TempDir(), nil)
	first := put(t, o, "job", []byte("1"))
	second := put(t, o, "job", []byte("2"))
	if second.Attempt != 2 {
		t.Fatalf("second attempt has number %d", second.Attempt)
	}
	if e, _ := o.Find("job"); e.Attempt != 2 {
		t.Errorf("found attempt %d, want 2", e.Attempt)
	}
	if err := o.Keep(second); err != nil {
		t.Fatal(err)
	}
	if e, _ := o.Find("job"); e.Attempt != 1 {
		t.Errorf("found attempt %d, want 1, which waits", e.Attempt)
	}
	if err := o.Keep(first); err != nil {
		t.Fatal(err)
	}
	e, ok := o.Find("job")
	if !ok || e.Attempt != 2 || e.KeptAt.IsZero() {
		t.Errorf("found %+v, want the kept attempt 2", e)
	}
	wantFile(t, e.Path(), []byte("2"))
	if _, err := o.Delivered(e); err != nil { // from kept/, too
		t.Error(err)
	}
	wantNames(t, o.kept.dir, "job.1")
}

func TestEntriesAreOldestFirst(t *testing.T) {
	root := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var slot observe.Slot[observe.Outbox]
		cfg := config(root, nil)
		cfg.Observer = &slot
		o, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for _, id := range []string{"c", "a", "b"} {
			put(t, o, id, someBytes)
			time.Sleep(time.Second)
		}
		var got []string
		for _, e := range o.Entries() {
			got = append(got, e.JobID)
		}
		if !slices.Equal(got, []string{"c", "a", "b"}) {
			t.Errorf("order %q", got)
		}
		s := slot.Get()
		if s.Count != 3 || s.Bytes != int64(3*len(someBytes)) || !s.Oldest.Equal(start) {
			t.Errorf("observer says %+v", s)
		}
		if err := o.Refuse(o.Entries()[0], errors.New("too\nlarge")); err != nil {
			t.Fatal(err)
		}
		s = slot.Get()
		if s.Count != 2 || s.LastError != "too large" || !s.Oldest.Equal(start.Add(time.Second)) {
			t.Errorf("after a refusal: %+v", s)
		}
	})
}

func TestBeginNumbersAndRefusals(t *testing.T) {
	o := open(t, t.TempDir(), nil)
	if _, err := o.Begin("job", 7); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		job     string
		attempt int
		is      error
	}{
		{"the attempt is running", "job", 7, ErrExists},
		{"no job id", "", 1, nil},
		{"a job id that is too long", strings.Repeat("x", maxText+1), 1, nil},
		{"a job id that is no text", "\xff", 1, nil},
		{"a negative attempt", "job", -1, nil},
		{"an attempt that is too large", "job", maxAttempt + 1, nil},
	} {
		if _, err := o.Begin(tc.job, tc.attempt); err == nil || tc.is != nil && !errors.Is(err, tc.is) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	put(t, o, "done", someBytes)
	if _, err := o.Begin("done", 1); !errors.Is(err, ErrExists) {
		t.Errorf("an attempt that waits: %v, want ErrExists", err)
	}
	a, errA := o.Begin("twice", 0)
	b, errB := o.Begin("twice", 0)
	if errA != nil || errB != nil || a.Dir() == b.Dir() {
		t.Errorf("two drafts of a job without numbers share %s, or %v, %v", a.Dir(), errA, errB)
	}
	if err := a.Discard(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Commit(someResult()); !errors.Is(err, ErrClosed) {
		t.Errorf("commit after discard: %v", err)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	wantNames(t, o.tmp)
	if _, err := o.Begin("late", 0); !errors.Is(err, ErrClosed) {
		t.Errorf("begin after close: %v", err)
	}
}

func TestSafeNames(t *testing.T) {
	ids := []string{
		"job-31", "Job-31", "JOB-31", "job_31", "con", "CON", "nul", "com1", "..", ".", "../x", `..\x`, "a/b", "a\\b",
		"a.b", "a.1", "a", "a ", " a", "a:b", "a\x00b", "é", "e\u0301", "~", "=", "sent=a", strings.Repeat("x", 64),
		strings.Repeat("x", 65), strings.Repeat("x", 4000), "a\nb", "a~b",
	}
	seen := map[string]string{}
	for _, id := range ids {
		name := entryName(id, 1)
		low := strings.ToLower(name)
		if other, ok := seen[low]; ok {
			t.Errorf("%q and %q share the name %q", id, other, name)
		}
		seen[low] = id
		stem, _, _ := strings.Cut(name, ".")
		if !filepath.IsLocal(name) || strings.ContainsAny(name, `/\:*?"<>|= `) || len(name) > 80 || deviceName().MatchString(stem) {
			t.Errorf("%q has the name %q", id, name)
		}
		if entryName(id, 1) != name || entryName(id, 2) == name {
			t.Errorf("the name of %q is not its own", id)
		}
	}
}

func TestAnyJobIDSurvivesARestart(t *testing.T) {
	root := t.TempDir()
	o := open(t, root, nil)
	ids := []string{"../../x", "CON", "a/b\\c:d", "\x00\n", strings.Repeat("ü", 2048)}
	for _, id := range ids {
		put(t, o, id, []byte(id))
	}
	o = open(t, root, nil)
	for _, id := range ids {
		e, ok := o.Find(id)
		if !ok || e.JobID != id {
			t.Errorf("%.20q not found after a restart", id)
			continue
		}
		path, err := o.Delivered(e)
		if err != nil || filepath.Dir(path) != filepath.Join(root, "results") {
			t.Errorf("%.20q went to %q, %v", id, path, err)
		}
	}
}

func TestCommitRefusals(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(t *testing.T, d *Draft, r *Result)
	}{
		{"no such file", func(_ *testing.T, _ *Draft, r *Result) { r.File = "other" }},
		{"no file name", func(_ *testing.T, _ *Draft, r *Result) { r.File = "" }},
		{"the folder itself", func(_ *testing.T, _ *Draft, r *Result) { r.File = "." }},
		{"a file elsewhere", func(_ *testing.T, _ *Draft, r *Result) { r.File = "../x" }},
		{"the folder above", func(_ *testing.T, _ *Draft, r *Result) { r.File = ".." }},
		{"the manifest's name", func(_ *testing.T, _ *Draft, r *Result) { r.File = "Manifest" }},
		{"row 22: an empty file", func(t *testing.T, d *Draft, r *Result) {
			t.Helper()
			if err := os.Truncate(filepath.Join(d.Dir(), r.File), 0); err != nil {
				t.Fatal(err)
			}
		}},
		{"a link out of the folder", func(t *testing.T, d *Draft, r *Result) {
			t.Helper()
			r.File = "link"
			if err := os.Symlink("/etc/hosts", filepath.Join(d.Dir(), r.File)); err != nil {
				t.Skip("this system makes no links here: ", err)
			}
		}},
		{"no kind", func(_ *testing.T, _ *Draft, r *Result) { r.Kind = "" }},
		{"an extension with a slash", func(_ *testing.T, _ *Draft, r *Result) { r.Ext = "/x" }},
		{"a prompt that is too long", func(_ *testing.T, _ *Draft, r *Result) { r.Prompt = strings.Repeat("x", maxPrompt+1) }},
		{"a model name that is too long", func(_ *testing.T, _ *Draft, r *Result) { r.Model = strings.Repeat("x", maxText+1) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := open(t, t.TempDir(), nil)
			d := draft(t, o, "job", someBytes)
			r := someResult()
			tc.change(t, d, &r)
			if _, err := d.Commit(r); err == nil {
				t.Error("committed")
			}
			wantNames(t, o.ready.dir)
			if _, ok := o.Find("job"); ok {
				t.Error("found")
			}
		})
	}
}

func TestReadJSON(t *testing.T) {
	o := open(t, t.TempDir(), nil)
	asJSON := func(r *Result) { r.Kind, r.Ext = "llm", "json" }
	e := put(t, o, "good", []byte(`{"object":"chat.completion"}`), asJSON)
	if got, err := o.ReadJSON(e); err != nil || string(got) != `{"object":"chat.completion"}` || !e.JSON() {
		t.Errorf("read %s, %v", got, err)
	}
	big := put(t, o, "big", bytes.Repeat([]byte(" "), maxJSON+1), asJSON)
	if _, err := o.ReadJSON(big); err == nil || errors.Is(err, ErrDamaged) {
		t.Errorf("a result that fits no frame: %v", err)
	}
	bad := put(t, o, "bad", []byte(`{"object":`), asJSON)
	if _, err := o.ReadJSON(bad); !errors.Is(err, ErrDamaged) {
		t.Errorf("text that is no JSON: %v, want ErrDamaged", err)
	}
	if err := os.WriteFile(e.Path(), []byte(`{"object":"chat.completioN"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := o.ReadJSON(e); !errors.Is(err, ErrDamaged) {
		t.Errorf("row 9: a changed byte: %v, want ErrDamaged", err)
	}
	wantNames(t, o.refused, "bad.1", "good.1")
	if _, ok := o.Find("good"); ok {
		t.Error("a damaged result would answer an offer")
	}
}

func TestRow9DamagedEntriesAreSetAside(t *testing.T) {
	write := func(name string, data []byte) func(*testing.T, Entry) {
		return func(t *testing.T, e Entry) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(e.at, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(name string) func(*testing.T, Entry) {
		return func(t *testing.T, e Entry) {
			t.Helper()
			if err := os.Remove(filepath.Join(e.at, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, damage := range map[string]func(*testing.T, Entry){
		"no manifest":       remove(manifestFile),
		"no result":         remove(resultFile),
		"an empty manifest": write(manifestFile, nil),
		"a shorter result":  write(resultFile, someBytes[1:]),
		"a longer result":   write(resultFile, append([]byte("x"), someBytes...)),
		"another's manifest": func(t *testing.T, e Entry) {
			t.Helper()
			e.JobID = "other"
			data, err := encodeManifest(e)
			if err != nil {
				t.Fatal(err)
			}
			write(manifestFile, data)(t, e)
		},
		"a folder instead of the result": func(t *testing.T, e Entry) {
			t.Helper()
			remove(resultFile)(t, e)
			if err := os.Mkdir(e.Path(), 0o700); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			o := open(t, root, nil)
			waits, kept := put(t, o, "waits", someBytes), put(t, o, "kept", someBytes)
			if err := o.Keep(kept); err != nil {
				t.Fatal(err)
			}
			kept, _ = o.Find("kept")
			damage(t, waits)
			damage(t, kept)
			o = open(t, root, nil)
			if list := o.Entries(); len(list) != 0 {
				t.Errorf("%d entries wait", len(list))
			}
			if _, ok := o.Find("kept"); ok {
				t.Error("the kept entry is found")
			}
			wantNames(t, o.refused, "kept.1", "waits.1")
			wantNames(t, o.ready.dir)
			wantNames(t, o.kept.dir)
		})
	}
}

func TestRefuseKeepsEverything(t *testing.T) {
	o := open(t, t.TempDir(), nil)
	for range 3 {
		e := put(t, o, "job", someBytes)
		if err := o.Refuse(e, errors.New("the studio takes no pictures")); err != nil {
			t.Fatal(err)
		}
	}
	wantNames(t, o.refused, "job.1", "job.1.2", "job.1.3")
	data, err := os.ReadFile(filepath.Join(o.refused, "job.1.2", manifestFile))
	if err != nil {
		t.Fatal(err)
	}
	if e, err := decodeManifest(data); err != nil || e.Reason != "the studio takes no pictures" {
		t.Errorf("manifest in refused/: %+v, %v", e, err)
	}
	if err := o.Refuse(Entry{JobID: "job", Attempt: 1}, ErrDamaged); !errors.Is(err, ErrNotFound) {
		t.Errorf("refuse what is not there: %v", err)
	}
}

func TestKeptIsBoundedByTimeAndSize(t *testing.T) {
	root := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o := open(t, root, nil)
		for _, id := range []string{"old", "mid", "new"} {
			if err := o.Keep(put(t, o, id, someBytes)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * 24 * time.Hour)
		}
		wantNames(t, o.kept.dir, "mid.1", "new.1", "old.1") // the oldest is 6 days old when the newest comes
		o = open(t, root, nil)                              // 9, 6 and 3 days
		wantNames(t, o.kept.dir, "mid.1", "new.1")
		wantNames(t, o.tmp)

		// Three files of 2 GB do not fit, the small ones do.
		for _, id := range []string{"x", "y", "z"} {
			e := put(t, o, id, someBytes)
			grow(o, e, 2_000_000_000)
			if err := o.Keep(e); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		wantNames(t, o.kept.dir, "mid.1", "new.1", "y.1", "z.1")
	})
}

// grow lets an entry that waits look as if its file had that many bytes.
func grow(o *Outbox, e Entry, size int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	e.Size = size
	o.ready.entries[e.name()] = e
}

func TestResultsKeepTheNewest(t *testing.T) {
	root := t.TempDir()
	o := open(t, root, nil)
	start := time.Now().Add(-time.Hour)
	for i := range resultsCount + 5 {
		path, err := o.Delivered(put(t, o, fmt.Sprintf("job-%02d", i), someBytes))
		if err != nil {
			t.Fatal(err)
		}
		at := start.Add(time.Duration(i) * time.Second) // some file systems count in seconds
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	got := names(t, o.results)
	if len(got) != resultsCount || got[0] != "job-05.webp" {
		t.Errorf("%d results, the oldest is %s", len(got), got[0])
	}
	large := put(t, o, "large", someBytes)
	grow(o, large, 900_000_000)
	if _, err := o.Delivered(large); err != nil {
		t.Fatal(err)
	}
	larger := put(t, o, "larger", someBytes)
	grow(o, larger, 1_500_000_000)
	path, err := o.Delivered(larger)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error("the newest result is gone: ", err)
	}
	wantNames(t, o.results, "larger.webp")
}

// faultFS fails, or stops the process, at chosen operations.
type faultFS struct {
	FS
	before func(op, name string) error                    // an error is returned instead of doing it
	write  func(name string, p []byte) (int, bool, error) // true: returned instead of writing
}

func (f faultFS) do(op, path string) error {
	if f.before == nil {
		return nil
	}
	return f.before(op, filepath.Base(path))
}

func (f faultFS) Mkdir(dir string) error {
	if err := f.do("mkdir", dir); err != nil {
		return err
	}
	return f.FS.Mkdir(dir)
}

func (f faultFS) OpenFile(dir, name string, flag int) (File, error) {
	if err := f.do("open", name); err != nil {
		return nil, err
	}
	file, err := f.FS.OpenFile(dir, name, flag)
	if err != nil {
		return nil, err
	}
	return faultFile{file, f, name}, nil
}

func (f faultFS) Rename(from, to string) error {
	if err := f.do("rename", to); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

func (f faultFS) RemoveAll(path string) error {
	if err := f.do("remove", path); err != nil {
		return err
	}
	return f.FS.RemoveAll(path)
}

func (f faultFS) SyncDir(dir string) error {
	if err := f.do("syncdir", dir); err != nil {
		return err
	}
	return f.FS.SyncDir(dir)
}

type faultFile struct {
	File
	fs   faultFS
	name string
}

func (f faultFile) Write(p []byte) (int, error) {
	if err := f.fs.do("write", f.name); err != nil {
		return 0, err
	}
	if f.fs.write != nil {
		if n, done, err := f.fs.write(f.name, p); done {
			return n, err
		}
	}
	return f.File.Write(p)
}

func (f faultFile) Sync() error {
	if err := f.fs.do("sync", f.name); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f faultFile) Close() error {
	return errors.Join(f.fs.do("close", f.name), f.File.Close())
}

// failing fails op on the file called name, times times.
func failing(op, name string, times int, err error) faultFS {
	return faultFS{FS: OS(), before: func(o, n string) error {
		if o == op && n == name && times > 0 {
			times--
			return err
		}
		return nil
	}}
}

// halving writes only half of what the file is to take, so many times.
func halving(file string, times int) faultFS {
	return faultFS{FS: OS(), write: func(name string, p []byte) (int, bool, error) {
		if name != file || times == 0 {
			return 0, false, nil
		}
		times--
		return len(p) / 2, true, nil
	}}
}

func TestDiskFaultsAtTheCommit(t *testing.T) {
	const readyDir, draftDir = "ready", "job.1"
	for _, tc := range []struct {
		name    string
		fs      faultFS
		is      error // nil: stored all the same
		ballast bool  // it is there afterwards
	}{
		{"row 6: ENOSPC on the manifest once", failing("write", manifestFile, 1, syscall.ENOSPC), nil, false},
		{"row 6: ENOSPC on the manifest twice", failing("write", manifestFile, 2, syscall.ENOSPC), syscall.ENOSPC, false},
		{"row 7: EIO at the sync of the result once", failing("sync", resultFile, 1, syscall.EIO), nil, true},
		{"row 7: EIO at the sync of the result and of its copy", faultFS{FS: OS(), before: func(op, n string) error {
			if op == "sync" && strings.HasPrefix(n, resultFile) {
				return syscall.EIO
			}
			return nil
		}}, syscall.EIO, true},
		{"row 6: ENOSPC at the sync of the result", failing("sync", resultFile, 1, syscall.ENOSPC), nil, false},
		{"row 7: EIO at the sync of the manifest once", failing("sync", manifestFile, 1, syscall.EIO), nil, true},
		{"row 7: EIO at the sync of the manifest twice", failing("sync", manifestFile, 2, syscall.EIO), syscall.EIO, true},
		{"row 7: EIO at the close of the result", failing("close", resultFile, 1, syscall.EIO), nil, true},
		{"a short write of the manifest once", halving(manifestFile, 1), nil, true},
		{"short writes of the manifest", halving(manifestFile, 2), io.ErrShortWrite, true},
		{"row 8: the result cannot be opened", failing("open", resultFile, 1, syscall.EROFS), syscall.EROFS, true},
		{"row 8: the rename into ready fails", failing("rename", draftDir, 1, syscall.EROFS), syscall.EROFS, true},
		{"row 7: EIO at the sync of the draft's folder", failing("syncdir", draftDir, 1, syscall.EIO), syscall.EIO, true},
		{"row 7: EIO at the sync of ready", failing("syncdir", readyDir, 1, syscall.EIO), syscall.EIO, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			o := open(t, root, tc.fs)
			d := draft(t, o, "job", someBytes)
			_, err := d.Commit(someResult())
			if !errors.Is(err, tc.is) || tc.is == nil && err != nil {
				t.Fatalf("commit: %v, want %v", err, tc.is)
			}
			if _, err := os.Stat(filepath.Join(o.dir, ballastFile)); (err == nil) != tc.ballast {
				t.Errorf("ballast: %v, want there = %v", err, tc.ballast)
			}
			if tc.is != nil {
				wantNames(t, o.ready.dir)
				wantFile(t, filepath.Join(d.Dir(), "picture.webp"), someBytes)
				if _, err := d.Commit(someResult()); err != nil && tc.fs.write == nil && !strings.Contains(tc.name, "copy") {
					t.Fatalf("second commit: %v", err) // the fault is over
				} else if err != nil {
					return
				}
			}
			wantNames(t, o.tmp)
			for range 2 { // before and after a restart
				e, ok := o.Find("job")
				if !ok {
					t.Fatal("not found")
				}
				wantFile(t, e.Path(), someBytes)
				wantNames(t, e.at, manifestFile, resultFile)
				o = open(t, root, nil)
			}
			if !o.ballast.Load() {
				t.Error("the ballast did not come back")
			}
		})
	}
}

func TestDiskFaultsAfterTheAcknowledgement(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fs    faultFS
		gone  bool // the entry has left ready/ in spite of the error
		clean bool // no error at all
	}{
		{"the rename out of ready fails", failing("rename", sentMark+"job.1", 1, syscall.EIO), false, false},
		{"the move to results fails", failing("rename", "job.webp", 1, syscall.EIO), true, false},
		{"the sync of tmp fails", failing("syncdir", "tmp", 1, syscall.EIO), true, true},
		{"the sync of results fails", failing("syncdir", "results", 1, syscall.EIO), true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			o := open(t, root, nil)
			o.fs = tc.fs
			e := put(t, o, "job", someBytes)
			if _, err := o.Delivered(e); (err == nil) != tc.clean {
				t.Errorf("delivered: %v", err)
			}
			if _, found := o.Find("job"); found == tc.gone {
				t.Errorf("found = %v", found)
			}
			if err := o.Close(); err != nil { // makes the moves durable, if it can
				t.Error(err)
			}
			o = open(t, root, nil)
			if e, ok := o.Find("job"); ok {
				if _, err := o.Delivered(e); err != nil {
					t.Error(err)
				}
			}
			wantFile(t, filepath.Join(root, "results", "job.webp"), someBytes)
			wantNames(t, o.tmp)
			wantNames(t, o.ready.dir)
		})
	}
}

func TestOpenSaysWhatTheDiskSays(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "outbox"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(config(root, nil)); err == nil {
		t.Error("opened a file as an outbox")
	}
	root = t.TempDir()
	for _, dir := range []string{"outbox", filepath.Base(root)} { // the folder, and the one that names it
		if _, err := Open(config(root, failing("syncdir", dir, 1, syscall.EIO))); !errors.Is(err, syscall.EIO) {
			t.Errorf("row 7: the sync of %s fails: %v", dir, err)
		}
	}
}

func TestManifestRefusals(t *testing.T) {
	good := Entry{
		JobID: "job", Attempt: 1, Kind: "image", Ext: "webp", SHA256: strings.Repeat("a", 64), Size: 1,
		Created: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC),
	}
	data, err := encodeManifest(good)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := decodeManifest(data); err != nil || e != good {
		t.Fatalf("round trip: %+v, %v", e, err)
	}
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 1
		if _, err := decodeManifest(bad); !errors.Is(err, ErrDamaged) {
			t.Errorf("row 9: a flipped bit in byte %d: %v, want ErrDamaged", i, err)
		}
		if _, err := decodeManifest(data[:i]); !errors.Is(err, ErrDamaged) {
			t.Errorf("row 9: cut after %d bytes: %v, want ErrDamaged", i, err)
		}
	}
	if _, err := decodeManifest(make([]byte, maxManifest+1)); !errors.Is(err, ErrDamaged) {
		t.Errorf("a manifest that is too large: %v", err)
	}
	for name, change := range map[string]func(*Entry){
		"no job":            func(e *Entry) { e.JobID = "" },
		"a long job":        func(e *Entry) { e.JobID = strings.Repeat("x", maxText+1) },
		"attempt 0":         func(e *Entry) { e.Attempt = 0 },
		"a large attempt":   func(e *Entry) { e.Attempt = maxAttempt + 1 },
		"no kind":           func(e *Entry) { e.Kind = "" },
		"a long kind":       func(e *Entry) { e.Kind = strings.Repeat("x", maxText+1) },
		"an odd extension":  func(e *Entry) { e.Ext = "../x" },
		"a long extension":  func(e *Entry) { e.Ext = "abcdefghijk" },
		"no hash":           func(e *Entry) { e.SHA256 = "" },
		"upper-case hash":   func(e *Entry) { e.SHA256 = strings.Repeat("A", 64) },
		"no bytes":          func(e *Entry) { e.Size = 0 },
		"too many bytes":    func(e *Entry) { e.Size = maxResult + 1 },
		"a long prompt":     func(e *Entry) { e.Prompt = strings.Repeat("x", maxPrompt+1) },
		"a long model":      func(e *Entry) { e.Model = strings.Repeat("x", maxText+1) },
		"a long studio":     func(e *Entry) { e.StudioURL = strings.Repeat("x", maxText+1) },
		"a long worker":     func(e *Entry) { e.WorkerID = strings.Repeat("x", maxText+1) },
		"a long reason":     func(e *Entry) { e.Reason = strings.Repeat("x", maxText+1) },
		"no time":           func(e *Entry) { e.Created = time.Time{} },
		"a negative number": func(e *Entry) { e.Tries = -1 },
	} {
		e := good
		change(&e)
		if _, err := encodeManifest(e); err == nil {
			t.Errorf("%s: written", name)
		}
		text := marshal(t, e)
		if _, err := decodeFields(text); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, want ErrDamaged", name, err)
		}
	}
	for _, text := range []string{"", "null", "[]", "{", `{"job":1}`, `{} {}`} {
		if _, err := decodeFields([]byte(text)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%q: %v, want ErrDamaged", text, err)
		}
	}
}

func FuzzManifest(f *testing.F) {
	good, err := encodeManifest(Entry{
		JobID: "job", Attempt: 1, Kind: "image", Ext: "webp", SHA256: strings.Repeat("a", 64), Size: 1, Prompt: "<&>\u2028",
		Created: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), KeptAt: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC),
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[manifestHeader:]) // the fields alone
	f.Add([]byte("studio-worker result 1 \n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, decode := range []func([]byte) (Entry, error){decodeManifest, decodeFields} {
			e, err := decode(data)
			if err != nil {
				if !errors.Is(err, ErrDamaged) {
					t.Errorf("%v does not wrap ErrDamaged", err)
				}
				continue
			}
			again, err := encodeManifest(e)
			if err != nil {
				t.Fatalf("what was decoded cannot be encoded: %v", err)
			}
			back, err := decodeManifest(again)
			if err != nil || string(marshal(t, back)) != string(marshal(t, e)) {
				t.Fatalf("round trip: %+v, %v, want %+v", back, err, e)
			}
			if name := e.name(); !filepath.IsLocal(name) || strings.ContainsAny(name, `/\`) || len(name) > 80 {
				t.Errorf("name %q", name)
			}
		}
	})
}

func marshal(t *testing.T, e Entry) []byte {
	t.Helper()
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
