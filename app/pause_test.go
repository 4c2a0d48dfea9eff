//go:build !windows

package app

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestPauseEnds(t *testing.T) {
	now := time.Date(2030, time.March, 15, 9, 30, 0, 0, time.UTC)
	for name, c := range map[string]struct{ text, refusal string }{
		"no end":          {"", ""},
		"soon":            {"2030-03-15T09:30:00.5Z", ""},
		"in another zone": {"2030-03-15T12:00:00+02:00", ""},
		"seven days":      {"2030-03-22T09:30:00Z", ""},
		"a moment more":   {"2030-03-22T09:30:01Z", "after 7 days at most"},
		"far away":        {"9999-12-31T00:00:00Z", "after 7 days at most"},
		"now":             {"2030-03-15T09:30:00Z", "in the future"},
		"over":            {"2030-03-15T09:00:00Z", "in the future"},
		"no time":         {"tomorrow", "is not a time"},
		"no such day":     {"2030-03-32T09:00:00Z", "is not a time"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parsePauseEnd(c.text, now)
			switch {
			case c.refusal == "" && (err != nil || got.IsZero() != (c.text == "")):
				t.Errorf("got %v, %v", got, err)
			case c.refusal != "" && (err == nil || !strings.Contains(err.Error(), c.refusal)):
				t.Errorf("got %v, %v, want a refusal with %q", got, err, c.refusal)
			}
		})
	}
	a := new(host).answer(question{Command: askPause, Until: "never"})
	if a.Error != "the end of the pause is not a time" || a.Status != nil {
		t.Errorf("answer %+v", a)
	}
}

// FuzzPauseEnd: no text pauses into the past or beyond the bound.
func FuzzPauseEnd(f *testing.F) {
	now := time.Date(2030, time.March, 15, 9, 30, 0, 0, time.UTC)
	for _, seed := range []string{"", "2030-03-15T10:30:00Z", "2030-03-15T10:30:00+23:59", "0000-01-01T00:00:00Z"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		until, err := parsePauseEnd(text, now)
		if err == nil && text != "" && (!until.After(now) || until.After(now.Add(maxPause))) {
			t.Errorf("%q pauses until %v", text, until)
		}
	})
}

// TestPauseForAWhile: the end goes to the running worker and comes back in words.
func TestPauseForAWhile(t *testing.T) {
	h, f := newHome(t), newStudio(t)
	h.write(t, f.url, "")
	w := h.start(t, "run")
	w.await(t, 1, "server welcomed")
	prefix := fmt.Sprintf("pause: done (pid %d): Paused by you until ", w.cmd.Process.Pid)

	if out := h.want(t, "pause", "--for", "1h"); !strings.HasPrefix(out, prefix) {
		t.Errorf("pause prints %q, want %q", out, prefix)
	}
	s := h.runningStatusOf(t)
	if s.Running == nil || s.Running.Availability != "paused" || !strings.HasPrefix(s.Running.Sentence, "Paused by you until ") ||
		s.Running.Sentence == "Paused by you until you resume" {
		t.Errorf("status is %+v", s.Running)
	}
	if out := h.want(t, "pause", "--until-tomorrow"); !strings.HasPrefix(out, prefix) || !strings.HasSuffix(out, " 08:00\n") {
		t.Errorf("pause prints %q", out)
	}
	if out := h.want(t, "status"); !strings.Contains(out, "takes jobs:         no (Paused by you until ") || !strings.Contains(out, " 08:00)") {
		t.Errorf("status prints\n%s", out)
	}
	h.wantRefusal(t, exitUsage, []string{"pause", "--for", "0s"}, "in the future")
	h.wantRefusal(t, exitUsage, []string{"pause", "--for", "-1h"}, "in the future")
	h.wantRefusal(t, exitUsage, []string{"pause", "--for", "169h"}, "7 days at most")
	h.wantRefusal(t, exitUsage, []string{"pause", "--for", "soon"}, "--for")
	h.wantRefusal(t, exitUsage, []string{"pause", "--for", "1h", "--until-tomorrow"}, "not both")
	if s := h.runningStatusOf(t); s.Running == nil || !strings.HasSuffix(s.Running.Sentence, " 08:00") {
		t.Errorf("a refused pause changed the one in force: %+v", s.Running)
	}
	h.want(t, "resume")
	if s := h.runningStatusOf(t); s.Running == nil || s.Running.Sentence != "Ready for jobs" {
		t.Errorf("resumed, status is %+v", s.Running)
	}
}
