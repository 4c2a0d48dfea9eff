package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"studioworker/worker/protocol"
)

// Packed is the record of a job as it is read when all are: what is looked at in
// every job, and the rest not decoded. Of a hundred thousand jobs few are needed
// whole, and decoding them all takes most of a start. It does not change.
type Packed struct {
	Revision uint64
	Kin      *Kin  // shared with other jobs
	Bytes    int64 // of the result
	Priority int
	HasInput bool // the task names inputs of the studio
	HasHook  bool // webhooks are told of the job's end
	Telling  bool // one of them was not yet

	state                                state
	created, started, finished, earliest stamp
	rest                                 []byte // the record's JSON without its source, and when it has ended without task and past attempts
}

// Kin is what many jobs have in common.
type Kin struct {
	Kind             protocol.TaskKind
	Model, Submitter string
	VRAMGBEstimate   float64 // GiB
	Source           protocol.ModelSource
}

// Place is where the parts of a result are; Parts is 0 without one.
type Place struct {
	Folder string
	Parts  int
}

// state is the place of a state in JobStates.
type state uint8

// stamp is a time in nanoseconds since 1970; never is none.
type stamp int64

const never = stamp(math.MinInt64)

func (s stamp) time() time.Time {
	if s == never {
		return time.Time{}
	}
	return time.Unix(0, int64(s)).UTC()
}

// State returns the state of the job.
func (p *Packed) State() JobState { return JobStates()[p.state] }

// CreatedAt returns when the job was made.
func (p *Packed) CreatedAt() time.Time { return p.created.time() }

// StartedAt returns when its last attempt began, or the zero time.
func (p *Packed) StartedAt() time.Time { return p.started.time() }

// FinishedAt returns when the job ended, or the zero time.
func (p *Packed) FinishedAt() time.Time { return p.finished.time() }

// NotBefore returns the end of its pause, or the zero time.
func (p *Packed) NotBefore() time.Time { return p.earliest.time() }

// Job decodes the record. One that has ended comes with nothing of its task but
// the kind, and without its source and its past attempts.
func (p *Packed) Job() (Job, error) {
	var job Job
	if err := json.Unmarshal(p.rest, &job); err != nil {
		return Job{}, fmt.Errorf("decode: %w", err)
	}
	job.Model, job.Submitter = p.Kin.Model, p.Kin.Submitter // the strings are shared
	if job.State.Final() {
		job.Task = protocol.Task{Kind: p.Kin.Kind}
	} else {
		job.Source = p.Kin.Source
	}
	return job, nil
}

// PackedJobs calls f with every job and the number of its shard, and returns an
// error in bad for each record that cannot be read. Calls of f do not overlap;
// those of a shard come in the order of the last writes.
func (s *Store) PackedJobs(ctx context.Context, f func(shard int, id string, p *Packed, result Place)) (bad []error, err error) {
	var mu sync.Mutex
	packers := make([]packer, len(s.Jobs.shards))
	return s.Jobs.eachEntry(ctx, func(shard int, e jetstream.KeyValueEntry) error {
		id, p, result, err := packers[shard].pack(e.Value())
		if errors.Is(err, errForm) { // of another version, or edited by hand
			var entry Entry[Job]
			if entry, err = s.Jobs.decode(e); err == nil {
				var data []byte
				if data, err = json.Marshal(entry.Value); err == nil {
					id, p, result, err = packers[shard].pack(data)
				}
			}
		}
		if err != nil {
			return err
		}
		p.Revision = e.Revision()
		mu.Lock()
		defer mu.Unlock()
		f(shard, id, p, result)
		return nil
	})
}

// errForm: the record does not look as one that this version has written.
var errForm = errors.New("the record has another form")

// packer packs records, one after the other.
type packer struct {
	kin map[string]*Kin // by the JSON of its parts
	key []byte          // of the one that is looked for
}

// pack reads a record in the form that json.Marshal gives a Job. In another it
// may be errForm.
func (k *packer) pack(data []byte) (id string, p *Packed, result Place, err error) {
	p = &Packed{created: never, started: never, finished: never, earliest: never}
	var kind, model, submitter, vram, source []byte
	var cuts []span // of what is not kept, each with the comma after it
	var inTheEnd []span
	known := false
	ok := members(data, func(key, raw []byte, at span) (good bool) {
		good = true
		switch string(key) {
		case "id":
			id, good = text(raw)
		case "state":
			i := slices.IndexFunc(JobStates(), func(s JobState) bool {
				return len(raw) == len(s)+2 && string(raw[1:len(raw)-1]) == string(s)
			})
			p.state, known, good = state(max(i, 0)), i >= 0, i >= 0 // #nosec G115 -- there are six
		case "model":
			model = raw
		case "submitter":
			submitter = raw
		case "vramGbEstimate":
			vram = raw
		case "task":
			inTheEnd = append(inTheEnd, at)
			twice := kind != nil
			kind, good = kindOf(raw)
			good = good && !twice
		case "past":
			inTheEnd = append(inTheEnd, at)
		case "modelSource":
			cuts = append(cuts, at)
			good = source == nil
			source = raw
		case "priority":
			p.Priority, err = strconv.Atoi(string(raw))
			good = err == nil
		case "inputs":
			p.HasInput = len(raw) > len("[]")
		case "hooks":
			var hooks []Hook
			good = json.Unmarshal(raw, &hooks) == nil
			p.HasHook = len(hooks) > 0
			p.Telling = slices.ContainsFunc(hooks, func(h Hook) bool { return !h.Done })
		case "createdAt":
			p.created, good = moment(raw)
		case "startedAt":
			p.started, good = moment(raw)
		case "finishedAt":
			p.finished, good = moment(raw)
		case "notBefore":
			p.earliest, good = moment(raw)
		case "result":
			var r Result
			good = json.Unmarshal(raw, &r) == nil
			p.Bytes, result = r.Bytes, Place{r.Folder, r.Parts}
		case "gameId", "assetName", "attempts", "workerId", "session", "workers", "error", "allowed", "cancelling", "deliveryKey":
		default:
			good = false
		}
		return good
	})
	if !ok || id == "" || !known || kind == nil || source == nil || vram == nil || model == nil {
		return "", nil, Place{}, errForm
	}
	if p.Kin, err = k.kinOf(kind, model, submitter, vram, source); err != nil {
		return "", nil, Place{}, err
	}
	if p.State().Final() {
		cuts = append(cuts, inTheEnd...)
	}
	if p.rest, ok = without(data, cuts); !ok {
		return "", nil, Place{}, errForm
	}
	return id, p, result, nil
}

// kinOf finds the kin with the given parts, each in JSON.
func (k *packer) kinOf(kind, model, submitter, vram, source []byte) (*Kin, error) {
	k.key = k.key[:0]
	for _, part := range [][]byte{kind, model, submitter, vram, source} {
		k.key = append(append(k.key, part...), '\n')
	}
	if kin := k.kin[string(k.key)]; kin != nil {
		return kin, nil
	}
	kin := &Kin{}
	for _, part := range []struct {
		raw []byte
		to  any
	}{{kind, &kin.Kind}, {model, &kin.Model}, {submitter, &kin.Submitter}, {vram, &kin.VRAMGBEstimate}, {source, &kin.Source}} {
		if part.raw == nil { // there is no submitter
			continue
		}
		if err := json.Unmarshal(part.raw, part.to); err != nil {
			return nil, fmt.Errorf("decode: %w", err)
		}
	}
	if k.kin == nil {
		k.kin = map[string]*Kin{}
	}
	k.kin[string(k.key)] = kin
	return kin, nil
}

// without returns what is left of data without the cuts, which must not overlap
// and each end in a comma.
func without(data []byte, cuts []span) ([]byte, bool) {
	slices.SortFunc(cuts, func(a, b span) int { return a.from - b.from })
	left := len(data)
	for _, c := range cuts {
		left -= c.to - c.from
		if data[c.to-1] != ',' {
			return nil, false
		}
	}
	out, at := make([]byte, 0, left), 0
	for _, c := range cuts {
		out = append(out, data[at:c.from]...)
		at = c.to
	}
	return append(out, data[at:]...), true
}

// span is a part of a text, from its first byte to the one after its last.
type span struct{ from, to int }

// members calls visit with each member of a JSON object without spaces; at is
// where it stands, with the comma after it. It is false when visit is, or when
// there is something else.
func members(data []byte, visit func(key, raw []byte, at span) bool) bool {
	if len(data) < 2 || data[0] != '{' || data[len(data)-1] != '}' {
		return false
	}
	last := len(data) - 1
	for at := 1; at < last; {
		from := at
		if data[at] != '"' {
			return false
		}
		n := bytes.IndexByte(data[at+1:last], '"')
		if n < 0 {
			return false
		}
		key := data[at+1 : at+1+n]
		if at += n + 2; at >= last || data[at] != ':' {
			return false
		}
		begin := at + 1
		if at = valueEnd(data[:last], begin); at <= begin {
			return false
		}
		raw := data[begin:at]
		if at < last {
			if data[at] != ',' || at+1 == last {
				return false
			}
			at++
		}
		if !visit(key, raw, span{from, at}) {
			return false
		}
	}
	return true
}

// valueEnd returns where the JSON value that begins at i has ended, or 0.
func valueEnd(data []byte, i int) int {
	depth := 0
	for ; i < len(data); i++ {
		switch data[i] {
		case '"':
			if i = quoteEnd(data, i); i == 0 {
				return 0
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth < 0 {
				return 0
			}
		case ',':
			if depth == 0 {
				return i
			}
		}
	}
	if depth > 0 {
		return 0
	}
	return i
}

// quoteEnd returns the place of the quote that ends the string that begins at i,
// or 0.
func quoteEnd(data []byte, i int) int {
	for i++; i < len(data); i++ {
		switch data[i] {
		case '"':
			return i
		case '\\':
			i++
		}
	}
	return 0
}

// text reads a JSON string.
func text(raw []byte) (string, bool) {
	if len(raw) >= 2 && raw[0] == '"' && raw[len(raw)-1] == '"' && bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), true
	}
	var out string
	err := json.Unmarshal(raw, &out)
	return out, err == nil
}

// moment reads a time.
func moment(raw []byte) (stamp, bool) {
	var t time.Time
	if err := t.UnmarshalJSON(raw); err != nil {
		return never, false
	}
	if t.IsZero() {
		return never, true
	}
	return stamp(t.UnixNano()), t.Year() >= 1678 && t.Year() < 2262
}

// kindOf returns the JSON of the kind of a task, which must be one that is known.
func kindOf(task []byte) ([]byte, bool) {
	rest, ok := bytes.CutPrefix(task, []byte(`{"kind":`))
	if !ok {
		return nil, false
	}
	end := bytes.IndexByte(rest, ',')
	if end < 3 || !slices.Contains(protocol.TaskKinds(), protocol.TaskKind(rest[1:end-1])) {
		return nil, false
	}
	return rest[:end], true
}
