package update

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"studioworker/worker/observe"
	"studioworker/worker/update/feed"
)

// Limits of the network.
const (
	documentTime = 15 * time.Second // for a list or a document (spec §10.2)
	stallTime    = 60 * time.Second // without a byte of an archive
	archiveTime  = 2 * time.Hour    // for an archive
	maxRedirects = 3
)

// fetcher gets what a release is made of.
type fetcher struct {
	http      *http.Client
	userAgent string
}

// newFetcher returns a fetcher that uses the connections of client. It follows redirects
// only to where it would have gone itself.
func newFetcher(client *http.Client, userAgent string) *fetcher {
	own := *client
	own.Timeout = 0 // each request has limits of its own
	own.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fmt.Errorf("more than %d redirects", maxRedirects)
		}
		return feed.CheckURL(r.URL)
	}
	return &fetcher{&own, userAgent}
}

// late is the error of a limit of time.
func late(format string, limit time.Duration) error {
	return observe.Because(fmt.Errorf(format, limit), observe.ReasonTooLate, limit.String())
}

// get asks for an address. The caller closes the body.
func (f *fetcher) get(ctx context.Context, u *url.URL) (*http.Response, error) {
	if err := feed.CheckURL(u); err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", f.userAgent)
	resp, err := f.http.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("fetch %s: %w", u.Redacted(), err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		resp.Body.Close()
		return nil, observe.Because(fmt.Errorf("fetch %s: status %d", u.Redacted(), resp.StatusCode), observe.ReasonStatus, strconv.Itoa(resp.StatusCode)+" ("+u.Redacted()+")")
	}
	return resp, nil
}

// document gets a text of at most limit bytes.
func (f *fetcher) document(ctx context.Context, u *url.URL, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, documentTime, late("it took longer than %v", documentTime))
	defer cancel()
	resp, err := f.get(ctx, u)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("fetch %s: %w", u.Redacted(), err)
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("fetch %s: it is longer than %d bytes", u.Redacted(), limit)
	}
	return text, nil
}

// archive saves an archive at path when it is the one that the release names. It tells
// done how many bytes have come.
func (f *fetcher) archive(ctx context.Context, u *url.URL, target feed.Target, path string, done func(int64)) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, archiveTime, late("it took longer than %v", archiveTime))
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	stalled := time.AfterFunc(stallTime, func() { stop(late("nothing came for %v", stallTime)) })
	defer stalled.Stop()
	resp, err := f.get(ctx, u)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.ContentLength >= 0 && resp.ContentLength != target.Size {
		return fmt.Errorf("fetch %s: it has %d bytes, and the release says %d", u.Redacted(), resp.ContentLength, target.Size)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return observe.Otherwise(fmt.Errorf("save the archive: %w", err), observe.ReasonOwnFiles)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(file, hash), &counted{r: io.LimitReader(resp.Body, target.Size+1), heard: func(n int64) {
		stalled.Reset(stallTime)
		done(n)
	}})
	switch {
	case err != nil:
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("fetch %s: %w", u.Redacted(), err)
	case n > target.Size:
		return fmt.Errorf("fetch %s: it is longer than the %d bytes that the release says", u.Redacted(), target.Size)
	case n < target.Size:
		return fmt.Errorf("fetch %s: it ended after %d of %d bytes", u.Redacted(), n, target.Size)
	}
	if sum := hex.EncodeToString(hash.Sum(nil)); sum != target.SHA256 {
		return fmt.Errorf("the archive at %s is not the one of the release: its hash is %s, not %s", u.Redacted(), sum, target.SHA256)
	}
	return nil
}

// counted tells how many bytes were read.
type counted struct {
	r     io.Reader
	n     int64
	heard func(int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if n > 0 {
		c.n += int64(n)
		c.heard(c.n)
	}
	return n, err
}
