package outbox

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"studioworker/worker/observe"
)

// Bounds of kept/.
const (
	keptFor   = 7 * 24 * time.Hour
	keptBytes = 5_000_000_000 // the newest kept entry stays, however large it is
)

// Why a kept result is gone.
var (
	ErrDiscarded = errors.New("discarded by the person at the worker")
	errExpired   = errors.New("kept for a while, and the studio did not ask for it again")
)

// keptKey names a kept result towards people: the job, the attempt and the start
// of the hash, since another result may come in its place.
func keptKey(e Entry) string { return e.name() + "-" + e.SHA256[:8] }

// keptByAge lists what is in kept/, oldest first. Callers hold mu.
func (o *Outbox) keptByAge() []Entry {
	return oldestFirst(o.kept, func(e Entry) time.Time { return e.KeptAt })
}

// keptResults is what people see of kept/. Callers hold mu.
func (o *Outbox) keptResults() []observe.KeptResult {
	if len(o.kept.entries) == 0 {
		return nil
	}
	var list []observe.KeptResult
	for _, e := range o.keptByAge() {
		list = append(list, observe.KeptResult{
			Key: keptKey(e), JobID: e.JobID, Kind: e.Kind, Model: e.Model, Ext: e.Ext, Bytes: e.Size,
			Since: e.KeptAt, Expires: e.KeptAt.Add(keptFor),
		})
	}
	return list
}

// findKept returns the kept entry that key names. Callers hold mu.
func (o *Outbox) findKept(key string) (Entry, error) {
	for _, e := range o.kept.entries {
		if keptKey(e) == key {
			return e, nil
		}
	}
	return Entry{}, fmt.Errorf("kept result %q: %w", key, ErrNotFound)
}

// Readable returns the path of a file that people may open while a result waits or
// is kept. For a short one that is a copy, which is made now and goes when the
// result leaves the outbox. The error wraps ErrNotFound when it has left.
func (o *Outbox) Readable(e Entry) (path string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, e, err = o.locate(e)
	if err != nil {
		return "", err
	}
	if !e.single {
		return e.Path(), nil
	}
	if path, ok := o.shown[e.name()]; ok {
		return path, nil
	}
	if o.closed {
		return "", ErrClosed
	}
	name := shownMark + e.name() + "." + e.Ext
	if err := o.writeCopy(o.tmp, name, e.Text); err != nil {
		return "", fmt.Errorf("copy the result of job %q: %w", e.JobID, err)
	}
	o.shown[e.name()] = filepath.Join(o.tmp, name)
	return o.shown[e.name()], nil
}

// unshow removes the copy of e that Readable made. Callers hold mu.
func (o *Outbox) unshow(e Entry) {
	path, ok := o.shown[e.name()]
	if !ok {
		return
	}
	delete(o.shown, e.name())
	if err := o.fs.RemoveAll(path); err != nil {
		o.log.Warn("tmp not emptied", "job_id", e.JobID, "error", err)
	}
}

// SaveKept copies a kept result to path, in place of a file that is there, once
// its bytes are known to be those that the engine made. The result stays in
// kept/. key is that of observe.KeptResult. The error wraps ErrNotFound when
// there is no such result, and ErrDamaged when it was set aside instead: then
// nothing is at path that was not there before.
func (o *Outbox) SaveKept(key, path string) error {
	o.mu.Lock()
	e, err := o.findKept(key)
	var f io.ReadCloser
	if err == nil {
		f, err = o.openResult(e)
	}
	o.mu.Unlock()
	if err == nil {
		err = errors.Join(saveAs(f, e.SHA256, path), f.Close())
	}
	if errors.Is(err, ErrDamaged) {
		err = errors.Join(err, o.Refuse(e, err))
	}
	if err != nil {
		return fmt.Errorf("save a kept result: %w", err)
	}
	return nil
}

// saveAs writes what r holds to path, if it has that hash.
func saveAs(r io.Reader, sum, path string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".saving-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	h := sha256.New()
	_, err = io.CopyBuffer(onlyWriter{io.MultiWriter(f, h)}, onlyReader{r}, make([]byte, copyBuffer))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if hex.EncodeToString(h.Sum(nil)) != sum {
		return fmt.Errorf("%w: its bytes do not have their hash", ErrDamaged)
	}
	return os.Rename(f.Name(), path)
}

// DiscardKept removes a kept result for good and returns what it was. The error
// wraps ErrNotFound when there is none of that key.
func (o *Outbox) DiscardKept(key string) (Entry, error) {
	o.mu.Lock()
	defer o.mu.Unlock() // to the end: an entry that the studio asks for meanwhile is to stay
	e, err := o.findKept(key)
	if err == nil {
		err = o.drop(e)
	}
	if err != nil {
		return Entry{}, fmt.Errorf("discard a kept result: %w", err)
	}
	return e, nil
}

// expire removes what lay in kept/ too long, and returns what was removed since
// it was last asked, and when the next one goes; zero when none will.
func (o *Outbox) expire() (gone []Entry, next time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.pruneKept() {
		o.publish()
	}
	gone, o.expired = o.expired, nil
	for _, e := range o.kept.entries {
		if at := e.KeptAt.Add(keptFor); next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return gone, next
}

// pruneKept removes what lay in kept/ too long, then the oldest beyond its size,
// and says whether there was any. Callers hold mu.
func (o *Outbox) pruneKept() (pruned bool) {
	list := o.keptByAge()
	var size int64
	for i, e := range slices.Backward(list) {
		size += e.Size
		old := time.Since(e.KeptAt) >= keptFor
		if !old && (size <= keptBytes || i == len(list)-1) {
			continue
		}
		size -= e.Size
		path, err := o.takeOut(e)
		if err == nil {
			err = o.fs.RemoveAll(path)
		}
		if err != nil {
			o.log.Warn("kept result not removed", "job_id", e.JobID, "error", err)
			continue
		}
		o.log.Info("kept result removed", "job_id", e.JobID, "too_old", old)
		o.expired = append(o.expired, e)
		pruned = true
	}
	return pruned
}
