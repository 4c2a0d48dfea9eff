package outbox

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"studioworker/scripts/measure"
	"studioworker/worker/protocol"
)

// BenchmarkCommit stores a result and, in turns with it, does the least that
// can store one (reliability guide §7.3, row 13).
func BenchmarkCommit(b *testing.B) {
	for _, bc := range []struct {
		name string
		size int
	}{{"2 KB", 2 << 10}, {"2 MB", 2 << 20}, {"50 MB", 50 << 20}} {
		b.Run(bc.name, func(b *testing.B) {
			root := b.TempDir()
			o, err := Open(config(root, nil))
			if err != nil {
				b.Fatal(err)
			}
			data, n := bytes.Repeat([]byte("0123456789abcdef"), bc.size/16), 0
			measure.InTurns(b, func() []float64 {
				n++
				var e Entry
				took := measure.Time(b, func() (err error) {
					e, err = storeOne(o, "job-"+strconv.Itoa(n), data)
					return err
				})
				if _, err := o.Delivered(e); err != nil {
					b.Fatal(err)
				}
				return []float64{took}
			}, func() []float64 {
				return []float64{measure.Store(b, root, data)}
			}, measure.Line{Row: 13, What: "outbox put of " + bc.name, Bare: "the bare syncs", Unit: measure.Seconds, MostRatio: 1.3})
		})
	}
}

func storeOne(o *Outbox, jobID string, data []byte) (Entry, error) {
	d, err := o.Begin(jobID, 0)
	if err != nil {
		return Entry{}, err
	}
	if err := os.WriteFile(filepath.Join(d.Dir(), "picture.webp"), data, 0o600); err != nil {
		return Entry{}, err
	}
	return d.Commit(someResult())
}

const videoBytes = 500_000_000

// BenchmarkUpload delivers a video to a server that reads it and keeps nothing
// and, in turns with it, copies the same file over a bare connection
// (reliability guide §7.3, row 9). The time is that of the network part: from
// the first byte that arrives to the last. What comes before it, one reading of
// the file for its digest, is in the line of the whole delivery.
func BenchmarkUpload(b *testing.B) {
	root := b.TempDir()
	o, err := Open(config(root, nil))
	if err != nil {
		b.Fatal(err)
	}
	arrived := make(chan float64, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		arrived <- swallow(r.Body)
	}))
	defer server.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	base, err := protocol.ParseBase(server.URL)
	if err != nil {
		b.Fatal(err)
	}
	d := NewDeliverer(DelivererConfig{
		Outbox: o, HTTP: &http.Client{Transport: transport}, Log: quiet(), UserAgent: "studio-worker/bench",
		Target: func() (Target, bool) { return Target{Base: base, WorkerID: "wk-20", Token: "t"}, true },
	})
	debug.FreeOSMemory()
	taken, n, delivered := memory(), 0, ""
	measure.InTurns(b, func() []float64 {
		n++
		e := sparse(b, o, "job-"+strconv.Itoa(n))
		var out Outcome
		whole := measure.Time(b, func() (err error) {
			out, err = d.DeliverNow(b.Context(), e)
			return err
		})
		if out.State != StateDelivered {
			b.Fatalf("the video is %s", out.State)
		}
		delivered = out.Path
		return []float64{<-arrived, whole, memory() - taken}
	}, func() []float64 {
		took := bareUpload(b, delivered)
		return []float64{took, took, 0}
	},
		measure.Line{Row: 9, What: "500 MB upload, network part", Bare: "the speed of io.Copy", Unit: measure.Seconds, LeastSpeed: 0.55},
		measure.Line{Row: 9, What: "500 MB upload, with its digest", Bare: "the time of io.Copy", Unit: measure.Seconds},
		measure.Line{Row: 9, What: "500 MB upload, memory more", Unit: measure.Bytes, Most: 16 << 20})
}

// sparse stores a video that takes no room on the disk.
func sparse(b *testing.B, o *Outbox, jobID string) Entry {
	b.Helper()
	d, err := o.Begin(jobID, 0)
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(d.Dir(), "video.mp4")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		b.Fatal(err)
	}
	if err := os.Truncate(path, videoBytes); err != nil {
		b.Fatal(err)
	}
	r := someResult()
	r.File, r.Kind, r.Ext = "video.mp4", "video", "mp4"
	e, err := d.Commit(r)
	if err != nil {
		b.Fatal(err)
	}
	return e
}

// swallow reads r to its end and returns how long that took from the first byte
// on, in seconds.
func swallow(r io.Reader) float64 {
	buf := make([]byte, 256<<10)
	_, err := r.Read(buf)
	start := time.Now()
	for err == nil {
		_, err = r.Read(buf)
	}
	return time.Since(start).Seconds()
}

// bareUpload copies a file over a connection and returns what swallow does.
func bareUpload(b *testing.B, path string) float64 {
	b.Helper()
	listener, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	arrived := make(chan float64, 1)
	go func() {
		defer close(arrived)
		if conn, err := listener.Accept(); err == nil {
			arrived <- swallow(conn)
			_ = conn.Close() // everything was read
		}
	}()
	conn, err := new(net.Dialer).DialContext(b.Context(), "tcp", listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	if n, err := io.Copy(conn, f); n != videoBytes || err != nil {
		b.Fatalf("copied %d bytes, %v", n, err)
	}
	_ = f.Close() // it was only read
	if err := conn.Close(); err != nil {
		b.Fatal(err)
	}
	took := <-arrived
	_ = listener.Close() // it has nothing left to do
	return took
}

// memory returns how much memory this process has from the system, in bytes.
func memory() float64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.Sys) - float64(m.HeapReleased)
}
