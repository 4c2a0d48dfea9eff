package dashboard

import (
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"studioworker/studio/client"
	"studioworker/worker/oneline"
	"studioworker/worker/protocol"
)

// mark is a state as people see it: a shape, a tone and a word.
type mark struct {
	Shape string // of icons.svg
	Tone  string // good, busy, bad, paused, muted or accent
	Word  string
}

// kindName is what people call a kind of job: the window's words.
func kindName(kind protocol.TaskKind) string {
	switch kind {
	case protocol.KindImage:
		return "Image"
	case protocol.KindLLM:
		return "Text"
	case protocol.KindSTT:
		return "Speech to text"
	case protocol.KindTTS:
		return "Speech"
	case protocol.KindVideo:
		return "Video"
	}
	return clip(string(kind), 30)
}

func jobMark(state client.State) mark {
	switch state {
	case client.Queued:
		return mark{"waiting", "muted", "Waiting"}
	case client.Offered:
		return mark{"waiting", "accent", "Offered"}
	case client.Running:
		return mark{"busy", "busy", "Running"}
	case client.Done:
		return mark{"done", "good", "Done"}
	case client.Failed:
		return mark{"attention", "bad", "Failed"}
	case client.Cancelled:
		return mark{"cancelled", "paused", "Cancelled"}
	}
	return mark{"waiting", "muted", clip(string(state), 30)}
}

// workerMark says what a worker does, and why it takes no jobs if it does not.
func workerMark(w worker) mark {
	c := w.Capabilities
	switch {
	case !w.Connected || c == nil:
		return mark{"disconnected", "muted", "Not connected"}
	case w.CurrentJobID != "":
		return mark{"busy", "busy", "Working"}
	case !c.AutoEnabled:
		return mark{"paused", "paused", "Paused there"}
	case c.OnlyWhenIdle != nil && *c.OnlyWhenIdle && c.UserPresence != protocol.PresenceIdle:
		return mark{"paused", "paused", "Someone is using it"}
	}
	return mark{"idle", "good", "Idle"}
}

// span words a length of time.
func span(d time.Duration) string {
	switch s := d.Seconds(); {
	case s < 0.1:
		return "under 0.1 s"
	case s < 10:
		return fmt.Sprintf("%.1f s", s)
	case s < 60:
		return fmt.Sprintf("%.0f s", s)
	case s < 3600:
		return fmt.Sprintf("%d min %d s", int(s)/60, int(s)%60)
	}
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}

func seconds(s float64) string { return span(time.Duration(s * float64(time.Second))) }

// took says how long a job ran, or has been running.
func took(j client.JobStatus) string {
	if j.StartedAt.IsZero() || j.FinishedAt.IsZero() {
		return ""
	}
	return span(j.FinishedAt.Sub(j.StartedAt))
}

// gigabytes words GiB.
func gigabytes(gib float64) string {
	if gib == math.Trunc(gib) {
		return fmt.Sprintf("%.0f GB", gib)
	}
	return fmt.Sprintf("%.1f GB", gib)
}

// count words a number of things.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return humanize.Comma(int64(n)) + " " + many
}

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// moment draws a point in time; the script words it from where the person is.
func moment(t time.Time) template.HTML {
	if t.IsZero() {
		return ""
	}
	t = t.UTC()
	// Digits and letters of our own: nothing to escape.
	return template.HTML(fmt.Sprintf(`<time datetime="%s">%s UTC</time>`, t.Format(time.RFC3339), t.Format("2006-01-02 15:04:05"))) // #nosec G203
}

// short is how an id is shown where space is scarce. Ids of jobs begin with the
// time, so it is the end that tells them apart.
func short(id string) string {
	if utf8.RuneCountInString(id) <= 12 {
		return id
	}
	runes := []rune(id)
	return "…" + string(runes[len(runes)-8:])
}

func clip(s string, n int) string {
	if runes := []rune(s); len(runes) > n {
		return string(runes[:n]) + "…"
	}
	return s
}

// firstLine is the beginning of a text on one line.
func firstLine(s string, n int) string {
	return oneline.Of(s, n)
}

// sentence makes a sentence of what the API says.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	first, width := utf8.DecodeRuneInString(s)
	s = string(unicode.ToUpper(first)) + s[width:]
	if !strings.HasSuffix(s, ".") && !strings.HasSuffix(s, "!") && !strings.HasSuffix(s, "?") {
		s += "."
	}
	return s
}

// prompt is what a person asked for, of any kind of job.
func prompt(t *protocol.Task) string {
	switch {
	case t == nil:
		return ""
	case t.Image != nil:
		return t.Image.Prompt
	case t.LLM != nil:
		var out []string
		for _, m := range t.LLM.Messages {
			out = append(out, m.Role+": "+m.Content)
		}
		if len(out) == 1 {
			return t.LLM.Messages[0].Content
		}
		return strings.Join(out, "\n\n")
	case t.STT != nil:
		return t.STT.InputURL
	case t.TTS != nil:
		return t.TTS.Text
	case t.Video != nil:
		return t.Video.Prompt
	}
	return ""
}

// level is how a log line's level is shown: the window's letters and tones.
func levelTone(l protocol.LogLevel) string {
	switch strings.ToLower(string(l)) {
	case "error":
		return "bad"
	case "warn", "warning":
		return "busy"
	}
	return "muted"
}
