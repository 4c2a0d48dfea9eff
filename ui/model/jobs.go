package model

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"studioworker/ui/words"
	"studioworker/worker/observe"
	"studioworker/worker/oneline"
)

// KindName is what people call a task kind. A kind this program does not know
// keeps its wire name.
func KindName(p *words.Printer, kind string) string {
	switch kind {
	case "image":
		return p.T("Image")
	case "llm":
		return p.T("Text")
	case "audio_stt":
		return p.T("Speech to text")
	case "audio_tts":
		return p.T("Speech")
	case "video":
		return p.T("Video")
	}
	return oneline.Of(kind, 30)
}

// KindHint says what to write into the form for a task kind.
func KindHint(p *words.Printer, kind string) string {
	switch kind {
	case "image":
		return p.T("Describe the picture")
	case "llm":
		return p.T("Ask or tell the model something")
	case "audio_stt":
		return p.T("Web address of a sound file")
	case "audio_tts":
		return p.T("The sentence to speak")
	case "video":
		return p.T("Describe the scene")
	}
	return p.T("What to do")
}

// openName is the label of the button that opens a result.
func openName(p *words.Printer, kind string) string {
	switch kind {
	case "image":
		return p.T("Open picture")
	case "audio_tts":
		return p.T("Play sound")
	case "video":
		return p.T("Open video")
	}
	return p.T("Open result")
}

// Running is the job in flight, for the slot that is always there.
type Running struct {
	Active   bool
	ID       string
	Kind     string  // wire name, for the glyph
	Title    string  // first line of the prompt, or that nothing runs
	Facts    string  // kind, model
	Progress string  // step, or the engine's words
	Elapsed  string  // clock
	Fraction float64 // 0 to 1, when Measured
	Measured bool    // the engine can say how far it is
}

// Line is what stands below the title.
func (r Running) Line() string { return facts(r.Progress, r.Facts) }

// NewRunning words the job in flight. Veiled, it says nothing of what it is about.
func NewRunning(p *words.Printer, s Snapshot, veil bool, now time.Time) Running {
	j := s.Job
	if j.ID == "" {
		r := Running{Title: p.T("Nothing is running"), Facts: p.T("The next job shows here")}
		if s.Availability.Block != observe.BlockNone {
			r.Facts = available(p, s, now)
		}
		return r
	}
	r := Running{
		Active:   true,
		ID:       j.ID,
		Kind:     j.Kind,
		Title:    title(p, veiled(j.Preview, veil), j.Kind),
		Facts:    facts(KindName(p, j.Kind), j.Model),
		Elapsed:  Elapsed(now.Sub(j.Started)),
		Progress: cmp.Or(stepText(p, j.Progress), p.T("Working")),
	}
	if g := j.Progress; g.Total > 0 {
		r.Measured = true
		r.Fraction = min(max(float64(g.Step)/float64(g.Total), 0), 1)
		if text := oneline.Of(g.Text, 60); text != "" {
			r.Progress += " · " + text
		}
	}
	return r
}

// JobFilter says which finished jobs to show. The zero JobFilter shows all.
type JobFilter struct {
	Kind    string          // wire name; empty = any
	Outcome observe.Outcome // empty = any
	Search  string          // in prompt, model, id and reason, without regard to case
}

// fits says whether the filter wants a job. needle is the search in lower case.
func (f JobFilter) fits(j observe.RecentJob, needle string) bool {
	if f.Kind != "" && j.Kind != f.Kind || f.Outcome != "" && j.Outcome != f.Outcome {
		return false
	}
	return needle == "" || slices.ContainsFunc([]string{cmp.Or(j.Prompt, j.Preview), j.Model, j.ID, j.Error}, func(s string) bool {
		return strings.Contains(strings.ToLower(s), needle)
	})
}

// JobItem is one entry of the history: a day, or a job of the day above it.
type JobItem struct {
	Day string // empty for a job
	Key string // tells this run of the job from all others
	Job observe.RecentJob
}

// JobItems groups the jobs that the filter wants by the day they ended on, newest
// first. jobs come as the ring gives them, oldest first.
func JobItems(p *words.Printer, jobs []observe.RecentJob, f JobFilter, now time.Time) []JobItem {
	needle := strings.ToLower(strings.TrimSpace(f.Search))
	var items []JobItem
	last := ""
	for _, j := range slices.Backward(jobs) {
		if !f.fits(j, needle) {
			continue
		}
		if d := day(p, j, now); d != last {
			last = d
			items = append(items, JobItem{Day: d})
		}
		items = append(items, JobItem{Key: JobKey(j), Job: j})
	}
	return items
}

// JobKey tells one run of a job from all others.
func JobKey(j observe.RecentJob) string {
	return strconv.FormatInt(j.Started.UnixMilli(), 36) + " " + j.ID
}

// day names the day that a job ended on, in the time zone of now.
func day(p *words.Printer, j observe.RecentJob, now time.Time) string {
	if j.Started.IsZero() {
		return p.T("Earlier")
	}
	t := j.Started.Add(j.Duration).In(now.Location())
	y, m, d := now.Date()
	start := func(back int) time.Time { return time.Date(y, m, d-back, 0, 0, 0, 0, now.Location()) }
	switch {
	case !t.Before(start(0)):
		return p.T("Today")
	case !t.Before(start(1)):
		return p.T("Yesterday")
	}
	return p.Weekday(t.Weekday()) + " " + p.Date(t, t.Year() != y)
}

// JobRow is one job of the history, in words.
type JobRow struct {
	Kind    string // wire name, for the glyph
	Title   string
	Facts   string // kind · model · when · how long
	Outcome string
	Tone    Tone
}

// NewJobRow words one job. A veiled row says nothing of what the job was about.
func NewJobRow(p *words.Printer, j observe.RecentJob, veil bool, now time.Time) JobRow {
	word, tone := outcome(p, j.Outcome)
	return JobRow{
		Kind:    j.Kind,
		Title:   title(p, veiled(j.Preview, veil), j.Kind),
		Facts:   facts(KindName(p, j.Kind), j.Model, ended(p, j, now), Took(p, j.Duration)),
		Outcome: word,
		Tone:    tone,
	}
}

// veiled hides a text from whoever looks over a shoulder.
func veiled(s string, veil bool) string {
	if veil {
		return ""
	}
	return s
}

// Thumbed says whether a job has a small picture.
func Thumbed(j observe.RecentJob) bool { return j.ThumbnailPath != "" || len(j.Thumbnail) > 0 }

// Choice is one entry of a filter's menu.
type Choice struct{ Value, Name string }

// KindChoices lists the kinds to filter by; the first is all of them.
func KindChoices(p *words.Printer) []Choice {
	choices := []Choice{{"", p.T("All kinds")}}
	for _, kind := range []string{"image", "llm", "audio_stt", "audio_tts", "video"} {
		choices = append(choices, Choice{kind, KindName(p, kind)})
	}
	return choices
}

// OutcomeChoices lists the outcomes to filter by; the first is all of them.
func OutcomeChoices(p *words.Printer) []Choice {
	choices := []Choice{{"", p.T("All outcomes")}}
	for _, o := range []observe.Outcome{observe.OutcomeCompleted, observe.OutcomeKept, observe.OutcomeFailed, observe.OutcomeCancelled} {
		word, _ := outcome(p, o)
		choices = append(choices, Choice{string(o), word})
	}
	return choices
}

// promptShown bounds what the page draws of a prompt, in characters: long texts
// are slow to lay out. Copy gives all of it.
const promptShown = 3000

// JobDetail is the selected job in full.
type JobDetail struct {
	ID        string
	Title     string // kind and outcome
	Tone      Tone
	Facts     string
	Prompt    string // as it was written, shortened when it is very long
	Whole     string // all that is kept of it, to copy; empty when it is veiled
	Error     string // why it failed; empty otherwise
	Next      string // what happens or helps now; may be empty
	Path      string // where the result lies; empty when there is none
	Open      string // label of the button that opens Path
	Picture   bool   // there is a picture to show
	FullImage bool   // the picture can be seen in full
}

// NewJobDetail words one job.
func NewJobDetail(p *words.Printer, j observe.RecentJob, veil bool, now time.Time) JobDetail {
	word, tone := outcome(p, j.Outcome)
	whole := strings.TrimSpace(cmp.Or(j.Prompt, j.Preview))
	d := JobDetail{
		ID:        j.ID,
		Title:     KindName(p, j.Kind) + " · " + p.Inside(word),
		Tone:      tone,
		Facts:     facts(j.Model, ended(p, j, now), p.T("took %s", Took(p, j.Duration))),
		Prompt:    shorten(whole, promptShown),
		Whole:     whole,
		Path:      j.ResultPath,
		Open:      openName(p, j.Kind),
		Picture:   !veil && (Thumbed(j) || j.ResultPath != "" && isPicture(j.ResultExt)),
		FullImage: !veil && j.ResultPath != "" && isPicture(j.ResultExt),
	}
	if veil && whole != "" {
		d.Prompt, d.Whole = p.T("The prompt is hidden."), ""
	}
	switch j.Outcome {
	case observe.OutcomeFailed:
		d.Error = because(failure(p, j.Class), oneline.Of(j.Error, 2000))
		if j.Error == "" && failure(p, j.Class) == failure(p, "") {
			d.Error = p.T("The engine gave no reason.")
		}
		d.Next = nextStep(p, j.Class)
	case observe.OutcomeKept:
		d.Next = p.T("Finished. The result is on this computer and is sent when the studio is back.")
	case observe.OutcomeCancelled:
		d.Next = p.T("It was stopped before it was done.")
	case observe.OutcomeCompleted:
		if j.ResultPath == "" {
			d.Next = p.T("The studio has the result. The copy on this computer was removed to make room.")
		}
	}
	return d
}

// failure names a class of failure; what was heard of it stands behind.
func failure(p *words.Printer, class string) string {
	switch class {
	case "unsupported_kind":
		return p.T("The model cannot do this kind of job")
	case "bad_input":
		return p.T("The job cannot be done as it was asked")
	case "input_unreachable":
		return p.T("A file that the job needs could not be fetched")
	case "input_gone":
		return p.T("A file that the job needs is gone")
	case "model_unavailable":
		return p.T("The model could not be had")
	case "model_corrupt":
		return p.T("The model's file is damaged")
	case "engine_missing":
		return p.T("The engine for this job is not installed")
	case "gpu_runtime":
		return p.T("The graphics driver did not work")
	case "insufficient_memory":
		return p.T("Not enough free graphics memory")
	case "out_of_memory":
		return p.T("The memory ran out")
	case "engine_crash":
		return p.T("The engine crashed")
	case "timeout":
		return p.T("The job took too long")
	}
	return p.T("The job failed")
}

// nextStep says what helps against a class of failure.
func nextStep(p *words.Printer, class string) string {
	switch class {
	case "unsupported_kind":
		return p.T("The model cannot do this kind of job: choose another model at the studio.")
	case "bad_input":
		return p.T("The job itself is at fault: correct it at the studio and send it again.")
	case "input_unreachable":
		return p.T("See whether this computer reaches the address; the studio may try the job again.")
	case "input_gone":
		return p.T("Give the job its file again at the studio.")
	case "model_unavailable":
		return p.T("See whether this computer is online, and whether the model's address is right.")
	case "model_corrupt":
		return p.T("The model's file is damaged where it comes from: choose another model.")
	case "engine_missing":
		return p.T("On a terminal, studio-worker engines lists what is missing and how to get it.")
	case "insufficient_memory":
		return p.T("Close other programs that use the graphics card, or set a smaller limit for jobs.")
	case "gpu_runtime":
		return p.T("The graphics driver did not work: update it, then start this computer anew.")
	case "out_of_memory":
		return p.T("The model did not fit into memory: close other programs, or set a smaller limit for jobs.")
	case "engine_crash":
		return p.T("The engine crashed. Its last lines stand below; the studio may try the job again.")
	case "timeout":
		return p.T("The job took too long: a smaller model or size helps.")
	}
	return p.T("The job's log below may say more.")
}

// shorten cuts a text to so many characters.
func shorten(s string, chars int) string {
	if len(s) <= chars { // bytes: never fewer than characters
		return s
	}
	n := 0
	for i := range s {
		if n == chars {
			return s[:i] + "…"
		}
		n++
	}
	return s
}

// logShown bounds what the page draws of a job's log; Copy gives all of it.
const (
	logShown      = 60  // lines
	logShownChars = 300 // of each
)

// JobLog words a job's log: what the page shows, and what Copy gives. dropped is
// how many older lines are gone.
func JobLog(p *words.Printer, lines []observe.LogEntry, dropped uint64, loc *time.Location) (shown, whole string) {
	if len(lines) == 0 {
		return p.T("Nothing is kept of this job's log."), ""
	}
	var all, some strings.Builder
	for i, e := range lines {
		text := e.At.In(loc).Format("15:04:05.000") + " " + levelName(e.Level) + " " + e.Message + "\n"
		all.WriteString(text)
		if i >= len(lines)-logShown {
			some.WriteString(shorten(strings.TrimSuffix(text, "\n"), logShownChars) + "\n")
		}
	}
	shown = strings.TrimSuffix(some.String(), "\n")
	if gone := int(dropped) + max(0, len(lines)-logShown); gone > 0 { // #nosec G115 -- a count of lines
		shown = p.T("%d older lines are not shown", gone) + "\n" + shown
	}
	return shown, all.String()
}

// Kept is a result that the studio did not take, in words.
type Kept struct {
	Key   string
	Title string // kind · model
	Facts string // size, age, and when it is removed
	File  string // a name for a copy of it
}

// NewKept words a kept result.
func NewKept(p *words.Printer, k observe.KeptResult, now time.Time) Kept {
	row := Kept{
		Key: k.Key, Title: facts(KindName(p, k.Kind), oneline.Of(k.Model, 60)),
		Facts: facts(Bytes(p, k.Bytes), p.T("kept %s", p.Inside(Ago(p, k.Since, now)))),
		File:  fileName(k.JobID, k.Ext),
	}
	if !k.Expires.IsZero() {
		row.Facts += " · " + p.T("removed in %s", Span(p, k.Expires.Sub(now)))
	}
	return row
}

// fileName makes a file's name of a job's id, which may be any text.
func fileName(id, ext string) string {
	name := strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			return r
		}
		return '-'
	}, id)
	name = strings.TrimLeft(name[:min(len(name), 60)], "-")
	return "job-" + cmp.Or(name, "result") + "." + cmp.Or(ext, "bin")
}

func outcome(p *words.Printer, o observe.Outcome) (string, Tone) {
	switch o {
	case observe.OutcomeCompleted:
		return p.T("Done"), ToneGood
	case observe.OutcomeKept:
		return p.T("Waiting"), ToneBusy
	case observe.OutcomeFailed:
		return p.T("Failed"), ToneBad
	case observe.OutcomeCancelled:
		return p.T("Cancelled"), ToneMuted
	}
	return p.T("Unknown"), ToneMuted
}

// ended names when a job ended. A job without a start has no time.
func ended(p *words.Printer, j observe.RecentJob, now time.Time) string {
	if j.Started.IsZero() {
		return ""
	}
	return Ago(p, j.Started.Add(j.Duration), now)
}

func isPicture(ext string) bool {
	switch strings.ToLower(ext) {
	case "png", "webp", "jpg", "jpeg":
		return true
	}
	return false
}

// title is the first line of a prompt; a job without one is named by its kind.
func title(p *words.Printer, preview, kind string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(preview), "\n")
	return cmp.Or(oneline.Of(first, 160), KindName(p, kind))
}

// facts joins what is known.
func facts(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), " · ")
}
