// Package networktest makes networks for tests: a real proxy on loopback, a D-Bus,
// and certificates that are right or wrong.
package networktest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Authority issues certificates that nobody trusts by himself.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// NewAuthority makes an authority of that name.
func NewAuthority(tb testing.TB, name string) *Authority {
	tb.Helper()
	a := &Authority{key: newKey(tb)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().AddDate(-5, 0, 0), NotAfter: time.Now().AddDate(5, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err == nil {
		a.certificate, err = x509.ParseCertificate(der)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// Issue makes a server's certificate for host, a name or an address of IP.
func (a *Authority) Issue(tb testing.TB, host string, from, until time.Time) tls.Certificate {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host}, NotBefore: from, NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	key := newKey(tb)
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		tb.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// File writes the authority's own certificate in PEM and returns its path.
func (a *Authority) File(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// Proxy is an HTTP proxy that leads every address to one server.
type Proxy struct {
	Server *httptest.Server

	to     string // host and port of the server
	user   string // name:password that it wants; empty = none
	wg     sync.WaitGroup
	mu     sync.Mutex
	asked  []string
	tunnel []net.Conn
}

// NewProxy starts a proxy that ends with the test. With an authority it is an
// https proxy. user is the NAME:PASSWORD that it wants; empty takes everybody.
func NewProxy(tb testing.TB, to, user string, a *Authority) *Proxy {
	tb.Helper()
	p := &Proxy{to: to, user: user}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(p.serve))
	if a != nil {
		now := time.Now()
		p.Server.TLS = &tls.Config{
			Certificates: []tls.Certificate{a.Issue(tb, "127.0.0.1", now.Add(-time.Hour), now.Add(time.Hour))}, MinVersion: tls.VersionTLS12,
		}
		p.Server.StartTLS()
	} else {
		p.Server.Start()
	}
	tb.Cleanup(func() {
		p.mu.Lock()
		for _, conn := range p.tunnel {
			_ = conn.Close() // the other end may have been first
		}
		p.mu.Unlock()
		p.Server.Close()
		p.wg.Wait()
	})
	return p
}

// Asked returns what was asked for so far: a method and an address each.
func (p *Proxy) Asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.asked...)
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.Host)
	p.mu.Unlock()
	if p.user != "" && r.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte(p.user)) {
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	if r.Method != http.MethodConnect {
		(&httputil.ReverseProxy{Rewrite: func(out *httputil.ProxyRequest) { out.Out.URL.Host = p.to }}).ServeHTTP(w, r)
		return
	}
	far, err := new(net.Dialer).DialContext(r.Context(), "tcp", p.to)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	near, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		_ = far.Close() // the asker went away
		return
	}
	p.mu.Lock()
	p.tunnel = append(p.tunnel, near, far)
	p.mu.Unlock()
	if _, err := io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return // the asker went away
	}
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		p.wg.Go(func() {
			_, _ = io.Copy(way[0], way[1]) // ends when either end does
			_ = way[0].Close()             // and the other way with it
		})
	}
}
