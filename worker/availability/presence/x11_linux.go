package presence

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The few words of the X protocol that one question needs. All fields are little
// endian, as we say at the start.
const (
	xMajor          = 11
	xAccepted       = 1  // the server's answer to the setup
	xReply          = 1  // the first byte of a reply; 0 is an error, more an event
	xMessage        = 32 // bytes of a reply without more data, an error or an event
	xQueryExtension = 98
	xIdleQuery      = 1 // of the screen saver extension
	xSetupFixed     = 32
	xMaxStray       = 100 // messages before our reply; we ask for no events
	xScreenSaver    = "MIT-SCREEN-SAVER"
	xCookie         = "MIT-MAGIC-COOKIE-1"
	xCookieLen      = 16
)

// maxAuthority bounds what is read of the file of cookies.
const maxAuthority = 1 << 20

// askX asks the X server of this computer.
func askX(ctx context.Context, display string) (time.Duration, error) {
	number, err := localDisplay(display)
	if err != nil {
		return 0, err
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", "/tmp/.X11-unix/X"+number)
	if err != nil {
		return 0, fmt.Errorf("connect to the X server: %w", err)
	}
	defer func() { _ = conn.Close() }() // nothing was left to send
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return 0, fmt.Errorf("bound the question to the X server: %w", err)
		}
	}
	idle, err := queryIdle(conn, cookie(number))
	if err != nil {
		return 0, fmt.Errorf("ask the X server: %w", err)
	}
	return idle, nil
}

// localDisplay returns the number of a display of this computer. That of another
// one, as ssh forwards it, says nothing about who sits here.
func localDisplay(display string) (string, error) {
	host, rest, ok := strings.Cut(display, ":")
	number, _, _ := strings.Cut(rest, ".")
	if _, err := strconv.ParseUint(number, 10, 16); !ok || err != nil || host != "" && host != "unix" {
		return "", errors.New("the display is not one of this computer")
	}
	return number, nil
}

// cookie returns what lets us in: nil when there is none, which many servers do
// not mind.
func cookie(number string) []byte {
	path := os.Getenv("XAUTHORITY")
	if path == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil
		}
		path = filepath.Join(home, ".Xauthority")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }() // only read
	host, err := os.Hostname()
	if err != nil {
		return nil
	}
	return findCookie(io.LimitReader(f, maxAuthority), host, number)
}

// findCookie reads a file of cookies: per entry a family, then address, display,
// name and data, each with its length before it, all big endian.
func findCookie(r io.Reader, host, number string) []byte {
	const (
		familyLocal = 256
		familyWild  = 65535
	)
	for {
		var family uint16
		if err := binary.Read(r, binary.BigEndian, &family); err != nil {
			return nil
		}
		var fields [4]string
		for i := range fields {
			var n uint16
			if err := binary.Read(r, binary.BigEndian, &n); err != nil {
				return nil
			}
			text := make([]byte, n)
			if _, err := io.ReadFull(r, text); err != nil {
				return nil
			}
			fields[i] = string(text)
		}
		here := family == familyWild || family == familyLocal && fields[0] == host
		if here && (fields[1] == number || fields[1] == "") && fields[2] == xCookie && len(fields[3]) == xCookieLen {
			return []byte(fields[3])
		}
	}
}

// queryIdle speaks to an X server that has heard nothing yet.
func queryIdle(conn io.ReadWriter, cookie []byte) (time.Duration, error) {
	root, err := xSetup(conn, cookie)
	if err != nil {
		return 0, err
	}
	name := []byte(xScreenSaver) // its length is a multiple of four
	ask := []byte{xQueryExtension, 0}
	ask = binary.LittleEndian.AppendUint16(ask, uint16(2+len(name)/4))
	ask = binary.LittleEndian.AppendUint16(ask, uint16(len(name)))
	ask = append(append(ask, 0, 0), name...)
	reply, err := xAsk(conn, ask)
	if err != nil {
		return 0, err
	}
	if reply[8] == 0 {
		return 0, errors.New("it has no screen saver extension")
	}
	ask = []byte{reply[9], xIdleQuery, 2, 0}
	reply, err = xAsk(conn, binary.LittleEndian.AppendUint32(ask, root))
	if err != nil {
		return 0, err
	}
	return time.Duration(binary.LittleEndian.Uint32(reply[16:])) * time.Millisecond, nil
}

// xSetup greets the server and returns the root window of its first screen.
func xSetup(conn io.ReadWriter, cookie []byte) (root uint32, err error) {
	name := ""
	if cookie != nil {
		name = xCookie
	}
	hello := []byte{'l', 0, xMajor, 0, 0, 0, byte(len(name)), 0, byte(len(cookie)), 0, 0, 0}
	hello = append(hello, name...)
	hello = append(hello, make([]byte, padding(len(name)))...)
	if _, err := conn.Write(append(hello, cookie...)); err != nil {
		return 0, err
	}
	var head [8]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return 0, err
	}
	body := make([]byte, 4*int(binary.LittleEndian.Uint16(head[6:]))) // at most 256 KiB
	if _, err := io.ReadFull(conn, body); err != nil {
		return 0, err
	}
	if head[0] != xAccepted {
		reason, _, _ := bytes.Cut(body[:min(len(body), int(head[1]))], []byte("\n"))
		return 0, fmt.Errorf("it lets nobody in: %q", reason)
	}
	// The vendor's name and the pixel formats come before the screens, whose first
	// field is the root window.
	if len(body) < xSetupFixed {
		return 0, errors.New("its greeting is too short")
	}
	vendor := int(binary.LittleEndian.Uint16(body[16:]))
	screens := xSetupFixed + vendor + padding(vendor) + 8*int(body[21])
	if body[20] == 0 || len(body) < screens+4 {
		return 0, errors.New("it has no screen")
	}
	return binary.LittleEndian.Uint32(body[screens:]), nil
}

// xAsk sends a request and returns its reply, which has no more than the 32
// bytes that each message has.
func xAsk(conn io.ReadWriter, request []byte) (reply [xMessage]byte, err error) {
	if _, err := conn.Write(request); err != nil {
		return reply, err
	}
	for range xMaxStray {
		if _, err := io.ReadFull(conn, reply[:]); err != nil {
			return reply, err
		}
		switch reply[0] {
		case xReply:
			if binary.LittleEndian.Uint32(reply[4:]) != 0 {
				return reply, errors.New("its reply is longer than it should be")
			}
			return reply, nil
		case 0:
			return reply, fmt.Errorf("it answers with error %d", reply[1])
		}
	}
	return reply, errors.New("it sends events instead of a reply")
}

// padding is what brings n up to a multiple of four.
func padding(n int) int { return -n & 3 }
