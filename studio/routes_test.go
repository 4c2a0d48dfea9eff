package studio

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"studioworker/studio/client"
	"studioworker/worker/protocol"
)

// route is one of the studio's, as the source has it.
type route struct {
	guard   string // the function that adds it: operator, member, route (under /v1), page, or HandleFunc
	pattern string // "GET /api/v1/jobs/{id}"
}

// routeFiles are where routes are added.
var routeFiles = []string{"http.go", "openai.go", filepath.Join("dashboard", "dashboard.go")}

// allRoutes reads the routes from the source, so that a new one cannot be forgotten in
// the tests that go over all.
func allRoutes(tb testing.TB) []route {
	tb.Helper()
	var out []route
	for _, name := range routeFiles {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			tb.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			added, helpers := "", []string{"operator", "member", "route", "page", "upload"}
			switch f := call.Fun.(type) {
			case *ast.Ident:
				added = f.Name
			case *ast.SelectorExpr:
				added, helpers = f.Sel.Name, []string{"HandleFunc", "Handle"}
			}
			if !slices.Contains(helpers, added) {
				return true
			}
			if variable, ok := call.Args[0].(*ast.Ident); ok && variable.Name == "pattern" { // the function that adds them
				return true
			}
			pattern, ok := constant(call.Args[0])
			if !ok {
				tb.Errorf("%s: a route is not a text that this test can read", name)
			}
			if added == "upload" {
				added = "page"
			}
			out = append(out, route{strings.Replace(added, "HandleFunc", "Handle", 1), pattern})
			return true
		})
	}
	if len(out) < 60 {
		tb.Fatalf("only %d routes were found", len(out))
	}
	return out
}

// constant reads texts that are put together of literals and the prefix of the
// workers' routes.
func constant(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.Ident:
		if e.Name == "worker" {
			return workers, true
		}
	case *ast.BinaryExpr:
		left, ok := constant(e.X)
		right, more := constant(e.Y)
		return left + right, ok && more
	}
	return "", false
}

var wildcard = regexp.MustCompile(`\{[^}]*\}`)

// at returns method and path of a route, with an id in the place of each wildcard.
func (r route) at(id string) (method, path string) {
	method, path, ok := strings.Cut(r.pattern, " ")
	if !ok {
		method, path = http.MethodGet, r.pattern
	}
	path = strings.Replace(path, "{$}", "", 1)
	return method, wildcard.ReplaceAllLiteralString(path, id)
}

// unguarded are the routes that no function guards, and what they answer to whoever
// has no credentials, or wrong ones.
var unguarded = map[string]int{
	"POST " + workers + "register-request":             http.StatusBadRequest, // whoever asks to be let in has none yet
	"POST " + workers + "{worker}/jobs/{job}/complete": http.StatusUnauthorized,
	"GET " + workers + "{worker}/{id}":                 http.StatusNotFound, // poll and connect have tests of their own
	"GET /healthz":                                     http.StatusOK,
	"GET /metrics":                                     http.StatusUnauthorized,
	"GET /api/v1/inputs/{id}":                          http.StatusNotFound, // the id is the secret
	"GET /v1/results/{id}":                             http.StatusForbidden,
	"/":                                                http.StatusSeeOther, // the overview
	"GET /assets/{file}":                               http.StatusNotFound,
	"GET /sign-in":                                     http.StatusOK,
	"POST /sign-in":                                    http.StatusUnauthorized,
}

// TestEveryRouteAsksForCredentials: wrong, expired and revoked ones open no route, a
// key opens none of the operator's, and a page opens only to who has signed in.
func TestEveryRouteAsksForCredentials(t *testing.T) {
	f := newFarm(t, nil)
	good, revoked, expired := f.key(t, client.KeyRequest{Name: "good"}), f.key(t, client.KeyRequest{Name: "revoked"}), f.key(t, client.KeyRequest{Name: "expired"})
	if err := f.operator.RevokeKey(t.Context(), revoked.ID); err != nil {
		t.Fatal(err)
	}
	f.expireKey(t, expired.ID)
	wrong := map[string]string{"none": "", "wrong": "wrong", "revoked": revoked.Text, "expired": expired.Text, "a worker's": f.worker(t).token}
	found := map[string]bool{}
	for _, r := range allRoutes(t) {
		method, path := r.at("x")
		for name, token := range wrong {
			status, data := f.call(t, method, path, token, nil, "Content-Type", "application/json")
			want := http.StatusUnauthorized
			switch {
			case r.guard == "Handle":
				found[r.pattern] = true
				var known bool
				if want, known = unguarded[r.pattern]; !known {
					t.Fatalf("nothing guards %q: add it to this test with what it must answer", r.pattern)
				}
			case r.guard == "page" && method == http.MethodGet && path != "/live":
				want = http.StatusSeeOther
			}
			if status != want {
				t.Errorf("%s with %s credentials: %d %s, want %d", r.pattern, name, status, data, want)
			}
		}
		if r.guard != "operator" {
			continue
		}
		status, data := f.call(t, method, path, good.Text, nil)
		wantError(t, status, data, http.StatusForbidden, "forbidden")
	}
	for pattern := range unguarded {
		if !found[pattern] {
			t.Errorf("there is no route %q any more", pattern)
		}
	}
}

// TestEveryFormAsksForItsToken: a form without the session's token does nothing, nor does
// one whose session has ended.
func TestEveryFormAsksForItsToken(t *testing.T) {
	f := newFarm(t, nil)
	v, other := f.visitor(t), f.visitor(t)
	v.enter(t)
	other.enter(t)
	for _, r := range allRoutes(t) {
		method, path := r.at("x")
		if r.guard != "page" || method != http.MethodPost {
			continue
		}
		for name, token := range map[string]string{"no": "", "another's": other.csrf} {
			if resp, body := v.post(t, path, url.Values{"csrf": {token}}); resp.StatusCode != http.StatusForbidden || !strings.Contains(body, "another sign-in") {
				t.Errorf("%s with %s token: %s", path, name, resp.Status)
			}
			parts := fmt.Sprintf("--b\r\nContent-Disposition: form-data; name=\"csrf\"\r\n\r\n%s\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n{}\r\n--b--\r\n", token)
			if resp, _ := v.do(t, method, path, strings.NewReader(parts), "Content-Type", "multipart/form-data; boundary=b"); resp.StatusCode != http.StatusForbidden {
				t.Errorf("%s in parts with %s token: %s", path, name, resp.Status)
			}
		}
	}
	v.get(t, "/sessions")
	if resp, _ := v.post(t, "/sessions/end", nil); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("signing out everywhere: %s", resp.Status)
	}
	for _, r := range allRoutes(t) {
		method, path := r.at("x")
		if r.guard != "page" {
			continue
		}
		resp, _ := other.do(t, method, path, nil, "X-Live", "1")
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s after all were signed out: %s", r.pattern, resp.Status)
		}
	}
}

// TestEveryRouteAgainstOtherPages: what comes under another name, or from another web
// page, is refused before anything looks at it.
func TestEveryRouteAgainstOtherPages(t *testing.T) {
	f := newFarm(t, nil)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	for _, r := range allRoutes(t) {
		method, path := r.at("x")
		req, err := http.NewRequestWithContext(t.Context(), method, f.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "evil.example"
		req.Header.Set("Authorization", "Bearer "+f.token)
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("%s under another name: %s", r.pattern, resp.Status)
		}
		if method == http.MethodGet {
			continue
		}
		status, data := f.call(t, method, path, f.token, nil, "Sec-Fetch-Site", "cross-site")
		wantError(t, status, data, http.StatusForbidden, "cross_origin")
	}
}

// TestOddIDs: whatever stands in the place of an id leads nowhere else and breaks
// nothing.
func TestOddIDs(t *testing.T) {
	f := newFarm(t, nil)
	v := f.visitor(t)
	v.enter(t)
	for _, r := range allRoutes(t) {
		if !strings.Contains(r.pattern, "{") || strings.HasPrefix(r.pattern, "GET /{$}") {
			continue
		}
		for _, id := range []string{"%2e%2e", "..%2f..%2foperator-token", "%2fetc%2fpasswd", "%00", "%3e", "*", "%ff", "a%20b", "-", "%0d%0aX-Evil:1", strings.Repeat("a", 5000)} {
			method, path := r.at(id)
			var status int
			var body string
			if r.guard == "page" {
				form := url.Values{"csrf": {v.csrf}}.Encode()
				if method == http.MethodGet {
					form = ""
				}
				resp, text := v.do(t, method, path, strings.NewReader(form), "Content-Type", "application/x-www-form-urlencoded")
				status, body = resp.StatusCode, text
				if resp.Header.Get("X-Evil") != "" {
					t.Errorf("%s with %.30q sets a header", r.pattern, id)
				}
			} else {
				var data []byte
				status, data = f.call(t, method, path, f.token, nil)
				body = string(data)
			}
			if status >= http.StatusInternalServerError {
				t.Errorf("%s with %.30q: %d %.200s", r.pattern, id, status, body)
			}
			if strings.Contains(body, f.token) || strings.Contains(body, "root:") {
				t.Errorf("%s with %.30q tells what it must not", r.pattern, id)
			}
		}
	}
	f.submit(t, imageJob) // and the studio goes on
}

// bodyLimits are how much each route takes that reads a body whole; the others read
// none, or have tests of their own.
var bodyLimits = map[string]int{
	"POST /api/v1/keys": maxSmallBody, "POST /api/v1/webhooks": maxSmallBody, "POST /api/v1/registrations/{id}/reject": maxSmallBody,
	"POST /api/v1/jobs": client.MaxJob, "PUT /api/v1/models/{id...}": client.MaxJob, "PUT /api/v1/registry": client.MaxRegistry,
	"POST /v1/chat/completions": client.MaxJob, "POST /v1/images/generations": client.MaxJob, "POST /v1/audio/speech": client.MaxJob,
	"POST " + workers + "register-request": maxSmallBody, "POST /sign-in": 16 << 10,
}

// streamed are the routes whose bodies pass through, each with a test of its limit.
var streamed = []string{
	"POST /api/v1/inputs", "POST /v1/audio/transcriptions", "POST /v1/audio/translations", "POST " + workers + "{worker}/jobs/{job}/complete",
}

// TestEveryBodyIsBounded: each route refuses a body beyond its limit, and one that wants
// none is not made to take it.
func TestEveryBodyIsBounded(t *testing.T) {
	f := newFarm(t, nil)
	v := f.visitor(t)
	v.enter(t)
	for _, r := range allRoutes(t) {
		method, path := r.at("x")
		if method == http.MethodGet || slices.Contains(streamed, r.pattern) {
			continue
		}
		if r.guard == "page" {
			large := "csrf=" + v.csrf + "&x=" + strings.Repeat("x", 4<<20)
			if resp, _ := v.do(t, method, path, strings.NewReader(large), "Content-Type", "application/x-www-form-urlencoded"); resp.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("%s: %s", r.pattern, resp.Status)
			}
			continue
		}
		limit, reads := bodyLimits[r.pattern]
		kind := "application/json"
		if r.pattern == "POST /sign-in" {
			kind = "application/x-www-form-urlencoded"
		}
		status, data := f.call(t, method, path, f.token, strings.NewReader(`{"x":"`+strings.Repeat("x", max(limit, 128<<10))+`"}`), "Content-Type", kind)
		switch {
		case reads && status != http.StatusRequestEntityTooLarge:
			t.Errorf("%s takes more than %d bytes: %d %.200s", r.pattern, limit, status, data)
		case !reads && (status == http.StatusRequestEntityTooLarge || status >= http.StatusInternalServerError):
			t.Errorf("%s, which wants no body: %d %.200s", r.pattern, status, data)
		}
	}
}

// TestRoutesAreDocumented: docs/api.md names each route of the API with its method, and
// docs/studio.md each page that the dashboard's head leads to.
func TestRoutesAreDocumented(t *testing.T) {
	read := func(name string) string {
		t.Helper()
		data, err := os.ReadFile(filepath.Join("..", "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	api, studio := read("api.md"), read("studio.md")
	for _, r := range allRoutes(t) {
		method, path, ok := strings.Cut(r.pattern, " ")
		if !ok || r.guard == "page" || strings.HasPrefix(path, protocol.Prefix+"/workers") || strings.Contains("/assets/{file} /sign-in", path) {
			continue
		}
		path = strings.Replace(path, "...}", "}", 1)
		named := regexp.MustCompile(regexp.QuoteMeta(path) + "[`?, ]") // and not the beginning of another
		if !slices.ContainsFunc(strings.Split(api+studio, "\n"), func(line string) bool {
			return strings.Contains(line, method) && named.MatchString(line)
		}) {
			t.Errorf("docs/api.md does not tell of %s %s", method, path)
		}
	}
	layout, err := os.ReadFile(filepath.Join("dashboard", "templates", "layout.html"))
	if err != nil {
		t.Fatal(err)
	}
	pages := regexp.MustCompile(`<a href="/[a-z]*"[^\n]*>([A-Z][a-z]+)[ <]`).FindAllStringSubmatch(string(layout), -1)
	if len(pages) < 7 {
		t.Fatalf("only %d pages were found", len(pages))
	}
	for _, page := range pages {
		if !strings.Contains(studio, "\n| "+page[1]+" |") {
			t.Errorf("docs/studio.md does not tell of the page %s", page[1])
		}
	}
}

// TestSignOutEverywhereReachesLiveStreams: a page that follows a job hears nothing more
// once its session has ended.
func TestSignOutEverywhereReachesLiveStreams(t *testing.T) {
	f := newFarm(t, nil)
	l := f.modern(t).connect(t, "")
	v, other := f.visitor(t), f.visitor(t)
	v.enter(t)
	other.enter(t)
	f.submit(t, llmJob)
	id := l.take(t).JobID
	f.await(t, id, in(client.Running))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.url+"/jobs/"+id+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := v.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() }) // only read
	heard := make(chan string, 100)
	go func() {
		defer close(heard)
		buffer := make([]byte, 8192)
		for {
			n, err := resp.Body.Read(buffer)
			heard <- string(buffer[:n])
			if err != nil {
				return
			}
		}
	}()
	wait := func(want string) (all string) {
		t.Helper()
		limit := time.After(patience)
		for {
			select {
			case text, more := <-heard:
				if all += text; !more || (want != "" && strings.Contains(all, want)) {
					return all
				}
			case <-limit:
				t.Fatalf("heard only %q", all)
			}
		}
	}
	l.send(t, protocol.Delta{JobID: id, Text: "Salt"})
	if all := wait("Salt"); !strings.Contains(all, "event: delta") {
		t.Errorf("heard %q", all)
	}
	if resp, _ := other.post(t, "/sessions/end", nil); resp.StatusCode != http.StatusSeeOther {
		t.Fatalf("signing out everywhere: %s", resp.Status)
	}
	l.send(t, protocol.Delta{JobID: id, Seq: 1, Text: "mere"})
	if all := wait(""); strings.Contains(all, "mere") {
		t.Errorf("after the end it heard %q", all)
	}
}
