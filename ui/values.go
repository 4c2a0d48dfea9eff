package ui

import (
	"math"

	"fyne.io/fyne/v2/data/binding"

	"studioworker/ui/model"
)

// values are the single values that the window shows, as data bindings. Widgets
// follow them; only set writes them. Setting an equal value redraws nothing.
type values struct {
	word, sentence, action binding.String

	serves, studio, registration, requestID, workerID binding.String
	connection, heartbeat, gpuNote                    binding.String
	waiting, waitingNote                              binding.String
	bar, version                                      binding.String

	jobTitle, jobFacts, jobElapsed binding.String
	jobFraction                    binding.Float
}

func newValues() *values {
	s := binding.NewString
	return &values{
		word: s(), sentence: s(), action: s(),
		serves: s(), studio: s(), registration: s(), requestID: s(), workerID: s(),
		connection: s(), heartbeat: s(), gpuNote: s(),
		waiting: s(), waitingNote: s(),
		bar: s(), version: s(),
		jobTitle: s(), jobFacts: s(), jobElapsed: s(),
		jobFraction: binding.NewFloat(),
	}
}

// set shows a snapshot's words.
func (v *values) set(st model.Status, r model.Running) {
	for _, p := range []struct {
		to   binding.String
		text string
	}{
		{v.word, st.Word},
		{v.sentence, st.Sentence},
		{v.action, string(st.Action)},
		{v.serves, st.Serves},
		{v.studio, st.Studio},
		{v.registration, st.Registration},
		{v.requestID, st.RequestID},
		{v.workerID, st.WorkerID},
		{v.connection, st.Connection},
		{v.heartbeat, st.Heartbeat},
		{v.gpuNote, st.GPUNote},
		{v.waiting, st.Waiting},
		{v.waitingNote, st.WaitingNote},
		{v.bar, st.Bar},
		{v.version, st.Version},
		{v.jobTitle, r.Title},
		{v.jobFacts, r.Line()},
		{v.jobElapsed, r.Elapsed},
	} {
		_ = p.to.Set(p.text) // a binding in memory cannot refuse
	}
	_ = v.jobFraction.Set(math.Round(r.Fraction*100) / 100)
}
