package process

import (
	"bytes"
	"regexp"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// The bounds on a child's output, in bytes.
const (
	// LineLimit is the length of a line; the rest of a longer one is dropped.
	LineLimit = 64 << 10
	// TailLimit is what is kept of each stream.
	TailLimit = 64 << 10
)

// Stream names one of a child's outputs.
type Stream string

// The two streams.
const (
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
)

// splitter cuts one stream into lines, gives each to emit, and keeps the last
// ones. Progress bars end their lines with a carriage return, so both that and
// a newline end a line. Empty lines are left out.
type splitter struct {
	heard   func() // called for every write
	emit    func(string)
	line    []byte // the line so far, at most LineLimit
	tail    []byte // the last lines, at most 2*TailLimit
	dropped int64  // bytes that are not in tail
}

func newSplitter(heard func(), emit func(string)) *splitter {
	return &splitter{heard: heard, emit: emit}
}

// Write takes the next bytes of the stream. It never fails.
func (s *splitter) Write(p []byte) (int, error) {
	s.heard()
	n := len(p)
	for len(p) > 0 {
		end := bytes.IndexAny(p, "\r\n")
		if end < 0 {
			s.add(p)
			break
		}
		s.add(p[:end])
		s.endLine()
		p = p[end+1:]
	}
	return n, nil
}

func (s *splitter) add(part []byte) {
	if room := LineLimit - len(s.line); len(part) > room {
		s.dropped += int64(len(part) - room)
		part = part[:room]
	}
	s.line = append(s.line, part...)
}

func (s *splitter) endLine() {
	text := cleanLine(s.line)
	s.line = s.line[:0]
	if text == "" {
		return
	}
	s.tail = append(append(s.tail, text...), '\n')
	if len(s.tail) > 2*TailLimit {
		s.shorten()
	}
	s.emit(text)
}

// shorten cuts tail to its last TailLimit bytes.
func (s *splitter) shorten() {
	if over := len(s.tail) - TailLimit; over > 0 {
		s.dropped += int64(over)
		s.tail = s.tail[:copy(s.tail, s.tail[over:])]
	}
}

// finish ends the last line and returns what is kept. It is called once, after
// the last Write.
func (s *splitter) finish() string {
	s.endLine()
	s.shorten()
	return strings.ToValidUTF8(string(s.tail), "")
}

// terminalCode matches the sequences that colour and move text on a terminal.
var terminalCode = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]`) })

// cleanLine makes valid text of at most LineLimit bytes, without terminal
// codes and control characters.
func cleanLine(line []byte) string {
	if bytes.IndexByte(line, 0x1b) >= 0 {
		line = terminalCode().ReplaceAll(line, nil)
	}
	text := strings.ToValidUTF8(string(line), "\uFFFD")
	text = strings.Map(func(r rune) rune {
		if r != '\t' && unicode.IsControl(r) {
			return -1
		}
		return r
	}, text)
	if len(text) > LineLimit { // replacing bad bytes can make it longer
		end := LineLimit
		for !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end]
	}
	return strings.TrimRight(text, " \t")
}
