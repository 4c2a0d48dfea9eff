package sdcpp

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"studioworker/worker/engine"
	"studioworker/worker/engine/process"
)

// kind is what a failed run was about, as far as it changes what we do.
type trouble string

const (
	troubleNone  trouble = ""
	troubleModel trouble = "model" // wrong or damaged: check it once
	troubleGPU   trouble = "gpu"   // the card, its driver or the loader
)

// signs tell failures by what the program says (engines spec §5.4). The first
// that fits counts.
var signs = []struct {
	class   engine.Class
	trouble trouble
	words   string // for people; empty = the program's own line
	texts   []string
}{
	// With these the build does not know what we always send.
	{engine.ClassEngineMissing, troubleNone, "this build of sd-cli does not know our options", []string{"error: unknown argument:"}},
	{engine.ClassBadInput, troubleNone, "", []string{"invalid parameter for argument:", "invalid sample method", "invalid scheduler"}},
	{engine.ClassBadInput, troubleNone, "", []string{"can only work with strength"}},
	{engine.ClassOutOfMemory, troubleNone, "not enough memory on the graphics card", []string{
		"alloc compute buffer failed", "failed to allocate the compute buffer", "alloc compute graph failed", "too less memory",
		"ErrorOutOfDeviceMemory", "out of memory",
	}},
	{engine.ClassGPURuntime, troubleGPU, "the graphics card cannot be used", []string{
		"ErrorInitializationFailed", "ErrorDeviceLost", "libvulkan.so.1", "GLIBC_",
	}},
	{engine.ClassModelCorrupt, troubleModel, "the model cannot be loaded", []string{
		"init model loader from file failed", "get sd version from file failed", "not in model file", "shape mismatch",
		"model metadata validation failed",
	}},
}

// explain gives the error of a run its class, and its text the last line that
// means something.
func explain(out process.Output, err error) (trouble, error) {
	if _, late := errors.AsType[*process.LimitError](err); late {
		return troubleNone, engine.ChildError(err)
	}
	exit, ok := errors.AsType[*process.ExitError](err)
	if !ok {
		return troubleNone, engine.ChildError(err)
	}
	said := out.Stderr + out.Stdout
	reason := lastMeaningful(out)
	exited := fmt.Sprintf("sd-cli exited with %d", exit.Code)
	if exit.Code < 0 || exit.Reason != process.ReasonCode {
		exited = "sd-cli " + exit.Detail
	}
	if reason != "" {
		exited += ": " + reason
	}
	if exit.Reason == process.ReasonMemory {
		return troubleNone, &engine.Error{Class: engine.ClassOutOfMemory, Err: errors.New(exited)}
	}
	// A file of the job that cannot be read; "load image" of anything else is ours.
	if strings.Contains(said, "load image from") && strings.Contains(said, "failed") {
		return troubleNone, &engine.Error{Class: engine.ClassBadInput, Err: errors.New(exited)}
	}
	if strings.Contains(said, "failed to initialize") && strings.Contains(said, "backend") {
		return troubleGPU, &engine.Error{Class: engine.ClassGPURuntime, Err: errors.New(exited)}
	}
	for _, sign := range signs {
		for _, text := range sign.texts {
			if !strings.Contains(said, text) {
				continue
			}
			if sign.words != "" {
				exited = sign.words + ": " + exited
			}
			return sign.trouble, &engine.Error{Class: sign.class, Err: errors.New(exited)}
		}
	}
	if exit.Reason == process.ReasonLibrary {
		return troubleGPU, &engine.Error{Class: engine.ClassGPURuntime, Err: errors.New(exited)}
	}
	return troubleNone, &engine.Error{Class: engine.ClassEngineCrash, Err: errors.New(exited)}
}

// lastMeaningful is the line that tells most about a failed run: the last error,
// else the last warning, else what was said last.
func lastMeaningful(out process.Output) string {
	if line := lastWith(out.Stderr, "[ERROR]"); line != "" {
		return line
	}
	if line := lastWith(out.Stdout, "[ERROR]", "[WARN ]", "[WARN]", "failed"); line != "" {
		return line
	}
	if line := lastWith(out.Stderr, ""); line != "" {
		return line
	}
	return lastWith(out.Stdout, "")
}

// lastWith returns the last line that holds one of the texts.
func lastWith(tail string, texts ...string) string {
	lines := strings.Split(strings.TrimRight(tail, "\n"), "\n")
	for _, line := range slices.Backward(lines) {
		for _, text := range texts {
			if strings.Contains(line, text) {
				return strings.TrimSpace(line)
			}
		}
	}
	return ""
}
