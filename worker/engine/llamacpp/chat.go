package llamacpp

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"studioworker/worker/engine"
)

// Limits of one answer.
const (
	maxAnswer = 14 << 20 // bytes of text: the result must fit into one frame
	maxEvent  = 4 << 20  // bytes of one line of the stream
	maxRefuse = 64 << 10 // bytes of an error answer
)

// fixedSeed makes equal requests give equal answers (engines spec §7.1).
const fixedSeed = 1234

// chatRequest is the body of a request to the server (engines spec §7.3).
type chatRequest struct {
	Model          string          `json:"model"`
	Messages       []chatMessage   `json:"messages"`
	MaxTokens      uint32          `json:"max_tokens"`
	Temperature    float64         `json:"temperature"`
	TopP           *float64        `json:"top_p,omitempty"`
	TopK           int             `json:"top_k"`
	MinP           float64         `json:"min_p"`
	Samplers       []string        `json:"samplers"`
	Seed           int             `json:"seed"`
	Stop           []string        `json:"stop,omitempty"`
	Template       map[string]any  `json:"chat_template_kwargs,omitempty"`
	CachePrompt    bool            `json:"cache_prompt"`
	ResponseFormat *responseFormat `json:"response_format,omitempty"`
	Effort         string          `json:"reasoning_effort,omitempty"`
	Stream         bool            `json:"stream"`
	StreamOptions  map[string]bool `json:"stream_options"`
}

type chatMessage struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type responseFormat struct {
	Type   string     `json:"type"`
	Schema jsonSchema `json:"json_schema"`
}

type jsonSchema struct {
	Name   string          `json:"name"`
	Strict bool            `json:"strict"`
	Schema json.RawMessage `json:"schema"`
}

// efforts are the words of the reasoning hint that the server knows.
var efforts = map[string]bool{"none": true, "minimal": true, "low": true, "medium": true, "high": true}

// newRequest translates a job. An error is bad input.
func newRequest(model string, job *engine.LLM, defaults json.RawMessage) (chatRequest, error) {
	r := chatRequest{
		Model: model, Messages: []chatMessage{}, MaxTokens: max(job.MaxTokens, 1), Temperature: max(job.Temperature, 0), TopP: job.TopP,
		Samplers: []string{"temperature"}, Seed: fixedSeed, CachePrompt: true, Stream: true, StreamOptions: map[string]bool{"include_usage": true},
	}
	if job.TopP != nil {
		r.Samplers = []string{"top_p", "temperature"}
	}
	if job.System != "" {
		r.Messages = append(r.Messages, chatMessage{"system", job.System})
	}
	for _, m := range job.Messages {
		r.Messages = append(r.Messages, chatMessage(m))
	}
	for _, stop := range job.Stop {
		if stop != "" {
			r.Stop = append(r.Stop, stop)
		}
	}
	if efforts[job.Reasoning] {
		r.Effort = job.Reasoning
	}
	if schema := bytes.TrimSpace(job.JSONSchema); len(schema) > 0 && !bytes.Equal(schema, []byte("null")) {
		if !json.Valid(schema) || schema[0] != '{' {
			return r, engine.BadInput("jsonSchema is not a JSON object")
		}
		r.ResponseFormat = &responseFormat{Type: "json_schema", Schema: jsonSchema{Name: "out", Strict: true, Schema: schema}}
	}
	for _, variables := range []json.RawMessage{defaults, job.ChatTemplateKwargs} { // the job's own win
		if len(variables) == 0 {
			continue
		}
		if err := json.Unmarshal(variables, &r.Template); err != nil {
			return r, engine.BadInput("chatTemplateKwargs is not a JSON object")
		}
	}
	return r, nil
}

// chunk is one event of the server's stream.
type chunk struct {
	Choices []struct {
		Delta struct {
			Content   string `json:"content"`
			Reasoning string `json:"reasoning_content"`
		} `json:"delta"`
		Finish string `json:"finish_reason"`
	} `json:"choices"`
	Usage   *usage `json:"usage"`
	Timings struct {
		Prompt    float64 `json:"prompt_per_second"`
		Predicted float64 `json:"predicted_per_second"`
	} `json:"timings"`
	Error *serverError `json:"error"`
}

type usage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
}

// serverError is what the server says when it refuses.
type serverError struct {
	Code         int    `json:"code"`
	Message      string `json:"message"`
	Type         string `json:"type"`
	PromptTokens int    `json:"n_prompt_tokens"`
	Context      int    `json:"n_ctx"`
}

// refusal gives what the server refused its class (engines spec §7.5).
func (e serverError) refusal(status int) error {
	switch {
	case e.Type == "exceed_context_size_error":
		return engine.BadInput(fmt.Sprintf("prompt is %d tokens but the context holds %d; raise contextSize or shorten the prompt", e.PromptTokens, e.Context))
	case status == http.StatusBadRequest:
		return engine.BadInput("the server refused the request: " + e.Message)
	case strings.Contains(e.Message, "out of memory"), strings.Contains(e.Message, "allocate"):
		return &engine.Error{Class: engine.ClassOutOfMemory, Err: errors.New(e.Message)}
	default:
		return &engine.Error{Class: engine.ClassInternal, Err: fmt.Errorf("the server answered %d: %s", status, e.Message)}
	}
}

// answer is what came of a request.
type answer struct {
	content   strings.Builder
	reasoning strings.Builder
	finish    string
	usage     usage
	pieces    int // events with text
	prompt    float64
	predicted float64 // tokens a second
}

// events hears of an answer as it comes.
type events struct {
	text     func(string) // of the answer itself, in order
	progress func(tokens int)
}

// brokenError says that the stream ended before the answer did.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return "the connection to llama-server broke: " + e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

// chat sends a request and reads the answer to its end.
func (s *server) chat(ctx context.Context, request chatRequest, on events) (*answer, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	r.Header.Set("Authorization", "Bearer "+s.key)
	r.Header.Set("Content-Type", "application/json")
	reply, err := s.http.Do(r)
	if err != nil {
		return nil, broken(ctx, err)
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		return nil, refusalOf(reply)
	}
	a := &answer{}
	err = a.read(reply.Body, newSieve(request.Stop, on.text), on.progress)
	if read, ok := errors.AsType[*brokenError](err); ok {
		return a, broken(ctx, read.err)
	}
	return a, err
}

// broken says why there is no answer: ours to stop, or the server's end.
func broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &brokenError{err}
}

func refusalOf(reply *http.Response) error {
	var told struct {
		Error serverError `json:"error"`
	}
	data, err := io.ReadAll(io.LimitReader(reply.Body, maxRefuse))
	if err != nil || json.Unmarshal(data, &told) != nil {
		told.Error.Message = "nothing it could be understood by"
	}
	return told.Error.refusal(reply.StatusCode)
}

// read takes the stream of events (engines spec §7.4).
func (a *answer) read(body io.Reader, out *sieve, progress func(int)) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 64<<10), maxEvent)
	done := false
	for lines.Scan() {
		line := lines.Bytes()
		data, ok := bytes.CutPrefix(line, []byte("data:"))
		if !ok {
			if told, isError := bytes.CutPrefix(line, []byte("error:")); isError {
				data = append([]byte(`{"error":`), append(bytes.TrimSpace(told), '}')...)
			} else {
				continue // an empty line, or a comment that keeps the connection open
			}
		}
		data = bytes.TrimSpace(data)
		if string(data) == "[DONE]" {
			done = true
			break
		}
		var c chunk
		if err := json.Unmarshal(data, &c); err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		if c.Error != nil {
			return c.Error.refusal(c.Error.Code)
		}
		if err := a.take(c, out); err != nil {
			return err
		}
		if progress != nil {
			progress(a.pieces)
		}
	}
	if err := lines.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			return fmt.Errorf("read the answer: a line is longer than %d bytes", maxEvent)
		}
		return &brokenError{err}
	}
	if !done && a.finish == "" {
		return &brokenError{io.ErrUnexpectedEOF}
	}
	out.end()
	a.content.WriteString(out.kept)
	if out.stopped {
		a.finish = "stop"
	}
	return nil
}

func (a *answer) take(c chunk, out *sieve) error {
	if c.Usage != nil {
		a.usage = *c.Usage
	}
	if c.Timings.Predicted > 0 {
		a.prompt, a.predicted = c.Timings.Prompt, c.Timings.Predicted
	}
	for _, choice := range c.Choices {
		if choice.Delta.Content != "" || choice.Delta.Reasoning != "" {
			a.pieces++
		}
		a.reasoning.WriteString(choice.Delta.Reasoning)
		out.add(choice.Delta.Content)
		if choice.Finish != "" {
			a.finish = choice.Finish
		}
	}
	if a.reasoning.Len()+len(out.kept) > maxAnswer {
		return &engine.Error{Class: engine.ClassInternal, Err: fmt.Errorf("the answer is longer than %d bytes", maxAnswer)}
	}
	return nil
}

// The tags around a model's thoughts.
const (
	thinkOpen  = "<think>"
	thinkClose = "</think>"
)

// sieve lets an answer through as it comes, but neither the thoughts in front of
// it nor a stop string, whole or begun.
type sieve struct {
	stops []string
	tell  func(string)

	all      strings.Builder // as it came
	kept     string          // as it came, up to the first stop string
	told     int             // bytes of kept that were told or are thoughts
	stopped  bool
	thinking bool // a thought is open
	begun    bool // it is known whether the answer begins with a thought
}

func newSieve(stops []string, tell func(string)) *sieve {
	if tell == nil {
		tell = func(string) {}
	}
	return &sieve{stops: stops, tell: tell}
}

func (s *sieve) add(text string) {
	if text == "" || s.stopped {
		return
	}
	from := s.all.Len()
	s.all.WriteString(text)
	all := s.all.String()
	s.kept = all
	for _, stop := range s.stops {
		start := max(0, from-len(stop)+1)
		if at := strings.Index(all[start:], stop); at >= 0 && start+at < len(s.kept) {
			s.kept, s.stopped = all[:start+at], true
		}
	}
	s.flush(false)
}

// end says that nothing more comes.
func (s *sieve) end() { s.flush(true) }

// flush tells what is certain.
func (s *sieve) flush(last bool) {
	if !s.begun {
		head := strings.TrimLeft(s.kept, " \t\r\n")
		if !last && !s.stopped && len(head) < len(thinkOpen) && strings.HasPrefix(thinkOpen, head) {
			return
		}
		s.begun, s.thinking = true, strings.HasPrefix(head, thinkOpen)
	}
	if s.thinking {
		at := strings.Index(s.kept, thinkClose)
		if at < 0 {
			return
		}
		s.thinking, s.told = false, at+len(thinkClose)
	}
	end := len(s.kept)
	if !last && !s.stopped {
		end -= s.begunStop()
	}
	if !last && !s.stopped {
		end = wholeRunes(s.kept[:end])
	}
	if end > s.told {
		s.tell(strings.ToValidUTF8(s.kept[s.told:end], "\uFFFD"))
		s.told = end
	}
}

// wholeRunes is the length of a text without a letter that is not whole yet.
func wholeRunes(text string) int {
	for back := 1; back < utf8.UTFMax && back <= len(text); back++ {
		at := len(text) - back
		if utf8.RuneStart(text[at]) {
			if !utf8.FullRuneInString(text[at:]) {
				return at
			}
			break
		}
	}
	return len(text)
}

// begunStop is how many bytes at the end may be the begin of a stop string.
func (s *sieve) begunStop() int {
	longest := 0
	for _, stop := range s.stops {
		for n := min(len(stop)-1, len(s.kept)); n > longest; n-- {
			if strings.HasSuffix(s.kept, stop[:n]) {
				longest = n
			}
		}
	}
	return longest
}

// result is what goes to the studio (engines spec §7.4).
type result struct {
	Object  string   `json:"object"`
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	Usage   usage    `json:"usage"`
	Elapsed int64    `json:"elapsed_ms"`
}

type choice struct {
	Index   int     `json:"index"`
	Message message `json:"message"`
	Finish  string  `json:"finish_reason"`
}

type message struct {
	Role      string `json:"role"`
	Content   string `json:"content"`
	Reasoning string `json:"reasoning_content,omitempty"`
}

// result makes the result of an answer.
func (a *answer) result(model string, took time.Duration) result {
	content, reasoning := a.content.String(), strings.TrimSpace(a.reasoning.String())
	if reasoning == "" {
		content, reasoning = splitThought(content)
	}
	finish := "stop"
	if a.finish == "length" {
		finish = "length"
	}
	if a.usage.Total == 0 {
		a.usage.Total = a.usage.Prompt + a.usage.Completion
	}
	return result{
		Object: "chat.completion", Model: model, Usage: a.usage, Elapsed: took.Milliseconds(),
		Choices: []choice{{Message: message{Role: "assistant", Content: strings.TrimSpace(strings.ToValidUTF8(content, "\uFFFD")), Reasoning: reasoning}, Finish: finish}},
	}
}

// splitThought parts an answer at the end of its thought; the opening tag may be
// missing.
func splitThought(text string) (content, thought string) {
	before, after, ok := strings.Cut(text, thinkClose)
	if !ok {
		return text, ""
	}
	before = strings.TrimSpace(before)
	return after, strings.TrimSpace(strings.TrimPrefix(before, thinkOpen))
}
