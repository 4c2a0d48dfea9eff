package runtime

import (
	"path/filepath"
	"runtime"
	"slices"
)

// FindLibrary returns the path of the ONNX Runtime, or nothing: what the variable
// ORT_DYLIB_PATH names, else what lies in the models folder, else what the system
// has (engines spec §3, §6).
func FindLibrary(variable, modelsRoot string) string {
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
	folders := []string{filepath.Join(modelsRoot, "onnxruntime"), filepath.Join(modelsRoot, "onnxruntime", "*"), filepath.Join(modelsRoot, "engines", "onnxruntime", "*")}
	if runtime.GOOS != "windows" {
		folders = append(folders, "/usr/local/lib", "/opt/homebrew/lib", "/usr/lib64", "/usr/lib", "/usr/lib/*-linux-gnu")
	}
	for _, folder := range folders {
		found, err := filepath.Glob(filepath.Join(folder, name))
		if err != nil || len(found) == 0 {
			continue // a folder whose name is a pattern holds nothing for us
		}
		slices.Sort(found)
		return found[0]
	}
	return ""
}
