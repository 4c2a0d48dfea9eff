package media

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"studioworker/worker/engine"
	"studioworker/worker/engine/enginetest"
	"studioworker/worker/engine/program"
)

// fakeMode makes the test binary an ffmpeg. Its name is one that the allow-list
// of the environment lets through.
const fakeMode = "XDG_TEST_FAKE_FFMPEG"

func TestMain(m *testing.M) {
	if mode := os.Getenv(fakeMode); mode != "" {
		os.Exit(fake(mode, os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

func fake(mode string, args []string) int {
	if slices.Contains(args, "-version") {
		fmt.Println("ffmpeg version 5.1.9-0 Copyright (c) the developers")
		return 0
	}
	if slices.Contains(args, "-encoders") {
		if mode != "no encoders" {
			fmt.Println(" V....D libvpx-vp9           VP9\n A....D libmp3lame           MP3")
		}
		return 0
	}
	if mode == "hang" {
		fmt.Println("frame=1")
		time.Sleep(time.Hour)
	}
	fmt.Fprintln(os.Stderr, "input: No such file or directory")
	return 1
}

// installed is the real program.
func installed(t *testing.T) FFmpeg {
	t.Helper()
	path := enginetest.Program(t, "STUDIO_WORKER_FFMPEG", "ffmpeg")
	return FFmpeg{Tool: &program.Tool{
		Places: program.Places{Environ: os.Environ()}, Ask: []string{"-version"}, Version: VersionOf,
		Query: func() program.Query { return program.Query{Name: "ffmpeg", Variable: path} },
	}}
}

// faked is the fake program; none is no program.
func faked(t *testing.T, mode string) FFmpeg {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return FFmpeg{Tool: &program.Tool{
		Places: program.Places{Environ: append(os.Environ(), fakeMode+"="+mode)}, Ask: []string{"-version"}, Version: VersionOf,
		Query: func() program.Query { return program.Query{Name: "ffmpeg", Variable: self} },
	}}
}

func none() FFmpeg {
	return FFmpeg{Tool: &program.Tool{Query: func() program.Query { return program.Query{Name: "ffmpeg"} }}}
}

// sound makes a WAV of the given form, whose left channel is value and whose
// other channels are 0.
func sound(codec, channels, bits uint16, rate uint32, frames int, value float64) []byte {
	frame := int(channels) * int(bits) / 8
	h := binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(36+frames*frame))
	h = append(h, "WAVEJUNK\x03\x00\x00\x00abc\x00fmt \x10\x00\x00\x00"...) // an odd chunk comes first
	h = binary.LittleEndian.AppendUint16(h, codec)
	h = binary.LittleEndian.AppendUint16(h, channels)
	h = binary.LittleEndian.AppendUint32(h, rate)
	h = binary.LittleEndian.AppendUint32(h, rate*uint32(frame))
	h = binary.LittleEndian.AppendUint16(h, uint16(frame))
	h = binary.LittleEndian.AppendUint16(h, bits)
	h = append(h, "data"...)
	h = binary.LittleEndian.AppendUint32(h, uint32(frames*frame))
	for range frames {
		for c := range channels {
			v := value
			if c > 0 {
				v = 0
			}
			switch {
			case codec == codecFloat:
				h = binary.LittleEndian.AppendUint32(h, math.Float32bits(float32(v)))
			case bits == 16:
				h = binary.LittleEndian.AppendUint16(h, uint16(int16(v*math.MaxInt16)))
			default:
				h = binary.LittleEndian.AppendUint32(h, uint32(int32(v*math.MaxInt32)))
			}
		}
	}
	return h
}

// samples reads back a WAV of one channel of 16 bit, between -1 and 1.
func samples(t *testing.T, data []byte) []float64 {
	t.Helper()
	w, err := readHeader(bytes.NewReader(data), int64(len(data)))
	if err != nil || w.channels != 1 || w.bits != 16 || w.rate != SpeechRate {
		t.Fatalf("header %+v, %v", w, err)
	}
	list := make([]float64, 0, w.frames)
	for body := data[len(data)-int(w.frames)*2:]; len(body) > 0; body = body[2:] {
		list = append(list, float64(int16(binary.LittleEndian.Uint16(body)))/math.MaxInt16)
	}
	return list
}

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestSpeechWithoutFFmpeg(t *testing.T) {
	for name, c := range map[string]struct {
		codec, channels, bits uint16
		rate                  uint32
		want                  float64
	}{
		"16 bit":        {codecInteger, 1, 16, 16000, 0.5},
		"32 bit stereo": {codecInteger, 2, 32, 48000, 0.25},
		"float":         {codecFloat, 1, 32, 8000, 0.5},
		"three of them": {codecFloat, 4, 32, 11025, 0.125},
	} {
		t.Run(name, func(t *testing.T) {
			in, out := write(t, "in.wav", sound(c.codec, c.channels, c.bits, c.rate, int(c.rate)/2, 0.5)), filepath.Join(t.TempDir(), "out.wav")
			if err := none().Speech(t.Context(), in, out); err != nil {
				t.Fatal(err)
			}
			if length, err := Duration(out); err != nil || (length-500*time.Millisecond).Abs() > time.Millisecond {
				t.Errorf("plays %v, %v", length, err)
			}
			for i, v := range samples(t, read(t, out)) {
				if math.Abs(v-c.want) > 0.001 {
					t.Fatalf("sample %d is %v, want %v", i, v, c.want)
				}
			}
		})
	}
	t.Run("a ramp is drawn straight", func(t *testing.T) {
		ramp := make([]float32, 100)
		for i := range ramp {
			ramp[i] = float32(i) / 100
		}
		out := filepath.Join(t.TempDir(), "out.wav")
		if err := none().Speech(t.Context(), write(t, "in.wav", WAV(8000, ramp)), out); err != nil {
			t.Fatal(err)
		}
		for i, v := range samples(t, read(t, out)) {
			if want := min(float64(i)/200, 0.99); math.Abs(v-want) > 0.001 {
				t.Fatalf("sample %d is %v, want %v", i, v, want)
			}
		}
	})
}

func TestNoWAV(t *testing.T) {
	good := sound(codecInteger, 1, 16, 16000, 100, 0.5)
	change := func(at int, to byte) []byte {
		bad := slices.Clone(good)
		bad[at] = to
		return bad
	}
	const format = 12 + 12 + 8 // where the body of "fmt " begins
	for name, data := range map[string][]byte{
		"empty": nil, "text": []byte("hello"), "cut header": good[:20], "cut format": good[:format+4], "no data": good[:format+16],
		"8 bit": change(format+14, 8), "no channels": change(format+2, 0), "many channels": change(format+3, 9), "no rate": change(format+5, 0),
		"compressed": change(format, 2), "huge format": change(format-2, 9),
	} {
		t.Run(name, func(t *testing.T) {
			if name == "no rate" {
				data[format+4] = 0
			}
			in := write(t, "in.wav", data)
			err := none().Speech(t.Context(), in, filepath.Join(t.TempDir(), "out.wav"))
			if err == nil || engine.Retryable(err) || !strings.Contains(err.Error(), "other formats need ffmpeg") {
				t.Errorf("err = %v", err)
			}
			if _, err := Duration(in); !errors.Is(err, ErrNotWAV) {
				t.Errorf("duration: %v", err)
			}
		})
	}
	t.Run("a header that promises more", func(t *testing.T) {
		if length, err := Duration(write(t, "in.wav", good[:len(good)-100])); err != nil || length != 50*time.Second/16000 {
			t.Errorf("plays %v, %v", length, err)
		}
	})
}

func FuzzReadHeader(f *testing.F) {
	f.Add(sound(codecInteger, 2, 16, 8000, 3, 0.5))
	f.Add(sound(codecFloat, 1, 32, 44100, 1, 0.5))
	f.Fuzz(func(t *testing.T, data []byte) {
		w, err := readHeader(bytes.NewReader(data), int64(len(data)))
		if err == nil && (w.frames < 0 || w.frames*int64(w.frame()) > int64(len(data)) || w.duration() < 0) {
			t.Errorf("%+v of %d bytes", w, len(data))
		}
	})
}

func TestSpeechByFFmpeg(t *testing.T) {
	f := installed(t)
	dir := t.TempDir()
	tone := make([]float32, 22050)
	for i := range tone {
		tone[i] = float32(0.5 * math.Sin(2*math.Pi*440*float64(i)/22050))
	}
	for _, ext := range []string{"wav", "mp3", "ogg", "opus", "flac", "m4a"} {
		t.Run(ext, func(t *testing.T) {
			made := t.TempDir()
			if err := os.WriteFile(filepath.Join(made, "tone.wav"), WAV(22050, tone), 0o600); err != nil {
				t.Fatal(err)
			}
			res, err := f.Sound(t.Context(), made, "tone.wav", strings.ToUpper(ext))
			if err != nil || res.Ext != ext {
				t.Fatalf("%+v, %v", res, err)
			}
			if entries, err := os.ReadDir(made); err != nil || len(entries) != 1 || entries[0].Name() != res.File {
				t.Errorf("folder holds %v, %v", entries, err)
			}
			out := filepath.Join(dir, ext+".wav")
			if err := f.Speech(t.Context(), filepath.Join(made, res.File), out); err != nil {
				t.Fatal(err)
			}
			if length, err := Duration(out); err != nil || (length-time.Second).Abs() > 150*time.Millisecond {
				t.Errorf("plays %v, %v", length, err)
			}
			loud := 0.0
			for _, v := range samples(t, read(t, out)) {
				loud = max(loud, v)
			}
			if loud < 0.3 || loud > 0.7 {
				t.Errorf("its loudest sample is %v", loud)
			}
		})
	}
	t.Run("an unknown wish stays WAV", func(t *testing.T) {
		if res, err := f.Sound(t.Context(), dir, "x.wav", "midi"); err != nil || res != (engine.Result{File: "x.wav", Ext: "wav"}) {
			t.Errorf("%+v, %v", res, err)
		}
	})
	secret := write(t, "secret.wav", WAV(16000, tone))
	for name, data := range map[string]string{
		"text":       "hello",
		"a playlist": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n" + secret + "\n#EXT-X-ENDLIST\n",
		"a list":     "ffconcat version 1.0\nfile '" + secret + "'\n",
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out.wav")
			err := f.Speech(t.Context(), write(t, "in.wav", []byte(data)), out)
			if err == nil || engine.Retryable(err) || !strings.HasPrefix(err.Error(), "the sound cannot be read: ") {
				t.Errorf("err = %v", err)
			}
		})
	}
}

// frames draws pictures of odd sides.
func frames(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		img := image.NewGray(image.Rect(0, 0, 129, 97))
		for p := range img.Pix {
			img.Pix[p] = uint8(20 * i)
		}
		img.SetGray(0, 0, color.Gray{Y: 255})
		var buf bytes.Buffer
		if err := png.Encode(&buf, img); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("frame_%05d.png", i)), buf.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestAssemble(t *testing.T) {
	f := installed(t)
	for wish, ext := range map[string]string{"mp4": "mp4", " WEBM": "webm", "gif": "gif", "webp": "webp", "avi": "mp4", "": "mp4"} {
		t.Run(wish, func(t *testing.T) {
			dir, done := t.TempDir(), 0
			res, err := f.Assemble(t.Context(), frames(t, 10), dir, 10, wish, func(n int) { done = n })
			if err != nil || res != (engine.Result{File: "result." + ext, Ext: ext}) {
				t.Fatalf("%+v, %v", res, err)
			}
			if done != 10 && ext != "webp" { // this one counts packets: it writes the whole at its end
				t.Errorf("%d pictures are in it", done)
			}
			// Read back what is in it: pictures of even sides, of a second together.
			back := t.TempDir()
			state, err := f.Tool.Now(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if ext == "webp" {
				return // the program cannot read animated ones
			}
			if err := f.run(t.Context(), state.Path, time.Minute, nil, "-i", filepath.Join(dir, res.File), filepath.Join(back, "%d.png")); err != nil {
				t.Fatal(err)
			}
			entries, err := os.ReadDir(back)
			if err != nil || len(entries) != 10 {
				t.Fatalf("%d pictures, %v", len(entries), err)
			}
			size, err := png.DecodeConfig(bytes.NewReader(read(t, filepath.Join(back, "1.png"))))
			want := image.Pt(128, 96)
			if ext != "mp4" {
				want = image.Pt(129, 97)
			}
			if err != nil || image.Pt(size.Width, size.Height) != want {
				t.Errorf("%v by %v, %v, want %v", size.Width, size.Height, err, want)
			}
		})
	}
}

func TestAssembleWithoutIt(t *testing.T) {
	for name, f := range map[string]FFmpeg{"no program": none(), "no encoders": faked(t, "no encoders")} {
		t.Run(name, func(t *testing.T) {
			dir, done := t.TempDir(), 0
			res, err := f.Assemble(t.Context(), frames(t, 3), dir, 10, "mp4", func(n int) { done = n })
			if err != nil || res != (engine.Result{File: "result.gif", Ext: "gif"}) || done != 3 {
				t.Fatalf("%+v, %v, %d pictures", res, err, done)
			}
			film, err := gif.DecodeAll(bytes.NewReader(read(t, filepath.Join(dir, res.File))))
			if err != nil || len(film.Image) != 3 || film.Delay[0] != 10 || film.LoopCount != 0 || film.Config.Width != 129 {
				t.Errorf("%+v, %v", film, err)
			}
		})
	}
	t.Run("no pictures", func(t *testing.T) {
		if _, err := none().Assemble(t.Context(), t.TempDir(), t.TempDir(), 10, "gif", func(int) {}); err == nil {
			t.Error("no error")
		}
	})
	t.Run("stopped", func(t *testing.T) {
		cause := errors.New("the person pressed stop")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if _, err := none().Assemble(ctx, frames(t, 2), t.TempDir(), 10, "gif", func(int) {}); !errors.Is(err, cause) {
			t.Errorf("err = %v", err)
		}
	})
}

func TestEncodersThatAreMissing(t *testing.T) {
	if got, ok := choose("mp4", []string{"libvpx-vp9", "gif"}); !ok || got.ext != "webm" {
		t.Errorf("mp4 without its encoders becomes %q", got.ext)
	}
	if got, ok := choose("mp4", []string{"mpeg4", "libvpx-vp9"}); !ok || got.encoder != "mpeg4" {
		t.Errorf("mp4 is made by %q", got.encoder)
	}
	f, dir := faked(t, "few"), t.TempDir()
	for _, wish := range []string{"flac", "midi"} {
		if res, err := f.Sound(t.Context(), dir, "x.wav", wish); err != nil || res.Ext != "wav" {
			t.Errorf("%s: %+v, %v", wish, res, err)
		}
	}
	if _, err := f.Sound(t.Context(), dir, "x.wav", "mp3"); err == nil || !strings.Contains(err.Error(), "No such file") {
		t.Errorf("err = %v", err)
	}
	if _, err := f.Assemble(t.Context(), frames(t, 1), dir, 1, "webm", nil); err == nil || !strings.Contains(err.Error(), "make the video: ") {
		t.Errorf("err = %v", err)
	}
}

func TestCancel(t *testing.T) {
	cause := errors.New("the person pressed stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err := faked(t, "hang").Assemble(ctx, frames(t, 1), t.TempDir(), 1, "webm", func(int) { cancel(cause) })
	if !errors.Is(err, cause) {
		t.Errorf("err = %v, want the cause", err)
	}
}

func TestVersion(t *testing.T) {
	state, err := faked(t, "few").Tool.Now(t.Context())
	if err != nil || state.Version != "5.1.9-0" || VersionOf("something else") != "" {
		t.Errorf("%+v, %v", state, err)
	}
}
