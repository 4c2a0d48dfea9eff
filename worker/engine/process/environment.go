package process

import (
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
