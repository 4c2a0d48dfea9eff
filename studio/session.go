package studio

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"studioworker/worker/protocol"
)

const (
	helloLimit = 15 * time.Second // for the first frame
	sendLimit  = 10 * time.Second // for one frame; a worker that does not read is gone
	drainLimit = 2 * time.Second  // for the worker's answer to our close
	pingLimit  = 5 * time.Second  // for the worker's answer to a ping
)

// session is one connection of a worker. Its reader is one goroutine; frames
// are sent from any.
type session struct {
	id     string
	worker string
	origin string // of the studio, as the worker names it
	hub    *hub
	log    *slog.Logger

	conn   *websocket.Conn
	pong   chan struct{} // room for one: the worker answered a ping
	asking sync.Mutex    // who awaits that answer
	over   chan struct{} // closed when nothing is read any more
	wmu    sync.Mutex    // one writer at a time
	ended  bool          // guarded by wmu: a close frame was sent

	// Guarded by the hub's mutex.
	connectedAt time.Time
	caps        protocol.Capabilities
	instance    string          // as its hello said; may be empty
	ready       bool            // the first heartbeat came
	gone        bool            // no longer in the index
	blocked     bool            // said busy or paused, or nothing, to an offer
	busyWith    string          // job that the last heartbeat named
	warm        string          // model of the job that it got last
	held        *job            // reserved, offered or running
	beat        time.Time       // of the last heartbeat
	presented   time.Time       // when other processes were last told of it
	told        string          // job that they were told of
	unnamed     time.Time       // since when heartbeats do not name held; zero when they do
	kept        map[string]bool // jobs that stayed its worker's over a reconnect
}

// send writes one frame.
func (s *session) send(f protocol.StudioFrame) error {
	data, err := protocol.Encode(f)
	if err != nil {
		return err
	}
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if s.ended {
		return fmt.Errorf("send %s: the session has ended", f.Type())
	}
	return s.writeLocked(data)
}

func (s *session) writeLocked(data []byte) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(sendLimit)); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if err := s.conn.WriteMessage(websocket.TextMessage, data); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// end closes the session: the error frame first, if any, since only that keeps
// a reference worker from coming back (§3.7), then the close frame. The reader
// ends when the worker has answered, or soon after. Only the first call counts.
func (s *session) end(code protocol.CloseCode, reason string, frame *protocol.Error) {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if s.ended {
		return
	}
	s.ended = true
	var err error
	if frame != nil {
		var data []byte
		if data, err = protocol.Encode(*frame); err == nil {
			err = s.writeLocked(data)
		}
	}
	text := websocket.FormatCloseMessage(int(code), reason)
	err = errors.Join(err,
		s.conn.WriteControl(websocket.CloseMessage, text, time.Now().Add(protocol.CloseLimit)),
		s.conn.SetReadDeadline(time.Now().Add(drainLimit)))
	if err != nil {
		s.log.Debug("a session could not be closed in good order", "error", err)
		s.drop()
	}
}

// answers says whether there is still somebody at the other end.
func (s *session) answers() bool {
	s.asking.Lock() // else two that ask would take each other's answer
	defer s.asking.Unlock()
	select {
	case <-s.pong: // of an earlier question
	default:
	}
	limit := time.Now().Add(pingLimit)
	if err := s.conn.WriteControl(websocket.PingMessage, nil, limit); err != nil {
		return false
	}
	timer := time.NewTimer(time.Until(limit))
	defer timer.Stop()
	select {
	case <-s.pong:
		return true
	case <-s.over:
	case <-timer.C:
	}
	return false
}

// takenOver ends a session whose worker has a newer one.
func (s *session) takenOver() {
	s.end(protocol.CloseDuplicate, "another connection took over", &protocol.Error{
		Code: protocol.ErrorDuplicate, Message: "another connection of this worker took over",
	})
}

// drop cuts the connection; the reader ends with it.
func (s *session) drop() {
	if err := s.conn.Close(); err != nil {
		s.log.Debug("a connection could not be closed", "error", err)
	}
}

// awaitFrames sets the limits of a session that has said hello.
func (s *session) awaitFrames() error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	s.conn.SetReadLimit(protocol.MaxFrame)
	if s.ended {
		return nil // the deadline is that of the drain
	}
	return s.conn.SetReadDeadline(time.Time{})
}

// read runs the session until the connection ends.
func (s *session) read(ctx context.Context, authentic func(token string) bool) {
	defer s.hub.detach(ctx, s)
	defer s.drop()
	defer close(s.over)
	s.conn.SetPongHandler(func(string) error {
		select {
		case s.pong <- struct{}{}:
		default: // one is enough
		}
		return nil
	})
	s.conn.SetReadLimit(protocol.MaxFrameBeforeHello)
	if err := s.conn.SetReadDeadline(time.Now().Add(helloLimit)); err != nil {
		return
	}
	welcomed := false
	for {
		kind, data, err := s.conn.ReadMessage()
		if err != nil {
			s.log.Debug("session over", "error", err)
			return
		}
		if s.isEnded() {
			continue // only the worker's close is awaited now
		}
		if kind != websocket.TextMessage {
			s.violation(errors.New("a binary message"))
			continue
		}
		switch {
		case !welcomed:
			frame, err := protocol.DecodeWorkerFrame(data)
			if err != nil {
				s.violation(err)
				continue
			}
			welcomed = s.welcome(ctx, frame, authentic)
		case !isLogBatch(data):
			s.take(ctx, data)
		case s.hub.logs.enter(ctx, s.worker, data):
			s.take(ctx, data)
			s.hub.logs.leave()
		}
	}
}

// take decodes a frame of a welcomed session and acts on it.
func (s *session) take(ctx context.Context, data []byte) {
	frame, err := protocol.DecodeWorkerFrame(data)
	switch {
	case errors.Is(err, protocol.ErrFrame): // costs only itself (§3.2)
		s.log.Warn("a frame was dropped", "error", err)
		return
	case err != nil:
		s.violation(err)
		return
	}
	if err := s.handle(ctx, frame); errors.Is(err, errViolation) {
		s.violation(err)
	} else if err != nil { // the worker comes back, and both sides start from what is stored
		s.log.Error("a frame could not be handled", "type", frame.Type(), "error", err)
		s.end(protocol.CloseOverloaded, "try again later", nil)
	}
}

func (s *session) isEnded() bool {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	return s.ended
}

func (s *session) violation(err error) {
	s.log.Warn("protocol violation", "error", err)
	s.end(protocol.CloseViolation, "protocol violation", &protocol.Error{Code: protocol.ErrorViolation, Message: err.Error()})
}

// welcome answers the first frame. It says whether the session is welcome.
func (s *session) welcome(ctx context.Context, frame protocol.WorkerFrame, authentic func(token string) bool) bool {
	hello, ok := frame.(protocol.Hello)
	if !ok {
		s.violation(fmt.Errorf("%w: %s before hello", errViolation, frame.Type()))
		return false
	}
	if !authentic(hello.AuthToken) {
		s.end(protocol.CloseAuthFailed, "auth failed", &protocol.Error{Code: protocol.ErrorAuthFailed, Message: "the token is unknown"})
		return false
	}
	if err := s.awaitFrames(); err != nil {
		return false
	}
	if !s.hub.attach(ctx, s, hello.Capabilities) {
		return false
	}
	err := s.send(protocol.Welcome{
		WorkerID: s.worker, ServerTime: time.Now().UTC().Format(time.RFC3339),
		Features: protocol.Features(),
	})
	if err != nil {
		s.drop()
		return false
	}
	if !authentic(hello.AuthToken) { // removed meanwhile, when it was not in the index yet
		s.end(protocol.CloseDeleted, removedText, &protocol.Error{Code: protocol.ErrorDeleted, Message: removedText})
		return false
	}
	s.log.Info("worker connected", "name", clip(hello.Capabilities.MachineName, maxName), "version", clip(hello.Capabilities.AgentVersion, maxName))
	return true
}

// handle acts on one frame of a welcomed session.
func (s *session) handle(ctx context.Context, frame protocol.WorkerFrame) error {
	switch f := frame.(type) {
	case protocol.Heartbeat:
		settle := s.hub.heartbeat(s, f)
		if err := s.send(protocol.HeartbeatAck{}); err != nil {
			s.drop()
		}
		settle(ctx)
	case protocol.Accept:
		return s.hub.accept(ctx, s, f)
	case protocol.Reject:
		s.hub.reject(ctx, s, f)
	case protocol.CompleteJSON:
		return s.hub.completeJSON(ctx, s, f)
	case protocol.Fail:
		return s.hub.fail(ctx, s, f)
	case protocol.Progress:
		if s.has(protocol.FeatureProgress) {
			s.hub.report(s, f)
		}
	case protocol.Delta:
		if s.has(protocol.FeatureStream) {
			s.hub.tell(s, f)
		}
	case protocol.Resume:
		if s.has(protocol.FeatureResume) {
			return s.hub.resume(ctx, s, f)
		}
	case protocol.LogBatch:
		s.hub.keepLogs(s.worker, f.Entries)
	case protocol.ReadyForMore: // reserved; a nudge must not cause an offer (§3.8.7)
	case protocol.Hello:
		return fmt.Errorf("%w: a second hello", errViolation)
	}
	return nil
}

// has says whether the worker named the feature.
func (s *session) has(feature string) bool {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return s.hasLocked(feature)
}

// hasLocked is has for callers that hold the hub's mutex.
func (s *session) hasLocked(feature string) bool { return slices.Contains(s.caps.Features, feature) }
