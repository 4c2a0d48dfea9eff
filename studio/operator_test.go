package studio

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"studioworker/studio/client"
	"studioworker/worker/protocol"
)

// TestOperatorRoutesAreGuarded: no route of the operator answers without the
// token, and all speak JSON.
func TestOperatorRoutesAreGuarded(t *testing.T) {
	f := newFarm(t, nil)
	for _, route := range []string{
		"POST /api/v1/jobs", "GET /api/v1/jobs", "GET /api/v1/jobs/x", "GET /api/v1/jobs/x/result", "GET /api/v1/jobs/x/events",
		"GET /api/v1/workers", "GET /api/v1/workers/x/logs", "GET /api/v1/registrations", "POST /api/v1/registrations/x/approve",
		"POST /api/v1/registrations/x/reject", "GET /api/v1/models",
	} {
		method, path, _ := strings.Cut(route, " ")
		for _, token := range []string{"", "wrong", f.token + "x", f.token[:len(f.token)-1]} {
			status, data := f.call(t, method, path, token, nil)
			wantError(t, status, data, http.StatusUnauthorized, "unauthorized")
		}
	}
	status, data := f.call(t, http.MethodGet, "/api/v1/nothing", f.token, nil)
	wantError(t, status, data, http.StatusNotFound, "not_found")
	status, data = f.call(t, http.MethodDelete, "/api/v1/jobs", f.token, nil)
	wantError(t, status, data, http.StatusMethodNotAllowed, "method_not_allowed")
	for _, path := range []string{"/api/v1/jobs/none", "/api/v1/jobs/none/result", "/api/v1/jobs/none/events"} {
		status, data = f.call(t, http.MethodGet, path, f.token, nil)
		wantError(t, status, data, http.StatusNotFound, "not_found")
	}
	status, data = f.call(t, http.MethodGet, workers+"x/nothing", "", nil)
	wantError(t, status, data, http.StatusNotFound, "not_found")
	if status, data = f.call(t, http.MethodGet, "/healthz", "", nil); status != http.StatusOK || !strings.HasPrefix(string(data), `{"status":"ok","version":"1.2.3","durability":"verified`) {
		t.Errorf("healthz answers %d %s", status, data)
	}
}

func TestJobsAreListedNewestFirst(t *testing.T) {
	f := newFarm(t, nil)
	var ids []string
	for range 5 {
		ids = append(ids, f.submit(t, imageJob).ID)
	}
	list := func(query string) []string {
		status, data := f.call(t, http.MethodGet, "/api/v1/jobs"+query, f.token, nil)
		var out client.JobList
		if err := json.Unmarshal(data, &out); err != nil || status != http.StatusOK {
			t.Fatalf("list answered %d %s", status, data)
		}
		var got []string
		for _, j := range out.Jobs {
			got = append(got, j.ID)
		}
		return got
	}
	if got, want := fmt.Sprint(list("")), fmt.Sprint([]string{ids[4], ids[3], ids[2], ids[1], ids[0]}); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(list("?state=queued&limit=2")), fmt.Sprint([]string{ids[4], ids[3]}); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := list("?state=done"); len(got) != 0 {
		t.Errorf("done jobs: %v", got)
	}
	for _, query := range []string{"?state=asleep", "?limit=0", "?limit=1001", "?limit=x"} {
		status, data := f.call(t, http.MethodGet, "/api/v1/jobs"+query, f.token, nil)
		wantError(t, status, data, http.StatusBadRequest, "bad_request")
	}
}

func TestModels(t *testing.T) {
	f := newFarm(t, nil)
	models, err := f.operator.Models(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]protocol.TaskKind{
		"espeak-ng": protocol.KindTTS, "synthetic-image": protocol.KindImage, "synthetic-llm": protocol.KindLLM,
		"synthetic-stt": protocol.KindSTT, "synthetic-tts": protocol.KindTTS, "synthetic-video": protocol.KindVideo,
	}
	if len(models) != len(want) {
		t.Errorf("models are %+v", models)
	}
	for _, m := range models {
		if len(m.Kinds) != 1 || m.Kinds[0] != want[m.ID] {
			t.Errorf("model %+v", m)
		}
	}
}

func TestSubmissionsAreChecked(t *testing.T) {
	f := newFarm(t, nil)
	image := func(task string) string {
		return `{"model":"synthetic-image","task":{"kind":"image","prompt":"x",` + task + `}}`
	}
	speech := func(task string) string { return `{"model":"synthetic-tts","task":{"kind":"audio_tts",` + task + `}}` }
	video := func(task string) string {
		return `{"model":"synthetic-video","task":{"kind":"video","prompt":"x",` + task + `}}`
	}
	llm := func(task string) string {
		return `{"model":"synthetic-llm","task":{"kind":"llm","messages":[]` + task + `}}`
	}
	stt := func(task string) string { return `{"model":"synthetic-stt","task":{"kind":"audio_stt",` + task + `}}` }
	deep := strings.Repeat("[", 62) + strings.Repeat("]", 62)
	for body, want := range map[string]string{
		``: "400 invalid_job", `{`: "400 invalid_job", `null`: "422 invalid_job", `[]`: "422 invalid_job", `{}`: "422 invalid_job",
		`{"model":"synthetic-image"}`:                                                                        "422 invalid_job",
		`{"model":"synthetic-image","task":null}`:                                                            "422 invalid_job",
		`{"model":"synthetic-image","task":{"kind":"dance"}}`:                                                "422 invalid_job",
		`{"model":"synthetic-image","task":{"kind":"image"}}`:                                                "422 invalid_job",
		`{"model":"","task":{"kind":"image","prompt":"x"}}`:                                                  "422 invalid_job",
		`{"model":"a\nb","task":{"kind":"image","prompt":"x"}}`:                                              "422 invalid_job",
		`{"model":"no-such-model","task":{"kind":"image","prompt":"x"}}`:                                     "422 unknown_model",
		`{"model":"../jobs-0/x y","task":{"kind":"image","prompt":"x"}}`:                                     "422 unknown_model",
		`{"model":"synthetic-llm","task":{"kind":"image","prompt":"x"}}`:                                     "422 wrong_model",
		`{"model":"synthetic-image","task":{"kind":"image","prompt":""}}`:                                    "422 invalid_job",
		`{"model":"synthetic-image","task":{"kind":"image","prompt":"` + strings.Repeat("ä", 20_001) + `"}}`: "422 invalid_job",
		image(`"width":63`): "422 invalid_job", image(`"height":4097`): "422 invalid_job", image(`"width":"wide"`): "422 invalid_job",
		image(`"steps":0`): "422 invalid_job", image(`"steps":151`): "422 invalid_job", image(`"denoise":1.1`): "422 invalid_job",
		image(`"cfgScale":-1`): "422 invalid_job", image(`"seed":9007199254740992`): "422 invalid_job", image(`"ext":"exe"`): "422 invalid_job",
		image(`"initImageUrl":"file:///etc/passwd"`): "422 invalid_job", image(`"maskUrl":"https://"`): "422 invalid_job",
		image(`"refImageUrl":"https://x.example/` + strings.Repeat("x", 4096) + `"`): "422 invalid_job",
		speech(`"text":""`): "422 invalid_job", speech(`"text":"x","speed":0.2`): "422 invalid_job", speech(`"text":"x","speed":4.1`): "422 invalid_job",
		speech(`"text":"x","voice":""`): "422 invalid_job", speech(`"text":"x","ext":"midi"`): "422 invalid_job",
		video(`"seconds":0`): "422 invalid_job", video(`"fps":61`): "422 invalid_job", video(`"width":2049`): "422 invalid_job",
		llm(`,"maxTokens":32769`): "422 invalid_job", llm(`,"temperature":2.1`): "422 invalid_job", llm(`,"topP":1.1`): "422 invalid_job",
		llm(`,"jsonSchema":` + deep):      "422 invalid_job",
		stt(`"inputUrl":"file:///x.wav"`): "422 invalid_job", stt(`"inputUrl":"https://x.example/a.wav","timestamps":"day"`): "422 invalid_job",
		`{"model":"m","vramGbEstimate":-1,"task":{"kind":"image","prompt":"x"}}`:                                                                                "422 invalid_job",
		`{"model":"m","modelSource":{"engine":"","files":[],"cliDefaults":{"cfgScale":1,"steps":1,"width":1,"height":1}},"task":{"kind":"image","prompt":"x"}}`: "422 invalid_job",
		`{"model":"m","modelSource":{"engine":"sd-cpp"},"task":{"kind":"image","prompt":"x"}}`:                                                                  "422 invalid_job",
	} {
		status, data := f.call(t, http.MethodPost, "/api/v1/jobs", f.token, strings.NewReader(body))
		var e client.Error
		if err := json.Unmarshal(data, &e); err != nil || fmt.Sprint(status, " ", e.Code) != want || e.Message == "" {
			t.Errorf("%.120s: %d %s, want %s", body, status, data, want)
		}
	}
	for _, body := range []string{
		image(`"width":0,"height":0,"steps":150,"seed":9007199254740991`), speech(`"text":"x","speed":4,"ext":"mp3"`), video(`"seconds":60,"fps":1`),
		llm(`,"maxTokens":0,"temperature":0`), stt(`"inputUrl":"http://x.example/a.wav"`),
		`{"model":"m","modelSource":{"engine":"sd-cpp","files":[],"cliDefaults":{"cfgScale":1,"steps":1,"width":1,"height":1}},"task":{"kind":"image","prompt":"x"}}`,
	} {
		f.submit(t, body)
	}
	status, data := f.call(t, http.MethodGet, "/api/v1/jobs", f.token, nil)
	var list client.JobList
	if err := json.Unmarshal(data, &list); err != nil || status != http.StatusOK || len(list.Jobs) != 6 {
		t.Errorf("%d jobs were stored, want the 6 good ones", len(list.Jobs))
	}
}

// TestHugeBodies: whether its length is told or not, a body of 100 MB is
// answered 413 without being read.
func TestHugeBodies(t *testing.T) {
	f := newFarm(t, nil)
	const huge = 100 << 20
	for name, known := range map[string]bool{"length told": true, "length not told": false} {
		t.Run(name, func(t *testing.T) {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(f.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }() // it is closed below, unless the test failed before
			length := "Transfer-Encoding: chunked\r\n"
			if known {
				length = fmt.Sprintf("Content-Length: %d\r\n", huge)
			}
			_, err = fmt.Fprintf(conn, "POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n%s\r\n", f.token, length)
			if err != nil {
				t.Fatal(err)
			}
			written := make(chan int, 1)
			go func() {
				piece, n := []byte(strings.Repeat("x", 1<<20)), 0
				for n < huge {
					if !known {
						if _, err := fmt.Fprintf(conn, "%x\r\n", len(piece)); err != nil {
							break
						}
					}
					if _, err := conn.Write(piece); err != nil {
						break
					}
					if !known {
						if _, err := io.WriteString(conn, "\r\n"); err != nil {
							break
						}
					}
					n += len(piece)
				}
				written <- n
			}()
			if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			answer := make([]byte, 4096)
			n, err := io.ReadAtLeast(conn, answer, 12)
			if err != nil || !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 413 ") {
				t.Errorf("answer %q, %v", answer[:n], err)
			}
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
			if n := <-written; n >= huge {
				t.Error("the studio took the whole body")
			}
		})
	}
	t.Run("asked first", func(t *testing.T) {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(f.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = fmt.Fprintf(conn, "POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", f.token, huge)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 413 ") {
			t.Errorf("answer %q, %v", answer, err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("wrong token", func(t *testing.T) {
		status, data := f.call(t, http.MethodPost, "/api/v1/jobs", "wrong", strings.NewReader(strings.Repeat("x", 200<<10)))
		wantError(t, status, data, http.StatusUnauthorized, "unauthorized")
	})
	f.submit(t, imageJob) // and nothing is lost
}

func TestEventsEndWithTheStudio(t *testing.T) {
	f := newFarm(t, nil)
	job := f.submit(t, imageJob)
	for event, err := range f.operator.Events(t.Context(), job.ID) {
		if err == nil {
			if event.Job.State != client.Queued {
				t.Errorf("first event is %+v", event)
			}
			f.stop()
			continue
		}
		return // the stream ended early, and the client says so
	}
	t.Error("the stream ended as if the job had")
}

func TestEventsOfACancelledReader(t *testing.T) {
	f := newFarm(t, nil)
	job := f.submit(t, imageJob)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, err := range f.operator.Events(ctx, job.ID) {
		if err != nil {
			return
		}
		cancel()
	}
	t.Error("the stream ended without an error")
}

// TestSlowReaderIsCutOff: an event stream that does not keep up ends rather
// than lying by omission.
func TestSlowReaderIsCutOff(t *testing.T) {
	f := newFarm(t, nil)
	j := f.studio.hub.job(f.submit(t, imageJob).ID)
	_, events, stop := j.follow()
	defer stop()
	j.mu.Lock()
	for range watchBuffer {
		j.publish(client.EventProgress)
	}
	j.publish(client.EventProgress) // may be missed
	if len(j.streams) != 1 {
		t.Error("missing progress ended the stream")
	}
	j.publish(client.EventState) // may not
	j.mu.Unlock()
	n := 0
	for range events {
		n++
	}
	if n != watchBuffer {
		t.Errorf("%d events came before the end, want %d", n, watchBuffer)
	}
}
