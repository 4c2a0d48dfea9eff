package dashboard

import (
	"net/http"
	"strings"

	"studioworker/studio/client"
)

type webhooksData struct {
	Webhooks []client.Webhook
	URL      string // as it was entered
	All      bool
	Error    string
}

// Mark says how the last message of a webhook went.
func (webhooksData) Mark(w client.Webhook) mark {
	switch h := w.Deliveries; {
	case h == nil || h.LastAt.IsZero():
		return mark{"waiting", "muted", "Nothing sent yet"}
	case h.LastError != "":
		return mark{"attention", "bad", "Not delivered"}
	}
	return mark{"done", "good", "Delivered"}
}

func (d *Dashboard) webhooks(_ http.ResponseWriter, _ *http.Request, v *visit) {
	d.showWebhooks(v, http.StatusOK, webhooksData{All: true})
}

func (d *Dashboard) showWebhooks(v *visit, status int, out webhooksData) {
	err := everything(func(cursor string) (string, error) {
		var page client.WebhookList
		err := d.ask(v, http.MethodGet, "/api/v1/webhooks?limit=1000"+cursor, nil, &page)
		out.Webhooks = append(out.Webhooks, page.Webhooks...)
		return page.Next, err
	})
	if err != nil {
		d.failed(v, err)
		return
	}
	d.show(v, status, "webhooks", out)
}

func (d *Dashboard) createWebhook(_ http.ResponseWriter, r *http.Request, v *visit) {
	in := client.Webhook{URL: strings.TrimSpace(r.PostForm.Get("url")), All: r.PostForm.Get("which") != "named"}
	var hook client.NewWebhook
	if err := d.ask(v, http.MethodPost, path("webhooks"), in, &hook); err != nil {
		_, text := words(err)
		d.showWebhooks(v, http.StatusUnprocessableEntity, webhooksData{URL: in.URL, All: in.All, Error: text})
		return
	}
	d.show(v, http.StatusOK, "webhook", hook) // the one page that ever shows its secret
}

func (d *Dashboard) testWebhook(_ http.ResponseWriter, r *http.Request, v *visit) {
	var out client.Tested
	err := d.ask(v, http.MethodPost, path("webhooks", r.PathValue("id"), "test"), nil, &out)
	if err == nil && !out.Delivered {
		err = &client.Error{Status: http.StatusBadGateway, Message: "the test message did not arrive: " + out.Error}
	}
	d.after(v, err, "The test message arrived.", "/webhooks")
}

func (d *Dashboard) removeWebhook(_ http.ResponseWriter, r *http.Request, v *visit) {
	err := d.ask(v, http.MethodDelete, path("webhooks", r.PathValue("id")), nil, nil)
	d.after(v, err, "Removed. It is told nothing more.", "/webhooks")
}
