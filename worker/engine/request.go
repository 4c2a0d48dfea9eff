package engine

import (
	"encoding/json"

	"studioworker/worker/models"
)

// Request is one job for one engine. Of the parameter fields, the one that
// matches Kind is set.
type Request struct {
	JobID  string
	Kind   Kind
	Model  string
	Source Source
	// Dir is an existing, empty folder that the engine owns for this job. The
	// engine leaves its result file there and nothing else.
	Dir string
	// MemoryGB is what the model is said to need, in GiB; 0 = unknown.
	MemoryGB float64

	Image *Image
	LLM   *LLM
	STT   *STT
	TTS   *TTS
	Video *Video

	// Delta, when it is not nil, takes the answer of an llm job piece by piece, in
	// order, each valid UTF-8. It never waits, and must not be called after Run has
	// returned. The result file counts, whatever was said here.
	Delta func(text string)
}

// hasParameters tells whether the parameters of the request's kind are there.
func (r Request) hasParameters() bool {
	switch r.Kind {
	case KindImage:
		return r.Image != nil
	case KindLLM:
		return r.LLM != nil
	case KindSTT:
		return r.STT != nil
	case KindTTS:
		return r.TTS != nil
	case KindVideo:
		return r.Video != nil
	default:
		return false
	}
}

// Source is where a model comes from. Its engine alone decides the route
// (protocol spec §4.7, §5.1).
type Source struct {
	Engine   ID
	Files    []File
	Defaults Defaults
}

// File is one file of a model (protocol spec §5.2).
type File = models.File

// Defaults are a model's own settings, used where a job chose none (protocol
// spec §5.3). A zero value means that the model names none.
type Defaults struct {
	CFGScale           float64
	Steps              uint32
	Width, Height      uint32
	SamplingMethod     string
	FlowShift          *float64
	ZeroCondT          bool
	OffloadToCPU       bool
	MMap               bool
	MaxVRAMGiB         float64 // 0 = no limit
	ContextSize        uint32
	ChatTemplateKwargs json.RawMessage
}

// Image are the parameters of an image job (protocol spec §4.1). Empty strings
// mean absent.
type Image struct {
	Prompt         string
	NegativePrompt string
	InitImageURL   string
	MaskURL        string
	RefImageURL    string
	// Denoise is the strength for an init image, 0 to 1; nil means the engine's
	// default.
	Denoise *float64
	// CFGScale counts when it is above 0.
	CFGScale       float64
	SamplingMethod string
	// Width and Height are in pixels; 0 means the model's own.
	Width, Height uint32
	// Steps 20 means "not chosen".
	Steps uint32
	Seed  *uint64
	// Ext is a wish; Result.Ext says what came out.
	Ext string
}

// LLM are the parameters of a text job (protocol spec §4.2).
type LLM struct {
	Messages []Message
	// System goes in front of Messages; empty means absent.
	System string
	// MaxTokens 0 counts as 1.
	MaxTokens   uint32
	Temperature float64
	TopP        *float64
	Stop        []string
	JSONSchema  json.RawMessage
	Reasoning   string
	// ChatTemplateKwargs is a JSON object of template variables.
	ChatTemplateKwargs json.RawMessage
}

// Message is one turn of a conversation.
type Message struct {
	Role    string
	Content string
}

// STT are the parameters of a speech-to-text job (protocol spec §4.3).
type STT struct {
	InputURL string
	// Language is a hint; empty means absent.
	Language  string
	Translate bool
	Prompt    string
	VAD       bool
	// Timestamps is empty, "segment" or "word".
	Timestamps string
}

// TTS are the parameters of a text-to-speech job (protocol spec §4.4).
type TTS struct {
	Text string
	// Voice is "default" or empty when the job chose none.
	Voice string
	// Speed 1 is natural; 0 means that the job chose none.
	Speed    float64
	Language string
	// Ext is a wish; Result.Ext says what came out.
	Ext string
}

// Video are the parameters of a video job (protocol spec §4.5).
type Video struct {
	Prompt         string
	NegativePrompt string
	InitImageURL   string
	// Seconds is the length asked for.
	Seconds float64
	// FPS 0 means the engine's default.
	FPS uint32
	// Width and Height are in pixels.
	Width, Height uint32
	// Ext is a wish; Result.Ext says what came out.
	Ext string
}
