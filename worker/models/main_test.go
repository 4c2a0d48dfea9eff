package models

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"studioworker/worker/observe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pattern is n bytes that differ from place to place.
func pattern(n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i*7 + i>>8)
	}
	return data
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// server gives one file and does to it what a test wants.
type server struct {
	*httptest.Server
	t *testing.T

	mu       sync.Mutex
	data     []byte
	etag     string
	noRange  bool
	requests []http.Header
	// each may answer a request itself; it then returns true.
	each func(w http.ResponseWriter, r *http.Request, n int) bool
}

func newServer(t *testing.T, data []byte) *server {
	t.Helper()
	s := &server{t: t, data: data, etag: `"v1"`}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Header.Clone())
	n, data, etag, noRange, each := len(s.requests), s.data, s.etag, s.noRange, s.each
	s.mu.Unlock()
	if each != nil && each(w, r, n) {
		return
	}
	if etag != "" {
		w.Header().Set("ETag", etag)
	}
	from := 0
	if spec := r.Header.Get("Range"); spec != "" && !noRange {
		if condition := r.Header.Get("If-Range"); condition == "" || condition == etag {
			from, _ = strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(spec, "bytes="), "-"))
		}
		if from >= len(data) {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(data)-from))
	if from > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
		w.WriteHeader(http.StatusPartialContent)
	}
	_, _ = w.Write(data[from:])
}

// cut sends some bytes of a whole answer and ends the connection.
func (s *server) cut(w http.ResponseWriter, from, to int) {
	w.Header().Set("Content-Length", strconv.Itoa(len(s.data)-from))
	if s.etag != "" {
		w.Header().Set("ETag", s.etag)
	}
	if from > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(s.data)-1, len(s.data)))
		w.WriteHeader(http.StatusPartialContent)
	}
	_, _ = w.Write(s.data[from:to])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

func (s *server) header(n int, name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[n].Get(name)
}

// fixture is a store over a folder of its own.
type fixture struct {
	*Store
	t         *testing.T
	root      string
	log       *bytes.Buffer
	downloads observe.Slot[[]observe.Download]
	quota     int64
	free      func(string) (uint64, error)
}

func newStore(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, root: filepath.Join(t.TempDir(), "models"), log: &bytes.Buffer{}}
	f.free = func(string) (uint64, error) { return 1 << 40, nil }
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	f.Store = New(Config{
		Root: func() string { return f.root }, Quota: func() int64 { return f.quota }, HTTP: client, UserAgent: "studio-worker/test", FirstPause: time.Millisecond,
		FreeDisk: func(dir string) (uint64, error) { return f.free(dir) }, Observer: &f.downloads,
		Log: slog.New(slog.NewTextHandler(f.log, nil)),
	})
	return f
}

// get ensures one file and releases it.
func (f *fixture) get(model string, file File) (string, error) {
	f.t.Helper()
	return f.getIn(f.t.Context(), Set{Model: model, Files: []File{file}})
}

func (f *fixture) getIn(ctx context.Context, set Set) (string, error) {
	f.t.Helper()
	held, err := f.Ensure(ctx, set, nil)
	if err != nil {
		return "", err
	}
	defer held.Release()
	return held.Paths[0], nil
}

// holds checks the content of a file of the store.
func (f *fixture) holds(path string, data []byte) {
	f.t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, data) {
		f.t.Errorf("%s holds %d bytes, want %d: %v", filepath.Base(path), len(got), len(data), err)
	}
}

// files lists what a person would see, without our own folder.
func (f *fixture) files() []string {
	f.t.Helper()
	var names []string
	err := filepath.WalkDir(f.root, func(path string, d os.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err == nil && d.IsDir() && d.Name() == stateFolder {
			return filepath.SkipDir
		}
		if err == nil && !d.IsDir() {
			names = append(names, relative(f.root, path))
		}
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return names
}
