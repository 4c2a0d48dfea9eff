package versions

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

func newStore(tb testing.TB) *Store {
	tb.Helper()
	s, err := Open(filepath.Join(tb.TempDir(), Folder), slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// entry is one entry of an archive.
type entry struct {
	name string
	kind byte // of tar
	link string
	body string
}

func tarball(tb testing.TB, entries ...entry) []byte {
	tb.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	t := tar.NewWriter(z)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
		}
		if err := t.WriteHeader(&tar.Header{Name: e.name, Typeflag: e.kind, Linkname: e.link, Mode: 0o755, Size: int64(len(e.body))}); err != nil {
			tb.Fatal(err)
		}
		if _, err := t.Write([]byte(e.body)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := errors.Join(t.Close(), z.Close()); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func zipped(tb testing.TB, mode fs.FileMode, entries ...entry) []byte {
	tb.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name}
		h.SetMode(mode)
		w, err := z.CreateHeader(h)
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := w.Write([]byte(e.body)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func unpackText(tb testing.TB, archive []byte) (dir, sum string, err error) {
	tb.Helper()
	root := tb.TempDir()
	path := filepath.Join(root, "archive")
	if err := os.WriteFile(path, archive, 0o600); err != nil {
		tb.Fatal(err)
	}
	dir = filepath.Join(root, "a", "b")
	if err := os.Mkdir(filepath.Dir(dir), 0o700); err != nil {
		tb.Fatal(err)
	}
	sum, err = Unpack(path, dir)
	return dir, sum, err
}

func TestUnpack(t *testing.T) {
	name := ProgramName()
	for what, archive := range map[string][]byte{
		"tar":           tarball(t, entry{"sw-1/", tar.TypeDir, "", ""}, entry{"sw-1/LICENSE", 0, "", "MIT"}, entry{"sw-1/" + name, 0, "", "program"}),
		"tar with ./":   tarball(t, entry{"./", tar.TypeDir, "", ""}, entry{"./" + name, 0, "", "program"}),
		"zip":           zipped(t, 0o644, entry{"README.md", 0, "", "x"}, entry{name, 0, "", "program"}),
		"one like ours": tarball(t, entry{"a/b/" + name, 0, "", "another"}, entry{name, 0, "", "program"}),
	} {
		dir, sum, err := unpackText(t, archive)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(text) != "program" {
			t.Errorf("%s: the program is %q, %v", what, text, err)
		}
		if again, err := hashOf(filepath.Join(dir, name)); err != nil || again != sum {
			t.Errorf("%s: the hash is %s, and of the file %s, %v", what, sum, again, err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("%s: the folder holds %v", what, entries)
		}
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o700 {
			t.Errorf("%s: the program is %v, %v", what, info, err)
		}
	}
}

func TestRefusedArchives(t *testing.T) {
	name := ProgramName()
	good := entry{name, 0, "", "program"}
	whole := tarball(t, good)
	many := make([]entry, maxEntries+1)
	for i := range many {
		many[i] = entry{"file", 0, "", ""}
	}
	for what, archive := range map[string][]byte{
		"a path out":           tarball(t, good, entry{"../" + name, 0, "", "evil"}),
		"a hidden path out":    tarball(t, good, entry{"a/../../" + name, 0, "", "evil"}),
		"a path in and out":    tarball(t, entry{"a/../" + name, 0, "", "evil"}),
		"a path from the root": tarball(t, good, entry{"/etc/" + name, 0, "", "evil"}),
		"a path of Windows":    tarball(t, good, entry{`..\` + name, 0, "", "evil"}),
		"a drive of Windows":   tarball(t, good, entry{"c:" + name, 0, "", "evil"}),
		"a symbolic link":      tarball(t, entry{name, tar.TypeSymlink, "/bin/sh", ""}),
		"a link beside it":     tarball(t, good, entry{"other", tar.TypeSymlink, name, ""}),
		"a hard link":          tarball(t, good, entry{"other", tar.TypeLink, "/etc/passwd", ""}),
		"a device":             tarball(t, good, entry{"null", tar.TypeChar, "", ""}),
		"a pipe":               tarball(t, good, entry{"pipe", tar.TypeFifo, "", ""}),
		"the program twice":    tarball(t, good, entry{"a/" + name, 0, "", "evil"}),
		"no program":           tarball(t, entry{"README.md", 0, "", "x"}),
		"a folder for it":      tarball(t, entry{name, tar.TypeDir, "", ""}),
		"too many files":       tarball(t, many...),
		"its first half":       whole[:len(whole)/2],
		"all but its end":      whole[:len(whole)-4],
		"nothing":              nil,
		"nonsense":             []byte("nonsense"),
		"a program alone":      []byte("\x7fELF"),
		"a zip's path out":     zipped(t, 0o644, good, entry{"../" + name, 0, "", "evil"}),
		"a zip's link":         zipped(t, fs.ModeSymlink|0o777, entry{name, 0, "", "/bin/sh"}),
		"half a zip":           zipped(t, 0o644, good)[:30],
	} {
		dir, sum, err := unpackText(t, archive)
		if err == nil {
			t.Errorf("%s was taken: %s", what, sum)
		}
		// Nothing lies outside.
		root := filepath.Dir(filepath.Dir(dir))
		for _, outside := range []string{filepath.Join(root, name), filepath.Join(root, "a", name)} {
			if _, err := os.Lstat(outside); err == nil {
				t.Errorf("%s wrote %s", what, outside)
			}
		}
	}
}

// put makes a version as Keep does.
func put(tb testing.TB, s *Store, version string, seq uint64) Candidate {
	tb.Helper()
	stage, err := s.Stage()
	if err != nil {
		tb.Fatal(err)
	}
	archive := filepath.Join(stage, "archive")
	if err := os.WriteFile(archive, tarball(tb, entry{ProgramName(), 0, "", "program " + version}), 0o600); err != nil {
		tb.Fatal(err)
	}
	sum, err := Unpack(archive, filepath.Join(stage, "program"))
	if err != nil {
		tb.Fatal(err)
	}
	c := Candidate{Version: Version{version, seq, sum}}
	if err := s.Keep(filepath.Join(stage, "program"), c, 1); err != nil {
		tb.Fatal(err)
	}
	return c
}

func next(tb testing.TB, s *Store, installed string) Program {
	tb.Helper()
	p, err := s.Next(Version{Version: installed})
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func TestNext(t *testing.T) {
	s := newStore(t)
	if p := next(t, s, "1.0.0"); p.Path != "" || p.Trial || p.Version.Version != "1.0.0" {
		t.Errorf("of a new install %+v is started", p)
	}
	c := put(t, s, "1.1.0", 5)
	p := next(t, s, "1.0.0")
	if !p.Trial || p.Path != s.Path(c.Version) || p.Candidate.Tries != 1 {
		t.Errorf("the candidate: %+v", p)
	}
	promote := func() {
		if err := s.Change(func(state *State) error { state.Promote(); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	promote()
	if p := next(t, s, "1.0.0"); p.Trial || p.Version != c.Version {
		t.Errorf("the active version: %+v", p)
	}
	put(t, s, "1.2.0", 6)
	next(t, s, "1.0.0")
	promote()
	put(t, s, "1.3.0", 7)
	if err := s.Prune(); err != nil {
		t.Fatal(err)
	}
	// Each that is damaged gives way to the one before it.
	for _, c := range []struct{ damaged, next string }{{"1.3.0", "1.2.0"}, {"1.2.0", "1.1.0"}, {"1.1.0", "1.0.0"}} {
		path := filepath.Join(s.dir, "versions", c.damaged, ProgramName())
		if err := os.WriteFile(path, []byte("evil"), 0o700); err != nil {
			t.Fatal(err)
		}
		if p := next(t, s, "1.0.0"); p.Version.Version != c.next || p.Trial {
			t.Errorf("%s was swapped, and %+v is started", c.damaged, p)
		}
	}
	if state, err := s.Read(); err != nil || state.Active != nil || state.Previous != nil || state.Candidate != nil || state.HighSeq != 7 {
		t.Errorf("the state is %+v, %v", state, err)
	}
}

func TestANewerInstalledProgramWins(t *testing.T) {
	s := newStore(t)
	put(t, s, "1.1.0", 1)
	next(t, s, "1.0.0")
	if err := s.Change(func(state *State) error { state.Promote(); return nil }); err != nil {
		t.Fatal(err)
	}
	put(t, s, "1.2.0", 2)
	if p := next(t, s, "2.0.0"); p.Path != "" || p.Version.Version != "2.0.0" {
		t.Errorf("beside an installed 2.0.0 %+v is started", p)
	}
	if err := s.Prune(); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(filepath.Join(s.dir, "versions")); err != nil || len(entries) != 0 {
		t.Errorf("left over: %v, %v", entries, err)
	}
}

// Starts that nobody saw end are counted: the power went, again and again.
func TestACandidateIsNotTriedForEver(t *testing.T) {
	s := newStore(t)
	put(t, s, "1.1.0", 9)
	for i := range maxTries {
		if p := next(t, s, "1.0.0"); !p.Trial || p.Candidate.Tries != i+1 {
			t.Fatalf("try %d: %+v", i+1, p)
		}
	}
	if p := next(t, s, "1.0.0"); p.Trial {
		t.Errorf("it is tried once more: %+v", p)
	}
	state, err := s.Read()
	if _, held := state.Held(9); err != nil || !held {
		t.Errorf("it is not held: %+v, %v", state, err)
	}
}

// TestSpec149TheInstalledProgramStaysAsItIs: nothing is parked, and nothing outside the
// folder of updates is written, read-only as it may be.
func TestSpec149TheInstalledProgramStaysAsItIs(t *testing.T) {
	s := newStore(t)
	installed := filepath.Join(filepath.Dir(s.dir), ProgramName())
	if err := os.WriteFile(installed, []byte("installed"), 0o500); err != nil {
		t.Fatal(err)
	}
	put(t, s, "1.1.0", 1)
	next(t, s, "1.0.0")
	if err := s.Change(func(state *State) error { state.Promote(); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.Prune(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Dir(s.dir))
	if err != nil || len(entries) != 2 {
		t.Errorf("beside the installed program lie %v, %v", entries, err)
	}
	if text, err := os.ReadFile(installed); err != nil || string(text) != "installed" {
		t.Errorf("the installed program is %q, %v", text, err)
	}
}

func TestKeepRefuses(t *testing.T) {
	s := newStore(t)
	c := put(t, s, "1.1.0", 1)
	next(t, s, "1.0.0")
	stage, err := s.Stage()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Keep(stage, Candidate{Version: Version{"1.2.0", 2, c.SHA256}}, 1); err == nil {
		t.Error("a candidate on trial was replaced")
	}
	if err := s.Change(func(state *State) error { state.Promote(); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.Keep(stage, Candidate{Version: c.Version}, 1); err == nil {
		t.Error("the version that runs was replaced")
	}
	if p := next(t, s, "1.0.0"); p.Version != c.Version {
		t.Errorf("%+v is started", p)
	}
}

func TestDamagedState(t *testing.T) {
	sum := strings.Repeat("a", 64)
	for what, text := range map[string]string{
		"empty":                "",
		"half":                 `{"schema":1,`,
		"of another form":      `{"schema":2}`,
		"too long":             `{"schema":1}` + strings.Repeat(" ", maxState),
		"a path for a version": `{"schema":1,"active":{"version":"../../x","sha256":"` + sum + `"}}`,
		"no hash":              `{"schema":1,"active":{"version":"1.0.0","sha256":"a"}}`,
		"less than no tries":   `{"schema":1,"candidate":{"version":"1.0.0","sha256":"` + sum + `","tries":-1}}`,
		"less than no results": `{"schema":1,"candidate":{"version":"1.0.0","sha256":"` + sum + `","before":{"results":-1}}}`,
		"too many held":        `{"schema":1,"bad":[` + strings.Repeat("{},", maxBad) + `{}]}`,
	} {
		s := newStore(t)
		if err := os.WriteFile(filepath.Join(s.dir, stateName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if p := next(t, s, "1.0.0"); p.Path != "" {
			t.Errorf("%s: %+v is started", what, p)
		}
		if aside, err := filepath.Glob(filepath.Join(s.dir, stateName+".corrupt-*")); err != nil || len(aside) != 1 {
			t.Errorf("%s: set aside: %v, %v", what, aside, err)
		}
	}
}

func TestStateIsKept(t *testing.T) {
	s := newStore(t)
	want := State{
		Epoch: 2, HighSeq: 9, Active: &Version{"1.1.0", 8, strings.Repeat("a", 64)}, Previous: &Version{"1.0.0", 7, strings.Repeat("b", 64)},
		Candidate: &Candidate{Version: Version{"1.2.0", 9, strings.Repeat("c", 64)}, Notes: "n", Bytes: 5, Tries: 1, Before: &Before{true, 3}},
		Bad:       []Bad{{6, "0.9.0", "it crashed", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}},
	}
	if err := s.Change(func(state *State) error { *state = want; return nil }); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Read(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	refused := errors.New("no")
	if err := s.Change(func(state *State) error { state.HighSeq = 0; return refused }); !errors.Is(err, refused) {
		t.Errorf("a change that fails: %v", err)
	}
	if got, err := s.Read(); err != nil || got.HighSeq != 9 {
		t.Errorf("a change that failed was written: %+v, %v", got, err)
	}
	var many State
	for seq := range uint64(maxBad + 10) {
		many.Hold(Version{Version: "1.0.0", Seq: seq}, strings.Repeat("ä", maxReason), time.Now())
		many.Hold(Version{Version: "1.0.0", Seq: seq}, "twice", time.Now())
	}
	if len(many.Bad) != maxBad || many.Bad[0].Seq != 10 || len(many.Bad[0].Reason) > maxReason {
		t.Errorf("%d are held, the first %+v", len(many.Bad), many.Bad[0])
	}
}

func TestOneWatches(t *testing.T) {
	s := newStore(t)
	release, ok, err := s.Watch()
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if _, ok, err := s.Watch(); err != nil || ok {
		t.Errorf("two watch: %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	release, ok, err = s.Watch()
	if err != nil || !ok {
		t.Errorf("nobody can watch any more: %v", err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(tarball(f, entry{"a/" + ProgramName(), 0, "", "program"}))
	f.Add(zipped(f, 0o755, entry{ProgramName(), 0, "", "program"}))
	f.Fuzz(func(t *testing.T, archive []byte) {
		dir, _, err := unpackText(t, archive)
		if err != nil {
			return
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 1 || entries[0].Name() != ProgramName() || !entries[0].Type().IsRegular() {
			t.Fatalf("an archive left %v, %v", entries, err)
		}
	})
}

func FuzzState(f *testing.F) {
	f.Add([]byte(`{"schema":1,"epoch":1,"highSeq":2,"active":{"version":"1.0.0","seq":1,"sha256":"` + strings.Repeat("a", 64) + `"},"bad":[{"seq":2,"version":"1.1.0"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		state, err := decode(text)
		if err != nil {
			return
		}
		again, err := state.encode()
		if err != nil {
			return // times that JSON cannot carry
		}
		if _, err := decode(again); err != nil && len(again) <= maxState {
			t.Fatalf("%s cannot be read: %v", again, err)
		}
	})
}
