package sessiontest

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

// Echo starts a server that reads JSON messages and writes them back, and
// returns what sends it one and reads the answer: the least that a message over
// a socket can cost. It ends with the test.
func Echo(tb testing.TB) (roundTrip func(message any) error) {
	tb.Helper()
	var upgrader websocket.Upgrader
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return // the client went away
		}
		defer func() { _ = ws.Close() }() // the client ends it
		for {
			var message any
			if ws.ReadJSON(&message) != nil || ws.WriteJSON(message) != nil {
				return
			}
		}
	}))
	tb.Cleanup(server.Close)
	ws, answer, err := websocket.DefaultDialer.DialContext(tb.Context(), "ws"+strings.TrimPrefix(server.URL, "http"), nil)
	if err != nil {
		tb.Fatal(err)
	}
	_ = answer.Body.Close() // empty after an upgrade
	tb.Cleanup(func() { _ = ws.Close() })
	return func(message any) error {
		if err := ws.WriteJSON(message); err != nil {
			return err
		}
		var back any
		return ws.ReadJSON(&back)
	}
}
