package app

import (
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
)

// answered puts raw bytes to the instance socket and returns what comes back.
func answered(tb testing.TB, text []byte, reply func(question) answer) (answer, error) {
	tb.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		answerOne(theirs, reply)
		_ = theirs.Close()
	}()
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		_, _ = ours.Write(text) // the other end may stop reading
	}()
	var a answer
	err := json.NewDecoder(io.LimitReader(ours, maxAnswer)).Decode(&a)
	_ = ours.Close()
	<-done
	<-wrote
	return a, err
}

func TestQuestions(t *testing.T) {
	reply := func(q question) answer { return answer{PID: 7, Error: q.Command + q.Until} }
	for name, c := range map[string]struct {
		text string
		want answer
	}{
		"a question":        {`{"command":"status"}` + "\n", answer{PID: 7, Error: "status"}},
		"with an end":       {`{"command":"pause","until":"then"}` + "\n", answer{PID: 7, Error: "pausethen"}},
		"more after it":     {`{"command":"status"}` + "\n" + `{"command":"quit"}` + "\n", answer{PID: 7, Error: "status"}},
		"unknown fields":    {`{"command":"pause","why":"dinner"}` + "\n", answer{PID: 7, Error: "pause"}},
		"nothing asked":     {"{}\n", answer{PID: 7}},
		"not JSON":          {"status\n", answer{Error: "the question is not JSON"}},
		"wrong type":        {`{"command":1}` + "\n", answer{Error: "the question is not JSON"}},
		"an empty line":     {"\n", answer{Error: "the question is not JSON"}},
		"as long as it may": {`{"command":"` + strings.Repeat("x", maxQuestion-15) + `"}` + "\n", answer{PID: 7, Error: strings.Repeat("x", maxQuestion-15)}},
		"too long":          {`{"command":"` + strings.Repeat("x", maxQuestion) + `"}` + "\n", answer{Error: "the question is too long or not whole"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := answered(t, []byte(c.text), reply); err != nil || got != c.want {
				t.Errorf("answer %+v, %v; want %+v", got, err, c.want)
			}
		})
	}
	t.Run("cut off", func(t *testing.T) {
		ours, theirs := net.Pipe()
		if err := ours.Close(); err != nil {
			t.Fatal(err)
		}
		answerOne(theirs, func(question) answer {
			t.Error("half a question was answered")
			return answer{}
		})
	})
}

// TestUnknownCommand: what the host does not know is refused and does nothing.
func TestUnknownCommand(t *testing.T) {
	a := new(host).answer(question{Command: "dance"})
	if a.Error == "" || a.PID == 0 || a.Status != nil {
		t.Errorf("answer %+v", a)
	}
}

// FuzzQuestion: whatever comes through the socket, there is one answer, and a
// command only from a whole question in JSON.
func FuzzQuestion(f *testing.F) {
	for _, seed := range []string{`{"command":"status"}` + "\n", "\n", "{}\n", "[]\n", `{"command":null}` + "\n", "{\"command\":\"\\ud800\"}\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		line, _, whole := strings.Cut(string(text), "\n")
		whole = whole && len(line) < maxQuestion
		if !whole && len(text) < maxQuestion {
			text = append(text, '\n') // else it would wait for the rest
			line, _, whole = strings.Cut(string(text), "\n")
		}
		asked := 0
		got, err := answered(t, text, func(q question) answer {
			asked++
			return answer{PID: 7, Error: q.Command}
		})
		var q question
		wanted := whole && json.Unmarshal([]byte(line+"\n"), &q) == nil
		switch {
		case err != nil:
			t.Fatalf("no answer: %v", err)
		case wanted && (asked != 1 || got != answer{PID: 7, Error: q.Command}):
			t.Errorf("asked %d times, answer %+v, want the command %q", asked, got, q.Command)
		case !wanted && (asked != 0 || got.Error == "" || got.PID != 0):
			t.Errorf("nonsense was taken for a command: %+v", got)
		}
	})
}
