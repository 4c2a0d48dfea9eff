package protocol

import "encoding/json"

// TaskKind is a kind of work (§4).
type TaskKind string

// The task kinds.
const (
	KindImage TaskKind = "image"
	KindLLM   TaskKind = "llm"
	KindSTT   TaskKind = "audio_stt"
	KindTTS   TaskKind = "audio_tts"
	KindVideo TaskKind = "video"
)

// TaskKinds lists the task kinds in wire order (§3.3).
func TaskKinds() []TaskKind { return []TaskKind{KindImage, KindLLM, KindSTT, KindTTS, KindVideo} }

// JSON says whether results of the kind are JSON values, delivered in a frame;
// all others are bytes, delivered by HTTP (§1).
func (k TaskKind) JSON() bool { return k == KindLLM || k == KindSTT }

// Presence says whether a person is at the computer (§7.6).
type Presence string

// The presences. PresenceUnknown is never written.
const (
	PresenceUnknown Presence = ""
	PresenceIdle    Presence = "idle"
	PresenceActive  Presence = "active"
)

// Capabilities is what a worker says about itself (§3.3). A writer sends all
// fields but UserPresence, Features and Instance, which are left out while empty. The
// pointers are nil where an old worker left the field out.
type Capabilities struct {
	MachineName            string              `json:"machineName"`
	Username               string              `json:"username"`
	AgentVersion           string              `json:"agentVersion"`
	Engine                 string              `json:"engine"`
	VRAMTotalGB            float64             `json:"vramTotalGb"`     // GiB over all GPUs; 0 = unknown
	VRAMThresholdGB        float64             `json:"vramThresholdGb"` // GiB
	AutoEnabled            bool                `json:"autoEnabled"`
	AutoStart              bool                `json:"autoStart"`
	AutoUpdate             *bool               `json:"autoUpdate,omitempty"`
	StartMinimised         *bool               `json:"startMinimised,omitempty"`
	OnlyWhenIdle           *bool               `json:"onlyWhenIdle,omitempty"`
	UserPresence           Presence            `json:"userPresence,omitempty"`
	SupportedModels        []string            `json:"supportedModels"`
	TaskKinds              []TaskKind          `json:"taskKinds"`
	SupportedModelsPerKind map[string][]string `json:"supportedModelsPerKind"`
	Features               []string            `json:"features,omitempty"`
	// Instance is drawn at each start of a worker. Two sessions of one worker whose
	// instances differ are two computers, or two programs, with one identity.
	Instance string `json:"instance,omitempty"`
}

// MarshalJSON writes capabilities; their lists are never null.
func (c Capabilities) MarshalJSON() ([]byte, error) {
	type plain Capabilities // without this method
	if c.SupportedModels == nil {
		c.SupportedModels = []string{}
	}
	if c.TaskKinds == nil {
		c.TaskKinds = []TaskKind{}
	}
	if c.SupportedModelsPerKind == nil {
		c.SupportedModelsPerKind = map[string][]string{}
	}
	return json.Marshal(plain(c))
}

// UnmarshalJSON reads capabilities by the rules of §0 and §3.3.
func (c *Capabilities) UnmarshalJSON(data []byte) error {
	f := object(data)
	*c = Capabilities{
		MachineName:            required[string](f, "machineName"),
		Username:               required[string](f, "username"),
		AgentVersion:           required[string](f, "agentVersion"),
		Engine:                 required[string](f, "engine"),
		VRAMTotalGB:            required[float64](f, "vramTotalGb"),
		VRAMThresholdGB:        required[float64](f, "vramThresholdGb"),
		AutoEnabled:            required[bool](f, "autoEnabled"),
		AutoStart:              required[bool](f, "autoStart"),
		AutoUpdate:             optional[bool](f, "autoUpdate"),
		StartMinimised:         optional[bool](f, "startMinimised"),
		OnlyWhenIdle:           optional[bool](f, "onlyWhenIdle"),
		SupportedModels:        required[[]string](f, "supportedModels"),
		TaskKinds:              []TaskKind{},
		SupportedModelsPerKind: orDefault(f, "supportedModelsPerKind", map[string][]string{}),
		Features:               orDefault[[]string](f, "features", nil),
	}
	if instance := optional[string](f, "instance"); instance != nil {
		c.Instance = *instance
	}
	for _, kind := range orDefault[[]string](f, "taskKinds", nil) {
		c.TaskKinds = append(c.TaskKinds, taskKind(f, "taskKinds", kind))
	}
	if p := optional[string](f, "userPresence"); p != nil {
		c.UserPresence = oneOf(f, "userPresence", Presence(*p), PresenceIdle, PresenceActive)
	}
	return f.err
}
