package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"studioworker/worker/observe"
)

// Bounds of what is read of the files.
const (
	archiveBlock = 64 << 10
	archiveLine  = 256 << 10 // bytes of a line; a longer one is skipped
	archiveMost  = 10_000    // lines of one answer
	archiveFiles = 64        // the newest
)

// Archive reads the lines that slog's text handler has written to files of which
// the newest is worker.log and the older ones worker-TIME.log (spec of the program:
// operations page). Lines that cannot be read are skipped.
type Archive struct {
	dir       string
	templates map[string]string
}

// NewArchive returns a reader of the files in dir, which are looked for each time.
func NewArchive(dir string) *Archive { return &Archive{dir: dir, templates: templates()} }

// Read returns the newest lines that the query wants, oldest first, at most 10,000.
// The order of the files and of their lines is taken as that of time.
func (a *Archive) Read(ctx context.Context, q observe.LogQuery) ([]observe.LogEntry, error) {
	q.Limit = min(max(q.Limit, 0), archiveMost)
	names, err := filepath.Glob(filepath.Join(a.dir, "worker-*.log"))
	if err != nil {
		return nil, fmt.Errorf("look for older logs: %w", err)
	}
	slices.Sort(names)
	names = append(names, filepath.Join(a.dir, "worker.log"))
	slices.Reverse(names)
	var found []observe.LogEntry
	for _, name := range names[:min(len(names), archiveFiles)] {
		if len(found) >= q.Limit {
			break
		}
		if found, err = a.search(ctx, name, q, found); err != nil {
			return nil, err
		}
	}
	slices.Reverse(found)
	return found, nil
}

// search appends what the query wants of one file, newest first.
func (a *Archive) search(ctx context.Context, name string, q observe.LogQuery, found []observe.LogEntry) ([]observe.LogEntry, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) { // rotated away meanwhile
		return found, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	err = backwards(ctx, f, func(line []byte) bool {
		if e, ok := a.parse(line); ok && (q.Before.IsZero() || !e.At.After(q.Before.Truncate(time.Millisecond))) && q.Fits(e) {
			found = append(found, e)
		}
		return len(found) < q.Limit
	})
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	return found, nil
}

// backwards gives the lines of a file from the last to the first, until more says
// that it is enough. The file may grow meanwhile.
func backwards(ctx context.Context, f *os.File, more func(line []byte) bool) error {
	at, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	var rest []byte // the end of a line whose beginning lies further ahead in the file
	long := false   // that line is too long
	for at > 0 && ctx.Err() == nil {
		n := min(at, archiveBlock)
		at -= n
		block := make([]byte, n, int(n)+len(rest))
		if _, err := f.ReadAt(block, at); err != nil {
			return err
		}
		block = append(block, rest...)
		for {
			i := bytes.LastIndexByte(block, '\n')
			if i < 0 {
				break
			}
			line := block[i+1:]
			block = block[:i]
			if whole := !long; whole && len(line) > 0 && !more(line) {
				return nil
			}
			long = false
		}
		if rest = block; len(rest) > archiveLine {
			rest, long = nil, true
		}
	}
	if len(rest) > 0 && !long && ctx.Err() == nil {
		more(rest)
	}
	return context.Cause(ctx)
}

// parse reads one line of the text handler: time, level, msg, then attributes.
func (a *Archive) parse(line []byte) (e observe.LogEntry, ok bool) {
	if len(line) > archiveLine || !utf8.Valid(line) {
		return e, false
	}
	rest := string(line)
	var attrs []attr
	message := ""
	for n := 0; rest != ""; n++ {
		var key, value string
		if key, rest, ok = field(rest, '='); !ok {
			return e, false
		}
		if value, rest, ok = field(rest, ' '); !ok {
			return e, false
		}
		var err error
		switch {
		case n == 0 && key == slog.TimeKey:
			e.At, err = time.Parse(time.RFC3339Nano, value)
		case n == 1 && key == slog.LevelKey:
			err = e.Level.UnmarshalText([]byte(value))
		case n == 2 && key == slog.MessageKey:
			message = value
		case n < 3:
			return e, false
		default:
			attrs = append(attrs, attr{key, value})
		}
		if err != nil {
			return e, false
		}
	}
	if e.At.IsZero() || message == "" {
		return e, false
	}
	e.JobID, e.Category = find(attrs, jobKey), find(attrs, categoryKey)
	if e.Category == "" {
		e.Category = DefaultCategory
	}
	e.Message = words(message, attrs, a.templates[message])
	return e, true
}

// field takes a key or a value, quoted or not, and what ends it off the front of a
// line. The line's end also ends a value.
func field(s string, end byte) (text, rest string, ok bool) {
	if strings.HasPrefix(s, `"`) {
		quoted, err := strconv.QuotedPrefix(s)
		if err != nil {
			return "", "", false
		}
		if text, err = strconv.Unquote(quoted); err != nil {
			return "", "", false
		}
		s = s[len(quoted):]
		if s == "" {
			return text, "", end == ' '
		}
		return text, s[1:], s[0] == end
	}
	text, rest, found := strings.Cut(s, string(end))
	return text, rest, found || end == ' '
}
