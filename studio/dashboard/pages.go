package dashboard

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"html/template"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"studioworker/studio/client"
	"studioworker/worker/protocol"
)

// view is what every page is drawn from.
type view struct {
	Page     string // name of the template
	Title    string
	Live     string // parts of the studio that the page shows, with spaces
	Since    uint64 // the generation that the page shows
	Path     string
	Version  string
	SignedIn bool
	Person   string
	CSRF     string
	Flash    *flash
	Pending  int // workers that wait for approval
	Veiled   bool
	Back     string // the page itself, for forms that return to it
	Data     any
}

// titles of the pages, by template.
var titles = map[string]string{
	"overview": "Overview", "workers": "Workers", "worker": "Worker", "registrations": "Approval", "jobs": "Jobs", "job": "Job",
	"new": "New job", "models": "Models", "keys": "Keys", "key": "New key", "audit": "Audit",
	"failed": "Failed jobs", "model": "Model", "webhooks": "Webhooks", "webhook": "New webhook", "sessions": "Signed in", "sign-in": "Sign in", "error": "Not possible",
}

// lives are the parts of the studio that each page shows.
var lives = map[string]string{
	"overview": "jobs workers registrations", "workers": "workers registrations", "worker": "workers logs", "registrations": "registrations",
	"jobs": "jobs registrations", "failed": "jobs", "job": "jobs logs", "models": "models", "keys": "keys", "webhooks": "webhooks jobs",
	"audit": "audit",
}

// parsePages reads the templates. Each page is the layout with its own main.
func parsePages() (map[string]*template.Template, error) {
	functions := template.FuncMap{
		"ago": moment, "kind": kindName, "jobMark": jobMark, "workerMark": workerMark, "span": span, "took": took, "gb": gigabytes,
		"size": size, "short": short, "line": firstLine, "levelTone": levelTone, "kinds": protocol.TaskKinds,
		"count": count, "thousands": func(n uint64) string { return humanize.Comma(int64(min(n, math.MaxInt64))) }, // #nosec G115 -- bounded
	}
	pages := map[string]*template.Template{}
	for name := range titles {
		page, err := template.New("layout.html").Funcs(functions).ParseFS(files, "templates/layout.html", "templates/parts.html", "templates/"+name+".html")
		if err != nil {
			return nil, fmt.Errorf("read the page %s: %w", name, err)
		}
		pages[name] = page
	}
	return pages, nil
}

// show draws a page. It is drawn whole before anything is sent.
func (d *Dashboard) show(v *visit, status int, name string, data any) {
	out := view{
		Since: v.since, Page: name, Title: titles[name], Live: lives[name], Path: v.r.URL.Path, Version: d.cfg.Version, Data: data,
		Veiled: v.veiled, Back: v.r.URL.RequestURI(),
	}
	if s := v.session; s != nil {
		out.SignedIn, out.Person, out.CSRF = true, s.name, s.csrf
		if !v.live() {
			out.Flash = s.takeFlash()
		}
		waiting, err := d.allRegistrations(v)
		if err != nil {
			d.cfg.Log.Warn("the dashboard cannot count who waits for approval", "error", err)
		}
		for _, r := range waiting {
			if r.Status == "pending" {
				out.Pending++
			}
		}
	}
	if titled, ok := data.(interface{ title() string }); ok {
		out.Title = titled.title()
	}
	var page bytes.Buffer
	if err := d.pages[name].Execute(&page, out); err != nil {
		d.cfg.Log.Error("a page could not be drawn", "page", name, "error", err)
		http.Error(v.w, "This page could not be drawn; the studio's log says why.", http.StatusInternalServerError)
		return
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.WriteHeader(status)
	_, _ = v.w.Write(page.Bytes()) // whoever does not read it has gone
}

// fail shows a page that says what is wrong.
func (d *Dashboard) fail(v *visit, status int, text string) { d.show(v, status, "error", text) }

// failed shows an error of the API.
func (d *Dashboard) failed(v *visit, err error) {
	status, text := words(err)
	if status >= http.StatusInternalServerError {
		d.cfg.Log.Warn("a page could not be shown", "path", v.r.URL.Path, "error", err)
	}
	d.fail(v, status, text)
}

// Row is a job in a list, with the name of its worker.
type Row struct {
	Job    client.JobStatus
	Worker string
}

// Row adds to a job what its line shows.
func (n workerNames) Row(j client.JobStatus) Row { return Row{j, n[j.WorkerID]} }

// In counts the jobs in a state.
func (o overviewData) In(state string) int { return o.States[client.State(state)] }

// Attention marks what waits for the person.
func (overviewData) Attention() mark { return mark{"attention", "busy", ""} }

// Trouble marks what went wrong.
func (overviewData) Trouble() mark { return mark{"attention", "bad", ""} }

// OnlyIdle says whether the worker serves only while nobody uses the computer.
func (w workerData) OnlyIdle() bool {
	c := w.Worker.Capabilities
	return c != nil && c.OnlyWhenIdle != nil && *c.OnlyWhenIdle
}

// Decision marks what became of a request.
func (registrationsData) Decision(status string) mark {
	if status == "approved" {
		return mark{"done", "good", "Approved"}
	}
	return mark{"cancelled", "paused", "Rejected"}
}

// Mark says whether a key still works.
func (keysData) Mark(k client.Key) mark {
	switch {
	case !k.RevokedAt.IsZero():
		return mark{"cancelled", "paused", "Revoked"}
	case !k.ExpiresAt.IsZero() && !time.Now().Before(k.ExpiresAt):
		return mark{"cancelled", "paused", "Expired"}
	}
	return mark{"done", "good", "Works"}
}

// Outcome marks how an act went.
func (auditData) Outcome(a client.Act) mark {
	if a.Error != "" {
		return mark{"attention", "bad", sentence(clip(a.Error, 120))}
	}
	return mark{"done", "good", "Done"}
}

type overviewData struct {
	Connected, Working, Approved int
	States                       map[client.State]int
	Charts                       []chart
	Running, Latest              []client.JobStatus
	Origin                       string
	workerNames
}

func (d *Dashboard) overview(_ http.ResponseWriter, r *http.Request, v *visit) {
	var out overviewData
	var stats client.Stats
	workers, err := d.allWorkers(v)
	if err == nil {
		err = d.ask(v, http.MethodGet, "/api/v1/stats?hours=24", nil, &stats)
	}
	var running, latest client.JobList
	if err == nil {
		err = d.ask(v, http.MethodGet, "/api/v1/jobs?state=running&limit=10"+v.prompts(), nil, &running)
	}
	if err == nil {
		err = d.ask(v, http.MethodGet, "/api/v1/jobs?limit=8"+v.prompts(), nil, &latest)
	}
	if err != nil {
		d.failed(v, err)
		return
	}
	out.Approved, out.workerNames, out.Origin = len(workers), names(workers), d.origin(r)
	for _, w := range workers {
		if w.Connected {
			out.Connected++
		}
		if w.Connected && w.CurrentJobID != "" {
			out.Working++
		}
	}
	out.States, out.Running, out.Latest = stats.States, running.Jobs, latest.Jobs
	out.Charts = []chart{
		throughput(stats),
		durations("Waiting time", "typical in the last hour", stats, func(h client.Hour) *client.Spread { return h.Wait }),
		durations("Running time", "typical in the last hour", stats, func(h client.Hour) *client.Spread { return h.Run }),
	}
	d.show(v, http.StatusOK, "overview", out)
}

// origin is the address by which the person's browser reached the studio.
func (d *Dashboard) origin(r *http.Request) string {
	if d.cfg.Secure(r) {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// names maps the ids of workers to what people call them.
// workerNames are what people call the workers, by id.
type workerNames map[string]string

func names(workers []worker) workerNames {
	out := workerNames{}
	for _, w := range workers {
		out[w.ID] = cmp.Or(w.Name, short(w.ID))
	}
	return out
}

type workersData struct {
	Workers []worker
	Origin  string
}

func (d *Dashboard) workers(_ http.ResponseWriter, r *http.Request, v *visit) {
	all, err := d.allWorkers(v)
	if err != nil {
		d.failed(v, err)
		return
	}
	slices.SortStableFunc(all, func(a, b worker) int { // those at work first, the absent last
		return cmp.Or(rank(a)-rank(b), strings.Compare(a.Name, b.Name))
	})
	d.show(v, http.StatusOK, "workers", workersData{all, d.origin(r)})
}

func rank(w worker) int {
	switch {
	case !w.Connected:
		return 2
	case w.CurrentJobID != "":
		return 0
	}
	return 1
}

type workerData struct {
	Worker  worker
	Logs    []protocol.LogEntry
	Dropped uint64 // lines that it sent and that are kept no longer
}

func (w workerData) title() string { return cmp.Or(w.Worker.Name, "Worker") }

const maxLogLines = 300 // on a page

func (d *Dashboard) worker(_ http.ResponseWriter, r *http.Request, v *visit) {
	all, err := d.allWorkers(v)
	if err != nil {
		d.failed(v, err)
		return
	}
	i := slices.IndexFunc(all, func(w worker) bool { return w.ID == r.PathValue("id") })
	if i < 0 {
		d.fail(v, http.StatusNotFound, "There is no such worker. It may have been removed.")
		return
	}
	logs, dropped, err := d.logs(v, all[i].ID, func(protocol.LogEntry) bool { return true })
	if err != nil {
		d.failed(v, err)
		return
	}
	d.show(v, http.StatusOK, "worker", workerData{all[i], logs, dropped})
}

// logs returns the newest lines of a worker that fit, the oldest first, and how many
// of all its lines are kept no longer.
func (d *Dashboard) logs(v *visit, worker string, fits func(protocol.LogEntry) bool) ([]protocol.LogEntry, uint64, error) {
	var in struct {
		Entries []protocol.LogEntry `json:"entries"`
		Dropped uint64              `json:"dropped"`
	}
	if err := d.ask(v, http.MethodGet, "/api/v1/workers/"+url.PathEscape(worker)+"/logs", nil, &in); err != nil {
		return nil, 0, err
	}
	found := slices.DeleteFunc(in.Entries, func(e protocol.LogEntry) bool { return !fits(e) })
	return found[max(0, len(found)-maxLogLines):], in.Dropped, nil
}

type registrationsData struct {
	Pending, Decided []registration
	Origin           string
}

func (d *Dashboard) registrations(_ http.ResponseWriter, r *http.Request, v *visit) {
	all, err := d.allRegistrations(v)
	if err != nil {
		d.failed(v, err)
		return
	}
	out := registrationsData{Origin: d.origin(r)}
	for _, row := range all {
		if row.Status == "pending" {
			out.Pending = append(out.Pending, row)
		} else if len(out.Decided) < 50 {
			out.Decided = append(out.Decided, row)
		}
	}
	d.show(v, http.StatusOK, "registrations", out)
}

// listJobs reads a page of the jobs in a state (empty: all), with how many there are in
// each state and who the workers are.
func (d *Dashboard) listJobs(v *visit, state, cursor string) (list client.JobList, counts map[client.State]int, who workerNames, err error) {
	query := url.Values{"limit": {"50"}}
	if state != "" {
		query.Set("state", state)
	}
	if cursor != "" {
		query.Set("cursor", cursor)
	}
	if err := d.ask(v, http.MethodGet, "/api/v1/jobs?"+query.Encode()+v.prompts(), nil, &list); err != nil {
		return client.JobList{}, nil, nil, err
	}
	var stats client.Stats
	if err := d.ask(v, http.MethodGet, "/api/v1/stats?hours=1", nil, &stats); err != nil {
		return client.JobList{}, nil, nil, err
	}
	workers, err := d.allWorkers(v)
	return list, stats.States, names(workers), err
}

type jobsData struct {
	State, Cursor, Next string
	States              []client.State
	Counts              map[client.State]int
	Jobs                []client.JobStatus
	workerNames
}

func (d *Dashboard) jobs(_ http.ResponseWriter, r *http.Request, v *visit) {
	out := jobsData{
		State: r.URL.Query().Get("state"), Cursor: r.URL.Query().Get("cursor"),
		States: []client.State{client.Queued, client.Offered, client.Running, client.Done, client.Failed, client.Cancelled},
	}
	var list client.JobList
	var err error
	if list, out.Counts, out.workerNames, err = d.listJobs(v, out.State, out.Cursor); err != nil {
		d.failed(v, err)
		return
	}
	out.Jobs, out.Next = list.Jobs, list.Next
	d.show(v, http.StatusOK, "jobs", out)
}

type jobData struct {
	Job      client.JobStatus
	Prompt   string
	Worker   string // its name
	Past     []pastData
	Logs     []protocol.LogEntry
	Dropped  uint64 // lines that the workers sent and that are kept no longer
	Preview  string // image, audio, video, text or none
	Text     string
	Whole    bool   // Text is all of it
	TaskJSON string // what the worker is given
}

// pastData is an attempt that came to nothing, with the name of its worker.
type pastData struct {
	client.Attempt
	Worker string
}

// Ran words how long the attempt lasted.
func (p pastData) Ran() string {
	if p.StartedAt.IsZero() {
		return ""
	}
	return span(p.EndedAt.Sub(p.StartedAt))
}

// Writes says whether the job is one whose text is shown while it is written.
func (j jobData) Writes() bool {
	return j.Job.Kind == protocol.KindLLM && j.Job.State == client.Running
}

func (j jobData) title() string { return kindName(j.Job.Kind) + " job" }

const maxPreview = 256 << 10 // bytes of a text on a page

func (d *Dashboard) job(_ http.ResponseWriter, r *http.Request, v *visit) {
	var out jobData
	if err := d.ask(v, http.MethodGet, "/api/v1/jobs/"+url.PathEscape(r.PathValue("id")), nil, &out.Job); err != nil {
		d.failed(v, err)
		return
	}
	out.Prompt = prompt(out.Job.Task)
	if out.Job.Task != nil {
		if data, err := json.MarshalIndent(out.Job.Task, "", "  "); err == nil {
			out.TaskJSON = string(data)
		}
	}
	if out.Job.WorkerID != "" || len(out.Job.Past) > 0 {
		if err := d.whoRan(v, &out); err != nil {
			d.failed(v, err)
			return
		}
	}
	if v.veiled {
		out.Prompt, out.TaskJSON, out.Job.Text = "", "", ""
	}
	if result := out.Job.Result; result != nil {
		out.Preview = previewOf(result.ContentType)
		if out.Preview == "text" && !v.veiled {
			data, whole, err := d.preview(v, out.Job.ID, maxPreview)
			if err != nil {
				d.failed(v, err)
				return
			}
			out.Text, out.Whole = readable(data), whole
		}
	}
	d.show(v, http.StatusOK, "job", out)
}

// whoRan adds the names of the workers that had the job, and what they logged of
// it.
func (d *Dashboard) whoRan(v *visit, out *jobData) error {
	workers, err := d.allWorkers(v)
	if err != nil {
		return err
	}
	known := names(workers)
	out.Worker = known[out.Job.WorkerID]
	var ran []string
	for _, a := range out.Job.Past {
		out.Past = append(out.Past, pastData{a, known[a.WorkerID]})
		ran = append(ran, a.WorkerID)
	}
	ran = append(ran, out.Job.WorkerID)
	slices.Sort(ran)
	for _, id := range slices.Compact(ran) {
		if known[id] == "" { // removed, and its log with it
			continue
		}
		log, dropped, err := d.logs(v, id, func(e protocol.LogEntry) bool { return e.JobID == out.Job.ID })
		if err != nil {
			return err
		}
		out.Logs, out.Dropped = append(out.Logs, log...), out.Dropped+dropped
	}
	slices.SortStableFunc(out.Logs, func(a, b protocol.LogEntry) int { return strings.Compare(a.TS, b.TS) })
	out.Logs = out.Logs[max(0, len(out.Logs)-maxLogLines):]
	return nil
}

// previewOf says how a result can be shown on a page.
func previewOf(contentType string) string {
	switch contentType {
	case "image/png", "image/webp", "image/gif", "image/jpeg":
		return "image"
	case "audio/wav", "audio/mpeg":
		return "audio"
	case "video/mp4", "video/webm":
		return "video"
	case "application/json", "text/plain":
		return "text"
	}
	return "none"
}

// readable finds the text in the result of a language model or a transcription;
// anything else stays as it is.
func readable(data []byte) string {
	var result struct {
		Choices []struct {
			Message struct {
				Content string `json:"content"`
			} `json:"message"`
		} `json:"choices"`
		Text string `json:"text"`
	}
	if json.Unmarshal(data, &result) == nil {
		if len(result.Choices) > 0 && result.Choices[0].Message.Content != "" {
			return result.Choices[0].Message.Content
		}
		if result.Text != "" {
			return result.Text
		}
	}
	return strings.ToValidUTF8(string(data), "\uFFFD")
}

// result hands on the bytes of a result. Only what a page can show is shown by
// the browser; everything else it may only save.
func (d *Dashboard) result(w http.ResponseWriter, r *http.Request, v *visit) {
	in, err := request(v, http.MethodGet, "/api/v1/jobs/"+url.PathEscape(r.PathValue("id"))+"/result", nil)
	if err != nil {
		d.failed(v, err)
		return
	}
	in.Header["Range"] = r.Header["Range"]
	w.Header().Set("Content-Security-Policy", "default-src 'none'; sandbox")
	d.cfg.API.ServeHTTP(&careful{ResponseWriter: w, save: r.URL.Query().Has("save")}, in)
}

// careful lets a browser only show what cannot be a program.
type careful struct {
	http.ResponseWriter
	save  bool
	begun bool
}

func (c *careful) begin() {
	if c.begun {
		return
	}
	c.begun = true
	h := c.Header()
	if kind := previewOf(h.Get("Content-Type")); c.save || kind == "none" || kind == "text" {
		disposition := strings.Replace(h.Get("Content-Disposition"), "inline", "attachment", 1)
		h.Set("Content-Disposition", cmp.Or(disposition, "attachment"))
		if kind == "none" {
			h.Set("Content-Type", "application/octet-stream")
		}
	}
	h.Set("Cache-Control", "private, max-age=3600") // a result never changes
}

func (c *careful) WriteHeader(status int) {
	c.begin()
	c.ResponseWriter.WriteHeader(status)
}

func (c *careful) Write(p []byte) (int, error) {
	c.begin()
	return c.ResponseWriter.Write(p)
}

// Unwrap gives http.ResponseController the real writer.
func (c *careful) Unwrap() http.ResponseWriter { return c.ResponseWriter }

type keysData struct {
	Keys []client.Key
	Name string
}

func (d *Dashboard) keys(_ http.ResponseWriter, _ *http.Request, v *visit) {
	d.showKeys(v, http.StatusOK, "")
}

func (d *Dashboard) showKeys(v *visit, status int, name string) {
	out := keysData{Name: name}
	err := everything(func(cursor string) (string, error) {
		var page client.KeyList
		err := d.ask(v, http.MethodGet, "/api/v1/keys?limit=1000"+cursor, nil, &page)
		out.Keys = append(out.Keys, page.Keys...)
		return page.Next, err
	})
	if err != nil {
		d.failed(v, err)
		return
	}
	slices.SortStableFunc(out.Keys, func(a, b client.Key) int { // those that work first
		return cmp.Compare(btoi(!a.RevokedAt.IsZero()), btoi(!b.RevokedAt.IsZero()))
	})
	d.show(v, status, "keys", out)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

type auditData struct {
	Cursor string
	client.AuditList
}

func (d *Dashboard) audit(_ http.ResponseWriter, r *http.Request, v *visit) {
	out := auditData{Cursor: r.URL.Query().Get("cursor")}
	query := url.Values{"limit": {"100"}}
	if out.Cursor != "" {
		query.Set("cursor", out.Cursor)
	}
	if err := d.ask(v, http.MethodGet, "/api/v1/audit?"+query.Encode(), nil, &out.AuditList); err != nil {
		d.failed(v, err)
		return
	}
	d.show(v, http.StatusOK, "audit", out)
}
