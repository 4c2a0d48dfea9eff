package studio

import (
	"context"
	"io"
	"net/http"

	"studioworker/studio/store"
)

// backup sends a backup: of the records, or of all with the results.
func (s *Studio) backup(w http.ResponseWriter, r *http.Request) {
	what := r.PathValue("what")
	if what != "records" && what != "all" {
		writeError(w, http.StatusNotFound, "not_found", "there are backups of records and of all")
		return
	}
	out := &unhurried{w: w, control: http.NewResponseController(w), begin: func() {
		w.Header().Set("Content-Type", "application/gzip")
		w.Header().Set("Content-Disposition", `attachment; filename="studio.tar.gz"`)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
	}}
	if _, err := s.store.Backup(r.Context(), out, what == "all"); err != nil {
		if !out.begun {
			s.internal(w, err)
			return
		}
		s.cfg.Log.Warn("a backup was not sent to its end", "error", err)
		panic(http.ErrAbortHandler) // the receiver must not take it for whole
	}
}

// Restore adds to the data folder of a studio that does not run what a backup
// has and it has not, and says how much that was: records, and parts of results.
// What is there stays; a damaged folder is mended. A studio that runs is
// store.ErrLocked.
func Restore(ctx context.Context, cfg Config, backup io.ReadSeeker) (records, parts int, err error) {
	added, err := store.RestoreInto(ctx, store.Config{Dir: cfg.Data, Cluster: cfg.Cluster, Log: cfg.Log}, backup)
	return added.Records, added.Parts, err
}
