package sdcpp

import (
	"strconv"
	"strings"

	"studioworker/worker/engine/supply"
)

// Roles of model files (engines spec §1.1, §5.1).
const (
	roleDiffusion     = "diffusion-model"
	roleHighNoise     = "high-noise-diffusion-model"
	roleModel         = "model"
	roleVAE           = "vae"
	roleText          = "text-encoder"
	roleTextWithImage = "text-encoder-vision"
	roleLoRA          = "lora"
)

// longText is the length in bytes from which a prompt goes by file: a command
// line is bounded (engines spec §5.1).
const longText = 8 << 10

// Flags that not every build has. Its --help tells.
const (
	flagPromptFile   = "--prompt-file"
	flagNegativeFile = "--negative-prompt-file"
	flagNoMetadata   = "--disable-image-metadata"
	flagModelArgs    = "--model-args"
	flagOldZeroCondT = "--qwen-image-zero-cond-t"
	flagListDevices  = "--list-devices"
)

// paths are the files of one run.
type paths struct {
	model                  *supply.Held
	init, ref, mask        string // empty = none
	out                    string
	lora                   string // folder; empty = none
	promptFile, negateFile string // empty = the text goes as an argument
}

// arguments is the command line of a job, in the order of the reference (engines
// spec §5.1). help is what the program says about its flags.
func (p plan) arguments(f paths, help string) []string {
	var args []string
	add := func(flag, value string) { args = append(args, flag, value) }
	given := func(flag, value string) {
		if value != "" {
			add(flag, value)
		}
	}
	if p.frames > 0 {
		add("-M", "vid_gen")
	}
	if diffusion := f.model.Path(roleDiffusion); diffusion != "" {
		add("--diffusion-model", diffusion)
	} else {
		add("--model", f.model.Path(roleModel))
	}
	given("--high-noise-diffusion-model", f.model.Path(roleHighNoise))
	given("--vae", f.model.Path(roleVAE))
	given("--llm", f.model.Path(roleText))
	given("--llm_vision", f.model.Path(roleTextWithImage))
	if f.promptFile != "" {
		add(flagPromptFile, f.promptFile)
	} else {
		add("-p", p.prompt)
	}
	if f.negateFile != "" {
		add(flagNegativeFile, f.negateFile)
	} else {
		given("--negative-prompt", p.negative)
	}
	switch {
	case f.ref != "":
		add("-r", f.ref)
		given("--mask", f.mask)
	case f.init != "":
		add("--init-img", f.init)
		if p.frames == 0 {
			add("--strength", number(p.denoise))
		}
		given("--mask", f.mask)
	}
	add("--cfg-scale", number(p.cfg))
	add("--steps", strconv.FormatUint(uint64(p.steps), 10))
	add("-W", strconv.FormatUint(uint64(p.width), 10))
	add("-H", strconv.FormatUint(uint64(p.height), 10))
	add("-o", f.out)
	add("--seed", strconv.FormatUint(p.seed, 10))
	given("--sampling-method", p.sampler)
	if p.defaults.FlowShift != nil {
		add("--flow-shift", number(*p.defaults.FlowShift))
	}
	if p.defaults.ZeroCondT {
		if strings.Contains(help, flagOldZeroCondT) && !strings.Contains(help, flagModelArgs) {
			args = append(args, flagOldZeroCondT)
		} else {
			add(flagModelArgs, "qwen_image_zero_cond_t=true")
		}
	}
	if p.defaults.OffloadToCPU {
		args = append(args, "--offload-to-cpu")
	}
	if p.defaults.MMap {
		args = append(args, "--mmap")
	}
	if p.defaults.MaxVRAMGiB > 0 {
		add("--max-vram", number(p.defaults.MaxVRAMGiB))
	}
	given("--lora-model-dir", f.lora)
	if p.frames > 0 {
		add("--video-frames", strconv.FormatUint(uint64(p.frames), 10))
		add("--fps", strconv.FormatUint(uint64(p.fps), 10))
	}
	args = append(args, "--diffusion-fa")
	if strings.Contains(help, flagNoMetadata) {
		args = append(args, flagNoMetadata)
	}
	return args
}
