package health

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"studioworker/worker/observe"
)

// now tells what the observers hold when somebody asks.
type now struct{ o *observe.WorkerObservers }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("studio_worker_"+name, help, labels, nil)
}

var (
	connected  = desc("connected", "1 while the session to the studio is up.")
	available  = desc("available", "1 while the worker takes jobs.")
	blocked    = desc("blocked", "1 for the reason why it takes none.", "reason")
	running    = desc("job_running", "1 while a job runs.")
	waiting    = desc("outbox_results", "Results that wait on disk for the studio.")
	waitBytes  = desc("outbox_bytes", "Size of the results that wait.")
	waitOldest = desc("outbox_oldest_seconds", "Age of the oldest result that waits.")
	roundTrip  = desc("heartbeat_round_trip_seconds", "Time between the last heartbeat and its answer.")
	skew       = desc("clock_skew_seconds", "How far the studio's clock is ahead of this computer's.")
	gpuTotal   = desc("gpu_memory_bytes", "Memory of a graphics card, where it is known.", "gpu", "name")
	gpuFree    = desc("gpu_memory_free_bytes", "Memory of a graphics card that no program holds, where it is known.", "gpu", "name")
)

// Describe names the metrics.
func (n now) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		connected, available, blocked, running, waiting, waitBytes, waitOldest, roundTrip, skew, gpuTotal, gpuFree,
	} {
		ch <- d
	}
}

// Collect reads the observers.
func (n now) Collect(ch chan<- prometheus.Metric) {
	tell := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	flag := func(d *prometheus.Desc, on bool) {
		value := 0.0
		if on {
			value = 1
		}
		tell(d, value)
	}
	session, block, outbox := n.o.Session.Get(), n.o.Availability.Get().Block, n.o.Outbox.Get()
	flag(connected, session.State == observe.SessionConnected)
	flag(available, block == observe.BlockNone)
	if block != observe.BlockNone {
		tell(blocked, 1, string(block))
	}
	flag(running, n.o.CurrentJob.Get().ID != "")
	tell(waiting, float64(outbox.Count))
	tell(waitBytes, float64(outbox.Bytes))
	oldest := 0.0
	if !outbox.Oldest.IsZero() {
		oldest = time.Since(outbox.Oldest).Seconds()
	}
	tell(waitOldest, oldest)
	if trip := n.o.Heartbeat.Get().RoundTrip; trip > 0 {
		tell(roundTrip, trip.Seconds())
	}
	if session.State == observe.SessionConnected {
		tell(skew, session.Skew.Seconds())
	}
	for i, card := range n.o.GPUs.Get().List {
		number := strconv.Itoa(i)
		if card.Total > 0 {
			tell(gpuTotal, float64(card.Total), number, card.Name)
			if !card.FreeUnknown {
				tell(gpuFree, float64(card.Free), number, card.Name)
			}
		}
	}
}
