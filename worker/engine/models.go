package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"

	"studioworker/worker/models"
)

// Models keeps model files on this machine. models.Store is one.
type Models interface {
	// Ensure returns the files of a model, which are held until they are released,
	// and fetches those that are not here.
	Ensure(ctx context.Context, set models.Set, progress func(models.Progress)) (*models.Held, error)
	// Recheck sets damaged files of a model aside and says whether there were any.
	Recheck(ctx context.Context, set models.Set) (damaged bool, err error)
}

// Fetch is Models.Ensure for a job: it tells the job how far the download is and
// gives an error its class.
func Fetch(ctx context.Context, m Models, set models.Set, progress func(Progress)) (*models.Held, error) {
	held, err := m.Ensure(ctx, set, func(p models.Progress) {
		text := fmt.Sprintf("downloading %s, %s", p.File, humanize.IBytes(uint64(max(0, p.Done))))
		if p.Total > 0 {
			text += " of " + humanize.IBytes(uint64(p.Total))
		}
		progress(Progress{Text: text})
	})
	return held, ModelError(err)
}

// ModelError gives an error of Models its class. What is no trouble of the model
// itself is returned as it is.
func ModelError(err error) error {
	e, ok := errors.AsType[*models.Error](err)
	if !ok {
		return err
	}
	switch e.Kind {
	case models.Refused:
		return &Error{Class: ClassBadInput, Err: err}
	case models.Unavailable, models.Corrupt, models.NoRoom: // it may be had later, or by another worker
		return &Error{Class: ClassModelUnavailable, Err: err}
	default:
		return &Error{Class: ClassInternal, Err: err}
	}
}
