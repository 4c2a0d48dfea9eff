package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"studioworker/worker/observe"
	"studioworker/worker/oneline"
	"studioworker/worker/protocol"
)

// Credentials name the studio and prove who asks.
type Credentials struct {
	Base     protocol.Base
	WorkerID string
	Token    protocol.Secret
}

// dial opens the WebSocket (§3.1). Proxy, TLS and upgrade share one limit. date is
// what the answer said about the time, if there was one.
func dial(ctx context.Context, c Credentials, open func(context.Context, *url.URL) (net.Conn, error)) (conn *websocket.Conn, date time.Time, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, protocol.ConnectLimit,
		observe.Because(fmt.Errorf("no answer within %v", protocol.ConnectLimit), observe.ReasonTooLate, protocol.ConnectLimit.String()))
	defer cancel()
	dialer := websocket.Dialer{
		HandshakeTimeout: protocol.ConnectLimit,
		Subprotocols:     []string{protocol.Version},
		// Compression stays off: the read limit would count compressed bytes.
	}
	if open != nil {
		dialer.NetDialContext = func(ctx context.Context, _, address string) (net.Conn, error) {
			return open(ctx, &url.URL{Scheme: "http", Host: address})
		}
		dialer.NetDialTLSContext = func(ctx context.Context, _, address string) (net.Conn, error) {
			return open(ctx, &url.URL{Scheme: "https", Host: address})
		}
	}
	// gorilla hands out the start of a refusal's body, which needs no closing.
	conn, answer, err := dialer.DialContext(ctx, c.Base.ConnectURL(c.WorkerID), //nolint:bodyclose // see above
		http.Header{"Authorization": {"Bearer " + c.Token.Reveal()}})
	if answer != nil {
		if said, err := http.ParseTime(answer.Header.Get("Date")); err == nil {
			date = said
		}
	}
	if err == nil {
		conn.SetReadLimit(protocol.MaxFrame)
		return conn, date, nil
	}
	if answer != nil {
		return nil, date, withoutToken(refusal(answer), c.Token)
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return nil, date, fmt.Errorf("connect: %w", err)
}

// refusal is the error of an upgrade that was answered with something else.
func refusal(answer *http.Response) error {
	const shown = 300 // characters of the body
	body, err := io.ReadAll(io.LimitReader(answer.Body, utf8.UTFMax*(shown+1)))
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) { // gorilla keeps the first kilobyte only
		body = nil
	}
	if answer.StatusCode == http.StatusUnauthorized {
		return fmt.Errorf("%w: the studio does not accept this worker's token", ErrAuthFailed)
	}
	text := oneline.Of(string(body), shown)
	if text != "" {
		text = ": " + text
	}
	status := fmt.Sprintf("%d%s", answer.StatusCode, text)
	refused := observe.Because(fmt.Errorf("upgrade refused with status %s", status), observe.ReasonStatus, status)
	if answer.StatusCode == http.StatusServiceUnavailable || answer.StatusCode == http.StatusTooManyRequests {
		if after := protocol.RetryAfter(answer.Header, time.Now()); after > 0 {
			return &laterError{refused, min(after, maxLater), false}
		}
	}
	return refused
}
