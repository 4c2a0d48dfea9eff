package synthetic_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"image"
	_ "image/png" // decodes results
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	_ "golang.org/x/image/webp" // decodes results

	"studioworker/worker/engine"
	"studioworker/worker/engine/synthetic"
)

// run does one job and returns what it made.
func run(t *testing.T, req engine.Request) (engine.Result, []byte) {
	t.Helper()
	req.Dir = t.TempDir()
	res, err := synthetic.New().Run(t.Context(), req, func(engine.Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	if res.JSON != "" {
		if res.File != "" {
			t.Errorf("the result is both text and %s", res.File)
		}
		return res, []byte(res.JSON)
	}
	data, err := os.ReadFile(filepath.Join(req.Dir, res.File))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(req.Dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("folder holds %v, %v; want only the result", entries, err)
	}
	return res, data
}

func imageJob(prompt string, w, h uint32, ext string) engine.Request {
	return engine.Request{Kind: engine.KindImage, Image: &engine.Image{Prompt: prompt, Width: w, Height: h, Ext: ext}}
}

func TestSpec(t *testing.T) {
	t.Run("#101 images decode as the format they claim", func(t *testing.T) {
		for asked, want := range map[string]string{"webp": "webp", "WEBP": "webp", "png": "png", "jpg": "png", "": "png"} {
			res, data := run(t, imageJob("a lighthouse", 96, 64, asked))
			_, format, err := image.Decode(bytes.NewReader(data))
			if err != nil || res.Ext != want || format != want {
				t.Errorf("asked %q: ext %q, bytes %q, %v; want %q", asked, res.Ext, format, err, want)
			}
		}
	})
	t.Run("#102 the same prompt gives the same bytes", func(t *testing.T) {
		for _, ext := range []string{"webp", "png"} {
			_, first := run(t, imageJob("a lighthouse", 128, 128, ext))
			_, again := run(t, imageJob("a lighthouse", 128, 128, ext))
			_, other := run(t, imageJob("a windmill", 128, 128, ext))
			if !bytes.Equal(first, again) || bytes.Equal(first, other) {
				t.Errorf("%s: repeated %v, other equal %v", ext, bytes.Equal(first, again), bytes.Equal(first, other))
			}
		}
	})
	t.Run("#103 llm", func(t *testing.T) {
		job := engine.Request{Kind: engine.KindLLM, LLM: &engine.LLM{
			System:   "not counted",
			Messages: []engine.Message{{Role: "user", Content: "name a town"}, {Role: "assistant", Content: "Saltmere"}},
		}}
		res, data := run(t, job)
		// The digits are those of: printf 'user: name a town\nassistant: Saltmere' | sha256sum
		want := `{"object":"chat.completion","model":"synthetic-llm","choices":[{"index":0,"message":{"role":"assistant",` +
			`"content":"[synthetic] reply to prompt #ae465a70f62ad160"},"finish_reason":"stop"}],` +
			`"usage":{"prompt_tokens":6,"completion_tokens":8,"total_tokens":14}}`
		if got := string(data); res.Ext != "json" || got != want {
			t.Errorf("%s: %s", res.Ext, got)
		}
	})
	t.Run("#104 stt keeps the language", func(t *testing.T) {
		for given, want := range map[string]string{"nl": "nl", "": "en"} {
			res, data := run(t, engine.Request{Kind: engine.KindSTT, STT: &engine.STT{InputURL: "https://x.test/a.wav", Language: given}})
			var got map[string]any
			if err := json.Unmarshal(data, &got); err != nil {
				t.Fatal(err)
			}
			wanted := map[string]any{"text": "[synthetic] transcript of 5ca33066205d26c5", "language": want, "duration": 1.0}
			if !reflect.DeepEqual(got, wanted) || res.Ext != "json" {
				t.Errorf("%s: %v, want %v", res.Ext, got, wanted)
			}
		}
	})
	t.Run("#105 tts is one second of sound", func(t *testing.T) {
		res, data := run(t, engine.Request{Kind: engine.KindTTS, TTS: &engine.TTS{Text: "hello", Ext: "mp3"}})
		var head struct {
			Riff     [4]byte
			Size     uint32
			Wave     [8]byte
			Part     uint32
			Format   uint16
			Channels uint16
			Rate     uint32
			PerSec   uint32
			PerFrame uint16
			Bits     uint16
			Data     [4]byte
			Length   uint32
		}
		if err := binary.Read(bytes.NewReader(data), binary.LittleEndian, &head); err != nil {
			t.Fatal(err)
		}
		if res.Ext != "wav" || string(head.Riff[:]) != "RIFF" || string(head.Wave[:]) != "WAVEfmt " || string(head.Data[:]) != "data" ||
			int(head.Size) != len(data)-8 || head.Part != 16 || head.Format != 1 || head.Channels != 1 || head.Rate != 22050 ||
			head.PerSec != 44100 || head.PerFrame != 2 || head.Bits != 16 || head.Length != 22050*2 || len(data) != 44+22050*2 {
			t.Errorf("%s: %d bytes, %+v", res.Ext, len(data), head)
		}
		// The pitch follows from the text: count upward crossings of zero.
		crossings, last := 0, int16(0)
		for i := 44; i < len(data); i += 2 {
			value := int16(binary.LittleEndian.Uint16(data[i:]))
			if last < 0 && value >= 0 {
				crossings++
			}
			last = value
		}
		// sha256("hello") starts with 2c, so the pitch is 220 + 660*44/255 Hz.
		if crossings < 332 || crossings > 335 {
			t.Errorf("pitch is about %d Hz, want 334", crossings)
		}
	})
	t.Run("#106 video asked as mp4 is webp", func(t *testing.T) {
		res, data := run(t, engine.Request{Kind: engine.KindVideo, Video: &engine.Video{Prompt: "waves", Width: 200, Height: 100, Ext: "mp4"}})
		cfg, format, err := image.DecodeConfig(bytes.NewReader(data))
		if err != nil || res.Ext != "webp" || format != "webp" || cfg.Width != 200 || cfg.Height != 100 {
			t.Errorf("%+v %s %v %v", res, format, cfg, err)
		}
	})
	t.Run("#107 all kinds are advertised, never a wildcard", func(t *testing.T) {
		models := synthetic.New().Models()
		for _, kind := range engine.Kinds() {
			names := models[kind]
			if len(names) != 2 || names[0] != "synthetic" || !strings.HasPrefix(names[1], "synthetic-") || slices.Contains(names, "*") {
				t.Errorf("%s: %q", kind, names)
			}
		}
	})
}

func TestImageSizes(t *testing.T) {
	for name, c := range map[string]struct {
		w, h         uint32
		ext          string
		wantW, wantH int
		wantExt      string
	}{
		"as asked":           {300, 200, "webp", 300, 200, "webp"},
		"not chosen":         {0, 0, "png", 512, 512, "png"},
		"too small":          {1, 63, "png", 64, 64, "png"},
		"too large":          {1 << 31, 64, "png", 4096, 64, "png"},
		"too large for webp": {4096, 1025, "webp", 4096, 1025, "png"},
	} {
		t.Run(name, func(t *testing.T) {
			res, data := run(t, imageJob("x", c.w, c.h, c.ext))
			cfg, format, err := image.DecodeConfig(bytes.NewReader(data))
			if err != nil || cfg.Width != c.wantW || cfg.Height != c.wantH || format != c.wantExt || res.Ext != c.wantExt {
				t.Errorf("got %dx%d %s (%s), %v", cfg.Width, cfg.Height, format, res.Ext, err)
			}
		})
	}
}

func TestRunReportsProgressAndStops(t *testing.T) {
	t.Run("progress", func(t *testing.T) {
		req := imageJob("x", 64, 64, "png")
		req.Dir = t.TempDir()
		var got []int
		_, err := synthetic.New().Run(t.Context(), req, func(p engine.Progress) {
			if p.Total != 4 || p.Text == "" {
				t.Errorf("progress %+v", p)
			}
			got = append(got, p.Step)
		})
		if want := []int{0, 1, 2, 3, 4}; err != nil || !slices.Equal(got, want) {
			t.Errorf("steps = %v, %v; want %v", got, err, want)
		}
	})
	t.Run("cancel", func(t *testing.T) {
		cause := errors.New("stop")
		ctx, cancel := context.WithCancelCause(t.Context())
		req := imageJob("x", 64, 64, "png")
		req.Dir = t.TempDir()
		_, err := synthetic.New().Run(ctx, req, func(engine.Progress) { cancel(cause) })
		if !errors.Is(err, cause) {
			t.Errorf("err = %v, want the cause", err)
		}
		if entries, err := os.ReadDir(req.Dir); err != nil || len(entries) != 0 {
			t.Errorf("left %v, %v", entries, err)
		}
	})
	t.Run("no folder", func(t *testing.T) {
		req := imageJob("x", 64, 64, "png")
		req.Dir = filepath.Join(t.TempDir(), "none")
		if _, err := synthetic.New().Run(t.Context(), req, func(engine.Progress) {}); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("unknown kind", func(t *testing.T) {
		_, err := synthetic.New().Run(t.Context(), engine.Request{Kind: "dance"}, func(engine.Progress) {})
		if err == nil || engine.Retryable(err) || err.Error() != "synthetic engine cannot serve dance tasks" {
			t.Errorf("err = %v", err)
		}
	})
}
