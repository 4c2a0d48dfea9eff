//go:build !windows

package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"studioworker/studio/client"
	"studioworker/worker/engine/enginetest"
	"studioworker/worker/engine/llamacpp"
	"studioworker/worker/engine/sdcpp/fakesd"
	"studioworker/worker/localapi"
	"studioworker/worker/observe"
	"studioworker/worker/protocol"
)

const (
	realQuestion = "What is the capital of France? Tell me three things about it."
	realSentence = "Please open the door and close the window."
	realSpeech   = realSentence + " It is cold. The harbour is quiet tonight. A boat comes in. Nobody is at the quay. The lamps are lit."
)

// realTools are the programs and models of jobs of four kinds. Pictures come of the fake
// sd-cli, at a pace that a person sees: no package has a model for the real one.
type realTools struct {
	llm, whisper, voice, speech string // paths: the models, and espeak-ng
	environ                     []string
}

func newRealTools(t *testing.T) *realTools {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &realTools{
		llm: enginetest.File(t, "STUDIO_WORKER_TEST_LLM"), whisper: enginetest.File(t, "STUDIO_WORKER_TEST_WHISPER_MODEL"),
		voice: enginetest.File(t, "STUDIO_WORKER_TEST_VOICE"), speech: enginetest.Program(t, "STUDIO_WORKER_ESPEAK", "espeak-ng"),
		environ: []string{
			"STUDIO_WORKER_LLAMA_SERVER=" + enginetest.Program(t, "STUDIO_WORKER_LLAMA_SERVER", "llama-server"),
			"STUDIO_WORKER_WHISPER_CLI=" + enginetest.Program(t, "STUDIO_WORKER_WHISPER_CLI", "whisper-cli"),
			"STUDIO_WORKER_SD_CLI=" + self, fakesd.Variable + "=" + fakesd.Paint, fakesd.Pace + "=300ms",
			"ORT_DYLIB_PATH=" + enginetest.File(t, "ORT_DYLIB_PATH"),
		},
	}
}

// models puts the models of a studio into it; their files lie in a worker's folder.
func (r *realTools) models(t *testing.T, studio *client.Client, folder string) {
	t.Helper()
	picture := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := os.WriteFile(picture, []byte("good\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	putModel(t, studio, folder, "small-talk", protocol.EngineLlamaCpp, protocol.KindLLM, r.llm)
	putModel(t, studio, folder, "whisper-tiny", protocol.EngineWhisper, protocol.KindSTT, r.whisper)
	putModel(t, studio, folder, "joe", protocol.EnginePiper, protocol.KindTTS, r.voice, r.voice+".json")
	putModel(t, studio, folder, "painter", protocol.EngineSDCpp, protocol.KindImage, picture)
}

// speak makes a recording.
func (r *realTools) speak(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "spoken.wav")
	if out, err := exec.CommandContext(t.Context(), r.speech, "-w", path, text).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// wantText looks for words in the text of a result.
func wantText(t *testing.T, data []byte, field func(result map[string]any) any, words ...string) {
	t.Helper()
	var result map[string]any
	if err := json.Unmarshal(data, &result); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	text, ok := field(result).(string)
	for _, word := range words {
		if !ok || !strings.Contains(strings.ToLower(text), word) {
			t.Errorf("the text is %q, want %q in it", text, word)
		}
	}
}

func answerText(result map[string]any) any {
	choices, ok := result["choices"].([]any)
	if !ok || len(choices) == 0 {
		return nil
	}
	choice, _ := choices[0].(map[string]any)
	message, _ := choice["message"].(map[string]any)
	return message["content"]
}

func heardText(result map[string]any) any { return result["text"] }

func wantSound(t *testing.T, data []byte) {
	t.Helper()
	if !bytes.HasPrefix(data, []byte("RIFF")) || len(data) < 30_000 {
		t.Errorf("%d bytes are no spoken sentence", len(data))
	}
}

func wantPicture(t *testing.T, data []byte, format string) {
	t.Helper()
	if _, got, err := image.DecodeConfig(bytes.NewReader(data)); err != nil || got != format {
		t.Errorf("the picture is %q, want %q: %v", got, format, err)
	}
}

// TestRealJobsFromSubmit: the submit command brings an answer, a transcript, a spoken
// sentence and a picture, and says meanwhile how far each is.
func TestRealJobsFromSubmit(t *testing.T) {
	r := newRealTools(t)
	w := newWorkshop(t, r.environ...)
	r.models(t, w.operator, w.models)
	wantSteps := func(t *testing.T, said string, steps ...string) {
		t.Helper()
		for _, step := range append(steps, " done\n") {
			if !regexp.MustCompile(step).MatchString(said) {
				t.Errorf("submit says nothing like %q:\n%s", step, said)
			}
		}
	}
	t.Run("an answer", func(t *testing.T) {
		code, out, said := w.run(t, "submit", "--studio", w.url, "--token-file", tokenFile(w.data), "--kind", "llm", "--model", "small-talk", "--out", "answer.json", "--print", realQuestion)
		if code != 0 || !strings.Contains(out, "Paris") {
			t.Fatalf("submit ended with %d, printed %q: %s\nthe worker says:\n%s", code, out, said, w.worker.err)
		}
		wantSteps(t, said, "llm +running loading the model", `llm +running writing.* \(\d+ of \d+\)`)
		data, err := os.ReadFile(filepath.Join(w.dir, "answer.json"))
		if err != nil {
			t.Fatal(err)
		}
		wantText(t, data, answerText, "paris")
	})
	t.Run("a spoken sentence", func(t *testing.T) {
		data, said := w.submit(t, "--kind", "audio_tts", "--model", "joe", "--out", "said.wav", realSpeech)
		wantSound(t, data)
		wantSteps(t, said, `audio_tts +running speaking \(\d+ of \d+\)`)
		data, _ = w.submit(t, "--kind", "audio_tts", "--model", "espeak-ng", "--out", "plain.wav", realSentence)
		wantSound(t, data)
	})
	t.Run("a transcript", func(t *testing.T) {
		for speaker, recording := range map[string]string{"espeak-ng": r.speak(t, realSentence), "piper": filepath.Join(w.dir, "said.wav")} {
			data, said := w.submit(t, "--kind", "audio_stt", "--model", "whisper-tiny", "--file", recording, "--out", speaker+".json")
			wantText(t, data, heardText, "door", "window")
			wantSteps(t, said, `audio_stt +running listening \(\d+ of 100\)`)
		}
	})
	t.Run("a picture", func(t *testing.T) {
		data, said := w.submit(t, "--kind", "image", "--model", "painter", "--out", "picture.png", "a lighthouse")
		wantPicture(t, data, "png")
		wantSteps(t, said, `image +running painting.* \([1-4] of 4\)`)
	})
}

// TestRealJobsFromTheWindow: the same by what the window calls, seen by what it draws.
func TestRealJobsFromTheWindow(t *testing.T) {
	r := newRealTools(t)
	for _, entry := range r.environ {
		name, value, _ := strings.Cut(entry, "=")
		t.Setenv(name, value)
	}
	dir := t.TempDir()
	path, folder := filepath.Join(dir, "config.toml"), filepath.Join(dir, "models")
	if err := errors.Join(os.Mkdir(folder, 0o700), os.WriteFile(path, fmt.Appendf(nil, "api_base_url = %q\nvram_threshold_gb = 12.0\nmodels_root = %q\n", "http://127.0.0.1:9", folder), 0o600)); err != nil {
		t.Fatal(err)
	}
	h, err := openHost(t.Context(), hostConfig{path: path, stderr: io.Discard, private: true})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- h.run(context.WithoutCancel(t.Context())) }()
	defer func() {
		h.Quit()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	watchFor(t, "the session", &h.observers.Session, func(s observe.Session) bool { return s.State == observe.SessionConnected })
	r.models(t, h.private.client, folder)
	recording, err := upload(t.Context(), h.private.client, r.speak(t, realSentence))
	if err != nil {
		t.Fatal(err)
	}
	for kind, c := range map[string]struct {
		text  string
		steps string // a pattern for one text of its progress
		check func(t *testing.T, data []byte)
	}{
		"llm":       {realQuestion, "^writing", func(t *testing.T, data []byte) { t.Helper(); wantText(t, data, answerText, "paris") }},
		"audio_tts": {realSpeech, "^speaking", wantSound},
		"audio_stt": {recording, "^listening", func(t *testing.T, data []byte) {
			t.Helper()
			wantText(t, data, heardText, "door", "window")
		}},
		"image": {"a lighthouse", "^painting", func(t *testing.T, data []byte) { t.Helper(); wantPicture(t, data, "webp") }},
	} {
		t.Run(kind, func(t *testing.T) {
			seen := stepsOf(t, &h.observers.CurrentJob)
			if err := h.Submit(t.Context(), kind, c.text); err != nil {
				t.Fatal(err)
			}
			var job observe.RecentJob
			watchFor(t, "the job", &h.observers.RecentJobs.Newest, func(uint64) bool {
				rows, _ := h.observers.RecentJobs.Since(0)
				i := slices.IndexFunc(rows, func(row observe.RecentJob) bool {
					return row.Kind == kind && row.Outcome != observe.OutcomeKept && row.ResultPath != ""
				})
				if i >= 0 {
					job = rows[i]
				}
				return i >= 0
			})
			if job.Outcome != observe.OutcomeCompleted {
				t.Fatalf("%+v", job)
			}
			data, err := os.ReadFile(job.ResultPath)
			if err != nil {
				t.Fatal(err)
			}
			c.check(t, data)
			if texts := seen(); !slices.ContainsFunc(texts, regexp.MustCompile(c.steps).MatchString) {
				t.Errorf("the progress was %q", texts)
			}
		})
	}
}

// stepsOf notes the progress of jobs as a window would see it. The function that it returns
// stops that and tells the texts.
func stepsOf(t *testing.T, current *observe.Slot[observe.CurrentJob]) func() []string {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	var texts []string
	watching.Go(func() {
		for job := range current.Watch(ctx) {
			if text := job.Progress.Text; text != "" && !slices.Contains(texts, text) {
				texts = append(texts, text)
			}
		}
	})
	return func() []string {
		stop()
		watching.Wait()
		return texts
	}
}

// TestRealServerDiesWithTheWorker: neither a worker that is killed nor one that is told
// to end leaves a llama-server behind, though it is in the middle of an answer.
func TestRealServerDiesWithTheWorker(t *testing.T) {
	server, model := enginetest.Program(t, "STUDIO_WORKER_LLAMA_SERVER", "llama-server"), enginetest.File(t, "STUDIO_WORKER_TEST_LLM")
	for name, signal := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "ended": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			w := newWorkshop(t, "STUDIO_WORKER_LLAMA_SERVER="+server)
			putModel(t, w.operator, w.models, "small-talk", protocol.EngineLlamaCpp, protocol.KindLLM, model)
			job, err := makeJob(t.Context(), w.operator, protocol.KindLLM, "small-talk", "Write a very long story.", anywhere)
			if err != nil {
				t.Fatal(err)
			}
			job.Task.LLM.MaxTokens = 4000
			if _, err := w.operator.Submit(t.Context(), job); err != nil {
				t.Fatal(err)
			}
			w.worker.await(t, 1, "model is loaded")
			found := regexp.MustCompile(`pid["=: ]+(\d+)`).FindStringSubmatch(w.worker.err.String())
			if found == nil {
				t.Fatalf("the log names no process:\n%s", w.worker.err)
			}
			pid, err := strconv.Atoi(found[1])
			if err != nil || syscall.Kill(pid, 0) != nil {
				t.Fatalf("process %q does not run: %v", found[1], err)
			}
			if signal == syscall.SIGKILL {
				w.worker.kill(t)
			} else {
				w.worker.signal(t, signal)
				w.worker.await(t, 1, "taking no more jobs before the end")
				w.worker.signal(t, signal) // the second stops at once
				w.worker.wait(t)
			}
			gone := func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }
			for end := time.Now().Add(patience); !gone(); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("llama-server, process %d, lives on", pid)
				}
			}
		})
	}
}

// TestRealModelStaysOverARestart: a model that a program asked for is in memory again
// after a crash, goes while the person pauses, and comes back.
func TestRealModelStaysOverARestart(t *testing.T) {
	model := enginetest.File(t, "STUDIO_WORKER_TEST_LLM")
	h, f, folder := newHome(t), newStudio(t), t.TempDir()
	h.extra = append(h.extra, "STUDIO_WORKER_LLAMA_SERVER="+enginetest.Program(t, "STUDIO_WORKER_LLAMA_SERVER", "llama-server"))
	h.write(t, f.url, fmt.Sprintf("local_api_port = 0\nmodels_root = %q\n", folder))
	if err := errors.Join(os.Mkdir(filepath.Join(folder, "llm"), 0o700), os.Symlink(model, filepath.Join(folder, "llm", "small-talk.gguf"))); err != nil {
		t.Fatal(err)
	}
	place := localapi.DiscoveryPath(h.config)
	call := func(method, path, body string) (int, string) {
		t.Helper()
		data, err := os.ReadFile(place)
		var found struct{ URL, Token string }
		if err != nil || json.Unmarshal(data, &found) != nil {
			t.Fatalf("%s: %v", data, err)
		}
		r, err := http.NewRequestWithContext(t.Context(), method, found.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+found.Token)
		defer http.DefaultClient.CloseIdleConnections()
		reply, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer reply.Body.Close()
		text, err := io.ReadAll(reply.Body)
		if err != nil {
			t.Fatal(err)
		}
		return reply.StatusCode, string(text)
	}
	begin := func() *process {
		t.Helper()
		w := h.start(t, "run")
		w.await(t, 1, "server welcomed")
		return w
	}
	w := begin()
	if status, text := call(http.MethodPost, "/models/load", `{"model":"small-talk"}`); status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	w.kill(t)
	if err := os.Remove(place); err != nil { // else the next one's could be taken for it
		t.Fatal(err)
	}
	w = begin()
	w.await(t, 1, "model is loaded")
	if _, text := call(http.MethodGet, "/models", ""); !strings.Contains(text, `"id":"small-talk","object":"model","kind":"llm","engine":"llama-cpp","loadable":true,"loaded":true`) {
		t.Errorf("models %s", text)
	}
	h.want(t, "pause")
	w.await(t, 1, "model is unloaded")
	h.want(t, "resume")
	w.await(t, 2, "model is loaded")
	if status, text := call(http.MethodPost, "/models/unload", `{"model":"small-talk"}`); status != http.StatusOK {
		t.Errorf("%d %s", status, text)
	}
	w.stop(t)
	if data, err := os.ReadFile(filepath.Join(filepath.Dir(h.config), llamacpp.ResidencyFile)); err != nil || string(data) != `{"version":1,"resident":[]}`+"\n" {
		t.Errorf("it remembers %q: %v", data, err)
	}
}
