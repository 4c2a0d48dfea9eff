package studio

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"

	"studioworker/scripts/measure"
	"studioworker/studio/client"
	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

const (
	many    = 10_000 // workers
	dialers = 64     // that connect at the same time, where it is not the point
)

// launch starts this program as one of its servers and returns the first line
// that it prints.
func launch(b *testing.B, env ...string) (cmd *exec.Cmd, line string) {
	b.Helper()
	cmd = exec.CommandContext(context.WithoutCancel(b.Context()), os.Args[0]) // #nosec G204 -- this very program
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}        // when the benchmark is cut off
	cmd.Env, cmd.Stderr = append(os.Environ(), env...), b.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { end(cmd) })
	line, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return cmd, strings.TrimSpace(line)
}

// end kills a process and waits for it.
func end(cmd *exec.Cmd) {
	_ = cmd.Process.Kill() // it may be gone already
	_ = cmd.Wait()
}

// enrol makes the folder of a studio that knows many workers, whose token is the
// secret of all tests.
func enrol(b *testing.B) (dir string, ids []string) {
	b.Helper()
	dir = b.TempDir()
	st, err := store.Open(b.Context(), store.Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	var group errgroup.Group
	group.SetLimit(dialers)
	for i := range many {
		rec := store.Worker{ID: fmt.Sprintf("wk-%05d", i), InstallID: newID(""), Name: "attic-pc", Username: "sam", TokenHash: hashed(secret), CreatedAt: time.Now().UTC()}
		ids = append(ids, rec.ID)
		group.Go(func() error {
			_, err := st.Workers.Create(b.Context(), rec.ID, rec)
			return err
		})
	}
	if err := errors.Join(group.Wait(), st.Close()); err != nil {
		b.Fatal(err)
	}
	return dir, ids
}

// crowd is many workers that are connected to one server. They do no more than
// the protocol asks for: all of them share the computer with what is measured.
type crowd struct {
	address string
	tls     *tls.Config // nil = none
	hello   []byte      // as a frame of a WebSocket
	beat    []byte      // likewise
	plain   []byte      // the heartbeat alone
	conns   []*peer     // by worker
}

func newCrowd(b *testing.B, url string, roots *x509.CertPool) *crowd {
	b.Helper()
	hello, errHello := protocol.Encode(protocol.Hello{AuthToken: secret, Capabilities: capabilities()})
	beat, errBeat := protocol.Encode(protocol.Heartbeat{Capabilities: capabilities()})
	if err := errors.Join(errHello, errBeat); err != nil {
		b.Fatal(err)
	}
	scheme, address, _ := strings.Cut(url, "://")
	c := &crowd{address: address, hello: clientFrame(hello), beat: clientFrame(beat), plain: beat, conns: make([]*peer, many)}
	if scheme == "https" {
		c.tls = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: "127.0.0.1"}
	}
	return c
}

// clientFrame makes a WebSocket message of less than 64 KiB, with a mask of zeros.
func clientFrame(data []byte) []byte {
	const final, masked, long = 0x80, 0x80, 126
	frame := []byte{final | websocket.TextMessage, masked | long, byte(len(data) >> 8), byte(len(data)), 0, 0, 0, 0}
	return append(frame, data...)
}

// peer is the worker's end of a connection.
type peer struct {
	net.Conn
	in *bufio.Reader
}

// message reads one message of less than 64 KiB.
func (p *peer) message() ([]byte, error) {
	head, err := p.in.Peek(2)
	if err != nil {
		return nil, err
	}
	kind, size := int(head[0]&0xf), int(head[1])
	skip := 2
	if size == 126 {
		if head, err = p.in.Peek(4); err != nil {
			return nil, err
		}
		skip, size = 4, int(head[2])<<8|int(head[3])
	}
	if _, err := p.in.Discard(skip); err != nil {
		return nil, err
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(p.in, data); err != nil {
		return nil, err
	}
	if kind != websocket.TextMessage {
		return nil, fmt.Errorf("%w: message of kind %d: %q", errExit, kind, data)
	}
	return data, nil
}

// errExit: the studio said something after which a worker does not come back.
var errExit = errors.New("a worker would end")

// shedError: the studio lets nobody in for so long.
type shedError time.Duration

func (e shedError) Error() string { return "come back in " + time.Duration(e).String() }

// connect opens the session of a worker, until its first heartbeat is answered.
func (c *crowd) connect(ctx context.Context, i int, id string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.address)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = conn.Close() // the first error says it
		}
	}()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if c.tls != nil {
		conn = tls.Client(conn, c.tls)
	}
	p := &peer{conn, bufio.NewReaderSize(conn, 256)}
	if _, err := io.WriteString(conn, "GET "+workers+id+"/connect HTTP/1.1\r\nHost: "+c.address+
		"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: "+
		protocol.Version+"\r\nAuthorization: Bearer "+secret+"\r\n\r\n"); err != nil {
		return err
	}
	if err := p.upgraded(); err != nil {
		return err
	}
	if err := p.ask(c.hello, protocol.Welcome{}.Type()); err != nil {
		return err
	}
	if err := p.ask(c.beat, protocol.HeartbeatAck{}.Type()); err != nil {
		return err
	}
	c.conns[i] = p
	return conn.SetDeadline(time.Time{})
}

// upgraded reads the answer to the request for a WebSocket.
func (p *peer) upgraded() error {
	const switching = "HTTP/1.1 101"
	status, err := p.in.Peek(len(switching))
	if err != nil {
		return err
	}
	if string(status) == switching {
		for {
			if line, err := p.in.ReadSlice('\n'); err != nil || len(line) <= len("\r\n") {
				return err
			}
		}
	}
	resp, err := http.ReadResponse(p.in, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if after := protocol.RetryAfter(resp.Header, time.Now()); after > 0 {
		return shedError(after)
	}
	return errors.New(resp.Status)
}

// ask sends a frame and reads its answer.
func (p *peer) ask(frame []byte, want string) error {
	if _, err := p.Write(frame); err != nil {
		return err
	}
	answer, err := p.message()
	if err == nil && !bytes.Contains(answer, []byte(`"`+want+`"`)) {
		err = fmt.Errorf("%w: %s", errExit, answer)
	}
	return err
}

// gather connects all workers, a few at the same time.
func (c *crowd) gather(b *testing.B, ids []string) {
	b.Helper()
	var group errgroup.Group
	group.SetLimit(dialers)
	for i, id := range ids {
		group.Go(func() error {
			for {
				err := c.connect(b.Context(), i, id)
				shed, ok := errors.AsType[shedError](err)
				if !ok {
					return err
				}
				time.Sleep(time.Duration(shed))
			}
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
}

func (c *crowd) leave() {
	for _, conn := range c.conns {
		if conn != nil {
			_ = conn.Close() // the other end may be gone
		}
	}
}

// settled returns a process's memory when it no longer changes much: after many
// connections garbage is left, which goes in time.
func settled(b *testing.B, pid int) float64 {
	b.Helper()
	last := measure.Resident(b, pid)
	for {
		time.Sleep(time.Second)
		now := measure.Resident(b, pid)
		if max(now, last)-min(now, last) < 1<<20 {
			return now
		}
		last = now
	}
}

// BenchmarkIdleWorkers measures what a studio in a process of its own needs for
// each of ten thousand workers that are connected and idle, and in turns with it
// what a server needs that only reads from as many connections (reliability guide
// §7.3, row 6).
func BenchmarkIdleWorkers(b *testing.B) {
	dir, ids := enrol(b)
	measure.InTurns(b, func() []float64 {
		cmd, url := launch(b, childFolder+"="+dir, childListen+"=127.0.0.1:0")
		defer end(cmd)
		before := settled(b, cmd.Process.Pid)
		c := newCrowd(b, url, nil)
		defer c.leave()
		c.gather(b, ids)
		return []float64{(settled(b, cmd.Process.Pid) - before) / many}
	}, func() []float64 {
		cmd, url := launch(b, childBare+"="+bareTCP)
		defer end(cmd)
		before := settled(b, cmd.Process.Pid)
		conns := make([]net.Conn, many)
		defer func() {
			for _, conn := range conns {
				if conn != nil {
					_ = conn.Close() // see leave
				}
			}
		}()
		beat := newCrowd(b, url, nil).plain
		var group errgroup.Group
		group.SetLimit(dialers)
		for i := range conns {
			group.Go(func() (err error) {
				if conns[i], err = (&net.Dialer{}).DialContext(b.Context(), "tcp", strings.TrimPrefix(url, "http://")); err != nil {
					return err
				}
				if _, err := io.WriteString(conns[i], "GET /connect HTTP/1.1\r\nHost: localhost\r\nUpgrade: tcp\r\nConnection: Upgrade\r\nAuthorization: Bearer "+secret+"\r\n\r\n"); err != nil {
					return err
				}
				if _, err := conns[i].Read(make([]byte, 256)); err != nil {
					return err
				}
				_, err = conns[i].Write(beat)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			b.Fatal(err)
		}
		return []float64{(settled(b, cmd.Process.Pid) - before) / many}
	}, measure.Line{Row: 6, What: "memory of an idle worker, of 10,000", Bare: "a hijacked connection", Unit: measure.Bytes, MostRatio: 1.25, Most: 16 << 10})
}

// BenchmarkHeartbeats measures how much of one processor a studio in a process of
// its own needs for the heartbeats of ten thousand workers, one each in five
// seconds, and in turns with it a loop that decodes them, keeps them in a map and
// answers (reliability guide §7.3, row 7).
func BenchmarkHeartbeats(b *testing.B) {
	const (
		window = 12 * time.Second // of a turn: a minute in five
		step   = 10 * time.Millisecond
		each   = many * int(step) / int(protocol.HeartbeatInterval) // heartbeats of a step
	)
	dir, ids := enrol(b)
	turn := func(env ...string) []float64 {
		cmd, url := launch(b, env...)
		defer end(cmd)
		c := newCrowd(b, url, nil)
		defer c.leave()
		c.gather(b, ids)
		time.Sleep(time.Second) // what connecting left behind
		sent := 0
		before, began := measure.ProcessorTime(b, cmd.Process.Pid), time.Now()
		for tick := time.NewTicker(step); time.Since(began) < window; <-tick.C {
			for due := int(time.Since(began)/step) * each; sent < due; sent++ {
				if _, err := c.conns[sent%many].Write(c.beat); err != nil {
					b.Fatal(err)
				}
			}
		}
		used := measure.ProcessorTime(b, cmd.Process.Pid) - before
		passed := time.Since(began)
		for i := range sent { // each was answered
			if _, err := c.conns[i%many].message(); err != nil {
				b.Fatal(err)
			}
		}
		return []float64{used.Seconds() / passed.Seconds()}
	}
	measure.InTurns(b,
		func() []float64 { return turn(childFolder+"="+dir, childListen+"=127.0.0.1:0") },
		func() []float64 { return turn(childBare + "=" + bareBeats) },
		measure.Line{Row: 7, What: "heartbeats of 10,000 workers, processor", Bare: "a bare loop", Unit: measure.Share, MostRatio: 2, Most: 0.35})
}

// BenchmarkReconnectStorm kills a studio that ten thousand workers are connected
// to over TLS and starts it again. They come back by the rules of the worker
// (reliability guide §4.2) until 99 in a hundred have their session. In turns with
// it as many come in the same way to a bare server that is up already, and only
// shake hands (§7.3, row 8).
func BenchmarkReconnectStorm(b *testing.B) {
	const firstTry = 2 * time.Second // it comes within this time
	dir, ids := enrol(b)
	certs := b.TempDir()
	selfSigned(b, filepath.Join(certs, "cert.pem"), filepath.Join(certs, "key.pem"))
	data, err := os.ReadFile(filepath.Join(certs, "cert.pem"))
	if err != nil {
		b.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data) {
		b.Fatal("the certificate cannot be read")
	}
	begin := func(listen string) (*exec.Cmd, string) {
		return launch(b, childFolder+"="+dir, childListen+"="+listen, childTLS+"="+certs)
	}
	measure.InTurns(b, func() []float64 {
		cmd, url := begin("127.0.0.1:0")
		c := newCrowd(b, url, roots)
		defer func() { c.leave() }()
		c.gather(b, ids)
		end(cmd)
		c.leave()
		killed := time.Now()
		var back sync.WaitGroup
		var lost atomic.Int64
		took := make([]float64, many)
		for i, id := range ids {
			back.Go(func() {
				var err error
				for level := 0; time.Since(killed) < 2*time.Minute; level++ {
					wait := mathrand.N(min(time.Minute, firstTry<<level)) // #nosec G404 -- spreading load needs no secret
					if shed, ok := errors.AsType[shedError](err); ok {
						wait = time.Duration(shed) + mathrand.N(time.Duration(shed)/10+1) // #nosec G404 -- see above
					}
					time.Sleep(wait)
					if err = c.connect(b.Context(), i, id); err == nil {
						took[i] = time.Since(killed).Seconds()
						return
					}
					if errors.Is(err, errExit) {
						break
					}
				}
				lost.Add(1)
				b.Logf("worker %s: %v", id, err)
			})
		}
		again, _ := begin(strings.TrimPrefix(url, "https://"))
		defer end(again)
		back.Wait()
		if lost.Load() > 0 {
			b.Fatalf("%d workers did not come back", lost.Load())
		}
		return []float64{measure.Quantile(took, 0.99)}
	}, func() []float64 {
		cmd, url := launch(b, childBare+"="+bareTLS+":"+certs)
		defer end(cmd)
		dialer := tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}}
		conns := make([]net.Conn, many)
		defer func() {
			for _, conn := range conns {
				_ = conn.Close() // see leave
			}
		}()
		took := make([]float64, many)
		began := time.Now()
		var group errgroup.Group
		for i := range conns {
			group.Go(func() (err error) {
				time.Sleep(mathrand.N(firstTry)) // #nosec G404 -- see above
				conns[i], err = dialer.DialContext(b.Context(), "tcp", strings.TrimPrefix(url, "https://"))
				took[i] = time.Since(began).Seconds()
				return err
			})
		}
		if err := group.Wait(); err != nil {
			b.Fatal(err)
		}
		return []float64{measure.Quantile(took, 0.99)}
	}, measure.Line{Row: 8, What: "10,000 TLS workers back after kill -9, 99 %", Bare: "as many handshakes", Unit: measure.Seconds, MostRatio: 1.3})
}

// BenchmarkLargeResult uploads half a gigabyte as a worker does, to a studio in a
// process of its own that stores it durably, and in turns with it writes as much
// to a file, with its digest and synced (reliability guide §7.3, row 10).
func BenchmarkLargeResult(b *testing.B) {
	const size = 500 << 20
	block := make([]byte, 1<<20)
	if _, err := rand.Read(block); err != nil {
		b.Fatal(err)
	}
	content := func() io.Reader {
		var parts []io.Reader
		for range size / len(block) {
			parts = append(parts, bytes.NewReader(block))
		}
		return io.MultiReader(parts...)
	}
	folder := b.TempDir() // both on the same disk
	measure.InTurns(b, func() []float64 {
		dir, err := os.MkdirTemp(folder, "") //nolint:usetesting // removed after each turn: it is large
		if err != nil {
			b.Fatal(err)
		}
		cmd, url := launch(b, childFolder+"="+dir, childListen+"=127.0.0.1:0")
		defer func() {
			end(cmd)
			if err := os.RemoveAll(dir); err != nil {
				b.Error(err)
			}
		}()
		token, err := os.ReadFile(filepath.Join(dir, "operator-token"))
		if err != nil {
			b.Fatal(err)
		}
		f := farmAt(b, url, strings.TrimSpace(string(token)))
		w := f.worker(b)
		l := w.connect(b, "")
		job := f.submit(b, imageJob)
		l.take(b)
		f.await(b, job.ID, in(client.Running))
		before := measure.Resident(b, cmd.Process.Pid)
		head := "--B\r\nContent-Disposition: form-data; name=\"ext\"\r\n\r\nwebp\r\n--B\r\nContent-Disposition: form-data; name=\"" + protocol.PartFile + "\"; filename=\"x\"\r\n\r\n"
		const tail = "\r\n--B--\r\n"
		req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url+workers+w.id+"/jobs/"+job.ID+"/complete",
			io.MultiReader(strings.NewReader(head), content(), strings.NewReader(tail)))
		if err != nil {
			b.Fatal(err)
		}
		req.ContentLength = int64(len(head) + size + len(tail))
		req.Header.Set("Authorization", "Bearer "+w.token)
		req.Header.Set("Content-Type", "multipart/form-data; boundary=B")
		took := measure.Time(b, func() error {
			resp, err := (&http.Transport{DisableKeepAlives: true, WriteBufferSize: 256 << 10}).RoundTrip(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return errors.New(resp.Status)
			}
			return nil
		})
		return []float64{took, measure.Peak(b, cmd.Process.Pid) - before}
	}, func() []float64 {
		path := filepath.Join(folder, "bare")
		took := measure.Time(b, func() error {
			f, err := os.Create(path)
			if err != nil {
				return err
			}
			_, err = io.CopyBuffer(io.MultiWriter(f, sha256.New()), content(), make([]byte, 256<<10))
			return errors.Join(err, f.Sync(), f.Close())
		})
		if err := os.Remove(path); err != nil {
			b.Fatal(err)
		}
		return []float64{took, 0}
	},
		measure.Line{Row: 10, What: "500 MiB uploaded and stored", Bare: "the speed of file, digest and sync", Unit: measure.Seconds, LeastSpeed: 0.25},
		measure.Line{Row: 10, What: "memory more than before", Unit: measure.Bytes, Most: 100 << 20})
}

// BenchmarkColdStart starts a studio that was killed with a hundred thousand jobs
// waiting, until it serves, and in turns with it a server that only reads them
// (reliability guide §7.3, row 16).
func BenchmarkColdStart(b *testing.B) {
	const jobs = 100_000
	dir := b.TempDir()
	st, err := store.Open(b.Context(), store.Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	var group errgroup.Group
	group.SetLimit(dialers)
	for i := range jobs {
		group.Go(func() error {
			id := fmt.Sprintf("%016x-%012x", i, i)
			_, err := st.Jobs.Create(b.Context(), id, benchJob(id, benchImage()))
			return err
		})
	}
	if err := errors.Join(group.Wait(), st.Close()); err != nil {
		b.Fatal(err)
	}
	kill, _ := launch(b, childFolder+"="+dir, childListen+"=127.0.0.1:0")
	end(kill)
	measure.InTurns(b, func() []float64 {
		began := time.Now()
		cmd, url := launch(b, childFolder+"="+dir, childListen+"=127.0.0.1:0")
		defer end(cmd)
		f := farmAt(b, url, "of nobody")
		if status, data := f.call(b, http.MethodGet, "/healthz", "", nil); status != http.StatusOK {
			b.Fatalf("health is %d %s", status, data)
		}
		return []float64{time.Since(began).Seconds(), measure.Resident(b, cmd.Process.Pid)}
	}, func() []float64 {
		began := time.Now()
		cmd, read := launch(b, childBare+"="+bareStore+":"+dir)
		defer end(cmd)
		if read != fmt.Sprint(jobs) {
			b.Fatalf("read %s", read)
		}
		return []float64{time.Since(began).Seconds(), measure.Resident(b, cmd.Process.Pid)}
	},
		measure.Line{Row: 16, What: "start with 100,000 jobs after kill -9", Bare: "NATS and reading them", Unit: measure.Seconds, MostRatio: 1.3},
		measure.Line{Row: 16, What: "memory after it", Bare: "NATS and reading them", Unit: measure.Bytes, MostRatio: 1.5})
}
