package model

import (
	"math/rand/v2"
	"strings"
	"testing"

	"studioworker/ui/words"
	"studioworker/worker/availability/hours"
)

func TestGridOfAPlan(t *testing.T) {
	for _, tc := range []struct {
		name, plan, back, says string
		count                  int
		exact                  bool
	}{
		{"always", "", "", "Always", 168, true},
		{"evenings", "mon-fri 18:00-08:00", "mon-fri 18:00-08:00", "Mon–Fri 18:00–08:00", 70, true},
		{"the weekend", "sat,sun 00:00-24:00", "sat,sun 00:00-24:00", "Sat, Sun 00:00–24:00", 48, true},
		{"over the end of the week", "sun 22:00-03:00", "sun 22:00-03:00", "Sun 22:00–03:00", 5, true},
		{"two a day", "daily 01:00-02:00\ndaily 12:00-13:00", "mon-sun 01:00-02:00\nmon-sun 12:00-13:00", "Mon–Sun 01:00–02:00; Mon–Sun 12:00–13:00", 14, true},
		{"parts of hours", "mon 08:30-10:00", "mon 09:00-10:00", "Mon 09:00–10:00", 1, false},
		{"days apart", "mon,wed,thu,fri,sun 01:00-02:00", "mon,wed-fri,sun 01:00-02:00", "Mon, Wed–Fri, Sun 01:00–02:00", 5, true},
		{"two whole days", "mon,tue 00:00-24:00", "mon,tue 00:00-24:00", "Mon, Tue 00:00–24:00", 48, true},
	} {
		g, exact, err := ReadGrid(tc.plan)
		if err != nil || exact != tc.exact || g.Count() != tc.count {
			t.Errorf("%s: %d hours, exact %v, %v", tc.name, g.Count(), exact, err)
		}
		if got := g.Plan(); got != tc.back {
			t.Errorf("%s: written as %q, want %q", tc.name, got, tc.back)
		}
		if got := g.Sentence(en); got != tc.says {
			t.Errorf("%s: said as %q, want %q", tc.name, got, tc.says)
		}
	}
	if _, _, err := ReadGrid("someday"); err == nil {
		t.Error("nonsense has a grid")
	}
	evenings, _, err := ReadGrid("mon-fri 18:00-08:00")
	if got := evenings.Sentence(words.New(words.German)); err != nil || got != "Mo–Fr 18:00–08:00" {
		t.Errorf("German: %q, %v", got, err)
	}
	if got := (Grid{}).Sentence(en); !strings.HasPrefix(got, "Never") {
		t.Errorf("an empty week: %q", got)
	}
}

// TestEveryGridComesBack: whatever is painted is what the worker will read.
func TestEveryGridComesBack(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 300 {
		var g Grid
		run := 1 + random.IntN(30) // cells in a row that are alike
		for cell := range 168 {
			g[cell/24][cell%24] = cell > 0 && cell%run != 0 && g[(cell-1)/24][(cell-1)%24] || cell%run == 0 && random.IntN(2) == 0
		}
		if g.Count() == 0 || len(planLines(g.Plan())) > hours.MaxEntries {
			continue
		}
		back, exact, err := ReadGrid(g.Plan())
		if err != nil || !exact || back != g {
			t.Fatalf("grid %d: %q reads back otherwise: exact %v, %v", i, g.Plan(), exact, err)
		}
	}
}
