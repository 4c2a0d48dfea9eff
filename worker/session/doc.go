// Package session holds the WebSocket session to the studio: [Session] is one
// connection from upgrade to close, [Loop] keeps one open.
//
// A session has one reader, one writer that every frame goes through, one
// heartbeat and one log pump. They live and die together, and Run returns when
// the first of them ends. Jobs are not part of a session: they outlive it, and
// reach the studio through the [Link] of the session that offered them.
// Section numbers are those of the protocol specification.
package session
