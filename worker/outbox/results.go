package outbox

import (
	"cmp"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
)

// Bounds of results/. The file that came last always stays.
const (
	resultsCount = 50
	resultsBytes = 1_000_000_000
)

// Delivered takes an acknowledged entry, waiting or kept, out of the outbox and
// moves its file to results/. It returns the file's absolute path. A crash at
// any step either leaves the entry where it is, to be delivered again under the
// same key, or ends with the file in results/ at the next Open.
//
// An error that wraps ErrNotFound means that the entry is not there. After any
// other error Find tells: an entry that is gone has been delivered, and only its
// file could not be moved.
func (o *Outbox) Delivered(e Entry) (path string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lastError = ""
	dir, e, err := o.takeOut(e, sentMark)
	if err != nil {
		return "", err
	}
	// The studio has it, whatever becomes of the file.
	o.acknowledged = append(o.acknowledged, e.JobID)
	o.acknowledged = o.acknowledged[max(0, len(o.acknowledged)-acknowledgedMemory):]
	path, err = o.toResults(e)
	if err != nil {
		return "", err
	}
	if err := o.fs.RemoveAll(dir); err != nil {
		o.log.Warn("tmp folder not removed", "job_id", e.JobID, "error", err)
	}
	return path, nil
}

// Acknowledged says whether the studio has taken a result of the job lately, in
// this process. An offer may cross the delivery of its own result.
func (o *Outbox) Acknowledged(jobID string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Contains(o.acknowledged, jobID)
}

// toResults moves the file of e to results/ and removes the oldest files there.
func (o *Outbox) toResults(e Entry) (string, error) {
	name := safeName(e.JobID)
	if e.Ext != "" {
		name += "." + e.Ext
	}
	path := filepath.Join(o.results, name)
	if err := o.fs.Rename(e.Path(), path); err != nil {
		return "", fmt.Errorf("move the result of job %q: %w", e.JobID, err)
	}
	o.syncAfterMove(o.results, e.dir)
	if err := o.pruneResults(name); err != nil {
		o.log.Warn("old results not removed", "error", err)
	}
	return path, nil
}

// pruneResults keeps the newest files of results/, and the one named last in
// any case.
func (o *Outbox) pruneResults(last string) error {
	list, err := o.fs.ReadDir(o.results)
	if err != nil {
		return err
	}
	var files []fs.FileInfo
	for _, d := range list {
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().IsRegular() {
			files = append(files, info)
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int {
		switch last {
		case a.Name():
			return -1
		case b.Name():
			return 1
		}
		return cmp.Or(b.ModTime().Compare(a.ModTime()), cmp.Compare(a.Name(), b.Name()))
	})
	var size int64
	for i, f := range files {
		size += f.Size()
		if i == 0 || i < resultsCount && size <= resultsBytes {
			continue
		}
		size -= f.Size()
		if err := o.fs.RemoveAll(filepath.Join(o.results, f.Name())); err != nil {
			return err
		}
	}
	return nil
}
