package store

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"studioworker/worker/atomicfile"
)

// A backup is a gzipped tar archive: a head, the records as lines of JSON in
// files of about a megabyte, the results in their parts if they were asked for,
// and an end that counts both. It can be read without this program.
const (
	backupFormat  = 1
	backupHead    = "studio-backup.json"
	backupEnd     = "end.json"
	backupRecords = "records/"
	backupResults = "results/"
	recordsFile   = 1 << 20                 // bytes after which the next file begins
	maxBackupFile = recordsFile + 2*maxLine // bytes
	maxLine       = 2 * maxRecord           // bytes of one record
	maxName       = 512                     // bytes of a key or a part's name

	salvageFile  = "salvage" + backupSuffix
	backupFolder = "backups"
	backupPrefix = "studio-"
	backupSuffix = ".tar.gz"
	backupTime   = "20060102T150405Z"
	maxBackups   = 48
	backupEvery  = time.Hour
	restorers    = 16 // records written side by side
)

// Backup counts what a backup holds, or what a restore added.
type Backup struct {
	Records int `json:"records"`
	Parts   int `json:"parts"` // of results
}

type head struct {
	Format  int       `json:"format"`
	Created time.Time `json:"created"`
}

// record is a line of a backup. A value that is not JSON is in Bytes.
type record struct {
	Bucket string          `json:"bucket"`
	Key    string          `json:"key"`
	Value  json.RawMessage `json:"value,omitempty"`
	Bytes  []byte          `json:"bytes,omitempty"`
}

func (r record) data() []byte {
	if r.Value != nil {
		return r.Value
	}
	return r.Bytes
}

// ignore is for who only counts.
func ignore(jetstream.KeyValueEntry) error { return nil }

// Backup writes all records to w, and the results too when they are asked for.
// The studio may work meanwhile: each record is as it was at some moment of the
// call.
func (s *Store) Backup(ctx context.Context, w io.Writer, results bool) (Backup, error) {
	zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return Backup{}, fmt.Errorf("write the backup: %w", err)
	}
	b := &backupWriter{tar: tar.NewWriter(zip), now: time.Now().UTC()}
	if err := b.write(ctx, s, results); err != nil {
		return Backup{}, fmt.Errorf("write the backup: %w", err)
	}
	if err := errors.Join(b.tar.Close(), zip.Close()); err != nil {
		return Backup{}, fmt.Errorf("write the backup: %w", err)
	}
	return b.count, nil
}

type backupWriter struct {
	tar   *tar.Writer
	now   time.Time
	lines bytes.Buffer // records of the file that is next
	files int
	count Backup
}

func (b *backupWriter) write(ctx context.Context, s *Store, results bool) error {
	if err := b.json(backupHead, head{Format: backupFormat, Created: b.now}); err != nil {
		return err
	}
	for _, kv := range s.kvs {
		err := s.each(ctx, kv, func(e jetstream.KeyValueEntry) error {
			if e.Operation() != jetstream.KeyValuePut {
				return nil
			}
			return b.record(record{Bucket: kv.Bucket(), Key: e.Key()}, e.Value())
		})
		if err != nil {
			return err
		}
	}
	if err := b.flush(); err != nil {
		return err
	}
	if results {
		if err := b.results(ctx, s); err != nil {
			return err
		}
	}
	return b.json(backupEnd, b.count)
}

func (b *backupWriter) file(name string, data []byte) error {
	if err := b.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(data)), ModTime: b.now, Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err := b.tar.Write(data)
	return err
}

func (b *backupWriter) json(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.file(name, append(data, '\n'))
}

func (b *backupWriter) record(r record, value []byte) error {
	if json.Valid(value) {
		r.Value = value
	} else {
		r.Bytes = value
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	b.lines.Write(append(line, '\n'))
	b.count.Records++
	if b.lines.Len() < recordsFile {
		return nil
	}
	return b.flush()
}

func (b *backupWriter) flush() error {
	if b.lines.Len() == 0 {
		return nil
	}
	b.files++
	defer b.lines.Reset()
	return b.file(fmt.Sprintf("%s%06d.jsonl", backupRecords, b.files), b.lines.Bytes())
}

func (b *backupWriter) results(ctx context.Context, s *Store) error {
	objects, err := s.objects.List(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoObjectsFound) {
		return fmt.Errorf("list the results: %w", err)
	}
	for _, o := range objects {
		data, err := s.part(ctx, o.Name)
		if errors.Is(err, ErrNotFound) { // it was removed meanwhile
			continue
		}
		if err != nil {
			return err
		}
		if err := b.file(backupResults+o.Name, data); err != nil {
			return err
		}
		b.count.Parts++
	}
	return nil
}

// readBackup calls record and part with what a backup holds. It is an error when
// the archive is damaged, ends early, or is not a backup; what was called before
// was whole.
func readBackup(r io.Reader, keep func(record) error, part func(name string, data []byte) error) (Backup, error) {
	zip, err := gzip.NewReader(r)
	if err != nil {
		return Backup{}, fmt.Errorf("this is not a backup of a studio: %w", err)
	}
	in := tar.NewReader(zip)
	var got, want Backup
	begun := false
	for {
		entry, err := in.Next()
		if errors.Is(err, io.EOF) {
			return got, errors.New("the backup is cut off")
		}
		if err != nil {
			return got, fmt.Errorf("the backup is damaged: %w", err)
		}
		limit := int64(maxBackupFile)
		if strings.HasPrefix(entry.Name, backupResults) {
			limit = partBytes
		}
		if entry.Typeflag != tar.TypeReg || entry.Size > limit {
			return got, fmt.Errorf("the backup is damaged: %.100q is not a file of at most %d bytes", entry.Name, limit)
		}
		data, err := io.ReadAll(in)
		if err != nil {
			return got, fmt.Errorf("the backup is damaged: %w", err)
		}
		switch {
		case !begun:
			var h head
			if entry.Name != backupHead || json.Unmarshal(data, &h) != nil {
				return got, errors.New("this is not a backup of a studio")
			}
			if h.Format != backupFormat {
				return got, fmt.Errorf("the backup has format %d, this program reads %d: take the version that wrote it", h.Format, backupFormat)
			}
			begun = true
		case entry.Name == backupEnd:
			if err := json.Unmarshal(data, &want); err != nil || got != want {
				return got, fmt.Errorf("the backup is damaged: it has %d records and %d parts, and says %d and %d", got.Records, got.Parts, want.Records, want.Parts)
			}
			return got, nil
		case strings.HasPrefix(entry.Name, backupRecords):
			n, err := readRecords(data, keep)
			got.Records += n
			if err != nil {
				return got, err
			}
		case strings.HasPrefix(entry.Name, backupResults):
			name := strings.TrimPrefix(entry.Name, backupResults)
			if name == "" || len(name) > maxName {
				return got, fmt.Errorf("the backup is damaged: %.100q is not a part of a result", entry.Name)
			}
			if err := part(name, data); err != nil {
				return got, err
			}
			got.Parts++
		default:
			return got, fmt.Errorf("the backup is damaged: %.100q does not belong to one", entry.Name)
		}
	}
}

func readRecords(data []byte, keep func(record) error) (n int, err error) {
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return n, fmt.Errorf("the backup is damaged: a record cannot be read: %w", err)
		}
		if r.Key == "" || len(r.Key) > maxName || len(r.data()) > maxRecord {
			return n, fmt.Errorf("the backup is damaged: %.100q is not a record", r.Key)
		}
		if err := keep(r); err != nil {
			return n, err
		}
		n++
	}
	if err := lines.Err(); err != nil {
		return n, fmt.Errorf("the backup is damaged: %w", err)
	}
	return n, nil
}

// Restore adds what the backup has and the store has not, and returns how much
// that was. What is there stays, and what was deleted stays deleted. The archive
// is read twice: nothing is written before it proved whole.
func (s *Store) Restore(ctx context.Context, r io.ReadSeeker) (Backup, error) {
	buckets := map[string]jetstream.KeyValue{}
	known := map[string]bool{}
	for _, kv := range s.kvs {
		buckets[kv.Bucket()] = kv
		err := s.each(ctx, kv, func(e jetstream.KeyValueEntry) error {
			known[kv.Bucket()+"/"+e.Key()] = true
			return nil
		})
		if err != nil {
			return Backup{}, err
		}
	}
	_, err := readBackup(r, func(r record) error {
		if buckets[r.Bucket] == nil {
			return fmt.Errorf("the backup has records of a newer version (%.100q): take the version that wrote it", r.Bucket)
		}
		return nil
	}, func(string, []byte) error { return nil })
	if err != nil {
		return Backup{}, err
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return Backup{}, fmt.Errorf("read the backup again: %w", err)
	}

	var added Backup
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(restorers)
	_, err = readBackup(r, func(r record) error {
		if known[r.Bucket+"/"+r.Key] {
			return nil
		}
		added.Records++
		group.Go(func() error {
			err := s.guarded(gctx, opLimit, func(ctx context.Context) error {
				_, err := buckets[r.Bucket].Create(ctx, r.Key, r.data())
				return err
			})
			if err != nil {
				return fmt.Errorf("restore the record %.100q: %w", r.Key, err)
			}
			return nil
		})
		return gctx.Err()
	}, func(name string, data []byte) error {
		_, err := s.objects.GetInfo(gctx, name)
		if err == nil {
			return nil
		}
		if !errors.Is(err, jetstream.ErrObjectNotFound) {
			return fmt.Errorf("restore a result: %w", err)
		}
		added.Parts++
		_, err = s.putPart(gctx, bytes.NewReader(data), name)
		return err
	})
	if failed := group.Wait(); failed != nil {
		err = failed
	}
	return added, err
}

// Backups lists the hourly backups of a data folder, the newest first.
func Backups(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, backupFolder))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list the backups: %w", err)
	}
	var out []string
	for _, e := range entries {
		if isBackup(e.Name()) {
			out = append(out, filepath.Join(dir, backupFolder, e.Name()))
		}
	}
	slices.Sort(out) // their names begin with their times
	slices.Reverse(out)
	return out, nil
}

func isBackup(name string) bool {
	stamp, ok := strings.CutPrefix(name, backupPrefix)
	if !ok {
		return false
	}
	stamp, ok = strings.CutSuffix(stamp, backupSuffix)
	_, err := time.Parse(backupTime, stamp)
	return ok && err == nil
}

// KeepBackups writes a backup of the records every hour until ctx ends, the
// first when the newest one is an hour old, and keeps the newest 48. Results are
// not in it: they would fill the disk.
func (s *Store) KeepBackups(ctx context.Context) {
	for {
		timer := time.NewTimer(s.untilBackup(time.Now()))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if err := s.keepBackup(ctx, time.Now()); err != nil && ctx.Err() == nil {
			s.log.Error("the hourly backup failed", "error", err)
			select { // not at once again
			case <-ctx.Done():
				return
			case <-time.After(backupEvery / 12):
			}
		}
	}
}

// untilBackup returns how long the next backup can wait.
func (s *Store) untilBackup(now time.Time) time.Duration {
	backups, err := Backups(s.cfg.Dir)
	if err != nil || len(backups) == 0 {
		return backupEvery / 60 // a studio that was just made has little to lose
	}
	stamp := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(backups[0]), backupPrefix), backupSuffix)
	newest, err := time.Parse(backupTime, stamp)
	if err != nil || newest.After(now) { // the clock was set back
		return backupEvery
	}
	return max(0, newest.Add(backupEvery).Sub(now))
}

func (s *Store) keepBackup(ctx context.Context, now time.Time) error {
	if err := s.Room(); err != nil {
		return err
	}
	dir := filepath.Join(s.cfg.Dir, backupFolder)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep a backup: %w", err)
	}
	path := filepath.Join(dir, backupPrefix+now.UTC().Format(backupTime)+backupSuffix)
	if err := s.BackupFile(ctx, path, false); err != nil {
		return err
	}
	backups, err := Backups(s.cfg.Dir)
	if err != nil {
		return err
	}
	for _, old := range backups[min(maxBackups, len(backups)):] {
		if err := os.Remove(old); err != nil {
			return fmt.Errorf("remove an old backup: %w", err)
		}
	}
	return nil
}

// BackupFile writes a backup as a file, which is whole or not there.
func (s *Store) BackupFile(ctx context.Context, path string, results bool) error {
	tmp := path + ".part"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	count, err := s.Backup(ctx, f, results)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp) // the error before says more
		return fmt.Errorf("write the backup: %w", err)
	}
	s.log.Info("a backup was written", "path", path, "records", count.Records, "parts", count.Parts)
	return atomicfile.SyncDir(filepath.Dir(path))
}

// RestoreInto opens the store of a studio that does not run, adds what a backup
// has and it has not, and closes it. A damaged store is what it is for: a bucket
// that lost records is emptied and filled anew with those that can be read. They
// lie in a file of their own meanwhile, so that the call may be broken off and
// made again.
func RestoreInto(ctx context.Context, cfg Config, r io.ReadSeeker) (added Backup, err error) {
	s, err := Open(ctx, cfg)
	if err != nil {
		return Backup{}, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.renew(ctx); err != nil {
		return Backup{}, fmt.Errorf("mend the store: %w", err)
	}
	if added, err = s.Restore(ctx, r); err != nil {
		return added, err
	}
	s.marks.forget()
	return added, s.Verify(ctx)
}

// renew makes the damaged buckets whole, with fewer records.
func (s *Store) renew(ctx context.Context) error {
	if s.local == nil {
		return nil
	}
	path := filepath.Join(s.cfg.Dir, salvageFile)
	lost, err := s.compare(ctx)
	if err != nil {
		return err
	}
	_, err = os.Stat(path)
	if errors.Is(err, os.ErrNotExist) && len(lost) > 0 {
		err = s.BackupFile(ctx, path, false)
	} else if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, kv := range s.kvs {
		if why, ok := lost[stream(kv)]; ok {
			s.log.Warn("a damaged bucket is made anew", "why", why)
			if err := s.js.DeleteStream(ctx, stream(kv)); err != nil {
				return fmt.Errorf("empty %s: %w", stream(kv), err)
			}
		}
	}
	s.kvs = nil
	if err := s.open(ctx); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	if _, err := s.Restore(ctx, f); err != nil {
		return err
	}
	return os.Remove(path)
}
