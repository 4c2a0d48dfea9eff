package piper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"unicode"
)

// Bounds on what the config of a voice may say.
const (
	maxConfig  = 4 << 20 // bytes
	minRate    = 4000
	maxRate    = 192_000
	maxIDs     = 16 // of one phoneme
	maxSpeaker = 1 << 16
)

// The signs around and between the phonemes of a sentence.
const (
	signStart = "^"
	signEnd   = "$"
	signPad   = "_"
)

// config is the .onnx.json beside a voice, as far as we use it.
type config struct {
	Audio struct {
		SampleRate int `json:"sample_rate"`
	} `json:"audio"`
	Espeak struct {
		Voice string `json:"voice"`
	} `json:"espeak"`
	Inference struct {
		NoiseScale  *float64 `json:"noise_scale"`
		LengthScale *float64 `json:"length_scale"`
		NoiseW      *float64 `json:"noise_w"`
	} `json:"inference"`
	PhonemeType  string             `json:"phoneme_type"`
	PhonemeIDMap map[string][]int64 `json:"phoneme_id_map"`
	NumSpeakers  int                `json:"num_speakers"`
	SpeakerIDMap map[string]int64   `json:"speaker_id_map"`
}

// readConfig reads the config of a voice.
func readConfig(path string) (config, error) {
	file, err := os.Open(path)
	if err != nil {
		return config{}, err
	}
	defer func() { _ = file.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(file, maxConfig+1))
	if err != nil {
		return config{}, err
	}
	return parseConfig(data)
}

func parseConfig(data []byte) (config, error) {
	var c config
	if len(data) > maxConfig {
		return c, fmt.Errorf("it is longer than %d bytes", maxConfig)
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return c, err
	}
	if c.Audio.SampleRate < minRate || c.Audio.SampleRate > maxRate {
		return c, fmt.Errorf("its sample rate is %d", c.Audio.SampleRate)
	}
	for _, sign := range []string{signStart, signEnd, signPad} {
		if len(c.PhonemeIDMap[sign]) == 0 {
			return c, fmt.Errorf("it has no id for %q", sign)
		}
	}
	for phoneme, ids := range c.PhonemeIDMap {
		if len(ids) > maxIDs {
			return c, fmt.Errorf("it has %d ids for %q", len(ids), phoneme)
		}
	}
	for _, scale := range []*float64{c.Inference.NoiseScale, c.Inference.LengthScale, c.Inference.NoiseW} {
		if scale != nil && (*scale < 0 || *scale > 10) {
			return c, errors.New("one of its scales is not between 0 and 10")
		}
	}
	if c.NumSpeakers < 0 || c.NumSpeakers > maxSpeaker {
		return c, fmt.Errorf("it has %d speakers", c.NumSpeakers)
	}
	switch c.PhonemeType {
	case "", "espeak", "text":
	default:
		return c, fmt.Errorf("its phonemes are of the type %.40q, which this worker cannot make", c.PhonemeType)
	}
	return c, nil
}

// scales are the noise, the length and the noise of the length, at a speed; 1 is
// natural.
func (c config) scales(speed float64) [3]float32 {
	pick := func(v *float64, fallback float64) float64 {
		if v == nil {
			return fallback
		}
		return *v
	}
	return [3]float32{
		float32(pick(c.Inference.NoiseScale, 0.667)), float32(pick(c.Inference.LengthScale, 1) / speed), float32(pick(c.Inference.NoiseW, 0.8)),
	}
}

// speaker is who speaks: named after a # by number or by name in the wanted
// voice, or by the whole of it; else the first.
func (c config) speaker(voice string) int64 {
	_, name, ok := strings.Cut(voice, "#")
	if !ok {
		name = voice
	}
	if id, ok := c.SpeakerIDMap[name]; ok && id >= 0 && id < int64(c.NumSpeakers) {
		return id
	}
	if n, err := strconv.ParseInt(name, 10, 64); err == nil && ok && n >= 0 && n < int64(c.NumSpeakers) {
		return n
	}
	return 0
}

// ids are the numbers of a sentence of phonemes: each code point, with a pad after
// it. missing counts the phonemes that the voice does not know.
func (c config) ids(phonemes string) (ids []int64, missing int) {
	ids = append(ids, c.PhonemeIDMap[signStart]...)
	for _, r := range phonemes {
		known, ok := c.PhonemeIDMap[string(r)]
		if !ok {
			missing++
			continue
		}
		ids = append(append(ids, known...), c.PhonemeIDMap[signPad]...)
	}
	return append(ids, c.PhonemeIDMap[signEnd]...), missing
}

// sentence is one stretch of text that is spoken at once: its clauses, and the
// mark after each.
type sentence struct {
	text  string
	marks []string
}

// longSentence is the number of characters after which a sentence ends at its next
// clause: the model needs memory for all of it.
const longSentence = 400

// sentences cuts a text where a speaker pauses.
func sentences(text string) []sentence {
	var list []sentence
	var now sentence
	runes := []rune(text)
	begin := 0
	flush := func(end int) {
		now.text = strings.TrimSpace(string(runes[begin:end]))
		if strings.ContainsFunc(now.text, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }) {
			list = append(list, now)
		}
		now, begin = sentence{}, end
	}
	for i, r := range runes {
		last := i+1 == len(runes) || unicode.IsSpace(runes[i+1])
		wide := strings.ContainsRune("。！？、，", r)
		switch {
		case r == '\n' && i > 0 && runes[i-1] == '\n': // a paragraph
			flush(i + 1)
		case !last && !wide:
		case strings.ContainsRune(".?!…。！？", r):
			now.marks = append(now.marks, ascii(r))
			flush(i + 1)
		case strings.ContainsRune(",;:、，", r):
			now.marks = append(now.marks, ascii(r))
			if i-begin > longSentence {
				flush(i + 1)
			}
		}
	}
	flush(len(runes))
	return list
}

// ascii is a mark as voices know it.
func ascii(r rune) string {
	switch r {
	case '…', '。':
		return "."
	case '！':
		return "!"
	case '？':
		return "?"
	case '、', '，':
		return ","
	default:
		return string(r)
	}
}

// punctuate joins the phonemes of clauses with their marks. When the program saw
// other clauses than we did, only the last mark counts.
func (s sentence) punctuate(clauses []string) string {
	if len(clauses) == len(s.marks) {
		var b strings.Builder
		for i, clause := range clauses {
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(clause + s.marks[i])
		}
		return b.String()
	}
	text := strings.Join(clauses, " ")
	if len(s.marks) > 0 {
		text += s.marks[len(s.marks)-1]
	}
	return text
}

// normalise makes a sound as loud as it can be, as voices expect, unless it is
// next to nothing.
func normalise(samples []float32) {
	const nothing = 0.01
	loudest := 0.0
	for _, v := range samples {
		if a := math.Abs(float64(v)); a > loudest { // not for NaN
			loudest = a
		}
	}
	scale := float32(1 / max(loudest, nothing))
	for i := range samples {
		samples[i] *= scale
	}
}
