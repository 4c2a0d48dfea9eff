//go:build !headless

package desktop

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"
	"go.uber.org/goleak"

	"studioworker/assets"
	"studioworker/ui"
	"studioworker/worker/observe"
)

// childEnv makes the test binary the program under test: a window over a worker
// that only notes what it is asked.
const childEnv = "STUDIO_WORKER_TEST_WINDOW"

// testTime bounds one test: a cold software renderer on a busy machine is slow.
const testTime = 60 * time.Second

func TestMain(m *testing.M) {
	if os.Getenv(benchVariable) != "" {
		if err := benchChild(); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv(childEnv) != "" {
		if err := child(); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent()) // Fyne's queue starts when its package does
}

// child is the program under test. It tells its parent each command, and quits
// also when its standard input ends. Like the worker it takes the signal to end
// from the first moment on, and Fyne does too once it runs.
func child() error {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	o := observe.New()
	o.Settings.Set(observe.Settings{StudioURL: "http://127.0.0.1:1", PrivateStudio: true})
	o.Registration.Set(observe.Registration{State: observe.RegistrationApproved})
	o.Session.Set(observe.Session{State: observe.SessionConnected, Since: time.Now()})
	c := childControls{obs: o, cancel: cancel}
	go func() {
		for s := bufio.NewScanner(os.Stdin); s.Scan(); {
			become(o, s.Text())
		}
		c.Quit()
	}()
	return Run(ctx, ui.Config{
		Observers: o, Controls: c, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Hidden: os.Getenv(childEnv) != "shown",
	})
}

// become puts the worker into a state, by its name.
func become(o *observe.WorkerObservers, state string) {
	o.CurrentJob.Set(observe.CurrentJob{})
	o.Availability.Set(observe.Availability{})
	o.Session.Set(observe.Session{State: observe.SessionConnected, Since: time.Now()})
	o.Registration.Set(observe.Registration{State: observe.RegistrationApproved})
	switch state {
	case "busy":
		o.CurrentJob.Set(observe.CurrentJob{ID: "j", Kind: "image", Started: time.Now()})
	case "paused":
		o.Availability.Set(observe.Availability{Block: observe.BlockPaused})
	case "disconnected":
		o.Session.Set(observe.Session{State: observe.SessionReconnecting, RetryAt: time.Now().Add(time.Minute)})
	case "attention":
		o.Registration.Set(observe.Registration{State: observe.RegistrationRejected, Reason: "no"})
	}
}

type childControls struct {
	ui.Controls // what no test asks for: nil

	obs    *observe.WorkerObservers
	cancel context.CancelFunc
}

func (c childControls) Pause() {
	fmt.Println("pause")
	c.obs.Availability.Set(observe.Availability{Block: observe.BlockPaused})
}

func (c childControls) PauseUntil(t time.Time) {
	fmt.Println("pause for", time.Until(t).Round(time.Minute))
	c.obs.Availability.Set(observe.Availability{Block: observe.BlockPaused, Until: t})
}

func (c childControls) Resume() {
	fmt.Println("resume")
	c.obs.Availability.Set(observe.Availability{})
}

func (c childControls) Quit() {
	fmt.Println("quit")
	c.cancel()
}

func (c childControls) FinishThenQuit() {
	fmt.Println("finish")
	c.cancel()
}

// tool finds a program that the tests need.
func tool(tb testing.TB, name string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		tb.Fatalf("%s is missing: run scripts/setup", name)
	}
	return path
}

// background starts a program that runs until the test ends.
func background(tb testing.TB, cmd *exec.Cmd) {
	tb.Helper()
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = cmd.Wait() }) // killed by its context
}

// startBus starts a private session bus and returns its address.
func startBus(tb testing.TB) string {
	tb.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.CommandContext(tb.Context(), tool(tb, "dbus-daemon"), "--session", "--nofork", "--nopidfile", "--print-address=3")
	cmd.ExtraFiles = []*os.File{w}
	background(tb, cmd)
	return firstLine(tb, r, w)
}

// startDisplay starts a private X server and returns its display.
func startDisplay(tb testing.TB) string {
	tb.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.CommandContext(tb.Context(), tool(tb, "Xvfb"), "-displayfd", "3", "-screen", "0", "1024x768x24", "+extension", "GLX", "-nolisten", "tcp")
	cmd.ExtraFiles = []*os.File{w}
	background(tb, cmd)
	return ":" + firstLine(tb, r, w)
}

// firstLine reads what a program says about itself on its end of a pipe.
func firstLine(tb testing.TB, r, w *os.File) string {
	tb.Helper()
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	if err = errors.Join(err, r.Close()); err != nil {
		tb.Fatalf("the program ended before it was ready: %v", err)
	}
	return strings.TrimSpace(line)
}

// window is a running program under test.
type window struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string // what it was asked to do
	errs  *bytes.Buffer
}

func startWindow(t *testing.T, mode, bus string) *window {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	w := &window{cmd: exec.CommandContext(t.Context(), self), lines: make(chan string, 64), errs: &bytes.Buffer{}}
	w.cmd.Env = append(os.Environ(), childEnv+"="+mode, "DISPLAY="+startDisplay(t), "WAYLAND_DISPLAY=",
		"DBUS_SESSION_BUS_ADDRESS="+bus, "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_CACHE_HOME="+home, "LANG=en_US.UTF-8",
		"GORACE=exitcode=0") // ends judges what the race detector says
	w.cmd.Stderr = w.errs
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if w.stdin, err = w.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(w.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			w.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		<-read // the program has ended, or its context has killed it
		if w.cmd.ProcessState == nil {
			_ = w.cmd.Wait()
		}
		if t.Failed() {
			t.Logf("the program said:\n%s", w.errs)
		}
	})
	return w
}

// expect waits for the next command.
func (w *window) expect(ctx context.Context, t *testing.T, want string) {
	t.Helper()
	if !w.hears(ctx, t, want) {
		t.Fatalf("the window never asked for %q", want)
	}
}

// hears waits for the next command until ctx ends, and says whether it came.
func (w *window) hears(ctx context.Context, t *testing.T, want string) bool {
	t.Helper()
	select {
	case got, ok := <-w.lines:
		if !ok || got != want {
			t.Fatalf("the window asked for %q, want %q", got, want)
		}
		return true
	case <-ctx.Done():
		return false
	}
}

// clickTime is how long a click may take before it counts as lost: the tray
// library drops one that comes while it builds the menu anew.
const clickTime = 5 * time.Second

// command clicks an entry until the window asks for what stands there.
func (w *window) command(ctx context.Context, t *testing.T, i *item, label, want string) {
	t.Helper()
	for ctx.Err() == nil {
		i.click(ctx, t, label)
		click, cancel := context.WithTimeout(ctx, clickTime)
		heard := w.hears(click, t, want)
		cancel()
		if heard {
			return
		}
	}
	t.Fatalf("%s in the menu never led to %q", label, want)
}

// ends waits for the program's end.
func (w *window) ends(ctx context.Context, t *testing.T) {
	t.Helper()
	select {
	case line, ok := <-w.lines:
		if ok {
			t.Fatalf("the window asked for %q at its end", line)
		}
	case <-ctx.Done():
		_ = w.cmd.Process.Signal(syscall.SIGQUIT) // it says where each goroutine is
		for range w.lines {
		}
		t.Fatal("the program does not end")
	}
	if err := w.cmd.Wait(); err != nil {
		t.Errorf("the program ended with %v, want exit 0", err)
	}
	for _, r := range ownRaces(w.errs.String()) {
		t.Errorf("data race:\n%s", r)
	}
}

// ownRaces picks the race detector's reports that are ours out of what a program
// said. The tray library v1.12.2 has two of its own, both harmless, which its
// callers cannot help: it counts the menu's version under one of two locks, and
// it hands an icon's pixels to the bus without one.
func ownRaces(said string) []string {
	var own []string
	for _, report := range strings.Split(said, "WARNING: DATA RACE\n")[1:] {
		report, _, _ = strings.Cut(report, "\n==================")
		inTray, elsewhere := false, false
		for access := range strings.SplitSeq(report, "\n\n") {
			head, stack, _ := strings.Cut(strings.TrimSpace(access), "\n")
			if !strings.HasPrefix(head, "Read at") && !strings.HasPrefix(head, "Write at") && !strings.HasPrefix(head, "Previous") {
				continue // where a goroutine was created
			}
			switch by := accessor(stack); {
			case strings.HasPrefix(by, "fyne.io/systray"):
				inTray = true
			case by != "":
				elsewhere = true
			}
		}
		if elsewhere || !inTray {
			own = append(own, report)
		}
	}
	return own
}

// accessor is the function that did an access, past what it used for that: the
// runtime, reflection and the bus library. Empty when there is no other.
func accessor(stack string) string {
	for line := range strings.Lines(stack) {
		f := strings.TrimSpace(line)
		if f == "" || strings.HasPrefix(f, "/") || strings.HasPrefix(f, "<autogenerated>") { // a place, not a function
			continue
		}
		if !strings.HasPrefix(f, "runtime.") && !strings.HasPrefix(f, "reflect.") && !strings.HasPrefix(f, "github.com/godbus/dbus/") {
			return f
		}
	}
	return ""
}

func TestOwnRaces(t *testing.T) {
	report := func(first, second string) string {
		return "==================\nWARNING: DATA RACE\nWrite at 0x1 by goroutine 6:\n  " + first + "()\n      /a.go:1\n\n" +
			"Previous read at 0x1 by main goroutine:\n  " + second + "()\n      /b.go:2\n\n" +
			"Goroutine 6 (running) created at:\n  studioworker/ui.f()\n      /c.go:3\n==================\n"
	}
	for _, tc := range []struct {
		name, said string
		want       int
	}{
		{"no report", "systray error: no watcher\n", 0},
		{"the tray library alone", report("fyne.io/systray.refresh", "fyne.io/systray.(*tray).GetLayout"), 0},
		{"the tray library and the bus", report("fyne.io/systray.argbForImage", "github.com/godbus/dbus/v5.(*encoder).encode"), 0},
		{"ours and the tray library", report("studioworker/ui/desktop.(*tray).show", "fyne.io/systray.refresh"), 1},
		{"the tray library through the bus", report("reflect.Value.Set()\n      /v.go:1\n  fyne.io/systray.SetIcon", "github.com/godbus/dbus/v5.(*encoder).encode"), 0},
		{"ours through the bus", report("reflect.Value.Set()\n      /v.go:1\n  studioworker/ui/desktop.f", "fyne.io/systray.refresh"), 1},
		{"the bus alone", report("github.com/godbus/dbus/v5.f", "github.com/godbus/dbus/v5.g"), 1},
		{"one of theirs, two of ours", report("fyne.io/systray.f", "fyne.io/systray.g") + report("studioworker/ui.f", "studioworker/ui.g") + report("fyne.io/fyne/v2/widget.f", "studioworker/ui.g"), 2},
	} {
		if got := ownRaces(tc.said); len(got) != tc.want {
			t.Errorf("%s: %d races, want %d", tc.name, len(got), tc.want)
		}
	}
}

// watcher is a double of the desktop's panel.
type watcher struct {
	conn  *dbus.Conn
	props *prop.Properties
	items chan string // bus names that have registered an icon
}

// RegisterStatusNotifierItem is called by programs with an icon.
func (w *watcher) RegisterStatusNotifierItem(service string, sender dbus.Sender) *dbus.Error {
	owner := service // a name of its own
	if strings.HasPrefix(service, "/") {
		owner = string(sender) // a path at whoever calls
	}
	w.props.SetMust(watcherName, "RegisteredStatusNotifierItems", []string{owner + "/StatusNotifierItem"})
	w.items <- owner
	return nil
}

func dial(tb testing.TB, bus string) *dbus.Conn {
	tb.Helper()
	conn, err := dbus.Connect(bus)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() }) // the bus may be gone already
	return conn
}

// startWatcher puts a panel on the bus.
func startWatcher(tb testing.TB, bus string) *watcher {
	tb.Helper()
	w := &watcher{conn: dial(tb, bus), items: make(chan string, 64)}
	var err error
	w.props, err = prop.Export(w.conn, watcherPath, prop.Map{watcherName: {
		"IsStatusNotifierHostRegistered": {Value: true, Emit: prop.EmitTrue},
		"RegisteredStatusNotifierItems":  {Value: []string{}, Emit: prop.EmitTrue},
	}})
	if err != nil {
		tb.Fatal(err)
	}
	if err := w.conn.Export(w, watcherPath, watcherName); err != nil {
		tb.Fatal(err)
	}
	if r, err := w.conn.RequestName(watcherName, dbus.NameFlagDoNotQueue); err != nil || r != dbus.RequestNameReplyPrimaryOwner {
		tb.Fatalf("claim the watcher's name: %v, %v", r, err)
	}
	return w
}

// item is a tray icon as the panel sees it.
type item struct {
	icon, menu dbus.BusObject
	changed    chan *dbus.Signal
}

const (
	itemName = "org.kde.StatusNotifierItem"
	menuName = "com.canonical.dbusmenu"
)

// waitItem waits until a program has registered its icon.
func (w *watcher) waitItem(ctx context.Context, t *testing.T) *item {
	t.Helper()
	var owner string
	select {
	case owner = <-w.items:
	case <-ctx.Done():
		t.Fatal("no icon was registered")
	}
	i := &item{icon: w.conn.Object(owner, "/StatusNotifierItem"), changed: make(chan *dbus.Signal, 256)}
	v, err := i.icon.GetProperty(itemName + ".Menu")
	if err != nil {
		t.Fatal(err)
	}
	path, ok := v.Value().(dbus.ObjectPath)
	if !ok {
		t.Fatalf("menu is at %v", v)
	}
	i.menu = w.conn.Object(owner, path)
	if err := w.conn.AddMatchSignal(dbus.WithMatchSender(owner)); err != nil {
		t.Fatal(err)
	}
	w.conn.Signal(i.changed)
	return i
}

// node is one entry of a menu on the bus.
type node struct {
	ID    int32
	Props map[string]dbus.Variant
	Kids  []dbus.Variant
}

// labels reads the menu: the labels in order, those of a submenu after its own,
// and their ids.
func (i *item) labels(ctx context.Context, t *testing.T) ([]string, map[string]int32) {
	t.Helper()
	var revision uint32
	var root node
	if err := i.menu.CallWithContext(ctx, menuName+".GetLayout", 0, int32(0), int32(-1), []string{}).Store(&revision, &root); err != nil {
		t.Fatal(err)
	}
	var names []string
	ids := map[string]int32{}
	var read func(n node)
	read = func(n node) {
		if label, ok := n.Props["label"].Value().(string); ok && label != "" {
			names = append(names, label)
			ids[label] = n.ID
		}
		for _, k := range n.Kids {
			var kid node
			if err := dbus.Store([]any{k.Value()}, &kid); err != nil {
				t.Fatal(err)
			}
			read(kid)
		}
	}
	read(root)
	return names, ids
}

// until waits, from one signal of the icon to the next, until ready says so.
func (i *item) until(ctx context.Context, t *testing.T, what string, ready func() bool) {
	t.Helper()
	for !ready() {
		select {
		case <-i.changed:
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// click picks the entry with that label.
func (i *item) click(ctx context.Context, t *testing.T, label string) {
	t.Helper()
	var id int32
	i.until(ctx, t, "the entry "+label, func() (ok bool) {
		_, ids := i.labels(ctx, t)
		id, ok = ids[label]
		return ok
	})
	if err := i.menu.CallWithContext(ctx, menuName+".Event", 0, id, "clicked", dbus.MakeVariant(""), uint32(0)).Err; err != nil {
		t.Fatal(err)
	}
}

// tooltip is what the panel shows beside the icon.
func (i *item) tooltip(t *testing.T) string {
	t.Helper()
	v, err := i.icon.GetProperty(itemName + ".ToolTip")
	if err != nil {
		t.Fatal(err)
	}
	var tip struct {
		Icon    string
		Pixmaps []struct {
			W, H int32
			Pix  []byte
		}
		Title, Text string
	}
	if err := v.Store(&tip); err != nil {
		t.Fatal(err)
	}
	return tip.Title
}

// shows says whether the icon is that PNG file.
func (i *item) shows(t *testing.T, file []byte) bool {
	t.Helper()
	v, err := i.icon.GetProperty(itemName + ".IconPixmap")
	if err != nil {
		t.Fatal(err)
	}
	var pixmaps []struct {
		W, H int32
		Pix  []byte
	}
	if err := v.Store(&pixmaps); err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	rgba := image.NewRGBA(img.Bounds())
	draw.Draw(rgba, rgba.Bounds(), img, image.Point{}, draw.Src)
	for _, p := range pixmaps {
		if len(p.Pix) != len(rgba.Pix) {
			continue
		}
		same := true
		for px := 0; same && px < len(p.Pix); px += 4 { // ARGB there, RGBA here; edges may be rounded
			if rgba.Pix[px+3] == 0xFF {
				same = slices.Equal(p.Pix[px+1:px+4], rgba.Pix[px:px+3])
			}
		}
		if same {
			return true
		}
	}
	return false
}

func TestTrayPauseResumeQuit(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), testTime)
	defer cancel()
	bus := startBus(t)
	panel := startWatcher(t, bus)
	w := startWindow(t, "hidden", bus)
	icon := panel.waitItem(ctx, t)
	menu := func(what string, want ...string) {
		t.Helper()
		icon.until(ctx, t, what, func() bool {
			names, _ := icon.labels(ctx, t)
			return slices.Equal(names, want)
		})
	}
	working := []string{"Open", "Pause", "Until I resume", "For 1 hour", "Until tomorrow 08:00", "Finish, then quit", "Quit"}

	menu("the menu", working...)
	icon.until(ctx, t, "the icon of an idle worker", func() bool { return icon.shows(t, assets.TrayIdle) })

	icon.until(ctx, t, "the sentence", func() bool { return icon.tooltip(t) == "Studio Worker · Idle: Ready for jobs" })

	w.command(ctx, t, icon, "Until I resume", "pause")
	icon.until(ctx, t, "the sentence of a pause", func() bool { return icon.tooltip(t) == "Studio Worker · Paused: Paused by you until you resume" })
	menu("Resume in the menu", "Open", "Resume", "Finish, then quit", "Quit")
	icon.until(ctx, t, "the icon of a paused worker", func() bool { return icon.shows(t, assets.TrayPaused) })

	w.command(ctx, t, icon, "Resume", "resume")
	menu("Pause in the menu", working...)
	w.command(ctx, t, icon, "For 1 hour", "pause for 1h0m0s")
	menu("Resume in the menu again", "Open", "Resume", "Finish, then quit", "Quit")
	icon.click(ctx, t, "Open")
	w.command(ctx, t, icon, "Quit", "quit")
	w.ends(ctx, t)
}

func TestPanelThatComesLateGetsTheIcon(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), testTime)
	defer cancel()
	bus := startBus(t)
	w := startWindow(t, "shown", bus)
	waitName(ctx, t, bus, fmt.Sprintf("%s-%d-1", itemName, w.cmd.Process.Pid))
	icon := startWatcher(t, bus).waitItem(ctx, t)
	w.command(ctx, t, icon, "Quit", "quit")
	w.ends(ctx, t)
}

// Each state has an icon of its own, which no other state shows.
func TestTrayIconsOfAllStates(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), testTime)
	defer cancel()
	bus := startBus(t)
	panel := startWatcher(t, bus)
	w := startWindow(t, "states", bus)
	icon := panel.waitItem(ctx, t)
	all := map[string][]byte{
		"idle": assets.TrayIdle, "busy": assets.TrayBusy, "paused": assets.TrayPaused,
		"disconnected": assets.TrayDisconnected, "attention": assets.TrayAttention,
	}
	for _, state := range []string{"busy", "paused", "disconnected", "attention", "idle"} {
		if _, err := io.WriteString(w.stdin, state+"\n"); err != nil {
			t.Fatal(err)
		}
		icon.until(ctx, t, "the icon "+state, func() bool { return icon.shows(t, all[state]) })
		for other, png := range all {
			if other != state && icon.shows(t, png) {
				t.Errorf("the icons of %s and %s are the same", state, other)
			}
		}
	}
	w.command(ctx, t, icon, "Finish, then quit", "finish")
	w.ends(ctx, t)
}

// A panel that dies takes the icon with it; the next one gets it anew, in the state
// of then, and its menu works.
func TestPanelThatDiesAndComesBack(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), testTime)
	defer cancel()
	bus := startBus(t)
	panel := startWatcher(t, bus)
	w := startWindow(t, "states", bus)
	panel.waitItem(ctx, t)
	if err := panel.conn.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w.stdin, "paused\n"); err != nil { // nobody sees it
		t.Fatal(err)
	}
	icon := startWatcher(t, bus).waitItem(ctx, t)
	icon.until(ctx, t, "the icon of a paused worker", func() bool { return icon.shows(t, assets.TrayPaused) })
	w.command(ctx, t, icon, "Resume", "resume")
	icon.until(ctx, t, "the icon of an idle worker", func() bool { return icon.shows(t, assets.TrayIdle) })
	w.command(ctx, t, icon, "Quit", "quit")
	w.ends(ctx, t)
}

func TestASignalEndsTheWindow(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), testTime)
	defer cancel()
	bus := startBus(t)
	w := startWindow(t, "shown", bus)
	waitName(ctx, t, bus, fmt.Sprintf("%s-%d-1", itemName, w.cmd.Process.Pid))
	if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	w.ends(ctx, t)
}

func TestWithoutADisplay(t *testing.T) {
	t.Setenv("DISPLAY", "")
	if err := Run(t.Context(), ui.Config{}); !errors.Is(err, ErrNoDisplay) {
		t.Errorf("got %v", err)
	}
}

// waitName waits until a program has claimed a name on the bus.
func waitName(ctx context.Context, t *testing.T, bus, name string) {
	t.Helper()
	conn := dial(t, bus)
	owners := make(chan *dbus.Signal, 16)
	conn.Signal(owners)
	if err := conn.AddMatchSignal(dbus.WithMatchInterface("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged"),
		dbus.WithMatchArg(0, name)); err != nil {
		t.Fatal(err)
	}
	for {
		var there bool
		if err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, name).Store(&there); err != nil {
			t.Fatal(err)
		}
		if there {
			return
		}
		select {
		case <-owners:
		case <-ctx.Done():
			t.Fatalf("nobody claimed %s", name)
		}
	}
}

func TestWithoutASessionBus(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), testTime)
	defer cancel()
	w := startWindow(t, "hidden", "unix:path="+t.TempDir()+"/none")
	if err := w.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	w.expect(ctx, t, "quit")
	w.ends(ctx, t)
	if s := w.errs.String(); !strings.Contains(s, "no tray here") || strings.Contains(s, "panic") {
		t.Errorf("it said:\n%s", s)
	}
}

func TestTrayHostFollowsThePanel(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), testTime)
	defer cancel()
	bus := startBus(t)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", bus)
	host, err := openTrayHost()
	if err != nil || !host.usable() {
		t.Fatalf("got %v", err)
	}
	if host.present(ctx) {
		t.Error("a panel on an empty bus")
	}
	changes := make(chan bool, 16)
	ended := make(chan struct{})
	watching, stop := context.WithCancel(ctx)
	go func() {
		defer close(ended)
		host.watch(watching, func(present bool) { changes <- present })
	}()
	expect := func(want bool) {
		t.Helper()
		select {
		case got := <-changes:
			if got != want {
				t.Fatalf("present = %v, want %v", got, want)
			}
		case <-ctx.Done():
			t.Fatalf("nobody said that present = %v", want)
		}
	}
	expect(false)
	panel := startWatcher(t, bus)
	expect(true)
	if err := panel.conn.Close(); err != nil {
		t.Fatal(err)
	}
	expect(false)
	stop()
	<-ended
	if err := host.close(); err != nil {
		t.Error(err)
	}
}

func TestTrayHostRegistersAnUnknownIconOnce(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), testTime)
	defer cancel()
	bus := startBus(t)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", bus)
	panel := startWatcher(t, bus)
	host, err := openTrayHost()
	if err != nil {
		t.Fatal(err)
	}
	host.ensureRegistered(ctx) // we have no icon: nothing to register
	if n := len(panel.items); n != 0 {
		t.Errorf("%d icons, want none", n)
	}
	icon := dial(t, bus)
	name := fmt.Sprintf("%s-%d-1", itemName, os.Getpid())
	if _, err := icon.RequestName(name, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	host.ensureRegistered(ctx)
	if n := len(panel.items); n != 1 {
		t.Errorf("%d registrations of an unknown icon, want 1", n)
	}
	panel.props.SetMust(watcherName, "RegisteredStatusNotifierItems", []string{icon.Names()[0] + "/StatusNotifierItem"})
	host.ensureRegistered(ctx)
	if n := len(panel.items); n != 1 {
		t.Errorf("%d registrations, the second of a known icon", n)
	}
	if err := host.close(); err != nil {
		t.Error(err)
	}
}

func TestTrayHostWithoutABus(t *testing.T) {
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+t.TempDir()+"/none")
	host, err := openTrayHost()
	if err == nil || host.usable() || host.present(t.Context()) {
		t.Errorf("got %v", err)
	}
	host.watch(t.Context(), func(bool) { t.Error("news from a bus that is not there") })
	if err := host.close(); err != nil {
		t.Error(err)
	}
}
