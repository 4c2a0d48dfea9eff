package program

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func TestFinder(t *testing.T) {
	onPath, other, home := t.TempDir(), t.TempDir(), t.TempDir()
	places := Places{Home: home, Path: onPath}
	install := func(folder string) string {
		t.Helper()
		path := filepath.Join(folder, fileName("tool"))
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	synctest.Test(t, func(t *testing.T) {
		var f Finder
		look := func(what, want string) {
			t.Helper()
			if found, ok := f.Find(places, Query{Name: "tool"}); found.Path != want || ok != (want != "") {
				t.Errorf("%s: found %q, %v, want %q", what, found.Path, ok, want)
			}
		}
		look("nothing there", "")
		path := install(onPath)
		time.Sleep(pathMemory - time.Nanosecond)
		look("remembered that nothing is there", "")
		time.Sleep(time.Nanosecond)
		look("after half a minute", path)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		look("a program that has gone", "")
		install(onPath)
		look("remembered again", "")
		f.Forget()
		look("forgotten", path)
		places.Path = other
		look("another PATH", "")
		near := install(filepath.Join(home, ".local", "bin"))
		look("beside PATH", near)
		if found, ok := f.Find(places, Query{Name: "another"}); ok {
			t.Errorf("another name: %+v", found)
		}
	})
}
