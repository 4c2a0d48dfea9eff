package model

import (
	"studioworker/ui/words"
	"studioworker/worker/observe"
)

// Notice is one message of the desktop.
type Notice struct{ Title, Body string }

// NewNotice words what became of jobs: of one by itself, of several together. It is
// false when nobody wants to hear of any. Nothing of a job but its kind gets into a
// notice, and only kinds that this program knows: the desktops pass the text
// through shells and on to locked screens.
func NewNotice(p *words.Printer, jobs []observe.RecentJob, done, failed bool) (Notice, bool) {
	var dones, failures []observe.RecentJob
	for _, j := range jobs {
		switch j.Outcome {
		case observe.OutcomeCompleted, observe.OutcomeKept:
			if done {
				dones = append(dones, j)
			}
		case observe.OutcomeFailed:
			if failed {
				failures = append(failures, j)
			}
		case observe.OutcomeCancelled:
		}
	}
	switch {
	case len(dones)+len(failures) == 0:
		return Notice{}, false
	case len(failures) == 0 && len(dones) == 1:
		return Notice{p.T("Job done"), knownKind(p, dones[0].Kind)}, true
	case len(dones) == 0 && len(failures) == 1:
		return Notice{p.T("Job failed"), facts(knownKind(p, failures[0].Kind), p.T("The Jobs page says why."))}, true
	case len(failures) == 0:
		return Notice{p.T("%d jobs are done", len(dones)), ""}, true
	case len(dones) == 0:
		return Notice{p.T("%d jobs failed", len(failures)), p.T("The Jobs page says why.")}, true
	}
	return Notice{p.T("%d jobs are done", len(dones)), p.T("%d jobs failed", len(failures)) + " · " + p.T("The Jobs page says why.")}, true
}

func knownKind(p *words.Printer, kind string) string {
	for _, c := range KindChoices(p)[1:] {
		if c.Value == kind {
			return c.Name
		}
	}
	return ""
}
