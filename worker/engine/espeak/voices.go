package espeak

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"studioworker/worker/engine"
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

// Phonemes says how a text is spoken in a voice, in the letters of the IPA: one
// line for each clause. dir is a folder for the text; nothing stays in it. A
// voice that the program does not know is bad input.
func (e *Engine) Phonemes(ctx context.Context, voice, text, dir string) ([]string, error) {
	e.finder.Forget()
	path := e.find()
	if path == "" {
		return nil, notInstalled()
	}
	text = cleanText(text)
	if text == "" {
		return nil, nil
	}
	if voice == "" || strings.HasPrefix(voice, "-") || len(voice) > maxVoiceName {
		return nil, engine.BadInput("the voice names no language that espeak-ng knows")
	}
	input := filepath.Join(dir, "phonemes.txt")
	if err := os.WriteFile(input, []byte(text+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("write text: %w", err)
	}
	var lines []string
	out, err := e.run(ctx, process.Config{
		Path: path, Args: []string{"-q", "--ipa", "-v", voice, "-f", input}, WallLimit: voicesLimit,
		OnLine: func(s process.Stream, line string) {
			if s == process.Stdout {
				lines = append(lines, strings.TrimSpace(line))
			}
		},
	})
	if removeErr := os.Remove(input); err == nil && removeErr != nil {
		return nil, fmt.Errorf("remove text: %w", removeErr)
	}
	if strings.Contains(out.Stderr, "voice does not exist") {
		return nil, engine.BadInput("the voice names no language that espeak-ng knows")
	}
	return lines, engine.ChildError(err)
}

// Found tells whether the program is there.
func (e *Engine) Found() bool { return e.find() != "" }
