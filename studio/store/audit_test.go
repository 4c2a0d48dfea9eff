package store

import (
	"fmt"
	"log/slog"
	"testing"
	"time"
)

// TestAudit: acts are there after a restart, the newest first, page by page; one
// that cannot be read hides no other.
func TestAudit(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if acts, more, err := s.Audit.Page(t.Context(), 0, 10); len(acts) > 0 || more || err != nil {
		t.Errorf("an empty log: %v %v %v", acts, more, err)
	}
	at := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	for i := range 5 {
		if err := s.Audit.Add(t.Context(), Act{At: at, Who: "sam", Address: "192.0.2.7", Did: "approve worker", Target: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.js.Publish(t.Context(), auditStream, []byte("{half")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	acts, more, err := s.Audit.Page(t.Context(), 0, 3)
	if err != nil || !more || len(acts) != 3 || acts[0].Failed == "" || acts[0].Seq != 6 || acts[1].Target != "4" || acts[2].Target != "3" {
		t.Errorf("first page: %+v, more %v, %v", acts, more, err)
	}
	acts, more, err = s.Audit.Page(t.Context(), acts[2].Seq, 3)
	if err != nil || more || len(acts) != 3 || acts[2].Seq != 1 {
		t.Fatalf("second page: %+v, more %v, %v", acts, more, err)
	}
	if want := (Act{Seq: 1, At: at, Who: "sam", Address: "192.0.2.7", Did: "approve worker", Target: "0"}); acts[2] != want {
		t.Errorf("got %+v, want %+v", acts[2], want)
	}
	if acts, more, err = s.Audit.Page(t.Context(), 1, 3); len(acts) > 0 || more || err != nil {
		t.Errorf("past the end: %v %v %v", acts, more, err)
	}
}
