// Package measure is how benchmarks compare our code with a bare loop that does
// the least that can do the job (reliability guide §7.3). Both run in the same
// process and run, in turns; what counts is the ratio of the medians. Only
// benchmarks import it.
package measure

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dustin/go-humanize"

	"studioworker/worker/atomicfile"
)

const (
	turns  = 5 // of each side, at least
	misses = 3 // in a row, before a benchmark fails: other programs run, too
)

// Unit is what a value counts.
type Unit string

// The units.
const (
	Seconds Unit = "s"
	Bytes   Unit = "B"
	Share   Unit = "share" // of one processor; 1 is all of it
	Count   Unit = "count"
)

func (u Unit) words(v float64) string {
	switch u {
	case Bytes:
		return humanize.IBytes(uint64(max(v, 0)))
	case Share:
		return fmt.Sprintf("%.3f%%", 100*v)
	case Count:
		return fmt.Sprintf("%.0f", v)
	default:
		d := time.Duration(v * float64(time.Second))
		switch {
		case d < time.Microsecond:
			return d.String()
		case d < time.Millisecond:
			return d.Round(time.Microsecond / 10).String()
		default:
			return d.Round(10 * time.Microsecond).String()
		}
	}
}

// Line is what is printed of one value of both sides. A limit of 0 is none.
type Line struct {
	Row        int    // of the guide's table; 0 = a figure that stands elsewhere
	Of         string // whose figure it is when it is of no row; empty = the window's
	What       string // our side
	Bare       string // the other side
	Unit       Unit
	MostRatio  float64 // of ours to bare
	LeastSpeed float64 // of bare to ours, where both are times for the same work
	Most       float64 // of our value itself
	MostOver   float64 // that ours is more than bare
}

// text words the line, and says whether a limit was missed.
func (l Line) text(ours, bare float64) (text string, missed bool) {
	ratio, limits := ours/bare, []string{}
	if l.MostRatio > 0 {
		limits = append(limits, fmt.Sprintf("at most %gx", l.MostRatio))
		missed = missed || ratio > l.MostRatio
	}
	if l.LeastSpeed > 0 {
		ratio = bare / ours
		limits = append(limits, fmt.Sprintf("at least %gx", l.LeastSpeed))
		missed = missed || ratio < l.LeastSpeed
	}
	if l.Most > 0 {
		limits = append(limits, "at most "+l.Unit.words(l.Most))
		missed = missed || ours > l.Most
	}
	if l.MostOver > 0 {
		limits = append(limits, "at most "+l.Unit.words(l.MostOver)+" more")
		missed = missed || ours-bare > l.MostOver
	}
	text = fmt.Sprintf("row %-2d %-40s", l.Row, l.What)
	if l.Row == 0 {
		text = fmt.Sprintf("%-6s %-40s", cmp.Or(l.Of, "window"), l.What)
	}
	if bare > 0 {
		text += fmt.Sprintf(" %.2fx of %s (%s / %s)", ratio, l.Bare, l.Unit.words(ours), l.Unit.words(bare))
	} else {
		text += " " + l.Unit.words(ours)
	}
	if len(limits) > 0 {
		text += ", limit " + strings.Join(limits, " and ")
	}
	if missed {
		text += ", MISSED"
	}
	return text + ", load " + load(), missed
}

// load returns the load averages of this computer.
func load() string {
	data, err := os.ReadFile("/proc/loadavg")
	if words := strings.Fields(string(data)); err == nil && len(words) > 0 {
		return words[0]
	}
	return "unknown"
}

// InTurns runs ours and bare in turns and prints each line with the medians of
// the value that both return for it, in the order of the lines. A value of bare
// that is 0 has no ratio. The benchmark fails when a limit is missed three times
// in a row.
func InTurns(b *testing.B, ours, bare func() []float64, lines ...Line) {
	b.Helper()
	var mine, least [][]float64
	round := func() {
		for range turns {
			mine = append(mine, ours())
			least = append(least, bare())
		}
	}
	for b.Loop() {
		round()
	}
	b.ReportMetric(0, "ns/op") // of both sides together: says nothing
	for try := 1; ; try++ {
		missed := false
		for i, l := range lines {
			text, bad := l.text(middle(mine, i), middle(least, i))
			fmt.Printf("\n%s", text)
			missed = missed || bad
		}
		fmt.Println()
		if !missed {
			return
		}
		if try == misses {
			b.Errorf("a limit was missed %d times in a row", misses)
			return
		}
		mine, least = nil, nil
		round()
	}
}

// middle returns the median of a value over the turns.
func middle(all [][]float64, i int) float64 {
	var values []float64
	for _, v := range all {
		values = append(values, v[i])
	}
	return Quantile(values, 0.5)
}

// Quantile returns the value below which the share q of the values lies. It
// sorts them.
func Quantile(values []float64, q float64) float64 {
	slices.Sort(values)
	return values[min(int(q*float64(len(values))), len(values)-1)]
}

// Time returns how long f takes in seconds. An error ends the benchmark.
func Time(tb testing.TB, f func() error) float64 {
	tb.Helper()
	start := time.Now()
	if err := f(); err != nil {
		tb.Fatal(err)
	}
	return time.Since(start).Seconds()
}

// Store does the least that stores data durably in dir: two files created and
// synced, one rename, two folders synced. It ends with what it stored removed,
// and returns how long the storing took in seconds.
func Store(tb testing.TB, dir string, data []byte) float64 {
	tb.Helper()
	tmp, ready := filepath.Join(dir, "bare.tmp"), filepath.Join(dir, "bare")
	took := Time(tb, func() error {
		if err := os.Mkdir(tmp, 0o700); err != nil {
			return err
		}
		for name, text := range map[string][]byte{"result": data, "manifest": make([]byte, 500)} {
			if err := storeFile(filepath.Join(tmp, name), text); err != nil {
				return err
			}
		}
		if err := atomicfile.SyncDir(tmp); err != nil {
			return err
		}
		if err := os.Rename(tmp, ready); err != nil {
			return err
		}
		return atomicfile.SyncDir(dir)
	})
	if err := os.RemoveAll(ready); err != nil {
		tb.Fatal(err)
	}
	return took
}

func storeFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		_ = f.Close() // the write's error says it
		return err
	}
	if err := f.Sync(); err != nil {
		_ = f.Close() // the sync's error says it
		return err
	}
	return f.Close()
}
