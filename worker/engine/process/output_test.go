package process

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestSplitterBounds(t *testing.T) {
	var lines []string
	s := newSplitter(func() {}, func(line string) { lines = append(lines, line) })
	for range 3 {
		if n, err := s.Write(bytes.Repeat([]byte("z"), LineLimit)); n != LineLimit || err != nil {
			t.Fatal(n, err)
		}
	}
	if _, err := s.Write([]byte("\rshort\n")); err != nil {
		t.Fatal(err)
	}
	if len(lines) != 2 || len(lines[0]) != LineLimit || lines[1] != "short" {
		t.Errorf("got %d lines", len(lines))
	}
	if kept := s.finish(); len(kept) != TailLimit || !strings.HasSuffix(kept, "z\nshort\n") {
		t.Errorf("kept %d bytes", len(kept))
	}
	if want := int64(2*LineLimit + len("\nshort\n")); s.dropped != want {
		t.Errorf("dropped = %d, want %d", s.dropped, want)
	}
}

func TestCleanLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                "plain",
		"bar\x1b[K":            "bar",
		"\x1b[1;31mred\x1b[0m": "red",
		"a\x00b\x07c\td  ":     "abc\td",
		"bad \xff\xfe bytes":   "bad \uFFFD bytes",
		"\x1b[":                "[",
	} {
		if got := cleanLine([]byte(in)); got != want {
			t.Errorf("cleanLine(%q) = %q, want %q", in, got, want)
		}
	}
	grown := cleanLine(bytes.Repeat([]byte("\xffé"), LineLimit/3))
	if len(grown) > LineLimit || !utf8.ValidString(grown) {
		t.Errorf("%d bytes, valid %v", len(grown), utf8.ValidString(grown))
	}
}

func TestExplain(t *testing.T) {
	for name, c := range map[string]struct {
		code           int
		signal, stderr string
		reason         Reason
		detail         string
	}{
		"code":              {3, "", "", ReasonCode, "ended with code 3"},
		"windows library":   {0xC0000135, "", "", ReasonLibrary, "lacks a library"},
		"windows crash":     {0xC0000005, "", "", ReasonCrash, "crashed (access violation)"},
		"windows stack":     {0xC00000FD, "", "", ReasonCrash, "crashed (stack overflow)"},
		"windows memory":    {0xC0000017, "", "", ReasonMemory, "ran out of memory"},
		"mac library":       {-1, "abort trap", "dyld: Library not loaded: x", ReasonLibrary, "lacks a library"},
		"old c library":     {127, "", "version `GLIBC_2.38' not found", ReasonLibrary, "lacks a library"},
		"abort":             {-1, "aborted", "", ReasonCrash, "crashed (aborted)"},
		"no such program":   {127, "", "sh: x: not found", ReasonCode, "ended with code 127"},
		"killed for memory": {-1, "killed", "", ReasonMemory, "was killed, most likely for memory"},
	} {
		t.Run(name, func(t *testing.T) {
			if reason, detail := explain(c.code, c.signal, c.stderr); reason != c.reason || detail != c.detail {
				t.Errorf("got %s %q, want %s %q", reason, detail, c.reason, c.detail)
			}
		})
	}
}

func FuzzSplitter(f *testing.F) {
	f.Add([]byte("one\ntwo\r\nthree\r"), 3)
	f.Add([]byte("\xff\x1b[K\x00\n\n"), 1)
	f.Add(bytes.Repeat([]byte("long"), LineLimit/3), 4096)
	f.Fuzz(func(t *testing.T, data []byte, step int) {
		lines := func(step int) ([]string, *splitter) {
			var got []string
			s := newSplitter(func() {}, func(line string) { got = append(got, line) })
			for rest := data; len(rest) > 0; {
				n := min(step, len(rest))
				if _, err := s.Write(rest[:n]); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			if kept := s.finish(); len(kept) > TailLimit || !utf8.ValidString(kept) {
				t.Errorf("kept %d bytes, valid %v", len(kept), utf8.ValidString(kept))
			}
			return got, s
		}
		whole, s := lines(len(data) + 1)
		for _, line := range whole {
			if line == "" || len(line) > LineLimit || !utf8.ValidString(line) || strings.ContainsAny(line, "\r\n\x00\x1b") {
				t.Errorf("line %.80q of %d bytes", line, len(line))
			}
		}
		if cap(s.line) > 4*LineLimit || cap(s.tail) > 8*TailLimit {
			t.Errorf("holds %d and %d bytes", cap(s.line), cap(s.tail))
		}
		// How the bytes are cut into writes must not matter.
		pieces, _ := lines(max(1, min(step, 1<<16)))
		if strings.Join(pieces, "\n") != strings.Join(whole, "\n") {
			t.Errorf("%d lines in pieces, %d as a whole", len(pieces), len(whole))
		}
	})
}
