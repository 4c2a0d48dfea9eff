// Package fakesd is an sd-cli for tests: it takes the same arguments, prints the
// same lines and writes real pictures, without a model. A test binary calls Main
// from its TestMain.
package fakesd

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/HugoSmits86/nativewebp"
	_ "golang.org/x/image/bmp"  // the real program reads it
	_ "golang.org/x/image/webp" // and this
)

// Variable makes a test binary this program; its value is the mode. Its name is
// one that the allow-list of the environment lets through.
const Variable = "XDG_TEST_FAKE_SD"

// Trace names a file to which each run adds its arguments, one line a run,
// joined by |.
const Trace = "XDG_TEST_FAKE_SD_TRACE"

// Pace is how long each step of the sampling takes, as Go writes durations; without it
// none takes any time.
const Pace = "XDG_TEST_FAKE_SD_PACE"

// Version is what the fake says it is.
const Version = "stable-diffusion.cpp version master-920-2f88688, commit 2f88688"

// The modes; every other value paints.
const (
	Paint         = "paint"
	Old           = "old"   // knows none of the newer flags
	Tiles         = "tiles" // decodes in tiles, with bars of the same form
	Metadata      = "metadata"
	OutOfMemory   = "oom"
	LoadFail      = "loadfail"
	BadModel      = "badmodel" // as long as the model's first line is "bad"
	BadImage      = "badimage"
	Hang          = "hang"
	IgnoreTerm    = "ignore-term"
	Grandchild    = "spawn-grandchild"
	NoFile        = "exit0-nofile"
	Truncated     = "truncated-output"
	WrongFormat   = "wrong-format"
	Crash         = "crash"
	NoLibrary     = "nolib"
	OldSystem     = "glibc"
	DeviceLost    = "devicelost"
	NoBackend     = "nobackend"
	UnknownFlag   = "unknown-flag"
	OtherCommit   = "other-commit"
	GenerateFails = "generate-fails"
)

// texts are the flags with a value, flags those without.
var (
	texts = []string{
		"-M", "--diffusion-model", "--high-noise-diffusion-model", "--model", "--vae", "--llm", "--llm_vision", "-p", "--prompt-file",
		"--negative-prompt", "--negative-prompt-file", "-r", "--mask", "--init-img", "--strength", "--cfg-scale", "--steps", "-W", "-H", "-o", "--seed",
		"--sampling-method", "--flow-shift", "--model-args", "--max-vram", "--lora-model-dir", "--video-frames", "--fps",
	}
	flags     = []string{"--offload-to-cpu", "--mmap", "--diffusion-fa", "--disable-image-metadata", "--list-devices"}
	newer     = []string{"--prompt-file", "--negative-prompt-file", "--model-args", "--disable-image-metadata", "--list-devices"}
	fileFlags = []string{"--diffusion-model", "--high-noise-diffusion-model", "--model", "--vae", "--llm", "--llm_vision", "--prompt-file", "--negative-prompt-file", "--lora-model-dir"}
	pictures  = []string{"-r", "--mask", "--init-img"}
)

// Main is the program.
func Main(args []string) int {
	mode := os.Getenv(Variable)
	switch mode {
	case NoLibrary:
		fmt.Fprintln(os.Stderr, "sd-cli: error while loading shared libraries: libvulkan.so.1: cannot open shared object file: No such file or directory")
		return 127
	case OldSystem:
		fmt.Fprintln(os.Stderr, "sd-cli: /lib/libc.so.6: version `GLIBC_2.38' not found (required by sd-cli)")
		return 1
	}
	if len(args) > 0 && args[0] == "--version" {
		if mode == OtherCommit {
			fmt.Println("stable-diffusion.cpp version master-1, commit 0123abc")
		} else {
			fmt.Println(Version)
		}
		return 0
	}
	if len(args) > 0 && args[0] == "--help" {
		help(mode)
		return 0
	}
	if trace := os.Getenv(Trace); trace != "" {
		file, err := os.OpenFile(trace, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return 70
		}
		fmt.Fprintln(file, strings.ReplaceAll(strings.Join(args, "|"), "\n", " "))
		if err := file.Close(); err != nil {
			return 70
		}
	}
	given, problem := parse(mode, args)
	if problem != "" {
		fmt.Fprintf(os.Stderr, "[ERROR] common.cpp:325  - %s\n", problem)
		help(mode)
		return 1
	}
	return run(mode, given)
}

func help(mode string) {
	fmt.Println("Usage: sd-cli [options]")
	for _, flag := range slices.Concat(texts, flags) {
		if mode != Old || !slices.Contains(newer, flag) {
			fmt.Println("  " + flag)
		}
	}
	if mode == Old {
		fmt.Println("  --qwen-image-zero-cond-t")
	}
}

// parse takes exactly the flags of the program, and looks at the files.
func parse(mode string, args []string) (given map[string]string, problem string) {
	given = map[string]string{}
	for i := 0; i < len(args); i++ {
		flag := args[i]
		known := slices.Contains(texts, flag) || slices.Contains(flags, flag)
		if mode == Old && (slices.Contains(newer, flag) || flag == "--qwen-image-zero-cond-t") {
			known = flag == "--qwen-image-zero-cond-t"
		}
		if !known || mode == UnknownFlag && flag == "--diffusion-fa" {
			return nil, "error: unknown argument: " + flag
		}
		given[flag] = ""
		if !slices.Contains(texts, flag) {
			continue
		}
		if i++; i == len(args) {
			return nil, "error: invalid parameter for argument: " + flag
		}
		given[flag] = args[i]
	}
	for _, flag := range fileFlags {
		if path, ok := given[flag]; ok {
			if _, err := os.Stat(path); err != nil {
				return nil, "error: invalid parameter for argument: " + flag
			}
		}
	}
	if strength, ok := given["--strength"]; ok {
		if v, err := strconv.ParseFloat(strength, 64); err != nil || v < 0 || v > 1 {
			return nil, "error: can only work with strength in [0.0, 1.0]"
		}
	}
	return given, ""
}

// info prints a line as the program does.
func info(level, text string, args ...any) {
	line := fmt.Sprintf("[%s] stable-diffusion.cpp:1 - %s", level, fmt.Sprintf(text, args...))
	if level == "ERROR" {
		fmt.Fprintln(os.Stderr, line)
	} else {
		fmt.Println(line)
	}
}

// bars prints a progress bar that is drawn with mark.
func bars(total int, mark, unit string) { pacedBars(total, mark, unit, 0) }

func pacedBars(total int, mark, unit string, pace time.Duration) {
	for step := 1; step <= total; step++ {
		time.Sleep(pace)
		fmt.Printf("\r  |%-20s| %d/%d - %s\x1b[K", strings.Repeat(mark, 20*step/total), step, total, unit)
	}
	fmt.Println()
}

func run(mode string, given map[string]string) int {
	number := func(flag string) int {
		n, err := strconv.Atoi(given[flag])
		if err != nil {
			return 0
		}
		return n
	}
	width, height, steps := number("-W"), number("-H"), number("--steps")
	model := given["--diffusion-model"] + given["--model"]
	info("INFO ", "loading diffusion model from '%s'", model)
	head, err := os.ReadFile(model)
	if err != nil || mode == BadModel && strings.HasPrefix(string(head), "bad\n") {
		info("ERROR", "init model loader from file failed: '%s'", filepath.Base(model))
		info("INFO ", "new_sd_ctx_t failed")
		return 1
	}
	if mode == LoadFail {
		info("WARN ", "get sd version from file failed: '%s'", filepath.Base(model))
		info("INFO ", "new_sd_ctx_t failed")
		return 1
	}
	if mode == NoBackend {
		info("ERROR", "ggml_vulkan: failed to initialize Vulkan backend")
		return 1
	}
	bars(4, "#", "1.20GB/s")
	seen := []string{}
	for _, flag := range pictures {
		path, ok := given[flag]
		if !ok {
			continue
		}
		file, err := os.ReadFile(path)
		if err == nil {
			_, _, err = image.Decode(bytes.NewReader(file))
		}
		if err != nil || mode == BadImage {
			info("ERROR", "load image from '%s' failed", path)
			return 1
		}
		seen = append(seen, flag+strconv.FormatUint(uint64(crc32.ChecksumIEEE(file)), 16))
	}
	info("INFO ", "get_learned_condition completed, taking 12 ms")
	info("INFO ", "generating image: 1/1 - seed %s", given["--seed"])
	info("INFO ", "sampling using Euler method")
	switch mode {
	case OutOfMemory:
		info("ERROR", "diffusion model alloc compute buffer failed")
		info("ERROR", "generate failed")
		return 1
	case DeviceLost:
		bars(1, "=", "1.00s/it")
		fmt.Fprintln(os.Stderr, "terminate called after throwing an instance of 'vk::DeviceLostError'\n  what():  vk::Queue::submit: ErrorDeviceLost")
		return 134
	case Hang, IgnoreTerm, Grandchild:
		return hang(mode)
	case Crash:
		crash()
	case GenerateFails:
		info("ERROR", "sampling failed")
		return 1
	}
	if init := given["--init-img"]; init != "" && given["-M"] == "" {
		strength, err := strconv.ParseFloat(given["--strength"], 64)
		if err != nil {
			return 1
		}
		steps = max(1, int(float64(steps)*strength))
	}
	pace, err := time.ParseDuration(cmp.Or(os.Getenv(Pace), "0s"))
	if err != nil {
		return 70
	}
	pacedBars(steps, "=", "4.00it/s", pace)
	info("INFO ", "sampling completed, taking 1.00s")
	if mode == Tiles {
		bars(9, "=", "3.00it/s")
		bars(steps, "=", "3.00it/s")
	}
	info("INFO ", "decode_first_stage completed, taking 0.10s")
	prompt := given["-p"]
	if path := given["--prompt-file"]; path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return 1
		}
		prompt = string(text)
	}
	if mode == NoFile {
		info("WARN ", "nothing was written")
		return 0
	}
	count := max(1, number("--video-frames"))
	for i := range count {
		out := given["-o"]
		if count > 1 || strings.Contains(out, "%") {
			out = fmt.Sprintf(out, i)
		}
		picture := paint(fmt.Sprint(prompt, given["--negative-prompt"], given["--seed"], seen, i), width, height)
		if err := write(mode, out, picture, prompt, given); err != nil {
			info("ERROR", "save result image 0 to '%s' (failure)", out)
			return 1
		}
		info("INFO ", "save result image %d to '%s' (success)", i, out)
	}
	return 0
}

// hang waits until it is killed.
func hang(mode string) int {
	if mode == IgnoreTerm || mode == Grandchild {
		signal.Ignore(syscall.SIGTERM)
	}
	if mode == Grandchild {
		child := exec.Command("sleep", "3600") //nolint:noctx // it is to outlive this process
		if err := child.Start(); err != nil {
			return 70
		}
		info("INFO ", "grandchild %d", child.Process.Pid)
	}
	fmt.Print("\r  |=>                  | 1/1000 - 1.00s/it\x1b[K\n")
	time.Sleep(time.Hour)
	return 0
}

// paint makes the picture of some words.
func paint(words string, width, height int) image.Image {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(words)) // never fails
	sum := hash.Sum32()
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			img.SetNRGBA(x, y, color.NRGBA{R: uint8(sum) ^ uint8(x/8), G: uint8(sum>>8) ^ uint8(y/8), B: uint8(sum >> 16), A: 255})
		}
	}
	return img
}

// write writes a picture by the extension of its name, as the program does.
func write(mode, out string, img image.Image, prompt string, given map[string]string) error {
	var buf bytes.Buffer
	var err error
	switch filepath.Ext(out) {
	case ".jpg", ".jpeg":
		err = jpeg.Encode(&buf, img, &jpeg.Options{Quality: 90})
	case ".webp":
		err = nativewebp.Encode(&buf, img, nil)
	case ".png":
		err = png.Encode(&buf, img)
	default:
		out += ".png"
		err = png.Encode(&buf, img)
	}
	if err != nil {
		return err
	}
	data := buf.Bytes()
	_, quiet := given["--disable-image-metadata"]
	switch {
	case mode == Truncated:
		data = data[:0]
	case mode == WrongFormat:
		data = []byte("not a picture at all")
	case mode == Metadata || !quiet:
		data = WithText(data, filepath.Ext(out), prompt)
	}
	return os.WriteFile(out, data, 0o600)
}

// WithText puts a text into a picture, as the program does by default.
func WithText(data []byte, ext, text string) []byte {
	switch ext {
	case ".png":
		body := []byte("tEXtparameters\x00" + text)
		chunk := binary.BigEndian.AppendUint32(nil, uint32(len(body)-4))
		chunk = binary.BigEndian.AppendUint32(append(chunk, body...), crc32.ChecksumIEEE(body))
		const afterHeader = 8 + 25
		return slices.Concat(data[:afterHeader], chunk, data[afterHeader:])
	case ".jpg":
		segment := binary.BigEndian.AppendUint16([]byte{0xff, 0xe1}, uint16(len(text)+8))
		segment = append(append(segment, "Exif\x00\x00"...), text...)
		return slices.Concat(data[:2], segment, data[2:])
	default: // WebP: an extended header, then the text
		if len(text)%2 == 1 {
			text += " "
		}
		size, _, err := image.DecodeConfig(bytes.NewReader(data))
		if err != nil {
			return data
		}
		w, h := size.Width-1, size.Height-1
		header := binary.LittleEndian.AppendUint32([]byte("VP8X"), 10)
		header = append(header, 0x08|0x04, 0, 0, 0, byte(w), byte(w>>8), byte(w>>16), byte(h), byte(h>>8), byte(h>>16))
		exif := append(binary.LittleEndian.AppendUint32([]byte("EXIF"), uint32(len(text))), text...)
		all := slices.Concat(data[:12], header, data[12:], exif)
		binary.LittleEndian.PutUint32(all[4:], uint32(len(all)-8))
		return all
	}
}
