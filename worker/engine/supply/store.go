package supply

import (
	"context"
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"

	"studioworker/worker/engine"
	"studioworker/worker/models"
)

// store is what FromStore needs of models.Store.
type store interface {
	Ensure(ctx context.Context, set models.Set, progress func(models.Progress)) (*models.Held, error)
	Recheck(ctx context.Context, set models.Set) (damaged bool, err error)
}

// FromStore makes Models of a store of model files.
func FromStore(s store) Models { return stored{s} }

type stored struct{ store }

// Ensure fetches what is not here and holds all of it.
func (s stored) Ensure(ctx context.Context, set Set, say func(engine.Progress)) (*Held, error) {
	if say == nil {
		say = func(engine.Progress) {}
	}
	files := models.Set{Model: set.Model, Folder: set.Folder, Files: set.Files}
	held, err := s.store.Ensure(ctx, files, func(p models.Progress) { say(engine.Progress{Text: progressText(p)}) })
	if err != nil {
		return nil, modelError(err)
	}
	return &Held{Set: set, Paths: held.Paths, Release: held.Release, Doubt: func(ctx context.Context) (bool, error) {
		damaged, err := s.Recheck(ctx, files)
		if err != nil || !damaged {
			return false, modelError(err)
		}
		again, err := s.Ensure(ctx, set, say)
		if err != nil {
			return false, err
		}
		again.Release() // the paths are the same, and held already
		return true, nil
	}}, nil
}

func progressText(p models.Progress) string {
	text := fmt.Sprintf("downloading %s, %s", p.File, humanize.IBytes(uint64(max(0, p.Done))))
	if p.Total > 0 {
		text += " of " + humanize.IBytes(uint64(p.Total))
	}
	return text
}

// modelError gives an error of a store its class. What is no trouble of the model
// itself is returned as it is.
func modelError(err error) error {
	e, ok := errors.AsType[*models.Error](err)
	if !ok {
		return err
	}
	switch e.Kind {
	case models.Refused:
		return &engine.Error{Class: engine.ClassBadInput, Err: err}
	case models.Unavailable, models.Corrupt, models.NoRoom: // it may be had later, or by another worker
		return &engine.Error{Class: engine.ClassModelUnavailable, Err: err}
	default:
		return &engine.Error{Class: engine.ClassInternal, Err: err}
	}
}
