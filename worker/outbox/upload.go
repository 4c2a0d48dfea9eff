package outbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"studioworker/worker/observe"
	"studioworker/worker/protocol"
)

// Limits of an upload. There is no limit on its total time: a large result on a
// slow line takes as long as it takes.
const (
	connectLimit = 15 * time.Second
	stallLimit   = 60 * time.Second // without a byte sent, or without the answer after the last one
	maxRedirects = 3
	maxErrorBody = 1 << 20
	expectAbove  = 1 << 20 // bytes; below, asking first takes longer than sending
)

var (
	errConnect = observe.Because(errors.New("no connection within 15 s"), observe.ReasonTooLate, connectLimit.String())
	errStall   = observe.Because(errors.New("no progress for 60 s"), observe.ReasonTooLate, stallLimit.String())
)

// upload is one delivery by HTTP (protocol spec §2.5): head, file and tail of a
// multipart body whose length is known and which is never in memory as a whole.
type upload struct {
	o          *Outbox
	entry      Entry
	head, tail []byte
	form       string // content type of the whole body

	mu     sync.Mutex
	bodies []*uploadBody // opened so far: a redirect opens another one
}

func newUpload(o *Outbox, e Entry) (*upload, error) {
	var head bytes.Buffer
	w := multipart.NewWriter(&head)
	// The boundary is fixed for an entry, so that its digest is, too. No file
	// can hold a hash over its own hash.
	sum := sha256.Sum256([]byte(e.key()))
	if err := w.SetBoundary("studio-worker-" + hex.EncodeToString(sum[:16])); err != nil {
		return nil, err
	}
	if err := w.WriteField(protocol.PartPrompt, e.Prompt); err != nil {
		return nil, err
	}
	if err := w.WriteField(protocol.PartExt, e.Ext); err != nil {
		return nil, err
	}
	part := textproto.MIMEHeader{}
	part.Set("Content-Disposition", multipart.FileContentDisposition(protocol.PartFile, e.JobID+"."+e.Ext))
	part.Set("Content-Type", protocol.ContentType(e.Ext))
	if _, err := w.CreatePart(part); err != nil {
		return nil, err
	}
	n := head.Len()
	if err := w.Close(); err != nil {
		return nil, err
	}
	return &upload{o: o, entry: e, head: head.Bytes()[:n:n], tail: head.Bytes()[n:], form: w.FormDataContentType()}, nil
}

// length is the exact size of the body.
func (u *upload) length() int64 {
	return int64(len(u.head)) + u.entry.Size + int64(len(u.tail))
}

// digest reads the file once and returns the Content-Digest of the body
// (RFC 9530). Unless this process has checked the file before, it is compared
// with its hash on the way. The error wraps ErrDamaged when it differs.
func (u *upload) digest() (string, error) {
	f, err := u.o.openResult(u.entry)
	if err != nil {
		return "", fmt.Errorf("read the result: %w", err)
	}
	body, file := sha256.New(), sha256.New()
	both := io.MultiWriter(body, file)
	if u.entry.verified {
		both = body
	}
	_, _ = body.Write(u.head) // a hash never fails
	_, err = io.CopyBuffer(onlyWriter{both}, onlyReader{f}, make([]byte, copyBuffer))
	if err := errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("read the result: %w", err)
	}
	if !u.entry.verified && hex.EncodeToString(file.Sum(nil)) != u.entry.SHA256 {
		return "", fmt.Errorf("%w: its bytes do not have their hash", ErrDamaged)
	}
	_, _ = body.Write(u.tail)
	return "sha-256=:" + base64.StdEncoding.EncodeToString(body.Sum(nil)) + ":", nil
}

// body opens the body anew. progress is called whenever more of it was taken.
func (u *upload) body(progress func()) (io.ReadCloser, error) {
	f, err := u.o.openResult(u.entry)
	if err != nil {
		return nil, err
	}
	b := &uploadBody{
		r:        io.MultiReader(bytes.NewReader(u.head), f, bytes.NewReader(u.tail)),
		close:    sync.OnceValue(f.Close),
		progress: progress,
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.bodies = append(u.bodies, b)
	return b, nil
}

// closeBodies closes the files now. The transport closes a body when it likes,
// and Windows does not move a folder while a file in it is open.
func (u *upload) closeBodies() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	var err error
	for _, b := range u.bodies {
		err = errors.Join(err, b.Close())
	}
	return err
}

type uploadBody struct {
	r        io.Reader
	close    func() error
	progress func()
}

func (b *uploadBody) Read(p []byte) (int, error) {
	b.progress()
	return b.r.Read(p)
}

func (b *uploadBody) Close() error { return b.close() }

// answer is what the studio said.
type answer struct {
	status int
	html   bool
	again  time.Duration // Retry-After; 0 = none
	body   string        // clipped, without the token; empty after a success
}

// err words an answer that is no success (protocol spec §2.2).
func (a answer) err() error {
	status := strconv.Itoa(a.status)
	switch {
	case a.status < 300:
		return observe.Because(fmt.Errorf("complete failed: status %d with a web page instead of an answer; is this network asking for a login?", a.status),
			observe.ReasonNoStudio, status+", text/html")
	case a.status < 400:
		return observe.Because(fmt.Errorf("complete failed: status %d, a redirect that is not followed", a.status), observe.ReasonStatus, status)
	case a.body == "":
		return observe.Because(fmt.Errorf("complete failed: status %d", a.status), observe.ReasonStatus, status)
	}
	return observe.Because(fmt.Errorf("complete failed: status %d: %s", a.status, a.body), observe.ReasonStatus, status+": "+a.body)
}

// send uploads once and returns the studio's answer. An error means that there
// was none.
func (d *Deliverer) send(ctx context.Context, u *upload, digest string, t Target) (a answer, err error) {
	e := u.entry
	endpoint, err := t.Base.CompleteURL(t.WorkerID, e.JobID)
	if err != nil {
		return answer{}, err
	}
	log := d.log.With("operation", "complete", "endpoint", endpoint, "job_id", e.JobID)
	log.Debug("studio upload starts", "bytes", e.Size, "attempt", e.Attempt, "tries", e.Tries)
	start := time.Now()
	defer func() {
		log := log.With("elapsed_ms", time.Since(start).Milliseconds())
		switch {
		case err != nil:
			log.Warn("studio call failed", "error", err)
		case judge(a.status, a.html) != verdictDelivered:
			log.Warn("studio call failed", "status", a.status, "body", a.body)
		default:
			log.Debug("studio call", "status", a.status)
		}
	}()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var connected atomic.Bool
	timer := time.AfterFunc(connectLimit, func() {
		if connected.Load() {
			cancel(errStall)
		} else {
			cancel(errConnect)
		}
	})
	defer timer.Stop()
	progress := func() {
		connected.Store(true)
		timer.Reset(stallLimit)
	}
	req, err := d.request(ctx, u, endpoint, progress)
	if err != nil {
		return answer{}, fmt.Errorf("complete failed: %w", err)
	}
	defer func() { err = errors.Join(err, u.closeBodies()) }()
	req.Header.Set("Authorization", "Bearer "+t.Token.Reveal())
	req.Header.Set("Content-Digest", digest)
	resp, err := d.http.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		return answer{}, fmt.Errorf("complete failed: %w", err)
	}
	a = answer{status: resp.StatusCode, html: isHTML(resp.Header), again: protocol.RetryAfter(resp.Header, time.Now())}
	text, readErr := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	closeErr := resp.Body.Close()
	if a.status >= 300 {
		a.body = clip(strings.ReplaceAll(string(text), t.Token.Reveal(), t.Token.String()))
	}
	if err := errors.Join(readErr, closeErr); err != nil {
		log.Debug("answer not read to its end", "error", err) // its status has been read, and that counts
	}
	return a, nil
}

// request builds the upload without what is secret.
func (d *Deliverer) request(ctx context.Context, u *upload, endpoint string, progress func()) (*http.Request, error) {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:              func(httptrace.GotConnInfo) { progress() },
		WroteRequest:         func(httptrace.WroteRequestInfo) { progress() },
		GotFirstResponseByte: progress,
	})
	body, err := u.body(progress)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, body)
	if err != nil {
		return nil, errors.Join(err, body.Close())
	}
	req.ContentLength = u.length()
	req.GetBody = func() (io.ReadCloser, error) { return u.body(progress) }
	req.Header.Set("Content-Type", u.form)
	// An id is any text, and a header is not: it is escaped as in the address.
	req.Header.Set("Idempotency-Key",
		url.PathEscape(u.entry.JobID)+"/"+strconv.Itoa(u.entry.Attempt)+"/"+u.entry.SHA256)
	req.Header.Set("User-Agent", d.userAgent)
	if u.length() > expectAbove {
		req.Header.Set("Expect", "100-continue") // a 401 or 409 costs no gigabyte
	}
	return req, nil
}

// checkRedirect follows a studio that moved within its host. Otherwise the
// redirect itself is the answer: after a 301 to 303 the client would ask with
// GET, and its 200 would mean nothing; and the token is for one host only.
func checkRedirect(req *http.Request, via []*http.Request) error {
	from, to := via[0].URL, req.URL
	safer := from.Scheme == "http" && to.Scheme == "https"
	if len(via) > maxRedirects || req.Method != http.MethodPost || from.Hostname() != to.Hostname() ||
		!safer && (from.Scheme != to.Scheme || from.Port() != to.Port()) {
		return http.ErrUseLastResponse
	}
	return nil
}

func isHTML(h http.Header) bool {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && (kind == "text/html" || kind == "application/xhtml+xml")
}
