package model

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"studioworker/worker/observe"
)

// KindName is what people call a task kind. A kind this program does not know
// keeps its wire name.
func KindName(kind string) string {
	switch kind {
	case "image":
		return "Image"
	case "llm":
		return "Text"
	case "audio_stt":
		return "Speech to text"
	case "audio_tts":
		return "Speech"
	case "video":
		return "Video"
	}
	return oneLine(kind, 30)
}

// KindHint says what to write into the form for a task kind.
func KindHint(kind string) string {
	switch kind {
	case "image":
		return "Describe the picture"
	case "llm":
		return "Ask or tell the model something"
	case "audio_stt":
		return "Web address of a sound file"
	case "audio_tts":
		return "The sentence to speak"
	case "video":
		return "Describe the scene"
	}
	return "What to do"
}

// openName is the label of the button that opens a result.
func openName(kind string) string {
	switch kind {
	case "image":
		return "Open picture"
	case "audio_tts":
		return "Open sound"
	case "video":
		return "Open video"
	}
	return "Open result"
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
func NewRunning(s Snapshot, now time.Time) Running {
	j := s.Job
	if j.ID == "" {
		r := Running{Title: "Nothing is running", Facts: "The next job shows here"}
		if s.Availability.Block != observe.BlockNone {
			r.Facts = available(s, now)
		}
		return r
	}
	r := Running{
		Active:   true,
		Kind:     j.Kind,
		Title:    title(j.Preview, j.Kind),
		Facts:    facts(KindName(j.Kind), j.Model),
		Elapsed:  Elapsed(now.Sub(j.Started)),
		Progress: cmp.Or(stepText(j.Progress), "Working"),
	}
	if p := j.Progress; p.Total > 0 {
		r.Measured = true
		r.Fraction = min(max(float64(p.Step)/float64(p.Total), 0), 1)
		if text := oneLine(p.Text, 60); text != "" {
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
func JobRows(jobs []observe.RecentJob, now time.Time) []JobRow {
	rows := make([]JobRow, 0, len(jobs))
	for _, j := range slices.Backward(jobs) {
		word, tone := outcome(j.Outcome)
		rows = append(rows, JobRow{
			ID:      j.ID,
			Kind:    j.Kind,
			Title:   title(j.Preview, j.Kind),
			Facts:   facts(KindName(j.Kind), j.Model, ended(j, now), Took(j.Duration)),
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
func NewJobDetail(j observe.RecentJob, now time.Time) JobDetail {
	word, tone := outcome(j.Outcome)
	d := JobDetail{
		ID:      j.ID,
		Title:   KindName(j.Kind) + " · " + lowerFirst(word),
		Tone:    tone,
		Facts:   facts(j.Model, ended(j, now), "took "+Took(j.Duration)),
		Prompt:  strings.TrimSpace(j.Preview),
		Path:    j.ResultPath,
		Open:    openName(j.Kind),
		Picture: len(j.Thumbnail) > 0 || j.ResultPath != "" && isPicture(j.ResultExt),
	}
	switch j.Outcome {
	case observe.OutcomeFailed:
		d.Error = cmp.Or(oneLine(j.Error, 2000), "The engine gave no reason.")
		d.Next = "The Logs page has this job's lines: search for its id."
	case observe.OutcomeKept:
		d.Next = "Finished. The result is on this computer and is sent when the studio is back."
	case observe.OutcomeCompleted, observe.OutcomeCancelled:
	}
	return d
}

func outcome(o observe.Outcome) (string, Tone) {
	switch o {
	case observe.OutcomeCompleted:
		return "Done", ToneGood
	case observe.OutcomeKept:
		return "Waiting", ToneBusy
	case observe.OutcomeFailed:
		return "Failed", ToneBad
	case observe.OutcomeCancelled:
		return "Cancelled", ToneMuted
	}
	return "Unknown", ToneMuted
}

// ended names when a job ended. A job without a start has no time.
func ended(j observe.RecentJob, now time.Time) string {
	if j.Started.IsZero() {
		return ""
	}
	return Ago(j.Started.Add(j.Duration), now)
}

func isPicture(ext string) bool {
	switch strings.ToLower(ext) {
	case "png", "webp", "jpg", "jpeg":
		return true
	}
	return false
}

// title is the first line of a prompt; a job without one is named by its kind.
func title(preview, kind string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(preview), "\n")
	return cmp.Or(oneLine(first, 160), KindName(kind))
}

// facts joins what is known.
func facts(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), " · ")
}
