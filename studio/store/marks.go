package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"studioworker/worker/atomicfile"
)

const (
	markFile  = "marks.json"
	maxMarks  = 1 << 20          // bytes of the file
	markEvery = 10 * time.Second // records that were lost together with their successors go unseen only this long
	readPause = time.Second      // a bucket that is being read and says nothing for so long may have no more
)

// mark is how much a stream held. Neither number ever goes down in a stream of
// records: a deleted one leaves a mark of deletion.
type mark struct {
	LastSeq uint64 `json:"lastSeq"`
	Count   uint64 `json:"count"`
}

// marks is what the streams held when it was last looked at, kept in a small
// file of its own: the server takes what is left of a damaged file for all there
// ever was.
type marks struct {
	mu       sync.Mutex
	path     string
	kept     map[string]mark   // by stream, as the file has them
	seen     map[string]uint64 // records that could be read, by stream
	verified bool              // only then the file may be replaced
}

// load reads the file. Without one there is nothing to compare with.
func (m *marks) load(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.path = filepath.Join(dir, markFile)
	f, err := os.Open(m.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the marks of the store: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, maxMarks+1))
	if err != nil {
		return fmt.Errorf("read the marks of the store: %w", err)
	}
	if m.kept, err = decodeMarks(data); err != nil {
		return fmt.Errorf("%s is damaged (%w): restore a backup, or remove the file to start without the check", m.path, err)
	}
	return nil
}

func decodeMarks(data []byte) (map[string]mark, error) {
	if len(data) > maxMarks {
		return nil, errors.New("too long")
	}
	var out map[string]mark
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, err
	}
	return out, nil
}

// read notes how many records of a stream could be read.
func (m *marks) read(stream string, n uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen == nil {
		m.seen = map[string]uint64{}
	}
	m.seen[stream] = n
}

// wasRead says whether the stream has been read.
func (m *marks) wasRead(stream string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.seen[stream]
	return ok
}

// Damage says that the store lost what it had.
type Damage struct {
	Lost   []string // each a sentence about a stream
	Backup string   // the newest backup, empty when there is none
}

func (d *Damage) Error() string {
	text := "the store is damaged: " + strings.Join(d.Lost, "; ")
	if d.Backup == "" {
		return text + "; there is no backup. Start with --accept-damage to go on with what is left"
	}
	return text + "; restore the newest backup with: studio-worker studio restore " + d.Backup +
		" (it adds what is missing), or start with --accept-damage to go on with what is left"
}

// Verify compares what could be read with what was there before, and with what
// the server says is there. What is missing is a *Damage. It reads the buckets
// that nobody has read yet; nothing must be written before it.
func (s *Store) Verify(ctx context.Context) error {
	if s.local == nil { // a cluster keeps its own
		return nil
	}
	lost, err := s.compare(ctx)
	if err != nil {
		return err
	}
	if len(lost) > 0 {
		var all []string
		for _, name := range slices.Sorted(maps.Keys(lost)) {
			all = append(all, lost[name])
		}
		if err := s.refuse(all); err != nil {
			return err
		}
	}
	s.marks.mu.Lock()
	defer s.marks.mu.Unlock()
	s.marks.kept, s.marks.verified = nil, true
	return nil
}

// compare says of each stream that lost something what it is.
func (s *Store) compare(ctx context.Context) (map[string]string, error) {
	now, err := s.measure(ctx)
	if err != nil {
		return nil, err
	}
	for _, kv := range s.kvs {
		if s.marks.wasRead(stream(kv)) {
			continue
		}
		if err := s.each(ctx, kv, ignore); err != nil {
			return nil, err
		}
	}
	s.marks.mu.Lock()
	defer s.marks.mu.Unlock()
	lost := map[string]string{}
	for name, has := range now {
		had := s.marks.kept[name]
		read, records := s.marks.seen[name]
		switch want := max(had.Count, has.Count); {
		case records && read < want:
			lost[name] = fmt.Sprintf("%s has %d of %d records, %d are missing", name, read, want, want-read)
		case had.LastSeq > has.LastSeq:
			lost[name] = fmt.Sprintf("%s ends at entry %d, it had %d", name, has.LastSeq, had.LastSeq)
		}
	}
	return lost, nil
}

// Lost refuses a store whose results a sweep found damaged, as Verify does.
func (s *Store) Lost(folders []string) error {
	if len(folders) == 0 {
		return nil
	}
	const shown = 5
	lost := fmt.Sprintf("the bytes of %d results are not all there (%s", len(folders), strings.Join(folders[:min(shown, len(folders))], ", "))
	if len(folders) > shown {
		lost += ", ..."
	}
	return s.refuse([]string{lost + ")"})
}

// refuse is the *Damage, unless the person accepts it.
func (s *Store) refuse(lost []string) error {
	if s.cfg.AcceptDamage || s.local == nil {
		s.log.Error("the store goes on with what is left", "lost", strings.Join(lost, "; "))
		return nil
	}
	backups, err := Backups(s.cfg.Dir)
	if err != nil {
		return err
	}
	damage := &Damage{Lost: lost}
	if len(backups) > 0 {
		damage.Backup = backups[0]
	}
	return damage
}

// measure asks how much each stream holds.
func (s *Store) measure(ctx context.Context) (map[string]mark, error) {
	out := map[string]mark{}
	for _, name := range s.streams() {
		str, err := s.js.Stream(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("measure %s: %w", name, err)
		}
		state := str.CachedInfo().State
		out[name] = mark{LastSeq: state.LastSeq, Count: state.Msgs}
	}
	// Results come and go: of their number nothing follows.
	results := out[resultStream]
	results.Count = 0
	out[resultStream] = results
	return out, nil
}

// keepMarks writes the file when something has changed since.
func (s *Store) keepMarks(ctx context.Context) {
	s.marks.mu.Lock()
	verified := s.marks.verified
	s.marks.mu.Unlock()
	if !verified || s.disk.refusal() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, opLimit)
	defer cancel()
	now, err := s.measure(ctx)
	if err == nil && !maps.Equal(now, s.marks.kept) {
		var data []byte
		if data, err = json.Marshal(now); err == nil {
			err = atomicfile.Write(s.marks.path, data, 0o600)
		}
	}
	if err != nil {
		s.log.Warn("the marks of the store could not be kept", "error", err)
		return
	}
	s.marks.kept = now // only watch writes it after Verify
}

// forget lets the next Verify read everything again.
func (m *marks) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen, m.kept = nil, nil
}
