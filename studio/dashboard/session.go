package dashboard

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	idleLimit    = 12 * time.Hour     // a session that nobody uses ends
	sessionLimit = 7 * 24 * time.Hour // and every session ends
	codeLimit    = time.Minute        // a sign-in link is good for this long
	maxSessions  = 1000
	maxCodes     = 100
	maxPerson    = 60 // characters of the name that a person gives
)

// session is a browser that has signed in.
type session struct {
	name  string // that the person gave
	csrf  string
	begun time.Time

	mu    sync.Mutex
	used  time.Time
	flash *flash // shown once on the next page
}

// flash is a line that tells what the last form did.
type flash struct {
	Text string
	Bad  bool
}

func (s *session) say(text string, bad bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flash = &flash{text, bad}
}

func (s *session) takeFlash() *flash {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.flash
	s.flash = nil
	return f
}

// owns compares a form's token in constant time.
func (s *session) owns(token string) bool {
	return subtle.ConstantTimeCompare([]byte(token), []byte(s.csrf)) == 1
}

// over says whether the session has ended, and otherwise notes that it is used.
func (s *session) over(now time.Time, use bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.used) > idleLimit || now.Sub(s.begun) > sessionLimit {
		return true
	}
	if use {
		s.used = now
	}
	return false
}

// sessions are kept in memory, by the hash of what the cookie holds: a restart
// signs everybody out.
type sessions struct {
	mu    sync.Mutex
	all   map[[sha256.Size]byte]*session
	codes map[[sha256.Size]byte]time.Time // when a sign-in link ends
}

func newSessions() *sessions {
	return &sessions{all: map[[sha256.Size]byte]*session{}, codes: map[[sha256.Size]byte]time.Time{}}
}

func newSecret() string { return rand.Text() + rand.Text() }

// begin makes a session and returns what its cookie holds. When there are too
// many, the one that was used least recently ends.
func (s *sessions) begin(name string) string {
	now := time.Now()
	id := newSecret()
	s.mu.Lock()
	defer s.mu.Unlock()
	var oldest [sha256.Size]byte
	var last time.Time
	for key, one := range s.all {
		if one.over(now, false) {
			delete(s.all, key)
			continue
		}
		one.mu.Lock()
		if last.IsZero() || one.used.Before(last) {
			oldest, last = key, one.used
		}
		one.mu.Unlock()
	}
	if len(s.all) >= maxSessions {
		delete(s.all, oldest)
	}
	s.all[sha256.Sum256([]byte(id))] = &session{name: name, csrf: newSecret(), begun: now, used: now}
	return id
}

func (s *sessions) find(id string, use bool) *session {
	key := sha256.Sum256([]byte(id))
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.all[key]
	if found == nil || found.over(time.Now(), use) {
		delete(s.all, key)
		return nil
	}
	return found
}

// endAll ends every session and voids every sign-in link, and says how many
// sessions there were.
func (s *sessions) endAll() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.all)
	clear(s.all)
	clear(s.codes)
	return n
}

// signedInAs is a session as the page of sessions shows it.
type signedInAs struct {
	Name        string
	Begun, Used time.Time
	Own         bool // it is the visitor's
}

// list returns the sessions that have not ended, the one used last first.
func (s *sessions) list(own *session) []signedInAs {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []signedInAs
	for _, one := range s.all {
		if one.over(now, false) {
			continue
		}
		one.mu.Lock()
		out = append(out, signedInAs{one.name, one.begun, one.used, one == own})
		one.mu.Unlock()
	}
	slices.SortFunc(out, func(a, b signedInAs) int {
		return cmp.Or(b.Used.Compare(a.Used), b.Begun.Compare(a.Begun), strings.Compare(a.Name, b.Name))
	})
	return out
}

func (s *sessions) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, sha256.Sum256([]byte(id)))
}

var errTooManyLinks = errors.New("too many sign-in links are open; wait a minute")

// newCode returns the code of a sign-in link, and when it ends.
func (s *sessions) newCode() (string, time.Time, error) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, end := range s.codes {
		if !now.Before(end) {
			delete(s.codes, key)
		}
	}
	if len(s.codes) >= maxCodes {
		return "", time.Time{}, errTooManyLinks
	}
	code, end := newSecret(), now.Add(codeLimit)
	s.codes[sha256.Sum256([]byte(code))] = end
	return code, end, nil
}

// useCode says whether the code is good, and voids it.
func (s *sessions) useCode(code string) bool {
	key := sha256.Sum256([]byte(code))
	s.mu.Lock()
	defer s.mu.Unlock()
	end, ok := s.codes[key]
	delete(s.codes, key)
	return ok && time.Now().Before(end)
}

// Link returns the path of a page that signs in whoever opens it first, and when
// it stops doing so.
func (d *Dashboard) Link() (path string, end time.Time, err error) {
	code, end, err := d.sessions.newCode()
	return "/sign-in?code=" + code, end, err
}

// session returns the session of a request, nil when there is none. A page that
// is only kept up to date does not prolong it.
func (d *Dashboard) session(r *http.Request) *session {
	cookie, err := r.Cookie(d.cookieName(r))
	if err != nil {
		return nil
	}
	return d.sessions.find(cookie.Value, r.Header.Get("X-Live") == "" && r.URL.Path != "/live")
}

// cookieName has the prefix that binds a cookie to this host, where the browser
// allows it: over TLS.
func (d *Dashboard) cookieName(r *http.Request) string {
	if d.cfg.Secure(r) {
		return "__Host-" + d.cfg.Cookie
	}
	return d.cfg.Cookie
}

func (d *Dashboard) setCookie(w http.ResponseWriter, r *http.Request, value string, age int) {
	http.SetCookie(w, &http.Cookie{ // #nosec G124 -- Secure whenever the browser came over TLS
		Name: d.cookieName(r), Value: value, Path: "/", MaxAge: age, HttpOnly: true, Secure: d.cfg.Secure(r), SameSite: http.SameSiteStrictMode,
	})
}

// signInPage asks for the operator token. With the code of a sign-in link it
// signs in at once; a browser that only looks ahead does not use the code up.
func (d *Dashboard) signInPage(w http.ResponseWriter, r *http.Request) {
	v := &visit{w: w, r: r}
	code := r.URL.Query().Get("code")
	switch {
	case code == "" && d.session(r) != nil:
		http.Redirect(w, r, "/", http.StatusSeeOther)
	case code == "":
		d.show(v, http.StatusOK, "sign-in", signIn{})
	case r.Header.Get("Sec-Purpose") != "" || r.Method == http.MethodHead:
		d.fail(v, http.StatusServiceUnavailable, "Open the link itself.")
	case !d.cfg.Allow(d.cfg.Address(r)):
		d.tooMany(v, "")
	case !d.sessions.useCode(code):
		d.cfg.Note(r, "sign in", "the link is used or too old")
		d.show(v, http.StatusUnauthorized, "sign-in", signIn{Error: "This link was used already, or is more than a minute old. Ask for a new one, or sign in with the token."})
	default:
		d.enter(v, "sign-in link")
	}
}

// signIn is the sign-in page's form.
type signIn struct {
	Name, Error string
}

func (d *Dashboard) signIn(w http.ResponseWriter, r *http.Request) {
	v := &visit{w: w, r: r}
	if !d.readForm(v, maxSignIn) {
		return
	}
	name := person(r.PostForm.Get("name"))
	switch {
	case !d.cfg.Allow(d.cfg.Address(r)):
		d.tooMany(v, name)
	case !d.cfg.Authentic(strings.TrimSpace(r.PostForm.Get("token"))):
		d.cfg.Note(r, "sign in", "the token is wrong")
		d.show(v, http.StatusUnauthorized, "sign-in", signIn{Name: name, Error: "This is not the operator token. Copy it whole, without quotes."})
	default:
		if name == "" {
			name = "operator token"
		}
		d.enter(v, name)
	}
}

func (d *Dashboard) tooMany(v *visit, name string) {
	v.w.Header().Set("Retry-After", "60")
	d.show(v, http.StatusTooManyRequests, "sign-in", signIn{Name: name, Error: "Too many attempts from this computer. Wait a minute."})
}

// enter signs in.
func (d *Dashboard) enter(v *visit, name string) {
	if old, err := v.r.Cookie(d.cookieName(v.r)); err == nil { // nobody goes on with a session from before
		d.sessions.end(old.Value)
	}
	d.setCookie(v.w, v.r, d.sessions.begin(name), int(sessionLimit/time.Second))
	d.cfg.Note(v.r.WithContext(d.cfg.As(v.r.Context(), name, d.cfg.Address(v.r))), "sign in", "")
	http.Redirect(v.w, v.r, "/", http.StatusSeeOther)
}

func (d *Dashboard) signOut(w http.ResponseWriter, r *http.Request, _ *visit) {
	if cookie, err := r.Cookie(d.cookieName(r)); err == nil {
		d.sessions.end(cookie.Value)
	}
	d.setCookie(w, r, "", -1)
	d.cfg.Note(r, "sign out", "")
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}

func (d *Dashboard) signedInPage(_ http.ResponseWriter, _ *http.Request, v *visit) {
	d.show(v, http.StatusOK, "sessions", d.sessions.list(v.session))
}

// signOutEverywhere ends every session of the operator token, this one too, at
// every process of the studio.
func (d *Dashboard) signOutEverywhere(w http.ResponseWriter, r *http.Request, _ *visit) {
	d.EndSessions()
	d.cfg.SignedOut()
	d.setCookie(w, r, "", -1)
	d.cfg.Note(r, "sign out everywhere", "")
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}

// EndSessions signs everybody out.
func (d *Dashboard) EndSessions() {
	d.cfg.Log.Info("all sessions of the dashboard were ended", "count", d.sessions.endAll())
}

// person cleans the name that somebody gives for the audit log.
func person(name string) string {
	name = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, name)), " ")
	return clip(name, maxPerson)
}
