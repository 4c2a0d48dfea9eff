package observe

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSpec129AllSlotsStartEmpty(t *testing.T) {
	o := New()
	if o.Registration.Get() != (Registration{}) || o.Session.Get() != (Session{}) || o.Heartbeat.Get() != (Heartbeat{}) ||
		o.Availability.Get() != (Availability{}) || o.CurrentJob.Get() != (CurrentJob{}) || !reflect.DeepEqual(o.Outbox.Get(), Outbox{}) {
		t.Error("a slot holds a value before anyone wrote it")
	}
	if jobs, n := o.RecentJobs.Since(0); len(jobs) != 0 || n != 0 {
		t.Errorf("recent jobs = %v, %d, want none", jobs, n)
	}
	if logs, n := o.Logs.Since(0); len(logs) != 0 || n != 0 {
		t.Errorf("logs = %v, %d, want none", logs, n)
	}
}

func TestSpec130And131RingsDropTheOldest(t *testing.T) {
	o := New()
	for i := range RecentJobsCap + 3 {
		o.RecentJobs.Add(RecentJob{ID: string(rune('A' + i))})
	}
	jobs, n := o.RecentJobs.Since(0)
	if len(jobs) != RecentJobsCap || n != RecentJobsCap+3 || jobs[0].ID != "D" {
		t.Errorf("kept %d, newest %d, oldest %q, want %d, %d, D", len(jobs), n, jobs[0].ID, RecentJobsCap, RecentJobsCap+3)
	}
	for range RecentLogsCap + 1 {
		o.Logs.Add(LogEntry{})
	}
	if logs, n := o.Logs.Since(0); len(logs) != RecentLogsCap || n != RecentLogsCap+1 {
		t.Errorf("kept %d logs, newest %d", len(logs), n)
	}
}

func TestSpec134ReadingAfterANumber(t *testing.T) {
	r := NewRing[int](3)
	for i := 1; i <= 5; i++ {
		r.Add(i)
	}
	for _, tc := range []struct {
		name  string
		after uint64
		want  []int
	}{
		{"from the start", 0, []int{3, 4, 5}},
		{"older than the ring", 1, []int{3, 4, 5}},
		{"the oldest kept", 3, []int{4, 5}},
		{"the newest", 5, nil},
		{"a number from before a restart", 99, []int{3, 4, 5}},
	} {
		if got, n := r.Since(tc.after); !slices.Equal(got, tc.want) || n != 5 {
			t.Errorf("%s: got %v, %d, want %v, 5", tc.name, got, n, tc.want)
		}
	}
}

func TestRingUpdateKeepsTheNumber(t *testing.T) {
	r := NewRing[string](3)
	r.Add("a")
	r.Add("b")
	if !r.Update(func(s string) bool { return s == "a" }, func(string) string { return "A" }) {
		t.Fatal("no entry matched")
	}
	if r.Update(func(s string) bool { return s == "zz" }, func(s string) string { return s }) {
		t.Error("an entry that is not there was changed")
	}
	if got, n := r.Since(0); !slices.Equal(got, []string{"A", "b"}) || n != 2 {
		t.Errorf("got %v, %d", got, n)
	}
}

func TestRingClear(t *testing.T) {
	r := NewRing[int](3)
	for v := range 5 {
		r.Add(v)
	}
	r.Clear()
	if got, newest := r.Since(0); len(got) != 0 || newest != 5 {
		t.Errorf("after clearing: %v, newest %d", got, newest)
	}
	for v := 10; v < 15; v++ { // over its limit again
		r.Add(v)
		got, newest := r.Since(0)
		if len(got) != min(v-9, 3) || got[len(got)-1] != v || got[0] != max(v-2, 10) || newest != uint64(v-4) {
			t.Errorf("after %d: %v, newest %d", v, got, newest)
		}
	}
	if got, _ := r.Since(9); !slices.Equal(got, []int{14}) {
		t.Errorf("after number 9: %v", got)
	}
}

func TestSpec135Preview(t *testing.T) {
	exact := strings.Repeat("ä", PromptPreviewChars)
	for _, tc := range []struct{ name, in, want string }{
		{"short", "a town", "a town"},
		{"exactly the limit", exact, exact},
		{"one more", exact + "x", exact + "…"},
	} {
		if got := Preview(tc.in); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestWatchGivesTheCurrentValueThenTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Slot[int]
		s.Set(1)
		ctx, cancel := context.WithCancel(t.Context())
		var seen []int
		done := make(chan struct{})
		go func() {
			defer close(done)
			for v := range s.Watch(ctx) {
				seen = append(seen, v)
				time.Sleep(time.Second) // slower than the writer
			}
		}()
		synctest.Wait()
		for v := 2; v <= 9; v++ {
			s.Set(v)
		}
		time.Sleep(5 * time.Second)
		cancel()
		<-done
		if !slices.Equal(seen, []int{1, 9}) {
			t.Errorf("saw %v, want the first and the newest", seen)
		}
		if len(s.subs) != 0 {
			t.Error("the subscription outlived its context")
		}
	})
}
