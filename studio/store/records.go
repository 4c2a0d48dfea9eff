package store

import (
	"encoding/json"
	"slices"
	"sync"
	"time"
	"unique"

	"studioworker/worker/protocol"
)

// JobState is where a job stands.
type JobState string

// The states of a job.
const (
	Queued    JobState = "queued"
	Offered   JobState = "offered" // claimed for a worker that has not answered yet
	Running   JobState = "running" // accepted by a worker
	Done      JobState = "done"
	Failed    JobState = "failed"
	Cancelled JobState = "cancelled"
)

// JobStates lists the states of a job.
func JobStates() []JobState { return []JobState{Queued, Offered, Running, Done, Failed, Cancelled} }

// Final says that a job in this state has ended. Only a retry changes it then.
func (s JobState) Final() bool { return s == Done || s == Failed || s == Cancelled }

// Claimed says that a worker has the job.
func (s JobState) Claimed() bool { return s == Offered || s == Running }

// Job is the record of a job. Times that have not come yet are zero.
type Job struct {
	ID             string               `json:"id"`
	State          JobState             `json:"state"`
	GameID         string               `json:"gameId"`
	AssetName      string               `json:"assetName"`
	Model          string               `json:"model"`
	VRAMGBEstimate float64              `json:"vramGbEstimate"` // GiB
	Task           protocol.Task        `json:"task"`
	Source         protocol.ModelSource `json:"modelSource"`
	Attempts       int                  `json:"attempts"` // attempts that were accepted and count
	WorkerID       string               `json:"workerId,omitempty"`
	Session        string               `json:"session,omitempty"` // the session that holds the claim
	Workers        []string             `json:"workers,omitempty"` // that were offered it last, at most MaxHolders, oldest first
	Error          string               `json:"error,omitempty"`
	Past           []Attempt            `json:"past,omitempty"`      // attempts that came to nothing, oldest first, at most MaxPast
	Submitter      string               `json:"submitter,omitempty"` // id of the API key; empty: the operator
	Priority       int                  `json:"priority,omitempty"`  // higher goes first
	Hooks          []Hook               `json:"hooks,omitempty"`
	Allowed        int                  `json:"allowed,omitempty"`    // attempts; 0: as the studio is set
	NotBefore      time.Time            `json:"notBefore,omitzero"`   // queued: the pause after a failed attempt
	Inputs         []string             `json:"inputs,omitempty"`     // ids of the studio's inputs that the task names
	Cancelling     bool                 `json:"cancelling,omitempty"` // claimed, and to be cancelled
	CreatedAt      time.Time            `json:"createdAt"`
	StartedAt      time.Time            `json:"startedAt,omitzero"`
	FinishedAt     time.Time            `json:"finishedAt,omitzero"`
	Result         *Result              `json:"result,omitempty"`
	DeliveryKey    string               `json:"deliveryKey,omitempty"` // Idempotency-Key of the upload that finished the job
}

// sources remembers the model sources of jobs that were read, since most jobs
// have one of a few: that saves time and memory when there are many. It is the same
// with some of their words.
type sources struct {
	mu    sync.Mutex
	known map[string]protocol.ModelSource // by its JSON
}

const maxSources = 1000 // remembered

// parseJob decodes the record of a job.
func (s *sources) parseJob(data []byte, v *Job) error {
	type rest Job
	out := struct {
		*rest
		Source json.RawMessage `json:"modelSource"` // hides the one of rest
	}{rest: (*rest)(v)}
	if err := json.Unmarshal(data, &out); err != nil {
		return err
	}
	if len(out.Source) == 0 {
		return nil
	}
	for _, word := range []*string{&v.GameID, &v.AssetName, &v.Model, &v.Submitter} {
		*word = unique.Make(*word).Value()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	source, ok := s.known[string(out.Source)]
	if !ok {
		if err := json.Unmarshal(out.Source, &source); err != nil {
			return err
		}
		if s.known == nil || len(s.known) == maxSources {
			s.known = map[string]protocol.ModelSource{}
		}
		s.known[string(out.Source)] = source
	}
	v.Source = source
	return nil
}

// MaxHolders bounds the workers that a job remembers.
const MaxHolders = 16

// Held notes that a worker was offered the job, or runs it.
func (j *Job) Held(worker string) {
	others := slices.DeleteFunc(slices.Clone(j.Workers), func(w string) bool { return w == worker })
	j.Workers = append(others[max(0, len(others)-MaxHolders+1):], worker)
}

// HeldBy says whether a worker has the job or was once offered it. Nobody knows that of a
// record from before holders were noted.
func (j *Job) HeldBy(worker string) bool {
	unknown := len(j.Workers) == 0 && j.Attempts > 0
	return unknown || j.WorkerID == worker || slices.Contains(j.Workers, worker)
}

// Result says where the bytes of a result are. A result exists when the record
// of its job names it; before that its parts are leftovers.
type Result struct {
	Ext         string `json:"ext"`
	ContentType string `json:"contentType"`
	Bytes       int64  `json:"bytes"`
	SHA256      string `json:"sha256"` // lower-case hex
	Folder      string `json:"folder"` // parts are named <folder>/<n>, n from 0
	Parts       int    `json:"parts"`
}

// Input is the record of bytes that jobs name by their address.
type Input struct {
	ID        string    `json:"id"`
	CreatedAt time.Time `json:"createdAt"`
	ExpiresAt time.Time `json:"expiresAt"` // unless a job uses it later
	Data      Result    `json:"data"`
}

// Key is the record of an API key. Times that have not come yet are zero.
type Key struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Hash        string    `json:"hash"` // hex SHA-256 of the key's text
	MaxPriority int       `json:"maxPriority,omitempty"`
	CreatedAt   time.Time `json:"createdAt"`
	ExpiresAt   time.Time `json:"expiresAt,omitzero"` // zero: never
	RevokedAt   time.Time `json:"revokedAt,omitzero"`
	LastUsedAt  time.Time `json:"lastUsedAt,omitzero"`
}

// Webhook is the record of an address that is told when jobs have ended.
type Webhook struct {
	ID        string    `json:"id"`
	URL       string    `json:"url"`
	Secret    string    `json:"secret"` // signs what it is told, so it is kept as it is
	All       bool      `json:"all"`    // told of every job, not only of those that name it
	CreatedAt time.Time `json:"createdAt"`
}

// Hook is what a job has to tell a webhook once it has ended.
type Hook struct {
	ID       string    `json:"id"` // of the webhook
	Attempts int       `json:"attempts,omitempty"`
	Next     time.Time `json:"next,omitzero"` // when it is tried again
	Done     bool      `json:"done,omitempty"`
	Error    string    `json:"error,omitempty"` // of the last attempt
	At       time.Time `json:"at,omitzero"`     // when the last attempt ended
}

// MaxPast is how many attempts that came to nothing are kept of a job: the last.
const MaxPast = 10

// Attempt is one that came to nothing.
type Attempt struct {
	Number    int       `json:"number"`
	WorkerID  string    `json:"workerId"`
	StartedAt time.Time `json:"startedAt,omitzero"`
	EndedAt   time.Time `json:"endedAt"`
	Error     string    `json:"error,omitempty"`
}

// Worker is the record of an approved worker.
type Worker struct {
	ID        string    `json:"id"`
	InstallID string    `json:"installId"`
	Name      string    `json:"name"` // of the machine
	Username  string    `json:"username"`
	TokenHash string    `json:"tokenHash,omitempty"` // hex SHA-256; empty before the first approved poll
	CreatedAt time.Time `json:"createdAt"`
}

// Registration is the record of a request to be let in.
type Registration struct {
	ID         string             `json:"id"`
	InstallID  string             `json:"installId"`
	SecretHash string             `json:"secretHash"` // hex SHA-256 of the secret's text; never changes
	Status     RegistrationStatus `json:"status"`
	Reason     string             `json:"reason,omitempty"`   // rejected
	WorkerID   string             `json:"workerId,omitempty"` // approved
	Name       string             `json:"name"`
	Username   string             `json:"username"`
	UserAgent  string             `json:"userAgent"`
	Address    string             `json:"address"` // of the requester, without port
	CreatedAt  time.Time          `json:"createdAt"`
}

// RegistrationStatus is where a registration stands.
type RegistrationStatus string

// The registration statuses. Superseded is a pending request whose install id
// asked again with another secret.
const (
	Pending    RegistrationStatus = "pending"
	Approved   RegistrationStatus = "approved"
	Rejected   RegistrationStatus = "rejected"
	Superseded RegistrationStatus = "superseded"
)

// Model is the record of a model that jobs may name.
type Model struct {
	ID             string               `json:"id"`
	Aliases        []string             `json:"aliases,omitempty"` // other names under /v1
	Kinds          []protocol.TaskKind  `json:"kinds"`
	Default        bool                 `json:"default,omitempty"` // for calls under /v1 that name no model
	CreatedAt      time.Time            `json:"createdAt,omitzero"`
	VRAMGBEstimate float64              `json:"vramGbEstimate"` // GiB
	Source         protocol.ModelSource `json:"modelSource"`
}
