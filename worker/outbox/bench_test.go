package outbox

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"studioworker/worker/atomicfile"
)

// BenchmarkCommit stores a result and, in turns with it, does the least that
// can store one: two files created and synced, one rename, two folders synced
// (reliability guide §7.3, row 13: at most 1.3 times as long).
func BenchmarkCommit(b *testing.B) {
	for _, bc := range []struct {
		name string
		size int
	}{{"2KB", 2 << 10}, {"2MB", 2 << 20}} {
		b.Run(bc.name, func(b *testing.B) {
			root := b.TempDir()
			o, err := Open(config(root, nil))
			if err != nil {
				b.Fatal(err)
			}
			data := bytes.Repeat([]byte("0123456789abcdef"), bc.size/16)
			var ours, bare []time.Duration
			for n := 0; b.Loop(); n++ {
				start := time.Now()
				e, err := storeOne(o, "job-"+strconv.Itoa(n), data)
				if err != nil {
					b.Fatal(err)
				}
				ours = append(ours, time.Since(start))
				start = time.Now()
				if err := storeBare(root, n, data); err != nil {
					b.Fatal(err)
				}
				bare = append(bare, time.Since(start))
				if _, err := o.Delivered(e); err != nil {
					b.Fatal(err)
				}
				if err := os.RemoveAll(filepath.Join(root, "bare."+strconv.Itoa(n))); err != nil {
					b.Fatal(err)
				}
			}
			mine, least := median(ours), median(bare)
			b.ReportMetric(mine.Seconds()*1000, "ms/commit")
			b.ReportMetric(least.Seconds()*1000, "ms/bare")
			b.ReportMetric(float64(mine)/float64(least), "x-bare")
			b.ReportMetric(0, "ns/op") // both and the clearing up: says nothing
		})
	}
}

func storeOne(o *Outbox, jobID string, data []byte) (Entry, error) {
	d, err := o.Begin(jobID, 0)
	if err != nil {
		return Entry{}, err
	}
	if err := os.WriteFile(filepath.Join(d.Dir(), "picture.webp"), data, 0o600); err != nil {
		return Entry{}, err
	}
	return d.Commit(someResult())
}

func storeBare(root string, n int, data []byte) error {
	tmp, ready := filepath.Join(root, "bare.tmp"), filepath.Join(root, "bare."+strconv.Itoa(n))
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return err
	}
	for name, text := range map[string][]byte{"result": data, "manifest": make([]byte, 500)} {
		f, err := os.Create(filepath.Join(tmp, name))
		if err != nil {
			return err
		}
		if _, err := f.Write(text); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	if err := atomicfile.SyncDir(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, ready); err != nil {
		return err
	}
	return atomicfile.SyncDir(root)
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
