package whispercpp

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"studioworker/worker/engine"
	"studioworker/worker/engine/enginetest"
	"studioworker/worker/engine/media"
	"studioworker/worker/engine/program"
)

// realEngine is an engine over the real whisper-cli, and the name of a model in
// its folder.
func realEngine(t *testing.T, sounds tape) (*Engine, string) {
	t.Helper()
	path := enginetest.Program(t, "STUDIO_WORKER_WHISPER_CLI", "whisper-cli")
	model := enginetest.File(t, "STUDIO_WORKER_TEST_WHISPER_MODEL")
	places := program.Places{Environ: os.Environ(), Path: os.Getenv("PATH")}
	return New(Config{
		Tool: &program.Tool{
			Places: places, Ask: []string{"--help"}, Version: VersionOf,
			Query: func() program.Query { return program.Query{Name: "whisper-cli", Variable: path} },
		},
		Models: shelf{dir: filepath.Dir(model)}, Inputs: sounds, CPU: func() bool { return true },
		Sound: media.FFmpeg{Tool: &program.Tool{
			Places: places, Ask: []string{"-version"}, Query: func() program.Query { return program.Query{Name: "ffmpeg"} },
		}},
	}), filepath.Base(model)
}

// spokenBy is a WAV that the real espeak-ng made.
func spokenBy(t *testing.T, text string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.wav")
	speak := enginetest.Program(t, "STUDIO_WORKER_ESPEAK", "espeak-ng")
	if out, err := exec.CommandContext(t.Context(), speak, "-s", "150", "-w", path, text).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRealTranscript(t *testing.T) {
	e, model := realEngine(t, tape{
		"https://sounds.example/a.wav":    spokenBy(t, "Please open the door and close the window."),
		"https://sounds.example/text.wav": []byte("this is no sound"),
	})
	if got := e.Models()[engine.KindSTT]; len(got) != 1 {
		t.Fatalf("advertises %q", got)
	}
	req := job(t)
	req.Source.Files[0].Filename = model
	req.STT.Timestamps = "word"
	far := 0
	text, err := run(t.Context(), t, e, req, func(p engine.Progress) { far = max(far, p.Step) })
	if err != nil {
		t.Fatal(err)
	}
	var got result
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.ToLower(got.Text), "door") || !strings.Contains(strings.ToLower(got.Text), "window") {
		t.Errorf("heard %q", got.Text)
	}
	if got.Language != "en" || got.Duration < 1 || got.Duration > 8 || far != 100 {
		t.Errorf("language %q, %v s, %d %% at the end", got.Language, got.Duration, far)
	}
	if len(got.Segments) == 0 || len(got.Words) < 6 {
		t.Fatalf("%d segments, %d words", len(got.Segments), len(got.Words))
	}
	said := ""
	for i, w := range got.Words {
		if w.End < w.Start || i > 0 && w.Start < got.Words[i-1].Start || w.Probability <= 0 || w.Probability > 1 {
			t.Errorf("word %+v", w)
		}
		said += " " + w.Word
	}
	if strings.TrimSpace(said) != got.Text {
		t.Errorf("the words say %q, the text %q", said, got.Text)
	}
	t.Run("no sound", func(t *testing.T) {
		req := job(t)
		req.Source.Files[0].Filename, req.STT.InputURL = model, "https://sounds.example/text.wav"
		if _, err := run(t.Context(), t, e, req, nil); err == nil || engine.Retryable(err) {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("an unknown language", func(t *testing.T) {
		plain := filepath.Join(t.TempDir(), "ggml-tiny.bin") // a name that does not say English
		if err := os.Symlink(filepath.Join(e.cfg.Models.(shelf).dir, model), plain); err != nil {
			t.Fatal(err)
		}
		other := *e
		other.cfg.Models = shelf{dir: filepath.Dir(plain)}
		req := job(t)
		req.Source.Files[0].Filename, req.STT.Language = filepath.Base(plain), "qq"
		if _, err := run(t.Context(), t, &other, req, nil); err == nil || engine.Retryable(err) || !strings.Contains(err.Error(), "unknown language") {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("a damaged model", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "ggml-base.bin"), []byte("no model at all"), 0o600); err != nil {
			t.Fatal(err)
		}
		other := *e
		other.cfg.Models = shelf{dir: dir}
		_, err := run(t.Context(), t, &other, job(t), nil)
		if failed, ok := errors.AsType[*engine.Error](err); !ok || failed.Class != engine.ClassModelCorrupt {
			t.Errorf("err = %v", err)
		}
	})
}
