package model

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"studioworker/worker/observe"
)

// archive is lines from the files, a second apart, the newest at a moment.
func archive(n int, newest time.Time) []observe.LogEntry {
	var all []observe.LogEntry
	for i := range n {
		all = append(all, observe.LogEntry{At: newest.Add(-time.Duration(n-1-i) * time.Second).Truncate(time.Millisecond), Message: fmt.Sprint("old ", i)})
	}
	return all
}

// answer is what the files say to a question.
func answer(all []observe.LogEntry, q observe.LogQuery) []observe.LogEntry {
	var found []observe.LogEntry
	for _, e := range slices.Backward(all) {
		if (q.Before.IsZero() || !e.At.After(q.Before.Truncate(time.Millisecond))) && q.Fits(e) && len(found) < q.Limit {
			found = append(found, e)
		}
	}
	slices.Reverse(found)
	return found
}

func messages(l *LogLines) []string {
	var got []string
	for i, r := range l.Rows() {
		got = append(got, r.Entry.Message)
		if l.Index(r.Seq) != i {
			got = append(got, "out of order")
		}
	}
	return got
}

// lines are entries of this run.
func lines(from, n int) []observe.LogEntry {
	var all []observe.LogEntry
	for i := from; i < from+n; i++ {
		all = append(all, observe.LogEntry{At: now.Add(time.Duration(i) * time.Millisecond), Level: slog.LevelInfo, Category: "cat", Message: fmt.Sprint("line ", i), JobID: fmt.Sprint("j-", i%2)})
	}
	return all
}

func TestLogLinesTakeWhatIsNew(t *testing.T) {
	var l LogLines
	if gone := l.Take(nil, 0); gone != 0 || len(l.Rows()) != 0 {
		t.Error("nothing makes a line")
	}
	l.Take(lines(1, 3), 3)
	l.Take(lines(4, 2), 5)
	l.Take(nil, 5)
	l.Take(lines(4, 3), 6) // two of them are known
	if got := messages(&l); !slices.Equal(got, []string{"line 1", "line 2", "line 3", "line 4", "line 5", "line 6"}) || l.Seen() != 6 {
		t.Errorf("got %q", got)
	}
	if l.After(4) != 2 || l.After(6) != 0 || l.Index(99) != -1 {
		t.Errorf("after 4 are %d", l.After(4))
	}
	if got := l.Between(5, 3); len(got) != 3 || got[0].Seq != 3 {
		t.Errorf("between %v", got)
	}
	if got := l.Between(50, 60); len(got) != 0 {
		t.Errorf("between lines that are not there: %v", got)
	}
	if gone := l.Take(lines(20, 2), 21); gone != 6 || l.Lost() != 13 || len(l.Rows()) != 2 {
		t.Errorf("after a gap: %d gone, %d lost, %q", gone, l.Lost(), messages(&l))
	}
}

func TestLogLinesAreBounded(t *testing.T) {
	var l LogLines
	gone := 0
	for i := range 3 * liveLines / 100 {
		gone += l.Take(lines(1+i*100, 100), uint64(100*(i+1)))
		if n := len(l.Rows()); n > liveLines {
			t.Fatalf("%d lines", n)
		}
	}
	if l.Lost() != 0 || gone+len(l.Rows()) != 3*liveLines || l.Rows()[0].Seq != int64(gone+1) {
		t.Errorf("%d gone, %d left, from %d", gone, len(l.Rows()), l.Rows()[0].Seq)
	}
}

func TestLogLinesFilter(t *testing.T) {
	var l LogLines
	e := lines(1, 3)
	e[0].Level, e[1].Level, e[2].Level = slog.LevelDebug, slog.LevelWarn, slog.LevelError
	e[2].Category = "Session"
	l.Filter(slog.LevelDebug, "")
	l.Take(e, 3)
	for _, tc := range []struct {
		min    slog.Level
		search string
		want   []string
	}{
		{slog.LevelDebug, "", []string{"line 1", "line 2", "line 3"}},
		{slog.LevelWarn, "", []string{"line 2", "line 3"}},
		{slog.LevelDebug, " SESSION", []string{"line 3"}},
		{slog.LevelDebug, "j-0", []string{"line 2"}},
		{slog.LevelDebug, "LINE 1", []string{"line 1"}},
		{slog.LevelError, "line 1", nil},
	} {
		l.Filter(tc.min, tc.search)
		if got := messages(&l); !slices.Equal(got, tc.want) {
			t.Errorf("%v %q: got %q", tc.min, tc.search, got)
		}
	}
	l.Filter(slog.LevelInfo, "line 4")
	l.Take(lines(4, 2), 5)
	if got := messages(&l); !slices.Equal(got, []string{"line 4"}) {
		t.Errorf("new lines past the filter: %q", got)
	}
}

func TestLogLinesGoBackThroughTheFiles(t *testing.T) {
	var l LogLines
	all := archive(2500, now.Add(time.Millisecond)) // the newest has the time of the first line at hand
	all = append(all, lines(1, 1)...)               // which is in the files, too
	l.Take(lines(1, 3), 3)
	total := 0
	for range 10 {
		q, more := l.More()
		if !more {
			break
		}
		n := l.Older(q, answer(all, q))
		total += n
	}
	if rows := l.Rows(); total != 2500 || len(rows) != 2503 || rows[0].Entry.Message != "old 0" || rows[2499].Entry.Message != "old 2499" ||
		rows[2500].Entry.Message != "line 1" || !l.Ended() {
		t.Errorf("%d lines from the files, %d shown, ended %v", total, len(rows), l.Ended())
	}
	for i, r := range l.Rows()[1:] {
		if r.Seq != l.Rows()[i].Seq+1 {
			t.Fatalf("line %d follows %d", r.Seq, l.Rows()[i].Seq)
		}
	}

	l.Filter(slog.LevelInfo, "old 1")
	q, more := l.More()
	if !more || l.Ended() {
		t.Fatal("another filter does not ask anew")
	}
	l.Filter(slog.LevelInfo, "old 77")
	if n := l.Older(q, answer(all, q)); n != 0 || len(l.Rows()) != 0 {
		t.Errorf("the answer to an older question gave %d lines", n)
	}
	q, _ = l.More()
	if n := l.Older(q, answer(all, q)); n != 11 || !l.Ended() {
		t.Errorf("found %d lines, ended %v", n, l.Ended())
	}
}

func TestLogLinesWithoutLinesOfThisRun(t *testing.T) {
	var l LogLines
	q, more := l.More()
	if !more || !q.Before.IsZero() {
		t.Fatalf("asks %+v, %v", q, more)
	}
	if n := l.Older(q, archive(3, now)); n != 3 || l.Rows()[2].Seq != 0 || !l.Ended() {
		t.Errorf("%d lines: %+v", n, l.Rows())
	}
	l.Take(lines(1, 1), 1)
	if got := messages(&l); !slices.Equal(got, []string{"old 0", "old 1", "old 2", "line 1"}) {
		t.Errorf("got %q", got)
	}
}

func TestLogLinesTakeNoMoreThanEnough(t *testing.T) {
	var l LogLines
	for range 2 * olderLines / olderBatch {
		q, more := l.More()
		if !more {
			break
		}
		l.Older(q, archive(q.Limit, now.Add(-time.Duration(len(l.Rows()))*time.Second)))
	}
	if n := len(l.Rows()); n < olderLines || n > olderLines+olderBatch {
		t.Errorf("%d lines", n)
	}
	l.Take(lines(1, liveLines+1), liveLines+1)
	if n := len(l.Rows()); n > liveLines {
		t.Errorf("%d lines after many new ones: those before them are not adjacent any more", n)
	}
	if _, more := l.More(); !more {
		t.Error("what was dropped cannot be fetched again")
	}
}

func TestLogRowAndText(t *testing.T) {
	l := LogLine{7, observe.LogEntry{At: now, Level: slog.LevelWarn, Category: "session", Message: "two\nlines", JobID: "j-1"}}
	if got := l.Row(now.Location()); got != (LogRow{"14:02:30", "W", ToneBusy, "session", "two lines", "j-1"}) {
		t.Errorf("row %+v", got)
	}
	want := "2026-03-12 14:02:30.000 warn session two\nlines job j-1"
	if got := l.Full(now.Location()); got != want {
		t.Errorf("full %q", got)
	}
	if got := LogText([]LogLine{l, l}, now.Location()); got != want+"\n"+want+"\n" {
		t.Errorf("text %q", got)
	}
	for level, letter := range map[slog.Level]string{slog.LevelDebug: "D", slog.LevelInfo: "I", slog.LevelError: "E"} {
		if got := (LogLine{Entry: observe.LogEntry{Level: level}}).Row(time.UTC).Letter; got != letter || levelName(level)[:1] != string(letter[0]+32) {
			t.Errorf("%v has the letter %q", level, got)
		}
	}
}
