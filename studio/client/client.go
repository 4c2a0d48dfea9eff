package client

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
)

// Client calls one studio.
type Client struct {
	base  *url.URL
	token string
	http  *http.Client
}

// New returns a client of the studio at base (http or https), with the
// operator's token. The HTTP client must have no time limit for whole requests
// when Events is used.
func New(base, token string, hc *http.Client) (*Client, error) {
	u, err := url.Parse(strings.TrimSpace(base))
	if err != nil {
		return nil, errors.New("the studio's address is not a web address")
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, errors.New("the studio's address must start with http:// or https:// and name a host")
	}
	if token = strings.TrimSpace(token); token == "" {
		return nil, errors.New("the operator token is empty")
	}
	if strings.ContainsAny(token, "\r\n\x00") {
		return nil, errors.New("the operator token has more than one line")
	}
	if hc == nil {
		hc = http.DefaultClient
	}
	u.RawQuery, u.Fragment = "", ""
	return &Client{base: u, token: token, http: hc}, nil
}

// Submit queues a job.
func (c *Client) Submit(ctx context.Context, job Job) (Submitted, error) {
	body, err := json.Marshal(job)
	if err != nil {
		return Submitted{}, fmt.Errorf("encode the job: %w", err)
	}
	var out Submitted
	err = c.json(ctx, http.MethodPost, body, &out, "jobs")
	return out, err
}

// Get describes a job.
func (c *Client) Get(ctx context.Context, id string) (JobStatus, error) {
	var out JobStatus
	err := c.json(ctx, http.MethodGet, nil, &out, "jobs/"+url.PathEscape(id))
	return out, err
}

// Cancel ends a job without a result. While a worker is stopping it, the answer
// is its state before. A job that has ended is an *Error with status 409.
func (c *Client) Cancel(ctx context.Context, id string) (JobStatus, error) {
	var out JobStatus
	err := c.json(ctx, http.MethodPost, nil, &out, "jobs/"+url.PathEscape(id)+"/cancel")
	return out, err
}

// PutInput stores a picture or a recording for jobs, at most MaxInput bytes. The
// URL of the answer goes into a task. A wrong type is an *Error with status 415,
// too many bytes one with status 413.
func (c *Client) PutInput(ctx context.Context, contentType string, data io.Reader) (Input, error) {
	resp, err := c.send(ctx, http.MethodPost, contentType, data, "inputs")
	if err != nil {
		return Input{}, err
	}
	var out Input
	err = readJSON(resp, &out)
	return out, err
}

// Retry queues a job again that had failed or was cancelled. Any other is an
// *Error with status 409.
func (c *Client) Retry(ctx context.Context, id string) (JobStatus, error) {
	var out JobStatus
	err := c.json(ctx, http.MethodPost, nil, &out, "jobs/"+url.PathEscape(id)+"/retry")
	return out, err
}

// SignInLink makes a link that signs in to the dashboard, once.
func (c *Client) SignInLink(ctx context.Context) (SignInLink, error) {
	var out SignInLink
	err := c.json(ctx, http.MethodPost, nil, &out, "sign-in-links")
	return out, err
}

// Models lists the models that jobs may name.
func (c *Client) Models(ctx context.Context) ([]Model, error) {
	return pages(func(query string) ([]Model, string, error) {
		var out ModelList
		err := c.json(ctx, http.MethodGet, nil, &out, "models"+query)
		return out.Models, out.Next, err
	})
}

// PutModel writes a model, a new one or in place of the old. This and the next
// four are for the operator.
func (c *Client) PutModel(ctx context.Context, m ModelRecord) (ModelRecord, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return ModelRecord{}, fmt.Errorf("encode the model: %w", err)
	}
	var out ModelRecord
	err = c.json(ctx, http.MethodPut, body, &out, "models/"+url.PathEscape(m.ID))
	return out, err
}

// Model describes a model whole.
func (c *Client) Model(ctx context.Context, id string) (ModelRecord, error) {
	var out ModelRecord
	err := c.json(ctx, http.MethodGet, nil, &out, "models/"+url.PathEscape(id))
	return out, err
}

// DeleteModel removes a model. Jobs that were queued with it keep it.
func (c *Client) DeleteModel(ctx context.Context, id string) error {
	resp, err := c.do(ctx, http.MethodDelete, nil, "models/"+url.PathEscape(id))
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Export returns the whole model registry.
func (c *Client) Export(ctx context.Context) (Registry, error) {
	var out Registry
	err := c.json(ctx, http.MethodGet, nil, &out, "registry")
	return out, err
}

// Import writes all models of a registry over what is there. Others stay.
func (c *Client) Import(ctx context.Context, r Registry) (Imported, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return Imported{}, fmt.Errorf("encode the registry: %w", err)
	}
	var out Imported
	err = c.json(ctx, http.MethodPut, body, &out, "registry")
	return out, err
}

// Keys lists the API keys, the oldest first. This and the next two are for the
// operator.
func (c *Client) Keys(ctx context.Context) ([]Key, error) {
	return pages(func(query string) ([]Key, string, error) {
		var out KeyList
		err := c.json(ctx, http.MethodGet, nil, &out, "keys"+query)
		return out.Keys, out.Next, err
	})
}

// CreateKey makes an API key.
func (c *Client) CreateKey(ctx context.Context, key KeyRequest) (NewKey, error) {
	body, err := json.Marshal(key)
	if err != nil {
		return NewKey{}, fmt.Errorf("encode the key: %w", err)
	}
	var out NewKey
	err = c.json(ctx, http.MethodPost, body, &out, "keys")
	return out, err
}

// RevokeKey makes an API key void. An unknown one is an *Error with status 404.
func (c *Client) RevokeKey(ctx context.Context, id string) error {
	resp, err := c.do(ctx, http.MethodDelete, nil, "keys/"+url.PathEscape(id))
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Webhooks lists the addresses that are told when jobs have ended. This and the
// next two are for the operator.
func (c *Client) Webhooks(ctx context.Context) ([]Webhook, error) {
	return pages(func(query string) ([]Webhook, string, error) {
		var out WebhookList
		err := c.json(ctx, http.MethodGet, nil, &out, "webhooks"+query)
		return out.Webhooks, out.Next, err
	})
}

// CreateWebhook adds an address; only URL and All of w count.
func (c *Client) CreateWebhook(ctx context.Context, w Webhook) (NewWebhook, error) {
	body, err := json.Marshal(w)
	if err != nil {
		return NewWebhook{}, fmt.Errorf("encode the webhook: %w", err)
	}
	var out NewWebhook
	err = c.json(ctx, http.MethodPost, body, &out, "webhooks")
	return out, err
}

// DeleteWebhook removes an address. An unknown one is an *Error with status 404.
func (c *Client) DeleteWebhook(ctx context.Context, id string) error {
	resp, err := c.do(ctx, http.MethodDelete, nil, "webhooks/"+url.PathEscape(id))
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// maxPages bounds a list whose pages never end.
const maxPages = 10_000

// pages reads a list to its end.
func pages[T any](page func(query string) ([]T, string, error)) ([]T, error) {
	var all []T
	query := ""
	for range maxPages {
		some, next, err := page(query)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
		if next == "" {
			return all, nil
		}
		query = "?limit=1000&cursor=" + url.QueryEscape(next)
	}
	return nil, errors.New("the studio's list does not end")
}

// Result returns the bytes of a finished job and their type. The caller closes
// the body, and checks that it is as long as the job says.
func (c *Client) Result(ctx context.Context, id string) (io.ReadCloser, string, error) {
	resp, err := c.do(ctx, http.MethodGet, nil, "jobs/"+url.PathEscape(id)+"/result")
	if err != nil {
		return nil, "", err
	}
	return resp.Body, resp.Header.Get("Content-Type"), nil
}

// Backup returns a backup of the studio, with the results of jobs if they are
// wanted. The caller closes the body; one that ends in an error is not whole.
func (c *Client) Backup(ctx context.Context, results bool) (io.ReadCloser, error) {
	path := "backup/records"
	if results {
		path = "backup/all"
	}
	resp, err := c.do(ctx, http.MethodGet, nil, path)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

func (c *Client) json(ctx context.Context, method string, body []byte, out any, path string) error {
	resp, err := c.do(ctx, method, body, path)
	if err != nil {
		return err
	}
	return readJSON(resp, out)
}

// readJSON reads the answer to its end and closes it.
func readJSON(resp *http.Response, out any) error {
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err != nil {
		return fmt.Errorf("read the studio's answer: %w", err)
	}
	if len(data) > maxReply {
		return errors.New("the studio's answer is too long")
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("read the studio's answer: %w", err)
	}
	return nil
}

// do sends a request with a JSON body, if any.
func (c *Client) do(ctx context.Context, method string, body []byte, path string) (*http.Response, error) {
	if body == nil {
		return c.send(ctx, method, "", nil, path)
	}
	return c.send(ctx, method, "application/json", bytes.NewReader(body), path)
}

// send sends a request; an answer that is no success becomes an *Error.
// path is escaped, and may have a query.
func (c *Client) send(ctx context.Context, method, contentType string, body io.Reader, path string) (*http.Response, error) {
	u := strings.TrimRight(c.base.String(), "/") + "/api/v1/" + path
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, fmt.Errorf("ask the studio: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the studio: %w", err)
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	answer := &Error{Status: resp.StatusCode}
	data, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil || json.Unmarshal(data, answer) != nil { // not our studio, or cut off: the status must do
		answer.Code, answer.Message = "", ""
	}
	return nil, answer
}
