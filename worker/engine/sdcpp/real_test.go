package sdcpp

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"studioworker/worker/engine"
	"studioworker/worker/engine/enginetest"
	"studioworker/worker/engine/program"
)

// The real sd-cli, without a model, which no package has: it must understand every
// argument, and what it says of a damaged model must be understood here.
func TestRealArguments(t *testing.T) {
	path := enginetest.File(t, "STUDIO_WORKER_TEST_SD_CLI")
	file := func(role, name string) engine.File {
		return engine.File{Role: role, Filename: name, URL: "https://models.example/" + name}
	}
	for name, change := range map[string]func(req *engine.Request){
		"plain":       func(*engine.Request) {},
		"single file": func(req *engine.Request) { req.Source.Files[0].Role = "model" },
		"everything": func(req *engine.Request) {
			req.Source.Files = []engine.File{
				file("vae", "vae.gguf"), file("diffusion-model", "d.gguf"), file("text-encoder", "llm.gguf"), file("text-encoder-vision", "vision.gguf"),
				file("lora", "style.safetensors"),
			}
			req.Source.Defaults = engine.Defaults{FlowShift: new(3.0), ZeroCondT: true, OffloadToCPU: true, MMap: true, MaxVRAMGiB: 7.5}
			req.Image = &engine.Image{
				Prompt: "a lighthouse", NegativePrompt: "blur", InitImageURL: "https://pictures.example/a", MaskURL: "https://pictures.example/m",
				Denoise: new(0.55), Seed: new(uint64(1) << 40), CFGScale: 7.5, SamplingMethod: "euler", Width: 64, Height: 64, Ext: "webp",
			}
		},
		"a reference": func(req *engine.Request) { req.Image.RefImageURL = "https://pictures.example/b" },
		"a video": func(req *engine.Request) {
			req.Kind, req.Video = engine.KindVideo, &engine.Video{Prompt: "waves", InitImageURL: "https://pictures.example/a", Seconds: 1, Width: 64, Height: 64}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, "")
			b.cfg.Video = noVideo{}
			b.cfg.Tool = &program.Tool{
				Places: program.Places{Environ: os.Environ()}, Ask: []string{"--version"}, Version: VersionOf,
				Query: func() program.Query { return program.Query{Name: "sd-cli", Variable: path} },
			}
			state, err := b.cfg.Tool.Now(t.Context())
			if err != nil || !state.Runs() || state.Version == "" {
				t.Fatalf("state %+v, %v", state, err)
			}
			req := job(t)
			change(&req)
			_, err = b.run(t.Context(), t, req, nil)
			failed, ok := errors.AsType[*engine.Error](err)
			if !ok || failed.Class != engine.ClassModelCorrupt || strings.Contains(b.log.String(), "unknown argument") || strings.Contains(b.log.String(), "invalid parameter for argument: -") &&
				!strings.Contains(b.log.String(), "--help") {
				t.Errorf("err = %v\n%s", err, b.log.String())
			}
			if entries, err := os.ReadDir(req.Dir); err != nil || len(entries) != 0 {
				t.Errorf("left %v, %v", entries, err)
			}
		})
	}
}

// noVideo is never asked for a video.
type noVideo struct{}

func (noVideo) Assemble(context.Context, string, string, int, string, func(int)) (engine.Result, error) {
	return engine.Result{}, errors.New("there are no pictures")
}

func TestRealBadPicture(t *testing.T) {
	path := enginetest.File(t, "STUDIO_WORKER_TEST_SD_CLI")
	b := newBench(t, "")
	b.cfg.Tool.Query = func() program.Query { return program.Query{Name: "sd-cli", Variable: path} }
	b.cfg.Inputs = album{"https://pictures.example/a": []byte("\x89PNG\r\n\x1a\n but no picture")}
	req := job(t)
	req.Image.InitImageURL = "https://pictures.example/a"
	_, err := b.run(t.Context(), t, req, nil)
	if err == nil || engine.Retryable(err) {
		t.Errorf("err = %v", err)
	}
	if entries, err := os.ReadDir(filepath.Dir(b.trace)); err != nil || len(entries) != 0 {
		t.Errorf("the fake ran: %v, %v", entries, err)
	}
}
