package job

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/HugoSmits86/nativewebp"
)

// drawn is a picture whose left half is red and whose right half is blue.
func drawn(w, h int) image.Image {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for x := range w {
		half := color.NRGBA{R: 255, A: 255}
		if x >= w/2 {
			half = color.NRGBA{B: 255, A: 255}
		}
		for y := range h {
			m.SetNRGBA(x, y, half)
		}
	}
	return m
}

func encoded(tb testing.TB, format string, m image.Image) []byte {
	tb.Helper()
	var b bytes.Buffer
	var err error
	switch format {
	case "png":
		err = png.Encode(&b, m)
	case "gif":
		err = gif.Encode(&b, m, nil)
	case "jpg":
		err = jpeg.Encode(&b, m, nil)
	case "webp":
		err = nativewebp.Encode(&b, m, nil)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func file(tb testing.TB, data []byte) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "picture")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func TestThumbnails(t *testing.T) {
	for _, tc := range []struct {
		name         string
		format       string
		w, h         int
		wantW, wantH int
	}{
		{"a small PNG keeps its size", "png", 40, 30, 40, 30},
		{"exactly the bound", "png", thumbnailSide, 10, thumbnailSide, 10},
		{"a wide WebP", "webp", 400, 200, 384, 192},
		{"a high JPEG", "jpg", 512, 1024, 192, 384},
		{"a GIF", "gif", 500, 500, 384, 384},
		{"a line keeps one pixel", "png", 2000, 1, 384, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			small, err := thumbnail(file(t, encoded(t, tc.format, drawn(tc.w, tc.h))))
			if err != nil {
				t.Fatal(err)
			}
			m, err := png.Decode(bytes.NewReader(small))
			if err != nil {
				t.Fatal(err)
			}
			if size := m.Bounds().Size(); size != image.Pt(tc.wantW, tc.wantH) {
				t.Errorf("size %v, want %d by %d", size, tc.wantW, tc.wantH)
			}
			left, _, _, _ := m.At(0, 0).RGBA()
			_, _, right, _ := m.At(tc.wantW-1, 0).RGBA()
			if left < 0xf000 || right < 0xf000 {
				t.Errorf("left has red %x, right has blue %x", left, right)
			}
		})
	}
}

// header is a PNG that says it has w by h pixels and holds none.
func header(w, h uint32) []byte {
	chunk := append([]byte("IHDR"), binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, w), h)...)
	chunk = append(chunk, 8, 2, 0, 0, 0)
	data := append([]byte("\x89PNG\r\n\x1a\n"), 0, 0, 0, 13)
	return binary.BigEndian.AppendUint32(append(data, chunk...), crc32.ChecksumIEEE(chunk))
}

func TestNoThumbnail(t *testing.T) {
	whole := encoded(t, "png", drawn(64, 64))
	for _, tc := range []struct {
		name string
		data []byte
		says string
	}{
		{"one pixel over the bound", header(maxPixels+1, 1), "too many pixels"},
		{"a product that would overflow", header(1<<30, 1<<30), "overflow"},
		{"not a picture", []byte("GIF is what I am not"), "unknown format"},
		{"empty", nil, "unknown format"},
		{"cut off", whole[:len(whole)-20], ""},
		{"a header alone", header(10, 10), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if small, err := thumbnail(file(t, tc.data)); err == nil || !strings.Contains(err.Error(), tc.says) || small != nil {
				t.Errorf("got %d bytes, %v", len(small), err)
			}
		})
	}
	if _, err := thumbnail(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there has a thumbnail")
	}
}

func FuzzThumbnail(f *testing.F) {
	for _, format := range []string{"png", "gif", "jpg", "webp"} {
		f.Add(encoded(f, format, drawn(5, 3)))
	}
	f.Add(header(1<<30, 1<<30))
	path := filepath.Join(f.TempDir(), "picture")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		small, err := thumbnail(path)
		if err != nil {
			return
		}
		size, err := png.DecodeConfig(bytes.NewReader(small))
		if err != nil || size.Width < 1 || size.Height < 1 || max(size.Width, size.Height) > thumbnailSide {
			t.Errorf("thumbnail of %d by %d, %v", size.Width, size.Height, err)
		}
	})
}
