package outbox

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"studioworker/worker/protocol"
)

const secret = "tok-8841-opaque"

// fault is what a studio does to one upload.
type fault string

const (
	faultNone   fault = "none"
	faultDrop   fault = "commit, then drop the answer"
	fault503    fault = "503 first"
	faultReset  fault = "reset in mid-body"
	maxTestBody       = 1 << 20
)

// delivery is an upload as the studio saw it.
type delivery struct {
	path   string
	header http.Header
	length int64
	parts  []part
}

type part struct {
	name, file, kind, text string
}

// studio takes uploads as ours does: a key that it knows is answered again
// without a second commit, another key for a finished job draws 409.
type studio struct {
	*httptest.Server

	mu       sync.Mutex
	fault    fault // of the next upload
	answer   http.HandlerFunc
	commits  []delivery
	keys     map[string]string // by path
	requests int
}

func newStudio(t *testing.T) *studio {
	t.Helper()
	s := &studio{fault: faultNone, keys: map[string]string{}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.complete))
	t.Cleanup(s.Close)
	return s
}

func (s *studio) complete(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	now := s.fault
	s.fault = faultNone
	switch {
	case now == fault503:
		http.Error(w, "restarting", http.StatusServiceUnavailable)
		return
	case now == faultReset:
		_, _ = io.CopyN(io.Discard, r.Body, 10_000)
		reset(w)
		return
	case s.answer != nil:
		s.answer(w, r)
		return
	}
	d, err := receive(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	key := r.Header.Get("Idempotency-Key")
	switch have, done := s.keys[d.path]; {
	case done && have != key:
		http.Error(w, "already finished", http.StatusConflict)
		return
	case !done:
		s.keys[d.path] = key
		s.commits = append(s.commits, d)
	}
	if now == faultDrop {
		reset(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"ok":true}`)
}

// reset ends the connection as a crash does.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// receive reads an upload and checks it against its digest and its key.
func receive(r *http.Request) (delivery, error) {
	d := delivery{path: r.URL.EscapedPath(), header: r.Header.Clone(), length: r.ContentLength}
	whole := sha256.New()
	body := io.TeeReader(io.LimitReader(r.Body, maxTestBody), whole)
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return d, err
	}
	mr := multipart.NewReader(body, params["boundary"])
	for {
		p, err := mr.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return d, err
		}
		text, err := io.ReadAll(p)
		if err != nil {
			return d, err
		}
		d.parts = append(d.parts, part{p.FormName(), p.FileName(), p.Header.Get("Content-Type"), string(text)})
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		return d, err
	}
	if want := "sha-256=:" + base64.StdEncoding.EncodeToString(whole.Sum(nil)) + ":"; r.Header.Get("Content-Digest") != want {
		return d, errors.New("the digest is not that of the body")
	}
	sum := sha256.Sum256([]byte(d.parts[len(d.parts)-1].text))
	if !strings.HasSuffix(r.Header.Get("Idempotency-Key"), "/"+hex.EncodeToString(sum[:])) {
		return d, errors.New("the key does not hold the hash of the file")
	}
	return d, nil
}

// will sets what happens to the next upload.
func (s *studio) will(f fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// replies lets answer take all uploads; nil stores them again.
func (s *studio) replies(answer http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// committed returns what the studio has stored.
func (s *studio) committed() []delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.commits)
}

func (s *studio) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// target is where a deliverer finds the studio at address.
func target(address string) func() (Target, bool) {
	return func() (Target, bool) {
		base, err := protocol.ParseBase(address)
		return Target{Base: base, WorkerID: "wk-20", Token: secret}, err == nil
	}
}

// deliverer is one that talks to the studio at address over real sockets.
func deliverer(t *testing.T, o *Outbox, address string, change ...func(*DelivererConfig)) *Deliverer {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	cfg := DelivererConfig{
		Outbox: o, HTTP: &http.Client{Transport: transport}, Target: target(address), Log: quiet(), UserAgent: "studio-worker/test",
	}
	for _, c := range change {
		c(&cfg)
	}
	return NewDeliverer(cfg)
}
