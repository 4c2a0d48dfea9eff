package runtime

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// libraryName is what Find looks for on this system.
func libraryName() string {
	switch runtime.GOOS {
	case "windows":
		return "onnxruntime.dll"
	case "darwin":
		return "libonnxruntime.1.24.dylib"
	}
	return "libonnxruntime.so.1.24"
}

func put(t *testing.T, parts ...string) string {
	t.Helper()
	path := filepath.Join(parts...)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLibrariesAreFoundByOrder(t *testing.T) {
	root := filepath.Join(t.TempDir(), "mo[dels") // a name that is a pattern
	var l Libraries
	find := func(want string) {
		t.Helper()
		if got := l.Find("", root); got != want {
			t.Errorf("found %q, want %q", got, want)
		}
	}
	fetched := put(t, root, "engines", "onnxruntime", "1.24.0", libraryName())
	find(fetched)
	below := put(t, root, "onnxruntime", "lib", libraryName())
	find(below)
	put(t, root, "onnxruntime", "notes.txt")
	find(below)
	own := put(t, root, "onnxruntime", libraryName())
	find(own)
	if got := l.Find("elsewhere", root); got != "elsewhere" {
		t.Errorf("the variable gives %q", got)
	}
	if err := os.Remove(own); err != nil {
		t.Fatal(err)
	}
	find(below)
}

// TestUnchangedFoldersAreNotReadAgain: a folder whose time says that nothing has changed
// is remembered, one that has changed a moment ago is not.
func TestUnchangedFoldersAreNotReadAgain(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "onnxruntime")
	first := put(t, dir, libraryName())
	long := time.Now().Add(-time.Hour)
	age := func() {
		t.Helper()
		if err := os.Chtimes(dir, long, long); err != nil {
			t.Fatal(err)
		}
	}
	var l Libraries
	age()
	if got := l.Find("", root); got != first {
		t.Fatalf("found %q", got)
	}
	if err := os.Remove(first); err != nil {
		t.Fatal(err)
	}
	age() // as if nothing had changed
	if got := l.Find("", root); got != first {
		t.Errorf("found %q: the folder was read again", got)
	}
	put(t, dir, "notes.txt")
	if got := l.Find("", root); got == first {
		t.Error("the folder has changed and was not read again")
	}
}
