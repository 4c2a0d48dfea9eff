//go:build !headless

package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"

	"studioworker/scripts/measure"
	"studioworker/worker/history"
	"studioworker/worker/observe"
	"studioworker/worker/session/sessiontest"
)

// windowVariable shortens the look at a hidden window, for a quick run.
const windowVariable = "STUDIO_WORKER_BENCH_WINDOW"

// hiddenTime is how long a hidden window is looked at.
const hiddenTime = 5 * time.Minute

// windowPrograms are the program with its window and a window of the toolkit with
// nothing but a label, as they are built for people.
type windowPrograms struct{ ours, bare string }

func buildWindows(b *testing.B) windowPrograms {
	b.Helper()
	dir := b.TempDir()
	p := windowPrograms{filepath.Join(dir, "studio-worker"), filepath.Join(dir, "bare")}
	for path, name := range map[string]string{p.ours: "studioworker", p.bare: "studioworker/ui/desktop/bare"} {
		install(b, path, "CGO_ENABLED=1", "-tags", "migrated_fynedo", name) // as scripts/build
	}
	return p
}

// shownWindow is a running program with its window on a desktop of its own.
type shownWindow struct {
	desktop *personDesktop
	cmd     *exec.Cmd
	kill    func()
	took    time.Duration // from the start of the program to the first frame
}

// end kills the program and waits until its window is gone.
func (w *shownWindow) end(b *testing.B) {
	b.Helper()
	w.kill()
	screen := w.desktop.open(b)
	eventually(b, "an empty screen", func() bool { return screen.black(b, middleOfWindow) })
	if err := screen.Close(); err != nil {
		b.Error(err)
	}
}

// middleOfWindow is a point of the screen that the window covers: without a window
// manager it lies at the screen's corner.
var middleOfWindow = image.Pt(480, 330)

// openShown starts a program and waits for its first frame, which is when the screen
// is no longer black below the window's middle.
func openShown(b *testing.B, h *home, d *personDesktop, path string, args ...string) *shownWindow {
	b.Helper()
	h.extra = d.environ
	screen := d.open(b)
	defer func() {
		if err := screen.Close(); err != nil {
			b.Error(err)
		}
	}()
	if !screen.black(b, middleOfWindow) {
		b.Fatal("the screen has a picture before the window")
	}
	start := time.Now()
	w := &shownWindow{desktop: d}
	var said *output
	w.cmd, said, w.kill = beginHeard(b, h, path, args...)
	for screen.black(b, middleOfWindow) {
		if w.took = time.Since(start); w.took > windowPatience {
			w.kill()
			b.Fatalf("the window never had a frame: %s", said)
		}
		time.Sleep(500 * time.Microsecond) // the driver writes into memory: nothing tells us
	}
	w.took = time.Since(start)
	return w
}

// screenFile is the picture of a screen, read pixel by pixel.
type screenFile struct {
	*os.File
	start, line int
}

// open opens the picture of the screen.
func (d *personDesktop) open(b *testing.B) *screenFile {
	b.Helper()
	f, err := os.Open(d.screen)
	if err != nil {
		b.Fatal(err)
	}
	head := make([]byte, xwdHead)
	if _, err := io.ReadFull(f, head); err != nil {
		b.Fatal(err)
	}
	x := xwd(head)
	return &screenFile{f, x.start(), x.field(12)}
}

// black says whether a pixel is.
func (s *screenFile) black(b *testing.B, p image.Point) bool {
	b.Helper()
	pixel := make([]byte, 3)
	if _, err := s.ReadAt(pixel, int64(s.start+p.Y*s.line+4*p.X)); err != nil {
		b.Fatal(err)
	}
	return pixel[0]|pixel[1]|pixel[2] == 0
}

// startPanel puts a panel on the session bus that shows tray icons, so that a closed
// window hides.
func startPanel(b *testing.B, d *personDesktop) {
	b.Helper()
	const name = "org.kde.StatusNotifierWatcher"
	conn, err := dbus.Connect(d.bus)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() }) // the bus may be gone already
	_, err = prop.Export(conn, "/StatusNotifierWatcher", prop.Map{name: {
		"IsStatusNotifierHostRegistered": {Value: true, Emit: prop.EmitTrue},
		"RegisteredStatusNotifierItems":  {Value: []string{}, Emit: prop.EmitTrue},
	}})
	if err != nil {
		b.Fatal(err)
	}
	if err := conn.Export(panel{}, "/StatusNotifierWatcher", name); err != nil {
		b.Fatal(err)
	}
	if r, err := conn.RequestName(name, dbus.NameFlagDoNotQueue); err != nil || r != dbus.RequestNameReplyPrimaryOwner {
		b.Fatalf("claim the panel's name: %v, %v", r, err)
	}
}

// panel takes every icon.
type panel struct{}

// RegisterStatusNotifierItem is called by programs with an icon.
func (panel) RegisterStatusNotifierItem(string) *dbus.Error { return nil }

// settle is how long a program gets to become quiet after its start.
const settle = 3 * time.Second

// BenchmarkWindowStart starts the program, whose worker has a studio, and a bare window
// in turns, each until its first frame, and looks at the memory of both.
func BenchmarkWindowStart(b *testing.B) {
	p, s := buildWindows(b), sessiontest.New(b)
	h, empty := enrolled(b, s), newHome(b)
	look := func(w *shownWindow) []float64 {
		time.Sleep(settle)
		return []float64{w.took.Seconds(), measure.Resident(b, w.cmd.Process.Pid)}
	}
	d := newScreen(b)
	ours := func() []float64 {
		w := openShown(b, h, d, p.ours, "ui")
		defer w.end(b)
		s.Welcome(b)
		return look(w)
	}
	bare := func() []float64 {
		w := openShown(b, empty, d, p.bare)
		defer w.end(b)
		return look(w)
	}
	bare() // the files of the graphics driver come into the cache
	ours()
	measure.InTurns(b, ours, bare,
		measure.Line{What: "start to the first frame", Bare: "a bare window", Unit: measure.Seconds, MostOver: 0.150},
		measure.Line{What: "memory", Bare: "a bare window", Unit: measure.Bytes, MostOver: 40 << 20})
}

// BenchmarkWindowJobs looks at the memory of the program after a person has leafed
// through 500 jobs with pictures.
func BenchmarkWindowJobs(b *testing.B) {
	p, s := buildWindows(b), sessiontest.New(b)
	h := enrolled(b, s)
	paint(b, h)
	ours := openShown(b, h, newScreen(b), p.ours, "ui")
	defer ours.kill()
	s.Welcome(b)
	bare := openShown(b, newHome(b), newScreen(b), p.bare)
	defer bare.kill()

	left := image.Rect(0, 100, 300, 640)
	d := ours.desktop
	d.awaitPatch(b, "the pictures of the jobs", left, pictureColour, 200)
	d.click(b, image.Pt(200, 420)) // a job: the keys go to the list from now on
	for range 60 {
		d.keys(b, "Next") // Page Down: ten jobs
		d.do(b, "sleep", "0.1")
	}
	d.awaitPatch(b, "the pictures of the oldest jobs", left, pictureColour, 200)
	time.Sleep(settle)
	measure.InTurns(b,
		func() []float64 { return []float64{measure.Resident(b, ours.cmd.Process.Pid)} },
		func() []float64 { return []float64{measure.Resident(b, bare.cmd.Process.Pid)} },
		measure.Line{What: "memory, 500 jobs with pictures", Bare: "a bare window", Unit: measure.Bytes, MostOver: 120 << 20})
}

// pictureColour is in the middle of every thumbnail, and nowhere else.
var pictureColour = color.RGBA{0xE0, 0x20, 0xE0, 255}

// paint gives a home a full history of jobs with thumbnails, and a window that opens
// on the Jobs page.
func paint(b *testing.B, h *home) {
	b.Helper()
	img := image.NewRGBA(image.Rect(0, 0, 384, 384))
	for y := range 384 {
		for x := range 384 {
			c := color.RGBA{uint8(x*y + rand.IntN(40)), uint8(x + rand.IntN(40)), uint8(y + rand.IntN(40)), 255} // like a photograph
			if max(x, y) < 288 && min(x, y) >= 96 {
				c = pictureColour
			}
			img.SetRGBA(x, y, c)
		}
	}
	var thumbnail bytes.Buffer
	if err := png.Encode(&thumbnail, img); err != nil {
		b.Fatal(err)
	}
	dir := filepath.Dir(h.config)
	o := observe.New()
	past, err := history.Open(history.Config{Dir: filepath.Join(dir, "history"), Recent: o.RecentJobs, Ring: o.History, Log: plainLogger(io.Discard)})
	if err != nil {
		b.Fatal(err)
	}
	done, cancel := context.WithCancel(b.Context())
	cancel()
	for i := range observe.HistoryCap {
		o.RecentJobs.Add(observe.RecentJob{
			ID: "job-" + strconv.Itoa(i), Kind: "image", Model: "sd-turbo", Prompt: strings.Repeat("a lighthouse in fog, ", 20), Preview: "a lighthouse in fog",
			Started:  time.Now().Add(time.Duration(i-observe.HistoryCap) * 20 * time.Minute),
			Duration: 30 * time.Second, Outcome: observe.OutcomeCompleted, Thumbnail: thumbnail.Bytes(),
		})
		if i%20 == 19 { // fewer than the list of recent jobs holds
			if err := past.Run(done); err != nil {
				b.Fatal(err)
			}
		}
	}
	if jobs, _ := o.History.Since(0); len(jobs) != observe.HistoryCap {
		b.Fatalf("the history has %d jobs", len(jobs))
	}
	state, err := json.Marshal(map[string]any{"width": 960, "height": 640, "page": 1, "settled": true, "language": "en"})
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ui.json"), state, 0o600); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkWindowHidden closes the window of the program and a bare one to where a panel
// keeps the icon, and looks at both at the same time. The worker goes on: it has a session
// and sends heartbeats. Frames are counted on the way to the display.
func BenchmarkWindowHidden(b *testing.B) {
	look := hiddenTime
	if text := os.Getenv(windowVariable); text != "" {
		var err error
		if look, err = time.ParseDuration(text); err != nil {
			b.Fatalf("%s: %v", windowVariable, err)
		}
	}
	p, s := buildWindows(b), sessiontest.New(b)
	h := enrolled(b, s)
	address := freeAddress(b)
	h.write(b, s.Server.URL, fmt.Sprintf("install_id = \"i\"\nworker_id = \"wk-20\"\nauth_token = \"t\"\nhealth_listen = %q\n", address))
	ours := openShown(b, h, newCountedScreen(b), p.ours, "ui")
	defer ours.kill()
	s.Welcome(b)
	bare := openShown(b, newHome(b), newCountedScreen(b), p.bare)
	defer bare.kill()
	frames := ours.desktop.frames
	for _, w := range []*shownWindow{ours, bare} {
		w.close(b)
	}
	time.Sleep(settle)

	turn, values := 0, [2][]float64{}
	once := func() { // one look for the turns of a round: it is long
		if turn++; turn%5 != 1 {
			return
		}
		seen, heap, began := frames.count(), liveHeap(b, address), time.Now()
		mine, least := measure.ProcessorTime(b, ours.cmd.Process.Pid), measure.ProcessorTime(b, bare.cmd.Process.Pid)
		time.Sleep(look)
		mine, least = measure.ProcessorTime(b, ours.cmd.Process.Pid)-mine, measure.ProcessorTime(b, bare.cmd.Process.Pid)-least
		took := time.Since(began).Seconds()
		values = [2][]float64{
			{float64(frames.count() - seen), mine.Seconds() / took, max(liveHeap(b, address)-heap, 0)},
			{0, least.Seconds() / took, 0},
		}
	}
	what := func(s string) string { return fmt.Sprintf("hidden for %v, %s", look, s) }
	measure.InTurns(b, func() []float64 { once(); return values[0] }, func() []float64 { return values[1] },
		measure.Line{What: what("frames"), Unit: measure.Count, Most: 0.5},
		measure.Line{What: what("processor"), Bare: "a bare window", Unit: measure.Share, MostRatio: 1.2},
		measure.Line{What: what("growth of the heap"), Unit: measure.Bytes, Most: 1 << 20})
}

// close closes a window the way a person does, which hides it.
func (w *shownWindow) close(b *testing.B) {
	b.Helper()
	d := w.desktop
	if d.frames.count() == 0 {
		b.Fatal("no frame was counted of a window that is shown")
	}
	startPanel(b, d)
	d.manage(b)
	time.Sleep(settle) // the manager takes the window up, the program finds the panel
	visible := func() (id string) {
		cmd := exec.CommandContext(b.Context(), lookPath(b, "xdotool"), "search", "--onlyvisible", "--name", "^(Studio Worker|Bare)$")
		cmd.Env = append(d.environ, "PATH="+os.Getenv("PATH"))
		out, err := cmd.Output() // an error when there is none
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(out))
	}
	id := visible()
	if id == "" {
		b.Fatal("there is no window to close")
	}
	d.do(b, "windowactivate", "--sync", id)
	d.keys(b, "alt+F4")
	eventually(b, "the window's end", func() bool { return visible() == "" })
}

// liveHeap is what of a program's heap was in use at the last collection, in bytes: the
// next one is due when there is twice as much.
func liveHeap(b *testing.B, address string) float64 {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		b.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		b.Fatal(err)
	}
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "go_memstats_next_gc_bytes "); ok {
			next, err := strconv.ParseFloat(text, 64)
			if err != nil {
				b.Fatal(err)
			}
			return next / 2
		}
	}
	b.Fatal("the program says nothing of its heap")
	return 0
}

// freeAddress is one of this computer that nobody listens on.
func freeAddress(b *testing.B) string {
	b.Helper()
	l, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			b.Error(err)
		}
	}()
	return l.Addr().String()
}
