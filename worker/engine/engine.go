package engine

import "context"

// ID names an engine as the wire does in modelSource.engine (engines spec
// §1.1), for example "synthetic".
type ID string

// Kind is a task kind, spelled as on the wire (protocol spec §4).
type Kind string

// The task kinds.
const (
	KindImage Kind = "image"
	KindLLM   Kind = "llm"
	KindSTT   Kind = "audio_stt"
	KindTTS   Kind = "audio_tts"
	KindVideo Kind = "video"
)

// Kinds returns all task kinds in the order the wire lists them.
func Kinds() []Kind {
	return []Kind{KindImage, KindLLM, KindSTT, KindTTS, KindVideo}
}

// Result says what an engine made: one of File and JSON is set.
type Result struct {
	// File is the base name of the result inside Request.Dir.
	File string
	// JSON is the result itself, of kind llm or audio_stt, which then need not be
	// written to Request.Dir.
	JSON string
	// Ext is the real format of the bytes, without a dot, whatever was asked
	// (protocol spec §4.6). It is "json" for llm and audio_stt.
	Ext string
}

// Progress is how far a running job is.
type Progress struct {
	// Step counts from 0 to Total.
	Step int
	// Total is 0 while the number of steps is unknown.
	Total int
	// Text is a short line for people. It never holds the prompt.
	Text string
}

// Engine runs jobs of one sort. An implementation must be safe for use by
// several goroutines.
type Engine interface {
	// ID is the name by which an offer asks for this engine.
	ID() ID
	// Models returns what the engine can really run on this machine now, by
	// kind. It is empty when the engine can run nothing.
	Models() map[Kind][]string
	// Run does one job and blocks until it is over. It writes the result into
	// req.Dir, or returns it when it is JSON. When ctx ends, Run stops everything it started and returns
	// context.Cause(ctx). It may call progress at any time, also from another
	// goroutine, but not after it has returned.
	Run(ctx context.Context, req Request, progress func(Progress)) (Result, error)
}
