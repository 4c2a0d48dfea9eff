package model

import (
	"slices"
	"testing"

	"studioworker/worker/observe"
)

func TestNotice(t *testing.T) {
	job := func(kind string, o observe.Outcome) []observe.RecentJob {
		return []observe.RecentJob{{Kind: kind, Outcome: o, Prompt: "secret", Preview: "secret", Model: "$(x)", Error: "secret"}}
	}
	done, kept := job("image", observe.OutcomeCompleted), job("llm", observe.OutcomeKept)
	failed, cancelled := job("audio_tts", observe.OutcomeFailed), job("video", observe.OutcomeCancelled)
	for _, tc := range []struct {
		name         string
		jobs         []observe.RecentJob
		done, failed bool
		want         Notice
	}{
		{"none", nil, true, true, Notice{}},
		{"one done", done, true, true, Notice{"Job done", "Image"}},
		{"one that waits for the studio", kept, true, true, Notice{"Job done", "Text"}},
		{"of a kind that is not ours", job("$(rm)", observe.OutcomeCompleted), true, true, Notice{"Job done", ""}},
		{"one done, not wanted", done, false, true, Notice{}},
		{"one failed", failed, true, true, Notice{"Job failed", "Speech · The Jobs page says why."}},
		{"one failed, not wanted", failed, true, false, Notice{}},
		{"one cancelled", cancelled, true, true, Notice{}},
		{"many done", slices.Concat(done, kept, done), true, true, Notice{"3 jobs are done", ""}},
		{"many failed", slices.Concat(failed, failed, done), false, true, Notice{"2 jobs failed", "The Jobs page says why."}},
		{"both", slices.Concat(failed, done, cancelled), true, true, Notice{"1 job is done", "1 job failed · The Jobs page says why."}},
	} {
		if got, ok := NewNotice(en, tc.jobs, tc.done, tc.failed); got != tc.want || ok != (tc.want != Notice{}) {
			t.Errorf("%s: got %q, %v", tc.name, got, ok)
		}
	}
}

// What the tray says changes with what a person would want to know, not with each
// step of a job.
func TestTooltip(t *testing.T) {
	a, b := with(running), with(running)
	b.Job.Progress.Step++
	if got := Tooltip(en, a, now); got != "Working: image · sd-turbo" || got != Tooltip(en, b, now.AddDate(0, 0, 1)) {
		t.Errorf("working: %q", got)
	}
	for _, tc := range []struct {
		name   string
		change func(*Snapshot)
		want   string
	}{
		{"idle", func(*Snapshot) {}, "Idle: Ready for jobs"},
		{"paused", func(s *Snapshot) { s.Availability.Block = observe.BlockPaused }, "Paused: Paused by you until you resume"},
		{"reconnecting", func(s *Snapshot) {
			s.Session = observe.Session{State: observe.SessionReconnecting, RetryAt: now.Add(5e9)}
		}, "Reconnecting"},
		{"declined", func(s *Snapshot) {
			s.Registration = observe.Registration{State: observe.RegistrationRejected, Reason: "no"}
		}, "Declined: The studio declined this computer: no"},
	} {
		if got := Tooltip(en, with(tc.change), now); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}
