package observe

import "sync"

// Ring keeps the newest entries of a stream, numbered from 1 in the order they
// came. It is safe for concurrent use.
type Ring[T any] struct {
	// Newest holds the number of the newest entry, 0 while there is none.
	// Watching it is the change signal.
	Newest Slot[uint64]

	mu    sync.Mutex
	limit int
	items []T
	last  uint64
}

// NewRing returns an empty ring that keeps at most limit entries. limit must be
// at least 1.
func NewRing[T any](limit int) *Ring[T] {
	if limit < 1 {
		panic("observe: a ring needs room for one entry")
	}
	return &Ring[T]{limit: limit}
}

// Add appends v, dropping the oldest entry when the ring is full, and returns
// the number of v.
func (r *Ring[T]) Add(v T) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.items) == r.limit {
		copy(r.items, r.items[1:])
		r.items[len(r.items)-1] = v
	} else {
		r.items = append(r.items, v)
	}
	r.last++
	r.Newest.Set(r.last)
	return r.last
}

// Since returns the entries numbered above after, oldest first, and the number
// of the newest. A number older than the ring, or one that the ring has not
// reached (the reader outlived a restart), gives the whole ring (spec §9).
func (r *Ring[T]) Since(after uint64) ([]T, uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := uint64(len(r.items))
	first := r.last - n // the number before the oldest entry
	skip := uint64(0)
	if after > first && after <= r.last {
		skip = after - first
	}
	return append([]T(nil), r.items[skip:]...), r.last
}

// Update replaces the newest entry that match accepts by what change makes of
// it, keeps its number, and says whether there was one. Watchers of Newest are
// told.
func (r *Ring[T]) Update(match func(T) bool, change func(T) T) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.items) - 1; i >= 0; i-- {
		if match(r.items[i]) {
			r.items[i] = change(r.items[i])
			r.Newest.Set(r.last)
			return true
		}
	}
	return false
}
