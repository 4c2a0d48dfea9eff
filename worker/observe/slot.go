package observe

import (
	"context"
	"iter"
	"sync"
)

// Slot holds the latest value of one fact. The zero Slot holds the zero value
// and is ready for use. It is safe for concurrent use.
type Slot[T any] struct {
	mu   sync.Mutex
	val  T
	subs map[chan T]struct{}
}

// Get returns the latest value.
func (s *Slot[T]) Get() T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.val
}

// Set replaces the value and tells every watcher. It never blocks.
func (s *Slot[T]) Set(v T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.val = v
	s.tell()
}

// Update replaces the value by what change makes of it, as one step, and
// returns the new value. change must not call the slot.
func (s *Slot[T]) Update(change func(T) T) T {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.val = change(s.val)
	s.tell()
	return s.val
}

// tell hands the value to every watcher. Callers hold mu.
func (s *Slot[T]) tell() {
	for ch := range s.subs { // each has room for one, and all sends happen under mu
		select {
		case <-ch: // drop the stale value: the newest wins
		default:
		}
		ch <- s.val
	}
}

// Watch yields the current value, then each newer one, until ctx ends or the
// loop breaks. A slow loop skips values but always sees the newest.
func (s *Slot[T]) Watch(ctx context.Context) iter.Seq[T] {
	return func(yield func(T) bool) {
		ch := make(chan T, 1)
		s.mu.Lock()
		if s.subs == nil {
			s.subs = make(map[chan T]struct{})
		}
		s.subs[ch] = struct{}{}
		ch <- s.val
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			delete(s.subs, ch)
			s.mu.Unlock()
		}()
		for {
			select {
			case <-ctx.Done():
				return
			case v := <-ch:
				if ctx.Err() != nil || !yield(v) {
					return
				}
			}
		}
	}
}
