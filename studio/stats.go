package studio

import (
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"studioworker/studio/client"
	"studioworker/studio/store"
)

const maxStatsHours = 168

// statistics counts the jobs that ended in the last hours, hour by hour.
func (s *Studio) statistics(w http.ResponseWriter, r *http.Request) {
	hours := 24
	if text := r.URL.Query().Get("hours"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxStatsHours {
			writeError(w, http.StatusBadRequest, "bad_request", "hours must be 1 to 168")
			return
		}
		hours = n
	}
	var records []brief
	for _, j := range s.hub.all() {
		records = append(records, j.brief())
	}
	writeJSON(w, http.StatusOK, tally(records, time.Now().UTC(), hours))
}

// tally counts records by the hour in which they ended. The last hour is the one
// that now is in.
func tally(records []brief, now time.Time, hours int) client.Stats {
	out := client.Stats{States: map[client.State]int{}, Hours: make([]client.Hour, hours)}
	first := now.Truncate(time.Hour).Add(-time.Duration(hours-1) * time.Hour)
	waits, runs := make([][]float64, hours), make([][]float64, hours)
	for i := range out.Hours {
		out.Hours[i].Start = first.Add(time.Duration(i) * time.Hour)
	}
	for _, rec := range records {
		out.States[client.State(rec.state)]++
		i := int(rec.finished.Sub(first) / time.Hour)
		if rec.finished.Before(first) || i >= hours {
			continue
		}
		hour := &out.Hours[i]
		switch rec.state {
		case store.Done:
			hour.Done++
			if !rec.started.IsZero() { // delivered late, without an attempt that is known
				waits[i] = append(waits[i], max(0, rec.started.Sub(rec.created).Seconds()))
				runs[i] = append(runs[i], max(0, rec.finished.Sub(rec.started).Seconds()))
			}
		case store.Failed:
			hour.Failed++
		case store.Cancelled:
			hour.Cancelled++
		case store.Queued, store.Offered, store.Running: // they have not ended
		}
	}
	for i := range out.Hours {
		out.Hours[i].Wait, out.Hours[i].Run = spread(waits[i]), spread(runs[i])
	}
	return out
}

// spread returns the median and the 95th percentile of seconds, nil for none.
func spread(seconds []float64) *client.Spread {
	if len(seconds) == 0 {
		return nil
	}
	slices.Sort(seconds)
	at := func(share float64) float64 { // nearest rank
		return seconds[max(0, int(math.Ceil(share*float64(len(seconds))))-1)]
	}
	return &client.Spread{Median: at(0.5), P95: at(0.95)}
}
