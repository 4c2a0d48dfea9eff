package supply_test

import (
	"context"
	"errors"
	"testing"

	"studioworker/worker/engine"
	"studioworker/worker/engine/supply"
	"studioworker/worker/models"
)

// shelf is a store with one outcome.
type shelf struct {
	err      error
	damaged  bool
	ensured  int
	progress models.Progress
}

func (s *shelf) Ensure(_ context.Context, set models.Set, progress func(models.Progress)) (*models.Held, error) {
	s.ensured++
	progress(s.progress)
	if s.err != nil {
		return nil, s.err
	}
	return &models.Held{Paths: []string{set.Folder + "/" + set.Files[0].Filename}}, nil
}

func (s *shelf) Recheck(context.Context, models.Set) (bool, error) { return s.damaged, s.err }

func TestFromStore(t *testing.T) {
	set := supply.Set{Model: "m", Folder: "llm", Files: []engine.File{{Role: "model", Filename: "a.gguf"}}}
	s := &shelf{progress: models.Progress{File: "a.gguf", Done: 1 << 20, Total: 2 << 20}}
	var said string
	held, err := supply.FromStore(s).Ensure(t.Context(), set, func(p engine.Progress) { said = p.Text })
	if err != nil || held.Path("model") != "llm/a.gguf" || said != "downloading a.gguf, 1.0 MiB of 2.0 MiB" {
		t.Fatalf("%v, %v; said %q", held, err, said)
	}
	if changed, err := held.Doubt(t.Context()); changed || err != nil || s.ensured != 1 {
		t.Errorf("whole files: %v, %v", changed, err)
	}
	s.damaged = true
	if changed, err := held.Doubt(t.Context()); !changed || err != nil || s.ensured != 2 {
		t.Errorf("damaged files: %v, %v", changed, err)
	}
	held.Release()
	for kind, want := range map[models.Kind]engine.Class{
		models.Refused: engine.ClassBadInput, models.Unavailable: engine.ClassModelUnavailable, models.Corrupt: engine.ClassModelUnavailable,
		models.NoRoom: engine.ClassModelUnavailable, "new": engine.ClassInternal,
	} {
		s.err = &models.Error{Kind: kind, Err: errors.New("x")}
		_, err := supply.FromStore(s).Ensure(t.Context(), set, nil)
		if e, ok := errors.AsType[*engine.Error](err); !ok || e.Class != want {
			t.Errorf("%s: %v, want %s", kind, err, want)
		}
	}
	s.err = context.Canceled
	if _, err := supply.FromStore(s).Ensure(t.Context(), set, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
}
