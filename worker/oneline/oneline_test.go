package oneline

import (
	"math"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestOf(t *testing.T) {
	for _, tc := range []struct {
		in    string
		limit int
		want  string
	}{
		{"", 3, ""},
		{" \n\t\x00 ", 3, ""},
		{"  a\n\tb\x1b[0m \u0085", 40, "a b [0m"},
		{"äöü", 3, "äöü"},
		{"äöü \n", 3, "äöü"},
		{"äöüß", 3, "äöü…"},
		{"ab cd", 3, "ab…"},
		{"ab c d", 4, "ab c…"},
		{"a\xff\xfe\xfdb\xff", 9, "a\uFFFDb\uFFFD"},
		{"a\uFFFD\uFFFDb", 9, "a\uFFFD\uFFFDb"},
		{"abc", 0, "…"},
		{strings.Repeat("word ", 1000), math.MaxInt, strings.TrimSpace(strings.Repeat("word ", 1000))},
	} {
		if got := Of(tc.in, tc.limit); got != tc.want {
			t.Errorf("%.40q, %d: got %.40q, want %.40q", tc.in, tc.limit, got, tc.want)
		}
	}
}

func FuzzOf(f *testing.F) {
	f.Add("  a\n\tb\x1b[0m ", 3)
	f.Add("a\xff\xfeb", 2)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		got := Of(text, limit)
		line, _ := strings.CutSuffix(got, "…")
		if !utf8.ValidString(got) || strings.ContainsFunc(got, unicode.IsControl) || strings.Contains(got, "  ") || strings.TrimSpace(got) != got {
			t.Errorf("%q is not one line", got)
		}
		if n := utf8.RuneCountInString(line); n > max(limit, 0) {
			t.Errorf("%d characters, limit %d", n, limit)
		}
		if again := Of(got, math.MaxInt); again != got {
			t.Errorf("%q becomes %q", got, again)
		}
	})
}
