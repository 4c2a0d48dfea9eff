package studio

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"studioworker/studio/client"
	"studioworker/studio/store"
)

func viewOfKey(k store.Key) client.Key {
	return client.Key{
		ID: k.ID, Name: k.Name, Prefix: keyPrefix + k.ID, MaxPriority: k.MaxPriority,
		CreatedAt: k.CreatedAt, ExpiresAt: k.ExpiresAt, RevokedAt: k.RevokedAt, LastUsedAt: k.LastUsedAt,
	}
}

// createKey makes a key. Its text is in this answer and nowhere else.
func (s *Studio) createKey(w http.ResponseWriter, r *http.Request) {
	data, ok := readBody(w, r, maxSmallBody)
	if !ok {
		return
	}
	in, err := decodeKey(data, time.Now())
	if err != nil {
		writeError(w, http.StatusUnprocessableEntity, "invalid_key", err.Error())
		return
	}
	key, text, err := s.keys.create(r.Context(), in.Name, in.ExpiresAt, in.MaxPriority)
	switch {
	case errors.Is(err, errTooManyKeys):
		writeError(w, http.StatusConflict, "conflict", err.Error())
	case err != nil:
		s.internal(w, err)
	default:
		s.cfg.Log.Info("a key was made", "key_id", key.ID, "name", key.Name)
		writeJSON(w, http.StatusCreated, client.NewKey{Key: viewOfKey(key), Text: text})
	}
}

// decodeKey reads the wish for a key.
func decodeKey(data []byte, now time.Time) (client.KeyRequest, error) {
	var in client.KeyRequest
	if err := json.Unmarshal(data, &in); err != nil {
		return in, fmt.Errorf("the key cannot be read: %w", err)
	}
	if err := label("name", in.Name, 1); err != nil {
		return in, err
	}
	if !in.ExpiresAt.IsZero() && (!in.ExpiresAt.After(now) || in.ExpiresAt.Year() > 9999) {
		return in, errors.New("expiresAt: must be in the future")
	}
	if in.MaxPriority < client.MinPriority || in.MaxPriority > client.MaxPriority {
		return in, fmt.Errorf("maxPriority: is %d, must be %d to %d", in.MaxPriority, client.MinPriority, client.MaxPriority)
	}
	return in, nil
}

// listKeys lists the keys, the oldest first.
func (s *Studio) listKeys(w http.ResponseWriter, r *http.Request) {
	all, err := s.keys.list(r.Context())
	if err != nil {
		s.internal(w, err)
		return
	}
	listed(w, r, all, func(k store.Key) string { return place(k.CreatedAt, k.ID) }, oldestFirst, viewOfKey,
		func(page []client.Key, next string) any { return client.KeyList{Keys: page, Next: next} })
}

// revokeKey makes a key void. It stays in the list for a while.
func (s *Studio) revokeKey(w http.ResponseWriter, r *http.Request) {
	drain(w, r)
	id := r.PathValue("id")
	switch err := s.keys.revoke(r.Context(), id); {
	case errors.Is(err, errNoKey):
		writeError(w, http.StatusNotFound, "not_found", err.Error())
	case err != nil:
		s.internal(w, err)
	default:
		s.cfg.Log.Info("a key was revoked", "key_id", id)
		w.WriteHeader(http.StatusNoContent)
	}
}
