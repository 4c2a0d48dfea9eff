package inputs

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"studioworker/worker/engine"
)

// Limits of one input.
const (
	maxImage   = 64 << 20         // bytes
	maxAudio   = 512 << 20        // bytes
	totalLimit = 2 * time.Minute  // from the request to the last byte
	stallLimit = 30 * time.Second // without a byte
	dialLimit  = 10 * time.Second
	maxHeader  = 64 << 10
)

// Config is what a fetcher needs.
type Config struct {
	// Studio is the address of the studio, which may lie in a private network.
	Studio func() string
	// AllowHosts are further hosts that may, as host or host:port.
	AllowHosts func() []string
	// TLS says what is trusted; nil = what the system trusts.
	TLS       *tls.Config
	UserAgent string
}

// Fetcher fetches inputs. It is safe for concurrent use.
type Fetcher struct {
	cfg  Config
	http *http.Client

	mu    sync.Mutex
	local map[string]string // files that Offer was given, by address
}

// New returns a fetcher. No proxy is used: behind one, nobody could see where a
// name leads.
func New(cfg Config) *Fetcher {
	dialer := &net.Dialer{Timeout: dialLimit, ControlContext: control}
	return &Fetcher{
		cfg: cfg, local: map[string]string{},
		http: &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			// Nothing is kept open: a later request must not use a connection that was
			// made for a trusted host.
			Transport: &http.Transport{
				DialContext: dialer.DialContext, TLSClientConfig: cfg.TLS, TLSHandshakeTimeout: dialLimit,
				DisableCompression: true, DisableKeepAlives: true, MaxResponseHeaderBytes: maxHeader,
			},
		},
	}
}

// localScheme begins the addresses that Offer gives out.
const localScheme = "worker-input:"

// Offer gives a file of this computer an address that Image and Audio take until
// release is called. Nobody can guess it.
func (f *Fetcher) Offer(path string) (address string, release func()) {
	address = localScheme + rand.Text() + strings.ToLower(filepath.Ext(path))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.local[address] = path
	return address, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.local, address)
	}
}

// Image fetches a picture into dir and returns its path: base with the extension
// of its real format, one of jpg, png, webp, gif and bmp. Anything that is no
// such picture, or has too many pixels, is bad input.
func (f *Fetcher) Image(ctx context.Context, address, dir, base string) (string, error) {
	raw, err := f.fetch(ctx, address, dir, base+".input", maxImage, "picture")
	if err != nil {
		return "", err
	}
	named, err := nameImage(raw, filepath.Join(dir, base))
	if err != nil {
		return "", errors.Join(bad(fmt.Errorf("the picture at %s: %w", shown(address), err)), os.Remove(raw))
	}
	return named, nil
}

// Audio fetches a sound into dir and returns its path: base with the extension of
// the address.
func (f *Fetcher) Audio(ctx context.Context, address, dir, base string) (string, error) {
	return f.fetch(ctx, address, dir, base+extension(address), maxAudio, "sound")
}

// extension is that of an address, if it is a plain one.
func extension(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	ext := strings.ToLower(path.Ext(u.Path + u.Opaque))
	if len(ext) < 2 || len(ext) > 6 || strings.ContainsFunc(ext[1:], func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }) {
		return ""
	}
	return ext
}

func bad(err error) error { return &engine.Error{Class: engine.ClassBadInput, Err: err} }

// shown is an address for an error: neither its query nor what a data URL holds.
func shown(address string) string {
	if strings.HasPrefix(address, "data:") || strings.HasPrefix(address, localScheme) {
		return "the request"
	}
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return u.Host
	}
	return "the address"
}

// fetch writes what an address holds into a new file of dir.
func (f *Fetcher) fetch(ctx context.Context, address, dir, name string, limit int64, what string) (result string, err error) {
	target := filepath.Join(dir, name)
	out, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("store the %s: %w", what, err)
	}
	defer func() {
		err = errors.Join(err, out.Close())
		if err != nil {
			err = errors.Join(err, os.Remove(target))
		}
	}()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	total := time.AfterFunc(totalLimit, func() { cancel(fmt.Errorf("it took longer than %v", totalLimit)) })
	defer total.Stop()
	stall := time.AfterFunc(stallLimit, func() { cancel(fmt.Errorf("nothing came for %v", stallLimit)) })
	defer stall.Stop()
	body, err := f.open(ctx, address, limit)
	if err != nil {
		return "", f.explain(ctx, err, what, address)
	}
	defer body.Close()
	n, err := io.Copy(out, io.LimitReader(&heard{body, func() { stall.Reset(stallLimit) }}, limit+1))
	switch {
	case err != nil:
		return "", f.explain(ctx, err, what, address)
	case n > limit:
		return "", bad(tooLarge(what, limit))
	case n == 0:
		return "", bad(fmt.Errorf("the %s at %s is empty", what, shown(address)))
	}
	return target, nil
}

func tooLarge(what string, limit int64) error {
	return fmt.Errorf("the %s is larger than %s", what, humanize.IBytes(uint64(limit)))
}

// heard calls a function for whatever is read.
type heard struct {
	io.Reader
	call func()
}

func (h *heard) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p)
	if n > 0 {
		h.call()
	}
	return n, err
}

// statusError is an answer that is no file.
type statusError int

func (s statusError) Error() string { return fmt.Sprintf("the server answered %d", int(s)) }

// open opens what an address holds.
func (f *Fetcher) open(ctx context.Context, address string, limit int64) (io.ReadCloser, error) {
	if data, ok := strings.CutPrefix(address, "data:"); ok {
		return openData(data, limit)
	}
	if strings.HasPrefix(address, localScheme) {
		f.mu.Lock()
		path, ok := f.local[address]
		f.mu.Unlock()
		if !ok {
			return nil, fmt.Errorf("%w: no such input", errRefused)
		}
		return os.Open(path)
	}
	answer, err := f.get(ctx, address)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		answer.Body.Close()
		return nil, statusError(answer.StatusCode)
	}
	if answer.ContentLength > limit {
		answer.Body.Close()
		return nil, fmt.Errorf("%w: it is larger than %s", errRefused, humanize.IBytes(uint64(limit)))
	}
	return answer.Body, nil
}

// openData opens what stands in the address itself, as base64.
func openData(data string, limit int64) (io.ReadCloser, error) {
	head, text, ok := strings.Cut(data, ",")
	if !ok || !strings.HasSuffix(head, ";base64") {
		return nil, fmt.Errorf("%w: a data address must be data:TYPE;base64,DATA", errRefused)
	}
	if int64(len(text))/4*3 > limit+3 {
		return nil, fmt.Errorf("%w: it is larger than %s", errRefused, humanize.IBytes(uint64(limit)))
	}
	return io.NopCloser(base64.NewDecoder(base64.StdEncoding, strings.NewReader(text))), nil
}

// explain gives an error its class (engines spec §11).
func (f *Fetcher) explain(ctx context.Context, err error, what, address string) error {
	class := engine.ClassInputUnreachable
	status := statusError(0)
	switch {
	case errors.Is(err, errRefused), strings.HasPrefix(address, "data:"):
		class = engine.ClassBadInput
	case errors.As(err, &status):
		if status == http.StatusNotFound || status == http.StatusGone {
			class = engine.ClassInputGone
		}
	case ctx.Err() != nil:
		if err = context.Cause(ctx); errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return err // the job was stopped
		}
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err // without the address and its query
	}
	return &engine.Error{Class: class, Err: fmt.Errorf("the %s at %s cannot be had: %w", what, shown(address), err)}
}
