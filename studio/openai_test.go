package studio

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"studioworker/studio/client"
	"studioworker/worker/protocol"
)

// reply is an answer of a call under /v1.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// openAI makes a call in the background.
func (f *farm) openAI(ctx context.Context, tb testing.TB, method, path, token, kind string, body io.Reader) <-chan reply {
	tb.Helper()
	return f.openAITo(ctx, tb, io.Discard, method, path, token, kind, body)
}

// openAITo is openAI, and copies the answer as it comes.
func (f *farm) openAITo(ctx context.Context, tb testing.TB, copied io.Writer, method, path, token, kind string, body io.Reader) <-chan reply {
	tb.Helper()
	req, err := http.NewRequestWithContext(ctx, method, f.url+path, body)
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	out := make(chan reply, 1)
	go func() {
		defer close(out)
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			return
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(io.TeeReader(resp.Body, copied))
		if err == nil {
			out <- reply{resp.StatusCode, resp.Header, data}
		}
	}()
	return out
}

// post makes a call with a JSON body in the background.
func (f *farm) post(tb testing.TB, path, body string) <-chan reply {
	tb.Helper()
	return f.openAI(tb.Context(), tb, http.MethodPost, path, f.token, "application/json", strings.NewReader(body))
}

// stream makes a chat call that is answered piece by piece, in the background. heard
// waits until the caller has read so much of the text.
func (f *farm) stream(tb testing.TB, body string) (answer <-chan reply, heard func(text string)) {
	tb.Helper()
	pieces := make(chunks, 100)
	answer = f.openAITo(tb.Context(), tb, pieces, http.MethodPost, "/v1/chat/completions", f.token, "application/json", strings.NewReader(body))
	var read []byte
	return answer, func(want string) {
		tb.Helper()
		limit := time.After(patience)
		for text := ""; text != want; {
			select {
			case more := <-pieces:
				read = append(read, more...)
			case <-limit:
				tb.Fatalf("the caller has read %s", read)
			}
			text = ""
			for _, data := range events(tb, read) {
				var frame chatAnswer
				if json.Unmarshal([]byte(data), &frame) == nil && len(frame.Choices) == 1 && frame.Choices[0].Delta != nil && frame.Choices[0].Delta.Content != nil { // else the rest is still to come
					text += *frame.Choices[0].Delta.Content
				}
			}
		}
	}
}

// chunks passes on what is written.
type chunks chan []byte

// Write implements io.Writer.
func (c chunks) Write(data []byte) (int, error) {
	c <- bytes.Clone(data)
	return len(data), nil
}

// got waits for the answer of a call.
func got(tb testing.TB, answer <-chan reply) reply {
	tb.Helper()
	select {
	case r, ok := <-answer:
		if !ok {
			tb.Fatal("the call broke off")
		}
		return r
	case <-time.After(patience):
		tb.Fatal("the call is not answered")
	}
	return reply{}
}

// wantCallError checks an error as OpenAI's clients read it.
func wantCallError(tb testing.TB, r reply, status int, code, param string) {
	tb.Helper()
	var e errorBody
	if err := json.Unmarshal(r.body, &e); err != nil || r.status != status || e.Error.Message == "" || e.Error.Type == "" ||
		e.Error.Code == nil || *e.Error.Code != code || (param == "") != (e.Error.Param == nil) || (param != "" && *e.Error.Param != param) {
		tb.Errorf("answer %d %s, want %d %s of %q", r.status, r.body, status, code, param)
	}
	if r.header.Get("X-Request-Id") == "" {
		tb.Error("the answer has no X-Request-Id")
	}
}

const helloChat = `{"model":"synthetic-llm","messages":[{"role":"user","content":"name this town"}]}`

func (l *line) answerChat(tb testing.TB, id, text string) {
	tb.Helper()
	result := fmt.Sprintf(`{"object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":%q,"reasoning_content":"short"},"finish_reason":"length"}],"usage":{"prompt_tokens":4,"completion_tokens":2,"total_tokens":6}}`, text)
	l.send(tb, protocol.CompleteJSON{JobID: id, Result: json.RawMessage(result)})
	expect[protocol.CompleteAck](tb, l)
	l.beat(tb, "")
}

func TestChat(t *testing.T) {
	f := newFarm(t, nil)
	key := f.key(t, client.KeyRequest{Name: "x"})
	l := f.modern(t).connect(t, "")
	answer := f.openAI(t.Context(), t, http.MethodPost, "/v1/chat/completions", key.Text, "application/json; charset=utf-8", strings.NewReader(`{
		"model":"synthetic-llm","max_tokens":9,"max_completion_tokens":99,"temperature":0,"top_p":0.5,"stop":"\n","seed":7,"user":"u",
		"reasoning_effort":"low","chat_template_kwargs":{"enable_thinking":false},"tools":[],"n":1,"stream":null,"modalities":["text"],
		"response_format":{"type":"json_schema","json_schema":{"name":"town","strict":true,"schema":{"type":"object"}}},
		"messages":[{"role":"developer","content":"be short"},{"role":"user","content":[{"type":"text","text":"name "},{"type":"text","text":"this town"}]},
			{"role":"assistant","content":null},{"role":"user","content":"well?"}]}`))
	claim := l.take(t)
	want := protocol.LLMTask{
		Messages:  []protocol.Message{{Role: "system", Content: "be short"}, {Role: "user", Content: "name this town"}, {Role: "assistant"}, {Role: "user", Content: "well?"}},
		MaxTokens: 99, Stop: []string{"\n"}, JSONSchema: json.RawMessage(`{"type":"object"}`),
		ChatTemplateKwargs: map[string]json.RawMessage{"enable_thinking": json.RawMessage("false")},
	}
	half, low := 0.5, "low"
	want.TopP, want.Reasoning = &half, &low
	gotTask, err := json.Marshal(claim.Task)
	wantTask, wantErr := json.Marshal(protocol.Task{Kind: protocol.KindLLM, LLM: &want})
	if err != nil || wantErr != nil || !bytes.Equal(gotTask, wantTask) || claim.GameID != openAIGame {
		t.Errorf("the worker got %s, want %s", gotTask, wantTask)
	}
	l.answerChat(t, claim.JobID, "Saltmere")
	r := got(t, answer)
	var out chatAnswer
	if err := json.Unmarshal(r.body, &out); err != nil || r.status != http.StatusOK || out.ID != "chatcmpl-"+claim.JobID || out.Object != "chat.completion" ||
		out.Created == 0 || out.Model != "synthetic-llm" || len(out.Choices) != 1 || *out.Usage != (chatUsage{4, 2, 6}) {
		t.Fatalf("answered %d %s", r.status, r.body)
	}
	if c := out.Choices[0]; c.Message.Role != "assistant" || c.Message.Content != "Saltmere" || c.Message.ReasoningContent != "short" || *c.FinishReason != "length" {
		t.Errorf("the choice is %s", r.body)
	}
	if job := f.job(t, claim.JobID); job.Submitter != key.ID {
		t.Errorf("the job is %+v", job)
	}
}

// events reads a stream of server-sent events to its end.
func events(tb testing.TB, body []byte) []string {
	tb.Helper()
	var out []string
	lines := bufio.NewScanner(bytes.NewReader(body))
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			out = append(out, data)
		}
	}
	return out
}

// chatText puts the pieces of a streamed answer together.
func chatText(tb testing.TB, pieces []string) (text, reason string, usage *chatUsage) {
	tb.Helper()
	for _, p := range pieces {
		var frame chatAnswer
		if err := json.Unmarshal([]byte(p), &frame); err != nil || frame.Object != chunkObject {
			tb.Fatalf("piece %s, %v", p, err)
		}
		if frame.Usage != nil {
			usage = frame.Usage
		}
		for _, c := range frame.Choices {
			if c.Delta.Content != nil {
				text += *c.Delta.Content
			}
			if c.FinishReason != nil {
				reason = *c.FinishReason
			}
		}
	}
	return text, reason, usage
}

func TestChatStream(t *testing.T) {
	f := newFarm(t, nil)
	l := f.modern(t).connect(t, "")
	for name, c := range map[string]struct {
		told  []string
		whole string
		want  string
	}{
		"piece by piece":    {[]string{"Salt", "mere", " is"}, "Saltmere is quiet", "Saltmere is quiet"},
		"all at once":       {nil, "Saltmere", "Saltmere"},
		"tidied at the end": {[]string{"Saltmere", "\n\n"}, "Saltmere", "Saltmere\n\n"},
		"nothing":           {nil, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			answer, heard := f.stream(t, strings.Replace(helloChat, "{", `{"stream":true,"stream_options":{"include_usage":true},`, 1))
			claim := l.take(t)
			for i, text := range c.told {
				l.send(t, protocol.Delta{JobID: claim.JobID, Seq: i, Text: text})
			}
			heard(strings.Join(c.told, ""))
			l.answerChat(t, claim.JobID, c.whole)
			r := got(t, answer)
			pieces := events(t, r.body)
			if r.status != http.StatusOK || r.header.Get("Content-Type") != "text/event-stream" || len(pieces) < 3 || pieces[len(pieces)-1] != "[DONE]" {
				t.Fatalf("answered %d %s", r.status, r.body)
			}
			text, reason, usage := chatText(t, pieces[:len(pieces)-1])
			if text != c.want || reason != "length" || usage == nil || *usage != (chatUsage{4, 2, 6}) {
				t.Errorf("streamed %q, %q, %+v", text, reason, usage)
			}
			if !strings.Contains(pieces[0], `"role":"assistant","content":""`) || !strings.Contains(pieces[0], `"usage":null`) {
				t.Errorf("the first piece is %s", pieces[0])
			}
		})
	}
	answer := f.post(t, "/v1/chat/completions", strings.Replace(helloChat, "{", `{"stream":true,`, 1))
	l.answerChat(t, l.take(t).JobID, "Saltmere")
	if r := got(t, answer); bytes.Contains(r.body, []byte("usage")) {
		t.Errorf("usage was told unasked: %s", r.body)
	}
}

// TestChatStreamOverALostWorker: what the next attempt says is joined if it goes on
// from what was said, and an error if it does not.
func TestChatStreamOverALostWorker(t *testing.T) {
	f := newFarm(t, func(c *Config) { c.RetryPause = time.Millisecond })
	l := f.modern(t).connect(t, "")
	for second, want := range map[string]string{"Saltmere is quiet": "", "Gull Rock": "worker_lost"} {
		answer, heard := f.stream(t, strings.Replace(helloChat, "{", `{"stream":true,`, 1))
		claim := l.take(t)
		l.send(t, protocol.Delta{JobID: claim.JobID, Text: "Saltmere"})
		heard("Saltmere")
		l.send(t, protocol.Fail{JobID: claim.JobID, Error: "out of memory", Retryable: true})
		expect[protocol.FailAck](t, l)
		l.beat(t, "")
		if again := l.take(t); again.JobID != claim.JobID {
			t.Fatalf("offered %s", again.JobID)
		}
		for i, piece := range strings.SplitAfter(second, " ") {
			l.send(t, protocol.Delta{JobID: claim.JobID, Seq: i, Text: piece})
		}
		if want != "" {
			f.await(t, claim.JobID, func(s client.JobStatus) bool { return s.State == client.Running })
			expect[protocol.Cancel](t, l)
			l.send(t, protocol.Fail{JobID: claim.JobID, Error: "cancelled"})
			expect[protocol.FailAck](t, l)
			l.beat(t, "")
		} else {
			l.answerChat(t, claim.JobID, second)
		}
		pieces := events(t, got(t, answer).body)
		last := pieces[len(pieces)-1]
		if want != "" {
			var e errorBody
			if err := json.Unmarshal([]byte(last), &e); err != nil || e.Error.Code == nil || *e.Error.Code != want {
				t.Errorf("the stream ends with %s", last)
			}
			continue
		}
		if text, _, _ := chatText(t, pieces[:len(pieces)-1]); text != second || last != "[DONE]" {
			t.Errorf("streamed %q to %s", text, last)
		}
	}
}

func TestChatIsRefused(t *testing.T) {
	f := newFarm(t, nil)
	f.worker(t).connect(t, "")
	messages := `"messages":[{"role":"user","content":"x"}]`
	for body, want := range map[string]struct{ code, param string }{
		`{`:                {"invalid_json", ""},
		`[]`:               {"invalid_value", ""},
		`{"messages":"x"}`: {"invalid_value", "messages"},
		`{"messages":[]}`:  {"invalid_value", "messages"},
		`{"messages":[{"role":"user","content":7}]}`:                                     {"invalid_value", "messages"},
		`{"messages":[{"role":"tool","content":"x"}]}`:                                   {"unsupported_parameter", "messages"},
		`{"messages":[{"role":"assistant","tool_calls":[{}]}]}`:                          {"unsupported_parameter", "messages"},
		`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]}`: {"unsupported_parameter", "messages"},
		`{` + messages + `,"tools":[{"type":"function"}]}`:                               {"unsupported_parameter", "tools"},
		`{` + messages + `,"functions":[{"name":"x"}]}`:                                  {"unsupported_parameter", "functions"},
		`{` + messages + `,"n":2}`:                                                       {"unsupported_parameter", "n"},
		`{` + messages + `,"logprobs":true}`:                                             {"unsupported_parameter", "logprobs"},
		`{` + messages + `,"modalities":["text","audio"]}`:                               {"unsupported_parameter", "modalities"},
		`{` + messages + `,"web_search_options":{}}`:                                     {"unsupported_parameter", "web_search_options"},
		`{` + messages + `,"max_tokens":0}`:                                              {"invalid_value", "max_tokens"},
		`{` + messages + `,"max_tokens":"many"}`:                                         {"invalid_value", "max_tokens"},
		`{` + messages + `,"temperature":3}`:                                             {"invalid_value", "temperature"},
		`{` + messages + `,"top_p":-1}`:                                                  {"invalid_value", "topP"},
		`{` + messages + `,"stop":7}`:                                                    {"invalid_value", "stop"},
		`{` + messages + `,"stop":[` + strings.Repeat(`"x",`, 16) + `"x"]}`:              {"invalid_value", "stop"},
		`{` + messages + `,"response_format":{"type":"grammar"}}`:                        {"unsupported_parameter", "response_format"},
		`{` + messages + `,"response_format":{"type":"json_schema"}}`:                    {"invalid_value", "response_format"},
	} {
		wantCallError(t, got(t, f.post(t, "/v1/chat/completions", body)), http.StatusBadRequest, want.code, want.param)
	}
	wantCallError(t, got(t, f.post(t, "/v1/chat/completions", `{"model":"none",`+messages+`}`)), http.StatusNotFound, "model_not_found", "model")
	wantCallError(t, got(t, f.post(t, "/v1/chat/completions", `{"model":"synthetic-image",`+messages+`}`)), http.StatusNotFound, "model_not_found", "model")
	wantCallError(t, got(t, f.post(t, "/v1/chat/completions", `{"x":"`+strings.Repeat("x", client.MaxJob)+`"}`)), http.StatusRequestEntityTooLarge, "too_large", "")
	wantCallError(t, got(t, f.post(t, "/v1/embeddings", `{}`)), http.StatusNotFound, "unknown_url", "")
	wantCallError(t, got(t, f.openAI(t.Context(), t, http.MethodPost, "/v1/chat/completions", f.token, "text/plain", strings.NewReader(helloChat))),
		http.StatusUnsupportedMediaType, "unsupported_media_type", "")
	if list := f.studio.hub.list("", 10, func(*job) bool { return true }); len(list) > 0 {
		t.Errorf("%d jobs were queued", len(list))
	}
}

// TestOpenAICredentials: wrong, expired and revoked keys open none of the routes.
func TestOpenAICredentials(t *testing.T) {
	f := newFarm(t, nil)
	revoked, expired := f.key(t, client.KeyRequest{Name: "revoked"}), f.key(t, client.KeyRequest{Name: "expired"})
	if err := f.operator.RevokeKey(t.Context(), revoked.ID); err != nil {
		t.Fatal(err)
	}
	f.expireKey(t, expired.ID)
	for _, token := range []string{"x", revoked.Text, expired.Text, f.worker(t).token} {
		for _, route := range []string{
			"POST /v1/chat/completions", "POST /v1/images/generations", "POST /v1/audio/speech", "POST /v1/audio/transcriptions",
			"POST /v1/audio/translations", "GET /v1/models", "GET /v1/models/synthetic-llm", "GET /v1/nothing", "DELETE /v1/chat/completions",
		} {
			method, path, _ := strings.Cut(route, " ")
			wantCallError(t, got(t, f.openAI(t.Context(), t, method, path, token, "application/json", strings.NewReader("{}"))), http.StatusUnauthorized, "invalid_api_key", "")
		}
	}
	if status, body := f.call(t, http.MethodGet, "/v1/models", "", nil); status != http.StatusUnauthorized {
		t.Errorf("without a key: %d %s", status, body)
	}
}

// TestCallsThatCannotBeServed answer in time, and say when to come back.
func TestCallsThatCannotBeServed(t *testing.T) {
	f := newFarm(t, func(c *Config) { c.CallLimit, c.MaxQueuedByKey = time.Second, 1 })
	wantCallError(t, got(t, f.post(t, "/v1/chat/completions", helloChat)), http.StatusServiceUnavailable, "no_worker", "")
	w := f.worker(t)
	w.caps.TaskKinds = []protocol.TaskKind{protocol.KindImage, protocol.KindLLM}
	l := w.connect(t, "")
	wantCallError(t, got(t, f.post(t, "/v1/audio/speech", `{"input":"x"}`)), http.StatusServiceUnavailable, "no_worker", "")
	f.submit(t, imageJob)
	busy := l.take(t).JobID

	r := got(t, f.post(t, "/v1/chat/completions", helloChat))
	wantCallError(t, r, http.StatusGatewayTimeout, "timeout", "")
	if r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	timedOut := f.studio.hub.list("", 1, func(j *job) bool { return j.id != busy })[0]
	if job := timedOut.status(); job.State != client.Cancelled || job.Error != timeoutText {
		t.Errorf("the job is %+v", job)
	}

	key := f.key(t, client.KeyRequest{Name: "x"})
	f.openAI(t.Context(), t, http.MethodPost, "/v1/chat/completions", key.Text, "application/json", strings.NewReader(helloChat))
	f.awaitQueued(t, 1)
	r = got(t, f.openAI(t.Context(), t, http.MethodPost, "/v1/chat/completions", key.Text, "application/json", strings.NewReader(helloChat)))
	wantCallError(t, r, http.StatusTooManyRequests, "queue_full", "")
	if r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

// awaitQueued waits until n jobs wait for a worker.
func (f *farm) awaitQueued(tb testing.TB, n int) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	for ctx.Err() == nil {
		f.studio.hub.mu.Lock()
		total := f.studio.hub.queue.total
		f.studio.hub.mu.Unlock()
		if total == n {
			return
		}
		time.Sleep(time.Millisecond) // the queue tells nobody
	}
	tb.Fatalf("there never were %d jobs in the queue", n)
}

// TestACallerThatGoesAway cancels its job, waiting or running, whole or streamed.
func TestACallerThatGoesAway(t *testing.T) {
	f := newFarm(t, nil)
	l := f.modern(t).connect(t, "")
	for _, body := range []string{helloChat, strings.Replace(helloChat, "{", `{"stream":true,`, 1)} {
		ctx, leave := context.WithCancel(t.Context())
		f.openAI(ctx, t, http.MethodPost, "/v1/chat/completions", f.token, "application/json", strings.NewReader(body))
		running := l.take(t)
		f.await(t, running.JobID, in(client.Running))
		f.openAI(ctx, t, http.MethodPost, "/v1/chat/completions", f.token, "application/json", strings.NewReader(body))
		f.awaitQueued(t, 1)
		waiting := f.studio.hub.list("", 1, func(*job) bool { return true })[0].id
		leave()
		if job := f.await(t, waiting, in(client.Cancelled)); job.Error != goneText {
			t.Errorf("the job is %+v", job)
		}
		if c := expect[protocol.Cancel](t, l); c.JobID != running.JobID {
			t.Errorf("told to cancel %s", c.JobID)
		}
		l.send(t, protocol.Fail{JobID: running.JobID, Error: "cancelled"})
		expect[protocol.FailAck](t, l)
		if job := f.await(t, running.JobID, in(client.Cancelled)); job.Error != goneText {
			t.Errorf("the job is %+v", job)
		}
		l.beat(t, "")
	}
}

// TestCallsWhoseJobFails: the worker's words reach the caller, who is told not to
// try again.
func TestCallsWhoseJobFails(t *testing.T) {
	f := newFarm(t, nil)
	l := f.worker(t).connect(t, "")
	answer := f.post(t, "/v1/chat/completions", helloChat)
	l.send(t, protocol.Fail{JobID: l.take(t).JobID, Error: "the prompt has 9000 tokens, the context 8192"})
	expect[protocol.FailAck](t, l)
	l.beat(t, "")
	r := got(t, answer)
	wantCallError(t, r, http.StatusInternalServerError, "job_failed", "")
	if !bytes.Contains(r.body, []byte("9000 tokens")) || r.header.Get("X-Should-Retry") != "false" {
		t.Errorf("answered %s, X-Should-Retry %q", r.body, r.header.Get("X-Should-Retry"))
	}
	for _, result := range []string{`7`, `{}`, `{"choices":[]}`, `{"choices":7}`} {
		answer := f.post(t, "/v1/chat/completions", helloChat)
		l.send(t, protocol.CompleteJSON{JobID: l.take(t).JobID, Result: json.RawMessage(result)})
		expect[protocol.CompleteAck](t, l)
		l.beat(t, "")
		wantCallError(t, got(t, answer), http.StatusInternalServerError, "job_failed", "")
	}
	answer = f.post(t, "/v1/chat/completions", helloChat)
	f.cancel(t, l.take(t).JobID, client.Cancelled)
	wantCallError(t, got(t, answer), http.StatusConflict, "cancelled", "")
}

func TestImages(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	l := w.connect(t, "")
	for format, want := range map[string]struct{ b64, url bool }{"": {true, true}, "url": {false, true}, "b64_json": {true, false}} {
		answer := f.post(t, "/v1/images/generations", fmt.Sprintf(
			`{"model":"synthetic-image","prompt":"a lighthouse in fog","size":"768x512","n":2,"seed":5,"quality":"high","response_format":%q}`, format))
		seeds := map[uint64]bool{}
		for range 2 {
			claim := l.take(t)
			task := claim.Task.Image
			if task.Prompt != "a lighthouse in fog" || task.Width != 768 || task.Height != 512 || task.Ext != "png" {
				t.Errorf("the worker got %+v", task)
			}
			seeds[*task.Seed] = true
			if status, body := w.upload(t, claim.JobID, "png", fmt.Appendf(nil, "picture %d", *task.Seed)); status != http.StatusOK {
				t.Fatalf("the upload answered %d %s", status, body)
			}
			l.beat(t, "")
		}
		if !seeds[5] || !seeds[6] {
			t.Errorf("the seeds are %v", seeds)
		}
		r := got(t, answer)
		var out imageAnswer
		if err := json.Unmarshal(r.body, &out); err != nil || r.status != http.StatusOK || len(out.Data) != 2 || out.OutputFormat != "png" || out.Created == 0 {
			t.Fatalf("answered %d %s", r.status, r.body)
		}
		for i, data := range out.Data {
			picture := fmt.Sprintf("picture %d", 5+i)
			if want.b64 != (data.B64JSON != "") || want.url != (data.URL != "") {
				t.Errorf("%q: the picture is %+v", format, data)
			}
			if raw, err := base64.StdEncoding.DecodeString(data.B64JSON); want.b64 && (err != nil || string(raw) != picture) {
				t.Errorf("the picture is %s, %v", raw, err)
			}
			if !want.url {
				continue
			}
			path := strings.TrimPrefix(data.URL, f.url)
			if status, body := f.call(t, http.MethodGet, path, "", nil); status != http.StatusOK || string(body) != picture {
				t.Errorf("the address answers %d %s", status, body)
			}
			for _, other := range []string{path[:len(path)-1], strings.Replace(path, "until=", "until=9", 1), strings.Replace(path, "/v1/results/", "/v1/results/x", 1), "/v1/results/x"} {
				status, body := f.call(t, http.MethodGet, other, "", nil)
				wantError(t, status, body, http.StatusForbidden, "forbidden")
			}
		}
	}
	old := httptest.NewRequestWithContext(t.Context(), http.MethodGet, f.url, nil)
	link := strings.TrimPrefix(f.studio.link(old, "x", time.Now().Add(-linkLife-time.Minute)), f.url)
	status, body := f.call(t, http.MethodGet, link, "", nil)
	wantError(t, status, body, http.StatusForbidden, "forbidden")
}

func TestImagesAreRefused(t *testing.T) {
	f := newFarm(t, nil)
	f.worker(t).connect(t, "")
	for body, want := range map[string]struct{ code, param string }{
		`{}`:                                           {"invalid_value", "prompt"},
		`{"prompt":"x","n":0}`:                         {"invalid_value", "n"},
		`{"prompt":"x","n":11}`:                        {"invalid_value", "n"},
		`{"prompt":"x","size":"big"}`:                  {"invalid_value", "size"},
		`{"prompt":"x","size":"1x1"}`:                  {"invalid_value", "size"},
		`{"prompt":"x","size":"99999x512"}`:            {"invalid_value", "size"},
		`{"prompt":"x","response_format":"y"}`:         {"invalid_value", "response_format"},
		`{"prompt":"x","output_format":"jpeg"}`:        {"unsupported_parameter", "output_format"},
		`{"prompt":"x","stream":true}`:                 {"unsupported_parameter", "stream"},
		`{"prompt":"x","steps":1000}`:                  {"invalid_value", "steps"},
		`{"prompt":"x","seed":-1}`:                     {"invalid_value", "seed"},
		`{"prompt":"x","seed":9007199254740992}`:       {"invalid_value", "seed"},
		`{"prompt":"x","n":2,"seed":9007199254740990}`: {"invalid_value", "seed"},
	} {
		wantCallError(t, got(t, f.post(t, "/v1/images/generations", body)), http.StatusBadRequest, want.code, want.param)
	}
}

func TestSpeech(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	l := w.connect(t, "")
	for body, want := range map[string]protocol.TTSTask{
		`{"model":"synthetic-tts","input":"we sail","voice":"alloy"}`:                                                      {Text: "we sail", Voice: "default", Ext: "mp3"},
		`{"model":"synthetic-tts","input":"we sail","voice":{"id":"brook"},"response_format":"wav","instructions":"calm"}`: {Text: "we sail", Voice: "brook", Ext: "wav"},
	} {
		answer := f.post(t, "/v1/audio/speech", body)
		claim := l.take(t)
		if task := *claim.Task.TTS; task != want {
			t.Errorf("the worker got %+v, want %+v", task, want)
		}
		if status, body := w.upload(t, claim.JobID, "wav", []byte("RIFF")); status != http.StatusOK {
			t.Fatalf("the upload answered %d %s", status, body)
		}
		l.beat(t, "")
		if r := got(t, answer); r.status != http.StatusOK || string(r.body) != "RIFF" || r.header.Get("Content-Type") != "audio/wav" {
			t.Errorf("answered %d %s of %s", r.status, r.body, r.header.Get("Content-Type"))
		}
	}
	for body, want := range map[string]struct{ code, param string }{
		`{}`:                                     {"invalid_value", "input"},
		`{"input":"x","voice":7}`:                {"invalid_value", "voice"},
		`{"input":"x","response_format":"opus"}`: {"unsupported_parameter", "response_format"},
		`{"input":"x","stream_format":"sse"}`:    {"unsupported_parameter", "stream_format"},
		`{"input":"x","speed":9}`:                {"invalid_value", "speed"},
	} {
		wantCallError(t, got(t, f.post(t, "/v1/audio/speech", body)), http.StatusBadRequest, want.code, want.param)
	}
}

// form makes a multipart body; a field named file is a file.
func form(tb testing.TB, fields ...string) (io.Reader, string) {
	tb.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for i := 0; i < len(fields); i += 2 {
		var err error
		if fields[i] == "file" {
			var part io.Writer
			if part, err = w.CreateFormFile("file", "harbour.mp3"); err == nil {
				_, err = io.WriteString(part, fields[i+1])
			}
		} else {
			err = w.WriteField(fields[i], fields[i+1])
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return &body, w.FormDataContentType()
}

const heard = `{"text":"we sail at dawn","language":"en","duration":2.75,
	"segments":[{"id":0,"start":0,"end":1.5,"text":" we sail"},{"id":1,"start":3661.5,"end":3662,"text":" at --> dawn"}],
	"words":[{"word":"we","start":0,"end":0.5}]}`

func TestTranscriptions(t *testing.T) {
	f := newFarm(t, nil)
	l := f.worker(t).connect(t, "")
	for name, c := range map[string]struct {
		fields []string
		result string
		kind   string
		want   []string
	}{
		"json":    {nil, heard, "application/json", []string{`{"text":"we sail at dawn","usage":{"type":"duration","seconds":2.75}}`}},
		"text":    {[]string{"response_format", "text"}, heard, "text/plain; charset=utf-8", []string{"we sail at dawn\n"}},
		"srt":     {[]string{"response_format", "srt"}, heard, "application/x-subrip; charset=utf-8", []string{"1\n00:00:00,000 --> 00:00:01,500\nwe sail\n\n2\n01:01:01,500 --> 01:01:02,000\nat -> dawn\n\n"}},
		"vtt":     {[]string{"response_format", "vtt"}, heard, "text/vtt; charset=utf-8", []string{"WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nwe sail\n\n"}},
		"a count": {[]string{"response_format", "srt"}, `{"text":"we sail","language":"en","duration":2,"segments":1}`, "application/x-subrip; charset=utf-8", []string{"1\n00:00:00,000 --> 00:00:02,000\nwe sail\n\n"}},
		"silence": {[]string{"response_format", "vtt"}, `{"text":"","language":"en","duration":2}`, "text/vtt; charset=utf-8", []string{"WEBVTT\n\n"}},
		"verbose": {[]string{"response_format", "verbose_json"}, heard, "application/json", []string{`"task":"transcribe","language":"en","duration":2.75,"text":"we sail at dawn","segments":[{"id":0,"start":0,"end":1.5,"text":" we sail","seek":0,"tokens":[]`}},
		"words": {
			[]string{"response_format", "verbose_json", "timestamp_granularities[]", "word", "timestamp_granularities[]", "segment"},
			heard, "application/json",
			[]string{`"words":[{"word":"we","start":0,"end":0.5}]`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			body, kind := form(t, append([]string{"model", "synthetic-stt", "file", "ID3 harbour", "language", "en", "prompt", "sea"}, c.fields...)...)
			answer := f.openAI(t.Context(), t, http.MethodPost, "/v1/audio/transcriptions", f.token, kind, body)
			claim := l.take(t)
			task := claim.Task.STT
			if *task.Language != "en" || *task.Prompt != "sea" || task.Translate != nil || (task.Timestamps != nil) != (name != "json" && name != "text") {
				t.Errorf("the worker got %+v", task)
			}
			path := strings.TrimPrefix(task.InputURL, f.url)
			if status, body := f.call(t, http.MethodGet, path, "", nil); status != http.StatusOK || string(body) != "ID3 harbour" {
				t.Errorf("the recording is %d %s", status, body)
			}
			l.send(t, protocol.CompleteJSON{JobID: claim.JobID, Result: json.RawMessage(c.result)})
			expect[protocol.CompleteAck](t, l)
			l.beat(t, "")
			r := got(t, answer)
			for _, want := range c.want {
				if r.status != http.StatusOK || r.header.Get("Content-Type") != c.kind || !bytes.Contains(r.body, []byte(want)) {
					t.Errorf("answered %d %s of %s, want %s", r.status, r.body, r.header.Get("Content-Type"), want)
				}
			}
			f.awaitForgotten(t, path)
		})
	}
	body, kind := form(t, "file", "ID3")
	answer := f.openAI(t.Context(), t, http.MethodPost, "/v1/audio/translations", f.token, kind, body)
	claim := l.take(t)
	if task := claim.Task.STT; task.Translate == nil || !*task.Translate {
		t.Errorf("the worker got %+v", task)
	}
	f.cancel(t, claim.JobID, client.Cancelled)
	wantCallError(t, got(t, answer), http.StatusConflict, "cancelled", "")
	f.awaitForgotten(t, strings.TrimPrefix(claim.Task.STT.InputURL, f.url))
}

// awaitForgotten waits until the input at path is gone.
func (f *farm) awaitForgotten(tb testing.TB, path string) {
	tb.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if status, _ := f.call(tb, http.MethodGet, path, "", nil); status == http.StatusNotFound {
			return
		}
	}
	tb.Error("the recording was kept")
}

func TestTranscriptionsAreRefused(t *testing.T) {
	f := newFarm(t, nil)
	f.worker(t).connect(t, "")
	for name, c := range map[string]struct {
		fields []string
		code   string
		param  string
	}{
		"no file":       {[]string{"model", "synthetic-stt"}, "invalid_value", "file"},
		"two files":     {[]string{"file", "x", "file", "y"}, "invalid_value", "file"},
		"empty file":    {[]string{"file", ""}, "bad_request", ""},
		"stream":        {[]string{"file", "x", "stream", "true"}, "unsupported_parameter", "stream"},
		"format":        {[]string{"file", "x", "response_format", "diarized_json"}, "unsupported_parameter", "response_format"},
		"granularity":   {[]string{"file", "x", "response_format", "verbose_json", "timestamp_granularities[]", "letter"}, "invalid_value", "timestamp_granularities"},
		"words, plain":  {[]string{"file", "x", "timestamp_granularities[]", "word"}, "invalid_value", "timestamp_granularities"},
		"include":       {[]string{"file", "x", "include[]", "logprobs"}, "unsupported_parameter", "include"},
		"long field":    {[]string{"file", "x", "prompt", strings.Repeat("x", maxField+1)}, "invalid_value", "prompt"},
		"long language": {[]string{"file", "x", "language", strings.Repeat("x", maxOption+1)}, "invalid_value", "language"},
	} {
		t.Run(name, func(t *testing.T) {
			body, kind := form(t, c.fields...)
			wantCallError(t, got(t, f.openAI(t.Context(), t, http.MethodPost, "/v1/audio/transcriptions", f.token, kind, body)), http.StatusBadRequest, c.code, c.param)
		})
	}
	many := make([]string, 0, 2*maxFields+2)
	for range maxFields + 1 {
		many = append(many, "x", "y")
	}
	body, kind := form(t, many...)
	wantCallError(t, got(t, f.openAI(t.Context(), t, http.MethodPost, "/v1/audio/transcriptions", f.token, kind, body)), http.StatusBadRequest, "invalid_value", "")
	wantCallError(t, got(t, f.openAI(t.Context(), t, http.MethodPost, "/v1/audio/transcriptions", f.token,
		"multipart/form-data; boundary=B", strings.NewReader("--B\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nabc"))), http.StatusBadRequest, "bad_request", "")
	wantCallError(t, got(t, f.post(t, "/v1/audio/transcriptions", "{}")), http.StatusUnsupportedMediaType, "unsupported_media_type", "")
	if all, _, err := f.studio.store.Inputs.All(t.Context()); len(all) > 0 || err != nil {
		t.Errorf("%d recordings were kept, %v", len(all), err)
	}
}

func TestOpenAIModels(t *testing.T) {
	f := newFarm(t, nil)
	r := got(t, f.openAI(t.Context(), t, http.MethodGet, "/v1/models", f.token, "", nil))
	var list struct {
		Object string
		Data   []openAIModelView
	}
	if err := json.Unmarshal(r.body, &list); err != nil || list.Object != "list" || len(list.Data) != len(builtIn()) || list.Data[0].Object != "model" || list.Data[0].OwnedBy == "" {
		t.Errorf("answered %d %s", r.status, r.body)
	}
	r = got(t, f.openAI(t.Context(), t, http.MethodGet, "/v1/models/synthetic-llm", f.token, "", nil))
	if r.status != http.StatusOK || !bytes.Contains(r.body, []byte(`"id":"synthetic-llm"`)) {
		t.Errorf("answered %d %s", r.status, r.body)
	}
	for _, id := range []string{"none", "a/b", "%2e%2e", "*"} {
		wantCallError(t, got(t, f.openAI(t.Context(), t, http.MethodGet, "/v1/models/"+id, f.token, "", nil)), http.StatusNotFound, "model_not_found", "model")
	}
}

// FuzzChatCall: what a call becomes can be offered to a worker, or is refused.
func FuzzChatCall(f *testing.F) {
	for _, seed := range []string{helloChat, `{"messages":[{"role":"user","content":[{"type":"text","text":"x"}]}],"stop":["a"],"response_format":{"type":"json_object"}}`, `{"messages":[{"role":"user","content":"x"}],"max_tokens":99999999999}`, `{"messages":[{}],"tools":[1]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var in chatCall
		if json.Unmarshal(data, &in) != nil {
			return
		}
		task, err := in.task()
		if err != nil {
			if e := asCallError(err); e.status != http.StatusBadRequest || e.message == "" {
				t.Errorf("refused with %+v", e)
			}
			return
		}
		if task.LLM.MaxTokens < 1 || task.LLM.MaxTokens > mostTokens || len(task.LLM.Messages) != len(in.Messages) {
			t.Errorf("%s becomes %+v", data, task.LLM)
		}
	})
}

// FuzzOtherCalls: the same for pictures and speech, and for what workers answer.
func FuzzOtherCalls(f *testing.F) {
	for _, seed := range []string{`{"prompt":"x","size":"64x4096","n":10,"seed":1}`, `{"input":"x","voice":{"id":"y"},"speed":0.25}`, heard, `{"segments":1,"text":"x","duration":-1e300}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var picture imageCall
		if json.Unmarshal(data, &picture) == nil {
			if task, err := picture.task(); err == nil && (task.Image.Prompt == "" || task.Image.Width > 4096) {
				t.Errorf("%s becomes %+v", data, task.Image)
			}
		}
		var said speechCall
		if json.Unmarshal(data, &said) == nil {
			if task, err := said.task(); err == nil && (task.TTS.Text == "" || task.TTS.Voice == "") {
				t.Errorf("%s becomes %+v", data, task.TTS)
			}
		}
		var script transcript
		if json.Unmarshal(data, &script) == nil {
			for _, format := range []string{"", "text", "srt", "vtt", "verbose_json"} {
				w := httptest.NewRecorder()
				script.write(w, format, false, true)
				if w.Code != http.StatusOK {
					t.Errorf("%s as %q: %d", data, format, w.Code)
				}
			}
		}
	})
}
