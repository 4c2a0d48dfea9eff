package model

import (
	"testing"
	"time"

	"studioworker/worker/observe"
)

func TestChart(t *testing.T) {
	ended := func(ago, took time.Duration, o observe.Outcome) observe.RecentJob {
		return observe.RecentJob{Started: now.Add(-ago - took), Duration: took, Outcome: o}
	}
	c := NewChart(en, []observe.RecentJob{
		{Outcome: observe.OutcomeCompleted},                                    // without a time
		ended(25*time.Hour, time.Hour, observe.OutcomeCompleted),               // too old
		ended(23*time.Hour+30*time.Minute, time.Hour, observe.OutcomeFailed),   // half of it before the chart
		ended(2*time.Hour+30*time.Minute, time.Hour, observe.OutcomeCompleted), // over two hours
		ended(10*time.Minute, time.Minute, observe.OutcomeCompleted),
		ended(9*time.Minute, time.Minute, observe.OutcomeKept),
		ended(8*time.Minute, time.Minute, observe.OutcomeFailed),
		ended(7*time.Minute, time.Minute, observe.OutcomeCancelled),
		ended(-time.Minute, time.Second, observe.OutcomeCompleted), // in the future
	}, now.Add(-6*time.Minute), now)
	want := map[int]Hour{0: {0, 1, 0.5}, 20: {0, 0, 0.5}, 21: {1, 0, 0.5}, 23: {2, 1, 0.16}}
	for h, got := range c.Hours {
		if got != want[h] {
			t.Errorf("hour %d: got %+v, want %+v", h, got, want[h])
		}
	}
	if c.Most != 3 || c.Summary != "3 done, 2 failed, busy 6 % of the time" {
		t.Errorf("most %d, %q", c.Most, c.Summary)
	}
	if c := NewChart(en, nil, time.Time{}, now); c.Most != 0 || c.Summary != "0 done, 0 failed, busy 0 % of the time" {
		t.Errorf("nothing: %+v", c)
	}
	twice := ended(0, 30*time.Hour, observe.OutcomeCompleted)
	if c := NewChart(en, []observe.RecentJob{twice, twice}, time.Time{}, now); c.Hours[3].Busy != 1 || c.Summary != "2 done, 0 failed, busy 100 % of the time" {
		t.Errorf("two at once: %+v", c)
	}
}

func TestDownload(t *testing.T) {
	for _, tc := range []struct {
		name string
		d    observe.Download
		want Download
	}{
		{"on its way", observe.Download{Model: "sd", File: "sd.gguf", Bytes: 1e9, Total: 4e9, Rate: 1e7}, Download{"sd · sd.gguf", "1.0 GB of 4.0 GB · 10 MB a second · 5 min left", 0.25, true}},
		{"of unknown length", observe.Download{Model: "f", File: "f", Bytes: 5e6, Rate: 1000}, Download{"f", "5.0 MB · 1.0 KB a second", 0, false}},
		{"standing still", observe.Download{File: "f", Bytes: 1, Total: 2}, Download{"f", "1 byte of 2 bytes · waiting", 0.5, true}},
		{"more than promised", observe.Download{File: "f", Bytes: 4000, Total: 2000, Rate: 1000}, Download{"f", "4.0 KB of 2.0 KB · 1.0 KB a second", 1, true}},
		{"very slow", observe.Download{File: "f", Total: 1 << 60, Rate: 1}, Download{"f", "0 bytes of 1,152,922 TB · 1 byte a second · 11 days left", 0, true}},
	} {
		if got := NewDownload(en, tc.d); got != tc.want {
			t.Errorf("%s: got %+v", tc.name, got)
		}
	}
}
