package llamacpp

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// fakeMode turns the test binary into a llama-server. Its name is one that the
// allow-list of the environment lets through.
const (
	fakeMode  = "XDG_TEST_LLAMA"
	fakeNotes = "XDG_TEST_LLAMA_NOTES" // a folder in which starts and requests are noted
)

func TestMain(m *testing.M) {
	if mode, ok := os.LookupEnv(fakeMode); ok {
		syscall.Exit(fakeServer(mode, os.Args[1:])) // os.Exit waits a second for reports of the race detector
	}
	goleak.VerifyTestMain(m)
}

const fakeHelp = `-m,    --model FNAME
--jinja, --no-jinja   x
--reasoning-format FORMAT
--ui, --webui, --no-ui, --no-webui
--offline
`

// note appends a line to a file of the notes and returns how many there are now.
func note(name, line string) int {
	path := filepath.Join(os.Getenv(fakeNotes), name)
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return 0
	}
	fmt.Fprintln(file, line)
	_ = file.Close()
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	return bytes.Count(data, []byte("\n"))
}

func fakeServer(mode string, args []string) int {
	if len(args) == 1 {
		switch args[0] {
		case "--version":
			fmt.Println("version: 9.9.9 (build 1, commit abcdef0)")
		case "--help":
			fmt.Print(fakeHelp)
		case "--list-devices":
			fmt.Println("Available devices:\n  (none)")
		default:
			fmt.Fprintln(os.Stderr, "error: invalid argument: "+args[0])
			return 1
		}
		return 0
	}
	starts := note("starts", strings.Join(args, " "))
	say := func(line string) { fmt.Fprintln(os.Stderr, "0.00.812.100 "+line) }
	say("I srv    load_model: loading model")
	die := func(line string) int {
		say("E common_fit_params: failed to load model")
		say("E " + line)
		return 1
	}
	switch mode {
	case "corrupt":
		return die("llama load: tensor 'x' data is not within the file bounds, model is corrupted or incomplete")
	case "corrupt once":
		if starts == 1 {
			return die("llama load: tensor 'x' data is not within the file bounds, model is corrupted or incomplete")
		}
	case "memory":
		return die("ggml alloc: failed to allocate Vulkan0 buffer of size 9000000000")
	case "architecture":
		return die("llama load: unknown model architecture: 'brandnew'")
	case "gpu":
		return die("ggml vulkan: vk::Queue::submit: ErrorDeviceLost")
	case "port taken":
		return die("srv start: couldn't bind HTTP server socket, hostname: 127.0.0.1")
	case "port taken twice":
		if starts <= 2 {
			return die("srv start: couldn't bind HTTP server socket, hostname: 127.0.0.1")
		}
	case "no library":
		fmt.Fprintln(os.Stderr, "llama-server: error while loading shared libraries: libggml.so: cannot open")
		return 127
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
	}
	at := func(name string) string {
		if i := slices.Index(args, name); i >= 0 && i+1 < len(args) {
			return args[i+1]
		}
		return ""
	}
	f := &fake{mode: mode, key: os.Getenv("LLAMA_API_KEY")}
	l, err := net.Listen("tcp", at("--host")+":"+at("--port")) //nolint:noctx // the fake's whole life
	if err != nil {
		return 1
	}
	if err := http.Serve(l, f); err != nil {
		return 1
	}
	return 0
}

type fake struct {
	mode, key string
	looks     atomic.Int32
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/health" {
		if n := f.looks.Add(1); f.mode == "never ready" || f.mode == "slow to load" && n < 4 {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}`)
			return
		}
		fmt.Fprint(w, `{"status":"ok"}`)
		return
	}
	refuse := func(status int, body string) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
	if r.Header.Get("Authorization") != "Bearer "+f.key || len(f.key) < 16 {
		refuse(http.StatusUnauthorized, `{"error":{"code":401,"message":"Invalid API Key","type":"authentication_error"}}`)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	requests := note("requests", string(body))
	var asked struct {
		Messages []chatMessage `json:"messages"`
	}
	if json.Unmarshal(body, &asked) != nil {
		refuse(http.StatusBadRequest, `{"error":{"code":400,"message":"bad JSON","type":"invalid_request_error"}}`)
		return
	}
	said := ""
	if n := len(asked.Messages); n > 0 {
		said = asked.Messages[n-1].Content
	}
	switch f.mode {
	case "overflow":
		refuse(http.StatusBadRequest, `{"error":{"code":400,"message":"too long","type":"exceed_context_size_error","n_prompt_tokens":928,"n_ctx":512}}`)
		return
	case "schema":
		refuse(http.StatusBadRequest, `{"error":{"code":400,"message":"Unrecognized schema","type":"invalid_request_error"}}`)
		return
	case "five hundred":
		refuse(http.StatusInternalServerError, `<html>`)
		return
	}
	s := &fakeStream{w: w, flusher: http.NewResponseController(w)}
	w.Header().Set("Content-Type", "text/event-stream")
	s.event(`{"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}]}`)
	switch f.mode {
	case "garbage":
		fmt.Fprint(w, "data: {\"choices\":\n\n")
		return
	case "endless line":
		fmt.Fprint(w, "data: "+strings.Repeat("x", maxEvent+10))
		return
	case "error in the stream":
		fmt.Fprint(w, "data: {\"error\":{\"code\":500,\"message\":\"failed to allocate\",\"type\":\"server_error\"}}\n\n")
		return
	case "hang", "stubborn":
		s.text("begun")
		_ = s.flusher.Flush()
		<-r.Context().Done()
		note("cancelled", "x")
		if f.mode == "stubborn" {
			time.Sleep(time.Hour)
		}
		return
	case "crash", "crash once", "another answer":
		if f.mode == "crash" || requests == 1 {
			s.text("one two ")
			fmt.Fprintln(os.Stderr, "0.00.900.000 E ggml assert: GGML_ASSERT(x) failed")
			_ = syscall.Kill(syscall.Getpid(), syscall.SIGABRT)
			time.Sleep(time.Hour)
		}
	}
	if f.mode == "another answer" {
		said = "nothing like it"
	}
	switch f.mode {
	case "thought apart":
		s.event(`{"choices":[{"finish_reason":null,"index":0,"delta":{"reasoning_content":" short names work\n"}}]}`)
	case "thought inside":
		said = " <think>\nshort names work\n</think>\n\nSaltmere "
	}
	for _, word := range strings.SplitAfter(said, " ") {
		s.text(word)
	}
	finish := "stop"
	if strings.Contains(string(body), `"max_tokens":1,`) {
		finish = "length"
	}
	s.event(`{"choices":[{"finish_reason":"` + finish + `","index":0,"delta":{}}]}`)
	s.event(`{"choices":[],"usage":{"completion_tokens":7,"prompt_tokens":41,"total_tokens":48,"prompt_tokens_details":{"cached_tokens":1}},"timings":{"prompt_per_second":100.5,"predicted_per_second":50.2}}`)
	fmt.Fprint(w, "data: [DONE]\n\n")
}

type fakeStream struct {
	w       io.Writer
	flusher *http.ResponseController
}

func (s *fakeStream) event(data string) {
	fmt.Fprintf(s.w, "data: %s\n\n", data)
	_ = s.flusher.Flush()
}

func (s *fakeStream) text(text string) {
	data, err := json.Marshal(text)
	if err != nil {
		return
	}
	s.event(`{"choices":[{"finish_reason":null,"index":0,"delta":{"content":` + string(data) + `}}]}`)
}

// modelHead makes the head of a GGUF file.
func modelHead(architecture string, context uint32, template bool) []byte {
	var b bytes.Buffer
	put := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) }
	text := func(s string) { put(uint64(len(s))); b.WriteString(s) }
	pairs := uint64(5)
	if template {
		pairs++
	}
	b.WriteString(ggufMagic)
	put(uint32(3))
	put(uint64(0))
	put(pairs)
	text("general.architecture")
	put(uint32(typeString))
	text(architecture)
	text("other.context_length")
	put(uint32(typeU32))
	put(uint32(77))
	text(architecture + ".context_length")
	put(uint32(typeU32))
	put(context)
	text("tokenizer.ggml.tokens")
	put(uint32(typeArray))
	put(uint32(typeString))
	put(uint64(3))
	for _, token := range []string{"<s>", "a", "b"} {
		text(token)
	}
	text("tokenizer.ggml.scores")
	put(uint32(typeArray))
	put(uint32(6))
	put(uint64(3))
	put([]float32{1, 2, 3})
	if template {
		text("tokenizer.chat_template")
		put(uint32(typeString))
		text("{{ messages }}")
	}
	return b.Bytes()
}
