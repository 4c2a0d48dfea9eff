package presence

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// The few words of the Wayland protocol that one question needs: to the display, its
// registry, and ext-idle-notify-v1, which KWin, Sway and others speak. It tells when a seat
// becomes idle and when it is used again, but not since when it is idle: so the connection
// is kept, and who has just connected knows of no time before. No library for it is kept up.
const (
	wlDisplay  = 1 // the first object; we choose the numbers of the others
	wlRegistry = 2
	wlCallback = 3
	wlNotifier = 4
	wlSeats    = 5 // the first of them; each has its notification after it

	wlSync                = 0 // to the display
	wlGetRegistry         = 1
	wlBind                = 0 // to the registry
	wlGetIdleNotification = 1 // to the notifier

	wlError    = 0 // from the display
	wlDeleteID = 1
	wlGlobal   = 0 // from the registry
	wlIdled    = 0 // from a notification
	wlResumed  = 1

	wlHead      = 8 // bytes before what a message says
	maxSeats    = 8
	maxGlobals  = 1000
	maxMessages = 100_000 // in one answer: a pair for each second with a key pressed, for half a day
)

// idleStep is how long a seat rests before the compositor calls it idle. Nothing shorter
// is told apart.
const idleStep = time.Second

// wayland asks the compositor of a Wayland desktop, over a connection that it keeps. One
// that was not asked for long may be closed by the compositor: the next question opens
// another.
type wayland struct {
	mu   sync.Mutex
	conn net.Conn // nil = not connected
	talk *waylandTalk
}

// idleFor says how long no seat has been used, as far as this connection knows.
func (w *wayland) idleFor(ctx context.Context, socket string) (time.Duration, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	idle, err := w.ask(ctx, socket)
	if err != nil {
		w.close()
		return 0, fmt.Errorf("ask the Wayland compositor: %w", err)
	}
	return idle, nil
}

func (w *wayland) ask(ctx context.Context, socket string) (time.Duration, error) {
	if w.conn == nil {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
		if err != nil {
			return 0, err
		}
		w.conn, w.talk = conn, nil
	}
	deadline, _ := ctx.Deadline() // without one there is no limit
	if err := w.conn.SetDeadline(deadline); err != nil {
		return 0, err
	}
	if w.talk == nil {
		talk, err := greetWayland(w.conn)
		if err != nil {
			return 0, err
		}
		w.talk = talk
	}
	return w.talk.idle(time.Now())
}

func (w *wayland) close() {
	if w.conn != nil {
		_ = w.conn.Close() // nothing was left to send
		w.conn, w.talk = nil, nil
	}
}

// waylandSocket is where the compositor of this account listens; empty = there is none.
// A service of the account has no variable, but the same folder.
func waylandSocket() string {
	name, dir := os.Getenv("WAYLAND_DISPLAY"), os.Getenv("XDG_RUNTIME_DIR")
	switch {
	case filepath.IsAbs(name):
		return name
	case dir == "":
		return ""
	case name != "":
		return filepath.Join(dir, name)
	}
	usual := filepath.Join(dir, "wayland-0")
	if _, err := os.Stat(usual); err != nil {
		return ""
	}
	return usual
}

// waylandTalk is what was said over one connection.
type waylandTalk struct {
	conn  io.ReadWriter
	rests map[uint32]bool // each notification: its seat is idle
	last  time.Time       // no input since then is known of
}

// greetWayland speaks to a compositor that has heard nothing yet.
func greetWayland(conn io.ReadWriter) (*waylandTalk, error) {
	t := &waylandTalk{conn: conn, rests: map[uint32]bool{}, last: time.Now()}
	if err := t.send(wlDisplay, wlGetRegistry, u32(wlRegistry)); err != nil {
		return nil, err
	}
	var seats []uint32
	var notifier uint32
	globals := 0
	err := t.sync(func(m wlMessage) error {
		if m.object != wlRegistry || m.opcode != wlGlobal {
			return nil
		}
		if globals++; globals > maxGlobals {
			return errors.New("it has too many parts")
		}
		name, kind, err := m.global()
		switch {
		case err != nil:
			return err
		case kind == "wl_seat" && len(seats) < maxSeats:
			seats = append(seats, name)
		case kind == "ext_idle_notifier_v1":
			notifier = name
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if notifier == 0 || len(seats) == 0 {
		return nil, errors.New("it does not tell when the computer is used (ext-idle-notify-v1)")
	}
	if err := t.bind(notifier, "ext_idle_notifier_v1", wlNotifier); err != nil {
		return nil, err
	}
	for i, name := range seats {
		seat := uint32(wlSeats + 2*i)
		if err := t.bind(name, "wl_seat", seat); err != nil {
			return nil, err
		}
		t.rests[seat+1] = false
		if err := t.send(wlNotifier, wlGetIdleNotification, u32(seat+1, uint32(idleStep.Milliseconds()), seat)); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// idle hears what the compositor has told since the last time. What happened between two
// questions counts as if it were now: a seat is never taken as idle for too long.
func (t *waylandTalk) idle(now time.Time) (time.Duration, error) {
	used := false
	err := t.sync(func(m wlMessage) error {
		if _, ours := t.rests[m.object]; !ours {
			return nil
		}
		switch m.opcode {
		case wlIdled:
			t.rests[m.object] = true
		case wlResumed:
			t.rests[m.object], used = false, true
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, rests := range t.rests {
		used = used || !rests
	}
	if used {
		t.last = now
	}
	return now.Sub(t.last), nil
}

// sync hands each message to hear until the compositor has done all that was asked of it.
func (t *waylandTalk) sync(hear func(wlMessage) error) error {
	if err := t.send(wlDisplay, wlSync, u32(wlCallback)); err != nil {
		return err
	}
	for range maxMessages {
		m, err := receiveWayland(t.conn)
		if err != nil {
			return err
		}
		switch {
		case m.object == wlDisplay && m.opcode == wlError:
			return errors.New("it refuses")
		case m.object == wlDisplay && m.opcode == wlDeleteID:
			if id, _, err := m.number(m.body); err != nil || id == wlCallback { // the number is free again
				return err
			}
		default:
			if err := hear(m); err != nil {
				return err
			}
		}
	}
	return errors.New("it sends too much")
}

func (t *waylandTalk) bind(name uint32, kind string, id uint32) error {
	body := u32(name, uint32(len(kind)+1))
	body = append(append(body, kind...), 0)
	body = append(body, make([]byte, padding(len(kind)+1))...)
	return t.send(wlRegistry, wlBind, append(body, u32(1, id)...)) // version 1
}

func (t *waylandTalk) send(object, opcode uint32, body []byte) error {
	_, err := t.conn.Write(append(u32(object, uint32(wlHead+len(body))<<16|opcode), body...))
	return err
}

// u32 writes numbers as the protocol does: in the order of this computer.
func u32(numbers ...uint32) []byte {
	var b []byte
	for _, n := range numbers {
		b = binary.NativeEndian.AppendUint32(b, n)
	}
	return b
}

// wlMessage is a message of the compositor.
type wlMessage struct {
	object, opcode uint32
	body           []byte
}

func receiveWayland(r io.Reader) (m wlMessage, err error) {
	var head [wlHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return m, err
	}
	second := binary.NativeEndian.Uint32(head[4:])
	size := int(second >> 16) // at most 64 KiB
	if size < wlHead || size%4 != 0 {
		return m, errors.New("its message has no length")
	}
	m = wlMessage{binary.NativeEndian.Uint32(head[:]), second & 0xffff, make([]byte, size-wlHead)}
	_, err = io.ReadFull(r, m.body)
	return m, err
}

var errShortMessage = errors.New("its message is too short")

func (wlMessage) number(b []byte) (n uint32, rest []byte, err error) {
	if len(b) < 4 {
		return 0, nil, errShortMessage
	}
	return binary.NativeEndian.Uint32(b), b[4:], nil
}

// global reads what the registry says of a part: its name, which is a number, and what
// it is.
func (m wlMessage) global() (name uint32, kind string, err error) {
	name, rest, err := m.number(m.body)
	if err != nil {
		return 0, "", err
	}
	length, rest, err := m.number(rest)
	if err != nil {
		return 0, "", err
	}
	if length == 0 || uint64(length) > uint64(len(rest)) {
		return 0, "", errShortMessage
	}
	return name, string(rest[:length-1]), nil // it ends with a zero
}
