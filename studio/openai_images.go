package studio

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

const (
	mostImages     = 10       // of one call
	maxImageAnswer = 64 << 20 // bytes of the pictures of one answer
)

// imageCall is the body of an image generation. Fields that are not here only
// tune the picture, and are ignored.
type imageCall struct {
	Model          string `json:"model"`
	Prompt         string `json:"prompt"`
	N              *int   `json:"n"`
	Size           string `json:"size"`
	ResponseFormat string `json:"response_format"`
	OutputFormat   string `json:"output_format"`
	Stream         bool   `json:"stream"`

	// As other servers of local models have them.
	NegativePrompt *string  `json:"negative_prompt"`
	Seed           *uint64  `json:"seed"`
	Steps          *uint32  `json:"steps"`
	CfgScale       *float64 `json:"cfg_scale"`
}

// task makes the job's task of a call.
func (c imageCall) task() (protocol.Task, error) {
	t := &protocol.ImageTask{
		Prompt: c.Prompt, NegativePrompt: c.NegativePrompt, Seed: c.Seed, CfgScale: c.CfgScale, Steps: protocol.DefaultSteps, Ext: "png",
	}
	switch {
	case c.Prompt == "":
		return protocol.Task{}, wrong("prompt", "prompt: must not be empty")
	case c.N != nil && (*c.N < 1 || *c.N > mostImages):
		return protocol.Task{}, wrong("n", "n: is %d, must be 1 to %d", *c.N, mostImages)
	case c.ResponseFormat != "" && c.ResponseFormat != "url" && c.ResponseFormat != "b64_json":
		return protocol.Task{}, wrong("response_format", "response_format: must be url or b64_json")
	case c.Seed != nil && *c.Seed > maxSeed-mostImages:
		return protocol.Task{}, wrong("seed", "seed: must be 0 to %d", uint64(maxSeed-mostImages))
	case c.Stream:
		return protocol.Task{}, unsupported("stream", "pictures are not streamed")
	}
	switch c.OutputFormat {
	case "", "png":
	case "webp":
		t.Ext = "webp"
	default:
		return protocol.Task{}, unsupported("output_format", "output_format: must be png or webp")
	}
	if c.Steps != nil {
		t.Steps = *c.Steps
	}
	if c.Size != "" && c.Size != "auto" { // otherwise the model decides
		wide, high, ok := strings.Cut(c.Size, "x")
		width, errWidth := strconv.ParseUint(wide, 10, 16)
		height, errHeight := strconv.ParseUint(high, 10, 16)
		if !ok || errWidth != nil || errHeight != nil || width < 64 || width > 4096 || height < 64 || height > 4096 {
			return protocol.Task{}, wrong("size", "size: is %.20q, must be auto or WIDTHxHEIGHT with sides of 64 to 4096", c.Size)
		}
		t.Width, t.Height = uint32(width), uint32(height)
	}
	return protocol.Task{Kind: protocol.KindImage, Image: t}, nil
}

type imageAnswer struct {
	Created      int64       `json:"created"`
	OutputFormat string      `json:"output_format,omitempty"` // what the pictures are, whatever was asked for
	Data         []imageData `json:"data"`
}

type imageData struct {
	B64JSON string `json:"b64_json,omitempty"`
	URL     string `json:"url,omitempty"`
}

// images makes one picture or several, each a job of its own.
func (s *Studio) images(w http.ResponseWriter, r *http.Request, who caller) error {
	var in imageCall
	if err := readCall(w, r, &in); err != nil {
		return err
	}
	task, err := in.task()
	if err != nil {
		return err
	}
	n := 1
	if in.N != nil {
		n = *in.N
	}
	records, err := s.paint(w, r, task, in.Model, who, n)
	if err != nil {
		return err
	}
	out := imageAnswer{Created: since(time.Now()), OutputFormat: records[0].Result.Ext}
	total := int64(0)
	for _, rec := range records {
		var data imageData
		if in.ResponseFormat != "b64_json" {
			data.URL = s.link(r, rec.ID, time.Now())
		}
		// Whoever names no format may expect either.
		if total += rec.Result.Bytes; in.ResponseFormat != "url" && total <= maxImageAnswer {
			picture, err := s.bytesOf(r.Context(), rec)
			if err != nil {
				return err
			}
			data.B64JSON = base64.StdEncoding.EncodeToString(picture)
		} else if in.ResponseFormat == "b64_json" {
			return &callError{
				status: http.StatusInternalServerError, kind: kindServer, code: "too_large", final: true,
				message: "the pictures are larger than " + size(maxImageAnswer) + " together; ask for response_format url",
			}
		}
		out.Data = append(out.Data, data)
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// paint runs n jobs side by side. The first that fails ends the others. Each has
// its own seed, so that they are not the same picture.
func (s *Studio) paint(w http.ResponseWriter, r *http.Request, task protocol.Task, model string, who caller, n int) ([]store.Job, error) {
	records := make([]store.Job, n)
	group, ctx := errgroup.WithContext(r.Context())
	r = r.WithContext(ctx)
	for i := range n {
		one := *task.Image
		if one.Seed != nil {
			seed := *one.Seed + uint64(i)
			one.Seed = &seed
		}
		c, err := s.begin(r, protocol.Task{Kind: task.Kind, Image: &one}, model, who)
		if err != nil {
			group.Go(func() error { return err })
			break
		}
		group.Go(func() error {
			var err error
			records[i], err = c.wait(w, r)
			return err
		})
	}
	return records, group.Wait()
}
