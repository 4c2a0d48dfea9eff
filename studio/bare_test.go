package studio

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"studioworker/worker/protocol"
)

// childBare makes the test binary a server that does the least of what a studio
// does, for benchmarks that compare memory or processor time: a bare kind, and
// after a colon the folder that some need.
const childBare = "STUDIO_TEST_BARE"

// The bare servers.
const (
	bareTCP   = "tcp"   // hijacks a request, and reads what comes
	bareBeats = "beats" // answers heartbeats over a WebSocket
	bareTLS   = "tls"   // lets TLS connections in; the folder has cert.pem and key.pem
	bareStore = "store" // reads all jobs of a studio's folder
)

// serveBare ends by being killed. It prints its address, or what it has read.
func serveBare(what string) int {
	kind, dir, _ := strings.Cut(what, ":")
	err := map[string]func(dir string) error{
		bareTCP: serveBareTCP, bareBeats: serveBareBeats, bareTLS: serveBareTLS, bareStore: readBareStore,
	}[kind](dir)
	fmt.Println(err)
	return 1
}

func bareListener(scheme string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err == nil {
		fmt.Println(scheme + "://" + l.Addr().String())
	}
	return l, err
}

func serveBareHTTP(handler http.HandlerFunc) error {
	l, err := bareListener("http")
	if err != nil {
		return err
	}
	return (&http.Server{Handler: handler, ReadHeaderTimeout: headerLimit}).Serve(l)
}

func serveBareTCP(string) error {
	return serveBareHTTP(func(w http.ResponseWriter, _ *http.Request) {
		conn, in, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }() // nothing is sent that could be lost
		if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n\r\n"); err != nil {
			return
		}
		buffer := make([]byte, 512)
		for err == nil {
			_, err = in.Read(buffer)
		}
	})
}

// serveBareBeats is the loop that the guide measured (§4.1): decode, a map, an
// answer.
func serveBareBeats(string) error {
	upgrader := websocket.Upgrader{Subprotocols: []string{protocol.Version}}
	var mu sync.Mutex
	beats := map[*websocket.Conn]protocol.Heartbeat{}
	return serveBareHTTP(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }() // see above
		for {
			_, data, err := conn.ReadMessage()
			if err != nil {
				return
			}
			var beat struct {
				Type         string                `json:"type"`
				Capabilities protocol.Capabilities `json:"capabilities"`
				CurrentJobID string                `json:"currentJobId"`
			}
			if err := json.Unmarshal(data, &beat); err != nil {
				return
			}
			mu.Lock()
			beats[conn] = protocol.Heartbeat{Capabilities: beat.Capabilities, CurrentJobID: beat.CurrentJobID}
			mu.Unlock()
			answer := `{"type":"heartbeatAck"}`
			if beat.Type == (protocol.Hello{}).Type() {
				answer = `{"type":"welcome","workerId":"wk","serverTime":"2026-01-02T03:04:05Z"}`
			}
			if err := conn.WriteMessage(websocket.TextMessage, []byte(answer)); err != nil {
				return
			}
		}
	})
}

func serveBareTLS(dir string) error {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return err
	}
	l, err := bareListener("https")
	if err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			conn := tls.Server(conn, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}})
			_, _ = io.Copy(io.Discard, conn) // shakes hands first
			_ = conn.Close()                 // see above
		}()
	}
}

// bareJetStream starts a server as the store does, on a studio's folder.
func bareJetStream(dir string) (*server.Server, jetstream.JetStream, error) {
	srv, err := server.NewServer(&server.Options{
		ServerName: "studio", StoreDir: filepath.Join(dir, "jetstream"), JetStream: true, SyncAlways: true, DontListen: true,
		NoSigs: true, NoLog: true, JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: 256 << 30, MaxPayload: 8 << 20,
	})
	if err != nil {
		return nil, nil, err
	}
	srv.Start()
	if !srv.ReadyForConnections(time.Minute) {
		return nil, nil, fmt.Errorf("not ready")
	}
	conn, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(conn)
	return srv, js, err
}

// readBareStore reads the jobs of a studio's folder.
func readBareStore(dir string) error {
	_, js, err := bareJetStream(dir)
	if err != nil {
		return err
	}
	n := 0
	for shard := range 4 {
		kv, err := js.KeyValue(context.Background(), fmt.Sprintf("jobs-%d", shard))
		if err != nil {
			return err
		}
		all, err := kv.WatchAll(context.Background())
		if err != nil {
			return err
		}
		for e := range all.Updates() {
			if e == nil {
				break
			}
			n++
		}
	}
	fmt.Println(n)
	select {}
}
