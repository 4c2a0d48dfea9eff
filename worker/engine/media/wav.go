package media

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"
)

// SpeechRate is the rate in samples a second that speech recognition wants.
const SpeechRate = 16000

// Bounds on what a WAV header may say.
const (
	maxChannels = 32
	maxRate     = 1 << 20
	maxChunks   = 1024 // before the sound
)

// The ways in which a WAV may hold its samples.
const (
	codecInteger    = 1
	codecFloat      = 3
	codecExtensible = 0xfffe // the real one is in the extension
)

// ErrNotWAV says that a sound is not a WAV that we can read.
var ErrNotWAV = errors.New("the sound is not a WAV with 16- or 32-bit samples")

// waveform is what the header of a WAV says.
type waveform struct {
	codec, channels, bits uint16
	rate                  uint32
	frames                int64 // samples of each channel
}

func (w waveform) duration() time.Duration {
	return time.Duration(float64(w.frames) / float64(w.rate) * float64(time.Second))
}

// readHeader reads up to the first sample. size is the length of the whole file:
// what a header promises beyond it does not exist.
func readHeader(r io.Reader, size int64) (waveform, error) {
	var head [12]byte
	if _, err := io.ReadFull(r, head[:]); err != nil || string(head[:4]) != "RIFF" || string(head[8:]) != "WAVE" {
		return waveform{}, ErrNotWAV
	}
	var w waveform
	at := int64(len(head))
	for range maxChunks {
		var chunk [8]byte
		if _, err := io.ReadFull(r, chunk[:]); err != nil {
			return waveform{}, ErrNotWAV
		}
		at += int64(len(chunk))
		length := int64(binary.LittleEndian.Uint32(chunk[4:]))
		switch string(chunk[:4]) {
		case "fmt ":
			const least, most = 16, 1 << 10
			if length < least || length > most {
				return waveform{}, ErrNotWAV
			}
			body := make([]byte, length)
			if _, err := io.ReadFull(r, body); err != nil {
				return waveform{}, ErrNotWAV
			}
			w.codec, w.channels = binary.LittleEndian.Uint16(body), binary.LittleEndian.Uint16(body[2:])
			w.rate, w.bits = binary.LittleEndian.Uint32(body[4:]), binary.LittleEndian.Uint16(body[14:])
			const subFormat = 24
			if w.codec == codecExtensible && len(body) >= subFormat+2 {
				w.codec = binary.LittleEndian.Uint16(body[subFormat:])
			}
		case "data":
			known := w.codec == codecInteger && (w.bits == 16 || w.bits == 32) || w.codec == codecFloat && w.bits == 32
			if !known || w.channels == 0 || w.channels > maxChannels || w.rate == 0 || w.rate > maxRate {
				return waveform{}, ErrNotWAV
			}
			w.frames = min(length, max(size-at, 0)) / int64(w.frame())
			return w, nil
		default:
			length += length % 2 // bodies are padded to an even length
			if _, err := io.CopyN(io.Discard, r, length); err != nil {
				return waveform{}, ErrNotWAV
			}
		}
		at += length
	}
	return waveform{}, ErrNotWAV
}

// frame is the length in bytes of one sample of every channel.
func (w waveform) frame() int { return int(w.channels) * int(w.bits) / 8 }

// mean is the mean of the channels of one frame, between -1 and 1.
func (w waveform) mean(frame []byte) float64 {
	sum, width := 0.0, int(w.bits)/8
	for c := range int(w.channels) {
		sample := frame[c*width:]
		switch {
		case w.codec == codecFloat:
			v := float64(math.Float32frombits(binary.LittleEndian.Uint32(sample)))
			if !math.IsNaN(v) {
				sum += min(max(v, -1), 1)
			}
		case w.bits == 16:
			sum += float64(int16(binary.LittleEndian.Uint16(sample))) / (1 << 15)
		default:
			sum += float64(int32(binary.LittleEndian.Uint32(sample))) / (1 << 31)
		}
	}
	return sum / float64(w.channels)
}

// Duration is how long a WAV plays. The error is ErrNotWAV when it is none that
// we can read.
func Duration(path string) (time.Duration, error) {
	file, size, err := open(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = file.Close() }() // only read
	w, err := readHeader(bufio.NewReader(file), size)
	return w.duration(), err
}

func open(path string) (*os.File, int64, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("open the sound: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("open the sound: %w", err), file.Close())
	}
	return file, info.Size(), nil
}

// speech makes of a WAV what speech recognition wants: one channel, the mean of
// all, 16 bit, at SpeechRate, by drawing straight lines between the samples
// (engines spec §8). It keeps little in memory, however long the sound is.
func speech(in, out string) (err error) {
	file, size, err := open(in)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read
	r := bufio.NewReaderSize(file, 1<<16)
	w, err := readHeader(r, size)
	if err != nil {
		return err
	}
	made, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write the sound: %w", err)
	}
	defer func() { err = errors.Join(err, made.Close()) }()
	total := w.frames * SpeechRate / int64(w.rate)
	to := bufio.NewWriterSize(made, 1<<16)
	if _, err := to.Write(header(SpeechRate, total)); err != nil {
		return fmt.Errorf("write the sound: %w", err)
	}
	frame := make([]byte, w.frame())
	var before, after float64 // the samples around the place that is drawn
	at := int64(-1)           // of after, in frames of the input
	for i := range total {
		place := float64(i) * float64(w.rate) / SpeechRate
		for at < int64(place)+1 && at < w.frames-1 {
			if _, err := io.ReadFull(r, frame); err != nil {
				return fmt.Errorf("read the sound: %w", err)
			}
			at++
			before, after = after, w.mean(frame)
			if at == 0 {
				before = after
			}
		}
		share := min(max(place-float64(at-1), 0), 1)
		value := before + share*(after-before)
		if err := binary.Write(to, binary.LittleEndian, int16(math.Round(min(max(value, -1), 1)*math.MaxInt16))); err != nil {
			return fmt.Errorf("write the sound: %w", err)
		}
	}
	if err := to.Flush(); err != nil {
		return fmt.Errorf("write the sound: %w", err)
	}
	return nil
}

// header is that of a WAV with one channel of 16-bit samples.
func header(rate uint32, samples int64) []byte {
	const width = 2
	data := uint32(min(samples*width, math.MaxUint32-64))
	h := binary.LittleEndian.AppendUint32([]byte("RIFF"), 36+data)
	h = append(h, "WAVEfmt "...)
	h = binary.LittleEndian.AppendUint32(h, 16)
	h = binary.LittleEndian.AppendUint16(h, codecInteger)
	h = binary.LittleEndian.AppendUint16(h, 1)
	h = binary.LittleEndian.AppendUint32(h, rate)
	h = binary.LittleEndian.AppendUint32(h, rate*width)
	h = binary.LittleEndian.AppendUint16(h, width)
	h = binary.LittleEndian.AppendUint16(h, 8*width)
	h = append(h, "data"...)
	return binary.LittleEndian.AppendUint32(h, data)
}

// WAV makes a sound file of samples between -1 and 1, one channel of 16 bit.
func WAV(rate uint32, samples []float32) []byte {
	data := header(rate, int64(len(samples)))
	for _, v := range samples {
		if v != v { // not a number
			v = 0
		}
		data = binary.LittleEndian.AppendUint16(data, uint16(int16(math.Round(float64(min(max(v, -1), 1))*math.MaxInt16))))
	}
	return data
}
