package app

import (
	"context"
	"crypto/rand"
	"log/slog"
	"os"
	"strconv"

	"studioworker/worker/config"
	"studioworker/worker/job"
	"studioworker/worker/localapi"
)

// localPortVariable wins over local_api_port.
const localPortVariable = "STUDIO_WORKER_LOCAL_API_PORT"

// openLocalAPI begins to listen for programs of this computer. The worker does
// without when it cannot.
func (h *host) openLocalAPI(ctx context.Context, c config.Config) {
	token := c.LocalAPIToken.Reveal()
	if token == "" {
		token = rand.Text() // for this start; the discovery file tells it
	}
	var err error
	h.localAPI, err = localapi.New(ctx, localapi.Config{
		Port: localPort(c, h.log), Token: token, Discovery: localapi.DiscoveryPath(h.path), Version: Version, Jobs: h.worker,
		Engines: h.engines.router, Models: h.engines.llama, Inputs: h.engines.inputs, Observers: h.observers, Busy: job.ErrBusy, Log: h.log,
	})
	if err != nil {
		h.log.Error("the local API is not served", "error", err)
	}
}

// localPort is the port that the person chose; nil = none.
func localPort(c config.Config, log *slog.Logger) *uint16 {
	text := os.Getenv(localPortVariable)
	if text == "" {
		return c.LocalAPIPort
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		log.Warn("the variable of the local API's port is no port and has no effect", "variable", localPortVariable, "value", text)
		return c.LocalAPIPort
	}
	chosen := uint16(port)
	return &chosen
}
