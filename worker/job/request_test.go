package job

import (
	"encoding/json"
	"reflect"
	"testing"

	"studioworker/worker/engine"
	"studioworker/worker/protocol"
)

func TestSpec028EveryFieldOfATaskReachesTheEngine(t *testing.T) {
	source := protocol.ModelSource{
		Engine: "sd-cpp",
		Files: []protocol.ModelFile{
			{Role: "model", URL: "https://models.example/a.gguf", Filename: "a.gguf", ApproxBytes: new(uint64(12)), SHA256: new("ab")},
			{Role: "vae", URL: "https://models.example/v.gguf", Filename: "v.gguf"},
		},
		CLIDefaults: protocol.CLIDefaults{
			CfgScale: 1.5, Steps: 8, Width: 640, Height: 480, SamplingMethod: new("euler"), FlowShift: new(3.0), ZeroCondT: new(true),
			OffloadToCPU: new(true), MMap: new(true), MaxVRAMGiB: new(7.5), ContextSize: new(uint32(4096)), ChatTemplateKwargs: map[string]json.RawMessage{"think": []byte("false")},
		},
	}
	wantSource := engine.Source{
		Engine: "sd-cpp",
		Files: []engine.File{
			{Role: "model", URL: "https://models.example/a.gguf", Filename: "a.gguf", ApproxBytes: 12, SHA256: "ab"},
			{Role: "vae", URL: "https://models.example/v.gguf", Filename: "v.gguf"},
		},
		Defaults: engine.Defaults{
			CFGScale: 1.5, Steps: 8, Width: 640, Height: 480, SamplingMethod: "euler", FlowShift: new(3.0), ZeroCondT: true,
			OffloadToCPU: true, MMap: true, MaxVRAMGiB: 7.5, ContextSize: 4096, ChatTemplateKwargs: []byte(`{"think":false}`),
		},
	}
	for _, tc := range []struct {
		name string
		task protocol.Task
		want engine.Request
	}{
		{
			"image",
			protocol.Task{Kind: protocol.KindImage, Image: &protocol.ImageTask{
				Prompt: "p", NegativePrompt: new("n"), InitImageURL: new("i"), MaskURL: new("m"), RefImageURL: new("r"), Denoise: new(0.25),
				CfgScale: new(7.5), SamplingMethod: new("heun"), Width: 1, Height: 2, Steps: 3, Seed: new(uint64(4)), Ext: "png",
			}},
			engine.Request{Kind: engine.KindImage, Image: &engine.Image{
				Prompt: "p", NegativePrompt: "n", InitImageURL: "i", MaskURL: "m", RefImageURL: "r", Denoise: new(0.25),
				CFGScale: 7.5, SamplingMethod: "heun", Width: 1, Height: 2, Steps: 3, Seed: new(uint64(4)), Ext: "png",
			}},
		},
		{
			"llm",
			protocol.Task{Kind: protocol.KindLLM, LLM: &protocol.LLMTask{
				Messages: []protocol.Message{{Role: "user", Content: "a"}, {Role: "assistant", Content: "b"}}, System: new("s"), MaxTokens: 1,
				Temperature: 0.5, TopP: new(0.9), Stop: []string{"x"}, JSONSchema: []byte(`{"type":"object"}`), Reasoning: new("low"),
				ChatTemplateKwargs: map[string]json.RawMessage{"think": []byte("true")},
			}},
			engine.Request{Kind: engine.KindLLM, LLM: &engine.LLM{
				Messages: []engine.Message{{Role: "user", Content: "a"}, {Role: "assistant", Content: "b"}}, System: "s", MaxTokens: 1,
				Temperature: 0.5, TopP: new(0.9), Stop: []string{"x"}, JSONSchema: []byte(`{"type":"object"}`), Reasoning: "low",
				ChatTemplateKwargs: []byte(`{"think":true}`),
			}},
		},
		{
			"audio_stt",
			protocol.Task{Kind: protocol.KindSTT, STT: &protocol.STTTask{
				InputURL: "u", Language: new("de"), Translate: new(true), Prompt: new("p"), VAD: new(true), Timestamps: new("word"),
			}},
			engine.Request{Kind: engine.KindSTT, STT: &engine.STT{
				InputURL: "u", Language: "de", Translate: true, Prompt: "p", VAD: true, Timestamps: "word",
			}},
		},
		{
			"audio_tts",
			protocol.Task{Kind: protocol.KindTTS, TTS: &protocol.TTSTask{Text: "t", Voice: "v", Speed: new(1.5), Language: new("en"), Ext: "mp3"}},
			engine.Request{Kind: engine.KindTTS, TTS: &engine.TTS{Text: "t", Voice: "v", Speed: 1.5, Language: "en", Ext: "mp3"}},
		},
		{
			"video",
			protocol.Task{Kind: protocol.KindVideo, Video: &protocol.VideoTask{
				Prompt: "p", NegativePrompt: new("n"), InitImageURL: new("i"), Seconds: 2.5, FPS: new(uint32(24)), Width: 1, Height: 2, Ext: "gif",
			}},
			engine.Request{Kind: engine.KindVideo, Video: &engine.Video{
				Prompt: "p", NegativePrompt: "n", InitImageURL: "i", Seconds: 2.5, FPS: 24, Width: 1, Height: 2, Ext: "gif",
			}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.want.JobID, tc.want.Model, tc.want.Dir, tc.want.Source = "j", "m", "/dir", wantSource
			got := request(protocol.Claim{JobID: "j", Model: "m", Task: tc.task, ModelSource: source}, "/dir")
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got  %+v\nwant %+v", got, tc.want)
			}
			// A field that is added later must be translated, and be in this table.
			noZero(t, "claim", reflect.ValueOf(parameters(tc.task)))
			noZero(t, "request", reflect.ValueOf(parametersOf(got)))
		})
	}
	noZero(t, "defaults", reflect.ValueOf(wantSource.Defaults))
	noZero(t, "CLI defaults", reflect.ValueOf(source.CLIDefaults))
	noZero(t, "file", reflect.ValueOf(source.Files[0]))
}

func TestOptionalFieldsThatAreAbsent(t *testing.T) {
	for _, task := range []protocol.Task{
		{Kind: protocol.KindImage, Image: &protocol.ImageTask{}},
		{Kind: protocol.KindLLM, LLM: &protocol.LLMTask{}},
		{Kind: protocol.KindSTT, STT: &protocol.STTTask{}},
		{Kind: protocol.KindTTS, TTS: &protocol.TTSTask{}},
		{Kind: protocol.KindVideo, Video: &protocol.VideoTask{}},
	} {
		got := request(protocol.Claim{Task: task}, "")
		if v := reflect.ValueOf(parametersOf(got)).Elem(); !v.IsZero() {
			t.Errorf("%s: %+v, want all zero", task.Kind, v)
		}
		if !reflect.ValueOf(got.Source).IsZero() {
			t.Errorf("%s: source %+v", task.Kind, got.Source)
		}
	}
}

func parameters(t protocol.Task) any {
	return map[protocol.TaskKind]any{
		protocol.KindImage: t.Image, protocol.KindLLM: t.LLM, protocol.KindSTT: t.STT, protocol.KindTTS: t.TTS, protocol.KindVideo: t.Video,
	}[t.Kind]
}

func parametersOf(r engine.Request) any {
	return map[engine.Kind]any{
		engine.KindImage: r.Image, engine.KindLLM: r.LLM, engine.KindSTT: r.STT, engine.KindTTS: r.TTS, engine.KindVideo: r.Video,
	}[r.Kind]
}

func noZero(t *testing.T, what string, v reflect.Value) {
	t.Helper()
	v = reflect.Indirect(v)
	for field, value := range v.Fields() {
		if value.IsZero() {
			t.Errorf("%s: field %s is not set", what, field.Name)
		}
	}
}
