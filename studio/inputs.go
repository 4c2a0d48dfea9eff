package studio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"studioworker/studio/client"
	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

const (
	inputPath    = "/api/v1/inputs/"
	inputPrefix  = "in-"
	inputLife    = 24 * time.Hour   // after the last use by a job
	inputRefresh = 12 * time.Hour   // a job that names an input leaves it at least this
	inputPause   = 10 * time.Minute // told to whoever finds no room
)

// errNoInput says that a job names an input of this studio that is not there.
var errNoInput = errors.New("there is no such input; it may have expired 24 hours after its last use")

// inputRoom bounds what all inputs take together.
type inputRoom struct {
	most int64 // bytes

	mu     sync.Mutex
	stored int64
	coming int64 // of bodies on their way in
}

// take reserves room; the error is a *refusal when there is none.
func (r *inputRoom) take(n int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stored+r.coming+n > r.most {
		return &refusal{
			status: http.StatusInsufficientStorage, code: "inputs_full", after: inputPause,
			message: fmt.Sprintf("the pictures and recordings that are stored for jobs take all of %s; each goes 24 hours after its last use", size(r.most)),
		}
	}
	r.coming += n
	return nil
}

// settle ends a reservation, of which kept bytes were stored.
func (r *inputRoom) settle(reserved, kept int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.coming -= reserved
	r.stored += kept
}

// count sets what is stored.
func (r *inputRoom) count(stored int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stored = stored
}

// putInput stores the body for jobs that name its address.
func (s *Studio) putInput(w http.ResponseWriter, r *http.Request) {
	kind, err := inputType(r.Header.Get("Content-Type"))
	if err != nil {
		drain(w, r)
		writeError(w, http.StatusUnsupportedMediaType, "unsupported_media_type", err.Error())
		return
	}
	if r.ContentLength > client.MaxInput && r.Header.Get("Expect") != "" { // it is not asked for its body
		writeError(w, http.StatusRequestEntityTooLarge, "too_large", "the body is larger than "+size(client.MaxInput))
		return
	}
	body := &patient{r: http.MaxBytesReader(bare(w), r.Body, client.MaxInput), control: http.NewResponseController(w)}
	in, err := s.keepInput(r.Context(), kind, r.ContentLength, body)
	if err != nil {
		drain(w, r)
		s.refuse(w, err)
		return
	}
	w.Header().Set("Location", inputPath+in.ID)
	writeJSON(w, http.StatusCreated, client.Input{
		ID: in.ID, URL: s.origin(r) + inputPath + in.ID, Bytes: in.Data.Bytes, ContentType: in.Data.ContentType,
		SHA256: in.Data.SHA256, ExpiresAt: in.ExpiresAt,
	})
}

// keepInput stores the bytes of body under a new id. What is the sender's fault
// is a *refusal, as is that there is no room. size is what the sender announced,
// negative when it did not.
func (s *Studio) keepInput(ctx context.Context, kind string, size int64, body io.Reader) (store.Input, error) {
	reserved, kept := max(size, 0), int64(0)
	if err := s.inputs.take(reserved); err != nil {
		return store.Input{}, err
	}
	defer func() { s.inputs.settle(reserved, kept) }()
	id := newID(inputPrefix)
	in := &noted{r: body}
	data, err := s.store.Put(ctx, "inputs/"+id, size, in)
	if err != nil && in.err != nil { // the sender's fault, not the store's
		return store.Input{}, brokenInput(in.err)
	}
	if err != nil {
		return store.Input{}, err
	}
	data.ContentType = kind
	rec := store.Input{ID: id, CreatedAt: time.Now().UTC(), Data: data}
	rec.ExpiresAt = rec.CreatedAt.Add(inputLife)
	if data.Bytes == 0 {
		return store.Input{}, errors.Join(bad("the body is empty"), s.store.Discard(ctx, data))
	}
	if more := data.Bytes - reserved; more > 0 { // its size was not announced
		if err := s.inputs.take(more); err != nil {
			return store.Input{}, errors.Join(err, s.store.Discard(ctx, data))
		}
		reserved += more
	}
	if _, err := s.store.Inputs.Create(ctx, id, rec); err != nil {
		return store.Input{}, errors.Join(err, s.store.Discard(ctx, data))
	}
	kept = data.Bytes
	return rec, nil
}

func brokenInput(err error) error {
	if tooBig := (*http.MaxBytesError)(nil); errors.As(err, &tooBig) {
		return &refusal{status: http.StatusRequestEntityTooLarge, code: "too_large", message: "the input is larger than " + size(tooBig.Limit)}
	}
	return bad("the body was cut off")
}

// inputType returns the media type of an input. Pictures that are programs are
// refused: they would run at the studio's own address.
func inputType(header string) (string, error) {
	kind, _, err := mime.ParseMediaType(header)
	_, sub, _ := strings.Cut(kind, "/")
	if err != nil || len(kind) > maxName || sub == "" || strings.Contains(sub, "svg") || strings.Contains(sub, "xml") ||
		(!strings.HasPrefix(kind, "image/") && !strings.HasPrefix(kind, "audio/")) {
		return "", errors.New("the Content-Type must be that of a picture or a recording, such as image/png or audio/wav")
	}
	return kind, nil
}

// getInput sends an input to whoever knows its id: 130 random bits, so only who
// was told it. The headers keep a browser from taking it for a page.
func (s *Studio) getInput(w http.ResponseWriter, r *http.Request) {
	e, err := s.store.Inputs.Get(r.Context(), r.PathValue("id"))
	switch {
	case errors.Is(err, store.ErrNotFound):
		writeError(w, http.StatusNotFound, "not_found", errNoInput.Error())
		return
	case err != nil:
		s.internal(w, err)
		return
	}
	in := e.Value
	head := func() {
		w.Header().Set("Content-Type", in.Data.ContentType)
		w.Header().Set("Content-Length", strconv.FormatInt(in.Data.Bytes, 10))
		w.Header().Set("Content-Disposition", "attachment")
		w.Header().Set("Content-Security-Policy", "sandbox; default-src 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
	}
	if r.Method == http.MethodHead {
		head()
		return
	}
	s.sendStored(w, r, in.Data, "input "+in.ID, head)
}

// origin is how the other side reaches this studio: scheme and host.
func (s *Studio) origin(r *http.Request) string {
	switch {
	case s.cfg.PublicURL != "":
		return strings.TrimRight(s.cfg.PublicURL, "/")
	case s.guard.secure(r):
		return "https://" + r.Host
	default:
		return "http://" + r.Host
	}
}

// links returns the addresses that a task names.
func links(t protocol.Task) []*string {
	switch {
	case t.Image != nil:
		return []*string{t.Image.InitImageURL, t.Image.MaskURL, t.Image.RefImageURL}
	case t.STT != nil:
		return []*string{&t.STT.InputURL}
	case t.Video != nil:
		return []*string{t.Video.InitImageURL}
	}
	return nil
}

// inputID returns the id in the address of an input, whatever the host.
func inputID(address string) (id string, u *url.URL) {
	u, err := url.Parse(address)
	if err != nil {
		return "", nil
	}
	_, id, ok := strings.Cut(u.EscapedPath(), inputPath)
	if !ok || !strings.HasPrefix(id, inputPrefix) || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return "", nil
	}
	return id, u
}

// useInputs returns the ids of this studio's inputs that a task names, and makes
// sure that they stay until the job is stored. One that is at this studio's own
// address and not there is errNoInput.
func (s *Studio) useInputs(ctx context.Context, task protocol.Task, origin string) ([]string, error) {
	var ids []string
	for _, link := range links(task) {
		if link == nil {
			continue
		}
		id, u := inputID(*link)
		if id == "" || slices.Contains(ids, id) {
			continue
		}
		err := s.refreshInput(ctx, id)
		switch {
		case errors.Is(err, store.ErrNotFound) && u.Scheme+"://"+u.Host != origin: // somebody else's address
		case errors.Is(err, store.ErrNotFound):
			return nil, fmt.Errorf("%s: %w", id, errNoInput)
		case err != nil:
			return nil, err
		default:
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// refreshInput moves the end of an input's life away, if it is near.
func (s *Studio) refreshInput(ctx context.Context, id string) error {
	for range maxConflicts {
		e, err := s.store.Inputs.Get(ctx, id)
		if err != nil {
			return err
		}
		now := time.Now().UTC()
		if e.Value.ExpiresAt.Sub(now) > inputRefresh {
			return nil
		}
		e.Value.ExpiresAt = now.Add(inputLife)
		if _, err = s.store.Inputs.Update(ctx, id, e.Value, e.Revision); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("keep the input %s: %w", id, store.ErrConflict)
}

// relocate returns the task with the addresses of the studio's own inputs as a
// worker reaches them: whoever submitted the job may know the studio by another
// name.
func relocate(task protocol.Task, inputs []string, origin string) protocol.Task {
	if len(inputs) == 0 || origin == "" {
		return task
	}
	move := func(link *string) *string {
		if link == nil {
			return nil
		}
		if id, _ := inputID(*link); slices.Contains(inputs, id) {
			moved := origin + inputPath + id
			return &moved
		}
		return link
	}
	switch { // the record shares the parameters, so they are copied
	case task.Image != nil:
		p := *task.Image
		p.InitImageURL, p.MaskURL, p.RefImageURL = move(p.InitImageURL), move(p.MaskURL), move(p.RefImageURL)
		task.Image = &p
	case task.STT != nil:
		p := *task.STT
		p.InputURL = *move(&p.InputURL)
		task.STT = &p
	case task.Video != nil:
		p := *task.Video
		p.InitImageURL = move(p.InitImageURL)
		task.Video = &p
	}
	return task
}

// sweepInputs removes the inputs that no job has used for inputLife, and says
// how many.
func (s *Studio) sweepInputs(ctx context.Context, now time.Time) (int, error) {
	all, _, err := s.store.Inputs.All(ctx) // one that cannot be read stays
	if err != nil {
		return 0, err
	}
	used := s.hub.inputUses(now)
	n, left := 0, int64(0)
	for _, e := range all {
		left += e.Value.Data.Bytes
	}
	// Also what other processes have stored since. One that came while this was read
	// is counted the next time.
	defer func() { s.inputs.count(left) }()
	for _, e := range all {
		last := e.Value.ExpiresAt
		if use, ok := used[e.Value.ID]; ok && use.Add(inputLife).After(last) {
			last = use.Add(inputLife)
		}
		if last.After(now) {
			continue
		}
		err := s.store.Inputs.Delete(ctx, e.Value.ID, e.Revision)
		if errors.Is(err, store.ErrConflict) { // a job has just named it
			continue
		}
		if err == nil {
			err = s.store.Discard(ctx, e.Value.Data)
		}
		if err != nil {
			return n, err
		}
		left -= e.Value.Data.Bytes
		n++
	}
	return n, nil
}

// inputUses returns when each input was used last by a job: now while the job is
// unfinished, else at its end.
func (h *hub) inputUses(now time.Time) map[string]time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	used := map[string]time.Time{}
	for _, j := range h.order {
		if !j.brief().inputs {
			continue
		}
		rec := j.now()
		at := now
		if rec.State.Final() {
			at = rec.FinishedAt
		}
		for _, id := range rec.Inputs {
			if at.After(used[id]) {
				used[id] = at
			}
		}
	}
	return used
}
