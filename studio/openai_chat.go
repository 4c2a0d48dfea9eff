package studio

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"studioworker/studio/client"
	"studioworker/worker/protocol"
)

const (
	chatTokens  = 4096  // of an answer, unless the call says; the model's room bounds it too
	mostTokens  = 32768 // of an answer (§4.2)
	maxStops    = 16
	chunkObject = "chat.completion.chunk"
)

// chatCall is the body of a chat completion. Fields that are not here only tune
// the answer, and are ignored.
type chatCall struct {
	Model         string        `json:"model"`
	Messages      []chatMessage `json:"messages"`
	Stream        bool          `json:"stream"`
	StreamOptions *struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	MaxTokens           *int64          `json:"max_tokens"`
	MaxCompletionTokens *int64          `json:"max_completion_tokens"`
	Temperature         *float64        `json:"temperature"`
	TopP                *float64        `json:"top_p"`
	Stop                json.RawMessage `json:"stop"`
	ReasoningEffort     *string         `json:"reasoning_effort"`
	ResponseFormat      *struct {
		Type       string `json:"type"`
		JSONSchema *struct {
			Schema json.RawMessage `json:"schema"`
		} `json:"json_schema"`
	} `json:"response_format"`
	ChatTemplateKwargs map[string]json.RawMessage `json:"chat_template_kwargs"` // as other servers of local models have it

	// What would change the answer's shape, and cannot be done.
	N          *int64            `json:"n"`
	Tools      []json.RawMessage `json:"tools"`
	Functions  []json.RawMessage `json:"functions"`
	LogProbs   *bool             `json:"logprobs"`
	Modalities []string          `json:"modalities"`
	Audio      json.RawMessage   `json:"audio"`
	WebSearch  json.RawMessage   `json:"web_search_options"`
}

type chatMessage struct {
	Role      string            `json:"role"`
	Content   json.RawMessage   `json:"content"`
	ToolCalls []json.RawMessage `json:"tool_calls"`
}

// absent says that an optional JSON value is not there.
func absent(v json.RawMessage) bool { return len(v) == 0 || string(v) == "null" }

// text returns the message's content: a text, or parts that are texts.
func (m chatMessage) text() (string, error) {
	var text string
	if absent(m.Content) {
		return "", nil
	}
	if json.Unmarshal(m.Content, &text) == nil {
		return text, nil
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if json.Unmarshal(m.Content, &parts) != nil {
		return "", wrong("messages", "messages: content must be a text or a list of parts")
	}
	var all strings.Builder
	for _, p := range parts {
		if p.Type != "text" {
			return "", unsupported("messages", "messages: a part of type %.50q cannot be read; only text can", p.Type)
		}
		all.WriteString(p.Text)
	}
	return all.String(), nil
}

func (c *chatCall) model() string { return c.Model }

// task makes the job's task of a call.
func (c *chatCall) task() (protocol.Task, error) {
	t := &protocol.LLMTask{
		MaxTokens: chatTokens, Temperature: protocol.DefaultTemperature, TopP: c.TopP, Reasoning: c.ReasoningEffort,
		ChatTemplateKwargs: c.ChatTemplateKwargs,
	}
	switch {
	case len(c.Tools) > 0:
		return protocol.Task{}, unsupported("tools", "tools are not supported: the studio's models answer with text")
	case len(c.Functions) > 0:
		return protocol.Task{}, unsupported("functions", "functions are not supported: the studio's models answer with text")
	case c.N != nil && *c.N != 1:
		return protocol.Task{}, unsupported("n", "n must be 1; make one call for each answer")
	case c.LogProbs != nil && *c.LogProbs:
		return protocol.Task{}, unsupported("logprobs", "logprobs are not supported")
	case !absent(c.Audio), len(c.Modalities) > 1, len(c.Modalities) == 1 && c.Modalities[0] != "text":
		return protocol.Task{}, unsupported("modalities", "only text is supported here; /v1/audio/speech speaks")
	case !absent(c.WebSearch):
		return protocol.Task{}, unsupported("web_search_options", "the studio's models do not search the web")
	case len(c.Messages) == 0:
		return protocol.Task{}, wrong("messages", "messages: there must be at least one")
	}
	for _, m := range c.Messages {
		role := m.Role
		switch role {
		case "developer":
			role = "system"
		case "system", "user", "assistant":
		default:
			return protocol.Task{}, unsupported("messages", "messages: the role %.50q is not supported", m.Role)
		}
		if len(m.ToolCalls) > 0 {
			return protocol.Task{}, unsupported("messages", "messages: tool calls are not supported")
		}
		text, err := m.text()
		if err != nil {
			return protocol.Task{}, err
		}
		t.Messages = append(t.Messages, protocol.Message{Role: role, Content: text})
	}
	most := c.MaxCompletionTokens
	if most == nil {
		most = c.MaxTokens
	}
	if most != nil {
		if *most < 1 {
			return protocol.Task{}, wrong("max_tokens", "max_tokens: must be at least 1")
		}
		t.MaxTokens = uint32(min(*most, mostTokens))
	}
	if c.Temperature != nil {
		t.Temperature = *c.Temperature
	}
	var err error
	if t.Stop, err = stops(c.Stop); err != nil {
		return protocol.Task{}, err
	}
	if t.JSONSchema, err = c.schema(); err != nil {
		return protocol.Task{}, err
	}
	return protocol.Task{Kind: protocol.KindLLM, LLM: t}, nil
}

// stops reads one stop text or several.
func stops(v json.RawMessage) ([]string, error) {
	if absent(v) {
		return nil, nil
	}
	var one string
	if json.Unmarshal(v, &one) == nil {
		return []string{one}, nil
	}
	var several []string
	if json.Unmarshal(v, &several) != nil || len(several) > maxStops {
		return nil, wrong("stop", "stop: must be a text or up to %d of them", maxStops)
	}
	return several, nil
}

// schema returns the JSON schema that the answer must have, if any.
func (c *chatCall) schema() (json.RawMessage, error) {
	f := c.ResponseFormat
	if f == nil {
		return nil, nil
	}
	switch f.Type {
	case "text":
		return nil, nil
	case "json_object":
		return json.RawMessage(`{"type":"object"}`), nil
	case "json_schema":
		if f.JSONSchema == nil || !bytes.HasPrefix(bytes.TrimSpace(f.JSONSchema.Schema), []byte("{")) {
			return nil, wrong("response_format", "response_format: json_schema needs a schema")
		}
		return f.JSONSchema.Schema, nil
	default:
		return nil, unsupported("response_format", "response_format: the type %.50q is not supported", f.Type)
	}
}

// completion is what a language model answered (§4.2).
type completion struct {
	Choices []struct {
		Message struct {
			Content          string `json:"content"`
			ReasoningContent string `json:"reasoning_content"`
		} `json:"message"`
		FinishReason string `json:"finish_reason"`
	} `json:"choices"`
	Usage chatUsage `json:"usage"`
}

type chatUsage struct {
	PromptTokens     int64 `json:"prompt_tokens"`
	CompletionTokens int64 `json:"completion_tokens"`
	TotalTokens      int64 `json:"total_tokens"`
}

type chatAnswer struct {
	ID      string       `json:"id"`
	Object  string       `json:"object"`
	Created int64        `json:"created"`
	Model   string       `json:"model"`
	Choices []chatChoice `json:"choices"`
	Usage   *chatUsage   `json:"usage,omitempty"`
}

type chatChoice struct {
	Index        int        `json:"index"`
	Message      *chatReply `json:"message,omitempty"`
	Delta        *chatDelta `json:"delta,omitempty"`
	LogProbs     *struct{}  `json:"logprobs"`
	FinishReason *string    `json:"finish_reason"`
}

type chatReply struct {
	Role             string  `json:"role"`
	Content          string  `json:"content"`
	ReasoningContent string  `json:"reasoning_content,omitempty"`
	Refusal          *string `json:"refusal"`
}

type chatDelta struct {
	Role             string  `json:"role,omitempty"`
	Content          *string `json:"content,omitempty"`
	ReasoningContent string  `json:"reasoning_content,omitempty"`
}

var errNoChoice = &callError{status: http.StatusInternalServerError, kind: kindServer, code: "job_failed", final: true, message: "the worker's answer has no text"}

// chat answers a conversation.
func (s *Studio) chat(w http.ResponseWriter, r *http.Request, who caller) error {
	var in chatCall
	c, err := s.beginCall(w, r, &in, who)
	if err != nil {
		return err
	}
	frame := chatAnswer{ID: "chatcmpl-" + c.job.id, Object: "chat.completion", Created: since(time.Now()), Model: c.job.now().Model}
	if in.Stream {
		return c.stream(w, r, frame, in.StreamOptions != nil && in.StreamOptions.IncludeUsage)
	}
	rec, err := c.wait(w, r)
	if err != nil {
		return err
	}
	var got completion
	if err := s.answer(r.Context(), rec, &got); err != nil {
		return err
	}
	if len(got.Choices) == 0 {
		return errNoChoice
	}
	for i, choice := range got.Choices {
		reason := finishReason(choice.FinishReason)
		frame.Choices = append(frame.Choices, chatChoice{
			Index: i, FinishReason: &reason,
			Message: &chatReply{Role: "assistant", Content: choice.Message.Content, ReasoningContent: choice.Message.ReasoningContent},
		})
	}
	frame.Usage = &got.Usage
	writeJSON(w, http.StatusOK, frame)
	return nil
}

// finishReason is one that OpenAI's clients know.
func finishReason(reason string) string {
	if reason == "length" {
		return reason
	}
	return "stop"
}

// errAnotherText says that a new attempt writes something else than what the
// caller has read already.
var errAnotherText = &callError{
	status: http.StatusBadGateway, kind: kindServer, code: "worker_lost", message: "the worker was lost in the middle of its answer, and another began anew; try again",
}

// chatStream writes an answer piece by piece.
type chatStream struct {
	w     http.ResponseWriter
	frame chatAnswer // of each piece
	usage bool       // each piece has a usage, null but in the last
	begun bool
	said  string // to the caller
	text  string // of the running attempt
	anew  bool   // another attempt began after something was said
}

// take says what an event adds to the text. A new attempt of another worker says
// the same again, or something else: only the first can be joined.
func (s *chatStream) take(event client.Event, whole bool) error {
	switch {
	case event.Delta == nil:
		if event.Type == client.EventState && event.Job.State != client.Running {
			s.text, s.anew = "", s.anew || (s.said != "" && !event.Job.State.Final())
		}
		return nil
	case whole:
		s.text = event.Delta.Text
	default:
		s.text += event.Delta.Text
	}
	return s.catchUp()
}

func (s *chatStream) catchUp() error {
	more, ok := strings.CutPrefix(s.text, s.said)
	switch {
	case ok && more != "":
		s.said = s.text
		return s.piece(chatDelta{Content: &more}, nil)
	case ok, strings.HasPrefix(s.said, s.text):
		return nil
	default:
		return errAnotherText
	}
}

// piece sends one piece of the answer.
func (s *chatStream) piece(delta chatDelta, reason *string) error {
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", "text/event-stream")
		s.w.Header().Set("Cache-Control", "no-store")
		s.w.Header().Set("X-Accel-Buffering", "no") // proxies that gather answers must not gather this one
		empty := ""
		if err := s.piece(chatDelta{Role: "assistant", Content: &empty}, nil); err != nil {
			return err
		}
	}
	frame := s.frame
	frame.Choices = []chatChoice{{Delta: &delta, FinishReason: reason}}
	return s.send(frame)
}

// send writes one event. With the usage asked for, each has the key (null), and
// the last its value.
func (s *chatStream) send(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if frame, ok := v.(chatAnswer); ok && s.usage && frame.Usage == nil {
		data = append(data[:len(data)-1], `,"usage":null}`...)
	}
	return s.write("data: " + string(data) + "\n\n")
}

func (s *chatStream) write(text string) error {
	control := http.NewResponseController(s.w)
	if err := control.SetWriteDeadline(time.Now().Add(requestLimit)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return control.Flush()
}

// idle shows that the stream lives.
func (s *chatStream) idle() error {
	if !s.begun {
		return nil
	}
	return s.write(": still here\n\n")
}

// stream answers piece by piece as the worker tells them. Before the first piece
// an error is an answer of its own; after it, an event.
func (c *call) stream(w http.ResponseWriter, r *http.Request, frame chatAnswer, usage bool) error {
	frame.Object = chunkObject
	out := &chatStream{w: w, frame: frame, usage: usage}
	err := c.recite(w, r, out)
	if err == nil || r.Context().Err() != nil { // told, or nobody reads on
		return nil //nolint:nilerr // there is nobody left to answer
	}
	if !out.begun {
		return err
	}
	if sendErr := out.send(asCallError(err).body()); sendErr != nil {
		c.s.cfg.Log.Debug("a stream broke off", "job_id", c.job.id, "error", sendErr)
	}
	return nil
}

func (c *call) recite(w http.ResponseWriter, r *http.Request, out *chatStream) error {
	rec, err := c.follow(w, r, out.take, out.idle)
	if err != nil {
		return err
	}
	var got completion
	if err := c.s.answer(r.Context(), rec, &got); err != nil {
		return err
	}
	if len(got.Choices) == 0 {
		return errNoChoice
	}
	choice := got.Choices[0]
	if choice.Message.ReasoningContent != "" {
		if err := out.piece(chatDelta{ReasoningContent: choice.Message.ReasoningContent}, nil); err != nil {
			return err
		}
	}
	// An engine may tidy up at the end what it has told before, so only another
	// attempt's text is measured by what was said.
	if out.text = choice.Message.Content; out.anew || strings.HasPrefix(out.text, out.said) {
		if err := out.catchUp(); err != nil {
			return err
		}
	}
	reason := finishReason(choice.FinishReason)
	if err := out.piece(chatDelta{}, &reason); err != nil {
		return err
	}
	if out.usage {
		last := out.frame
		last.Choices, last.Usage = []chatChoice{}, &got.Usage
		if err := out.send(last); err != nil {
			return err
		}
	}
	return out.write("data: [DONE]\n\n")
}
