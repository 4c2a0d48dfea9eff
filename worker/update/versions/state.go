package versions

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"studioworker/worker/atomicfile"
	"studioworker/worker/update/feed"
)

const (
	stateName   = "update.json"
	stateSchema = 1
	maxState    = 64 << 10 // bytes of update.json
	maxBad      = 64       // releases that are remembered as bad; the oldest go
	maxReason   = 300      // bytes of why one is
)

// State is what update.json holds.
type State struct {
	Epoch     uint64     // of the last keys that were believed
	HighSeq   uint64     // no release before this one is taken
	Active    *Version   // what is run; nil = the installed program
	Previous  *Version   // what was run before it; nil = the installed program
	Candidate *Candidate // what is to be tried at the next start, or is tried now
	Bad       []Bad      // releases that failed here, the oldest first
}

// Version is one version in the folder versions.
type Version struct {
	Version string `json:"version"`
	Seq     uint64 `json:"seq"`
	SHA256  string `json:"sha256"` // of the program, 64 hex digits
}

// Candidate is a version that has not proved itself.
type Candidate struct {
	Version
	Notes string `json:"notes,omitempty"`
	Bytes int64  `json:"bytes,omitempty"` // of its archive
	Tries int    `json:"tries"`           // starts that did not end in good order
	// Before is what the version before it left; nil = it did not say.
	Before *Before `json:"before,omitempty"`
}

// Before is what a version leaves to the next.
type Before struct {
	Connected bool `json:"connected"` // to its studio
	Results   int  `json:"results"`   // in the outbox, those that were not taken too
}

// Bad is a release that failed here and is not tried again.
type Bad struct {
	Seq     uint64    `json:"seq"`
	Version string    `json:"version"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// Held finds a release among those that failed here.
func (s State) Held(seq uint64) (Bad, bool) {
	i := slices.IndexFunc(s.Bad, func(b Bad) bool { return b.Seq == seq })
	if i < 0 {
		return Bad{}, false
	}
	return s.Bad[i], true
}

// Hold remembers a release as bad.
func (s *State) Hold(v Version, reason string, at time.Time) {
	if _, held := s.Held(v.Seq); held {
		return
	}
	reason = strings.ToValidUTF8(reason[:min(len(reason), maxReason)], "")
	s.Bad = append(s.Bad, Bad{Seq: v.Seq, Version: v.Version, Reason: reason, At: at.UTC().Truncate(time.Second)})
	s.Bad = s.Bad[max(0, len(s.Bad)-maxBad):]
}

// Promote makes the candidate the version that is run.
func (s *State) Promote() {
	s.Previous, s.Active, s.Candidate = s.Active, &s.Candidate.Version, nil
}

type wireState struct {
	Schema    int        `json:"schema"`
	Epoch     uint64     `json:"epoch"`
	HighSeq   uint64     `json:"highSeq"`
	Active    *Version   `json:"active,omitempty"`
	Previous  *Version   `json:"previous,omitempty"`
	Candidate *Candidate `json:"candidate,omitempty"`
	Bad       []Bad      `json:"bad,omitempty"`
}

func (s State) encode() ([]byte, error) {
	text, err := json.MarshalIndent(wireState{
		stateSchema, s.Epoch, s.HighSeq, s.Active, s.Previous, s.Candidate, s.Bad,
	}, "", "  ")
	return append(text, '\n'), err
}

var errDamaged = errors.New("update.json is damaged")

func decode(text []byte) (State, error) {
	var w wireState
	if len(text) > maxState {
		return State{}, fmt.Errorf("%w: it is too long", errDamaged)
	}
	if err := json.Unmarshal(text, &w); err != nil {
		return State{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if w.Schema != stateSchema || len(w.Bad) > maxBad {
		return State{}, fmt.Errorf("%w: schema %d, %d releases held", errDamaged, w.Schema, len(w.Bad))
	}
	named := []*Version{w.Active, w.Previous}
	if c := w.Candidate; c != nil {
		named = append(named, &c.Version)
		if c.Tries < 0 || c.Bytes < 0 || len(c.Notes) > feed.MaxNotes || c.Before != nil && c.Before.Results < 0 {
			return State{}, fmt.Errorf("%w: the candidate", errDamaged)
		}
	}
	for _, v := range named {
		if v != nil && !v.good() {
			return State{}, fmt.Errorf("%w: version %.70q", errDamaged, v.Version)
		}
	}
	return State{w.Epoch, w.HighSeq, w.Active, w.Previous, w.Candidate, w.Bad}, nil
}

func (v Version) good() bool {
	clean, ok := feed.ParseTag(v.Version)
	return ok && clean == v.Version && len(v.SHA256) == 64 && strings.Trim(v.SHA256, "0123456789abcdef") == ""
}

// Read returns what update.json says. A missing file stands for nothing but the
// installed program. So does a damaged one, which is set aside with a line in the log.
func (s *Store) Read() (State, error) {
	unlock, err := s.lock()
	if err != nil {
		return State{}, err
	}
	defer unlock()
	return s.read()
}

func (s *Store) read() (State, error) {
	path := filepath.Join(s.dir, stateName)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil
	}
	if err != nil {
		return State{}, fmt.Errorf("read the state of updates: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return State{}, fmt.Errorf("read the state of updates: %w", err)
	}
	state, err := decode(text)
	if err == nil {
		return state, nil
	}
	aside := path + ".corrupt-" + time.Now().UTC().Format("20060102T150405Z")
	s.log.Error("the state of updates is damaged: the installed program is run", "error", err, "kept_as", aside)
	if err := os.Rename(path, aside); err != nil {
		return State{}, fmt.Errorf("set the damaged state of updates aside: %w", err)
	}
	return State{}, nil
}

// Change changes update.json as one step. When change returns an error, nothing is
// written and Change returns it.
func (s *Store) Change(change func(*State) error) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	state, err := s.read()
	if err != nil {
		return err
	}
	if err := change(&state); err != nil {
		return err
	}
	text, err := state.encode()
	if err != nil {
		return fmt.Errorf("write the state of updates: %w", err)
	}
	if _, err := decode(text); err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(s.dir, stateName), text, 0o600); err != nil {
		return fmt.Errorf("write the state of updates: %w", err)
	}
	return nil
}
