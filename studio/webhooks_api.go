package studio

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"studioworker/studio/client"
	"studioworker/studio/store"
)

func viewOfWebhook(w store.Webhook) client.Webhook {
	return client.Webhook{ID: w.ID, URL: w.URL, All: w.All, CreatedAt: w.CreatedAt}
}

// createWebhook adds an address. Its secret is in this answer and nowhere else.
func (s *Studio) createWebhook(w http.ResponseWriter, r *http.Request) {
	data, ok := readBody(w, r, maxSmallBody)
	if !ok {
		return
	}
	in, err := s.decodeWebhook(data)
	if err != nil {
		writeError(w, http.StatusUnprocessableEntity, "invalid_webhook", err.Error())
		return
	}
	all, err := s.webhooks.list(r.Context(), 0)
	if err != nil {
		s.internal(w, err)
		return
	}
	if len(all) >= maxHooks {
		writeError(w, http.StatusConflict, "conflict", fmt.Sprintf("there are %d webhooks already", len(all)))
		return
	}
	hook := store.Webhook{ID: newID(hookPrefix), URL: in.URL, All: in.All, Secret: newHookSecret(), CreatedAt: time.Now().UTC()}
	if _, err := s.store.Webhooks.Create(r.Context(), hook.ID, hook); err != nil {
		s.internal(w, err)
		return
	}
	if _, err := s.webhooks.list(r.Context(), 0); err != nil {
		s.cfg.Log.Warn("the webhooks could not be read", "error", err)
	}
	s.cfg.Log.Info("a webhook was added", "webhook_id", hook.ID)
	writeJSON(w, http.StatusCreated, client.NewWebhook{Webhook: viewOfWebhook(hook), Secret: hook.Secret})
}

// decodeWebhook reads the wish for a webhook. What its host resolves to is checked
// at each message.
func (s *Studio) decodeWebhook(data []byte) (client.Webhook, error) {
	var in client.Webhook
	if err := json.Unmarshal(data, &in); err != nil {
		return in, fmt.Errorf("the webhook cannot be read: %w", err)
	}
	u, err := url.Parse(in.URL)
	switch {
	case err != nil || len(in.URL) > maxURL || u.Host == "" || u.User != nil || u.Fragment != "":
		return in, errors.New("url: must be a web address without password or fragment")
	case u.Scheme != "https" && (u.Scheme != "http" || len(s.cfg.WebhookAllow) == 0):
		return in, errors.New("url: must start with https://; http:// is for networks that --webhook-allow names")
	}
	return in, nil
}

// listWebhooks lists the addresses, the oldest first.
func (s *Studio) listWebhooks(w http.ResponseWriter, r *http.Request) {
	all, err := s.webhooks.list(r.Context(), 0)
	if err != nil {
		s.internal(w, err)
		return
	}
	told := s.hub.deliveries()
	listed(w, r, all, func(w store.Webhook) string { return place(w.CreatedAt, w.ID) }, oldestFirst, func(w store.Webhook) client.Webhook {
		view, sum := viewOfWebhook(w), told[w.ID]
		view.Deliveries = &sum
		return view
	}, func(page []client.Webhook, next string) any { return client.WebhookList{Webhooks: page, Next: next} })
}

// testWebhook sends a test message to an address, and answers how that went.
func (s *Studio) testWebhook(w http.ResponseWriter, r *http.Request) {
	drain(w, r)
	e, err := s.store.Webhooks.Get(r.Context(), r.PathValue("id"))
	switch {
	case errors.Is(err, store.ErrNotFound):
		writeError(w, http.StatusNotFound, "not_found", "there is no such webhook")
		return
	case err != nil:
		s.internal(w, err)
		return
	}
	out := client.Tested{Delivered: true}
	if err := s.webhooks.test(r.Context(), e.Value); err != nil {
		out = client.Tested{Error: clip(err.Error(), maxError)}
	}
	writeJSON(w, http.StatusOK, out)
}

// deleteWebhook removes an address; it is told nothing more.
func (s *Studio) deleteWebhook(w http.ResponseWriter, r *http.Request) {
	drain(w, r)
	id := r.PathValue("id")
	e, err := s.store.Webhooks.Get(r.Context(), id)
	if err == nil {
		err = s.store.Webhooks.Delete(r.Context(), id, e.Revision)
	}
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrConflict): // another removed it just now
		writeError(w, http.StatusNotFound, "not_found", "there is no such webhook")
		return
	case err != nil:
		s.internal(w, err)
		return
	}
	if _, err := s.webhooks.list(r.Context(), 0); err != nil {
		s.cfg.Log.Warn("the webhooks could not be read", "error", err)
	}
	s.cfg.Log.Info("a webhook was removed", "webhook_id", id)
	w.WriteHeader(http.StatusNoContent)
}
