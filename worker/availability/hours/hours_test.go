package hours

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // a zone with daylight saving, wherever the test runs
)

func parse(t *testing.T, entries ...string) Week {
	t.Helper()
	w, err := Parse(entries)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// friday is a Friday in March 2030 plus some days, by UTC.
func friday(days, hour, minute int) time.Time {
	return time.Date(2030, time.March, 15+days, hour, minute, 0, 0, time.UTC)
}

func TestOpenAndNext(t *testing.T) {
	for _, tc := range []struct {
		name    string
		entries []string
		now     time.Time
		open    bool
		next    time.Time // zero = never
	}{
		{"no plan", nil, friday(0, 12, 0), true, time.Time{}},
		{"before the evening", []string{"mon-fri 18:00-08:00"}, friday(0, 17, 59), false, friday(0, 18, 0)},
		{"at its begin", []string{"mon-fri 18:00-08:00"}, friday(0, 18, 0), true, friday(1, 8, 0)},
		{"within a minute", []string{"mon-fri 18:00-08:00"}, friday(0, 17, 59).Add(59*time.Second + 7), false, friday(0, 18, 0)},
		{"past midnight", []string{"mon-fri 18:00-08:00"}, friday(1, 7, 59), true, friday(1, 8, 0)},
		{"at its end", []string{"mon-fri 18:00-08:00"}, friday(1, 8, 0), false, friday(3, 18, 0)},
		{"before midnight on a day off", []string{"mon-fri 18:00-08:00"}, friday(2, 23, 0), false, friday(3, 18, 0)},
		{"Monday morning is not Sunday's", []string{"mon-fri 18:00-08:00"}, friday(3, 1, 0), false, friday(3, 18, 0)},
		{"Saturday into Sunday wraps the week", []string{"sat 22:00-02:00"}, friday(2, 1, 0), true, friday(2, 2, 0)},
		{"days in a list", []string{"sat,sun 10:00-12:00"}, friday(2, 10, 0), true, friday(2, 12, 0)},
		{"a range over the weekend", []string{"fri-mon 00:00-24:00"}, friday(0, 0, 0), true, friday(4, 0, 0)},
		{"two entries that touch", []string{"fri 10:00-12:00", "fri 12:00-13:00"}, friday(0, 11, 0), true, friday(0, 13, 0)},
		{"once a week, just over", []string{"fri 10:00-10:01"}, friday(0, 10, 1), false, friday(7, 10, 0)},
		{"until midnight", []string{"daily 20:00-24:00"}, friday(0, 23, 59), true, friday(1, 0, 0)},
		{"always", []string{"daily 00:00-24:00"}, friday(0, 9, 0), true, time.Time{}},
		{"capitals and spaces", []string{"  Mon-FRI   18:00-08:00 "}, friday(0, 19, 0), true, friday(1, 8, 0)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := parse(t, tc.entries...)
			next, ok := w.Next(tc.now)
			if w.Open(tc.now) != tc.open || ok == tc.next.IsZero() || !next.Equal(tc.next) {
				t.Errorf("open %v, next %v (%v); want %v, %v", w.Open(tc.now), next, ok, tc.open, tc.next)
			}
		})
	}
}

// The clocks of Berlin go forward on 31 March 2030 at 02:00 and back on 27
// October 2030 at 03:00, both Sundays.
func TestClockChanges(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	utc := func(month time.Month, day, hour, minute int) time.Time {
		return time.Date(2030, month, day, hour, minute, 0, 0, time.UTC)
	}
	for _, tc := range []struct {
		name  string
		entry string
		from  time.Time
		want  []time.Time // the changes after it
	}{
		{
			"a night is an hour shorter", "sat 18:00-08:00", utc(time.March, 30, 12, 0),
			[]time.Time{utc(time.March, 30, 17, 0), utc(time.March, 31, 6, 0)},
		},
		{
			"a night is an hour longer", "sat 18:00-08:00", utc(time.October, 26, 12, 0),
			[]time.Time{utc(time.October, 26, 16, 0), utc(time.October, 27, 7, 0)},
		},
		{
			"an hour that is left out", "sun 02:00-03:00", utc(time.March, 30, 12, 0),
			[]time.Time{utc(time.April, 7, 0, 0), utc(time.April, 7, 1, 0)},
		},
		{
			"a begin that is left out", "sun 02:30-04:00", utc(time.March, 30, 12, 0),
			[]time.Time{utc(time.March, 31, 1, 0), utc(time.March, 31, 2, 0)},
		},
		{
			"half an hour that comes twice", "sun 02:00-02:30", utc(time.October, 26, 12, 0),
			[]time.Time{utc(time.October, 27, 0, 0), utc(time.October, 27, 0, 30), utc(time.October, 27, 1, 0), utc(time.October, 27, 1, 30)},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := parse(t, tc.entry)
			at := tc.from.In(berlin)
			for i, want := range tc.want {
				next, ok := w.Next(at)
				if !ok || !next.Equal(want) {
					t.Fatalf("change %d after %v is %v (%v), want %v", i, at, next.UTC(), ok, want)
				}
				at = next
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		entries []string
		want    string
	}{
		"empty":           {[]string{""}, "write days and times"},
		"only days":       {[]string{"mon"}, "write days and times"},
		"three words":     {[]string{"mon 10:00-11:00 please"}, "write days and times"},
		"no such day":     {[]string{"mon-foo 10:00-11:00"}, `"foo" is no day`},
		"no first day":    {[]string{"-fri 10:00-11:00"}, `"" is no day`},
		"a comma too far": {[]string{"mon, 10:00-11:00"}, `"" is no day`},
		"one time":        {[]string{"mon 10:00"}, "FROM-TO"},
		"short time":      {[]string{"mon 8:00-10:00"}, `"8:00" is no time`},
		"bad end":         {[]string{"mon 08:00-10:60"}, `"10:60" is no time`},
		"past midnight":   {[]string{"mon 08:00-24:01"}, `"24:01" is no time`},
		"begins at 24":    {[]string{"mon 24:00-08:00"}, "only be an end"},
		"no length":       {[]string{"mon 08:00-08:00"}, "same time"},
		"second is wrong": {[]string{"mon 08:00-09:00", "tue"}, `"tue"`},
		"too long":        {[]string{strings.Repeat("m", MaxLength+1)}, "longer than"},
		"too many":        {make([]string, MaxEntries+1), "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := Parse(tc.entries)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if w != (Week{}) {
				t.Error("a refused plan is not empty")
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"mon-fri 18:00-08:00", "daily 00:00-24:00", "sat,sun 10:00-12:00\nfri-mon 23:59-00:00", "x", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		w, err := Parse(strings.Split(text, "\n"))
		if err != nil {
			return
		}
		now := time.Date(2030, time.March, 15, 12, 0, 30, 0, time.UTC)
		next, ok := w.Next(now)
		switch {
		case ok && (w.Open(next) == w.Open(now) || w.Open(next.Add(-time.Nanosecond)) != w.Open(now)):
			t.Errorf("%q does not change at %v", text, next)
		case !ok && !w.Open(now):
			t.Errorf("%q never holds", text)
		}
	})
}
