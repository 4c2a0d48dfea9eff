//go:build cgo

package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"studioworker/worker/engine"
	"studioworker/worker/engine/enginetest"
	"studioworker/worker/engine/onnx/testgraph"
	"studioworker/worker/engine/process"
	"studioworker/worker/engine/program"
)

// helperWord makes the test binary a helper; fakeMode one that misbehaves. The
// name of the second is one that the allow-list of the environment lets through.
const (
	helperWord = "engine-host"
	fakeMode   = "XDG_TEST_FAKE_ONNX"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == helperWord {
		if mode := os.Getenv(fakeMode); mode != "" {
			os.Exit(fake(mode, os.Args[2:]))
		}
		if err := Serve(context.Background(), os.Args[2:], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// fakeLibrary stands for the ONNX Runtime.
type fakeLibrary struct{ mode, count string }

func (fakeLibrary) version() string { return "1.2.3" }
func (fakeLibrary) close() error    { return nil }

func (l fakeLibrary) run(_ string, inputs []Tensor, _ []string) ([]Tensor, error) {
	switch l.mode {
	case "refuses":
		return nil, errors.New("no such input")
	case "crashes once", "crashes":
		if _, err := os.Stat(l.count); err != nil || l.mode == "crashes" {
			if err := os.WriteFile(l.count, nil, 0o600); err != nil {
				os.Exit(70)
			}
			os.Exit(3)
		}
	case "too many":
		return append(inputs, inputs...), nil
	case "misfit":
		return []Tensor{{Shape: []int64{2}, Floats: []float32{1}}}, nil
	case "hangs":
		select {}
	}
	return inputs, nil
}

// fake is a helper without the library.
func fake(mode string, args []string) int {
	switch {
	case mode == "broken":
		println("libonnxruntime.so: cannot open")
		return 1
	case args[0] == checkWord:
		println("noise")
		fmt.Println("1.2.3")
		return 0
	case mode == "never ready":
		return 0
	}
	listener, err := net.Listen("unix", args[2]) //nolint:noctx // it lives as long as the process
	if err != nil {
		return 1
	}
	fmt.Println("ready")
	for {
		conn, err := listener.Accept()
		if err != nil {
			return 1
		}
		if mode == "goes away once" {
			if _, err := os.Stat(args[1] + ".gone"); err != nil {
				if err := os.WriteFile(args[1]+".gone", nil, 0o600); err != nil {
					return 70
				}
				return 0 // its time was over just now
			}
		}
		if err := answer(conn, fakeLibrary{mode, args[1] + ".count"}); err != nil {
			return 1
		}
	}
}

// newHost is a host over a helper; mode empty takes the real library at path.
func newHost(t *testing.T, mode, path string) *Host {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	environ := os.Environ()
	if mode != "" {
		environ = append(environ, fakeMode+"="+mode)
	}
	h := NewHost(Config{
		Path: self, Args: []string{helperWord}, Library: func() string { return path }, Fix: "install it", Places: program.Places{Environ: environ},
	})
	t.Cleanup(h.Close)
	return h
}

var some = []Tensor{{Name: "a", Shape: []int64{2, 1}, Floats: []float32{1.5, float32(math.Inf(1))}}, {Name: "b", Shape: []int64{3}, Ints: []int64{-1, 0, 1 << 40}}}

func TestHost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lib")
	h := newHost(t, "echo", path)
	state, err := h.State(t.Context())
	if err != nil || !state.Runs() || state.Version != "1.2.3" || state.Path != path {
		t.Errorf("state %+v, %v", state, err)
	}
	var first *child
	for range 3 {
		got, err := h.Run(t.Context(), "m", some, "a", "b")
		if err != nil || !reflect.DeepEqual(got, some) {
			t.Fatalf("got %v, %v", got, err)
		}
		if first == nil {
			first = h.child
		}
	}
	if h.child != first {
		t.Error("each run had a helper of its own")
	}
	h.Close()
	if _, err := os.Stat(filepath.Dir(first.socket)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its folder is still there: %v", err)
	}
	if _, err := h.Run(t.Context(), "m", some, "a", "b"); err != nil { // after a pause it starts again
		t.Error(err)
	}
}

func TestHostFailures(t *testing.T) {
	for mode, c := range map[string]struct {
		class engine.Class
		want  string // part of the error; empty for none
	}{
		"refuses":        {"", "the model cannot be run: no such input"},
		"misfit":         {"", "does not fit its shape"},
		"too many":       {engine.ClassInternal, "unexpected EOF"},
		"crashes":        {engine.ClassEngineCrash, "ended with code 3"},
		"never ready":    {engine.ClassInternal, "ended before it was ready"},
		"goes away once": {"", ""},
	} {
		t.Run(mode, func(t *testing.T) {
			_, err := newHost(t, mode, filepath.Join(t.TempDir(), "lib")).Run(t.Context(), "m", some, "a", "b")
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("err = %v, want %q", err, c.want)
			}
			if failed, ok := errors.AsType[*engine.Error](err); ok && failed.Class != c.class {
				t.Errorf("class %s, want %s", failed.Class, c.class)
			}
			if IsModelError(err) != (c.class == "" && c.want != "") {
				t.Errorf("a trouble of the model: %v", IsModelError(err))
			}
		})
	}
	t.Run("one crash is one failed job", func(t *testing.T) {
		h := newHost(t, "crashes once", filepath.Join(t.TempDir(), "lib"))
		if _, err := h.Run(t.Context(), "m", some, "a", "b"); err == nil {
			t.Error("no error")
		}
		if _, err := h.Run(t.Context(), "m", some, "a", "b"); err != nil {
			t.Errorf("the next job: %v", err)
		}
	})
	t.Run("no library", func(t *testing.T) {
		h := newHost(t, "echo", "")
		if state, err := h.State(t.Context()); err != nil || state.Runs() || state.Problem != "the ONNX Runtime is not installed" || state.Fix != "install it" {
			t.Errorf("state %+v, %v", state, err)
		}
		if _, err := h.Run(t.Context(), "m", nil); err == nil || err.Error() != "the ONNX Runtime is not installed; install it" {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("a broken library", func(t *testing.T) {
		h := newHost(t, "broken", "lib")
		if state, err := h.State(t.Context()); err != nil || state.Runs() || state.Problem != "the ONNX Runtime cannot be loaded: libonnxruntime.so: cannot open" {
			t.Errorf("state %+v, %v", state, err)
		}
	})
	t.Run("too much", func(t *testing.T) {
		_, err := newHost(t, "echo", "lib").Run(t.Context(), "m", []Tensor{{Shape: []int64{1 << 40}}}, "a")
		if !IsModelError(err) {
			t.Errorf("err = %v", err)
		}
	})
}

func TestHostCancel(t *testing.T) {
	h := newHost(t, "hangs", filepath.Join(t.TempDir(), "lib"))
	cause := errors.New("the person pressed stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	h.lane <- struct{}{} // somebody else runs a model
	go func() {
		<-h.lane
		if c, err := h.start(t.Context()); err == nil {
			<-c.ready
		}
		cancel(cause)
	}()
	if _, err := h.Run(ctx, "m", some, "a", "b"); !errors.Is(err, cause) {
		t.Errorf("err = %v, want the cause", err)
	}
}

func TestServeRefuses(t *testing.T) {
	var out bytes.Buffer
	for _, args := range [][]string{nil, {"check"}, {"check", filepath.Join(t.TempDir(), "none.so")}} {
		if err := Serve(t.Context(), args, &out); err == nil || out.Len() != 0 {
			t.Errorf("%q: %v, %q", args, err, out.String())
		}
	}
}

func TestWireBounds(t *testing.T) {
	for name, tensors := range map[string][]Tensor{
		"too many":   make([]Tensor, maxParts+1),
		"too deep":   {{Shape: make([]int64, maxRank+1)}},
		"negative":   {{Shape: []int64{-1}}},
		"too large":  {{Shape: []int64{maxNumbers, 2}}},
		"overflow":   {{Shape: []int64{1 << 62, 1 << 62}}},
		"other size": {{Shape: []int64{2}, Floats: []float32{1}}},
	} {
		if _, err := partsOf(tensors); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := receiveTensors(nil, make([]part, maxParts+1)); err == nil {
		t.Error("too many parts: no error")
	}
	half := part{Shape: []int64{maxNumbers/2 + 1}}
	if _, err := receiveTensors(bytes.NewReader(nil), []part{half, half}); err == nil {
		t.Error("two halves: no error")
	}
	if err := receive(bytes.NewReader([]byte{0xff, 0xff, 0xff, 0xff}), &reply{}); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("err = %v", err)
	}
	if err := send(&bytes.Buffer{}, request{Model: strings.Repeat("x", maxHeader)}, nil); err == nil {
		t.Error("a long header: no error")
	}
}

func FuzzWire(f *testing.F) {
	var buf bytes.Buffer
	parts, err := partsOf(some)
	if err != nil {
		f.Fatal(err)
	}
	if err := send(&buf, request{Model: "m", Inputs: parts, Outputs: []string{"o"}}, some); err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes())
	f.Add([]byte("\x02\x00\x00\x00{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		var ask request
		if receive(r, &ask) != nil {
			return
		}
		tensors, err := receiveTensors(r, ask.Inputs)
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := send(&again, ask, tensors); err != nil {
			t.Fatal(err)
		}
		var back request
		if err := receive(&again, &back); err != nil {
			t.Fatal(err)
		}
		same, err := receiveTensors(&again, back.Inputs)
		if err != nil || len(same) != len(tensors) {
			t.Fatalf("%d tensors came back, %v", len(same), err)
		}
		for i := range same {
			if !slices.Equal(same[i].Ints, tensors[i].Ints) || len(same[i].Floats) != len(tensors[i].Floats) {
				t.Errorf("tensor %d changed", i)
			}
		}
	})
}

// The real library.
func TestRealLibrary(t *testing.T) {
	library := enginetest.File(t, "ORT_DYLIB_PATH")
	h := newHost(t, "", library)
	state, err := h.State(t.Context())
	if err != nil || !state.Runs() || !strings.HasPrefix(state.Version, "1.") {
		t.Fatalf("state %+v, %v", state, err)
	}
	model := filepath.Join(t.TempDir(), "lama.onnx")
	if err := os.WriteFile(model, testgraph.LaMa(255), 0o600); err != nil {
		t.Fatal(err)
	}
	const plane = 512 * 512
	image, mask := make([]float32, 3*plane), make([]float32, plane)
	for i := range image {
		image[i] = float32(i%255) / 255
	}
	mask[7] = 1
	inputs := []Tensor{{Name: "image", Shape: []int64{1, 3, 512, 512}, Floats: image}, {Name: "mask", Shape: []int64{1, 1, 512, 512}, Floats: mask}}
	for range 2 {
		made, err := h.Run(t.Context(), model, inputs, "output")
		if err != nil || len(made) != 1 || !slices.Equal(made[0].Shape, []int64{1, 3, 512, 512}) {
			t.Fatalf("%v, %v", len(made), err)
		}
		for i, v := range made[0].Floats {
			want := image[i] * 255
			if i%plane == 7 {
				want = 127.5
			}
			if v != want {
				t.Fatalf("pixel %d is %v, want %v", i, v, want)
			}
		}
	}
	t.Run("another input", func(t *testing.T) {
		if _, err := h.Run(t.Context(), model, inputs[:1], "output"); !IsModelError(err) {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("no model", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "x.onnx")
		if err := os.WriteFile(path, []byte("not a model"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Run(t.Context(), path, inputs, "output"); !IsModelError(err) || !strings.Contains(err.Error(), "load the model") {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("its process is killed", func(t *testing.T) {
		before := h.child
		before.stop(&process.ExitError{Program: "helper", Reason: process.ReasonCrash, Detail: "crashed"})
		<-before.ended
		if _, err := h.Run(t.Context(), model, inputs, "output"); err != nil {
			t.Errorf("the next job: %v", err)
		}
	})
}
