// Package network reaches the studio through networks as they are: behind a
// proxy, with TLS that is inspected on the way, on a computer whose clock is
// wrong. HTTP calls and WebSockets share the choice of the proxy and what is
// trusted, and their certificate errors say in words what is wrong.
//
// The proxy is that of HTTP_PROXY, HTTPS_PROXY and NO_PROXY, as they stand when
// New is called; its name and password go out as Basic authentication.
// Certificates are always verified.
package network

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/net/http/httpproxy"
)

// Limits of a connection; the callers bound their calls as a whole.
const (
	dialLimit      = 30 * time.Second
	keepAlive      = 30 * time.Second
	handshakeLimit = 10 * time.Second
	continueLimit  = time.Second      // then a body is sent without having been asked for
	idleLimit      = 90 * time.Second // an unused connection is closed
	idleConns      = 16
	maxHeader      = 64 << 10 // bytes of an answer's header, a proxy's too
)

// Config says what is special about the network.
type Config struct {
	CAFile string // PEM certificates that are trusted beside the system's; empty = none
}

// Network opens connections. It is safe for concurrent use.
type Network struct {
	proxy  func(*url.URL) (*url.URL, error)
	tls    *tls.Config
	dialer net.Dialer
	client *http.Client

	mu   sync.Mutex
	date date
}

// date is what a host's last answer said about the time.
type date struct {
	host  string
	says  time.Time
	heard time.Time
}

// New reads the environment and the CA file, and calls nobody. An error names
// ca_file.
func New(cfg Config) (*Network, error) {
	n := &Network{
		proxy:  httpproxy.FromEnvironment().ProxyFunc(),
		tls:    &tls.Config{MinVersion: tls.VersionTLS12},
		dialer: net.Dialer{Timeout: dialLimit, KeepAlive: keepAlive},
	}
	if cfg.CAFile != "" {
		roots, err := readRoots(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		n.tls.RootCAs = roots
	}
	n.client = &http.Client{Transport: transport{n, &http.Transport{
		Proxy:       func(r *http.Request) (*url.URL, error) { return n.proxy(r.URL) },
		DialContext: n.dialer.DialContext, TLSClientConfig: n.tls.Clone(), ForceAttemptHTTP2: true,
		OnProxyConnectResponse: func(_ context.Context, proxy *url.URL, _ *http.Request, answer *http.Response) error {
			return refusal(proxy, answer)
		},
		MaxIdleConns: idleConns, IdleConnTimeout: idleLimit, TLSHandshakeTimeout: handshakeLimit,
		ExpectContinueTimeout: continueLimit, MaxResponseHeaderBytes: maxHeader,
	}}}
	return n, nil
}

// Client returns the one client for HTTP calls.
func (n *Network) Client() *http.Client { return n.client }

// TLS returns whom this network trusts, for connections that are made otherwise.
func (n *Network) TLS() *tls.Config { return n.tls.Clone() }

// Close closes the connections that nobody uses.
func (n *Network) Close() { n.client.CloseIdleConnections() }

// transport words certificate errors, and listens to what time it is elsewhere.
type transport struct {
	n *Network
	*http.Transport
}

// RoundTrip makes one call.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := t.Transport.RoundTrip(r)
	if err != nil {
		return nil, t.n.explain(r.URL.Hostname(), err)
	}
	if says, err := http.ParseTime(answer.Header.Get("Date")); err == nil {
		t.n.mu.Lock()
		t.n.date = date{host: r.URL.Hostname(), says: says, heard: time.Now()}
		t.n.mu.Unlock()
	}
	return answer, nil
}

// Dial connects to target for a WebSocket: to its host and port, through the
// proxy for its scheme, http or https. For https the connection is encrypted and
// the certificate verified when Dial returns.
func (n *Network) Dial(ctx context.Context, target *url.URL) (net.Conn, error) {
	proxy, err := n.proxy(target)
	if err != nil {
		return nil, fmt.Errorf("choose a proxy: %w", err)
	}
	conn, err := n.reach(ctx, proxy, target.Host)
	if err != nil || target.Scheme != "https" {
		return conn, err
	}
	return n.secure(ctx, conn, target.Hostname())
}

// Proxy returns the proxy for target, which may be nil.
func (n *Network) Proxy(target *url.URL) (*url.URL, error) { return n.proxy(target) }

// DialVia connects to address, a host and a port, through the proxy via.
func (n *Network) DialVia(ctx context.Context, via *url.URL, address string) (net.Conn, error) {
	return n.reach(ctx, via, address)
}

// secure encrypts a connection to host, or closes it.
func (n *Network) secure(ctx context.Context, conn net.Conn, host string) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, handshakeLimit, fmt.Errorf("no TLS handshake within %v", handshakeLimit))
	defer cancel()
	cfg := n.tls.Clone()
	cfg.ServerName = host
	encrypted := tls.Client(conn, cfg)
	if err := encrypted.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // it is of no use
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, n.explain(host, err)
	}
	return encrypted, nil
}
