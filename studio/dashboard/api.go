package dashboard

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"studioworker/studio/client"
	"studioworker/worker/protocol"
)

// maxAnswer bounds an answer of the API that is kept in memory, in bytes.
const maxAnswer = 32 << 20

// memory is an answer that stays in the process.
type memory struct {
	header  http.Header
	status  int
	body    bytes.Buffer
	limit   int
	control *http.ResponseController // of the browser's request
}

func (m *memory) Header() http.Header { return m.header }

func (m *memory) WriteHeader(status int) {
	if m.status == 0 {
		m.status = status
	}
}

var errTooLong = errors.New("the answer is too long")

func (m *memory) Write(p []byte) (int, error) {
	m.WriteHeader(http.StatusOK)
	if m.body.Len()+len(p) > m.limit {
		n, err := m.body.Write(p[:m.limit-m.body.Len()])
		return n, errors.Join(errTooLong, err)
	}
	return m.body.Write(p)
}

// Flush is for handlers that send in pieces: nobody waits for them here.
func (m *memory) Flush() {}

// SetReadDeadline and SetWriteDeadline are for handlers that read the browser's
// own body.
func (m *memory) SetReadDeadline(t time.Time) error  { return m.control.SetReadDeadline(t) }
func (m *memory) SetWriteDeadline(t time.Time) error { return m.control.SetWriteDeadline(t) }

// request makes a call to the API out of a visit.
func request(v *visit, method, path string, body io.Reader) (*http.Request, error) {
	r, err := http.NewRequestWithContext(v.r.Context(), method, path, body) // #nosec G704 -- it never leaves the process
	if err != nil {
		return nil, fmt.Errorf("ask the studio: %w", err)
	}
	if r.Body == nil { // a server's request always has one
		r.Body = http.NoBody
	}
	r.Host, r.TLS, r.RemoteAddr = v.r.Host, v.r.TLS, v.r.RemoteAddr
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Proto"} {
		r.Header[name] = v.r.Header[name]
	}
	return r, nil
}

// ask calls the API. An answer that is no success is a *client.Error.
func (d *Dashboard) ask(v *visit, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("ask the studio: %w", err)
		}
		body = bytes.NewReader(data)
	}
	r, err := request(v, method, path, body)
	if err != nil {
		return err
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return d.do(v, r, out)
}

func (d *Dashboard) do(v *visit, r *http.Request, out any) error {
	answer := &memory{header: http.Header{}, limit: maxAnswer, control: http.NewResponseController(v.w)}
	d.cfg.API.ServeHTTP(answer, r)
	if answer.status >= http.StatusMultipleChoices && answer.status < http.StatusBadRequest { // an id of dots leads to another address
		return &client.Error{Status: http.StatusNotFound, Message: "there is nothing of this name"}
	}
	if answer.status >= http.StatusBadRequest {
		failed := &client.Error{Status: answer.status}
		if err := json.Unmarshal(answer.body.Bytes(), failed); err != nil {
			return errors.Join(failed, err)
		}
		return failed
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer.body.Bytes(), out); err != nil {
		return fmt.Errorf("read the studio's answer: %w", err)
	}
	return nil
}

// path joins what goes into an address.
func path(parts ...string) string {
	escaped := make([]string, len(parts))
	for i, p := range parts {
		escaped[i] = url.PathEscape(p)
	}
	return "/api/v1/" + strings.Join(escaped, "/")
}

// worker is a worker as GET /api/v1/workers has it.
type worker struct {
	ID           string                 `json:"id"`
	Name         string                 `json:"name"`
	Username     string                 `json:"username"`
	CreatedAt    time.Time              `json:"createdAt"`
	Connected    bool                   `json:"connected"`
	ConnectedAt  time.Time              `json:"connectedAt"`
	HeartbeatAt  time.Time              `json:"heartbeatAt"`
	CurrentJobID string                 `json:"currentJobId"`
	Capabilities *protocol.Capabilities `json:"capabilities"`
}

// registration is a request as GET /api/v1/registrations has it.
type registration struct {
	ID        string    `json:"id"`
	Status    string    `json:"status"`
	Reason    string    `json:"reason"`
	WorkerID  string    `json:"workerId"`
	InstallID string    `json:"installId"`
	Name      string    `json:"name"`
	Username  string    `json:"username"`
	UserAgent string    `json:"userAgent"`
	Address   string    `json:"address"`
	CreatedAt time.Time `json:"createdAt"`
}

func (d *Dashboard) allWorkers(v *visit) ([]worker, error) {
	var all []worker
	err := everything(func(cursor string) (string, error) {
		var page struct {
			Workers []worker `json:"workers"`
			Next    string   `json:"next"`
		}
		err := d.ask(v, http.MethodGet, "/api/v1/workers?limit=1000"+cursor, nil, &page)
		all = append(all, page.Workers...)
		return page.Next, err
	})
	return all, err
}

func (d *Dashboard) allRegistrations(v *visit) ([]registration, error) {
	var all []registration
	err := everything(func(cursor string) (string, error) {
		var page struct {
			Registrations []registration `json:"registrations"`
			Next          string         `json:"next"`
		}
		err := d.ask(v, http.MethodGet, "/api/v1/registrations?limit=1000"+cursor, nil, &page)
		all = append(all, page.Registrations...)
		return page.Next, err
	})
	return all, err
}

func (d *Dashboard) allModels(v *visit) ([]client.Model, error) {
	var all []client.Model
	err := everything(func(cursor string) (string, error) {
		var page struct {
			Models []client.Model `json:"models"`
			Next   string         `json:"next"`
		}
		err := d.ask(v, http.MethodGet, "/api/v1/models?limit=1000"+cursor, nil, &page)
		all = append(all, page.Models...)
		return page.Next, err
	})
	return all, err
}

// maxPages bounds a list that is read whole.
const maxPages = 20

// everything reads a list page by page.
func everything(page func(cursor string) (next string, err error)) error {
	cursor := ""
	for range maxPages {
		next, err := page(cursor)
		if err != nil || next == "" {
			return err
		}
		cursor = "&cursor=" + url.QueryEscape(next)
	}
	return nil
}

// preview reads the beginning of a result, at most limit bytes, and says whether
// that is all of it.
func (d *Dashboard) preview(v *visit, id string, limit int) (data []byte, whole bool, err error) {
	r, err := request(v, http.MethodGet, path("jobs", id, "result"), nil)
	if err != nil {
		return nil, false, err
	}
	answer := &memory{header: http.Header{}, limit: limit, control: http.NewResponseController(v.w)}
	cut := false
	func() {
		defer func() { // a transfer that stops in the middle aborts its handler
			if e := recover(); e != nil {
				if err, ok := e.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
					panic(e)
				}
				cut = true
			}
		}()
		d.cfg.API.ServeHTTP(answer, r)
	}()
	if answer.status >= http.StatusBadRequest {
		return nil, false, &client.Error{Status: answer.status}
	}
	return answer.body.Bytes(), !cut, nil
}

// words turns an error of the API into a sentence for a person.
func words(err error) (int, string) {
	if failed, ok := errors.AsType[*client.Error](err); ok {
		if failed.Message == "" {
			return failed.Status, fmt.Sprintf("The studio refused this (status %d).", failed.Status)
		}
		return failed.Status, sentence(failed.Message)
	}
	if errors.Is(err, context.Canceled) {
		return http.StatusServiceUnavailable, "The page was left before the studio answered."
	}
	return http.StatusInternalServerError, "The studio could not answer: " + err.Error()
}
