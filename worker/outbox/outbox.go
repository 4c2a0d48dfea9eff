package outbox

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"studioworker/worker/observe"
	"studioworker/worker/oneline"
)

// Bounds of what lies in the outbox.
const (
	ballastBytes = 16 << 20
	// acknowledgedMemory is how many jobs are remembered after their delivery.
	acknowledgedMemory = 64

	maxJSON = 16 << 20 // bytes of a JSON result: it must fit a frame (protocol spec §3.11)
)

// Marks of what lies in tmp/ beside the folders of drafts. Names of entries never
// hold the character "=".
const (
	sentMark  = "sent="  // an entry that is acknowledged: its result still goes to results/
	goneMark  = "gone="  // an entry of which nothing is needed any more
	newMark   = "new="   // an entry of one file on its way in
	shownMark = "shown=" // a copy of a short result that waits, for people
)

const ballastFile = "ballast"

// Errors that callers branch on.
var (
	ErrNotFound = errors.New("no such result in the outbox")
	ErrExists   = errors.New("this attempt at the job is in the outbox already")
	ErrClosed   = errors.New("the outbox is closed")
)

// Config says where the outbox lies and who hears of it.
type Config struct {
	// Dir holds the outbox. It is made when it is not there, owner only.
	Dir string
	// Results is where the file of a delivered result goes, on the same volume
	// as Dir. The outbox owns the folder: it keeps the newest 50 files and at
	// most 1 GB.
	Results string
	// FS is the file system. nil means OS().
	FS FS
	// Log hears of damage and of what a full disk cost.
	Log *slog.Logger
	// Observer holds what waits in ready/. It is written on each change. nil is
	// allowed.
	Observer *observe.Slot[observe.Outbox]
}

// Outbox keeps finished results on disk. [Open] makes one.
type Outbox struct {
	fs       FS
	log      *slog.Logger
	observer *observe.Slot[observe.Outbox]
	dir      string
	tmp      string
	refused  string
	results  string
	ready    shelf
	kept     shelf
	wake     chan struct{} // room for one: something new is in ready/
	ballast  atomic.Bool   // it is there

	mu        sync.Mutex // guards the fields below, the maps of the shelves and all moves but the last
	lastError error      // why the last try did not work; nil: it did
	closed    bool

	acknowledged []string          // jobs whose result the studio took last, oldest first
	leaving      map[string]bool   // entries, by name, that the studio has and that still lie in their shelf
	shown        map[string]string // copies of short results that wait, by name
	expired      []Entry           // removed from kept/ since expire was asked

	// moving guards the moves of what the studio has, and the fields below. It is
	// taken before mu, which nobody has to wait for then.
	moving    sync.Mutex
	delivered []deliveredFile // in results/, oldest first
	unsynced  *time.Timer     // makes the last moves durable; nil = they are
}

// shelf is a folder of whole entries, and what is in it by name. An entry is a
// folder, or one file.
type shelf struct {
	dir     string
	entries map[string]Entry
}

// Open makes the folders where they are missing, finishes what a crash
// interrupted, empties tmp/ and reads every manifest. A damaged entry goes to
// refused/ with a log line and is never delivered.
func Open(cfg Config) (*Outbox, error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("find the outbox: %w", err)
	}
	results, err := filepath.Abs(cfg.Results)
	if err != nil {
		return nil, fmt.Errorf("find the results: %w", err)
	}
	o := &Outbox{
		fs:       cfg.FS,
		log:      cfg.Log,
		observer: cfg.Observer,
		dir:      dir,
		tmp:      filepath.Join(dir, "tmp"),
		refused:  filepath.Join(dir, "refused"),
		results:  results,
		ready:    shelf{filepath.Join(dir, "ready"), map[string]Entry{}},
		kept:     shelf{filepath.Join(dir, "kept"), map[string]Entry{}},
		wake:     make(chan struct{}, 1),
		leaving:  map[string]bool{},
		shown:    map[string]string{},
	}
	if o.fs == nil {
		o.fs = OS()
	}
	o.moving.Lock()
	defer o.moving.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, d := range []string{o.tmp, o.ready.dir, o.kept.dir, o.refused, results} {
		if err := o.fs.MkdirAll(d); err != nil {
			return nil, fmt.Errorf("make the folders of the outbox: %w", err)
		}
	}
	for _, d := range []string{dir, filepath.Dir(dir), filepath.Dir(results)} {
		if err := o.fs.SyncDir(d); err != nil {
			return nil, fmt.Errorf("make the folders of the outbox: %w", err)
		}
	}
	if err := o.listResults(); err != nil {
		return nil, err
	}
	if err := o.emptyTmp(); err != nil {
		return nil, err
	}
	for _, s := range []shelf{o.ready, o.kept} {
		if err := o.load(s); err != nil {
			return nil, err
		}
	}
	o.pruneKept()
	o.expired = nil // nobody knows of them yet
	o.fillBallast()
	o.publish()
	return o, nil
}

// Close takes no more drafts and empties tmp/. The caller ends its engines, its
// Deliverer and what Accepted returned before.
func (o *Outbox) Close() error {
	o.moving.Lock()
	defer o.moving.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil
	}
	o.closed = true
	err := o.emptyTmp()
	o.syncMoves()
	return err
}

// Find returns the newest attempt at a job: one that waits before one that is
// kept.
func (o *Outbox) Find(jobID string) (Entry, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range []shelf{o.ready, o.kept} {
		var newest Entry
		for _, e := range s.entries {
			if e.JobID == jobID && e.Attempt > newest.Attempt {
				newest = e
			}
		}
		if newest.Attempt > 0 {
			return newest, true
		}
	}
	return Entry{}, false
}

// Entries returns what waits for the studio, oldest first.
func (o *Outbox) Entries() []Entry {
	o.mu.Lock()
	defer o.mu.Unlock()
	return oldestFirst(o.ready, func(e Entry) time.Time { return e.Created })
}

func oldestFirst(s shelf, at func(Entry) time.Time) []Entry {
	list := make([]Entry, 0, len(s.entries))
	for _, e := range s.entries {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b Entry) int {
		return cmp.Or(at(a).Compare(at(b)), cmp.Compare(a.name(), b.name()))
	})
	return list
}

// ReadJSON returns a JSON result of at most 16 MiB, waiting or kept, after it
// was checked against its hash. A damaged one goes to refused/ and the error
// wraps ErrDamaged: the job must be computed again.
func (o *Outbox) ReadJSON(e Entry) (json.RawMessage, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	text := e.data
	_, e, err := o.locate(e)
	if e.single {
		text = e.Text
	}
	if err != nil {
		return nil, err
	}
	if e.Size > maxJSON {
		return nil, fmt.Errorf("read the result of job %q: %d bytes do not fit a frame", e.JobID, e.Size)
	}
	if data := []byte(text); json.Valid(data) { // these are the very bytes that were hashed
		return data, nil
	}
	var data []byte
	if !e.single {
		if data, err = o.readFile(e.at, resultFile, maxJSON); err != nil {
			return nil, fmt.Errorf("read the result of job %q: %w", e.JobID, err)
		}
	}
	if !e.isResult(data) || !json.Valid(data) {
		err := fmt.Errorf("read the result of job %q: %w", e.JobID, ErrDamaged)
		return nil, errors.Join(err, o.refuse(e, err))
	}
	return data, nil
}

// Keep moves an entry to kept/: the studio does not want it now (409), and may
// offer the job again.
func (o *Outbox) Keep(e Entry) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	from, e, err := o.locate(e)
	if err != nil || from == o.kept.dir {
		return err
	}
	e.KeptAt = time.Now()
	if err := o.move(e, o.ready, o.kept); err != nil {
		return fmt.Errorf("keep the result of job %q: %w", e.JobID, err)
	}
	o.pruneKept()
	o.publish()
	o.rouse()
	return nil
}

// rouse lets the Deliverer look at what has changed.
func (o *Outbox) rouse() {
	select {
	case o.wake <- struct{}{}:
	default: // it has not looked yet: once is enough
	}
}

// Refuse moves an entry to refused/ with the reason in its manifest and in the
// observer: the studio will never take it (400, 413, 422), or it is damaged.
func (o *Outbox) Refuse(e Entry, reason error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, e, err := o.locate(e)
	if err != nil {
		return err
	}
	return o.refuse(e, reason)
}

// refuse is Refuse for callers that hold mu. e must come from locate.
func (o *Outbox) refuse(e Entry, reason error) error {
	e.Reason = clip(reason.Error())
	o.rewriteManifest(e)
	if err := o.setAside(e.at, e.name()); err != nil {
		return fmt.Errorf("set the result of job %q aside: %w", e.JobID, err)
	}
	o.log.Warn("result set aside", "job_id", e.JobID, "attempt", e.Attempt, "reason", e.Reason)
	o.forget(e)
	o.lastError = reason
	o.publish()
	return nil
}

// promote moves a kept entry back to ready/, where the Deliverer retries it:
// the studio has offered its job again.
func (o *Outbox) promote(e Entry) (Entry, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	from, e, err := o.locate(e)
	if err != nil || from == o.ready.dir {
		return e, err
	}
	e.KeptAt, e.MissingSince = time.Time{}, time.Time{}
	if err := o.move(e, o.kept, o.ready); err != nil {
		return Entry{}, fmt.Errorf("take the result of job %q back: %w", e.JobID, err)
	}
	o.publish()
	return o.ready.entries[e.name()], nil
}

// Drop removes an entry for good: the studio said that the job is gone (410), or
// cancelled it.
func (o *Outbox) Drop(e Entry) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.drop(e)
}

// drop is Drop for callers that hold mu.
func (o *Outbox) drop(e Entry) error {
	path, err := o.takeOut(e)
	if err != nil {
		return err
	}
	return o.fs.RemoveAll(path)
}

// noteTry writes down that a delivery did not succeed, and why.
func (o *Outbox) noteTry(e Entry, missing bool, reason error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	from, e, err := o.locate(e)
	if err != nil || from != o.ready.dir {
		return
	}
	e.Tries++
	if missing && e.MissingSince.IsZero() {
		e.MissingSince = time.Now()
	}
	o.rewriteManifest(e)
	o.ready.entries[e.name()] = e
	o.lastError = reason
	o.publish()
}

// waiting returns the present state of e. The error wraps ErrNotFound when e is
// not in ready/.
func (o *Outbox) waiting(e Entry) (Entry, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	from, now, err := o.locate(e)
	if err == nil && from != o.ready.dir {
		err = fmt.Errorf("job %q, attempt %d: %w", e.JobID, e.Attempt, ErrNotFound)
	}
	return now, err
}

// locate finds the shelf and the present state of e.
func (o *Outbox) locate(e Entry) (dir string, now Entry, err error) {
	for _, s := range []shelf{o.ready, o.kept} {
		if now, ok := s.entries[e.name()]; ok && now.SHA256 == e.SHA256 {
			return s.dir, now, nil
		}
	}
	return "", e, fmt.Errorf("job %q, attempt %d: %w", e.JobID, e.Attempt, ErrNotFound)
}

// forget takes e out of the maps. e must come from locate.
func (o *Outbox) forget(e Entry) {
	for _, s := range []shelf{o.ready, o.kept} {
		if now, ok := s.entries[e.name()]; ok && now.at == e.at {
			delete(s.entries, e.name())
		}
	}
	o.unshow(e)
}

// move takes e, as it shall be, from one shelf to another.
func (o *Outbox) move(e Entry, from, to shelf) error {
	if o.leaving[e.name()] {
		return ErrExists // its namesake is on its way out
	}
	o.rewriteManifest(e)
	target := filepath.Join(to.dir, e.name())
	if err := o.fs.RemoveAll(target); err != nil {
		return err
	}
	if err := o.fs.Rename(e.at, target); err != nil {
		return err
	}
	delete(from.entries, e.name())
	e.at = target
	to.entries[e.name()] = e
	o.syncAfterMove(to.dir, from.dir)
	return nil
}

// takeOut moves e, which nobody needs any more, to tmp/ and returns where it is
// there. It never comes back.
func (o *Outbox) takeOut(e Entry) (path string, err error) {
	from, e, err := o.locate(e)
	if err != nil {
		return "", err
	}
	path = filepath.Join(o.tmp, goneMark+e.name())
	if err := o.fs.RemoveAll(path); err != nil {
		return "", fmt.Errorf("take job %q out of the outbox: %w", e.JobID, err)
	}
	if err := o.fs.Rename(e.at, path); err != nil {
		return "", fmt.Errorf("take job %q out of the outbox: %w", e.JobID, err)
	}
	o.forget(e)
	o.syncAfterMove(o.tmp, from)
	o.publish()
	return path, nil
}

// syncAfterMove makes a move durable: the new name before the old one's end, so
// that a power cut may double an entry but never lose it. A failure only means
// that the entry could be back after a power cut. It is delivered once more
// then, which its key makes harmless.
func (o *Outbox) syncAfterMove(to, from string) {
	for _, dir := range []string{to, from} {
		if err := o.fs.SyncDir(dir); err != nil {
			o.log.Warn("outbox folder not synced", "folder", filepath.Base(dir), "error", err)
		}
	}
}

// setAside moves what lies at path to refused/, under a name that is free.
func (o *Outbox) setAside(path, name string) error {
	taken := map[string]bool{}
	list, err := o.fs.ReadDir(o.refused)
	if err != nil {
		return err
	}
	for _, d := range list {
		taken[d.Name()] = true
	}
	free := name
	for n := 2; taken[free]; n++ {
		free = name + "." + strconv.Itoa(n)
	}
	if err := o.fs.Rename(path, filepath.Join(o.refused, free)); err != nil {
		return err
	}
	o.syncAfterMove(o.refused, filepath.Dir(path))
	return nil
}

// load reads the manifests of a shelf.
func (o *Outbox) load(s shelf) error {
	list, err := o.fs.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("read the outbox: %w", err)
	}
	for _, d := range list {
		e, err := o.readEntry(s.dir, d, d.Name())
		if err == nil {
			if s.dir == o.kept.dir && e.KeptAt.IsZero() {
				e.KeptAt = time.Now() // its manifest could not be written when it came here
			}
			s.entries[d.Name()] = e
			continue
		}
		o.log.Warn("result not readable, set aside", "folder", filepath.Base(s.dir), "entry", d.Name(), "error", err)
		o.lastError = err
		if err := o.setAside(filepath.Join(s.dir, d.Name()), d.Name()); err != nil {
			o.log.Warn("result not set aside", "entry", d.Name(), "error", err)
		}
	}
	return nil
}

// readEntry reads the entry that lies in dir as d and must be called name: one
// file, or a folder with a manifest and a result.
func (o *Outbox) readEntry(dir string, d fs.DirEntry, name string) (Entry, error) {
	at, manifest := filepath.Join(dir, d.Name()), manifestFile
	if d.Type().IsRegular() {
		manifest = d.Name()
	} else {
		dir = at
	}
	data, err := o.readFile(dir, manifest, maxManifest)
	if err != nil {
		return Entry{}, fmt.Errorf("read the manifest: %w", err)
	}
	e, err := decodeManifest(data)
	if err != nil {
		return Entry{}, err
	}
	e.at, e.single = at, d.Type().IsRegular()
	switch {
	case e.name() != name:
		return Entry{}, fmt.Errorf("%w: the manifest is that of another entry", ErrDamaged)
	case e.single && (e.Text == "" || !e.JSON()):
		return Entry{}, fmt.Errorf("%w: the manifest stands without its result", ErrDamaged)
	case e.single:
		e.verified = true
		return e, nil
	case e.Text != "": // an earlier version did not sync the file
		if data, err := o.readFile(dir, resultFile, maxShort); err != nil || string(data) != e.Text {
			if err := o.writeFile(dir, resultFile, []byte(e.Text)); err != nil {
				return Entry{}, err
			}
		}
	}
	f, err := o.openResult(e)
	if err != nil {
		return Entry{}, err
	}
	return e, f.Close()
}

// openResult opens the result of e and checks its size.
func (o *Outbox) openResult(e Entry) (io.ReadCloser, error) {
	if e.single {
		return io.NopCloser(strings.NewReader(e.Text)), nil
	}
	f, err := o.fs.OpenFile(e.at, resultFile, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotRegular) {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != e.Size {
		err = fmt.Errorf("%w: it has %d bytes instead of %d", ErrDamaged, info.Size(), e.Size)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// readFile reads a file of at most limit bytes.
func (o *Outbox) readFile(dir, name string, limit int64) ([]byte, error) {
	f, err := o.fs.OpenFile(dir, name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%w: %s is larger than %d bytes", ErrDamaged, name, limit)
	}
	return data, errors.Join(err, f.Close())
}

// writeFile writes a new file and syncs it. When that fails it writes another
// one once: what a failed sync left in memory cannot be trusted to reach the
// disk later. A full disk gets the ballast first.
func (o *Outbox) writeFile(dir, name string, data []byte) error {
	err := o.writeNew(dir, name, bytes.NewReader(data))
	if err == nil {
		return nil
	}
	o.log.Warn("file not written, trying a new one", "file", name, "error", err)
	o.makeRoom(err)
	return o.writeNew(dir, name, bytes.NewReader(data))
}

// writeCopy writes a result that its entry or the studio holds, too: it is not
// synced. What could not be written whole is removed.
func (o *Outbox) writeCopy(dir, name, text string) error {
	f, err := o.create(dir, name)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, o.fs.RemoveAll(filepath.Join(dir, name)))
	}
	return nil
}

// create makes the file name in dir, which replaces one that is there.
func (o *Outbox) create(dir, name string) (File, error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	f, err := o.fs.OpenFile(dir, name, flags)
	if !errors.Is(err, fs.ErrExist) {
		return f, err
	}
	if err := o.fs.RemoveAll(filepath.Join(dir, name)); err != nil {
		return nil, err
	}
	return o.fs.OpenFile(dir, name, flags)
}

// writeNew replaces name in dir by a new, synced file with what r holds.
func (o *Outbox) writeNew(dir, name string, r io.Reader) error {
	path := filepath.Join(dir, name)
	f, err := o.create(dir, name)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(onlyWriter{f}, onlyReader{r}, bufferFor(r))
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, o.fs.RemoveAll(path)) // a full disk needs the room
	}
	return nil
}

// copyBuffer is the piece in which results are read. Larger ones are not faster.
const copyBuffer = 256 << 10

// bufferFor returns a buffer for reading r in pieces. A result that is known to
// be small gets a small one.
func bufferFor(r io.Reader) []byte {
	const least = 512
	size := int64(copyBuffer)
	switch r := r.(type) {
	case interface{ Size() int64 }: // it is in memory
		size = r.Size()
	case File:
		if info, err := r.Stat(); err == nil {
			size = info.Size()
		}
	}
	return make([]byte, min(max(size, least), copyBuffer))
}

// onlyReader and onlyWriter hide the shortcuts of io.Copy, which would ignore
// the buffer it was given.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

// rewriteManifest replaces the manifest of e. That only keeps notes beside the
// result: when it fails, the old manifest stays, which is as good for delivery.
func (o *Outbox) rewriteManifest(e Entry) {
	// A single entry is its manifest, and its shelf holds nothing but entries.
	dir, newFile, manifest := e.at, manifestFile+".new", filepath.Join(e.at, manifestFile)
	if e.single {
		dir, newFile, manifest = o.tmp, newMark+e.name(), e.at
	}
	err := func() error {
		data, err := encodeManifest(e)
		if err != nil {
			return err
		}
		if err := o.writeFile(dir, newFile, data); err != nil {
			return err
		}
		if err := o.fs.Rename(filepath.Join(dir, newFile), manifest); err != nil {
			return err
		}
		return o.fs.SyncDir(filepath.Dir(manifest))
	}()
	if err != nil {
		o.log.Warn("manifest not updated", "job_id", e.JobID, "error", err)
	}
}

// emptyTmp finishes deliveries that were acknowledged and removes all else.
func (o *Outbox) emptyTmp() error {
	list, err := o.fs.ReadDir(o.tmp)
	if err != nil {
		return fmt.Errorf("empty the outbox's tmp folder: %w", err)
	}
	for _, d := range list {
		path := filepath.Join(o.tmp, d.Name())
		if name, ok := strings.CutPrefix(d.Name(), sentMark); ok {
			// Without a whole entry there the file has moved already.
			if e, err := o.readEntry(o.tmp, d, name); err == nil {
				_, err := o.toResults(e)
				switch {
				case err != nil && e.single: // no room for a copy: the next start may find some
					o.log.Warn("delivered result not moved", "job_id", e.JobID, "error", err)
					continue
				case err != nil:
					return err
				}
				o.syncAfterMove(o.results, o.tmp)
			}
		}
		if err := o.fs.RemoveAll(path); err != nil {
			return fmt.Errorf("empty the outbox's tmp folder: %w", err)
		}
	}
	return nil
}

// makeRoom gives the ballast up when err means that the disk is full.
func (o *Outbox) makeRoom(err error) {
	if !diskFull(err) {
		return
	}
	if err := o.fs.RemoveAll(filepath.Join(o.dir, ballastFile)); err != nil {
		o.log.Warn("ballast not removed", "error", err)
		return
	}
	o.ballast.Store(false)
	o.log.Warn("disk full, ballast given up", "bytes", ballastBytes)
}

// fillBallast writes the ballast unless it is there. On a full disk there is
// none.
func (o *Outbox) fillBallast() {
	f, err := o.fs.OpenFile(o.dir, ballastFile, os.O_RDWR|os.O_CREATE)
	if err != nil {
		o.log.Warn("ballast not written", "error", err)
		return
	}
	err = func() error {
		info, err := f.Stat()
		if err != nil || info.Size() == ballastBytes {
			return err
		}
		block := make([]byte, 1<<20)
		_, _ = rand.Read(block) // never fails; noise takes room on a file system that compresses, too
		for range ballastBytes / len(block) {
			if _, err := f.Write(block); err != nil {
				return err
			}
		}
		return nil
	}()
	if err := errors.Join(err, f.Close()); err != nil {
		o.log.Warn("ballast not written", "error", errors.Join(err, o.fs.RemoveAll(filepath.Join(o.dir, ballastFile))))
		return
	}
	o.ballast.Store(true)
}

// publish tells the observer what waits. Callers hold mu.
func (o *Outbox) publish() {
	if o.observer == nil {
		return
	}
	s := observe.Outbox{Count: len(o.ready.entries), Kept: o.keptResults()}
	if o.lastError != nil {
		s.LastError, s.Why = clip(o.lastError.Error()), observe.WhyOf(o.lastError)
	}
	for _, e := range o.ready.entries {
		s.Bytes += e.Size
		if s.Oldest.IsZero() || e.Created.Before(s.Oldest) {
			s.Oldest = e.Created
		}
	}
	o.observer.Set(s)
}

// clip bounds a text that people see.
func clip(s string) string {
	const most = 500 // characters
	return oneline.Of(s, most)
}
