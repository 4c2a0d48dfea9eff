package dashboard

import (
	"net/http"
	"net/url"
	"strings"
)

// The veil hides what jobs are about, for a screen that others can see. It is the
// server that leaves the words out: they are not on the page at all.

const veilAge = 365 * 24 * 60 * 60 // seconds that a browser remembers it

// veilCookie is remembered over a sign-out: the screen stays where it is.
func (d *Dashboard) veilCookie() string { return d.cfg.Cookie + "-veil" }

func (d *Dashboard) veiled(r *http.Request) bool {
	cookie, err := r.Cookie(d.veilCookie())
	return err == nil && cookie.Value == "1"
}

// prompts is what a list of jobs is asked for, besides its other wishes.
func (v *visit) prompts() string {
	if v.veiled {
		return ""
	}
	return "&prompts=true"
}

// setVeil draws or lifts the veil and returns to the page that asked for it.
func (d *Dashboard) setVeil(w http.ResponseWriter, r *http.Request, _ *visit) {
	age, value := veilAge, "1"
	if r.PostForm.Get("veil") != "on" {
		age, value = -1, ""
	}
	http.SetCookie(w, &http.Cookie{ // #nosec G124 -- Secure whenever the browser came over TLS
		Name: d.veilCookie(), Value: value, Path: "/", MaxAge: age, HttpOnly: true, Secure: d.cfg.Secure(r), SameSite: http.SameSiteStrictMode,
	})
	http.Redirect(w, r, local(r.PostForm.Get("back")), http.StatusSeeOther) // #nosec G710 -- local lets only our own pages through
}

// local is the address when it is a page of the dashboard, else the overview.
func local(back string) string {
	u, err := url.Parse(back)
	if err != nil || u.IsAbs() || u.Host != "" || u.User != nil || !strings.HasPrefix(u.Path, "/") || strings.HasPrefix(u.Path, "//") || strings.ContainsAny(back, "\\\r\n") {
		return "/"
	}
	return (&url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery}).String()
}
