package protocol

import (
	"encoding/json"
	"fmt"
)

// Claim is the job inside an offer (§3.6).
type Claim struct {
	JobID          string      `json:"jobId"`
	GameID         string      `json:"gameId"`
	AssetName      string      `json:"assetName"`
	Model          string      `json:"model"`
	VRAMGBEstimate float64     `json:"vramGbEstimate"` // GiB
	Task           Task        `json:"task"`
	ModelSource    ModelSource `json:"modelSource"`
	Attempt        int         `json:"attempt,omitempty"` // from 1; 0 = not told. Only with FeatureAttempt
}

// UnmarshalJSON reads a claim by the rules of §0 and §3.6. A claim without task
// or model source is an error; there is no fallback.
func (c *Claim) UnmarshalJSON(data []byte) error {
	f := object(data)
	*c = Claim{
		JobID:          required[string](f, "jobId"),
		GameID:         required[string](f, "gameId"),
		AssetName:      required[string](f, "assetName"),
		Model:          required[string](f, "model"),
		VRAMGBEstimate: required[float64](f, "vramGbEstimate"),
		Task:           required[Task](f, "task"),
		ModelSource:    required[ModelSource](f, "modelSource"),
	}
	if attempt := optional[uint32](f, "attempt"); attempt != nil {
		c.Attempt = int(*attempt)
	}
	return f.err
}

// Task is the kind and its parameters (§4). The one pointer that fits the kind
// is set.
type Task struct {
	Kind  TaskKind
	Image *ImageTask
	LLM   *LLMTask
	STT   *STTTask
	TTS   *TTSTask
	Video *VideoTask
}

// Defaults of task parameters (§4.1 to §4.5).
const (
	DefaultSide        = 512
	DefaultSteps       = 20 // also means "not chosen"
	DefaultMaxTokens   = 512
	DefaultTemperature = 0.7
	DefaultSeconds     = 2.0
	DefaultVoice       = "default"
)

// ImageTask asks for a picture (§4.1). Sides are in pixels.
type ImageTask struct {
	Prompt         string   `json:"prompt"`
	NegativePrompt *string  `json:"negativePrompt,omitempty"`
	InitImageURL   *string  `json:"initImageUrl,omitempty"`
	MaskURL        *string  `json:"maskUrl,omitempty"`
	RefImageURL    *string  `json:"refImageUrl,omitempty"`
	Denoise        *float64 `json:"denoise,omitempty"`
	CfgScale       *float64 `json:"cfgScale,omitempty"`
	SamplingMethod *string  `json:"samplingMethod,omitempty"`
	Width          uint32   `json:"width"`
	Height         uint32   `json:"height"`
	Steps          uint32   `json:"steps"`
	Seed           *uint64  `json:"seed,omitempty"`
	Ext            string   `json:"ext"` // a wish
}

// Message is one turn of a conversation.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// LLMTask asks for an answer of a language model (§4.2).
type LLMTask struct {
	Messages           []Message                  `json:"messages"`
	System             *string                    `json:"system,omitempty"`
	MaxTokens          uint32                     `json:"maxTokens"`
	Temperature        float64                    `json:"temperature"`
	TopP               *float64                   `json:"topP,omitempty"`
	Stop               []string                   `json:"stop,omitempty"`
	JSONSchema         json.RawMessage            `json:"jsonSchema,omitempty"`
	Reasoning          *string                    `json:"reasoning,omitempty"`
	ChatTemplateKwargs map[string]json.RawMessage `json:"chatTemplateKwargs,omitempty"`
}

// STTTask asks for the text of a recording (§4.3).
type STTTask struct {
	InputURL   string  `json:"inputUrl"`
	Language   *string `json:"language,omitempty"`
	Translate  *bool   `json:"translate,omitempty"`
	Prompt     *string `json:"prompt,omitempty"`
	VAD        *bool   `json:"vad,omitempty"`
	Timestamps *string `json:"timestamps,omitempty"`
}

// TTSTask asks for a text to be spoken (§4.4). Speed 1 is natural.
type TTSTask struct {
	Text     string   `json:"text"`
	Voice    string   `json:"voice"`
	Speed    *float64 `json:"speed,omitempty"`
	Language *string  `json:"language,omitempty"`
	Ext      string   `json:"ext"` // a wish
}

// VideoTask asks for a moving picture (§4.5). Sides are in pixels.
type VideoTask struct {
	Prompt         string  `json:"prompt"`
	NegativePrompt *string `json:"negativePrompt,omitempty"`
	InitImageURL   *string `json:"initImageUrl,omitempty"`
	Seconds        float64 `json:"seconds"`
	FPS            *uint32 `json:"fps,omitempty"`
	Width          uint32  `json:"width"`
	Height         uint32  `json:"height"`
	Ext            string  `json:"ext"` // a wish
}

// MarshalJSON writes the task flat: kind beside the parameters of that kind.
func (t Task) MarshalJSON() ([]byte, error) {
	var params any
	switch {
	case t.Kind == KindImage && t.Image != nil:
		params = t.Image
	case t.Kind == KindLLM && t.LLM != nil:
		llm := *t.LLM
		if llm.Messages == nil { // required, so never null
			llm.Messages = []Message{}
		}
		params = &llm
	case t.Kind == KindSTT && t.STT != nil:
		params = t.STT
	case t.Kind == KindTTS && t.TTS != nil:
		params = t.TTS
	case t.Kind == KindVideo && t.Video != nil:
		params = t.Video
	default:
		return nil, fmt.Errorf("task %q has no parameters", t.Kind)
	}
	data, err := json.Marshal(params)
	if err != nil {
		return nil, err
	}
	return append(fmt.Appendf(nil, `{"kind":%q,`, t.Kind), data[1:]...), nil
}

// UnmarshalJSON reads a task by the rules of §0 and §4. An unknown kind is an
// error; no ranges are enforced beyond the types.
func (t *Task) UnmarshalJSON(data []byte) error {
	f := object(data)
	*t = Task{Kind: taskKind(f, "kind", required[string](f, "kind"))}
	if f.err != nil {
		return f.err
	}
	switch t.Kind {
	case KindImage:
		t.Image = &ImageTask{
			Prompt:         required[string](f, "prompt"),
			NegativePrompt: optional[string](f, "negativePrompt"),
			InitImageURL:   optional[string](f, "initImageUrl"),
			MaskURL:        optional[string](f, "maskUrl"),
			RefImageURL:    optional[string](f, "refImageUrl"),
			Denoise:        optional[float64](f, "denoise"),
			CfgScale:       optional[float64](f, "cfgScale"),
			SamplingMethod: optional[string](f, "samplingMethod"),
			Width:          orDefault[uint32](f, "width", DefaultSide),
			Height:         orDefault[uint32](f, "height", DefaultSide),
			Steps:          orDefault[uint32](f, "steps", DefaultSteps),
			Seed:           optional[uint64](f, "seed"),
			Ext:            orDefault(f, "ext", "webp"),
		}
	case KindLLM:
		t.LLM = &LLMTask{
			Messages:    required[messageList](f, "messages"),
			System:      optional[string](f, "system"),
			MaxTokens:   orDefault[uint32](f, "maxTokens", DefaultMaxTokens),
			Temperature: orDefault(f, "temperature", DefaultTemperature),
			TopP:        optional[float64](f, "topP"),
			Reasoning:   optional[string](f, "reasoning"),
		}
		if stop := optional[[]string](f, "stop"); stop != nil {
			t.LLM.Stop = *stop
		}
		if schema := optional[json.RawMessage](f, "jsonSchema"); schema != nil {
			t.LLM.JSONSchema = *schema
		}
		if kwargs := optional[map[string]json.RawMessage](f, "chatTemplateKwargs"); kwargs != nil {
			t.LLM.ChatTemplateKwargs = *kwargs
		}
	case KindSTT:
		t.STT = &STTTask{
			InputURL:   required[string](f, "inputUrl"),
			Language:   optional[string](f, "language"),
			Translate:  optional[bool](f, "translate"),
			Prompt:     optional[string](f, "prompt"),
			VAD:        optional[bool](f, "vad"),
			Timestamps: optional[string](f, "timestamps"),
		}
	case KindTTS:
		t.TTS = &TTSTask{
			Text:     required[string](f, "text"),
			Voice:    orDefault(f, "voice", DefaultVoice),
			Speed:    optional[float64](f, "speed"),
			Language: optional[string](f, "language"),
			Ext:      orDefault(f, "ext", "wav"),
		}
	case KindVideo:
		t.Video = &VideoTask{
			Prompt:         required[string](f, "prompt"),
			NegativePrompt: optional[string](f, "negativePrompt"),
			InitImageURL:   optional[string](f, "initImageUrl"),
			Seconds:        orDefault(f, "seconds", DefaultSeconds),
			FPS:            optional[uint32](f, "fps"),
			Width:          orDefault[uint32](f, "width", DefaultSide),
			Height:         orDefault[uint32](f, "height", DefaultSide),
			Ext:            orDefault(f, "ext", "mp4"),
		}
	}
	return f.err
}

// Prompt returns the full text that is reported with the result (§8.4).
func (t Task) Prompt() string {
	switch {
	case t.Image != nil:
		return t.Image.Prompt
	case t.LLM != nil && len(t.LLM.Messages) > 0:
		return t.LLM.Messages[len(t.LLM.Messages)-1].Content
	case t.STT != nil:
		return t.STT.InputURL
	case t.TTS != nil:
		return t.TTS.Text
	case t.Video != nil:
		return t.Video.Prompt
	}
	return ""
}

type messageList []Message

func (l *messageList) UnmarshalJSON(data []byte) error { return list(data, (*[]Message)(l)) }

// UnmarshalJSON reads a message: both fields are required strings.
func (m *Message) UnmarshalJSON(data []byte) error {
	f := object(data)
	*m = Message{Role: required[string](f, "role"), Content: required[string](f, "content")}
	return f.err
}

// Engine is the engine of a model source (§5.1). The list is open: a worker
// refuses an engine that it does not have, whatever its name.
type Engine string

// The engines of the reference wire, then ours.
const (
	EngineSDCpp     Engine = "sd-cpp"
	EngineLlamaCpp  Engine = "llama-cpp"
	EngineONNX      Engine = "onnx"
	EngineParakeet  Engine = "parakeet"
	EngineSynthetic Engine = "synthetic"
	EngineESpeak    Engine = "espeak-ng"
	EngineWhisper   Engine = "whisper-cpp"
	EnginePiper     Engine = "piper"
)

// Reference says whether a worker that only speaks the reference protocol knows
// the engine. It would drop the session at any other name (§3.2).
func (e Engine) Reference() bool {
	switch e {
	case EngineSDCpp, EngineLlamaCpp, EngineONNX, EngineParakeet, EngineSynthetic:
		return true
	default:
		return false
	}
}

// ModelSource says which engine serves a job, from which files and with which
// numbers (§5.1).
type ModelSource struct {
	Engine      Engine      `json:"engine"`
	Files       []ModelFile `json:"files"`
	CLIDefaults CLIDefaults `json:"cliDefaults"`
}

// ModelFile is one file of a model (§5.2). Unknown roles are kept.
type ModelFile struct {
	Role        string  `json:"role"`
	URL         string  `json:"url"`
	Filename    string  `json:"filename"`
	ApproxBytes *uint64 `json:"approxBytes,omitempty"`
	SHA256      *string `json:"sha256,omitempty"` // hex
}

// CLIDefaults are a model's numbers (§5.3).
type CLIDefaults struct {
	CfgScale           float64                    `json:"cfgScale"`
	Steps              uint32                     `json:"steps"`
	Width              uint32                     `json:"width"`
	Height             uint32                     `json:"height"`
	SamplingMethod     *string                    `json:"samplingMethod,omitempty"`
	FlowShift          *float64                   `json:"flowShift,omitempty"`
	ZeroCondT          *bool                      `json:"zeroCondT,omitempty"`
	OffloadToCPU       *bool                      `json:"offloadToCpu,omitempty"`
	MMap               *bool                      `json:"mmap,omitempty"`
	MaxVRAMGiB         *float64                   `json:"maxVramGib,omitempty"`
	ContextSize        *uint32                    `json:"contextSize,omitempty"`
	ChatTemplateKwargs map[string]json.RawMessage `json:"chatTemplateKwargs,omitempty"`
}

// MarshalJSON writes a model source; its file list is never null.
func (s ModelSource) MarshalJSON() ([]byte, error) {
	type plain ModelSource // without this method
	if s.Files == nil {
		s.Files = []ModelFile{}
	}
	return json.Marshal(plain(s))
}

// UnmarshalJSON reads a model source by the rules of §0 and §5.1.
func (s *ModelSource) UnmarshalJSON(data []byte) error {
	f := object(data)
	*s = ModelSource{
		Engine:      Engine(required[string](f, "engine")),
		Files:       required[modelFiles](f, "files"),
		CLIDefaults: required[CLIDefaults](f, "cliDefaults"),
	}
	return f.err
}

type modelFiles []ModelFile

func (l *modelFiles) UnmarshalJSON(data []byte) error { return list(data, (*[]ModelFile)(l)) }

// UnmarshalJSON reads a model file by the rules of §0 and §5.2.
func (m *ModelFile) UnmarshalJSON(data []byte) error {
	f := object(data)
	*m = ModelFile{
		Role:        required[string](f, "role"),
		URL:         required[string](f, "url"),
		Filename:    required[string](f, "filename"),
		ApproxBytes: optional[uint64](f, "approxBytes"),
		SHA256:      optional[string](f, "sha256"),
	}
	return f.err
}

// UnmarshalJSON reads a model's numbers by the rules of §0 and §5.3.
func (d *CLIDefaults) UnmarshalJSON(data []byte) error {
	f := object(data)
	*d = CLIDefaults{
		CfgScale:       required[float64](f, "cfgScale"),
		Steps:          required[uint32](f, "steps"),
		Width:          required[uint32](f, "width"),
		Height:         required[uint32](f, "height"),
		SamplingMethod: optional[string](f, "samplingMethod"),
		FlowShift:      optional[float64](f, "flowShift"),
		ZeroCondT:      optional[bool](f, "zeroCondT"),
		OffloadToCPU:   optional[bool](f, "offloadToCpu"),
		MMap:           optional[bool](f, "mmap"),
		MaxVRAMGiB:     optional[float64](f, "maxVramGib"),
		ContextSize:    optional[uint32](f, "contextSize"),
	}
	if kwargs := optional[map[string]json.RawMessage](f, "chatTemplateKwargs"); kwargs != nil {
		d.ChatTemplateKwargs = *kwargs
	}
	return f.err
}
