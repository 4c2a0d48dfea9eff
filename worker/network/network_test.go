package network

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"studioworker/worker/network/networktest"
	"studioworker/worker/observe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is a name that only a proxy of the test leads to.
const host = "studio.invalid"

// newServer starts a server that says hello, with a certificate when there is
// one.
func newServer(t *testing.T, certificate *tls.Certificate) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello") // the asker may hang up
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that fail on purpose
	if certificate == nil {
		s.Start()
	} else {
		s.TLS = &tls.Config{Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS12}
		s.StartTLS()
	}
	t.Cleanup(s.Close)
	return s
}

func address(s *httptest.Server) string { return s.Listener.Addr().String() }

// open makes a network with just these variables.
func open(t *testing.T, cfg Config, variables map[string]string) *Network {
	t.Helper()
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "REQUEST_METHOD"} {
		t.Setenv(strings.ToLower(name), "")
		t.Setenv(name, variables[name])
	}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// get calls an address by HTTP.
func get(t *testing.T, n *Network, target string) (string, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := n.Client().Do(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = answer.Body.Close() }() // only read
	text, err := io.ReadAll(answer.Body)
	return string(text), err
}

// speak dials an address as a WebSocket does, and asks by hand.
func speak(t *testing.T, n *Network, target string) (string, error) {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := n.Dial(t.Context(), u)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }() // only read
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: studio\r\nConnection: close\r\n\r\n"); err != nil {
		return "", err
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = answer.Body.Close() }() // only read
	text, err := io.ReadAll(answer.Body)
	return string(text), err
}

// both are the two ways to the studio.
func both() map[string]func(*testing.T, *Network, string) (string, error) {
	return map[string]func(*testing.T, *Network, string) (string, error){"HTTP": get, "WebSocket": speak}
}

func TestProxies(t *testing.T) {
	now := time.Now()
	authority := networktest.NewAuthority(t, "Harbour CA")
	certificate := authority.Issue(t, host, now.Add(-time.Hour), now.Add(time.Hour))
	ca := authority.File(t)
	for _, scheme := range []string{"http", "https"} {
		server := newServer(t, nil)
		variable := "HTTP_PROXY"
		if scheme == "https" {
			server, variable = newServer(t, &certificate), "HTTPS_PROXY"
		}
		for _, by := range []string{"http", "https"} {
			for way, call := range both() {
				t.Run(way+" to "+scheme+" by "+by, func(t *testing.T) {
					var a *networktest.Authority
					if by == "https" {
						a = authority
					}
					proxy := networktest.NewProxy(t, address(server), "ada:p/w", a)
					target := scheme + "://" + host + ":8443/"
					with := by + "://ada:p%2Fw@" + address(proxy.Server)

					n := open(t, Config{CAFile: ca}, map[string]string{variable: with})
					if text, err := call(t, n, target); err != nil || text != "hello" {
						t.Errorf("got %q, %v", text, err)
					}
					want := "CONNECT " + host + ":8443"
					if way == "HTTP" && scheme == "http" {
						want = "GET " + host + ":8443" // no tunnel is needed
					}
					if asked := proxy.Asked(); len(asked) != 1 || asked[0] != want {
						t.Errorf("the proxy was asked %q, want %q", asked, want)
					}

					n = open(t, Config{CAFile: ca}, map[string]string{variable: with, "NO_PROXY": "other.invalid," + host})
					if _, err := call(t, n, target); err == nil || strings.Contains(err.Error(), "proxy") {
						t.Errorf("NO_PROXY: got %v", err)
					}
					n = open(t, Config{CAFile: ca}, map[string]string{variable: with})
					if text, err := call(t, n, strings.Replace(target, host+":8443", address(server), 1)); scheme == "http" && (err != nil || text != "hello") {
						t.Errorf("this computer itself: got %q, %v", text, err) // never asked for
					}
					if asked := proxy.Asked(); len(asked) != 1 {
						t.Errorf("the proxy was asked %q", asked)
					}
				})
			}
		}
	}
}

func TestProxiesThatRefuse(t *testing.T) {
	server := newServer(t, nil)
	strict := networktest.NewProxy(t, address(server), "ada:secret", nil)
	broken := networktest.NewProxy(t, "127.0.0.1:1", "", nil)
	odd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\nalready talking")
		_ = conn.Close() // it has said what it has to say
	}))
	t.Cleanup(odd.Close)
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 2*maxHeader)) // the asker hangs up
		_ = conn.Close()
	}))
	t.Cleanup(endless.Close)
	for name, tc := range map[string]struct {
		proxy, says string
		why         observe.Reason
	}{
		"no name":        {"http://" + address(strict.Server), "wants a name and a password", observe.ReasonProxyLogin},
		"wrong name":     {"http://ada:harbour@" + address(strict.Server), "does not accept the name and password", observe.ReasonProxyLogin},
		"no way":         {"http://ada:harbour@" + address(broken.Server), "status 502", observe.ReasonStatus},
		"not there":      {"http://ada:harbour@127.0.0.1:1", "refused", observe.ReasonNobodyThere},
		"no HTTP":        {"ftp://ada:harbour@127.0.0.1:1", "", observe.ReasonUnknown},
		"talks at once":  {"http://ada:harbour@" + address(odd), "", observe.ReasonUnknown},
		"endless answer": {"http://ada:harbour@" + address(endless), "", observe.ReasonUnknown},
		"no SOCKS":       {"socks5://ada:harbour@127.0.0.1:1", "refused", observe.ReasonNobodyThere},
	} {
		for way, call := range both() {
			t.Run(name+" "+way, func(t *testing.T) {
				n := open(t, Config{}, map[string]string{"HTTPS_PROXY": tc.proxy})
				_, err := call(t, n, "https://"+host+":443/")
				if err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "harbour") {
					t.Errorf("got %v, want it to say %q", err, tc.says)
				}
				_, behind, _ := strings.Cut(tc.proxy, "://")
				behind = behind[strings.Index(behind, "@")+1:]
				why := observe.WhyOf(err)
				known := tc.why != observe.ReasonUnknown || way == "WebSocket" // net/http may keep the proxy to itself
				if strings.Contains(why.Said, "harbour") || known && why.Proxy != behind || tc.why != observe.ReasonUnknown && why.Reason != tc.why {
					t.Errorf("got %+v, want %s of %s", why, tc.why, behind)
				}
			})
		}
	}
}

// TestSlowProxy: a proxy that says nothing is left when the caller's time is
// over.
func TestSlowProxy(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // nothing was accepted
	n := open(t, Config{}, map[string]string{"HTTP_PROXY": "http://" + l.Addr().String()})
	enough := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, enough)
	defer cancel()
	if _, err := n.Dial(ctx, &url.URL{Scheme: "http", Host: host + ":80"}); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
}

// TestSocks: the smallest proxy of that kind, for both ways.
func TestSocks(t *testing.T) {
	server := newServer(t, nil)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			socks(t, near, address(server))
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	n := open(t, Config{}, map[string]string{"HTTP_PROXY": "socks5://" + l.Addr().String()})
	for way, call := range both() {
		if text, err := call(t, n, "http://"+host+":80/"); err != nil || text != "hello" {
			t.Errorf("%s: got %q, %v", way, text, err)
		}
		n.Close()
	}
}

// socks serves one connection to the server.
func socks(t *testing.T, near net.Conn, to string) {
	t.Helper()
	defer func() { _ = near.Close() }() // the asker may have been first
	read := func(n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(near, b); err != nil {
			t.Errorf("socks: %v", err)
		}
		return b
	}
	read(int(read(2)[1])) // version, count and kinds of authentication
	_, _ = near.Write([]byte{5, 0})
	name := read(int(read(5)[4])) // version, command, reserved, kind, length
	if port := binary.BigEndian.Uint16(read(2)); string(name) != host || port != 80 {
		t.Errorf("asked for %s:%d", name, port)
	}
	_, _ = near.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	far, err := new(net.Dialer).DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Error(err)
		return
	}
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(near, far) // ends when either end does
		_ = near.Close()
	}()
	_, _ = io.Copy(far, near)
	_ = far.Close()
	<-back
}

// TestFault34And35CertificatesInWords: the error names who issued the
// certificate, and when it is valid; nothing is ever taken without verification.
func TestFault34And35CertificatesInWords(t *testing.T) {
	trusted, stranger := networktest.NewAuthority(t, "Harbour CA"), networktest.NewAuthority(t, "Office Firewall")
	now := time.Now()
	const twoYears = 2 * 365 * 24 * time.Hour
	for name, tc := range map[string]struct {
		certificate tls.Certificate
		says        []string
		why         observe.Why
	}{
		"right":         {trusted.Issue(t, "127.0.0.1", now.Add(-time.Hour), now.Add(time.Hour)), nil, observe.Why{}},
		"unknown CA":    {stranger.Issue(t, "127.0.0.1", now.Add(-time.Hour), now.Add(time.Hour)), []string{`issued by "Office Firewall"`, "does not trust", "ca_file"}, observe.Why{Reason: observe.ReasonUntrusted, Said: "127.0.0.1", More: `"Office Firewall"`}},
		"expired":       {trusted.Issue(t, "127.0.0.1", now.Add(-twoYears), now.Add(-time.Hour)), []string{`issued by "Harbour CA"`, "expired on " + day(now.Add(-time.Hour))}, observe.Why{Reason: observe.ReasonExpired, Said: "127.0.0.1", More: `"Harbour CA"`, At: now.Add(-time.Hour)}},
		"not yet valid": {trusted.Issue(t, "127.0.0.1", now.Add(twoYears), now.Add(2*twoYears)), []string{`issued by "Harbour CA"`, "is not valid before " + day(now.Add(twoYears)), "is this computer's clock right? It says " + day(now)[:10]}, observe.Why{Reason: observe.ReasonNotYet, Said: "127.0.0.1", More: `"Harbour CA"`, At: now.Add(twoYears)}},
		"another name":  {trusted.Issue(t, "harbour.invalid", now.Add(-time.Hour), now.Add(time.Hour)), []string{"127.0.0.1"}, observe.Why{Reason: observe.ReasonCertificate, Said: "x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs"}},
	} {
		server := newServer(t, &tc.certificate)
		for way, call := range both() {
			t.Run(name+" "+way, func(t *testing.T) {
				n := open(t, Config{CAFile: trusted.File(t)}, nil)
				text, err := call(t, n, server.URL)
				if tc.says == nil {
					if err != nil || text != "hello" {
						t.Errorf("got %q, %v", text, err)
					}
					return
				}
				for _, part := range tc.says {
					if err == nil || !strings.Contains(err.Error(), part) {
						t.Errorf("got %v, want it to say %q", err, part)
					}
				}
				if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
					t.Errorf("the cause is lost: %v", err)
				}
				got, want := observe.WhyOf(err), tc.why
				same := got.At.Unix() == want.At.Unix()
				if got.At, want.At = (time.Time{}), (time.Time{}); !same || got != want {
					t.Errorf("got %+v, want %+v, the same time: %t", got, want, same)
				}
			})
		}
	}
	t.Run("proxy", func(t *testing.T) {
		proxy := networktest.NewProxy(t, "127.0.0.1:1", "", stranger)
		proxy.Server.Config.ErrorLog = log.New(io.Discard, "", 0)
		n := open(t, Config{}, map[string]string{"HTTPS_PROXY": proxy.Server.URL})
		for way, call := range both() {
			_, err := call(t, n, "https://"+host+":443/")
			if err == nil || !strings.Contains(err.Error(), "Office Firewall") ||
				strings.Contains(err.Error(), "certificate of "+host) {
				t.Errorf("%s: got %v", way, err)
			}
			if why := observe.WhyOf(err); why.Reason != observe.ReasonUntrusted || why.Proxy != address(proxy.Server) {
				t.Errorf("%s: got %+v", way, why)
			}
		}
	})
}

// TestFault35TheStudiosTimeIsSaid: once the studio has answered, its time is
// known, and a certificate that is "not yet valid" comes with it.
func TestFault35TheStudiosTimeIsSaid(t *testing.T) {
	now := time.Now()
	theirs := now.AddDate(2, 0, 0)
	authority := networktest.NewAuthority(t, "Harbour CA")
	certificate := authority.Issue(t, "127.0.0.1", theirs.Add(-time.Hour), theirs.Add(time.Hour))
	secure := newServer(t, &certificate)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", theirs.UTC().Format(http.TimeFormat))
	}))
	t.Cleanup(plain.Close)
	n := open(t, Config{CAFile: authority.File(t)}, nil)
	if _, err := get(t, n, secure.URL); err == nil || strings.Contains(err.Error(), "the studio says") {
		t.Errorf("before: %v", err)
	}
	if _, err := get(t, n, plain.URL); err != nil {
		t.Fatal(err)
	}
	for way, call := range both() {
		if _, err := call(t, n, secure.URL); err == nil || !strings.Contains(err.Error(), "the studio says "+theirs.UTC().Format("2006-01-02")) || observe.WhyOf(err).Clock.Sub(theirs).Abs() > time.Minute {
			t.Errorf("%s: %v", way, err)
		}
	}
}

// TestTrustChangesWhileWeRun: the next connection trusts what the config names
// now. A file that cannot be used changes nothing.
func TestTrustChangesWhileWeRun(t *testing.T) {
	one, other := networktest.NewAuthority(t, "Harbour CA"), networktest.NewAuthority(t, "Lighthouse CA")
	first := one.Issue(t, "127.0.0.1", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	second := other.Issue(t, "127.0.0.1", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	a, b := newServer(t, &first), newServer(t, &second)
	n := open(t, Config{CAFile: one.File(t)}, nil)
	reaches := func(when, url string, want bool) {
		t.Helper()
		for way, call := range both() {
			if _, err := call(t, n, url); (err == nil) != want {
				t.Errorf("%s, %s: %v", when, way, err)
			}
		}
	}
	reaches("at first", a.URL, true)
	reaches("at first", b.URL, false)
	if err := n.Trust(filepath.Join(t.TempDir(), "none.pem")); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "ca_file") {
		t.Errorf("a file that is not there: %v", err)
	}
	reaches("after a bad file", a.URL, true)
	if err := n.Trust(other.File(t)); err != nil {
		t.Fatal(err)
	}
	reaches("after the change", a.URL, false)
	reaches("after the change", b.URL, true)
	if err := n.Trust(""); err != nil {
		t.Fatal(err)
	}
	reaches("without a file", b.URL, false)
}

func TestCAFilesThatAreRefused(t *testing.T) {
	good, err := os.ReadFile(networktest.NewAuthority(t, "Harbour CA").File(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		data []byte
		says string
	}{
		"empty":         {nil, "no certificate"},
		"no PEM":        {[]byte("harbour"), "no certificate"},
		"too large":     {bytes.Repeat([]byte("\n"), maxCAFile+1), "larger"},
		"a key":         {append(bytes.Clone(good), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})...), "PRIVATE KEY"},
		"a damaged one": {append(bytes.Clone(good), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})...), "certificate 2"},
	} {
		path := filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(path, tc.data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := New(Config{CAFile: path}); err == nil || !strings.HasPrefix(err.Error(), "ca_file: "+path) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: got %v, want it to say %q", name, err, tc.says)
		}
	}
	if _, err := New(Config{CAFile: filepath.Join(t.TempDir(), "none.pem")}); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "ca_file") {
		t.Errorf("missing: %v", err)
	}
}

// FuzzParseRoots: no panic, and what is read is read again from what it holds.
func FuzzParseRoots(f *testing.F) {
	good, err := os.ReadFile(networktest.NewAuthority(f, "Harbour CA").File(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := parseRoots(data)
		if err != nil {
			return
		}
		var again []byte
		for _, c := range first {
			again = append(again, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		}
		second, err := parseRoots(again)
		if err != nil || len(second) != len(first) || !bytes.Equal(second[0].Raw, first[0].Raw) {
			t.Errorf("read again: %d of %d, %v", len(second), len(first), err)
		}
	})
}

// What is trusted may change while somebody asks for it.
func TestTrustWhileItIsAskedFor(t *testing.T) {
	n, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 100 {
			if n.TLS() == nil {
				t.Error("nobody is trusted")
			}
		}
	}()
	for range 100 { // the same name again would change nothing
		n.mu.Lock()
		err := n.trust("")
		n.mu.Unlock()
		if err != nil {
			t.Error(err)
		}
	}
	<-done
}
