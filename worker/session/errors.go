package session

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"studioworker/worker/observe"
	"studioworker/worker/oneline"
	"studioworker/worker/protocol"
)

// Why a session ended. Everything else is a disconnect, after which the worker
// tries again.
var (
	ErrAuthFailed = observe.Because(errors.New("auth failed"), observe.ReasonToken, "")
	ErrDuplicate  = observe.Because(errors.New("another computer uses this worker's identity"), observe.ReasonDuplicate, "")
	ErrDeleted    = observe.Because(errors.New("the operator removed this worker"), observe.ReasonDeleted, "")
	// ErrOver is the error of sending on a session that has ended.
	ErrOver = observe.Because(errors.New("the session is over"), observe.ReasonCut, "")
	// ErrViolation: one side sent what the protocol does not allow.
	ErrViolation = observe.Because(errors.New("protocol violation"), observe.ReasonViolation, "")
	errClosed    = observe.Because(errors.New("connection closed"), observe.ReasonCut, "")
	errSilent    = observe.Because(errors.New("the studio gave no sign of life in time"), observe.ReasonSilent, "")
	// errSlept: the connection is from before, and the studio has let go of it.
	errSlept = observe.Because(errors.New("this computer slept"), observe.ReasonSlept, "")
)

// laterError is an end after which the studio said when to come back. One that
// restarts has spread its workers already; one that sheds load says the same to
// all of them.
type laterError struct {
	error
	after  time.Duration
	spread bool
}

func (e *laterError) Unwrap() error { return e.error }

// wait is how long to stay away.
func (e *laterError) wait() time.Duration {
	if e.spread || e.after <= 0 {
		return max(e.after, 1)
	}
	return e.after + rand.N(e.after/laterSpread+1) // #nosec G404 -- spreading load needs no secret
}

// quietError is an error whose text repeated the token.
type quietError struct {
	error
	text string
}

func (e *quietError) Error() string { return e.text }

func (e *quietError) Unwrap() error { return e.error }

// withoutToken hides the token in what a studio said. A studio has no reason to
// repeat it, but a proxy's error page may.
func withoutToken(err error, token protocol.Secret) error {
	if err == nil || token == "" || !strings.Contains(err.Error(), token.Reveal()) {
		return err
	}
	hide := func(text string) string { return strings.ReplaceAll(text, token.Reveal(), token.String()) }
	why := observe.WhyOf(err)
	why.Said, why.More = hide(why.Said), hide(why.More)
	return observe.Explained(&quietError{err, hide(err.Error())}, why)
}

// studioError turns an error frame into why the session ended (§3.7).
func studioError(e protocol.Error) error {
	const shown = 300 // characters: the message is as long as the studio likes
	e.Message = oneline.Of(e.Message, shown)
	switch e.Code {
	case protocol.ErrorAuthFailed:
		return told(ErrAuthFailed, e.Message)
	case protocol.ErrorDuplicate:
		return told(ErrDuplicate, e.Message)
	case protocol.ErrorDeleted:
		return told(ErrDeleted, e.Message)
	case protocol.ErrorViolation:
		return observe.Because(fmt.Errorf("%w: the studio says: %s", ErrViolation, e.Message), observe.ReasonViolation, e.Message)
	case protocol.ErrorInternal: // the studio's fault: it will be back
	}
	return observe.Because(fmt.Errorf("the studio says: %s", e.Message), observe.ReasonStudioSays, e.Message)
}

// closeError turns what ended the reading into why the session ended (§3.7). A
// bare 4003 or 4004 is as terminal as its error frame: two computers with one
// identity would take the place from each other for ever.
func closeError(err error) error {
	closed, ok := errors.AsType[*websocket.CloseError](err)
	if !ok {
		if late, isNet := errors.AsType[net.Error](err); isNet && late.Timeout() {
			return errSilent
		}
		if errors.Is(err, errReset) { // closed as well, before all of ours was read
			return fmt.Errorf("%w: %w", errClosed, err)
		}
		return fmt.Errorf("read: %w", err)
	}
	if closed.Code == websocket.CloseAbnormalClosure { // the library's word for no close frame
		return fmt.Errorf("%w: %s", errClosed, closed.Text)
	}
	var class error
	switch protocol.CloseCode(closed.Code) {
	case protocol.CloseAuthFailed:
		class = ErrAuthFailed
	case protocol.CloseDuplicate:
		class = ErrDuplicate
	case protocol.CloseDeleted:
		class = ErrDeleted
	case protocol.CloseViolation:
		class = ErrViolation
	case protocol.CloseGoingAway:
		if after, ok := protocol.ReconnectAfter(closed.Text); ok {
			text := fmt.Errorf("%w: the studio restarts and expects this worker in %.1f s", errClosed, after.Seconds())
			return &laterError{observe.Because(text, observe.ReasonRestarts, ""), after, true}
		}
		class = observe.Because(errClosed, observe.ReasonLeft, "")
	case protocol.CloseNormal, protocol.CloseTooBig, protocol.CloseOverloaded, protocol.CloseUnsupported:
		class = observe.Because(errClosed, observe.ReasonStudioSays, "")
	default:
		class = observe.Because(errClosed, observe.ReasonStudioSays, "")
	}
	return told(class, oneline.Of(closed.Text, len(closed.Text)))
}

// told is why a session ended with what was heard of it, if anything.
func told(class error, said string) error {
	if said == "" {
		return class
	}
	return observe.Because(fmt.Errorf("%w: %s", class, said), observe.WhyOf(class).Reason, said)
}
