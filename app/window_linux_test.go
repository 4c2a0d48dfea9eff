//go:build !headless

package app

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// windowPatience bounds each wait for the window: a software renderer with the race
// detector on a busy machine is slow.
const windowPatience = 90 * time.Second

// personDesktop is a display of its own, with a window manager, a session bus, and a person
// at mouse and keyboard.
type personDesktop struct {
	environ []string
	bus     string
	screen  string        // the file that Xvfb keeps its picture in
	frames  *frameCounter // nil = not counted
}

// newDesktop starts what a desktop has.
func newDesktop(tb testing.TB) *personDesktop {
	tb.Helper()
	d := newScreen(tb)
	d.manage(tb)
	return d
}

// newScreen starts a desktop without a window manager. more are arguments of Xvfb.
func newScreen(tb testing.TB, more ...string) *personDesktop {
	tb.Helper()
	frames := tb.TempDir()
	args := append([]string{"-displayfd", "3", "-screen", "0", "1024x768x24", "-fbdir", frames, "+extension", "GLX", "-nolisten", "tcp", "-noreset"}, more...)
	display := startNamed(tb, nil, "Xvfb", args...)
	d := &personDesktop{
		bus:    startNamed(tb, nil, "dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address=3"),
		screen: filepath.Join(frames, "Xvfb_screen0"),
	}
	d.show(display)
	return d
}

// show has programs draw on a display.
func (d *personDesktop) show(display string) {
	d.environ = []string{"DISPLAY=:" + display, "DBUS_SESSION_BUS_ADDRESS=" + d.bus, "LANG=en_US.UTF-8", "FYNE_THEME=dark", "FYNE_SCALE=1"}
}

// manage starts a window manager.
func (d *personDesktop) manage(tb testing.TB) {
	tb.Helper()
	manager := exec.CommandContext(tb.Context(), lookPath(tb, "openbox"))
	manager.Env = append(d.environ, "HOME="+tb.TempDir(), "PATH="+os.Getenv("PATH"))
	startUntilEnd(tb, manager)
}

// lookPath finds a program that the test needs.
func lookPath(tb testing.TB, name string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		tb.Fatalf("%s is missing: run scripts/setup", name)
	}
	return path
}

// startUntilEnd runs a program until the test ends.
func startUntilEnd(tb testing.TB, cmd *exec.Cmd) {
	tb.Helper()
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = cmd.Wait() }) // killed by its context
}

// startNamed runs a program until the test ends, and returns the line that it
// writes to its fourth file when it is ready.
func startNamed(tb testing.TB, environ []string, name string, args ...string) string {
	tb.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.CommandContext(tb.Context(), lookPath(tb, name), args...)
	cmd.ExtraFiles, cmd.Env = []*os.File{w}, environ
	startUntilEnd(tb, cmd)
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	if err = errors.Join(err, r.Close()); err != nil {
		tb.Fatalf("%s ended before it was ready: %v", name, err)
	}
	return strings.TrimSpace(line)
}

// do has the person act: arguments of xdotool.
func (d *personDesktop) do(tb testing.TB, args ...string) string {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), lookPath(tb, "xdotool"), args...)
	cmd.Env = append(d.environ, "PATH="+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		tb.Fatalf("xdotool %q: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// keys presses keys one after the other.
func (d *personDesktop) keys(tb testing.TB, names ...string) {
	tb.Helper()
	d.do(tb, append([]string{"key", "--clearmodifiers", "--delay", "120"}, names...)...)
}

// click presses the mouse at a point of the screen.
func (d *personDesktop) click(tb testing.TB, p image.Point) {
	tb.Helper()
	d.do(tb, "mousemove", strconv.Itoa(p.X), strconv.Itoa(p.Y), "sleep", "0.3", "click", "1")
}

// xwd is a picture of a screen, or its head.
type xwd []byte

// xwdHead is the length of what describes the picture.
const xwdHead = 100

// field is a number that describes the picture, by its place.
func (x xwd) field(i int) int { return int(binary.BigEndian.Uint32(x[4*i:])) }

// start is where the pixels begin.
func (x xwd) start() int { return x.field(0) + 12*x.field(19) }

// picture reads what is on the screen, in the form of xwd.
func (d *personDesktop) picture(tb testing.TB) *image.RGBA {
	tb.Helper()
	data, err := os.ReadFile(d.screen)
	if err != nil {
		tb.Fatal(err)
	}
	if len(data) < xwdHead {
		tb.Fatalf("the screen's picture has %d bytes", len(data))
	}
	x := xwd(data)
	width, height, line, start := x.field(4), x.field(5), x.field(12), x.start()
	if x.field(11) != 32 || len(data) < start+line*height {
		tb.Fatalf("the screen has %d bits a pixel and %d bytes", x.field(11), len(data))
	}
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			at := start + y*line + 4*x
			img.SetRGBA(x, y, color.RGBA{R: data[at+2], G: data[at+1], B: data[at], A: 255})
		}
	}
	return img
}

// patch finds the box around all pixels of nearly that colour inside a part of
// the screen, and counts them.
func patch(img *image.RGBA, within image.Rectangle, c color.RGBA) (box image.Rectangle, n int) {
	near := func(a, b uint8) bool { return max(a, b)-min(a, b) < 14 }
	for y := within.Min.Y; y < within.Max.Y; y++ {
		for x := within.Min.X; x < within.Max.X; x++ {
			if p := img.RGBAAt(x, y); near(p.R, c.R) && near(p.G, c.G) && near(p.B, c.B) {
				box = box.Union(image.Rect(x, y, x+1, y+1))
				n++
			}
		}
	}
	return box, n
}

// awaitPatch waits for many pixels of a colour, and that they stay where they are.
func (d *personDesktop) awaitPatch(tb testing.TB, what string, within image.Rectangle, c color.RGBA, many int) image.Rectangle {
	tb.Helper()
	var box, last image.Rectangle
	eventually(tb, what, func() bool {
		var n int
		last = box
		box, n = patch(d.picture(tb), within, c)
		return n >= many && box == last
	})
	return box
}

// eventually waits until a condition outside of this process holds.
func eventually(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	for end := time.Now().Add(windowPatience); !holds(); {
		if time.Now().After(end) {
			tb.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(100 * time.Millisecond) // another process: nothing tells us
	}
}

// The colours of the dark theme that the person looks for.
var (
	accentColour = color.RGBA{0x7A, 0xB0, 0xFF, 255}
	raisedColour = color.RGBA{0x26, 0x2B, 0x35, 255}
	goodColour   = color.RGBA{0x4C, 0xC7, 0x9A, 255}
)

// openWindow starts the program in a home and waits for its window.
func (d *personDesktop) openWindow(tb testing.TB, h *home) (p *process, place image.Rectangle) {
	tb.Helper()
	p = h.start(tb, "ui")
	var id string
	eventually(tb, "the window", func() bool {
		select {
		case <-p.ended:
			tb.Fatalf("the program ended: %s", p.err)
		default:
		}
		cmd := exec.CommandContext(tb.Context(), lookPath(tb, "xdotool"), "search", "--onlyvisible", "--name", "^Studio Worker$")
		cmd.Env = append(d.environ, "PATH="+os.Getenv("PATH"))
		out, err := cmd.Output()
		id = strings.TrimSpace(string(out))
		return err == nil && id != "" && !strings.Contains(id, "\n")
	})
	d.do(tb, "windowactivate", "--sync", id)
	numbers := map[string]int{}
	for line := range strings.Lines(d.do(tb, "getwindowgeometry", "--shell", id)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		numbers[name], _ = strconv.Atoi(value) // what is no number is not asked for
	}
	place = image.Rect(numbers["X"], numbers["Y"], numbers["X"]+numbers["WIDTH"], numbers["Y"]+numbers["HEIGHT"])
	if place.Dx() < 720 || place.Dy() < 480 {
		tb.Fatalf("the window is at %v", place)
	}
	return p, place
}

// leave presses Ctrl+Q and wants a good end.
func (d *personDesktop) leave(tb testing.TB, p *process) {
	tb.Helper()
	d.keys(tb, "ctrl+q")
	select {
	case <-p.ended:
	case <-time.After(windowPatience):
		tb.Fatal("the program did not end")
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		tb.Errorf("the program ended with %d: %s", code, p.err)
	}
}

// TestAPersonAtTheWindow drives the real window with mouse and keys: the first
// start, a private studio, a job and its result, a pause, a setting, a restart.
func TestAPersonAtTheWindow(t *testing.T) {
	h, d := newHome(t), newDesktop(t)
	h.extra = d.environ
	p, place := d.openWindow(t, h)
	status := func() *runningStatus {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		a, err := ask(ctx, h.config, askStatus)
		if err != nil || a.Status == nil {
			return &runningStatus{}
		}
		return a.Status
	}

	// The one button in the accent's colour is Try it here.
	button := d.awaitPatch(t, "the button of the first start", place, accentColour, 400)
	d.click(t, button.Min.Add(button.Size().Div(2)))
	eventually(t, "the private studio", func() bool { return status().Session == "connected" })

	// Keys are for what is seen: the pages come a moment after the session.
	eventually(t, "the end of the first start", func() bool {
		_, many := patch(d.picture(t), button, accentColour)
		return many < 100
	})
	d.awaitPatch(t, "the state in the head", image.Rectangle{place.Min, image.Pt(place.Max.X, place.Min.Y+80)}, goodColour, 20)

	d.keys(t, "ctrl+n")
	d.do(t, "type", "--delay", "60", "a lighthouse in fog")
	d.keys(t, "Return")
	eventually(t, "the result", func() bool {
		n := 0
		_ = filepath.WalkDir(filepath.Join(filepath.Dir(h.config), "results"), func(_ string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				n++
			}
			return nil // a folder that is not there yet has no result
		})
		return n > 0 && status().Waiting == 0
	})

	d.keys(t, "ctrl+p")
	eventually(t, "the pause", func() bool { return status().Availability == "paused" })
	d.keys(t, "ctrl+p")
	eventually(t, "the end of the pause", func() bool { return status().Availability == "" })
	header := image.Rect(place.Max.X-220, place.Min.Y, place.Max.X, place.Min.Y+110)
	button = d.awaitPatch(t, "the header's Pause", header, raisedColour, 800)
	d.click(t, button.Min.Add(button.Size().Div(2)))
	d.do(t, "sleep", "0.5")
	d.keys(t, "Down", "Down", "Return")
	eventually(t, "the pause of an hour", func() bool {
		return status().Availability == "paused" && strings.Contains(status().Sentence, "Paused by you until ") && !strings.Contains(status().Sentence, "you resume")
	})

	d.keys(t, "ctrl+4") // the cursor is in the address
	d.do(t, "sleep", "1")
	d.keys(t, "Tab", "Tab", "Tab", "Tab", "space") // Rest on battery
	d.keys(t, "shift+Tab", "shift+Tab", "shift+Tab", "shift+Tab", "Return")
	eventually(t, "the setting in the config", func() bool {
		text, err := os.ReadFile(h.config)
		return err == nil && strings.Contains(string(text), "pause_on_battery = true")
	})
	d.leave(t, p)

	p, place = d.openWindow(t, h)
	eventually(t, "the private studio again", func() bool { return status().Session == "connected" })
	d.keys(t, "ctrl+2")
	list := image.Rect(place.Min.X, place.Min.Y+place.Dy()*2/5, place.Min.X+place.Dx()/2, place.Max.Y-28)
	d.awaitPatch(t, "the job of the last run, done", list, goodColour, 12)
	text, err := os.ReadFile(h.config)
	if err != nil || !strings.Contains(string(text), "pause_on_battery = true") {
		t.Errorf("the setting is gone: %v", err)
	}
	d.leave(t, p)
	if err := syscall.Kill(p.cmd.Process.Pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("something of the program is left: %v", err)
	}
}
