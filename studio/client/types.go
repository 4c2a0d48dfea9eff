package client

import (
	"encoding/json"
	"fmt"
	"time"

	"studioworker/worker/protocol"
)

// Limits of the operator API, in bytes.
const (
	MaxJob   = 1 << 20  // of a submitted job
	MaxInput = 64 << 20 // of an input of jobs
	// MaxRegistry is the size of an imported model registry.
	MaxRegistry = 16 << 20
	maxReply    = 16 << 20
	maxEvent    = 8 << 20 // of one server-sent event; JSON spells a character of a text with up to six
)

// Priorities of jobs. The queue takes the highest first; 0 is the usual one.
const (
	MinPriority = -100
	MaxPriority = 100
)

// KeyRequest is what POST /api/v1/keys takes.
type KeyRequest struct {
	Name        string    `json:"name"`                  // for people
	ExpiresAt   time.Time `json:"expiresAt,omitzero"`    // zero: never
	MaxPriority int       `json:"maxPriority,omitempty"` // the highest that its jobs may have
}

// Key describes an API key. Times that have not come yet are zero and left out.
type Key struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Prefix      string    `json:"prefix"` // how the key begins
	MaxPriority int       `json:"maxPriority"`
	CreatedAt   time.Time `json:"createdAt"`
	ExpiresAt   time.Time `json:"expiresAt,omitzero"`
	RevokedAt   time.Time `json:"revokedAt,omitzero"`
	LastUsedAt  time.Time `json:"lastUsedAt,omitzero"` // to the minute
}

// NewKey is a key that was just made, with its text, which is a secret and told
// only once.
type NewKey struct {
	Key
	Text string `json:"key"`
}

// KeyList is the answer to GET /api/v1/keys.
type KeyList struct {
	Keys []Key  `json:"keys"`
	Next string `json:"next,omitempty"` // cursor of the next page; empty: there is none
}

// Job is what POST /api/v1/jobs takes.
type Job struct {
	Model          string                `json:"model"`
	Task           protocol.Task         `json:"task"`
	ModelSource    *protocol.ModelSource `json:"modelSource,omitempty"`    // nil: the studio looks the model up
	VRAMGBEstimate *float64              `json:"vramGbEstimate,omitempty"` // GiB; nil: the model's
	GameID         string                `json:"gameId,omitempty"`
	AssetName      string                `json:"assetName,omitempty"`
	Priority       int                   `json:"priority,omitempty"` // MinPriority to MaxPriority
	Webhook        string                `json:"webhook,omitempty"`  // id of one that is told when the job has ended
}

// State is where a job stands: queued, offered, running, done, failed or
// cancelled.
type State string

// The states of a job. The last three are final.
const (
	Queued    State = "queued"
	Offered   State = "offered"
	Running   State = "running"
	Done      State = "done"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// Final says that the job has ended. Only a retry changes it then.
func (s State) Final() bool { return s == Done || s == Failed || s == Cancelled }

// Submitted is the answer to a submitted job.
type Submitted struct {
	ID    string `json:"id"`
	State State  `json:"state"`
}

// JobStatus describes a job. Times that have not come yet are zero and left out.
type JobStatus struct {
	ID         string            `json:"id"`
	State      State             `json:"state"`
	Kind       protocol.TaskKind `json:"kind"`
	Model      string            `json:"model"`
	Task       *protocol.Task    `json:"task,omitempty"`   // only of a single job
	Past       []Attempt         `json:"past,omitempty"`   // only of a single job: attempts that came to nothing, the last few, oldest first
	Text       string            `json:"text,omitempty"`   // only of a single job that runs: what it has written so far
	Prompt     string            `json:"prompt,omitempty"` // only of a list that was asked for with prompts: its beginning, on one line
	Attempts   int               `json:"attempts"`
	Priority   int               `json:"priority,omitempty"`
	Submitter  string            `json:"submitter,omitempty"` // id of the API key; empty: the operator
	WorkerID   string            `json:"workerId,omitempty"`
	Error      string            `json:"error,omitempty"`
	CreatedAt  time.Time         `json:"createdAt"`
	StartedAt  time.Time         `json:"startedAt,omitzero"`
	FinishedAt time.Time         `json:"finishedAt,omitzero"`
	NotBefore  time.Time         `json:"notBefore,omitzero"` // queued: the pause after a failed attempt
	Progress   *Progress         `json:"progress,omitempty"`
	Result     *Result           `json:"result,omitempty"`
}

// Attempt is one that came to nothing.
type Attempt struct {
	Number    int       `json:"number"` // the same as the one before it, when that did not count
	WorkerID  string    `json:"workerId"`
	StartedAt time.Time `json:"startedAt,omitzero"`
	EndedAt   time.Time `json:"endedAt"`
	Error     string    `json:"error,omitempty"`
}

// Batch says how many jobs something was done to, and how many of them are left
// for the next call.
type Batch struct {
	Jobs int `json:"jobs"`
	Left int `json:"left"`
}

// Progress says how far a running job is.
type Progress struct {
	Step    int    `json:"step"`
	Total   int    `json:"total"` // 0 = unknown
	Message string `json:"message,omitempty"`
}

// Result describes the bytes that GET /api/v1/jobs/{id}/result answers.
type Result struct {
	Ext         string `json:"ext"`
	ContentType string `json:"contentType"`
	Bytes       int64  `json:"bytes"`
	SHA256      string `json:"sha256"` // lower-case hex
}

// EventType is the name of a server-sent event.
type EventType string

// The event types: the job's state changed, only its progress did, or there is
// more of the text that it writes.
const (
	EventState    EventType = "state"
	EventProgress EventType = "progress"
	EventDelta    EventType = "delta"
)

// Event is one message of GET /api/v1/jobs/{id}/events.
type Event struct {
	Type  EventType
	Job   JobStatus // as it was told last
	Delta *Delta    // only of EventDelta
}

// Delta is the next piece of the text that a running job writes; the first one
// holds all there was before. A state other than running voids what was told:
// the result is what counts, or a new attempt begins anew.
type Delta struct {
	Seq  int    `json:"seq"`
	Text string `json:"text"`
}

// Data returns the event's data as it is on the wire.
func (e Event) Data() ([]byte, error) {
	if e.Delta != nil {
		return json.Marshal(e.Delta)
	}
	return json.Marshal(e.Job)
}

// JobList is the answer to GET /api/v1/jobs.
type JobList struct {
	Jobs []JobStatus `json:"jobs"`
	Next string      `json:"next,omitempty"` // cursor of the next page; empty: there is none
}

// Input describes bytes that the studio keeps for jobs, until 24 hours after the
// last job that named its address has ended.
type Input struct {
	ID          string    `json:"id"`
	URL         string    `json:"url"` // for the task of a job
	Bytes       int64     `json:"bytes"`
	ContentType string    `json:"contentType"`
	SHA256      string    `json:"sha256"`    // lower-case hex
	ExpiresAt   time.Time `json:"expiresAt"` // if no job names it
}

// Model is a model that jobs may name.
type Model struct {
	ID             string              `json:"id"`
	Kinds          []protocol.TaskKind `json:"kinds"`
	Engine         protocol.Engine     `json:"engine"`
	VRAMGBEstimate float64             `json:"vramGbEstimate"` // GiB
}

// ModelList is the answer to GET /api/v1/models.
type ModelList struct {
	Models []Model `json:"models"`
	Next   string  `json:"next,omitempty"` // cursor of the next page; empty: there is none
}

// ModelRecord is a model with all that jobs need of it.
type ModelRecord struct {
	ID             string               `json:"id"`
	Aliases        []string             `json:"aliases,omitempty"` // other names under /v1
	Kinds          []protocol.TaskKind  `json:"kinds"`
	Default        bool                 `json:"default,omitempty"` // for calls under /v1 that name no model
	VRAMGBEstimate float64              `json:"vramGbEstimate"`    // GiB
	ModelSource    protocol.ModelSource `json:"modelSource"`
	CreatedAt      time.Time            `json:"createdAt,omitzero"` // the studio's; ignored when it is sent
}

// Registry is all models, as they are exported and imported.
type Registry struct {
	Version int           `json:"version"` // of this form: 1
	Models  []ModelRecord `json:"models"`
}

// Imported says what an import did.
type Imported struct {
	Created  int `json:"created"`
	Replaced int `json:"replaced"`
}

// Webhook is an address that is told when jobs have ended.
type Webhook struct {
	ID        string    `json:"id"`
	URL       string    `json:"url"`
	All       bool      `json:"all"` // told of every job, not only of those that name it
	CreatedAt time.Time `json:"createdAt"`
	// Deliveries is only in lists. What was told of jobs that are kept no longer is
	// not counted.
	Deliveries *Deliveries `json:"deliveries,omitempty"`
}

// Deliveries says how the messages of a webhook went.
type Deliveries struct {
	Delivered int       `json:"delivered"`
	Waiting   int       `json:"waiting"`             // to be sent, or sent again
	Failed    int       `json:"failed"`              // given up
	LastAt    time.Time `json:"lastAt,omitzero"`     // when the last attempt ended; zero: there was none
	LastJob   string    `json:"lastJob,omitempty"`   // that it was about
	LastError string    `json:"lastError,omitempty"` // why that attempt failed; empty: it went well
}

// Tested is the answer to a test message of a webhook.
type Tested struct {
	Delivered bool   `json:"delivered"`
	Error     string `json:"error,omitempty"` // why it was not
}

// NewWebhook is a webhook that was just added, with the secret that signs its
// messages, which is told only once.
type NewWebhook struct {
	Webhook
	Secret string `json:"secret"`
}

// WebhookList is the answer to GET /api/v1/webhooks.
type WebhookList struct {
	Webhooks []Webhook `json:"webhooks"`
	Next     string    `json:"next,omitempty"` // cursor of the next page; empty: there is none
}

// Notice is what a webhook is told.
type Notice struct {
	Type      string    `json:"type"`      // job.done, job.failed, job.cancelled, or webhook.test
	Timestamp time.Time `json:"timestamp"` // when the job ended
	Data      JobStatus `json:"data"`
}

// Error is an answer of the studio that is not a success.
type Error struct {
	Status  int    `json:"-"`     // HTTP status
	Code    string `json:"error"` // for programs, such as unknown_model
	Message string `json:"message"`
}

func (e *Error) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("the studio answered %d", e.Status)
	}
	return fmt.Sprintf("%s (%s, status %d)", e.Message, e.Code, e.Status)
}
