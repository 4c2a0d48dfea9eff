package espeak

import (
	"context"
	"errors"
	"strings"

	"studioworker/worker/engine/process"
)

// Bounds on what a list of voices may hold.
const (
	maxVoiceNames = 4096
	maxVoiceName  = 64 // bytes
)

// defaultVoice is spoken when a job names nothing that is known.
const defaultVoice = "en"

// voices maps each name by which a voice may be asked for, in lower case, to
// what the program takes.
type voices map[string]string

// known returns the voices of a program. It asks the program once.
func (e *Engine) known(ctx context.Context, program string) (voices, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if v, ok := e.voices[program]; ok {
		return v, nil
	}
	v := voices{}
	_, err := e.run(ctx, process.Config{
		Path:      program,
		Args:      []string{"--voices"},
		WallLimit: voicesLimit,
		OnLine: func(s process.Stream, line string) {
			if s == process.Stdout {
				v.add(line)
			}
		},
	})
	if err != nil {
		return nil, err
	}
	if len(v) == 0 {
		return nil, errors.New("the program lists no voices")
	}
	e.voices[program] = v
	return v, nil
}

// add takes one line of the list. Its columns are priority, language, age and
// gender, name, file, and further languages, such as:
//
//	2  en-gb  --/M  English_(Great_Britain)  gmw/en  (en 2)
//
// Any other line, the heading too, is left out.
func (v voices) add(line string) {
	fields := strings.Fields(line)
	if len(fields) < 5 || !isNumber(fields[0]) || !strings.Contains(fields[2], "/") {
		return
	}
	language, name, file := fields[1], fields[3], fields[4]
	v.put(language, language)
	v.put(file, file)
	v.put(name, file)
	v.put(strings.ReplaceAll(name, "_", " "), file)
	for further := range strings.SplitSeq(strings.Join(fields[5:], " "), "(") {
		if language, _, ok := strings.Cut(further, " "); ok {
			v.put(language, language)
		}
	}
}

// put adds a name. The first voice of a name keeps it.
func (v voices) put(name, voice string) {
	key := strings.ToLower(name)
	if name == "" || len(name) > maxVoiceName || len(voice) > maxVoiceName || len(v) >= maxVoiceNames ||
		strings.HasPrefix(voice, "-") { // would be an option
		return
	}
	if _, ok := v[key]; !ok {
		v[key] = voice
	}
}

// choose picks the voice of a job: the wanted one if it is known, else the
// language if that is, else English. "default" names no voice.
func (v voices) choose(voice, language string) string {
	for _, want := range []string{voice, language} {
		want = strings.ToLower(strings.TrimSpace(want))
		if found, ok := v[want]; ok && want != "default" {
			return found
		}
	}
	return defaultVoice
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
