package espeak

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"studioworker/worker/engine"
)

const heading = "Pty Language       Age/Gender VoiceName          File                 Other Languages"

func parse(list string) voices {
	v := voices{}
	for line := range strings.SplitSeq(list, "\n") {
		v.add(line)
	}
	return v
}

func TestVoices(t *testing.T) {
	v := parse(heading + `
 5  af              --/M      Afrikaans          gmw/af
 2  en-gb           --/M      English_(Great_Britain) gmw/en               (en 2)
 2  en-us           --/M      English_(America)  gmw/en-US            (en 3)
 5  cmn             --/M      Chinese_(Mandarin,_latin_as_English) sit/cmn              (zh-cmn 5)(zh 5)
 5  -x              --/M      -y                 -z
 5  short           --/M      line
 5  default         --/M      Default            def
a warning about something else entirely here
`)
	for _, c := range []struct{ voice, language, want string }{
		{"", "", "en"},
		{"default", "", "en"},
		{"default", "af", "af"},
		{"af", "en-us", "af"},
		{"English_(America)", "", "gmw/en-US"},
		{"english (america)", "", "gmw/en-US"},
		{"GMW/EN-us", "", "gmw/en-US"},
		{" en-US ", "", "en-us"},
		{"zh", "", "zh"},
		{"zh-cmn", "", "zh-cmn"},
		{"nobody", "", "en"},
		{"nobody", "af", "af"},
		{"nobody", "xx", "en"},
		{"-x", "", "en"},
		{"-y", "-z", "en"},
		{"short", "", "en"},
		{"language", "", "en"},
		{"en", "", "en"},
	} {
		if got := v.choose(c.voice, c.language); got != c.want {
			t.Errorf("choose(%q, %q) = %q, want %q", c.voice, c.language, got, c.want)
		}
	}
}

func TestVoicesAreAskedForOnce(t *testing.T) {
	count := filepath.Join(t.TempDir(), "count")
	e := faked(t, "arguments", nil)
	e.cfg.Environ = append(e.cfg.Environ, fakeCount+"="+count)
	for range 3 {
		if _, err := e.Run(t.Context(), job(t, engine.TTS{Text: "hello"}), func(engine.Progress) {}); err != nil {
			t.Fatal(err)
		}
	}
	if asked, err := os.ReadFile(count); err != nil || string(asked) != "asked\n" {
		t.Errorf("asked %q, %v; want once", asked, err)
	}
}

func TestWordsPerMinute(t *testing.T) {
	for speed, want := range map[float64]int{
		1: 175, 0: 175, -1: 175, 0.25: 80, 0.5: 88, 2: 350, 4: 450, math.Inf(1): 450,
	} {
		if got := wordsPerMinute(speed); got != want {
			t.Errorf("wordsPerMinute(%v) = %d, want %d", speed, got, want)
		}
	}
	if got := wordsPerMinute(math.NaN()); got != 175 {
		t.Errorf("not a number = %d", got)
	}
}

func TestCleanText(t *testing.T) {
	for in, want := range map[string]string{
		"  plain\n":       "plain",
		"a\x00b\x01\x7fc": "abc",
		"[[a]] [[[b":      "[ [a]] [ [ [b",
		"bad \xff":        "bad \uFFFD",
		"two\nlines\tx":   "two\nlines\tx",
		"[\x00[a":         "[ [a",
	} {
		if got := cleanText(in); got != want {
			t.Errorf("cleanText(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzVoices(f *testing.F) {
	f.Add(heading + "\n 5  af  --/M  Afrikaans  gmw/af\n 2 en-gb --/M English gmw/en (en 2)(x 3)")
	f.Add(" 1 - / -- - (- 1)")
	f.Fuzz(func(t *testing.T, list string) {
		v := parse(list)
		if len(v) > maxVoiceNames {
			t.Errorf("%d names", len(v))
		}
		for name, voice := range v {
			if voice == "" || len(voice) > maxVoiceName || strings.HasPrefix(voice, "-") || strings.ContainsFunc(voice, unicode.IsSpace) {
				t.Errorf("%q stands for %q", name, voice)
			}
		}
		if got := v.choose(list, "af"); strings.HasPrefix(got, "-") || got == "" {
			t.Errorf("chose %q", got)
		}
	})
}
