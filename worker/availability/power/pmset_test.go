//go:build darwin || linux

package power

import "testing"

func TestDrawsFromBattery(t *testing.T) {
	for _, tc := range []struct {
		name, out string
		want, bad bool
	}{
		{"mains", "Now drawing from 'AC Power'\n -InternalBattery-0 (id=4391011)\t80%; charging; 0:51 remaining present: true\n", false, false},
		{"battery", "Now drawing from 'Battery Power'\n -InternalBattery-0 (id=4391011)\t79%; discharging; 5:12 remaining present: true\n", true, false},
		{"UPS", "Now drawing from 'UPS Power'\n", true, false},
		{"a Mac without a battery", "Now drawing from 'AC Power'\n", false, false},
		{"only the first line counts", "Now drawing from 'AC Power'\n 'Battery Power'\n", false, false},
		{"nothing", "", false, true},
		{"something else", "pmset: no such option\n", false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, err := drawsFromBattery(tc.out); got != tc.want || (err != nil) != tc.bad {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func FuzzDrawsFromBattery(f *testing.F) {
	f.Add("Now drawing from 'Battery Power'\n")
	f.Fuzz(func(t *testing.T, out string) {
		if on, err := drawsFromBattery(out); on && err != nil {
			t.Errorf("both an answer and %v", err)
		}
	})
}
