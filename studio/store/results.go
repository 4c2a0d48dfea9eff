package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	resultBucket = "results"
	resultStream = "OBJ_" + resultBucket
	// partBytes keeps a part below what the server queues for one stream; larger
	// objects were measured to fail when every message is synced.
	partBytes    = 32 << 20
	chunkBytes   = 512 << 10
	uploadWeight = 100 << 20        // memory that one large upload may take
	partLimit    = 5 * time.Minute  // to store one part
	ackLimit     = 15 * time.Second // for the last answers after a part was sent
	sweepLimit   = 30 * time.Second // to remove the parts of one result
	sweepAge     = 24 * time.Hour   // of what no record names, before it goes
)

// Put stores the bytes of r under folder and returns what the job's record
// needs to name them. Until a record does, the result does not exist: a caller
// whose commit fails calls Discard. size is what the sender announced, negative
// when it did not; it only decides how much memory the upload reserves, and
// Put waits for that. An error of r is returned wrapped.
func (s *Store) Put(ctx context.Context, folder string, size int64, r io.Reader) (Result, error) {
	weight := int64(uploadWeight)
	if size >= 0 && size < partBytes {
		weight = 3*size + chunkBytes
	}
	weight = min(weight, s.budget)
	if err := s.uploads.Acquire(ctx, weight); err != nil {
		return Result{}, fmt.Errorf("wait for memory: %w", err)
	}
	defer s.uploads.Release(weight)

	sum := sha256.New()
	in := &fullReader{r: io.TeeReader(r, sum)}
	out := Result{Folder: folder}
	for more := true; more; {
		part := &io.LimitedReader{R: in, N: partBytes}
		n, err := s.putPart(ctx, part, fmt.Sprintf("%s/%d", folder, out.Parts))
		if err != nil {
			return Result{}, errors.Join(err, s.Discard(ctx, out))
		}
		out.Parts++
		out.Bytes += n
		if more, err = in.more(); err != nil {
			return Result{}, errors.Join(fmt.Errorf("read the result: %w", err), s.Discard(ctx, out))
		}
	}
	out.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return out, nil
}

func (s *Store) putPart(ctx context.Context, r io.Reader, name string) (int64, error) {
	// An upload that breaks off is cleaned up by Put of the client, which needs
	// its context alive: the reader ends it, not the context.
	var info *jetstream.ObjectInfo
	err := s.guarded(context.WithoutCancel(ctx), partLimit, func(ctx context.Context) (err error) {
		// When a server dies, the answers that it owed never come: once all is sent,
		// they get only so long.
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		sent := &ender{r: r, limit: ackLimit, late: cancel}
		defer sent.stop()
		info, err = s.objects.Put(ctx, jetstream.ObjectMeta{
			Name: name, Opts: &jetstream.ObjectMetaOptions{ChunkSize: chunkBytes},
		}, sent)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("store a part of the result: %w", err)
	}
	return int64(info.Size), nil // #nosec G115 -- at most partBytes
}

// ender calls late some time after its reader has ended.
type ender struct {
	r     io.Reader
	limit time.Duration
	late  func()
	timer *time.Timer
}

func (e *ender) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err != nil && e.timer == nil {
		e.timer = time.AfterFunc(e.limit, e.late)
	}
	return n, err
}

func (e *ender) stop() {
	if e.timer != nil {
		e.timer.Stop()
	}
}

// Discard removes the parts of a result that no record names.
func (s *Store) Discard(ctx context.Context, result Result) error {
	for i := range result.Parts {
		err := s.guarded(context.WithoutCancel(ctx), sweepLimit, func(ctx context.Context) error {
			return s.objects.Delete(ctx, fmt.Sprintf("%s/%d", result.Folder, i))
		})
		if err != nil && !errors.Is(err, jetstream.ErrObjectNotFound) {
			return fmt.Errorf("remove a part of a result: %w", err)
		}
	}
	return nil
}

// Copy writes the bytes of a result to w, a part at a time, each only after its
// digest was checked. Before the first byte an error means that w is untouched.
func (s *Store) Copy(ctx context.Context, w io.Writer, result Result) error {
	weight := min(3*min(result.Bytes, partBytes)+chunkBytes, s.budget)
	if err := s.reads.Acquire(ctx, weight); err != nil {
		return fmt.Errorf("wait for memory: %w", err)
	}
	defer s.reads.Release(weight)
	for i := range result.Parts {
		data, err := s.part(ctx, fmt.Sprintf("%s/%d", result.Folder, i))
		if err != nil {
			return err
		}
		if _, err := w.Write(data); err != nil {
			return fmt.Errorf("send a part of the result: %w", err)
		}
	}
	return nil
}

func (s *Store) part(ctx context.Context, name string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, partLimit)
	defer cancel()
	data, err := s.objects.GetBytes(ctx, name)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil, fmt.Errorf("part %s of the result: %w", name, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read part %s of the result: %w", name, err)
	}
	return data, nil
}

// Swept is what a sweep did and found.
type Swept struct {
	Parts, Chunks int      // removed
	Damaged       []string // folders that do not have all they should
}

// Sweep removes what unfinished uploads left: parts in a folder that is not in
// keep, and chunks of parts that were never closed. keep says how many parts a
// folder has; one that lacks any, or whose parts lack chunks, is damaged. In a
// store that no other process uses it must not run while a Put does; in another
// it leaves alone what is younger than a day.
func (s *Store) Sweep(ctx context.Context, keep map[string]int) (Swept, error) {
	var out Swept
	objects, err := s.objects.List(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoObjectsFound) {
		return out, fmt.Errorf("list the results: %w", err)
	}
	known := make(map[string]part, len(objects)) // by the name of its chunks
	whole := make(map[string]int, len(keep))     // parts found, by folder
	for _, o := range objects {
		folder := ""
		if i := strings.LastIndexByte(o.Name, '/'); i >= 0 {
			folder = o.Name[:i]
		}
		if _, ok := keep[folder]; ok {
			whole[folder]++
		} else if s.leftover(o.ModTime) {
			if err := s.objects.Delete(ctx, o.Name); err != nil {
				return out, fmt.Errorf("remove the leftover %s: %w", o.Name, err)
			}
			out.Parts++
			continue
		}
		known[o.NUID] = part{folder, o.Chunks}
	}
	stream, err := s.js.Stream(ctx, resultStream)
	if err != nil {
		return out, fmt.Errorf("list the results: %w", err)
	}
	const prefix = "$O." + resultBucket + ".C."
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(prefix+">"))
	if err != nil {
		return out, fmt.Errorf("list the chunks: %w", err)
	}
	for subject, n := range info.State.Subjects {
		id := strings.TrimPrefix(subject, prefix)
		if p, ok := known[id]; ok {
			if n == uint64(p.chunks) {
				delete(known, id)
			}
			continue
		}
		if last, err := stream.GetLastMsgForSubject(ctx, subject); err == nil && !s.leftover(last.Time) {
			continue
		}
		if err := stream.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
			return out, fmt.Errorf("remove leftover chunks: %w", err)
		}
		out.Chunks++
	}
	for _, p := range known { // their chunks are not all there
		if p.chunks > 0 {
			whole[p.folder] = -1
		}
	}
	for folder, parts := range keep {
		if whole[folder] != parts {
			out.Damaged = append(out.Damaged, folder)
		}
	}
	slices.Sort(out.Damaged)
	return out, nil
}

// part is where a part of a result belongs, and how many chunks it has.
type part struct {
	folder string
	chunks uint32
}

// leftover says whether something that no record names is nobody's: another
// process may be about to write that record.
func (s *Store) leftover(since time.Time) bool { return s.local != nil || time.Since(since) > sweepAge }

// fullReader fills every buffer it is given: each read becomes one stored and
// synced chunk, and a network hands out much smaller pieces.
type fullReader struct {
	r     io.Reader
	ahead []byte // one byte that more has read
	err   error
}

func (f *fullReader) Read(p []byte) (int, error) {
	n := copy(p, f.ahead)
	f.ahead = f.ahead[n:]
	for n < len(p) && f.err == nil {
		var m int
		m, f.err = f.r.Read(p[n:])
		n += m
	}
	if n > 0 {
		return n, nil
	}
	return 0, f.err
}

// more says whether there is another byte.
func (f *fullReader) more() (bool, error) {
	one := make([]byte, 1)
	n, err := f.Read(one)
	f.ahead = one[:n]
	if n == 0 && !errors.Is(err, io.EOF) {
		return false, err
	}
	return n > 0, nil
}
