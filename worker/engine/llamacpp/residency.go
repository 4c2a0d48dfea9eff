package llamacpp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"studioworker/worker/atomicfile"
	"studioworker/worker/engine"
)

// ResidencyFile is the name of the file that remembers which models are to be in memory.
const ResidencyFile = "residency.json"

// Bounds on that file.
const (
	residencyVersion = 1
	maxResidency     = 256 << 10 // bytes
	maxResidents     = 256
	maxResidentID    = 512 // bytes
)

// residency remembers which models somebody asked to have in memory, over restarts
// (engines spec §12). It reads its file when it is asked first.
type residency struct {
	path string // empty = nothing is remembered over restarts
	log  *slog.Logger

	mu     sync.Mutex
	known  bool // ids holds what the file says
	sealed bool // the file cannot be read: it is never overwritten
	ids    map[string]bool
}

// all returns the models, sorted.
func (r *residency) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read()
	return slices.Sorted(maps.Keys(r.ids))
}

// has tells whether a model is to be in memory.
func (r *residency) has(model string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read()
	return r.ids[model]
}

// set notes that a model is to be in memory, or no more, and writes that down. What
// cannot be written is said and holds until the worker ends.
func (r *residency) set(model string, resident bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read()
	if r.ids[model] == resident {
		return
	}
	if resident && (len(r.ids) == maxResidents || len(model) > maxResidentID) {
		r.log.Warn("a model is not remembered as loaded: there are too many, or its name is too long", "model", model)
		return
	}
	if resident {
		r.ids[model] = true
	} else {
		delete(r.ids, model)
	}
	if r.path == "" || r.sealed {
		return
	}
	list := slices.AppendSeq([]string{}, maps.Keys(r.ids)) // never null
	slices.Sort(list)
	data, err := json.Marshal(residencyRecord{Version: residencyVersion, Resident: list})
	if err == nil {
		err = atomicfile.Write(r.path, append(data, '\n'), 0o600)
	}
	if err != nil {
		r.log.Warn("loaded models are not remembered over a restart", "file", ResidencyFile, "error", err)
	}
}

// read reads the file once. The caller has mu.
func (r *residency) read() {
	if r.known {
		return
	}
	r.known, r.ids = true, map[string]bool{}
	if r.path == "" {
		return
	}
	data, err := readBounded(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		r.sealed = true
		r.log.Warn("loaded models are not remembered: the file cannot be read", "file", ResidencyFile, "error", err)
		return
	}
	ids, err := decodeResidency(data)
	if err != nil {
		aside := r.path + ".corrupt-" + time.Now().UTC().Format("20060102T150405Z")
		if moved := os.Rename(r.path, aside); moved != nil {
			r.sealed, err = true, errors.Join(err, moved)
		}
		r.log.Warn("the list of loaded models is damaged and was set aside", "file", filepath.Base(aside), "error", err)
		return
	}
	for _, id := range ids {
		r.ids[id] = true
	}
}

// readBounded reads one byte more than the file may have, at most.
func readBounded(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read
	return io.ReadAll(io.LimitReader(file, maxResidency+1))
}

// residencyRecord is the file's content, in the reference's shape.
type residencyRecord struct {
	Version  int      `json:"version"`
	Resident []string `json:"resident"`
}

// decodeResidency reads the file. One with another version or further fields is of a
// program that knows more than this one.
func decodeResidency(data []byte) ([]string, error) {
	if len(data) > maxResidency {
		return nil, fmt.Errorf("read %s: it has more than %d bytes", ResidencyFile, maxResidency)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var file residencyRecord
	if err := decoder.Decode(&file); err != nil {
		return nil, fmt.Errorf("read %s: %w", ResidencyFile, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: something follows its end", ResidencyFile)
	}
	if file.Version != residencyVersion {
		return nil, fmt.Errorf("read %s: version %d is not known here", ResidencyFile, file.Version)
	}
	if len(file.Resident) > maxResidents {
		return nil, fmt.Errorf("read %s: it names more than %d models", ResidencyFile, maxResidents)
	}
	for _, id := range file.Resident {
		if id == "" || len(id) > maxResidentID {
			return nil, fmt.Errorf("read %s: the name of a model has %d bytes, not 1 to %d", ResidencyFile, len(id), maxResidentID)
		}
	}
	return file.Resident, nil
}

// Restore brings the models back into memory that somebody asked for and that are not
// there, one after the other, by name. One that is not in the folder llm, or cannot be
// loaded, is said and passed over; it stays asked for. It returns when all are there, or
// ctx ends.
func (e *Engine) Restore(ctx context.Context) {
	models := e.residents.all()
	if len(models) == 0 {
		return
	}
	stems := e.Stems()
	for _, model := range models {
		switch {
		case ctx.Err() != nil:
			return
		case !slices.Contains(stems, model):
			e.cfg.Log.Info("a model that was loaded before is not known here", "model", model, "folder", Folder)
			continue
		}
		err := e.Load(ctx, model, engine.Source{Engine: ID}, func(engine.Progress) {})
		if err != nil && ctx.Err() == nil {
			e.cfg.Log.Warn("a model that was loaded before is not loaded again", "model", model, "error", err)
		}
	}
}
