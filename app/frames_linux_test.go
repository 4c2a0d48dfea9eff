//go:build !headless

package app

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// frameCounter stands between programs and an X server and counts the pictures that
// they send: each is a frame that a software renderer has drawn.
type frameCounter struct {
	listener net.Listener
	display  string // the socket of the real one
	frames   atomic.Int64

	mu    sync.Mutex
	conns []net.Conn
	work  sync.WaitGroup
}

// newCountedScreen is newScreen with a counter. The server offers no shared memory, so
// that every frame goes through the connection.
func newCountedScreen(tb testing.TB) *personDesktop {
	tb.Helper()
	d := newScreen(tb, "-extension", "MIT-SHM")
	display, _ := strings.CutPrefix(d.environ[0], "DISPLAY=:")
	f := &frameCounter{display: "/tmp/.X11-unix/X" + display}
	var err error
	number := 1000 // far above what X servers choose for themselves
	for ; number < 2000; number++ {
		f.listener, err = new(net.ListenConfig).Listen(tb.Context(), "unix", fmt.Sprintf("/tmp/.X11-unix/X%d", number))
		if err == nil {
			break
		}
	}
	if err != nil {
		tb.Fatal(err)
	}
	f.work.Go(f.accept)
	tb.Cleanup(func() {
		_ = f.listener.Close() // it has no data
		f.mu.Lock()
		for _, c := range f.conns {
			_ = c.Close() // ends its copying, as it shall
		}
		f.mu.Unlock()
		f.work.Wait()
	})
	d.frames = f
	d.show(fmt.Sprint(number))
	return d
}

func (f *frameCounter) count() int { return int(f.frames.Load()) }

func (f *frameCounter) accept() {
	for {
		program, err := f.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("unix", f.display) //nolint:noctx // the cleanup closes it
		if err != nil {
			_ = program.Close() // it sees that there is no server
			continue
		}
		f.mu.Lock()
		f.conns = append(f.conns, program, server)
		f.mu.Unlock()
		f.work.Go(func() {
			_, _ = io.Copy(program, server) // it ends with either
			_ = program.Close()
		})
		f.work.Go(func() {
			_ = f.forward(server, bufio.NewReaderSize(program, 1<<16)) // it ends with either
			_ = server.Close()
		})
	}
}

// putImage is the X request that draws pixels.
const putImage = 72

// forward passes on what a program asks, request by request.
func (f *frameCounter) forward(server io.Writer, program *bufio.Reader) error {
	head := make([]byte, 12)
	if _, err := io.ReadFull(program, head); err != nil {
		return err
	}
	if head[0] != 'l' {
		return errors.New("the program counts from the other end")
	}
	padded := func(at int) int64 { return int64(binary.LittleEndian.Uint16(head[at:])+3) &^ 3 }
	rest := padded(6) + padded(8) // name and data of the authorization
	for {
		if _, err := server.Write(head); err != nil {
			return err
		}
		if _, err := io.CopyN(server, program, rest); err != nil {
			return err
		}
		head = head[:4]
		if _, err := io.ReadFull(program, head); err != nil {
			return err
		}
		if head[0] == putImage {
			f.frames.Add(1)
		}
		rest = int64(binary.LittleEndian.Uint16(head[2:]))*4 - 4
		if rest < 0 { // a long request has its length behind
			head = head[:8]
			if _, err := io.ReadFull(program, head[4:]); err != nil {
				return err
			}
			rest = int64(binary.LittleEndian.Uint32(head[4:]))*4 - 8
		}
	}
}
