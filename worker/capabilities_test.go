package worker

import (
	"testing"

	"studioworker/gpu"
	"studioworker/worker/observe"
)

// TestCardNotesHaveReasons: what package gpu words has a reason, what a driver says
// has none.
func TestCardNotesHaveReasons(t *testing.T) {
	for note, want := range map[string]observe.Reason{
		gpu.NoteUnified:  observe.ReasonUnified,
		gpu.NoteUntold:   observe.ReasonUntold,
		gpu.NoteNoDriver: observe.ReasonNoDriver,
		"GPU is lost":    observe.ReasonUnknown,
	} {
		if got := memoryUnknown(note); got != want {
			t.Errorf("%s: %q, want %q", note, got, want)
		}
	}
}
