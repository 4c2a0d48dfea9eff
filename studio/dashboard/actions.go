package dashboard

import (
	"errors"
	"fmt"
	"io"
	"math"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"studioworker/studio/client"
	"studioworker/worker/protocol"
)

// after says how a form went and shows the page that it came from, so that a
// reload repeats nothing.
func (d *Dashboard) after(v *visit, err error, done, to string) {
	if err != nil {
		_, text := words(err)
		v.session.say(text, true)
	} else {
		v.session.say(done, false)
	}
	http.Redirect(v.w, v.r, to, http.StatusSeeOther)
}

func (d *Dashboard) approve(_ http.ResponseWriter, r *http.Request, v *visit) {
	err := d.ask(v, http.MethodPost, path("registrations", r.PathValue("id"), "approve"), nil, nil)
	d.after(v, err, "Approved. The worker connects within half a minute.", "/registrations")
}

func (d *Dashboard) reject(_ http.ResponseWriter, r *http.Request, v *visit) {
	in := struct {
		Reason string `json:"reason"`
	}{clip(strings.TrimSpace(r.PostForm.Get("reason")), 500)}
	err := d.ask(v, http.MethodPost, path("registrations", r.PathValue("id"), "reject"), in, nil)
	d.after(v, err, "Rejected.", "/registrations")
}

func (d *Dashboard) removeWorker(_ http.ResponseWriter, r *http.Request, v *visit) {
	err := d.ask(v, http.MethodDelete, path("workers", r.PathValue("id")), nil, nil)
	d.after(v, err, "Removed. To come back, the computer must ask again.", "/workers")
}

func (d *Dashboard) cancelJob(_ http.ResponseWriter, r *http.Request, v *visit) {
	var now client.JobStatus
	err := d.ask(v, http.MethodPost, path("jobs", r.PathValue("id"), "cancel"), nil, &now)
	done := "Cancelled."
	if err == nil && !now.State.Final() {
		done = "The worker is stopping it."
	}
	d.after(v, err, done, "/jobs/"+url.PathEscape(r.PathValue("id")))
}

// runAgain queues a failed or cancelled job again; of a done one it makes a new
// job with the same task and model.
func (d *Dashboard) runAgain(_ http.ResponseWriter, r *http.Request, v *visit) {
	back := "/jobs/" + url.PathEscape(r.PathValue("id"))
	if r.PostForm.Get("from") == "failed" {
		back = failedPath
	}
	var old client.JobStatus
	err := d.ask(v, http.MethodGet, path("jobs", r.PathValue("id")), nil, &old)
	switch {
	case err != nil:
		d.after(v, err, "", back)
	case old.State != client.Done:
		err := d.ask(v, http.MethodPost, path("jobs", old.ID, "retry"), nil, nil)
		d.after(v, err, "Queued again.", back)
	case old.Task == nil:
		d.after(v, errors.New("the studio no longer knows what was asked"), "", back)
	default:
		var in client.Submitted
		if err := d.ask(v, http.MethodPost, "/api/v1/jobs", client.Job{Model: old.Model, Task: *old.Task, Priority: old.Priority}, &in); err != nil {
			d.after(v, err, "", back)
			return
		}
		d.after(v, nil, "Queued as a new job.", "/jobs/"+url.PathEscape(in.ID))
	}
}

func (d *Dashboard) createKey(_ http.ResponseWriter, r *http.Request, v *visit) {
	in := client.KeyRequest{Name: strings.TrimSpace(r.PostForm.Get("name"))}
	if days, err := strconv.Atoi(r.PostForm.Get("days")); err == nil && days > 0 {
		in.ExpiresAt = time.Now().UTC().AddDate(0, 0, min(days, 3650))
	}
	if in.Name == "" {
		d.after(v, errors.New("the key needs a name, so that you know it again"), "", "/keys")
		return
	}
	var key client.NewKey
	if err := d.ask(v, http.MethodPost, "/api/v1/keys", in, &key); err != nil {
		d.after(v, err, "", "/keys")
		return
	}
	d.show(v, http.StatusOK, "key", keyData{key, d.origin(r)}) // the one page that ever shows it
}

type keyData struct {
	client.NewKey
	Origin string
}

func (d *Dashboard) revokeKey(_ http.ResponseWriter, r *http.Request, v *visit) {
	err := d.ask(v, http.MethodDelete, path("keys", r.PathValue("id")), nil, nil)
	d.after(v, err, "Revoked. Programs that use the key are refused from now on.", "/keys")
}

// jobForm is the form for a new job, and what was wrong with it.
type jobForm struct {
	Kind   protocol.TaskKind
	Models []client.Model // that do this kind
	Values url.Values
	Error  string
	Max    int // characters of a prompt
}

// Value returns what the person entered in a field.
func (f jobForm) Value(name string) string { return f.Values.Get(name) }

const (
	maxPrompt    = 20_000
	maxTextPart  = 1 << 20         // bytes of one field of an upload
	maxUpload    = client.MaxInput // bytes of a recording
	uploadMargin = 64 << 10        // bytes of what stands around it
	maxParts     = 16              // of an upload
)

func (d *Dashboard) newJob(_ http.ResponseWriter, r *http.Request, v *visit) {
	kind := protocol.TaskKind(r.URL.Query().Get("kind"))
	if !slices.Contains(protocol.TaskKinds(), kind) {
		kind = protocol.KindImage
	}
	d.showForm(v, http.StatusOK, jobForm{Kind: kind})
}

func (d *Dashboard) showForm(v *visit, status int, form jobForm) {
	all, err := d.allModels(v)
	if err != nil {
		d.failed(v, err)
		return
	}
	form.Max = maxPrompt
	form.Models = slices.DeleteFunc(all, func(m client.Model) bool { return !slices.Contains(m.Kinds, form.Kind) })
	slices.SortStableFunc(form.Models, func(a, b client.Model) int { // engines that really compute first
		return btoi(a.Engine == protocol.EngineSynthetic) - btoi(b.Engine == protocol.EngineSynthetic)
	})
	d.show(v, status, "new", form)
}

// submitJob queues what the form says. A form with a recording comes in parts,
// the recording last, and streams into the studio's inputs.
func (d *Dashboard) submitJob(_ http.ResponseWriter, r *http.Request, v *visit) {
	values, input := r.PostForm, ""
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data") {
		var ok bool
		tooLarge := fmt.Sprintf("The recording is larger than %s.", size(maxUpload))
		values, ok = d.readUpload(v, maxUpload, tooLarge, func(part *multipart.Part) (err error) {
			input, err = d.store(v, part)
			return err
		})
		if !ok {
			return
		}
	}
	kind := protocol.TaskKind(values.Get("kind"))
	task, err := taskOf(kind, values, input)
	if err == nil {
		job := client.Job{Model: values.Get("model"), Task: task}
		if job.Priority, err = number(values, "priority", client.MinPriority, client.MaxPriority, 0); err == nil {
			var in client.Submitted
			if err = d.ask(v, http.MethodPost, "/api/v1/jobs", job, &in); err == nil {
				d.after(v, nil, "Queued.", "/jobs/"+url.PathEscape(in.ID))
				return
			}
		}
	}
	if !slices.Contains(protocol.TaskKinds(), kind) {
		kind = protocol.KindImage
	}
	text := sentence(err.Error())
	if failed, ok := errors.AsType[*client.Error](err); ok {
		_, text = words(failed)
	}
	d.showForm(v, http.StatusUnprocessableEntity, jobForm{Kind: kind, Values: values, Error: text})
}

// readUpload reads a form with a file of at most limit bytes, which goes to take when
// one was chosen. When it is not ok, the answer is out.
func (d *Dashboard) readUpload(v *visit, limit int64, tooLarge string, take func(*multipart.Part) error) (values url.Values, ok bool) {
	v.r.Body = d.cfg.Body(v.w, v.r, limit+uploadMargin)
	form, err := v.r.MultipartReader()
	if err != nil {
		d.fail(v, http.StatusBadRequest, formFailed)
		return nil, false
	}
	values = url.Values{}
	trusted := false
	for range maxParts {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			if !trusted {
				d.checkToken(v, "")
			}
			return values, trusted
		}
		if err != nil {
			d.cutOff(v, err, tooLarge)
			return nil, false
		}
		if part.FormName() != "file" {
			data, err := io.ReadAll(io.LimitReader(part, maxTextPart))
			if err != nil {
				d.cutOff(v, err, tooLarge)
				return nil, false
			}
			if values.Set(part.FormName(), string(data)); part.FormName() == "csrf" {
				if trusted = d.checkToken(v, string(data)); !trusted {
					return nil, false
				}
			}
			continue
		}
		if !trusted { // nothing is stored for a form that is not ours
			d.checkToken(v, "")
			return nil, false
		}
		if part.FileName() == "" {
			continue
		}
		if err := take(part); err != nil {
			if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
				d.cutOff(v, err, tooLarge)
				return nil, false
			}
			status, text := words(err)
			d.fail(v, status, text)
			return nil, false
		}
	}
	d.fail(v, http.StatusBadRequest, formFailed)
	return nil, false
}

// cutOff answers an upload that could not be read to its end.
func (d *Dashboard) cutOff(v *visit, err error, tooLarge string) {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		d.fail(v, http.StatusRequestEntityTooLarge, tooLarge)
		return
	}
	d.fail(v, http.StatusBadRequest, formFailed)
}

// store hands a recording to the studio's inputs and returns its address.
func (d *Dashboard) store(v *visit, part *multipart.Part) (string, error) {
	r, err := request(v, http.MethodPost, "/api/v1/inputs", part)
	if err != nil {
		return "", err
	}
	r.ContentLength = -1
	r.Header.Set("Content-Type", part.Header.Get("Content-Type"))
	var in client.Input
	err = d.do(v, r, &in)
	return in.URL, err
}

// taskOf makes a task of a form. The studio checks its bounds.
func taskOf(kind protocol.TaskKind, f url.Values, input string) (protocol.Task, error) {
	task := protocol.Task{Kind: kind}
	text := strings.TrimSpace(f.Get("prompt"))
	if text == "" && kind != protocol.KindSTT {
		return task, errors.New("write what the job should do")
	}
	width, errW := number(f, "width", 0, 4096, protocol.DefaultSide)
	height, errH := number(f, "height", 0, 4096, protocol.DefaultSide)
	if err := errors.Join(errW, errH); err != nil {
		return task, err
	}
	switch kind {
	case protocol.KindImage:
		steps, err := number(f, "steps", 1, 150, protocol.DefaultSteps)
		if err != nil {
			return task, err
		}
		task.Image = &protocol.ImageTask{
			Prompt: text, NegativePrompt: optional(f, "negative"), Width: uint32(width), Height: uint32(height), Steps: uint32(steps), Ext: "webp",
		}
		if f.Get("seed") != "" {
			seed, err := number(f, "seed", 0, 1<<53-1, 0)
			if err != nil {
				return task, err
			}
			value := uint64(seed)
			task.Image.Seed = &value
		}
	case protocol.KindLLM:
		tokens, err := number(f, "tokens", 1, 32768, protocol.DefaultMaxTokens)
		if err != nil {
			return task, err
		}
		temperature, err := decimal(f, "temperature", protocol.DefaultTemperature)
		if err != nil {
			return task, err
		}
		task.LLM = &protocol.LLMTask{
			Messages: []protocol.Message{{Role: "user", Content: text}}, System: optional(f, "system"), MaxTokens: uint32(tokens), Temperature: temperature,
		}
	case protocol.KindSTT:
		if input == "" {
			input = strings.TrimSpace(f.Get("url"))
		}
		if input == "" {
			return task, errors.New("choose a recording, or give its address")
		}
		task.STT = &protocol.STTTask{InputURL: input, Language: optional(f, "language")}
	case protocol.KindTTS:
		voice := strings.TrimSpace(f.Get("voice"))
		if voice == "" {
			voice = protocol.DefaultVoice
		}
		task.TTS = &protocol.TTSTask{Text: text, Voice: voice, Language: optional(f, "language"), Ext: "wav"}
	case protocol.KindVideo:
		length, err := decimal(f, "seconds", protocol.DefaultSeconds)
		if err != nil {
			return task, err
		}
		task.Video = &protocol.VideoTask{
			Prompt: text, NegativePrompt: optional(f, "negative"), Seconds: length, Width: uint32(width), Height: uint32(height), Ext: "mp4",
		}
	default:
		return task, errors.New("choose a kind of job")
	}
	return task, nil
}

func optional(f url.Values, name string) *string {
	text := strings.TrimSpace(f.Get(name))
	if text == "" {
		return nil
	}
	return &text
}

// number reads a field, or takes the default when it is empty.
func number(f url.Values, name string, least, most, otherwise int) (int, error) {
	text := strings.TrimSpace(f.Get(name))
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%s must be a number from %d to %d", name, least, most)
	}
	return n, nil
}

func decimal(f url.Values, name string, otherwise float64) (float64, error) {
	text := strings.TrimSpace(f.Get(name))
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseFloat(strings.Replace(text, ",", ".", 1), 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
		return 0, fmt.Errorf("%s must be a number", name)
	}
	return n, nil
}
