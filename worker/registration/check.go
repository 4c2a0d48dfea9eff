package registration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"studioworker/worker/observe"
	"studioworker/worker/protocol"
)

// checkLimit bounds Check: a person waits for it.
const checkLimit = 15 * time.Second

// Check asks whether a studio answers at address. It asks after a request that
// does not exist, so that nothing is left at the studio. Its errors are
// [observe.StudioError], or ctx's.
func Check(ctx context.Context, client *http.Client, userAgent, address string) error {
	bad := func(problem observe.StudioProblem, detail string) error {
		return &observe.StudioError{Problem: problem, Address: address, Detail: detail}
	}
	base, err := protocol.ParseBase(address)
	if err != nil {
		return bad(observe.StudioBadAddress, err.Error())
	}
	poll, err := base.PollURL("address-check")
	if err != nil {
		return bad(observe.StudioBadAddress, err.Error())
	}
	register, err := base.RegisterURL()
	if err != nil {
		return bad(observe.StudioBadAddress, err.Error())
	}
	limited, cancel := context.WithTimeoutCause(ctx, checkLimit, fmt.Errorf("no answer within %v", checkLimit))
	defer cancel()
	ask := func(method, target, body string) (string, int, error) {
		r, err := http.NewRequestWithContext(limited, method, target, strings.NewReader(body))
		if err != nil {
			return "", 0, err
		}
		r.Header.Set("User-Agent", userAgent)
		r.Header.Set("Content-Type", "application/json")
		answer, status, err := exchange(client, r)
		if err != nil && limited.Err() != nil {
			err = context.Cause(limited)
		}
		return string(answer), status, err
	}
	body, status, err := ask(http.MethodGet, poll, "")
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return bad(observe.StudioUnreachable, reason(err))
	case status >= http.StatusInternalServerError:
		return bad(observe.StudioInTrouble, fmt.Sprintf("status %d", status))
	case isObject(body): // a studio answers in JSON, whatever it thinks of the request
		return nil
	}
	// It may be a studio that says no in plain words. One that has the route takes
	// offence at an empty request; a stranger has no such route.
	if _, status, err = ask(http.MethodPost, register, "{}"); err == nil {
		switch status {
		case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusTooManyRequests:
			return nil
		}
	}
	return bad(observe.StudioNoStudio, "")
}

func isObject(body string) bool {
	var object map[string]any
	return json.Unmarshal([]byte(body), &object) == nil && object != nil
}

// reason is an error of a call without the call.
func reason(err error) string {
	if call, ok := errors.AsType[*url.Error](err); ok {
		err = call.Err
	}
	return err.Error()
}
