package main

import (
	"bytes"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"testing"
)

// The files in assets are those that this program draws now.
func TestFilesAreCurrent(t *testing.T) {
	dir := t.TempDir()
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	for name := range pictures() {
		got, want := load(t, filepath.Join("..", name)), load(t, filepath.Join(dir, name))
		if !bytes.Equal(got.Pix, want.Pix) {
			t.Errorf("%s is not what draw makes: run go generate in assets", name)
		}
	}
}

// Without colour the five states must still differ: compare the shapes.
func TestTrayShapesDiffer(t *testing.T) {
	seen := map[string]string{}
	for name, img := range pictures() {
		n, ok := img.(*image.NRGBA)
		if !ok || n.Bounds().Dx() != 64 {
			continue
		}
		ground := n.NRGBAAt(32, 2)
		shape := make([]byte, 0, 64*64)
		for y := range 64 {
			for x := range 64 {
				if n.NRGBAAt(x, y) == ground {
					shape = append(shape, '.')
				} else {
					shape = append(shape, '#')
				}
			}
		}
		if other, dup := seen[string(shape)]; dup {
			t.Errorf("%s and %s have one shape", name, other)
		}
		seen[string(shape)] = name
	}
	if len(seen) != 5 {
		t.Errorf("%d tray icons, want 5", len(seen))
	}
}

func load(t *testing.T, path string) *image.NRGBA {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	n, ok := img.(*image.NRGBA)
	if !ok { // an opaque picture comes back as RGBA
		n = image.NewNRGBA(img.Bounds())
		for y := range img.Bounds().Dy() {
			for x := range img.Bounds().Dx() {
				n.Set(x, y, img.At(x, y))
			}
		}
	}
	return n
}
