// Package program finds the programs that engines run, and asks them what they
// are (engines spec §4.1).
//
// The engines call it for every look at what they can serve, so it must be
// cheap: finding looks at a few files, and a program is asked once for as long
// as its file does not change. It never fetches anything.
package program

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"studioworker/worker/engine/process"
)

// Origin says by which of the places a program was found.
type Origin string

// The origins, in the order of the search.
const (
	OriginVariable Origin = "variable" // named by an environment variable
	OriginSlot     Origin = "slot"     // in the models folder, where fetched releases lie
	OriginHome     Origin = "home"     // in ~/.local/bin
	OriginPath     Origin = "path"     // in a folder of PATH
)

// Places is where programs may be.
type Places struct {
	// Home is the home folder; .local/bin in it comes before Path.
	Home string
	// Path is a list of folders in the form of PATH. Relative ones are skipped.
	Path string
	// Environ is the worker's environment; see Environment.
	Environ []string
}

// Query asks for one program.
type Query struct {
	// Name is the base name, without .exe.
	Name string
	// Variable is the value of the environment variable that names the program. It
	// counts when it is a file that can be run.
	Variable string
	// Slots are folders of the models folder, the first one first.
	Slots []string
}

// Found is a program that is there.
type Found struct {
	Path   string // absolute
	Origin Origin
}

// Find looks for a program (engines spec §4.1). It says false when there is
// none.
func (p Places) Find(q Query) (Found, bool) {
	if found, ok := p.findNear(q); ok {
		return found, true
	}
	return p.findOnPath(q)
}

// findNear is Find without the folders of PATH.
func (p Places) findNear(q Query) (Found, bool) {
	if q.Variable != "" && isProgram(q.Variable) {
		if path, err := filepath.Abs(q.Variable); err == nil {
			return Found{path, OriginVariable}, true // the program runs in another folder
		}
	}
	name := fileName(q.Name)
	for _, folder := range q.Slots {
		if path := filepath.Join(folder, name); filepath.IsAbs(folder) && isProgram(path) {
			return Found{path, OriginSlot}, true
		}
	}
	if p.Home != "" {
		if path := filepath.Join(p.Home, ".local", "bin", name); filepath.IsAbs(path) && isProgram(path) {
			return Found{path, OriginHome}, true
		}
	}
	return Found{}, false
}

func (p Places) findOnPath(q Query) (Found, bool) {
	name := fileName(q.Name)
	for _, folder := range filepath.SplitList(p.Path) {
		if path := filepath.Join(folder, name); filepath.IsAbs(folder) && isProgram(path) {
			return Found{path, OriginPath}, true
		}
	}
	return Found{}, false
}

// fileName is the name of a program's file on this system.
func fileName(name string) string {
	if runtime.GOOS == "windows" {
		return name + ".exe"
	}
	return name
}

// isProgram tells whether path is a file that can be run.
func isProgram(path string) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	return runtime.GOOS == "windows" || info.Mode()&0o111 != 0
}

// libraryPath is the variable in which the loader of this system looks for
// libraries; empty where programs find those beside them by themselves.
func libraryPath() string {
	switch runtime.GOOS {
	case "windows":
		return ""
	case "darwin":
		return "DYLD_LIBRARY_PATH"
	default:
		return "LD_LIBRARY_PATH"
	}
}

// Environment is what a program may see: the part of the worker's environment
// that process.Environment lets through, and the folder of the program in the
// library path when libraries lie beside it, before what the worker itself was
// given (engines spec §2).
func (p Places) Environment(path string) []string {
	env := process.Environment(p.Environ)
	name := libraryPath()
	if name == "" {
		return env
	}
	var folders []string
	if dir := filepath.Dir(path); hasLibrary(dir) {
		folders = append(folders, dir)
	}
	for _, entry := range p.Environ {
		if key, value, _ := strings.Cut(entry, "="); key == name && value != "" {
			folders = append(folders, value)
		}
	}
	if len(folders) > 0 {
		env = append(env, name+"="+strings.Join(folders, string(filepath.ListSeparator)))
	}
	return env
}

// hasLibrary tells whether a shared library lies in a folder.
func hasLibrary(dir string) bool {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasPrefix(name, "lib") && (strings.Contains(name, ".so") || strings.HasSuffix(name, ".dylib")) {
			return true
		}
	}
	return false
}
