package model

import (
	"log/slog"
	"strings"
	"time"

	"studioworker/ui/words"
	"studioworker/worker/observe"
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

// LogFilter says which lines to show. Search looks, without regard to case, in
// the message, the category and the job id.
type LogFilter struct {
	Min    slog.Level
	Search string
}

// LogRow is one line of the log.
type LogRow struct {
	Seq      uint64
	Time     string
	Letter   string // D, I, W or E
	Tone     Tone   // of the letter
	Category string
	Message  string // one line, shortened
	JobID    string
	Full     string // the whole line, as it is copied
}

// messageChars bounds what a row of the list draws; the whole text stands in
// the line below the list.
const messageChars = 400

// Rows applies the filter. entries are as the ring gives them, oldest first,
// and newest is the number of the last one.
func (f LogFilter) Rows(entries []observe.LogEntry, newest uint64, loc *time.Location) []LogRow {
	needle := strings.ToLower(strings.TrimSpace(f.Search))
	rows := make([]LogRow, 0, len(entries))
	for i, e := range entries {
		if e.Level < f.Min || !holds(e, needle) {
			continue
		}
		letter, tone := levelMark(e.Level)
		at := e.At.In(loc)
		row := LogRow{
			Seq:      newest - uint64(len(entries)-1-i), // #nosec G115 -- never negative
			Time:     at.Format("15:04:05"),
			Letter:   letter,
			Tone:     tone,
			Category: e.Category,
			Message:  oneLine(e.Message, messageChars),
			JobID:    e.JobID,
		}
		row.Full = strings.Join([]string{at.Format("2006-01-02 15:04:05.000"), levelName(e.Level), e.Category, e.Message}, " ")
		if e.JobID != "" {
			row.Full += " job " + e.JobID
		}
		rows = append(rows, row)
	}
	return rows
}

// LogText is what Copy puts on the clipboard: one line an entry.
func LogText(rows []LogRow) string {
	var b strings.Builder
	for _, r := range rows {
		b.WriteString(r.Full)
		b.WriteByte('\n')
	}
	return b.String()
}

func holds(e observe.LogEntry, needle string) bool {
	return needle == "" ||
		strings.Contains(strings.ToLower(e.Message), needle) ||
		strings.Contains(strings.ToLower(e.Category), needle) ||
		strings.Contains(strings.ToLower(e.JobID), needle)
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
