package observe

import (
	"testing"
	"time"
)

func TestSentence(t *testing.T) {
	zone := time.FixedZone("two hours east", 2*60*60)
	now := time.Date(2030, time.March, 15, 9, 30, 0, 0, zone) // a Friday
	at := func(days, hour, minute int) time.Time {
		return time.Date(2030, time.March, 15+days, hour, minute, 0, 0, zone)
	}
	for _, tc := range []struct {
		name string
		a    Availability
		want string
	}{
		{"available", Availability{}, "Ready for jobs"},
		{"stopping", Availability{Block: BlockStopping}, "Stopping: no new jobs"},
		{"paused", Availability{Block: BlockPaused}, "Paused by you until you resume"},
		{"paused until later today", Availability{Block: BlockPaused, Until: at(0, 18, 30)}, "Paused by you until 18:30"},
		{"paused until a time given in another zone", Availability{Block: BlockPaused, Until: at(0, 18, 30).UTC()}, "Paused by you until 18:30"},
		{"paused until tomorrow", Availability{Block: BlockPaused, Until: at(1, 8, 0)}, "Paused by you until Sat 08:00"},
		{"paused until the start of tomorrow", Availability{Block: BlockPaused, Until: at(1, 0, 0)}, "Paused by you until Sat 00:00"},
		{"paused for almost a week", Availability{Block: BlockPaused, Until: at(6, 23, 59)}, "Paused by you until Thu 23:59"},
		{"paused for a week", Availability{Block: BlockPaused, Until: at(7, 0, 0)}, "Paused by you until Fri 22 Mar 00:00"},
		{"paused until next year", Availability{Block: BlockPaused, Until: at(365, 8, 0)}, "Paused by you until Sat 15 Mar 2031 08:00"},
		{"the end of a pause is over", Availability{Block: BlockPaused, Until: at(-1, 8, 0)}, "Paused by you until Thu 14 Mar 08:00"},
		{"disk", Availability{Block: BlockDiskFull, Detail: "0.4 GB free, 1 GB needed"}, "Disk almost full: 0.4 GB free, 1 GB needed"},
		{"disk without numbers", Availability{Block: BlockDiskFull}, "Disk almost full"},
		{"hours", Availability{Block: BlockHours, Until: at(3, 18, 0)}, "Outside your hours: next at Mon 18:00"},
		{"hours that never come", Availability{Block: BlockHours}, "Outside your hours"},
		{"battery", Availability{Block: BlockBattery}, "On battery: waiting for mains power"},
		{"person", Availability{Block: BlockUserActive}, "Waiting: you are using this computer"},
		{"nobody can tell", Availability{Block: BlockUserActive, Detail: "it cannot be seen whether you are here"}, "Waiting: it cannot be seen whether you are here"},
		{"a reason of a later version", Availability{Block: "moon", Detail: "it is full"}, "Takes no jobs: it is full"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := Sentence(tc.a, now); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
