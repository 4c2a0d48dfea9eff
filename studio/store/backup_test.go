package store

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func quiet(dir string) Config { return Config{Dir: dir, Log: slog.New(slog.DiscardHandler)} }

// TestBackupAndRestore: what a backup holds comes back into an empty store and
// into one that lost some of it; what is there or was deleted stays so.
func TestBackupAndRestore(t *testing.T) {
	s := open(t, t.TempDir())
	for i := range 40 {
		if _, err := s.Jobs.Create(t.Context(), fmt.Sprintf("job-%02d", i), job(strings.Repeat("x", 40_000))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Jobs.shard("odd").Put(t.Context(), "odd", []byte("no JSON")); err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("pixels"), 200_000)
	result, err := s.Put(t.Context(), "job-01/1", int64(len(data)), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	count, err := s.Backup(t.Context(), &file, true)
	if err != nil || count != (Backup{Records: 41, Parts: 1}) {
		t.Fatalf("backup of %+v, %v", count, err)
	}

	empty := t.TempDir()
	added, err := RestoreInto(t.Context(), quiet(empty), bytes.NewReader(file.Bytes()))
	if err != nil || added != count {
		t.Fatalf("restored %+v, %v", added, err)
	}
	second := open(t, empty)
	all, bad, err := second.Jobs.All(t.Context())
	if err != nil || len(all) != 40 || len(bad) != 1 {
		t.Errorf("%d records, %v, %v", len(all), bad, err)
	}
	var out bytes.Buffer
	if err := second.Copy(t.Context(), &out, result); err != nil || !bytes.Equal(out.Bytes(), data) {
		t.Errorf("the result comes back with %d bytes, %v", out.Len(), err)
	}

	e, err := second.Jobs.Get(t.Context(), "job-02")
	if err != nil {
		t.Fatal(err)
	}
	e.Value.State = Done
	if _, err := second.Jobs.Update(t.Context(), "job-02", e.Value, e.Revision); err != nil {
		t.Fatal(err)
	}
	if e, err = second.Jobs.Get(t.Context(), "job-03"); err != nil {
		t.Fatal(err)
	}
	if err := second.Jobs.Delete(t.Context(), "job-03", e.Revision); err != nil {
		t.Fatal(err)
	}
	if added, err = second.Restore(t.Context(), bytes.NewReader(file.Bytes())); err != nil || added != (Backup{}) {
		t.Errorf("a second restore added %+v, %v", added, err)
	}
	if e, err = second.Jobs.Get(t.Context(), "job-02"); err != nil || e.Value.State != Done {
		t.Errorf("what had changed is %+v, %v", e.Value.State, err)
	}
	if _, err = second.Jobs.Get(t.Context(), "job-03"); !errors.Is(err, ErrNotFound) {
		t.Errorf("what had been deleted: %v", err)
	}
}

// archive packs files as a backup does.
func archive(tb testing.TB, files ...string) []byte {
	tb.Helper()
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	w := tar.NewWriter(zip)
	for i := 0; i+1 < len(files); i += 2 {
		if strings.HasSuffix(files[i], "/") { // a folder
			files[i+1] = ""
		}
		if err := w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o600, Size: int64(len(files[i+1]))}); err != nil {
			tb.Fatal(err)
		}
		if _, err := w.Write([]byte(files[i+1])); err != nil {
			tb.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), zip.Close()); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

const goodHead = `{"format":1,"created":"2026-01-02T03:04:05Z"}`

// TestBadBackupsChangeNothing: each is refused with its reason before anything
// is written.
func TestBadBackupsChangeNothing(t *testing.T) {
	s := open(t, t.TempDir())
	line := `{"bucket":"jobs-0","key":"k","value":{"id":"k"}}` + "\n"
	records := backupRecords + "000001.jsonl"
	whole := archive(t, backupHead, goodHead, records, line, backupEnd, `{"records":1,"parts":0}`)
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":             {nil, "not a backup"},
		"another file":        {[]byte("PK\x03\x04"), "not a backup"},
		"another archive":     {archive(t, "README", "hello"), "not a backup"},
		"no head":             {archive(t, records, line), "not a backup"},
		"a damaged head":      {archive(t, backupHead, "{"), "not a backup"},
		"of a later program":  {archive(t, backupHead, `{"format":2}`), "take the version that wrote it"},
		"cut off":             {archive(t, backupHead, goodHead, records, line), "cut off"},
		"torn":                {whole[:len(whole)-20], "damaged"},
		"wrong count":         {archive(t, backupHead, goodHead, records, line, backupEnd, `{"records":2,"parts":0}`), "1 records"},
		"an end that is none": {archive(t, backupHead, goodHead, backupEnd, `[`), "damaged"},
		"a strange file":      {archive(t, backupHead, goodHead, "../../etc/passwd", "x"), "does not belong"},
		"a part without name": {archive(t, backupHead, goodHead, backupResults, "x"), "not a file of"},
		"a long part name":    {archive(t, backupHead, goodHead, backupResults+strings.Repeat("x", maxName+1), "x"), "not a part"},
		"a record that is no JSON": {
			archive(t, backupHead, goodHead, records, "{\n"), "cannot be read",
		},
		"a record without key": {archive(t, backupHead, goodHead, records, `{"bucket":"jobs-0","value":1}`), "not a record"},
		"a long key":           {archive(t, backupHead, goodHead, records, `{"bucket":"jobs-0","key":"`+strings.Repeat("k", maxName+1)+`"}`), "not a record"},
		"an unknown bucket": {
			archive(t, backupHead, goodHead, records, `{"bucket":"secrets","key":"k","value":1}`, backupEnd, `{"records":1}`), "newer version",
		},
		"too large a file": {archive(t, backupHead, goodHead, records, strings.Repeat(" ", maxBackupFile+1)), "not a file of at most"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Restore(t.Context(), bytes.NewReader(c.data))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Restore says %v, want %q", err, c.want)
			}
			if all, _, err := s.Jobs.All(t.Context()); len(all) != 0 || err != nil {
				t.Errorf("it wrote %d records, %v", len(all), err)
			}
		})
	}
	if added, err := s.Restore(t.Context(), bytes.NewReader(whole)); added.Records != 1 || err != nil {
		t.Errorf("the good one: %+v, %v", added, err)
	}
}

// FuzzReadBackup: whatever a file holds, reading it ends, and what counts as a
// whole backup has what it says.
func FuzzReadBackup(f *testing.F) {
	f.Add(archive(f, backupHead, goodHead, backupRecords+"000001.jsonl", `{"bucket":"b","key":"k","bytes":"eA=="}`, backupResults+"a/0", "x", backupEnd, `{"records":1,"parts":1}`))
	f.Add(archive(f, backupHead, goodHead))
	f.Add([]byte("\x1f\x8b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var got Backup
		count, err := readBackup(bytes.NewReader(data), func(r record) error {
			if r.Key == "" || len(r.data()) > maxRecord {
				t.Errorf("record %+v", r)
			}
			got.Records++
			return nil
		}, func(name string, data []byte) error {
			if name == "" || len(data) > partBytes {
				t.Errorf("part %q of %d bytes", name, len(data))
			}
			got.Parts++
			return nil
		})
		if err == nil && count != got {
			t.Errorf("says %+v, gave %+v", count, got)
		}
	})
}

// TestHourlyBackups: the newest 48 are kept, and the next comes an hour after
// the last (condition 7).
func TestHourlyBackups(t *testing.T) {
	s := open(t, t.TempDir())
	if _, err := s.Jobs.Create(t.Context(), "a", job("a")); err != nil {
		t.Fatal(err)
	}
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if wait := s.untilBackup(start); wait != backupEvery/60 {
		t.Errorf("the first backup waits %v", wait)
	}
	for i := range maxBackups + 3 {
		if err := s.keepBackup(t.Context(), start.Add(time.Duration(i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	stray := filepath.Join(s.cfg.Dir, backupFolder, "studio-holiday.tar.gz")
	if err := os.WriteFile(stray, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	backups, err := Backups(s.cfg.Dir)
	if err != nil || len(backups) != maxBackups {
		t.Fatalf("%d backups, %v", len(backups), err)
	}
	last := start.Add((maxBackups + 2) * time.Hour)
	if want := "studio-" + last.Format(backupTime) + ".tar.gz"; filepath.Base(backups[0]) != want {
		t.Errorf("the newest is %s, want %s", backups[0], want)
	}
	for name, c := range map[string]struct{ now, wait time.Duration }{
		"20 minutes later": {20 * time.Minute, 40 * time.Minute}, "a day later": {24 * time.Hour, 0}, "the clock was set back": {-time.Hour, time.Hour},
	} {
		if wait := s.untilBackup(last.Add(c.now)); wait != c.wait {
			t.Errorf("%s the next waits %v, want %v", name, wait, c.wait)
		}
	}
	f, err := os.Open(backups[0])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // only read
	if count, err := readBackup(f, func(record) error { return nil }, func(string, []byte) error { return nil }); err != nil || count.Records != 1 {
		t.Errorf("it holds %+v, %v", count, err)
	}
}

// TestABackupThatFailsLeavesNoFile, not even half of one.
func TestABackupThatFailsLeavesNoFile(t *testing.T) {
	s := open(t, t.TempDir())
	if _, err := s.Jobs.Create(t.Context(), "a", job("a")); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.BackupFile(ctx, filepath.Join(dir, "b.tar.gz"), true); !errors.Is(err, context.Canceled) {
		t.Errorf("BackupFile says %v", err)
	}
	if left, err := os.ReadDir(dir); len(left) != 0 || err != nil {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestMarks: the file is replaced only when something changed, is read back, and
// a damaged one is said.
func TestMarks(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	path := filepath.Join(dir, markFile)
	s.keepMarks(t.Context())
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("before the store was looked at: %v", err)
	}
	if err := s.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Jobs.Create(t.Context(), "a", job("a")); err != nil {
		t.Fatal(err)
	}
	s.keepMarks(t.Context())
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := decodeMarks(data)
	if shard := stream(s.Jobs.shard("a")); err != nil || kept[shard] != (mark{LastSeq: 1, Count: 1}) {
		t.Errorf("marks %v, %v", kept, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s.keepMarks(t.Context())
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing had changed: %v", err)
	}
	for name, data := range map[string]string{"torn": `{"KV_jobs-0":{"last`, "endless": strings.Repeat(" ", maxMarks+1)} {
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := new(marks).load(dir); err == nil || !strings.Contains(err.Error(), "remove the file") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzMarks: whatever the file holds, reading it ends, and what is read is
// written back the same.
func FuzzMarks(f *testing.F) {
	f.Add([]byte(`{"KV_jobs-0":{"lastSeq":3,"count":2}}`))
	f.Add([]byte(`{"a":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := decodeMarks(data); err != nil && err.Error() == "" {
			t.Error("an error without words")
		}
	})
}

// TestKeepBackupsEnds with its context, between two backups.
func TestKeepBackupsEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Store{cfg: quiet(t.TempDir())}
		ctx, cancel := context.WithTimeout(t.Context(), backupEvery/120)
		defer cancel()
		s.KeepBackups(ctx)
	})
}
