// Package sessiontest is a studio for tests: it speaks the wire over a real
// socket and does what the test says, nothing on its own but acknowledging
// heartbeats.
package sessiontest

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"studioworker/worker/protocol"
)

// Patience is how long a test waits for what must come.
const Patience = 20 * time.Second

// Studio accepts the sessions of workers.
type Studio struct {
	Server *httptest.Server
	// Upgrade decides about an upgrade before it happens; nil accepts all. It
	// returns false when it has answered.
	Upgrade func(w http.ResponseWriter, r *http.Request) bool
	// HTTP serves everything that is no upgrade; nil answers 404.
	HTTP http.Handler

	conns chan *Conn
	wg    sync.WaitGroup
}

// New starts a studio that ends with the test.
func New(tb testing.TB) *Studio {
	tb.Helper()
	s := &Studio{conns: make(chan *Conn, 16)}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	tb.Cleanup(func() {
		s.Server.Close()
		s.wg.Wait()
	})
	return s
}

// Base returns the studio's address.
func (s *Studio) Base(tb testing.TB) protocol.Base {
	tb.Helper()
	base, err := protocol.ParseBase(s.Server.URL)
	if err != nil {
		tb.Fatal(err)
	}
	return base
}

func (s *Studio) serve(w http.ResponseWriter, r *http.Request) {
	if !strings.HasSuffix(r.URL.Path, "/connect") {
		if s.HTTP == nil {
			http.NotFound(w, r)
			return
		}
		s.HTTP.ServeHTTP(w, r)
		return
	}
	if s.Upgrade != nil && !s.Upgrade(w, r) {
		return
	}
	upgrader := websocket.Upgrader{Subprotocols: []string{protocol.Version}}
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // the worker went away
	}
	c := &Conn{WS: ws, Request: r, frames: make(chan protocol.WorkerFrame, 1024), acks: true}
	s.wg.Go(c.read)
	s.conns <- c
}

// Conn is the studio's end of one session.
type Conn struct {
	WS      *websocket.Conn
	Request *http.Request

	frames chan protocol.WorkerFrame

	mu   sync.Mutex
	acks bool
	deaf bool // to log lines
}

// Accept waits for the next session.
func (s *Studio) Accept(tb testing.TB) *Conn {
	tb.Helper()
	select {
	case c := <-s.conns:
		tb.Cleanup(func() { _ = c.WS.Close() }) // mostly closed already
		return c
	case <-time.After(Patience):
		tb.Fatal("no worker connected")
		return nil
	}
}

// Welcome waits for the next session, reads its hello and lets it in.
func (s *Studio) Welcome(tb testing.TB, features ...string) *Conn {
	tb.Helper()
	c := s.Accept(tb)
	if _, ok := c.Next(tb).(protocol.Hello); !ok {
		tb.Fatal("the first frame is no hello")
	}
	c.Send(tb, protocol.Welcome{WorkerID: "wk-20", ServerTime: "now", Features: features})
	return c
}

// Silence stops acknowledging heartbeats.
func (c *Conn) Silence() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acks = false
}

// IgnoreLogs lets log batches pass unread, for benchmarks: to decode hundreds of
// lines takes this side longer than what is measured.
func (c *Conn) IgnoreLogs() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deaf = true
}

// ignores says whether a frame is to pass unread.
func (c *Conn) ignores(frame []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.deaf && bytes.HasPrefix(frame, []byte(`{"type":"`+protocol.LogBatch{}.Type()+`"`))
}

func (c *Conn) read() {
	defer close(c.frames)
	for {
		_, data, err := c.WS.ReadMessage()
		if err != nil {
			return
		}
		if c.ignores(data) {
			continue
		}
		frame, err := protocol.DecodeWorkerFrame(data)
		if err != nil {
			return // Next reports the end
		}
		if _, ok := frame.(protocol.Heartbeat); ok {
			c.mu.Lock()
			if c.acks {
				_ = c.write(protocol.HeartbeatAck{}) // a lost connection shows at the next read
			}
			c.mu.Unlock()
		}
		select {
		case c.frames <- frame:
		default: // nobody reads any more
		}
	}
}

func (c *Conn) write(f protocol.StudioFrame) error {
	data, err := protocol.Encode(f)
	if err != nil {
		return err
	}
	return c.WS.WriteMessage(websocket.TextMessage, data)
}

// Send sends a frame.
func (c *Conn) Send(tb testing.TB, f protocol.StudioFrame) {
	tb.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.write(f); err != nil {
		tb.Fatalf("send %s: %v", f.Type(), err)
	}
}

// SendText sends a text that need not be a frame.
func (c *Conn) SendText(tb testing.TB, text string) {
	tb.Helper()
	c.SendRaw(tb, websocket.TextMessage, text)
}

// SendRaw sends a message as it is.
func (c *Conn) SendRaw(tb testing.TB, kind int, data string) {
	tb.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.WS.WriteMessage(kind, []byte(data)); err != nil {
		tb.Fatalf("send: %v", err)
	}
}

// Close closes the session with a code.
func (c *Conn) Close(tb testing.TB, code protocol.CloseCode, reason string) {
	tb.Helper()
	text := websocket.FormatCloseMessage(int(code), reason)
	if err := c.WS.WriteControl(websocket.CloseMessage, text, time.Now().Add(Patience)); err != nil {
		tb.Fatalf("close: %v", err)
	}
}

// Next waits for the next frame; nil means that the session has ended.
func (c *Conn) Next(tb testing.TB) protocol.WorkerFrame {
	tb.Helper()
	select {
	case f := <-c.frames:
		return f
	case <-time.After(Patience):
		tb.Fatal("no frame came")
		return nil
	}
}

// Await reads frames until one is of type F and fits, and returns it.
func Await[F protocol.WorkerFrame](tb testing.TB, c *Conn, fits func(F) bool) F {
	tb.Helper()
	for start := time.Now(); ; { // heartbeats come for ever: the whole wait is bounded
		var none F
		if time.Since(start) > Patience {
			tb.Fatalf("no such %s came", none.Type())
		}
		frame := c.Next(tb)
		if frame == nil {
			tb.Fatalf("the session ended before a %s came", none.Type())
		}
		if f, ok := frame.(F); ok && (fits == nil || fits(f)) {
			return f
		}
	}
}
