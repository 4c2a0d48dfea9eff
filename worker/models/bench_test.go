package models

import (
	"crypto/sha256"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"studioworker/scripts/measure"
)

// benchBytes is the size of the benchmark's model.
const benchBytes = 1 << 30

// BenchmarkResume is row 12: a model is fetched from 90 % on, and verified.
func BenchmarkResume(b *testing.B) {
	dir := b.TempDir()
	file := filepath.Join(dir, "served")
	block := pattern(1 << 20)
	out, err := os.Create(file)
	if err != nil {
		b.Fatal(err)
	}
	hash := sha256.New()
	for range benchBytes / len(block) {
		if _, err := io.MultiWriter(out, hash).Write(block); err != nil {
			b.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		b.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		http.ServeFile(w, r, file)
	}))
	b.Cleanup(s.Close)
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	b.Cleanup(client.CloseIdleConnections)
	model := File{URL: s.URL, Filename: "a.gguf"}
	fetch := func(root string) {
		store := New(Config{Root: func() string { return root }, HTTP: client, Log: slog.New(slog.DiscardHandler)})
		held, err := store.Ensure(b.Context(), Set{Model: "m", Files: []File{model}}, nil)
		if err != nil {
			b.Fatal(err)
		}
		held.Release()
	}
	remove := func(path string) {
		if err := os.RemoveAll(path); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("row 12", func(b *testing.B) {
		measure.InTurns(b, func() []float64 {
			root := filepath.Join(dir, "models")
			defer remove(root)
			begun(b, file, filepath.Join(root, "m"), model)
			return []float64{measure.Time(b, func() error { fetch(root); return nil })}
		}, func() []float64 {
			return []float64{measure.Time(b, func() error { return copyTail(file, filepath.Join(dir, "tail")) })}
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
