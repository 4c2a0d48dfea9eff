package outbox

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// Bounds of results/. The file that came last always stays.
const (
	resultsCount = 50
	resultsBytes = 1_000_000_000
)

// syncDelay is how long the moves of acknowledged results may wait for their
// sync. A power cut before it brings entries back that are then delivered once
// more, which their keys make harmless; a worker that runs one short job after
// the other need not sync for each.
const syncDelay = time.Second

// deliveredFile is a file in results/.
type deliveredFile struct {
	name string
	size int64 // bytes
}

// Delivered takes an acknowledged entry, waiting or kept, out of the outbox and
// moves its file to results/. It returns the file's absolute path. A crash at
// any step either leaves the entry where it is, to be delivered again under the
// same key, or ends with the file in results/ at the next Open.
//
// An error that wraps ErrNotFound means that the entry is not there. After any
// other error Find tells: an entry that is gone has been delivered, and only its
// file could not be moved.
func (o *Outbox) Delivered(e Entry) (path string, err error) {
	finish, err := o.Accepted(e)
	if err != nil {
		return "", err
	}
	return finish()
}

// Accepted is the part of Delivered that takes no time: from now on the entry is
// not in the outbox. finish must be called once, and does the rest; when it
// cannot, the entry may be back.
func (o *Outbox) Accepted(e Entry) (finish func() (path string, err error), err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lastError = nil
	_, e, err = o.locate(e)
	if err != nil {
		return nil, err
	}
	o.forget(e)
	o.leaving[e.name()] = true
	o.acknowledged = append(o.acknowledged, e.JobID)
	o.acknowledged = o.acknowledged[max(0, len(o.acknowledged)-acknowledgedMemory):]
	o.publish()
	return func() (string, error) { return o.finish(e) }, nil
}

// finish moves e, which is leaving, out of its shelf and its result to results/.
func (o *Outbox) finish(e Entry) (path string, err error) {
	o.moving.Lock()
	defer o.moving.Unlock()
	from, out := e.at, filepath.Join(o.tmp, sentMark+e.name())
	err = o.fs.Rename(from, out)
	if inTheWay(err) { // what an earlier one of its name left
		if removeErr := o.fs.RemoveAll(out); removeErr == nil {
			err = o.fs.Rename(from, out)
		}
	}
	o.mu.Lock()
	delete(o.leaving, e.name())
	if err != nil {
		for _, s := range []shelf{o.ready, o.kept} {
			if s.dir == filepath.Dir(from) {
				s.entries[e.name()] = e
			}
		}
		o.publish()
	}
	o.mu.Unlock()
	if err != nil {
		return "", fmt.Errorf("take job %q out of the outbox: %w", e.JobID, err)
	}
	o.syncSoon()
	e.at = out
	// The studio has it, whatever becomes of the file.
	path, err = o.toResults(e)
	if err != nil {
		return "", err
	}
	rest := []string{out}
	if !e.single { // one by one: there is nothing to look for
		rest = []string{filepath.Join(out, manifestFile), out}
	}
	for _, path := range rest {
		if err := o.fs.RemoveAll(path); err != nil {
			o.log.Warn("tmp not emptied", "job_id", e.JobID, "error", err)
		}
	}
	return path, nil
}

// inTheWay says whether a rename failed because of what lies at its target: a
// folder that is not empty, a folder for a file, or a file for a folder.
func inTheWay(err error) bool {
	return errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.ENOTDIR)
}

// Acknowledged says whether the studio has taken a result of the job lately, in
// this process. An offer may cross the delivery of its own result.
func (o *Outbox) Acknowledged(jobID string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Contains(o.acknowledged, jobID)
}

// syncSoon makes the moves of acknowledged entries durable after syncDelay.
// Callers hold moving.
func (o *Outbox) syncSoon() {
	if o.unsynced == nil {
		o.unsynced = time.AfterFunc(syncDelay, func() {
			o.moving.Lock()
			defer o.moving.Unlock()
			o.syncMoves()
		})
	}
}

// syncMoves makes the moves of acknowledged entries durable now. Callers hold
// moving.
func (o *Outbox) syncMoves() {
	if o.unsynced == nil {
		return
	}
	o.unsynced.Stop()
	o.unsynced = nil
	for _, dir := range []string{o.results, o.tmp, o.ready.dir, o.kept.dir} {
		if err := o.fs.SyncDir(dir); err != nil {
			o.log.Warn("outbox folder not synced", "folder", filepath.Base(dir), "error", err)
		}
	}
}

// toResults moves the file of e to results/, or writes its text there, and removes
// the oldest files. Callers hold moving.
func (o *Outbox) toResults(e Entry) (string, error) {
	name := safeName(e.JobID)
	if e.Ext != "" {
		name += "." + e.Ext
	}
	path := filepath.Join(o.results, name)
	var err error
	if e.single {
		err = o.writeCopy(o.results, name, e.Text)
	} else {
		err = o.fs.Rename(e.Path(), path)
	}
	if err != nil {
		return "", fmt.Errorf("move the result of job %q: %w", e.JobID, err)
	}
	o.delivered = slices.DeleteFunc(o.delivered, func(f deliveredFile) bool { return f.name == name })
	o.delivered = append(o.delivered, deliveredFile{name, e.Size})
	o.pruneResults()
	return path, nil
}

// listResults reads which files are in results/.
func (o *Outbox) listResults() error {
	list, err := o.fs.ReadDir(o.results)
	if err != nil {
		return fmt.Errorf("read the results: %w", err)
	}
	var files []fs.FileInfo
	for _, d := range list {
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("read the results: %w", err)
		}
		if info.Mode().IsRegular() {
			files = append(files, info)
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int {
		return cmp.Or(a.ModTime().Compare(b.ModTime()), cmp.Compare(a.Name(), b.Name()))
	})
	for _, f := range files {
		o.delivered = append(o.delivered, deliveredFile{f.Name(), f.Size()})
	}
	return nil
}

// pruneResults removes the oldest files of results/ over its bounds.
func (o *Outbox) pruneResults() {
	var size int64
	for _, f := range o.delivered {
		size += f.size
	}
	for len(o.delivered) > 1 && (len(o.delivered) > resultsCount || size > resultsBytes) {
		oldest := o.delivered[0]
		if err := o.fs.RemoveAll(filepath.Join(o.results, oldest.name)); err != nil {
			o.log.Warn("old results not removed", "error", err)
			return
		}
		o.delivered, size = o.delivered[1:], size-oldest.size
	}
}
