package studio

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"studioworker/studio/client"
	"studioworker/studio/store"
)

// acts are the routes by which an operator changes something, and what the audit
// log calls it. Jobs and inputs that are handed in are not there: each job has a
// record of its own.
var acts = map[string]string{
	"POST /api/v1/jobs/{id}/cancel":           "cancel job",
	"POST /api/v1/jobs/{id}/retry":            "retry job",
	"DELETE /api/v1/jobs/{id}":                "discard job",
	"POST /api/v1/jobs/retry-failed":          "retry failed jobs",
	"POST /api/v1/jobs/discard-failed":        "discard failed jobs",
	"DELETE /api/v1/workers/{id}":             "remove worker",
	"POST /api/v1/registrations/{id}/approve": "approve worker",
	"POST /api/v1/registrations/{id}/reject":  "reject worker",
	"PUT /api/v1/models/{id...}":              "change model",
	"DELETE /api/v1/models/{id...}":           "delete model",
	"PUT /api/v1/registry":                    "import models",
	"POST /api/v1/keys":                       "create key",
	"DELETE /api/v1/keys/{id}":                "revoke key",
	"POST /api/v1/webhooks":                   "add webhook",
	"DELETE /api/v1/webhooks/{id}":            "remove webhook",
	"POST /api/v1/webhooks/{id}/test":         "test webhook",
	"POST /api/v1/sign-in-links":              "make sign-in link",
}

// notActs are the operator's routes that change nothing an operator answers for.
var notActs = []string{"POST /api/v1/jobs", "POST /api/v1/inputs"}

// actor is who acts, when it is not simply whoever has the operator token.
type actor struct {
	name    string // that the person gave, may be empty
	address string
}

type actorKey struct{}

func withActor(ctx context.Context, a actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// audited notes what an operator does by the operator API.
func (s *Studio) audited(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead || !strings.HasPrefix(r.URL.Path, "/api/v1/") || !matches(bearer(r), hashed(s.token)) {
			next.ServeHTTP(w, r)
			return
		}
		rec := &recorder{ResponseWriter: w}
		next.ServeHTTP(rec, r)
		did, known := acts[r.Pattern]
		if !known {
			if r.Pattern == "/" || slices.Contains(notActs, r.Pattern) { // "/": no such route
				return
			}
			did = r.Pattern
		}
		for part, changed := range map[string]string{"/keys": changedKeys, "/models": changedModels, "/registry": changedModels, "/webhooks": changedWebhooks} {
			if strings.Contains(r.Pattern, part) && rec.status < http.StatusBadRequest {
				s.changes.touch(changed)
			}
		}
		act := store.Act{Did: did, Target: clip(r.PathValue("id"), maxName)}
		if rec.status >= http.StatusBadRequest {
			act.Failed = fmt.Sprintf("refused with status %d", rec.status)
		}
		s.noteAct(r, act)
	})
}

// noteAct writes an act of whoever sent the request to the audit log, and to the
// log in any case.
func (s *Studio) noteAct(r *http.Request, act store.Act) {
	who, ok := r.Context().Value(actorKey{}).(actor)
	if !ok {
		who = actor{name: "operator token", address: s.guard.client(r)}
	}
	act.At, act.Who, act.Address = time.Now().UTC(), clip(who.name, maxName), who.address
	ctx := context.WithoutCancel(r.Context()) // who goes away after the act has still done it
	s.cfg.Log.Info("operator act", "did", act.Did, "target", act.Target, "who", act.Who, "address", act.Address, "failed", act.Failed)
	if err := s.store.Audit.Add(ctx, act); err != nil {
		s.cfg.Log.Error("an act is missing in the audit log", "error", err)
		return
	}
	s.changes.touch(changedAudit)
}

// listAudit lists what operators did, the newest first.
func (s *Studio) listAudit(w http.ResponseWriter, r *http.Request) {
	limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
	if r.URL.Query().Get("limit") == "" {
		limit, err = 100, nil
	}
	if err != nil || limit < 1 || limit > 1000 {
		writeError(w, http.StatusBadRequest, "bad_request", "limit must be 1 to 1000")
		return
	}
	before := uint64(0)
	if text := r.URL.Query().Get("cursor"); text != "" {
		if before, err = strconv.ParseUint(text, 10, 64); err != nil || before == 0 {
			writeError(w, http.StatusBadRequest, "bad_request", "cursor must be the next of the page before")
			return
		}
	}
	found, more, err := s.store.Audit.Page(r.Context(), before, limit)
	if err != nil {
		s.internal(w, err)
		return
	}
	out := client.AuditList{Acts: []client.Act{}}
	for _, act := range found {
		out.Acts = append(out.Acts, client.Act{
			Seq: act.Seq, At: act.At, Who: act.Who, Address: act.Address, Did: act.Did, Target: act.Target, Error: act.Failed,
		})
	}
	if more {
		out.Next = strconv.FormatUint(found[len(found)-1].Seq, 10)
	}
	writeJSON(w, http.StatusOK, out)
}
