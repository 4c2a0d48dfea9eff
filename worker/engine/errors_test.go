package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"studioworker/worker/engine"
	"studioworker/worker/engine/process"
)

func TestRetryable(t *testing.T) {
	of := func(c engine.Class) error { return &engine.Error{Class: c, Err: io.ErrUnexpectedEOF} }
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"unsupported kind": {of(engine.ClassUnsupportedKind), false},
		"bad input":        {of(engine.ClassBadInput), false},
		"wrapped":          {fmt.Errorf("a: %w", fmt.Errorf("b: %w", engine.BadInput("text is empty"))), false},
		"model corrupt":    {of(engine.ClassModelCorrupt), false},
		"gpu runtime":      {of(engine.ClassGPURuntime), true},
		"engine missing":   {of(engine.ClassEngineMissing), true},
		"out of memory":    {of(engine.ClassOutOfMemory), true},
		"crash":            {of(engine.ClassEngineCrash), true},
		"timeout":          {of(engine.ClassTimeout), true},
		"internal":         {of(engine.ClassInternal), true},
		"cancelled":        {of(engine.ClassCancelled), true},
		"unknown class":    {of("new"), true},
		"unknown error":    {io.ErrUnexpectedEOF, true},
		"context":          {context.Canceled, true},
	} {
		if got := engine.Retryable(c.err); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestChildError(t *testing.T) {
	exit := func(r process.Reason) error { return &process.ExitError{Program: "p", Reason: r, Detail: "x"} }
	for name, c := range map[string]struct {
		err  error
		want engine.Class
	}{
		"start":   {&process.StartError{Program: "p", Err: io.EOF}, engine.ClassEngineMissing},
		"limit":   {&process.LimitError{Program: "p", Limit: time.Second}, engine.ClassTimeout},
		"memory":  {exit(process.ReasonMemory), engine.ClassOutOfMemory},
		"library": {exit(process.ReasonLibrary), engine.ClassEngineMissing},
		"crash":   {exit(process.ReasonCrash), engine.ClassEngineCrash},
		"code":    {fmt.Errorf("speak: %w", exit(process.ReasonCode)), engine.ClassEngineCrash},
		"new":     {exit("new"), engine.ClassInternal},
	} {
		got := engine.ChildError(c.err)
		if class(t, got) != c.want || !errors.Is(got, c.err) {
			t.Errorf("%s: class %s, want %s", name, class(t, got), c.want)
		}
	}
	if got := engine.ChildError(context.Canceled); !errors.Is(got, context.Canceled) || engine.ChildError(nil) != nil {
		t.Errorf("cancel: %v", got)
	}
}

func TestErrorText(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                       "e: plain",
		"e engine cannot":             "e engine cannot",
		"two\nlines\t and\x00 more":   "e: two lines and more",
		"open /home/sam/m/x.gguf: no": "e: open x.gguf: no",
		`open "C:\Users\sam\x.gguf"`:  `e: open "x.gguf"`,
		"file=/tmp/a/b.txt,/c/d":      "e: file=b.txt,d",
		"and/or 24/7 image/png":       "e: and/or 24/7 image/png",
		"GET https://sam:pw@m.test/x/y.gguf?sig=secret -> 404": "e: GET https://m.test/x/y.gguf -> 404",
		"GET https://m.test#frag":                              "e: GET https://m.test",
		"open file:///home/sam/a.wav":                          "e: open a.wav",
		"~/models/x.bin bad":                                   "e: x.bin bad",
		"bad \xff byte":                                        "e: bad \uFFFD byte",
	} {
		err := &engine.Error{Class: engine.ClassInternal, Engine: "e", Err: errors.New(in)}
		if got := err.Error(); got != want {
			t.Errorf("text of %q = %q, want %q", in, got, want)
		}
	}
	long := (&engine.Error{Err: errors.New(strings.Repeat("ö", 600))}).Error()
	if utf8.RuneCountInString(long) != 500 || !strings.HasSuffix(long, "ö…") {
		t.Errorf("long text has %d characters", utf8.RuneCountInString(long))
	}
}
