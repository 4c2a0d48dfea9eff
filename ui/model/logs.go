package model

import (
	"log/slog"
	"slices"
	"strings"
	"time"

	"studioworker/ui/words"
	"studioworker/worker/observe"
	"studioworker/worker/oneline"
)

// LogLevel is one choice of the level filter.
type LogLevel struct {
	Name string
	Min  slog.Level
}

// LogLevels lists the choices of the level filter, widest first.
func LogLevels(p *words.Printer) []LogLevel {
	return []LogLevel{
		{p.T("All levels"), slog.LevelDebug},
		{p.T("Info and above"), slog.LevelInfo},
		{p.T("Warnings and errors"), slog.LevelWarn},
		{p.T("Errors"), slog.LevelError},
	}
}

// How many lines the page holds.
const (
	liveLines  = 5000  // of this run; a fifth of it goes at once when there are more
	olderLines = 20000 // from the files
	olderBatch = 1000  // that are asked for at once
)

// LogLine is one line that the page shows.
type LogLine struct {
	// Seq orders the lines and stays with them: the number in the ring, and zero or
	// less for lines from the files.
	Seq   int64
	Entry observe.LogEntry
}

// LogLines is what the Logs page shows: the lines of this run as they come, before
// them those that were fetched from the files, both through one filter. The zero
// LogLines is empty and shows all levels from Info on.
type LogLines struct {
	q     observe.LogQuery // level and search
	live  []LogLine        // unfiltered, oldest first
	older []LogLine        // what the files have before them and the filter wants
	rows  []LogLine
	seen  uint64 // number of the newest line taken from the ring
	ended bool   // the files have no more
	lost  uint64 // lines that came and went between two looks
}

// Rows are the lines to show, oldest first. They are not changed afterwards.
func (l *LogLines) Rows() []LogLine { return l.rows }

// Seen is the number of the newest line taken from the ring.
func (l *LogLines) Seen() uint64 { return l.seen }

// Lost counts the lines that left the ring before they were taken.
func (l *LogLines) Lost() uint64 { return l.lost }

// Take adds the lines that the ring gave for Since(l.Seen()). gone is how many of
// the shown lines went at the top.
func (l *LogLines) Take(entries []observe.LogEntry, newest uint64) (gone int) {
	if newest == l.seen || len(entries) == 0 {
		return 0
	}
	first := newest - uint64(len(entries)) + 1
	switch {
	case first > l.seen+1 && l.seen > 0: // nobody looked for long: the files have what is between
		l.lost += first - l.seen - 1
		gone = len(l.rows)
		l.live, l.older, l.rows, l.ended = nil, nil, nil, false
	case first <= l.seen:
		entries = entries[min(l.seen+1-first, uint64(len(entries))):]
	}
	for i, e := range entries {
		line := LogLine{Seq: int64(newest) - int64(len(entries)-1-i), Entry: e} // #nosec G115 -- a count of lines
		l.live = append(l.live, line)
		if l.q.Fits(e) {
			l.rows = append(l.rows, line)
		}
	}
	l.seen = newest
	return gone + l.trim()
}

// trim bounds the lines of this run. What was fetched before them goes first: else
// there were a gap.
func (l *LogLines) trim() (gone int) {
	if len(l.live) <= liveLines {
		return 0
	}
	l.live = slices.Clone(l.live[len(l.live)-liveLines*4/5:])
	l.older, l.ended = nil, false
	for gone < len(l.rows) && l.rows[gone].Seq < l.live[0].Seq {
		gone++
	}
	l.rows = slices.Clone(l.rows[gone:])
	return gone
}

// Filter shows only what fits from now on. What came from the files for another
// filter is forgotten.
func (l *LogLines) Filter(least slog.Level, search string) {
	l.q = observe.LogQuery{Min: least, Search: search}
	l.older, l.ended, l.rows = nil, false, nil
	for _, line := range l.live {
		if l.q.Fits(line.Entry) {
			l.rows = append(l.rows, line)
		}
	}
}

// More is the question for the lines before those at hand; false when there are
// none, or enough.
func (l *LogLines) More() (observe.LogQuery, bool) {
	q := l.q
	q.Limit = olderBatch
	if len(l.older) > 0 {
		q.Before = l.older[0].Entry.At
	} else if len(l.live) > 0 {
		q.Before = l.live[0].Entry.At
	}
	return q, !l.ended && len(l.older) < olderLines
}

// Ended says whether the files have nothing more that fits.
func (l *LogLines) Ended() bool { return l.ended }

// Older takes the answer to a question of More, and returns how many lines that
// puts before the others. An answer to an older question changes nothing.
func (l *LogLines) Older(q observe.LogQuery, entries []observe.LogEntry) (added int) {
	if now, _ := l.More(); now != q {
		return 0
	}
	whole := len(entries) >= q.Limit
	// The files know times to the millisecond: the last lines may be the first at hand.
	at := l.older
	if len(at) == 0 {
		at = l.live
	}
	last := q.Before.Truncate(time.Millisecond)
	var same []observe.LogEntry
	for i := 0; i < len(at) && at[i].Entry.At.Truncate(time.Millisecond).Equal(last); i++ {
		same = append(same, at[i].Entry)
	}
	keep := len(entries)
	for keep > 0 && entries[keep-1].At.Equal(last) {
		keep--
	}
	fresh := slices.Clone(entries[:keep])
	for _, e := range entries[keep:] {
		i := slices.IndexFunc(same, func(s observe.LogEntry) bool {
			return s.Message == e.Message && s.JobID == e.JobID && s.Level == e.Level
		})
		if i >= 0 {
			same = slices.Delete(same, i, i+1)
			continue
		}
		fresh = append(fresh, e)
	}
	l.ended = !whole || len(fresh) == 0
	first := int64(1)
	switch {
	case len(l.older) > 0:
		first = l.older[0].Seq
	case len(l.live) > 0:
		first = min(1, l.live[0].Seq)
	}
	lines := make([]LogLine, len(fresh))
	for i, e := range fresh {
		lines[i] = LogLine{Seq: first - int64(len(fresh)-i), Entry: e}
	}
	l.older = append(lines, l.older...)
	l.rows = append(slices.Clone(lines), l.rows...)
	return len(lines)
}

// Between gives the shown lines from one to another, whichever comes first.
func (l *LogLines) Between(a, b int64) []LogLine {
	a, b = min(a, b), max(a, b)
	from, _ := slices.BinarySearchFunc(l.rows, a, bySeq)
	to, found := slices.BinarySearchFunc(l.rows, b, bySeq)
	if found {
		to++
	}
	return l.rows[from:max(from, to)]
}

// Index is where a line stands among those that are shown; -1 when it is not.
func (l *LogLines) Index(seq int64) int {
	if i, found := slices.BinarySearchFunc(l.rows, seq, bySeq); found {
		return i
	}
	return -1
}

// After counts the shown lines that came after one.
func (l *LogLines) After(seq int64) int {
	i, _ := slices.BinarySearchFunc(l.rows, seq+1, bySeq)
	return len(l.rows) - i
}

func bySeq(line LogLine, seq int64) int {
	switch {
	case line.Seq < seq:
		return -1
	case line.Seq > seq:
		return 1
	}
	return 0
}

// LogRow is one line of the log, in words.
type LogRow struct {
	Time     string
	Letter   string // D, I, W or E
	Tone     Tone   // of the letter
	Category string
	Message  string // one line, shortened
	JobID    string
}

// messageChars bounds what a row of the list draws; the whole text stands in
// the line below the list.
const messageChars = 400

// Row words the line for the list.
func (l LogLine) Row(loc *time.Location) LogRow {
	letter, tone := levelMark(l.Entry.Level)
	return LogRow{
		Time: l.Entry.At.In(loc).Format("15:04:05"), Letter: letter, Tone: tone, Category: l.Entry.Category,
		Message: oneline.Of(l.Entry.Message, messageChars), JobID: l.Entry.JobID,
	}
}

// Full is the whole line, as it is copied.
func (l LogLine) Full(loc *time.Location) string {
	e := l.Entry
	full := strings.Join([]string{e.At.In(loc).Format("2006-01-02 15:04:05.000"), levelName(e.Level), e.Category, e.Message}, " ")
	if e.JobID != "" {
		full += " job " + e.JobID
	}
	return full
}

// LogText is what Copy puts on the clipboard: one line an entry.
func LogText(lines []LogLine, loc *time.Location) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.Full(loc))
		b.WriteByte('\n')
	}
	return b.String()
}

func levelMark(l slog.Level) (string, Tone) {
	switch {
	case l >= slog.LevelError:
		return "E", ToneBad
	case l >= slog.LevelWarn:
		return "W", ToneBusy
	case l >= slog.LevelInfo:
		return "I", ToneGood
	}
	return "D", ToneMuted
}

func levelName(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "error"
	case l >= slog.LevelWarn:
		return "warn"
	case l >= slog.LevelInfo:
		return "info"
	}
	return "debug"
}
