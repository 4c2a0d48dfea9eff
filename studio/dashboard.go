package studio

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"

	"golang.org/x/time/rate"

	"studioworker/studio/client"
	"studioworker/studio/dashboard"
	"studioworker/studio/store"
)

// notedFailures bounds how many failed sign-ins an hour the audit log takes:
// strangers must not be able to push out what operators did.
const notedFailures = 60

// newDashboard puts the dashboard on the operator API.
func (s *Studio) newDashboard(api http.Handler) (*dashboard.Dashboard, error) {
	attempts := newLimiter(signInsPerMinute)
	failures := rate.NewLimiter(rate.Every(time.Hour/notedFailures), notedFailures)
	cookie := "studio-session"
	if _, port, err := net.SplitHostPort(s.listener.Addr().String()); err == nil {
		cookie += "-" + port // browsers do not keep the cookies of two ports apart
	}
	return dashboard.New(dashboard.Config{
		API: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+s.token) // the dashboard has checked who asks
			api.ServeHTTP(w, r)
		}),
		Authentic: func(token string) bool { return matches(token, hashed(s.token)) },
		Allow: func(address string) bool {
			ok := attempts.allow(address)
			if !ok {
				s.metrics.refused.WithLabelValues(refusedRate).Inc()
			}
			return ok
		},
		Address: s.guard.client,
		Secure:  s.guard.secure,
		Body: func(w http.ResponseWriter, r *http.Request, limit int64) io.ReadCloser {
			return &patient{r: http.MaxBytesReader(bare(w), r.Body, limit), control: http.NewResponseController(w)}
		},
		As: func(ctx context.Context, name, address string) context.Context {
			return withActor(ctx, actor{name: name, address: address})
		},
		Note: func(r *http.Request, did, failed string) {
			if failed != "" {
				s.metrics.refused.WithLabelValues(refusedSignIn).Inc()
				s.cfg.Log.Warn("somebody could not sign in", "address", s.guard.client(r), "reason", failed)
				if !failures.Allow() {
					return
				}
				r = r.WithContext(withActor(r.Context(), actor{name: "unknown", address: s.guard.client(r)}))
			}
			s.noteAct(r, store.Act{Did: did, Failed: failed})
		},
		SignedOut: func() { s.hub.tellOthers(topicSignOut, "all", struct{}{}) },
		Changes:   s.changes.watch, Generation: s.changes.generation,
		Done:    s.done,
		Cookie:  cookie,
		Version: s.cfg.Version,
		Log:     s.cfg.Log,
	})
}

// makeLink makes a link to the dashboard that signs in whoever opens it first.
func (s *Studio) makeLink(w http.ResponseWriter, r *http.Request, pages *dashboard.Dashboard) {
	drain(w, r)
	path, end, err := pages.Link()
	if err != nil {
		w.Header().Set("Retry-After", "60")
		writeError(w, http.StatusTooManyRequests, "too_many_requests", err.Error())
		return
	}
	writeJSON(w, http.StatusCreated, client.SignInLink{URL: s.origin(r) + path, ExpiresAt: end.UTC()})
}
