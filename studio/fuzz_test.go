package studio

import (
	"testing"

	"studioworker/worker/protocol"
)

// FuzzDecodeJob: no body makes the decoder panic, and what it lets through can
// be offered to a worker and read there.
func FuzzDecodeJob(f *testing.F) {
	for _, seed := range []string{imageJob, llmJob, voiceJob, `{"model":"m","task":{"kind":"video","prompt":"x"},"vramGbEstimate":1e300}`, `{`, `null`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		job, err := decodeJob(data)
		if err != nil {
			return
		}
		claim := protocol.Claim{JobID: "j", Model: job.Model, Task: job.Task}
		if job.ModelSource != nil {
			claim.ModelSource = *job.ModelSource
		}
		frame, err := protocol.Encode(protocol.Offer{Claim: claim})
		if err != nil {
			t.Fatalf("the job cannot be offered: %v", err)
		}
		got, err := protocol.DecodeStudioFrame(frame)
		if err != nil {
			t.Fatalf("the offer cannot be read: %v", err)
		}
		if offer, ok := got.(protocol.Offer); !ok || offer.Claim.Task.Kind != job.Task.Kind || offer.Claim.Model != job.Model {
			t.Errorf("the offer arrives as %+v", got)
		}
	})
}
