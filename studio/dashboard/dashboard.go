package dashboard

import (
	"context"
	"embed"
	"errors"
	"html/template"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// Config says what a dashboard stands on.
type Config struct {
	API       http.Handler              // the operator API, which trusts these calls
	Authentic func(token string) bool   // is it the operator's token
	Allow     func(address string) bool // may this address try to sign in now
	Address   func(*http.Request) string
	Secure    func(*http.Request) bool // the browser came over TLS
	// Body reads a large body for as long as it moves, at most limit bytes.
	Body func(w http.ResponseWriter, r *http.Request, limit int64) io.ReadCloser
	// As marks a request as that of a person who signed in.
	As func(ctx context.Context, name, address string) context.Context
	// Note writes to the audit log that somebody signed in, or was refused.
	Note func(r *http.Request, did, failed string)
	// Generation numbers the state of the studio; Changes yields when one of the
	// parts has changed since a generation, and each time after that.
	Generation func() uint64
	Changes    func(ctx context.Context, since uint64, parts []string) iter.Seq[struct{}]
	Done       <-chan struct{} // closed when the studio stops
	// SignedOut tells other processes of the studio that all sessions have ended.
	SignedOut func()
	Cookie    string // name of the session's cookie
	Version   string
	Log       *slog.Logger
}

// Dashboard serves the pages.
type Dashboard struct {
	cfg      Config
	mux      *http.ServeMux
	pages    map[string]*template.Template
	sessions *sessions
	streams  chan struct{} // a seat for each page that is kept up to date
}

const maxStreams = 256

//go:embed static templates
var files embed.FS

// New returns a dashboard; nothing runs until requests come.
func New(cfg Config) (*Dashboard, error) {
	if cfg.API == nil || cfg.Log == nil || cfg.Cookie == "" {
		return nil, errors.New("the dashboard lacks the API, the log or the cookie's name")
	}
	d := &Dashboard{cfg: cfg, sessions: newSessions(), streams: make(chan struct{}, maxStreams)}
	var err error
	if d.pages, err = parsePages(); err != nil {
		return nil, err
	}
	d.routes()
	return d, nil
}

func (d *Dashboard) routes() {
	d.mux = http.NewServeMux()
	static, err := fs.Sub(files, "static")
	if err != nil {
		panic(err) // the folder is embedded
	}
	assets := http.StripPrefix("/assets/", http.FileServerFS(static))
	d.mux.HandleFunc("GET /assets/{file}", func(w http.ResponseWriter, r *http.Request) {
		if !fs.ValidPath(r.PathValue("file")) {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Cache-Control", "no-cache") // the program may be another tomorrow
		assets.ServeHTTP(w, r)
	})
	d.mux.HandleFunc("GET /sign-in", d.signInPage)
	d.mux.HandleFunc("POST /sign-in", d.signIn)
	page := func(pattern string, handler func(http.ResponseWriter, *http.Request, *visit)) {
		d.mux.HandleFunc(pattern, d.signedIn(handler, false))
	}
	upload := func(pattern string, handler func(http.ResponseWriter, *http.Request, *visit)) {
		d.mux.HandleFunc(pattern, d.signedIn(handler, true))
	}
	page("GET /{$}", d.overview)
	page("GET /workers", d.workers)
	page("GET /workers/{id}", d.worker)
	page("GET /registrations", d.registrations)
	page("GET /jobs", d.jobs)
	page("GET /jobs/new", d.newJob)
	page("GET /jobs/failed", d.failedJobs)
	page("GET /jobs/{id}", d.job)
	page("GET /jobs/{id}/result", d.result)
	page("GET /jobs/{id}/events", d.follow)
	page("GET /models", d.models)
	page("GET /models/edit", d.editModel)
	page("GET /models/export", d.exportModels)
	page("GET /keys", d.keys)
	page("GET /webhooks", d.webhooks)
	page("GET /sessions", d.signedInPage)
	page("GET /audit", d.audit)
	page("GET /live", d.live)
	page("POST /sign-out", d.signOut)
	page("POST /sessions/end", d.signOutEverywhere)
	page("POST /veil", d.setVeil)
	page("POST /registrations/{id}/approve", d.approve)
	page("POST /registrations/{id}/reject", d.reject)
	page("POST /workers/{id}/remove", d.removeWorker)
	upload("POST /jobs/new", d.submitJob)
	page("POST /jobs/{id}/cancel", d.cancelJob)
	page("POST /jobs/{id}/again", d.runAgain)
	page("POST /jobs/{id}/discard", d.discardJob)
	page("POST /jobs/failed/retry", d.retryFailed)
	page("POST /jobs/failed/discard", d.discardFailed)
	page("POST /models/edit", d.saveModel)
	page("POST /models/remove", d.removeModel)
	upload("POST /models/import", d.importModels)
	page("POST /webhooks", d.createWebhook)
	page("POST /webhooks/{id}/test", d.testWebhook)
	page("POST /webhooks/{id}/remove", d.removeWebhook)
	page("POST /keys", d.createKey)
	page("POST /keys/{id}/revoke", d.revokeKey)
}

// Has says whether the request is for a page of the dashboard.
func (d *Dashboard) Has(r *http.Request) bool {
	_, pattern := d.mux.Handler(r)
	return pattern != ""
}

// policy lets a page load what the studio itself serves, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; connect-src 'self'; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// ServeHTTP serves a page.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	protect(w.Header())
	d.mux.ServeHTTP(w, r)
}

func protect(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// NotFound is the page for an address that nothing is at.
func (d *Dashboard) NotFound(w http.ResponseWriter, r *http.Request) {
	protect(w.Header())
	d.fail(&visit{r: r, w: w, session: d.session(r)}, http.StatusNotFound, "There is nothing at this address.")
}

// visit is one request of somebody who has signed in.
type visit struct {
	w       http.ResponseWriter
	r       *http.Request
	session *session // nil on pages for everybody
	since   uint64   // the generation that the page will show, or an older one
	veiled  bool     // prompts and results are not shown
}

// live reports whether the script asks, to bring a page up to date.
func (v *visit) live() bool { return v.r.Header.Get("X-Live") != "" }

// signedIn lets only people through who have signed in; forms must carry the
// session's token. A form in parts is only read where one with a file is taken: there
// the handler looks for the token itself.
func (d *Dashboard) signedIn(next func(http.ResponseWriter, *http.Request, *visit), uploads bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := d.session(r)
		if s == nil {
			if r.Method != http.MethodGet || r.Header.Get("X-Live") != "" || r.URL.Path == "/live" {
				d.fail(&visit{w: w, r: r}, http.StatusUnauthorized, "You are signed out. Sign in and try again.")
				return
			}
			http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
			return
		}
		v := &visit{w: w, r: r.WithContext(d.cfg.As(r.Context(), s.name, d.cfg.Address(r))), session: s, since: d.cfg.Generation(), veiled: d.veiled(r)}
		inParts := uploads && strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data")
		if r.Method == http.MethodPost && !inParts {
			if !d.readForm(v, maxForm) || !d.checkToken(v, v.r.PostForm.Get("csrf")) {
				return
			}
		}
		next(w, v.r, v)
	}
}

const (
	maxForm    = 4 << 20  // bytes; a job's text with every character escaped
	maxSignIn  = 16 << 10 // bytes
	pageLimit  = 30 * time.Second
	formFailed = "The form could not be read: it is too large or was cut off."
)

func (d *Dashboard) readForm(v *visit, limit int64) bool {
	v.r.Body = d.cfg.Body(v.w, v.r, limit)
	if err := v.r.ParseForm(); err != nil {
		status := http.StatusBadRequest
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			status = http.StatusRequestEntityTooLarge
		}
		d.fail(v, status, formFailed)
		return false
	}
	return true
}

// checkToken refuses a form that did not come from a page of this session.
func (d *Dashboard) checkToken(v *visit, token string) bool {
	if !v.session.owns(token) {
		d.fail(v, http.StatusForbidden, "This form is from another sign-in. Open the page again and repeat it.")
		return false
	}
	return true
}
