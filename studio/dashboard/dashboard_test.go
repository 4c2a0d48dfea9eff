package dashboard

import (
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"studioworker/studio/client"
	"studioworker/worker/protocol"
)

// TestSessionExpiry: a session that nobody uses ends, and so does one that is
// used all the time, only later. A page that is kept up to date is no use.
func TestSessionExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSessions()
		id := s.begin("Sam")
		time.Sleep(idleLimit)
		if s.find(id, true) == nil {
			t.Error("it ended too early")
		}
		for range 3 {
			time.Sleep(idleLimit / 2)
			s.find(id, false) // the script
		}
		if s.find(id, true) != nil || len(s.all) != 0 {
			t.Error("it is kept alive by the script")
		}
		id = s.begin("Sam")
		begun := time.Now()
		for s.find(id, true) != nil {
			time.Sleep(idleLimit / 2)
		}
		if lasted := time.Since(begun); lasted <= sessionLimit || lasted > sessionLimit+idleLimit {
			t.Errorf("a busy one lasted %v", lasted)
		}
	})
}

// TestSessionsAreBounded: too many end the one that was used least recently.
func TestSessionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSessions()
		first, second := s.begin("a"), s.begin("b")
		time.Sleep(time.Second)
		s.find(first, true)
		for range maxSessions - 1 {
			s.begin("c")
		}
		if len(s.all) != maxSessions || s.find(first, false) == nil || s.find(second, false) != nil {
			t.Errorf("%d sessions", len(s.all))
		}
		if s.find("", true) != nil || s.find("guess", true) != nil {
			t.Error("a guess opens")
		}
	})
}

func TestCodesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSessions()
		code, end, err := s.newCode()
		if err != nil || time.Until(end) != codeLimit {
			t.Fatal(end, err)
		}
		time.Sleep(codeLimit)
		if s.useCode(code) || s.useCode("") {
			t.Error("an old code is good")
		}
		for range maxCodes {
			if code, _, err = s.newCode(); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := s.newCode(); err == nil {
			t.Error("codes are not bounded")
		}
		if !s.useCode(code) || s.useCode(code) {
			t.Error("a code is good once")
		}
		time.Sleep(codeLimit)
		if _, _, err := s.newCode(); err != nil {
			t.Errorf("old codes stay: %v", err)
		}
	})
}

func TestNewNeedsItsParts(t *testing.T) {
	api := http.NotFoundHandler()
	for name, cfg := range map[string]Config{
		"no API": {Log: slog.New(slog.DiscardHandler), Cookie: "c"}, "no log": {API: api, Cookie: "c"}, "no cookie": {API: api, Log: slog.New(slog.DiscardHandler)},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: it is made", name)
		}
	}
}

// TestAssets: what pages load is there, with its type, and nothing else is.
func TestAssets(t *testing.T) {
	d, err := New(Config{API: http.NotFoundHandler(), Log: slog.New(slog.DiscardHandler), Cookie: "c"})
	if err != nil {
		t.Fatal(err)
	}
	for path, kind := range map[string]string{
		"/assets/app.css": "text/css; charset=utf-8", "/assets/app.js": "text/javascript; charset=utf-8",
		"/assets/icons.svg": "image/svg+xml", "/assets/icon.svg": "image/svg+xml",
	} {
		w := httptest.NewRecorder()
		d.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != kind || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
	}
	for _, path := range []string{"/assets/", "/assets/none", "/assets/..%2ftemplates%2flayout.html", "/assets/%2e%2e"} {
		w := httptest.NewRecorder()
		d.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		if w.Code == http.StatusOK {
			t.Errorf("%s: %s", path, w.Body)
		}
	}
}

func TestMarks(t *testing.T) {
	yes := true
	caps := func(change func(*protocol.Capabilities)) *protocol.Capabilities {
		c := &protocol.Capabilities{AutoEnabled: true}
		change(c)
		return c
	}
	for want, w := range map[string]worker{
		"Not connected":       {},
		"Working":             {Connected: true, CurrentJobID: "j", Capabilities: caps(func(*protocol.Capabilities) {})},
		"Paused there":        {Connected: true, Capabilities: caps(func(c *protocol.Capabilities) { c.AutoEnabled = false })},
		"Someone is using it": {Connected: true, Capabilities: caps(func(c *protocol.Capabilities) { c.OnlyWhenIdle = &yes })},
		"Idle": {Connected: true, Capabilities: caps(func(c *protocol.Capabilities) {
			c.OnlyWhenIdle, c.UserPresence = &yes, protocol.PresenceIdle
		})},
	} {
		if got := workerMark(w); got.Word != want {
			t.Errorf("%+v is %q, want %q", w, got.Word, want)
		}
	}
	seen := map[mark]bool{}
	for _, state := range []client.State{client.Queued, client.Offered, client.Running, client.Done, client.Failed, client.Cancelled, "other"} {
		m := jobMark(state)
		if seen[m] || m.Word == "" || m.Shape == "" || m.Tone == "" {
			t.Errorf("%s is %+v", state, m)
		}
		seen[m] = true
	}
}

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "under 0.1 s", 0: "under 0.1 s", 1500 * time.Millisecond: "1.5 s", 42 * time.Second: "42 s",
		95 * time.Second: "1 min 35 s", 3*time.Hour + 5*time.Minute: "3 h 5 min",
	} {
		if got := span(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
	for in, want := range map[string]string{"there is no such job": "There is no such job.", "": "", "über!": "Über!"} {
		if got := sentence(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
	if got := firstLine("one\ntwo\tthree\x00four", 11); got != "one two thr…" {
		t.Errorf("got %q", got)
	}
	if got := gigabytes(9.5) + ", " + gigabytes(12); got != "9.5 GB, 12 GB" {
		t.Errorf("got %q", got)
	}
	if got := short("18eab21d94fd8cd8-t3ded6tzs6wp") + short("short"); got != "…d6tzs6wpshort" {
		t.Errorf("got %q", got)
	}
	if got := person("  Sam\r\n<b>\x7f " + strings.Repeat("x", 100)); got != "Sam <b> "+strings.Repeat("x", 52)+"…" {
		t.Errorf("got %q", got)
	}
	for in, want := range map[string]string{
		`{"choices":[{"message":{"content":"hello"}}]}`: "hello", `{"text":"we sail"}`: "we sail", `{"other":1}`: `{"other":1}`, "\xff": "\uFFFD", `{"choices":[]}`: `{"choices":[]}`,
	} {
		if got := readable([]byte(in)); got != want {
			t.Errorf("%s reads %q, want %q", in, got, want)
		}
	}
}

// TestCharts: bars stay inside their box, what is there can be seen, and the
// scale is a number that reads well.
func TestCharts(t *testing.T) {
	start := time.Date(2026, 5, 4, 0, 0, 0, 0, time.UTC)
	stats := client.Stats{Hours: make([]client.Hour, 24)}
	for i := range stats.Hours {
		stats.Hours[i] = client.Hour{Start: start.Add(time.Duration(i) * time.Hour)}
	}
	if c := throughput(stats); !c.Empty || c.Number != "0" {
		t.Errorf("without jobs: %+v", c)
	}
	run := func(h client.Hour) *client.Spread { return h.Run }
	if c := durations("Running", "typical", stats, run); !c.Empty || c.Number != "none" {
		t.Errorf("without jobs: %+v", c)
	}
	stats.Hours[3].Done, stats.Hours[3].Failed = 700, 1
	stats.Hours[23].Done = 30
	stats.Hours[23].Run = &client.Spread{Median: 2, P95: 90}
	for _, c := range []chart{throughput(stats), durations("Running", "typical", stats, run)} {
		if c.Empty || len(c.Bars) != 24 || len(c.Rows) == 0 {
			t.Errorf("%s: %d bars, %d rows", c.Title, len(c.Bars), len(c.Rows))
		}
		for _, b := range c.Bars {
			if b.X < 0 || b.X+b.W > chartWidth || b.Says == "" {
				t.Errorf("%s: bar %+v", c.Title, b)
			}
			for _, p := range b.Parts {
				if p.H < 2 || p.Y < 0 || p.Y+p.H > chartHeight+1e-6 {
					t.Errorf("%s: part %+v", c.Title, p)
				}
			}
		}
	}
	if c := throughput(stats); c.Number != "730" || c.Top != "1000 in an hour" || c.Caption != "done in 24 hours, 1 failed" {
		t.Errorf("throughput: %q %q %q", c.Number, c.Top, c.Caption)
	}
	if c := durations("Running", "typical", stats, run); c.Number != "2.0 s" || c.Top != "1 min 40 s" {
		t.Errorf("durations: %q %q", c.Number, c.Top)
	}
	for in, want := range map[float64]float64{0: 0, 0.07: 0.1, 1: 1, 1.01: 2, 3: 5, 6: 10, 701: 1000} {
		if got := round(in); math.Abs(got-want) > 1e-9 {
			t.Errorf("round(%v) = %v, want %v", in, got, want)
		}
	}
}

// FuzzJobForm: no form makes the reader panic, and a task that it makes is of the
// kind that was asked for, whole, and within its type's bounds.
func FuzzJobForm(f *testing.F) {
	for _, seed := range []string{
		"kind=image&prompt=fog&width=640&seed=7", "kind=llm&prompt=x&tokens=9&temperature=0,5", "kind=audio_stt&url=https://a.example/b",
		"kind=audio_tts&prompt=x&voice=v", "kind=video&prompt=x&seconds=1e309", "kind=image&prompt=x&seed=-1", "kind=%zz", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		form, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		kind := protocol.TaskKind(form.Get("kind"))
		task, err := taskOf(kind, form, form.Get("input"))
		if err != nil {
			return
		}
		parts := 0
		for _, there := range []bool{task.Image != nil, task.LLM != nil, task.STT != nil, task.TTS != nil, task.Video != nil} {
			if there {
				parts++
			}
		}
		if task.Kind != kind || parts != 1 {
			t.Errorf("%q becomes %+v", text, task)
		}
		if i := task.Image; i != nil && (i.Width > 4096 || i.Height > 4096 || i.Steps > 150) {
			t.Errorf("%q becomes %+v", text, *i)
		}
	})
}
