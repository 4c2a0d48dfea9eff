package studio

import (
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

const (
	maxTextPart = 1 << 20 // of a multipart body
	maxParts    = 8
	maxExt      = 16  // characters
	maxKey      = 256 // characters of an Idempotency-Key
	overhead    = 4 << 20
)

// register files a request to be let in (§2.3).
func (s *Studio) register(w http.ResponseWriter, r *http.Request, requests *limiter) {
	if !requests.allow(remoteIP(r)) {
		w.Header().Set("Retry-After", "6")
		writeError(w, http.StatusTooManyRequests, "too_many_requests", "too many registration requests from this address")
		return
	}
	data, ok := readBody(w, r, protocol.MaxRegisterBody)
	if !ok {
		return
	}
	req, err := protocol.DecodeRegisterRequest(data)
	if err != nil {
		writeError(w, http.StatusBadRequest, "bad_request", "the registration request cannot be read: "+err.Error())
		return
	}
	row, err := s.people.request(r.Context(), req, remoteIP(r), s.cfg.AutoApprove && fromLoopback(r))
	switch {
	case errors.Is(err, errTooManyPending):
		w.Header().Set("Retry-After", "60")
		writeError(w, http.StatusTooManyRequests, "too_many_requests", err.Error())
	case err != nil:
		s.internal(w, err)
	default:
		writeJSON(w, http.StatusCreated, protocol.RegisterResponse{RequestID: row.ID, Status: string(protocol.StatusPending)})
	}
}

// poll tells a worker how its request stands (§2.4). An unknown secret is 404
// and never 401: at 401 a worker would ask for ever.
func (s *Studio) poll(w http.ResponseWriter, r *http.Request) {
	answer, err := s.people.poll(r.Context(), r.PathValue("id"), bearer(r))
	switch {
	case errors.Is(err, errNoRegistration):
		writeError(w, http.StatusNotFound, "not_found", err.Error())
	case err != nil:
		s.internal(w, err)
	default:
		writeJSON(w, http.StatusOK, answer)
	}
}

// connect opens a worker's session (§3.1). The handler returns and the session
// goes on in a goroutine of its own: a handler that stays would keep the
// request's buffers for hours.
func (s *Studio) connect(w http.ResponseWriter, r *http.Request) {
	worker := r.PathValue("worker")
	if !s.people.authentic(worker, bearer(r)) {
		writeError(w, http.StatusUnauthorized, "auth_failed", "the worker is unknown or its token is wrong")
		return
	}
	if !websocket.IsWebSocketUpgrade(r) || !hasProtocol(r) {
		w.Header().Set("Upgrade", "websocket")
		writeError(w, http.StatusUpgradeRequired, "upgrade_required", "this address speaks WebSocket with the sub-protocol "+protocol.Version)
		return
	}
	if !s.hub.admit() {
		w.Header().Set("Retry-After", "5")
		writeError(w, http.StatusServiceUnavailable, "unavailable", "the studio takes no more connections now")
		return
	}
	conn, err := s.upgrader.Upgrade(w, r, nil)
	if err != nil { // the answer is out already
		s.hub.leave()
		s.cfg.Log.Debug("a WebSocket upgrade did not work", "worker_id", worker, "error", err)
		return
	}
	session := &session{id: newID("se-"), worker: worker, hub: s.hub, log: s.cfg.Log.With("worker_id", worker), conn: conn, connectedAt: time.Now().UTC()}
	s.hub.serve(r.Context(), session, func(token string) bool { return s.people.authentic(worker, token) })
}

func hasProtocol(r *http.Request) bool {
	for _, p := range websocket.Subprotocols(r) {
		if p == protocol.Version {
			return true
		}
	}
	return false
}

func newUpgrader() *websocket.Upgrader {
	return &websocket.Upgrader{
		HandshakeTimeout: headerLimit,
		ReadBufferSize:   1 << 10,
		WriteBufferSize:  1 << 10,
		WriteBufferPool:  &sync.Pool{},
		Subprotocols:     []string{protocol.Version},
		Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
			writeError(w, status, "bad_request", reason.Error())
		},
	}
}

// complete takes the bytes of a result (§2.5). They stream into the store; the
// record of the job then makes them its result. The answer is sent before the
// worker's slot is freed, so that it never gets an offer while it still waits
// for the answer.
func (s *Studio) complete(w http.ResponseWriter, r *http.Request) {
	worker := r.PathValue("worker")
	if !s.people.authentic(worker, bearer(r)) {
		writeError(w, http.StatusUnauthorized, "auth_failed", "the worker is unknown or its token is wrong")
		return
	}
	j := s.hub.job(r.PathValue("job"))
	if j == nil {
		writeError(w, http.StatusNotFound, "not_found", "there is no such job")
		return
	}
	key := clip(r.Header.Get("Idempotency-Key"), maxKey)
	if s.finished(w, r, j, worker, key) {
		return
	}
	s.hub.uploading(j, 1)
	result, refusal, err := s.receive(w, r, j)
	s.hub.uploading(j, -1)
	switch {
	case refusal != nil:
		w.Header().Set("Connection", "close")
		writeError(w, refusal.status, refusal.code, refusal.message)
		return
	case err != nil:
		s.internal(w, err)
		return
	}
	if err := s.hub.commit(r.Context(), worker, j, result, key); err != nil {
		if err := s.store.Discard(r.Context(), result); err != nil {
			s.cfg.Log.Warn("a leftover result could not be removed", "job_id", j.id, "error", err)
		}
		if !errors.Is(err, errFinished) {
			s.internal(w, err)
		} else if !s.finished(w, r, j, worker, key) {
			s.internal(w, err)
		}
		return
	}
	s.accepted(w, r, j, worker)
}

// finished answers for a job that has ended: the same delivery again is a
// success, another is 409.
func (s *Studio) finished(w http.ResponseWriter, r *http.Request, j *job, worker, key string) bool {
	rec := j.now()
	if !rec.State.Final() {
		return false
	}
	if rec.State == store.Done && key != "" && rec.DeliveryKey == key && rec.WorkerID == worker {
		s.accepted(w, r, j, worker)
	} else {
		writeError(w, http.StatusConflict, "conflict", "the job is "+string(rec.State)+" already")
	}
	return true
}

func (s *Studio) accepted(w http.ResponseWriter, r *http.Request, j *job, worker string) {
	w.Header().Set("Content-Length", "12")
	writeJSON(w, http.StatusOK, struct {
		OK bool `json:"ok"`
	}{true})
	if err := http.NewResponseController(w).Flush(); err != nil {
		s.cfg.Log.Debug("a worker did not wait for its answer", "worker_id", worker, "error", err)
	}
	s.hub.delivered(r.Context(), worker, j)
}

// refusal is an upload that is the worker's fault.
type refusal struct {
	status        int
	code, message string
}

func bad(message string) *refusal { return &refusal{http.StatusBadRequest, "bad_request", message} }

// receive reads the multipart body into the store. Parts may come in any order.
func (s *Studio) receive(w http.ResponseWriter, r *http.Request, j *job) (store.Result, *refusal, error) {
	r.Body = &patient{r: http.MaxBytesReader(w, r.Body, s.cfg.MaxResult+overhead), control: http.NewResponseController(w)}
	form, err := r.MultipartReader()
	if err != nil {
		return store.Result{}, bad("the body is not multipart/form-data"), nil
	}
	var result store.Result
	var ext string
	stored := false
	// What was stored before the body turned out bad is removed at once.
	refuse := func(why *refusal, err error) (store.Result, *refusal, error) {
		if stored {
			err = errors.Join(err, s.store.Discard(r.Context(), result))
		}
		if err != nil && why != nil {
			s.cfg.Log.Warn("a leftover result could not be removed", "job_id", j.id, "error", err)
			err = nil
		}
		return store.Result{}, why, err
	}
	for range maxParts {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			if !stored {
				return refuse(bad("the body has no part "+protocol.PartFile), nil)
			}
			result.Ext, result.ContentType = ext, protocol.ContentType(ext)
			return result, nil, nil
		}
		if err != nil {
			return refuse(s.broken(err), nil)
		}
		switch part.FormName() {
		case protocol.PartFile:
			if stored {
				return refuse(bad("the body has two parts "+protocol.PartFile), nil)
			}
			in := &noted{r: part}
			result, err = s.store.Put(r.Context(), folder(j.now()), r.ContentLength, in)
			if err != nil {
				if in.err != nil { // the sender's fault, not the store's
					return refuse(s.broken(in.err), nil)
				}
				return refuse(nil, err)
			}
			if stored = true; result.Bytes == 0 {
				return refuse(bad("the result is empty"), nil)
			}
		case protocol.PartExt:
			text, why := s.text(part)
			if why != nil {
				return refuse(why, nil)
			}
			if ext = text; !validExt(ext) {
				return refuse(bad("the part ext is not a file extension"), nil)
			}
		default: // the prompt, and what later workers may add
			if _, why := s.text(part); why != nil {
				return refuse(why, nil)
			}
		}
	}
	return refuse(bad("the body has too many parts"), nil)
}

func (s *Studio) text(part *multipart.Part) (string, *refusal) {
	data, err := io.ReadAll(io.LimitReader(part, maxTextPart+1))
	if err != nil {
		return "", s.broken(err)
	}
	if len(data) > maxTextPart {
		return "", &refusal{http.StatusRequestEntityTooLarge, "too_large", "a text part is larger than " + size(maxTextPart)}
	}
	return string(data), nil
}

// broken explains a body that could not be read to its end.
func (s *Studio) broken(err error) *refusal {
	if tooBig := (*http.MaxBytesError)(nil); errors.As(err, &tooBig) {
		return &refusal{http.StatusRequestEntityTooLarge, "too_large", "the result is larger than " + size(s.cfg.MaxResult)}
	}
	return bad("the body is damaged or was cut off")
}

// validExt says whether ext can be the ending of a file name. It may be empty.
func validExt(ext string) bool {
	return len(ext) <= maxExt && strings.Trim(ext, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == ""
}

// patient reads a body of any length and duration, as long as it moves.
type patient struct {
	r       io.ReadCloser
	control *http.ResponseController
	moved   time.Time // when the deadlines were set
}

func (p *patient) Read(b []byte) (int, error) {
	if now := time.Now(); now.Sub(p.moved) > transferIdle/12 {
		p.moved = now
		if err := errors.Join(p.control.SetReadDeadline(now.Add(transferIdle)), p.control.SetWriteDeadline(now.Add(2*transferIdle))); err != nil {
			return 0, err
		}
	}
	return p.r.Read(b)
}

func (p *patient) Close() error { return p.r.Close() }

// noted remembers why a reader failed.
type noted struct {
	r   io.Reader
	err error // but not its end
}

func (n *noted) Read(b []byte) (int, error) {
	m, err := n.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		n.err = err
	}
	return m, err
}
