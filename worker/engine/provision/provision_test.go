package provision

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"studioworker/worker/engine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// file is one entry of an archive; link makes it a link.
type file struct{ name, text, link string }

func zipOf(tb testing.TB, files ...file) []byte {
	tb.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for _, f := range files {
		h := &zip.FileHeader{Name: f.name, Method: zip.Deflate}
		if f.link != "" {
			h.SetMode(os.ModeSymlink | 0o777)
		}
		w, err := z.CreateHeader(h)
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := w.Write([]byte(f.text + f.link)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

func tarOf(tb testing.TB, files ...file) []byte {
	tb.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: 0o755, Size: int64(len(f.text)), Typeflag: tar.TypeReg}
		if f.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.link
		}
		if err := w.WriteHeader(h); err != nil {
			tb.Fatal(err)
		}
		if _, err := w.Write([]byte(f.text)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// shop is a server with one archive and its release page.
type shop struct {
	*httptest.Server
	data    []byte
	digest  string
	serve   http.HandlerFunc // of the archive; nil = as it should be
	fetched atomic.Int32
}

func newShop(t *testing.T, data []byte) *shop {
	t.Helper()
	sum := sha256.Sum256(data)
	s := &shop{data: data, digest: "sha256:" + strings.ToUpper(hex.EncodeToString(sum[:]))}
	mux := http.NewServeMux()
	mux.HandleFunc("/repos/owner/name/releases/tags/v1", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"assets":[{"name":"other.zip","digest":"sha256:00"},{"name":"a.zip","digest":%q},{"name":"a.tgz","digest":%[1]q}]}`, s.digest)
	})
	mux.HandleFunc("/get/", func(w http.ResponseWriter, r *http.Request) {
		s.fetched.Add(1)
		if s.serve != nil {
			s.serve(w, r)
			return
		}
		_, _ = w.Write(s.data) // the client may have gone away
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// installer is one with an empty models folder.
func (s *shop) installer(t *testing.T) (*Installer, string) {
	t.Helper()
	root := filepath.Join(t.TempDir(), "models")
	return New(Config{
		Root: func() string { return root }, HTTP: s.Client(), UserAgent: "test", Pages: s.URL, Log: slog.New(slog.DiscardHandler),
	}), root
}

func (s *shop) release(asset string) Release {
	return Release{Engine: "tool", Repo: "owner/name", Tag: "v1", Asset: asset, URL: s.URL + "/get/" + asset, Dir: "bin", File: "tool"}
}

// many are more files than an archive may have.
func many() []file {
	list := make([]file, maxEntries+1)
	for i := range list {
		list[i].name = "tool"
	}
	return list
}

// wantClean wants nothing hidden in a models folder.
func wantClean(t *testing.T, root string) {
	t.Helper()
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			t.Errorf("%s is left", entry.Name())
		}
	}
}

func TestInstall(t *testing.T) {
	for asset, data := range map[string][]byte{
		"a.zip": zipOf(t, file{name: "top/bin/tool", text: "v1"}, file{name: "top/lib/libx.so", text: "library"}, file{name: ".hidden", text: "x"}),
		"a.tgz": tarOf(t, file{name: "./top/tool", text: "v1"}, file{name: "top/libx.so.1", text: "library"}, file{name: "top/libx.so", link: "libx.so.1"}),
	} {
		t.Run(asset, func(t *testing.T) {
			s := newShop(t, data)
			i, root := s.installer(t)
			r := s.release(asset)
			for range 2 { // the second finds it
				path, err := i.Install(t.Context(), r)
				if err != nil || path != filepath.Join(root, "bin", "tool") {
					t.Fatalf("%s, %v", path, err)
				}
				if data, err := os.ReadFile(path); err != nil || string(data) != "v1" {
					t.Errorf("it holds %q, %v", data, err)
				}
				if info, err := os.Stat(path); err != nil || info.Mode()&0o100 == 0 {
					t.Errorf("it cannot be run: %v, %v", info.Mode(), err)
				}
			}
			if data, err := os.ReadFile(filepath.Join(root, "bin", "libx.so")); err != nil || string(data) != "library" {
				t.Errorf("the library holds %q, %v", data, err)
			}
			if text, err := os.ReadFile(filepath.Join(root, "bin", ".sd-cli-release")); err != nil || !strings.HasPrefix(string(text), r.URL+"\n") {
				t.Errorf("the marker says %q, %v", text, err)
			}
			wantClean(t, root)
			if n := s.fetched.Load(); n != 1 {
				t.Errorf("it was fetched %d times", n)
			}
			r.URL += "?another" // another release takes its place
			if _, err := i.Install(t.Context(), r); err != nil || s.fetched.Load() != 2 {
				t.Errorf("%v after %d fetches", err, s.fetched.Load())
			}
		})
	}
}

func TestInstallRefuses(t *testing.T) {
	good := zipOf(t, file{name: "tool", text: "v1"})
	for name, c := range map[string]struct {
		data   []byte
		change func(s *shop, r *Release)
		want   string
	}{
		"wrong sum":       {good, func(_ *shop, r *Release) { r.SHA256 = strings.Repeat("0", 64) }, "is not what was published"},
		"no sum":          {good, func(s *shop, _ *Release) { s.digest = "" }, "nobody says the sum of a.zip"},
		"nonsense as sum": {good, func(s *shop, _ *Release) { s.digest = "sha256:xyz" }, "nobody says the sum of a.zip"},
		"no page":         {good, func(_ *shop, r *Release) { r.Tag = "v2" }, "ask for the sum of a.zip: GET "},
		"gone":            {good, func(s *shop, _ *Release) { s.serve = http.NotFound }, "-> 404"},
		"cut short": {good, func(s *shop, _ *Release) {
			s.serve = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "9999")
				_, _ = w.Write(s.data)
			}
		}, "download a.zip: "},
		"led to http": {good, func(s *shop, _ *Release) {
			s.serve = func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://models.example/a.zip", http.StatusFound)
			}
		}, "only https is allowed"},
		"http":            {good, func(_ *shop, r *Release) { r.URL = "http://models.example/a.zip" }, "only https is allowed"},
		"no archive":      {[]byte("hello"), func(*shop, *Release) {}, "unpack a.zip: zip: not a valid zip file"},
		"without it":      {zipOf(t, file{name: "other", text: "x"}), func(*shop, *Release) {}, "a.zip holds no tool"},
		"leads up":        {zipOf(t, file{name: "../tool", text: "x"}), func(*shop, *Release) {}, "leads elsewhere"},
		"leads up inside": {zipOf(t, file{name: "a/../../tool", text: "x"}), func(*shop, *Release) {}, "leads elsewhere"},
		"absolute":        {zipOf(t, file{name: "/bin/tool", text: "x"}), func(*shop, *Release) {}, "leads elsewhere"},
		"backslashes":     {zipOf(t, file{name: `..\tool`, text: "x"}), func(*shop, *Release) {}, "leads elsewhere"},
		"a drive":         {zipOf(t, file{name: "C:tool", text: "x"}), func(*shop, *Release) {}, "leads elsewhere"},
		"a link in a zip": {zipOf(t, file{name: "tool", link: "/bin/sh"}), func(*shop, *Release) {}, "is no plain file"},
		"many files":      {zipOf(t, many()...), func(*shop, *Release) {}, "there is too much in it"},
		"another format":  {good, func(s *shop, r *Release) { r.Asset, r.SHA256 = "a.rar", strings.ToLower(s.digest[len("sha256:"):]) }, "neither a zip nor a tar.gz"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, c.data)
			i, root := s.installer(t)
			r := s.release("a.zip")
			c.change(s, &r)
			_, err := i.Install(t.Context(), r)
			failed, ok := errors.AsType[*engine.Error](err)
			if !ok || failed.Class != engine.ClassEngineMissing || !strings.Contains(err.Error(), c.want) && !strings.Contains(failed.Err.Error(), c.want) {
				t.Errorf("err = %v, want %q", err, c.want)
			}
			if _, err := os.Stat(filepath.Join(root, "bin", "tool")); err == nil {
				t.Error("something was installed")
			}
			wantClean(t, root)
		})
	}
	for name, data := range map[string][]byte{
		"a link that leads out":   tarOf(t, file{name: "tool", link: "../../bin/sh"}),
		"a link to the root":      tarOf(t, file{name: "tool", link: "/bin/sh"}),
		"a link to nothing":       tarOf(t, file{name: "tool", link: "."}),
		"a tar that leads up":     tarOf(t, file{name: "../tool", text: "x"}),
		"a tar that is cut short": tarOf(t, file{name: "tool", text: "x"})[:20],
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, data)
			i, root := s.installer(t)
			if _, err := i.Install(t.Context(), s.release("a.tgz")); err == nil {
				t.Error("no error")
			}
			wantClean(t, root)
		})
	}
}

func TestBounds(t *testing.T) {
	w := writer{dir: t.TempDir(), left: 3}
	if err := w.file("tool", strings.NewReader("four")); !errors.Is(err, errTooMuch) {
		t.Errorf("err = %v", err)
	}
	w.entries = maxEntries
	if err := w.count(); !errors.Is(err, errTooMuch) {
		t.Errorf("err = %v", err)
	}
}

func TestInstallWhatThePersonNamed(t *testing.T) {
	s := newShop(t, zipOf(t, file{name: "tool", text: "own"}))
	i, root := s.installer(t)
	r, err := override(s.release("a.zip"), s.URL+"/get/own.zip")
	if err != nil {
		t.Fatal(err)
	}
	if path, err := i.Install(t.Context(), r); err != nil || path != filepath.Join(root, "bin", "tool") {
		t.Errorf("%s, %v", path, err)
	}
	if text, err := os.ReadFile(filepath.Join(root, "bin", ".sd-cli-release")); err != nil || !strings.HasSuffix(strings.ToUpper(string(text)), s.digest[len("sha256:"):]+"\n") {
		t.Errorf("the marker says %q, %v", text, err)
	}
}

func TestInstallStops(t *testing.T) {
	s := newShop(t, zipOf(t, file{name: "tool", text: "v1"}))
	cause := errors.New("the person pressed stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	s.serve = func(_ http.ResponseWriter, r *http.Request) {
		cancel(cause)
		<-r.Context().Done()
	}
	i, root := s.installer(t)
	if _, err := i.Install(ctx, s.release("a.zip")); !errors.Is(err, cause) {
		t.Errorf("err = %v, want the cause", err)
	}
	wantClean(t, root)
}

func TestReleases(t *testing.T) {
	for system, want := range map[string]string{
		"linux/amd64":   "https://github.com/leejet/stable-diffusion.cpp/releases/download/master-920-2f88688/sd-master-2f88688-bin-Linux-Ubuntu-24.04-x86_64-vulkan.zip",
		"windows/amd64": "https://github.com/leejet/stable-diffusion.cpp/releases/download/master-920-2f88688/sd-master-2f88688-bin-win-vulkan-x64.zip",
		"darwin/arm64":  "https://github.com/leejet/stable-diffusion.cpp/releases/download/master-920-2f88688/sd-master-2f88688-bin-Darwin-macOS-26.6.2-arm64.zip",
		"windows/arm64": "",
	} {
		goos, goarch, _ := strings.Cut(system, "/")
		if r, err := SDCpp(goos, goarch, "", ""); r.URL != want || (err == nil) != (want != "") {
			t.Errorf("%s: %s, %v", system, r.URL, err)
		}
	}
	if r, err := SDCpp("linux", "amd64", "master-1-abcdef0", ""); err != nil || r.Asset != "sd-master-abcdef0-bin-Linux-Ubuntu-24.04-x86_64-vulkan.zip" {
		t.Errorf("another tag: %+v, %v", r, err)
	}
	if r, err := SDCpp("plan9", "amd64", "", "https://models.example/own.zip"); err != nil || r.URL != "https://models.example/own.zip" || r.Asset != "own.zip" || r.Repo != "" {
		t.Errorf("an address: %+v, %v", r, err)
	}
	if _, err := SDCpp("linux", "amd64", "", "https://models.example/"); err == nil {
		t.Error("an address of nothing: no error")
	}
	for system, want := range map[string]string{
		"linux/amd64": "onnxruntime-linux-x64-1.24.2.tgz", "linux/arm64": "onnxruntime-linux-aarch64-1.24.2.tgz", "darwin/arm64": "onnxruntime-osx-arm64-1.24.2.tgz",
		"windows/amd64": "onnxruntime-win-x64-1.24.2.zip", "windows/arm64": "onnxruntime-win-arm64-1.24.2.zip", "darwin/amd64": "",
	} {
		goos, goarch, _ := strings.Cut(system, "/")
		if r, err := Runtime(goos, goarch); r.Asset != want || (err == nil) != (want != "") {
			t.Errorf("%s: %s, %v", system, r.Asset, err)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(zipOf(f, file{name: "a/tool", text: "x"}, file{name: "b", text: "y"}), true)
	f.Add(tarOf(f, file{name: "a/tool", text: "x"}, file{name: "b", link: "tool"}), false)
	f.Fuzz(func(t *testing.T, data []byte, zipped bool) {
		dir := t.TempDir()
		outer, stage := filepath.Join(dir, "outer"), filepath.Join(dir, "outer", "stage")
		if err := os.MkdirAll(stage, 0o700); err != nil {
			t.Fatal(err)
		}
		name := "a.tgz"
		if zipped {
			name = "a.zip"
		}
		archive := filepath.Join(dir, name)
		if err := os.WriteFile(archive, data, 0o600); err != nil {
			t.Fatal(err)
		}
		_ = unpack(archive, name, stage) // most are refused
		if entries, err := os.ReadDir(outer); err != nil || len(entries) != 1 {
			t.Errorf("something was written outside: %v, %v", entries, err)
		}
	})
}
