package session

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"studioworker/worker/protocol"
)

// What a studio says of an end is shown to people: it is one line, however long
// the frame was.
func TestReasonsAreOneBoundedLine(t *testing.T) {
	said := "no\nmore\x1b[31m " + strings.Repeat("words ", 100_000)
	page := &http.Response{StatusCode: http.StatusBadGateway, Body: io.NopCloser(strings.NewReader(said))}
	for name, err := range map[string]error{
		"an error frame": studioError(protocol.Error{Code: protocol.ErrorDeleted, Message: said}),
		"a close frame":  closeError(&websocket.CloseError{Code: int(protocol.CloseDeleted), Text: said[:100]}),
		"an upgrade":     refusal(page),
	} {
		text := err.Error()
		if !strings.Contains(text, "no more [31m words") || strings.ContainsAny(text, "\n\x1b") || utf8.RuneCountInString(text) > 400 {
			t.Errorf("%s: %d bytes: %.80q", name, len(text), text)
		}
		if name != "an upgrade" && !errors.Is(err, ErrDeleted) {
			t.Errorf("%s: %v lost its class", name, err)
		}
	}
}
