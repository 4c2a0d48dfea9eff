package session

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"studioworker/worker/observe"
	"studioworker/worker/protocol"
	"studioworker/worker/session/sessiontest"
)

// TestConformance prints behaviours of the specification's §13 by their number.
func TestConformance(t *testing.T) {
	t.Run("#39 a normal close, and one without a code", func(t *testing.T) {
		for _, end := range []error{&websocket.CloseError{Code: 1000}, &websocket.CloseError{Code: websocket.CloseNoStatusReceived}} {
			if err := closeError(end); err.Error() != "connection closed" {
				t.Errorf("%v is %q", end, err)
			}
		}
	})
	t.Run("#42 a ping is swallowed", func(t *testing.T) {
		f := setup(t)
		f.start(t)
		c := f.studio.Welcome(t)
		for range 3 {
			if err := c.WS.WriteControl(websocket.PingMessage, []byte("there?"), time.Now().Add(sessiontest.Patience)); err != nil {
				t.Fatal(err)
			}
		}
		c.Send(t, offer("after"))
		sessiontest.Await(t, c, func(a protocol.Accept) bool { return a.JobID == "after" })
	})
	t.Run("#44 one close frame, with its code", oneClose)
	t.Run("#46 a failed send names the frame", func(t *testing.T) {
		s := ended(setup(t))
		if err := s.Send(t.Context(), protocol.Reject{JobID: "j"}); err == nil || !strings.HasPrefix(err.Error(), "send reject: ") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("#61 the whole cause is in the line", func(t *testing.T) {
		f := setup(t)
		var tries atomic.Int32
		f.studio.Upgrade = func(w http.ResponseWriter, _ *http.Request) bool {
			if tries.Add(1) > 1 {
				return true
			}
			http.Error(w, "reference 7f3a", http.StatusServiceUnavailable)
			return false
		}
		l := f.start(t)
		f.state(t, observe.SessionReconnecting)
		l.Kick()
		f.studio.Welcome(t)
		want := `msg="session error, will reconnect" error="upgrade refused with status 503: reference 7f3a" attempt=1`
		if !strings.Contains(f.text.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, f.text)
		}
	})
	t.Run("#64 the last heartbeat", func(t *testing.T) {
		f := setup(t)
		f.start(t)
		sessiontest.Await[protocol.Heartbeat](t, f.studio.Welcome(t), nil)
		ctx, cancel := context.WithTimeout(t.Context(), sessiontest.Patience)
		defer cancel()
		for beat := range f.seen.Heartbeat.Watch(ctx) {
			if beat.At.IsZero() {
				continue // none was acknowledged yet
			}
			if beat.Err != "" || time.Since(beat.At) > sessiontest.Patience || beat.RoundTrip <= 0 {
				t.Errorf("after the ack: %+v", beat)
			}
			break
		}
		other := setup(t)
		if _, err := ended(other).beat(t.Context()); err == nil {
			t.Error("a heartbeat went out after the end")
		}
		if beat := other.seen.Heartbeat.Get(); beat.At.IsZero() || !strings.Contains(beat.Err, ErrOver.Error()) {
			t.Errorf("after the failed send: %+v", beat)
		}
	})
	t.Run("#136 a threshold above the memory there is", func(t *testing.T) {
		for total, warned := range map[float64]bool{8: true, 24: false, 12: false, 0: false} {
			f := setup(t)
			ended(f).banner(protocol.Capabilities{VRAMTotalGB: total, VRAMThresholdGB: 12})
			want := fmt.Sprintf("vram_threshold_gb=12.0 vram_total_gb=%.1f", total)
			if got := strings.Contains(f.text.String(), want); got != warned || strings.Contains(f.text.String(), "level=WARN") != warned {
				t.Errorf("12 on %v: %s", total, f.text)
			}
		}
	})
}

// ended is a session on which nothing can be sent any more.
func ended(f *fixture) *Session {
	s := newSession(f.cfg.Session, nil)
	close(s.over)
	return s
}

// oneClose: the worker's end of an orderly session is one close frame of code
// 1000, and the last thing it sends.
func oneClose(t *testing.T) {
	f := setup(t)
	closes := make(chan string, 4)
	done := f.bare(t, func(ws *websocket.Conn) error {
		ws.SetCloseHandler(func(code int, reason string) error {
			closes <- fmt.Sprint(code, " ", reason)
			return nil // so that the reader goes on to look for more
		})
		err := drain(ws)
		rest := make([]byte, 1)
		if n, restErr := ws.NetConn().Read(rest); n > 0 || restErr == nil {
			err = fmt.Errorf("%d bytes came after the close", n)
		}
		return err
	})
	f.start(t)
	f.state(t, observe.SessionConnected)
	f.stop()
	if err := <-done; !websocket.IsCloseError(err, 1000) {
		t.Errorf("the session ended with %v", err)
	}
	if got := <-closes; got != "1000 session ended" || len(closes) > 0 {
		t.Errorf("closed with %q and %d more", got, len(closes))
	}
}

// drain reads until the session ends and returns why.
func drain(ws *websocket.Conn) error {
	for {
		if _, _, err := ws.ReadMessage(); err != nil {
			return err
		}
	}
}

// bare gives the loop a studio that welcomes its first session and leaves the
// rest to serve, whose error it hands out. Every later session is refused.
func (f *fixture) bare(t *testing.T, serve func(*websocket.Conn) error) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	var first atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if first.Swap(true) {
			http.Error(w, "enough", http.StatusServiceUnavailable)
			return
		}
		upgrader := websocket.Upgrader{Subprotocols: []string{protocol.Version}}
		ws, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			done <- err
			return
		}
		defer func() { _ = ws.Close() }() // the worker may have closed it
		welcome, err := protocol.Encode(protocol.Welcome{WorkerID: "wk-20", ServerTime: "now"})
		if err == nil {
			_, _, err = ws.ReadMessage()
		}
		if err == nil {
			err = ws.WriteMessage(websocket.TextMessage, welcome)
		}
		if err == nil {
			err = serve(ws)
		}
		done <- err
	}))
	t.Cleanup(server.Close)
	base, err := protocol.ParseBase(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	f.cfg.Credentials = func() (Credentials, error) { return Credentials{Base: base, WorkerID: "w", Token: "t"}, nil }
	return done
}
