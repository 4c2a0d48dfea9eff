// Package media converts sounds and makes videos, with the ffmpeg program where
// it is installed (engines spec §8 to §10). Without it, WAV files are read here,
// sounds stay WAV, and videos become GIFs.
package media

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color/palette"
	"image/draw"
	"image/gif"
	"image/png"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"studioworker/worker/engine"
	"studioworker/worker/engine/process"
	"studioworker/worker/engine/program"
)

// Limits of one conversion.
const (
	soundLimit = 10 * time.Minute
	videoLimit = time.Hour
	stallLimit = 15 * time.Minute
	maxPixels  = 50_000_000 // of one picture of a video
	maxFrames  = 4096
)

// containers are the forms of sound that ffmpeg may read. Playlists are not among
// them: they name further files.
const containers = "wav,w64,aiff,caf,au,mp3,aac,adts,ac3,amr,flac,ogg,matroska,webm,mov,mp4,m4a,asf,avi"

// FFmpeg is the ffmpeg program, which may be missing.
type FFmpeg struct {
	Tool *program.Tool
}

// path returns the program, or nothing. The error is the cause of ctx.
func (f FFmpeg) path(ctx context.Context) (string, error) {
	state, err := f.Tool.Now(ctx)
	if err != nil || !state.Runs() {
		return "", err
	}
	return state.Path, nil
}

// VersionOf reads the version out of what ffmpeg -version says.
func VersionOf(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	rest, ok := strings.CutPrefix(line, "ffmpeg version ")
	if !ok {
		return ""
	}
	version, _, _ := strings.Cut(rest, " ")
	return version
}

// run runs the program. frame, when set, hears how many pictures are done.
func (f FFmpeg) run(ctx context.Context, path string, limit time.Duration, frame func(int), args ...string) error {
	common := []string{"-nostdin", "-hide_banner", "-loglevel", "error"}
	_, err := process.Run(ctx, process.Config{
		Path: path, Args: slices.Concat(common, args), Env: f.Tool.Places.Environment(path), WallLimit: limit, StallLimit: min(limit, stallLimit),
		OnLine: func(s process.Stream, line string) {
			if count, ok := strings.CutPrefix(line, "frame="); ok && s == process.Stdout && frame != nil {
				if n, err := strconv.Atoi(strings.TrimSpace(count)); err == nil {
					frame(n)
				}
			}
		},
	})
	return engine.ChildError(err)
}

// Speech makes of a sound what speech recognition wants: a WAV with one channel
// of 16 bit at SpeechRate. A sound that cannot be read is bad input.
func (f FFmpeg) Speech(ctx context.Context, in, out string) error {
	path, err := f.path(ctx)
	if err != nil {
		return err
	}
	if path == "" {
		if err := speech(in, out); errors.Is(err, ErrNotWAV) {
			return engine.BadInput(err.Error() + "; other formats need ffmpeg on this worker")
		} else if err != nil {
			return err
		}
		return nil
	}
	err = f.run(ctx, path, soundLimit, nil, "-y", "-protocol_whitelist", "file", "-format_whitelist", containers, "-i", in, "-vn",
		"-ac", "1", "-ar", strconv.Itoa(SpeechRate), "-c:a", "pcm_s16le", "-f", "wav", out)
	if exit, ok := errors.AsType[*process.ExitError](err); ok && exit.Reason == process.ReasonCode {
		return &engine.Error{Class: engine.ClassBadInput, Err: errors.New("the sound cannot be read: " + exit.LastLine)}
	}
	return err
}

// sounds are the formats of sound that can be asked for, with ffmpeg's encoder and
// its arguments (engines spec §9).
var sounds = map[string][]string{
	"mp3":  {"libmp3lame", "-q:a", "4"},
	"ogg":  {"libvorbis"},
	"opus": {"libopus", "-b:a", "48k"},
	"flac": {"flac"},
	"m4a":  {"aac"},
}

// Sound turns the WAV in dir into the wished format and returns what came out:
// the WAV itself when the format is unknown or cannot be made here.
func (f FFmpeg) Sound(ctx context.Context, dir, wav, wish string) (engine.Result, error) {
	as := engine.Result{File: wav, Ext: "wav"}
	wish = strings.ToLower(strings.TrimSpace(wish))
	codec, ok := sounds[wish]
	if !ok {
		return as, nil
	}
	path, err := f.path(ctx)
	if err != nil || path == "" {
		return as, err
	}
	encoders, err := f.encoders(ctx, path)
	if err != nil || !slices.Contains(encoders, codec[0]) {
		return as, err
	}
	to := engine.Result{File: "result." + wish, Ext: wish}
	args := slices.Concat([]string{"-y", "-i", filepath.Join(dir, wav), "-map_metadata", "-1", "-c:a"}, codec, []string{filepath.Join(dir, to.File)})
	if err := f.run(ctx, path, soundLimit, nil, args...); err != nil {
		return as, errors.Join(err, forget(filepath.Join(dir, to.File)))
	}
	if err := os.Remove(filepath.Join(dir, wav)); err != nil {
		return as, fmt.Errorf("remove the unconverted sound: %w", err)
	}
	return to, nil
}

// forget removes a file that may not be there.
func forget(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// encoders are the names of what the program can write.
func (f FFmpeg) encoders(ctx context.Context, path string) ([]string, error) {
	text, err := f.Tool.Says(ctx, path, "-hide_banner", "-encoders")
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.SplitSeq(text, "\n") {
		if fields := strings.Fields(line); len(fields) > 1 {
			names = append(names, fields[1])
		}
	}
	return names, nil
}

// form is one way to write a video.
type form struct {
	ext, encoder string
	args         []string
}

// even makes sides that every player takes: these codecs know no odd ones.
const even = "scale=trunc(iw/2)*2:trunc(ih/2)*2,format=yuv420p"

// forms are the ways to write a video (engines spec §10), the better ones of a
// format first.
var forms = []form{
	{"mp4", "libx264", []string{"-vf", even, "-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-movflags", "+faststart"}},
	{"mp4", "libopenh264", []string{"-vf", even, "-c:v", "libopenh264", "-movflags", "+faststart"}},
	{"mp4", "mpeg4", []string{"-vf", even, "-c:v", "mpeg4", "-q:v", "4", "-movflags", "+faststart"}},
	{"webm", "libvpx-vp9", []string{"-c:v", "libvpx-vp9", "-b:v", "0", "-crf", "32", "-row-mt", "1", "-pix_fmt", "yuv420p"}},
	{"gif", "gif", []string{"-vf", "split[a][b];[a]palettegen[p];[b][p]paletteuse", "-loop", "0"}},
	{"webp", "libwebp_anim", []string{"-c:v", "libwebp_anim", "-loop", "0"}},
}

// choose picks the form of a video: the wished format, else mp4, else webm, else
// gif.
func choose(wish string, encoders []string) (form, bool) {
	for _, ext := range []string{strings.ToLower(strings.TrimSpace(wish)), "mp4", "webm", "gif"} {
		for _, f := range forms {
			if f.ext == ext && slices.Contains(encoders, f.encoder) {
				return f, true
			}
		}
	}
	return form{}, false
}

// Assemble makes a video of the pictures frame_00000.png and on in frames, and
// writes it into dir. progress hears how many pictures are in it. Without
// ffmpeg it becomes a GIF.
func (f FFmpeg) Assemble(ctx context.Context, frames, dir string, fps int, ext string, progress func(done int)) (engine.Result, error) {
	fps = max(fps, 1)
	path, err := f.path(ctx)
	if err != nil {
		return engine.Result{}, err
	}
	var as form
	if path != "" {
		encoders, err := f.encoders(ctx, path)
		if err != nil {
			return engine.Result{}, err
		}
		as, _ = choose(ext, encoders)
	}
	if as.ext == "" {
		return drawGIF(ctx, frames, dir, fps, progress)
	}
	res := engine.Result{File: "result." + as.ext, Ext: as.ext}
	args := slices.Concat([]string{
		"-nostats", "-progress", "pipe:1", "-y", "-framerate", strconv.Itoa(fps), "-start_number", "0", "-i", filepath.Join(frames, "frame_%05d.png"),
		"-map_metadata", "-1",
	}, as.args, []string{filepath.Join(dir, res.File)})
	if err := f.run(ctx, path, videoLimit, progress, args...); err != nil {
		return engine.Result{}, errors.Join(fmt.Errorf("make the video: %w", err), forget(filepath.Join(dir, res.File)))
	}
	return res, nil
}

// drawGIF makes a GIF of the pictures.
func drawGIF(ctx context.Context, frames, dir string, fps int, progress func(int)) (engine.Result, error) {
	var film gif.GIF
	for n := range maxFrames {
		if ctx.Err() != nil {
			return engine.Result{}, context.Cause(ctx)
		}
		img, err := readFrame(filepath.Join(frames, fmt.Sprintf("frame_%05d.png", n)))
		if errors.Is(err, fs.ErrNotExist) && n > 0 {
			break
		}
		if err != nil {
			return engine.Result{}, err
		}
		flat := image.NewPaletted(img.Bounds(), palette.Plan9)
		draw.FloydSteinberg.Draw(flat, flat.Bounds(), img, img.Bounds().Min)
		film.Image, film.Delay = append(film.Image, flat), append(film.Delay, max(100/fps, 2)) // hundredths of a second
		progress(n + 1)
	}
	res := engine.Result{File: "result.gif", Ext: "gif"}
	file, err := os.OpenFile(filepath.Join(dir, res.File), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return engine.Result{}, fmt.Errorf("write the video: %w", err)
	}
	if err := errors.Join(gif.EncodeAll(file, &film), file.Close()); err != nil {
		return engine.Result{}, fmt.Errorf("write the video: %w", err)
	}
	return res, nil
}

// readFrame reads one picture of a video.
func readFrame(path string) (image.Image, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read a picture of the video: %w", err)
	}
	defer func() { _ = file.Close() }() // only read
	size, err := png.DecodeConfig(file)
	if err == nil && size.Width*size.Height > maxPixels {
		err = fmt.Errorf("it has more than %d pixels", maxPixels)
	}
	if err == nil {
		_, err = file.Seek(0, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("read a picture of the video: %w", err)
	}
	img, err := png.Decode(file)
	if err != nil {
		return nil, fmt.Errorf("read a picture of the video: %w", err)
	}
	return img, nil
}
