package protocol

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// The functions of this file take apart what encoding/json has found valid, so
// that a value is looked at once for each level it lies in and not twice. Text
// that is not valid gives any answer, or false, and never more than that text.

// mostFields is about how many members the largest object of the protocol has.
const mostFields = 32

// split reads the members of an object. It is false for anything else.
func (f *fields) split(data []byte) bool {
	rest, ok := bytes.CutPrefix(bytes.TrimSpace(data), []byte("{"))
	if !ok {
		return false
	}
	f.members = make([]member, 0, min(bytes.Count(rest, []byte(":")), mostFields))
	for rest = bytes.TrimSpace(rest); len(rest) > 0 && rest[0] == '"'; {
		var raw []byte
		raw, rest = cut(rest)
		key, ok := unquoted(raw)
		if !ok {
			var text string
			if json.Unmarshal(raw, &text) != nil {
				return false
			}
			key = []byte(text)
		}
		if rest, ok = bytes.CutPrefix(bytes.TrimSpace(rest), []byte(":")); !ok {
			return false
		}
		raw, rest = cut(bytes.TrimSpace(rest))
		f.members = append(f.members, member{key, raw})
		rest = bytes.TrimSpace(rest)
		if after, more := bytes.CutPrefix(rest, []byte(",")); more {
			rest = bytes.TrimSpace(after)
		}
	}
	return string(rest) == "}"
}

// split returns the items of a list. It is false for anything else.
func split(data []byte) (items []json.RawMessage, ok bool) {
	rest, ok := bytes.CutPrefix(bytes.TrimSpace(data), []byte("["))
	if !ok {
		return nil, false
	}
	for rest = bytes.TrimSpace(rest); len(rest) > 0 && rest[0] != ']'; {
		var raw []byte
		if raw, rest = cut(rest); len(raw) == 0 {
			return nil, false
		}
		items = append(items, raw)
		rest = bytes.TrimSpace(rest)
		if after, more := bytes.CutPrefix(rest, []byte(",")); more {
			rest = bytes.TrimSpace(after)
		}
	}
	return items, string(rest) == "]"
}

// cut parts data after its first value.
func cut(data []byte) (value, rest []byte) {
	end, depth := 0, 0
	for end < len(data) {
		switch c := data[end]; c {
		case '"':
			end = quoted(data, end)
		case '{', '[':
			depth++
			end++
		case '}', ']':
			if depth == 0 {
				return data[:end], data[end:]
			}
			depth--
			end++
		case ',', ':', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return data[:end], data[end:]
			}
			end++
			continue // a value does not end between its parts
		default:
			end++
			continue // a number or a name goes on
		}
		if depth == 0 {
			break
		}
	}
	return data[:end], data[end:]
}

// quoted returns where the string that begins at start has ended.
func quoted(data []byte, start int) int {
	for i := start + 1; i < len(data); i++ {
		n := bytes.IndexByte(data[i:], '"')
		if n < 0 {
			break
		}
		i += n
		slashes := 0
		for data[i-1-slashes] == '\\' {
			slashes++ // ends at the quote that opened the string
		}
		if slashes%2 == 0 {
			return i + 1
		}
	}
	return len(data)
}

// plain returns what a string without escapes says. It is false for all else.
func plain(raw []byte) (string, bool) {
	text, ok := unquoted(raw)
	return string(text), ok
}

// unquoted is plain without a copy.
func unquoted(raw []byte) ([]byte, bool) {
	if len(raw) < 2 || raw[0] != '"' || raw[len(raw)-1] != '"' {
		return nil, false
	}
	text := raw[1 : len(raw)-1]
	if bytes.IndexByte(text, '\\') >= 0 || !utf8.Valid(text) {
		return nil, false
	}
	return text, true
}
