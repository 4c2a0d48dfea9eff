package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"

	"github.com/nats-io/nats.go/jetstream"
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
type Bucket[T any] struct{ shards []jetstream.KeyValue }

// Entry is a record with the revision that the next Update names.
type Entry[T any] struct {
	Value    T
	Revision uint64
}

func openBucket[T any](ctx context.Context, js jetstream.JetStream, names ...string) (*Bucket[T], error) {
	b := &Bucket[T]{}
	for _, name := range names {
		kv, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: name, History: 1, Storage: jetstream.FileStorage,
		})
		if err != nil {
			return nil, fmt.Errorf("open the bucket %s: %w", name, err)
		}
		b.shards = append(b.shards, kv)
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
	for _, kv := range b.shards {
		w, err := kv.WatchAll(ctx, jetstream.IgnoreDeletes())
		if err != nil {
			return nil, nil, fmt.Errorf("read the bucket %s: %w", kv.Bucket(), err)
		}
		for more := true; more; {
			select {
			case e := <-w.Updates():
				if e == nil { // all that was there has come
					more = false
					break
				}
				entry, err := decode[T](e)
				if err != nil {
					bad = append(bad, fmt.Errorf("record %s of %s: %w", e.Key(), kv.Bucket(), err))
					break
				}
				all = append(all, entry)
			case <-ctx.Done():
				return nil, nil, errors.Join(fmt.Errorf("read the bucket %s: %w", kv.Bucket(), ctx.Err()), w.Stop())
			}
		}
		if err := w.Stop(); err != nil {
			return nil, nil, fmt.Errorf("read the bucket %s: %w", kv.Bucket(), err)
		}
	}
	return all, bad, nil
}

// Get reads one record.
func (b *Bucket[T]) Get(ctx context.Context, id string) (Entry[T], error) {
	ctx, cancel := context.WithTimeout(ctx, opLimit)
	defer cancel()
	e, err := b.shard(id).Get(ctx, id)
	if errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrInvalidKey) {
		return Entry[T]{}, ErrNotFound
	}
	if err != nil {
		return Entry[T]{}, fmt.Errorf("read the record %s: %w", id, err)
	}
	return decode[T](e)
}

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
	ctx, cancel := context.WithTimeout(ctx, opLimit)
	defer cancel()
	err := b.shard(id).Purge(ctx, id, jetstream.LastRevision(revision))
	if failed, ok := errors.AsType[*jetstream.APIError](err); ok && failed.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return fmt.Errorf("delete the record %s: %w", id, ErrConflict)
	}
	if err != nil {
		return fmt.Errorf("delete the record %s: %w", id, err)
	}
	return nil
}

func (b *Bucket[T]) write(ctx context.Context, id string, v T, put func(context.Context, jetstream.KeyValue, []byte) (uint64, error)) (uint64, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return 0, fmt.Errorf("encode the record %s: %w", id, err)
	}
	ctx, cancel := context.WithTimeout(ctx, opLimit)
	defer cancel()
	revision, err := put(ctx, b.shard(id), data)
	if errors.Is(err, jetstream.ErrKeyExists) {
		return 0, fmt.Errorf("write the record %s: %w", id, ErrConflict)
	}
	if err != nil {
		return 0, fmt.Errorf("write the record %s: %w", id, err)
	}
	return revision, nil
}

func decode[T any](e jetstream.KeyValueEntry) (Entry[T], error) {
	entry := Entry[T]{Revision: e.Revision()}
	if err := json.Unmarshal(e.Value(), &entry.Value); err != nil {
		return Entry[T]{}, fmt.Errorf("decode: %w", err)
	}
	return entry, nil
}
