package model

import (
	"testing"
	"time"

	"studioworker/worker/observe"
)

// TestEveryBlock: each reason for taking no jobs has its state, its words and the
// one action that makes sense, idle and working, in the header, on the card and in
// the slot of the running job.
func TestEveryBlock(t *testing.T) {
	at := func(days, hour, minute int) time.Time {
		return time.Date(2026, time.March, 12+days, hour, minute, 0, 0, now.Location()) // now is a Thursday
	}
	const work = "image · sd-turbo · step 12 of 20 · 0:14"
	for _, tc := range []struct {
		name    string
		a       observe.Availability
		want    Header
		working string
		action  Action // while a job runs
		slot    string
	}{
		{
			name: "none", want: Header{StateIdle, "Idle", "Ready for jobs", ActionPause},
			working: work, action: ActionPause, slot: "The next job shows here",
		},
		{
			name: "paused", a: observe.Availability{Block: observe.BlockPaused},
			want:    Header{StatePaused, "Paused", "Paused by you until you resume", ActionResume},
			working: work + " · no new jobs · paused by you until you resume", action: ActionResume, slot: "Paused by you until you resume",
		},
		{
			name: "paused until later", a: observe.Availability{Block: observe.BlockPaused, Until: at(0, 18, 30)},
			want:    Header{StatePaused, "Paused", "Paused by you until 18:30", ActionResume},
			working: work + " · no new jobs · paused by you until 18:30", action: ActionResume, slot: "Paused by you until 18:30",
		},
		{
			name: "paused until tomorrow", a: observe.Availability{Block: observe.BlockPaused, Until: Tomorrow(now)},
			want:    Header{StatePaused, "Paused", "Paused by you until Fri 08:00", ActionResume},
			working: work + " · no new jobs · paused by you until Fri 08:00", action: ActionResume, slot: "Paused by you until Fri 08:00",
		},
		{
			name: "outside hours", a: observe.Availability{Block: observe.BlockHours, Until: at(0, 18, 0)},
			want:    Header{StatePaused, "Paused", "Outside your hours: next at 18:00", ActionPause},
			working: work + " · no new jobs · outside your hours: next at 18:00", action: ActionPause, slot: "Outside your hours: next at 18:00",
		},
		{
			name: "hours of another day", a: observe.Availability{Block: observe.BlockHours, Until: at(4, 9, 0)},
			want:    Header{StatePaused, "Paused", "Outside your hours: next at Mon 09:00", ActionPause},
			working: work + " · no new jobs · outside your hours: next at Mon 09:00", action: ActionPause, slot: "Outside your hours: next at Mon 09:00",
		},
		{
			name: "hours that never come", a: observe.Availability{Block: observe.BlockHours},
			want:    Header{StatePaused, "Paused", "Outside your hours", ActionPause},
			working: work + " · no new jobs · outside your hours", action: ActionPause, slot: "Outside your hours",
		},
		{
			name: "battery", a: observe.Availability{Block: observe.BlockBattery},
			want:    Header{StatePaused, "Paused", "On battery: waiting for mains power", ActionPause},
			working: work + " · no new jobs · on battery: waiting for mains power", action: ActionPause, slot: "On battery: waiting for mains power",
		},
		{
			name: "person", a: observe.Availability{Block: observe.BlockUserActive},
			want:    Header{StatePaused, "Paused", "Waiting: you are using this computer", ActionPause},
			working: work + " · no new jobs · waiting: you are using this computer", action: ActionPause, slot: "Waiting: you are using this computer",
		},
		{
			name: "disk", a: observe.Availability{Block: observe.BlockDiskFull, Detail: "0.4 GB free, 1 GB needed"},
			want:    Header{StateAttention, "Disk full", "Disk almost full: 0.4 GB free, 1 GB needed", ActionPause},
			working: work + " · no new jobs · disk almost full: 0.4 GB free, 1 GB needed", action: ActionPause, slot: "Disk almost full: 0.4 GB free, 1 GB needed",
		},
		{
			name: "stopping", a: observe.Availability{Block: observe.BlockStopping},
			want:    Header{StatePaused, "Stopping", "Stopping: no new jobs", ActionNone},
			working: "Giving the running job a moment to finish", action: ActionNone, slot: "Stopping: no new jobs",
		},
		{
			name: "a reason of a later version", a: observe.Availability{Block: "moon", Detail: "it is\nfull"},
			want:    Header{StatePaused, "Paused", "Takes no jobs: it is full", ActionPause},
			working: work + " · no new jobs · takes no jobs: it is full", action: ActionPause, slot: "Takes no jobs: it is full",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := with(func(s *Snapshot) {
				s.Availability = tc.a
				s.Outbox = observe.Outbox{Count: 2} // waits quietly: the header is not about it
			})
			if got := Head(en, s, now); got != tc.want {
				t.Errorf("header %+v, want %+v", got, tc.want)
			}
			if got := NewStatus(en, s, now).Header; got != tc.want {
				t.Errorf("card %+v, want %+v", got, tc.want)
			}
			if got := NewRunning(en, s, false, now); got.Active || got.Facts != tc.slot {
				t.Errorf("slot %+v, want %q", got, tc.slot)
			}
			running(&s)
			if got := Head(en, s, now); got.State != StateBusy || got.Sentence != tc.working || got.Action != tc.action {
				t.Errorf("working %+v, want %q and %q", got, tc.working, tc.action)
			}
		})
	}
}

func TestPauses(t *testing.T) {
	zone := time.FixedZone("two hours east", 2*60*60)
	for _, tc := range []struct {
		name      string
		p         Pause
		now, want time.Time
	}{
		{"open", PauseOpen, now, time.Time{}},
		{"an hour", PauseHour, now, now.Add(time.Hour)},
		{"tomorrow", PauseTomorrow, time.Date(2030, time.March, 15, 9, 30, 7, 9, zone), time.Date(2030, time.March, 16, 8, 0, 0, 0, zone)},
		{"tomorrow, just after midnight", PauseTomorrow, time.Date(2030, time.March, 15, 0, 0, 0, 0, zone), time.Date(2030, time.March, 16, 8, 0, 0, 0, zone)},
		{"tomorrow is another year", PauseTomorrow, time.Date(2030, time.December, 31, 23, 59, 59, 0, zone), time.Date(2031, time.January, 1, 8, 0, 0, 0, zone)},
	} {
		if got := tc.p.Until(tc.now); !got.Equal(tc.want) {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
	}
	var labels []string
	for _, p := range Pauses() {
		labels = append(labels, p.Label(en))
	}
	want := [3]string{"Pause until I resume", "Pause for 1 hour", "Pause until tomorrow 08:00"}
	if len(labels) != 3 || [3]string(labels) != want {
		t.Errorf("labels %q, want %q", labels, want)
	}
}
