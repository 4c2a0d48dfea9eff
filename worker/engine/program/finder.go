package program

import (
	"sync"
	"time"
)

// pathMemory is how long a Finder remembers what the folders of PATH hold.
const pathMemory = 30 * time.Second

// Finder finds a program for somebody who looks every few seconds: the many
// folders of PATH, which seldom change, are searched twice a minute. The zero
// Finder is ready. It is safe for concurrent use.
type Finder struct {
	mu         sync.Mutex
	name, path string // what was searched for, and where
	found      Found
	ok         bool
	until      time.Time
}

// Find is as [Places.Find], but may take up to 30 s to notice a program that has
// come to a folder of PATH. It never returns one that is not there any more.
func (f *Finder) Find(p Places, q Query) (Found, bool) {
	if found, ok := p.findNear(q); ok {
		return found, true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	known := f.name == q.Name && f.path == p.Path && time.Now().Before(f.until)
	if !known || (f.ok && !isProgram(f.found.Path)) {
		f.name, f.path, f.until = q.Name, p.Path, time.Now().Add(pathMemory)
		f.found, f.ok = p.findOnPath(q)
	}
	return f.found, f.ok
}

// Forget makes the next Find search everything.
func (f *Finder) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.until = time.Time{}
}
