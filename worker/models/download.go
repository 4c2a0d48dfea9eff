package models

import (
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/gofrs/flock"

	"studioworker/worker/atomicfile"
	"studioworker/worker/observe"
)

// fetch makes the file at target, or says why not. It has the file's lock among
// all processes meanwhile.
func (s *Store) fetch(ctx context.Context, set Set, f File, target string, tell func(Progress)) (err error) {
	root, err := s.root()
	if err != nil {
		return err
	}
	started := time.Now()
	log := s.cfg.Log.With("model", set.Model, "file", f.Filename)
	defer func() {
		switch {
		case err == nil:
			log.Info("model file is here", "elapsed_ms", time.Since(started).Milliseconds())
		case ctx.Err() != nil:
			log.Info("model download was stopped")
		default:
			log.Warn("model download failed", "error", err)
		}
	}()
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil { //nolint:gosec // other programs of this person read models too
		return fmt.Errorf("make the models folder: %w", err)
	}
	lock, err := s.lock(ctx, root, target)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if _, here, err := s.find(set, f); err != nil || here { // another process was quicker
		return err
	}
	if err := s.makeRoom(root, f.Filename, f.ApproxBytes); err != nil {
		return err
	}
	folder, err := os.OpenRoot(filepath.Dir(target))
	if err != nil {
		return fmt.Errorf("open the models folder: %w", err)
	}
	defer func() { _ = folder.Close() }()
	log.Info("fetching a model file", "bytes", f.ApproxBytes)
	d := &download{
		store: s, folder: folder, file: f, root: root, target: target,
		shown: observe.Download{Model: set.Model, File: f.Filename, Total: int64(f.ApproxBytes), Since: started}, tell: tell,
	}
	s.showDownload(d.shown)
	defer s.hideDownload(d.shown)
	if err := d.run(ctx); err != nil {
		return err
	}
	return s.note(root, target, entry{
		Model: set.Model, URL: f.URL, SHA256: d.sum, Size: d.part.Bytes, Fetched: time.Now(), Used: time.Now(),
	})
}

// lock takes the right to write a file, which another process may have.
func (s *Store) lock(ctx context.Context, root, target string) (*flock.Flock, error) {
	name := sha256.Sum256([]byte(filepath.ToSlash(relative(root, target))))
	dir := filepath.Join(root, stateFolder)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the models folder: %w", err)
	}
	lock := flock.New(filepath.Join(dir, hex.EncodeToString(name[:8])+".lock"))
	if _, err := lock.TryLockContext(ctx, lockPeriod); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("wait for the download of another process: %w", err)
	}
	return lock, nil
}

// lockPeriod is how often a lock that another process has is asked for.
const lockPeriod = 500 * time.Millisecond

// part is what is known of an unfinished file; it lies beside it, so that a
// resume reads nothing again.
type part struct {
	URL       string `json:"url"`
	Validator string `json:"validator"` // for If-Range; empty = the server gave none
	Total     int64  `json:"total"`     // 0 = unknown
	Bytes     int64  `json:"bytes"`     // that are on disk for certain
	Hash      []byte `json:"hash"`      // the state of sha256 after them
}

// download is the fetching of one file.
type download struct {
	store        *Store
	folder       *os.Root
	file         File
	root, target string
	shown        observe.Download
	tell         func(Progress)

	out     *os.File
	hash    hash.Hash
	part    part
	written int64  // up to where the system was asked to write to the disk
	sum     string // of the whole file, once it is there

	told    time.Time
	samples []sample // of the last seconds
}

type sample struct {
	at    time.Time
	bytes int64
}

func (d *download) partName() string  { return d.file.Filename + partSuffix }
func (d *download) stateName() string { return d.file.Filename + stateSuffix }

// run tries until the file is there: a connection may end as often as it likes
// while each brings something.
func (d *download) run(ctx context.Context) (err error) {
	if err := d.open(); err != nil {
		return err
	}
	defer func() {
		if d.out != nil {
			err = errors.Join(err, d.out.Close())
		}
	}()
	first := d.store.cfg.FirstPause
	pause, idle := first, 0
	for {
		before := d.part.Bytes
		err := d.try(ctx)
		if err == nil {
			return d.finish()
		}
		if again, ok := errors.AsType[*againError](err); ok && ctx.Err() == nil {
			if d.part.Bytes > before {
				pause, idle = first, 0
			}
			if idle++; idle < idleTries {
				d.store.cfg.Log.Warn("model download goes on after a pause", "file", d.file.Filename, "bytes", d.part.Bytes, "error", again.Unwrap())
				if wait(ctx, max(again.after, pause/2+rand.N(pause/2))) { //nolint:gosec // a pause is no secret
					pause = min(2*pause, lastPause)
					continue
				}
			} else {
				err = &Error{Kind: Unavailable, Err: again.Unwrap()}
			}
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return errors.Join(err, d.leave(err))
	}
}

// wait returns false when ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// againError is trouble that another try may not have.
type againError struct {
	err   error
	after time.Duration // what the server asks for
}

func (e *againError) Error() string { return e.err.Error() }
func (e *againError) Unwrap() error { return e.err }

// open opens the unfinished file, at its last good byte.
func (d *download) open() error {
	out, err := d.folder.OpenFile(d.partName(), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("open the download: %w", err)
	}
	d.out, d.hash = out, sha256.New()
	if old, ok := d.readState(); ok {
		d.part = old
		if d.restoreHash() == nil {
			return d.seek(old.Bytes)
		}
	}
	return d.restart()
}

// stateLimit is the size of a state file in bytes; ours have 400.
const stateLimit = 64 << 10

// readState reads what an earlier try left. Anything that does not fit this file
// counts as nothing.
func (d *download) readState() (part, bool) {
	file, err := d.folder.Open(d.stateName())
	if err != nil {
		return part{}, false
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, stateLimit))
	if err != nil {
		return part{}, false
	}
	p, err := decodePart(data)
	if err != nil || p.URL != d.file.URL || p.Validator == "" && d.file.wanted() == "" {
		return part{}, false
	}
	info, err := d.out.Stat()
	if err != nil || info.Size() < p.Bytes {
		return part{}, false
	}
	return p, true
}

func decodePart(data []byte) (part, error) {
	var p part
	if err := json.Unmarshal(data, &p); err != nil {
		return part{}, fmt.Errorf("read the state of a download: %w", err)
	}
	if p.Bytes <= 0 || p.Total < 0 || p.Total > 0 && p.Bytes > p.Total {
		return part{}, errors.New("read the state of a download: its sizes make no sense")
	}
	if err := new(download).restore(p.Hash); err != nil {
		return part{}, err
	}
	return p, nil
}

func (d *download) restoreHash() error { return d.restore(d.part.Hash) }

func (d *download) restore(state []byte) error {
	h := sha256.New()
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(state); err != nil {
		return fmt.Errorf("read the state of a download: %w", err)
	}
	d.hash = h
	return nil
}

func (d *download) seek(at int64) error {
	if err := d.out.Truncate(at); err != nil {
		return fmt.Errorf("cut the download to its good part: %w", err)
	}
	if _, err := d.out.Seek(at, io.SeekStart); err != nil {
		return fmt.Errorf("find the end of the download: %w", err)
	}
	d.written = at
	return nil
}

// restart forgets what was received.
func (d *download) restart() error {
	d.part, d.hash, d.samples = part{URL: d.file.URL}, sha256.New(), nil
	if err := d.remove(d.stateName()); err != nil {
		return err
	}
	return d.seek(0)
}

func (d *download) remove(name string) error {
	if err := d.folder.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// try makes one request and takes what comes.
func (d *download) try(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(stallLimit, func() { cancel(fmt.Errorf("%w for %v", errStall, stallLimit)) })
	defer stall.Stop()
	network := func(err error) error {
		if refused, ok := errors.AsType[*Error](err); ok {
			return refused
		}
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return &againError{err: err}
	}
	answer, err := d.ask(ctx)
	if err != nil {
		return network(err)
	}
	defer answer.Body.Close()
	if err := d.accept(answer); err != nil {
		return err
	}
	digest := startDigest(d.hash)
	defer digest.end()
	noted := time.Now()
	for {
		block := digest.block()
		n, err := answer.Body.Read(block)
		if n > 0 {
			stall.Reset(stallLimit)
		}
		n, writeErr := d.take(block[:n])
		digest.add(block[:n])
		if writeErr != nil {
			return writeErr
		}
		switch {
		case errors.Is(err, io.EOF):
			if d.part.Total > 0 && d.part.Bytes != d.part.Total {
				return d.mismatch()
			}
			return nil
		case err != nil:
			return network(err)
		}
		if time.Since(noted) > checkpoint {
			noted = time.Now()
			digest.settle()
			if err := d.save(); err != nil {
				return err
			}
		}
	}
}

func (d *download) mismatch() error {
	return &Error{Kind: Corrupt, Err: fmt.Errorf("%d bytes were promised, %d came", d.part.Total, d.part.Bytes)}
}

// ask sends the request, for what is missing if something is here.
func (d *download) ask(ctx context.Context) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, d.file.URL, http.NoBody)
	if err != nil {
		return nil, &Error{Kind: Refused, Err: errors.New("model address is refused: it is not a web address")}
	}
	r.Header.Set("User-Agent", d.store.cfg.UserAgent)
	r.Header.Set("Accept-Encoding", "identity") // the bytes as they are: their number and hash are known
	if d.part.Bytes > 0 {
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.part.Bytes))
		if d.part.Validator != "" {
			r.Header.Set("If-Range", d.part.Validator)
		}
	}
	return d.store.http.Do(r)
}

// accept reads the head of an answer: from where it goes on, and how long the
// whole is.
func (d *download) accept(answer *http.Response) error {
	switch answer.StatusCode {
	case http.StatusPartialContent:
		start, total, ok := contentRange(answer.Header.Get("Content-Range"))
		if !ok || start != d.part.Bytes || d.part.Total > 0 && total > 0 && total != d.part.Total {
			return d.again("the server went on at another place")
		}
		if total > 0 {
			d.part.Total = total
		}
	case http.StatusOK: // the whole file: it changed, or the server knows no ranges
		if err := d.restart(); err != nil {
			return err
		}
		d.part.Total = max(0, answer.ContentLength)
		d.part.Validator = validator(answer.Header)
	case http.StatusRequestedRangeNotSatisfiable:
		return d.again("the file is shorter now")
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return &againError{err: d.status(answer), after: retryAfter(answer.Header)}
	default:
		return &Error{Kind: Unavailable, Err: d.status(answer)}
	}
	if d.part.Total > 0 {
		return d.store.roomFor(d.root, d.file.Filename, uint64(d.part.Total-d.part.Bytes))
	}
	return nil
}

func (d *download) status(answer *http.Response) error {
	address := *answer.Request.URL
	address.User, address.RawQuery = nil, ""
	return fmt.Errorf("GET %s -> %d", address.String(), answer.StatusCode)
}

// again begins anew with an empty file. A server that answers so without having
// been asked for a part is of no use.
func (d *download) again(why string) error {
	if d.part.Bytes == 0 {
		return &Error{Kind: Unavailable, Err: errors.New(why)}
	}
	if err := d.restart(); err != nil {
		return err
	}
	return &againError{err: errors.New(why)}
}

// validator is what a later request can be tied to this version of the file by.
func validator(h http.Header) string {
	if tag := h.Get("ETag"); tag != "" && !strings.HasPrefix(tag, "W/") {
		return tag
	}
	return h.Get("Last-Modified")
}

// retryLimit is the longest pause that a server can ask for.
const retryLimit = time.Minute

func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, retryLimit)
}

// contentRange reads "bytes 10-19/20". Total is 0 when it is not said.
func contentRange(header string) (start, total int64, ok bool) {
	rest, ok := strings.CutPrefix(header, "bytes ")
	if !ok {
		return 0, 0, false
	}
	span, size, ok := strings.Cut(rest, "/")
	if !ok {
		return 0, 0, false
	}
	from, to, ok := strings.Cut(span, "-")
	if !ok {
		return 0, 0, false
	}
	start, err := strconv.ParseInt(from, 10, 64)
	last, err2 := strconv.ParseInt(to, 10, 64)
	if err != nil || err2 != nil || start < 0 || last < start {
		return 0, 0, false
	}
	if size != "*" {
		if total, err = strconv.ParseInt(size, 10, 64); err != nil || total <= last {
			return 0, 0, false
		}
	}
	return start, total, true
}

// take writes the next bytes and returns how many of them are in the file.
func (d *download) take(data []byte) (int, error) {
	if len(data) == 0 {
		return 0, nil
	}
	if d.part.Total > 0 && d.part.Bytes+int64(len(data)) > d.part.Total {
		d.part.Bytes += int64(len(data))
		return 0, d.mismatch()
	}
	n, err := d.out.Write(data)
	d.part.Bytes += int64(n)
	if err != nil {
		return n, fmt.Errorf("write the download: %w", err)
	}
	if ahead := d.part.Bytes - d.written; ahead >= writebackStep {
		startWriteback(d.out, d.written, ahead)
		d.written = d.part.Bytes
	}
	d.show(time.Now())
	return n, nil
}

// rateSpan is the time over which the rate of a download is counted.
const rateSpan = 5 * time.Second

// show tells how far the file is, now and then.
func (d *download) show(now time.Time) {
	if now.Sub(d.told) < tellPeriod {
		return
	}
	d.told = now
	d.samples = append(d.samples, sample{now, d.part.Bytes})
	for len(d.samples) > 2 && now.Sub(d.samples[0].at) > rateSpan {
		d.samples = d.samples[1:]
	}
	first := d.samples[0]
	if span := now.Sub(first.at); span > 0 {
		d.shown.Rate = float64(d.part.Bytes-first.bytes) / span.Seconds()
	}
	d.shown.Bytes = d.part.Bytes
	if d.part.Total > 0 {
		d.shown.Total = d.part.Total
	}
	d.store.showDownload(d.shown)
	d.tell(Progress{File: d.file.Filename, Done: d.part.Bytes, Total: d.shown.Total})
}

// save notes how far the file is good, the bytes first.
func (d *download) save() error {
	if err := d.out.Sync(); err != nil {
		return fmt.Errorf("sync the download: %w", err)
	}
	state, err := d.hash.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return fmt.Errorf("note the download: %w", err)
	}
	d.part.Hash = state
	data, err := json.Marshal(d.part)
	if err != nil {
		return fmt.Errorf("note the download: %w", err)
	}
	return atomicfile.Write(filepath.Join(filepath.Dir(d.target), d.stateName()), data, 0o644)
}

// leave tidies up after a try that is not made again. What came stays when it
// can be trusted and continued.
func (d *download) leave(why error) error {
	e, known := errors.AsType[*Error](why)
	keep := (!known || e.Kind == Unavailable) && d.part.Bytes > 0 && (d.part.Validator != "" || d.file.wanted() != "")
	if keep {
		if err := d.save(); err == nil {
			return nil
		}
	}
	return d.discard()
}

func (d *download) discard() error {
	err := d.out.Close()
	d.out = nil
	return errors.Join(err, d.remove(d.partName()), d.remove(d.stateName()))
}

// finish verifies the whole file and gives it its name.
func (d *download) finish() error {
	d.sum = hex.EncodeToString(d.hash.Sum(nil))
	if wanted := d.file.wanted(); wanted != "" && wanted != d.sum {
		err := &Error{Kind: Corrupt, Err: fmt.Errorf("sha256 is %s, %s was promised", short(d.sum), short(wanted))}
		return errors.Join(err, d.discard())
	}
	if d.part.Bytes == 0 {
		return errors.Join(&Error{Kind: Corrupt, Err: errors.New("the server sent an empty file")}, d.discard())
	}
	if err := d.out.Sync(); err != nil {
		return fmt.Errorf("sync the download: %w", err)
	}
	err := d.out.Close()
	d.out = nil
	if err != nil {
		return fmt.Errorf("close the download: %w", err)
	}
	if err := d.folder.Rename(d.partName(), d.file.Filename); err != nil {
		return fmt.Errorf("give the download its name: %w", err)
	}
	if err := d.remove(d.stateName()); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(d.target))
}

func short(sum string) string {
	if len(sum) > 12 {
		return sum[:12] + "…"
	}
	return sum
}

func size(n uint64) string { return humanize.IBytes(n) }
