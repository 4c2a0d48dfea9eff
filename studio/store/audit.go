package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	auditStream  = "audit"
	auditEntries = 100_000              // kept
	auditAge     = 400 * 24 * time.Hour // kept
	maxAuditPage = 1000
)

// Act is something that an operator did.
type Act struct {
	Seq     uint64    `json:"seq"` // of the log, from 1
	At      time.Time `json:"at"`
	Who     string    `json:"who"`             // a name the person gave, or how the person came
	Address string    `json:"address"`         // of the person's computer
	Did     string    `json:"did"`             // such as "approve worker"
	Target  string    `json:"target"`          // id of what was acted on; may be empty
	Failed  string    `json:"error,omitempty"` // why it was refused; empty = done
}

// Audit is the log of what operators did: a stream, since nothing in it ever
// changes. The oldest entries go when there are too many.
type Audit struct {
	js     jetstream.JetStream
	stream jetstream.Stream
}

func openAudit(ctx context.Context, js jetstream.JetStream, copies int) (*Audit, error) {
	stream, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: auditStream, Subjects: []string{auditStream}, Storage: jetstream.FileStorage, Discard: jetstream.DiscardOld,
		MaxMsgs: auditEntries, MaxAge: auditAge, Replicas: copies,
	})
	if err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	return &Audit{js: js, stream: stream}, nil
}

// Add stores an act. It is on disk when Add returns.
func (a *Audit) Add(ctx context.Context, act Act) error {
	data, err := json.Marshal(act)
	if err != nil {
		return fmt.Errorf("encode an act: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, opLimit)
	defer cancel()
	if _, err := a.js.Publish(ctx, auditStream, data); err != nil {
		return fmt.Errorf("write the audit log: %w", err)
	}
	return nil
}

// Page returns at most limit acts before the one numbered before, the newest
// first; 0 starts at the newest. more says that there are older ones. An entry
// that cannot be read stands there with its number and the reason.
func (a *Audit) Page(ctx context.Context, before uint64, limit int) (acts []Act, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, opLimit)
	defer cancel()
	info, err := a.stream.Info(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("read the audit log: %w", err)
	}
	next := info.State.LastSeq
	if before > 0 {
		next = min(next, before-1)
	}
	limit = min(limit, maxAuditPage)
	for ; next >= max(info.State.FirstSeq, 1); next-- {
		if len(acts) == limit {
			return acts, true, nil
		}
		msg, err := a.stream.GetMsg(ctx, next)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return nil, false, fmt.Errorf("read the audit log: %w", err)
		}
		var act Act
		if err := json.Unmarshal(msg.Data, &act); err != nil {
			act = Act{At: msg.Time, Failed: "this entry cannot be read"}
		}
		act.Seq = msg.Sequence
		acts = append(acts, act)
	}
	return acts, false, nil
}
