//go:build !windows

package app

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "golang.org/x/image/webp"

	"studioworker/studio/client"
	"studioworker/worker/engine/sdcpp/fakesd"
	"studioworker/worker/protocol"
)

// workshop is a studio and a worker in processes of their own, with a models
// folder in which the files of models lie.
type workshop struct {
	*home
	*farm
	models string
	worker *process
}

// newWorkshop starts both. extra is what the worker's environment says of its
// engines.
func newWorkshop(t *testing.T, extra ...string) *workshop {
	t.Helper()
	w := &workshop{home: newHome(t), farm: newStudio(t), models: t.TempDir()}
	w.extra = append(w.extra, extra...)
	w.write(t, w.url, fmt.Sprintf("models_root = %q\n", w.models))
	w.worker = w.start(t, "run")
	w.worker.await(t, 1, "server welcomed")
	return w
}

// model makes a model known to the studio, whose files lie in the worker's models
// folder already.
func (w *workshop) model(t *testing.T, id string, engine protocol.Engine, kind protocol.TaskKind, files ...string) {
	t.Helper()
	putModel(t, w.operator, w.models, id, engine, kind, files...)
}

// putModel makes a model known to a studio, and puts its files into a models folder.
func putModel(t *testing.T, studio *client.Client, folder, id string, engine protocol.Engine, kind protocol.TaskKind, files ...string) {
	t.Helper()
	record := client.ModelRecord{ID: id, Kinds: []protocol.TaskKind{kind}, ModelSource: protocol.ModelSource{
		Engine: engine, CLIDefaults: protocol.CLIDefaults{CfgScale: 1, Steps: 4, Width: 512, Height: 512},
	}}
	for _, path := range files {
		name := filepath.Base(path)
		if err := os.Symlink(path, filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
		record.ModelSource.Files = append(record.ModelSource.Files, protocol.ModelFile{Role: "model", URL: "https://models.example/" + name, Filename: name})
	}
	if _, err := studio.PutModel(t.Context(), record); err != nil {
		t.Fatal(err)
	}
}

// submit runs the submit command, which must succeed, and returns the result's
// bytes and what it said on the way.
func (w *workshop) submit(t *testing.T, args ...string) (data []byte, said string) {
	t.Helper()
	code, out, said := w.run(t, append([]string{"submit", "--studio", w.url, "--token-file", tokenFile(w.data)}, args...)...)
	if code != 0 {
		t.Fatalf("submit ended with %d: %s\nthe worker says:\n%s", code, said, w.worker.err)
	}
	data, err := os.ReadFile(strings.TrimSpace(out))
	if err != nil {
		t.Fatal(err)
	}
	return data, said
}

// file makes a file of the person's.
func (w *workshop) file(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func greyPicture(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := png.Encode(&buf, image.NewGray(image.Rect(0, 0, 64, 64))); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestPictureFromSubmit(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	trace := filepath.Join(t.TempDir(), "trace")
	w := newWorkshop(t, "STUDIO_WORKER_SD_CLI="+self, fakesd.Variable+"="+fakesd.Paint, fakesd.Trace+"="+trace)
	w.model(t, "tiny", protocol.EngineSDCpp, protocol.KindImage, w.file(t, "tiny.gguf", []byte("good\n")))
	init, mask := w.file(t, "init.png", greyPicture(t)), w.file(t, "mask.png", greyPicture(t))

	data, said := w.submit(t, "--kind", "image", "--model", "tiny", "--init", init, "--mask", mask, "--out", "picture.jpg", "a lighthouse")
	size, format, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil || format != "jpeg" || size.Width != 512 || size.Height != 512 || bytes.Contains(data, []byte("a lighthouse")) {
		t.Errorf("the picture is %s, %v by %v, %v", format, size.Width, size.Height, err)
	}
	if !strings.Contains(said, "image      done") || !strings.Contains(said, " of 3)") && !strings.Contains(said, " of 4)") {
		t.Errorf("submit says\n%s", said)
	}
	run, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"--model|", "/tiny.gguf|-p|a lighthouse|--init-img|", "/init.png|--strength|0.75|--mask|", "|--steps|4|-W|512|-H|512|", "|--diffusion-fa"} {
		if !strings.Contains(string(run), want) {
			t.Errorf("sd-cli ran with %q, want %q in it", run, want)
		}
	}

	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"a recording for a picture": {[]string{"--kind", "image", "--file", init, "x"}, exitUsage, "--file is for jobs of --kind audio_stt"},
		"a picture for speech":      {[]string{"--init", init, "x"}, exitUsage, "--init is for jobs of --kind image or video"},
		"only a mask":               {[]string{"--kind", "image", "--mask", mask, "x"}, exitUsage, "--mask is for jobs of --kind image with --init"},
		"no such file":              {[]string{"--kind", "image", "--init", "none.png", "x"}, exitFail, "none.png"},
		"no picture":                {[]string{"--kind", "image", "--init", w.file(t, "a.txt", []byte("hello")), "x"}, exitFail, "neither a picture nor a recording"},
		"an empty one":              {[]string{"--kind", "audio_stt", "--file", w.file(t, "a.wav", nil)}, exitFail, "not empty"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"submit", "--studio", w.url, "--token-file", tokenFile(w.data)}, c.args...)
			w.wantRefusal(t, c.code, args, c.want)
		})
	}
}

// Fault row 23, from outside: the card is lost in the middle of a job.
func TestRow23TheCardIsLost(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := newWorkshop(t, "STUDIO_WORKER_SD_CLI="+self, fakesd.Variable+"="+fakesd.DeviceLost)
	w.model(t, "tiny", protocol.EngineSDCpp, protocol.KindImage, w.file(t, "tiny.gguf", []byte("good\n")))
	job, err := makeJob(t.Context(), w.operator, protocol.KindImage, "tiny", "a lighthouse", anywhere)
	if err != nil {
		t.Fatal(err)
	}
	queued, err := w.operator.Submit(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	// The studio may try again, elsewhere: the job is not final after one failure.
	w.await(t, queued.ID, func(j client.JobStatus) bool { return strings.Contains(j.Error, "the graphics card cannot be used") })
	if !w.worker.err.await(1, "ErrorDeviceLost") {
		t.Error("the worker's log does not say why")
	}
	w.worker.stop(t)
}

func TestEnginesCommand(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := newHome(t)
	h.extra = append(h.extra, "STUDIO_WORKER_SD_CLI="+self, fakesd.Variable+"="+fakesd.Paint, "STUDIO_WORKER_WHISPER_CLI="+filepath.Join(h.dir, "none"))
	var rows []engineJSON
	if err := json.Unmarshal([]byte(h.want(t, "engines", "--json")), &rows); err != nil {
		t.Fatal(err)
	}
	found := map[string]engineJSON{}
	for _, row := range rows {
		found[row.ID] = row
	}
	if got := found["sd-cpp"]; got.Found != self || !strings.Contains(got.Version, "2f88688") || strings.Join(got.Kinds, " ") != "image video" || got.Problem != "" {
		t.Errorf("sd-cpp: %+v", got)
	}
	if got := found["synthetic"]; len(got.Kinds) != 5 || got.Problem != "" {
		t.Errorf("synthetic: %+v", got)
	}
	for _, row := range rows {
		if (len(row.Kinds) == 0 && row.ID != "ffmpeg") != (row.Problem != "") || row.Problem != "" && row.Fix == "" {
			t.Errorf("%+v: one that serves nothing has a problem and a fix", row)
		}
	}
	table := h.want(t, "engines")
	for _, want := range []string{"sd-cpp", "image, video", self, "synthetic"} {
		if !strings.Contains(table, want) {
			t.Errorf("the table has no %q:\n%s", want, table)
		}
	}
	h.wantRefusal(t, exitUsage, []string{"engine-host", "x"}, "for the worker itself")
	h.wantRefusal(t, exitUsage, []string{"engines", "fetch", "x"}, "one of sd-cpp and onnx")
	h.extra = append(h.extra, "STUDIO_WORKER_SDCPP_URL=http://models.example/own.zip")
	if code, _, said := h.run(t, "engines", "fetch", "sd-cpp"); code != exitFail || !strings.Contains(said, "only https is allowed") {
		t.Errorf("fetch ended with %d: %s", code, said)
	}
}
