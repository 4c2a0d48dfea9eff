package studio

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"studioworker/studio/client"
	"studioworker/studio/store"
	"studioworker/worker/oneline"
	"studioworker/worker/protocol"
)

const (
	maxStreams    = 1024             // event streams at once
	streamComment = 15 * time.Second // between signs of life on a quiet event stream
)

// operator lets only the operator's token through.
func (s *Studio) operator(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.isOperator(bearer(r)) {
			drain(w, r)
			if _, err := s.keys.find(r.Context(), bearer(r), time.Now()); err == nil {
				writeError(w, http.StatusForbidden, "forbidden", "this is for the operator; an API key is not enough")
				return
			}
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeError(w, http.StatusUnauthorized, "unauthorized", "the operator token is missing or wrong; it is in the file operator-token of the studio's data folder")
			return
		}
		next(w, r)
	}
}

// isOperator says whether the token is the operator's, in constant time.
func (s *Studio) isOperator(token string) bool { return matches(token, hashed(s.token)) }

// health says whether the studio can work.
func (s *Studio) health(w http.ResponseWriter, _ *http.Request) {
	if err := s.store.Healthy(); err != nil {
		s.internal(w, err)
		return
	}
	writeJSON(w, http.StatusOK, struct {
		Status     string `json:"status"`
		Version    string `json:"version,omitempty"`
		Durability string `json:"durability"`
	}{"ok", s.cfg.Version, s.store.Durability()})
}

// submit queues a job.
func (s *Studio) submit(w http.ResponseWriter, r *http.Request, who caller) {
	data, ok := readBody(w, r, client.MaxJob)
	if !ok {
		return
	}
	in, err := decodeJob(data)
	if err != nil {
		status := http.StatusUnprocessableEntity
		if !json.Valid(data) {
			status = http.StatusBadRequest
		}
		writeError(w, status, "invalid_job", err.Error())
		return
	}
	j, err := s.take(r.Context(), in, who, s.origin(r))
	if err != nil {
		s.refuse(w, err)
		return
	}
	w.Header().Set("Location", "/api/v1/jobs/"+j.id)
	writeJSON(w, http.StatusCreated, client.Submitted{ID: j.id, State: client.State(j.now().State)})
}

// listJobs lists the caller's jobs, newest first.
func (s *Studio) listJobs(w http.ResponseWriter, r *http.Request, who caller) {
	state := store.JobState(r.URL.Query().Get("state"))
	if state != "" && !slices.Contains(store.JobStates(), state) {
		writeError(w, http.StatusBadRequest, "bad_request", "state must be queued, offered, running, done, failed or cancelled")
		return
	}
	prompts, err := strconv.ParseBool(cmp.Or(r.URL.Query().Get("prompts"), "false"))
	if err != nil {
		writeError(w, http.StatusBadRequest, "bad_request", "prompts must be true or false")
		return
	}
	limit, after, ok := window(w, r)
	if !ok {
		return
	}
	out := client.JobList{Jobs: []client.JobStatus{}}
	for _, j := range s.hub.list(after, limit+1, func(j *job) bool { return who.sees(j) && (state == "" || j.brief().state == state) }) {
		if len(out.Jobs) == limit {
			out.Next = cursor(out.Jobs[limit-1].ID)
			break
		}
		status := j.status()
		if prompts {
			rec, err := s.whole(r.Context(), j)
			if errors.Is(err, store.ErrNotFound) { // it was removed just now
				continue
			}
			if err != nil {
				s.internal(w, err)
				return
			}
			status.Prompt = promptLine(rec.Task)
		}
		out.Jobs = append(out.Jobs, status)
	}
	writeJSON(w, http.StatusOK, out)
}

// whole returns the whole record of a job: of one that has ended, memory has a part
// only.
func (s *Studio) whole(ctx context.Context, j *job) (store.Job, error) {
	rec := j.now()
	if !rec.State.Final() {
		return rec, nil
	}
	stored, err := s.store.Jobs.Get(ctx, j.id)
	return stored.Value, err
}

const maxPromptLine = 200 // characters

// promptLine is the beginning of what a job was asked, on one line.
func promptLine(t protocol.Task) string {
	text := ""
	switch {
	case t.Image != nil:
		text = t.Image.Prompt
	case t.LLM != nil:
		for _, m := range slices.Backward(t.LLM.Messages) { // what was asked last
			if m.Role == "user" && m.Content != "" {
				text = m.Content
				break
			}
		}
	case t.STT != nil:
		text = t.STT.InputURL
	case t.TTS != nil:
		text = t.TTS.Text
	case t.Video != nil:
		text = t.Video.Prompt
	}
	return oneline.Of(text, maxPromptLine)
}

// find returns the job that the address names, or answers 404. Another's job is
// none of the caller's.
func (s *Studio) find(w http.ResponseWriter, r *http.Request, who caller) *job {
	j := s.hub.job(r.PathValue("id"))
	if j == nil || !who.sees(j) {
		writeError(w, http.StatusNotFound, "not_found", "there is no such job")
		return nil
	}
	return j
}

// getJob describes a job with its task.
func (s *Studio) getJob(w http.ResponseWriter, r *http.Request, who caller) {
	j := s.find(w, r, who)
	if j == nil {
		return
	}
	out := j.status()
	rec, err := s.whole(r.Context(), j)
	if errors.Is(err, store.ErrNotFound) {
		writeError(w, http.StatusNotFound, "not_found", "there is no such job")
		return
	}
	if err != nil {
		s.internal(w, err)
		return
	}
	out.Task, out.Text = &rec.Task, j.textSoFar()
	for _, a := range rec.Past {
		out.Past = append(out.Past, client.Attempt(a))
	}
	writeJSON(w, http.StatusOK, out)
}

// result sends the bytes of a finished job.
func (s *Studio) result(w http.ResponseWriter, r *http.Request, who caller) {
	j := s.find(w, r, who)
	if j == nil {
		return
	}
	rec := j.now()
	if rec.Result == nil {
		message := "the job is " + string(rec.State) + " and has no result yet"
		if rec.State.Final() {
			message = "the job is " + string(rec.State) + " and has no result"
		}
		writeError(w, http.StatusConflict, "no_result", message)
		return
	}
	name := rec.ID
	if rec.Result.Ext != "" {
		name += "." + rec.Result.Ext
	}
	s.sendStored(w, r, *rec.Result, "result of job "+rec.ID, func() {
		w.Header().Set("Content-Type", rec.Result.ContentType)
		w.Header().Set("Content-Length", strconv.FormatInt(rec.Result.Bytes, 10))
		w.Header().Set("Content-Disposition", `inline; filename="`+name+`"`)
		w.Header().Set("X-Content-Type-Options", "nosniff")
	})
}

// sendStored sends stored bytes; head sets the headers once they can be read.
func (s *Studio) sendStored(w http.ResponseWriter, r *http.Request, stored store.Result, what string, head func()) {
	out := &unhurried{w: w, control: http.NewResponseController(w), begin: head}
	if err := s.store.Copy(r.Context(), out, stored); err != nil {
		if !out.begun {
			s.internal(w, fmt.Errorf("%s: %w", what, err))
			return
		}
		s.cfg.Log.Warn("stored bytes were not sent to their end", "what", what, "error", err)
		panic(http.ErrAbortHandler) // the receiver must not take it for whole
	}
}

// unhurried writes an answer of any length, as long as it moves.
type unhurried struct {
	w       io.Writer
	control *http.ResponseController
	begin   func() // sets the headers
	begun   bool
}

const writeStep = 256 << 10

func (u *unhurried) Write(p []byte) (int, error) {
	if !u.begun {
		u.begun = true
		u.begin()
	}
	n := 0
	for step := range slices.Chunk(p, writeStep) {
		// The read deadline of the request would end its context.
		err := errors.Join(u.control.SetWriteDeadline(time.Now().Add(transferIdle)), u.control.SetReadDeadline(time.Time{}))
		if err != nil {
			return n, err
		}
		m, err := u.w.Write(step)
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// events streams a job's changes, its state now first, until a final state.
func (s *Studio) events(w http.ResponseWriter, r *http.Request, who caller) {
	j := s.find(w, r, who)
	if j == nil {
		return
	}
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		writeError(w, http.StatusServiceUnavailable, "unavailable", "too many event streams are open")
		return
	}
	now, events, stop := j.follow()
	defer stop()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	control := http.NewResponseController(w)
	send := func(text string) bool {
		if control.SetWriteDeadline(time.Now().Add(requestLimit)) != nil || control.SetReadDeadline(time.Time{}) != nil {
			return false
		}
		_, err := io.WriteString(w, text)
		return err == nil && control.Flush() == nil
	}
	tick := time.NewTicker(streamComment)
	defer tick.Stop()
	for {
		for _, event := range now {
			data, err := event.Data()
			if err != nil || !send(fmt.Sprintf("event: %s\ndata: %s\n\n", event.Type, data)) || event.Job.State.Final() {
				return
			}
		}
		now = nil
		select {
		case next, ok := <-events:
			if !ok { // too slow to be told everything
				return
			}
			now = []client.Event{next}
		case <-tick.C:
			if !send(": still here\n\n") {
				return
			}
		case <-r.Context().Done():
			return
		case <-s.done:
			return
		}
	}
}

// workerView is a worker as the operator sees it.
type workerView struct {
	ID           string                 `json:"id"`
	Name         string                 `json:"name"`
	Username     string                 `json:"username"`
	CreatedAt    time.Time              `json:"createdAt"`
	Connected    bool                   `json:"connected"`
	ConnectedAt  time.Time              `json:"connectedAt,omitzero"`
	HeartbeatAt  time.Time              `json:"heartbeatAt,omitzero"`
	CurrentJobID string                 `json:"currentJobId,omitempty"`
	Capabilities *protocol.Capabilities `json:"capabilities,omitempty"` // of the last heartbeat
}

// listWorkers lists the approved workers, the oldest first.
func (s *Studio) listWorkers(w http.ResponseWriter, r *http.Request) {
	listed(w, r, s.people.approved(), func(w store.Worker) string { return place(w.CreatedAt, w.ID) }, oldestFirst, func(w store.Worker) workerView {
		view := workerView{ID: w.ID, Name: w.Name, Username: w.Username, CreatedAt: w.CreatedAt}
		s.hub.describe(&view)
		return view
	}, func(page []workerView, next string) any {
		return struct {
			Workers []workerView `json:"workers"`
			Next    string       `json:"next,omitempty"`
		}{page, next}
	})
}

// describe adds what the worker's session tells.
func (h *hub) describe(view *workerView) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.current[view.ID]
	if s == nil {
		if m, ok := h.elsewhere[view.ID]; ok {
			view.Connected, view.ConnectedAt, view.HeartbeatAt, view.CurrentJobID = true, m.ConnectedAt, m.Beat, m.JobID
			view.Capabilities = &m.Caps
		}
		return
	}
	caps := s.caps
	view.Connected, view.ConnectedAt, view.HeartbeatAt, view.Capabilities = true, s.connectedAt, s.beat.UTC(), &caps
	if view.CurrentJobID = s.busyWith; s.held != nil {
		view.CurrentJobID = s.held.id
	}
}

// workerLogs lists the log entries kept of a worker, oldest first, and says how
// many more came.
func (s *Studio) workerLogs(w http.ResponseWriter, r *http.Request) {
	entries, dropped := s.hub.logs.of(r.PathValue("id"))
	if entries == nil {
		entries = []protocol.LogEntry{}
	}
	writeJSON(w, http.StatusOK, struct {
		Entries []protocol.LogEntry `json:"entries"`
		Dropped uint64              `json:"dropped"`
	}{entries, dropped})
}

// registrationView is a registration request as the operator sees it.
type registrationView struct {
	ID        string                   `json:"id"`
	Status    store.RegistrationStatus `json:"status"`
	Reason    string                   `json:"reason,omitempty"`
	WorkerID  string                   `json:"workerId,omitempty"`
	InstallID string                   `json:"installId"`
	Name      string                   `json:"name"`
	Username  string                   `json:"username"`
	UserAgent string                   `json:"userAgent"`
	Address   string                   `json:"address"`
	CreatedAt time.Time                `json:"createdAt"`
}

func viewOf(r store.Registration) registrationView {
	return registrationView{
		ID: r.ID, Status: r.Status, Reason: r.Reason, WorkerID: r.WorkerID, InstallID: r.InstallID, Name: r.Name,
		Username: r.Username, UserAgent: r.UserAgent, Address: r.Address, CreatedAt: r.CreatedAt,
	}
}

// listRegistrations lists the requests, newest first.
func (s *Studio) listRegistrations(w http.ResponseWriter, r *http.Request) {
	listed(w, r, s.people.requests(), func(r store.Registration) string { return place(r.CreatedAt, r.ID) }, newestFirst, viewOf,
		func(page []registrationView, next string) any {
			return struct {
				Registrations []registrationView `json:"registrations"`
				Next          string             `json:"next,omitempty"`
			}{page, next}
		})
}

func (s *Studio) approve(w http.ResponseWriter, r *http.Request) {
	s.decide(w, r, store.Approved, "")
}

// reject turns a request down, with a reason in the body if there is one.
func (s *Studio) reject(w http.ResponseWriter, r *http.Request) {
	data, ok := readBody(w, r, maxSmallBody)
	if !ok {
		return
	}
	var in struct {
		Reason string `json:"reason"`
	}
	if len(strings.TrimSpace(string(data))) > 0 {
		if err := json.Unmarshal(data, &in); err != nil {
			writeError(w, http.StatusBadRequest, "bad_request", "the body must be an object with the text reason, or empty")
			return
		}
	}
	s.decide(w, r, store.Rejected, clip(in.Reason, maxError))
}

func (s *Studio) decide(w http.ResponseWriter, r *http.Request, status store.RegistrationStatus, reason string) {
	row, err := s.people.decide(r.Context(), r.PathValue("id"), status, reason)
	switch {
	case errors.Is(err, errNoRegistration):
		writeError(w, http.StatusNotFound, "not_found", err.Error())
	case errors.Is(err, errNotPending):
		writeError(w, http.StatusConflict, "conflict", err.Error())
	case err != nil:
		s.internal(w, err)
	default:
		writeJSON(w, http.StatusOK, viewOf(row))
	}
}
