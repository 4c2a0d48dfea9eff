package studio

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"studioworker/studio/client"
	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

// The addresses under /v1 speak as OpenAI's do, so that programs written for
// those find a studio by nothing but another base URL and key. Each call is a job
// like any other. What a call asks for that a job cannot do is refused with the
// name of the parameter, never left out in silence, as long as it would change
// what the answer is; what only tunes it is ignored.

const (
	openAIGame   = "api"            // gameId of the jobs
	noWorkerWait = 30 * time.Second // told when no worker does this
	goneText     = "the caller went away"
	timeoutText  = "the call took too long"
	stoppingText = "the studio restarts"
	linkLife     = 24 * time.Hour // of the address of a picture
	statusGone   = 499            // for the log: the caller went away
	maxAnswer    = 16 << 20       // bytes of a JSON result that becomes an answer
)

// openAIRoutes adds the routes under /v1.
func (s *Studio) openAIRoutes(mux *http.ServeMux) {
	route := func(pattern string, handler func(http.ResponseWriter, *http.Request, caller) error) {
		mux.HandleFunc(pattern, s.openAI(handler))
	}
	route("POST /v1/chat/completions", s.chat)
	route("POST /v1/images/generations", s.images)
	route("POST /v1/audio/speech", s.speech)
	route("POST /v1/audio/transcriptions", func(w http.ResponseWriter, r *http.Request, who caller) error {
		return s.transcribe(w, r, who, false)
	})
	route("POST /v1/audio/translations", func(w http.ResponseWriter, r *http.Request, who caller) error {
		return s.transcribe(w, r, who, true)
	})
	route("GET /v1/models", s.openAIModels)
	route("GET /v1/models/{id...}", s.openAIModel)
	mux.HandleFunc("GET /v1/results/{id}", s.linkedResult)
	route("/v1/", func(_ http.ResponseWriter, r *http.Request, _ caller) error {
		return &callError{
			status: http.StatusNotFound, kind: kindRequest, code: "unknown_url",
			message: fmt.Sprintf("%s %.200s is not offered here; docs/api.md lists what is", r.Method, r.URL.Path),
		}
	})
}

// The types of errors that OpenAI's clients know.
const (
	kindRequest = "invalid_request_error"
	kindServer  = "server_error"
	kindLimit   = "rate_limit_exceeded"
)

// callError is what a call under /v1 ends in when it does not work.
type callError struct {
	status              int
	kind, code, message string
	param               string        // that is wrong; empty: none
	after               time.Duration // until it may be tried again; 0: not said
	final               bool          // trying again does not help, though the status says so
}

func (e *callError) Error() string { return e.message }

// wrong refuses a parameter.
func wrong(param, format string, a ...any) error {
	return &callError{status: http.StatusBadRequest, kind: kindRequest, code: "invalid_value", param: param, message: fmt.Sprintf(format, a...)}
}

// unsupported refuses what the studio cannot do.
func unsupported(param, format string, a ...any) error {
	return &callError{status: http.StatusBadRequest, kind: kindRequest, code: "unsupported_parameter", param: param, message: fmt.Sprintf(format, a...)}
}

// asCallError puts what the studio's own API says in OpenAI's words.
func asCallError(err error) *callError {
	if e, ok := errors.AsType[*callError](err); ok {
		return e
	}
	why, ok := errors.AsType[*refusal](err)
	switch {
	case !ok:
		return &callError{
			status: http.StatusServiceUnavailable, kind: kindServer, code: "unavailable", after: fullPause,
			message: "the studio cannot store or read this now; try again later",
		}
	case why.code == "unknown_model", why.code == "wrong_model":
		return &callError{status: http.StatusNotFound, kind: kindRequest, code: "model_not_found", param: "model", message: why.message}
	}
	e := &callError{status: why.status, kind: kindRequest, code: why.code, message: why.message, after: why.after}
	switch {
	case why.status == http.StatusTooManyRequests:
		e.kind = kindLimit
	case why.status >= http.StatusInternalServerError:
		e.kind = kindServer
	case why.status == http.StatusUnprocessableEntity:
		e.status = http.StatusBadRequest
	}
	return e
}

// errorBody is an error as OpenAI's clients read it.
type errorBody struct {
	Error struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    *string `json:"code"`
	} `json:"error"`
}

func (e *callError) body() errorBody {
	var out errorBody
	out.Error.Message, out.Error.Type = e.message, e.kind
	if e.param != "" {
		out.Error.Param = &e.param
	}
	if e.code != "" {
		out.Error.Code = &e.code
	}
	return out
}

func (e *callError) write(w http.ResponseWriter) {
	if e.after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(e.after.Seconds()))))
	}
	if e.final { // both official clients repeat a 5xx on their own, unless told
		w.Header().Set("X-Should-Retry", "false")
	}
	writeJSON(w, e.status, e.body())
}

// openAI lets the operator and holders of API keys through, and answers errors as
// OpenAI's clients expect.
func (s *Studio) openAI(next func(http.ResponseWriter, *http.Request, caller) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", newID("req-"))
		who, err := s.identify(r)
		switch {
		case errors.Is(err, errNoKey), errors.Is(err, errKeyGone):
			message := err.Error()
			if errors.Is(err, errNoKey) {
				message = "the API key is missing or wrong; the operator makes one with: studio-worker keys create NAME"
			}
			w.Header().Set("WWW-Authenticate", "Bearer")
			err = &callError{status: http.StatusUnauthorized, kind: kindRequest, code: "invalid_api_key", message: message}
		case err == nil:
			if err = next(w, r, who); err == nil {
				return
			}
		}
		if r.Context().Err() != nil { // nobody reads the answer
			w.WriteHeader(statusGone)
			return
		}
		drain(w, r)
		e := asCallError(err)
		if e.code == "unavailable" {
			s.cfg.Log.Error("a call could not be served", "error", err)
		}
		e.write(w)
	}
}

// readCall reads a JSON body.
func readCall(w http.ResponseWriter, r *http.Request, into any) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return &callError{status: http.StatusUnsupportedMediaType, kind: kindRequest, code: "unsupported_media_type", message: "the body must be JSON, with Content-Type application/json"}
	}
	data, err := bodyOf(w, r, client.MaxJob)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		if mismatch, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return wrong(mismatch.Field, "%s: must not be %s", cmp.Or(mismatch.Field, "the body"), mismatch.Value)
		}
		return &callError{status: http.StatusBadRequest, kind: kindRequest, code: "invalid_json", message: "the body is not JSON: " + err.Error()}
	}
	return nil
}

// call is a job that somebody waits for.
type call struct {
	s     *Studio
	job   *job
	until time.Time
}

// wish is the JSON body of a call that becomes one job.
type wish interface {
	model() string
	task() (protocol.Task, error)
}

// beginCall reads a call's body into in and queues the job that it asks for.
func (s *Studio) beginCall(w http.ResponseWriter, r *http.Request, in wish, who caller) (*call, error) {
	if err := readCall(w, r, in); err != nil {
		return nil, err
	}
	task, err := in.task()
	if err != nil {
		return nil, err
	}
	return s.begin(r, task, in.model(), who)
}

// begin queues a job for a call, if there is a worker for it. The caller ends it
// with wait or follow.
func (s *Studio) begin(r *http.Request, task protocol.Task, model string, who caller) (*call, error) {
	in := client.Job{Model: model, Task: task, GameID: openAIGame}
	known, err := s.modelFor(r.Context(), model, task.Kind)
	if err != nil {
		return nil, err
	}
	in.Model = known.ID
	if err := cmp.Or(checkTask(task), offerable(in)); err != nil {
		param, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "task."), ":")
		return nil, wrong(param, "%s", strings.TrimPrefix(err.Error(), "task."))
	}
	rec := store.Job{Task: task, Model: known.ID, Source: known.Source, VRAMGBEstimate: known.VRAMGBEstimate}
	if !s.hub.served(lotOf(&rec)) {
		return nil, &callError{
			status: http.StatusServiceUnavailable, kind: kindServer, code: "no_worker", after: noWorkerWait,
			message: fmt.Sprintf("no worker that takes jobs now can run the model %.200q", known.ID),
		}
	}
	j, err := s.take(r.Context(), in, who, s.origin(r))
	if err != nil {
		return nil, err
	}
	return &call{s: s, job: j, until: time.Now().Add(s.cfg.CallLimit)}, nil
}

// served says whether a connected worker that takes jobs could do one of the lot,
// now or when it has ended the one that it is at.
func (h *hub) served(l lot) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sessions {
		if !s.gone && s.caps.AutoEnabled && s.suits(l) {
			return true
		}
	}
	return false
}

// follow hands each event of the job to take, until the job has ended well, and
// returns its record. take ends it early with an error. When the caller goes
// away, the time is over, or the studio stops, the job is cancelled.
func (c *call) follow(w http.ResponseWriter, r *http.Request, take func(event client.Event, whole bool) error, idle func() error) (store.Job, error) {
	select {
	case c.s.streams <- struct{}{}:
		defer func() { <-c.s.streams }()
	default:
		c.cancel(r.Context(), "too many calls")
		return store.Job{}, &callError{status: http.StatusServiceUnavailable, kind: kindServer, code: "too_many_calls", after: fullPause, message: "too many calls wait for their jobs"}
	}
	control := http.NewResponseController(w)
	// The read deadline of the request would end its context. Of a writer without
	// deadlines there is nothing to move.
	_ = control.SetReadDeadline(time.Time{})
	_ = control.SetWriteDeadline(c.until.Add(requestLimit))
	limit := time.NewTimer(time.Until(c.until))
	defer limit.Stop()
	tick := time.NewTicker(streamComment)
	defer tick.Stop()
	for {
		rec, again, err := c.attend(r, take, idle, limit.C, tick.C)
		if !again {
			return rec, err
		}
	}
}

// attend is one reading of the job's events; again means that it fell behind.
func (c *call) attend(r *http.Request, take func(event client.Event, whole bool) error, idle func() error, limit, tick <-chan time.Time) (rec store.Job, again bool, err error) {
	now, events, stop := c.job.follow()
	defer stop()
	whole := true // what comes first tells all that was before
	for {
		for _, event := range now {
			if err := take(event, whole); err != nil {
				c.cancel(r.Context(), goneText)
				return store.Job{}, false, err
			}
		}
		// Events may be late: what is stored counts.
		if rec := c.job.now(); rec.State.Final() && len(events) == 0 {
			return rec, false, c.outcome(rec)
		}
		now, whole = nil, false
		select {
		case next, ok := <-events:
			if !ok {
				return store.Job{}, true, nil
			}
			now = []client.Event{next}
		case <-tick:
			if err := idle(); err != nil {
				c.cancel(r.Context(), goneText)
				return store.Job{}, false, err
			}
		case <-limit:
			c.cancel(r.Context(), timeoutText)
			return store.Job{}, false, &callError{
				status: http.StatusGatewayTimeout, kind: kindServer, code: "timeout", after: noWorkerWait,
				message: fmt.Sprintf("the job did not end within %v and is cancelled; POST /api/v1/jobs takes longer ones", c.s.cfg.CallLimit),
			}
		case <-r.Context().Done():
			c.cancel(r.Context(), goneText)
			return store.Job{}, false, r.Context().Err()
		case <-c.s.done:
			c.cancel(r.Context(), stoppingText)
			return store.Job{}, false, &callError{status: http.StatusServiceUnavailable, kind: kindServer, code: "restarting", after: fullPause, message: stoppingText}
		}
	}
}

// wait waits until the job has ended well.
func (c *call) wait(w http.ResponseWriter, r *http.Request) (store.Job, error) {
	return c.follow(w, r, func(client.Event, bool) error { return nil }, func() error { return nil })
}

// outcome is the error of a job that has ended otherwise than done.
func (*call) outcome(rec store.Job) error {
	switch {
	case rec.State == store.Done && rec.Result != nil:
		return nil
	case rec.State == store.Cancelled:
		return &callError{status: http.StatusConflict, kind: kindRequest, code: "cancelled", final: true, message: "the job was cancelled: " + rec.Error}
	default: // it had all its attempts
		return &callError{status: http.StatusInternalServerError, kind: kindServer, code: "job_failed", final: true, message: cmp.Or(rec.Error, "the job failed")}
	}
}

// cancel ends a job that nobody waits for any more.
func (c *call) cancel(ctx context.Context, why string) {
	err := c.s.hub.cancel(context.WithoutCancel(ctx), c.job, why)
	if err != nil && !errors.Is(err, errFinished) {
		c.s.cfg.Log.Error("a job that nobody waits for could not be cancelled", "job_id", c.job.id, "error", err)
	}
}

// answer reads a JSON result.
func (s *Studio) answer(ctx context.Context, rec store.Job, into any) error {
	if rec.Result.Bytes > maxAnswer {
		return &callError{status: http.StatusInternalServerError, kind: kindServer, code: "job_failed", final: true, message: "the worker's answer is too long"}
	}
	data, err := s.bytesOf(ctx, rec)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return &callError{status: http.StatusInternalServerError, kind: kindServer, code: "job_failed", final: true, message: "the worker's answer cannot be read: " + err.Error()}
	}
	return nil
}

// bytesOf reads a whole result.
func (s *Studio) bytesOf(ctx context.Context, rec store.Job) ([]byte, error) {
	var data collector
	if err := s.store.Copy(ctx, &data, *rec.Result); err != nil {
		return nil, fmt.Errorf("result of job %s: %w", rec.ID, err)
	}
	return data, nil
}

type collector []byte

func (c *collector) Write(p []byte) (int, error) {
	*c = append(*c, p...)
	return len(p), nil
}

// link returns an address at which a result can be read without a key, for
// linkLife: the signature says that whoever made it might.
func (s *Studio) link(r *http.Request, id string, now time.Time) string {
	until := strconv.FormatInt(now.Add(linkLife).Unix(), 10)
	return s.origin(r) + "/v1/results/" + id + "?" + url.Values{"until": {until}, "signature": {s.sign(id, until)}}.Encode()
}

func (s *Studio) sign(id, until string) string {
	mac := hmac.New(sha256.New, []byte(s.token))
	_, _ = fmt.Fprintf(mac, "result\n%s\n%s", id, until) // a hash never fails
	return hex.EncodeToString(mac.Sum(nil))
}

// linkedResult sends the result that a signed address names.
func (s *Studio) linkedResult(w http.ResponseWriter, r *http.Request) {
	id, until := r.PathValue("id"), r.URL.Query().Get("until")
	end, err := strconv.ParseInt(until, 10, 64)
	if !hmac.Equal([]byte(s.sign(id, until)), []byte(r.URL.Query().Get("signature"))) || err != nil || time.Now().Unix() > end {
		writeError(w, http.StatusForbidden, "forbidden", "this address is not signed, or too old")
		return
	}
	w.Header().Set("Content-Security-Policy", "sandbox; default-src 'none'")
	s.result(w, r, caller{})
}
