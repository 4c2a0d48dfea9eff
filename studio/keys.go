package studio

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"studioworker/studio/client"
	"studioworker/studio/store"
)

const (
	keyPrefix   = "sw-"
	keyIDLength = 12
	maxKeys     = 10_000
	keyUseEvery = time.Minute // how exactly the last use of a key is known
)

var (
	errNoKey       = errors.New("there is no such key")
	errTooManyKeys = errors.New("there are too many keys; revoked ones go after 30 days")
	errKeyGone     = errors.New("the API key was revoked or has expired; the operator makes a new one with: studio-worker keys create NAME")
)

// caller is who makes a request: the operator, or the holder of an API key.
type caller struct {
	key         string // id; empty for the operator
	maxPriority int
}

func (c caller) operator() bool { return c.key == "" }

// sees says whether a job is the caller's business.
func (c caller) sees(j *job) bool { return c.operator() || j.brief().submitter == c.key }

// keys is who may use the API besides the operator. It asks the store each time:
// a key that was revoked at one studio of several is void at all of them.
type keys struct{ bucket *store.Bucket[store.Key] }

// create makes a key that works until expires, zero = for ever, and may submit
// jobs up to a priority. The text of the key is not kept.
func (k keys) create(ctx context.Context, name string, expires time.Time, maxPriority int) (store.Key, string, error) {
	all, _, err := k.bucket.All(ctx)
	if err != nil {
		return store.Key{}, "", err
	}
	if len(all) >= maxKeys {
		return store.Key{}, "", errTooManyKeys
	}
	key := store.Key{
		ID: newID("")[:keyIDLength], Name: name, CreatedAt: time.Now().UTC(), ExpiresAt: expires.UTC(), MaxPriority: maxPriority,
	}
	text := keyPrefix + key.ID + "-" + strings.ToLower(newSecret())
	key.Hash = hashed(text)
	if _, err := k.bucket.Create(ctx, key.ID, key); err != nil {
		return store.Key{}, "", err
	}
	return key, text, nil
}

// list returns all keys, the oldest first.
func (k keys) list(ctx context.Context) ([]store.Key, error) {
	all, _, err := k.bucket.All(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]store.Key, len(all))
	for i, e := range all {
		out[i] = e.Value
	}
	slices.SortFunc(out, func(a, b store.Key) int { return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID)) })
	return out, nil
}

// change applies f to a key; what f refuses is not written.
func (k keys) change(ctx context.Context, id string, f func(*store.Key) bool) error {
	for range maxConflicts {
		e, err := k.bucket.Get(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			return errNoKey
		}
		if err != nil {
			return err
		}
		if !f(&e.Value) {
			return nil
		}
		if _, err = k.bucket.Update(ctx, id, e.Value, e.Revision); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("change the key %s: %w", id, store.ErrConflict)
}

// revoke makes a key void, for good. Revoking it again is fine.
func (k keys) revoke(ctx context.Context, id string) error {
	return k.change(ctx, id, func(key *store.Key) bool {
		if !key.RevokedAt.IsZero() {
			return false
		}
		key.RevokedAt = time.Now().UTC()
		return true
	})
}

// find returns the key of this text, errNoKey or errKeyGone. Only the secret
// part tells that a key existed, and it is compared in constant time.
func (k keys) find(ctx context.Context, text string, now time.Time) (store.Key, error) {
	rest, ok := strings.CutPrefix(text, keyPrefix)
	id, _, _ := strings.Cut(rest, "-")
	if !ok || len(id) != keyIDLength {
		return store.Key{}, errNoKey
	}
	e, err := k.bucket.Get(ctx, id)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return store.Key{}, err
	}
	switch key := e.Value; {
	case !matches(text, key.Hash):
		return store.Key{}, errNoKey
	case !key.RevokedAt.IsZero(), !key.ExpiresAt.IsZero() && !key.ExpiresAt.After(now):
		return store.Key{}, errKeyGone
	default:
		return key, nil
	}
}

// used notes that the key was used.
func (k keys) used(ctx context.Context, key store.Key, now time.Time) error {
	if now.Sub(key.LastUsedAt) < keyUseEvery {
		return nil
	}
	return k.change(ctx, key.ID, func(key *store.Key) bool {
		key.LastUsedAt = now
		return true
	})
}

// sweep removes keys that have been void for age.
func (k keys) sweep(ctx context.Context, now time.Time, age time.Duration) (int, error) {
	all, _, err := k.bucket.All(ctx)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, e := range all {
		end := e.Value.RevokedAt
		if end.IsZero() {
			end = e.Value.ExpiresAt
		}
		if end.IsZero() || now.Sub(end) < age {
			continue
		}
		if err := k.bucket.Delete(ctx, e.Value.ID, e.Revision); err != nil && !errors.Is(err, store.ErrConflict) {
			return n, err
		}
		n++
	}
	return n, nil
}

// identify says who makes the request. Nobody known is errNoKey or errKeyGone.
func (s *Studio) identify(r *http.Request) (caller, error) {
	token := bearer(r)
	if s.isOperator(token) {
		return caller{maxPriority: client.MaxPriority}, nil
	}
	now := time.Now().UTC()
	key, err := s.keys.find(r.Context(), token, now)
	if err != nil {
		return caller{}, err
	}
	if err := s.keys.used(r.Context(), key, now); err != nil {
		s.cfg.Log.Warn("the use of a key could not be noted", "key_id", key.ID, "error", err)
	}
	return caller{key: key.ID, maxPriority: key.MaxPriority}, nil
}

// member lets the operator and holders of API keys through.
func (s *Studio) member(next func(http.ResponseWriter, *http.Request, caller)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, err := s.identify(r)
		switch {
		case errors.Is(err, errNoKey):
			drain(w, r)
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeError(w, http.StatusUnauthorized, "unauthorized", "the API key or operator token is missing or wrong")
		case errors.Is(err, errKeyGone):
			drain(w, r)
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeError(w, http.StatusUnauthorized, "unauthorized", err.Error())
		case err != nil:
			drain(w, r)
			s.internal(w, err)
		default:
			next(w, r, who)
		}
	}
}
