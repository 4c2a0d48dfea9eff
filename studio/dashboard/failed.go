package dashboard

import (
	"fmt"
	"net/http"
	"net/url"

	"studioworker/studio/client"
)

const failedPath = "/jobs/failed"

// failedData are the dead letters: jobs that had all their attempts.
type failedData struct {
	Jobs         []client.JobStatus
	Total        int
	Cursor, Next string
	workerNames
}

func (d *Dashboard) failedJobs(_ http.ResponseWriter, r *http.Request, v *visit) {
	out := failedData{Cursor: r.URL.Query().Get("cursor")}
	list, counts, who, err := d.listJobs(v, string(client.Failed), out.Cursor)
	if err != nil {
		d.failed(v, err)
		return
	}
	out.Jobs, out.Next, out.Total, out.workerNames = list.Jobs, list.Next, counts[client.Failed], who
	d.show(v, http.StatusOK, "failed", out)
}

func (d *Dashboard) retryFailed(_ http.ResponseWriter, _ *http.Request, v *visit) {
	d.batch(v, "retry-failed", "queued again")
}

func (d *Dashboard) discardFailed(_ http.ResponseWriter, _ *http.Request, v *visit) {
	d.batch(v, "discard-failed", "discarded")
}

// batch does something to all dead letters, as many as the studio takes at once.
func (d *Dashboard) batch(v *visit, what, done string) {
	var out client.Batch
	err := d.ask(v, http.MethodPost, path("jobs", what), nil, &out)
	text := fmt.Sprintf("%s %s.", count(out.Jobs, "job", "jobs"), done)
	if out.Left > 0 {
		text += fmt.Sprintf(" %d are left; do it again for those.", out.Left)
	}
	d.after(v, err, text, failedPath)
}

func (d *Dashboard) discardJob(_ http.ResponseWriter, r *http.Request, v *visit) {
	back := "/jobs"
	if r.PostForm.Get("from") == "failed" {
		back = failedPath
	}
	err := d.ask(v, http.MethodDelete, path("jobs", r.PathValue("id")), nil, nil)
	if err != nil && back == "/jobs" {
		back += "/" + url.PathEscape(r.PathValue("id"))
	}
	d.after(v, err, "Discarded.", back)
}
