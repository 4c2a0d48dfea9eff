package whispercpp

import (
	"encoding/json"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// transcript is what the program writes with -oj or -ojf, as far as we use it.
type transcript struct {
	Result struct {
		Language string `json:"language"`
	} `json:"result"`
	Transcription []struct {
		Offsets offsets `json:"offsets"`
		Text    string  `json:"text"`
		Tokens  []token `json:"tokens"`
	} `json:"transcription"`
}

// offsets are in milliseconds.
type offsets struct {
	From float64 `json:"from"`
	To   float64 `json:"to"`
}

type token struct {
	Text    string  `json:"text"`
	Offsets offsets `json:"offsets"`
	P       float64 `json:"p"` // probability
}

// stray is the place of code points that stand for single bytes while the JSON is
// read: a character may be split over two tokens, and each half alone is no
// valid text.
const stray = 0xF700

// parse reads the program's JSON. Control characters in its strings are not
// escaped, as they should be.
func parse(data []byte) (transcript, error) {
	clean := make([]byte, 0, len(data))
	for inString, escaped := false, false; len(data) > 0; {
		c := data[0]
		switch {
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRune(data)
			if r == utf8.RuneError && size == 1 {
				clean = utf8.AppendRune(clean, stray+rune(c))
			} else {
				clean = append(clean, data[:size]...)
			}
			data = data[size:]
			escaped = false
			continue
		case inString && c < ' ':
			clean = append(clean, ' ')
		default:
			clean = append(clean, c)
			if c == '"' && !escaped {
				inString = !inString
			}
		}
		escaped = inString && c == '\\' && !escaped
		data = data[1:]
	}
	var t transcript
	err := json.Unmarshal(clean, &t)
	return t, err
}

// whole puts the bytes of split characters together again. What is still no text
// becomes a replacement character.
func whole(text string) string {
	out := make([]byte, 0, len(text))
	for _, r := range text {
		if r >= stray+utf8.RuneSelf && r <= stray+0xff {
			out = append(out, byte(r-stray))
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return strings.ToValidUTF8(string(out), "\uFFFD")
}

// result is what a job answers (engines spec §8).
type result struct {
	Text     string    `json:"text"`
	Language string    `json:"language"`
	Duration float64   `json:"duration"`          // seconds
	Segments []segment `json:"segments,omitzero"` // nil when nobody asked
	Words    []word    `json:"words,omitzero"`
}

// segment is one stretch of speech; times are in seconds.
type segment struct {
	ID    int     `json:"id"`
	Start float64 `json:"start"`
	End   float64 `json:"end"`
	Text  string  `json:"text"`
}

type word struct {
	Word        string  `json:"word"`
	Start       float64 `json:"start"`
	End         float64 `json:"end"`
	Probability float64 `json:"probability"` // the least of its tokens
}

// result makes the answer of a job. Segments and words are in it when they were
// asked for.
func (t transcript) result(timestamps string, length time.Duration) result {
	r := result{Language: t.Result.Language, Duration: math.Round(length.Seconds()*1000) / 1000}
	if r.Language == "" {
		r.Language = "en"
	}
	if timestamps != "" {
		r.Segments = []segment{}
	}
	if timestamps == "word" {
		r.Words = []word{}
	}
	var all strings.Builder
	for i, s := range t.Transcription {
		all.WriteString(s.Text)
		if timestamps == "" {
			continue
		}
		r.Segments = append(r.Segments, segment{i, seconds(s.Offsets.From), seconds(s.Offsets.To), strings.TrimSpace(whole(s.Text))})
		if timestamps == "word" {
			r.Words = append(r.Words, words(s.Tokens)...)
		}
	}
	r.Text = strings.TrimSpace(whole(all.String()))
	return r
}

// words groups tokens: one that begins with a space begins a word. Special
// tokens say no word.
func words(tokens []token) []word {
	var list []word
	var texts []string
	for _, t := range tokens {
		if strings.HasPrefix(t.Text, "[_") || t.Text == "" {
			continue
		}
		if strings.HasPrefix(t.Text, " ") || len(list) == 0 {
			list, texts = append(list, word{Start: seconds(t.Offsets.From), Probability: t.P}), append(texts, "")
		}
		last := len(list) - 1
		texts[last] += t.Text
		list[last].End = seconds(t.Offsets.To)
		list[last].Probability = min(list[last].Probability, t.P)
	}
	said := list[:0]
	for i, w := range list {
		if w.Word = strings.TrimSpace(whole(texts[i])); w.Word != "" {
			said = append(said, w)
		}
	}
	return said
}

func seconds(milliseconds float64) float64 { return milliseconds / 1000 }
