package model

import (
	"slices"
	"strings"
	"testing"
	"time"

	"studioworker/ui/words"
	"studioworker/worker/observe"
)

func TestJobRow(t *testing.T) {
	for _, tc := range []struct {
		name string
		job  observe.RecentJob
		veil bool
		want JobRow
	}{
		{"done", observe.RecentJob{ID: "a", Kind: "image", Model: "sd", Preview: "\nfirst line\nsecond", Started: now.Add(-time.Minute), Duration: 50 * time.Second, Outcome: observe.OutcomeCompleted}, false, JobRow{"image", "first line", "Image · sd · 10 s ago · 50 s", "Done", ToneGood}},
		{"veiled", observe.RecentJob{ID: "a", Kind: "image", Model: "sd", Preview: "first line", Outcome: observe.OutcomeCompleted}, true, JobRow{"image", "Image", "Image · sd · under 0.1 s", "Done", ToneGood}},
		{"failed", observe.RecentJob{Kind: "audio_tts", Outcome: observe.OutcomeFailed}, false, JobRow{"audio_tts", "Speech", "Speech · under 0.1 s", "Failed", ToneBad}},
		{"kept, of a later kind", observe.RecentJob{Kind: "later", Outcome: observe.OutcomeKept}, false, JobRow{"later", "later", "later · under 0.1 s", "Waiting", ToneBusy}},
		{"cancelled", observe.RecentJob{Kind: "video", Outcome: observe.OutcomeCancelled}, false, JobRow{"video", "Video", "Video · under 0.1 s", "Cancelled", ToneMuted}},
		{"of a later version", observe.RecentJob{Kind: "llm"}, false, JobRow{"llm", "Text", "Text · under 0.1 s", "Unknown", ToneMuted}},
	} {
		if got := NewJobRow(en, tc.job, tc.veil, now); got != tc.want {
			t.Errorf("%s: got %+v", tc.name, got)
		}
	}
}

// history is finished jobs of several days, as the ring gives them.
func history() []observe.RecentJob {
	at := func(id string, ago time.Duration) observe.RecentJob {
		return observe.RecentJob{ID: id, Kind: "image", Model: "sd", Prompt: "a Fox named " + id, Started: now.Add(-ago), Outcome: observe.OutcomeCompleted}
	}
	failed := at("failed", 3*time.Hour)
	failed.Kind, failed.Outcome, failed.Error = "llm", observe.OutcomeFailed, "out of memory"
	over := at("over midnight", 15*time.Hour) // began yesterday, ended today
	over.Duration = 2 * time.Hour
	return []observe.RecentJob{
		{ID: "no time", Kind: "image", Preview: "old"},
		at("last year", 400*24*time.Hour), at("week", 7*24*time.Hour), at("yesterday", 20*time.Hour), over, failed, at("now", 0),
	}
}

func TestJobItems(t *testing.T) {
	for _, tc := range []struct {
		name string
		f    JobFilter
		want []string // days in brackets
	}{
		{"all", JobFilter{}, []string{
			"[Today]", "now", "failed", "over midnight", "[Yesterday]", "yesterday", "[Thu 5 Mar]", "week",
			"[Wed 5 Feb 2025]", "last year", "[Earlier]", "no time",
		}},
		{"a kind", JobFilter{Kind: "llm"}, []string{"[Today]", "failed"}},
		{"an outcome", JobFilter{Outcome: observe.OutcomeFailed}, []string{"[Today]", "failed"}},
		{"nothing", JobFilter{Kind: "video"}, nil},
		{"a word of the prompt", JobFilter{Search: " fOX NAMED W"}, []string{"[Thu 5 Mar]", "week"}},
		{"a word of the preview", JobFilter{Search: "OLD"}, []string{"[Earlier]", "no time"}},
		{"a reason", JobFilter{Search: "memory"}, []string{"[Today]", "failed"}},
		{"an id", JobFilter{Search: "last y"}, []string{"[Wed 5 Feb 2025]", "last year"}},
		{"a model and a kind", JobFilter{Search: "sd", Kind: "llm"}, []string{"[Today]", "failed"}},
	} {
		var got []string
		for _, i := range JobItems(en, history(), tc.f, now) {
			if i.Day != "" {
				got = append(got, "["+i.Day+"]")
			} else {
				got = append(got, i.Job.ID)
			}
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
	a, b := observe.RecentJob{ID: "a", Started: now}, observe.RecentJob{ID: "a", Started: now.Add(time.Second)}
	if JobKey(a) == JobKey(b) {
		t.Error("two runs of a job are taken for one")
	}
}

func TestChoices(t *testing.T) {
	if c := KindChoices(en); len(c) != 6 || c[0] != (Choice{"", "All kinds"}) || c[4] != (Choice{"audio_tts", "Speech"}) {
		t.Errorf("kinds %v", c)
	}
	if c := OutcomeChoices(en); len(c) != 5 || c[0] != (Choice{"", "All outcomes"}) || c[3] != (Choice{"failed", "Failed"}) {
		t.Errorf("outcomes %v", c)
	}
}

func TestJobDetail(t *testing.T) {
	done := observe.RecentJob{
		ID: "a", Kind: "image", Model: "sd", Preview: "one…", Prompt: "one\ntwo ", Started: now.Add(-2 * time.Hour), Duration: time.Second,
		Outcome: observe.OutcomeCompleted, ResultPath: "/r/a.webp", ResultExt: "webp",
	}
	if d := NewJobDetail(en, done, false, now); d.Title != "Image · done" || d.Facts != "sd · 12:02 · took 1.0 s" || d.Prompt != "one\ntwo" ||
		d.Whole != "one\ntwo" || !d.Picture || !d.FullImage || d.Open != "Open picture" || d.Error != "" || d.Next != "" {
		t.Errorf("done: %+v", d)
	}
	if d := NewJobDetail(en, done, true, now); d.Prompt != "The prompt is hidden." || d.Whole != "" || d.Picture || d.FullImage {
		t.Errorf("veiled: %+v", d)
	}
	done.Prompt = strings.Repeat("ä", 2*promptShown)
	if d := NewJobDetail(en, done, false, now); d.Prompt != strings.Repeat("ä", promptShown)+"…" || d.Whole != done.Prompt {
		t.Errorf("a long prompt: %d and %d bytes", len(d.Prompt), len(d.Whole))
	}
	done.ResultPath, done.ThumbnailPath = "", "/h/a.png"
	if d := NewJobDetail(en, done, false, now); !d.Picture || d.FullImage || !strings.Contains(d.Next, "was removed") {
		t.Errorf("gone: %+v", d)
	}
	if d := NewJobDetail(en, observe.RecentJob{Kind: "video", Outcome: observe.OutcomeKept, ResultPath: "x.mp4", ResultExt: "mp4"}, false, now); d.Next == "" || d.Picture || d.Open != "Open video" {
		t.Errorf("kept: %+v", d)
	}
	if d := NewJobDetail(en, observe.RecentJob{Kind: "audio_tts", Thumbnail: []byte{1}}, false, now); !d.Picture || d.Open != "Play sound" {
		t.Errorf("thumbnail: %+v", d)
	}
	if d := NewJobDetail(en, observe.RecentJob{Kind: "audio_stt", Outcome: observe.OutcomeCancelled, Error: "why"}, false, now); d.Error != "" || d.Next == "" || d.Open != "Open result" {
		t.Errorf("cancelled: %+v", d)
	}
}

// Each class of failure has a next step of its own, an unknown one too.
func TestNextSteps(t *testing.T) {
	seen := map[string]string{}
	for _, class := range []string{
		"unsupported_kind", "bad_input", "model_corrupt", "engine_missing", "gpu_runtime", "out_of_memory", "engine_crash", "timeout", "internal",
	} {
		d := NewJobDetail(en, observe.RecentJob{Kind: "llm", Outcome: observe.OutcomeFailed, Class: class}, false, now)
		if other := seen[d.Next]; other != "" || d.Next == "" || d.Error == "" {
			t.Errorf("%s and %s have the step %q, error %q", class, other, d.Next, d.Error)
		}
		seen[d.Next] = class
	}
}

func TestJobLog(t *testing.T) {
	if shown, whole := JobLog(en, nil, 0, time.UTC); shown != "Nothing is kept of this job's log." || whole != "" {
		t.Errorf("nothing: %q, %q", shown, whole)
	}
	lines := []observe.LogEntry{{At: now, Message: "first"}, {At: now, Message: strings.Repeat("x", 1000)}}
	shown, whole := JobLog(en, lines, 1, time.UTC)
	if !strings.HasPrefix(shown, "1 older line is not shown\n13:02:30.000 info first\n") || !strings.HasSuffix(shown, "x…") || strings.Count(shown, "x") > logShownChars {
		t.Errorf("shows %q", shown)
	}
	if !strings.HasPrefix(whole, "13:02:30.000 info first\n") || !strings.Contains(whole, lines[1].Message+"\n") {
		t.Errorf("copies %q", whole)
	}
	many := slices.Repeat(lines[:1], logShown+5)
	if shown, whole := JobLog(en, many, 2, time.UTC); strings.Count(shown, "first") != logShown || !strings.HasPrefix(shown, "7 older lines") || strings.Count(whole, "first") != len(many) {
		t.Errorf("many: %q", shown)
	}
}

func TestKept(t *testing.T) {
	k := observe.KeptResult{Key: "k", JobID: "../job 7/ä", Kind: "image", Model: "sd", Ext: "webp", Bytes: 3_200_000, Since: now.Add(-5 * time.Minute), Expires: now.Add(6 * 24 * time.Hour)}
	if got := NewKept(en, k, now); got != (Kept{"k", "Image · sd", "3.2 MB · kept 5 min ago · removed in 6 days", "job-job-7--.webp"}) {
		t.Errorf("got %+v", got)
	}
	if got := NewKept(words.New(words.German), k, now); got.Facts != "3,2 MB · aufbewahrt vor 5 min · wird entfernt in 6 Tagen" {
		t.Errorf("got %+v", got)
	}
	k.Expires, k.JobID, k.Ext = time.Time{}, "//", ""
	if got := NewKept(en, k, now); got.Facts != "3.2 MB · kept 5 min ago" || got.File != "job-result.bin" {
		t.Errorf("got %+v", got)
	}
}
