package history

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"studioworker/worker/observe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start of the first job of a test.
var start = time.Date(2031, time.May, 4, 10, 0, 0, 123_456_789, time.UTC)

// desk is a history with what it works on.
type desk struct {
	*History
	dir string
	o   *observe.WorkerObservers
	log *bytes.Buffer
}

func open(t *testing.T, dir string) *desk {
	t.Helper()
	d := &desk{dir: dir, o: observe.New(), log: &bytes.Buffer{}}
	var err error
	d.History, err = Open(Config{Dir: dir, Recent: d.o.RecentJobs, Ring: d.o.History, Log: slog.New(slog.NewTextHandler(d.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *desk) list() []observe.RecentJob {
	jobs, _ := d.o.History.Since(0)
	return jobs
}

func (d *desk) file(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(d.dir, listName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(data)
}

func (d *desk) thumbs(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir(filepath.Join(d.dir, thumbsName))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// finished is a job as the worker's runner says it.
func finished(id string, at time.Time) observe.RecentJob {
	return observe.RecentJob{
		ID: id, Kind: "image", Model: "sd", Preview: "a fox", Prompt: "a fox", Started: at, Duration: 1500 * time.Millisecond,
		Outcome: observe.OutcomeCompleted, ResultExt: "webp",
	}
}

func TestJobsSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	result := filepath.Join(dir, "result.webp")
	if err := os.WriteFile(result, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	long := finished("b", start.Add(time.Hour))
	long.Prompt = observe.Prompt(strings.Repeat("ä\n<&\x01", observe.PromptBytes))
	long.Preview = observe.Preview(long.Prompt)
	long.Outcome, long.Error, long.Class = observe.OutcomeFailed, strings.Repeat("why ", 5000), "timeout"
	long.ResultPath = filepath.Join(dir, "gone")
	first := finished("a", start)
	first.Thumbnail, first.ResultPath = []byte("a picture"), result
	d.o.RecentJobs.Add(first)
	d.o.RecentJobs.Add(long)
	d.sync()
	d.sync() // nothing new
	if n := strings.Count(d.file(t), "\n"); n != 2 {
		t.Errorf("%d lines for two jobs:\n%s", n, d.file(t))
	}

	again := open(t, dir)
	got := again.list()
	if len(got) != 2 || got[0].ID != "a" || !got[0].Started.Equal(start.Truncate(time.Millisecond)) || got[0].Duration != 1500*time.Millisecond ||
		got[0].ResultPath != result || got[0].ResultExt != "webp" || got[0].Preview != "a fox" || got[0].Model != "sd" {
		t.Fatalf("got %+v", got)
	}
	picture, err := os.ReadFile(got[0].ThumbnailPath)
	if err != nil || string(picture) != "a picture" || len(got[0].Thumbnail) != 0 {
		t.Errorf("thumbnail: %q, %v, %d bytes in memory", picture, err, len(got[0].Thumbnail))
	}
	if got[1].Prompt != long.Prompt || got[1].Preview != long.Preview || len(got[1].Error) != maxText || got[1].Class != "timeout" || got[1].ResultPath != "" {
		t.Errorf("the prompt has %d of %d bytes, the reason %d, the path is %q", len(got[1].Prompt), len(long.Prompt), len(got[1].Error), got[1].ResultPath)
	}
	if again.log.Len() > 0 {
		t.Errorf("it complains:\n%s", again.log)
	}
	if jobs, _ := again.o.RecentJobs.Since(0); len(jobs) != 0 {
		t.Errorf("settled jobs are recent again: %v", jobs)
	}
}

func TestClear(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, listName), []byte("{damaged\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := open(t, dir)
	first := finished("a", start)
	first.Thumbnail = []byte("a picture")
	d.o.RecentJobs.Add(first)
	d.sync()
	if d.thumbs(t) != 1 || len(d.list()) != 1 {
		t.Fatal("there is nothing to clear")
	}
	if err := d.Clear(); err != nil {
		t.Fatal(err)
	}
	d.sync() // the worker's own list still has the job
	if files, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(files) != 2 || d.file(t) != "" || d.thumbs(t) != 0 || len(d.list()) != 0 {
		t.Errorf("left: %v, %q, %d thumbnails, %v", files, d.file(t), d.thumbs(t), d.list())
	}
	d.o.RecentJobs.Add(finished("b", start.Add(time.Hour)))
	d.sync()
	if again := open(t, dir).list(); len(again) != 1 || again[0].ID != "b" {
		t.Errorf("what finished afterwards: %+v", again)
	}
}

func TestPromptsAreKeptOnlyWhenWanted(t *testing.T) {
	dir, keep := t.TempDir(), true
	d := open(t, dir)
	d.cfg.Prompts = func() bool { return keep }
	add := func(id string, at time.Time) {
		j := finished(id, at)
		j.Thumbnail = []byte("a picture")
		d.o.RecentJobs.Add(j)
		d.sync()
	}
	add("a", start)
	keep = false
	add("b", start.Add(time.Hour))
	d.o.RecentJobs.Update(func(j observe.RecentJob) bool { return j.ID == "a" }, func(j observe.RecentJob) observe.RecentJob {
		j.Outcome = observe.OutcomeFailed // news of a job from before
		return j
	})
	d.sync()
	got := open(t, dir).list()
	if len(got) != 2 || got[0].Prompt != "a fox" || got[0].Outcome != observe.OutcomeFailed || got[1].Prompt != "" || got[1].Preview != "" || got[1].ThumbnailPath != "" {
		t.Errorf("kept %+v", got)
	}
	if shown := d.list(); shown[1].Prompt != "" || len(shown[1].Thumbnail) != 0 || strings.Count(d.file(t), "a fox") != 2 {
		t.Errorf("shown %+v, written\n%s", shown[1], d.file(t))
	}
}

// A job whose result waits is one row, whatever becomes of it and in whichever run
// of the program.
func TestAWaitingJobIsOneRow(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(observe.RecentJob) observe.RecentJob
	}{
		{"delivered later", func(j observe.RecentJob) observe.RecentJob { j.Outcome = observe.OutcomeCompleted; return j }},
		{"refused later", func(j observe.RecentJob) observe.RecentJob {
			j.Outcome, j.Error = observe.OutcomeFailed, "no"
			return j
		}},
		{"offered again and answered", func(j observe.RecentJob) observe.RecentJob {
			j.Outcome, j.Started = observe.OutcomeCompleted, j.Started.Add(time.Minute)
			return j
		}},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restart %v", tc.name, restart), func(t *testing.T) {
				dir := t.TempDir()
				d := open(t, dir)
				j := finished("a", start)
				j.Outcome, j.Thumbnail = observe.OutcomeKept, []byte("a picture")
				d.o.RecentJobs.Add(finished("a", start.Add(-time.Hour))) // an older run of it
				d.o.RecentJobs.Add(j)
				d.sync()
				if restart {
					d = open(t, dir)
				}
				kept := func(j observe.RecentJob) bool { return j.ID == "a" && j.Outcome == observe.OutcomeKept }
				if !d.o.RecentJobs.Update(kept, tc.change) {
					t.Fatal("the worker cannot find the job that waits")
				}
				d.sync()
				d.sync()
				want := tc.change(j)
				for _, d := range []*desk{d, open(t, dir)} {
					got := d.list()
					if len(got) != 2 || got[1].Outcome != want.Outcome || got[1].Error != want.Error || got[1].ThumbnailPath == "" ||
						!got[1].Started.Equal(want.Started.Truncate(time.Millisecond)) {
						t.Errorf("got %+v", got)
					}
				}
			})
		}
	}
}

func TestOnlyTheLastJobsStay(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	n := 0
	for range observe.HistoryCap/observe.RecentJobsCap + 1 {
		for range observe.RecentJobsCap {
			j := finished(fmt.Sprint("job-", n), start.Add(time.Duration(n)*time.Second))
			j.Thumbnail = []byte{byte(n)}
			d.o.RecentJobs.Add(j)
			n++
		}
		d.sync()
	}
	for _, d := range []*desk{d, open(t, dir)} {
		got := d.list()
		if len(got) != observe.HistoryCap || got[0].ID != fmt.Sprint("job-", n-observe.HistoryCap) || got[len(got)-1].ID != fmt.Sprint("job-", n-1) {
			t.Errorf("%d jobs from %q to %q", len(got), got[0].ID, got[len(got)-1].ID)
		}
		if got := d.thumbs(t); got != observe.HistoryCap {
			t.Errorf("%d thumbnails of %d jobs", got, observe.HistoryCap)
		}
	}
}

func TestALongListIsWrittenAnew(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	d.o.RecentJobs.Add(finished("a", start))
	for i := range rewriteLines + 10 {
		d.o.RecentJobs.Update(func(observe.RecentJob) bool { return true }, func(j observe.RecentJob) observe.RecentJob {
			j.Error = fmt.Sprint("reason ", i)
			return j
		})
		d.sync()
	}
	if n := strings.Count(d.file(t), "\n"); n > 20 || n < 1 {
		t.Errorf("%d lines for one job", n)
	}
	if got := open(t, dir).list(); len(got) != 1 || got[0].Error != fmt.Sprint("reason ", rewriteLines+9) {
		t.Errorf("got %+v", got)
	}
}

func TestDamagedLinesAreSetAside(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	d.o.RecentJobs.Add(finished("a", start))
	d.o.RecentJobs.Add(finished("b", start.Add(time.Second)))
	d.sync()
	good := d.file(t)
	first, second, _ := strings.Cut(good, "\n")
	damaged := first + "\n{\"v\":1,\"id\n" + second + `{"v":1,"id":"c","ki` // the last is half a line
	if err := os.WriteFile(filepath.Join(dir, listName), []byte(damaged), 0o600); err != nil {
		t.Fatal(err)
	}
	again := open(t, dir)
	if got := again.list(); len(got) != 2 || got[0].ID != "a" || got[1].ID != "b" {
		t.Errorf("got %+v", got)
	}
	if again.file(t) != good {
		t.Errorf("the list is now\n%s", again.file(t))
	}
	asides, err := filepath.Glob(filepath.Join(dir, listName+".corrupt-*"))
	if err != nil || len(asides) != 1 {
		t.Fatalf("set aside: %v, %v", asides, err)
	}
	if text, err := os.ReadFile(asides[0]); err != nil || string(text) != "{\"v\":1,\"id\n{\"v\":1,\"id\":\"c\",\"ki\n" {
		t.Errorf("set aside %q, %v", text, err)
	}
	if s := again.log.String(); !strings.Contains(s, "lines=2") || !strings.Contains(s, asides[0]) || !strings.Contains(s, "write_error=none") {
		t.Errorf("it said:\n%s", s)
	}
}

func TestAHugeListLosesItsOldestLines(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	d.o.RecentJobs.Add(finished("newest", start))
	d.sync()
	good := d.file(t)
	for _, padding := range [][]byte{
		bytes.Repeat([]byte("x\n"), maxFile/2),
		bytes.Repeat([]byte("x\n"), maxLines+5),
		bytes.Repeat([]byte(strings.Repeat("x", maxLine)+"\n"), maxFile/maxLine+1),
	} {
		if err := os.WriteFile(filepath.Join(dir, listName), append(padding, good...), 0o600); err != nil {
			t.Fatal(err)
		}
		again := open(t, dir)
		if got := again.list(); len(got) != 1 || got[0].ID != "newest" {
			t.Errorf("got %d jobs", len(got))
		}
		if again.file(t) != good {
			t.Error("the list was not written anew")
		}
	}
}

func TestThumbnailsOfNobodyAreRemoved(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	if err := os.WriteFile(filepath.Join(dir, thumbsName, "stray.png"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	big := finished("a", start)
	big.Thumbnail = make([]byte, maxThumb+1)
	d.o.RecentJobs.Add(big)
	d.sync()
	if got := d.list(); got[0].ThumbnailPath != "" || len(got[0].Thumbnail) == 0 {
		t.Errorf("a huge thumbnail was stored as %q", got[0].ThumbnailPath)
	}
	if n := open(t, dir).thumbs(t); n != 0 {
		t.Errorf("%d files", n)
	}
}

func TestADiskThatRefusesCostsOneWarning(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	if err := os.Mkdir(filepath.Join(dir, listName), 0o700); err != nil { // nothing can be written there
		t.Fatal(err)
	}
	for i := range 5 {
		d.o.RecentJobs.Add(finished(fmt.Sprint(i), start.Add(time.Duration(i)*time.Second)))
		d.sync()
	}
	if got := d.list(); len(got) != 5 {
		t.Errorf("%d jobs in the ring", len(got))
	}
	if n := strings.Count(d.log.String(), "could not be written"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, d.log)
	}
	if _, err := Open(Config{Dir: dir, Recent: d.o.RecentJobs, Ring: d.o.History, Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("a list that cannot be read was opened")
	}
	if _, err := Open(Config{Dir: filepath.Join(dir, thumbsName, "x\x00"), Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("a folder that cannot be made was opened")
	}
}

func TestWhatTheDiskRefusedIsWrittenLater(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	list := filepath.Join(dir, listName)
	if err := os.Mkdir(list, 0o700); err != nil { // nothing can be written there
		t.Fatal(err)
	}
	d.o.RecentJobs.Add(finished("refused", start))
	d.sync()
	if err := os.Remove(list); err != nil {
		t.Fatal(err)
	}
	d.o.RecentJobs.Add(finished("taken", start.Add(time.Second)))
	d.sync()
	if got := open(t, dir).list(); len(got) != 2 || got[0].ID != "refused" || got[1].ID != "taken" {
		t.Errorf("after a restart: %+v", got)
	}
}

func TestAJobThatCannotBeALineIsSaidOnce(t *testing.T) {
	d := open(t, t.TempDir())
	odd := finished("a", start)
	odd.Outcome = "vanished"
	d.o.RecentJobs.Add(odd)
	d.sync()
	d.sync()
	if n := strings.Count(d.log.String(), "cannot be written into the history"); n != 1 || len(d.list()) != 0 {
		t.Errorf("%d warnings, %d jobs", n, len(d.list()))
	}
}

func TestRunWritesTheLastJobToo(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := open(t, dir)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- d.Run(ctx) }()
		d.o.RecentJobs.Add(finished("a", start))
		synctest.Wait()
		if len(d.list()) != 1 {
			t.Error("a job was not taken up")
		}
		cancel()
		d.o.RecentJobs.Add(finished("b", start))
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if got := d.list(); len(got) != 2 {
			t.Errorf("%d jobs at the end", len(got))
		}
	})
}

// line is one that decode takes; each refusal changes one thing in it.
const line = `{"v":1,"id":"a","kind":"image","model":"sd","prompt":"a fox","started":"2031-05-04T10:00:00.123Z","ms":1500,"outcome":"completed","ext":"webp","thumb":"0123456789abcdef0123456789abcdef.png"}`

func TestDecodeRefuses(t *testing.T) {
	if _, err := decode([]byte(line)); err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("x", maxText+1)
	for _, tc := range []struct{ name, from, to string }{
		{"nothing", line, ""},
		{"no object", line, "[]"},
		{"another version", `"v":1`, `"v":2`},
		{"no id", `"id":"a"`, `"id":""`},
		{"no kind", `"kind":"image"`, `"kind":""`},
		{"a long id", `"id":"a"`, `"id":"` + text + `"`},
		{"a long kind", `"kind":"image"`, `"kind":"` + text + `"`},
		{"a long model", `"model":"sd"`, `"model":"` + text + `"`},
		{"a long prompt", `"prompt":"a fox"`, `"prompt":"` + strings.Repeat("x", observe.PromptBytes+1) + `"`},
		{"a long reason", `"ext"`, `"error":"` + text + `","ext"`},
		{"a long class", `"ext"`, `"class":"` + text + `","ext"`},
		{"a long path", `"ext"`, `"result":"` + text + `","ext"`},
		{"no time", `"2031-05-04T10:00:00.123Z"`, `"noon"`},
		{"a negative duration", `"ms":1500`, `"ms":-1`},
		{"an endless duration", `"ms":1500`, `"ms":99999999999999`},
		{"an unknown outcome", `"completed"`, `"vanished"`},
		{"an odd extension", `"webp"`, `"../x"`},
		{"a thumbnail elsewhere", `"0123456789abcdef0123456789abcdef.png"`, `"../../x.png"`},
		{"not text", "a fox", "a \xff fox"},
		{"a long line", line, strings.Repeat(" ", maxLine+1)},
	} {
		if r, err := decode([]byte(strings.Replace(line, tc.from, tc.to, 1))); !errors.Is(err, errLine) {
			t.Errorf("%s: got %+v, %v", tc.name, r, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(line))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decode(data)
		if err != nil {
			return
		}
		text, err := r.encode()
		if err != nil {
			t.Fatalf("%+v cannot be written: %v", r, err)
		}
		if len(text) > maxLine {
			t.Fatalf("a line of %d bytes", len(text))
		}
		if back, err := decode(bytes.TrimSuffix(text, []byte("\n"))); err != nil || back != r {
			t.Fatalf("%+v became %+v, %v", r, back, err)
		}
	})
}

// Whatever lies in the file, the history opens, and a second start finds nothing
// more to mend.
func FuzzParse(f *testing.F) {
	f.Add([]byte(line + "\n"))
	f.Add([]byte(line + "\n\n{}\n" + line))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		h := &History{cfg: Config{Dir: dir, Log: slog.New(slog.DiscardHandler)}}
		damaged := h.parse(data)
		if len(h.jobs) > observe.HistoryCap || len(h.jobs)+len(damaged) > h.lines {
			t.Fatalf("%d jobs and %d damaged of %d lines", len(h.jobs), len(damaged), h.lines)
		}
		var anew []byte
		for _, r := range h.jobs {
			text, err := r.encode()
			if err != nil {
				t.Fatal(err)
			}
			anew = append(anew, text...)
		}
		again := &History{cfg: h.cfg}
		if damaged := again.parse(anew); len(damaged) > 0 {
			t.Fatalf("damaged when written anew: %q", damaged)
		}
	})
}
