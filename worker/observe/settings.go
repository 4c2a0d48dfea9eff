package observe

// ConfigKey is a key of the config that a person may set, with its value now. Its
// fields are those of config.Descriptor. It never holds a secret.
type ConfigKey struct {
	Name     string
	Kind     string  // "text", "path", "number", "whole number", "true or false", "list of texts"
	Unit     string  // of a number; empty = none
	Min, Max float64 // of a number; Max 0 = no bound
	Default  string  // in words
	Meaning  string
	Restart  bool   // a change waits for the next start
	Value    string // a list has one entry a line; empty = absent
}

// StudioProblem says why an address cannot be joined.
type StudioProblem string

// The problems of an address.
const (
	StudioBadAddress  StudioProblem = "bad_address" // not a web address, or of another kind
	StudioUnreachable StudioProblem = "unreachable" // nobody answers there
	StudioNoStudio    StudioProblem = "no_studio"   // somebody answers who is no studio
	StudioInTrouble   StudioProblem = "in_trouble"  // a server that fails at the moment
)

// StudioError says why the studio at an address cannot be joined. Nothing was
// saved.
type StudioError struct {
	Problem StudioProblem
	Address string
	Detail  string // what was heard, for people; may be empty
}

// Error says it in English.
func (e *StudioError) Error() string {
	switch e.Problem {
	case StudioBadAddress:
		return e.Address + " is not the address of a studio" + after(e.Detail)
	case StudioUnreachable:
		return "nobody answers at " + e.Address + after(e.Detail)
	case StudioNoStudio:
		return "a server answers at " + e.Address + ", but it is not a studio" + after(e.Detail)
	case StudioInTrouble:
		return "the server at " + e.Address + " is in trouble, try again later" + after(e.Detail)
	}
	return e.Address + " cannot be joined" + after(e.Detail)
}
