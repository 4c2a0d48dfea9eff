package sessiontest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy stands between a worker and its studio and does to their connections
// what bad networks do.
type Proxy struct {
	listener net.Listener
	to       string
	wg       sync.WaitGroup

	mu    sync.Mutex
	over  bool
	links []*link
	next  *Cut // for the next session
	made  bool // it was made
	bytes bool // new connections pass byte for byte
}

// Cut is a place in a session at which the connection is reset.
type Cut struct {
	FromStudio bool // the way that the frame takes
	// Frame is the number of a WebSocket frame on that way; 0 is the head of the
	// upgrade, or of its answer.
	Frame int
	// Part is how much of the frame still passes.
	Part Part
}

// Part is a part of a frame.
type Part string

// Parts of a frame.
const (
	PartNone Part = "nothing"
	PartByte Part = "one byte"
	PartHalf Part = "one half"
)

// link is one connection through the proxy.
type link struct {
	near, far net.Conn // the worker's end and the studio's
	cut       *Cut
	single    bool
	swallow   atomic.Bool
	drip      atomic.Int64 // ns between two bytes from the studio; 0 = as they come
	over      chan struct{}
	once      sync.Once
}

// NewProxy starts a proxy that leads to the studio at address, a host and a port.
// It ends with the test.
func NewProxy(tb testing.TB, address string) *Proxy {
	tb.Helper()
	listener, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{listener: listener, to: strings.TrimPrefix(address, "http://")}
	p.wg.Go(p.serve)
	tb.Cleanup(func() {
		_ = listener.Close()
		p.mu.Lock()
		p.over = true
		for _, l := range p.links {
			l.end()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

// URL is where the worker finds the studio.
func (p *Proxy) URL() string { return "http://" + p.listener.Addr().String() }

// CutNext cuts the next session at that place, and only that one.
func (p *Proxy) CutNext(c Cut) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next, p.made = &c, false
}

// WasCut says whether the last Cut was made. If not, it never will be.
func (p *Proxy) WasCut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = nil
	for _, l := range p.links {
		l.cut = nil
	}
	return p.made
}

// ByteForByte lets new connections pass one byte at a time.
func (p *Proxy) ByteForByte() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes = true
}

// BlackHole swallows all that comes on the connections there are, and ends none.
func (p *Proxy) BlackHole() { p.each(func(l *link) { l.swallow.Store(true) }) }

// Drip lets the studio's bytes pass one by one, a pause after each, on the
// connections there are.
func (p *Proxy) Drip(pause time.Duration) { p.each(func(l *link) { l.drip.Store(int64(pause)) }) }

// HalfClose tells the worker that the studio sends no more. The other way stays
// open.
func (p *Proxy) HalfClose() {
	p.each(func(l *link) {
		if tcp, ok := l.near.(*net.TCPConn); ok {
			_ = tcp.CloseWrite() // it may be closed already
		}
	})
}

func (p *Proxy) each(do func(*link)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.links {
		do(l)
	}
}

func (p *Proxy) serve() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return // the test is over
		}
		far, err := net.DialTimeout("tcp", p.to, Patience) //nolint:noctx // loopback
		if err != nil {
			_ = near.Close()
			continue
		}
		l := &link{near: near, far: far, over: make(chan struct{})}
		p.mu.Lock()
		l.single = p.bytes
		p.links = append(p.links, l)
		if p.over {
			l.end()
		}
		p.mu.Unlock()
		p.wg.Go(func() { p.lead(l) })
	}
}

// lead reads the head of the worker's first request. Only a session has frames.
func (p *Proxy) lead(l *link) {
	from := bufio.NewReader(l.near)
	head, err := readHead(from)
	if err != nil {
		l.end()
		return
	}
	if line, _, _ := strings.Cut(string(head), "\r\n"); strings.HasSuffix(line, "/connect HTTP/1.1") {
		p.mu.Lock()
		l.cut, p.next = p.next, nil
		p.mu.Unlock()
		p.wg.Go(func() { p.frames(l, false, from, head) })
		p.frames(l, true, bufio.NewReader(l.far), nil)
		return
	}
	p.wg.Go(func() {
		if _, err := l.far.Write(head); err == nil {
			_, _ = io.Copy(l.far, from) // it ends when either end does
		}
		l.finish()
	})
	_, _ = io.Copy(l.near, l.far) // it ends when either end does
	l.finish()
}

// frames passes a head and then frames, one way, until the connection ends.
func (p *Proxy) frames(l *link, fromStudio bool, from *bufio.Reader, unit []byte) {
	var err error
	for n := 0; err == nil; n++ {
		switch {
		case n > 0:
			unit, err = readFrame(from)
		case fromStudio:
			unit, err = readHead(from)
		}
		if err != nil {
			break
		}
		if pass, ok := p.cutAt(l, fromStudio, n); ok {
			switch pass {
			case PartNone:
				unit = nil
			case PartByte:
				unit = unit[:1]
			case PartHalf:
				unit = unit[:len(unit)/2]
			}
			_ = l.pass(fromStudio, unit) // the connection ends either way
			l.reset()
			return
		}
		err = l.pass(fromStudio, unit)
	}
	l.finish()
}

// cutAt says whether the session is cut in this frame.
func (p *Proxy) cutAt(l *link, fromStudio bool, n int) (Part, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.cut == nil || l.cut.FromStudio != fromStudio || l.cut.Frame != n {
		return "", false
	}
	p.made = true
	return l.cut.Part, true
}

// pass writes as the link wants it.
func (l *link) pass(fromStudio bool, data []byte) error {
	to := l.far
	if fromStudio {
		to = l.near
	}
	for len(data) > 0 {
		if l.swallow.Load() {
			return nil
		}
		n, pause := len(data), time.Duration(l.drip.Load())
		slow := fromStudio && pause > 0
		if slow || l.single {
			n = 1
		}
		if _, err := to.Write(data[:n]); err != nil {
			return err
		}
		data = data[n:]
		if slow {
			select {
			case <-time.After(pause):
			case <-l.over:
				return net.ErrClosed
			}
		}
	}
	return nil
}

// finish ends the link, unless nobody is to notice.
func (l *link) finish() {
	if l.swallow.Load() {
		<-l.over // the worker hung up, and the studio hears nothing of it
	}
	l.end()
}

// reset ends the link as a router that forgot it.
func (l *link) reset() {
	for _, conn := range []net.Conn{l.near, l.far} {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.CloseWrite() // what has passed arrives
		}
	}
	l.end()
}

func (l *link) end() {
	l.once.Do(func() {
		close(l.over)
		_ = l.near.Close() // either may be closed already
		_ = l.far.Close()
	})
}

const maxUnit = 32 << 20 // bytes of a head or a frame

var errUnit = errors.New("a frame that is too large for a test")

// readHead reads to the blank line.
func readHead(r *bufio.Reader) ([]byte, error) {
	var head bytes.Buffer
	for head.Len() < maxUnit {
		line, err := r.ReadBytes('\n')
		head.Write(line)
		if err != nil || len(line) <= 2 {
			return head.Bytes(), err
		}
	}
	return nil, errUnit
}

// readFrame reads one WebSocket frame as it is (RFC 6455, §5.2).
func readFrame(r *bufio.Reader) ([]byte, error) {
	head, err := r.Peek(2)
	if err != nil {
		return nil, err
	}
	size, payload := 2, uint64(head[1]&0x7f)
	switch payload {
	case 126:
		size = 4
	case 127:
		size = 10
	}
	masked := head[1]&0x80 != 0
	if head, err = r.Peek(size); err != nil {
		return nil, err
	}
	switch size {
	case 4:
		payload = uint64(binary.BigEndian.Uint16(head[2:]))
	case 10:
		payload = binary.BigEndian.Uint64(head[2:])
	}
	if masked {
		size += 4
	}
	if payload > maxUnit {
		return nil, errUnit
	}
	frame := make([]byte, uint64(size)+payload)
	_, err = io.ReadFull(r, frame)
	return frame, err
}
