package studio

import (
	"errors"
	"io"
	"math"
	"mime/multipart"
	"net/http"
	"slices"
	"strconv"
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
	if !requests.allow(s.guard.client(r)) {
		s.metrics.refused.WithLabelValues(refusedRate).Inc()
		drain(w, r)
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
	row, err := s.people.request(r.Context(), req, s.guard.client(r), s.cfg.AutoApprove && fromLoopback(r))
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
	if !s.admission.enter(r.Context(), w) {
		return
	}
	if !s.hub.admit() {
		w.Header().Set("Retry-After", "5")
		writeError(w, http.StatusServiceUnavailable, "unavailable", "the studio takes no more connections now")
		return
	}
	opened := time.Now().UTC() // before the worker hears of it: what it opens next is newer
	conn, err := s.upgrader.Upgrade(w, r, nil)
	if err != nil { // the answer is out already
		s.hub.leave()
		s.cfg.Log.Debug("a WebSocket upgrade did not work", "worker_id", worker, "error", err)
		return
	}
	session := &session{
		id: s.hub.newSession(), worker: worker, origin: s.origin(r), hub: s.hub, log: s.cfg.Log.With("worker_id", worker),
		conn: conn, connectedAt: opened, pong: make(chan struct{}, 1), over: make(chan struct{}),
	}
	s.hub.serve(r.Context(), session, func(token string) bool { return s.people.authentic(worker, token) })
}

func hasProtocol(r *http.Request) bool {
	return slices.Contains(websocket.Subprotocols(r), protocol.Version)
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
		drain(w, r)
		writeError(w, http.StatusUnauthorized, "auth_failed", "the worker is unknown or its token is wrong")
		return
	}
	j := s.hub.job(r.PathValue("job"))
	if j == nil {
		drain(w, r)
		writeError(w, http.StatusNotFound, "not_found", "there is no such job")
		return
	}
	key := clip(r.Header.Get("Idempotency-Key"), maxKey)
	if rec := j.now(); s.hub.shared && !rec.State.Final() && !rec.HeldBy(worker) {
		s.hub.lookUp(j.id) // another studio may have given it to the worker a moment ago
	}
	if j.now().State.Final() {
		drain(w, r)
		s.finished(w, r, j, worker, key)
		return
	}
	if rec := j.now(); !rec.HeldBy(worker) {
		drain(w, r)
		writeError(w, http.StatusConflict, "conflict", "this worker never had the job")
		return
	}
	s.hub.uploading(j, 1)
	result, err := s.receive(w, r, j)
	s.hub.uploading(j, -1)
	if err != nil {
		drain(w, r)
		s.refuse(w, err)
		return
	}
	if err := s.hub.commit(r.Context(), worker, j, result, key); err != nil {
		if err := s.store.Discard(r.Context(), result); err != nil {
			s.cfg.Log.Warn("a leftover result could not be removed", "job_id", j.id, "error", err)
		}
		if errors.Is(err, errFinished) {
			s.finished(w, r, j, worker, key)
		} else {
			s.internal(w, err)
		}
		return
	}
	s.accepted(w, r, j, worker)
}

// finished answers for a job that has ended: the same delivery again is a
// success, another is 409. The result of a cancelled job is of no use to anyone:
// a worker of ours hears 410 and forgets it.
func (s *Studio) finished(w http.ResponseWriter, r *http.Request, j *job, worker, key string) {
	rec := j.now()
	if rec.State == store.Done && key != "" && rec.DeliveryKey == key && rec.WorkerID == worker {
		s.accepted(w, r, j, worker)
	} else if rec.State == store.Cancelled && s.hub.cancels(worker) {
		writeError(w, http.StatusGone, "gone", "the job is cancelled")
	} else {
		writeError(w, http.StatusConflict, "conflict", "the job is "+string(rec.State)+" already")
	}
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

// refusal is a request that is the sender's fault, or too much now.
type refusal struct {
	status        int
	code, message string
	after         time.Duration // until it may be tried again; 0: not said
}

func (r *refusal) Error() string { return r.message }

// refuse answers what could not be done: a *refusal as it says, and anything else
// as the studio's fault.
func (s *Studio) refuse(w http.ResponseWriter, err error) {
	why, ok := errors.AsType[*refusal](err)
	if !ok {
		s.internal(w, err)
		return
	}
	if why.after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(why.after.Seconds()))))
	}
	writeError(w, why.status, why.code, why.message)
}

func bad(message string) error {
	return &refusal{status: http.StatusBadRequest, code: "bad_request", message: message}
}

// upload is a result on its way in.
type upload struct {
	result store.Result
	stored bool // the store has the bytes
}

// receive reads the multipart body into the store. What was stored before the
// body turned out bad is removed at once.
func (s *Studio) receive(w http.ResponseWriter, r *http.Request, j *job) (store.Result, error) {
	var up upload
	err := s.readForm(w, r, j, &up)
	if err != nil && up.stored {
		if err := s.store.Discard(r.Context(), up.result); err != nil {
			s.cfg.Log.Warn("a leftover result could not be removed", "job_id", j.id, "error", err)
		}
	}
	return up.result, err
}

// readForm reads the parts of the body, in any order.
func (s *Studio) readForm(w http.ResponseWriter, r *http.Request, j *job, up *upload) error {
	r.Body = &patient{r: http.MaxBytesReader(bare(w), r.Body, s.cfg.MaxResult+overhead), control: http.NewResponseController(w)}
	form, err := r.MultipartReader()
	if err != nil {
		return bad("the body cannot be read: " + err.Error())
	}
	ext := ""
	for range maxParts {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			if !up.stored {
				return bad("the body has no part " + protocol.PartFile)
			}
			up.result.Ext, up.result.ContentType = ext, protocol.ContentType(ext)
			return nil
		}
		if err != nil {
			return s.broken(err)
		}
		switch part.FormName() {
		case protocol.PartFile:
			if up.stored {
				return bad("the body has two parts " + protocol.PartFile)
			}
			in := &noted{r: part}
			up.result, err = s.store.Put(r.Context(), folder(j.now()), r.ContentLength, in)
			if err != nil && in.err != nil { // the sender's fault, not the store's
				return s.broken(in.err)
			}
			if err != nil {
				return err
			}
			if up.stored = true; up.result.Bytes == 0 {
				return bad("the result is empty")
			}
		case protocol.PartExt:
			if ext, err = s.text(part); err != nil {
				return err
			}
			if !validExt(ext) {
				return bad("the part ext is not a file extension")
			}
		default: // the prompt, and what later workers may add
			if _, err := s.text(part); err != nil {
				return err
			}
		}
	}
	return bad("the body has too many parts")
}

func (s *Studio) text(part *multipart.Part) (string, error) {
	data, err := io.ReadAll(io.LimitReader(part, maxTextPart+1))
	if err != nil {
		return "", s.broken(err)
	}
	if len(data) > maxTextPart {
		return "", &refusal{status: http.StatusRequestEntityTooLarge, code: "too_large", message: "a text part is larger than " + size(maxTextPart)}
	}
	return string(data), nil
}

// broken explains a body that could not be read to its end.
func (s *Studio) broken(err error) error {
	if tooBig := (*http.MaxBytesError)(nil); errors.As(err, &tooBig) {
		return &refusal{status: http.StatusRequestEntityTooLarge, code: "too_large", message: "the result is larger than " + size(s.cfg.MaxResult)}
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
