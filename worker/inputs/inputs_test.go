package inputs

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"
	"golang.org/x/net/dns/dnsmessage"

	"studioworker/worker/engine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func fetcher(studio string, allow ...string) *Fetcher {
	return New(Config{Studio: func() string { return studio }, AllowHosts: func() []string { return allow }, UserAgent: "studio-worker/test"})
}

func class(err error) engine.Class {
	if e, ok := errors.AsType[*engine.Error](err); ok {
		return e.Class
	}
	return ""
}

func picture() *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, 20, 10))
	for i := range 20 {
		m.Set(i, i/2, color.RGBA{uint8(i * 12), 100, 50, 255})
	}
	return m
}

func encode(t *testing.T, format string) []byte {
	t.Helper()
	var b bytes.Buffer
	err := map[string]func() error{
		"png": func() error { return png.Encode(&b, picture()) },
		"jpg": func() error { return jpeg.Encode(&b, picture(), nil) },
		"gif": func() error { return gif.Encode(&b, picture(), nil) },
		"bmp": func() error { return bmp.Encode(&b, picture()) },
		"tif": func() error { return tiff.Encode(&b, picture(), nil) },
	}[format]()
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// webp is the smallest picture of its format: one pixel, lossless.
func webp() []byte {
	data := []byte("RIFF\x1a\x00\x00\x00WEBPVP8L\x0d\x00\x00\x00\x2f\x00\x00\x00\x10\x07\x10\x11\x11\x88\x88\xfe\x07\x00")
	return data
}

// serve gives files by path, at the address of a studio.
func serve(t *testing.T, files map[string][]byte) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := files[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = w.Write(data)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestSpec128PicturesAreNamedByTheirBytes(t *testing.T) {
	files := map[string][]byte{
		"/lies.webp": encode(t, "jpg"), "/a.jpeg": encode(t, "jpg"), "/a.png": encode(t, "png"), "/none": encode(t, "gif"),
		"/a.jpg": encode(t, "bmp"), "/a.tif": encode(t, "tif"), "/b.png": webp(),
	}
	studio := serve(t, files)
	f := fetcher(studio)
	for address, want := range map[string]string{
		"/lies.webp": "init.jpg", "/a.jpeg": "init.jpg", "/a.png": "init.png", "/none": "init.gif", "/a.jpg": "init.bmp", "/a.tif": "init.png",
		"/b.png": "init.webp",
	} {
		dir := t.TempDir()
		path, err := f.Image(t.Context(), studio+address, dir, "init")
		if err != nil || path != filepath.Join(dir, want) {
			t.Errorf("%s: %q, %v; want %s", address, path, err, want)
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if address != "/a.tif" && !bytes.Equal(data, files[address]) {
			t.Errorf("%s: the bytes were changed", address)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("%s: %d files, %v", address, len(entries), err)
		}
		if m, _, err := image.Decode(bytes.NewReader(data)); err != nil || address == "/a.tif" && color.RGBAModel.Convert(m.At(4, 2)) != picture().At(4, 2) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// bomb is a PNG of a few bytes that claims many pixels.
func bomb(width, height uint32) []byte {
	head := make([]byte, 13)
	binary.BigEndian.PutUint32(head, width)
	binary.BigEndian.PutUint32(head[4:], height)
	head[8], head[9] = 8, 2
	b := bytes.NewBufferString("\x89PNG\r\n\x1a\n")
	chunk := func(name string, data []byte) {
		_ = binary.Write(b, binary.BigEndian, uint32(len(data)))
		b.WriteString(name)
		b.Write(data)
		_ = binary.Write(b, binary.BigEndian, crc32.ChecksumIEEE(append([]byte(name), data...)))
	}
	chunk("IHDR", head)
	chunk("IEND", nil)
	return b.Bytes()
}

func TestRow48BadPictures(t *testing.T) {
	half := func(format string) []byte { data := encode(t, format); return data[:len(data)/2] }
	files := map[string][]byte{
		"/bomb": bomb(20_000, 20_000), "/long": bomb(16_385, 1), "/many": bomb(8000, 6251), "/empty": {}, "/svg.png": []byte("<svg xmlns='http://www.w3.org/2000/svg'/>"),
		"/html.png": []byte("<!doctype html><title>no</title>"), "/half.png": half("png"), "/half.jpg": half("jpg"), "/half.bmp": half("bmp"), "/half.tif": half("tif"),
		"/zero": make([]byte, 1000), "/fit": bomb(8000, 6250),
	}
	studio := serve(t, files)
	f := fetcher(studio)
	for address, want := range map[string]string{
		"/bomb": "20000 x 20000", "/long": "16385 x 1", "/many": "50 megapixels", "/empty": "empty", "/svg.png": "no picture", "/html.png": "no picture",
		"/half.png": "cut off", "/half.jpg": "no picture", "/half.bmp": "cut off", "/half.tif": "", "/zero": "no picture",
	} {
		dir := t.TempDir()
		_, err := f.Image(t.Context(), studio+address, dir, "init")
		if class(err) != engine.ClassBadInput || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want bad input that says %q", address, err, want)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
			t.Errorf("%s: %d files are left, %v", address, len(entries), err)
		}
	}
	if _, err := f.Image(t.Context(), studio+"/fit", t.TempDir(), "init"); err != nil {
		t.Errorf("exactly 50 megapixels: %v", err)
	}
}

func TestRow47AddressesInside(t *testing.T) {
	f := fetcher("https://studio.example")
	for _, address := range []string{
		"https://127.0.0.1/", "https://localhost/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://0.0.0.0/", "https://[::]/", "https://10.1.2.3/",
		"https://192.168.1.1/", "https://172.16.0.1/", "https://169.254.169.254/latest/meta-data/", "https://[fe80::1%25lo]/", "https://[fd00::1]/",
		"https://[64:ff9b::7f00:1]/", "https://100.64.0.1/", "https://[2002:7f00:1::]/", "https://224.0.0.1/", "https://255.255.255.255/",
		"http://203.0.113.7/", "http://studio.example/", "file:///etc/passwd", "ftp://studio.example/x", "gopher://x/", "", "::", "https://", "https://u:p@studio.example/",
		"https://other.example:22/", "worker-input:unknown", "data:image/png,plain",
	} {
		_, err := f.Image(t.Context(), address, t.TempDir(), "init")
		if class(err) != engine.ClassBadInput || engine.Retryable(err) {
			t.Errorf("%q: %v, want refused", address, err)
		}
	}
	for text, want := range map[string]bool{"8.8.8.8": true, "2606:4700::1111": true, "::ffff:8.8.8.8": true, "::ffff:10.0.0.1": false, "198.18.0.1": false} {
		if got := public(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: public %v", text, got)
		}
	}
}

// Other spellings of loopback are names to us: whatever they lead to is looked
// at when the connection is made, and so is the answer of a name server that
// changes.
func TestRow47ANameThatLeadsInside(t *testing.T) {
	f := fetcher("https://studio.example")
	answers := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("10.0.0.1")}
	dialer := &net.Dialer{ControlContext: control, Resolver: resolver(t, func() netip.Addr {
		next := answers[0]
		answers = append(answers[1:], next)
		return next
	})}
	transport, ok := f.http.Transport.(*http.Transport)
	if !ok {
		t.Fatal("another transport")
	}
	transport.DialContext = dialer.DialContext
	for range 3 {
		_, err := f.Image(t.Context(), "https://rebinding.example/x.png", t.TempDir(), "init")
		if class(err) != engine.ClassBadInput || !strings.Contains(err.Error(), "allow_input_hosts") {
			t.Errorf("err = %v, want refused", err)
		}
	}
}

// resolver is a name server in memory that gives one address to every name.
func resolver(t *testing.T, next func() netip.Addr) *net.Resolver {
	t.Helper()
	server, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = server.Close(); <-done })
	go func() {
		defer close(done)
		buffer := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(buffer)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buffer[:n]) != nil || len(m.Questions) == 0 {
				continue
			}
			m.Response, m.Additionals = true, nil
			if m.Questions[0].Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
					Body:   &dnsmessage.AResource{A: next().As4()},
				}}
			}
			if reply, err := m.Pack(); err == nil {
				_, _ = server.WriteTo(reply, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

func TestRow47Redirects(t *testing.T) {
	good := encode(t, "png")
	var to string
	hops := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hops++
		if r.URL.Path == "/good" {
			_, _ = w.Write(good)
			return
		}
		http.Redirect(w, r, to, http.StatusFound)
	}))
	t.Cleanup(s.Close)
	f := fetcher(s.URL)
	for _, c := range []struct {
		to   string
		hops int
		fits bool
	}{
		{"/good", 2, true},
		{"https://169.254.169.254/latest", 1, false},
		{"http://127.0.0.1:1/x", 1, false},
		{"https://127.0.0.1/x", 1, false},
		{"file:///etc/passwd", 1, false},
		{s.URL + "/again", 4, false},
	} {
		to, hops = c.to, 0
		_, err := f.Image(t.Context(), s.URL, t.TempDir(), "init")
		if (err == nil) != c.fits || hops != c.hops || !c.fits && class(err) != engine.ClassBadInput {
			t.Errorf("to %s: %v after %d hops, want %d", c.to, err, hops, c.hops)
		}
	}
}

func TestHostsThatAreAllowed(t *testing.T) {
	address := serve(t, map[string][]byte{"/a.png": encode(t, "png")})
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		studio string
		allow  []string
		fits   bool
	}{
		"the studio's own origin": {address + "/base", nil, true},
		"another port":            {"http://127.0.0.1:1", nil, false},
		"another scheme":          {"https://" + u.Host, nil, false},
		"an allowed host":         {"https://studio.example", []string{"x.example", "127.0.0.1"}, true},
		"an allowed port":         {"https://studio.example", []string{u.Host}, true},
		"another allowed port":    {"https://studio.example", []string{"127.0.0.1:1"}, false},
	} {
		if _, err := fetcher(c.studio, c.allow...).Image(t.Context(), address+"/a.png", t.TempDir(), "init"); (err == nil) != c.fits {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnswersHaveTheirClass(t *testing.T) {
	for status, want := range map[int]engine.Class{
		404: engine.ClassInputGone, 410: engine.ClassInputGone, 401: engine.ClassInputUnreachable, 403: engine.ClassInputUnreachable,
		500: engine.ClassInputUnreachable, 503: engine.ClassInputUnreachable,
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		_, err := fetcher(s.URL).Audio(t.Context(), s.URL+"/a.wav?signature=secret", t.TempDir(), "in")
		if class(err) != want || strings.Contains(err.Error(), "secret") {
			t.Errorf("%d: %v, want %s", status, err, want)
		}
		s.Close()
	}
	s := httptest.NewServer(nil)
	s.Close()
	if _, err := fetcher(s.URL).Audio(t.Context(), s.URL+"/?secret", t.TempDir(), "in"); class(err) != engine.ClassInputUnreachable || strings.Contains(err.Error(), "secret") {
		t.Errorf("nobody there: %v", err)
	}
}

func TestSizes(t *testing.T) {
	long := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/said" {
			w.Header().Set("Content-Length", "67108865")
			return
		}
		block := make([]byte, 1<<20)
		for r.Context().Err() == nil {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}))
	t.Cleanup(long.Close)
	for _, path := range []string{"/said", "/unsaid"} {
		dir := t.TempDir()
		_, err := fetcher(long.URL).Image(t.Context(), long.URL+path, dir, "init")
		if class(err) != engine.ClassBadInput || !strings.Contains(err.Error(), "64 MiB") {
			t.Errorf("%s: %v", path, err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
			t.Errorf("%d files are left, %v", len(entries), err)
		}
	}
}

func TestDataAndOfferedFiles(t *testing.T) {
	f, data := fetcher("https://studio.example"), encode(t, "png")
	if path, err := f.Image(t.Context(), "data:image/webp;base64,"+base64.StdEncoding.EncodeToString(data), t.TempDir(), "init"); err != nil || filepath.Base(path) != "init.png" {
		t.Errorf("data: %q, %v", path, err)
	}
	if _, err := f.Image(t.Context(), "data:image/webp;base64,%%%", t.TempDir(), "init"); class(err) != engine.ClassBadInput {
		t.Errorf("damaged data: %v", err)
	}
	file := filepath.Join(t.TempDir(), "speech.WAV")
	if err := os.WriteFile(file, []byte("RIFF"), 0o600); err != nil {
		t.Fatal(err)
	}
	address, release := f.Offer(file)
	if path, err := f.Audio(t.Context(), address, t.TempDir(), "in"); err != nil || filepath.Base(path) != "in.wav" {
		t.Errorf("offered: %q, %v", path, err)
	}
	release()
	if _, err := f.Audio(t.Context(), address, t.TempDir(), "in"); class(err) != engine.ClassBadInput {
		t.Errorf("released: %v", err)
	}
	for address, want := range map[string]string{"https://a.example/x.MP3?y=1": ".mp3", "https://a.example/x": "", "https://a.example/x.<b>": "", "https://a.example/x.waytoolong": "", ":": ""} {
		if got := extension(address); got != want {
			t.Errorf("extension of %s: %q", address, got)
		}
	}
}

// slow is a body that gives a byte every period.
type slow struct {
	ctx    context.Context //nolint:containedctx // the request's, as a body has it
	period time.Duration
}

func (s *slow) Read(p []byte) (int, error) {
	select {
	case <-s.ctx.Done():
		return 0, s.ctx.Err()
	case <-time.After(s.period):
		p[0] = 'x'
		return 1, nil
	}
}

func (*slow) Close() error { return nil }

type slowServer time.Duration

func (s slowServer) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Request: r, Body: &slow{r.Context(), time.Duration(s)}}, nil
}

func TestTimes(t *testing.T) {
	for period, want := range map[time.Duration]time.Duration{time.Second: totalLimit, time.Minute: stallLimit} {
		synctest.Test(t, func(t *testing.T) {
			f := fetcher("https://studio.example")
			f.http = &http.Client{Transport: slowServer(period)}
			start := time.Now()
			_, err := f.Audio(t.Context(), "https://studio.example/a.wav", t.TempDir(), "in")
			if class(err) != engine.ClassInputUnreachable || !strings.Contains(err.Error(), want.String()) || time.Since(start) != want {
				t.Errorf("a byte every %v: %v after %v", period, err, time.Since(start))
			}
			ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, errors.New("the person pressed stop"))
			defer cancel()
			if _, err := f.Audio(ctx, "https://studio.example/a.wav", t.TempDir(), "in"); err == nil || !strings.Contains(err.Error(), "pressed stop") {
				t.Errorf("stopped: %v", err)
			}
		})
	}
}

func FuzzInspect(f *testing.F) {
	f.Add(bomb(1, 1))
	f.Add(webp())
	f.Add([]byte("GIF89a"))
	f.Add([]byte("BM"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if format, err := inspect(file); err == nil && format == "" {
			t.Error("a picture without a format")
		}
	})
}

func FuzzAddress(f *testing.F) {
	f.Add("https://127.0.0.1/")
	f.Add("data:image/png;base64,AAAA")
	f.Fuzz(func(t *testing.T, address string) {
		fetch := fetcher("https://studio.example")
		fetch.http = &http.Client{Transport: slowServer(0)}
		u, err := url.Parse(address)
		if err != nil {
			return
		}
		if _, err := fetch.admit(t.Context(), u); err == nil && u.Scheme != "https" {
			t.Errorf("%q was admitted", address)
		}
		_, _ = extension(address), shown(address)
	})
}
