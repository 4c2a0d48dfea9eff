package job

import (
	"encoding/json"

	"studioworker/worker/engine"
	"studioworker/worker/protocol"
)

// request translates a claim for the engines, which know no protocol.
func request(c protocol.Claim, dir string) engine.Request {
	source := c.ModelSource
	r := engine.Request{
		JobID: c.JobID, Kind: engine.Kind(c.Task.Kind), Model: c.Model, Dir: dir, MemoryGB: c.VRAMGBEstimate,
		Source: engine.Source{Engine: engine.ID(source.Engine), Defaults: defaults(source.CLIDefaults)},
	}
	for _, f := range source.Files {
		r.Source.Files = append(r.Source.Files, engine.File{
			Role: f.Role, URL: f.URL, Filename: f.Filename, ApproxBytes: value(f.ApproxBytes), SHA256: value(f.SHA256),
		})
	}
	switch t := c.Task; t.Kind {
	case protocol.KindImage:
		r.Image = &engine.Image{
			Prompt: t.Image.Prompt, NegativePrompt: value(t.Image.NegativePrompt), InitImageURL: value(t.Image.InitImageURL),
			MaskURL: value(t.Image.MaskURL), RefImageURL: value(t.Image.RefImageURL), Denoise: t.Image.Denoise,
			CFGScale: value(t.Image.CfgScale), SamplingMethod: value(t.Image.SamplingMethod), Width: t.Image.Width,
			Height: t.Image.Height, Steps: t.Image.Steps, Seed: t.Image.Seed, Ext: t.Image.Ext,
		}
	case protocol.KindLLM:
		r.LLM = &engine.LLM{
			System: value(t.LLM.System), MaxTokens: t.LLM.MaxTokens, Temperature: t.LLM.Temperature, TopP: t.LLM.TopP,
			Stop: t.LLM.Stop, JSONSchema: t.LLM.JSONSchema, Reasoning: value(t.LLM.Reasoning),
			ChatTemplateKwargs: object(t.LLM.ChatTemplateKwargs),
		}
		for _, m := range t.LLM.Messages {
			r.LLM.Messages = append(r.LLM.Messages, engine.Message(m))
		}
	case protocol.KindSTT:
		r.STT = &engine.STT{
			InputURL: t.STT.InputURL, Language: value(t.STT.Language), Translate: value(t.STT.Translate),
			Prompt: value(t.STT.Prompt), VAD: value(t.STT.VAD), Timestamps: value(t.STT.Timestamps),
		}
	case protocol.KindTTS:
		r.TTS = &engine.TTS{
			Text: t.TTS.Text, Voice: t.TTS.Voice, Speed: value(t.TTS.Speed), Language: value(t.TTS.Language), Ext: t.TTS.Ext,
		}
	case protocol.KindVideo:
		r.Video = &engine.Video{
			Prompt: t.Video.Prompt, NegativePrompt: value(t.Video.NegativePrompt), InitImageURL: value(t.Video.InitImageURL),
			Seconds: t.Video.Seconds, FPS: value(t.Video.FPS), Width: t.Video.Width, Height: t.Video.Height, Ext: t.Video.Ext,
		}
	}
	return r
}

func defaults(d protocol.CLIDefaults) engine.Defaults {
	return engine.Defaults{
		CFGScale: d.CfgScale, Steps: d.Steps, Width: d.Width, Height: d.Height, SamplingMethod: value(d.SamplingMethod),
		FlowShift: d.FlowShift, ZeroCondT: value(d.ZeroCondT), OffloadToCPU: value(d.OffloadToCPU),
		MMap: value(d.MMap), MaxVRAMGiB: value(d.MaxVRAMGiB), ContextSize: value(d.ContextSize), ChatTemplateKwargs: object(d.ChatTemplateKwargs),
	}
}

// value is what an optional field holds; absent is the zero value.
func value[T any](v *T) T {
	if v == nil {
		var zero T
		return zero
	}
	return *v
}

// object puts the members of a JSON object together again; nil stays nil.
func object(members map[string]json.RawMessage) json.RawMessage {
	if members == nil {
		return nil
	}
	data, err := json.Marshal(members)
	if err != nil { // the members came out of a decoder, so they are valid
		return nil
	}
	return data
}
