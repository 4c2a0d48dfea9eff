package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"studioworker/worker/observe"
)

// noon is the time of the first line of a test.
var noon = time.Date(2031, time.May, 4, 12, 0, 0, 0, time.UTC)

// writeLog writes lines through slog's text handler, a millisecond apart.
func writeLog(t *testing.T, path string, from, n int) {
	t.Helper()
	var b bytes.Buffer
	h := slog.NewTextHandler(&b, nil)
	for i := from; i < from+n; i++ {
		r := slog.NewRecord(noon.Add(time.Duration(i)*time.Millisecond), slog.LevelInfo, "line of the test", 0)
		if i%10 == 0 {
			r.Level = slog.LevelWarn
		}
		r.AddAttrs(slog.Int("number", i), slog.String("job_id", fmt.Sprint("job-", i%3)), slog.String("category", "cat"))
		if err := h.Handle(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// numbers are those of the lines.
func numbers(entries []observe.LogEntry) []string {
	var got []string
	for _, e := range entries {
		_, n, _ := strings.Cut(e.Message, "number=")
		got = append(got, n)
	}
	return got
}

func TestArchiveReadsAcrossFiles(t *testing.T) {
	dir := t.TempDir()
	writeLog(t, filepath.Join(dir, "worker-2031-05-04T11-00-00.000-size.log"), 0, 1000)
	writeLog(t, filepath.Join(dir, "worker-2031-05-04T12-00-01.000-size.log"), 1000, 1000)
	writeLog(t, filepath.Join(dir, "worker.log"), 2000, 1000)
	a := NewArchive(dir)
	for _, tc := range []struct {
		name        string
		q           observe.LogQuery
		first, last string
		n           int
	}{
		{"the newest", observe.LogQuery{Limit: 10}, "2990", "2999", 10},
		{"across two files", observe.LogQuery{Limit: 1500}, "1500", "2999", 1500},
		{"everything", observe.LogQuery{Limit: 1 << 30}, "0", "2999", 3000},
		{"before a moment", observe.LogQuery{Limit: 5, Before: noon.Add(1500*time.Millisecond + 999*time.Microsecond)}, "1496", "1500", 5},
		{"before all", observe.LogQuery{Limit: 5, Before: noon.Add(-time.Second)}, "", "", 0},
		{"warnings", observe.LogQuery{Limit: 3, Min: slog.LevelWarn}, "2970", "2990", 3},
		{"one job's", observe.LogQuery{Limit: 2, JobID: "job-1"}, "2995", "2998", 2},
		{"with a text", observe.LogQuery{Limit: 1 << 30, Search: " NUMBER=7 "}, "7", "799", 111},
		{"with a category", observe.LogQuery{Limit: 1, Search: "CAT"}, "2999", "2999", 1},
		{"none", observe.LogQuery{}, "", "", 0},
	} {
		got, err := a.Read(t.Context(), tc.q)
		if err != nil || len(got) != tc.n {
			t.Errorf("%s: %d lines, %v, want %d", tc.name, len(got), err, tc.n)
			continue
		}
		if n := numbers(got); tc.n > 0 && (n[0] != tc.first || n[len(n)-1] != tc.last) {
			t.Errorf("%s: from %s to %s, want %s to %s", tc.name, n[0], n[len(n)-1], tc.first, tc.last)
		}
	}
	if got, err := NewArchive(t.TempDir()).Read(t.Context(), observe.LogQuery{Limit: 1}); err != nil || len(got) != 0 {
		t.Errorf("without files: %v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Read(ctx, observe.LogQuery{Limit: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("when it is to stop: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "worker.log")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "worker.log"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Read(t.Context(), observe.LogQuery{Limit: 1}); err == nil {
		t.Error("a folder was read as a log")
	}
}

// A line in the file says the same as in the ring.
func TestArchiveWordsLinesAsTheRing(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "worker.log"))
	if err != nil {
		t.Fatal(err)
	}
	ring := observe.NewRing[observe.LogEntry](100)
	log := slog.New(slog.NewMultiHandler(NewHandler(ring, new(Queue)), slog.NewTextHandler(f, nil)))
	log.Info("connecting", "url", "wss://studio.example.org/a?b=\"c d\"")
	log.With("job_id", "j 1", "category", "engine").Warn("odd", slog.Group("g", "a b", "x\ty=\n", "empty", ""))
	log.Error("job failed", "job_id", "j", "error", errors.New("no \u00e4 \\ \x00 \U0001F600 left"))
	log.Log(t.Context(), slog.LevelInfo+2, "between")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	want, _ := ring.Since(0)
	got, err := NewArchive(dir).Read(t.Context(), observe.LogQuery{Limit: 100})
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d lines, %v, want %d", len(got), err, len(want))
	}
	for i := range want {
		want[i].At = want[i].At.Truncate(time.Millisecond)
		same := got[i].At.Equal(want[i].At)
		got[i].At = want[i].At
		if got[i] != want[i] || !same {
			t.Errorf("got  %+v\nwant %+v", got[i], want[i])
		}
	}
}

func TestArchiveSkipsWhatItCannotRead(t *testing.T) {
	dir := t.TempDir()
	const good = `time=2031-05-04T12:00:00.000Z level=INFO msg=good`
	for _, bad := range []string{
		"", "panic: no", good + " half", good + ` "half`, good + ` a="half`, good + ` a="x"y`, good + ` "a"`,
		`time=noon level=INFO msg=a`, `time=2031-05-04T12:00:00.000Z level=LOUD msg=a`, `level=INFO msg=a`,
		`time=2031-05-04T12:00:00.000Z msg=a level=INFO`, `time=2031-05-04T12:00:00.000Z level=INFO`,
		`time=0001-01-01T00:00:00Z level=INFO msg=a`, good + " a=\xff",
		good + " a=" + strings.Repeat("x", archiveLine), good + " a=" + strings.Repeat("x", 3*archiveLine),
	} {
		text := good + "1\n" + bad + "\n" + good + "2\n"
		if err := os.WriteFile(filepath.Join(dir, "worker.log"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := NewArchive(dir).Read(t.Context(), observe.LogQuery{Limit: 100})
		if err != nil || len(got) != 2 || got[0].Message != "good1" || got[1].Message != "good2" {
			t.Errorf("%.60q: %v, %v", bad, got, err)
		}
	}
}

func FuzzArchiveParse(f *testing.F) {
	a := NewArchive("")
	f.Fuzz(func(t *testing.T, line []byte) {
		e, ok := a.parse(line)
		if !ok {
			return
		}
		if e.At.IsZero() || e.Category == "" || strings.ContainsAny(e.Message, "\n\r") {
			t.Errorf("%q gives %+v", line, e)
		}
	})
}

func FuzzArchiveBackwards(f *testing.F) {
	path := filepath.Join(f.TempDir(), "file")
	f.Fuzz(func(t *testing.T, text []byte, pad uint16) {
		text = append(bytes.Repeat([]byte("x\n"), int(pad)), text...) // over the end of a block
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		var got [][]byte
		err = backwards(t.Context(), file, func(line []byte) bool { got = append(got, bytes.Clone(line)); return true })
		if err = errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
		want := slices.DeleteFunc(bytes.Split(text, []byte("\n")), func(line []byte) bool { return len(line) == 0 || len(line) > archiveLine })
		slices.Reverse(got)
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%d lines, want %d", len(got), len(want))
		}
	})
}
