package outbox

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"
)

// Draft is the folder into which one attempt at a job writes its result. It is
// for one goroutine.
type Draft struct {
	o       *Outbox
	jobID   string
	attempt int
	dir     string
	file    string // in tmp/, of a short result that was to be committed; empty = none
	over    bool   // committed or discarded
}

// Begin makes the folder for an attempt at a job. jobID is any valid text of 1
// to 4096 bytes. attempt is the studio's number, from 1; 0 means that the
// studio sent none and takes the next local one. The error wraps ErrExists when
// this attempt is running or waits for the studio.
func (o *Outbox) Begin(jobID string, attempt int) (*Draft, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, ErrClosed
	}
	local := attempt == 0
	if local {
		attempt = 1
		for _, s := range []shelf{o.ready, o.kept} {
			for _, e := range s.entries {
				if e.JobID == jobID {
					attempt = max(attempt, e.Attempt+1)
				}
			}
		}
	}
	if err := checkJob(jobID, attempt); err != nil {
		return nil, fmt.Errorf("begin a result: %w", err)
	}
	if !o.ballast.Load() {
		o.fillBallast()
	}
	for {
		name := entryName(jobID, attempt)
		dir := filepath.Join(o.tmp, name)
		err := fs.ErrExist
		if _, ok := o.ready.entries[name]; !ok && !o.leaving[name] {
			err = o.fs.Mkdir(dir)
		}
		switch {
		case err == nil:
			return &Draft{o: o, jobID: jobID, attempt: attempt, dir: dir}, nil
		case errors.Is(err, fs.ErrExist) && local && attempt < maxAttempt:
			attempt++ // another draft of the same job
		case errors.Is(err, fs.ErrExist):
			return nil, fmt.Errorf("begin a result for job %q, attempt %d: %w", jobID, attempt, ErrExists)
		default:
			return nil, fmt.Errorf("begin a result for job %q: %w", jobID, err)
		}
	}
}

// Dir returns the absolute path of the folder for the result file.
func (d *Draft) Dir() string { return d.dir }

// Result says what the engine made: a file, or bytes that are in memory.
type Result struct {
	File      string // base name of the result in Draft.Dir; empty when Data holds it
	Data      string // the bytes
	Kind      string // wire name of the task kind
	Ext       string // format of the bytes, without a dot: at most ten of a-z and 0-9; "json" goes as a frame
	Model     string
	Prompt    string // in full, at most 16 MiB (protocol spec §8.4)
	StudioURL string // the studio that offered the job; empty means any
	WorkerID  string
	Started   time.Time
}

// Commit makes the result durable and moves it to ready/ (reliability guide
// §3.2, steps S1 to S6). Once it returns nil, the result survives a crash and a
// power cut. A file that could not be synced is written anew once; a full disk
// costs the ballast. After an error nothing is in ready/, the result file is
// still in Dir, and Commit may be called again. A JSON result of at most 16 KiB
// in Data becomes one file instead of a folder.
func (d *Draft) Commit(r Result) (Entry, error) {
	e, err := d.commit(r)
	if err != nil {
		return Entry{}, fmt.Errorf("store the result of job %q: %w", d.jobID, err)
	}
	return e, nil
}

func (d *Draft) commit(r Result) (e Entry, err error) {
	if d.over {
		return Entry{}, ErrClosed
	}
	switch {
	case r.File == "" && len(r.Data) == 0:
		return Entry{}, errors.New("the result is empty")
	case r.File != "" && (r.File == "." || r.File == ".." || strings.EqualFold(r.File, manifestFile) || r.File != filepath.Base(r.File)):
		return Entry{}, fmt.Errorf("%q is not the name of a result file", r.File)
	}
	// Renamed before anything is synced: its last name costs no sync of its own.
	if r.File != "" && r.File != resultFile {
		from, to := filepath.Join(d.dir, r.File), filepath.Join(d.dir, resultFile)
		if err := d.o.fs.Rename(from, to); err != nil {
			return Entry{}, err
		}
		defer func() {
			if err != nil { // the next Commit looks for it under its name
				err = errors.Join(err, d.o.fs.Rename(to, from))
			}
		}()
	}
	if short(r) {
		return d.commitShort(r)
	}
	if err := d.leaveOnly(r.File != ""); err != nil {
		return Entry{}, err
	}
	if e, err = d.store(r); err != nil {
		return Entry{}, err
	}
	if err := d.publish(e, d.dir); err != nil {
		return Entry{}, err
	}
	d.over = true
	e.data = r.Data
	return e, nil
}

// short says whether a result goes into its manifest, which is the whole entry
// then: one file takes half the syncs of a folder with two.
func short(r Result) bool {
	return r.File == "" && r.Ext == jsonExt && len(r.Data) <= maxShort && utf8.ValidString(r.Data)
}

// commitShort is commit for a short result.
func (d *Draft) commitShort(r Result) (Entry, error) {
	sum := sha256.Sum256([]byte(r.Data))
	e := d.entry(r, stored{sum: hex.EncodeToString(sum[:]), size: int64(len(r.Data))})
	e.Text, e.single = r.Data, true
	manifest, err := encodeManifest(e)
	if err != nil {
		return Entry{}, fmt.Errorf("write the manifest: %w", err)
	}
	d.file = newMark + e.name()
	if err := d.o.writeFile(d.o.tmp, d.file, manifest); err != nil { // S1 to S3; there is no folder for S4
		return Entry{}, fmt.Errorf("write the manifest: %w", err)
	}
	if err := d.publish(e, filepath.Join(d.o.tmp, d.file)); err != nil {
		return Entry{}, err
	}
	d.over = true
	if err := d.o.fs.RemoveAll(d.dir); err != nil {
		d.o.log.Warn("tmp not emptied", "job_id", d.jobID, "error", err)
	}
	return e, nil
}

// entry is what is known of a result before it is stored.
func (d *Draft) entry(r Result, made stored) Entry {
	name := entryName(d.jobID, d.attempt)
	return Entry{
		JobID: d.jobID, Attempt: d.attempt, Kind: r.Kind, Ext: r.Ext, SHA256: made.sum, Size: made.size,
		Prompt: r.Prompt, Model: r.Model, StudioURL: r.StudioURL, WorkerID: r.WorkerID,
		Started: r.Started, Created: time.Now(),
		at: filepath.Join(d.o.ready.dir, name), verified: true,
	}
}

// store brings result and manifest to the disk, both at once: one may wait for
// the other's journal no longer than for its own. That neither is durable
// without the other is all the same before the rename into ready/.
func (d *Draft) store(r Result) (Entry, error) {
	made, err := d.settle(r.Data) // S1
	if err != nil {
		return Entry{}, err
	}
	e := d.entry(r, made)
	manifest, err := encodeManifest(e)
	if err == nil {
		if err = d.o.writeFile(d.dir, manifestFile, manifest); err != nil { // S3
			err = fmt.Errorf("write the manifest: %w", err)
		}
	}
	syncErr := <-made.synced // S2
	if err != nil {
		return Entry{}, err
	}
	if syncErr != nil {
		d.o.log.Warn("result not synced, writing it anew", "job_id", d.jobID, "error", syncErr)
		d.o.makeRoom(syncErr)
		if err := d.rewrite(r.Data, made.sum); err != nil {
			return Entry{}, err
		}
	}
	if err := d.o.fs.SyncDir(d.dir); err != nil { // S4
		return Entry{}, err
	}
	return e, nil
}

// stored is a result file on its way to the disk.
type stored struct {
	sum    string
	size   int64
	synced chan error // gets one value, when the file is synced and closed
}

// settle reads the result file once, or writes it from data, and lets the disk
// take it meanwhile. After an error nothing is under way.
func (d *Draft) settle(data string) (stored, error) {
	s := stored{synced: make(chan error, 1)}
	if data != "" {
		sum := sha256.Sum256([]byte(data))
		s.sum, s.size = hex.EncodeToString(sum[:]), int64(len(data))
		go func() { s.synced <- d.o.writeNew(d.dir, resultFile, strings.NewReader(data)) }()
		return s, nil
	}
	f, err := d.o.fs.OpenFile(d.dir, resultFile, os.O_RDWR) // Windows syncs only what may be written
	if err != nil {
		return s, err
	}
	read := make(chan struct{})
	go func() { // the disk writes while we count
		err := f.Sync()
		<-read
		s.synced <- errors.Join(err, f.Close())
	}()
	s.sum, s.size, err = hash(f)
	close(read)
	if err == nil && s.size == 0 {
		err = errors.New("the result file is empty")
	}
	if err != nil {
		return s, errors.Join(err, <-s.synced)
	}
	return s, nil
}

// rewrite replaces the result file by a new, synced copy of it.
func (d *Draft) rewrite(data, sum string) error {
	const copyFile = resultFile + ".new"
	if data != "" {
		return d.o.writeNew(d.dir, resultFile, strings.NewReader(data))
	}
	o := d.o
	f, err := o.fs.OpenFile(d.dir, resultFile, os.O_RDONLY)
	if err != nil {
		return err
	}
	h := sha256.New()
	if err := errors.Join(o.writeNew(d.dir, copyFile, io.TeeReader(f, h)), f.Close()); err != nil {
		return err
	}
	if hex.EncodeToString(h.Sum(nil)) != sum {
		return errors.Join(errors.New("the result file changed while it was stored"),
			o.fs.RemoveAll(filepath.Join(d.dir, copyFile)))
	}
	return o.fs.Rename(filepath.Join(d.dir, copyFile), filepath.Join(d.dir, resultFile))
}

// leaveOnly removes what the engine left, but for its result file if it has one.
func (d *Draft) leaveOnly(result bool) error {
	list, err := d.o.fs.ReadDir(d.dir)
	if err != nil {
		return err
	}
	for _, f := range list {
		if result && f.Name() == resultFile {
			continue
		}
		if err := d.o.fs.RemoveAll(filepath.Join(d.dir, f.Name())); err != nil {
			return err
		}
	}
	return nil
}

// publish moves the whole entry from where it was made to ready/ and tells who
// waits for entries.
func (d *Draft) publish(e Entry, made string) error {
	o := d.o
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return ErrClosed
	}
	if err := o.fs.Rename(made, e.at); err != nil { // S5
		return err
	}
	if err := o.fs.SyncDir(o.ready.dir); err != nil { // S6
		// Not durable means not stored: the studio gives the job out again.
		return errors.Join(err, o.fs.Rename(e.at, made))
	}
	o.ready.entries[e.name()] = e
	o.publish()
	o.rouse()
	return nil
}

// Discard removes the draft and all in it. After Commit it does nothing.
func (d *Draft) Discard() error {
	if d.over {
		return nil
	}
	d.over = true
	err := d.o.fs.RemoveAll(d.dir)
	if d.file != "" {
		err = errors.Join(err, d.o.fs.RemoveAll(filepath.Join(d.o.tmp, d.file)))
	}
	if err != nil {
		return fmt.Errorf("remove the draft of job %q: %w", d.jobID, err)
	}
	return nil
}

// hash reads r to its end.
func hash(r io.Reader) (sum string, size int64, err error) {
	h := sha256.New()
	size, err = io.CopyBuffer(h, onlyReader{r}, bufferFor(r))
	return hex.EncodeToString(h.Sum(nil)), size, err
}
