//go:build linux && cgo

package gpu

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// fakeNVML compiles a management library with two cards and returns its path.
func fakeNVML(t *testing.T) string {
	t.Helper()
	compiler, err := exec.LookPath("gcc")
	if err != nil {
		t.Skipf("no C compiler to make a library with: %v", err)
	}
	path := filepath.Join(t.TempDir(), "libnvidia-ml.so.1")
	if out, err := exec.CommandContext(t.Context(), compiler, "-shared", "-fPIC", "-o", path, "testdata/nvml.c").CombinedOutput(); err != nil {
		t.Fatalf("compile the library: %v\n%s", err, out)
	}
	return path
}

// setFault tells the library, which reads the environment of the C program around it.
func setFault(t *testing.T, fault string) {
	t.Helper()
	t.Setenv("NVML_FAULT", fault)
}

func TestNVMLListsEachCard(t *testing.T) {
	p := New(Config{SMI: absent(t), Sys: fstest.MapFS{}, Cards: noCards})
	p.nvml = newNVMLAt(fakeNVML(t))
	got, err := p.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantDevices(t, got, []Device{
		{Name: "NVIDIA GeForce RTX 4090", Vendor: "NVIDIA", TotalBytes: 25757220864, FreeBytes: 24146608128, Driver: "nvidia 550.54.14"},
		{Name: "NVIDIA GB10", Vendor: "NVIDIA", Driver: "nvidia 550.54.14", Note: NoteUnified},
	})
}

// A library that is not there, or too old, leaves the question to nvidia-smi without a
// warning; one that fails leaves it there too, and is named.
func TestNVMLGivesWayToSMI(t *testing.T) {
	library := fakeNVML(t)
	old := filepath.Join(t.TempDir(), "old.so")
	if out, err := exec.CommandContext(t.Context(), "gcc", "-shared", "-o", old, "-x", "c", os.DevNull).CombinedOutput(); err != nil {
		t.Fatalf("compile the library: %v\n%s", err, out)
	}
	tests := []struct{ name, library, fault, want string }{
		{"absent", filepath.Join(t.TempDir(), "absent.so"), "", ""},
		{"too old", old, "", ""},
		{"no driver", library, "driver", "Driver Not Loaded"},
		{"too many cards", library, "many", errNVMLTooMany.Error()},
		{"no name", library, "nameless", errNVMLBadCard.Error()},
		{"more free than there is", library, "more", errNVMLBadCard.Error()},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			setFault(t, test.fault)
			var heard bytes.Buffer
			p := New(Config{Logger: slog.New(slog.NewTextHandler(&heard, nil)), SMI: fakeSMI(t, "smi-two"), Sys: fstest.MapFS{}, Cards: noCards})
			p.nvml = newNVMLAt(test.library)
			got, err := p.List(t.Context())
			if err != nil || len(got) != 2 || got[1].Name != "NVIDIA H200" {
				t.Errorf("got %+v, %v, want nvidia-smi's two cards", got, err)
			}
			if said := heard.String(); (said == "") != (test.want == "") || !strings.Contains(said, test.want) {
				t.Errorf("logged %q, want %q", said, test.want)
			}
		})
	}
}

// A card that fell off the bus is listed, and why it tells nothing is said.
func TestNVMLSaysWhyMemoryIsUnknown(t *testing.T) {
	setFault(t, "lost")
	cards, err := newNVMLAt(fakeNVML(t)).read(t.Context())
	if err != nil || len(cards) != 2 || cards[0].Note != "GPU is lost" || cards[0].TotalBytes != 0 {
		t.Errorf("got %+v, %v", cards, err)
	}
}

// A driver that hangs holds one thread, however often it is asked.
func TestNVMLHangingDriverIsAskedOnce(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	setFault(t, "hang")
	t.Setenv("NVML_PIPE", strconv.Itoa(int(r.Fd())))
	n := newNVMLAt(fakeNVML(t))
	done := make(chan error, 1)
	go func() {
		_, err := n.read(t.Context())
		done <- err
	}()
	for len(n.idle) == 0 { // until the first question is under way
		select {
		case err := <-done:
			t.Fatalf("the first question ended: %v", err)
		default:
		}
	}
	if _, err := n.read(t.Context()); !errors.Is(err, errNVMLHangs) {
		t.Errorf("second question: %v, want %v", err, errNVMLHangs)
	}
	if _, err := w.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("the first question, answered late: %v", err)
	}
	setFault(t, "")
	if cards, err := n.read(t.Context()); err != nil || !slices.ContainsFunc(cards, func(f found) bool { return f.TotalBytes > 0 }) {
		t.Errorf("after the driver woke: %+v, %v", cards, err)
	}
	if err := errors.Join(r.Close(), w.Close()); err != nil {
		t.Error(err)
	}
}
