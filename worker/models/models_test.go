package models

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"studioworker/worker/observe"
)

func TestSpec117TheFileLandsUnderItsName(t *testing.T) {
	data := pattern(300_000)
	s, f := newServer(t, data), newStore(t)
	path, err := f.get("org/model:v2", File{URL: s.URL, Filename: "a.gguf"})
	if err != nil || path != filepath.Join(f.root, "org_model_v2", "a.gguf") {
		t.Fatalf("%q, %v", path, err)
	}
	f.holds(path, data)
	if got := f.files(); !slices.Equal(got, []string{"org_model_v2/a.gguf"}) {
		t.Errorf("files %q", got)
	}
	if agent := s.header(0, "User-Agent"); agent != "studio-worker/test" {
		t.Errorf("user agent %q", agent)
	}
	if s.header(0, "Range") != "" || len(f.downloads.Get()) != 0 {
		t.Errorf("range %q, still shown %v", s.header(0, "Range"), f.downloads.Get())
	}
}

func TestSpec118ACachedFileNeedsNoNetwork(t *testing.T) {
	s, f := newServer(t, pattern(1000)), newStore(t)
	for range 3 {
		if _, err := f.get("m", File{URL: s.URL, Filename: "a.gguf"}); err != nil {
			t.Fatal(err)
		}
	}
	if s.count() != 1 {
		t.Errorf("%d requests, want 1", s.count())
	}
}

func TestFlatFilesAreReused(t *testing.T) {
	s, f := newServer(t, pattern(1000)), newStore(t)
	put := func(name string, n int) string {
		path := filepath.Join(f.root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, pattern(n), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	flat := put("flat.gguf", 500)
	own := put("own/flat.gguf", 3)
	for _, c := range []struct {
		name string
		set  Set
		want string
	}{ // in this order: the last but one puts a file into llm
		{"a flat file", Set{Model: "m", Files: []File{{Filename: "flat.gguf", ApproxBytes: 7}}}, flat},
		{"for an llm of unknown size", Set{Model: "m", Folder: FolderLLM, Files: []File{{Filename: "flat.gguf"}}}, flat},
		{"for an llm of the same size", Set{Model: "m", Folder: FolderLLM, Files: []File{{Filename: "flat.gguf", ApproxBytes: 500}}}, flat},
		{"not for an llm of another size", Set{Model: "m", Folder: FolderLLM, Files: []File{{Filename: "flat.gguf", ApproxBytes: 7, URL: s.URL}}}, filepath.Join(f.root, "llm", "flat.gguf")},
		{"the model's own folder comes first", Set{Model: "own", Files: []File{{Filename: "flat.gguf"}}}, own},
	} {
		if got, err := f.getIn(t.Context(), c.set); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
	if s.count() != 1 {
		t.Errorf("%d requests, want 1", s.count())
	}
}

// Two models in the shared folder may have files of one name.
func TestFilesOfOneNameAreToldApart(t *testing.T) {
	one, two := pattern(1000), pattern(2000)
	first, second, f := newServer(t, one), newServer(t, two), newStore(t)
	get := func(model string, s *server, data []byte) {
		t.Helper()
		path, err := f.getIn(t.Context(), Set{Model: model, Folder: FolderLLM, Files: []File{{URL: s.URL, Filename: "model.gguf", SHA256: sum(data)}}})
		if err != nil {
			t.Fatal(err)
		}
		f.holds(path, data)
	}
	for range 2 {
		get("one", first, one)
		get("two", second, two)
	}
	if first.count() != 1 || second.count() != 1 {
		t.Errorf("%d and %d requests, want 1 each", first.count(), second.count())
	}
	path, err := f.get("own", File{URL: first.URL, Filename: "m.gguf", SHA256: sum(one)})
	if err != nil {
		t.Fatal(err)
	}
	f.holds(path, one)
	if path, err = f.get("own", File{URL: second.URL, Filename: "m.gguf", SHA256: sum(two)}); err != nil { // the model has a new version
		t.Fatal(err)
	}
	f.holds(path, two)
}

func TestSpec119TheHashMayBeWrittenInAnyCase(t *testing.T) {
	data := pattern(5000)
	s := newServer(t, data)
	for i, hash := range []string{sum(data), strings.ToUpper(sum(data)), " " + sum(data) + "\n"} {
		if _, err := newStore(t).get("m", File{URL: s.URL, Filename: "a.gguf", SHA256: hash}); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func TestSpec120AndRow45AWrongHashLeavesNothing(t *testing.T) {
	s, f := newServer(t, pattern(5000)), newStore(t)
	_, err := f.get("m", File{URL: s.URL, Filename: "a.gguf", SHA256: strings.Repeat("0", 64)})
	if e, ok := errors.AsType[*Error](err); !ok || e.Kind != Corrupt || !strings.Contains(err.Error(), "a.gguf") {
		t.Errorf("err = %v, want corrupt", err)
	}
	if got := f.files(); len(got) != 0 || s.count() != 1 {
		t.Errorf("files %q after %d requests", got, s.count())
	}
}

func TestSpec121AShortBodyLeavesNothing(t *testing.T) {
	s := newServer(t, pattern(5000))
	s.etag = ""
	s.each = func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		s.cut(w, 0, 100)
		return true
	}
	f := newStore(t)
	_, err := f.get("m", File{URL: s.URL, Filename: "a.gguf"})
	if e, ok := errors.AsType[*Error](err); !ok || e.Kind != Unavailable {
		t.Errorf("err = %v, want unavailable", err)
	}
	if got := f.files(); len(got) != 0 {
		t.Errorf("files %q", got)
	}
}

func TestSpec122AndOtherAnswers(t *testing.T) {
	for status, want := range map[int]struct {
		requests int
		text     string
	}{404: {1, "-> 404"}, 403: {1, "-> 403"}, 410: {1, "-> 410"}, 503: {5, "-> 503"}, 429: {5, "-> 429"}} {
		s, f := newServer(t, nil), newStore(t)
		s.each = func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.WriteHeader(status)
			return true
		}
		_, err := f.get("m", File{URL: s.URL + "/x.gguf?token=secret", Filename: "a.gguf"})
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Kind != Unavailable || !strings.Contains(err.Error(), want.text) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%d: %v", status, err)
		}
		if s.count() != want.requests || len(f.files()) != 0 {
			t.Errorf("%d: %d requests, want %d; files %q", status, s.count(), want.requests, f.files())
		}
	}
}

// A download is cut at 30 % five times, and at 99 % (fault row 43).
func TestRow43ACutDownloadGoesOn(t *testing.T) {
	data := pattern(1_000_000)
	s, f := newServer(t, data), newStore(t)
	ends := []int{300_000, 510_000, 657_000, 759_900, 990_000}
	s.each = func(w http.ResponseWriter, _ *http.Request, n int) bool {
		if n > len(ends) {
			return false
		}
		from := 0
		if n > 1 {
			from = ends[n-2]
		}
		s.cut(w, from, ends[n-1])
		return true
	}
	path, err := f.get("m", File{URL: s.URL, Filename: "a.gguf", SHA256: sum(data)})
	if err != nil {
		t.Fatal(err)
	}
	f.holds(path, data)
	for i := 1; i <= len(ends); i++ {
		want := "bytes=" + strconv.Itoa(ends[i-1]) + "-"
		if got, condition := s.header(i, "Range"), s.header(i, "If-Range"); got != want || condition != `"v1"` {
			t.Errorf("request %d: %q if %q, want %q", i, got, condition, want)
		}
	}
}

// A download that was stopped goes on where it was, without reading the part
// again, also in another process.
func TestAStoppedDownloadIsContinuedByAnother(t *testing.T) {
	data := pattern(1_000_000)
	s, f := newServer(t, data), newStore(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the worker is stopping")
	s.each = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if n > 1 {
			return false
		}
		w.Header().Set("ETag", s.etag)
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data[:400_000])
		_ = http.NewResponseController(w).Flush()
		for !slices.ContainsFunc(f.downloads.Get(), func(d observe.Download) bool { return d.Bytes > 0 }) && r.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		cancel(why)
		<-r.Context().Done()
		return true
	}
	file := File{URL: s.URL, Filename: "a.gguf"}
	if _, err := f.getIn(ctx, Set{Model: "m", Files: []File{file}}); !errors.Is(err, why) {
		t.Fatalf("err = %v, want the cause", err)
	}
	if got := f.files(); !slices.Equal(got, []string{"m/a.gguf.part", "m/a.gguf.part.json"}) {
		t.Fatalf("files %q", got)
	}
	again := newStore(t)
	again.root = f.root
	path, err := again.get("m", file)
	if err != nil {
		t.Fatal(err)
	}
	again.holds(path, data)
	if s.header(1, "Range") == "" || len(again.files()) != 1 {
		t.Errorf("range %q, files %q", s.header(1, "Range"), again.files())
	}
}

func TestRow44AServerWithoutRangesAndAFileThatChanged(t *testing.T) {
	data := pattern(1_000_000)
	for name, change := range map[string]func(*server){
		"ignores ranges":        func(s *server) { s.noRange = true },
		"changed in between":    func(s *server) { s.data, s.etag = pattern(700_000), `"v2"` },
		"changed and shorter":   func(s *server) { s.data, s.etag = pattern(70_000), `"v2"` },
		"gone on elsewhere":     func(s *server) { s.each = elsewhere },
		"shorter under its tag": func(s *server) { s.data = pattern(70_000) },
	} {
		t.Run(name, func(t *testing.T) {
			s, f := newServer(t, data), newStore(t)
			s.each = func(w http.ResponseWriter, _ *http.Request, n int) bool {
				if n > 1 {
					return false
				}
				s.mu.Lock()
				defer s.mu.Unlock()
				s.each = nil
				defer change(s)
				s.cut(w, 0, 300_000)
				return true
			}
			path, err := f.get("m", File{URL: s.URL, Filename: "a.gguf"})
			if err != nil {
				t.Fatal(err)
			}
			f.holds(path, s.data)
		})
	}
}

// elsewhere answers a range with another one, once.
func elsewhere(w http.ResponseWriter, r *http.Request, _ int) bool {
	if r.Header.Get("Range") == "" {
		return false
	}
	w.Header().Set("Content-Range", "bytes 5-9/1000000")
	w.WriteHeader(http.StatusPartialContent)
	return true
}

func TestRow46ManyWantOneFile(t *testing.T) {
	data := pattern(500_000)
	s, f := newServer(t, data), newStore(t)
	open := make(chan struct{})
	s.each = func(http.ResponseWriter, *http.Request, int) bool { <-open; return false }
	other := newStore(t) // as another process would
	other.root = f.root
	var wg sync.WaitGroup
	for i := range 20 {
		store := f
		if i%2 == 1 {
			store = other
		}
		wg.Go(func() {
			path, err := store.get("m", File{URL: s.URL, Filename: "a.gguf", SHA256: sum(data)})
			if err != nil {
				t.Error(err)
				return
			}
			store.holds(path, data)
		})
	}
	close(open)
	wg.Wait()
	if s.count() != 1 {
		t.Errorf("%d requests, want 1", s.count())
	}
}

// Who leaves does not take the download from the others.
func TestTheLastToLeaveEndsTheDownload(t *testing.T) {
	s, f := newServer(t, pattern(1000)), newStore(t)
	asked, gone := make(chan struct{}), make(chan struct{})
	s.each = func(_ http.ResponseWriter, r *http.Request, n int) bool {
		if n == 1 {
			close(asked)
			<-r.Context().Done()
			close(gone)
			return true
		}
		return false
	}
	set := Set{Model: "m", Files: []File{{URL: s.URL, Filename: "a.gguf"}}}
	first, leaveFirst := context.WithCancel(t.Context())
	second, leaveSecond := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	for _, ctx := range []context.Context{first, second} {
		go func() { _, err := f.getIn(ctx, set); ended <- err }()
	}
	<-asked
	for f.waiting() != 2 {
		time.Sleep(time.Millisecond)
	}
	leaveFirst()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the first left with %v", err)
	}
	select {
	case <-gone:
		t.Error("the download ended with the first")
	default:
	}
	leaveSecond()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the second left with %v", err)
	}
	<-gone
	if _, err := f.getIn(t.Context(), set); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func (f *fixture) waiting() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, fl := range f.flights {
		n += fl.waiting
	}
	return n
}

func TestSpec123AndRow49Names(t *testing.T) {
	s, f := newServer(t, pattern(10)), newStore(t)
	for _, name := range []string{
		"../x", "../../x", "a/b", `a\b`, "/x", "", ".", "..", ".hidden", `..\win.txt`, `C:\x`, "C:x", "CON", "con.gguf", "nul", "COM1.bin", "LPT9",
		strings.Repeat("x", 4096), strings.Repeat("x", 129), "a b.gguf", "a\x00b", "ü.gguf", "a.gguf.part", "a.gguf.part.json", "model.ckpt", "m.PT", "x.",
	} {
		_, err := f.get("m", File{URL: s.URL, Filename: name})
		if e, ok := errors.AsType[*Error](err); !ok || e.Kind != Refused || len(err.Error()) > 300 {
			t.Errorf("%.40q: %v", name, err)
		}
	}
	for _, name := range []string{"a.gguf", "A-b_c.1.safetensors", strings.Repeat("x", 128), "con2.gguf", "ggml-tiny.bin"} {
		if err := CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	if s.count() != 0 || len(f.files()) != 0 {
		t.Errorf("%d requests, files %q", s.count(), f.files())
	}
}

func TestSpec124Folders(t *testing.T) {
	for model, want := range map[string]string{
		"org/model:v2": "org_model_v2", "..": "_.", ".git": "_git", "": "_", `a\b`: "a_b", "ok-1.2_3": "ok-1.2_3", "ü x": "__x",
	} {
		if got := FolderOf(model); got != want {
			t.Errorf("FolderOf(%q) = %q, want %q", model, got, want)
		}
	}
}

func TestSpec125TheDiskIsAskedFirst(t *testing.T) {
	s := newServer(t, pattern(100))
	for free, fits := range map[uint64]bool{110: true, 109: false} {
		f := newStore(t)
		var asked string
		f.free = func(dir string) (uint64, error) { asked = dir; return free, nil }
		_, err := f.get("m", File{URL: s.URL, Filename: "a.gguf", ApproxBytes: 100})
		if (err == nil) != fits {
			t.Errorf("%d free: %v", free, err)
		}
		if !fits {
			for _, part := range []string{"a.gguf", "109", "100", f.root} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not name %s", err, part)
				}
			}
			if e, ok := errors.AsType[*Error](err); !ok || e.Kind != NoRoom {
				t.Errorf("err = %v", err)
			}
		}
		if info, err := os.Stat(asked); err != nil || !info.IsDir() {
			t.Errorf("asked for %q", asked)
		}
	}
	if withMargin(1<<64-1) != 1<<64-1 {
		t.Error("huge sizes overflow")
	}
	f := newStore(t)
	f.free = func(string) (uint64, error) { return 0, errors.New("no such disk") }
	if _, err := f.get("m", File{URL: s.URL, Filename: "a.gguf", ApproxBytes: 100}); err != nil {
		t.Errorf("a failed probe: %v", err)
	}
	f = newStore(t)
	f.free = func(string) (uint64, error) { return 50, nil } // only the answer says how long it is
	if _, err := f.get("m", File{URL: s.URL, Filename: "a.gguf"}); err == nil || len(f.files()) != 0 {
		t.Errorf("unknown size: %v, files %q", err, f.files())
	}
}

func TestSpec126ContentRange(t *testing.T) {
	for header, want := range map[string][2]int64{
		"bytes 10-19/20": {10, 20}, "bytes 5-9/*": {5, 0}, "bytes */20": {-1}, "items 1-2/3": {-1}, "": {-1}, "bytes 9-5/20": {-1},
		"bytes 1-9/9": {-1}, "bytes x-9/20": {-1}, "bytes 1-2": {-1}, "bytes -1-2/9": {-1},
	} {
		start, total, ok := contentRange(header)
		if !ok {
			start = -1
		}
		if start != want[0] || total != want[1] {
			t.Errorf("%q: %d of %d, want %d", header, start, total, want)
		}
	}
}

func TestSpec127Addresses(t *testing.T) {
	for address, fits := range map[string]bool{
		"https://models.example/x": true, "http://127.0.0.1:9/x": true, "http://localhost/x": true, "http://[::1]:80/x": true, "http://127.9.9.9/": true,
		"http://models.example/x": false, "http://10.0.0.1/x": false, "file:///etc/passwd": false, "ftp://models.example/x": false,
		"javascript:alert(1)": false, "": false, "https://": false, "::": false, "http://127.0.0.1.models.example/": false,
	} {
		if err := CheckURL(address); (err == nil) != fits {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestRedirects(t *testing.T) {
	data := pattern(1000)
	target := newServer(t, data)
	for name, c := range map[string]struct {
		to   string
		want Kind
	}{
		"on this computer":        {target.URL, ""},
		"into a private network":  {"https://10.0.0.1/x", Refused},
		"to the metadata service": {"https://169.254.169.254/latest", Refused},
		"to an address of IPv6":   {"https://[fd00::1]/x", Refused},
		"to plain http":           {"http://models.example/x", Refused},
		"to a file":               {"file:///etc/passwd", Refused},
	} {
		s, f := newServer(t, nil), newStore(t)
		s.each = func(w http.ResponseWriter, r *http.Request, _ int) bool {
			http.Redirect(w, r, c.to, http.StatusFound)
			return true
		}
		_, err := f.get("m", File{URL: s.URL, Filename: "a.gguf"})
		e, _ := errors.AsType[*Error](err)
		if c.want == "" && err != nil || c.want != "" && (e == nil || e.Kind != c.want) || s.count() != 1 {
			t.Errorf("%s: %v after %d requests", name, err, s.count())
		}
		if c.want != "" && len(f.files()) != 0 {
			t.Errorf("%s: files %q", name, f.files())
		}
	}
	s, f := newServer(t, nil), newStore(t)
	s.each = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		http.Redirect(w, r, s.URL, http.StatusFound)
		return true
	}
	if _, err := f.get("m", File{URL: s.URL, Filename: "a.gguf"}); err == nil || s.count() != 4 {
		t.Errorf("in a circle: %v after %d requests", err, s.count())
	}
}

// silent is a server that gives some bytes and then nothing.
type silent struct{ given bool }

func (s *silent) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.given {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	s.given = true
	body := &stalling{ctx: r.Context(), left: 1000}
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Etag": {`"v1"`}}, Body: body, ContentLength: 5000, Request: r,
	}, nil
}

type stalling struct {
	ctx  context.Context //nolint:containedctx // the request's, as a body has it
	left int
}

func (s *stalling) Read(p []byte) (int, error) {
	if s.left > 0 {
		n := min(s.left, len(p))
		s.left -= n
		return n, nil
	}
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

func (*stalling) Close() error { return nil }

// A server that stops sending is left after a minute, however long a download
// may take as a whole.
func TestAStalledDownloadIsTriedAgain(t *testing.T) {
	f := newStore(t)
	f.http = &http.Client{Transport: &silent{}}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, err := f.getIn(t.Context(), Set{Model: "m", Files: []File{{URL: "https://models.example/a", Filename: "a.gguf"}}})
		if !errors.Is(err, errStall) {
			t.Errorf("err = %v", err)
		}
		if took := time.Since(start); took < idleTries*stallLimit || took > idleTries*stallLimit+time.Minute {
			t.Errorf("took %v", took)
		}
	})
	if got := f.files(); !slices.Contains(got, "m/a.gguf.part") {
		t.Errorf("files %q: what came was thrown away", got)
	}
}

// slow is a body that gives its data in three parts, with a pause after each that is
// longer than the time between two notes.
type slow struct {
	data  []byte
	parts [][]byte // what is still to come; begins as three parts of data
	look  func()   // after each pause
}

func (s *slow) Read(p []byte) (int, error) {
	if len(s.parts) == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	if len(s.parts[0]) == 0 {
		time.Sleep(2 * checkpoint)
		s.look()
		s.parts = s.parts[1:]
		return 0, nil
	}
	n := copy(p, s.parts[0])
	s.parts[0] = s.parts[0][n:]
	return n, nil
}

func (*slow) Close() error { return nil }

func (s *slow) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Etag": {`"v1"`}}, Body: s, ContentLength: int64(len(s.data)) + 1, Request: r,
	}, nil
}

// What is noted on the way is good: after a power cut the download goes on there.
func TestTheNotesOnTheWayAreGood(t *testing.T) {
	f := newStore(t)
	data := pattern(3_000_000)
	body := &slow{data: data, parts: [][]byte{data[:1_000_000], data[1_000_000:2_000_000], data[2_000_000:]}}
	var noted []int64
	body.look = func() {
		text, err := os.ReadFile(filepath.Join(f.root, "m", "a.gguf"+stateSuffix))
		if errors.Is(err, fs.ErrNotExist) {
			return // the first pause comes before the first note
		}
		p, decodeErr := decodePart(text)
		if err != nil || decodeErr != nil {
			t.Errorf("%v, %v", err, decodeErr)
			return
		}
		d := &download{}
		if err := d.restore(p.Hash); err != nil {
			t.Error(err)
			return
		}
		if got := hex.EncodeToString(d.hash.Sum(nil)); got != sum(data[:p.Bytes]) {
			t.Errorf("the hash of the first %d bytes is wrong", p.Bytes)
		}
		noted = append(noted, p.Bytes)
	}
	f.http = &http.Client{Transport: body}
	synctest.Test(t, func(t *testing.T) {
		if _, err := f.getIn(t.Context(), Set{Model: "m", Files: []File{{URL: "https://models.example/a", Filename: "a.gguf"}}}); err == nil {
			t.Error("a file that is cut off is taken")
		}
	})
	if !slices.Equal(noted, []int64{1_000_000, 2_000_000}) {
		t.Errorf("noted %d", noted)
	}
}
