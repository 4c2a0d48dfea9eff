package store

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// reconnectWait is how long the store's connection waits before it looks for a
// server that was restarted in place.
const reconnectWait = 20 * time.Millisecond

// local is the server inside this process. It can be restarted: the connection
// to it finds the next one by itself.
type local struct {
	opts *server.Options
	log  *slog.Logger

	mu     sync.Mutex
	server *server.Server // nil while there is none
}

// start runs a server on the folder.
func (l *local) start() error {
	// A server changes its options; the next one starts from ours again.
	opts := l.opts.Clone()
	srv, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("configure the store: %w", err)
	}
	srv.SetLoggerV2(logger{log: l.log}, false, false, false)
	srv.Start()
	if !srv.ReadyForConnections(openLimit) || !srv.JetStreamEnabled() {
		srv.Shutdown()
		srv.WaitForShutdown()
		return errors.New("start the store: not ready in time, see the log")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.server = srv
	return nil
}

// shutdown stops the server and waits for it.
func (l *local) shutdown() {
	l.mu.Lock()
	srv := l.server
	l.server = nil
	l.mu.Unlock()
	if srv != nil {
		srv.Shutdown()
		srv.WaitForShutdown()
	}
}

// now returns the server, or nil.
func (l *local) now() *server.Server {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.server
}

// health says what the server says of itself.
func (l *local) health() error {
	srv := l.now()
	if srv == nil {
		return errors.New("it restarts")
	}
	if h := srv.Healthz(nil); h.Error != "" {
		return errors.New(h.Error)
	}
	return nil
}

// InProcessConn connects to the server that runs now.
func (l *local) InProcessConn() (net.Conn, error) {
	srv := l.now()
	if srv == nil {
		return nil, errors.New("the store restarts")
	}
	return srv.InProcessConn()
}
