package protocol

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Frame is a message of either direction.
type Frame interface {
	// Type is the frame's name on the wire.
	Type() string
}

// WorkerFrame is a message from worker to studio (§3.4).
type WorkerFrame interface {
	Frame
	fromWorker()
}

// StudioFrame is a message from studio to worker (§3.5).
type StudioFrame interface {
	Frame
	fromStudio()
}

// Frames from worker to studio.
type (
	// Hello is the first frame of a session.
	Hello struct {
		AuthToken    string       `json:"authToken"`
		Capabilities Capabilities `json:"capabilities"`
	}
	// Heartbeat says that the worker lives, what it can do, and the job it runs.
	Heartbeat struct {
		Capabilities Capabilities `json:"capabilities"`
		CurrentJobID string       `json:"currentJobId,omitempty"` // empty = none
	}
	// Accept takes an offer.
	Accept struct {
		JobID string `json:"jobId"`
	}
	// Reject turns an offer down.
	Reject struct {
		JobID  string     `json:"jobId"`
		Reason string     `json:"reason"`
		Code   RejectCode `json:"code,omitempty"`
	}
	// CompleteJSON delivers a JSON result.
	CompleteJSON struct {
		JobID  string          `json:"jobId"`
		Result json.RawMessage `json:"result"`
		Prompt *string         `json:"prompt,omitempty"`
	}
	// Fail says that a job failed.
	Fail struct {
		JobID     string `json:"jobId"`
		Error     string `json:"error"`
		Retryable bool   `json:"retryable"`
	}
	// LogBatch ships log lines, at most MaxLogBatchEntries and MaxLogBatch bytes.
	LogBatch struct {
		Entries logEntries `json:"entries"`
	}
	// ReadyForMore is reserved; current workers never send it.
	ReadyForMore struct{}
	// Progress says how far a job is. Only with FeatureProgress.
	Progress struct {
		JobID   string `json:"jobId"`
		Step    int    `json:"step"`
		Total   int    `json:"total"` // 0 = unknown
		Message string `json:"message,omitempty"`
	}
	// Delta is the next piece of a text that is being written. The whole result
	// follows and is what counts. Only with FeatureStream.
	Delta struct {
		JobID string `json:"jobId"`
		Seq   int    `json:"seq"`  // from 0, in each attempt
		Text  string `json:"text"` // at most MaxDelta bytes
	}
	// Resume names the jobs that the worker runs, or whose outcome it could not
	// deliver. It goes out right after the welcome. Only with FeatureResume.
	Resume struct {
		JobIDs texts `json:"jobIds"` // at most MaxResume
	}
)

// Frames from studio to worker.
type (
	// Welcome ends the authentication.
	Welcome struct {
		WorkerID   string   `json:"workerId"`
		ServerTime string   `json:"serverTime"` // opaque text
		Features   []string `json:"features,omitempty"`
	}
	// Offer proposes one job.
	Offer struct {
		Claim Claim `json:"claim"`
	}
	// HeartbeatAck answers a heartbeat.
	HeartbeatAck struct{}
	// CompleteAck says that a JSON result is stored.
	CompleteAck struct {
		JobID string `json:"jobId"`
	}
	// FailAck says that a failure is stored.
	FailAck struct {
		JobID string `json:"jobId"`
	}
	// Error says that the studio is about to close.
	Error struct {
		Code    ErrorCode `json:"code"`
		Message string    `json:"message"`
	}
	// Cancel asks the worker to stop a job. It answers with a Fail that is not
	// retryable. Only with FeatureCancel.
	Cancel struct {
		JobID  string `json:"jobId"`
		Reason string `json:"reason"`
	}
	// Resumed answers Resume. What is kept belongs to this session now; what is
	// dropped belongs to others, or to nobody. Only with FeatureResume.
	Resumed struct {
		Keep texts `json:"keep"` // at most MaxResume
		Drop texts `json:"drop"` // at most MaxResume
	}
)

// RejectCode classifies a reject (§3.9). The worker never invents others.
type RejectCode string

// The reject codes. RejectOther is never written.
const (
	RejectOther  RejectCode = ""
	RejectBusy   RejectCode = "busy"
	RejectPaused RejectCode = "paused"
)

// LogEntry is one shipped log line (§8.5).
type LogEntry struct {
	TS       string   `json:"ts"` // TimeFormat
	Level    LogLevel `json:"level"`
	Category string   `json:"category"`
	Message  string   `json:"message"` // one line
	JobID    string   `json:"jobId,omitempty"`
}

// LogLevel is the level of a shipped log line.
type LogLevel string

// The log levels.
const (
	LevelInfo  LogLevel = "info"
	LevelWarn  LogLevel = "warn"
	LevelError LogLevel = "error"
)

// The wire names of the frames.
func (Hello) Type() string        { return "hello" }
func (Heartbeat) Type() string    { return "heartbeat" }
func (Accept) Type() string       { return "accept" }
func (Reject) Type() string       { return "reject" }
func (CompleteJSON) Type() string { return "completeJson" }
func (Fail) Type() string         { return "fail" }
func (LogBatch) Type() string     { return "logBatch" }
func (ReadyForMore) Type() string { return "readyForMore" }
func (Progress) Type() string     { return "progress" }
func (Delta) Type() string        { return "delta" }
func (Resume) Type() string       { return "resume" }
func (Welcome) Type() string      { return "welcome" }
func (Offer) Type() string        { return "offer" }
func (HeartbeatAck) Type() string { return "heartbeatAck" }
func (CompleteAck) Type() string  { return "completeAck" }
func (FailAck) Type() string      { return "failAck" }
func (Error) Type() string        { return "error" }
func (Cancel) Type() string       { return "cancel" }
func (Resumed) Type() string      { return "resumed" }

func (Hello) fromWorker()        {}
func (Heartbeat) fromWorker()    {}
func (Accept) fromWorker()       {}
func (Reject) fromWorker()       {}
func (CompleteJSON) fromWorker() {}
func (Fail) fromWorker()         {}
func (LogBatch) fromWorker()     {}
func (ReadyForMore) fromWorker() {}
func (Progress) fromWorker()     {}
func (Delta) fromWorker()        {}
func (Resume) fromWorker()       {}
func (Welcome) fromStudio()      {}
func (Offer) fromStudio()        {}
func (HeartbeatAck) fromStudio() {}
func (CompleteAck) fromStudio()  {}
func (FailAck) fromStudio()      {}
func (Error) fromStudio()        {}
func (Cancel) fromStudio()       {}
func (Resumed) fromStudio()      {}

// Encode writes a frame: one JSON object whose first key is its type.
func Encode(f Frame) ([]byte, error) {
	fields, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", f.Type(), err)
	}
	head := fmt.Sprintf(`{"type":%q`, f.Type())
	if len(fields) > len("{}") {
		head += ","
	}
	return append([]byte(head), fields[1:]...), nil
}

// DecodeWorkerFrame reads a frame from a worker. Its errors are ErrNotJSON or
// ErrFrame.
func DecodeWorkerFrame(data []byte) (WorkerFrame, error) {
	kind, f, err := frame(data)
	if err != nil {
		return nil, err
	}
	var out WorkerFrame
	switch kind {
	case Hello{}.Type():
		out = Hello{AuthToken: required[string](f, "authToken"), Capabilities: required[Capabilities](f, "capabilities")}
	case Heartbeat{}.Type():
		beat := Heartbeat{Capabilities: required[Capabilities](f, "capabilities")}
		if id := optional[string](f, "currentJobId"); id != nil {
			beat.CurrentJobID = *id
		}
		out = beat
	case Accept{}.Type():
		out = Accept{JobID: required[string](f, "jobId")}
	case Reject{}.Type():
		reject := Reject{JobID: required[string](f, "jobId"), Reason: required[string](f, "reason")}
		if code := optional[string](f, "code"); code != nil {
			reject.Code = oneOf(f, "code", RejectCode(*code), RejectBusy, RejectPaused)
		}
		out = reject
	case CompleteJSON{}.Type():
		out = CompleteJSON{JobID: required[string](f, "jobId"), Result: anyJSON(f, "result"), Prompt: optional[string](f, "prompt")}
	case Fail{}.Type():
		out = Fail{
			JobID: required[string](f, "jobId"), Error: required[string](f, "error"),
			Retryable: required[bool](f, "retryable"),
		}
	case LogBatch{}.Type():
		out = LogBatch{Entries: required[logEntries](f, "entries")}
	case ReadyForMore{}.Type():
		out = ReadyForMore{}
	case Progress{}.Type():
		p := Progress{
			JobID: required[string](f, "jobId"),
			Step:  int(required[uint32](f, "step")), Total: int(required[uint32](f, "total")),
		}
		if text := optional[string](f, "message"); text != nil {
			p.Message = *text
		}
		out = p
	case Delta{}.Type():
		d := Delta{JobID: required[string](f, "jobId"), Seq: int(required[uint32](f, "seq")), Text: required[string](f, "text")}
		if len(d.Text) > MaxDelta {
			f.fail("text", fmt.Errorf("more than %d bytes", MaxDelta))
		}
		out = d
	case Resume{}.Type():
		out = Resume{JobIDs: jobIDs(f, "jobIds")}
	default:
		return nil, fmt.Errorf("%w: unknown type %.100q", ErrFrame, kind)
	}
	if f.err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrFrame, kind, f.err)
	}
	return out, nil
}

// DecodeStudioFrame reads a frame from a studio. Its errors are ErrNotJSON or
// ErrFrame; a bad offer whose job id can be read is an *OfferError as well.
func DecodeStudioFrame(data []byte) (StudioFrame, error) {
	kind, f, err := frame(data)
	if err != nil {
		return nil, err
	}
	var out StudioFrame
	switch kind {
	case Welcome{}.Type():
		out = Welcome{
			WorkerID: required[string](f, "workerId"), ServerTime: required[string](f, "serverTime"),
			Features: orDefault[[]string](f, "features", nil),
		}
	case Offer{}.Type():
		out = Offer{Claim: required[Claim](f, "claim")}
		if f.err != nil {
			if id := offeredJob(f); id != "" {
				f.err = &OfferError{JobID: id, Err: f.err}
			}
		}
	case HeartbeatAck{}.Type():
		out = HeartbeatAck{}
	case CompleteAck{}.Type():
		out = CompleteAck{JobID: required[string](f, "jobId")}
	case FailAck{}.Type():
		out = FailAck{JobID: required[string](f, "jobId")}
	case Error{}.Type():
		code := ErrorCode(required[string](f, "code"))
		out = Error{Code: oneOf(f, "code", code, ErrorCodes()...), Message: required[string](f, "message")}
	case Cancel{}.Type():
		out = Cancel{JobID: required[string](f, "jobId"), Reason: required[string](f, "reason")}
	case Resumed{}.Type():
		out = Resumed{Keep: jobIDs(f, "keep"), Drop: jobIDs(f, "drop")}
	default:
		return nil, fmt.Errorf("%w: unknown type %.100q", ErrFrame, kind)
	}
	if f.err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrFrame, kind, f.err)
	}
	return out, nil
}

func offeredJob(f *fields) string {
	raw, _ := f.get("claim")
	claim := object(raw)
	return required[string](claim, "jobId")
}

// anyJSON reads a required field that may be any JSON value, null too.
func anyJSON(f *fields, key string) json.RawMessage {
	raw, ok := f.get(key)
	if !ok && f.err == nil {
		f.err = fmt.Errorf("field %q is missing", key)
	}
	return raw
}

// oneOf checks an enumeration: exact strings, anything else is an error (§0).
func oneOf[T ~string](f *fields, key string, v T, allowed ...T) T {
	if f.err == nil && !slices.Contains(allowed, v) {
		f.err = fmt.Errorf("field %q: unknown value %.100q", key, string(v))
	}
	return v
}

func taskKind(f *fields, key, kind string) TaskKind {
	return oneOf(f, key, TaskKind(kind), TaskKinds()...)
}

// jobIDs reads a bounded list of job ids.
func jobIDs(f *fields, key string) texts {
	ids := required[[]string](f, key)
	if len(ids) > MaxResume {
		f.fail(key, fmt.Errorf("more than %d jobs", MaxResume))
	}
	return ids
}

type texts []string

// MarshalJSON writes the list; it is never null.
func (l texts) MarshalJSON() ([]byte, error) {
	if l == nil {
		l = texts{}
	}
	return json.Marshal([]string(l))
}

type logEntries []LogEntry

// MarshalJSON writes the list; it is never null.
func (l logEntries) MarshalJSON() ([]byte, error) {
	if l == nil {
		l = logEntries{}
	}
	return json.Marshal([]LogEntry(l))
}

func (l *logEntries) UnmarshalJSON(data []byte) error { return list(data, (*[]LogEntry)(l)) }

// UnmarshalJSON reads a log entry by the rules of §0 and §8.5.
func (e *LogEntry) UnmarshalJSON(data []byte) error {
	f := object(data)
	*e = LogEntry{
		TS: required[string](f, "ts"), Category: required[string](f, "category"), Message: required[string](f, "message"),
		Level: oneOf(f, "level", LogLevel(required[string](f, "level")), LevelInfo, LevelWarn, LevelError),
	}
	if id := optional[string](f, "jobId"); id != nil {
		e.JobID = *id
	}
	return f.err
}
