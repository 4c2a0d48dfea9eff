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
	"errors"
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
	dialer net.Dialer
	client *http.Client

	mu     sync.Mutex
	date   date
	caFile string
	tls    *tls.Config
	http   *http.Transport // trusts as tls does
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
		dialer: net.Dialer{Timeout: dialLimit, KeepAlive: keepAlive},
	}
	if err := n.trust(cfg.CAFile); err != nil {
		return nil, err
	}
	n.client = &http.Client{Transport: transport{n}}
	return n, nil
}

// Trust changes which file's certificates are trusted beside the system's, for
// all connections from now on; empty = none. The same name again changes nothing.
// After an error, which names ca_file, everything is as it was.
func (n *Network) Trust(caFile string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if caFile == n.caFile {
		return nil
	}
	old := n.http
	if err := n.trust(caFile); err != nil {
		return err
	}
	old.CloseIdleConnections()
	return nil
}

// trust is Trust for callers that hold mu.
func (n *Network) trust(caFile string) error {
	trusted := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		roots, err := readRoots(caFile)
		if err != nil {
			return fmt.Errorf("ca_file: %w", err)
		}
		trusted.RootCAs = roots
	}
	n.caFile, n.tls = caFile, trusted
	n.http = &http.Transport{
		Proxy:       func(r *http.Request) (*url.URL, error) { return n.proxy(r.URL) },
		DialContext: n.dialer.DialContext, TLSClientConfig: trusted.Clone(), ForceAttemptHTTP2: true,
		OnProxyConnectResponse: func(_ context.Context, proxy *url.URL, _ *http.Request, answer *http.Response) error {
			if err := refusal(proxy, answer); err != nil {
				return &proxyError{err, proxy.Host}
			}
			return nil
		},
		MaxIdleConns: idleConns, IdleConnTimeout: idleLimit, TLSHandshakeTimeout: handshakeLimit,
		ExpectContinueTimeout: continueLimit, MaxResponseHeaderBytes: maxHeader,
	}
	return nil
}

// now returns how HTTP calls are made now.
func (n *Network) now() *http.Transport {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.http
}

// Client returns the one client for HTTP calls.
func (n *Network) Client() *http.Client { return n.client }

// TLS returns whom this network trusts, for connections that are made otherwise.
func (n *Network) TLS() *tls.Config {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.tls.Clone()
}

// Close closes the connections that nobody uses.
func (n *Network) Close() { n.client.CloseIdleConnections() }

// transport words certificate errors, and listens to what time it is elsewhere.
type transport struct{ n *Network }

// CloseIdleConnections closes what nobody uses.
func (t transport) CloseIdleConnections() { t.n.now().CloseIdleConnections() }

// RoundTrip makes one call.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := t.n.now().RoundTrip(r)
	if err != nil {
		explained := t.n.explain(r.URL.Hostname(), err)
		if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "proxyconnect" {
			if via, _ := t.n.proxy(r.URL); via != nil {
				explained = &proxyError{explained, via.Host}
			}
		}
		return nil, explained
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
	cfg := n.TLS()
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
