package presence

import (
	"bytes"
	"encoding/hex"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// told is a message of a compositor.
func told(object, opcode uint32, body ...byte) []byte {
	return append(u32(object, uint32(wlHead+len(body))<<16|opcode), body...)
}

// part is what the registry says of one.
func part(name uint32, kind string) []byte {
	body := append(u32(name, uint32(len(kind)+1)), kind...)
	body = append(body, 0)
	body = append(body, make([]byte, padding(len(kind)+1))...)
	return told(wlRegistry, wlGlobal, append(body, u32(1)...)...)
}

// done is the end of what a sync waits for.
func done() []byte {
	return append(told(wlCallback, 0, u32(7)...), told(wlDisplay, wlDeleteID, u32(wlCallback)...)...)
}

// compositor is one whose words are put into it.
type compositor struct{ says, heard bytes.Buffer }

func (c *compositor) Read(p []byte) (int, error)  { return c.says.Read(p) }
func (c *compositor) Write(p []byte) (int, error) { return c.heard.Write(p) }

func (c *compositor) say(parts ...[]byte) {
	for _, p := range parts {
		c.says.Write(p)
	}
}

func welcome() [][]byte {
	return [][]byte{part(1, "wl_compositor"), part(12, "wl_seat"), part(13, "ext_idle_notifier_v1"), part(14, "wl_seat"), done()}
}

func TestAWaylandDesktop(t *testing.T) {
	c := &compositor{}
	c.say(welcome()...)
	talk, err := greetWayland(c)
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Join([][]byte{
		told(wlDisplay, wlGetRegistry, u32(wlRegistry)...), told(wlDisplay, wlSync, u32(wlCallback)...),
		told(wlRegistry, wlBind, append(append(u32(13, 21), "ext_idle_notifier_v1\x00\x00\x00\x00"...), u32(1, wlNotifier)...)...),
		told(wlRegistry, wlBind, append(append(u32(12, 8), "wl_seat\x00"...), u32(1, 5)...)...), told(wlNotifier, wlGetIdleNotification, u32(6, 1000, 5)...),
		told(wlRegistry, wlBind, append(append(u32(14, 8), "wl_seat\x00"...), u32(1, 7)...)...), told(wlNotifier, wlGetIdleNotification, u32(8, 1000, 7)...),
	}, nil)
	if got := c.heard.Bytes(); !bytes.Equal(got, want) {
		t.Errorf("it was told\n%s, want\n%s", hex.EncodeToString(got), hex.EncodeToString(want))
	}
	idled, resumed := func(id uint32) []byte { return told(id, wlIdled) }, func(id uint32) []byte { return told(id, wlResumed) }
	now := time.Now()
	for i, step := range []struct {
		after time.Duration
		says  [][]byte
		want  time.Duration
	}{
		{5 * time.Second, [][]byte{idled(6)}, 0}, // the other seat is used
		{5 * time.Second, [][]byte{told(5, 0, u32(3)...), idled(8)}, 5 * time.Second},
		{5 * time.Minute, nil, 5*time.Minute + 5*time.Second},
		{5 * time.Second, [][]byte{resumed(8), idled(8)}, 0}, // used between two questions
		{5 * time.Second, [][]byte{resumed(6)}, 0},
		{5 * time.Second, nil, 0},
		{5 * time.Second, [][]byte{idled(6)}, 5 * time.Second},
	} {
		c.say(append(step.says, done())...)
		now = now.Add(step.after)
		if got, err := talk.idle(now); err != nil || got != step.want {
			t.Errorf("step %d: idle for %v, %v; want %v", i, got, err, step.want)
		}
	}
}

func TestAWaylandDesktopThatCannotTell(t *testing.T) {
	for name, c := range map[string]struct {
		says [][]byte
		want string
	}{
		"no notifier":   {[][]byte{part(1, "wl_seat"), done()}, "ext-idle-notify-v1"},
		"no seat":       {[][]byte{part(1, "ext_idle_notifier_v1"), done()}, "ext-idle-notify-v1"},
		"it refuses":    {[][]byte{told(wlDisplay, wlError, u32(1, 0, 0)...)}, "it refuses"},
		"it is gone":    {[][]byte{part(1, "wl_seat")}, "EOF"},
		"no length":     {[][]byte{u32(wlRegistry, 4<<16)}, "no length"},
		"odd length":    {[][]byte{u32(wlRegistry, 9<<16)}, "no length"},
		"short part":    {[][]byte{told(wlRegistry, wlGlobal, u32(1)...)}, "too short"},
		"name too long": {[][]byte{told(wlRegistry, wlGlobal, u32(1, 9, 0)...)}, "too short"},
		"no name":       {[][]byte{told(wlRegistry, wlGlobal, u32(1, 0)...)}, "too short"},
		"short end":     {[][]byte{told(wlDisplay, wlDeleteID)}, "too short"},
		"many parts":    {[][]byte{bytes.Repeat(part(1, "wl_output"), maxGlobals+1)}, "too many parts"},
		"endless":       {[][]byte{bytes.Repeat(told(99, 0), maxMessages)}, "too much"},
	} {
		from := &compositor{}
		from.say(c.says...)
		if _, err := greetWayland(from); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestTheCompositorOfTheAccount: a reader keeps its connection, and opens another when the
// compositor has ended that. On Wayland, KDE's answer over D-Bus is none.
func TestTheCompositorOfTheAccount(t *testing.T) {
	conn := bus(t)
	serve(t, conn, desktop[uint32]{0}, "org.freedesktop.ScreenSaver", "/org/freedesktop/ScreenSaver")
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("WAYLAND_DISPLAY", "wayland-7")
	t.Setenv("XDG_SESSION_TYPE", "wayland")
	r := New()
	if idle, err := r.IdleFor(t.Context()); err == nil || !strings.Contains(err.Error(), "Wayland") {
		t.Errorf("without a compositor: idle for %v, %v", idle, err)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(dir, "wayland-7"))
	if err != nil {
		t.Fatal(err)
	}
	served, accepted := make(chan struct{}), make(chan net.Conn)
	go func() { // ends with the listener
		defer close(served)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			for _, text := range welcome() {
				_, err = conn.Write(text)
			}
			if err == nil {
				_, err = conn.Write(bytes.Join([][]byte{told(6, wlIdled), told(8, wlIdled), done()}, nil))
			}
			if err != nil {
				t.Error(err)
			}
			accepted <- conn
		}
	}()
	ask := func() {
		t.Helper()
		if _, err := r.IdleFor(t.Context()); err != nil {
			t.Error(err)
		}
	}
	result := make(chan struct{})
	for range 2 {
		go func() { defer func() { result <- struct{}{} }(); ask() }()
		server := <-accepted
		<-result
		if _, err := server.Write(done()); err != nil { // the second question comes the same way
			t.Error(err)
		}
		ask()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if idle, err := r.IdleFor(t.Context()); err == nil {
			t.Errorf("idle for %v although the compositor is gone", idle)
		}
	}
	if err := listener.Close(); err != nil {
		t.Error(err)
	}
	<-served
}

func TestTheSocketOfTheCompositor(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ display, runtime, want string }{
		{"/run/w", dir, "/run/w"}, {"wayland-3", dir, filepath.Join(dir, "wayland-3")}, {"wayland-3", "", ""}, {"", dir, ""}, {"", "", ""},
	} {
		t.Setenv("WAYLAND_DISPLAY", c.display)
		t.Setenv("XDG_RUNTIME_DIR", c.runtime)
		if got := waylandSocket(); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
	t.Setenv("XDG_RUNTIME_DIR", dir)
	usual := filepath.Join(dir, "wayland-0")
	if err := os.WriteFile(usual, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := waylandSocket(); got != usual {
		t.Errorf("the usual one: %q", got)
	}
}

func FuzzWayland(f *testing.F) {
	f.Add(bytes.Join(welcome(), nil))
	f.Add(bytes.Join(append(welcome(), told(6, wlIdled), told(8, wlResumed), done()), nil))
	f.Add(told(wlDisplay, wlError))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(data), io.Discard}
		talk, err := greetWayland(c)
		if err != nil {
			return
		}
		now := time.Now()
		if idle, err := talk.idle(now); err == nil && (idle < 0 || idle > time.Minute) {
			t.Errorf("idle for %v after a moment", idle)
		}
	})
}
