package studio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"studioworker/studio/client"
	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

const (
	maxField  = 64 << 10 // bytes of a text field of a form
	maxFields = 32
)

// speechCall is the body of a speech call.
type speechCall struct {
	Model          string   `json:"model"`
	Input          string   `json:"input"`
	Voice          voice    `json:"voice"`
	ResponseFormat string   `json:"response_format"`
	Speed          *float64 `json:"speed"`
	StreamFormat   string   `json:"stream_format"`
	Language       *string  `json:"language"` // as other servers of local models have it
}

// voice is the name of a voice, or an object with its id.
type voice string

// UnmarshalJSON reads either form.
func (v *voice) UnmarshalJSON(data []byte) error {
	var object struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(data, &object) == nil && object.ID != "" {
		*v = voice(object.ID)
		return nil
	}
	return json.Unmarshal(data, (*string)(v))
}

// openAIVoices are names that no engine here has. Programs that were written for
// OpenAI name one of them because they must, so they mean the model's own voice.
var openAIVoices = []string{
	"alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer", "verse",
}

func (c *speechCall) model() string { return c.Model }

// task makes the job's task of a call.
func (c *speechCall) task() (protocol.Task, error) {
	t := &protocol.TTSTask{Text: c.Input, Voice: string(c.Voice), Speed: c.Speed, Language: c.Language, Ext: "mp3"}
	if t.Voice == "" || slices.Contains(openAIVoices, t.Voice) {
		t.Voice = protocol.DefaultVoice
	}
	if c.Input == "" {
		return protocol.Task{}, wrong("input", "input: must not be empty")
	}
	switch c.ResponseFormat {
	case "", "mp3":
	case "wav":
		t.Ext = "wav"
	default:
		return protocol.Task{}, unsupported("response_format", "response_format: %.20q is not supported; wav and mp3 are", c.ResponseFormat)
	}
	if c.StreamFormat != "" && c.StreamFormat != "audio" {
		return protocol.Task{}, unsupported("stream_format", "stream_format: must be audio")
	}
	return protocol.Task{Kind: protocol.KindTTS, TTS: t}, nil
}

// speech turns text into sound. Its type is what the worker made, whatever was
// asked for.
func (s *Studio) speech(w http.ResponseWriter, r *http.Request, who caller) error {
	var in speechCall
	c, err := s.beginCall(w, r, &in, who)
	if err != nil {
		return err
	}
	rec, err := c.wait(w, r)
	if err != nil {
		return err
	}
	s.sendStored(w, r, *rec.Result, "result of job "+rec.ID, func() {
		w.Header().Set("Content-Type", rec.Result.ContentType)
		w.Header().Set("Content-Length", strconv.FormatInt(rec.Result.Bytes, 10))
		w.Header().Set("X-Content-Type-Options", "nosniff")
	})
	return nil
}

// recording is the form of a transcription call.
type recording struct {
	input  store.Input // empty: no file came
	fields map[string][]string
}

func (f recording) value(name string) string {
	if v := f.fields[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// transcribe turns a recording into text, in its language or in English. The
// recording is kept no longer than the call.
func (s *Studio) transcribe(w http.ResponseWriter, r *http.Request, who caller, translate bool) error {
	form, err := s.readRecording(w, r)
	defer s.forget(r.Context(), form.input)
	if err != nil {
		return err
	}
	format := form.value("response_format")
	task, err := form.task(s.origin(r), format, translate)
	if err != nil {
		return err
	}
	c, err := s.begin(r, task, form.value("model"), who)
	if err != nil {
		return err
	}
	rec, err := c.wait(w, r)
	if err != nil {
		return err
	}
	var got transcript
	if err := s.answer(r.Context(), rec, &got); err != nil {
		return err
	}
	got.write(w, format, translate, slices.Contains(form.granularities(), "word"))
	return nil
}

// forget removes an input that a call brought. The sweep takes what is left when
// that does not work.
func (s *Studio) forget(ctx context.Context, in store.Input) {
	if in.ID == "" {
		return
	}
	ctx = context.WithoutCancel(ctx)
	var err error
	for range maxConflicts {
		var e store.Entry[store.Input]
		if e, err = s.store.Inputs.Get(ctx, in.ID); err != nil {
			break
		}
		if err = s.store.Inputs.Delete(ctx, in.ID, e.Revision); errors.Is(err, store.ErrConflict) {
			continue
		}
		err = errors.Join(err, s.store.Discard(ctx, in.Data))
		break
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		s.cfg.Log.Warn("a recording was not removed at once", "error", err)
	}
}

// readRecording reads the parts of the form, in any order, the file straight into
// the store.
func (s *Studio) readRecording(w http.ResponseWriter, r *http.Request) (recording, error) {
	out := recording{fields: map[string][]string{}}
	r.Body = &patient{r: http.MaxBytesReader(bare(w), r.Body, client.MaxInput+overhead), control: http.NewResponseController(w)}
	form, err := r.MultipartReader()
	if err != nil {
		return out, &callError{status: http.StatusUnsupportedMediaType, kind: kindRequest, code: "unsupported_media_type", message: "the body must be multipart/form-data with a file"}
	}
	for range maxFields {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			if out.input.ID == "" {
				return out, wrong("file", "file: the form has none")
			}
			_, err := io.Copy(io.Discard, r.Body) // only then the server notices when the caller goes away
			if err != nil {
				return out, brokenInput(err)
			}
			return out, nil
		}
		if err != nil {
			return out, brokenInput(err)
		}
		name := strings.TrimSuffix(part.FormName(), "[]")
		if name == "file" {
			if out.input.ID != "" {
				return out, wrong("file", "file: the form has two")
			}
			if out.input, err = s.keepPart(r, part); err != nil {
				return out, err
			}
			continue
		}
		data, err := io.ReadAll(io.LimitReader(part, maxField+1))
		if err != nil {
			return out, brokenInput(err)
		}
		if len(data) > maxField || !utf8.Valid(data) {
			return out, wrong(clip(name, maxOption), "%.64s: must be a text of at most %s", name, size(maxField))
		}
		out.fields[name] = append(out.fields[name], string(data))
	}
	return out, wrong("", "the form has too many fields")
}

func (s *Studio) keepPart(r *http.Request, part *multipart.Part) (store.Input, error) {
	in, err := s.keepInput(r.Context(), soundType(part.Header.Get("Content-Type"), part.FileName()), r.ContentLength, io.LimitReader(part, client.MaxInput+1))
	if err == nil && in.Data.Bytes > client.MaxInput {
		return in, &refusal{status: http.StatusRequestEntityTooLarge, code: "too_large", message: "the recording is larger than " + size(client.MaxInput)}
	}
	return in, err
}

// soundType is the media type of an uploaded recording, by what the sender says or
// by the name of the file.
func soundType(header, name string) string {
	if kind, err := inputType(header); err == nil && strings.HasPrefix(kind, "audio/") {
		return kind
	}
	switch strings.ToLower(path.Ext(name)) {
	case ".wav":
		return "audio/wav"
	case ".mp3", ".mpga", ".mpeg":
		return "audio/mpeg"
	case ".m4a", ".mp4":
		return "audio/mp4"
	case ".flac":
		return "audio/flac"
	case ".ogg", ".oga", ".opus":
		return "audio/ogg"
	case ".webm":
		return "audio/webm"
	default:
		return "application/octet-stream"
	}
}

func (f recording) granularities() []string { return f.fields["timestamp_granularities"] }

// task makes the job's task of a call.
func (f recording) task(origin, format string, translate bool) (protocol.Task, error) {
	t := &protocol.STTTask{InputURL: origin + inputPath + f.input.ID}
	if language := f.value("language"); language != "" {
		t.Language = &language
	}
	if prompt := f.value("prompt"); prompt != "" {
		t.Prompt = &prompt
	}
	if translate {
		t.Translate = &translate
	}
	if stream := f.value("stream"); stream != "" && stream != "false" {
		return protocol.Task{}, unsupported("stream", "transcriptions are not streamed")
	}
	if len(f.fields["include"]) > 0 {
		return protocol.Task{}, unsupported("include", "include: nothing more is known of a transcription")
	}
	stamps := ""
	switch format {
	case "", "json", "text":
	case "srt", "vtt", "verbose_json":
		stamps = "segment"
	default:
		return protocol.Task{}, unsupported("response_format", "response_format: %.20q is not supported; json, text, verbose_json, srt and vtt are", format)
	}
	for _, g := range f.granularities() {
		switch {
		case g != "word" && g != "segment":
			return protocol.Task{}, wrong("timestamp_granularities", "timestamp_granularities: must be word or segment")
		case format != "verbose_json":
			return protocol.Task{}, wrong("timestamp_granularities", "timestamp_granularities: needs response_format verbose_json")
		case g == "word":
			stamps = "word"
		}
	}
	if stamps != "" {
		t.Timestamps = &stamps
	}
	return protocol.Task{Kind: protocol.KindSTT, STT: t}, nil
}

// transcript is what a speech-to-text engine answered (§4.3). The reference's
// segments are a count; ours are a list, when they were asked for.
type transcript struct {
	Text     string   `json:"text"`
	Language string   `json:"language"`
	Duration float64  `json:"duration"` // seconds
	Segments segments `json:"segments"`
	Words    []word   `json:"words"`
}

type segment struct {
	ID    int     `json:"id"`
	Start float64 `json:"start"`
	End   float64 `json:"end"`
	Text  string  `json:"text"`
}

type word struct {
	Word  string  `json:"word"`
	Start float64 `json:"start"`
	End   float64 `json:"end"`
}

type segments []segment

// UnmarshalJSON reads a list; anything else, such as a count, is none.
func (s *segments) UnmarshalJSON(data []byte) error {
	var list []segment
	if json.Unmarshal(data, &list) == nil {
		*s = list
	}
	return nil
}

// cues are the segments, or the whole text as one.
func (t transcript) cues() []segment {
	if len(t.Segments) > 0 || t.Text == "" {
		return t.Segments
	}
	return []segment{{End: t.Duration, Text: t.Text}}
}

// write answers in the format that was asked for.
func (t transcript) write(w http.ResponseWriter, format string, translate, words bool) {
	switch format {
	case "text":
		writeText(w, "text/plain; charset=utf-8", t.Text+"\n")
	case "srt":
		var out strings.Builder
		for i, c := range t.cues() {
			fmt.Fprintf(&out, "%d\n%s --> %s\n%s\n\n", i+1, stamp(c.Start, ','), stamp(c.End, ','), cueText(c.Text))
		}
		writeText(w, "application/x-subrip; charset=utf-8", out.String())
	case "vtt":
		var out strings.Builder
		out.WriteString("WEBVTT\n\n")
		for _, c := range t.cues() {
			fmt.Fprintf(&out, "%s --> %s\n%s\n\n", stamp(c.Start, '.'), stamp(c.End, '.'), cueText(c.Text))
		}
		writeText(w, "text/vtt; charset=utf-8", out.String())
	case "verbose_json":
		writeJSON(w, http.StatusOK, t.verbose(translate, words))
	default:
		writeJSON(w, http.StatusOK, struct {
			Text  string     `json:"text"`
			Usage audioUsage `json:"usage"`
		}{t.Text, t.usage()})
	}
}

type audioUsage struct {
	Type    string  `json:"type"`
	Seconds float64 `json:"seconds"`
}

func (t transcript) usage() audioUsage { return audioUsage{"duration", t.Duration} }

// verboseSegment has the fields that OpenAI's clients expect of a segment. Those
// that no engine here tells are zero.
type verboseSegment struct {
	segment
	Seek             int     `json:"seek"`
	Tokens           []int   `json:"tokens"`
	Temperature      float64 `json:"temperature"`
	AvgLogprob       float64 `json:"avg_logprob"`
	CompressionRatio float64 `json:"compression_ratio"`
	NoSpeechProb     float64 `json:"no_speech_prob"`
}

type verboseTranscript struct {
	Task     string           `json:"task"`
	Language string           `json:"language"`
	Duration float64          `json:"duration"`
	Text     string           `json:"text"`
	Segments []verboseSegment `json:"segments"`
	Words    []word           `json:"words,omitempty"`
	Usage    audioUsage       `json:"usage"`
}

func (t transcript) verbose(translate, words bool) verboseTranscript {
	out := verboseTranscript{Task: "transcribe", Language: t.Language, Duration: t.Duration, Text: t.Text, Segments: []verboseSegment{}, Usage: t.usage()}
	if translate {
		out.Task = "translate"
	}
	for i, c := range t.cues() {
		c.ID = i
		out.Segments = append(out.Segments, verboseSegment{segment: c, Tokens: []int{}})
	}
	if words {
		out.Words = t.Words
	}
	return out
}

// stamp writes seconds as hours, minutes, seconds and thousandths.
func stamp(seconds float64, point rune) string {
	d := time.Duration(max(0, seconds) * float64(time.Second)).Round(time.Millisecond)
	return fmt.Sprintf("%02d:%02d:%02d%c%03d", int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60, point, d.Milliseconds()%1000)
}

// cueText keeps a text from being taken for the next cue.
func cueText(text string) string {
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	text = strings.TrimSpace(strings.Join(lines, "\n"))
	return strings.ReplaceAll(text, "-->", "->")
}

func writeText(w http.ResponseWriter, kind, text string) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = io.WriteString(w, text) // whoever does not read the answer has gone
}
