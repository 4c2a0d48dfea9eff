package app

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"studioworker/studio/client"
	"studioworker/worker/protocol"
)

// makeJob builds a job from what a person typed. An empty model takes the
// studio's best for the kind, among those that served accepts.
func makeJob(ctx context.Context, c *client.Client, kind protocol.TaskKind, model, text string, served func(client.Model) bool) (client.Job, error) {
	job := client.Job{Model: model, Task: protocol.Task{Kind: kind}}
	if text == "" {
		return job, errors.New("there is no text")
	}
	switch kind {
	case protocol.KindImage:
		job.Task.Image = &protocol.ImageTask{
			Prompt: text, Width: protocol.DefaultSide, Height: protocol.DefaultSide, Steps: protocol.DefaultSteps, Ext: "webp",
		}
	case protocol.KindLLM:
		job.Task.LLM = &protocol.LLMTask{
			Messages:  []protocol.Message{{Role: "user", Content: text}},
			MaxTokens: protocol.DefaultMaxTokens, Temperature: protocol.DefaultTemperature,
		}
	case protocol.KindSTT:
		job.Task.STT = &protocol.STTTask{InputURL: text}
	case protocol.KindTTS:
		job.Task.TTS = &protocol.TTSTask{Text: text, Voice: protocol.DefaultVoice, Ext: "wav"}
	case protocol.KindVideo:
		job.Task.Video = &protocol.VideoTask{
			Prompt: text, Seconds: protocol.DefaultSeconds, Width: protocol.DefaultSide, Height: protocol.DefaultSide, Ext: "mp4",
		}
	default:
		return job, fmt.Errorf("%q is no kind of job: use one of %v", kind, protocol.TaskKinds())
	}
	if model != "" {
		return job, nil
	}
	models, err := c.Models(ctx)
	if err != nil {
		return job, err
	}
	job.Model, err = bestModel(slices.DeleteFunc(models, func(m client.Model) bool { return !served(m) }), kind)
	return job, err
}

// anywhere accepts every model: some worker of the studio may serve it.
func anywhere(client.Model) bool { return true }

// servedBy accepts what a worker that advertises models can serve.
func servedBy(models []string) func(client.Model) bool {
	return func(m client.Model) bool {
		return slices.Contains(models, m.ID) || slices.Contains(models, string(m.Engine)+":*")
	}
}

// bestModel prefers an engine that really computes over the synthetic one.
func bestModel(models []client.Model, kind protocol.TaskKind) (string, error) {
	best := ""
	for _, m := range models {
		if slices.Contains(m.Kinds, kind) && (best == "" || m.Engine != protocol.EngineSynthetic) {
			best = m.ID
		}
	}
	if best == "" {
		return "", fmt.Errorf("the studio has no model for %s jobs", kind)
	}
	return best, nil
}

// follow reports a job's progress until it ends, and returns how it ended. A
// broken event stream is taken up again.
func follow(ctx context.Context, c *client.Client, id string, say func(client.Event)) (client.JobStatus, error) {
	for {
		var last client.JobStatus
		var failure error
		for event, err := range c.Events(ctx, id) {
			if err != nil {
				failure = err
				break
			}
			last = event.Job
			say(event)
		}
		switch {
		case last.State.Final():
			return last, nil
		case ctx.Err() != nil:
			return last, ctx.Err()
		case failure != nil:
			return last, fmt.Errorf("watch job %s: %w", id, failure)
		}
	}
}
