package studio

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"studioworker/studio/store"

	"studioworker/studio/client"
	"studioworker/worker/protocol"
)

// Bounds of what is submitted. Those of task parameters are the specification's
// (§4); zero passes where it has a meaning of its own there.
const (
	maxPrompt   = 20_000 // characters
	maxLabel    = 200    // characters of a model, game or asset name
	maxOption   = 64     // characters of a voice, a language and their like
	maxURL      = 4096   // characters
	maxVRAM     = 1024   // GiB
	maxFiles    = 64     // of a model
	maxMessages = 4096
	maxSeed     = 1<<53 - 1
)

// decodeJob reads a submitted job and checks everything but the model. What it
// lets through can be offered: a worker can read it.
func decodeJob(data []byte) (client.Job, error) {
	var job client.Job
	if err := json.Unmarshal(data, &job); err != nil {
		return client.Job{}, fmt.Errorf("the job cannot be read: %w", err)
	}
	if job.Task.Kind == "" {
		return client.Job{}, errors.New("the job has no task")
	}
	if err := cmp.Or(
		label("model", job.Model, 1), label("gameId", job.GameID, 0), label("assetName", job.AssetName, 0), label("webhook", job.Webhook, 0),
		source(job.ModelSource), priority(job.Priority), within("vramGbEstimate", job.VRAMGBEstimate, 0, maxVRAM), checkTask(job.Task),
	); err != nil {
		return client.Job{}, err
	}
	return job, offerable(job)
}

// take stores a job of the caller's and queues it. What is the caller's fault, or
// too much now, is a *refusal. origin is what the caller calls the studio.
func (s *Studio) take(ctx context.Context, in client.Job, who caller, origin string) (*job, error) {
	now := time.Now().UTC()
	id := s.hub.newJobID(now)
	game := cmp.Or(in.GameID, "studio")
	rec := store.Job{
		ID: id, GameID: game, AssetName: cmp.Or(in.AssetName, fmt.Sprintf("%s/%s/%s", game, in.Task.Kind, id)),
		Model: in.Model, Task: in.Task, CreatedAt: now, Submitter: who.key, Priority: in.Priority,
	}
	if in.Priority > who.maxPriority {
		return nil, &refusal{status: http.StatusForbidden, code: "priority_too_high", message: fmt.Sprintf("this API key may ask for a priority up to %d", who.maxPriority)}
	}
	switch {
	case in.ModelSource != nil && !who.operator():
		return nil, &refusal{status: http.StatusForbidden, code: "forbidden", message: "only the operator may give a modelSource; name a model of GET /api/v1/models"}
	case in.ModelSource != nil:
		rec.Source = *in.ModelSource
	default:
		model, err := s.model(ctx, in.Model, in.Task.Kind)
		if err != nil {
			return nil, err
		}
		rec.Source, rec.VRAMGBEstimate = model.Source, model.VRAMGBEstimate
	}
	if in.VRAMGBEstimate != nil {
		rec.VRAMGBEstimate = *in.VRAMGBEstimate
	}
	if err := s.hub.full(who.key); err != nil {
		return nil, err
	}
	var err error
	if rec.Hooks, err = s.webhooks.forJob(ctx, in.Webhook); err != nil {
		return nil, err
	}
	if rec.Inputs, err = s.useInputs(ctx, in.Task, origin); errors.Is(err, errNoInput) {
		return nil, &refusal{status: http.StatusUnprocessableEntity, code: "unknown_input", message: err.Error()}
	} else if err != nil {
		return nil, err
	}
	return s.hub.submit(ctx, rec)
}

// model finds the model for a job of the kind. One that is not there, or does
// something else, is a *refusal.
func (s *Studio) model(ctx context.Context, id string, kind protocol.TaskKind) (store.Model, error) {
	e, err := s.store.Models.Get(ctx, modelKey(id))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return store.Model{}, &refusal{
			status: http.StatusUnprocessableEntity, code: "unknown_model",
			message: fmt.Sprintf("the studio has no model %.200q; GET /api/v1/models lists them", id),
		}
	case err != nil:
		return store.Model{}, err
	case !slices.Contains(e.Value.Kinds, kind):
		return store.Model{}, &refusal{
			status: http.StatusUnprocessableEntity, code: "wrong_model",
			message: fmt.Sprintf("the model %.200q does not do %s; GET /api/v1/models lists what each does", id, kind),
		}
	}
	return e.Value, nil
}

// offerable makes sure that a worker accepts the frame that will carry the job:
// its decoder also bounds nesting.
func offerable(job client.Job) error {
	claim := protocol.Claim{JobID: "job", Model: job.Model, Task: job.Task}
	if job.ModelSource != nil {
		claim.ModelSource = *job.ModelSource
	}
	frame, err := protocol.Encode(protocol.Offer{Claim: claim})
	if err != nil {
		return fmt.Errorf("the job cannot be offered: %w", err)
	}
	if _, err := protocol.DecodeStudioFrame(frame); err != nil {
		return fmt.Errorf("the job cannot be offered: %w", err)
	}
	return nil
}

func source(s *protocol.ModelSource) error {
	switch {
	case s == nil:
		return nil
	case len(s.Files) > maxFiles:
		return fmt.Errorf("modelSource.files: more than %d", maxFiles)
	}
	return label("modelSource.engine", string(s.Engine), 1)
}

func priority(n int) error {
	if n < client.MinPriority || n > client.MaxPriority {
		return fmt.Errorf("priority: is %d, must be %d to %d", n, client.MinPriority, client.MaxPriority)
	}
	return nil
}

func checkTask(t protocol.Task) error {
	switch {
	case t.Image != nil:
		p := t.Image
		return cmp.Or(
			text("prompt", p.Prompt, 1, maxPrompt), option("negativePrompt", p.NegativePrompt, maxPrompt),
			link("initImageUrl", p.InitImageURL), link("maskUrl", p.MaskURL), link("refImageUrl", p.RefImageURL),
			within("denoise", p.Denoise, 0, 1), within("cfgScale", p.CfgScale, 0, 30), option("samplingMethod", p.SamplingMethod, maxOption),
			side("width", p.Width, 4096), side("height", p.Height, 4096), between("steps", p.Steps, 1, 150),
			seed(p.Seed), ext(p.Ext, "png", "webp", "jpg", "bmp"),
		)
	case t.LLM != nil:
		p := t.LLM
		if len(p.Messages) > maxMessages {
			return fmt.Errorf("task.messages: more than %d", maxMessages)
		}
		return cmp.Or(
			between("maxTokens", p.MaxTokens, 0, 32768), within("temperature", &p.Temperature, 0, 2), within("topP", p.TopP, 0, 1),
			option("reasoning", p.Reasoning, maxOption),
		)
	case t.STT != nil:
		p := t.STT
		if p.Timestamps != nil && *p.Timestamps != "segment" && *p.Timestamps != "word" {
			return errors.New("task.timestamps: must be segment or word")
		}
		return cmp.Or(link("inputUrl", &p.InputURL), option("language", p.Language, maxOption), option("prompt", p.Prompt, maxPrompt))
	case t.TTS != nil:
		p := t.TTS
		return cmp.Or(
			text("text", p.Text, 1, maxPrompt), text("voice", p.Voice, 1, maxOption), within("speed", p.Speed, 0.25, 4),
			option("language", p.Language, maxOption), ext(p.Ext, "wav", "mp3", "ogg", "opus", "flac", "m4a"),
		)
	case t.Video != nil:
		p := t.Video
		if p.FPS != nil {
			if err := between("fps", *p.FPS, 1, 60); err != nil {
				return err
			}
		}
		return cmp.Or(
			text("prompt", p.Prompt, 1, maxPrompt), option("negativePrompt", p.NegativePrompt, maxPrompt), link("initImageUrl", p.InitImageURL),
			within("seconds", &p.Seconds, 0.1, 60), side("width", p.Width, 2048), side("height", p.Height, 2048), ext(p.Ext, "mp4", "webm", "gif", "webp"),
		)
	}
	return errors.New("the job has no task")
}

// label checks a name that people and logs will see.
func label(name, value string, least int) error {
	if n := utf8.RuneCountInString(value); n < least || n > maxLabel {
		return fmt.Errorf("%s: must have %d to %d characters", name, least, maxLabel)
	}
	if strings.ContainsFunc(value, unicode.IsControl) {
		return fmt.Errorf("%s: must not have control characters", name)
	}
	return nil
}

func text(name, value string, least, most int) error {
	if n := utf8.RuneCountInString(value); n < least || n > most {
		return fmt.Errorf("task.%s: has %d characters, must have %d to %d", name, n, least, most)
	}
	return nil
}

func option(name string, value *string, most int) error {
	if value == nil {
		return nil
	}
	return text(name, *value, 0, most)
}

func within(name string, value *float64, least, most float64) error {
	if value != nil && !(*value >= least && *value <= most) {
		return fmt.Errorf("%s: is %v, must be %v to %v", name, *value, least, most)
	}
	return nil
}

func between(name string, value, least, most uint32) error {
	if value < least || value > most {
		return fmt.Errorf("task.%s: is %d, must be %d to %d", name, value, least, most)
	}
	return nil
}

// side checks a width or height; 0 leaves the choice to the model.
func side(name string, value, most uint32) error {
	if value == 0 {
		return nil
	}
	return between(name, value, 64, most)
}

func seed(value *uint64) error {
	if value != nil && *value > maxSeed {
		return fmt.Errorf("task.seed: is %d, must be 0 to %d", *value, uint64(maxSeed))
	}
	return nil
}

// link checks the address of an input. Which hosts are allowed is the worker's
// decision.
func link(name string, value *string) error {
	if value == nil {
		return nil
	}
	u, err := url.Parse(*value)
	if err != nil || len(*value) > maxURL || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" {
		return fmt.Errorf("task.%s: must be an http or https address", name)
	}
	return nil
}

func ext(value string, allowed ...string) error {
	if !slices.Contains(allowed, value) {
		return fmt.Errorf("task.ext: is %.20q, must be one of %s", value, strings.Join(allowed, ", "))
	}
	return nil
}
