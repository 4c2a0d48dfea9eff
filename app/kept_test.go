//go:build !windows

package app

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"studioworker/worker/observe"
	"studioworker/worker/protocol"
	"studioworker/worker/session/sessiontest"
)

// TestKeptCommand: a result that the studio refuses is listed, saved and discarded
// through the running worker.
func TestKeptCommand(t *testing.T) {
	s := sessiontest.New(t)
	s.HTTP = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not claimed", http.StatusConflict) })
	h := newHome(t)
	h.write(t, s.Server.URL, "install_id = \"i\"\nworker_id = \"wk-20\"\nauth_token = \"t\"\n")
	h.wantRefusal(t, exitFail, []string{"kept", "list"}, "no worker is running")
	h.wantRefusal(t, exitUsage, []string{"kept"}, "discard, list, save")
	h.wantRefusal(t, exitUsage, []string{"kept", "save", "KEY"}, "save needs KEY and FILE")
	h.wantRefusal(t, exitUsage, []string{"kept", "discard"}, "discard needs KEY")
	w := h.start(t, "run")
	c := s.Welcome(t)
	if out := h.want(t, "kept", "list"); !strings.Contains(out, "no results are kept") {
		t.Errorf("kept list prints %q", out)
	}
	c.Send(t, protocol.Offer{Claim: protocol.Claim{
		JobID: "job-31", GameID: "g", AssetName: "g/c/n", Model: "synthetic-tts", ModelSource: protocol.ModelSource{Engine: protocol.EngineSynthetic},
		Task: protocol.Task{Kind: protocol.KindTTS, TTS: &protocol.TTSTask{Text: "we sail at dawn", Voice: "default", Ext: "wav"}},
	}})
	w.await(t, 1, "result kept, the studio does not want it now")

	var list []observe.KeptResult
	if err := json.Unmarshal([]byte(h.want(t, "kept", "list", "--json")), &list); err != nil || len(list) != 1 {
		t.Fatalf("%d results, %v", len(list), err)
	}
	k := list[0]
	if k.JobID != "job-31" || k.Ext != "wav" || k.Bytes == 0 || k.Expires.Sub(k.Since) != 7*24*time.Hour {
		t.Errorf("listed as %+v", k)
	}
	if out := h.want(t, "kept", "list"); !strings.Contains(out, k.Key) || !strings.Contains(out, "audio_tts") || !strings.Contains(out, "from now") {
		t.Errorf("kept list prints\n%s", out)
	}
	to := filepath.Join(t.TempDir(), "saved.wav")
	h.want(t, "kept", "save", k.Key, to)
	if data, err := os.ReadFile(to); err != nil || int64(len(data)) != k.Bytes || !bytes.HasPrefix(data, []byte("RIFF")) {
		t.Errorf("saved %d bytes, %v", len(data), err)
	}
	h.wantRefusal(t, exitUsage, []string{"kept", "save", k.Key, to}, "is there already")
	h.wantRefusal(t, exitFail, []string{"kept", "save", "no-such-key", to + "2"}, "no such result", "kept list")
	code, out, problem := h.run(t, "kept", "discard", k.Key) // nobody answers
	if code != exitFail || !strings.Contains(out, "[y/N]") || !strings.Contains(problem, "nothing was discarded") {
		t.Errorf("without an answer: %d, %q, %q", code, out, problem)
	}
	h.want(t, "kept", "discard", k.Key, "--yes")
	h.wantRefusal(t, exitFail, []string{"kept", "discard", k.Key, "--yes"}, "no such result")
	if out := h.want(t, "kept", "list", "--json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("afterwards: %s", out)
	}
	w.stop(t)
}

func TestConfirmation(t *testing.T) {
	for text, want := range map[string]bool{
		"y\n": true, "YES\n": true, " y ": true, "": false, "\n": false, "n\n": false, "yeah\n": false, strings.Repeat(" ", 200) + "y\n": false,
	} {
		c := &command{Streams: Streams{In: strings.NewReader(text)}}
		if got := c.confirmed(); got != want {
			t.Errorf("%q counts as %v", text, got)
		}
	}
	if (&command{}).confirmed() {
		t.Error("nobody has confirmed it")
	}
}

// TestKeptAnswerIsBounded: of many results those that go first fit, and the rest
// is counted.
func TestKeptAnswerIsBounded(t *testing.T) {
	h := &host{observers: observe.New()}
	all := make([]observe.KeptResult, 1000)
	for i := range all {
		all[i] = observe.KeptResult{Key: strings.Repeat("k", 80), JobID: strings.Repeat("\"", 300)}
	}
	h.observers.Outbox.Set(observe.Outbox{Kept: all})
	a := h.answer(question{Command: askKept})
	data, err := json.Marshal(a)
	if shown := strings.Count(a.Lines, "\n"); err != nil || len(data) > maxAnswer || len(data) < maxAnswer*9/10 || shown+a.More != len(all) {
		t.Errorf("%d bytes, %d results and %d more, %v", len(data), shown, a.More, err)
	}
}
