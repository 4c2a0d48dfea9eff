package models

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// filled is a store with three fetched files of 1000 bytes, a used longest ago.
func filled(t *testing.T) (*fixture, *server) {
	t.Helper()
	s, f := newServer(t, pattern(1000)), newStore(t)
	for _, model := range []string{"a", "b", "c"} {
		if _, err := f.get(model, File{URL: s.URL, Filename: model + ".gguf"}); err != nil {
			t.Fatal(err)
		}
	}
	age := map[string]time.Duration{"a": 3 * time.Hour, "b": 2 * time.Hour, "c": time.Hour}
	err := f.change(f.root, func(x *index) error {
		for name, e := range x.Files {
			e.Used = time.Now().Add(-age[e.Model])
			x.Files[name] = e
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return f, s
}

func TestTheLongestUnusedIsEvicted(t *testing.T) {
	f, s := filled(t)
	mine := filepath.Join(f.root, "mine.gguf") // a person's own: never removed
	if err := os.WriteFile(mine, pattern(1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.get("a", File{Filename: "a.gguf"}); err != nil { // used now, so b is the oldest
		t.Fatal(err)
	}
	f.quota = 3000
	if _, err := f.get("d", File{URL: s.URL, Filename: "d.gguf"}); err != nil {
		t.Fatal(err)
	}
	if got, want := f.files(), []string{"a/a.gguf", "c/c.gguf", "d/d.gguf", "mine.gguf"}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
}

func TestHeldAndPinnedFilesStay(t *testing.T) {
	f, s := filled(t)
	held, err := f.Ensure(t.Context(), Set{Model: "a", Files: []File{{Filename: "a.gguf"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Pin("b", true); err != nil {
		t.Fatal(err)
	}
	f.quota = 2000
	_, err = f.get("d", File{URL: s.URL, Filename: "d.gguf"})
	if e, ok := errors.AsType[*Error](err); !ok || e.Kind != NoRoom || !strings.Contains(err.Error(), "models_quota_gb") {
		t.Errorf("err = %v, want no room", err)
	}
	if got, want := f.files(), []string{"a/a.gguf", "b/b.gguf"}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	if _, err := f.Remove("a"); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("removing what is in use: %v", err)
	}
	held.Release()
	held.Release() // a second time does nothing
	if _, err := f.get("d", File{URL: s.URL, Filename: "d.gguf"}); err != nil {
		t.Fatal(err)
	}
	if err := f.Pin("b", false); err != nil {
		t.Fatal(err)
	}
	f.quota = 1000
	if _, err := f.get("e", File{URL: s.URL, Filename: "e.gguf"}); err != nil {
		t.Fatal(err)
	}
	if got, want := f.files(), []string{"e/e.gguf"}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
}

func TestAFullDiskMakesRoom(t *testing.T) {
	f, s := filled(t)
	f.free = func(string) (uint64, error) { return 500, nil }
	if _, err := f.get("d", File{URL: s.URL, Filename: "d.gguf", ApproxBytes: 1000}); err != nil {
		t.Fatal(err)
	}
	if got := f.files(); slices.Contains(got, "a/a.gguf") || !slices.Contains(got, "d/d.gguf") {
		t.Errorf("files %q", got)
	}
}

func TestListPinAndRemove(t *testing.T) {
	f, _ := filled(t)
	for _, name := range []string{"flat.gguf", "llm/x.gguf.part", "llm/x.gguf.part.json", ".hidden/y"} {
		path := filepath.Join(f.root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Pin("b/b.gguf", true); err != nil {
		t.Fatal(err)
	}
	list, err := f.List()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, k := range list {
		line := k.Path + " " + k.Model
		if k.Pinned {
			line += " pinned"
		}
		if k.Partial {
			line += " partial"
		}
		got = append(got, strings.TrimSpace(line))
	}
	if want := []string{"a/a.gguf a", "b/b.gguf b pinned", "c/c.gguf c", "flat.gguf", "llm/x.gguf.part  partial"}; !slices.Equal(got, want) {
		t.Errorf("list %q, want %q", got, want)
	}
	if freed, err := f.Remove("c"); err != nil || freed != 1000 {
		t.Errorf("removed %d, %v", freed, err)
	}
	for _, word := range []string{"c", "nothing", "", "../a", "flat.gguf"} {
		if _, err := f.Remove(word); err == nil {
			t.Errorf("removed %q", word)
		}
		if err := f.Pin(word, true); err == nil {
			t.Errorf("pinned %q", word)
		}
	}
}

func TestVerifyAndRepair(t *testing.T) {
	f, s := filled(t)
	damage := func(name string, how func(path string) error) {
		t.Helper()
		if err := how(filepath.Join(f.root, name)); err != nil {
			t.Fatal(err)
		}
	}
	damage("a/a.gguf", func(path string) error { return os.WriteFile(path, append(pattern(999), 'x'), 0o600) })
	damage("b/b.gguf", func(path string) error { return os.WriteFile(path, pattern(10), 0o600) })
	damage("c/c.gguf", os.Remove)
	list, err := f.Verify(t.Context(), "", false, nil)
	if err != nil || len(list) != 3 {
		t.Fatalf("%v, %v", list, err)
	}
	for i, word := range []string{"sha256", "10 bytes", "missing"} {
		if !strings.Contains(list[i].Problem, word) || list[i].Repaired {
			t.Errorf("%+v, want %s", list[i], word)
		}
	}
	told := 0
	list, err = f.Verify(t.Context(), "", true, func(Checked) { told++ })
	if err != nil || told != 3 || s.count() != 6 {
		t.Fatalf("%v, %v; told %d, %d requests", list, err, told, s.count())
	}
	for _, c := range list {
		if !c.Repaired {
			t.Errorf("%+v", c)
		}
		f.holds(filepath.Join(f.root, c.Path), pattern(1000))
	}
	if list, err := f.Verify(t.Context(), "a", false, nil); err != nil || len(list) != 1 || list[0].Problem != "" {
		t.Errorf("afterwards: %v, %v", list, err)
	}
	if _, err := f.Verify(t.Context(), "nothing", false, nil); err == nil {
		t.Error("verified what is not there")
	}
	damage("a/a.gguf", func(path string) error { return os.WriteFile(path, pattern(5), 0o600) })
	s.mu.Lock()
	s.data = pattern(1001) // the server has another version now
	s.mu.Unlock()
	if list, err := f.Verify(t.Context(), "a", true, nil); err != nil || list[0].Repaired || !strings.Contains(list[0].Problem, "not repaired") {
		t.Errorf("another version: %v, %v", list, err)
	}
}

func TestRecheckSetsDamagedFilesAside(t *testing.T) {
	f, s := filled(t)
	set := Set{Model: "a", Files: []File{{URL: s.URL, Filename: "a.gguf"}}}
	if damaged, err := f.Recheck(t.Context(), set); damaged || err != nil {
		t.Errorf("whole: %v, %v", damaged, err)
	}
	path := filepath.Join(f.root, "a", "a.gguf")
	if err := os.WriteFile(path, pattern(1000)[:999], 0o600); err != nil {
		t.Fatal(err)
	}
	if damaged, err := f.Recheck(t.Context(), set); !damaged || err != nil {
		t.Errorf("damaged: %v, %v", damaged, err)
	}
	if _, err := f.getIn(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	f.holds(path, pattern(1000))
	mine := filepath.Join(f.root, "mine.gguf")
	if err := os.WriteFile(mine, pattern(3), 0o600); err != nil {
		t.Fatal(err)
	}
	for hash, want := range map[string]bool{"": false, sum(pattern(3)): false, sum(pattern(4)): true} {
		damaged, err := f.Recheck(t.Context(), Set{Model: "m", Files: []File{{Filename: "mine.gguf", SHA256: hash}}})
		if damaged != want || err != nil {
			t.Errorf("a person's file with hash %q: %v, %v", hash, damaged, err)
		}
		if err := os.WriteFile(mine, pattern(3), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestADamagedListIsSetAside(t *testing.T) {
	f, _ := filled(t)
	path := filepath.Join(f.root, stateFolder, indexName)
	for _, damage := range []string{"", "{", `{"version":2}`, `[]`} {
		if err := os.WriteFile(path, []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := f.get("a", File{Filename: "a.gguf"}); err != nil {
			t.Errorf("%q: %v", damage, err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%q stays", damage)
		}
	}
	if aside, err := filepath.Glob(path + ".corrupt-*"); err != nil || len(aside) == 0 {
		t.Errorf("%q, %v", aside, err)
	}
}

// Names in the list come from a file that anybody may have changed.
func TestTheListNamesNothingOutside(t *testing.T) {
	x, err := decodeIndex([]byte(`{"version":1,"files":{"../x":{},"/etc/passwd":{},"a/../b":{},"a/b/c":{},"..":{},"ok/a.gguf":{},"flat.gguf":{}}}`))
	if err != nil || len(x.Files) != 2 {
		t.Errorf("%v, %v", x.Files, err)
	}
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"version":1,"files":{"a/b.gguf":{"model":"a","size":3}}}`))
	f.Add([]byte(`{"version":1,"files":{"../b.gguf":{}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := decodeIndex(data)
		if err != nil {
			return
		}
		root := t.TempDir()
		for name := range x.Files {
			if rel, err := filepath.Rel(root, filepath.Join(root, filepath.FromSlash(name))); err != nil || !filepath.IsLocal(rel) {
				t.Errorf("%q leads outside", name)
			}
		}
	})
}

func FuzzDownloadState(f *testing.F) {
	f.Add([]byte(`{"url":"https://models.example/a","validator":"x","total":10,"bytes":5,"hash":""}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := decodePart(data); err == nil && (p.Bytes <= 0 || p.Total > 0 && p.Bytes > p.Total) {
			t.Errorf("%+v", p)
		}
	})
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 10-19/20")
	f.Add("bytes */20")
	f.Fuzz(func(t *testing.T, header string) {
		if start, total, ok := contentRange(header); ok && (start < 0 || total < 0 || total > 0 && start >= total) {
			t.Errorf("%q: %d of %d", header, start, total)
		}
	})
}

func FuzzCheckName(f *testing.F) {
	f.Add("a.gguf")
	f.Add("../x")
	f.Fuzz(func(t *testing.T, name string) {
		if CheckName(name) == nil && (filepath.Base(name) != name || !filepath.IsLocal(name) || strings.ContainsAny(name, `/\:`)) {
			t.Errorf("%q was taken", name)
		}
		if folder := FolderOf(name); folder == "" || folder[0] == '.' || strings.ContainsAny(folder, `/\`) {
			t.Errorf("folder %q of %q", folder, name)
		}
	})
}
