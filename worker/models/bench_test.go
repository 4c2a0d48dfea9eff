package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"studioworker/scripts/measure"
	"studioworker/worker/observe"
)

// benchBytes is the size of the benchmark's model.
const benchBytes = 1 << 30

// bench is a server with a file of benchBytes, and a folder to fetch it to.
type bench struct {
	dir, file string
	model     File
	sum       string
	client    *http.Client
}

func newBench(b *testing.B) *bench {
	b.Helper()
	n := &bench{dir: b.TempDir()}
	n.file = filepath.Join(n.dir, "served")
	block := pattern(1 << 20)
	out, err := os.Create(n.file)
	if err != nil {
		b.Fatal(err)
	}
	hash := sha256.New()
	for range benchBytes / len(block) {
		if _, err := io.MultiWriter(out, hash).Write(block); err != nil {
			b.Fatal(err)
		}
	}
	if err := errors.Join(out.Sync(), out.Close()); err != nil { // the disk is idle when it is measured
		b.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		http.ServeFile(w, r, n.file)
	}))
	b.Cleanup(s.Close)
	n.sum = hex.EncodeToString(hash.Sum(nil))
	n.model = File{URL: s.URL, Filename: "a.gguf", SHA256: n.sum}
	n.client = &http.Client{Transport: &http.Transport{DisableCompression: true}}
	b.Cleanup(n.client.CloseIdleConnections)
	return n
}

// fetch has a store of its own get the file, and returns how long that takes.
func (n *bench) fetch(b *testing.B, root string) float64 {
	b.Helper()
	store := New(Config{
		Root: func() string { return root }, HTTP: n.client, Log: slog.New(slog.DiscardHandler),
		Observer: &observe.Slot[[]observe.Download]{}, // the telling is part of it
	})
	return measure.Time(b, func() error {
		held, err := store.Ensure(b.Context(), Set{Model: "m", Files: []File{n.model}}, func(Progress) {})
		if err != nil {
			return err
		}
		held.Release()
		return nil
	})
}

func remove(b *testing.B, path string) {
	b.Helper()
	if err := os.RemoveAll(path); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkDownload is row 11: a model is fetched and verified. The loop it is
// compared with does not sync; ours does.
func BenchmarkDownload(b *testing.B) {
	n := newBench(b)
	root, target := filepath.Join(n.dir, "models"), filepath.Join(n.dir, "copy")
	beside := func(b *testing.B, least float64, bare string, f func() error) {
		b.Helper()
		measure.InTurns(b, func() []float64 {
			defer remove(b, root)
			return []float64{n.fetch(b, root)}
		}, func() []float64 {
			defer remove(b, target)
			return []float64{measure.Time(b, f)}
		}, measure.Line{Row: 11, What: "a model fetched and verified", Bare: bare, Unit: measure.Seconds, LeastSpeed: least})
	}
	b.Run("row 11", func(b *testing.B) {
		beside(b, 0.9, "a loop into file and hash", func() error { return n.loop(b.Context(), target) })
	})
	b.Run("row 11 with programs", func(b *testing.B) {
		for _, name := range []string{"curl", "openssl"} {
			if _, err := exec.LookPath(name); err != nil {
				fmt.Printf("\nrow 11 a model fetched and verified: NOT RUN beside curl and openssl dgst: %v\n", err)
				b.SkipNow()
			}
		}
		beside(b, 1.5, "curl and openssl dgst", func() error { return n.programs(b.Context(), target) })
	})
}

// loop is the least that fetches a file and its hash.
func (n *bench) loop(ctx context.Context, target string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, n.model.URL, http.NoBody)
	if err != nil {
		return err
	}
	answer, err := n.client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	out, err := os.Create(target)
	if err != nil {
		return err
	}
	hash := sha256.New()
	_, err = io.CopyBuffer(io.MultiWriter(out, hash), answer.Body, make([]byte, copyBuffer))
	if got := hex.EncodeToString(hash.Sum(nil)); err == nil && got != n.sum {
		err = fmt.Errorf("sha256 is %s", got)
	}
	return errors.Join(err, out.Close())
}

// programs is what a person would do.
func (n *bench) programs(ctx context.Context, target string) error {
	if out, err := exec.CommandContext(ctx, "curl", "--silent", "--show-error", "--fail", "--output", target, n.model.URL).CombinedOutput(); err != nil {
		return fmt.Errorf("curl: %w: %s", err, out)
	}
	out, err := exec.CommandContext(ctx, "openssl", "dgst", "-sha256", target).CombinedOutput()
	if err != nil || !strings.Contains(string(out), n.sum) {
		return fmt.Errorf("openssl: %w: %s", err, out)
	}
	return nil
}

// BenchmarkResume is row 12: a model is fetched from 90 % on, and verified.
func BenchmarkResume(b *testing.B) {
	n := newBench(b)
	b.Run("row 12", func(b *testing.B) {
		measure.InTurns(b, func() []float64 {
			root := filepath.Join(n.dir, "models")
			defer remove(b, root)
			begun(b, n.file, filepath.Join(root, "m"), n.model)
			return []float64{n.fetch(b, root)}
		}, func() []float64 {
			target := filepath.Join(n.dir, "tail")
			defer remove(b, target)
			return []float64{measure.Time(b, func() error { return copyTail(n.file, target) })}
		}, measure.Line{Row: 12, What: "a model fetched from 90 % on", Bare: "a copy of the rest", Unit: measure.Seconds, MostRatio: 1.5})
	})
}

// begun leaves what a download leaves that was stopped at 90 %.
func begun(b *testing.B, served, folder string, model File) {
	b.Helper()
	if err := os.MkdirAll(folder, 0o700); err != nil {
		b.Fatal(err)
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	d := &download{folder: root, target: filepath.Join(folder, model.Filename), file: model}
	if err := d.open(); err != nil {
		b.Fatal(err)
	}
	in, err := os.Open(served)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	n, err := io.CopyN(io.MultiWriter(d.out, d.hash), in, benchBytes/10*9)
	if err != nil {
		b.Fatal(err)
	}
	d.part.Bytes, d.part.Total, d.part.Validator = n, benchBytes, `"v1"`
	if err := d.save(); err != nil {
		b.Fatal(err)
	}
	if err := d.out.Close(); err != nil {
		b.Fatal(err)
	}
}

// copyTail copies the last tenth of a file.
func copyTail(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	if _, err := in.Seek(benchBytes/10*9, io.SeekStart); err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.MultiWriter(out, sha256.New()), in); err != nil {
		_ = out.Close() // the copy's error says it
		return err
	}
	return out.Close()
}
