package dashboard

import (
	"encoding/json"
	"maps"
	"net/url"
	"strings"
	"testing"

	"studioworker/studio/client"
	"studioworker/worker/protocol"
)

// TestModelForm: what the form shows is changed, the rest of an old model stays, and
// nothing that was entered is lost to an error.
func TestModelForm(t *testing.T) {
	size, yes := uint64(6_900_000_000), true
	old := client.ModelRecord{ID: "m", Kinds: []protocol.TaskKind{protocol.KindImage}, Default: true, ModelSource: protocol.ModelSource{
		Engine:      protocol.EngineSDCpp,
		Files:       []protocol.ModelFile{{Role: "model", URL: "https://models.example/a.gguf", Filename: "a.gguf", ApproxBytes: &size}, {Role: "vae", URL: "https://models.example/b", Filename: "b"}},
		CLIDefaults: protocol.CLIDefaults{CfgScale: 7, Steps: 20, Width: 512, Height: 512, OffloadToCPU: &yes},
	}}
	form := url.Values{
		"kind": {"llm", "image", "dance"}, "aliases": {" büro, ,x"}, "engine": {"llama-cpp"}, "vram": {"4,5"}, "steps": {"9"}, "width": {"640"}, "context": {"8192"},
		"url-0": {"https://models.example/a.gguf"}, "role-0": {"model"}, "filename-0": {"c.gguf"}, "sha256-0": {strings.Repeat("0", 64)},
		"url-2": {"https://models.example/path/d.safetensors?download=true"}, "role-2": {"lora"},
	}
	m := old
	if err := fillModel(&m, form); err != nil {
		t.Fatal(err)
	}
	s, d := m.ModelSource, m.ModelSource.CLIDefaults
	if len(m.Kinds) != 2 || strings.Join(m.Aliases, "|") != "büro|x" || m.Default || m.VRAMGBEstimate != 4.5 || s.Engine != protocol.EngineLlamaCpp ||
		d.Steps != 9 || d.Width != 640 || d.Height != 512 || d.CfgScale != 7 || *d.ContextSize != 8192 || d.OffloadToCPU == nil {
		t.Errorf("the model is %+v", m)
	}
	if len(s.Files) != 2 || *s.Files[0].ApproxBytes != size || s.Files[0].Filename != "c.gguf" || *s.Files[0].SHA256 != form.Get("sha256-0") ||
		s.Files[1].Filename != "d.safetensors" || s.Files[1].Role != "lora" {
		t.Errorf("its files are %+v", s.Files)
	}
	rows := modelForm{Model: m}.Files()
	if len(rows) != 2+spareFiles || rows[0].URL != s.Files[0].URL || rows[3].URL != "" || rows[3].Count() != 4 {
		t.Errorf("the rows are %+v", rows)
	}
	for name, change := range map[string]func(url.Values){
		"no kind": func(f url.Values) { f.Del("kind") }, "no number": func(f url.Values) { f.Set("vram", "much") },
		"too many steps": func(f url.Values) { f.Set("steps", "1001") }, "not wide": func(f url.Values) { f.Set("width", "0") },
	} {
		wrong := url.Values{}
		maps.Copy(wrong, form)
		change(wrong)
		m := old
		if err := fillModel(&m, wrong); err == nil || len(m.ModelSource.Files) != 2 || m.ModelSource.Engine != protocol.EngineLlamaCpp {
			t.Errorf("%s: %v, %+v", name, err, m)
		}
	}
}

// FuzzModelForm: no form makes the reader panic, and what it lets through can be sent
// and read again.
func FuzzModelForm(f *testing.F) {
	for _, seed := range []string{
		"kind=llm&engine=llama-cpp&url-0=https://a.example/b&vram=4,5", "kind=image&aliases=a,b,,&steps=9&url-15=x%3F", "kind=%ff&scale=1e400", "",
		"kind=video&context=10000000&filename-1=x&sha256-1=00", "kind=image&vram=-1&width=8193",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		form, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		m := newModel()
		if fillModel(&m, form) != nil {
			return
		}
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatalf("it cannot be sent: %v", err)
		}
		var back client.ModelRecord
		if err := json.Unmarshal(data, &back); err != nil {
			t.Fatalf("%s cannot be read: %v", data, err)
		}
		if len(m.ModelSource.Files) > maxFiles || len(m.Kinds) == 0 || len(back.ModelSource.Files) != len(m.ModelSource.Files) {
			t.Errorf("%q becomes %+v", text, m)
		}
	})
}

// TestLocal: the page to return to is one of the dashboard's.
func TestLocal(t *testing.T) {
	for in, want := range map[string]string{
		"/": "/", "/jobs?state=done&cursor=a%2Bb": "/jobs?state=done&cursor=a%2Bb", "/models/edit?id=a%2Fb": "/models/edit?id=a%2Fb", "/jobs/x%2Fy": "/jobs/x%2Fy",
		"": "/", "jobs": "/", "//evil.example/": "/", "https://evil.example/": "/", "/\\evil.example": "/", "javascript:alert(1)": "/", "/x\r\nX: y": "/", "/%zz": "/",
		"///evil.example": "/", "/jobs#x": "/jobs",
	} {
		if got := local(in); got != want {
			t.Errorf("local(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestSignOutOfAll: every session ends, and the links that are open.
func TestSignOutOfAll(t *testing.T) {
	s := newSessions()
	first, second := s.begin("Sam"), s.begin("Kim")
	code, _, err := s.newCode()
	if err != nil {
		t.Fatal(err)
	}
	own := s.find(second, true)
	if list := s.list(own); len(list) != 2 || list[0].Name != "Kim" || !list[0].Own || list[1].Own {
		t.Errorf("listed %+v", list)
	}
	if n := s.endAll(); n != 2 || s.find(first, true) != nil || s.find(second, true) != nil || s.useCode(code) {
		t.Errorf("%d ended", n)
	}
}
