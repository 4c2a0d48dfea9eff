// Package synthetic is the engine that needs no model and no GPU: it answers
// every kind of task with a small, real and deterministic result (engines spec
// §10). It shows that the way from a studio to a result file works. It runs
// only when a job names it.
package synthetic

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	imagedraw "image/draw"
	"image/png"
	"os"
	"path/filepath"
	"strings"

	"github.com/HugoSmits86/nativewebp"
	"golang.org/x/image/webp"

	"studioworker/worker/engine"
)

// ID is the engine's name on the wire.
const ID engine.ID = "synthetic"

// Sides of a picture in pixels (protocol spec §4.1, §4.5).
const (
	minSide      = 64
	maxSide      = 4096
	maxVideoSide = 2048
	defaultSide  = 512
)

// webpPixels is the largest picture that is made as WebP. The encoder needs
// some 50 bytes a pixel, so this bounds it to about 200 MiB; a larger picture
// becomes a PNG.
const webpPixels = 2048 * 2048

// Engine is the synthetic engine. It keeps no state.
type Engine struct{}

// New makes the engine.
func New() *Engine { return &Engine{} }

// ID returns the engine's name on the wire.
func (*Engine) ID() engine.ID { return ID }

// Models returns the names that this engine answers to. A bare wildcard is
// never among them.
func (*Engine) Models() map[engine.Kind][]string {
	return map[engine.Kind][]string{
		engine.KindImage: {"synthetic", "synthetic-image"},
		engine.KindLLM:   {"synthetic", "synthetic-llm"},
		engine.KindSTT:   {"synthetic", "synthetic-stt"},
		engine.KindTTS:   {"synthetic", "synthetic-tts"},
		engine.KindVideo: {"synthetic", "synthetic-video"},
	}
}

// Run makes the result of one job.
func (*Engine) Run(ctx context.Context, req engine.Request, progress func(engine.Progress)) (engine.Result, error) {
	var (
		data []byte
		ext  string
		err  error
	)
	switch req.Kind {
	case engine.KindImage:
		w, h := side(req.Image.Width, maxSide), side(req.Image.Height, maxSide)
		ext = "png"
		if strings.EqualFold(req.Image.Ext, "webp") && w*h <= webpPixels {
			ext = "webp"
		}
		data, err = picture(ctx, req.Image.Prompt, w, h, ext, progress)
	case engine.KindVideo:
		// One still frame, whatever was asked.
		ext = "webp"
		data, err = picture(ctx, req.Video.Prompt, side(req.Video.Width, maxVideoSide), side(req.Video.Height, maxVideoSide), ext, progress)
	case engine.KindLLM:
		ext = "json"
		data, err = reply(req.LLM.Messages, req.Delta)
	case engine.KindSTT:
		ext = "json"
		data, err = transcript(req.STT.InputURL, req.STT.Language)
	case engine.KindTTS:
		ext = "wav"
		data = tone(req.TTS.Text)
	default:
		return engine.Result{}, engine.UnsupportedKind(ID, req.Kind)
	}
	if err != nil {
		return engine.Result{}, err
	}
	if ctx.Err() != nil {
		return engine.Result{}, context.Cause(ctx)
	}
	res := engine.Result{JSON: string(data), Ext: ext}
	if ext != "json" {
		res = engine.Result{File: "result." + ext, Ext: ext}
		if err := os.WriteFile(filepath.Join(req.Dir, res.File), data, 0o600); err != nil {
			return engine.Result{}, fmt.Errorf("write result: %w", err)
		}
	}
	progress(engine.Progress{Step: steps, Total: steps, Text: "done"})
	return res, nil
}

// side is a wanted side of a picture, brought within the bounds.
func side(want uint32, most int) int {
	if want == 0 {
		return defaultSide
	}
	return int(min(max(want, minSide), uint32(most)))
}

// picture draws the prompt's picture and encodes it.
func picture(ctx context.Context, prompt string, w, h int, ext string, progress func(engine.Progress)) ([]byte, error) {
	img, err := draw(ctx, prompt, w, h, progress)
	if err != nil {
		return nil, err
	}
	progress(engine.Progress{Step: steps - 1, Total: steps, Text: "encoding"})
	var buf bytes.Buffer
	if err := encode(&buf, img, ext); err != nil {
		return nil, fmt.Errorf("encode %s: %w", ext, err)
	}
	return buf.Bytes(), nil
}

func encode(buf *bytes.Buffer, img *image.Paletted, ext string) error {
	if ext == "webp" {
		return encodeWebP(buf, img)
	}
	return png.Encode(buf, img)
}

// webpTries is how often a picture is changed by one pixel until its encoding
// holds. One try in a hundred fails.
const webpTries = 8

// encodeWebP encodes a picture and reads it back. The encoder (nativewebp
// v0.9.3) writes a Huffman code now and then that no decoder accepts; the same
// picture without its palette, or with one other pixel, comes out well.
func encodeWebP(buf *bytes.Buffer, img *image.Paletted) error {
	full := image.NewNRGBA(img.Bounds())
	imagedraw.Draw(full, full.Bounds(), img, image.Point{}, imagedraw.Src)
	for try := range webpTries {
		for _, candidate := range []image.Image{img, full} {
			buf.Reset()
			if err := nativewebp.Encode(buf, candidate, nil); err != nil {
				return err
			}
			if same(buf.Bytes(), candidate) {
				return nil
			}
		}
		at := image.Pt(img.Rect.Min.X+try, img.Rect.Min.Y)
		img.SetColorIndex(at.X, at.Y, (img.ColorIndexAt(at.X, at.Y)+1)%uint8(len(img.Palette)))
		full.Set(at.X, at.Y, img.At(at.X, at.Y))
	}
	return errors.New("the picture cannot be written as webp")
}

// same says whether data decodes to the picture.
func same(data []byte, want image.Image) bool {
	got, err := webp.Decode(bytes.NewReader(data))
	if err != nil || got.Bounds() != want.Bounds() {
		return false
	}
	for y := want.Bounds().Min.Y; y < want.Bounds().Max.Y; y++ {
		for x := want.Bounds().Min.X; x < want.Bounds().Max.X; x++ {
			r1, g1, b1, a1 := got.At(x, y).RGBA()
			if r2, g2, b2, a2 := want.At(x, y).RGBA(); r1 != r2 || g1 != g2 || b1 != b2 || a1 != a2 {
				return false
			}
		}
	}
	return true
}

// completion is a result of kind llm (protocol spec §4.2).
type completion struct {
	Object  string   `json:"object"`
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	Usage   usage    `json:"usage"`
}

type choice struct {
	Index        int     `json:"index"`
	Message      message `json:"message"`
	FinishReason string  `json:"finish_reason"`
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

// reply answers a conversation, and says its words to delta unless that is nil.
// The system text does not count.
func reply(messages []engine.Message, delta func(string)) ([]byte, error) {
	lines := make([]string, 0, len(messages))
	for _, m := range messages {
		lines = append(lines, m.Role+": "+m.Content)
	}
	text := strings.Join(lines, "\n")
	const completionTokens = 8
	words := len(strings.Fields(text))
	content := "[synthetic] reply to prompt #" + fingerprint(text)
	if delta != nil {
		for word := range strings.SplitAfterSeq(content, " ") {
			delta(word)
		}
	}
	return json.Marshal(completion{
		Object: "chat.completion",
		Model:  "synthetic-llm",
		Choices: []choice{{
			Message:      message{Role: "assistant", Content: content},
			FinishReason: "stop",
		}},
		Usage: usage{PromptTokens: words, CompletionTokens: completionTokens, TotalTokens: words + completionTokens},
	})
}

// transcript answers a speech-to-text job. The audio is not opened.
func transcript(inputURL, language string) ([]byte, error) {
	if language == "" {
		language = "en"
	}
	return json.Marshal(struct {
		Text     string  `json:"text"`
		Language string  `json:"language"`
		Duration float64 `json:"duration"` // seconds
	}{"[synthetic] transcript of " + fingerprint(inputURL), language, 1})
}

// fingerprint is the first 16 hex digits of SHA-256.
func fingerprint(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}
