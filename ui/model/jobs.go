package model

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"studioworker/ui/words"
	"studioworker/worker/observe"
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
	return oneLine(kind, 30)
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
		return p.T("Open sound")
	case "video":
		return p.T("Open video")
	}
	return p.T("Open result")
}

// Running is the job in flight, for the slot that is always there.
type Running struct {
	Active   bool
	Kind     string  // wire name, for the glyph
	Title    string  // first line of the prompt, or that nothing runs
	Facts    string  // kind, model
	Progress string  // step, or the engine's words
	Elapsed  string  // clock
	Fraction float64 // 0 to 1, when Measured
	Measured bool    // the engine can say how far it is
}

// NewRunning words the job in flight.
func NewRunning(p *words.Printer, s Snapshot, now time.Time) Running {
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
		Kind:     j.Kind,
		Title:    title(p, j.Preview, j.Kind),
		Facts:    facts(KindName(p, j.Kind), j.Model),
		Elapsed:  Elapsed(now.Sub(j.Started)),
		Progress: cmp.Or(stepText(p, j.Progress), p.T("Working")),
	}
	if g := j.Progress; g.Total > 0 {
		r.Measured = true
		r.Fraction = min(max(float64(g.Step)/float64(g.Total), 0), 1)
		if text := oneLine(g.Text, 60); text != "" {
			r.Progress += " · " + text
		}
	}
	return r
}

// JobRow is one line of the history.
type JobRow struct {
	ID      string
	Kind    string // wire name, for the glyph
	Title   string
	Facts   string // kind · model · when · how long
	Outcome string
	Tone    Tone
}

// JobRows words the history, newest first. jobs come as the ring gives them,
// oldest first.
func JobRows(p *words.Printer, jobs []observe.RecentJob, now time.Time) []JobRow {
	rows := make([]JobRow, 0, len(jobs))
	for _, j := range slices.Backward(jobs) {
		word, tone := outcome(p, j.Outcome)
		rows = append(rows, JobRow{
			ID:      j.ID,
			Kind:    j.Kind,
			Title:   title(p, j.Preview, j.Kind),
			Facts:   facts(KindName(p, j.Kind), j.Model, ended(p, j, now), Took(p, j.Duration)),
			Outcome: word,
			Tone:    tone,
		})
	}
	return rows
}

// JobDetail is the selected job in full.
type JobDetail struct {
	ID      string
	Title   string // kind and outcome
	Tone    Tone
	Facts   string
	Prompt  string // the whole preview, as it was written
	Error   string // why it failed; empty otherwise
	Next    string // what happens or helps now; may be empty
	Path    string // where the result lies; empty when there is none
	Open    string // label of the button that opens Path
	Picture bool   // the result is a picture to show
}

// NewJobDetail words one job.
func NewJobDetail(p *words.Printer, j observe.RecentJob, now time.Time) JobDetail {
	word, tone := outcome(p, j.Outcome)
	d := JobDetail{
		ID:      j.ID,
		Title:   KindName(p, j.Kind) + " · " + p.Inside(word),
		Tone:    tone,
		Facts:   facts(j.Model, ended(p, j, now), p.T("took %s", Took(p, j.Duration))),
		Prompt:  strings.TrimSpace(j.Preview),
		Path:    j.ResultPath,
		Open:    openName(p, j.Kind),
		Picture: len(j.Thumbnail) > 0 || j.ResultPath != "" && isPicture(j.ResultExt),
	}
	switch j.Outcome {
	case observe.OutcomeFailed:
		d.Error = cmp.Or(oneLine(j.Error, 2000), p.T("The engine gave no reason."))
		d.Next = p.T("The Logs page has this job's lines: search for its id.")
	case observe.OutcomeKept:
		d.Next = p.T("Finished. The result is on this computer and is sent when the studio is back.")
	case observe.OutcomeCompleted, observe.OutcomeCancelled:
	}
	return d
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
	return cmp.Or(oneLine(first, 160), KindName(p, kind))
}

// facts joins what is known.
func facts(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), " · ")
}
