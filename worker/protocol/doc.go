// Package protocol is the wire between worker and studio: every frame and body
// of both directions, their limits, their routes, and nothing else.
//
// Section numbers in this package's comments are those of the protocol
// specification. Decoding is strict about types and required fields (§0):
// unknown keys are ignored, keys are case-sensitive, an optional field may be
// absent or null, a field with a default may only be absent. What is encoded
// leaves an absent optional field out.
//
// Decoders take whole frames that the reader already bounded ([MaxFrame],
// [MaxFrameBeforeHello]) and refuse JSON that nests deeper than [MaxDepth].
package protocol

import "time"

// Version names the protocol in the WebSocket upgrade (§3.1).
const Version = "studio-worker-v1"

// Limits of what either side reads or sends, in bytes unless the name says
// otherwise (§3.11).
const (
	MaxFrame            = 16 << 20
	MaxFrameBeforeHello = 64 << 10
	MaxRegisterBody     = 64 << 10
	MaxErrorBody        = 1 << 20 // of an HTTP answer that is not a success (§2.2)
	MaxLogBatchEntries  = 500     // entries
	MaxLogBatch         = 256 << 10
	MaxDepth            = 64 // levels of nesting
	MaxDelta            = 64 << 10
	MaxResume           = 256 // jobs
)

// Times both sides agree on (§3.12).
const (
	HeartbeatInterval = 5 * time.Second  // worker: between heartbeats
	IdleLimit         = 20 * time.Second // worker: without a JSON frame from the studio
	HeartbeatTooOld   = 30 * time.Second // studio: without a heartbeat
	ConnectLimit      = 15 * time.Second // worker: TCP, TLS and upgrade together
	CloseLimit        = 5 * time.Second  // either: to send a close frame
	RequestLimit      = 60 * time.Second // worker: for one registration call (§2.2)
)

// Features that go beyond the reference wire. Our studio names them in
// [Welcome], our worker in [Capabilities]; a side uses one only if the other
// named it.
const (
	FeatureProgress = "progress" // the worker may send Progress frames
	FeatureAttempt  = "attempt"  // a claim carries its attempt
	FeatureCancel   = "cancel"   // the studio may send Cancel frames
	FeatureResume   = "resume"   // a worker's jobs stay its own over a reconnect: Resume and Resumed frames
	FeatureStream   = "stream"   // the worker may send Delta frames
)

// Features lists what this program can do beyond the reference wire, on either
// side.
func Features() []string {
	return []string{FeatureProgress, FeatureAttempt, FeatureCancel, FeatureResume, FeatureStream}
}

// CloseCode is a WebSocket close code (§3.7).
type CloseCode int

// The close codes.
const (
	CloseNormal      CloseCode = 1000
	CloseAuthFailed  CloseCode = 4001
	CloseViolation   CloseCode = 4002
	CloseDuplicate   CloseCode = 4003
	CloseDeleted     CloseCode = 4004
	CloseGoingAway   CloseCode = 1012 // studio restarts
	CloseTooBig      CloseCode = 1009
	CloseOverloaded  CloseCode = 1013
	CloseUnsupported CloseCode = 1003 // a binary frame
)

// ErrorCode is the code of an error frame (§3.7).
type ErrorCode string

// The error codes.
const (
	ErrorAuthFailed ErrorCode = "auth_failed"
	ErrorViolation  ErrorCode = "protocol_violation"
	ErrorDuplicate  ErrorCode = "duplicate_worker"
	ErrorDeleted    ErrorCode = "worker_deleted"
	ErrorInternal   ErrorCode = "internal_error"
)

// ErrorCodes lists the error codes.
func ErrorCodes() []ErrorCode {
	return []ErrorCode{ErrorAuthFailed, ErrorViolation, ErrorDuplicate, ErrorDeleted, ErrorInternal}
}

// CloseCode returns the close code that goes with the error code (§3.7). An
// unknown code goes with a normal close.
func (c ErrorCode) CloseCode() CloseCode {
	switch c {
	case ErrorAuthFailed:
		return CloseAuthFailed
	case ErrorViolation:
		return CloseViolation
	case ErrorDuplicate:
		return CloseDuplicate
	case ErrorDeleted:
		return CloseDeleted
	case ErrorInternal:
		return CloseNormal
	default:
		return CloseNormal
	}
}

// TimeFormat is how times stand in log entries: UTC, three fraction digits
// (§8.5).
const TimeFormat = "2006-01-02T15:04:05.000Z"
