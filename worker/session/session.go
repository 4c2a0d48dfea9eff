package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"

	"studioworker/worker/observe"
	"studioworker/worker/protocol"
)

// Limits of one session.
const (
	writeLimit = 10 * time.Second // a write that takes longer ends the session
	sendQueue  = 64               // frames waiting for the writer
	taskQueue  = 16               // frames about jobs waiting for their answer; then the reader waits
	flushLimit = 2 * time.Second  // to ship the last logs of an orderly end
	lastRead   = time.Second      // for what the studio said before a write failed
	logPeriod  = time.Second
	clockSlack = 30 * time.Second // a larger difference to the studio's clock is said
	sleepSlack = 10 * time.Second // a wall clock so far ahead of the time we lived means sleep
)

// Link is the way back to the studio for a job that a session offered.
type Link interface {
	// Send puts a frame on the wire and returns when it was written. Its error
	// is ErrOver once the session has ended.
	Send(ctx context.Context, frame protocol.WorkerFrame) error
	// Has says whether the studio named the feature.
	Has(feature string) bool
}

// Jobs takes what a session receives about jobs.
type Jobs interface {
	// Offer answers one offer: it sends accept or reject on link, and starts the
	// job when it accepted. It does not wait for the job.
	Offer(ctx context.Context, claim protocol.Claim, link Link)
	// Acknowledged says that the studio has stored a JSON result.
	Acknowledged(jobID string)
	// CurrentJobID is the job in flight, or empty.
	CurrentJobID() string
	// Unfinished lists the jobs of this studio that run or whose outcome it does
	// not have, at most protocol.MaxResume.
	Unfinished() []string
	// Resumed says which of them are still this worker's; their outcome goes to
	// link from now on.
	Resumed(ctx context.Context, keep, drop []string, link Link)
	// Revoke stops a job that the studio cancelled. The answer goes to link
	// unless the job is in flight on another.
	Revoke(ctx context.Context, jobID, reason string, link Link)
}

// LogSource hands out what is to be shipped.
type LogSource interface {
	Take() []protocol.LogEntry
	Restore(batch []protocol.LogEntry)
	// Ready gets a value when a whole batch waits.
	Ready() <-chan struct{}
}

// Config is what every session of a worker shares.
type Config struct {
	Capabilities func() protocol.Capabilities // read afresh for each heartbeat
	Jobs         Jobs
	Logs         LogSource
	Observers    *observe.WorkerObservers
	Log          *slog.Logger
	Welcomed     func()        // called when a session is up; may be nil
	Heartbeat    time.Duration // 0 = protocol.HeartbeatInterval
	IdleLimit    time.Duration // 0 = protocol.IdleLimit
	// Wall tells what the computer's clock says; nil = time.Now.
	Wall func() time.Time
	// Heard hears what the clock of a studio's host says, from the answer to an
	// upgrade; nil = nobody wants to know.
	Heard func(host string, at time.Time)
	// Dial opens the connection for the upgrade to target, whose scheme is http or
	// https: through the proxy there is, TLS included. nil = straight, with the
	// system's roots.
	Dial func(ctx context.Context, target *url.URL) (net.Conn, error)
}

// Session is one connection. Run may be called once.
type Session struct {
	cfg      Config
	conn     *websocket.Conn
	token    protocol.Secret // set by run, before anything starts
	outbound chan *outFrame
	over     chan struct{} // closed when nothing is written any more
	features atomic.Pointer[[]string]
	named    []string // features that our hello named; set before the welcome
	resumes  []string // jobs that our resume frame named; set right after the welcome
	began    time.Time
	date     time.Time // what the answer to the upgrade said about the time; zero = nothing
	awake    wakefulness
	odd      map[string]bool // why frames were dropped
	beatAt   atomic.Int64    // when the last heartbeat was written, in ns after began; 0 = acknowledged
}

// outFrame is a frame on its way to the writer, which answers on done. Whoever
// first sets its fate decides whether it is written.
type outFrame struct {
	data []byte
	fate atomic.Int32 // 0, or one of the two below
	done chan error   // room for one
}

const (
	fateTaken     = 1 // the writer has it
	fateWithdrawn = 2 // its sender does not want it written any more
)

func newSession(cfg Config, conn *websocket.Conn) *Session {
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = protocol.HeartbeatInterval
	}
	if cfg.IdleLimit == 0 {
		cfg.IdleLimit = protocol.IdleLimit
	}
	if cfg.Wall == nil {
		cfg.Wall = time.Now
	}
	return &Session{cfg: cfg, conn: conn, began: time.Now(), outbound: make(chan *outFrame, sendQueue), over: make(chan struct{}), odd: map[string]bool{}}
}

// run speaks on the connection until it ends or ctx does, and says how long the
// session was up: 0 if the studio never welcomed it. An orderly end by ctx
// ships the last logs, closes with 1000 and returns nil.
func (s *Session) run(ctx context.Context, token protocol.Secret) (up time.Duration, err error) {
	s.token = token
	writing := make(chan error, 1)
	go func() { writing <- s.write() }()
	// A reader that waits is woken by a deadline in the past.
	unblock := context.AfterFunc(ctx, func() { _ = s.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer unblock()

	up, err = s.talk(ctx)
	reason := "session ended"
	switch {
	case ctx.Err() != nil:
		s.flush() //nolint:contextcheck // ctx is over, and the last logs go out after that
		err = nil
	case errors.Is(err, ErrAuthFailed):
		reason = "auth failed"
	case errors.Is(err, ErrViolation):
		reason = "protocol violation"
	}
	close(s.over)
	if writeErr := <-writing; writeErr != nil && errors.Is(err, errSilent) {
		err = writeErr // the reader was only woken by it
	}
	text := websocket.FormatCloseMessage(int(protocol.CloseNormal), reason)
	// Neither failure changes anything: the session is over, and the studio sees
	// a lost connection at the latest.
	_ = s.conn.WriteControl(websocket.CloseMessage, text, time.Now().Add(protocol.CloseLimit))
	_ = s.conn.Close()
	return up, err
}

func (s *Session) talk(ctx context.Context) (up time.Duration, err error) {
	caps := s.cfg.Capabilities()
	s.banner(caps)
	s.named = caps.Features
	if err := s.Send(ctx, protocol.Hello{AuthToken: s.token.Reveal(), Capabilities: caps}); err != nil {
		return 0, err
	}
	welcome, err := s.awaitWelcome(ctx)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	s.features.Store(&welcome.Features)
	s.cfg.Log.Info("server welcomed", "worker_id", welcome.WorkerID, "server_time", welcome.ServerTime)
	s.cfg.Observers.Session.Set(observe.Session{State: observe.SessionConnected, Since: start, Skew: s.skew(welcome.ServerTime)})
	if err := s.resume(ctx); err != nil {
		return time.Since(start), err
	}
	if s.cfg.Welcomed != nil {
		s.cfg.Welcomed()
	}
	tasks := make(chan task, taskQueue)
	outer := ctx
	g, ctx := errgroup.WithContext(ctx)
	// Whatever ends first must end the reader too, once it has read a close frame
	// that is here already.
	defer context.AfterFunc(ctx, func() {
		// A write that hangs ends soon; each later one has its own limit.
		_ = s.conn.NetConn().SetWriteDeadline(time.Now().Add(lastRead))
		switch {
		case outer.Err() != nil:
		case errors.Is(context.Cause(ctx), errSlept):
			_ = s.conn.SetReadDeadline(time.Unix(1, 0)) // what was said is hours old
		default:
			_ = s.conn.SetReadDeadline(time.Now().Add(lastRead))
		}
	})()
	var readErr error
	g.Go(func() error { // also answers pings: always keep a reader
		readErr = s.read(outer, ctx.Done(), tasks)
		return readErr
	})
	changes := make(chan struct{}, 1)
	g.Go(func() error { return s.watchAvailability(ctx, changes) })
	g.Go(func() error { return s.heartbeat(ctx, changes) })
	g.Go(func() error { return s.pump(ctx) })
	g.Go(func() error { return s.answer(ctx, tasks) })
	err = g.Wait()
	// What the studio said outranks how the others noticed the end: after its
	// close frame every write fails too.
	if !errors.Is(readErr, context.Canceled) && !errors.Is(err, errSlept) {
		err = readErr
	}
	return time.Since(start), err
}

// awaitWelcome holds everything back until the studio has let us in (§3.8).
func (s *Session) awaitWelcome(ctx context.Context) (protocol.Welcome, error) {
	for {
		frame, err := s.next(ctx)
		if err != nil {
			return protocol.Welcome{}, err
		}
		switch f := frame.(type) {
		case protocol.Welcome:
			return f, nil
		case protocol.Error:
			return protocol.Welcome{}, withoutToken(studioError(f), s.token)
		case nil:
		default:
			s.cfg.Log.Warn("frame before welcome was dropped", "type", f.Type())
		}
	}
}

// next reads one frame. A frame that cannot be understood costs only itself and
// comes back as nil; text that is not JSON ends the session (§3.2).
func (s *Session) next(ctx context.Context) (protocol.StudioFrame, error) {
	if ctx.Err() != nil { // extend may have undone the deadline that should wake us
		return nil, ctx.Err()
	}
	kind, data, err := s.conn.ReadMessage()
	if err != nil {
		if errors.Is(err, websocket.ErrReadLimit) {
			return nil, told(ErrViolation, fmt.Sprintf("a frame is larger than %d bytes", protocol.MaxFrame))
		}
		return nil, withoutToken(closeError(err), s.token)
	}
	if kind != websocket.TextMessage {
		return nil, told(ErrViolation, "a binary frame")
	}
	if len(data) == 0 {
		return nil, nil // ignored, and no sign of life (§3.10)
	}
	frame, err := protocol.DecodeStudioFrame(data)
	if errors.Is(err, protocol.ErrNotJSON) {
		s.cfg.Log.Warn("text that is not JSON ends the session", "bytes", len(data))
		return nil, told(ErrViolation, err.Error())
	}
	// Only a JSON frame is a sign of life; a ping is not (§3.10).
	s.extend()
	if bad, ok := errors.AsType[*protocol.OfferError](err); ok {
		s.refuse(ctx, bad)
	} else if err != nil {
		s.dropped(ctx, err)
	}
	return frame, nil
}

// dropped says that a frame was dropped, once for each reason: a studio that is
// newer than this worker may send many. Only the reader calls it.
func (s *Session) dropped(ctx context.Context, reason error) {
	const most = 64 // reasons
	text := reason.Error()
	level := slog.LevelDebug
	if !s.odd[text] && len(s.odd) < most {
		s.odd[text] = true
		level = slog.LevelWarn
	}
	s.cfg.Log.Log(ctx, level, "frame was dropped", "error", text)
}

func (s *Session) extend() {
	// A failure shows at the next read.
	_ = s.conn.SetReadDeadline(time.Now().Add(s.cfg.IdleLimit))
}

// refuse answers an offer that cannot be read. The specification leaves open
// whether a fail may come without an accept, so one goes before (§8.3).
func (s *Session) refuse(ctx context.Context, bad *protocol.OfferError) {
	s.cfg.Log.Warn("offer cannot be read", "job_id", bad.JobID, "error", bad.Err)
	if s.features.Load() == nil {
		return // before welcome nothing may be sent
	}
	for _, frame := range []protocol.WorkerFrame{
		protocol.Accept{JobID: bad.JobID},
		protocol.Fail{JobID: bad.JobID, Error: "this worker cannot read the offer: " + bad.Err.Error(), Retryable: false},
	} {
		if _, err := s.enqueue(ctx, frame); err != nil {
			s.cfg.Log.Error("answer was not sent", "job_id", bad.JobID, "type", frame.Type(), "error", err)
			return
		}
	}
}

// resume tells a studio that wants to know which jobs we still have (see
// protocol.FeatureResume). Nothing about them may go out before.
func (s *Session) resume(ctx context.Context) error {
	if !s.Has(protocol.FeatureResume) || !slices.Contains(s.named, protocol.FeatureResume) {
		return nil
	}
	if s.resumes = s.cfg.Jobs.Unfinished(); len(s.resumes) == 0 {
		return nil
	}
	return s.Send(ctx, protocol.Resume{JobIDs: s.resumes})
}

// resumed is the part of the studio's answer that we asked about.
func (s *Session) resumed(ids []string) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !slices.Contains(s.resumes, id) })
}

// task is what is to be done about a job, off the reader.
type task func(context.Context)

// read handles frames until the session ends. The parts that failed close done.
func (s *Session) read(ctx context.Context, done <-chan struct{}, tasks chan<- task) error {
	do := func(t task) {
		select {
		case tasks <- t:
		case <-done:
		}
	}
	for {
		frame, err := s.next(ctx)
		if err != nil {
			return err
		}
		switch f := frame.(type) {
		case protocol.Offer:
			s.cfg.Log.Info("offer received", "job_id", f.Claim.JobID, "game", f.Claim.GameID, "asset", f.Claim.AssetName,
				"model", f.Claim.Model, "vram", f.Claim.VRAMGBEstimate)
			do(func(ctx context.Context) { s.cfg.Jobs.Offer(ctx, f.Claim, s) })
		case protocol.Cancel:
			if !slices.Contains(s.named, protocol.FeatureCancel) {
				s.cfg.Log.Warn("frame was dropped, this worker did not name its feature", "type", f.Type(), "job_id", f.JobID)
				break
			}
			do(func(ctx context.Context) { s.cfg.Jobs.Revoke(ctx, f.JobID, f.Reason, s) })
		case protocol.Resumed:
			do(func(ctx context.Context) { s.cfg.Jobs.Resumed(ctx, s.resumed(f.Keep), s.resumed(f.Drop), s) })
		case protocol.HeartbeatAck:
			s.acknowledged()
		case protocol.CompleteAck:
			s.cfg.Log.Info("studio confirmed completion", "job_id", f.JobID)
			s.cfg.Jobs.Acknowledged(f.JobID)
		case protocol.FailAck:
			s.cfg.Log.Info("studio confirmed failure", "job_id", f.JobID)
		case protocol.Welcome:
			s.cfg.Log.Info("server welcomed", "worker_id", f.WorkerID, "server_time", f.ServerTime)
		case protocol.Error:
			return withoutToken(studioError(f), s.token)
		}
		select {
		case <-done: // this frame may have undone the deadline that should end us
			return context.Canceled
		default:
		}
	}
}

// answer does what frames ask for, one after the other, off the reader.
func (s *Session) answer(ctx context.Context, tasks <-chan task) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case t := <-tasks:
			t(ctx)
		}
	}
}

// Has says whether the studio named the feature.
func (s *Session) Has(feature string) bool {
	named := s.features.Load()
	return named != nil && slices.Contains(*named, feature)
}

// Send puts a frame on the wire and returns when it was written.
func (s *Session) Send(ctx context.Context, frame protocol.WorkerFrame) error {
	if err := s.send(ctx, frame); err != nil {
		return fmt.Errorf("send %s: %w", frame.Type(), err)
	}
	return nil
}

func (s *Session) send(ctx context.Context, frame protocol.WorkerFrame) error {
	out, err := s.enqueue(ctx, frame)
	if err != nil {
		return err
	}
	select {
	case err := <-out.done:
		return err
	case <-s.over:
		err = ErrOver
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if out.fate.CompareAndSwap(0, fateWithdrawn) {
		return err
	}
	// It is being written, or was: what the studio has read must not count as
	// unsaid. The write has a limit.
	return <-out.done
}

func (s *Session) enqueue(ctx context.Context, frame protocol.WorkerFrame) (*outFrame, error) {
	data, err := protocol.Encode(frame)
	if err != nil {
		return nil, err
	}
	if len(data) > protocol.MaxFrame {
		return nil, fmt.Errorf("%s of %d bytes is larger than a frame may be", frame.Type(), len(data))
	}
	out := &outFrame{data: data, done: make(chan error, 1)}
	select {
	case <-s.over:
		return nil, ErrOver
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case s.outbound <- out:
		return out, nil
	}
}

// write is the one place that writes data frames. It ends with the session.
func (s *Session) write() error {
	for {
		select {
		case <-s.over:
			return nil
		case f := <-s.outbound:
			if !f.fate.CompareAndSwap(0, fateTaken) {
				continue
			}
			err := s.conn.SetWriteDeadline(time.Now().Add(writeLimit))
			if err == nil {
				err = s.conn.WriteMessage(websocket.TextMessage, f.data)
			}
			f.done <- err
			if err != nil {
				// The connection is dead: end the reader, which ends the session,
				// but let it read a close frame that is here already.
				_ = s.conn.SetReadDeadline(time.Now().Add(lastRead))
				return fmt.Errorf("write: %w", err)
			}
		}
	}
}
