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
	items []T // circular once it holds limit entries: the oldest is at (last-gone) % limit
	last  uint64
	gone  uint64 // number of the newest entry that Clear took out
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
	if len(r.items) < r.limit {
		r.items = append(r.items, v)
	} else {
		r.items[r.at(0)] = v
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
	if skip == n {
		return nil, r.last
	}
	newer := make([]T, 0, n-skip)
	for i := skip; i < n; i++ {
		newer = append(newer, r.items[r.at(i)])
	}
	return newer, r.last
}

// at returns where the i-th oldest entry lies.
func (r *Ring[T]) at(i uint64) uint64 {
	if len(r.items) < r.limit {
		return i
	}
	return (r.last - r.gone + i) % uint64(r.limit)
}

// Clear takes all entries out. The numbers go on; watchers of Newest are told.
func (r *Ring[T]) Clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.items, r.gone = nil, r.last
	r.Newest.Set(r.last)
}

// Update replaces the newest entry that match accepts by what change makes of
// it, keeps its number, and says whether there was one. Watchers of Newest are
// told.
func (r *Ring[T]) Update(match func(T) bool, change func(T) T) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := uint64(len(r.items)); n > 0; n-- {
		i := r.at(n - 1)
		if match(r.items[i]) {
			r.items[i] = change(r.items[i])
			r.Newest.Set(r.last)
			return true
		}
	}
	return false
}
