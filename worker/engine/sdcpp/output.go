package sdcpp

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"studioworker/worker/engine"
)

// Phases of a run, in words for people.
const (
	phaseLoading  = "loading the model"
	phaseEncoding = "reading the prompt"
	phaseSampling = "painting"
	phaseDecoding = "decoding"
	phaseSaving   = "saving"
)

// bar matches a progress bar of sampling: its body is drawn with "=". Bars of
// loading are drawn with "#".
var bar = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\|[=> ]*\|\s+(\d{1,9})/(\d{1,9}) - (\d{1,9}(?:\.\d{1,9})?)(it/s|s/it)`)
})

// reader makes progress out of the lines of a run (engines spec §5.3). It is
// used by one goroutine at a time.
type reader struct {
	steps    int // that the job asked for
	progress func(engine.Progress)
	phase    string
	step     int
	of       int // steps that are really run: fewer when a picture is the start
	sampling bool
}

// line takes one line of output.
func (r *reader) line(text string) {
	if m := bar().FindStringSubmatch(text); m != nil {
		r.bar(m)
		return
	}
	switch {
	case strings.Contains(text, "sampling using"):
		r.sampling, r.of = true, 0
		r.to(phaseSampling)
	case strings.Contains(text, "sampling completed"):
		r.sampling = false
		r.to(phaseDecoding)
	case strings.Contains(text, "decode_first_stage completed"):
		r.sampling = false
		r.to(phaseSaving)
	case strings.Contains(text, "get_learned_condition completed"):
		r.to(phaseEncoding)
	case strings.Contains(text, "loading ") && strings.Contains(text, " from "):
		r.to(phaseLoading)
	}
}

// bar takes a progress bar. Decoding in tiles draws the same one, so a bar
// counts only while the program samples, or when its total is what was asked.
func (r *reader) bar(m []string) {
	step, total := atoi(m[1]), atoi(m[2])
	switch {
	case r.sampling && r.of == 0:
		r.of = total
	case r.sampling && total == r.of:
	case !r.sampling && r.phase != phaseDecoding && r.phase != phaseSaving && total == r.steps:
		r.of = total
	default:
		return
	}
	seconds, err := strconv.ParseFloat(m[3], 64)
	if err != nil || step > total || total == 0 {
		return
	}
	if m[4] == "it/s" {
		if seconds == 0 {
			return
		}
		seconds = 1 / seconds
	}
	r.phase, r.step = phaseSampling, step
	text := fmt.Sprintf("%s, %.2g s a step", phaseSampling, seconds)
	if left := time.Duration(float64(total-step) * seconds * float64(time.Second)).Round(time.Second); left > 0 {
		text += fmt.Sprintf(", %v left", left)
	}
	r.progress(engine.Progress{Step: step, Total: total, Text: text})
}

// to says a new phase once.
func (r *reader) to(phase string) {
	if r.phase == phase {
		return
	}
	r.phase = phase
	total := r.of
	if total == 0 {
		total = r.steps
	}
	r.progress(engine.Progress{Step: r.step, Total: total, Text: phase})
}

func atoi(digits string) int {
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0 // at most nine digits
	}
	return n
}
