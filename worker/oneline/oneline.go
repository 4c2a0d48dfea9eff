// Package oneline makes a line that people can read of a text that came from
// elsewhere: a studio, an engine, a file, a person.
package oneline

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Of returns text in one line of at most limit characters, and an ellipsis after
// them when there was more. Blanks, line ends and control characters in a row
// become one blank, and none at the ends; bytes in a row that are no text become
// one U+FFFD. It looks at no more of the text than it returns, but for those.
func Of(text string, limit int) string {
	var b strings.Builder
	n, blank, bad := 0, false, false
	for i, r := range text {
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			blank, bad = n > 0, false
			continue
		}
		again := bad
		if bad = isBad(text[i:], r); bad && again {
			continue
		}
		more := 1
		if blank {
			more = 2
		}
		if n+more > limit {
			return b.String() + "…"
		}
		if blank {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
		n, blank = n+more, false
	}
	return b.String()
}

// isBad says whether r, which text begins with, stands for a byte that is no text.
func isBad(text string, r rune) bool {
	if r != utf8.RuneError {
		return false
	}
	_, size := utf8.DecodeRuneInString(text)
	return size == 1
}
