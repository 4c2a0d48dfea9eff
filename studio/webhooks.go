package studio

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"studioworker/studio/client"
	"studioworker/studio/store"
)

// A webhook is told when a job has ended. What is still to be told stands in the
// job's record, so it survives a restart and is claimed by compare-and-set: of
// several studios one sends. It may arrive twice, with the same webhook-id. The
// signature is that of the Standard Webhooks specification.

const (
	hookPrefix   = "wh-"
	secretPrefix = "whsec_"
	secretBytes  = 32
	hookLimit    = 15 * time.Second // for one message
	hookFresh    = 10 * time.Second // how old the list of webhooks may be that new jobs are given
	hooksAtOnce  = 16
	maxHooks     = 100
	maxHookReply = 64 << 10
)

// hookPauses are the pauses after each failed message; after the last it is given
// up: somewhat more than a day in all.
var hookPauses = []time.Duration{
	5 * time.Second, 30 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour,
}

// webhooks knows the addresses and sends what is due.
type webhooks struct {
	hub     *hub
	bucket  *store.Bucket[store.Webhook]
	client  *http.Client
	version string
	pauses  []time.Duration
	wake    chan struct{} // has room for one

	mu   sync.Mutex
	all  []store.Webhook // as they were at read
	read time.Time
	due  map[string]time.Time // jobs with something to tell, and when
}

func newWebhooks(h *hub, cfg Config, bucket *store.Bucket[store.Webhook]) *webhooks {
	dialer := &net.Dialer{Timeout: hookLimit, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		return allowed(address, cfg.WebhookAllow)
	}}
	return &webhooks{
		hub: h, bucket: bucket, version: cfg.Version, pauses: hookPauses, wake: make(chan struct{}, 1), due: map[string]time.Time{},
		client: &http.Client{
			Timeout: hookLimit,
			// No proxy: it would open addresses that the dialer does not see.
			Transport:     &http.Transport{DialContext: dialer.DialContext, TLSHandshakeTimeout: hookLimit, MaxIdleConns: hooksAtOnce, IdleConnTimeout: time.Minute},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// inside are addresses of the studio's own network, and others that no webhook has
// a business with: whoever may add one must not reach what only the studio can.
var inside = func() []netip.Prefix {
	var out []netip.Prefix
	for _, text := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
		"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
		"::/127", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
	} {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}()

var errInside = errors.New("the address is inside a private network; the studio's --webhook-allow names the ones that are meant")

// allowed checks the resolved address of a connection that is about to be made.
func allowed(address string, except []netip.Prefix) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("the address %.100q cannot be read", address)
	}
	ip := at.Addr().Unmap().WithZone("")
	within := func(p netip.Prefix) bool { return p.Contains(ip) }
	if slices.ContainsFunc(inside, within) && !slices.ContainsFunc(except, within) {
		return errInside
	}
	return nil
}

// list returns the webhooks, by age; what is in memory when it is fresh.
func (k *webhooks) list(ctx context.Context, fresh time.Duration) ([]store.Webhook, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.read) < fresh {
		return k.all, nil
	}
	entries, _, err := k.bucket.All(ctx)
	if err != nil {
		return nil, err
	}
	k.all, k.read = nil, time.Now()
	for _, e := range entries {
		k.all = append(k.all, e.Value)
	}
	slices.SortFunc(k.all, func(a, b store.Webhook) int {
		return strings.Compare(place(a.CreatedAt, a.ID), place(b.CreatedAt, b.ID))
	})
	return k.all, nil
}

// forJob returns what a new job has to tell: those for all jobs, and the one that
// it names.
func (k *webhooks) forJob(ctx context.Context, named string) ([]store.Hook, error) {
	fresh := hookFresh
	if named != "" {
		fresh = 0
	}
	all, err := k.list(ctx, fresh)
	if err != nil {
		return nil, err
	}
	var out []store.Hook
	found := named == ""
	for _, w := range all {
		if w.All || w.ID == named {
			out = append(out, store.Hook{ID: w.ID})
		}
		found = found || w.ID == named
	}
	if !found {
		return nil, &refusal{status: http.StatusUnprocessableEntity, code: "unknown_webhook", message: fmt.Sprintf("there is no webhook %.64q", named)}
	}
	return out, nil
}

// add remembers that a job has ended and something is to be told at a time.
func (k *webhooks) add(id string, at time.Time) {
	k.mu.Lock()
	k.due[id] = at
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default: // it is awake
	}
}

// ended is told of each change of a job's record.
func (k *webhooks) ended(before, after store.Job) {
	if !before.State.Final() && after.State.Final() && len(after.Hooks) > 0 {
		k.add(after.ID, time.Now())
	}
}

// recover finds what an earlier process, or another that has died, did not tell.
func (k *webhooks) recover() {
	k.hub.mu.Lock()
	defer k.hub.mu.Unlock()
	for _, j := range k.hub.order {
		if b := j.brief(); !b.state.Final() || !b.telling {
			continue
		}
		for _, hook := range j.now().Hooks {
			if !hook.Done { // when it is not due, tell finds the time
				k.add(j.id, hook.Next)
				break
			}
		}
	}
}

// run sends what is due, until ctx ends.
func (k *webhooks) run(ctx context.Context) {
	k.recover()
	seats := make(chan struct{}, hooksAtOnce)
	var sending sync.WaitGroup
	defer k.client.CloseIdleConnections()
	defer sending.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case <-timer.C:
		}
		now := time.Now()
		ready, next := k.take(now)
		for _, id := range ready {
			select {
			case seats <- struct{}{}:
			case <-ctx.Done():
				return
			}
			sending.Go(func() {
				defer func() { <-seats }()
				k.tell(ctx, id)
			})
		}
		timer.Reset(time.Until(next))
	}
}

// take removes and returns the jobs that are due, and says when the next are.
func (k *webhooks) take(now time.Time) (ready []string, next time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	next = now.Add(time.Hour)
	for id, at := range k.due {
		switch {
		case !at.After(now):
			ready = append(ready, id)
			delete(k.due, id)
		case at.Before(next):
			next = at
		}
	}
	return ready, next
}

// tell sends what one job has to tell and is due.
func (k *webhooks) tell(ctx context.Context, id string) {
	j := k.hub.job(id)
	if j == nil {
		return
	}
	for _, hook := range j.now().Hooks {
		if hook.Done || ctx.Err() != nil {
			continue
		}
		err := k.send(ctx, j, hook.ID)
		if err != nil && !errors.Is(err, errStale) {
			k.hub.log.Error("what was told of a job could not be stored, trying again later", "job_id", id, "error", err)
			k.add(id, time.Now().Add(storeRetry))
			return
		}
	}
	next := time.Time{}
	for _, hook := range j.now().Hooks {
		if !hook.Done && (next.IsZero() || hook.Next.Before(next)) {
			next = hook.Next
		}
	}
	if !next.IsZero() {
		k.add(id, next)
	}
}

// send claims one message, sends it, and stores how that went. errStale says that
// it is not due, or another's.
func (k *webhooks) send(ctx context.Context, j *job, hookID string) error {
	now := time.Now().UTC()
	var rec store.Job
	err := k.hub.revise(ctx, j, func(r *store.Job) error {
		i := slices.IndexFunc(r.Hooks, func(h store.Hook) bool { return h.ID == hookID })
		if i < 0 || !r.State.Final() || r.Hooks[i].Done || r.Hooks[i].Next.After(now) {
			return errStale
		}
		r.Hooks = slices.Clone(r.Hooks) // the record in memory shares them
		r.Hooks[i].Attempts++
		r.Hooks[i].Next = now.Add(2 * hookLimit) // if this process dies, another tries then
		rec = *r
		return nil
	})
	if err != nil {
		return err
	}
	all, err := k.list(ctx, hookFresh)
	if err != nil {
		return err
	}
	failure, final := errors.New("the webhook was removed"), true
	if i := slices.IndexFunc(all, func(w store.Webhook) bool { return w.ID == hookID }); i >= 0 {
		failure, final = k.post(ctx, all[i], rec, j.status())
	}
	if ctx.Err() != nil { // the studio stops: the next start tries again
		failure, final = ctx.Err(), false
	}
	return k.hub.revise(ctx, j, func(r *store.Job) error {
		i := slices.IndexFunc(r.Hooks, func(h store.Hook) bool { return h.ID == hookID })
		if i < 0 || !r.State.Final() || !r.FinishedAt.Equal(rec.FinishedAt) {
			return errStale
		}
		r.Hooks = slices.Clone(r.Hooks)
		hook := &r.Hooks[i]
		hook.At = time.Now().UTC()
		switch {
		case failure == nil:
			hook.Done, hook.Error = true, ""
		case final || hook.Attempts > len(k.pauses):
			hook.Done, hook.Error = true, clip(failure.Error(), maxError)
			k.hub.log.Warn("a webhook was not told of a job", "job_id", j.id, "webhook_id", hookID, "attempts", hook.Attempts, "error", failure)
		default:
			hook.Next, hook.Error = time.Now().UTC().Add(k.pauses[hook.Attempts-1]), clip(failure.Error(), maxError)
		}
		return nil
	})
}

// post sends the message of one job. final means that it is not to be repeated.
func (k *webhooks) post(ctx context.Context, w store.Webhook, rec store.Job, job client.JobStatus) (failure error, final bool) { //nolint:revive // the failure is the result here
	return k.deliver(ctx, w, fmt.Sprintf("msg_%s_%d", rec.ID, rec.FinishedAt.UnixNano()),
		client.Notice{Type: "job." + string(rec.State), Timestamp: rec.FinishedAt, Data: job})
}

// deliver sends a message, which has its id for ever. final means that it is not
// to be repeated.
func (k *webhooks) deliver(ctx context.Context, w store.Webhook, id string, notice any) (failure error, final bool) { //nolint:revive // the failure is the result here
	body, err := json.Marshal(notice)
	if err != nil {
		return err, true
	}
	at := strconv.FormatInt(time.Now().Unix(), 10)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(body))
	if err != nil {
		return err, true
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "studio-worker/"+k.version)
	req.Header.Set("Webhook-Id", id)
	req.Header.Set("Webhook-Timestamp", at)
	req.Header.Set("Webhook-Signature", "v1,"+signature(w.Secret, id, at, body))
	resp, err := k.client.Do(req)
	if err != nil {
		return err, errors.Is(err, errInside)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxHookReply)) // only the status counts
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		return nil, true
	case resp.StatusCode == http.StatusGone:
		return errors.New("the receiver answered 410: it wants no more"), true
	default:
		return fmt.Errorf("the receiver answered %d", resp.StatusCode), false
	}
}

// test sends a message that is about no job, and says why it did not arrive.
func (k *webhooks) test(ctx context.Context, w store.Webhook) error {
	notice := struct {
		Type      string    `json:"type"`
		Timestamp time.Time `json:"timestamp"`
		Data      struct{}  `json:"data"`
	}{Type: "webhook.test", Timestamp: time.Now().UTC()}
	failure, _ := k.deliver(ctx, w, "msg_"+newID("test-"), notice)
	return failure
}

// deliveries counts how the messages of each webhook went.
func (h *hub) deliveries() map[string]client.Deliveries {
	out := map[string]client.Deliveries{}
	for _, j := range h.all() {
		if b := j.brief(); !b.state.Final() || !b.hooks {
			continue
		}
		for _, hook := range j.now().Hooks {
			sum := out[hook.ID]
			switch {
			case !hook.Done:
				sum.Waiting++
			case hook.Error != "":
				sum.Failed++
			default:
				sum.Delivered++
			}
			if hook.At.After(sum.LastAt) {
				sum.LastAt, sum.LastJob, sum.LastError = hook.At, j.id, hook.Error
			}
			out[hook.ID] = sum
		}
	}
	return out
}

// signature signs a message with a webhook's secret.
func signature(secret, id, at string, body []byte) string {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, secretPrefix))
	if err != nil { // ours always decode
		key = []byte(secret)
	}
	mac := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(mac, "%s.%s.%s", id, at, body) // a hash never fails
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func newHookSecret() string {
	key := make([]byte, secretBytes)
	_, _ = rand.Read(key) // never fails
	return secretPrefix + base64.StdEncoding.EncodeToString(key)
}

// revise changes the whole record of a job, also one that has ended: of those,
// memory has a part only. An error of f ends it without a write.
func (h *hub) revise(ctx context.Context, j *job, f func(*store.Job) error) error {
	ctx = context.WithoutCancel(ctx)
	j.mu.Lock()
	defer j.mu.Unlock()
	for try := range maxConflicts {
		stored, err := h.store.Jobs.Get(ctx, j.id)
		if errors.Is(err, store.ErrNotFound) {
			return errStale // it was removed
		}
		if err != nil {
			return err
		}
		rec := stored.Value
		if err := f(&rec); err != nil {
			return err
		}
		revision, err := h.store.Jobs.Update(ctx, j.id, rec, stored.Revision)
		if errors.Is(err, store.ErrConflict) {
			time.Sleep(conflictWait << try) // a cluster may not show another's write yet
			continue
		}
		if err != nil {
			return err
		}
		h.publish(j, rec, revision)
		return nil
	}
	return fmt.Errorf("change job %s: %w", j.id, store.ErrConflict)
}
