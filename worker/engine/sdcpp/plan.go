package sdcpp

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"

	"studioworker/worker/engine"
)

// Bounds of a picture, and what counts where neither the job nor the model says
// anything (engines spec §5.2).
const (
	minSide        = 64
	maxSide        = 4096
	sideStep       = 8
	maxSteps       = 150
	notChosenSteps = 20 // the wire's default
	defaultSide    = 1024
	defaultSteps   = 8
	defaultCFG     = 1.0
	defaultDenoise = 0.75
)

// Bounds of a video.
const (
	maxFrames  = 961 // a minute at 16 frames a second
	maxFPS     = 60
	wanFPS     = 16
	defaultFPS = 24
)

// plan is one job with every number settled.
type plan struct {
	prompt, negative string
	width, height    uint32
	steps            uint32
	cfg, denoise     float64
	sampler          string
	seed             uint64
	chosenSeed       bool // the job gave it
	ext              string
	render           string // the format that the program writes
	initURL, refURL  string
	maskURL          string
	frames, fps      uint32 // frames 0 = a picture
	clamped          bool   // a number of the job was out of bounds
	defaults         engine.Defaults
}

// newPlan settles the numbers of a job: what the job says, else what its model
// says, else ours (engines spec §5.2). A job that no worker could do is bad
// input.
func newPlan(req engine.Request) (plan, error) {
	d := req.Source.Defaults
	p := plan{defaults: d, sampler: d.SamplingMethod}
	var width, height, steps uint32
	var cfg float64
	if req.Kind == engine.KindVideo {
		v := req.Video
		p.prompt, p.negative, p.initURL, p.ext = v.Prompt, v.NegativePrompt, v.InitImageURL, v.Ext
		width, height = v.Width, v.Height
		p.fps = min(first(v.FPS, videoFPS(req)), maxFPS)
		p.frames = frames(v.Seconds, p.fps)
	} else {
		i := req.Image
		p.prompt, p.negative, p.ext = i.Prompt, i.NegativePrompt, i.Ext
		p.initURL, p.refURL, p.maskURL = i.InitImageURL, i.RefImageURL, i.MaskURL
		width, height, cfg = i.Width, i.Height, i.CFGScale
		if i.Steps != notChosenSteps {
			steps = i.Steps
		}
		if i.SamplingMethod != "" {
			p.sampler = i.SamplingMethod
		}
		p.denoise = defaultDenoise
		if i.Denoise != nil {
			p.denoise = *i.Denoise
		}
		if i.Seed != nil {
			p.seed, p.chosenSeed = *i.Seed, true
		}
		if p.refURL != "" {
			p.initURL = "" // a reference picture wins
		}
		if p.initURL == "" && p.refURL == "" {
			p.maskURL = "" // there is nothing that it could mask
		}
	}
	if strings.ContainsRune(p.prompt+p.negative+p.sampler, 0) {
		return p, engine.BadInput("the prompt holds a zero byte")
	}
	if p.initURL != "" && (math.IsNaN(p.denoise) || p.denoise < 0 || p.denoise > 1) {
		return p, engine.BadInput(fmt.Sprintf("denoise is %v; it must lie between 0 and 1", p.denoise))
	}
	if math.IsNaN(cfg) || math.IsInf(cfg, 0) {
		return p, engine.BadInput("cfgScale is not a number")
	}
	p.width = p.side(first(width, d.Width, defaultSide))
	p.height = p.side(first(height, d.Height, defaultSide))
	p.steps = first(steps, d.Steps, defaultSteps)
	if p.steps > maxSteps {
		p.steps, p.clamped = maxSteps, true
	}
	p.cfg = defaultCFG
	for _, value := range []float64{d.CFGScale, cfg} {
		if value > 0 {
			p.cfg = value
		}
	}
	if req.Kind == engine.KindVideo && p.initURL != "" {
		p.denoise = defaultDenoise
	}
	if !p.chosenSeed {
		seed, err := randomSeed()
		if err != nil {
			return p, err
		}
		p.seed = seed
	}
	p.ext, p.render = formats(p.ext, p.frames > 0)
	return p, nil
}

// side brings a side of a picture within the bounds, as a multiple of 8.
func (p *plan) side(want uint32) uint32 {
	got := min(max(want, minSide), maxSide)
	got = (got + sideStep/2) / sideStep * sideStep
	if got != want {
		p.clamped = true
	}
	return got
}

// randomSeed draws 32 bits. The program's own default is a constant: jobs
// without a seed would all give the same picture.
func randomSeed() (uint64, error) {
	var data [4]byte
	if _, err := rand.Read(data[:]); err != nil {
		return 0, fmt.Errorf("draw a seed: %w", err)
	}
	return uint64(binary.LittleEndian.Uint32(data[:])), nil
}

// formats returns the format of the result, and the one that the program is to
// write: it knows png, jpg and webp.
func formats(wish string, video bool) (ext, render string) {
	wish = strings.ToLower(strings.TrimSpace(wish))
	if video {
		return wish, "" // the caller makes the video of single pictures
	}
	switch wish {
	case "png":
		return "png", "png"
	case "jpg", "jpeg":
		return "jpg", "jpg"
	case "bmp":
		return "bmp", "png"
	default:
		return "webp", "webp"
	}
}

// videoFPS is the natural speed of a video model: Wan makes 16 pictures a
// second, the others 24.
func videoFPS(req engine.Request) uint32 {
	if strings.Contains(strings.ToLower(req.Model), "wan") {
		return wanFPS
	}
	return defaultFPS
}

// frames is the number of pictures of a video: the largest 4n+1 that fits, which
// is what the models want.
func frames(seconds float64, fps uint32) uint32 {
	n := uint32(1)
	if wanted := seconds * float64(fps); wanted >= 1 { // also not NaN
		n = uint32(min(wanted, maxFrames))
	}
	return (n-1)/4*4 + 1
}

// first returns the first value above 0.
func first(values ...uint32) uint32 {
	for _, v := range values {
		if v > 0 {
			return v
		}
	}
	return 0
}

// number prints a number in its shortest form, as a 32-bit float.
func number(v float64) string { return strconv.FormatFloat(float64(float32(v)), 'f', -1, 32) }
