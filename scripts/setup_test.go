//go:build unix

// Package scripts_test runs the scripts of this folder against made-up systems.
package scripts_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The packages that each family's table must name, for each part.
const (
	debianWindow = "gcc libc6-dev pkg-config libgl1-mesa-dev libx11-dev libxcursor-dev libxrandr-dev" +
		" libxi-dev libxinerama-dev libxxf86vm-dev"
	fedoraWindow = "gcc glibc-devel pkgconf-pkg-config mesa-libGL-devel libX11-devel libXcursor-devel" +
		" libXrandr-devel libXi-devel libXinerama-devel libXxf86vm-devel"
	debianClients = "nodejs npm python3 python3-venv"
	fedoraClients = "nodejs nodejs-npm python3 python3-libs"

	aptUpdate  = "env DEBIAN_FRONTEND=noninteractive apt-get -q -y update"
	aptInstall = "env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends "
	dnfInstall = "dnf install -y --setopt=install_weak_deps=False "

	debian = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n"
	ubuntu = "NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=debian\n"
	fedora = "NAME=\"Fedora Linux\"\nID=fedora\n"
	mint   = "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"
	rocky  = "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"
	arch   = "ID=arch\n"
)

// setup runs scripts/setup without carrying anything out. It returns the commands it
// would run, its whole output, and its exit code.
func setup(t *testing.T, root, osRelease string, args ...string) (commands []string, output string, code int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "os-release")
	if err := os.WriteFile(file, []byte(osRelease), 0o600); err != nil {
		t.Fatal(err)
	}
	args = append([]string{"setup", "--dry-run", "--system", "Linux", "--root", root, "--os-release", file}, args...)
	cmd := exec.CommandContext(t.Context(), "sh", args...)
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if command, ok := strings.CutPrefix(line, "setup: + "); ok {
			// Whether sudo is used depends on who runs the tests.
			command = strings.TrimPrefix(strings.TrimPrefix(command, "sudo "), "-n ")
			commands = append(commands, strings.TrimSpace(command))
		}
	}
	return commands, string(out), code
}

// put makes an empty executable file under root.
func put(t *testing.T, root string, names ...string) {
	t.Helper()
	for _, name := range names {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSetupCommands(t *testing.T) {
	const lists = "var/lib/apt/lists/mirror_dists_stable_main_binary-amd64_Packages"
	tests := []struct {
		name      string
		osRelease string
		part      string
		present   []string
		want      []string
	}{
		{"debian, fresh image", debian, "test", nil, []string{aptUpdate, aptInstall + "espeak-ng " + debianWindow + " xvfb dbus openbox xdotool chromium " + debianClients}},
		{"debian, with package lists", debian, "test", []string{lists}, []string{aptInstall + "espeak-ng " + debianWindow + " xvfb dbus openbox xdotool chromium " + debianClients}},
		{"debian, headless", debian, "headless", []string{lists}, []string{aptInstall + "espeak-ng"}},
		{"debian, window", debian, "window", []string{lists}, []string{aptInstall + "espeak-ng " + debianWindow}},
		{"debian, all", debian, "all", []string{lists}, []string{aptInstall + "espeak-ng " + debianWindow + " xvfb dbus openbox xdotool chromium " + debianClients + " ffmpeg g++ cmake make python3-pip imagemagick"}},
		{"debian, engines", debian, "engines", []string{lists}, []string{aptInstall + "espeak-ng " + debianWindow + " xvfb dbus openbox xdotool chromium " + debianClients + " ffmpeg g++ cmake make python3-pip"}},
		{"fedora, engines", fedora, "engines", nil, []string{dnfInstall + "espeak-ng " + fedoraWindow + " xorg-x11-server-Xvfb dbus-daemon openbox xdotool chromium " + fedoraClients + " ffmpeg-free gcc-c++ cmake make python3-pip"}},
		{"ubuntu", ubuntu, "test", []string{lists}, []string{aptInstall + "espeak-ng " + debianWindow + " xvfb dbus openbox xdotool chromium-browser " + debianClients}},
		{"like ubuntu", mint, "headless", []string{lists}, []string{aptInstall + "espeak-ng"}},
		{"fedora", fedora, "test", nil, []string{dnfInstall + "espeak-ng " + fedoraWindow + " xorg-x11-server-Xvfb dbus-daemon openbox xdotool chromium " + fedoraClients}},
		{"fedora, screenshots", fedora, "screenshots", nil, []string{dnfInstall + "espeak-ng " + fedoraWindow + " xorg-x11-server-Xvfb dbus-daemon openbox xdotool chromium " + fedoraClients + " ImageMagick"}},
		{"debian, release", debian, "release", []string{lists}, []string{aptInstall + "espeak-ng " + debianWindow + " binutils gettext-base zip"}},
		{"fedora, release", fedora, "release", nil, []string{dnfInstall + "espeak-ng " + fedoraWindow + " binutils gettext-envsubst zip"}},
		{
			"debian, only proofs of a release are missing", debian, "release-check",
			[]string{
				lists, "usr/bin/espeak-ng", "usr/bin/gcc", "usr/include/stdio.h", "usr/bin/pkg-config", "usr/include/GL/gl.h", "usr/include/X11/Xlib.h",
				"usr/include/X11/Xcursor/Xcursor.h", "usr/include/X11/extensions/Xrandr.h", "usr/include/X11/extensions/XInput2.h",
				"usr/include/X11/extensions/Xinerama.h", "usr/include/X11/extensions/xf86vmode.h", "usr/bin/zip", "usr/bin/objdump", "usr/bin/envsubst",
				"usr/sbin/debootstrap",
			},
			[]string{aptInstall + "unzip minisign desktop-file-utils appstream systemd man-db lintian rpm wine wine64"},
		},
		{"like fedora", rocky, "headless", nil, []string{dnfInstall + "espeak-ng"}},
		{
			"only what is missing", fedora, "test",
			[]string{"usr/bin/espeak-ng", "usr/bin/gcc", "usr/include/stdio.h", "usr/bin/pkg-config", "usr/include/GL/gl.h"},
			[]string{dnfInstall + strings.TrimPrefix(fedoraWindow, "gcc glibc-devel pkgconf-pkg-config mesa-libGL-devel ") + " xorg-x11-server-Xvfb dbus-daemon openbox xdotool chromium " + fedoraClients},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			put(t, root, test.present...)
			got, output, code := setup(t, root, test.osRelease, test.part)
			if code != 0 || strings.Join(got, "\n") != strings.Join(test.want, "\n") {
				t.Errorf("exit code %d, commands:\n%s\nwant:\n%s\nwhole output:\n%s",
					code, strings.Join(got, "\n"), strings.Join(test.want, "\n"), output)
			}
		})
	}
}

func TestSetupWithEverythingInstalled(t *testing.T) {
	root := t.TempDir()
	put(t, root,
		"usr/bin/espeak-ng", "usr/bin/gcc", "usr/bin/pkg-config", "usr/bin/Xvfb", "usr/bin/dbus-daemon", "usr/bin/chromium",
		"usr/bin/ffmpeg", "usr/bin/g++", "usr/bin/cmake", "usr/bin/make", "usr/bin/pip",
		"usr/bin/openbox", "usr/bin/xdotool", "usr/bin/import",
		"usr/bin/node", "usr/bin/npm", "usr/bin/python3", "usr/lib/python3.11/ensurepip/__init__.py",
		// Debian puts the C library's headers into a folder of the processor's name.
		"usr/include/x86_64-linux-gnu/stdio.h", "usr/include/GL/gl.h", "usr/include/X11/Xlib.h",
		"usr/include/X11/Xcursor/Xcursor.h", "usr/include/X11/extensions/Xrandr.h",
		"usr/include/X11/extensions/XInput2.h", "usr/include/X11/extensions/Xinerama.h",
		"usr/include/X11/extensions/xf86vmode.h")
	// A system that the script does not know is no obstacle when nothing is missing.
	for _, osRelease := range []string{debian, fedora, arch} {
		_, output, code := setup(t, root, osRelease, "all")
		if code != 0 || output != "setup: nothing to install\n" {
			t.Errorf("exit code %d, output %q, want 0 and nothing to install", code, output)
		}
	}
}

func TestSetupNamesWhatIsMissingOnAnUnknownSystem(t *testing.T) {
	commands, output, code := setup(t, t.TempDir(), arch, "test")
	if code == 0 || len(commands) != 0 {
		t.Errorf("exit code %d, commands %q, want a refusal", code, commands)
	}
	for _, want := range []string{"(arch)", "espeak-ng", "GL/gl.h", "X11/extensions/Xrandr.h", "Xvfb", "dbus-daemon", "chromium"} {
		if !strings.Contains(output, want) {
			t.Errorf("output lacks %q:\n%s", want, output)
		}
	}
}

func TestReleasesAreProvenOnDebian(t *testing.T) {
	commands, output, code := setup(t, t.TempDir(), fedora, "release-check")
	if code == 0 || len(commands) != 0 || !strings.Contains(output, "Debian and Ubuntu") {
		t.Errorf("exit code %d, commands %q, output %q, want a refusal", code, commands, output)
	}
}

func TestSetupOnMacOS(t *testing.T) {
	root := t.TempDir()
	commands, output, code := setup(t, root, "", "--system", "Darwin")
	if code == 0 || len(commands) != 0 || !strings.Contains(output, "xcode-select --install") {
		t.Errorf("without the tools: exit code %d, commands %q, output %q", code, commands, output)
	}
	put(t, root, "Library/Developer/CommandLineTools/usr/bin/clang")
	commands, output, code = setup(t, root, "", "--system", "Darwin")
	if code != 0 || len(commands) != 0 || !strings.Contains(output, "brew install espeak-ng") {
		t.Errorf("with the tools, without espeak-ng: exit code %d, commands %q, output %q", code, commands, output)
	}
}

func TestSetupRefusesUnknownArguments(t *testing.T) {
	for _, args := range [][]string{{"everything"}, {"--root"}, {"--system", "Plan9"}} {
		if _, output, code := setup(t, t.TempDir(), debian, args...); code == 0 || output == "" {
			t.Errorf("%q: exit code %d, output %q, want a refusal", args, code, output)
		}
	}
}
