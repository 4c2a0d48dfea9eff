package runtime

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"
)

// Libraries finds the ONNX Runtime. It is asked at each heartbeat, and one of the
// system's folders has thousands of files: a folder is read again only when it has
// changed. The zero Libraries is ready; it is safe for concurrent use.
type Libraries struct {
	mu      sync.Mutex
	folders map[[2]string]folder // by its path and the pattern that is looked for
}

// folder is what was found when it was last read.
type folder struct {
	changed time.Time
	found   []string
}

// young is the age below which a folder may change once more without its time telling:
// file systems keep that in steps of up to two seconds.
const young = 3 * time.Second

// Find returns the path of the ONNX Runtime, or nothing: what the variable
// ORT_DYLIB_PATH names, else what lies in the models folder, else what the system
// has (engines spec §3, §6).
func (l *Libraries) Find(variable, modelsRoot string) string {
	if variable != "" {
		return variable
	}
	name := "libonnxruntime.so*"
	switch runtime.GOOS {
	case "windows":
		name = "onnxruntime.dll"
	case "darwin":
		name = "libonnxruntime*.dylib"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	own, fetched := filepath.Join(modelsRoot, "onnxruntime"), filepath.Join(modelsRoot, "engines", "onnxruntime")
	places := [][]string{{own}, l.in(own, "*"), l.in(fetched, "*")}
	if runtime.GOOS != "windows" {
		places = append(places, []string{"/usr/local/lib"}, []string{"/opt/homebrew/lib"}, []string{"/usr/lib64"}, []string{"/usr/lib"}, l.in("/usr/lib", "*-linux-gnu"))
	}
	for _, folders := range places {
		var found []string
		for _, path := range folders {
			found = append(found, l.in(path, name)...)
		}
		if len(found) > 0 {
			return slices.Min(found)
		}
	}
	return ""
}

// in lists what in a folder has a name like pattern. A folder that cannot be read holds
// nothing for us.
func (l *Libraries) in(path, pattern string) []string {
	info, err := os.Stat(path)
	if err != nil {
		return nil
	}
	key := [2]string{path, pattern}
	if known, ok := l.folders[key]; ok && known.changed.Equal(info.ModTime()) {
		return known.found
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil
	}
	now := folder{changed: info.ModTime()}
	for _, e := range entries {
		if fits, _ := filepath.Match(pattern, e.Name()); fits { // ours are well formed
			now.found = append(now.found, filepath.Join(path, e.Name()))
		}
	}
	if time.Since(now.changed) < young {
		delete(l.folders, key)
		return now.found
	}
	if l.folders == nil {
		l.folders = map[[2]string]folder{}
	}
	l.folders[key] = now
	return now.found
}
