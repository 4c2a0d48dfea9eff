package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"studioworker/worker/protocol"
)

// studio answers one route as given and everything else with 404.
func studio(t *testing.T, pattern string, answer http.HandlerFunc) *Client {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "Bearer token" {
			t.Errorf("Authorization is %q", got)
		}
		answer(w, r)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	c, err := New(server.URL+"/", " token\n", server.Client())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct{ base, token string }{
		{"", "t"},
		{"localhost:9790", "t"},
		{"ftp://h.example", "t"},
		{"http://", "t"},
		{"http://h.example\x7f", "t"},
		{"http://h.example", ""},
		{"http://h.example", " \n"},
		{"http://h.example", "a\nb"},
	} {
		if _, err := New(c.base, c.token, nil); err == nil {
			t.Errorf("New(%q, %q) is fine", c.base, c.token)
		}
	}
	if _, err := New("https://h.example/path?q#f", "t", nil); err != nil {
		t.Error(err)
	}
}

func TestSubmit(t *testing.T) {
	estimate := 2.5
	job := Job{
		Model: "espeak-ng", VRAMGBEstimate: &estimate,
		Task: protocol.Task{Kind: protocol.KindTTS, TTS: &protocol.TTSTask{Text: "we sail at dawn", Voice: "default", Ext: "wav"}},
	}
	c := studio(t, "POST /api/v1/jobs", func(w http.ResponseWriter, r *http.Request) {
		var got Job
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil || got.Model != job.Model || *got.VRAMGBEstimate != 2.5 ||
			*got.Task.TTS != *job.Task.TTS || got.ModelSource != nil {
			t.Errorf("the studio got %+v, %v", got, err)
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"id":"j1","state":"queued"}`)
	})
	if got, err := c.Submit(t.Context(), job); err != nil || got != (Submitted{"j1", Queued}) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := c.Submit(t.Context(), Job{Model: "m"}); err == nil {
		t.Error("a job without task was sent")
	}
}

func TestErrorsOfTheStudio(t *testing.T) {
	for body, want := range map[string]Error{
		`{"error":"unknown_model","message":"the studio has no model"}`: {422, "unknown_model", "the studio has no model"},
		`<html>`: {422, "", ""},
		``:       {422, "", ""},
	} {
		c := studio(t, "GET /api/v1/jobs/a%2Fb", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = io.WriteString(w, body)
		})
		_, err := c.Get(t.Context(), "a/b") // an id is one path segment
		if e, ok := errors.AsType[*Error](err); !ok || *e != want || !strings.Contains(err.Error(), "422") || !strings.Contains(err.Error(), want.Message) {
			t.Errorf("%q becomes %v", body, err)
		}
	}
}

func TestAnswersAreBounded(t *testing.T) {
	c := studio(t, "GET /api/v1/models", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"models":[{"id":"`)
		_, _ = io.Copy(w, io.LimitReader(zeros{}, maxReply))
	})
	if _, err := c.Models(t.Context()); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("Models says %v", err)
	}
	c = studio(t, "GET /api/v1/models", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `[]`) })
	if _, err := c.Models(t.Context()); err == nil {
		t.Error("an answer of another shape is fine")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}

func TestResult(t *testing.T) {
	c := studio(t, "GET /api/v1/jobs/j1/result", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "audio/wav")
		_, _ = io.WriteString(w, "RIFF")
	})
	body, kind, err := c.Result(t.Context(), "j1")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if data, err := io.ReadAll(body); string(data) != "RIFF" || kind != "audio/wav" || err != nil {
		t.Errorf("%q of %q, %v", data, kind, err)
	}
	if _, _, err := c.Result(t.Context(), "j2"); err == nil {
		t.Error("a result that is not there is fine")
	}
}

func TestEvents(t *testing.T) {
	for name, c := range map[string]struct {
		stream string
		want   string
		fails  bool
	}{
		"to the end": {
			": hello\n\nevent: state\ndata: {\"id\":\"j\",\"state\":\"queued\"}\n\nevent: progress\r\ndata: {\"id\":\"j\",\r\ndata:\"state\":\"running\",\"progress\":{\"step\":1,\"total\":2}}\r\n\r\n" +
				"event: state\ndata: {\"id\":\"j\",\"state\":\"done\"}\n\nevent: state\ndata: not read\n\n",
			"state queued, progress running, state done", false,
		},
		"cut off":       {"event: state\ndata: {\"state\":\"queued\"}\n\n", "state queued", true},
		"half an event": {"event: state\ndata: {\"state\":\"done\"}\n", "", true},
		"unknown event": {"event: dance\ndata: {}\n\n", "", true},
		"no name":       {"data: {}\n\n", "", true},
		"damaged":       {"event: state\ndata: {\n\n", "", true},
		"long line":     {"event: state\ndata: " + strings.Repeat("x", maxEvent) + "\n\n", "", true},
		"many lines":    {"event: state\n" + strings.Repeat("data: "+strings.Repeat("x", maxEvent/2)+"\n", 3) + "\n", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			cl := studio(t, "GET /api/v1/jobs/j/events", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, c.stream) })
			var got []string
			var failed error
			for event, err := range cl.Events(t.Context(), "j") {
				if failed = err; err == nil {
					got = append(got, fmt.Sprintf("%s %s", event.Type, event.Job.State))
				}
			}
			if strings.Join(got, ", ") != c.want || (failed != nil) != c.fails {
				t.Errorf("got %q and %v, want %q", got, failed, c.want)
			}
		})
	}
	cl := studio(t, "GET /api/v1/jobs/j/events", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "event: state\ndata: {\"state\":\"queued\"}\n\nevent: state\ndata: {\"state\":\"running\"}\n\n")
	})
	for event, err := range cl.Events(t.Context(), "j") {
		if err != nil || event.Job.State != Queued {
			t.Errorf("%+v, %v", event, err)
		}
		break // a reader may stop early
	}
	for _, err := range cl.Events(t.Context(), "other") {
		if _, ok := errors.AsType[*Error](err); !ok {
			t.Errorf("an unknown job: %v", err)
		}
	}
}

// FuzzReadEvents: no stream makes the parser panic or go on after an error, and
// what it yields is bounded by what came in.
func FuzzReadEvents(f *testing.F) {
	f.Add("event: state\ndata: {\"id\":\"j\",\"state\":\"done\"}\n\n")
	f.Add(": x\r\n\r\ndata\nevent:progress\ndata:{}\n\n")
	f.Add("event: state\ndata: {\ndata: }\n\n")
	f.Fuzz(func(t *testing.T, stream string) {
		failed, n := false, 0
		for event, err := range readEvents(strings.NewReader(stream)) {
			if failed {
				t.Fatal("the parser went on after an error")
			}
			failed = err != nil
			if n++; err == nil && event.Type != EventState && event.Type != EventProgress && (event.Type != EventDelta || event.Delta == nil) {
				t.Errorf("event %+v", event)
			}
		}
		if !failed || n > strings.Count(stream, "\n")+1 {
			t.Errorf("%d events, ended with an error: %t", n, failed)
		}
	})
}

// TestPagesAreRead: a list is read to its end, and one without an end is not.
func TestPagesAreRead(t *testing.T) {
	c := studio(t, "GET /api/v1/keys", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("cursor") == "a+b" {
			_, _ = io.WriteString(w, `{"keys":[{"id":"2"}]}`)
			return
		}
		_, _ = io.WriteString(w, `{"keys":[{"id":"1"}],"next":"a+b"}`)
	})
	if keys, err := c.Keys(t.Context()); err != nil || len(keys) != 2 || keys[1].ID != "2" {
		t.Errorf("%+v, %v", keys, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	c = studio(t, "GET /api/v1/models", func(w http.ResponseWriter, _ *http.Request) {
		if n++; n == 5 {
			cancel()
		}
		_, _ = io.WriteString(w, `{"models":[],"next":"x"}`)
	})
	if models, err := c.Models(ctx); err == nil {
		t.Errorf("an endless list gives %v", models)
	}
}

func TestKeyCalls(t *testing.T) {
	c := studio(t, "POST /api/v1/keys", func(w http.ResponseWriter, r *http.Request) {
		if data, err := io.ReadAll(r.Body); err != nil || string(data) != `{"name":"atelier"}` {
			t.Errorf("the studio got %s, %v", data, err)
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"id":"k","name":"atelier","prefix":"sw-k","key":"sw-k-secret"}`)
	})
	if key, err := c.CreateKey(t.Context(), KeyRequest{Name: "atelier"}); err != nil || key.ID != "k" || key.Text != "sw-k-secret" {
		t.Errorf("%+v, %v", key, err)
	}
	c = studio(t, "DELETE /api/v1/keys/a%2Fb", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	if err := c.RevokeKey(t.Context(), "a/b"); err != nil {
		t.Error(err)
	}
}

func TestPutInput(t *testing.T) {
	c := studio(t, "POST /api/v1/inputs", func(w http.ResponseWriter, r *http.Request) {
		if data, err := io.ReadAll(r.Body); err != nil || string(data) != "RIFF" || r.Header.Get("Content-Type") != "audio/wav" {
			t.Errorf("the studio got %s of %s, %v", data, r.Header.Get("Content-Type"), err)
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"id":"in-1","url":"http://h/api/v1/inputs/in-1","bytes":4}`)
	})
	if in, err := c.PutInput(t.Context(), "audio/wav", strings.NewReader("RIFF")); err != nil || in.Bytes != 4 || in.URL == "" {
		t.Errorf("%+v, %v", in, err)
	}
}
