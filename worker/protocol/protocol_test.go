package protocol

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// The smallest objects that parse; tests change one thing of them.
const (
	capsText = `{"machineName":"attic-pc","username":"sam","agentVersion":"0.4.15","engine":"multi","vramTotalGb":16,` +
		`"vramThresholdGb":12.5,"autoEnabled":true,"autoStart":true,"supportedModels":["synthetic"]}`
	imageText  = `{"kind":"image","prompt":"a lighthouse in fog"}`
	sourceText = `{"engine":"synthetic","files":[],"cliDefaults":{"cfgScale":1,"steps":8,"width":1024,"height":1024}}`
)

func claimText(task, source string) string {
	return `{"jobId":"job-31","gameId":"g","assetName":"g/c/n","model":"m","vramGbEstimate":2.5,"task":` + task +
		`,"modelSource":` + source + `}`
}

func offerText(task, source string) string {
	return `{"type":"offer","claim":` + claimText(task, source) + `}`
}

func decodeWorker(t *testing.T, text string) WorkerFrame {
	t.Helper()
	f, err := DecodeWorkerFrame([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return f
}

func decodeStudio(t *testing.T, text string) StudioFrame {
	t.Helper()
	f, err := DecodeStudioFrame([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return f
}

// members returns the keys and values a frame has on the wire.
func members(t *testing.T, f Frame) map[string]any {
	t.Helper()
	data, err := Encode(f)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return m
}

func caps(t *testing.T, text string) Capabilities {
	t.Helper()
	var c Capabilities
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSpec001HelloIsFlat(t *testing.T) {
	m := members(t, Hello{AuthToken: "tok", Capabilities: caps(t, capsText)})
	if len(m) != 3 || m["type"] != "hello" || m["authToken"] != "tok" || m["capabilities"] == nil {
		t.Errorf("got %v", m)
	}
}

func TestSpec002And003HeartbeatWithoutAJob(t *testing.T) {
	if _, ok := members(t, Heartbeat{})["currentJobId"]; ok {
		t.Error("a heartbeat without a job names one")
	}
	for _, extra := range []string{``, `,"currentJobId":null`} {
		beat := decodeWorker(t, `{"type":"heartbeat","capabilities":`+capsText+extra+`}`).(Heartbeat)
		if beat.CurrentJobID != "" {
			t.Errorf("%q: job %q", extra, beat.CurrentJobID)
		}
	}
}

func TestSpec004OldCapabilitiesParse(t *testing.T) {
	c := caps(t, capsText)
	if c.AutoUpdate != nil || c.StartMinimised != nil || c.OnlyWhenIdle != nil || c.UserPresence != PresenceUnknown ||
		len(c.TaskKinds) != 0 || len(c.SupportedModelsPerKind) != 0 {
		t.Errorf("got %+v", c)
	}
}

func TestSpec005And006HeartbeatSaysHowItIsSet(t *testing.T) {
	yes, no := true, false
	c := Capabilities{AutoStart: true, AutoUpdate: &yes, StartMinimised: &yes, OnlyWhenIdle: &no, UserPresence: PresenceIdle}
	m := members(t, Heartbeat{Capabilities: c})["capabilities"].(map[string]any)
	if m["autoStart"] != true || m["autoUpdate"] != true || m["startMinimised"] != true || m["onlyWhenIdle"] != false ||
		m["userPresence"] != "idle" {
		t.Errorf("got %v", m)
	}
	c.UserPresence = PresenceUnknown
	m = members(t, Heartbeat{Capabilities: c})["capabilities"].(map[string]any)
	if _, ok := m["userPresence"]; ok || m["onlyWhenIdle"] != false {
		t.Errorf("unknown presence: got %v", m)
	}
	for _, list := range []string{"supportedModels", "taskKinds"} {
		if m[list] == nil {
			t.Errorf("%s is null", list)
		}
	}
}

func TestSpec007To014FramesRoundTripByteForByte(t *testing.T) {
	for _, text := range []string{
		`{"type":"accept","jobId":"job-31"}`,
		`{"type":"reject","jobId":"job-32","reason":"old worker"}`,
		`{"type":"reject","jobId":"job-32","reason":"r","code":"paused"}`,
		`{"type":"reject","jobId":"job-32","reason":"r","code":"busy"}`,
		`{"type":"completeJson","jobId":"job-40","result":{"object":"chat.completion"},"prompt":"name this town"}`,
		`{"type":"completeJson","jobId":"job-40","result":[1,null]}`,
		`{"type":"fail","jobId":"job-31","error":"out of memory while loading","retryable":true}`,
		`{"type":"logBatch","entries":[]}`,
		`{"type":"logBatch","entries":[{"ts":"2026-03-02T08:15:30.120Z","level":"info","category":"ws","message":"binary upload ok","jobId":"job-31"}]}`,
		`{"type":"readyForMore"}`,
		`{"type":"progress","jobId":"job-31","step":3,"total":20,"message":"sampling"}`,
		`{"type":"delta","jobId":"job-40","seq":4294967295,"text":"the harbour "}`,
		`{"type":"resume","jobIds":["job-31","job-40"]}`,
		`{"type":"resume","jobIds":[]}`,
	} {
		if data, err := Encode(decodeWorker(t, text)); err != nil || string(data) != text {
			t.Errorf("got  %s, %v\nwant %s", data, err, text)
		}
	}
	for _, text := range []string{
		`{"type":"welcome","workerId":"wk-20","serverTime":"now"}`,
		`{"type":"welcome","workerId":"wk-20","serverTime":"now","features":["progress"]}`,
		`{"type":"heartbeatAck"}`,
		`{"type":"completeAck","jobId":"job-40"}`,
		`{"type":"failAck","jobId":"job-31"}`,
		`{"type":"error","code":"duplicate_worker","message":"another connection took over"}`,
		`{"type":"cancel","jobId":"job-31","reason":"the operator changed their mind"}`,
		`{"type":"resumed","keep":["job-31"],"drop":[]}`,
		`{"type":"resumed","keep":[],"drop":["job-40"]}`,
	} {
		if data, err := Encode(decodeStudio(t, text)); err != nil || string(data) != text {
			t.Errorf("got  %s, %v\nwant %s", data, err, text)
		}
	}
	for want, f := range map[string]Frame{`{"type":"resume","jobIds":[]}`: Resume{}, `{"type":"resumed","keep":[],"drop":[]}`: Resumed{}} {
		if data, err := Encode(f); err != nil || string(data) != want {
			t.Errorf("an empty list is %s, %v", data, err)
		}
	}
	if data, err := Encode(LogBatch{}); err != nil || string(data) != `{"type":"logBatch","entries":[]}` {
		t.Errorf("an empty batch is %s, %v", data, err)
	}
}

// Refusals: each text is wrong in one way, and the error names it.
func TestFramesThatAreRefused(t *testing.T) {
	worker := func(b string) error { _, err := DecodeWorkerFrame([]byte(b)); return err }
	studio := func(b string) error { _, err := DecodeStudioFrame([]byte(b)); return err }
	many := `["` + strings.Repeat(`j","`, MaxResume) + `j"]`
	deep := strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1)
	for _, tc := range []struct {
		name, text string
		decode     func(string) error
		is         error
		says       string
	}{
		{"041 not JSON", `hello`, worker, ErrNotJSON, ""},
		{"041 half a frame", `{"type":"accept"`, studio, ErrNotJSON, ""},
		{"not an object", `["type"]`, worker, ErrFrame, "not an object"},
		{"null", `null`, studio, ErrFrame, "null"},
		{"no type", `{}`, worker, ErrFrame, "type"},
		{"type is a number", `{"type":1}`, worker, ErrFrame, "type"},
		{"too deep", `{"type":"completeJson","jobId":"j","result":` + deep + `}`, worker, ErrFrame, "nesting"},
		{"015 unknown worker frame", `{"type":"dance"}`, worker, ErrFrame, "dance"},
		{"023 unknown studio frame", `{"type":"sing"}`, studio, ErrFrame, "sing"},
		{"016 welcome without id", `{"type":"welcome","serverTime":"now"}`, studio, ErrFrame, "workerId"},
		{"016 welcome without time", `{"type":"welcome","workerId":"w"}`, studio, ErrFrame, "serverTime"},
		{"null features", `{"type":"welcome","workerId":"w","serverTime":"n","features":null}`, studio, ErrFrame, "features"},
		{"null in features", `{"type":"welcome","workerId":"w","serverTime":"n","features":[null]}`, studio, ErrFrame, "item 0"},
		{"021 ack without job", `{"type":"completeAck"}`, studio, ErrFrame, "jobId"},
		{"null job", `{"type":"failAck","jobId":null}`, studio, ErrFrame, "jobId"},
		{"key in other case", `{"type":"failAck","JobId":"j"}`, studio, ErrFrame, "jobId"},
		{"022 unknown error code", `{"type":"error","code":"tired","message":""}`, studio, ErrFrame, "tired"},
		{"unknown reject code", `{"type":"reject","jobId":"j","reason":"","code":"away"}`, worker, ErrFrame, "away"},
		{"fail without error", `{"type":"fail","jobId":"j","retryable":true}`, worker, ErrFrame, "error"},
		{"retryable as text", `{"type":"fail","jobId":"j","error":"","retryable":"yes"}`, worker, ErrFrame, "retryable"},
		{"complete without result", `{"type":"completeJson","jobId":"j"}`, worker, ErrFrame, "result"},
		{"log level", `{"type":"logBatch","entries":[{"ts":"","level":"debug","category":"","message":""}]}`, worker, ErrFrame, "debug"},
		{"null log entry", `{"type":"logBatch","entries":[null]}`, worker, ErrFrame, "item 0"},
		{"entries null", `{"type":"logBatch","entries":null}`, worker, ErrFrame, "entries"},
		{"progress going back", `{"type":"progress","jobId":"j","step":-1,"total":2}`, worker, ErrFrame, "step"},
		{"delta without job", `{"type":"delta","seq":0,"text":""}`, worker, ErrFrame, "jobId"},
		{"delta going back", `{"type":"delta","jobId":"j","seq":-1,"text":""}`, worker, ErrFrame, "seq"},
		{"delta without text", `{"type":"delta","jobId":"j","seq":0}`, worker, ErrFrame, "text"},
		{"delta too long", `{"type":"delta","jobId":"j","seq":0,"text":"` + strings.Repeat("x", MaxDelta+1) + `"}`, worker, ErrFrame, "65536"},
		{"resume without jobs", `{"type":"resume"}`, worker, ErrFrame, "jobIds"},
		{"resume with null", `{"type":"resume","jobIds":[null]}`, worker, ErrFrame, "item 0"},
		{"resume too long", `{"type":"resume","jobIds":` + many + `}`, worker, ErrFrame, "256"},
		{"delta from a studio", `{"type":"delta","jobId":"j","seq":0,"text":""}`, studio, ErrFrame, "delta"},
		{"cancel without job", `{"type":"cancel","reason":""}`, studio, ErrFrame, "jobId"},
		{"cancel without reason", `{"type":"cancel","jobId":"j"}`, studio, ErrFrame, "reason"},
		{"cancel from a worker", `{"type":"cancel","jobId":"j","reason":""}`, worker, ErrFrame, "cancel"},
		{"resumed without keep", `{"type":"resumed","drop":[]}`, studio, ErrFrame, "keep"},
		{"resumed without drop", `{"type":"resumed","keep":[]}`, studio, ErrFrame, "drop"},
		{"resumed with null", `{"type":"resumed","keep":null,"drop":[]}`, studio, ErrFrame, "keep"},
		{"resumed too long", `{"type":"resumed","keep":[],"drop":` + many + `}`, studio, ErrFrame, "256"},
		{"capabilities null", `{"type":"heartbeat","capabilities":null}`, worker, ErrFrame, "capabilities"},
		{"capabilities lack a name", `{"type":"heartbeat","capabilities":{}}`, worker, ErrFrame, "machineName"},
		{"task kinds null", `{"type":"heartbeat","capabilities":` + strings.Replace(capsText, `}`, `,"taskKinds":null}`, 1) + `}`, worker, ErrFrame, "taskKinds"},
		{"unknown task kind", `{"type":"heartbeat","capabilities":` + strings.Replace(capsText, `}`, `,"taskKinds":["dance"]}`, 1) + `}`, worker, ErrFrame, "dance"},
		{"presence", `{"type":"heartbeat","capabilities":` + strings.Replace(capsText, `}`, `,"userPresence":"away"}`, 1) + `}`, worker, ErrFrame, "away"},
		{"019 offer without task", `{"type":"offer","claim":{"jobId":"j","gameId":"","assetName":"","model":"","vramGbEstimate":1,"modelSource":` + sourceText + `}}`, studio, ErrFrame, "task"},
		{"019 offer without source", `{"type":"offer","claim":{"jobId":"j","gameId":"","assetName":"","model":"","vramGbEstimate":1,"task":` + imageText + `}}`, studio, ErrFrame, "modelSource"},
		{"unknown kind", offerText(`{"kind":"dance"}`, sourceText), studio, ErrFrame, "dance"},
		{"image without prompt", offerText(`{"kind":"image"}`, sourceText), studio, ErrFrame, "prompt"},
		{"width null", offerText(`{"kind":"image","prompt":"","width":null}`, sourceText), studio, ErrFrame, "width"},
		{"width fractional", offerText(`{"kind":"image","prompt":"","width":8.0}`, sourceText), studio, ErrFrame, "width"},
		{"width too large", offerText(`{"kind":"image","prompt":"","width":4294967296}`, sourceText), studio, ErrFrame, "width"},
		{"seed negative", offerText(`{"kind":"image","prompt":"","seed":-1}`, sourceText), studio, ErrFrame, "seed"},
		{"messages missing", offerText(`{"kind":"llm"}`, sourceText), studio, ErrFrame, "messages"},
		{"message without content", offerText(`{"kind":"llm","messages":[{"role":"user"}]}`, sourceText), studio, ErrFrame, "content"},
		{"content in parts", offerText(`{"kind":"llm","messages":[{"role":"user","content":[]}]}`, sourceText), studio, ErrFrame, "content"},
		{"stop null inside", offerText(`{"kind":"llm","messages":[],"stop":[null]}`, sourceText), studio, ErrFrame, "stop"},
		{"files null", offerText(imageText, strings.Replace(sourceText, `[]`, `null`, 1)), studio, ErrFrame, "files"},
		{"file without url", offerText(imageText, strings.Replace(sourceText, `[]`, `[{"role":"model","filename":"f"}]`, 1)), studio, ErrFrame, "url"},
		{"defaults without steps", offerText(imageText, strings.Replace(sourceText, `"steps":8,`, ``, 1)), studio, ErrFrame, "steps"},
	} {
		err := tc.decode(tc.text)
		if !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: got %v, want %v naming %q", tc.name, err, tc.is, tc.says)
		}
	}
}

func TestABadOfferNamesItsJob(t *testing.T) {
	_, err := DecodeStudioFrame([]byte(offerText(`{"kind":"dance"}`, sourceText)))
	if bad, ok := errors.AsType[*OfferError](err); !ok || bad.JobID != "job-31" {
		t.Errorf("got %v", err)
	}
	_, err = DecodeStudioFrame([]byte(`{"type":"offer","claim":{"jobId":7}}`))
	if _, ok := errors.AsType[*OfferError](err); ok {
		t.Errorf("a job id that is no text was read: %v", err)
	}
}

func TestAnUnknownEngineIsRead(t *testing.T) {
	offer := decodeStudio(t, offerText(imageText, strings.Replace(sourceText, "synthetic", "from-tomorrow", 1))).(Offer)
	if e := offer.Claim.ModelSource.Engine; e != "from-tomorrow" || e.Reference() {
		t.Errorf("engine %q, known to the reference: %v", e, e.Reference())
	}
}

func TestSpec017And018And027OffersParse(t *testing.T) {
	claim := decodeStudio(t, offerText(imageText, sourceText)).(Offer).Claim
	want := ImageTask{Prompt: "a lighthouse in fog", Width: 512, Height: 512, Steps: 20, Ext: "webp"}
	if claim.JobID != "job-31" || claim.Task.Prompt() != want.Prompt || !reflect.DeepEqual(*claim.Task.Image, want) {
		t.Errorf("got %+v, %+v", claim, claim.Task.Image)
	}
	claim = decodeStudio(t, offerText(`{"kind":"llm","messages":[{"role":"system","content":"a"},{"role":"user","content":"b"}]}`, sourceText)).(Offer).Claim
	if l := claim.Task.LLM; l.MaxTokens != 512 || l.Temperature != 0.7 || claim.Task.Prompt() != "b" {
		t.Errorf("got %+v", l)
	}
}

func TestSpec020And024And025Codes(t *testing.T) {
	if m := members(t, HeartbeatAck{}); len(m) != 1 {
		t.Errorf("heartbeatAck has %v", m)
	}
	want := map[ErrorCode]CloseCode{
		"auth_failed": 4001, "protocol_violation": 4002, "duplicate_worker": 4003, "worker_deleted": 4004, "internal_error": 1000,
	}
	if len(ErrorCodes()) != len(want) {
		t.Errorf("codes: %v", ErrorCodes())
	}
	for _, code := range ErrorCodes() {
		if code.CloseCode() != want[code] {
			t.Errorf("%s closes with %d, want %d", code, code.CloseCode(), want[code])
		}
	}
}

func TestSpec026And028TasksRoundTrip(t *testing.T) {
	for _, text := range []string{
		`{"kind":"image","prompt":"p","negativePrompt":"n","initImageUrl":"https://a","maskUrl":"https://b","refImageUrl":"https://c","denoise":0.5,"cfgScale":2,"samplingMethod":"euler","width":64,"height":32,"steps":4,"seed":9007199254740991,"ext":"png"}`,
		`{"kind":"llm","messages":[{"role":"user","content":"hi"}],"system":"s","maxTokens":7,"temperature":1,"topP":0.5,"stop":["a","b"],"jsonSchema":{"type":"object"},"reasoning":"low","chatTemplateKwargs":{"x":[1]}}`,
		`{"kind":"llm","messages":[],"maxTokens":512,"temperature":0.7}`,
		`{"kind":"audio_stt","inputUrl":"https://a","language":"de","translate":true,"prompt":"p","vad":false,"timestamps":"word"}`,
		`{"kind":"audio_tts","text":"t","voice":"v","speed":1.5,"language":"en","ext":"mp3"}`,
		`{"kind":"video","prompt":"p","negativePrompt":"n","initImageUrl":"https://a","seconds":3,"fps":12,"width":64,"height":32,"ext":"gif"}`,
	} {
		var task Task
		if err := json.Unmarshal([]byte(text), &task); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if data, err := json.Marshal(task); err != nil || string(data) != text {
			t.Errorf("got  %s, %v\nwant %s", data, err, text)
		}
	}
	if _, err := json.Marshal(Task{Kind: KindImage}); err == nil {
		t.Error("a task without parameters was written")
	}
}

func TestPromptOfEachKind(t *testing.T) {
	for text, want := range map[string]string{
		`{"kind":"llm","messages":[]}`:                  "",
		`{"kind":"audio_stt","inputUrl":"https://a/b"}`: "https://a/b",
		`{"kind":"audio_tts","text":"hello"}`:           "hello",
		`{"kind":"video","prompt":"waves"}`:             "waves",
	} {
		var task Task
		if err := json.Unmarshal([]byte(text), &task); err != nil || task.Prompt() != want {
			t.Errorf("%s: got %q, %v, want %q", text, task.Prompt(), err, want)
		}
	}
}

func TestSpec031And081RoutesOfABase(t *testing.T) {
	for _, tc := range []struct{ base, register, connect string }{
		{"https://studio.minis.gg/", "https://studio.minis.gg/graphics/api/workers/register-request", "wss://studio.minis.gg/graphics/api/workers/W/connect"},
		{"https://h.example/graphics/api/", "https://h.example/graphics/api/workers/register-request", "wss://h.example/graphics/api/workers/W/connect"},
		{"https://h.example/custom/graphics/api", "https://h.example/custom/graphics/api/workers/register-request", "wss://h.example/custom/graphics/api/workers/W/connect"},
		{"http://localhost:9790?x=1#y", "http://localhost:9790/graphics/api/workers/register-request", "ws://localhost:9790/graphics/api/workers/W/connect"},
		{"ws://localhost:9790/x", "", "ws://localhost:9790/x/graphics/api/workers/W/connect"},
	} {
		base, err := ParseBase(tc.base)
		if err != nil {
			t.Fatalf("%s: %v", tc.base, err)
		}
		if got, err := base.RegisterURL(); got != tc.register || (err == nil) != (tc.register != "") {
			t.Errorf("%s: register at %q, %v, want %q", tc.base, got, err, tc.register)
		}
		if got := base.ConnectURL("W"); got != tc.connect {
			t.Errorf("%s: connect at %q, want %q", tc.base, got, tc.connect)
		}
	}
}

func TestIdsAreEscapedInPaths(t *testing.T) {
	base, err := ParseBase("https://h.example")
	if err != nil {
		t.Fatal(err)
	}
	got, err := base.CompleteURL("..", "a/b?c")
	if want := "https://h.example/graphics/api/workers/%2E%2E/jobs/a%2Fb%3Fc/complete"; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if got, err = base.PollURL("rr 1"); err != nil || !strings.HasSuffix(got, "/workers/register-requests/rr%201") {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestSpec032AddressesThatAreRefused(t *testing.T) {
	for text, says := range map[string]string{
		"ftp://h.example": "ftp", "not an address": "https://", "": "https://", "https://": "host", "http://[::1": "not a web address",
	} {
		if _, err := ParseBase(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: got %v, want it to say %q", text, err, says)
		}
	}
}

func TestSpec080ContentTypes(t *testing.T) {
	for ext, want := range map[string]string{
		"png": "image/png", "webp": "image/webp", "gif": "image/gif", "wav": "audio/wav", "mp3": "audio/mpeg", "mp4": "video/mp4",
		"jpg": "application/octet-stream", "": "application/octet-stream",
	} {
		if got := ContentType(ext); got != want {
			t.Errorf("%q: got %s, want %s", ext, got, want)
		}
	}
}

func TestRegistrationBodies(t *testing.T) {
	hash := strings.Repeat("0a", 32)
	request := func(id, hash, caps string) string {
		return `{"installId":"` + id + `","registrationSecretHash":"` + hash + `","capabilities":` + caps + `,"userAgent":"studio-worker/1"}`
	}
	if r, err := DecodeRegisterRequest([]byte(request("i", hash, capsText))); err != nil || r.Capabilities.MachineName != "attic-pc" {
		t.Errorf("got %+v, %v", r, err)
	}
	for name, text := range map[string]string{
		"hash too short": request("i", "0a", capsText), "hash not hex": request("i", strings.Repeat("zz", 32), capsText),
		"no install id": request("", hash, capsText), "no capabilities": request("i", hash, "null"),
		"not JSON": "<html>", "list": "[]",
	} {
		if _, err := DecodeRegisterRequest([]byte(text)); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if r, err := DecodeRegisterResponse([]byte(`{"requestId":"rr-1","status":"pending"}`)); err != nil || r.RequestID != "rr-1" {
		t.Errorf("got %+v, %v", r, err)
	}
	for _, text := range []string{`{"requestId":"rr-1"}`, `{"requestId":"","status":"pending"}`, `{"status":"pending"}`, `<html>`} {
		if _, err := DecodeRegisterResponse([]byte(text)); err == nil {
			t.Errorf("%s was accepted", text)
		}
	}
	if r, err := DecodePollResponse([]byte(`{"status":"rejected"}`)); err != nil || r.Status != StatusRejected || r.Reason != "" {
		t.Errorf("got %+v, %v", r, err)
	}
	for _, text := range []string{
		`{"status":"approved","workerId":"w"}`, `{"status":"approved","workerId":"","authToken":""}`, `{"status":"maybe"}`, `{}`, `x`,
	} {
		if _, err := DecodePollResponse([]byte(text)); err == nil {
			t.Errorf("%s was accepted", text)
		}
	}
}
