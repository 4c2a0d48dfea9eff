package process

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Environment returns the part of environ, in the form of os.Environ, that a
// child may see: where programs, the home and temporary folders are, the
// language, and the settings of GPU drivers (engines spec §2). Everything else,
// credentials and proxies above all, stays here.
func Environment(environ []string) []string {
	names := []string{"PATH", "HOME", "TEMP", "LANG"}
	prefixes := []string{"TMP", "VK_", "CUDA_", "HIP_", "XDG_"}
	windows := runtime.GOOS == "windows"
	if windows { // without the first, most programs do not even start
		names = append(names, "SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "USERPROFILE", "LOCALAPPDATA")
	}
	allowed := []string{}
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if windows {
			name = strings.ToUpper(name)
		}
		if slices.Contains(names, name) || slices.ContainsFunc(prefixes, func(p string) bool {
			return strings.HasPrefix(name, p)
		}) {
			allowed = append(allowed, entry)
		}
	}
	return allowed
}

// EngineEnvironment is Environment for a program in folder dir. When libraries lie
// beside it, dir comes first where the loader looks for them, and what the worker
// was given for that follows (engines spec §2). Windows looks there by itself.
func EngineEnvironment(environ []string, dir string) []string {
	allowed := Environment(environ)
	variable, pattern := "LD_LIBRARY_PATH", "*.so*"
	switch runtime.GOOS {
	case "windows":
		return allowed
	case "darwin":
		variable, pattern = "DYLD_LIBRARY_PATH", "*.dylib"
	}
	inherited := ""
	for _, entry := range environ {
		if value, ok := strings.CutPrefix(entry, variable+"="); ok {
			inherited = value
		}
	}
	search := inherited
	if beside, err := filepath.Glob(filepath.Join(escapeGlob(dir), pattern)); err == nil && len(beside) > 0 {
		search = dir
		if inherited != "" {
			search += string(os.PathListSeparator) + inherited
		}
	}
	if search != "" {
		allowed = append(allowed, variable+"="+search)
	}
	return allowed
}

// escapeGlob makes a pattern that matches the path itself.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
