package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

// Errors that callers branch on.
var (
	// ErrConflict: the record changed since the given revision, or exists already.
	ErrConflict = errors.New("the record was changed by another writer")
	// ErrNotFound: there is no such record or result.
	ErrNotFound = errors.New("not found")
)

// Bucket holds records of one kind, each under its id. An id is made of
// letters, digits and -_=./ only.
type Bucket[T any] struct {
	store  *Store
	shards []jetstream.KeyValue
	read   []*atomic.Uint64 // by shard, the revision up to which All has read
	parse  func(data []byte, v *T) error
}

// Entry is a record with the revision that the next Update names.
type Entry[T any] struct {
	Value    T
	Revision uint64
}

func openBucket[T any](ctx context.Context, s *Store, names ...string) (*Bucket[T], error) {
	b := &Bucket[T]{store: s, parse: func(data []byte, v *T) error { return json.Unmarshal(data, v) }}
	for _, name := range names {
		var kv jetstream.KeyValue
		var err error
		if s.local == nil {
			kv, err = s.openShared(ctx, name)
		} else {
			kv, err = s.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: name, History: 1, Storage: jetstream.FileStorage})
		}
		if err != nil {
			return nil, fmt.Errorf("open the bucket %s: %w", name, err)
		}
		b.shards = append(b.shards, kv)
		s.kvs = append(s.kvs, kv)
		b.read = append(b.read, new(atomic.Uint64))
	}
	return b, nil
}

func (b *Bucket[T]) shard(id string) jetstream.KeyValue {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // a hash never fails
	return b.shards[h.Sum32()%uint32(len(b.shards))]
}

// All returns every record, and for each that cannot be read an error in bad.
func (b *Bucket[T]) All(ctx context.Context) (all []Entry[T], bad []error, err error) {
	var mu sync.Mutex
	bad, err = b.Each(ctx, func(e Entry[T]) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, e)
	})
	if err != nil {
		return nil, nil, err
	}
	return all, bad, nil
}

// Each calls f with every record, and returns an error in bad for each that
// cannot be read. Shards are read side by side, so calls of f may overlap.
func (b *Bucket[T]) Each(ctx context.Context, f func(Entry[T])) (bad []error, err error) {
	return b.eachEntry(ctx, func(_ int, e jetstream.KeyValueEntry) error {
		entry, err := b.decode(e)
		if err == nil {
			f(entry)
		}
		return err
	})
}

// eachEntry calls f with every record and the number of its shard. An error of f
// goes to bad. Calls of f overlap for records of different shards.
func (b *Bucket[T]) eachEntry(ctx context.Context, f func(shard int, e jetstream.KeyValueEntry) error) (bad []error, err error) {
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	for i, kv := range b.shards {
		group.Go(func() error {
			return b.store.each(ctx, kv, func(e jetstream.KeyValueEntry) error {
				b.read[i].Store(max(b.read[i].Load(), e.Revision()))
				if e.Operation() != jetstream.KeyValuePut {
					return nil
				}
				if err := f(i, e); err != nil {
					mu.Lock()
					defer mu.Unlock()
					bad = append(bad, fmt.Errorf("record %s of %s: %w", e.Key(), kv.Bucket(), err))
				}
				return nil
			})
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return bad, nil
}

// each calls f with all that a bucket holds, marks of deletion included, and
// notes how much that was.
func (s *Store) each(ctx context.Context, kv jetstream.KeyValue, f func(jetstream.KeyValueEntry) error) (err error) {
	w, err := kv.WatchAll(ctx)
	if err != nil {
		return fmt.Errorf("read the bucket %s: %w", kv.Bucket(), err)
	}
	defer func() {
		if stopErr := w.Stop(); err == nil && stopErr != nil {
			err = fmt.Errorf("read the bucket %s: %w", kv.Bucket(), stopErr)
		}
	}()
	// When the last record is damaged, the word that all have come does not.
	quiet := time.NewTimer(readPause)
	defer quiet.Stop()
	n, last := uint64(0), uint64(0)
	for {
		select {
		case e := <-w.Updates():
			if e == nil { // all that was there has come
				s.marks.read(stream(kv), n)
				return nil
			}
			if err := f(e); err != nil {
				return err
			}
			n, last = n+1, e.Revision()
			quiet.Reset(readPause)
		case <-quiet.C:
			if s.allRead(ctx, stream(kv), last) {
				s.marks.read(stream(kv), n)
				return nil
			}
			quiet.Reset(readPause)
		case <-ctx.Done():
			return fmt.Errorf("read the bucket %s: %w", kv.Bucket(), ctx.Err())
		}
	}
}

// allRead says whether nothing after the entry last can be read.
func (s *Store) allRead(ctx context.Context, name string, last uint64) bool {
	str, err := s.js.Stream(ctx, name)
	if err != nil {
		return false
	}
	for seq := str.CachedInfo().State.LastSeq; seq > last; seq-- {
		_, err := str.GetMsg(ctx, seq)
		if _, unreadable := errors.AsType[*jetstream.APIError](err); !unreadable && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return false // it is there, or nobody knows
		}
	}
	return true
}

// stream names the stream beneath a bucket.
func stream(kv jetstream.KeyValue) string { return "KV_" + kv.Bucket() }

// Get reads one record.
func (b *Bucket[T]) Get(ctx context.Context, id string) (Entry[T], error) {
	if len(id) > maxKey {
		return Entry[T]{}, ErrNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, opLimit)
	defer cancel()
	e, err := b.shard(id).Get(ctx, id)
	if errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrInvalidKey) {
		return Entry[T]{}, ErrNotFound
	}
	if err != nil {
		return Entry[T]{}, fmt.Errorf("read the record %s: %w", id, err)
	}
	return b.decode(e)
}

// maxKey bounds an id, in bytes. A server hangs up on a client that sends a line of
// more than 4096 bytes, and all others of the process are on the same connection.
const maxKey = 2048

// Create writes a new record and returns its revision. An id that is taken is
// ErrConflict.
func (b *Bucket[T]) Create(ctx context.Context, id string, v T) (uint64, error) {
	return b.write(ctx, id, v, func(ctx context.Context, kv jetstream.KeyValue, data []byte) (uint64, error) {
		return kv.Create(ctx, id, data)
	})
}

// Update replaces the record if it still has the given revision, and returns
// the new one. Otherwise the error is ErrConflict.
func (b *Bucket[T]) Update(ctx context.Context, id string, v T, revision uint64) (uint64, error) {
	return b.write(ctx, id, v, func(ctx context.Context, kv jetstream.KeyValue, data []byte) (uint64, error) {
		return kv.Update(ctx, id, data, revision)
	})
}

// Delete removes the record if it still has the given revision. Otherwise the
// error is ErrConflict.
func (b *Bucket[T]) Delete(ctx context.Context, id string, revision uint64) error {
	err := b.store.guarded(ctx, opLimit, func(ctx context.Context) error {
		return b.shard(id).Purge(ctx, id, jetstream.LastRevision(revision))
	})
	if conflicts(err) {
		return fmt.Errorf("delete the record %s: %w", id, ErrConflict)
	}
	if err != nil {
		return fmt.Errorf("delete the record %s: %w", id, err)
	}
	return nil
}

func (b *Bucket[T]) write(ctx context.Context, id string, v T, put func(context.Context, jetstream.KeyValue, []byte) (uint64, error)) (revision uint64, err error) {
	if len(id) > maxKey {
		return 0, fmt.Errorf("write the record %.64s: the id has more than %d bytes", id, maxKey)
	}
	data, err := json.Marshal(v)
	if err != nil {
		return 0, fmt.Errorf("encode the record %s: %w", id, err)
	}
	err = b.store.guarded(ctx, opLimit, func(ctx context.Context) (err error) {
		revision, err = put(ctx, b.shard(id), data)
		return err
	})
	if conflicts(err) {
		return 0, fmt.Errorf("write the record %s: %w", id, ErrConflict)
	}
	if err != nil {
		return 0, fmt.Errorf("write the record %s: %w", id, err)
	}
	return revision, nil
}

// conflicts says whether another writer was faster, or is about to be.
func conflicts(err error) bool {
	const onItsWay = 10164 // a cluster has taken another write, which cannot be read yet
	if failed, ok := errors.AsType[*jetstream.APIError](err); ok &&
		(failed.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || failed.ErrorCode == onItsWay) {
		return true
	}
	return errors.Is(err, jetstream.ErrKeyExists)
}

func (b *Bucket[T]) decode(e jetstream.KeyValueEntry) (Entry[T], error) {
	entry := Entry[T]{Revision: e.Revision()}
	if err := b.parse(e.Value(), &entry.Value); err != nil {
		return Entry[T]{}, fmt.Errorf("decode: %w", err)
	}
	return entry, nil
}
