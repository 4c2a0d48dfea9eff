package studio

import (
	"testing"
	"time"

	"studioworker/studio/client"
	"studioworker/studio/store"
)

// TestTally: a job counts in the hour in which it ended, the last hour is the one
// of now, and what ended before the first is counted by state only.
func TestTally(t *testing.T) {
	now := time.Date(2026, 5, 4, 12, 30, 0, 0, time.UTC)
	job := func(state store.JobState, ended, ran, waited time.Duration) brief {
		end := now.Add(-ended)
		return brief{state: state, finished: end, started: end.Add(-ran), created: end.Add(-ran - waited)}
	}
	late := job(store.Done, 0, 0, 0) // delivered without an attempt that is known
	late.started = time.Time{}
	got := tally([]brief{
		job(store.Done, time.Minute, 4*time.Second, time.Second), job(store.Done, 2*time.Minute, 8*time.Second, 3*time.Second),
		job(store.Done, 3*time.Minute, 6*time.Second, 2*time.Second), late,
		job(store.Failed, 31*time.Minute, 0, 0), job(store.Cancelled, 90*time.Minute, 0, 0),
		job(store.Done, 2*time.Hour+31*time.Minute, 0, 0), // before the first hour
		{state: store.Running},
		{state: store.Queued},
		{state: store.Queued},
	}, now, 3)
	if len(got.Hours) != 3 || !got.Hours[0].Start.Equal(now.Truncate(time.Hour).Add(-2*time.Hour)) {
		t.Fatalf("hours %+v", got.Hours)
	}
	last := got.Hours[2]
	if last.Done != 4 || last.Failed != 0 || *last.Wait != (client.Spread{Median: 2, P95: 3}) || *last.Run != (client.Spread{Median: 6, P95: 8}) {
		t.Errorf("this hour: %+v, wait %+v, run %+v", last, last.Wait, last.Run)
	}
	if h := got.Hours[1]; h.Failed != 1 || h.Cancelled != 1 || h.Wait != nil || h.Run != nil {
		t.Errorf("the hour before: %+v", h)
	}
	if h := got.Hours[0]; h.Done != 0 {
		t.Errorf("the first hour: %+v", h)
	}
	if got.States[client.Done] != 5 || got.States[client.Queued] != 2 || got.States[client.Running] != 1 {
		t.Errorf("states %v", got.States)
	}
}

func TestStatsHoursAreChecked(t *testing.T) {
	f := newFarm(t, nil)
	for _, hours := range []string{"0", "169", "x"} {
		status, data := f.call(t, "GET", "/api/v1/stats?hours="+hours, f.token, nil)
		wantError(t, status, data, 400, "bad_request")
	}
}
