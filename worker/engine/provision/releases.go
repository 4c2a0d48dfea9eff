package provision

import (
	"fmt"
	"net/url"
	"path"
	"strings"
)

// The releases that this worker was made for (engines spec §4.2).
const (
	sdTag      = "master-920-2f88688"
	SDCommit   = "2f88688"
	runtimeTag = "v1.24.2"
)

// Release is one archive with a program or library in it.
type Release struct {
	Engine string // as people name it
	Repo   string // owner/name of the project; empty = URL says all
	Tag    string
	Asset  string // name of the archive
	URL    string
	// SHA256 is that of the archive in hex; empty = the project's release page says
	// it, and nobody does of an archive that the person named.
	SHA256 string
	Dir    string // of the models folder, where it is put
	File   string // what must be in it
}

// SDCpp is the release of sd-cli for a system. tag and address come from
// STUDIO_WORKER_SDCPP_RELEASE and STUDIO_WORKER_SDCPP_URL; empty = the pinned one.
func SDCpp(goos, goarch, tag, address string) (Release, error) {
	r := Release{Engine: "sd-cpp", Repo: "leejet/stable-diffusion.cpp", Tag: sdTag, Dir: "bin", File: "sd-cli"}
	if goos == "windows" {
		r.File += ".exe"
	}
	if address != "" {
		return override(r, address)
	}
	if tag != "" {
		r.Tag = tag
	}
	suffix := map[string]string{
		"windows/amd64": "win-vulkan-x64", "linux/amd64": "Linux-Ubuntu-24.04-x86_64-vulkan",
		"darwin/arm64": "Darwin-macOS-26.6.2-arm64", "darwin/amd64": "Darwin-macOS-26.6.2-arm64", // it is for both
	}[goos+"/"+goarch]
	commit := r.Tag[strings.LastIndex(r.Tag, "-")+1:]
	if suffix == "" {
		return Release{}, fmt.Errorf("no sd-cli is published for %s on %s; build stable-diffusion.cpp and set STUDIO_WORKER_SD_CLI", goos, goarch)
	}
	return r.named("sd-master-" + commit + "-bin-" + suffix + ".zip"), nil
}

// Runtime is the release of the ONNX Runtime for a system, for the processor.
func Runtime(goos, goarch string) (Release, error) {
	r := Release{Engine: "onnxruntime", Repo: "microsoft/onnxruntime", Tag: runtimeTag, Dir: path.Join("onnxruntime", runtimeTag), File: "libonnxruntime.so"}
	version := strings.TrimPrefix(runtimeTag, "v")
	switch goos + "/" + goarch {
	case "linux/amd64":
		return r.named("onnxruntime-linux-x64-" + version + ".tgz"), nil
	case "linux/arm64":
		return r.named("onnxruntime-linux-aarch64-" + version + ".tgz"), nil
	case "darwin/arm64":
		r.File = "libonnxruntime.dylib"
		return r.named("onnxruntime-osx-arm64-" + version + ".tgz"), nil
	case "windows/amd64":
		r.File = "onnxruntime.dll"
		return r.named("onnxruntime-win-x64-" + version + ".zip"), nil
	case "windows/arm64":
		r.File = "onnxruntime.dll"
		return r.named("onnxruntime-win-arm64-" + version + ".zip"), nil
	default:
		return Release{}, fmt.Errorf("no ONNX Runtime is published for %s on %s; set ORT_DYLIB_PATH to one of your own", goos, goarch)
	}
}

// named gives a release its archive.
func (r Release) named(asset string) Release {
	r.Asset = asset
	r.URL = "https://github.com/" + r.Repo + "/releases/download/" + r.Tag + "/" + asset
	return r
}

// override is a release at an address of the person's: what lies there is what
// they want.
func override(r Release, address string) (Release, error) {
	u, err := url.Parse(address)
	if err != nil || path.Base(u.Path) == "." || path.Base(u.Path) == "/" {
		return Release{}, fmt.Errorf("the address of %s names no archive", r.Engine)
	}
	r.Repo, r.Tag, r.Asset, r.URL = "", "", path.Base(u.Path), address
	return r, nil
}
