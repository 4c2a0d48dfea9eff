package history

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"studioworker/worker/observe"
)

// Bounds of a line. What is outside them is refused when it is read, and cut when
// it is written.
const (
	maxLine = 256 << 10 // bytes; JSON spells a control character with six
	maxText = 4096      // bytes of an id, a model, a path or a reason
	maxTook = 366 * 24 * time.Hour
)

// version is the number of the form of a line.
const version = 1

// errLine says that a line is not what this program writes.
var errLine = errors.New("not a line of the history")

var (
	extPattern   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]{0,10}$`) })
	thumbPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([0-9a-f]{32}\.png)?$`) })
)

// record is one line: a finished job as it was known then. A later line about the
// same job replaces it.
type record struct {
	Version int       `json:"v"`
	ID      string    `json:"id"`
	Kind    string    `json:"kind"`
	Model   string    `json:"model,omitempty"`
	Prompt  string    `json:"prompt,omitempty"`
	Started time.Time `json:"started"` // UTC, in milliseconds
	Millis  int64     `json:"ms"`      // how long it took
	Outcome string    `json:"outcome"`
	Error   string    `json:"error,omitempty"`
	Class   string    `json:"class,omitempty"`
	Result  string    `json:"result,omitempty"` // path
	Ext     string    `json:"ext,omitempty"`
	Thumb   string    `json:"thumb,omitempty"` // name of a file in the folder of thumbnails
}

// recordOf is the line of a job, its texts cut to their bounds.
func recordOf(j observe.RecentJob) record {
	r := record{
		Version: version, ID: clip(j.ID, maxText), Kind: clip(j.Kind, maxText), Model: clip(j.Model, maxText),
		Prompt: clip(j.Prompt, observe.PromptBytes), Started: j.Started.UTC().Truncate(time.Millisecond),
		Millis: min(max(j.Duration, 0), maxTook).Milliseconds(), Outcome: string(j.Outcome), Error: clip(j.Error, maxText),
		Class: clip(j.Class, maxText), Ext: strings.ToLower(j.ResultExt),
	}
	if len(j.ResultPath) <= maxText { // half a path leads nowhere
		r.Result = j.ResultPath
	}
	if !extPattern().MatchString(r.Ext) {
		r.Ext = ""
	}
	return r
}

// clip cuts a text to at most limit bytes of valid text.
func clip(s string, limit int) string {
	s = strings.ToValidUTF8(s, "�")
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	return s
}

// check says which value is out of bounds.
func (r record) check() error {
	switch {
	case r.Version != version:
		return fmt.Errorf("%w: version %d, want %d", errLine, r.Version, version)
	case r.ID == "" || r.Kind == "":
		return fmt.Errorf("%w: id or kind is missing", errLine)
	case len(r.ID) > maxText || len(r.Kind) > maxText || len(r.Model) > maxText || len(r.Error) > maxText || len(r.Class) > maxText || len(r.Result) > maxText ||
		len(r.Prompt) > observe.PromptBytes:
		return fmt.Errorf("%w: a text is too long", errLine)
	case r.Started.Year() < 1 || r.Started.Year() > 9999:
		return fmt.Errorf("%w: year %d", errLine, r.Started.Year())
	case r.Millis < 0 || r.Millis > maxTook.Milliseconds():
		return fmt.Errorf("%w: it took %d ms", errLine, r.Millis)
	case !extPattern().MatchString(r.Ext) || !thumbPattern().MatchString(r.Thumb):
		return fmt.Errorf("%w: a name has other characters than we write", errLine)
	}
	switch observe.Outcome(r.Outcome) {
	case observe.OutcomeCompleted, observe.OutcomeKept, observe.OutcomeFailed, observe.OutcomeCancelled:
		return nil
	}
	return fmt.Errorf("%w: outcome %.40q", errLine, r.Outcome)
}

// encode writes the line, with its end.
func (r record) encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return nil, err
	}
	return line.Bytes(), nil
}

// decode reads a line without its end. Every error wraps errLine.
func decode(line []byte) (record, error) {
	if len(line) > maxLine {
		return record{}, fmt.Errorf("%w: %d bytes", errLine, len(line))
	}
	if !utf8.Valid(line) {
		return record{}, fmt.Errorf("%w: not text", errLine)
	}
	var r record
	if err := json.Unmarshal(line, &r); err != nil {
		return record{}, fmt.Errorf("%w: %w", errLine, err)
	}
	r.Started = r.Started.UTC().Truncate(time.Millisecond) // first: the year may change
	if err := r.check(); err != nil {
		return record{}, err
	}
	return r, nil
}

// same says whether a newer line is about the same run of a job.
func (r record) same(newer record) bool {
	return r.ID == newer.ID && r.Started.Equal(newer.Started)
}

// goesOn says whether a newer line tells how a job went on whose result waited for
// the studio.
func (r record) goesOn(newer record) bool {
	return r.ID == newer.ID && r.Outcome == string(observe.OutcomeKept) && newer.Started.After(r.Started)
}
