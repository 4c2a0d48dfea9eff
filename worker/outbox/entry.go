package outbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"sync"
	"time"
	"unicode/utf8"

	"studioworker/worker/observe"
)

// Bounds of an entry. What is outside them is refused at the commit and taken
// for damage at the start.
const (
	maxText     = 4096     // bytes of an id, a model, an address or a reason
	maxPrompt   = 16 << 20 // bytes; an offer's frame is no larger (protocol spec §3.11)
	maxAttempt  = 1_000_000_000
	maxResult   = 1 << 40                         // bytes of a result
	maxShort    = 16 << 10                        // bytes of a result that lies in its manifest
	maxManifest = 6*(maxPrompt+maxShort) + 64<<10 // bytes; JSON spells a control character with six
)

// Names in the folder of an entry. A short result has no folder.
const (
	resultFile   = "result.bin"
	manifestFile = "manifest"
)

// jsonExt is the format of the results that go to the studio as a frame.
const jsonExt = "json"

// ErrDamaged says that an entry on disk is not what was committed.
var ErrDamaged = observe.Because(errors.New("the stored result is damaged"), observe.ReasonDamaged, "")

// Entry is a finished result on disk. It is a snapshot: what happens to the
// result later does not change it.
type Entry struct {
	JobID     string    `json:"job"`
	Attempt   int       `json:"attempt"` // from 1
	Kind      string    `json:"kind"`    // wire name of the task kind
	Ext       string    `json:"ext"`     // format of the bytes, without a dot; may be empty
	SHA256    string    `json:"sha256"`  // 64 lower-case hex digits
	Size      int64     `json:"size"`    // bytes, at least 1
	Prompt    string    `json:"prompt"`  // in full
	Model     string    `json:"model"`
	StudioURL string    `json:"studio"` // the studio that offered the job
	WorkerID  string    `json:"worker"`
	Started   time.Time `json:"started"`
	Created   time.Time `json:"created"`
	Tries     int       `json:"tries"` // deliveries that did not succeed

	MissingSince time.Time `json:"missing_since,omitzero"` // first 404
	KeptAt       time.Time `json:"kept_at,omitzero"`       // when it came into kept/
	Reason       string    `json:"reason,omitempty"`       // why it lies in refused/

	// Text is a short result itself. Then the manifest is the whole entry, but
	// for folders that an earlier version wrote.
	Text string `json:"text,omitempty"`

	at       string // its folder, or its one file
	single   bool   // it is one file: its manifest, with the result in Text
	verified bool   // the bytes were read and hashed by this process
	data     string // the result itself, for whoever has just committed it; empty = on disk only
}

// Path returns where the result's bytes lay when the entry was looked up. It is
// empty for a short result, which has no file of its own while it waits:
// [Outbox.Readable] makes one.
func (e Entry) Path() string {
	if e.single {
		return ""
	}
	return filepath.Join(e.at, resultFile)
}

// JSON says whether the result goes to the studio as a frame instead of an
// upload.
func (e Entry) JSON() bool { return e.Ext == jsonExt }

// name is that of the entry's folder or file.
func (e Entry) name() string { return entryName(e.JobID, e.Attempt) }

// key tells this result from any other, also from a later one of the same job
// and attempt.
func (e Entry) key() string { return e.name() + "/" + e.SHA256 }

var (
	extPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]{0,10}$`) })
	sumPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{64}$`) })
)

// check says which value of e is out of bounds.
func (e Entry) check() error {
	if err := checkJob(e.JobID, e.Attempt); err != nil {
		return err
	}
	switch {
	case e.Kind == "" || len(e.Kind) > maxText:
		return fmt.Errorf("a kind must have 1 to %d bytes", maxText)
	case !extPattern().MatchString(e.Ext):
		return errors.New("an extension must be at most ten lower-case letters and digits")
	case !sumPattern().MatchString(e.SHA256):
		return errors.New("a hash must be 64 lower-case hex digits")
	case e.Size < 1 || e.Size > maxResult:
		return fmt.Errorf("size %d is not between 1 and %d", e.Size, int64(maxResult))
	case len(e.Prompt) > maxPrompt || len(e.Model) > maxText || len(e.StudioURL) > maxText ||
		len(e.WorkerID) > maxText || len(e.Reason) > maxText:
		return errors.New("a text is too long")
	case e.Text != "" && !e.isResult([]byte(e.Text)):
		return errors.New("the text is not the result")
	case e.Created.IsZero():
		return errors.New("the time of creation is missing")
	case e.Tries < 0:
		return errors.New("the number of tries is negative")
	}
	return nil
}

// isResult says whether data is the result, byte for byte.
func (e Entry) isResult(data []byte) bool {
	sum := sha256.Sum256(data)
	return int64(len(data)) == e.Size && hex.EncodeToString(sum[:]) == e.SHA256
}

// checkJob says what is wrong with a job id or the number of an attempt.
func checkJob(jobID string, attempt int) error {
	if jobID == "" || len(jobID) > maxText || !utf8.ValidString(jobID) {
		return fmt.Errorf("a job id must be valid text of 1 to %d bytes", maxText)
	}
	if attempt < 1 || attempt > maxAttempt {
		return fmt.Errorf("attempt %d is not between 1 and %d", attempt, maxAttempt)
	}
	return nil
}

// manifestMagic starts every manifest; its number changes with the format. The
// hash of the JSON text follows, since a flipped bit in a prompt would
// otherwise go unseen.
const manifestMagic = "studio-worker result 1 "

const manifestHeader = len(manifestMagic) + 2*sha256.Size + 1

// encodeManifest writes e as the content of its manifest.
func encodeManifest(e Entry) ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text.Bytes())
	out := make([]byte, 0, manifestHeader+text.Len())
	out = append(out, manifestMagic...)
	out = hex.AppendEncode(out, sum[:])
	out = append(out, '\n')
	return append(out, text.Bytes()...), nil
}

// decodeManifest reads a manifest. Every error wraps ErrDamaged.
func decodeManifest(data []byte) (Entry, error) {
	if len(data) > maxManifest {
		return Entry{}, fmt.Errorf("%w: the manifest is larger than %d bytes", ErrDamaged, maxManifest)
	}
	head, text, ok := bytes.Cut(data, []byte("\n"))
	if sum, magic := bytes.CutPrefix(head, []byte(manifestMagic)); !ok || !magic {
		return Entry{}, fmt.Errorf("%w: the manifest has no header", ErrDamaged)
	} else if want := sha256.Sum256(text); string(sum) != hex.EncodeToString(want[:]) {
		return Entry{}, fmt.Errorf("%w: the manifest does not have its hash", ErrDamaged)
	}
	return decodeFields(text)
}

// decodeFields reads the JSON text of a manifest.
func decodeFields(text []byte) (Entry, error) {
	var e Entry
	if err := json.Unmarshal(text, &e); err != nil {
		return Entry{}, fmt.Errorf("%w: the manifest is not valid JSON: %w", ErrDamaged, err)
	}
	if err := e.check(); err != nil {
		return Entry{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return e, nil
}
