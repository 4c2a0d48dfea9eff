package presence

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// answers is an X server that says its part whatever it hears.
type answers struct {
	io.Reader
	heard bytes.Buffer
}

func (a *answers) Write(p []byte) (int, error) { return a.heard.Write(p) }

func say(parts ...[]byte) *answers { return &answers{Reader: bytes.NewReader(bytes.Join(parts, nil))} }

const rootWindow = 0x2a5

// greeting is what a server says at first, with a vendor of six letters and one
// pixel format.
func greeting() []byte {
	body := make([]byte, xSetupFixed)
	binary.LittleEndian.PutUint16(body[16:], 6)
	body[20], body[21] = 1, 1
	body = append(body, "vendor\x00\x00"...)
	body = append(body, make([]byte, 8)...)
	body = binary.LittleEndian.AppendUint32(body, rootWindow)
	return greet(xAccepted, 0, body)
}

func greet(status, reason byte, body []byte) []byte {
	head := []byte{status, reason, xMajor, 0, 0, 0}
	return append(binary.LittleEndian.AppendUint16(head, uint16(len(body)/4)), body...)
}

// message is one of 32 bytes, with some of them set.
func message(set map[int]byte) []byte {
	m := make([]byte, xMessage)
	for i, b := range set {
		m[i] = b
	}
	return m
}

func extension() []byte { return message(map[int]byte{0: xReply, 8: 1, 9: 140}) }

func TestQueryIdle(t *testing.T) {
	event := message(map[int]byte{0: 34})
	info := message(map[int]byte{0: xReply, 16: 0x40, 17: 0xe2, 18: 1}) // 123456
	server := say(greeting(), event, extension(), event, info)
	idle, err := queryIdle(server, []byte("0123456789abcdef"))
	if err != nil || idle != 123456*time.Millisecond {
		t.Fatalf("got %v, %v", idle, err)
	}
	want := "6c000b00000012001000" + "0000" + hex.EncodeToString([]byte(xCookie)) + "0000" + hex.EncodeToString([]byte("0123456789abcdef")) +
		"6200060010000000" + hex.EncodeToString([]byte(xScreenSaver)) + // QueryExtension
		"8c010200a5020000" // its request 1 about the root window
	if got := hex.EncodeToString(server.heard.Bytes()); got != want {
		t.Errorf("said\n%s, want\n%s", got, want)
	}
}

func TestXServersThatCannotTell(t *testing.T) {
	noScreen := make([]byte, xSetupFixed+8)
	cutOff := make([]byte, xSetupFixed)
	cutOff[20] = 1
	binary.LittleEndian.PutUint16(cutOff[16:], 0xffff)
	for _, tc := range []struct {
		name   string
		server *answers
		want   string
	}{
		{"hangs up", say(), "EOF"},
		{"hangs up in its greeting", say(greeting()[:20]), "EOF"},
		{"refuses", say(greet(0, 9, []byte("not here\n\x00\x00\x00"))), `lets nobody in: "not here"`},
		{"refuses with a length that is too long", say(greet(0, 255, []byte("no!!"))), `lets nobody in: "no!!"`},
		{"wants more proof", say(greet(2, 0, nil)), "lets nobody in"},
		{"says too little", say(greet(xAccepted, 0, make([]byte, 28))), "too short"},
		{"has no screen", say(greet(xAccepted, 0, noScreen)), "no screen"},
		{"has a name beyond its greeting", say(greet(xAccepted, 0, cutOff)), "no screen"},
		{"has no screen saver", say(greeting(), message(map[int]byte{0: xReply})), "no screen saver"},
		{"answers with an error", say(greeting(), extension(), message(map[int]byte{1: 9})), "error 9"},
		{"answers too much", say(greeting(), message(map[int]byte{0: xReply, 4: 1})), "longer"},
		{"sends only events", say(greeting(), bytes.Repeat(message(map[int]byte{0: 34}), xMaxStray+1)), "events"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if idle, err := queryIdle(tc.server, nil); err == nil || idle != 0 || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, %v, want %q", idle, err, tc.want)
			}
		})
	}
}

func FuzzXServer(f *testing.F) {
	f.Add(bytes.Join([][]byte{greeting(), extension(), message(map[int]byte{0: xReply, 16: 9})}, nil))
	f.Add(greet(0, 9, []byte("not here\x00\x00\x00\x00")))
	f.Fuzz(func(t *testing.T, data []byte) {
		if idle, err := queryIdle(say(data), nil); idle < 0 || err != nil && idle != 0 {
			t.Errorf("got %v, %v", idle, err)
		}
	})
}

func TestLocalDisplay(t *testing.T) {
	for display, want := range map[string]string{
		":0": "0", ":12.1": "12", "unix:3": "3",
		"localhost:10.0": "", "host:0": "", "": "", ":": "", "0": "", ":x": "", ":../../0": "", ":-1": "", ":99999": "",
	} {
		if got, err := localDisplay(display); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v", display, got, err)
		}
	}
}

func entry(family uint16, fields ...string) string {
	var b strings.Builder
	_ = binary.Write(&b, binary.BigEndian, family)
	for _, f := range fields {
		_ = binary.Write(&b, binary.BigEndian, uint16(len(f)))
		b.WriteString(f)
	}
	return b.String()
}

func TestFindCookie(t *testing.T) {
	const good, other = "0123456789abcdef", "fedcba9876543210"
	for _, tc := range []struct {
		name, file, want string
	}{
		{"ours after others", entry(256, "elsewhere", "0", xCookie, other) + entry(0, "desk", "0", xCookie, other) +
			entry(256, "desk", "1", xCookie, other) + entry(256, "desk", "0", "XDM-AUTHORIZATION-1", other) +
			entry(256, "desk", "0", xCookie, "short") + entry(256, "desk", "0", xCookie, good), good},
		{"any display", entry(256, "desk", "", xCookie, good), good},
		{"any host", entry(65535, "", "0", xCookie, good), good},
		{"none", "", ""},
		{"cut off in an entry", entry(256, "desk", "0", xCookie, good)[:20], ""},
		{"a length beyond the end", "\x01\x00\xff\xffdesk", ""},
	} {
		if got := findCookie(strings.NewReader(tc.file), "desk", "0"); string(got) != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
}

func FuzzFindCookie(f *testing.F) {
	f.Add([]byte(entry(256, "desk", "0", xCookie, "0123456789abcdef")))
	f.Fuzz(func(t *testing.T, data []byte) {
		if got := findCookie(bytes.NewReader(data), "desk", "0"); got != nil && len(got) != xCookieLen {
			t.Errorf("got %d bytes", len(got))
		}
	})
}

// xServer starts a real X server that asks for a cookie, and returns its display
// and the file with the cookie.
func xServer(t *testing.T) (display, authority string) {
	t.Helper()
	program, err := exec.LookPath("Xvfb")
	if err != nil {
		t.Fatal("Xvfb is not installed (package xvfb)")
	}
	authority = filepath.Join(t.TempDir(), "authority")
	// The name of this host is not known here, so the entry is for any.
	if err := os.WriteFile(authority, []byte(entry(65535, "", "", xCookie, "0123456789abcdef")), 0o600); err != nil {
		t.Fatal(err)
	}
	said, tell, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	// A number of our own: servers that choose one take no lock, and two that
	// start at once get the same.
	display = fmt.Sprintf(":%d", 100+os.Getpid()%50000)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, program, display, "-displayfd", "3", "-auth", authority, "-screen", "0", "64x64x8", "-nolisten", "tcp", "-noreset")
	cmd.ExtraFiles = []*os.File{tell}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it removes its socket
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait() // it was stopped
	})
	if err := tell.Close(); err != nil {
		t.Error(err)
	}
	// It says its number when it is ready, and ends if nobody reads the whole line.
	if _, err := bufio.NewReader(said).ReadString('\n'); err != nil {
		t.Fatalf("the X server does not start: %v", err)
	}
	if err := said.Close(); err != nil {
		t.Error(err)
	}
	return display, authority
}

func TestARealXServer(t *testing.T) {
	display, authority := xServer(t)
	t.Setenv("DISPLAY", display)
	t.Setenv("WAYLAND_DISPLAY", "")
	t.Setenv("XDG_SESSION_TYPE", "x11")
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Setenv("XAUTHORITY", authority)
	before := time.Now()
	first, err := New().IdleFor(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, err := New().IdleFor(t.Context())
	if err != nil || second < first || second > first+time.Since(before)+time.Second {
		t.Errorf("idle for %v, then %v, %v", first, second, err)
	}
	t.Run("which stands in for Wayland is not asked", func(t *testing.T) {
		t.Setenv("WAYLAND_DISPLAY", "wayland-0")
		if idle, err := New().IdleFor(t.Context()); err == nil {
			t.Errorf("idle for %v", idle)
		}
	})
	t.Run("lets nobody in without the cookie", func(t *testing.T) {
		t.Setenv("XAUTHORITY", filepath.Join(t.TempDir(), "missing"))
		if idle, err := New().IdleFor(t.Context()); err == nil || !strings.Contains(err.Error(), "lets nobody in") {
			t.Errorf("idle for %v, %v", idle, err)
		}
	})
}

func TestAnXServerThatHangs(t *testing.T) {
	// Without a number that is surely free there is no socket of our own, so the
	// bound is tested one step further in.
	ours, theirs := net.Pipe()
	defer func() {
		if err := errors.Join(ours.Close(), theirs.Close()); err != nil {
			t.Error(err)
		}
	}()
	if err := ours.SetDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := queryIdle(ours, nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestNoDisplayAndNoBus(t *testing.T) {
	for _, name := range []string{"DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR"} {
		t.Setenv(name, "")
	}
	for display, want := range map[string]string{"": "no session bus", "elsewhere:0": "not one of this computer"} {
		t.Setenv("DISPLAY", display)
		if idle, err := New().IdleFor(t.Context()); err == nil || idle != 0 || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%q: idle for %v, %v", display, idle, err)
		}
	}
}
