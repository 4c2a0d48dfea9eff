// Package supply says what engines get from outside for a job: the files of its
// model, and the pictures and sounds that it names. The worker fills it.
package supply

import (
	"context"
	"strings"

	"studioworker/worker/engine"
)

// Set is the files of one model.
type Set struct {
	Model string
	// Folder of the models folder; empty means one for this model.
	Folder string
	Files  []engine.File
}

// Held are the files of a set on this machine. They stay there until Release.
type Held struct {
	Set   Set
	Paths []string // in the order of the set's files
	// Doubt checks the files against their sums, sets aside what is bad and fetches
	// it anew. It tells whether anything changed. It may be nil.
	Doubt func(ctx context.Context) (changed bool, err error)
	// Release is called once, when the job is over.
	Release func()
}

// Path returns the first file with a role, or nothing.
func (h *Held) Path(role string) string {
	for i, file := range h.Set.Files {
		if file.Role == role {
			return h.Paths[i]
		}
	}
	return ""
}

// PathSuffix returns the first file with a role whose name ends with suffix,
// whatever its case, or nothing.
func (h *Held) PathSuffix(role, suffix string) string {
	for i, file := range h.Set.Files {
		if file.Role == role && strings.HasSuffix(strings.ToLower(file.Filename), suffix) {
			return h.Paths[i]
		}
	}
	return ""
}

// Models brings the files of models here (engines spec §3). The errors have a
// class.
type Models interface {
	Ensure(ctx context.Context, set Set, say func(engine.Progress)) (*Held, error)
}

// Inputs fetches what a job names, within limits (engines spec §3.1). The errors
// have a class.
type Inputs interface {
	// Image fetches a picture into dir and returns its path. Its name is base with
	// the extension of its real format, one of jpg, png, webp, gif and bmp.
	Image(ctx context.Context, url, dir, base string) (string, error)
	// Audio fetches a sound into dir and returns its path, named base with the
	// extension of the address.
	Audio(ctx context.Context, url, dir, base string) (string, error)
}
