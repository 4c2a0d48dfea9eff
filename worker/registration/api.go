package registration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"studioworker/worker/observe"
	"studioworker/worker/oneline"
	"studioworker/worker/protocol"
)

// statusError is an answer that is not a success (§2.2).
type statusError struct {
	operation string
	status    int
	body      string
}

func (e *statusError) Error() string {
	return e.operation + " failed with status " + e.said()
}

// said is what the other side said: the status and its text.
func (e *statusError) said() string {
	text := strconv.Itoa(e.status)
	if e.body != "" {
		text += ": " + e.body
	}
	return text
}

// call makes one HTTP call and returns the body of a success. It leaves one log
// record: debug on success, warn on failure. secret is what neither the record
// nor the error may repeat, should the answer hold it; it may be empty.
func call(ctx context.Context, client *http.Client, log *slog.Logger, operation, secret string, r *http.Request) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, protocol.RequestLimit,
		observe.Because(fmt.Errorf("no answer within %v", protocol.RequestLimit), observe.ReasonTooLate, protocol.RequestLimit.String()))
	defer cancel()
	start := time.Now()
	log = log.With("operation", operation, "endpoint", r.URL.Redacted())
	body, status, err := exchange(client, r.WithContext(ctx))
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // which says more than that the time was over
	}
	log = log.With("status", status, "elapsed_ms", time.Since(start).Milliseconds())
	if err == nil && (status < 200 || status > 299) {
		text := string(body)
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "[redacted]")
		}
		bad := &statusError{operation, status, clip(text)}
		err = observe.Because(bad, observe.ReasonStatus, bad.said())
	} else if err != nil {
		err = fmt.Errorf("%s failed: %w", operation, err)
	}
	if err != nil {
		log.Warn("studio call failed", "error", err)
		return nil, err
	}
	log.Debug("studio call")
	return body, nil
}

func exchange(client *http.Client, r *http.Request) (body []byte, status int, err error) {
	answer, err := client.Do(r)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = answer.Body.Close() }() // only read
	body, err = io.ReadAll(io.LimitReader(answer.Body, protocol.MaxErrorBody))
	return body, answer.StatusCode, err
}

// clip keeps the part of a text from the studio that helps a person, in one
// line.
func clip(text string) string {
	const shown = 300 // characters
	return oneline.Of(text, shown)
}

// maxID bounds an id or a token, in bytes. It goes into addresses, headers and
// the config.
const maxID = 4096

func checkID(field, value string) error {
	if len(value) > maxID {
		return fmt.Errorf("field %q: more than %d bytes", field, maxID)
	}
	return nil
}

// notStudio is the error of an answer that no studio gives.
func notStudio(err error) error {
	return observe.Because(fmt.Errorf("the answer is not from a studio: %w", err), observe.ReasonNoStudio, err.Error())
}

// submit asks the studio to let this worker in (§2.3).
func (r *Registrar) submit(ctx context.Context, base protocol.Base, body protocol.RegisterRequest) (string, error) {
	url, err := base.RegisterURL()
	if err != nil {
		return "", observe.Because(err, observe.ReasonAddress, err.Error())
	}
	data, err := json.Marshal(body)
	if err != nil {
		return "", fmt.Errorf("encode the request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(data))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", r.cfg.UserAgent)
	answer, err := call(ctx, r.cfg.HTTP, r.cfg.Log, "register-request", "", req)
	if err != nil {
		return "", err
	}
	response, err := protocol.DecodeRegisterResponse(answer)
	if err == nil {
		err = checkID("requestId", response.RequestID)
	}
	if err != nil {
		return "", notStudio(err)
	}
	return response.RequestID, nil
}

// poll asks how the request stands (§2.4).
func (r *Registrar) poll(ctx context.Context, base protocol.Base, requestID, secret string) (protocol.PollResponse, error) {
	url, err := base.PollURL(requestID)
	if err != nil {
		return protocol.PollResponse{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return protocol.PollResponse{}, err
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	req.Header.Set("User-Agent", r.cfg.UserAgent)
	answer, err := call(ctx, r.cfg.HTTP, r.cfg.Log, "register-poll", secret, req)
	if err != nil {
		return protocol.PollResponse{}, err
	}
	response, err := protocol.DecodePollResponse(answer)
	if err == nil {
		err = errors.Join(checkID("workerId", response.WorkerID), checkID("authToken", response.AuthToken))
	}
	if err != nil {
		return protocol.PollResponse{}, notStudio(err)
	}
	response.Reason = clip(response.Reason)
	return response, nil
}
