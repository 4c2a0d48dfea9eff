package registration

import (
	"errors"
	"fmt"

	"studioworker/worker/observe"
)

// event is what happened to a registration.
type event string

const (
	submitted event = "submitted" // the studio has the request
	granted   event = "granted"
	refused   event = "refused"
	forgotten event = "forgotten" // the studio does not know the request
)

var errTransition = errors.New("no such step of a registration")

// next is the table of §6.1.
func next(s observe.RegistrationState, e event) (observe.RegistrationState, error) {
	type step struct {
		from observe.RegistrationState
		on   event
	}
	to, ok := map[step]observe.RegistrationState{
		{observe.RegistrationPristine, submitted}: observe.RegistrationPending,
		{observe.RegistrationPending, granted}:    observe.RegistrationApproved,
		{observe.RegistrationPending, refused}:    observe.RegistrationRejected,
		{observe.RegistrationPending, forgotten}:  observe.RegistrationPristine,
	}[step{s, e}]
	if !ok {
		return s, fmt.Errorf("%w: %q in state %q", errTransition, e, s)
	}
	return to, nil
}
