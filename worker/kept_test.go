package worker

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"studioworker/worker/observe"
	"studioworker/worker/outbox"
	"studioworker/worker/session/sessiontest"
)

// A result that the studio refuses with 409 is shown, can be saved, and goes when
// the person discards it; its row then says so.
func TestKeptResultIsSavedAndDiscarded(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	s.refuses(func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "not claimed", http.StatusConflict)
		return true
	})
	f := prepare(t, approved(s), answers).start(t)
	c := s.Welcome(t)
	c.Send(t, ttsOffer("j"))
	sessiontest.Await(t, c, accepted("j"))
	shown := until(t, &f.seen.Outbox, func(o observe.Outbox) bool { return len(o.Kept) == 1 }).Kept[0]
	if shown.JobID != "j" || shown.Kind != "audio_tts" || shown.Ext != "wav" || shown.Bytes == 0 || !shown.Expires.After(shown.Since) {
		t.Errorf("shown %+v", shown)
	}
	to := filepath.Join(f.dir, "saved.wav")
	if err := f.SaveKept(shown.Key, to); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(to); err != nil || info.Size() != shown.Bytes {
		t.Errorf("saved %v, %v, want %d bytes", info, err, shown.Bytes)
	}
	if err := f.DiscardKept(shown.Key); err != nil {
		t.Fatal(err)
	}
	row := f.job(t, "j", observe.OutcomeFailed)
	if !strings.Contains(row.Error, "discarded by the person") || row.ResultPath != "" {
		t.Errorf("row %+v", row)
	}
	if err := f.DiscardKept(shown.Key); !errors.Is(err, outbox.ErrNotFound) {
		t.Errorf("discarded twice: %v", err)
	}
	if err := f.SaveKept(shown.Key, to); !errors.Is(err, outbox.ErrNotFound) {
		t.Errorf("saved after it: %v", err)
	}
}
