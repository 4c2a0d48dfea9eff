package studio

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"net/textproto"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"studioworker/studio/client"
	"studioworker/worker/protocol"
)

// visitor is a browser without a script.
type visitor struct {
	farm *farm
	http *http.Client
	csrf string // of the page seen last
}

func (f *farm) visitor(t *testing.T) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &visitor{farm: f, http: &http.Client{Transport: transport, Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

var csrfField = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// shown is an answer whose body has been read.
type shown struct {
	StatusCode int
	Status     string
	Header     http.Header
	Cookies    []*http.Cookie
}

// do sends a request and returns the answer and its body.
func (v *visitor) do(t *testing.T, method, path string, body io.Reader, header ...string) (shown, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, v.farm.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := v.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if found := csrfField.FindSubmatch(data); found != nil {
		v.csrf = string(found[1])
	}
	return shown{resp.StatusCode, resp.Status, resp.Header, resp.Cookies()}, string(data)
}

func (v *visitor) get(t *testing.T, path string, header ...string) (shown, string) {
	t.Helper()
	return v.do(t, http.MethodGet, path, nil, header...)
}

// post sends a form with the token of the page seen last.
func (v *visitor) post(t *testing.T, path string, form url.Values) (shown, string) {
	t.Helper()
	if form == nil {
		form = url.Values{}
	}
	if !form.Has("csrf") {
		form.Set("csrf", v.csrf)
	}
	return v.do(t, http.MethodPost, path, strings.NewReader(form.Encode()), "Content-Type", "application/x-www-form-urlencoded")
}

// enter signs in and opens the overview.
func (v *visitor) enter(t *testing.T) {
	t.Helper()
	if resp, body := v.post(t, "/sign-in", url.Values{"name": {"Sam"}, "token": {v.farm.token}}); resp.StatusCode != http.StatusSeeOther {
		t.Fatalf("sign in: %s %s", resp.Status, body)
	}
	if resp, body := v.get(t, "/"); resp.StatusCode != http.StatusOK || v.csrf == "" {
		t.Fatalf("overview: %s %s", resp.Status, body)
	}
}

// TestDashboardNeedsSignIn: without it no page shows anything and no form does.
func TestDashboardNeedsSignIn(t *testing.T) {
	f := newFarm(t, nil)
	id := f.submit(t, imageJob).ID
	v := f.visitor(t)
	for _, path := range []string{"/", "/workers", "/workers/x", "/registrations", "/jobs", "/jobs/new", "/jobs/" + id, "/jobs/" + id + "/result", "/models", "/keys", "/audit"} {
		if resp, body := v.get(t, path); resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/sign-in" || strings.Contains(body, "synthetic") {
			t.Errorf("%s: %s %s", path, resp.Status, body)
		}
		if resp, _ := v.get(t, path, "X-Live", "1"); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s for the script: %s", path, resp.Status)
		}
	}
	if resp, _ := v.get(t, "/live?parts=jobs"); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("/live: %s", resp.Status)
	}
	for _, path := range []string{"/sign-out", "/registrations/x/approve", "/registrations/x/reject", "/workers/x/remove", "/jobs/new", "/jobs/" + id + "/cancel", "/jobs/" + id + "/again", "/keys", "/keys/x/revoke"} {
		if resp, _ := v.post(t, path, nil); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	if got := f.job(t, id).State; got != client.Queued {
		t.Errorf("the job is %s", got)
	}
	if resp, body := v.get(t, "/nothing", "Accept", "text/html"); resp.StatusCode != http.StatusNotFound || !strings.Contains(body, "There is nothing at this address.") {
		t.Errorf("a page that is not there: %s %s", resp.Status, body)
	}
}

// TestSignInIsChecked: only the operator token opens the door, it opens slowly,
// and who knocked is in the audit log.
func TestSignInIsChecked(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	v := f.visitor(t)
	wrong := []string{"", "wrong", f.token + "x", f.token[1:], w.token}
	for _, token := range wrong {
		if resp, body := v.post(t, "/sign-in", url.Values{"token": {token}}); resp.StatusCode != http.StatusUnauthorized || !strings.Contains(body, "This is not the operator token.") || len(resp.Cookies) > 0 {
			t.Errorf("token %q: %s, cookies %v", token, resp.Status, resp.Cookies)
		}
	}
	for range signInsPerMinute - len(wrong) {
		v.post(t, "/sign-in", url.Values{"token": {"wrong"}})
	}
	resp, body := v.post(t, "/sign-in", url.Values{"token": {f.token}})
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, "Too many attempts") {
		t.Errorf("after %d attempts: %s", signInsPerMinute, resp.Status)
	}
	status, data := f.call(t, http.MethodGet, "/api/v1/audit", f.token, nil)
	var log client.AuditList
	if err := json.Unmarshal(data, &log); err != nil || status != http.StatusOK || len(log.Acts) != signInsPerMinute {
		t.Fatalf("audit: %d %s", status, data)
	}
	if act := log.Acts[0]; act.Did != "sign in" || act.Error == "" || act.Address != "127.0.0.1" || act.Who != "unknown" {
		t.Errorf("noted %+v", act)
	}
	if strings.Contains(string(data), f.token) {
		t.Error("the audit log holds a token")
	}
}

// TestSessionCookie: scripts and other pages do not get it, and over TLS it is
// bound to the host.
func TestSessionCookie(t *testing.T) {
	f := newFarm(t, func(c *Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	form := url.Values{"token": {f.token}}.Encode()
	for _, proto := range []string{"http", "https"} {
		v := f.visitor(t)
		resp, _ := v.do(t, http.MethodPost, "/sign-in", strings.NewReader(form), "Content-Type", "application/x-www-form-urlencoded", "X-Forwarded-Proto", proto)
		if len(resp.Cookies) != 1 {
			t.Fatalf("%s: cookies %v", proto, resp.Cookies)
		}
		c := resp.Cookies[0]
		if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || c.MaxAge <= 0 || len(c.Value) < 40 {
			t.Errorf("%s: cookie %+v", proto, c)
		}
		if tls := proto == "https"; c.Secure != tls || strings.HasPrefix(c.Name, "__Host-") != tls {
			t.Errorf("%s: cookie %+v", proto, c)
		}
	}
}

// TestSessionEnds: signing out voids the cookie at the studio, not only in the
// browser; a session of before does not survive a new sign-in.
func TestSessionEnds(t *testing.T) {
	f := newFarm(t, nil)
	v := f.visitor(t)
	v.enter(t)
	at, err := url.Parse(f.url)
	if err != nil {
		t.Fatal(err)
	}
	kept := v.http.Jar.Cookies(at)
	opens := func() bool {
		resp, _ := f.visitor(t).get(t, "/", "Cookie", kept[0].String())
		return resp.StatusCode == http.StatusOK
	}
	if !opens() {
		t.Fatal("the cookie does not work")
	}
	if resp, _ := v.post(t, "/sign-out", nil); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("sign out: %s", resp.Status)
	}
	if opens() {
		t.Error("the cookie works after signing out")
	}
	v.enter(t)
	kept = v.http.Jar.Cookies(at)
	v.enter(t)
	if opens() {
		t.Error("the cookie works after signing in anew")
	}
}

// TestForeignForms: a form without the session's token, with another session's,
// or from another page does nothing.
func TestForeignForms(t *testing.T) {
	f := newFarm(t, nil)
	id := f.submit(t, imageJob).ID
	v, other := f.visitor(t), f.visitor(t)
	v.enter(t)
	other.enter(t)
	for name, token := range map[string]string{"none": "", "another session's": other.csrf, "a long one": strings.Repeat("x", 1000)} {
		resp, body := v.post(t, "/jobs/"+id+"/cancel", url.Values{"csrf": {token}})
		if resp.StatusCode != http.StatusForbidden || !strings.Contains(body, "another sign-in") {
			t.Errorf("%s: %s %s", name, resp.Status, body)
		}
	}
	v.get(t, "/")
	form := url.Values{"csrf": {v.csrf}}.Encode()
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}} {
		resp, _ := v.do(t, http.MethodPost, "/jobs/"+id+"/cancel", strings.NewReader(form), append(header, "Content-Type", "application/x-www-form-urlencoded")...)
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("%v: %s", header, resp.Status)
		}
	}
	if got := f.job(t, id).State; got != client.Queued {
		t.Fatalf("the job is %s", got)
	}
	if resp, _ := v.post(t, "/jobs/"+id+"/cancel", nil); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("its own form: %s", resp.Status)
	}
	if got := f.job(t, id).State; got != client.Cancelled {
		t.Errorf("the job is %s", got)
	}
	// An upload has its token before the recording: nothing is stored without it.
	var body bytes.Buffer
	parts := multipart.NewWriter(&body)
	file, err := parts.CreatePart(textproto.MIMEHeader{"Content-Disposition": {`form-data; name="file"; filename="a.wav"`}, "Content-Type": {"audio/wav"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Write([]byte("RIFF")); err != nil {
		t.Fatal(err)
	}
	if err := parts.Close(); err != nil {
		t.Fatal(err)
	}
	resp, _ := v.do(t, http.MethodPost, "/jobs/new", &body, "Content-Type", parts.FormDataContentType())
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("an upload without token: %s", resp.Status)
	}
}

// TestLargeForms: a form that is too large is refused, and says so.
func TestLargeForms(t *testing.T) {
	f := newFarm(t, nil)
	v := f.visitor(t)
	if resp, body := v.post(t, "/sign-in", url.Values{"token": {strings.Repeat("x", 20<<10)}}); resp.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(body, "too large") {
		t.Errorf("sign in: %s", resp.Status)
	}
	v.enter(t)
	if resp, body := v.post(t, "/jobs/new", url.Values{"kind": {"llm"}, "prompt": {strings.Repeat("x", 5<<20)}}); resp.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(body, "too large") {
		t.Errorf("a job: %s", resp.Status)
	}
	v.get(t, "/jobs/new")
	resp, body := v.post(t, "/jobs/new", url.Values{"kind": {"llm"}, "model": {"synthetic-llm"}, "prompt": {strings.Repeat("x", maxPrompt+1<<20)}})
	if resp.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(body, `role="alert"`) {
		t.Errorf("a long prompt: %s", resp.Status)
	}
}

// TestNewJobForms: the form of each kind makes a job of that kind; what is wrong
// is said beside it, and nothing that was entered is lost.
func TestNewJobForms(t *testing.T) {
	f := newFarm(t, nil)
	v := f.visitor(t)
	v.enter(t)
	for _, tt := range []struct {
		kind protocol.TaskKind
		form url.Values
		want func(protocol.Task) bool
	}{
		{protocol.KindImage, url.Values{"model": {"synthetic-image"}, "prompt": {"fog"}, "negative": {"sun"}, "width": {"640"}, "seed": {"7"}}, func(t protocol.Task) bool {
			return t.Image.Prompt == "fog" && *t.Image.NegativePrompt == "sun" && t.Image.Width == 640 && t.Image.Height == protocol.DefaultSide && *t.Image.Seed == 7
		}},
		{protocol.KindLLM, url.Values{"model": {"synthetic-llm"}, "prompt": {"hello"}, "system": {"be brief"}, "tokens": {"9"}, "temperature": {"0,5"}}, func(t protocol.Task) bool {
			return t.LLM.Messages[0].Content == "hello" && *t.LLM.System == "be brief" && t.LLM.MaxTokens == 9 && t.LLM.Temperature == 0.5
		}},
		{protocol.KindTTS, url.Values{"model": {"espeak-ng"}, "prompt": {"good day"}, "language": {"de"}}, func(t protocol.Task) bool {
			return t.TTS.Text == "good day" && *t.TTS.Language == "de" && t.TTS.Voice == protocol.DefaultVoice
		}},
		{protocol.KindVideo, url.Values{"model": {"synthetic-video"}, "prompt": {"waves"}, "seconds": {"2.5"}}, func(t protocol.Task) bool {
			return t.Video.Prompt == "waves" && t.Video.Seconds == 2.5
		}},
		{protocol.KindSTT, url.Values{"model": {"synthetic-stt"}, "url": {"https://recordings.example/a.wav"}}, func(t protocol.Task) bool {
			return t.STT.InputURL == "https://recordings.example/a.wav"
		}},
	} {
		v.get(t, "/jobs/new?kind="+string(tt.kind))
		tt.form.Set("kind", string(tt.kind))
		resp, body := v.post(t, "/jobs/new", tt.form)
		id, ok := strings.CutPrefix(resp.Header.Get("Location"), "/jobs/")
		if resp.StatusCode != http.StatusSeeOther || !ok {
			t.Errorf("%s: %s %s", tt.kind, resp.Status, body)
			continue
		}
		if got := f.job(t, id); got.Kind != tt.kind || !tt.want(*got.Task) {
			t.Errorf("%s became %+v", tt.kind, got)
		}
		if resp, body := v.get(t, "/jobs/"+id); resp.StatusCode != http.StatusOK || !strings.Contains(body, "Queued.") {
			t.Errorf("%s: its page: %s", tt.kind, resp.Status)
		}
	}
	for name, form := range map[string]url.Values{
		"no words":     {"kind": {"image"}, "model": {"synthetic-image"}},
		"no number":    {"kind": {"image"}, "model": {"synthetic-image"}, "prompt": {"fog & rain"}, "width": {"wide"}},
		"out of range": {"kind": {"image"}, "model": {"synthetic-image"}, "prompt": {"fog & rain"}, "steps": {"1000"}},
		"no model":     {"kind": {"image"}, "model": {"none"}, "prompt": {"fog & rain"}},
		"no kind":      {"kind": {"dance"}, "model": {"none"}, "prompt": {"fog & rain"}},
		"no recording": {"kind": {"audio_stt"}, "model": {"synthetic-stt"}},
		"priority":     {"kind": {"image"}, "model": {"synthetic-image"}, "prompt": {"fog & rain"}, "priority": {"101"}},
	} {
		resp, body := v.post(t, "/jobs/new", form)
		if resp.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(body, `role="alert"`) || (form.Has("prompt") && !strings.Contains(body, "fog &amp; rain")) {
			t.Errorf("%s: %s %s", name, resp.Status, body)
		}
	}
}

// TestRecordingIsUploaded: a recording from the person's computer becomes an
// input that a worker can fetch.
func TestRecordingIsUploaded(t *testing.T) {
	f := newFarm(t, nil)
	v := f.visitor(t)
	v.enter(t)
	recording := append([]byte("RIFF"), bytes.Repeat([]byte("wave"), 100_000)...)
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for _, field := range [][2]string{{"csrf", v.csrf}, {"kind", "audio_stt"}, {"model", "synthetic-stt"}, {"url", ""}} {
		if err := form.WriteField(field[0], field[1]); err != nil {
			t.Fatal(err)
		}
	}
	file, err := form.CreatePart(textproto.MIMEHeader{"Content-Disposition": {`form-data; name="file"; filename="../../a.wav"`}, "Content-Type": {"audio/wav"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Write(recording); err != nil {
		t.Fatal(err)
	}
	if err := form.Close(); err != nil {
		t.Fatal(err)
	}
	resp, page := v.do(t, http.MethodPost, "/jobs/new", &body, "Content-Type", form.FormDataContentType())
	if resp.StatusCode != http.StatusSeeOther {
		t.Fatalf("upload: %s %s", resp.Status, page)
	}
	got := f.job(t, strings.TrimPrefix(resp.Header.Get("Location"), "/jobs/"))
	at, ok := strings.CutPrefix(got.Task.STT.InputURL, f.url)
	if !ok {
		t.Fatalf("the input is at %s", got.Task.STT.InputURL)
	}
	if status, data := f.call(t, http.MethodGet, at, "", nil); status != http.StatusOK || !bytes.Equal(data, recording) {
		t.Errorf("the input: %d, %d bytes", status, len(data))
	}
}

// planted is what must never become part of a page.
const planted = `"><script>alert(1)</script><img src=x onerror=alert(1)>'`

// TestPlantedScripts: whatever workers, programs and people call things, pages
// show it as text.
func TestPlantedScripts(t *testing.T) {
	f := newFarm(t, nil)
	caps := capabilities()
	caps.MachineName, caps.Username, caps.AgentVersion, caps.Engine = planted, planted, planted, planted
	caps.SupportedModels = []string{planted}
	request, err := json.Marshal(protocol.RegisterRequest{InstallID: "i1", RegistrationSecretHash: hashed(secret), Capabilities: caps, UserAgent: planted})
	if err != nil {
		t.Fatal(err)
	}
	register := func(body string) string {
		t.Helper()
		status, data := f.call(t, http.MethodPost, workers+"register-request", "", strings.NewReader(body))
		answer, err := protocol.DecodeRegisterResponse(data)
		if err != nil || status != http.StatusCreated {
			t.Fatalf("register-request answered %d %s", status, data)
		}
		return answer.RequestID
	}
	approved := f.poll(t, register(string(request)), secret)
	w := &fake{farm: f, id: approved.WorkerID, token: approved.AuthToken, caps: caps}
	w.caps.Features = protocol.Features()
	l := w.connect(t, "")
	text, err := json.Marshal(planted)
	if err != nil {
		t.Fatal(err)
	}
	image := f.submit(t, fmt.Sprintf(`{"model":"synthetic-image","gameId":%s,"assetName":%s,"task":{"kind":"image","prompt":%s}}`, text, text, text)).ID
	l.take(t)
	l.send(t, protocol.Progress{JobID: image, Step: 1, Total: 2, Message: planted})
	l.send(t, protocol.LogBatch{Entries: []protocol.LogEntry{{TS: planted, Level: protocol.LevelInfo, Category: planted, Message: planted, JobID: image}}})
	v := f.visitor(t)
	if resp, _ := v.post(t, "/sign-in", url.Values{"name": {planted}, "token": {f.token}}); resp.StatusCode != http.StatusSeeOther {
		t.Fatalf("sign in: %s", resp.Status)
	}
	v.get(t, "/")
	check := func(path string, header ...string) {
		t.Helper()
		resp, body := v.get(t, path, header...)
		if resp.Header.Get("Content-Security-Policy") == "" || strings.Contains(resp.Header.Get("Content-Security-Policy"), "unsafe") {
			t.Errorf("%s: policy %q", path, resp.Header.Get("Content-Security-Policy"))
		}
		harmless(t, path, body)
	}
	l.send(t, protocol.Heartbeat{Capabilities: w.caps, CurrentJobID: image})
	expect[protocol.HeartbeatAck](t, l) // so the frames before it have been read
	for _, path := range []string{"/", "/workers", "/workers/" + w.id, "/jobs", "/jobs/" + image, "/registrations", "/audit", "/models"} {
		check(path)
	}
	l.send(t, protocol.Fail{JobID: image, Error: planted})
	expect[protocol.FailAck](t, l)
	l.beat(t, "")
	check("/jobs/" + image)
	check("/jobs")
	answer := f.submit(t, fmt.Sprintf(`{"model":"synthetic-llm","task":{"kind":"llm","messages":[{"role":"user","content":%s}],"system":%s}}`, text, text)).ID
	l.take(t)
	l.send(t, protocol.CompleteJSON{JobID: answer, Result: json.RawMessage(fmt.Sprintf(`{"choices":[{"message":{"content":%s}}]}`, text))})
	expect[protocol.CompleteAck](t, l)
	check("/jobs/" + answer)
	if _, body := v.get(t, "/jobs/"+answer); !strings.Contains(body, "&lt;script&gt;alert(1)&lt;/script&gt;") {
		t.Error("the answer is not on the page")
	}
	f.studio.cfg.AutoApprove = false
	register(strings.Replace(string(request), `"i1"`, `"i2"`, 1))
	check("/registrations")
	check("/")
	if resp, body := v.post(t, "/keys", url.Values{"name": {planted}}); resp.StatusCode != http.StatusOK {
		t.Errorf("a key: %s %s", resp.Status, body)
	} else {
		harmless(t, "the new key", body)
	}
	check("/keys")
	_, body := v.post(t, "/jobs/new", url.Values{"kind": {planted}, "model": {planted}, "prompt": {planted}, "width": {planted}})
	harmless(t, "the form", body)
	for _, path := range []string{"/jobs?state=" + url.QueryEscape(planted), "/jobs?cursor=" + url.QueryEscape(planted), "/audit?cursor=" + url.QueryEscape(planted), "/" + url.PathEscape(planted), "/jobs/" + url.PathEscape(planted), "/workers/" + url.PathEscape(planted), "/sign-in?code=" + url.QueryEscape(planted)} {
		check(path, "Accept", "text/html")
	}
}

// harmless checks that nothing planted became an element or an attribute.
func harmless(t *testing.T, name, body string) {
	t.Helper()
	page, err := html.Parse(strings.NewReader(body))
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	for node := range page.Descendants() {
		if node.Type != html.ElementNode {
			continue
		}
		if node.Data == "script" && (node.FirstChild != nil || len(node.Attr) == 0) {
			t.Errorf("%s has a script in it", name)
		}
		for _, a := range node.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || (node.Data == "img" && a.Key == "src" && a.Val == "x") {
				t.Errorf("%s: <%s %s=%q>", name, node.Data, a.Key, a.Val)
			}
		}
	}
}

// TestResultsAreNotPages: a result that could be a program is only saved.
func TestResultsAreNotPages(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	l := w.connect(t, "")
	v := f.visitor(t)
	v.enter(t)
	for _, tt := range []struct{ ext, kind, how string }{
		{"png", "image/png", "inline"}, {"html", "application/octet-stream", "attachment"}, {"svg", "application/octet-stream", "attachment"},
	} {
		id := f.submit(t, imageJob).ID
		l.take(t)
		w.sendResult(t, id, tt.ext, []byte("<script>alert(1)</script>"))
		l.beat(t, "")
		f.await(t, id, in("done"))
		resp, _ := v.get(t, "/jobs/"+id+"/result")
		h := resp.Header
		if resp.StatusCode != http.StatusOK || h.Get("Content-Type") != tt.kind || !strings.HasPrefix(h.Get("Content-Disposition"), tt.how) ||
			h.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(h.Get("Content-Security-Policy"), "sandbox") {
			t.Errorf("%s: %s %v", tt.ext, resp.Status, h)
		}
		resp, _ = v.get(t, "/jobs/"+id+"/result?save")
		if !strings.HasPrefix(resp.Header.Get("Content-Disposition"), "attachment") {
			t.Errorf("%s to save: %v", tt.ext, resp.Header)
		}
	}
}

// TestSignInLink: it signs in once, whoever opens it first.
func TestSignInLink(t *testing.T) {
	f := newFarm(t, nil)
	link := func() string {
		t.Helper()
		status, data := f.call(t, http.MethodPost, "/api/v1/sign-in-links", f.token, nil)
		var out client.SignInLink
		if err := json.Unmarshal(data, &out); err != nil || status != http.StatusCreated {
			t.Fatalf("answered %d %s", status, data)
		}
		path, ok := strings.CutPrefix(out.URL, f.url)
		if !ok {
			t.Fatalf("the link is %s", out.URL)
		}
		return path
	}
	path, v := link(), f.visitor(t)
	if resp, _ := v.get(t, path, "Sec-Purpose", "prefetch"); resp.StatusCode == http.StatusSeeOther {
		t.Error("a look ahead uses the link up")
	}
	if resp, _ := v.get(t, path); resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/" {
		t.Errorf("the link: %s", resp.Status)
	}
	if resp, _ := v.get(t, "/"); resp.StatusCode != http.StatusOK {
		t.Errorf("the overview: %s", resp.Status)
	}
	other := f.visitor(t)
	for _, path := range []string{path, "/sign-in?code=guess", "/sign-in?code=" + strings.Repeat("A", 52)} {
		if resp, body := other.get(t, path); resp.StatusCode != http.StatusUnauthorized || !strings.Contains(body, "This link was used already") {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	status, data := f.call(t, http.MethodPost, "/api/v1/sign-in-links", "wrong", nil)
	wantError(t, status, data, http.StatusUnauthorized, "unauthorized")
}

// TestPagesAreLive: a page hears that what it shows has changed, also when that
// happened while it was drawn, and when it is signed out.
func TestPagesAreLive(t *testing.T) {
	f := newFarm(t, nil)
	v := f.visitor(t)
	v.enter(t)
	_, page := v.get(t, "/jobs")
	since := regexp.MustCompile(`data-since="(\d+)"`).FindStringSubmatch(page)[1]
	f.submit(t, imageJob)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.url+"/live?parts=jobs&since="+since, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := v.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() }) // only read
	events := make(chan string)
	go func() {
		defer close(events)
		buffer := make([]byte, 4096)
		for {
			n, err := resp.Body.Read(buffer)
			for line := range strings.Lines(string(buffer[:n])) {
				if name, ok := strings.CutPrefix(line, "event: "); ok {
					events <- strings.TrimSpace(name)
				}
			}
			if err != nil {
				return
			}
		}
	}()
	for _, want := range []string{"hello", "change"} {
		if got := <-events; got != want {
			t.Errorf("heard %q, want %q", got, want)
		}
	}
	v.get(t, "/")
	v.post(t, "/sign-out", nil)
	f.submit(t, imageJob)
	if got := <-events; got != "over" {
		t.Errorf("heard %q after signing out", got)
	}
	if got, more := <-events; more {
		t.Errorf("heard %q after the end", got)
	}
}

// TestAuditLog: what an operator does is there, by whom and from where, done or
// refused; what only looks is not.
func TestAuditLog(t *testing.T) {
	f := newFarm(t, func(c *Config) { c.AutoApprove = false })
	request := f.register(t, "i", secret)
	id := f.submit(t, imageJob).ID
	f.call(t, http.MethodPost, "/api/v1/registrations/"+request+"/approve", f.token, nil)
	f.call(t, http.MethodPost, "/api/v1/registrations/"+request+"/reject", f.token, nil) // too late
	f.call(t, http.MethodPost, "/api/v1/jobs/"+id+"/cancel", "wrong", nil)
	f.call(t, http.MethodGet, "/api/v1/jobs", f.token, nil)
	v := f.visitor(t)
	v.enter(t)
	v.post(t, "/jobs/"+id+"/cancel", nil)
	read := func(query string) client.AuditList {
		t.Helper()
		status, data := f.call(t, http.MethodGet, "/api/v1/audit"+query, f.token, nil)
		var out client.AuditList
		if err := json.Unmarshal(data, &out); err != nil || status != http.StatusOK {
			t.Fatalf("audit: %d %s", status, data)
		}
		return out
	}
	type short struct{ did, who, target, refused string }
	var got []short
	first := read("?limit=3")
	for _, act := range append(first.Acts, read("?cursor="+first.Next).Acts...) {
		if act.Address != "127.0.0.1" || act.At.IsZero() {
			t.Errorf("noted %+v", act)
		}
		got = append(got, short{act.Did, act.Who, act.Target, act.Error})
	}
	want := []short{
		{"cancel job", "Sam", id, ""},
		{"sign in", "Sam", "", ""},
		{"reject worker", "operator token", request, "refused with status 409"},
		{"approve worker", "operator token", request, ""},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the log has %v, want %v", got, want)
	}
	for _, query := range []string{"?limit=0", "?limit=x", "?limit=1001", "?cursor=x", "?cursor=0", "?cursor=-1"} {
		status, data := f.call(t, http.MethodGet, "/api/v1/audit"+query, f.token, nil)
		wantError(t, status, data, http.StatusBadRequest, "bad_request")
	}
}
