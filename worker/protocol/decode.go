package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Errors of the decoders. Callers ask with errors.Is.
var (
	// ErrNotJSON: the text is not JSON. Such a frame may end the session (§3.2).
	ErrNotJSON = errors.New("not JSON")
	// ErrFrame: the text is JSON but not a frame of the protocol. It costs only
	// itself.
	ErrFrame = errors.New("not a frame of the protocol")
)

// OfferError is an offer that cannot be read although its job id can. It can be
// answered (§8.3).
type OfferError struct {
	JobID string
	Err   error
}

func (e *OfferError) Error() string { return fmt.Sprintf("offer of job %q: %v", e.JobID, e.Err) }

// Unwrap returns why the offer cannot be read.
func (e *OfferError) Unwrap() error { return e.Err }

// fields reads the members of one JSON object. The first failure sticks and is
// in err; later reads return zero values.
type fields struct {
	members []member
	err     error
}

// member is one key of an object with its value, as it was written.
type member struct {
	key []byte // what it says
	raw json.RawMessage
}

// get returns the value of a key; of several the last one counts, as in
// encoding/json.
func (f *fields) get(key string) (json.RawMessage, bool) {
	for _, m := range slices.Backward(f.members) {
		if string(m.key) == key {
			return m.raw, true
		}
	}
	return nil, false
}

func object(data []byte) *fields {
	var f fields
	switch {
	case isNull(data):
		f.err = errors.New("null instead of an object")
	case !f.split(data):
		f.err = errors.New("not an object")
	}
	return &f
}

func (f *fields) fail(key string, err error) {
	if f.err == nil {
		f.err = fmt.Errorf("field %q: %w", key, err)
	}
}

// required reads a field that must be there and not null.
func required[T any](f *fields, key string) T {
	var v T
	raw, ok := f.get(key)
	switch {
	case f.err != nil:
	case !ok:
		f.err = fmt.Errorf("field %q is missing", key)
	default:
		if err := value(raw, &v); err != nil {
			f.fail(key, err)
		}
	}
	return v
}

// optional reads a field that may be absent or null.
func optional[T any](f *fields, key string) *T {
	raw, ok := f.get(key)
	if f.err != nil || !ok || isNull(raw) {
		return nil
	}
	v := required[T](f, key)
	if f.err != nil {
		return nil
	}
	return &v
}

// orDefault reads a field that may be absent but not null.
func orDefault[T any](f *fields, key string, absent T) T {
	if _, ok := f.get(key); f.err != nil || !ok {
		return absent
	}
	return required[T](f, key)
}

// value decodes one value. encoding/json lets null stand for anything, in lists
// and maps too; the protocol does not.
func value[T any](raw json.RawMessage, v *T) error {
	if isNull(raw) {
		return errors.New("null is not allowed")
	}
	switch to := any(v).(type) {
	case *[]string:
		return list(raw, to)
	case *map[string][]string:
		return table(raw, to)
	case *string:
		if text, ok := plain(raw); ok {
			*to = text
			return nil
		}
	case *bool:
		if text := string(raw); text == "true" || text == "false" {
			*to = text == "true"
			return nil
		}
	case *float64: // what else ParseFloat reads is no JSON
		if n, err := strconv.ParseFloat(string(raw), 64); err == nil {
			*to = n
			return nil
		}
	case json.Unmarshaler: // raw is valid already
		return to.UnmarshalJSON(raw)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		if kind, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return fmt.Errorf("%s does not fit", kind.Value)
		}
		return err
	}
	return nil
}

func list[T any](raw json.RawMessage, to *[]T) error {
	items, ok := split(raw)
	if !ok {
		return errors.New("not a list")
	}
	*to = make([]T, len(items))
	for i, item := range items {
		if err := value(item, &(*to)[i]); err != nil {
			return fmt.Errorf("item %d: %w", i, err)
		}
	}
	return nil
}

func table[T any](raw json.RawMessage, to *map[string]T) error {
	var f fields
	if !f.split(raw) {
		return errors.New("not an object")
	}
	items := make(map[string]json.RawMessage, len(f.members)) // of several with one key the last one counts
	for _, m := range f.members {
		items[string(m.key)] = m.raw
	}
	*to = make(map[string]T, len(items))
	for key, item := range items {
		var v T
		if err := value(item, &v); err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
		(*to)[key] = v
	}
	return nil
}

func isNull(raw json.RawMessage) bool { return string(bytes.TrimSpace(raw)) == "null" }

// check refuses text that is not JSON or that nests too deep.
func check(data []byte) error {
	depth, inString, escaped := 0, false, false
	for _, c := range data {
		switch {
		case escaped:
			escaped = false
		case inString:
			escaped, inString = c == '\\', c != '"'
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return fmt.Errorf("%w: more than %d levels of nesting", ErrFrame, MaxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	if !json.Valid(data) {
		return ErrNotJSON
	}
	return nil
}

// frame opens a frame: its type and its fields.
func frame(data []byte) (string, *fields, error) {
	if err := check(data); err != nil {
		return "", nil, err
	}
	f := object(data)
	kind := required[string](f, "type")
	if f.err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrFrame, f.err)
	}
	return kind, f, nil
}

// body opens an HTTP body.
func body(data []byte) (*fields, error) {
	if err := check(data); err != nil {
		return nil, err
	}
	f := object(data)
	return f, f.err
}
