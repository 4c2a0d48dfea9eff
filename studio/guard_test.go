package studio

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"studioworker/worker/protocol"
)

// TestDNSRebinding: a page whose name was made to point at the studio comes with
// that name, and gets nothing, whatever it asks for.
func TestDNSRebinding(t *testing.T) {
	f := newFarm(t, func(c *Config) { c.PublicURL = "https://studio.example.org" })
	ask := func(host, path string) (int, []byte) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		req.Header.Set("Authorization", "Bearer "+f.token)
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, data
	}
	for _, path := range []string{"/", "/healthz", "/metrics", "/api/v1/jobs", workers + "x/connect"} {
		for _, host := range []string{"evil.example", "evil.example:9790", "127.0.0.1.evil.example", "localhost.evil.example", "studio.example.org.evil.example"} {
			status, data := ask(host, path)
			wantError(t, status, data, http.StatusMisdirectedRequest, "unknown_host")
		}
	}
	own, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"localhost", "LocalHost:80", "127.0.0.1", "[::1]:9790", "192.168.1.20:9790", "studio.example.org", "studio.example.org:443", "studio.localhost", own} {
		if status, data := ask(host, "/api/v1/jobs"); status != http.StatusOK {
			t.Errorf("as %s: %d %s", host, status, data)
		}
	}
}

// TestCrossOriginRequests: what another page makes a browser send changes
// nothing, even where no credentials are needed.
func TestCrossOriginRequests(t *testing.T) {
	f := newFarm(t, nil)
	for _, header := range [][]string{
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"},
	} {
		status, data := f.call(t, http.MethodPost, workers+"register-request", "", strings.NewReader(registration("i", secret)), header...)
		wantError(t, status, data, http.StatusForbidden, "cross_origin")
		status, data = f.call(t, http.MethodPost, "/api/v1/jobs", f.token, strings.NewReader(imageJob), header...)
		wantError(t, status, data, http.StatusForbidden, "cross_origin")
	}
	status, data := f.call(t, http.MethodPost, "/api/v1/jobs", f.token, strings.NewReader(imageJob), "Sec-Fetch-Site", "same-origin", "Origin", f.url)
	if status != http.StatusCreated {
		t.Errorf("the studio's own page: %d %s", status, data)
	}
}

// TestReachIsChecked: a config that cannot be meant is refused at the start.
func TestReachIsChecked(t *testing.T) {
	dir := t.TempDir()
	for name, change := range map[string]func(*Config){
		"no scheme":       func(c *Config) { c.PublicURL = "studio.example.org" },
		"another scheme":  func(c *Config) { c.PublicURL = "ftp://studio.example.org" },
		"no host":         func(c *Config) { c.PublicURL = "https://" },
		"a path":          func(c *Config) { c.PublicURL = "https://example.org/studio" },
		"a user":          func(c *Config) { c.PublicURL = "https://sam@example.org" },
		"half of TLS":     func(c *Config) { c.TLSCert = filepath.Join(dir, "cert.pem") },
		"no certificate":  func(c *Config) { c.TLSCert, c.TLSKey = filepath.Join(dir, "no.pem"), filepath.Join(dir, "no.key") },
		"no PEM in there": func(c *Config) { c.TLSCert, c.TLSKey = "guard_test.go", "guard_test.go" },
	} {
		cfg := Config{Data: filepath.Join(t.TempDir(), "data"), Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)}
		change(&cfg)
		if s, err := New(cfg); err == nil {
			t.Errorf("%s: the studio starts at %s", name, s.Addr())
		}
		if _, err := os.Stat(cfg.Data); err == nil {
			t.Errorf("%s: the data folder was made", name)
		}
	}
}

func TestClientBehindProxies(t *testing.T) {
	g, err := newGuard(Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, remote string
		forwarded    []string
		proto        string
		want         string
		secure       bool
	}{
		{"direct", "203.0.113.7:1000", nil, "", "203.0.113.7", false},
		{"a stranger's claim", "203.0.113.7:1000", []string{"198.51.100.9"}, "https", "203.0.113.7", false},
		{"one proxy", "10.0.0.1:1000", []string{"198.51.100.9"}, "https", "198.51.100.9", true},
		{"two proxies", "10.0.0.1:1000", []string{"198.51.100.9, 10.0.0.2"}, "http", "198.51.100.9", false},
		{"two headers", "10.0.0.1:1000", []string{"1.2.3.4", "198.51.100.9"}, "HTTPS", "198.51.100.9", true},
		{"made up before it", "10.0.0.1:1000", []string{"127.0.0.1, 198.51.100.9"}, "https", "198.51.100.9", true},
		{"mapped", "[::ffff:10.0.0.1]:1000", []string{"::ffff:198.51.100.9"}, "https", "198.51.100.9", true},
		{"only proxies", "[::1]:1000", []string{"10.0.0.3"}, "", "10.0.0.3", false},
		{"nonsense", "10.0.0.1:1000", []string{"<script>"}, "", "10.0.0.1", false},
		{"nothing", "10.0.0.1:1000", nil, "", "10.0.0.1", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			r.RemoteAddr = tt.remote
			r.Header["X-Forwarded-For"] = tt.forwarded
			r.Header.Set("X-Forwarded-Proto", tt.proto)
			if got := g.client(r); got != tt.want {
				t.Errorf("client is %q, want %q", got, tt.want)
			}
			if got := g.secure(r); got != tt.secure {
				t.Errorf("secure is %v", got)
			}
		})
	}
}

// TestRegisterLimitBehindAProxy: the limit of requests is that of the worker's
// address, not of the proxy's.
func TestRegisterLimitBehindAProxy(t *testing.T) {
	f := newFarm(t, func(c *Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	ask := func(from string) (int, []byte) {
		return f.call(t, http.MethodPost, workers+"register-request", "", strings.NewReader(registration("i", secret)), "X-Forwarded-For", from)
	}
	for range requestsPerMinute {
		if status, data := ask("198.51.100.9"); status != http.StatusCreated {
			t.Fatalf("answered %d %s", status, data)
		}
	}
	status, data := ask("198.51.100.9")
	wantError(t, status, data, http.StatusTooManyRequests, "too_many_requests")
	if status, data := ask("198.51.100.10"); status != http.StatusCreated {
		t.Errorf("another address: %d %s", status, data)
	}
	for _, row := range f.studio.people.requests() {
		if !strings.HasPrefix(row.Address, "198.51.100.") {
			t.Errorf("the request came from %q", row.Address)
		}
	}
}

// selfSigned writes a certificate for this computer, and returns its serial
// number.
func selfSigned(tb testing.TB, cert, key string) *big.Int {
	tb.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "studio"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		tb.Fatal(err)
	}
	pkcs, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		tb.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return serial
}

// TestTLS: the studio speaks HTTPS, and a worker's session opens over it.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	selfSigned(t, cert, key)
	f := newFarm(t, func(c *Config) { c.TLSCert, c.TLSKey = cert, key })
	if !strings.HasPrefix(f.url, "https://") {
		t.Fatalf("the studio is at %s", f.url)
	}
	data, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data) {
		t.Fatal("the certificate cannot be read")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.url+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
		t.Errorf("answered %s %s", resp.Proto, resp.Status)
	}
	dialer := websocket.Dialer{TLSClientConfig: transport.TLSClientConfig.Clone(), Subprotocols: []string{protocol.Version}, HandshakeTimeout: patience}
	dialer.TLSClientConfig.NextProtos = nil
	base, err := protocol.ParseBase(f.url)
	if err != nil {
		t.Fatal(err)
	}
	_, resp, err = dialer.DialContext(t.Context(), base.ConnectURL("nobody"), http.Header{"Authorization": {"Bearer wrong"}})
	if err == nil || resp == nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a stranger's WebSocket: %v %v", resp, err)
	}
	if resp != nil {
		resp.Body.Close()
	}
}

// TestCertificateIsReadAgain: a new certificate is used without a restart, and a
// damaged one is not.
func TestCertificateIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		first := selfSigned(t, cert, key)
		var text strings.Builder
		c, err := loadCertificate(cert, key, slog.New(slog.NewTextHandler(&text, nil)))
		if err != nil {
			t.Fatal(err)
		}
		serial := func() *big.Int {
			t.Helper()
			pair, err := c.get(nil)
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := x509.ParseCertificate(pair.Certificate[0])
			if err != nil {
				t.Fatal(err)
			}
			return leaf.SerialNumber
		}
		stamped := time.Now()
		stamp := func() { // files change faster than the clock of this test
			t.Helper()
			stamped = stamped.Add(time.Hour)
			for _, path := range []string{cert, key} {
				if err := os.Chtimes(path, stamped, stamped); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := serial(); got.Cmp(first) != 0 {
			t.Errorf("serial %v, want %v", got, first)
		}
		second := selfSigned(t, cert, key)
		stamp()
		if got := serial(); got.Cmp(first) != 0 {
			t.Error("the files are looked at for each connection")
		}
		time.Sleep(certCheck)
		if got := serial(); got.Cmp(second) != 0 {
			t.Errorf("serial %v, want %v", got, second)
		}
		if err := os.WriteFile(key, []byte("half a k"), 0o600); err != nil {
			t.Fatal(err)
		}
		stamp()
		time.Sleep(certCheck)
		if got := serial(); got.Cmp(second) != 0 || !strings.Contains(text.String(), "the one before stays") {
			t.Errorf("serial %v, log %s", got, text.String())
		}
		if err := os.Remove(key); err != nil {
			t.Fatal(err)
		}
		time.Sleep(certCheck)
		if got := serial(); got.Cmp(second) != 0 {
			t.Errorf("without the key file: serial %v", got)
		}
	})
}

// TestMetrics: Prometheus reads them with the metrics token or the operator's,
// and with nothing else; names and help follow its rules.
func TestMetrics(t *testing.T) {
	f := newFarm(t, nil)
	w := f.worker(t)
	l := w.connect(t, "")
	id := f.submit(t, imageJob).ID
	l.take(t)
	w.deliver(t, id, []byte("RIFFxxxxWEBP"))
	f.await(t, id, in("done"))
	f.submit(t, voiceJob)
	for _, token := range []string{"", "wrong", w.token} {
		status, data := f.call(t, http.MethodGet, "/metrics", token, nil)
		wantError(t, status, data, http.StatusUnauthorized, "unauthorized")
	}
	own, err := os.ReadFile(filepath.Join(f.studio.cfg.Data, metricsTokenFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{f.token, strings.TrimSpace(string(own))} {
		status, data := f.call(t, http.MethodGet, "/metrics", token, nil)
		if status != http.StatusOK {
			t.Fatalf("answered %d %s", status, data)
		}
		for _, line := range []string{
			`studio_build_info{version="1.2.3"} 1`, `studio_jobs{state="done"} 1`, `studio_jobs_finished_total{kind="image",outcome="done"} 1`,
			`studio_job_run_seconds_count{kind="image"} 1`, `studio_job_wait_seconds_count{kind="image"} 1`, `studio_store_up 1`,
			`studio_registrations_pending 0`, `studio_http_requests_total{code="201",route="POST /api/v1/jobs"} 2`, `studio_refused_total{reason="token"} 3`,
		} {
			if !strings.Contains(string(data), line+"\n") {
				t.Errorf("no line %s in\n%s", line, data)
			}
		}
	}
	status, data := f.call(t, http.MethodGet, "/api/v1/jobs", strings.TrimSpace(string(own)), nil)
	wantError(t, status, data, http.StatusUnauthorized, "unauthorized")
	problems, err := testutil.GatherAndLint(f.studio.metrics.registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}

// TestAccessLog: each request has one line, without what is secret in it.
func TestAccessLog(t *testing.T) {
	var mu sync.Mutex
	var text strings.Builder
	f := newFarm(t, func(c *Config) {
		c.Access = slog.New(slog.NewJSONHandler(writerFunc(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return text.Write(p)
		}), nil))
	})
	f.call(t, http.MethodGet, "/api/v1/jobs/none?token=hush", f.token, nil, "User-Agent", "probe/1")
	f.stop()
	mu.Lock()
	defer mu.Unlock()
	var line struct {
		Method, Route, ID, Address, Agent string
		Status, Bytes                     int
	}
	if err := json.Unmarshal([]byte(text.String()), &line); err != nil {
		t.Fatalf("%v: %s", err, text.String())
	}
	if line.Method != "GET" || line.Route != "GET /api/v1/jobs/{id}" || line.ID != "none" || line.Status != http.StatusNotFound ||
		line.Bytes == 0 || line.Address != "127.0.0.1" || line.Agent != "probe/1" {
		t.Errorf("line %+v", line)
	}
	for _, hush := range []string{"hush", f.token} {
		if strings.Contains(text.String(), hush) {
			t.Errorf("the line says %q: %s", hush, text.String())
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestRestartIsSpread: a studio that stops tells each worker when to come back.
func TestRestartIsSpread(t *testing.T) {
	f := newFarm(t, nil)
	l := f.worker(t).connect(t, "")
	f.stop()
	for {
		_, err := l.read(t)
		if err == nil {
			continue
		}
		closed, ok := err.(*websocket.CloseError) //nolint:errorlint // as the library returns it
		if !ok || closed.Code != int(protocol.CloseGoingAway) {
			t.Fatalf("ended with %v", err)
		}
		if after, ok := protocol.ReconnectAfter(closed.Text); !ok || after > handshake {
			t.Errorf("one worker is told %q", closed.Text)
		}
		return
	}
}
