package session

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"studioworker/worker/observe"
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

// TestEndsHaveAReason: what a session ended with is a sort that people know, and
// claims no more than was said.
func TestEndsHaveAReason(t *testing.T) {
	closed := func(code protocol.CloseCode, text string) error {
		return closeError(&websocket.CloseError{Code: int(code), Text: text})
	}
	page := &http.Response{StatusCode: http.StatusBadGateway, Body: io.NopCloser(strings.NewReader("no"))}
	for name, tc := range map[string]struct {
		err  error
		want observe.Why
	}{
		"goes away":              {closed(protocol.CloseGoingAway, ""), observe.Why{Reason: observe.ReasonLeft}},
		"goes away, with a word": {closed(protocol.CloseGoingAway, "maintenance"), observe.Why{Reason: observe.ReasonLeft, Said: "maintenance"}},
		"will be back":           {closed(protocol.CloseGoingAway, protocol.RestartReason(time.Second)), observe.Why{Reason: observe.ReasonRestarts}},
		"ends":                   {closed(protocol.CloseNormal, ""), observe.Why{Reason: observe.ReasonStudioSays}},
		"ends with too much":     {closed(protocol.CloseOverloaded, "later"), observe.Why{Reason: observe.ReasonStudioSays, Said: "later"}},
		"a code nobody knows":    {closed(4999, "so"), observe.Why{Reason: observe.ReasonStudioSays, Said: "so"}},
		"a violation":            {studioError(protocol.Error{Code: protocol.ErrorViolation, Message: "what"}), observe.Why{Reason: observe.ReasonViolation, Said: "what"}},
		"removed":                {studioError(protocol.Error{Code: protocol.ErrorDeleted, Message: "bye"}), observe.Why{Reason: observe.ReasonDeleted, Said: "bye"}},
		"no close frame":         {closed(websocket.CloseAbnormalClosure, io.ErrUnexpectedEOF.Error()), observe.Why{Reason: observe.ReasonCut}},
		"reset":                  {closeError(syscall.ECONNRESET), observe.Why{Reason: observe.ReasonCut}},
		"no sign of life":        {closeError(os.ErrDeadlineExceeded), observe.Why{Reason: observe.ReasonSilent}},
		"slept":                  {errSlept, observe.Why{Reason: observe.ReasonSlept}},
		"an upgrade refused":     {refusal(page), observe.Why{Reason: observe.ReasonStatus, Said: "502: no"}},
		"a token that is repeated": {
			withoutToken(studioError(protocol.Error{Code: protocol.ErrorAuthFailed, Message: "not tok-1"}), "tok-1"),
			observe.Why{Reason: observe.ReasonToken, Said: "not [redacted]"},
		},
	} {
		if got := observe.WhyOf(tc.err); got != tc.want {
			t.Errorf("%s: %v: got %+v, want %+v", name, tc.err, got, tc.want)
		}
	}
}
