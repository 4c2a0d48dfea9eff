package localapi

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"studioworker/worker/engine"
)

// source is where a model comes from, as on the wire (protocol spec §5.1).
type source struct {
	Engine      string          `json:"engine"`
	Files       []engine.File   `json:"files"`
	CLIDefaults engine.Defaults `json:"cliDefaults"`
}

// asked is what every request for a job may say.
type asked struct {
	Model      string  `json:"model"`
	Source     *source `json:"modelSource"`
	DeadlineMS int64   `json:"deadline_ms"`
}

// read decodes a request. Its body has a time limit; the job after it has another.
func read(w http.ResponseWriter, r *http.Request, into any) error {
	connection := http.NewResponseController(w)
	if err := connection.SetReadDeadline(time.Now().Add(bodyTime)); err != nil {
		return fmt.Errorf("bound the time of a request: %w", err)
	}
	decoder := json.NewDecoder(r.Body)
	err := decoder.Decode(into)
	if err == nil && decoder.Decode(&struct{}{}) != io.EOF {
		err = errors.New("there is more than one JSON value")
	}
	if tooLong, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return problem{http.StatusRequestEntityTooLarge, "invalid_request_error", "too_large", fmt.Sprintf("the request is larger than %d bytes", tooLong.Limit), nil}
	}
	if err != nil {
		return badRequest("the body is not the JSON that is expected: %v", err)
	}
	return connection.SetReadDeadline(time.Time{})
}

// request begins a job: its model is found, and it gets a folder that done
// removes.
func (s *Server) request(kind engine.Kind, a asked) (req engine.Request, done func(), err error) {
	if a.Model == "" {
		return req, nil, badRequest("model is missing; GET /models lists what there is")
	}
	if a.DeadlineMS < 0 {
		return req, nil, badRequest("deadline_ms must not be negative")
	}
	req = engine.Request{JobID: "local-" + strings.ToLower(rand.Text()[:12]), Kind: kind, Model: a.Model}
	if a.Source != nil {
		req.Source = engine.Source{Engine: engine.ID(a.Source.Engine), Files: a.Source.Files, Defaults: a.Source.CLIDefaults}
	} else {
		id, ok := s.cfg.Engines.Find(kind, a.Model)
		if !ok {
			return req, nil, problem{
				http.StatusNotFound, "invalid_request_error", "model_not_found",
				fmt.Sprintf("no engine on this worker can serve model %q for %s; GET /models lists what there is", a.Model, kind), nil,
			}
		}
		req.Source.Engine = id
	}
	if req.Dir, err = os.MkdirTemp("", "studio-worker-local-"); err != nil {
		return req, nil, fmt.Errorf("make the job's folder: %w", err)
	}
	return req, func() {
		if err := os.RemoveAll(req.Dir); err != nil {
			s.cfg.Log.Warn("the folder of a local job was not removed", "error", err)
		}
	}, nil
}

// run runs a job. When the caller leaves, it is stopped.
func (s *Server) run(ctx context.Context, a asked, prompt string, req engine.Request) (engine.Result, error) {
	if a.DeadlineMS > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Duration(a.DeadlineMS)*time.Millisecond, errDeadline)
		defer cancel()
	}
	made, err := s.cfg.Jobs.RunLocal(ctx, patience, prompt, req, func(engine.Progress) {})
	if err != nil && errors.Is(context.Cause(ctx), errDeadline) {
		err = errDeadline
	}
	return made, err
}

// bytesOf opens the result of a job.
func bytesOf(req engine.Request, made engine.Result) ([]byte, error) {
	if made.JSON != "" {
		return []byte(made.JSON), nil
	}
	data, err := os.ReadFile(filepath.Join(req.Dir, made.File))
	if err != nil {
		return nil, fmt.Errorf("read the result: %w", err)
	}
	return data, nil
}

// whole runs a job and answers with its result.
func (s *Server) whole(w http.ResponseWriter, r *http.Request, a asked, prompt string, req engine.Request) {
	made, err := s.run(r.Context(), a, prompt, req)
	if err != nil {
		fail(w, s.problemOf(err))
		return
	}
	data, err := bytesOf(req, made)
	if err != nil {
		fail(w, s.problemOf(err))
		return
	}
	w.Header().Set("Content-Type", contentType(made.Ext))
	w.Header().Set("X-Job-Id", req.JobID)
	_, _ = w.Write(data) // who asked has gone, then
}

// contentType is that of a result.
func contentType(ext string) string {
	known := map[string]string{
		"json": contentJSON, "webp": "image/webp", "wav": "audio/wav", "mp3": "audio/mpeg", "ogg": "audio/ogg", "opus": "audio/ogg",
		"flac": "audio/flac", "m4a": "audio/mp4", "mp4": "video/mp4", "webm": "video/webm", "bmp": "image/bmp",
	}
	if t, ok := known[ext]; ok {
		return t
	}
	if t := mime.TypeByExtension("." + ext); t != "" {
		return t
	}
	return "application/octet-stream"
}

// chatRequest is a request of OpenAI's chat API, as far as it is understood.
type chatRequest struct {
	asked
	Messages []struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	} `json:"messages"`
	MaxTokens           *uint32         `json:"max_tokens"`
	MaxCompletionTokens *uint32         `json:"max_completion_tokens"`
	Temperature         *float64        `json:"temperature"`
	TopP                *float64        `json:"top_p"`
	Stop                json.RawMessage `json:"stop"`
	Stream              bool            `json:"stream"`
	ResponseFormat      *struct {
		Type       string `json:"type"`
		JSONSchema struct {
			Schema json.RawMessage `json:"schema"`
		} `json:"json_schema"`
	} `json:"response_format"`
	ReasoningEffort string          `json:"reasoning_effort"`
	TemplateKwargs  json.RawMessage `json:"chat_template_kwargs"`
}

// Defaults of a conversation, those of the wire (protocol spec §4.2).
const (
	defaultTokens      = 512
	defaultTemperature = 0.7
)

// job translates the request.
func (c *chatRequest) job() (*engine.LLM, error) {
	job := &engine.LLM{MaxTokens: defaultTokens, Temperature: defaultTemperature, TopP: c.TopP, Reasoning: c.ReasoningEffort, ChatTemplateKwargs: c.TemplateKwargs}
	if c.MaxTokens != nil {
		job.MaxTokens = *c.MaxTokens
	}
	if c.MaxCompletionTokens != nil {
		job.MaxTokens = *c.MaxCompletionTokens
	}
	if c.Temperature != nil {
		job.Temperature = *c.Temperature
	}
	if len(c.Messages) == 0 {
		return nil, badRequest("messages is missing or empty")
	}
	for i, m := range c.Messages {
		text, err := contentText(m.Content)
		if err != nil {
			return nil, badRequest("messages[%d].content: %v", i, err)
		}
		if m.Role == "" {
			return nil, badRequest("messages[%d].role is missing", i)
		}
		job.Messages = append(job.Messages, engine.Message{Role: m.Role, Content: text})
	}
	var err error
	if job.Stop, err = oneOrMany(c.Stop); err != nil {
		return nil, badRequest("stop: %v", err)
	}
	if f := c.ResponseFormat; f != nil {
		switch f.Type {
		case "", "text":
		case "json_object":
			job.JSONSchema = json.RawMessage(`{"type":"object"}`)
		case "json_schema":
			if len(f.JSONSchema.Schema) == 0 {
				return nil, badRequest("response_format.json_schema.schema is missing")
			}
			job.JSONSchema = f.JSONSchema.Schema
		default:
			return nil, badRequest("response_format.type %q is not known here", f.Type)
		}
	}
	return job, nil
}

// contentText is the text of a message: a string, or parts that are text.
func contentText(data json.RawMessage) (string, error) {
	if len(data) == 0 || string(data) == "null" {
		return "", nil
	}
	var text string
	if json.Unmarshal(data, &text) == nil {
		return text, nil
	}
	var parts []struct{ Type, Text string }
	if err := json.Unmarshal(data, &parts); err != nil {
		return "", errors.New("must be a text, or a list of parts")
	}
	var all strings.Builder
	for _, part := range parts {
		if part.Type != "text" {
			return "", fmt.Errorf("parts of type %q are not understood here", part.Type)
		}
		all.WriteString(part.Text)
	}
	return all.String(), nil
}

// maxStops is how many stop strings a request may have.
const maxStops = 16

func oneOrMany(data json.RawMessage) ([]string, error) {
	if len(data) == 0 || string(data) == "null" {
		return nil, nil
	}
	var one string
	if json.Unmarshal(data, &one) == nil {
		return []string{one}, nil
	}
	var many []string
	if err := json.Unmarshal(data, &many); err != nil || len(many) > maxStops {
		return nil, fmt.Errorf("must be a text, or a list of at most %d", maxStops)
	}
	return many, nil
}

func (s *Server) chat(w http.ResponseWriter, r *http.Request) {
	var c chatRequest
	if err := read(w, r, &c); err != nil {
		fail(w, s.problemOf(err))
		return
	}
	job, err := c.job()
	if err != nil {
		fail(w, s.problemOf(err))
		return
	}
	req, done, err := s.request(engine.KindLLM, c.asked)
	if err != nil {
		fail(w, s.problemOf(err))
		return
	}
	defer done()
	req.LLM = job
	prompt := job.Messages[len(job.Messages)-1].Content
	if c.Stream {
		s.stream(r.Context(), w, c.asked, prompt, req)
		return
	}
	s.whole(w, r, c.asked, prompt, req)
}

// pieces gathers what an engine says of its answer, which must never wait.
type pieces struct {
	more chan struct{} // room for one: there is text

	mu   sync.Mutex
	text []byte
}

func (p *pieces) add(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = append(p.text, text...)
	select {
	case p.more <- struct{}{}:
	default:
	}
}

func (p *pieces) take() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := string(p.text)
	p.text = p.text[:0]
	return text
}

// completion is the result of a language model (engines spec §7.4).
type completion struct {
	Choices []struct {
		Message struct {
			Content   string `json:"content"`
			Reasoning string `json:"reasoning_content"`
		} `json:"message"`
		Finish string `json:"finish_reason"`
	} `json:"choices"`
	Usage json.RawMessage `json:"usage"`
}

// stream answers as the engine does: piece by piece.
func (s *Server) stream(ctx context.Context, w http.ResponseWriter, a asked, prompt string, req engine.Request) {
	text := &pieces{more: make(chan struct{}, 1)}
	req.Delta = text.add
	type outcome struct {
		made engine.Result
		err  error
	}
	ended := make(chan outcome, 1)
	go func() { // the handler waits for it
		made, err := s.run(ctx, a, prompt, req)
		ended <- outcome{made, err}
	}()
	out := &events{w: w, model: a.Model}
	for {
		select {
		case <-text.more:
			out.delta("content", text.take())
		case o := <-ended:
			out.delta("content", text.take()) // also of an answer that broke off
			if o.err == nil {
				o.err = out.finish(req, o.made)
			}
			if o.err != nil {
				out.fail(s.problemOf(o.err))
			}
			return
		}
	}
}

// events writes server-sent events.
type events struct {
	w     http.ResponseWriter
	model string
	begun bool
	told  bool // some of the answer itself
}

func (e *events) send(data string) {
	if !e.begun {
		e.begun = true
		e.w.Header().Set("Content-Type", "text/event-stream")
		e.w.WriteHeader(http.StatusOK)
	}
	_, _ = io.WriteString(e.w, "data: "+data+"\n\n") // who asked has gone, then
	_ = http.NewResponseController(e.w).Flush()
}

func (e *events) chunk(delta map[string]any, finish any, usage json.RawMessage) {
	body := map[string]any{
		"object": "chat.completion.chunk", "model": e.model,
		"choices": []any{map[string]any{"index": 0, "delta": delta, "finish_reason": finish}},
	}
	if usage != nil {
		body["usage"] = usage
	}
	data, err := json.Marshal(body)
	if err != nil {
		return // texts and numbers: this cannot be
	}
	e.send(string(data))
}

func (e *events) delta(field, text string) {
	if text == "" {
		return
	}
	e.told = e.told || field == "content"
	e.chunk(map[string]any{field: text}, nil, nil)
}

// finish tells what the engine did not say piece by piece, and the end.
func (e *events) finish(req engine.Request, made engine.Result) error {
	data, err := bytesOf(req, made)
	if err != nil {
		return err
	}
	var c completion
	if err := json.Unmarshal(data, &c); err != nil || len(c.Choices) == 0 {
		return errors.New("the engine's answer is not understood")
	}
	message := c.Choices[0].Message
	e.delta("reasoning_content", message.Reasoning)
	if !e.told {
		e.delta("content", message.Content)
	}
	e.chunk(map[string]any{}, c.Choices[0].Finish, c.Usage)
	e.send("[DONE]")
	return nil
}

// fail tells of an error, also in the middle of an answer.
func (e *events) fail(p problem) {
	if !e.begun {
		fail(e.w, p)
		return
	}
	data, err := json.Marshal(map[string]any{"error": map[string]any{"message": p.message, "type": p.kind, "param": nil, "code": p.code}})
	if err == nil {
		e.send(string(data))
	}
}

// dataURL is how pictures come: nothing is fetched for a caller.
var dataURL = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^data:image/[a-z0-9.+-]{1,20};base64,[A-Za-z0-9+/]`) })

func checkPictures(addresses map[string]string) error {
	names := make([]string, 0, len(addresses))
	for name := range addresses {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if address := addresses[name]; address != "" && !dataURL().MatchString(address) {
			return badRequest("%s must be data:image/TYPE;base64,DATA; this server fetches nothing", name)
		}
	}
	return nil
}

func (s *Server) image(w http.ResponseWriter, r *http.Request) {
	var c struct {
		asked
		Prompt         string   `json:"prompt"`
		NegativePrompt string   `json:"negativePrompt"`
		InitImage      string   `json:"initImage"`
		Mask           string   `json:"mask"`
		RefImage       string   `json:"refImage"`
		Denoise        *float64 `json:"denoise"`
		CFGScale       float64  `json:"cfgScale"`
		SamplingMethod string   `json:"samplingMethod"`
		Width          uint32   `json:"width"`
		Height         uint32   `json:"height"`
		Steps          uint32   `json:"steps"`
		Seed           *uint64  `json:"seed"`
		Ext            string   `json:"ext"`
	}
	err := read(w, r, &c)
	if err == nil {
		err = checkPictures(map[string]string{"initImage": c.InitImage, "mask": c.Mask, "refImage": c.RefImage})
	}
	if err == nil && c.Prompt == "" {
		err = badRequest("prompt is missing")
	}
	if c.Ext == "" {
		c.Ext = "webp"
	}
	s.serve(w, r, engine.KindImage, c.asked, c.Prompt, err, func(req *engine.Request) {
		req.Image = &engine.Image{
			Prompt: c.Prompt, NegativePrompt: c.NegativePrompt, InitImageURL: c.InitImage, MaskURL: c.Mask, RefImageURL: c.RefImage, Denoise: c.Denoise,
			CFGScale: c.CFGScale, SamplingMethod: c.SamplingMethod, Width: c.Width, Height: c.Height, Steps: c.Steps, Seed: c.Seed, Ext: c.Ext,
		}
	})
}

// serve runs a job that is no conversation, unless err says what is wrong with the
// request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, kind engine.Kind, a asked, prompt string, err error, set func(*engine.Request)) {
	if err != nil {
		fail(w, s.problemOf(err))
		return
	}
	req, done, err := s.request(kind, a)
	if err != nil {
		fail(w, s.problemOf(err))
		return
	}
	defer done()
	set(&req)
	s.whole(w, r, a, prompt, req)
}

func (s *Server) speak(w http.ResponseWriter, r *http.Request) {
	var c struct {
		asked
		Text     string  `json:"text"`
		Voice    string  `json:"voice"`
		Speed    float64 `json:"speed"`
		Language string  `json:"language"`
		Ext      string  `json:"ext"`
	}
	err := read(w, r, &c)
	if err == nil && strings.TrimSpace(c.Text) == "" {
		err = badRequest("text is missing")
	}
	if c.Ext == "" {
		c.Ext = "wav"
	}
	s.serve(w, r, engine.KindTTS, c.asked, c.Text, err, func(req *engine.Request) {
		req.TTS = &engine.TTS{Text: c.Text, Voice: c.Voice, Speed: c.Speed, Language: c.Language, Ext: c.Ext}
	})
}

func (s *Server) video(w http.ResponseWriter, r *http.Request) {
	var c struct {
		asked
		Prompt         string  `json:"prompt"`
		NegativePrompt string  `json:"negativePrompt"`
		InitImage      string  `json:"initImage"`
		Seconds        float64 `json:"seconds"`
		FPS            uint32  `json:"fps"`
		Width          uint32  `json:"width"`
		Height         uint32  `json:"height"`
		Ext            string  `json:"ext"`
	}
	err := read(w, r, &c)
	if err == nil {
		err = checkPictures(map[string]string{"initImage": c.InitImage})
	}
	if err == nil && c.Prompt == "" {
		err = badRequest("prompt is missing")
	}
	if c.Seconds <= 0 {
		c.Seconds = 2
	}
	if c.Ext == "" {
		c.Ext = "mp4"
	}
	s.serve(w, r, engine.KindVideo, c.asked, c.Prompt, err, func(req *engine.Request) {
		req.Video = &engine.Video{
			Prompt: c.Prompt, NegativePrompt: c.NegativePrompt, InitImageURL: c.InitImage, Seconds: c.Seconds, FPS: c.FPS, Width: c.Width, Height: c.Height, Ext: c.Ext,
		}
	})
}

// listen writes down what is said in a sound that comes in the request.
func (s *Server) listen(w http.ResponseWriter, r *http.Request) {
	var c struct {
		asked
		Audio      string `json:"audio"` // data:audio/TYPE;base64,DATA
		Language   string `json:"language"`
		Translate  bool   `json:"translate"`
		Prompt     string `json:"prompt"`
		VAD        bool   `json:"vad"`
		Timestamps string `json:"timestamps"`
	}
	if err := read(w, r, &c); err != nil {
		fail(w, s.problemOf(err))
		return
	}
	file, err := storeSound(c.Audio)
	if err != nil {
		fail(w, s.problemOf(err))
		return
	}
	defer func() { _ = os.RemoveAll(filepath.Dir(file)) }() // the next start of the system does
	address, release := s.cfg.Inputs.Offer(file)
	defer release()
	if c.Timestamps != "" && c.Timestamps != "segment" && c.Timestamps != "word" {
		err = badRequest("timestamps must be segment or word")
	}
	s.serve(w, r, engine.KindSTT, c.asked, c.Prompt, err, func(req *engine.Request) {
		req.STT = &engine.STT{InputURL: address, Language: c.Language, Translate: c.Translate, Prompt: c.Prompt, VAD: c.VAD, Timestamps: c.Timestamps}
	})
}

var soundURL = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^data:audio/([a-z0-9]{1,8})[a-z0-9.+-]{0,20};base64,`)
})

// storeSound writes the sound of a request into a new folder.
func storeSound(address string) (string, error) {
	head := soundURL().FindStringSubmatch(address[:min(len(address), 80)])
	if head == nil {
		return "", badRequest("audio must be data:audio/TYPE;base64,DATA; this server fetches nothing")
	}
	dir, err := os.MkdirTemp("", "studio-worker-sound-")
	if err != nil {
		return "", fmt.Errorf("store the sound: %w", err)
	}
	path := filepath.Join(dir, "sound."+head[1])
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", errors.Join(fmt.Errorf("store the sound: %w", err), os.RemoveAll(dir))
	}
	out := bufio.NewWriter(file)
	n, err := io.Copy(out, base64.NewDecoder(base64.StdEncoding, strings.NewReader(address[len(head[0]):])))
	if err = errors.Join(err, out.Flush(), file.Close()); err != nil || n == 0 {
		return "", errors.Join(badRequest("audio is empty or not base64"), os.RemoveAll(dir))
	}
	return path, nil
}

// model is one model as GET /models lists it.
type model struct {
	ID       string `json:"id"`
	Object   string `json:"object"`
	Kind     string `json:"kind"`
	Engine   string `json:"engine"`
	Loadable bool   `json:"loadable"`
	Loaded   bool   `json:"loaded"`
}

func (s *Server) listModels(w http.ResponseWriter, _ *http.Request) {
	loaded := s.cfg.Models.Loaded()
	list := []model{}
	for _, e := range s.cfg.Engines.Roster() {
		for _, kind := range engine.Kinds() {
			for _, id := range e.Models()[kind] {
				if strings.HasSuffix(id, "*") {
					continue // any model of that engine, by its source
				}
				_, keeps := e.(loader)
				list = append(list, model{id, "model", string(kind), string(e.ID()), keeps, keeps && slices.Contains(loaded, id)})
			}
		}
	}
	answer(w, http.StatusOK, map[string]any{"object": "list", "data": list})
}

func (s *Server) load(w http.ResponseWriter, r *http.Request) {
	var a asked
	if err := read(w, r, &a); err != nil {
		fail(w, s.problemOf(err))
		return
	}
	if a.Model == "" {
		fail(w, badRequest("model is missing"))
		return
	}
	from := engine.Source{}
	if a.Source != nil {
		from = engine.Source{Engine: engine.ID(a.Source.Engine), Files: a.Source.Files, Defaults: a.Source.CLIDefaults}
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), loadTime, errDeadline)
	defer cancel()
	if err := s.cfg.Models.Load(ctx, a.Model, from, func(engine.Progress) {}); err != nil {
		fail(w, s.problemOf(err))
		return
	}
	answer(w, http.StatusOK, map[string]any{"model": a.Model, "state": "loaded"})
}

func (s *Server) unload(w http.ResponseWriter, r *http.Request) {
	var a asked
	if err := read(w, r, &a); err != nil {
		fail(w, s.problemOf(err))
		return
	}
	if err := s.cfg.Models.Unload(r.Context(), a.Model); err != nil {
		fail(w, s.problemOf(err))
		return
	}
	answer(w, http.StatusOK, map[string]any{"model": a.Model, "state": "unloaded"})
}

// jobRow is one job as GET /jobs lists it: without what was asked and answered.
type jobRow struct {
	ID       string  `json:"id"`
	Kind     string  `json:"kind"`
	Model    string  `json:"model"`
	State    string  `json:"state"`
	Started  string  `json:"started"`
	Seconds  float64 `json:"seconds"`
	Step     int     `json:"step,omitempty"`
	Total    int     `json:"total,omitempty"`
	Progress string  `json:"progress,omitempty"`
	Error    string  `json:"error,omitempty"`
}

func (s *Server) jobs(w http.ResponseWriter, _ *http.Request) {
	rows := []jobRow{}
	if now := s.cfg.Observers.CurrentJob.Get(); now.ID != "" {
		rows = append(rows, jobRow{
			ID: now.ID, Kind: now.Kind, Model: now.Model, State: "running", Started: now.Started.UTC().Format(time.RFC3339), Seconds: time.Since(now.Started).Seconds(),
			Step: now.Progress.Step, Total: now.Progress.Total, Progress: now.Progress.Text,
		})
	}
	recent, _ := s.cfg.Observers.RecentJobs.Since(0)
	for _, j := range slices.Backward(recent) {
		rows = append(rows, jobRow{
			ID: j.ID, Kind: j.Kind, Model: j.Model, State: string(j.Outcome), Started: j.Started.UTC().Format(time.RFC3339), Seconds: j.Duration.Seconds(), Error: j.Error,
		})
	}
	answer(w, http.StatusOK, map[string]any{"jobs": rows})
}

func (s *Server) cancel(w http.ResponseWriter, r *http.Request) {
	if !s.cfg.Jobs.CancelJob(r.PathValue("id")) {
		fail(w, problem{http.StatusNotFound, "invalid_request_error", "not_found", "this job is not running", nil})
		return
	}
	answer(w, http.StatusOK, map[string]any{"id": r.PathValue("id"), "state": "cancelled"})
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	var body bytes.Buffer
	_ = json.NewEncoder(&body).Encode(map[string]any{"ok": true, "version": s.cfg.Version, "busy": s.cfg.Observers.CurrentJob.Get().ID != ""})
	w.Header().Set("Content-Type", contentJSON)
	_, _ = w.Write(body.Bytes()) // who asked has gone, then
}
